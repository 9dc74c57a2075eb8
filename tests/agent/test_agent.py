"""One agent as a whole, on a configuration file, without a UPS."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.agent.forced import Client
from qxfleet.config import stores
from qxfleet.config.load import Config, load
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, Link, LinkChange
from qxfleet.model.status import Status

USB = """
[agent]
database = "sqlite:///fleet.db"
control = "agent.sock"

[[ups]]
name = "usb"
port = "auto"
"""


async def test_a_usb_port_is_lost_and_stops_nothing(tmp_path: Path) -> None:
    file = tmp_path / "qxfleet.toml"
    file.write_text(USB)
    agent = Agent(load(file))
    events: list[Event] = []
    agent.bus.attach(Event, events.append)
    agent.bus.attach(LinkChange, lambda change: agent.stop())
    async with asyncio.timeout(20):
        await agent.run()
    state = agent.fleet.snapshot()["usb"]
    assert state.link is Link.LOST and "USB" in state.link_reason
    assert [(event.name, event.value) for event in events] == [
        ("agent-started", "1"), ("contact-lost", "begin"), ("agent-stopped", ""),
    ]  # fmt: skip


async def test_the_folder_of_the_usual_state_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that had only a PostgreSQL database never needed it."""
    monkeypatch.setattr(stores, "STATE", tmp_path / "lib" / "state.db")
    monkeypatch.setattr(stores, "FORMER", tmp_path / "lib" / "fleet.db")
    file = tmp_path / "qxfleet.toml"
    file.write_text(USB.replace('database = "sqlite:///fleet.db"\n', ""))
    agent = Agent(load(file))
    agent.bus.attach(LinkChange, lambda change: agent.stop())
    async with asyncio.timeout(20):
        await agent.run()
    with closing(sqlite3.connect(tmp_path / "lib" / "state.db")) as state:
        assert state.execute("SELECT count(*) FROM event WHERE name = 'agent-started'").fetchone() == (1,)
    assert (tmp_path / "lib").stat().st_mode & 0o777 == 0o750


async def test_an_agent_whose_schedule_stands_or_whose_writer_ended_is_stuck(tmp_path: Path) -> None:
    class Ahead(Clock):
        ahead_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.ahead_s

    file = tmp_path / "qxfleet.toml"
    file.write_text(USB)
    clock = Ahead()
    agent = Agent(load(file), clock=clock)
    up = asyncio.Event()
    running = asyncio.create_task(agent.run(up.set))
    async with asyncio.timeout(20):
        await up.wait()
        assert agent.stuck() is None
        agent.schedule.stop()
        clock.ahead_s = 60.0
        stuck = agent.stuck()
        assert stuck is not None and stuck.startswith("no UPS was asked for 6")
        agent.stop()
        await running
    clock.ahead_s = 0.0
    assert agent.stuck() == "nothing can be stored any more"


async def test_parts_that_wait_for_a_state_in_trouble_hold_up_what_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they have the time that one has, and what does not ask the state begins in its turn."""

    class Waiting:
        async def start(self) -> None:
            await asyncio.Event().wait()

        async def stop(self) -> None:
            pass

        def apply(self, config: Config) -> list[str]:
            return []

    class Listening(Waiting):
        begun = False

        async def start(self) -> None:
            self.begun = True

    monkeypatch.setattr("qxfleet.agent.agent.PARTS_S", 1.0)
    (tmp_path / "fleet.db").mkdir()
    file = tmp_path / "qxfleet.toml"
    file.write_text(USB)
    listening = Listening()
    agent = Agent(load(file), parts=[*[lambda _: Waiting()] * 8, lambda _: listening])
    told: list[tuple[str, float]] = []
    agent.bus.attach(Event, lambda event: told.append((event.name, asyncio.get_running_loop().time())))
    async with asyncio.timeout(60):
        await agent.run(agent.stop)
    times = [at_s for name, at_s in told if name == "waiting-for-state"]
    assert len(times) == 8 and listening.begun
    assert times[-1] - times[0] < 4.0, "each after the other would be seven seconds"


async def test_a_forced_shutdown_is_shown_by_every_face(tmp_path: Path) -> None:
    file = tmp_path / "qxfleet.toml"
    file.write_text(USB)
    agent = Agent(load(file))
    agent.fleet.apply(agent.config.ups, {})
    assert not agent.shown()["usb"].status & Status.FSD
    agent.forced.set("usb", "nut:monitor")
    assert agent.shown()["usb"].status & Status.FSD
    assert not agent.fleet.snapshot()["usb"].status & Status.FSD  # what the UPS says stays what it says
    agent.forced.clear("usb", "nut:monitor")
    agent.forced.set("usb", "shutdown plan", Client(user="one"))
    assert not agent.shown()["usb"].status & Status.FSD  # meant for one of its clients only
    await agent.fleet.stop()
