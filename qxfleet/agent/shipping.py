"""Ships what the state holds to the fleet store, where ``[fleet]`` names one, and keeps the outbox small."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import Connection

from qxfleet import __version__
from qxfleet.agent.takeover import EVENT, own_uuid
from qxfleet.errors import StoreError
from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.store import adopt, outbox
from qxfleet.store.fleet import AgentIdentity
from qxfleet.store.fleet_upkeep import FleetUpkeep
from qxfleet.store.fleet_view import reading_fleet
from qxfleet.store.shipper import Shipper, ShipperHealth, Turn

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config
    from qxfleet.config.stores import FleetSettings

PERIOD_S: Final = 10.0
"""How often the outbox is pruned, and what the state did not take is tried again."""

LARGEST_BYTES: Final = 10_000_000_000
"""What may wait in the outbox before readings thin to minutes: months of 250 UPSes; events and orders never go."""

QUERIES: Final = 2
"""Questions to the fleet store at the same time, beside the connection that ships."""

T = TypeVar("T")

_TOLD: Final = {
    "away": (Severity.WARNING, Phase.BEGIN), "refused": (Severity.CRITICAL, Phase.BEGIN),
    "behind": (Severity.WARNING, Phase.BEGIN), "large": (Severity.WARNING, Phase.POINT), "row": (Severity.WARNING, Phase.POINT),
    "set-up": (Severity.NOTICE, Phase.POINT), "restored": (Severity.WARNING, Phase.POINT), "ok": (Severity.INFO, Phase.END),
}  # fmt: skip

log = logging.getLogger(__name__)


class Shipping:
    """A part of every agent; without ``[fleet]`` it only sees to it that no outbox grows."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._store = agent.store
        self._shipper: Shipper | None = None
        self._upkeep: FleetUpkeep | None = None
        self._task: asyncio.Task[None] | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._half_told = False
        self._anew = asyncio.Event()
        self.armed: Callable[[], bool | None] = lambda: None
        """Whether this agent's shutdown plan is armed, for the registry of agents; None: it has none."""

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query on the fleet store (see :mod:`qxfleet.store.fleet_view`), two at a time, each for ten seconds at most.

        :class:`StoreError`: no fleet is configured, or its store is away or hangs.
        """
        fleet = self._agent.config.fleet
        if fleet is None or self._readers is None:
            raise StoreError("no [fleet] is configured: this agent stands alone")
        url = fleet.database

        def run() -> T:
            with reading_fleet(url) as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    def health(self) -> ShipperHealth | None:
        """How shipping goes; None without a fleet."""
        return None if self._shipper is None else self._shipper.health()

    def has_everything(self) -> bool:
        """Whether the fleet store has all that the state holds: what the state lets go of then is there."""
        health = self.health()
        return health is not None and (health.state, health.records, health.readings) == ("ok", 0, 0)

    async def start(self) -> None:
        """Begin; nobody waits for it."""
        fleet = self._agent.config.fleet
        loop = asyncio.get_running_loop()
        self._store.on_anew.append(lambda: loop.call_soon_threadsafe(self._anew.set))
        if fleet is not None:
            self._readers = ThreadPoolExecutor(QUERIES, thread_name_prefix="fleet-reader")
            self._upkeep = FleetUpkeep(fleet.database, self._agent.clock, self._agent.config.retention)
            self._upkeep.start()
        self._task = asyncio.create_task(self._run(fleet), name="shipping")

    async def stop(self) -> None:
        """End; what is not shipped is in the state."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        loop = asyncio.get_running_loop()
        for each in (self._shipper, self._upkeep):
            if each is not None:
                await loop.run_in_executor(None, each.close)
        if self._readers is not None:
            self._readers.shutdown(wait=False, cancel_futures=True)

    def apply(self, config: Config) -> list[str]:
        """The fleet store is to know of UPSes that came and went."""
        if self._shipper is not None:
            self._shipper.watch([options.name for options in config.ups])
        if config.fleet == self._agent.config.fleet:
            return []
        return ["[fleet]: a change takes effect at the next start"]

    async def _run(self, fleet: FleetSettings | None) -> None:
        """Follow the state, ship what it holds, and keep the outbox small; what the state does not take now is tried again."""
        complained = ""
        while True:
            try:
                if fleet is None:
                    if await self._store.read(outbox.following):
                        await self._store.commit(outbox.unfollow, hurry=False)
                    return
                if not await self._store.read(outbox.following):
                    await self._store.commit(outbox.follow, hurry=False)
                if self._shipper is None:
                    await self._ship(fleet)
                else:
                    await self._forget(self._shipper)
                complained = ""
            except StoreError as error:
                if fleet is not None and str(error) != complained:  # the state's own trouble is told by itself
                    complained = str(error)
                    log.warning("nothing is put into the outbox for the fleet store: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._anew.wait(), PERIOD_S)
            self._anew.clear()

    async def _ship(self, fleet: FleetSettings) -> None:
        agent, loop = self._agent, asyncio.get_running_loop()

        def tell(turn: Turn) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(self._tell, turn)

        who = AgentIdentity(await self._store.commit(own_uuid, hurry=False), agent.config.agent.name, fleet.site, __version__)
        seeded = await self._store.read(adopt.seeded)
        self._shipper = Shipper(
            agent.config.agent.state, fleet.database, who, [options.name for options in agent.config.ups], clock=agent.clock,
            tell=tell, armed=lambda: self.armed(), seeded=seeded == "same",
        )  # fmt: skip
        self._shipper.start()

    async def _forget(self, shipper: Shipper) -> None:
        """Let go of what is shipped and old; beyond the limit readings that are not shipped thin to minutes, nothing else."""
        before_us = self._agent.clock.wall_us() - outbox.KEPT_US
        for stream, done in shipper.shipped().items():
            await self._store.commit(lambda connection, s=stream, d=done: outbox.forget(connection, s, d, before_us), hurry=False)
        size = (shipper.health().readings or 0) * outbox.BODY_BYTES
        full = size / LARGEST_BYTES
        if full < 0.4:
            self._half_told = False
        elif full >= 0.5 and not self._half_told:
            self._half_told = True
            limit = f"beyond {LARGEST_BYTES / 1e9:.0f} GB they thin to minutes"
            text = f"{size / 1e9:.1f} GB of readings wait for the fleet store: {limit}"
            self._tell(Turn("large", text))
        if full > 1.0:
            done = shipper.shipped().get(outbox.READINGS, [])
            await self._store.commit(lambda connection: outbox.thin(connection, done), hurry=False)

    def _tell(self, turn: Turn) -> None:
        severity, phase = _TOLD[turn.state]
        self._agent.bus.publish(
            Event(self._agent.clock.wall_us(), None, EventKind.AGENT, EVENT, turn.state, turn.text, severity, phase)
        )
