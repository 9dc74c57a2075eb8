"""An agent that is started anew in the middle of an outage: one outage, told once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from qxfleet.agent.agent import Agent
from qxfleet.battery.keeper import Batteries
from qxfleet.config.load import load
from qxfleet.dialects.registry import dialect_named
from qxfleet.model.events import Event
from qxfleet.model.status import Status
from qxfleet.store import batteries
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps


@contextlib.asynccontextmanager
async def running(file: Path, told: list[Event]) -> AsyncIterator[Agent]:
    agent, up = Agent(load(file), parts=(Batteries,)), asyncio.Event()
    agent.bus.attach(Event, told.append)
    life = asyncio.create_task(agent.run(up.set))
    try:
        async with asyncio.timeout(20):
            await up.wait()
        yield agent
    finally:
        agent.stop()
        await life


async def until_status(agent: Agent, flag: Status) -> None:
    async with asyncio.timeout(30):
        while not agent.fleet.snapshot()["u"].status & flag:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)


async def test_restarts_in_an_outage_make_no_new_one(tmp_path: Path) -> None:
    dialect = dialect_named("megatec")
    assert dialect is not None
    unit = SimulatedUps(dialect, name="u", machine=Machine(Ratings(), noise=0.0))
    told: list[Event] = []
    file = tmp_path / "qxfleet.toml"
    async with Farm(tmp_path / "farm", [unit]) as farm:
        file.write_text(
            '[agent]\nstate = "state.db"\ncontrol = "agent.sock"\n'
            f'[[ups]]\nname = "u"\nport = "{farm.link("u")}"\ndialect = "megatec"\npoll_interval = "0.5s"\n'
        )
        async with running(file, told) as agent:
            await until_status(agent, Status.OL)
            unit.machine.set_mains(0)
            await until_status(agent, Status.OB)
        for _ in range(2):
            async with running(file, told) as agent:
                await until_status(agent, Status.OB)
        async with running(file, told) as agent:
            await until_status(agent, Status.OB)
            rows = await agent.store.read(lambda connection: batteries.discharges(connection, ["u"], 0, 2**62))
            assert len(rows) == 1
            unit.machine.set_mains(230)
            async with asyncio.timeout(30):
                while not any(event.name == "on-battery" and event.value == "end" for event in told):
                    await asyncio.sleep(0.1)
    assert [event.value for event in told if event.name == "on-battery"] == ["begin", "end"]
