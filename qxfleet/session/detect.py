"""Which dialect a device speaks, with the evidence. Sends queries only.

Procedure: megatec-family.md section 9.4, voltronic.md section 2; what must not claim anything: quirks.md "Parser rules in
short" rule 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.dialects.registry import DIALECTS, STATUS_PROBES
from qxfleet.dialects.spec import Dialect, Query, Topic, Want
from qxfleet.errors import DialectUnknown, ReplyError, ReplyTimeout
from qxfleet.model.reading import Value
from qxfleet.model.wire import FIRST_REPLY_S, QUIET_S, REPLY_S, Answer, Ask, shown, sort_answer
from qxfleet.session.plans import ask_of, is_sealed, read, unsealed
from qxfleet.session.readout import sift

Exchange = Callable[[Ask], Awaitable[bytes]]

TURNS = 3
"""How often a status question is tried before silence is believed (megatec-family.md section 9.4)."""

OFTEN = frozenset({b"Q1\r", b"QS\r"})
"""Asked in the second turn too: a port where nothing speaks must not take for ever."""

RARE_S = 0.8
"""Deadline of the other status questions: time for the longest of their replies, and 0.3 s to think."""

MARGIN_S = 0.12
"""How much longer than over its status a device may take over another question, besides what a longer reply needs."""

STATUS_BYTES = 47
"""Length of the commonest status."""

BYTE_S = 10 / 2400
"""What one byte takes on the slowest line."""

NUDGE = Ask(b"\r", deadline_s=QUIET_S)
"""A bare CR ends whatever piled up in a unit's input buffer (quirks.md, input buffer runs together).

Only for one that fell silent or spoke nonsense: one that refuses in order may refuse this too, and later than we listen, so
that its word would be taken for the answer to the next probe, and so on for ever.
"""

NOTHING: Mapping[str, Value] = {}

NUDGED = frozenset({Answer.SILENCE, Answer.GARBAGE})


@dataclass(slots=True)
class Evidence:
    """What each probe brought: the kind of answer, the frame, and the values where the frame had an asked shape.

    Dialects may ask the same string and read the answer differently: :meth:`of` reads it as one of them does. ``sealed``: the
    device closes its replies with a CRC, which is cut off before reading.
    """

    answers: dict[bytes, tuple[Answer, bytes]] = field(default_factory=dict)
    values: dict[bytes, dict[str, Value | bool]] = field(default_factory=dict)
    sealed: bool = False

    def of(self, query: Query) -> dict[str, Value | bool] | None:
        """The values of the answer to ``query``, read by its own layouts; None where it has none of them."""
        kind, frame = self.answers.get(query.command, (Answer.SILENCE, b""))
        if kind is not Answer.VALUE:
            return None
        try:
            values = read(query, unsealed(frame) if self.sealed else frame)
            sift(query, values)
        except ReplyError:
            return None
        return values

    def told(self, dialect: Dialect) -> dict[bytes, dict[str, Value | bool]]:
        """Values by request, as this dialect reads them."""
        read_ = ((query.command, self.of(query)) for query in dialect.queries)
        return {command: values for command, values in read_ if values is not None}

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """(request, kind, reply) as printable text, in the order asked."""
        return tuple(
            (shown(request), answer.value, frame.decode("latin-1"))
            for request, (answer, frame) in self.answers.items()
        )


def _queries(dialects: Sequence[Dialect]) -> dict[bytes, list[Query]]:
    found: dict[bytes, list[Query]] = {}
    for dialect in dialects:
        for query in dialect.queries:
            found.setdefault(query.command, []).append(query)
    return found


def holds(want: Want, dialect: Dialect, evidence: Evidence) -> bool:
    """Whether one condition of a claim is met by the evidence."""
    if want.replies:
        _, frame = evidence.answers.get(want.request, (Answer.SILENCE, b""))
        return any(frame.strip(b"\0\n ").startswith(reply) for reply in want.replies)
    query = dialect.query(want.request)
    values = evidence.values.get(want.request) if query is None else evidence.of(query)
    return (values is not None and _gives(want, values)) is want.answered


def _gives(want: Want, values: Mapping[str, Value | bool]) -> bool:
    if not want.gives:
        return True
    value = values.get(want.gives)
    if value is None or (want.values and value not in want.values):
        return False
    return not isinstance(value, float) or value >= want.least


def claimed(dialect: Dialect, evidence: Evidence) -> bool:
    """Whether a dialect's claim holds."""
    status = dialect.query(dialect.claim.status)
    values = evidence.of(status) if status is not None else None
    if values is None or any(name not in values for name in dialect.claim.needs):
        return False
    return any(all(holds(want, dialect, evidence) for want in wants) for wants in dialect.claim.any_of)


