"""The life of one device's link: open, recognise, poll, carry out orders, back off, come back.

Sources: engine.md sections 4 to 6 (what the incumbent does and where it fails), quirks.md "Framing" and "Parser rules in
short". One coroutine owns the device; nobody else touches the transport.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import DeviceSetting, Dialect, Order, Query, Setting, Tier, Topic
from qxfleet.errors import (
    DialectUnknown,
    LinkError,
    LinkLost,
    LinkUnavailable,
    OrderInvalid,
    OrderNotSupported,
    ReplyError,
    ReplyMalformed,
    ReplyRefused,
    ReplyTimeout,
)  # fmt: skip
from qxfleet.model.battery import RuntimeTable
from qxfleet.model.clock import Clock
from qxfleet.model.events import (
    EventKind,
    IdentityLearned,
    Link,
    LinkChange,
    Observation,
    OrderResult,
    Outcome,
    Remark,
    SettingInfo,
    Severity,
    Trouble,
)  # fmt: skip
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Reading, Value
from qxfleet.model.wire import FIRST_REPLY_S, REPLY_S, Answer, Ask, sort_answer
from qxfleet.session import orders
from qxfleet.session.asking import Agenda
from qxfleet.session.detect import Evidence, detect, skipped_topics
from qxfleet.session.plans import is_sealed, read, unsealed
from qxfleet.session.readout import Readout, sift
from qxfleet.session.settings import Change, capabilities, prepare_change, setting_info
from qxfleet.transports.base import Transport

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HOPELESS_S = 60.0
"""Wait after "no permission" and "no such dialect", where haste can't help."""

STALE_AFTER = 2
"""Polls in a row without a good status; each asks twice (quirks.md: three bad frames in a row, not one, cost the link)."""

REOPEN_AFTER_S = 30.0
"""A stale link is closed and opened again after this long."""

SLOW_REPLY_S = 2.5
"""Deadline for a device that was caught answering late (NUT issue 3282: over a second)."""

CONFIRM_S = 5.0
"""How long later readings may confirm an order; status bits show within two polls (megatec-family.md section 10.6)."""

EARLY_S = 0.010
"""A poll may leave so much before its point; that point is then not taken again."""

RACE_S = 0.25
"""Pace while a battery test is watched: one status exchange takes 0.21 s at 2400 baud (megatec-family.md section 2)."""

LATENESS_STEP_S = 0.001
"""Width of a bucket of :attr:`Session.lateness`."""


READ_BACK_S = 1.0
"""Pause before a setting that reads as before is read a second time."""


@dataclass(slots=True)
class _Job:
    prepared: orders.Prepared | Change
    done: asyncio.Future[OrderResult]


