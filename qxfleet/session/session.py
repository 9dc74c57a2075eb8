"""The life of one device's link: open, recognise, poll, carry out orders, back off, come back.

Sources: engine.md sections 4 to 6 (what the incumbent does and where it fails), quirks.md "Framing" and "Parser rules in
short". One coroutine owns the device; nobody else touches the transport. What it asks, how it recognises the device and how it
carries out orders stand below it, in :mod:`.questions`, :mod:`.recognition` and :mod:`.errands`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import Dialect, Order, Setting, Tier
from qxfleet.errors import (
    DialectUnknown,
    LinkError,
    LinkLost,
    LinkUnavailable,
    OrderNotSupported,
    ReplyError,
)  # fmt: skip
from qxfleet.model.battery import RuntimeTable
from qxfleet.model.clock import Clock
from qxfleet.model.events import Link, Observation, OrderResult, Outcome, SettingInfo
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity
from qxfleet.session import orders
from qxfleet.session.errands import Errands, delayed
from qxfleet.session.plans import ask_of
from qxfleet.session.readout import Readout
from qxfleet.session.settings import Change, prepare_change, setting_info
from qxfleet.transports.base import Transport

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HOPELESS_S = 60.0
"""Wait after "no permission" and "no such dialect", where haste can't help."""

REOPEN_AFTER_S = 30.0
"""A stale link is closed and opened again after this long."""

EARLY_S = 0.010
"""A poll may leave so much before its point; that point is then not taken again."""

RACE_S = 0.25
"""Pace while a battery test is watched: one status exchange takes 0.21 s at 2400 baud (megatec-family.md section 2)."""

LATENESS_STEP_S = 0.001
"""Width of a bucket of :attr:`Session.lateness`."""

CALM_S = 1.0
"""Polls no more often than this may have their replies taken together."""

_URGENT = 2 | 256  # OB, CAL


