"""Which dialect a device speaks, with the evidence. Sends queries only.

Procedure: megatec-family.md section 9.4; what must not claim anything: quirks.md "Parser rules in short" rule 6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.dialects.registry import DIALECTS, IDENTITY_PROBES, STATUS_PROBES
from qxfleet.dialects.spec import Dialect, Query, Topic, Want
from qxfleet.errors import DialectUnknown, ReplyError, ReplyTimeout
from qxfleet.model.reading import Value
from qxfleet.model.wire import FIRST_REPLY_S, QUIET_S, REPLY_S, Answer, Ask, sort_answer
from qxfleet.session.plans import read
from qxfleet.session.readout import sift

Exchange = Callable[[Ask], Awaitable[bytes]]

NUDGE = Ask(b"\r", deadline_s=QUIET_S)
"""A bare CR ends whatever piled up in a unit's input buffer (quirks.md, input buffer runs together)."""


@dataclass(slots=True)
class Evidence:
    """What each probe brought: the kind of answer, the frame, and the values where the frame had the asked shape."""

    answers: dict[bytes, tuple[Answer, bytes]] = field(default_factory=dict)
    values: dict[bytes, dict[str, Value | bool]] = field(default_factory=dict)

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """(request, kind, reply) as printable text, in the order asked."""
        return tuple(
            (request.decode("latin-1").strip("\r"), answer.value, frame.decode("latin-1"))
            for request, (answer, frame) in self.answers.items()
        )


def _queries(dialects: Sequence[Dialect]) -> dict[bytes, Query]:
    found: dict[bytes, Query] = {}
    for dialect in dialects:
        for query in dialect.queries:
            found.setdefault(query.command, query)
    return found


def holds(want: Want, evidence: Evidence) -> bool:
    """Whether one condition of a claim is met by the evidence."""
    if want.replies:
        _, frame = evidence.answers.get(want.request, (Answer.SILENCE, b""))
        return any(frame.strip(b"\0\n ").startswith(reply) for reply in want.replies)
    return (want.request in evidence.values) is want.answered


def claimed(dialect: Dialect, evidence: Evidence) -> bool:
    """Whether a dialect's claim holds."""
    if dialect.claim.status not in evidence.values:
        return False
    return any(all(holds(want, evidence) for want in wants) for wants in dialect.claim.any_of)


async def _probe(request: bytes, query: Query | None, exchange: Exchange, deadline_s: float, evidence: Evidence) -> None:
    try:
        frame = await exchange(Ask(request, deadline_s))
    except ReplyTimeout as silence:
        if not silence.frame:
            evidence.answers.setdefault(request, (Answer.SILENCE, b""))
            return
        frame = silence.frame
    except ReplyError as error:
        evidence.answers[request] = (Answer.GARBAGE, error.frame)
        return
    kind = sort_answer(request, frame)
    if kind is Answer.VALUE and query is not None:
        try:
            values = read(query, frame)
            sift(query, values)
        except ReplyError:
            kind = Answer.GARBAGE
        else:
            evidence.values[request] = values
    evidence.answers[request] = (kind, frame)


async def detect(
    exchange: Exchange,
    port: str,
    *,
    skip: frozenset[Topic] = frozenset(),
    dialects: Sequence[Dialect] = DIALECTS,
) -> tuple[Dialect, Evidence]:
    """The dialect whose claim the device's answers meet, and all its answers.

    ``skip`` names topics that must not be asked (``norating``, ``novendor``). Raises DialectUnknown, and LinkError from the
    exchange. An unanswered status probe is asked twice more, an unanswered identity probe once more, before silence is
    believed; the status must be given twice, so that one lucky frame claims nothing.
    """
    queries = _queries(dialects)
    evidence = Evidence()
    wanted = {dialect.claim.status for dialect in dialects}
    status_probes = [probe for probe in STATUS_PROBES if probe in wanted]
    deadline_s = FIRST_REPLY_S
    for _ in range(3):
        for probe in status_probes:
            await _probe(probe, queries[probe], exchange, deadline_s, evidence)
            deadline_s = REPLY_S
            if probe in evidence.values:
                break
            await _nudge(exchange)
        if evidence.values:
            break
    if not evidence.values:
        raise DialectUnknown(port, _raw(evidence))
    status = next(iter(evidence.values))
    for probe in IDENTITY_PROBES:
        query = queries.get(probe)
        if query is not None and query.topic in skip:
            continue
        if not any(want.request == probe for d in dialects for wants in d.claim.any_of for want in wants):
            continue
        await _probe(probe, query, exchange, REPLY_S, evidence)
        if probe not in evidence.values and evidence.answers[probe][0] in (Answer.SILENCE, Answer.GARBAGE):
            await _nudge(exchange)
            await _probe(probe, query, exchange, REPLY_S, evidence)
    before = evidence.values.pop(status)
    for _ in range(2):
        await _probe(status, queries[status], exchange, REPLY_S, evidence)
        if status in evidence.values:
            break
    else:
        raise DialectUnknown(port, _raw(evidence))
    evidence.values[status] = evidence.values.get(status, before)
    for dialect in dialects:
        if claimed(dialect, evidence):
            return dialect, evidence
    raise DialectUnknown(port, _raw(evidence))


def _raw(evidence: Evidence) -> tuple[tuple[bytes, str, bytes], ...]:
    return tuple((request, answer.value, frame) for request, (answer, frame) in evidence.answers.items())


async def _nudge(exchange: Exchange) -> None:
    try:
        await exchange(NUDGE)
    except ReplyError:
        return


def skipped_topics(*, norating: bool, novendor: bool) -> frozenset[Topic]:
    """Topics that options of the seeds forbid to ask about."""
    topics: Mapping[Topic, bool] = {Topic.RATING: norating, Topic.VENDOR: novendor}
    return frozenset(topic for topic, off in topics.items() if off)
