"""What one device is asked, what its answers mean, and what is learned from those that don't come."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qxfleet.dialects.spec import Query
from qxfleet.errors import ReplyError, ReplyMalformed, ReplyRefused, ReplyTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.events import (
    EventKind,
    IdentityLearned,
    Link,
    LinkChange,
    Observation,
    Remark,
    Severity,
    Trouble,
)  # fmt: skip
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Reading, Value
from qxfleet.model.wire import REPLY_S, Answer, Ask, sort_answer
from qxfleet.session.asking import Agenda
from qxfleet.session.plans import ask_of, filled, is_sealed, read, unsealed
from qxfleet.session.readout import Readout, sift
from qxfleet.transports.base import Transport

STALE_AFTER = 2
"""Polls in a row without a good status; each asks twice (quirks.md: three bad frames in a row, not one, cost the link)."""

SLOW_REPLY_S = 2.5
"""Deadline for a device that was caught answering late (NUT issue 3282: over a second)."""


class Questions:
    """Asks one device over its link, and reports what it says.

    ``report`` is called on the loop with every observation, in order. ``identity`` is what is known of the device from before.
    """

    __slots__ = (
        "_agenda", "_clock", "_last", "_link", "_misses", "_path", "_quick", "_readout", "_reason", "_report", "_sealed", "_slow",
        "_suspect", "identity", "options", "polls", "transport",
    )  # fmt: skip

    def __init__(
        self, options: UpsOptions, transport: Transport, report: Callable[[Observation], None], clock: Clock,
        identity: Identity | None,
    ) -> None:  # fmt: skip
        self.options = options
        self.transport = transport
        self.identity = identity
        self.polls = 0
        self._report = report
        self._clock = clock
        self._readout: Readout | None = None
        self._agenda: Agenda | None = None
        self._quick: tuple[tuple[Query, Ask], ...] = ()
        self._misses = 0
        self._link = Link.DETECTING
        self._reason = ""
        self._slow = False
        self._sealed = False
        self._suspect: Query | None = None
        self._last: Reading | None = None
        self._path = ""

    # -- what is reported

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

    def _remark(self, name: str, value: str, text: str, severity: Severity = Severity.INFO) -> None:
        self._report(
            Remark(self.options.name, self._clock.wall_us(), self._clock.monotonic(), name, value, text, severity)
        )

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

    def _on_healed(self, remedy: str, count: int, text: str) -> None:
        """A link mended itself: told, and counted by the link."""
        if text:
            severity = Severity.WARNING if remedy == "resets" else Severity.INFO
            self._report(
                Remark(self.options.name, self._clock.wall_us(), self._clock.monotonic(), f"usb-{remedy}", str(count), text,
                       severity, EventKind.LINK)
            )  # fmt: skip

    # -- the status

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
                if readout.watching:
                    live = readout.derived(live)
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

    async def _recover(self, error: ReplyError) -> None:
        """Make the line fit for a second try; a reply that comes only now teaches patience with this device."""
        if isinstance(error, ReplyTimeout) and not error.frame and not self._slow:
            self._slow = await self.transport.drain(SLOW_REPLY_S - REPLY_S) > 0
            if self._slow:
                self._quick = tuple((query, ask_of(query, deadline_s=SLOW_REPLY_S)) for query, _ in self._quick)
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

    # -- all the rest

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
        request = filled(query.command, readout.known)
        if request is None:
            agenda.silent(query, now_s)
            return
        try:
            values = self._read(query, await self.transport.exchange(ask_of(query, request)))
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
