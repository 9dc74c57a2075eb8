# ruff: noqa: T201
"""What the fleet benchmark starts besides the incumbent: a farm and an agent, each a process that answers questions.

``python -m tests.benchmarks.fleet_processes farm DIR N`` and ``… agent CONFIG``. A question is a line on stdin, its answer a
line of JSON on stdout; the end of stdin ends the process.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

DIALECTS = ("megatec", "megatec/old", "mecer", "mustek", "zinto", "q1")
"""Those whose poll is one question: both sides then send the same."""

Answers = dict[str, Callable[[list[str]], Any]]


async def answer(answers: Answers) -> None:
    """Answer until stdin ends."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    heard = b""

    def hear() -> None:
        nonlocal heard
        chunk = os.read(0, 4096)
        if not chunk:
            loop.remove_reader(0)
            ended.set()
        *questions, heard = (heard + chunk).split(b"\n")
        for question in questions:
            verb, *words = question.decode().split()
            print(json.dumps(answers[verb](words)), flush=True)

    loop.add_reader(0, hear)
    await ended.wait()


async def serve_farm(directory: Path, upses: int) -> None:
    """``upses`` simulated UPSes of six dialects in turn, every byte of their lines at its own time."""
    from qxfleet.dialects.registry import dialect_named
    from qxfleet.dialects.spec import Tier
    from qxfleet.testing.farm import Farm
    from qxfleet.testing.population import fleet

    fleets = [fleet(upses, dialect_named(name)) for name in DIALECTS]
    farm = Farm(directory, [fleets[number % len(fleets)][number] for number in range(upses)], baud=2400, pace="bytes")
    status = {name: {query.command for query in ups.dialect.tier(Tier.QUICK)} for name, ups in farm.upses.items()}

    def requests(words: list[str]) -> dict[str, list[float]]:
        """When each UPS was asked for its status since then."""
        since_s = float(words[0])
        return {
            name: [at_s for at_s, request in log if at_s >= since_s and request in status[name]]
            for name, log in farm.logs.items()
        }

    def mains(words: list[str]) -> float:
        """Off or on for all; the moment before it happened."""
        now_s = farm.now_s
        for ups in farm.select("all"):
            ups.machine.set_mains(0.0 if words[0] == "off" else ups.machine.ratings.volts)
        return now_s

    async with farm:
        gc.collect()
        gc.freeze()
        dialects = {name: ups.dialect.name for name, ups in farm.upses.items()}
        await answer({"dialects": lambda words: dialects, "requests": requests, "mains": mains})


async def serve_agent(config: Path) -> None:
    """The agent as ``qxfleet run`` runs it, its modules loaded likewise, and beside it the answers to our questions."""
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import load
    from qxfleet.interfaces.cli import main as command_line
    from qxfleet.interfaces.parts import PARTS
    from qxfleet.interfaces.service import Service
    from qxfleet.model.events import Event, Link, Phase

    assert command_line.app
    agent = Agent(load(config), parts=PARTS)
    outages: dict[str, float] = {}

    def heard(event: Event) -> None:
        if event.ups is not None and event.name == "on-battery" and event.phase is Phase.BEGIN:
            outages[event.ups] = agent.clock.monotonic()

    def figures(words: list[str]) -> dict[str, Any]:
        fleet, states = agent.fleet, agent.fleet.snapshot().values()
        return {
            "starting": any(task.get_name() == "batteries begin" for task in asyncio.all_tasks()),
            "online": sum(state.link is Link.ONLINE for state in states),
            "polls": fleet.polls(),
            "missed": fleet.missed_polls(),
            "lateness": fleet.pace.lateness,
        }

    agent.bus.attach(Event, heard)
    service = Service(agent, config)
    running = asyncio.create_task(service.run())
    await answer({"figures": figures, "outages": lambda words: outages})
    service.stop()
    await running


if __name__ == "__main__":
    if sys.argv[1] == "farm":
        asyncio.run(serve_farm(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        asyncio.run(serve_agent(Path(sys.argv[2])))
