"""All devices: their sessions, their states, and the one door through which orders go down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qxfleet.agent.assess import assess
from qxfleet.agent.bus import Bus
from qxfleet.agent.schedule import TICK_S
from qxfleet.dialects.spec import Order
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.clock import Clock
from qxfleet.model.events import (
    Event,
    EventKind,
    IdentityLearned,
    Link,
    Observation,
    OrderResult,
    Outcome,
    Phase,
    SettingInfo,
    Severity,
)  # fmt: skip
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity
from qxfleet.model.state import Condition, DeviceState
from qxfleet.session.session import EARLY_S, Session
from qxfleet.store.store import Store
from qxfleet.transports.base import Transport

log = logging.getLogger(__name__)

SWEEP_PAUSE_S = 3.0
"""At most one sweep of the idle UPSes in this time."""

SLOT_S = 0.25
"""Polls share slots of this width, so that one wake-up serves many replies (architecture: asks in 250 ms slots)."""

RECORD_S = 5.0
"""An order of which neither the state nor the side file took a record for so long is refused: it isn't sent late, or ever."""

MUST_RECORD_S = 0.5
"""The same for a step of an armed shutdown, which is then sent all the same."""

NO_RECORD = f"neither the state nor the side file took a record of it within {RECORD_S:g} s"
NOT_STORED = "no record of this is stored yet"

CRASH_PAUSE_S = (5.0, 10.0, 30.0, 60.0, 300.0)
"""Pauses before a session that ended by a bug of ours is started again; one that ran for longer than the last begins anew."""

TransportFor = Callable[[UpsOptions], Transport]


@dataclass(slots=True)
class Device:
    """One configured UPS: its options, its session, and the task that runs it."""

    options: UpsOptions
    session: Session
    task: asyncio.Task[None] | None = None
    slot: int = 0
    every_tick: bool = False
    """Its points lie between the ticks of its cohort, so those of the others serve it too."""


@dataclass(slots=True)
class Pace:
    """How punctual polling is: polls by milliseconds of lateness, and slots missed, over all devices."""

    lateness: list[int] = field(default_factory=lambda: [0] * 1001)

    def percentile_ms(self, share: float) -> int | None:
        """Milliseconds within which that share of polls left; None before the first."""
        total = sum(self.lateness)
        if not total:
            return None
        seen = 0
        for ms, count in enumerate(self.lateness):
            seen += count
            if seen >= share * total:
                return ms
        return None


def select(target: str, upses: Mapping[str, UpsOptions]) -> tuple[str, ...]:
    """Names meant by a target among these: a UPS name, ``group:NAME`` or ``all``. Raises OrderNotSupported if that is none."""
    if target == "all":
        return tuple(upses)
    if target.startswith("group:"):
        group = target.removeprefix("group:")
        names = tuple(name for name, options in upses.items() if group in options.groups)
        if not names:
            groups = sorted({group for options in upses.values() for group in options.groups})
            raise OrderNotSupported(f"no UPS is in group {group!r}; groups are {', '.join(groups) or 'not configured'}")
        return names
    if target not in upses:
        raise OrderNotSupported(f"no UPS is named {target!r}; `qxfleet status` lists them")
    return (target,)