class Session(Errands):
    """Keeps one device talking and reports what it says.

    ``report`` is called on the loop with every observation, in order. Polls fall on the grid ``phase_s`` + k × interval of the
    monotonic clock, so that ticks can be shared. ``identity`` is what the store knows of the device from
    before; with it a restart asks two questions instead of twenty. ``lateness`` counts polls by how late their request left,
    in milliseconds; the last bucket holds the rest. It may be shared between sessions.
    """

    __slots__ = (
        "__weakref__", "_busy", "_calm", "_failed", "_grid_s", "_hurried", "_kept", "_pace_s", "_runtimes", "_yielding",
        "lateness", "missed_polls", "phase_s", "racing_until_s",
    )  # fmt: skip

    def __init__(
        self,
        options: UpsOptions,
        transport: Transport,
        report: Callable[[Observation], None],
        clock: Clock,
        *,
        identity: Identity | None = None,
        phase_s: float = 0.0,
        lateness: list[int] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(options, transport, report, clock, identity, pause)
        self.lateness = lateness if lateness is not None else [0] * 1001
        self.missed_polls = 0
        self.phase_s = phase_s
        self.racing_until_s = -math.inf
        self._kept: dict[str, float] = {}
        self._runtimes: RuntimeTable | None = None
        self._grid_s = self._pace_s = 0.0
        self._busy = self._calm = False
        self._hurried = False
        self._yielding = False
        self._failed: Exception | None = None

    # -- what the agent calls

    def wake(self, now_s: float) -> bool:
        """A tick: poll if it is time. False if the last cycle is not finished; a slot that passes meanwhile is counted."""
        if self._busy:
            return False
        if self.due_s <= now_s + EARLY_S and not self._start_poll(now_s, calm=self._calm):
            self._kick()
        return True

    def hurry(self, now_s: float) -> None:
        """Poll now: another UPS of the fleet lost mains. In the middle of an exchange, poll right after it."""
        if self._link is not Link.ONLINE:
            return
        if self._busy:
            self._hurried = True
        elif self._waiter is not None:
            self.due_s = now_s
            if not self._start_poll(now_s, calm=False):
                self._kick()

    def race(self, until_s: float) -> None:
        """Poll as fast as the line allows until then: a battery test is to be watched."""
        self.racing_until_s = until_s
        self.due_s = min(self.due_s, self._clock.monotonic() + RACE_S)

    @property
    def dialect(self) -> Dialect | None:
        """The dialect recognised in this contact."""
        return self._readout.recognised if self._readout else None

    @property
    def settled(self) -> bool:
        """Whether all that this device can be asked was asked in this contact, and what the configuration wants was done."""
        return self._wished and self._agenda is not None and self._agenda.settled

    def prepare(self, name: str, value: str | None, delays: Mapping[str, float] = {}) -> orders.Prepared:
        """The bytes of an instant command now. Raises OrderNotSupported or OrderInvalid; sends nothing.

        ``delays`` stand for this command in the place of what is set (``ups.delay.shutdown``, ``ups.delay.start``).
        """
        readout = self._require()
        if name == "shutdown.default":
            name = self._default_shutdown
        instead: dict[str, float] = {}
        first: list[bytes] = []
        for variable, seconds in delays.items():
            instead[variable], request = delayed(readout, variable, seconds)
            first += [request] if request else []
        prepared = orders.prepare(readout.dialect, name, value, {**readout.settings, **instead}, readout.known)
        return replace(prepared, first=(*first, *prepared.first)) if first else prepared

    async def perform(self, prepared: orders.Prepared) -> OrderResult:
        """Send a prepared order once and say what became of it. Never repeats it, whatever happens."""
        return await self._queue(prepared, prepared.order.name)

    def orders(self) -> tuple[Order, ...]:
        """Instant commands that the device offers, as far as it has told."""
        readout = self._require()
        known = readout.known
        offered = tuple(order for order in readout.dialect.orders if orders.offered(order, known))
        own = next((order for order in offered if order.name == self._default_shutdown), None)
        if own is None:
            return offered
        what = f"what a shutdown of this UPS is by its options: {own.name}"
        return (*offered, replace(own, name="shutdown.default", description=what))

    @property
    def _default_shutdown(self) -> str:
        return "shutdown.stayoff" if self.options.stayoff else "shutdown.return"

    def settings(self) -> tuple[SettingInfo, ...]:
        """Writable variables with their present values, and the ranges or choices this device has."""
        readout = self._require()
        return setting_info(readout.dialect, readout.settings, readout.known)

    def prepare_setting(self, name: str, value: str) -> Change:
        """What setting a variable would send and make of it now. Raises OrderNotSupported or OrderInvalid; sends nothing."""
        readout = self._require()
        return prepare_change(readout.dialect, name, value, readout.known)

    async def apply(self, change: Change) -> OrderResult:
        """Carry out a prepared change: sent once where something is to be sent, read back, and judged by that."""
        if not change.request:
            if isinstance(change.setting, Setting) and isinstance(change.wanted, float):
                self._kept[change.name] = change.wanted
                self._require().keep_setting(change.name, change.wanted)
            return OrderResult(self.options.name, change.name, change.value, Outcome.ACCEPTED, text=change.note)
        return await self._queue(change, change.name)

    async def set(self, name: str, value: str) -> OrderResult:
        """Prepare and apply. Raises OrderNotSupported or OrderInvalid."""
        return await self.apply(self.prepare_setting(name, value))

    def learn_runtimes(self, table: RuntimeTable | None) -> None:
        """Estimate ``battery.runtime`` by a table from now on, where neither the device nor ``runtimecal`` gives one."""
        self._runtimes = table
        if self._readout is not None:
            self._readout.learn_runtimes(table)

    def _require(self) -> Readout:
        if self._readout is None:
            known = dialect_named(self.identity.dialect if self.identity else self.options.spoken)
            if known is None:
                raise OrderNotSupported(f"{self.options.name}: its dialect is not known yet, no contact so far")
            return self._with_kept(Readout(self.options, known))
        return self._readout

    def _with_kept(self, readout: Readout) -> Readout:
        """Settings that were changed since the start hold in every later contact, as far as the device's dialect allows them."""
        for setting in readout.dialect.settings:
            value = self._kept.get(setting.name)
            if value is not None and setting.low <= value <= setting.high:
                readout.keep_setting(setting.name, value)
        readout.learn_runtimes(self._runtimes)
        return readout

    # -- life of the link

    async def run(self) -> None:
        """Keep contact until cancelled; a lost link is reopened by itself, with back-off."""
        tries = 0
        try:
            while True:
                self._lost = None
                wait_s = HOPELESS_S
                try:
                    await self._contact()
                except Exception as error:
                    if not isinstance(error, (DialectUnknown, LinkError)):
                        self._change(Link.LOST, f"an error of ours: {error!r}")
                        raise
                    tries = 0 if self._link in (Link.ONLINE, Link.STALE) else tries
                    self._change(Link.LOST, str(error))
                    if not self._hopeless(error):
                        wait_s = BACK_OFF_S[min(tries, len(BACK_OFF_S) - 1)] * random.uniform(0.8, 1.2)
                finally:
                    self._busy, self.due_s = False, math.inf
                    self._drop_jobs("contact was lost before it could be sent")
                    await self.transport.close()
                tries += 1
                await self._wait_to_reopen(wait_s)
        finally:
            self._drop_jobs("the agent is stopping")
            await self.transport.close()

    async def _wait_to_reopen(self, wait_s: float) -> None:
        """Back off; a link that can tell when its device is back need not be waited for to the end."""
        if hasattr(self.transport, "wait_back"):
            await self.transport.wait_back(wait_s)
        else:
            await self._pause(wait_s)

    def _hopeless(self, error: DialectUnknown | LinkError) -> bool:
        """Whether haste can't help. A device that was recognised once and now talks nonsense may be well again soon."""
        if isinstance(error, DialectUnknown):
            return self.identity is None
        return isinstance(error, LinkUnavailable) and error.hopeless

    async def _contact(self) -> None:
        self._busy = True
        self.transport.on_healed = self._on_healed
        info = await self.transport.open()
        self.transport.on_lost = self._on_lost
        readout, agenda = await self._recognise(info.facts)
        readout.learn(info.facts)
        self._readout, self._agenda = self._with_kept(readout), agenda
        self._quick = tuple((query, ask_of(query)) for query in readout.dialect.tier(Tier.QUICK))
        self._misses = 0
        self._slow = False
        self._wishes = deque(self._wanted(readout.dialect))
        self._wished = False
        self._flying, self._failed = False, None
        self._hurried = self._yielding = False
        self._remember(info.path)
        self.due_s = self._clock.monotonic()
        stale_since_s: float | None = None
        while True:
            await self._work()
            now_s = self._clock.monotonic()
            if self._misses == 0:
                stale_since_s = None
            elif stale_since_s is None:
                stale_since_s = now_s
            elif now_s - stale_since_s > REOPEN_AFTER_S:
                raise LinkLost(self.options.port, f"no good answer for {now_s - stale_since_s:.0f} s, reopening the port")

    def _on_lost(self, error: LinkError) -> None:
        self._lost = error
        self._kick()

    async def _work(self) -> None:
        """One round: orders first, then the status, then one other query; else wait to be woken.

        After an order the others have a turn each before the next one, so that no stream of orders silences them.
        """
        now_s = self._clock.monotonic()
        if self._hurried:
            self._hurried, self.due_s = False, min(self.due_s, now_s)
        if self._failed is not None:
            error, self._failed = self._failed, None
            if not isinstance(error, ReplyError):
                raise error
            await self._poll(error)
            self._next_due(self._clock.monotonic())
        elif self._jobs and not self._yielding:
            self._yielding = True
            await self._carry_out(self._jobs.popleft())
        elif now_s >= self.due_s - EARLY_S:
            self._note_lateness(now_s)
            await self._poll()
            self._next_due(self._clock.monotonic())
        elif self._agenda is not None and now_s >= self._agenda.next_s and self._misses == 0:
            self._yielding = False
            query = self._agenda.take(now_s)
            if query is not None:
                await self._ask_more(query)
        elif not self._wished and self._misses == 0 and self._agenda is not None and self._agenda.settled:
            self._yielding = False
            await self._grant()
        elif self._jobs:
            self._yielding = False
        else:
            self._waiter = asyncio.get_running_loop().create_future()
            self._steady_until_s = self._steady_s()
            self._busy = False
            try:
                await self._waiter
            finally:
                self._waiter = None
                self._steady_until_s = -math.inf
                self._busy = True
        if self._lost is not None:
            raise self._lost

    # -- the grid

    def _note_lateness(self, now_s: float) -> None:
        late_s, counts = now_s - self.due_s, self.lateness
        counts[0 if late_s < LATENESS_STEP_S else min(int(late_s / LATENESS_STEP_S), len(counts) - 1)] += 1

    def _next_due(self, now_s: float) -> None:
        """The next point of this session's grid; points that passed while it was busy are counted as missed."""
        last, interval_s = self._last, self.options.poll_interval_s
        self._calm = interval_s >= CALM_S
        if now_s < self.racing_until_s:
            self._calm, interval_s = False, min(RACE_S, interval_s)
        elif now_s < self._urgent_until_s or (last is not None and last.status & _URGENT):
            self._calm, interval_s = False, self.options.urgent_interval_s
        expected_s = self.due_s + interval_s
        if self.due_s == self._grid_s and interval_s == self._pace_s and now_s + EARLY_S < expected_s:
            self.due_s = self._grid_s = expected_s  # as nearly always
            return
        points = math.floor((now_s + EARLY_S - self.phase_s) / interval_s) + 1
        self.due_s = self._grid_s = due_s = self.phase_s + points * interval_s
        self._pace_s = interval_s
        if due_s > expected_s + interval_s / 2 and now_s >= self.racing_until_s:
            self.missed_polls += round((due_s - expected_s) / interval_s)

    # -- a poll without the coroutine

    def _start_poll(self, now_s: float, *, calm: bool) -> bool:
        """Ask for the status without waking the coroutine, which sleeps on until something is not as always. False: wake it."""
        if now_s >= self._steady_until_s:
            return False
        self._busy = self._flying = True
        if not self.transport.start(self._quick[0][1], self._polled, calm=calm):
            self._busy = self._flying = False
            return False
        self._note_lateness(now_s)
        return True

    def _steady_s(self) -> float:
        """Until when nothing but the one status query is to be expected of this device."""
        agenda, readout = self._agenda, self._readout
        if (
            self._misses or self._link is not Link.ONLINE or len(self._quick) != 1 or not self._wished
            or agenda is None or readout is None or readout.watching
        ):  # fmt: skip
            return -math.inf
        return agenda.next_s

    def _polled(self, answer: bytes | BaseException) -> None:
        """The end of a poll begun so. Whatever went wrong is for the coroutine."""
        self._busy = self._flying = False
        readout, clock = self._readout, self._clock
        assert readout is not None
        try:
            if not isinstance(answer, bytes):
                raise answer
            packs = readout.packs
            reading = None if self._sealed else readout.quick(answer, clock.wall_us(), clock.monotonic())
            if reading is not None and packs is readout.packs:
                self._last, self._suspect = reading, None
                self.polls += 1
                self._report(reading)
            elif reading is not None:
                self._took(reading, packs)
            else:
                reading = readout.reading(self._read(self._quick[0][0], answer), clock.wall_us(), clock.monotonic())
                self._took(reading, packs)
            self._next_due(reading.mono_s)
        except Exception as error:  # noqa: BLE001 - handed over: the coroutine repeats the question, or raises it
            self._failed = error
        if self._failed is not None or self._jobs or self._lost is not None:
            self._kick()
        elif self._hurried:
            self._hurried = False
            self.hurry(self._clock.monotonic())
