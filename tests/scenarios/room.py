"""A room of racks on virtual time: UPSes in A and B feeds, hosts that hang on both, a real agent's shutdown between them.

Real are session, fleet, store, forced shutdown, planner and loop; simulated are the UPSes behind in-process links and the hosts
behind the doors to the outside. An agent can be killed behind any commit and another started on what it left.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import Fleet
from qxfleet.agent.forced import ForcedShutdown
from qxfleet.agent.schedule import COHORTS
from qxfleet.dialects.registry import dialect_named
from qxfleet.model.events import Event, Outcome
from qxfleet.model.loads import ComingBack, Command, Condition, Load, Plan, TcpClosed, Trigger, UpsOff, WakeOnLan
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.shutdown.effects import Done, Port
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store import shutdown as stored
from qxfleet.testing.loads import RUNNING, Host, HostState, Room
from qxfleet.testing.machine import Machine, Ratings, Source
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import TimelessStore, VirtualClock

WIRE_S = 0.2
COMMAND_S = 1.5
"""An ssh, from its start to its end."""

TICK_S = 1.0

TASKS = ("staged", "stop ", "start ", "cut ", "call-back ", "switch-on ", "order ", "look ")
"""Names of the tasks that die with the agent."""

ON_BATTERY_S = 60.0
PLAN = Plan(
    trigger=Trigger(any=(Condition("on-battery-for", ON_BATTERY_S), Condition("low-battery"))),
    ups_off=UpsOff(offdelay_s=30.0, ondelay_s=60.0, stagger_s=5.0),
    coming_back=ComingBack(charge_above=10.0, mains_stable_s=30.0),
    armed=True,
)
CHAIN = (
    ("web-a", (), 10.0), ("web-b", (), 15.0), ("app", ("web-a", "web-b"), 20.0), ("db", ("app",), 25.0), ("san", ("db",), 15.0),
    ("cron", (), 5.0),
)  # fmt: skip
"""Loads of one rack: what must be down before each, and how long it takes. Four deep: web, app, db, san."""


class KillableStore(TimelessStore):
    """Behind its ``kill_after``-th commit the agent is dead: nothing it awaits ever returns."""

    kill_after: int | None = None
    commits = 0

    def arm(self, kill_after: int | None) -> None:
        self.kill_after, self.commits, self.killed = kill_after, 0, asyncio.Event()

    async def _counted(self, result: Any) -> Any:
        self.commits += 1
        if self.killed.is_set() or self.commits == self.kill_after:
            self.killed.set()
            await asyncio.get_running_loop().create_future()
        return result

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        return await self._counted(await super().commit(*args, **kwargs))

    async def order_intent(self, *args: Any, **kwargs: Any) -> int:
        return int(await self._counted(await super().order_intent(*args, **kwargs)))

    async def order_outcome(self, *args: Any, **kwargs: Any) -> None:
        await self._counted(await super().order_outcome(*args, **kwargs))


class Wire(InProcTransport):
    """The line of one simulated UPS; remembers what went over it."""

    def __init__(self, ups: SimulatedUps, told: list[tuple[float, bytes]]) -> None:
        super().__init__(ups.name, self._carry)
        self.ups, self.told = ups, told

    async def _carry(self, request: bytes) -> bytes | None:
        now_s = asyncio.get_running_loop().time()
        if not request.startswith((b"Q", b"F", b"I")):
            self.told.append((now_s, request))
        reply = self.ups.answer(request, now_s)
        await asyncio.sleep(WIRE_S)
        return reply


class Doors:
    """The outside as hosts of the room: ``stop NAME``, ``start NAME``, ports named after hosts, hardware addresses by number."""

    def __init__(self, room: Room, macs: Mapping[str, str]) -> None:
        self.room, self.macs = room, macs
        self.probes = 0

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        host = self.room.hosts[argv[1]]
        now_s = asyncio.get_running_loop().time()
        took = host.stop(now_s) if argv[0] == "stop" else host.start(now_s)
        await asyncio.sleep(COMMAND_S)
        return Done(Outcome.ACCEPTED, "", 0) if took else Done(Outcome.REJECTED, "exit code 255: Connection refused", 255)

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        return Done(Outcome.REJECTED, "no server")

    async def wake(self, mac: str, to: str) -> Done:
        self.room.hosts[self.macs[mac]].start(asyncio.get_running_loop().time())
        return Done(Outcome.UNCONFIRMED, "sent")

    async def port(self, host: str, port: int, within_s: float) -> Port:
        self.probes += 1
        if await self.answers(host, within_s):
            listens = self.room.hosts[host].listens(asyncio.get_running_loop().time())
            return Port.OPEN if listens else Port.REFUSED
        await asyncio.sleep(within_s)
        return Port.SILENT

    async def answers(self, host: str, within_s: float) -> bool:
        await asyncio.sleep(0.01)
        return self.room.hosts[host].state in (HostState.UP, HostState.STOPPING)


def loads_of(racks: int) -> tuple[Load, ...]:
    """Six loads a rack, on both of its feeds."""
    loads = []
    for rack in range(1, racks + 1):
        for number, (role, after, stops_in_s) in enumerate(CHAIN):
            name = f"{role}-{rack}"
            loads.append(Load(
                name, (f"rack{rack}-a", f"rack{rack}-b"), after=tuple(f"{each}-{rack}" for each in after),
                stop=Command(("stop", name)), down_when=TcpClosed(name, 22), start=WakeOnLan(mac(rack, number)),
                stop_time_s=4 * stops_in_s, start_time_s=120.0, watts=60.0,
            ))  # fmt: skip
    return tuple(loads)


def mac(rack: int, number: int) -> str:
    return f"02:00:00:00:{rack:02x}:{number:02x}"


@dataclass
class Scene:
    """The room and its wires; outlives the agents."""

    racks: int
    plan: Plan
    database: Path
    battery_ah: float = 9.0
    options: Mapping[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    returns: dict[str, list[float]] = field(default_factory=dict)
    commits: int = 0
    killed: int = 0
    agent: RoomAgent | None = None

    def __post_init__(self) -> None:
        names = [f"rack{rack}-{feed}" for rack in range(1, self.racks + 1) for feed in "ab"]
        dialect = dialect_named("megatec")
        assert dialect is not None
        self.upses = {
            name: SimulatedUps(
                dialect, name=name, seed=number,
                machine=Machine(Ratings(battery_ah=self.battery_ah), seed=number, load_percent=20, noise=0.3),
            )
            for number, name in enumerate(names)
        }  # fmt: skip
        hosts, macs = [], {}
        for rack in range(1, self.racks + 1):
            feeds = [self.upses[f"rack{rack}-{feed}"].machine for feed in "ab"]
            for number, (role, _, stops_in_s) in enumerate(CHAIN):
                hosts.append(Host(f"{role}-{rack}", feeds, watts=60.0, stops_in_s=stops_in_s, starts_in_s=20.0))
                macs[mac(rack, number)] = f"{role}-{rack}"
        self.room = Room([ups.machine for ups in self.upses.values()], hosts)
        self.doors = Doors(self.room, macs)
        self.told: dict[str, list[tuple[float, bytes]]] = {name: [] for name in names}
        self.plan = replace(self.plan, loads=loads_of(self.racks))

    def wire(self, options: UpsOptions) -> Wire:
        return Wire(self.upses[options.name], self.told[options.name])

    # -- what happens

    def mains(self, on: bool, *feeds: str) -> None:
        """All feeds named ``a`` or ``b``, or those of the UPSes named; all of them without."""
        for name, ups in self.upses.items():
            if not feeds or name in feeds or name[-1] in feeds:
                ups.machine.set_mains(230.0 if on else 0.0)

    # -- what was seen

    def asked_to_stop(self) -> dict[str, int]:
        return {name: len(host.asked_to_stop) for name, host in self.room.hosts.items() if host.asked_to_stop}

    def states(self) -> set[str]:
        return {host.state.value for host in self.room.hosts.values()}

    def cuts(self, ups: str) -> list[float]:
        return [at_s for at_s, request in self.told[ups] if request.startswith(b"S")]

    def check_order(self, excepted: Collection[str] = ()) -> None:
        """No host was asked to stop while one that must go before it ran; none started before one it stands on was up."""
        by_name = {load.name: load for load in self.plan.loads}
        for name, host in self.room.hosts.items():
            for before in set(by_name[name].after) - set(excepted):
                other = self.room.hosts[before]
                for at_s in host.asked_to_stop:
                    assert state_at(other, at_s) not in (HostState.UP, HostState.STOPPING), (name, "stopped before", before)
                for at_s, state in other.changes:
                    if state is HostState.STARTING and name not in excepted:
                        assert state_at(host, at_s) is HostState.UP, (before, "started before", name)

    def check_cuts(self) -> None:
        """Between two cuts of a UPS lies its return: nothing irreversible is done twice."""
        for ups, told in self.told.items():
            pending = False
            for at_s, request in told:
                if request.startswith(b"S"):
                    assert not pending, (ups, "was told to cut twice", told)
                    pending = True
                elif request == b"C\r":
                    pending = False
                if pending and self.back_after(ups, at_s):
                    pending = False

    def back_after(self, ups: str, at_s: float) -> bool:
        return any(at_s < back_s for back_s in self.returns[ups])

def state_at(host: Host, at_s: float) -> HostState:
    """What a host was doing at a moment."""
    return next((state for changed_s, state in reversed(host.changes) if changed_s <= at_s), HostState.UP)


class RoomAgent:
    """What a shutdown needs of an agent, on virtual time."""

    def __init__(self, scene: Scene, kill_after: int | None = None) -> None:
        self.scene = scene
        loop = asyncio.get_running_loop()
        self.clock = VirtualClock(loop, int(loop.time() * 1e6) + 1_790_000_000_000_000)
        self.bus = Bus()
        self.store = KillableStore(f"sqlite:///{scene.database}", clock=self.clock)
        self.store.arm(kill_after)
        self.fleet = Fleet(self.bus, self.store, self.clock, scene.wire)
        self.forced = ForcedShutdown(self.bus, self.clock)
        self.upses = [
            UpsOptions(name, f"/dev/{name}", dialect="megatec", poll_interval_s=2.0, **scene.options) for name in scene.upses
        ]
        self.config = SimpleNamespace(shutdown=scene.plan, ups=self.upses, batteries={})
        self.shutdown = StagedShutdown(self, scene.doors)  # type: ignore[arg-type]

    def part(self, kind: type) -> None:
        return None

    async def __aenter__(self) -> RoomAgent:
        self.store.open()
        self.bus.attach(Reading, self.store.record)
        self.bus.attach(Event, self.store.record_event)
        self.bus.attach(Event, self.scene.events.append)
        identities = {name: identity for name, (_, identity) in self.store.identities().items()}
        self.fleet.apply(self.upses, identities)
        self._ticking = asyncio.create_task(self._tick())
        self._starting = asyncio.create_task(self.shutdown.start())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        self._starting.cancel()
        if self.store.killed.is_set():
            for task in asyncio.all_tasks():
                if task.get_name().startswith(TASKS):
                    task.cancel()
            await asyncio.sleep(0)
            self.shutdown._reserve.close()  # threads die with a process; here they must be told
            self.shutdown._journal.close()
        else:
            await self.shutdown.stop()
        await self.fleet.stop()
        await self.store.close()

    async def _tick(self) -> None:
        cohort = 0
        while True:
            self.fleet.tick(cohort % COHORTS, COHORTS)
            cohort += 1
            await asyncio.sleep(max(0.0, self.fleet.phase_s(cohort) - self.clock.monotonic()))

    def told(self, *names: str) -> list[tuple[str | None, str, str]]:
        return [(event.ups, event.name, event.value) for event in self.scene.events if event.name in names]


async def play(
    scene: Scene, script: Callable[[Scene], Awaitable[None]], kills: Sequence[int | None] = (), away_s: float = 3.0
) -> None:
    """Run a script in the room with an agent, or with several, each killed behind so many commits, or by the script."""
    loop = asyncio.get_running_loop()
    returns = scene.returns = {name: list[float]() for name in scene.upses}
    off = dict.fromkeys(scene.upses, False)

    async def watch() -> None:
        while True:
            scene.room.advance(loop.time())
            for name, ups in scene.upses.items():
                now_off = ups.machine.source is Source.OFF
                if off[name] and not now_off:
                    returns[name].append(loop.time())
                off[name] = now_off
            await asyncio.sleep(TICK_S)

    physics = asyncio.create_task(watch())
    acting = asyncio.ensure_future(script(scene))
    try:
        for kill_after in (*kills, None):
            async with RoomAgent(scene, kill_after) as agent:
                scene.agent = agent
                dying = asyncio.create_task(agent.store.killed.wait())
                await asyncio.wait({dying, acting}, return_when=asyncio.FIRST_COMPLETED)
                dying.cancel()
                scene.commits = agent.store.commits
                scene.killed += agent.store.killed.is_set()
            if acting.done():
                break
            await asyncio.sleep(away_s)  # the service manager starts it again
        await acting
    finally:
        physics.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await physics


def run_of(scene: Scene) -> list[stored.StoredRun]:
    """What the store holds of all runs."""
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{scene.database}")
    try:
        with engine.connect() as connection:
            return stored.runs(connection, 100)
    finally:
        engine.dispose()


def hosts_up(scene: Scene) -> bool:
    return all(host.state is HostState.UP for host in scene.room.hosts.values())


def hosts_down(scene: Scene) -> bool:
    return not any(host.state in RUNNING for host in scene.room.hosts.values())


async def until(holds: Callable[[], bool], within_s: float, what: str) -> float:
    """Wait on virtual time; the moment at which it held."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + within_s
    while not holds():
        assert loop.time() < give_up_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.5)
    return loop.time()
