"""The composition root: builds the parts of a running agent, starts them in order and stops them in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import resource
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from qxfleet.agent.audit import Act, write_down
from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import SLOT_S, Fleet, TransportFor, order_event
from qxfleet.agent.forced import Client, ForcedShutdown
from qxfleet.agent.part import MakePart, Part
from qxfleet.agent.schedule import COHORTS, Schedule
from qxfleet.agent.takeover import take_over
from qxfleet.config import stores
from qxfleet.config.load import Config, load
from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Outcome, Severity
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.state import Condition, DeviceState
from qxfleet.model.status import Status
from qxfleet.store import history
from qxfleet.store.store import Store
from qxfleet.store.tokens import token_used
from qxfleet.transports.address import transport_for
from qxfleet.transports.base import Transport

log = logging.getLogger(__name__)

P = TypeVar("P")

OPEN_S, READ_S = 2.0, 1.0
"""What the state is given to open, and to say what is known of the UPSes: they are asked within 5 s of the start, whatever a disk
does."""

PARTS_S, SOUND_PARTS_S = 5.0, 30.0
"""What all parts together have to begin while the state is in trouble, and while it seems sound and may come to hang yet."""

AGAIN_S = 1.0
"""How often what needs a record that can't be read is tried again."""

AWAY_S = 600.0
"""An agent that was away for longer does not take an outage it saw then for the one it sees now."""

STUCK_S = 10.0
"""Ticks come four times a second; without one for this long the schedule has come to a stand."""


@dataclass(frozen=True, slots=True)
class Health:
    """How the agent itself is doing."""

    polls: int
    missed_polls: int
    late_p50_ms: int | None
    late_p99_ms: int | None
    store_trouble: str | None
    readings_dropped: int


def open_transport(options: UpsOptions) -> Transport:
    """The transport of a UPS's port."""
    return transport_for(
        options.port, cablepower=options.cablepower, usb=options.usb, novendor=options.novendor, upsd=options.upsd
    )