class Fleet:
    """Runs one session per configured UPS and keeps the latest state of each.

    States are immutable and replaced whole, so anybody on the loop may read :meth:`snapshot` without a lock.
    """

    def __init__(self, bus: Bus, store: Store, clock: Clock, transport_for: TransportFor) -> None:
        self._bus = bus
        self._store = store
        self._clock = clock
        self._transport_for = transport_for
        self._devices: dict[str, Device] = {}
        self._cohorts: dict[tuple[int, int], tuple[Session, ...]] = {}
        self._racing: list[Session] = []
        self._states: dict[str, DeviceState] = {}
        self._swept_s = -SWEEP_PAUSE_S
        self._orders: set[asyncio.Task[OrderResult]] = set()
        self._unwritten: set[asyncio.Future[Any]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._origin_s = clock.monotonic()
        self.pace = Pace()

    # -- who there is

    def snapshot(self) -> Mapping[str, DeviceState]:
        """The state of every device by name, in configured order."""
        return self._states

    def options(self, ups: str) -> UpsOptions:
        """The options of one device. Raises OrderNotSupported for a name that is not configured."""
        return self._device(ups).options

    def session(self, ups: str) -> Session:
        """The session of one device, for what only it knows (pace, dialect)."""
        return self._device(ups).session

    def select(self, target: str) -> tuple[str, ...]:
        """Names meant by a target: a UPS name, ``group:NAME`` or ``all``. Raises OrderNotSupported if that is none."""
        return select(target, {name: device.options for name, device in self._devices.items()})

    def orders(self, ups: str) -> tuple[Order, ...]:
        """Instant commands of one device."""
        return self._device(ups).session.orders()

    def settings(self, ups: str) -> tuple[SettingInfo, ...]:
        """Writable variables of one device."""
        return self._device(ups).session.settings()

    def missed_polls(self) -> int:
        """Poll slots that passed unused, over all devices."""
        return sum(device.session.missed_polls for device in self._devices.values())

    def polls(self) -> int:
        """Good polls, over all devices."""
        return sum(device.session.polls for device in self._devices.values())

    def _device(self, ups: str) -> Device:
        device = self._devices.get(ups)
        if device is None:
            raise OrderNotSupported(f"no UPS is named {ups!r}; `qxfleet status` lists them")
        return device

    # -- coming and going

    def apply(
        self, wanted: Sequence[UpsOptions], identities: Mapping[str, Identity], outages: Mapping[str, Condition] = {}
    ) -> list[str]:
        """Make the running fleet the wanted one; devices whose options did not change are not touched.

        ``outages``: those in which an earlier agent went away; they go on, and are not told again. Returns one line per change.
        Call on the loop.
        """
        changes: list[str] = []
        by_name = {options.name: options for options in wanted}
        for name in [name for name in self._devices if name not in by_name]:
            self._end(name)
            del self._states[name]
            changes.append(f"{name}: removed")
        for options in wanted:
            running = self._devices.get(options.name)
            if running is not None and running.options == options:
                continue
            known = identities.get(options.name)
            state = DeviceState(options.name, link_since_us=self._clock.wall_us())
            if options.name in outages:
                state = replace(state, conditions={"on-battery": outages[options.name]})
            if running is not None:
                known = running.session.identity or known
                if running.options.port == options.port:
                    state = replace(self._states[options.name], link=Link.DETECTING)
                self._end(options.name)
            self._begin(options, known, state)
            changes.append(f"{options.name}: {'changed' if running else 'added'}")
        ordered = {name: self._states[name] for name in by_name}
        self._cohorts.clear()
        self._states.clear()
        self._states.update(ordered)
        return changes

    def _begin(self, options: UpsOptions, identity: Identity | None, state: DeviceState) -> None:
        taken = [device.slot for device in self._devices.values()]
        slots = max(1, round(options.poll_interval_s / SLOT_S))
        slot = min(range(slots), key=lambda each: (sum(1 for other in taken if other % slots == each), each))
        session = Session(
            options, self._transport_for(options), self.report, self._clock, identity=identity,
            phase_s=self._origin_s + slot * SLOT_S, lateness=self.pace.lateness,
        )  # fmt: skip
        device = Device(options, session, slot=slot, every_tick=options.poll_interval_s % TICK_S != 0)
        self._devices[options.name] = device
        self._states[options.name] = state
        device.task = asyncio.create_task(self._guard(device), name=f"session {options.name}")

    def _end(self, name: str) -> None:
        task = self._devices.pop(name).task
        if task is not None:
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _guard(self, device: Device) -> None:
        """Run a session; a bug of ours ends this device's session for a moment, never the fleet."""
        if self._ending:
            await asyncio.wait(self._ending)  # a port has one owner, also where two UPSes change places
        crashes = 0
        while True:
            began_s = self._clock.monotonic()
            try:
                await device.session.run()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                name, now_s = device.options.name, self._clock.monotonic()
                crashes = 1 if now_s - began_s > CRASH_PAUSE_S[-1] else crashes + 1
                pause_s = CRASH_PAUSE_S[min(crashes, len(CRASH_PAUSE_S)) - 1]
                log.exception("session %s ended by an error that is ours; it starts again in %.0f s", name, pause_s)
                self._bus.publish(Event(
                    self._clock.wall_us(), name, EventKind.AGENT, "session-crashed", type(error).__name__,
                    f"the session ended by an unexpected error and is started again: {error}", Severity.CRITICAL,
                ))  # fmt: skip
                await asyncio.sleep(pause_s)

    async def stop(self) -> None:
        """End all sessions; each may finish or abandon its exchange within two seconds."""
        tasks = [device.task for device in self._devices.values() if device.task is not None]
        for task in tasks:
            task.cancel()
        tasks += self._ending
        if tasks:
            await asyncio.wait(tasks, timeout=2.5)
        if self._orders:
            await asyncio.wait(self._orders, timeout=1.0)

    # -- up

    def report(self, seen: Observation) -> None:
        """Take one observation in: state, events, bus. Called by sessions on the loop."""
        old = self._states.get(seen.device)
        if old is None:
            return
        try:
            state, events = assess(old, seen)
        except Exception as error:
            log.exception("assessing %r failed", seen)
            events = (Event(
                self._clock.wall_us(), seen.device, EventKind.AGENT, "assess-failed", type(error).__name__,
                f"an observation could not be assessed, the state stands still: {error}", Severity.CRITICAL,
            ),)  # fmt: skip
        else:
            self._states[seen.device] = state
        self._bus.publish(seen)
        for event in events:
            self._bus.publish(event)
            if event.name == "on-battery" and event.phase is Phase.BEGIN:
                self._sweep(seen.device)
        if type(seen) is IdentityLearned:
            self._store.save_identity(seen.device, seen.port, seen.identity)

    def phase_s(self, cohort: int) -> float:
        """Where on the monotonic clock a cohort's ticks lie."""
        return self._origin_s + cohort * SLOT_S

    def tick(self, cohort: int, cohorts: int) -> None:
        """Wake the sessions of one cohort, those whose interval is no whole number of ticks, and those that race."""
        now_s = self._clock.monotonic()
        members = self._cohorts.get((cohort, cohorts))
        if members is None:
            members = self._cohorts[cohort, cohorts] = tuple(
                device.session for device in self._devices.values() if device.slot % cohorts == cohort or device.every_tick
            )
        for session in members:
            if session.due_s <= now_s + EARLY_S:
                session.wake(now_s)
        if self._racing:
            self._racing = [session for session in self._racing if session.racing_until_s > now_s]
            for session in self._racing:
                session.wake(now_s)

    def _sweep(self, first: str) -> None:
        """Mains fail to racks, not to single units: ask every UPS at once but the one that told."""
        now_s = self._clock.monotonic()
        if now_s - self._swept_s < SWEEP_PAUSE_S:
            return
        self._swept_s = now_s
        for name, device in self._devices.items():
            if name != first:
                device.session.hurry(now_s)

    def tell(self, ups: str, variables: Mapping[str, str]) -> None:
        """Publish variables that the agent itself knows of a UPS, beside those it reads; nothing for a UPS that is not there."""
        state = self._states.get(ups)
        if state is not None:
            self._states[ups] = replace(state, told={**state.told, **variables})

    # -- down

    def expect_test(self, ups: str, for_s: float) -> None:
        """A battery test of a UPS may run for so long from now: polled as fast as its line allows, and an excuse no longer."""
        device = self._device(ups)
        until_s = self._clock.monotonic() + for_s
        device.session.race(until_s)
        if device.session not in self._racing:
            self._racing.append(device.session)
        self._states[ups] = replace(self._states[ups], test_until_s=until_s)

    async def perform(
        self, ups: str, name: str, value: str | None, *, actor: str, delays: Mapping[str, float] = {}, must: bool = False
    ) -> OrderResult:
        """Carry out an instant command once, audited: intent committed before it is sent, outcome after.

        ``delays`` (``ups.delay.shutdown``, ``ups.delay.start``) stand for this command in the place of what is set. ``must``: a
        step of an armed shutdown, which is sent with its record in memory where none was taken within :data:`MUST_RECORD_S`.
        What can't be sent comes back as ``unsupported`` or ``rejected`` with the reason; it is audited too. The caller going away
        does not stop an order that has begun. Raises OrderNotSupported only for a UPS that is not configured.
        """
        device = self._device(ups)
        task = asyncio.create_task(self._perform(device, name, value, actor, delays, must), name=f"order {ups} {name}")
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return await asyncio.shield(task)

    async def _perform(
        self, device: Device, name: str, value: str | None, actor: str, delays: Mapping[str, float], must: bool
    ) -> OrderResult:
        ups = device.options.name
        try:
            prepared = device.session.prepare(name, value, delays)
        except (OrderNotSupported, OrderInvalid) as error:
            outcome = Outcome.UNSUPPORTED if isinstance(error, OrderNotSupported) else Outcome.REJECTED
            result = OrderResult(ups, name, value, outcome, text=f"{error}; nothing was sent")
            order_id = await self._intend(ups, name, value, "", actor, must=must)
        else:
            sent = prepared.request.decode("latin-1")
            order_id = await self._intend(ups, prepared.order.name, prepared.value, sent, actor, must=must)
            if order_id is None:
                result = OrderResult(ups, name, value, Outcome.REJECTED, text=f"{NO_RECORD}; nothing was sent")
            else:
                result = await device.session.perform(prepared)
        return await self._close(order_id, EventKind.COMMAND, result, actor, must=must)

    async def set(self, ups: str, variable: str, value: str, *, actor: str) -> OrderResult:
        """Change a writable variable, audited as an order is. Raises OrderNotSupported only for a UPS that is not configured."""
        device = self._device(ups)
        task = asyncio.create_task(self._set(device, variable, value, actor), name=f"set {ups} {variable}")
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)
        return await asyncio.shield(task)

    async def _set(self, device: Device, variable: str, value: str, actor: str) -> OrderResult:
        ups = device.options.name
        try:
            change = device.session.prepare_setting(variable, value)
        except (OrderNotSupported, OrderInvalid) as error:
            outcome = Outcome.UNSUPPORTED if isinstance(error, OrderNotSupported) else Outcome.REJECTED
            result = OrderResult(ups, variable, value, outcome, text=f"{error}; nothing was sent")
            order_id = await self._intend(ups, variable, value, "", actor)
        else:
            order_id = await self._intend(ups, change.name, change.value, change.request.decode("latin-1"), actor)
            if order_id is None:
                result = OrderResult(ups, variable, value, Outcome.REJECTED, text=f"{NO_RECORD}; nothing was changed")
            else:
                result = await device.session.apply(change)
        return await self._close(order_id, EventKind.SETTING, result, actor)

    async def _intend(
        self, ups: str, name: str, value: str | None, sent: str, actor: str, *, must: bool = False
    ) -> int | None:
        """Write an order down before it is sent: its number. None: no record of it was taken, so it must not be sent."""
        number = self._store.new_key("order_log")
        writing = asyncio.ensure_future(self._store.order_intent(ups, name, value, sent, actor, number=number))
        try:
            await asyncio.wait({writing}, timeout=self._patience_s(must))
        except asyncio.CancelledError:
            writing.cancel()
            raise
        if writing.done():
            writing.result()
        elif must:
            self._write_late(writing)
        else:
            writing.cancel()
            await asyncio.wait({writing})
            return None
        return number

    async def _close(
        self, order_id: int | None, kind: EventKind, result: OrderResult, actor: str, *, must: bool = False
    ) -> OrderResult:
        """Write down what became of an order and tell it; the result for whoever gave it."""
        state = self._states.get(result.ups)
        if state is not None:
            self._states[result.ups] = assess(state, result)[0]
        event = order_event(self._clock.wall_us(), kind, result, actor)
        if order_id is not None:
            writing = asyncio.ensure_future(self._store.order_outcome(order_id, result, event))
            await asyncio.wait({writing}, timeout=self._patience_s(must))
            if writing.done():
                writing.result()
            else:
                self._write_late(writing)
                result = replace(result, text="; ".join(filter(None, (result.text, NOT_STORED))))
        self._bus.publish(event)
        return result

    def _patience_s(self, must: bool) -> float:
        return self._store.patience_s(MUST_RECORD_S) if must else RECORD_S

    def _write_late(self, writing: asyncio.Future[Any]) -> None:
        self._unwritten.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[Any]) -> None:
        self._unwritten.discard(writing)
        if not writing.cancelled() and (error := writing.exception()) is not None:
            log.error("a record of an order was not stored: %s", error)


def order_event(wall_us: int, kind: EventKind, result: OrderResult, actor: str) -> Event:
    """The audit trail's event of a finished order."""
    parts = [f"by {actor}"]
    if result.value is not None:
        parts.append(f"value {result.value}")
    if result.sent:
        parts.append(f"sent {result.sent!r}")
    if result.reply is not None:
        parts.append(f"reply {result.reply!r}")
    if result.text:
        parts.append(result.text)
    good = result.outcome is Outcome.ACCEPTED
    return Event(
        wall_us, result.ups, kind, result.name, result.outcome.value, ", ".join(parts),
        Severity.INFO if good else Severity.WARNING,
    )  # fmt: skip