class _Interview:
    """One device asked question by question, each only when a claim needs its answer, and none twice without need.

    It learns how long this device takes over an answer, and whether silence is its way to say that it does not know.
    """

    def __init__(self, exchange: Exchange, dialects: Sequence[Dialect], skip: frozenset[Topic]) -> None:
        self.evidence = Evidence()
        self._exchange = exchange
        self._queries = _queries(dialects)
        self._skip = skip
        self._first_s = FIRST_REPLY_S
        self._status_s: float | None = None
        self._silences = 0

    async def status(self, request: bytes, deadline_s: float = REPLY_S) -> bool:
        """Ask a status question; whether it was answered with a status. The very first may take longer."""
        began_s = asyncio.get_running_loop().time()
        kind = await self._ask(request, max(deadline_s, self._first_s))
        self._first_s = 0.0
        if request in self.evidence.values:
            self._status_s = max(self._status_s or 0.0, asyncio.get_running_loop().time() - began_s)
            return True
        if kind in NUDGED:
            await _nudge(self._exchange)
        return False

    async def _known(self, request: bytes) -> None:
        """See that the answer to a question is known, if it may be asked at all."""
        if request in self.evidence.answers or any(query.topic in self._skip for query in self._queries.get(request, ())):
            return
        deadline_s = self._patience_s(request)
        kind = await self._ask(request, deadline_s)
        if kind not in NUDGED:
            return
        silent = kind is Answer.SILENCE and not self.evidence.answers[request][1]
        if silent and self._silences >= SILENT_AFTER and request not in ASKED_TWICE:
            return
        await _nudge(self._exchange)
        kind = await self._ask(request, deadline_s if silent else REPLY_S)
        if kind is Answer.SILENCE:
            self._silences += 1
        if kind in NUDGED:
            await _nudge(self._exchange)

    def _patience_s(self, request: bytes) -> float:
        """How long to wait for an answer, by how long this device took over its status."""
        if self._status_s is None:
            return REPLY_S
        longest = max((query.replies[0].length[0] for query in self._queries.get(request, ())), default=0)
        return min(REPLY_S, self._status_s + MARGIN_S + max(0, longest - STATUS_BYTES) * BYTE_S)

    async def claims(self, dialect: Dialect) -> bool:
        """Whether the dialect's claim holds, after asking what that needs."""
        claim, evidence = dialect.claim, self.evidence
        query = dialect.query(claim.status)
        if query is None or (claim.status in evidence.answers and evidence.of(query) is None):
            return False
        for wants in claim.any_of:
            for want in wants:
                await self._known(want.request)
                if not holds(want, dialect, evidence):
                    break
            else:
                await self._known(claim.status)
                return claimed(dialect, evidence) and await self._again(dialect, query)
        return False

    async def _again(self, dialect: Dialect, query: Query) -> bool:
        """The status once more: one lucky frame claims nothing."""
        for _ in range(2):
            await self._ask(query.command, REPLY_S)
            if claimed(dialect, self.evidence):
                return True
        return False

    async def _ask(self, request: bytes, deadline_s: float) -> Answer:
        """Ask, keep the answer as evidence, and say of what kind it was."""
        evidence, queries = self.evidence, self._queries.get(request, ())
        ask = ask_of(queries[0], request, deadline_s) if queries else Ask(request, deadline_s)
        evidence.values.pop(request, None)
        try:
            frame = await self._exchange(ask)
        except ReplyTimeout as silence:
            if not silence.frame:
                evidence.answers[request] = (Answer.SILENCE, b"")
                return Answer.SILENCE
            frame = silence.frame
        except ReplyError as error:
            evidence.answers[request] = (Answer.GARBAGE, error.frame)
            return Answer.GARBAGE
        kind = sort_answer(request, frame)
        evidence.answers[request] = (kind, frame)
        if kind is Answer.VALUE and queries:
            evidence.sealed = evidence.sealed or any(is_sealed(query, frame) for query in queries)
            values = next((values for query in queries if (values := evidence.of(query)) is not None), None)
            if values is None:
                kind = Answer.GARBAGE
                evidence.answers[request] = (kind, frame)
            else:
                evidence.values[request] = values
        return kind


SILENT_AFTER = 1
"""A device that left so many questions unanswered, each asked twice, is believed at once from then on."""

ASKED_TWICE = frozenset({b"F\r"})
"""Asked again in any case: what most devices have, and without which the rest can't be told."""


async def detect(
    exchange: Exchange,
    port: str,
    *,
    skip: frozenset[Topic] = frozenset(),
    dialects: Sequence[Dialect] = DIALECTS,
    facts: Mapping[str, Value] = NOTHING,
) -> tuple[Dialect, Evidence]:
    """The dialect whose claim the device's answers meet, and all its answers.

    ``skip`` names topics that must not be asked (``norating``, ``novendor``); ``facts`` is what the link tells of the device.
    Raises DialectUnknown, and LinkError from the exchange. The status questions are asked in order until one is answered, up to
    three times; then the claims are gone through in order, and each further question is asked when the first claim needs it.
    """
    interview = _Interview(exchange, dialects, skip)
    evidence = interview.evidence
    vendor = facts.get("ups.vendorid")
    for dialect in dialects:
        if vendor is not None and vendor in dialect.claim.links and await interview.status(dialect.claim.status):
            evidence.values = evidence.told(dialect)
            return dialect, evidence
    wanted = {heard for dialect in dialects for heard in _heard(dialect)}
    for turn in range(TURNS):
        for probe in STATUS_PROBES:
            if probe not in wanted or (turn == 1 and probe not in OFTEN):
                continue
            if not await interview.status(probe, REPLY_S if probe in OFTEN else RARE_S):
                continue
            for dialect in dialects:
                if probe in _heard(dialect) and await interview.claims(dialect):
                    evidence.values = evidence.told(dialect)
                    return dialect, evidence
        if evidence.values:
            break
    raise DialectUnknown(port, _raw(evidence))


def _heard(dialect: Dialect) -> tuple[bytes, ...]:
    return dialect.claim.heard or (dialect.claim.status,)


def _raw(evidence: Evidence) -> tuple[tuple[bytes, str, bytes], ...]:
    return tuple((request, answer.value, frame) for request, (answer, frame) in evidence.answers.items())


async def _nudge(exchange: Exchange) -> None:
    try:
        await exchange(NUDGE)
    except ReplyError:
        return


def skipped_topics(*, norating: bool, novendor: bool, testing: bool) -> frozenset[Topic]:
    """Topics that options of the seeds forbid to ask about, or do not allow."""
    topics: Mapping[Topic, bool] = {Topic.RATING: norating, Topic.VENDOR: novendor, Topic.TESTING: not testing}
    return frozenset(topic for topic, off in topics.items() if off)
