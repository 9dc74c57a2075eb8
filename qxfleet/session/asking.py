"""What to ask besides the status: due dates, what was learned about refusals, and what is better never asked again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qxfleet.dialects.spec import Dialect, Query, Tier, Topic
from qxfleet.model.reading import Value

SILENCE_RETRY_S = (5.0, 30.0, 600.0, 3600.0)
"""When to ask an unanswered query again: later rather than never (megatec-family.md section 9.4, step 4)."""

REFUSAL_RETRY_S = 30.0
"""A refused query is asked once more: one unit refused a supported query once in twelve tries (quirks.md)."""


@dataclass(slots=True)
class _Entry:
    query: Query
    due_s: float
    refusals: int = 0
    silences: int = 0


class Agenda:
    """The queries of one device other than QUICK, each with its next date on the monotonic clock."""

    def __init__(
        self, dialect: Dialect, skip: frozenset[Topic], full_interval_s: float, refused: frozenset[str] = frozenset()
    ) -> None:
        self._full_interval_s = full_interval_s
        self.refused = set(refused)
        self._entries = [
            _Entry(query, math.inf if query.command.decode("latin-1").strip() in refused else 0.0)
            for query in dialect.queries
            if not query.tier & Tier.QUICK and query.topic not in skip
        ]
        self.next_s = min((entry.due_s for entry in self._entries), default=math.inf)

    def take(self, now_s: float) -> Query | None:
        """The query that has waited longest, if any is due."""
        if now_s < self.next_s:
            return None
        return min(self._entries, key=lambda entry: entry.due_s).query

    def answered(self, query: Query, values: Mapping[str, Value | bool], now_s: float) -> None:
        """The device answered."""
        entry = self._entry(query)
        entry.refusals = entry.silences = 0
        live = any(field.live and field.name in values for reply in query.replies for field in reply.fields)
        repeats = live or bool(query.tier & Tier.FULL)
        self._set(entry, now_s + self._full_interval_s if repeats else math.inf)

    def silent(self, query: Query, now_s: float) -> None:
        """The device did not answer, or with something else."""
        entry = self._entry(query)
        wait_s = SILENCE_RETRY_S[min(entry.silences, len(SILENCE_RETRY_S) - 1)]
        entry.silences += 1
        self._set(entry, now_s + wait_s)

    def refuse(self, query: Query, now_s: float) -> bool:
        """The device said it does not know the query; True when that is now believed, until another firmware answers."""
        entry = self._entry(query)
        entry.refusals += 1
        if entry.refusals < 2:
            self._set(entry, now_s + REFUSAL_RETRY_S)
            return False
        self.give_up(query)
        return True

    def give_up(self, query: Query) -> None:
        """Never ask this device again: it refused twice, or fell silent after being asked."""
        self.refused.add(query.command.decode("latin-1").strip())
        self._set(self._entry(query), math.inf)

    def renew(self) -> None:
        """An order or setting succeeded: ask again what may have changed with it."""
        for entry in self._entries:
            if entry.query.tier & Tier.AFTER_ORDER and entry.due_s != math.inf:
                self._set(entry, 0.0)

    def _entry(self, query: Query) -> _Entry:
        return next(entry for entry in self._entries if entry.query is query or entry.query.command == query.command)

    def has(self, query: Query) -> bool:
        """Whether the query is on this agenda at all."""
        return any(entry.query.command == query.command for entry in self._entries)

    def _set(self, entry: _Entry, due_s: float) -> None:
        entry.due_s = due_s
        self.next_s = min(each.due_s for each in self._entries)