class Session:
    """Keeps one device talking and reports what it says.

    ``report`` is called on the loop with every observation, in order. Polls fall on the grid ``phase_s`` + k × interval of the
    monotonic clock, so that ticks can be shared. ``identity`` is what the store knows of the device from
    before; with it a restart asks two questions instead of twenty. ``lateness`` counts polls by how late their request left,
    in milliseconds; the last bucket holds the rest. It may be shared between sessions.
    """

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
        self.options = options
        self.transport = transport
        self.identity = identity
        self.lateness = lateness if lateness is not None else [0] * 1001
        self.missed_polls = 0
        self.polls = 0
        self.phase_s = phase_s
        self.racing_until_s = -math.inf
        self._report = report
        self._clock = clock
        self._pause = pause
        self._skip = skipped_topics(norating=options.norating, novendor=options.novendor, testing=options.testing)
        self._readout: Readout | None = None
        self._kept: dict[str, float] = {}
        self._runtimes: RuntimeTable | None = None
        self._agenda: Agenda | None = None
        self._quick: tuple[tuple[Query, Ask], ...] = ()
        self._jobs: deque[_Job] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._due_s = math.inf
        self._busy = False
        self._start = getattr(transport, "start", None)
        self._flying = False
        self._steady_until_s = -math.inf
        self._failed: Exception | None = None
        self._urgent_until_s = -math.inf
        self._misses = 0
        self._link = Link.DETECTING
        self._reason = ""
        self._slow = False
        self._sealed = False
        self._wishes: deque[str] = deque()
        self._wished = False
        self._reset = False
        self._capable = ""
        self._suspect: Query | None = None
        self._lost: LinkError | None = None
        self._last: Reading | None = None
        self._path = ""

    # -- what the agent calls

    def wake(self, now_s: float) -> bool:
        """A tick: poll if it is time. False if the last cycle is not finished; a slot that passes meanwhile is counted."""
        if self._busy:
            return False
        if now_s >= self._due_s - EARLY_S and not self._start_poll(now_s):
            self._kick()
        return True

    def hurry(self, now_s: float) -> None:
        """Poll now if idle: another UPS of the fleet lost mains."""
        if not self._busy and self._link is Link.ONLINE and self._waiter is not None:
            self._due_s = now_s
            if not self._start_poll(now_s):
                self._kick()

    def urgent(self, until_s: float) -> None:
        """Keep the urgent pace until then, whatever the status says."""
        self._urgent_until_s = max(self._urgent_until_s, until_s)

    def race(self, until_s: float) -> None:
        """Poll as fast as the line allows until then: a battery test is to be watched."""
        self.racing_until_s = until_s
        self._due_s = min(self._due_s, self._clock.monotonic() + RACE_S)

    @property
    def dialect(self) -> Dialect | None:
        """The dialect recognised in this contact."""
        return self._readout.dialect if self._readout else None

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
            name = "shutdown.stayoff" if self.options.stayoff else "shutdown.return"
        instead = {
            variable: float(prepare_change(readout.dialect, variable, f"{seconds:g}", readout.known).wanted)
            for variable, seconds in delays.items()
        }
        return orders.prepare(readout.dialect, name, value, {**readout.settings, **instead}, readout.known)

    async def perform(self, prepared: orders.Prepared) -> OrderResult:
        """Send a prepared order once and say what became of it. Never repeats it, whatever happens."""
        return await self._queue(prepared, prepared.order.name)

    async def _queue(self, prepared: orders.Prepared | Change, name: str) -> OrderResult:
        if self._link in (Link.LOST, Link.DETECTING):
            return OrderResult(
                self.options.name, name, prepared.value, Outcome.NO_ANSWER,
                text=f"no contact ({self._link.value}): nothing was sent",
            )  # fmt: skip
        job = _Job(prepared, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._kick()
        return await job.done

    def orders(self) -> tuple[Order, ...]:
        """Instant commands that the device offers, as far as it has told."""
        readout = self._require()
        known = readout.known
        return tuple(order for order in readout.dialect.orders if orders.offered(order, known))

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
            known = dialect_named(self.identity.dialect if self.identity else self.options.dialect)
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
                    self._busy, self._due_s = False, math.inf
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
        if hasattr(self.transport, "on_healed"):
            self.transport.on_healed = self._on_healed
        info = await self.transport.open()
        if hasattr(self.transport, "on_lost"):
            self.transport.on_lost = self._on_lost
        readout, agenda = await self._recognise()
        readout.learn(info.facts)
        self._readout, self._agenda = self._with_kept(readout), agenda
        self._quick = tuple((query, Ask(query.command)) for query in readout.dialect.tier(Tier.QUICK))
        self._misses = 0
        self._slow = False
        self._wishes = deque(self._wanted(readout.dialect))
        self._wished = False
        self._flying, self._failed = False, None
        self._remember(info.path)
        self._due_s = self._clock.monotonic()
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

    async def _work(self) -> None:
        """One round: orders first, then the status, then one other query; else wait to be woken."""
        now_s = self._clock.monotonic()
        if self._failed is not None:
            error, self._failed = self._failed, None
            if not isinstance(error, ReplyError):
                raise error
            await self._poll(error)
            self._next_due()
        elif self._jobs:
            await self._carry_out(self._jobs.popleft())
        elif now_s >= self._due_s - EARLY_S:
            self._note_lateness(now_s)
            await self._poll()
            self._next_due()
        elif self._agenda is not None and now_s >= self._agenda.next_s and self._misses == 0:
            query = self._agenda.take(now_s)
            if query is not None:
                await self._ask_more(query)
        elif not self._wished and self._misses == 0 and self._agenda is not None and self._agenda.settled:
            await self._grant()
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

    def _note_lateness(self, now_s: float) -> None:
        self.lateness[min(int(max(0.0, now_s - self._due_s) / LATENESS_STEP_S), len(self.lateness) - 1)] += 1

    def _next_due(self) -> None:
        """The next point of this session's grid; points that passed while it was busy are counted as missed."""
        now_s = self._clock.monotonic()
        interval_s = self._interval_s(now_s)
        expected_s = self._due_s + interval_s
        points = math.floor((now_s + EARLY_S - self.phase_s) / interval_s) + 1
        self._due_s = self.phase_s + points * interval_s
        if self._due_s > expected_s + interval_s / 2 and now_s >= self.racing_until_s:
            self.missed_polls += round((self._due_s - expected_s) / interval_s)

    def _interval_s(self, now_s: float) -> float:
        last = self._last
        if now_s < self.racing_until_s:
            return min(RACE_S, self.options.poll_interval_s)
        if now_s < self._urgent_until_s or (last is not None and last.status & _URGENT):
            return self.options.urgent_interval_s
        return self.options.poll_interval_s

    def _kick(self) -> None:
        if self._waiter is not None and not self._waiter.done() and not self._flying:
            self._steady_until_s = -math.inf
            self._waiter.set_result(None)

    def _on_lost(self, error: LinkError) -> None:
        self._lost = error
        self._kick()

    def _on_healed(self, remedy: str, count: int, text: str) -> None:
        """A link mended itself: told, and counted by the link."""
        if text:
            severity = Severity.WARNING if remedy == "resets" else Severity.INFO
            self._report(
                Remark(self.options.name, self._clock.wall_us(), self._clock.monotonic(), f"usb-{remedy}", str(count), text,
                       severity, EventKind.LINK)
            )  # fmt: skip

    def _change(self, link: Link, reason: str) -> None:
        if link is self._link and (link is not Link.LOST or reason == self._reason):
            return
        self._link, self._reason = link, reason
        self._report(LinkChange(self.options.name, self._clock.wall_us(), self._clock.monotonic(), link, reason))

    def _trouble(self, error: ReplyError) -> None:
        self._report(
            Trouble(
                self.options.name, self._clock.wall_us(), self._clock.monotonic(),
                f"{type(error).__name__}: {error.reason}", error.frame,
            )
        )  # fmt: skip

    # -- recognising

    async def _recognise(self) -> tuple[Readout, Agenda]:
        """The device's dialect and facts: from the store and two questions, from the configuration, or by detection."""
        known = self.identity
        named = dialect_named(self.options.dialect) if self.options.dialect != "auto" else None
        if known is not None and (named is None or named.name == known.dialect):
            dialect = dialect_named(known.dialect)
            if dialect is not None and await self._still(dialect, known):
                readout = Readout(self.options, dialect, known.packs)
                readout.learn(dict(known.facts))
                agenda = self._new_agenda(dialect, known.refused)
                for query in dialect.tier(Tier.ONCE):
                    if agenda.has(query) and _told(dialect, query, known):
                        agenda.answered(query, dict(known.facts), self._clock.monotonic())
                return readout, agenda
        if named is not None:
            await self._first_status(named)
            self.identity = None
            return Readout(self.options, named), self._new_agenda(named, frozenset())
        dialect, evidence = await detect(self.transport.exchange, self.options.port, skip=self._skip)
        self._sealed = evidence.sealed
        readout = Readout(self.options, dialect)
        agenda = self._new_agenda(dialect, frozenset())
        self._take_evidence(evidence, readout, agenda)
        self.identity = Identity(dialect.name, dict(readout.facts), evidence=evidence.rows())
        return readout, agenda

    def _new_agenda(self, dialect: Dialect, refused: frozenset[str]) -> Agenda:
        return Agenda(dialect, self._skip, self.options.full_interval_s, refused)

    def _take_evidence(self, evidence: Evidence, readout: Readout, agenda: Agenda) -> None:
        now_s = self._clock.monotonic()
        for query in readout.dialect.queries:
            values = evidence.values.get(query.command)
            if values is not None and agenda.has(query):
                readout.take(query, values)
                agenda.answered(query, values, now_s)
        agenda.review(readout.known)

    async def _first_status(self, dialect: Dialect) -> None:
        """The device answers its status query, or the contact ends here."""
        query = dialect.tier(Tier.QUICK)[0]
        error: ReplyError | None = None
        for deadline_s in (FIRST_REPLY_S, 1.0, 1.0):
            try:
                values = self._read(query, await self.transport.exchange(Ask(query.command, deadline_s)))
                sift(query, values)
            except ReplyError as trouble:
                error = trouble
                self._trouble(trouble)
                if not isinstance(trouble, ReplyTimeout):
                    await self.transport.drain()
            else:
                return
        raise LinkLost(
            self.options.port, f"no usable answer to {query.command.decode().strip()} in the dialect {dialect.name}: {error}",
            "check the cable, cablepower and the dialect; `qxfleet discover` shows what the device answers",
        )  # fmt: skip

    async def _still(self, dialect: Dialect, known: Identity) -> bool:
        """Two questions: does the device the store knows answer as before?"""
        quick = dialect.tier(Tier.QUICK)[0]
        try:
            values = self._read(quick, await self.transport.exchange(Ask(quick.command, FIRST_REPLY_S)))
            sift(quick, values)
            for query in reversed(dialect.tier(Tier.ONCE)):
                if query.topic in self._skip or not _told(dialect, query, known):
                    continue
                told = self._read(query, await self.transport.exchange(Ask(query.command)))
                names = own_facts(dialect, query)
                return all(known.facts.get(name) == value for name, value in told.items() if name in names)
        except ReplyError as error:
            self._trouble(error)
            await self.transport.drain()
            return False
        return True

    def _remember(self, path: str) -> None:
        """Report who the device is, as far as known now."""
        if self._readout is None or self._agenda is None:
            return
        evidence = self.identity.evidence if self.identity else ()
        identity = Identity(
            self._readout.dialect.name, dict(self._readout.facts), frozenset(self._agenda.refused), self._readout.packs, evidence
        )
        if identity != self.identity or path:
            self.identity = identity
            self._path = path or self._path
            self._report(
                IdentityLearned(self.options.name, self._clock.wall_us(), self._clock.monotonic(), identity, self._path)
            )

    # -- polling

    def _start_poll(self, now_s: float) -> bool:
        """Ask for the status without waking the coroutine, which sleeps on until something is not as always. False: wake it."""
        if now_s >= self._steady_until_s:
            return False
        assert self._start is not None
        self._busy = self._flying = True
        if not self._start(self._quick[0][1], self._polled):
            self._busy = self._flying = False
            return False
        self._note_lateness(now_s)
        return True

    def _steady_s(self) -> float:
        """Until when nothing but the one status query is to be expected of this device."""
        agenda, readout = self._agenda, self._readout
        if (
            self._start is None or self._misses or self._link is not Link.ONLINE or len(self._quick) != 1 or not self._wished
            or agenda is None or readout is None or readout.watching
        ):  # fmt: skip
            return -math.inf
        return agenda.next_s

    def _polled(self, answer: bytes | BaseException) -> None:
        """The end of a poll begun so. Whatever went wrong is for the coroutine."""
        readout = self._readout
        assert readout is not None
        self._busy = self._flying = False
        try:
            if not isinstance(answer, bytes):
                raise answer
            packs = readout.packs
            clock = self._clock
            reading = None if self._sealed else readout.quick(answer, clock.wall_us(), clock.monotonic())
            if reading is None:
                live = self._read(self._quick[0][0], answer)
                reading = readout.reading(live, clock.wall_us(), clock.monotonic())
            self._took(reading, packs)
            self._next_due()
        except Exception as error:  # noqa: BLE001 - handed over: the coroutine repeats the question, or raises it
            self._failed = error
        if self._failed is not None or self._jobs or self._lost is not None:
            self._kick()

    def _took(self, reading: Reading, packs: float | None) -> None:
        """A poll went well; ``packs`` is what was known of them before it."""
        assert self._readout is not None
        self._last = reading
        self._misses = 0
        self.polls += 1
        self._suspect = None
        if self._link is not Link.ONLINE:
            self._change(Link.ONLINE, f"answers as {self._readout.dialect.name}")
        self._report(reading)
        if self._readout.packs is not packs:
            self._remember("")

    async def _poll(self, failed: ReplyError | None = None) -> Reading | None:
        """One status cycle: a reading, or a miss. A bad reply is drained and the question repeated once.

        ``failed``: the first time was begun without the coroutine, and ended like this.
        """
        readout = self._readout
        assert readout is not None
        packs = readout.packs
        for attempt in (1, 2):
            try:
                if failed is not None and attempt == 1:
                    raise failed
                live: dict[str, Value | bool] = {}
                for query, ask in self._quick:
                    live.update(self._read(query, await self.transport.exchange(ask)))
                changed = bool(readout.watching) and await self._ask_outdated(live)
                reading = readout.reading(live, self._clock.wall_us(), self._clock.monotonic())
            except ReplyError as error:
                self._trouble(error)
                if attempt == 1:
                    await self._recover(error)
            else:
                self._took(reading, packs)
                if changed and self._agenda is not None:
                    self._agenda.hurry()
                    self._review()
                return reading
        self._misses += 1
        if self._suspect is not None and self._agenda is not None:
            self._agenda.give_up(self._suspect)
            self._suspect = None
        if self._misses >= STALE_AFTER:
            self._change(Link.STALE, f"{self._misses} polls in a row without a usable status")
        return None

    async def _recover(self, error: ReplyError) -> None:
        """Make the line fit for a second try; a reply that comes only now teaches patience with this device."""
        if isinstance(error, ReplyTimeout) and not error.frame and not self._slow:
            self._slow = await self.transport.drain(SLOW_REPLY_S - REPLY_S) > 0
            if self._slow:
                self._quick = tuple((query, Ask(query.command, SLOW_REPLY_S)) for query, _ in self._quick)
        else:
            await self.transport.drain()

    def _read(self, query: Query, frame: bytes) -> dict[str, Value | bool]:
        """Values of a reply to ``query``. Raises a ReplyError that names what came instead."""
        if query.sealed and is_sealed(query, frame):
            self._sealed = True
        if self._sealed:
            frame = unsealed(frame)
        try:
            return read(query, frame)
        except ReplyMalformed:
            kind = sort_answer(query.command, frame)
            if kind is Answer.ECHO:
                raise ReplyRefused("echo", frame) from None
            if kind is Answer.REFUSED:
                raise ReplyRefused("nak", frame) from None
            if kind is Answer.SILENCE:
                raise ReplyTimeout("silence", frame) from None
            raise

    async def _ask_outdated(self, live: Mapping[str, Value | bool]) -> bool:
        """Ask at once what belongs to status bits that changed; True if they did."""
        readout, agenda = self._readout, self._agenda
        assert readout is not None and agenda is not None
        changed = readout.changed(live)
        for query in readout.outdated(live):
            if agenda.may_ask(query, self._clock.monotonic()):
                await self._ask_more(query, live)
        return changed

    def _review(self) -> None:
        """Open and close questions by what is known now."""
        assert self._agenda is not None and self._readout is not None
        for query in self._agenda.review(self._readout.known):
            self._readout.forget(query)

    async def _ask_more(self, query: Query, beside: Mapping[str, Value | bool] | None = None) -> None:
        """One question that is not the status: its answer becomes facts, its refusal is learned.

        ``beside``: the status it belongs to, where that is newer than the last reading.
        """
        agenda, readout = self._agenda, self._readout
        assert agenda is not None and readout is not None
        now_s = self._clock.monotonic()
        try:
            values = self._read(query, await self.transport.exchange(Ask(query.command)))
            notes = sift(query, values)
        except ReplyRefused as error:
            self._trouble(error)
            if agenda.refuse(query, now_s):
                readout.forget(query)
                self._remember("")
        except ReplyError as error:
            self._trouble(error)
            self._suspect = query if isinstance(error, ReplyTimeout) else None
            if agenda.silent(query, now_s):
                readout.forget(query)
            await self.transport.drain()
        else:
            for note in notes:
                self._report(Trouble(self.options.name, self._clock.wall_us(), now_s, f"ReplyImplausible: {note}"))
            before = readout.facts
            agenda.answered(query, values, now_s, changed=readout.take(query, values, beside))
            self._review()
            if before != readout.facts:
                self._remember("")

    # -- orders

    async def _carry_out(self, job: _Job) -> None:
        """Send one order once, and end it with an outcome whatever happens to the link meanwhile."""
        prepared, readout = job.prepared, self._readout
        assert readout is not None
        if isinstance(prepared, Change):
            await self._carry_change(job, prepared, readout)
            return
        request = prepared.request
        outcome: Outcome | None = None
        reply: str | None = None
        text = "contact was lost before its effect could be seen"
        try:
            before = self._signs()
            outcome, frame = await self._send_order(request, readout.dialect)
            reply = None if frame is None else frame.decode("latin-1")
            text = ""
            if outcome is None:
                text = "contact was lost before its effect could be seen"
                outcome, text = await self._watch(prepared.order, before)
            elif outcome is Outcome.ACCEPTED and prepared.order.effects:
                seen, text = await self._watch(prepared.order, before)
                text = text if seen is Outcome.ACCEPTED else f"acknowledged; {text}"
        finally:
            self._finish(job, OrderResult(
                self.options.name, prepared.order.name, prepared.value,
                outcome or orders.without_evidence(readout.dialect), reply, request.decode("latin-1"), text,
            ))  # fmt: skip
        if outcome is Outcome.ACCEPTED and self._agenda is not None:
            self._agenda.renew()
        now_s = self._clock.monotonic()
        self.urgent(now_s + CONFIRM_S)
        self._due_s = min(self._due_s, now_s + self.options.urgent_interval_s)

    async def _send_order(self, request: bytes, dialect: Dialect) -> tuple[Outcome | None, bytes | None]:
        """What the device's own word says of an order: an outcome, or None where only readings can tell; and the word."""
        try:
            frame = await self.transport.exchange(Ask(request))
        except ReplyTimeout as silence:
            return orders.judge(dialect, request, silence.frame or None), silence.frame or None
        except ReplyRefused as refusal:
            return Outcome.REJECTED, refusal.frame or None
        except ReplyError as error:
            await self.transport.drain()
            return None, error.frame or None
        if self._is_status(frame):
            return None, None  # an answer to an earlier question says nothing about the order
        return orders.judge(dialect, request, frame), frame

    def _is_status(self, frame: bytes) -> bool:
        for query, _ in self._quick:
            with contextlib.suppress(ReplyError):
                return bool(read(query, frame))
        return False

    def _signs(self) -> dict[str, Value | bool]:
        """What readings can show of an order's effect."""
        assert self._readout is not None
        return {**(self._last.values if self._last else {}), **self._readout.known}

    async def _watch(self, order: Order, before: dict[str, Value | bool]) -> tuple[Outcome | None, str]:
        """Poll until a reading shows the order's effect; orders that came meanwhile wait."""
        if not order.effects:
            return None, "no reading can show its effect"
        began_s = self._clock.monotonic()
        settled = [effect.name for effect in order.effects if before.get(effect.name) is effect.becomes]
        while self._clock.monotonic() - began_s < CONFIRM_S:
            reading = await self._poll()
            if reading is not None:
                now = self._signs()
                shown = next((effect for effect in order.effects if orders.seen(effect, before, now)), None)
                if shown is not None:
                    return Outcome.ACCEPTED, f"seen in {shown.name}"
            if self._lost is not None:
                return None, "contact was lost before its effect could be seen"
            if self._jobs:
                return None, "the next order came before its effect could be seen"
            await self._pause(0.5)
        if settled:
            return None, f"{settled[0]} was already so before: nothing can confirm it"
        return None, f"no effect seen within {CONFIRM_S:.0f} s"

    # -- settings

    async def _carry_change(self, job: _Job, change: Change, readout: Readout) -> None:
        """Send a setting once, read it back, and end it with what the device then says."""
        assert isinstance(change.setting, DeviceSetting) and self._agenda is not None
        outcome: Outcome | None = None
        reply: str | None = None
        text = "contact was lost before it could be read back"
        try:
            outcome, frame = await self._send_order(change.request, readout.dialect)
            reply = None if frame is None else frame.decode("latin-1")
            outcome, text = await self._read_back(change, outcome)
        finally:
            self._finish(job, OrderResult(
                self.options.name, change.name, change.value, outcome or orders.without_evidence(readout.dialect), reply,
                change.request.decode("latin-1"), text,
            ))  # fmt: skip
        if not self._wishes:
            self._agenda.renew()

    async def _read_back(self, change: Change, word: Outcome | None) -> tuple[Outcome | None, str]:
        """What the device's word and its own reading of the setting mean together."""
        assert isinstance(change.setting, DeviceSetting) and self._readout is not None
        query = self._readout.dialect.query(change.setting.read_back) if change.setting.read_back else None
        if query is None:
            return word, change.note
        for attempt in (1, 2):
            await self._ask_more(query)
            stands = self._readout.known.get(change.name)
            if stands == change.wanted or word in (Outcome.REJECTED, Outcome.UNSUPPORTED):
                break
            if attempt == 1:
                await self._pause(READ_BACK_S)
        if stands == change.wanted:
            return Outcome.ACCEPTED, f"reads {stands}" + (f"; {change.note}" if change.note else "")
        if word is Outcome.ACCEPTED:
            return Outcome.UNCONFIRMED, f"acknowledged, but the device still says {stands}"
        return word, f"the device says {stands}"

    def _wanted(self, dialect: Dialect) -> list[str]:
        """Options asked for by the configuration, in the order of the table: the reset first, because it undoes others."""
        asked = self.options.device_settings
        known = [setting.option or setting.name for setting in dialect.device_settings]
        for name in asked:
            if dialect.device_setting(name) is None:
                self._remark(name, "unsupported", f"{name}: the dialect {dialect.name} has no such setting", Severity.WARNING)
        return [name for setting, option in zip(dialect.device_settings, known, strict=True)
                for name in asked if name in (setting.name, option)]  # fmt: skip

    async def _grant(self) -> None:
        """Apply the next setting the configuration asks for, where the device stands otherwise; then tell what it can do."""
        assert self._readout is not None and self._agenda is not None
        if self._wishes:
            name = self._wishes.popleft()
            await self._grant_one(name, self.options.device_settings[name])
            if not self._wishes:
                self._agenda.renew()
            return
        self._wished = True
        dialect = self._readout.dialect
        text = capabilities(dialect, self._readout.known) if dialect.device_settings else ""
        if text != self._capable:
            self._capable = text
            self._remark("capabilities", "", text)

    async def _grant_one(self, name: str, value: str) -> None:
        assert self._readout is not None and self._agenda is not None
        setting = self._readout.dialect.device_setting(name)
        once = setting is not None and setting.read_back is None
        if once and self._reset:
            return
        try:
            change = self.prepare_setting(name, value)
        except (OrderNotSupported, OrderInvalid) as error:
            known = isinstance(error, OrderInvalid)
            self._remark(name, "rejected" if known else "unsupported", f"{error}; nothing was sent", Severity.WARNING)
            return
        if not change.request:
            return
        job = _Job(change, asyncio.get_running_loop().create_future())
        await self._carry_out(job)
        result = job.done.result()
        if once:
            self._reset = True
            self._agenda.renew()
        self._remark(
            change.name, result.outcome.value,
            f"the configuration asks for {change.value}: sent {result.sent!r}, reply {result.reply!r}, {result.text}",
            Severity.INFO if result.outcome is Outcome.ACCEPTED else Severity.WARNING,
        )  # fmt: skip

    def _remark(self, name: str, value: str, text: str, severity: Severity = Severity.INFO) -> None:
        self._report(
            Remark(self.options.name, self._clock.wall_us(), self._clock.monotonic(), name, value, text, severity)
        )

    def _finish(self, job: _Job, result: OrderResult) -> None:
        if not job.done.done():
            job.done.set_result(result)

    def _drop_jobs(self, why: str) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            self._finish(
                job, OrderResult(
                    self.options.name, _name(job.prepared), job.prepared.value, Outcome.NO_ANSWER,
                    text=f"{why}: nothing was sent",
                ),
            )  # fmt: skip


_URGENT = 2 | 256  # OB, CAL


def _told(dialect: Dialect, query: Query, known: Identity) -> bool:
    """Whether the store's facts hold anything that this query alone gives."""
    return query.topic is not Topic.STATUS and any(name in known.facts for name in own_facts(dialect, query))


def own_facts(dialect: Dialect, query: Query) -> frozenset[str]:
    """Names of lasting values that a query gives and no query before it in the table."""
    names: set[str] = set()
    for each in dialect.queries:
        given = {field.name for reply in each.replies for field in reply.fields if not field.live and not field.wins}
        if each is query:
            return frozenset(given - names)
        names |= {field.name for reply in each.replies for field in reply.fields}
    return frozenset()


def _name(prepared: orders.Prepared | Change) -> str:
    return prepared.name if isinstance(prepared, Change) else prepared.order.name