class Agent:
    """One agent: fleet, store, bus, schedule, and whatever parts it is given. Made from a configuration, run once."""

    make_store: ClassVar[type[Store]] = Store
    make_fleet: ClassVar[type[Fleet]] = Fleet

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        transport: TransportFor = open_transport,
        parts: Sequence[MakePart] = (),
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.bus = Bus()
        self.store = self.make_store(
            config.agent.database, clock=self.clock, keep=config.agent.record, on_trouble=self._store_trouble,
            side=config.agent.spool, agent=config.agent.name,
        )  # fmt: skip
        self._loop: asyncio.AbstractEventLoop | None = None
        self.fleet = self.make_fleet(self.bus, self.store, self.clock, transport)
        self.forced = ForcedShutdown(self.bus, self.clock)
        self.schedule = Schedule(self.clock, self._clock_stepped)
        self._stopping = asyncio.Event()
        self._ticked_s = self.clock.monotonic()
        self.parts: tuple[Part, ...] = ()
        for make in parts:
            self.parts = (*self.parts, make(self))

    def part(self, kind: type[P]) -> P | None:
        """The part of that kind, None if this agent was given none."""
        return next((part for part in self.parts if isinstance(part, kind)), None)

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Run until :meth:`stop`; ``started`` is called when all is up. Raises StoreError if the state belongs to somebody else.

        A state that can't be used stops nobody: what happens is kept beside it, and a part that must know its record before it
        begins does so when that can be read.
        """
        _raise_descriptor_limit()
        self._loop = asyncio.get_running_loop()
        self.bus.attach(Reading, self.store.record)
        self.bus.attach(Event, self.store.record_event)
        began_us = self.clock.wall_us()
        if self.config.agent.state == stores.STATE:
            with suppress(OSError):  # told by the store
                stores.STATE.parent.mkdir(mode=0o750, exist_ok=True)
        names = [options.name for options in self.config.ups]
        remembering = self._loop.run_in_executor(None, self.store.remembered, names)
        opening = self._loop.run_in_executor(None, self.store.open)
        await asyncio.wait({asyncio.gather(opening, remembering, return_exceptions=True)}, timeout=OPEN_S)
        if opening.done():
            opening.result()
        taken = await take_over(self.store, self.config.fleet) if opening.done() else None
        running: list[Part] = []
        late: list[Part] = []
        coming: asyncio.Task[None] | None = None
        try:
            identities = remembering.result() if remembering.done() else {}
            closed = False
            outages: dict[str, Condition] = {}
            with suppress(StoreError, TimeoutError):  # told by the store
                async with asyncio.timeout(READ_S):
                    outages = await self._open_outages()
                    identities = await self._loop.run_in_executor(None, self.store.recall, names)
                    closed = opening.done() and await self._close_forgotten(began_us)
            self._tell("agent-started", str(len(self.config.ups)), f"started with {len(self.config.ups)} UPSes")
            if taken is not None:
                self.bus.publish(taken.event(self.clock.wall_us()))
            self.fleet.apply(self.config.ups, identities, outages)
            self.schedule.ticks(SLOT_S, self.fleet.phase_s(0), self._tick)
            self.schedule.start()
            began_s = self._loop.time()
            for part in self.parts:
                sound = opening.done() and self.store.health().error is None
                try:
                    async with asyncio.timeout_at(began_s + (SOUND_PARTS_S if sound else PARTS_S)):
                        await part.start()
                except (StoreError, TimeoutError) as error:
                    what, why = _spelled(type(part).__name__), f": {error}" if str(error) else ""
                    text = f"the part for {what} begins when its record can be read{why}"
                    self._tell("waiting-for-state", what, text, Severity.WARNING)
                    late.append(part)
                else:
                    running.append(part)
            coming = asyncio.create_task(self._catch_up(opening, closed, began_us, late, running), name="what needs the record")
            coming.add_done_callback(lambda ended: None if ended.cancelled() or not ended.exception() else self.stop())
            gc.collect()
            gc.freeze()
            started()
            await self._stopping.wait()
            if coming.done():
                coming.result()
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.wait({coming})
            for part in reversed(running):
                await part.stop()
            self.schedule.stop()
            await self.fleet.stop()
            self._tell("agent-stopped", "", "stopped")
            await self.store.close()

    async def _open_outages(self) -> dict[str, Condition]:
        """UPSes that were on battery when an earlier agent went away, not long ago: one outage, told once."""
        names, now_us, now_s = [options.name for options in self.config.ups], self.clock.wall_us(), self.clock.monotonic()
        since_us = now_us - round(AWAY_S * 1e6)
        found = await self.store.read(lambda connection: history.outages(connection, names, since_us))
        began = {ups: began_us for ups, (began_us, _) in found.items()}
        return {ups: Condition("on-battery", True, at_us, now_s - (now_us - at_us) / 1e6) for ups, at_us in began.items()}

    def stop(self) -> None:
        """Ask :meth:`run` to end."""
        self._stopping.set()

    def reload(self, path: Path | None) -> list[str]:
        """Read the configuration again and apply the difference; one line per change. Raises ConfigError, nothing changed."""
        config = load(path)
        restart = [
            f"[agent] {key}: a change takes effect at the next start"
            for key in ("state", "control", "record", "name", "spool")
            if getattr(config.agent, key) != getattr(self.config.agent, key)
        ]
        if config.fleet != self.config.fleet:
            restart.append("[fleet]: a change takes effect at the next start")
        changes = self.fleet.apply(config.ups, {})
        self.config = config
        for part in self.parts:
            changes += part.apply(config)
        self._tell("configuration-reloaded", str(len(changes)), "; ".join(changes + restart) or "nothing changed")
        return changes + restart

    async def record(
        self, actor: str, act: Act, target: str, name: str, outcome: str, *, value: str | None = None, text: str = ""
    ) -> bool:
        """Write down who did what; see :func:`qxfleet.agent.audit.record`."""
        return await write_down(self.store, self.clock.wall_us(), actor, act, target, name, outcome, value, text)

    async def token_used(self, name: str) -> None:
        """Note when a token was used last. Raises StoreError."""
        await self.store.commit(token_used(name, self.clock.wall_us()))

    async def force(self, ups: str, actor: str) -> None:
        """Tell every NUT client of a UPS to shut down, because one of them says so."""
        self.forced.set(ups, actor)

    def shown(self) -> Mapping[str, DeviceState]:
        """The state of every device as interfaces show it: ``FSD`` too where all its clients are told to shut down."""
        return shown(self.fleet.snapshot(), self.forced)

    def stuck(self) -> str | None:
        """What keeps the agent from doing its work, so that only a new start helps; None if nothing does.

        A database that is away is no such thing, nor is a device.
        """
        silent_s = self.clock.monotonic() - self._ticked_s
        if silent_s > STUCK_S:
            return f"no UPS was asked for {silent_s:.0f} s"
        return None if self.store.alive() else "nothing can be stored any more"

    def health(self) -> Health:
        """Figures about the agent itself."""
        store, pace = self.store.health(), self.fleet.pace
        return Health(
            self.fleet.polls(), self.fleet.missed_polls(), pace.percentile_ms(0.5), pace.percentile_ms(0.99),
            store.error, store.dropped,
        )  # fmt: skip

    def _tick(self, number: int) -> None:
        self._ticked_s = self.clock.monotonic()
        self.fleet.tick(number % COHORTS, COHORTS)

    async def _close_forgotten(self, before_us: int) -> bool:
        """Orders of earlier runs, once all that these left can be read; False: not yet."""
        if not await self.store.settled(OPEN_S):
            return False
        names = [options.name for options in self.config.ups]
        found = await self.store.read(lambda connection: history.orders(connection, names, open_only=True))
        await self._close_orders([order for order in found if order.at_us < before_us])
        return True

    async def _catch_up(
        self, opening: asyncio.Future[None], closed: bool, began_us: int, late: list[Part], running: list[Part]
    ) -> None:
        """What a start could not do because the record was not readable: done as soon as it is."""
        await opening
        while not closed or late:
            try:
                closed = closed or await self._close_forgotten(began_us)
                while late:
                    await late[0].start()
                    running.append(late.pop(0))
            except StoreError:
                pass
            if not closed or late:
                await asyncio.sleep(AGAIN_S)

    async def _close_orders(self, orders: Sequence[history.StoredOrder]) -> None:
        """Orders that an earlier run wrote down and never learned the end of: told, closed, and not sent again."""
        for order in orders:
            result = order.result(Outcome.UNCONFIRMED, "the agent stopped before its end was known; it was not sent again")
            event = order_event(self.clock.wall_us(), EventKind.COMMAND, result, order.actor)
            await self.store.order_outcome(order.id, result, event)
            self.bus.publish(event)

    def _clock_stepped(self, step_s: float) -> None:
        way = "forward" if step_s > 0 else "back"
        log.warning("the clock was set %s by %.1f s; schedules are re-armed", way, abs(step_s))
        self._tell("clock-stepped", f"{step_s:.1f}", f"the clock was set {way} by {abs(step_s):.1f} s", Severity.NOTICE)

    def _store_trouble(self, text: str, severity: Severity) -> None:
        """Called on a thread of the store. While the agent stops, the store may be closed to events: the log has it then."""
        log.log(logging.INFO if severity < Severity.WARNING else logging.WARNING, "%s", text)
        if self._loop is not None and not self._loop.is_closed() and not self._stopping.is_set():
            name = "state-trouble" if severity > Severity.NOTICE else "state-well"
            self._loop.call_soon_threadsafe(self._tell, name, "", text, severity)

    def _tell(self, name: str, value: str, text: str, severity: Severity = Severity.INFO) -> None:
        self.bus.publish(Event(self.clock.wall_us(), None, EventKind.AGENT, name, value, text, severity))


def shown(states: Mapping[str, DeviceState], forced: ForcedShutdown) -> Mapping[str, DeviceState]:
    """States with ``FSD`` where all clients of a UPS are told to shut down."""
    told = {flag.ups for flag in forced.all() if flag.ups in states and forced.is_set(flag.ups, Client())}
    if not told:
        return states
    return {**states, **{name: replace(states[name], status=states[name].status | Status.FSD) for name in told}}


def _spelled(name: str) -> str:
    """``battery tests`` for ``BatteryTests``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _raise_descriptor_limit() -> None:
    """A link keeps one descriptor, and five for the moment in which pyserial opens it; the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
