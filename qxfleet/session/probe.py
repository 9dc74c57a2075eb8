"""One device looked at once: recognise it, ask everything it can be asked, read its status. Sends queries only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import Dialect, Order, Query, Tier
from qxfleet.errors import DialectUnknown, ReplyError, ReplyTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.events import SettingInfo
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Reading, Value
from qxfleet.model.wire import FIRST_REPLY_S, REPLY_S, Answer, sort_answer
from qxfleet.session.detect import Evidence, detect, skipped_topics
from qxfleet.session.orders import offered
from qxfleet.session.plans import ask_of, filled, is_sealed, read, unsealed
from qxfleet.session.readout import Readout, sift
from qxfleet.session.settings import setting_info
from qxfleet.transports.base import LinkInfo, Transport

TRIES = 3
"""A status that is not given in so many tries is not given."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one look at a device brought. ``identity.evidence`` has every question and its answer."""

    link: LinkInfo
    dialect: Dialect
    identity: Identity
    reading: Reading
    settings: tuple[SettingInfo, ...]
    orders: Sequence[Order]


async def probe(options: UpsOptions, transport: Transport, clock: Clock) -> Probe:
    """Open the link, look at the device once, close the link.

    With a dialect in ``options`` that one is taken at its word, else it is detected. Raises LinkError, and DialectUnknown
    with the evidence where nothing fits or the named dialect's status is not given.
    """
    try:
        link = await transport.open()
        return await _look(options, transport, clock, link)
    finally:
        await transport.close()


async def _look(options: UpsOptions, transport: Transport, clock: Clock, link: LinkInfo) -> Probe:
    skip = skipped_topics(norating=options.norating, novendor=options.novendor, testing=options.testing)
    named = dialect_named(options.spoken) if options.spoken != "auto" else None
    if named is None:
        dialect, evidence = await detect(transport.exchange, options.port, skip=skip, facts=link.facts)
    else:
        dialect, evidence = named, Evidence()
        await _status(dialect, transport, evidence, options.port, FIRST_REPLY_S)
    readout = Readout(options, dialect)
    readout.learn(link.facts)
    status = evidence.values[dialect.claim.status]
    readout.bits = {name: value for name, value in status.items() if isinstance(value, bool)}
    for query in dialect.queries:
        if query.tier & Tier.QUICK or query.topic in skip:
            continue
        if query.when and not any(all(holds.of(readout.known) for holds in each) for each in query.when):
            continue
        if query.command not in evidence.answers:
            request = filled(query.command, readout.known)
            if request is None:
                continue
            await _ask(query, transport, evidence, REPLY_S, tries=2, request=request)
        if (values := evidence.of(query)) is not None:
            readout.take(query, values, status)
    live = await _status(dialect, transport, evidence, options.port, REPLY_S)
    reading = readout.reading(live, clock.wall_us(), clock.monotonic())
    identity = Identity(dialect.name, dict(readout.facts), packs=readout.packs, evidence=evidence.rows())
    dialect = readout.dialect
    orders = tuple(order for order in dialect.orders if offered(order, readout.known))
    return Probe(link, dialect, identity, reading, setting_info(dialect, readout.settings, readout.known), orders)


async def _status(
    dialect: Dialect, transport: Transport, evidence: Evidence, port: str, deadline_s: float
) -> dict[str, Value | bool]:
    """The values of the QUICK queries together."""
    live: dict[str, Value | bool] = {}
    for query in dialect.tier(Tier.QUICK):
        evidence.values.pop(query.command, None)
        await _ask(query, transport, evidence, deadline_s, tries=TRIES)
        if query.command not in evidence.values:
            raise DialectUnknown(
                port, [(request, answer.value, frame) for request, (answer, frame) in evidence.answers.items()]
            )
        live.update(evidence.values[query.command])
    return live


async def _ask(
    query: Query, transport: Transport, evidence: Evidence, deadline_s: float, *, tries: int, request: bytes = b""
) -> None:
    """Ask until the answer has the asked shape, or is a refusal; what came is kept as evidence."""
    ask, request = ask_of(query, request, deadline_s), query.command
    for _ in range(tries):
        frame = b""
        try:
            frame = await transport.exchange(ask)
            evidence.sealed = evidence.sealed or is_sealed(query, frame)
            values = read(query, unsealed(frame) if evidence.sealed else frame)
            sift(query, values)
        except ReplyError as error:
            frame = frame or error.frame
            kind = sort_answer(request, frame)
            evidence.answers[request] = (Answer.GARBAGE if kind is Answer.VALUE else kind, frame)
            if kind in (Answer.ECHO, Answer.REFUSED):
                return
            if not isinstance(error, ReplyTimeout):
                await transport.drain()
        else:
            evidence.answers[request], evidence.values[request] = (Answer.VALUE, frame), values
            return
