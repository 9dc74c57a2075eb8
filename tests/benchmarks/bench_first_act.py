# ruff: noqa: T201
"""From the reading that decides to the first act of a shutdown: 250 UPSes, 1,000 loads, a real agent's loop and database.

``python -m tests.benchmarks.bench_first_act``. Every load is stopped by a real process (``/bin/true``); UPSes are simulated
behind in-process links. Tells what one look of the planner costs, idle and while everything is being stopped.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import Fleet
from qxfleet.agent.forced import ForcedShutdown
from qxfleet.agent.schedule import COHORTS
from qxfleet.dialects.registry import dialect_named
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.model.loads import Command, Condition, Load, Plan, TcpClosed, Trigger
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.shutdown import run
from qxfleet.shutdown.effects import Done, Port, RealEffects
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store.store import Store
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.transports.inproc import InProcTransport

RACKS, LOADS_A_RACK = 125, 8


class Timed(RealEffects):
    """Real processes; the moment of each is kept. Ports are closed once the load was stopped."""

    def __init__(self) -> None:
        self.begun: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        self.begun.setdefault(argv[1], time.monotonic())
        done = await super().command(argv, within_s)
        self.ended.setdefault(argv[1], time.monotonic())
        return done

    async def port(self, host: str, port: int, within_s: float) -> Port:
        await asyncio.sleep(0.01)
        return Port.SILENT if host in self.ended else Port.OPEN

    async def answers(self, host: str, within_s: float) -> bool | None:
        return host not in self.ended

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        raise NotImplementedError


def loads() -> tuple[Load, ...]:
    found = []
    for rack in range(1, RACKS + 1):
        names = [f"load-{rack}-{number}" for number in range(LOADS_A_RACK)]
        for number, name in enumerate(names):
            found.append(Load(
                name, (f"rack{rack}-a", f"rack{rack}-b"), after=(names[number - 2],) if number >= 2 else (),
                stop=Command(("/bin/true", name)), down_when=TcpClosed(name, 22), stop_time_s=120.0,
            ))  # fmt: skip
    return tuple(found)


async def main() -> None:
    dialect = dialect_named("megatec")
    assert dialect is not None
    upses = {
        name: SimulatedUps(dialect, name=name, machine=Machine(Ratings(), load_percent=30, noise=0))
        for name in (f"rack{rack}-{feed}" for rack in range(1, RACKS + 1) for feed in "ab")
    }  # fmt: skip
    plan = Plan(loads(), Trigger(any=(Condition("low-battery"),)), hold_s=0.0, armed=True)
    looks: list[float] = []
    real = run.next_steps

    def timed(*args: Any) -> Any:
        began_s = time.perf_counter()
        try:
            return real(*args)
        finally:
            looks.append(time.perf_counter() - began_s)

    run.next_steps = timed  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        clock, bus = Clock(), Bus()
        store = Store(f"sqlite:///{Path(folder) / 'fleet.db'}", clock=clock)
        fleet = Fleet(bus, store, clock, lambda options: InProcTransport(
            options.name, lambda request: upses[options.name].answer(request, time.monotonic())
        ))  # fmt: skip
        options = [UpsOptions(name, f"/dev/{name}", dialect="megatec", poll_interval_s=2.0) for name in upses]
        agent: Any = SimpleNamespace(
            config=SimpleNamespace(shutdown=plan, ups=options, batteries={}), clock=clock, bus=bus, store=store, fleet=fleet,
            forced=ForcedShutdown(bus, clock), part=lambda kind: None,
        )  # fmt: skip
        effects = Timed()
        part = StagedShutdown(agent, effects)
        store.open()
        bus.attach(Reading, store.record)
        bus.attach(Event, store.record_event)
        decided: list[float] = []

        def seen(event: Event) -> None:
            if event.name == "low-battery" and event.value == "begin":
                decided.append(time.monotonic())

        bus.attach(Event, seen)
        fleet.apply(options, {})

        async def tick() -> None:
            cohort = 0
            while True:
                fleet.tick(cohort % COHORTS, COHORTS)
                cohort += 1
                await asyncio.sleep(max(0.0, fleet.phase_s(cohort) - clock.monotonic()))

        ticking = asyncio.create_task(tick())
        await part.start()
        await asyncio.sleep(12)
        idle, looks[:] = list(looks), []
        for ups in upses.values():
            ups.machine.advance(time.monotonic())
            ups.machine.set_mains(0.0)
        await asyncio.sleep(4)
        battery, looks[:] = list(looks), []
        for ups in upses.values():
            ups.machine.advance(time.monotonic())
            ups.machine.battery.cell_v = 1.80
        while len(effects.ended) < len(plan.loads):
            await asyncio.sleep(0.1)
        busy = list(looks)
        await part.stop()
        ticking.cancel()
        await fleet.stop()
        await store.close()
    first, last = min(effects.begun.values()), max(effects.ended.values())
    enough = sorted(decided)
    print(f"{len(upses)} UPSes, {len(plan.loads)} loads, four deep, each stopped by a process")
    print(f"first reading with a low battery to the first process: {1000 * (first - enough[0]):.0f} ms")
    early = sorted(effects.begun.values())[: 2 * RACKS]
    print(f"to the first {len(early)} processes (all that wait for nobody): {1000 * (early[-1] - enough[0]):.0f} ms, "
          f"the last low battery was read {1000 * (enough[-1] - enough[0]):.0f} ms after the first")  # fmt: skip
    print(f"all {len(plan.loads)} stopped: {last - enough[0]:.1f} s")
    for what, taken in (("idle", idle), ("on battery", battery), ("stopping", busy)):
        if taken:
            print(f"one look of the planner, {what}: median {1000 * statistics.median(taken):.1f} ms, "
                  f"longest {1000 * max(taken):.1f} ms, {len(taken)} looks")  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main())
