"""The part of the agent that keeps discharges: on virtual time with a real database, and killed in the middle of an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from qxfleet.agent.audit import write_down
from qxfleet.agent.bus import Bus
from qxfleet.battery import chronicle
from qxfleet.battery.discharge import Rating
from qxfleet.battery.keeper import HOUR_S, Batteries
from qxfleet.errors import StoreError
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Cause, Discharge, Sample
from qxfleet.model.events import Event, Severity
from qxfleet.model.reading import Reading
from qxfleet.store import batteries
from qxfleet.store.audit import Entry, trail
from qxfleet.store.engine import open_engine
from tests.battery.ground import T0_US, outage, readings, rest, sample, seconds_of, test_run
from tests.scenarios.play import Play, family
from tests.virtual import TimelessStore, VirtualClock, VirtualLoop, run_virtual

FACTS = BatteryFacts(cells=12, installed_us=T0_US - 86_400_000_000, rated_w=600.0, learned_runtime=True)


class Hours:
    """The scheduler's place: runs what is due each hour when the test says that one has passed."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def every(self, period_s: float, phase_s: float, work: Any) -> None:
        assert period_s == HOUR_S
        self.work.append(work)

    async def pass_one(self) -> None:
        for work in self.work:
            await work()


class Store(TimelessStore):
    """What its threads need takes no time on the virtual loop."""

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        with _loop().hold():
            return await super().commit(*args, **kwargs)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        with _loop().hold():
            return await super().read(*args, **kwargs)


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class Keeping:
    """A store, a bus and the part; ``see`` hands readings over as sessions do."""

    def __init__(self, file: Path, facts: BatteryFacts = FACTS) -> None:
        loop = asyncio.get_running_loop()
        self.clock = VirtualClock(loop, T0_US)
        self.origin_s = loop.time()
        self.bus, self.hours = Bus(), Hours()
        self.store = Store(f"sqlite:///{file}", clock=self.clock)
        self.learned: list[Any] = []
        session = SimpleNamespace(learn_runtimes=self.learned.append)
        fleet = SimpleNamespace(snapshot=lambda: {"a": None}, session=lambda name: session)
        self.agent: Any = SimpleNamespace(
            bus=self.bus, store=self.store, clock=self.clock, fleet=fleet, schedule=self.hours,
            config=SimpleNamespace(batteries={"a": facts}), record=self._record,
        )  # fmt: skip
        self.part = Batteries(self.agent)
        self.events: list[Event] = []

    async def _record(self, *act: Any, value: str | None = None, text: str = "") -> bool:
        return await write_down(self.store, self.clock.wall_us(), *act, value, text)

    async def __aenter__(self) -> Self:
        self.store.open()
        self.bus.attach(Reading, self.store.record)
        self.bus.attach(Event, self.store.record_event)
        self.bus.attach(Event, self.events.append)
        await self.part.start()
        await asyncio.sleep(1)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.part.stop()
        await self.store.close()

    async def see(self, samples: Sequence[Sample]) -> None:
        for each in readings("a", samples):
            wait_s = each.mono_s + self.origin_s - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, wait_s))
            self.bus.publish(each)
        await asyncio.sleep(0.2)

    async def found(self) -> list[Discharge]:
        return await self.store.read(batteries.discharges)


