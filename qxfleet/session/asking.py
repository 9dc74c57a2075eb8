"""What to ask besides the status: due dates, conditions, what was learned about refusals, and what is never asked again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qxfleet.dialects.spec import Dialect, Query, Tier, Topic
from qxfleet.model.reading import Value
from qxfleet.model.wire import shown

SILENCE_RETRY_S = (5.0, 30.0, 600.0, 3600.0)
"""When to ask an unanswered query again: later rather than never (megatec-family.md section 9.4, step 4)."""

REFUSAL_RETRY_S = 30.0
"""A refused query is asked once more: one unit refused a supported query once in twelve tries (quirks.md)."""

UNSUPPORTED_RETRY_S = 86400.0
"""A query refused twice is asked again daily (voltronic.md section 15)."""

AFTER_ORDER_S = 600.0
"""What an order may change is asked again this often, because a front panel may change it too (voltronic.md section 9.2)."""

AGED_AFTER = 3
"""Full polls in a row without an answer after which its values no longer count (voltronic.md section 15)."""

CONFIRM_CHANGE_S = 2.0
"""When to ask again a query whose flags changed: two agreeing answers clear a warning (voltronic.md section 6)."""


@dataclass(slots=True)
class _Entry:
    query: Query
    due_s: float
    open: bool = True
    tried: bool = False
    given: bool = False
    refusals: int = 0
    misses: int = 0


class Agenda:
    """The queries of one device other than QUICK, each with its next date on the monotonic clock."""

    def __init__(
        self, dialect: Dialect, skip: frozenset[Topic], full_interval_s: float, refused: frozenset[str] = frozenset()
    ) -> None:
        self._full_interval_s = full_interval_s
        self.refused = set(refused)
        self._entries = [
            _Entry(query, math.inf if _label(query) in refused else 0.0, open=not query.when)
            for query in dialect.queries
            if not query.tier & Tier.QUICK and query.topic not in skip
        ]
        self._by_query = {id(entry.query): entry for entry in self._entries}
        self._gated = tuple(entry for entry in self._entries if entry.query.when)
        self.next_s = 0.0
        self._reckon()

    def take(self, now_s: float) -> Query | None:
        """The query that has waited longest, if any is due."""
        if now_s < self.next_s:
            return None
        return min((entry for entry in self._entries if entry.open), key=lambda entry: entry.due_s).query

    @property
    def settled(self) -> bool:
        """Whether everything this device can be asked was asked once."""
        return all(entry.tried or not entry.open or entry.due_s == math.inf for entry in self._entries)

    def review(self, known: Mapping[str, Value | bool]) -> tuple[Query, ...]:
        """Open and close queries by their conditions; those that were closed now are returned."""
        closed: tuple[Query, ...] = ()
        changed = False
        for entry in self._gated:
            holds = any(all(condition.of(known) for condition in conditions) for conditions in entry.query.when)
            if holds is entry.open or (entry.given and entry.query.tier is Tier.ONCE):
                continue
            changed = True
            entry.open = holds
            if not holds:
                closed = (*closed, entry.query)
            elif _label(entry.query) not in self.refused:
                entry.due_s, entry.misses = 0.0, 0
        if changed:
            self._reckon()
        return closed

    def answered(self, query: Query, values: Mapping[str, Value | bool], now_s: float, *, changed: bool = False) -> None:
        """The device answered; ``changed``: with other flags than before."""
        entry = self._entry(query)
        entry.refusals = entry.misses = 0
        entry.tried = entry.given = True
        self.refused.discard(_label(query))
        live = any(field.live and field.name in values for reply in query.replies for field in reply.fields)
        wait_s = math.inf
        if live or query.tier & Tier.FULL:
            wait_s = CONFIRM_CHANGE_S if changed else self._full_interval_s
        elif query.tier & Tier.AFTER_ORDER:
            wait_s = AFTER_ORDER_S
        self._set(entry, now_s + wait_s)

    def silent(self, query: Query, now_s: float) -> bool:
        """The device did not answer, or with something else. True when what it said before is too old to count."""
        entry = self._entry(query)
        entry.tried = True
        wait_s = SILENCE_RETRY_S[min(entry.misses, len(SILENCE_RETRY_S) - 1)]
        if query.tier & Tier.FULL:
            wait_s = self._full_interval_s if entry.misses < AGED_AFTER else AFTER_ORDER_S
        entry.misses += 1
        self._set(entry, now_s + wait_s)
        return entry.misses == AGED_AFTER

    def refuse(self, query: Query, now_s: float) -> bool:
        """The device said it does not know the query, or not now. True when its values no longer count.

        One that never answered is believed the second time; one that did answer is asked on.
        """
        entry = self._entry(query)
        if entry.given:
            return self.silent(query, now_s)
        entry.refusals += 1
        entry.tried = True
        if entry.refusals < 2:
            self._set(entry, now_s + REFUSAL_RETRY_S)
            return False
        news = _label(query) not in self.refused
        self.refused.add(_label(query))
        self._set(entry, now_s + UNSUPPORTED_RETRY_S)
        return news

    def give_up(self, query: Query) -> None:
        """Never ask this device again: it fell silent after being asked."""
        self.refused.add(_label(query))
        self._set(self._entry(query), math.inf)

    def renew(self) -> None:
        """An order or setting succeeded: ask again what may have changed with it."""
        self._hasten(Tier.AFTER_ORDER)

    def hurry(self) -> None:
        """The status changed: ask at once what belongs to a full poll."""
        self._hasten(Tier.FULL)

    def _hasten(self, tier: Tier) -> None:
        for entry in self._entries:
            if entry.query.tier & tier and entry.due_s != math.inf and not entry.refusals and not entry.misses:
                entry.due_s = 0.0
        self._reckon()

    def may_ask(self, query: Query, now_s: float) -> bool:
        """Whether asking out of turn makes sense: the device did not refuse it, nor leave it unanswered lately."""
        entry = self._by_query.get(id(query))
        if entry is None or not entry.open:
            return False
        return entry.due_s <= now_s or not (entry.refusals or entry.misses or entry.due_s == math.inf)

    def _entry(self, query: Query) -> _Entry:
        return self._by_query[id(query)]

    def has(self, query: Query) -> bool:
        """Whether the query is on this agenda at all."""
        return id(query) in self._by_query

    def _set(self, entry: _Entry, due_s: float) -> None:
        entry.due_s = due_s
        self._reckon()

    def _reckon(self) -> None:
        self.next_s = min((entry.due_s for entry in self._entries if entry.open), default=math.inf)


def _label(query: Query) -> str:
    return shown(query.command)
