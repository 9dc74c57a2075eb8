"""Which dialect a device speaks, with the evidence. Sends queries only.

Procedure: megatec-family.md section 9.4, voltronic.md section 2; what must not claim anything: quirks.md "Parser rules in
short" rule 6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.dialects.registry import DIALECTS, IDENTITY_PROBES, STATUS_PROBES
from qxfleet.dialects.spec import Dialect, Query, Topic, Want
from qxfleet.errors import DialectUnknown, ReplyError, ReplyTimeout
from qxfleet.model.reading import Value
from qxfleet.model.wire import FIRST_REPLY_S, QUIET_S, REPLY_S, Answer, Ask, sort_answer
from qxfleet.session.plans import is_sealed, read, unsealed
from qxfleet.session.readout import sift

Exchange = Callable[[Ask], Awaitable[bytes]]

TURNS = 3
"""How often a probe is tried before silence is believed (megatec-family.md section 9.4)."""

RARE_PROBES = frozenset({b"QGS\r"})
"""Left out of the second turn: the first one waits longest, and a port where nothing speaks must not take for ever."""

NUDGE = Ask(b"\r", deadline_s=QUIET_S)
"""A bare CR ends whatever piled up in a unit's input buffer (quirks.md, input buffer runs together).

Only for one that fell silent or spoke nonsense: one that refuses in order may refuse this too, and later than we listen, so
that its word would be taken for the answer to the next probe, and so on for ever.
"""

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
            (request.decode("latin-1").strip("\r"), answer.value, frame.decode("latin-1"))
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
    return (values is not None and (not want.gives or want.gives in values)) is want.answered


def claimed(dialect: Dialect, evidence: Evidence) -> bool:
    """Whether a dialect's claim holds."""
    status = dialect.query(dialect.claim.status)
    values = evidence.of(status) if status is not None else None
    if values is None or any(name not in values for name in dialect.claim.needs):
        return False
    return any(all(holds(want, dialect, evidence) for want in wants) for wants in dialect.claim.any_of)


async def _probe(
    request: bytes, queries: Sequence[Query], exchange: Exchange, deadline_s: float, evidence: Evidence
) -> Answer:
    """Ask, keep the answer as evidence, and say of what kind it was."""
    try:
        frame = await exchange(Ask(request, deadline_s))
    except ReplyTimeout as silence:
        if not silence.frame:
            evidence.answers.setdefault(request, (Answer.SILENCE, b""))
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


async def detect(
    exchange: Exchange,
    port: str,
    *,
    skip: frozenset[Topic] = frozenset(),
    dialects: Sequence[Dialect] = DIALECTS,
) -> tuple[Dialect, Evidence]:
    """The dialect whose claim the device's answers meet, and all its answers.

    ``skip`` names topics that must not be asked (``norating``, ``novendor``). Raises DialectUnknown, and LinkError from the
    exchange. Every status probe is tried in order, an unanswered one up to three times in all; an unanswered identity probe
    is asked once more. The status must be given twice, so that one lucky frame claims nothing.
    """
    queries = _queries(dialects)
    evidence = Evidence()
    wanted = {dialect.claim.status for dialect in dialects}
    open_probes = [probe for probe in STATUS_PROBES if probe in wanted]
    deadline_s = FIRST_REPLY_S
    for turn in range(TURNS):
        for probe in tuple(open_probes):
            if turn and probe in RARE_PROBES and turn < TURNS - 1:
                continue
            kind = await _probe(probe, queries[probe], exchange, deadline_s, evidence)
            deadline_s = REPLY_S
            if probe in evidence.values:
                open_probes.remove(probe)
                speakers = [dialect for dialect in dialects if dialect.claim.status == probe]
                if (found := await _claimed_by(speakers, probe, queries, exchange, skip, evidence)) is not None:
                    evidence.values = evidence.told(found)
                    return found, evidence
            if kind in NUDGED:
                await _nudge(exchange)
        if not open_probes or evidence.values:
            break
    raise DialectUnknown(port, _raw(evidence))


async def _claimed_by(
    speakers: Sequence[Dialect],
    status: bytes,
    queries: Mapping[bytes, Sequence[Query]],
    exchange: Exchange,
    skip: frozenset[Topic],
    evidence: Evidence,
) -> Dialect | None:
    """The one of the dialects with this status whose claim holds, after asking what tells them apart."""
    for probe in IDENTITY_PROBES:
        readers = queries.get(probe, ())
        if any(query.topic in skip for query in readers):
            continue
        if not any(want.request == probe for d in speakers for wants in d.claim.any_of for want in wants):
            continue
        if await _probe(probe, readers, exchange, REPLY_S, evidence) in NUDGED and probe not in evidence.values:
            await _nudge(exchange)
            await _probe(probe, readers, exchange, REPLY_S, evidence)
    for _ in range(2):
        evidence.values.pop(status)
        await _probe(status, queries[status], exchange, REPLY_S, evidence)
        if status in evidence.values:
            return next((dialect for dialect in speakers if claimed(dialect, evidence)), None)
        evidence.values[status] = {}
    evidence.values.pop(status)
    return None


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
