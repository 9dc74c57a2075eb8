"""Eight UPSes on USB under one agent: sick ones hold up nobody, moved ones stay themselves, and whatever happens it ends well.

The devices are emulated below pyusb (tests/transports/usb); agent, sessions, threads and database are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import threading
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.config.load import load
from qxfleet.model.events import Event, Link, LinkChange, Outcome
from qxfleet.model.reading import Reading
from qxfleet.transports.usb import UsbTransport
from qxfleet.transports.usb_bus import Selection
from tests.scenarios.play import SOAK, measured, until
from tests.transports.usb.emulated import Cypress, TextUps
from tests.transports.usb.fake_usb import FakeUsb, failure

UPSES = 8


class Stubborn(Cypress):
    """A bridge that no reset helps."""

    def reset(self) -> None:
        """Counted, and in vain."""
        self.resets += 1


class Stage:
    """An agent on eight devices, what it read and when, and how links changed."""

    def __init__(self, agent: Agent, host: FakeUsb) -> None:
        self.agent, self.host = agent, host
        self.read_s: dict[str, list[float]] = defaultdict(list)
        self.links: dict[str, list[tuple[float, Link, str]]] = defaultdict(list)
        self.events: list[Event] = []
        agent.bus.attach(Reading, self._read)
        agent.bus.attach(LinkChange, lambda seen: self.links[seen.device].append((seen.mono_s, seen.link, seen.reason)))
        agent.bus.attach(Event, self.events.append)

    def _read(self, reading: Reading) -> None:
        self.read_s[reading.device].append(reading.mono_s)

    def online(self, *names: str) -> bool:
        """Whether these, or all, are."""
        states = self.agent.fleet.snapshot()
        return len(states) == UPSES and all(states[name].link is Link.ONLINE for name in names or states)


@contextlib.asynccontextmanager
async def stage(tmp_path: Path, poll: str, *, real_time: bool) -> AsyncIterator[Stage]:
    """Eight units u0 … u7 with serial numbers S0 … S7 in ports 1-1 … 1-8, all online."""
    host = FakeUsb(tmp_path, real_time=real_time)
    for number in range(UPSES):
        device = (Stubborn if number == 0 else Cypress)(TextUps(f"RT-{number}"))
        device.serial = f"S{number}"
        host.plug(f"1-{number + 1}", device)
    blocks = [f'[[ups]]\nname = "u{n}"\nport = "auto"\ndialect = "megatec"\nserial = "S{n}"\n' for n in range(UPSES)]
    file = tmp_path / "qxfleet.toml"
    head = f'[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\npoll_interval = "{poll}"\n'
    file.write_text("\n".join([head, *blocks]))
    agent = Agent(
        load(file), transport=lambda options: UsbTransport(options.port, Selection.of(options.usb), buses=host.buses)
    )
    seen = Stage(agent, host)
    running = asyncio.create_task(agent.run())
    try:
        await until(lambda: running.done() or seen.online(), 30, "all eight online")
        yield seen
    finally:
        agent.stop()
        await running
    assert host.handles == 0
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("qxfleet auto")] == []


async def test_one_wedged_one_unplugged_one_moved_and_five_in_pace(tmp_path: Path) -> None:
    async with stage(tmp_path, "1s", real_time=True) as seen:
        await until(lambda: min(len(seen.read_s[f"u{n}"]) for n in range(UPSES)) >= 3, 10, "everybody is on its grid")
        wedged = seen.host.plugged["1-1"].device
        before = seen.agent.store.identities()["u2"]
        well = [f"u{n}" for n in range(3, UPSES)]
        missed = [seen.agent.fleet.session(name).missed_polls for name in well]
        began_s = seen.agent.clock.monotonic()
        wedged.wedged = True
        seen.host.unplug("1-2")
        moved = seen.host.unplug("1-3")
        await until(lambda: all(seen.links[name][-1][1] is Link.LOST for name in ("u1", "u2")), 20, "two lost")
        noticed_s = [seen.links[name][-1][0] - began_s for name in ("u1", "u2")]
        assert "unplugged" in seen.links["u1"][-1][2]
        await asyncio.sleep(2)
        seen.host.plug("2-4.1", moved)
        replugged_s = seen.agent.clock.monotonic()
        await until(lambda: seen.online("u2"), 20, "the moved one is back")
        back_s = seen.links["u2"][-1][0] - replugged_s
        await asyncio.sleep(max(0.0, began_s + 10 - seen.agent.clock.monotonic()))
        ended_s = seen.agent.clock.monotonic()
        gaps = {
            name: [later - sooner for sooner, later in pairwise(read) if sooner >= began_s]
            for name, read in seen.read_s.items() if name in well
        }  # fmt: skip
        worst_s = max(max(gap) for gap in gaps.values()) - 1.0
        measured(
            f"five healthy of eight on USB, {ended_s - began_s:.0f} s: worst lateness {worst_s * 1000:.0f} ms; "
            f"unplugs noticed after {max(noticed_s) * 1000:.0f} ms, the moved one back after {back_s:.1f} s; "
            f"wedged one reset {wedged.resets} times"
        )
        assert all(len(gap) >= 8 for gap in gaps.values()), gaps
        assert worst_s < 0.5, gaps
        assert [seen.agent.fleet.session(name).missed_polls for name in well] == missed
        assert seen.online(*well) and seen.agent.fleet.snapshot()["u0"].link is not Link.ONLINE
        assert 1 <= wedged.resets <= 4

        port, identity = seen.agent.store.identities()["u2"]
        assert (before[0], port) == ("usb:1-3", "usb:2-4.1")
        assert identity.facts["device.model"] == before[1].facts["device.model"] == "RT-2"
        assert seen.read_s["u2"][0] < began_s < replugged_s < seen.read_s["u2"][-1]
        told = {event.name for event in seen.events if event.ups == "u0"}
        assert {"usb-halts-cleared", "usb-resets", "contact-lost"} <= told
        assert seen.agent.fleet.snapshot()["u0"].remedies["resets"] == wedged.resets


async def test_an_order_that_nothing_confirms_is_unconfirmed(tmp_path: Path) -> None:
    async with stage(tmp_path, "1s", real_time=False) as seen:
        perform = seen.agent.fleet.perform
        seen.host.plugged["1-5"].device.answer.__self__.testing = True
        await asyncio.sleep(3)
        shown, hidden = await asyncio.gather(
            perform("u3", "beeper.toggle", None, actor="test"), perform("u4", "test.battery.start.quick", None, actor="test")
        )
        assert (shown.outcome, shown.reply) == (Outcome.ACCEPTED, None), "seen in the next reading"
        assert (hidden.outcome, hidden.reply) == (Outcome.UNCONFIRMED, None), "a test runs already"
        for path, order in (("1-4", b"Q"), ("1-5", b"T")):
            device = seen.host.plugged[path].device
            assert [entry for entry in device.log if entry[0] == "SR" and entry[2] == order + b"\r" + bytes(6)] == [
                ("SR", 0x0200, order + b"\r" + bytes(6))
            ], "sent once"


@pytest.mark.timeout(7200 if SOAK else 120)
async def test_random_faults_end_with_all_online_and_nothing_left(tmp_path: Path) -> None:
    chance = random.Random(20240)
    faults = 20_000 if SOAK else 500
    counts: dict[str, int] = defaultdict(int)
    async with stage(tmp_path, "1s", real_time=False) as seen:
        host = seen.host
        out: dict[int, Cypress] = {}
        homes = {number: f"1-{number + 1}" for number in range(UPSES)}
        upses = {number: host.plugged[homes[number]].device.answer.__self__ for number in range(UPSES)}  # type: ignore[attr-defined]

        def plug_in(number: int) -> None:
            homes[number] = f"{chance.choice('123')}-{number + 1}"
            host.plug(homes[number], out.pop(number))

        began_s = seen.agent.clock.monotonic()
        for _ in range(faults):
            number = chance.randrange(UPSES)
            ups: TextUps = upses[number]
            if number in out:
                plug_in(number)
                counts["replug"] += 1
            else:
                device = host.plugged[homes[number]].device
                match chance.choice(["unplug", "garbage", "timeout", "zeros", "wedge", "stall", "error"]):
                    case "unplug":
                        out[number] = host.unplug(homes[number])  # type: ignore[assignment]
                        counts["unplug"] += 1
                    case "garbage":
                        ups.garbage = not ups.garbage
                        counts["garbage"] += 1
                    case "timeout":
                        ups.mute = not ups.mute
                        counts["timeout"] += 1
                    case "zeros":
                        ups.zeros = not ups.zeros
                        counts["zeros"] += 1
                    case "wedge":
                        device.wedged = True
                        counts["wedge"] += 1
                    case "stall":
                        device.stalled = True
                        counts["stall"] += 1
                    case _:
                        host.fail_next[homes[number]] = [failure(-1, errno.EIO, "Input/Output Error")] * chance.randrange(1, 4)
                        counts["error"] += 1
            await asyncio.sleep(0.012)
        for number in tuple(out):
            plug_in(number)
        for ups in upses.values():
            ups.garbage = ups.mute = ups.zeros = False
        for plugged in host.plugged.values():
            plugged.device.wedged = plugged.device.stalled = False
        host.fail_next.clear()
        assert sum(counts.values()) == faults
        faulted_s = seen.agent.clock.monotonic() - began_s
        await until(seen.online, 45, "all eight online after the faults")
        healed_s = seen.agent.clock.monotonic() - began_s - faulted_s
        assert host.handles == UPSES
        resets = sum(state.remedies.get("resets", 0) for state in seen.agent.fleet.snapshot().values())
        measured(
            f"{faults} faults in {faulted_s:.0f} s ({dict(sorted(counts.items()))}), {resets} resets, "
            f"{sum(map(len, seen.links.values()))} link changes, all online {healed_s:.1f} s later"
        )
        assert [event for event in seen.events if event.name == "on-battery"] == [], "zeros and garbage are no outage"
    assert sum(1 for event in seen.events if event.name == "session-crashed") == 0
