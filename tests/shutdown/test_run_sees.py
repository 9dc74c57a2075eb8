"""What is made of readings, ports, programs and logins before anything is decided."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from qxfleet.agent.assess import assess
from qxfleet.agent.bus import Bus
from qxfleet.agent.forced import RECONNECT_S, Client, ForcedShutdown
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, Link, LinkChange, Outcome
from qxfleet.model.loads import Command, CommandSays, Load, NutClients, NutLoggedOut, Plan, TcpClosed, UpsLoadBelow
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status
from qxfleet.shutdown.effects import Done, Port
from qxfleet.shutdown.looks import COLD_PROGRAMS, COLD_S, HOT_S, PROGRAMS, SILENT_S, Looks
from qxfleet.shutdown.model import Act, Answer, Mains, Record, Step, UpsSeen
from qxfleet.shutdown.observe import Observer
from qxfleet.shutdown.record import with_learned

OL, OB, LB, CAL, OFF = (int(flag) for flag in (Status.OL, Status.OB, Status.LB, Status.CAL, Status.OFF))


class Told:
    """One UPS as the fleet tells of it, and what the observer makes of it."""

    def __init__(self) -> None:
        self.predicted: list[tuple[str, float | None, float | None]] = []
        self.state = DeviceState("u")
        self.observer = Observer(self._predict)
        self.urgent = False
        self._hear(LinkChange("u", 0, 0.0, Link.ONLINE))

    def _predict(self, ups: str, load: float | None, charge: float | None) -> tuple[float | None, float | None]:
        self.predicted.append((ups, load, charge))
        return 600.0, 400.0

    def _hear(self, seen: Any) -> None:
        self.state = assess(self.state, seen)[0]
        self.urgent = self.observer.look(self.state, seen.mono_s)

    def read(self, at_s: float, status: int, **values: float) -> UpsSeen:
        texts = {name.replace("_", "."): float(value) for name, value in values.items()}
        usual = {"input.voltage": 0.0 if status & OB else 230.0, "output.voltage": 230.0, "input.voltage.nominal": 230.0}
        self._hear(Reading("u", int(at_s * 1e6), at_s, status, {**usual, **texts}))
        return self.seen

    def lose(self, at_s: float) -> UpsSeen:
        self._hear(LinkChange("u", int(at_s * 1e6), at_s, Link.LOST, "gone"))
        return self.seen

    @property
    def seen(self) -> UpsSeen:
        return self.observer.upses["u"]


def test_mains_fail_and_come_back() -> None:
    ups = Told()
    assert ups.read(1.0, OL).mains is Mains.ON
    assert ups.predicted == []
    seen = ups.read(10.0, OB, ups_load=40, battery_charge=90)
    assert (seen.mains, seen.since_s, ups.urgent) == (Mains.OFF, 10.0, True)
    assert (seen.runtime_s, seen.runtime_low_s, seen.charge) == (600.0, 400.0, 90.0)
    assert ups.predicted == [("u", 40.0, 90.0)]
    assert (ups.read(11.0, OB).since_s, ups.urgent) == (10.0, False)
    assert ups.read(12.0, OB | LB).low_battery and ups.urgent
    back = ups.read(20.0, OL)  # at once, although its event waits to see whether they stay
    assert (back.mains, back.since_s, back.low_battery) == (Mains.ON, 20.0, False)
    again = ups.read(22.0, OB)
    assert (again.mains, again.since_s) == (Mains.OFF, 22.0)


def test_a_test_is_no_outage_and_an_outage_in_a_test_is_one() -> None:
    ups = Told()
    ups.read(1.0, OL)
    seen = ups.read(2.0, OB | CAL, input_voltage=230.0)
    assert (seen.mains, seen.testing) == (Mains.ON, True)
    assert ups.read(3.0, OB | CAL, input_voltage=3.0).mains is Mains.OFF


def test_lost_contact_leaves_everything_as_it_was() -> None:
    ups = Told()
    ups.read(1.0, OL)
    ups.read(2.0, OB, battery_charge=77)
    lost = ups.lose(9.0)
    assert (lost.contact, lost.mains, lost.charge, lost.seen_s, lost.output_since_s) == (False, Mains.OFF, 77.0, 2.0, None)
    assert ups.urgent


def test_an_output_that_is_off_is_seen_and_since_when_it_is_on_again() -> None:
    ups = Told()
    assert ups.read(1.0, OL).output_since_s == 1.0
    assert ups.read(2.0, OL).output_since_s == 1.0
    assert ups.read(3.0, OL, output_voltage=0.0).output_since_s is None
    assert ups.read(4.0, OL | OFF).output_since_s is None
    assert ups.read(5.0, OL).output_since_s == 5.0


def test_what_an_earlier_agent_saw_counts_until_there_is_contact() -> None:
    ups = Told()
    ups.observer.remember("u", -100.0, -3.0)
    assert not ups.observer.knows({"u"})
    assert (ups.seen.mains, ups.seen.contact) == (Mains.OFF, False)
    seen = ups.read(1.0, OB)
    assert (seen.mains, seen.since_s) == (Mains.OFF, -100.0)
    assert ups.observer.knows({"u"})


# -- loads


class Scripted:
    """Ports and programs that say what they are told to."""

    def __init__(self) -> None:
        self.says: Port = Port.OPEN
        self.code: int | None = 1
        self.pings: bool | None = False
        self.asked = 0

    async def port(self, host: str, port: int, within_s: float) -> Port:
        self.asked += 1
        return self.says

    async def answers(self, host: str, within_s: float) -> bool | None:
        return self.pings

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        self.asked += 1
        return Done(Outcome.REJECTED, "", self.code)

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        raise NotImplementedError

    async def wake(self, mac: str, to: str) -> Done:
        raise NotImplementedError


class Later(Clock):
    """A clock that is set by hand."""

    now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Eyes:
    """Looks, on a clock and on doors of the test's own."""

    def __init__(self) -> None:
        self.clock, self.doors = Later(), Scripted()
        self.forced = ForcedShutdown(Bus(), self.clock)
        self.changes = 0
        self.looks = Looks(self.doors, self.forced, self.clock, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def look(self, load: Load, record: Record | None = None, **upses: UpsSeen) -> bool | None:
        """One look, later than any pace; what is known then."""
        self.clock.now_s += COLD_S
        self.looks.look((load,), record or Record(), upses)
        await asyncio.sleep(0.01)
        found = self.looks.loads.get(load.name)
        return found.up if found else None


def stopped(answer: Answer | None) -> Record:
    record = Record(True).begun(Step(Act.STOP, "x", "why"), 1000.0)
    return record if answer is None else record.answered(1, answer, 1001.0)


WATCHED = Load("x", ("u",), stop=Command(("stop",)), down_when=TcpClosed("10.0.0.1", 22))


async def test_a_refused_connection_comes_from_a_host_that_is_up() -> None:
    eyes = Eyes()
    assert await eyes.look(WATCHED) is True
    eyes.doors.says = Port.REFUSED
    for _ in range(3):
        assert await eyes.look(WATCHED, stopped(Answer.ACCEPTED)) is None
    assert eyes.looks.loads["x"].closed
    assert eyes.changes == 2


@pytest.mark.parametrize(
    ("answer", "up"), [(Answer.ACCEPTED, False), (Answer.FAILED, None), (Answer.INTERRUPTED, None), (None, None)]
)
async def test_silence_says_off_only_of_what_took_the_order_to_stop(answer: Answer | None, up: bool | None) -> None:
    eyes = Eyes()
    assert await eyes.look(WATCHED, stopped(answer)) is True
    eyes.doors.says = Port.SILENT
    assert await eyes.look(WATCHED, stopped(answer)) is None
    assert await eyes.look(WATCHED, stopped(answer)) is up


async def test_a_port_that_closed_behind_its_stop_says_that_the_order_was_taken() -> None:
    """`ssh host poweroff` often loses its connection before it can say that all is well."""
    eyes = Eyes()
    for says in (Port.OPEN, Port.REFUSED, Port.SILENT):
        eyes.doors.says = says
        await eyes.look(WATCHED, stopped(Answer.FAILED))
    assert await eyes.look(WATCHED, stopped(Answer.FAILED)) is False


@pytest.mark.parametrize(("silent_s", "up"), [(SILENT_S - 0.1, None), (SILENT_S, False)])
async def test_silence_counts_once_it_has_lasted(silent_s: float, up: bool | None) -> None:
    eyes = Eyes()
    eyes.doors.says = Port.SILENT
    await eyes.look(WATCHED, stopped(Answer.ACCEPTED))
    eyes.clock.now_s += silent_s - COLD_S
    assert await eyes.look(WATCHED, stopped(Answer.ACCEPTED)) is up


async def test_an_address_that_answers_an_echo_is_of_a_host_that_is_up() -> None:
    eyes = Eyes()
    eyes.doors.says, eyes.doors.pings = Port.SILENT, True
    for _ in range(3):
        assert await eyes.look(WATCHED, stopped(Answer.ACCEPTED)) is None
    eyes.doors.pings = None  # nobody may ask: silence is all there is
    await eyes.look(WATCHED, stopped(Answer.ACCEPTED))
    assert await eyes.look(WATCHED, stopped(Answer.ACCEPTED)) is False


@pytest.mark.parametrize(("code", "up"), [(0, False), (1, None), (7, None)])
async def test_a_program_may_be_the_second_sign(code: int, up: bool | None) -> None:
    eyes = Eyes()
    eyes.doors.says, eyes.doors.code = Port.REFUSED, code
    load = replace(WATCHED, down_when=TcpClosed("10.0.0.1", 22, CommandSays(("off",))))
    assert await eyes.look(load, stopped(Answer.ACCEPTED)) is up


@pytest.mark.parametrize(("percent", "up"), [(4.9, False), (5.0, None)])
async def test_the_load_of_its_ups_may_be_the_second_sign(percent: float, up: bool | None) -> None:
    eyes = Eyes()
    eyes.doors.says = Port.REFUSED
    load = replace(WATCHED, down_when=TcpClosed("10.0.0.1", 22, UpsLoadBelow(5.0)))
    assert await eyes.look(load, stopped(Answer.ACCEPTED), u=UpsSeen(Mains.OFF, contact=True, load_percent=percent)) is up


async def test_a_network_that_breaks_makes_nothing_down_and_nothing_up() -> None:
    eyes = Eyes()
    eyes.doors.says = Port.SILENT
    for _ in range(3):
        assert await eyes.look(WATCHED) is None
    for _ in range(2):
        await eyes.look(WATCHED, stopped(Answer.ACCEPTED))
    assert await eyes.look(WATCHED) is False  # known to be off, silence says that it still is
    eyes.doors.says = Port.UNKNOWN
    assert await eyes.look(WATCHED, stopped(Answer.ACCEPTED)) is None


async def test_programs_that_look_are_few_at_once() -> None:
    eyes = Eyes()
    running, most, gate = 0, 0, asyncio.Event()

    async def command(argv: Sequence[str], within_s: float) -> Done:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await gate.wait()
        running -= 1
        return Done(Outcome.ACCEPTED, "", 0)

    eyes.doors.command = command  # type: ignore[method-assign]
    loads = tuple(Load(f"x{number}", ("u",), down_when=CommandSays(("ask",))) for number in range(72))
    eyes.looks.look(loads, Record(), {})
    await asyncio.sleep(0.01)
    assert most == COLD_PROGRAMS
    record = Record(True)
    for load in loads[10:60]:
        record = record.begun(Step(Act.STOP, load.name, "why"), 1000.0)
    eyes.clock.now_s += COLD_S
    eyes.looks = Looks(eyes.doors, eyes.forced, eyes.clock, lambda: None)
    eyes.looks.look(loads, record, {})
    await asyncio.sleep(0.01)
    assert running - COLD_PROGRAMS == PROGRAMS
    gate.set()
    for _ in range(300):
        await asyncio.sleep(0)
    assert {name for name, seen in eyes.looks.loads.items() if seen.up is False} == {load.name for load in loads}


@pytest.mark.parametrize(("code", "up"), [(0, False), (1, True), (2, None), (255, None), (None, None)])
async def test_a_program_says_down_by_0_and_up_by_1(code: int | None, up: bool | None) -> None:
    eyes = Eyes()
    eyes.doors.code = code
    assert await eyes.look(replace(WATCHED, down_when=CommandSays(("ask",)))) is up


async def test_what_is_under_way_is_asked_more_often() -> None:
    eyes = Eyes()
    for _ in range(4):
        eyes.clock.now_s += HOT_S
        eyes.looks.look((WATCHED,), Record(), {})
        await asyncio.sleep(0.01)
    assert eyes.doors.asked == 1
    for _ in range(4):
        eyes.clock.now_s += HOT_S
        eyes.looks.look((WATCHED,), stopped(None), {})
        await asyncio.sleep(0.01)
    assert eyes.doors.asked == 5


async def test_the_load_of_all_its_upses_tells() -> None:
    eyes = Eyes()
    load = replace(WATCHED, fed_by=("a", "b"), down_when=UpsLoadBelow(5.0))
    seen = UpsSeen(Mains.ON, contact=True)
    assert await eyes.look(load, a=replace(seen, load_percent=3.0), b=replace(seen, load_percent=20.0)) is True
    assert await eyes.look(load, a=replace(seen, load_percent=3.0), b=replace(seen, load_percent=4.9)) is False
    assert await eyes.look(load, a=replace(seen, load_percent=3.0), b=replace(seen, load_percent=4.9, contact=False)) is None


def room_of_clients(eyes: Eyes, **here: list[Client]) -> None:
    """A NUT server that has run for long enough to know who is logged in."""
    eyes.forced.serve(lambda ups: here[ups])
    eyes.clock.now_s += RECONNECT_S


CLIENT = replace(WATCHED, stop=NutClients(user="sec"), down_when=NutLoggedOut())


async def test_nut_clients_are_up_while_logged_in_but_nothing_is_known_just_after_a_start() -> None:
    eyes = Eyes()
    load = replace(CLIENT, fed_by=("a", "b"))
    here = {"a": [Client("other", "10.0.0.1")], "b": [Client("sec", "10.0.0.2")]}
    assert await eyes.look(load) is None
    eyes.forced.serve(lambda ups: here[ups])
    assert await eyes.look(load) is None
    eyes.clock.now_s += RECONNECT_S
    assert await eyes.look(load) is True
    eyes.forced.serve(None)
    assert await eyes.look(load) is None


async def test_a_nut_client_that_logged_out_is_off_only_once_its_address_is_silent() -> None:
    """upsmon logs out before it runs its SHUTDOWNCMD: the host only begins to stop then."""
    eyes = Eyes()
    here = [Client("sec", "10.0.0.2")]
    room_of_clients(eyes, u=here)
    eyes.doors.pings = True
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is True
    here.clear()
    for _ in range(3):
        assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is None
        assert eyes.looks.loads["x"].closed
    eyes.doors.pings = False
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is None
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is False
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is False
    eyes.doors.pings = True  # it boots
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is None
    assert eyes.looks.loads["x"].closed


async def test_the_silence_of_an_address_that_never_answered_says_nothing_of_its_nut_client() -> None:
    eyes = Eyes()
    here = [Client("sec", "10.0.0.2")]
    room_of_clients(eyes, u=here)
    assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is True
    here.clear()
    for _ in range(4):
        assert await eyes.look(CLIENT, stopped(Answer.ACCEPTED)) is None


async def test_a_nut_client_that_logs_out_untold_is_not_down() -> None:
    """`systemctl restart nut-monitor`, and then a network that breaks."""
    eyes = Eyes()
    here = [Client("sec", "10.0.0.2")]
    room_of_clients(eyes, u=here)
    eyes.doors.pings = True
    assert await eyes.look(CLIENT) is True
    here.clear()
    eyes.doors.pings = False
    for _ in range(4):
        assert await eyes.look(CLIENT) is None


@pytest.mark.parametrize(("code", "up"), [(0, False), (1, None), (7, None)])
async def test_a_program_may_be_the_second_sign_behind_a_logout(code: int, up: bool | None) -> None:
    eyes = Eyes()
    room_of_clients(eyes, u=[])
    eyes.doors.code = code
    load = replace(CLIENT, down_when=NutLoggedOut(CommandSays(("off",))))
    assert await eyes.look(load, stopped(Answer.ACCEPTED)) is up


async def test_nut_clients_that_were_never_there_are_not_down() -> None:
    eyes = Eyes()
    room_of_clients(eyes, u=[])
    for answer in (None, Answer.FAILED, Answer.ACCEPTED):  # upsmon may not run on a host that does
        assert await eyes.look(CLIENT, None if answer is None else stopped(answer)) is None
    assert eyes.looks.loads["x"].closed  # it was told: when its time is over the plan goes on


def test_a_forced_shutdown_means_whom_it_means() -> None:
    told: list[Any] = []
    bus = Bus()
    forced = ForcedShutdown(bus, Later())
    bus.attach(Event, told.append)
    forced.set("u", "ann", Client(user="sec"))
    forced.set("u", "bob", Client(user="sec"))
    assert forced.is_set("u", Client("sec", "10.0.0.9")) and not forced.is_set("u", Client("pri", "10.0.0.9"))
    assert not forced.is_set("v", Client("sec", "10.0.0.9"))
    forced.clear("u", "ann", Client(user="sec"))
    forced.clear("u", "ann", Client(user="sec"))
    assert not forced.is_set("u", Client("sec", "10.0.0.9"))
    assert [(event.ups, event.name, event.value) for event in told] == [
        ("u", "forced-shutdown", "begin"), ("u", "forced-shutdown", "end")
    ]  # fmt: skip


def test_what_a_nut_client_forced_ends_when_its_work_is_done() -> None:
    clock = Later()
    forced = ForcedShutdown(Bus(), clock)

    def seen(mains: bool, output: bool = True) -> None:
        forced.seen("u", mains_since_s=1000.0 if mains else None, output_on=output, stable_s=120.0)

    forced.set("u", "nut:upsmon")
    forced.set("u", "shutdown:plan", load="x")
    clock.now_s += 119.0
    seen(True)
    assert len(forced.all()) == 2
    clock.now_s += 1.0
    seen(True)
    assert [flag.load for flag in forced.all()] == ["x"]  # the plan's own is the plan's to clear
    forced.set("u", "nut:upsmon")
    for mains, output in ((False, True), (False, False), (True, False)):
        seen(mains, output)
        assert len(forced.all()) == 2
    clock.now_s += 1.0
    seen(True)
    assert [flag.load for flag in forced.all()] == ["x"]


def test_a_time_in_which_no_silence_can_be_seen_teaches_nothing() -> None:
    """2.3 s were learned of a host that needed two minutes, when a closed port still counted as down."""
    asked = replace(WATCHED, name="asked", down_when=TcpClosed("10.0.0.1", 22, CommandSays(("off",))))
    nut = replace(CLIENT, name="nut")
    times = {"x": [2.3, SILENT_S - 0.1, SILENT_S, SILENT_S, SILENT_S], "asked": [2.3, 2.3, 2.4], "nut": [0.0, 0.1, 0.1]}
    learned = {load.name: load.learned_s for load in with_learned(Plan((WATCHED, asked, nut)), times).loads}
    assert learned == {"x": SILENT_S, "asked": 2.4, "nut": None}
    assert with_learned(Plan((WATCHED,)), {"x": [2.3, 2.3, 2.3, 60.0]}).loads[0].learned_s is None
