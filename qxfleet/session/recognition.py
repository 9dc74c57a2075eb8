"""Who is it: from the store and two questions, from the configuration, or by detection."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.spec import PART, Dialect, Query, Tier, Topic
from qxfleet.errors import LinkLost, ReplyError, ReplyTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.events import Observation
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Value
from qxfleet.model.wire import FIRST_REPLY_S, shown
from qxfleet.session.asking import Agenda
from qxfleet.session.detect import Evidence, detect, skipped_topics
from qxfleet.session.plans import ask_of, filled
from qxfleet.session.questions import Questions
from qxfleet.session.readout import Readout, sift
from qxfleet.transports.base import Transport


class Recognition(Questions):
    """Finds out with whom it talks; a device that is known is asked two questions, not twenty."""

    __slots__ = ("_skip",)

    def __init__(
        self, options: UpsOptions, transport: Transport, report: Callable[[Observation], None], clock: Clock,
        identity: Identity | None,
    ) -> None:  # fmt: skip
        super().__init__(options, transport, report, clock, identity)
        self._skip = skipped_topics(norating=options.norating, novendor=options.novendor, testing=options.testing)

    async def _recognise(self, facts: Mapping[str, Value]) -> tuple[Readout, Agenda]:
        """The device's dialect and facts: from the store and two questions, from the configuration, or by detection."""
        known = self.identity
        named = dialect_named(self.options.spoken) if self.options.spoken != "auto" else None
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
        dialect, evidence = await detect(self.transport.exchange, self.options.port, skip=self._skip, facts=facts)
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
            values = evidence.of(query)
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
                values = self._read(query, await self.transport.exchange(ask_of(query, deadline_s=deadline_s)))
                sift(query, values)
            except ReplyError as trouble:
                error = trouble
                self._trouble(trouble)
                if not isinstance(trouble, ReplyTimeout):
                    await self.transport.drain()
            else:
                return
        raise LinkLost(
            self.options.port, f"no usable answer to {shown(query.command)} in the dialect {dialect.name}: {error}",
            "the NUT server's driver has heard nothing of the UPS yet" if dialect.listing is not None else
            "check the cable, cablepower and the dialect; `qxfleet discover` shows what the device answers",
        )  # fmt: skip

    async def _still(self, dialect: Dialect, known: Identity) -> bool:
        """Two questions: does the device the store knows answer as before?"""
        quick = dialect.tier(Tier.QUICK)[0]
        try:
            values = self._read(quick, await self.transport.exchange(ask_of(quick, deadline_s=FIRST_REPLY_S)))
            sift(quick, values)
            for query in reversed(dialect.tier(Tier.ONCE)):
                if query.topic in self._skip or not _told(dialect, query, known):
                    continue
                request = filled(query.command, dict(known.facts)) or query.command
                told = self._read(query, await self.transport.exchange(ask_of(query, request)))
                names = own_facts(dialect, query)
                return all(known.facts.get(name) == value for name, value in told.items() if name in names)
        except ReplyError as error:
            self._trouble(error)
            await self.transport.drain()
            return False
        return True


def _told(dialect: Dialect, query: Query, known: Identity) -> bool:
    """Whether the store's facts hold anything that this query alone gives."""
    return query.topic is not Topic.STATUS and any(name in known.facts for name in own_facts(dialect, query))


def own_facts(dialect: Dialect, query: Query) -> frozenset[str]:
    """Names of lasting values that a query gives and no query before it in the table."""
    names: set[str] = set()
    for each in dialect.queries:
        given = {field.name for reply in each.replies for field in reply.fields
                 if not field.live and not field.wins and not field.name.startswith(PART)}
        if each is query:
            return frozenset(given - names)
        names |= {field.name for reply in each.replies for field in reply.fields}
    return frozenset()