def test_begun_at_once_cut_at_the_end_and_the_same_anew(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            await keeping.see([*rest(0, 60, 2.0), *outage(62, 80)])
            [begun] = await keeping.found()
            assert seconds_of([begun]) == [(62.0, None, "mains")]
            await keeping.see([*outage(82, 200), *rest(202, 260, 2.0)])
            [ended] = await keeping.found()
            assert seconds_of([ended]) == [(62.0, 202.0, "mains")]
            assert (ended.id, ended.points, ended.rested) == (begun.id, 70, True)
            assert ended.battery_id is not None
            await keeping.see([*test_run(300, 310), *rest(312, 360, 2.0)])
            await keeping.see([*test_run(400, 410, volts=27.2), *rest(412, 460, 2.0)])
            assert seconds_of(await keeping.found()) == [(62.0, 202.0, "mains"), (300.0, 312.0, "test")]
            live = await keeping.found()
            again = await keeping.store.commit(
                lambda connection: chronicle.rebuild(
                    connection, "a", chronicle.rating_of(FACTS, None), FACTS, keeping.clock.wall_us()
                )
            )
            assert again == (2, 0)
            assert await keeping.found() == live

    run_virtual(story())


def test_recharge_shows_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            charging = [sample(202 + 60 * number, volts=26.0 + 0.04 * number) for number in range(60)]
            await keeping.see([*rest(0, 60, 2.0), *outage(62, 200), *charging[:5]])
            assert (await keeping.found())[0].recharge_s is None
            await keeping.see(charging[5:])
            await keeping.hours.pass_one()
            assert (await keeping.found())[0].recharge_s == 60 * 27  # 27.2 V less 10 mV for each of 12 cells

    run_virtual(story())


def test_runtimes_are_learned_from_a_run_to_the_flag(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            low = [sample(962, 2 | 4, 22.0, input_v=0.0)]
            await keeping.see([*rest(0, 60, 2.0), *outage(62, 960, fall=0.003), *low, *rest(964, 1000, 2.0)])
            await asyncio.sleep(1)
            assert keeping.learned[-1].runtime_s(30.0) == pytest.approx(900)

    run_virtual(story())


def test_what_happened_while_no_agent_ran_is_taken_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            await keeping.see([*rest(0, 60, 2.0), *outage(62, 80)])
        async with Keeping(tmp_path / "fleet.db") as again:
            assert seconds_of(await again.found())[0][0] == 62.0
            await again.see([*outage(100, 120), *rest(122, 160, 2.0)])
            await asyncio.sleep(1)
            assert seconds_of(await again.found()) == [(62.0, 122.0, "mains")]

    run_virtual(story())


def test_each_worse_verdict_is_told_once_for_a_battery(tmp_path: Path) -> None:
    facts = replace(FACTS, installed_us=T0_US - 12 * 365 * 86_400_000_000, runtimes=((30.0, 1800.0), (60.0, 800.0)))

    def told(keeping: Keeping) -> list[tuple[str, Severity]]:
        return [(event.value, event.severity) for event in keeping.events if event.name == "battery-verdict"]

    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db", facts) as keeping:
            await keeping.see(rest(0, 60, 2.0))
            await keeping.hours.pass_one()
            assert told(keeping) == [("test due", Severity.NOTICE)]
            assert keeping.events[-1].text.startswith("a/1: test due; 12.0 years old")
            await keeping.hours.pass_one()
            assert len(told(keeping)) == 1
        async with Keeping(tmp_path / "fleet.db", facts) as keeping:
            low = [sample(962, 2 | 4, 22.0, input_v=0.0)]
            await keeping.see([*outage(62, 960, fall=0.003), *low, *rest(964, 1000, 2.0)])
            assert told(keeping) == [], "told by the agent before"
            await keeping.hours.pass_one()
            assert told(keeping) == [("replace now", Severity.WARNING)]
            await keeping.hours.pass_one()
            assert len(told(keeping)) == 1
            await keeping.part.replaced("a", keeping.clock.wall_us(), None, {}, actor="cli:me(uid 1)")
            await keeping.hours.pass_one()
            assert len(told(keeping)) == 1, "the new battery is no trouble"

    run_virtual(story())


def test_replaced_is_told_and_audited(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            await keeping.see(rest(0, 1))  # the UPS was reached, and its first battery is registered
            await asyncio.sleep(1)
            made = await keeping.part.replaced("a", T0_US + 1_000_000, None, {"type": "NP7"}, actor="cli:me(uid 1)")
            assert (made.battery, made.before) == ("a/2", "a/1")
            assert [(event.name, event.value) for event in keeping.events][-1] == ("battery-replaced", "a/2")
            with pytest.raises(StoreError, match="later change"):
                await keeping.part.replaced("a", T0_US, None, {}, actor="cli:me(uid 1)")
            told: list[Entry] = await keeping.store.read(trail)
            assert [(each.act, each.target, each.outcome) for each in told] == [
                ("battery", "a", "accepted"), ("battery", "a", "rejected"),
            ]  # fmt: skip

    run_virtual(story())


async def test_killed_in_an_outage(tmp_path: Path) -> None:
    """The row is there when the agent dies; the next agent ends it, and cutting all anew changes nothing."""
    upses = family(1)
    name = upses[0].name
    async with Play(upses) as play:
        text = play.config.read_text()
        play.config.write_text(f'{text}\n[[battery]]\ntargets = ["all"]\ninstalled = 2026-01-01\n')
        await play.start()
        await asyncio.sleep(1.5)
        play.tell(f"mains off {name}")
        begun = await _until(play, lambda found: len(found) == 1 and found[0].ended_us is None)
        await play.kill()
        await play.start()
        await asyncio.sleep(2)
        play.tell(f"mains on {name}")
        ended = await _until(play, lambda found: len(found) == 1 and found[0].ended_us is not None)
        assert (ended[0].began_us, ended[0].id, ended[0].cause) == (begun[0].began_us, begun[0].id, Cause.MAINS)
        await play.kill()
        engine = open_engine(play.database, writing=True)
        with engine.begin() as connection:
            again = chronicle.rebuild(connection, name, Rating(), BatteryFacts(), ended[0].ended_us + 60_000_000)
            assert [seconds_of([each]) for each in batteries.discharges(connection)] == [seconds_of(ended)]
        engine.dispose()
        assert again[0] == 1


async def _until(play: Play, holds: Callable[[list[Discharge]], bool]) -> list[Discharge]:
    """The discharges in the database as soon as they are as wanted."""
    engine = open_engine(play.database, writing=False)
    try:
        for _ in range(100):
            with engine.connect() as connection:
                found = batteries.discharges(connection)
            if holds(found):
                return found
            await asyncio.sleep(0.4)
    finally:
        engine.dispose()
    raise AssertionError(found)


def test_a_battery_is_registered_when_its_ups_was_reached(tmp_path: Path) -> None:
    async def story() -> None:
        async with Keeping(tmp_path / "fleet.db") as keeping:
            await asyncio.sleep(600)
            assert not [event for event in keeping.events if event.name == "battery-registered"]
            await keeping.see(rest(0, 10))
            await asyncio.sleep(60)
            assert [event.ups for event in keeping.events if event.name == "battery-registered"] == ["a"]
        async with Keeping(tmp_path / "fleet.db") as keeping:  # and once
            await keeping.see(rest(0, 10))
            await asyncio.sleep(60)
            assert not [event for event in keeping.events if event.name == "battery-registered"]

    run_virtual(story())
