"""Our nouns as rows of the database, and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isfinite
from operator import itemgetter
from typing import Any, TypeAlias

from qxfleet._fastparse import steps
from qxfleet.errors import StoreError
from qxfleet.model.events import Event, OrderResult
from qxfleet.model.reading import Identity, Reading, Value
from qxfleet.model.variables import READING_COLUMNS, VARIABLES, Kind

ReadingRow: TypeAlias = tuple[Any, ...]
"""Device name, wall time in µs, status, one integer or None per column of ``READING_COLUMNS``, JSON text or None."""

_NAMES = tuple(variable.name for variable in READING_COLUMNS)
_SCALES = tuple(variable.scale for variable in READING_COLUMNS)
_COLUMN_STEPS = tuple((str(variable.column), variable.name, variable.scale) for variable in READING_COLUMNS)
NOT_EXTRA = frozenset(variable.name for variable in READING_COLUMNS) | frozenset(
    variable.name for variable in VARIABLES.values() if variable.kind is not Kind.NUMBER
)
"""Variables that never go into ``extra``: they have a column, or are text (kept with the identity and in events)."""

INT4 = 2**31 - 1
"""The most steps that every database's column holds."""


def reading_row(reading: Reading, extra: str | None) -> ReadingRow:
    """One reading as a row: numbers rounded to the column's steps, whatever is no number absent."""
    values, key = reading.values, (reading.device, reading.wall_us, int(reading.status))
    row = steps(_NAMES, _SCALES, values, key, (extra,)) if type(values) is dict else None
    if row is None:
        row = (*key, *(_step(values.get(name), scale) for name, scale in zip(_NAMES, _SCALES, strict=True)), extra)
    return row


def _step(value: Value | None, scale: int) -> int | None:
    return round(value * scale) if isinstance(value, (int, float)) and isfinite(value) else None


def within_columns(row: ReadingRow) -> ReadingRow:
    """The row without the values that some database's column can't hold."""
    *key, extra = row
    return (*key[:3], *(None if step is not None and abs(step) > INT4 else step for step in key[3:]), extra)


class Extra:
    """What the rows of one device say so far in their column ``extra``: numbers that have no column of their own."""

    __slots__ = ("_names", "_others", "_pick", "_said", "_told")

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()
        self._pick: Callable[[Mapping[str, Value]], Any] | None = None
        self._told: Any = None
        self._said: dict[str, float] = {}

    def news(self, values: Mapping[str, Value]) -> str | None:
        """Finite numbers without a column that differ from what was said, as JSON; from now on they are said."""
        names = tuple(values)
        if names != self._names:
            self._names, self._others = names, tuple(name for name in names if name not in NOT_EXTRA)
            self._pick, self._told = itemgetter(*self._others) if self._others else None, None
        if self._pick is None:
            return None
        told = self._pick(values)
        if told == self._told:
            return None
        self._told = told
        said = self._said
        news = [name for name in self._others if said.get(name) != values[name]]
        if not news:
            return None
        changed = {name: value for name in news if isinstance(value := values[name], (int, float)) and isfinite(value)}
        if not changed:
            return None
        said.update(changed)
        return json.dumps(changed)


def row_values(row: Mapping[str, Any]) -> dict[str, float]:
    """The values of a stored reading in the variables' units; what was not known is absent."""
    values = {name: row[column] / scale for column, name, scale in _COLUMN_STEPS if row[column] is not None}
    values.update(row["extra"] or {})
    return values


def clean(text: str) -> str:
    """Text that every database takes: a device's stray NULs and half characters become visible escapes."""
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text


def event_row(event: Event, device_id: int | None) -> dict[str, object]:
    """One event as a row of table ``event``."""
    return {
        "at": event.wall_us,
        "device_id": device_id,
        "kind": event.kind.value,
        "name": clean(event.name),
        "value": clean(event.value),
        "text": clean(event.text),
        "severity": int(event.severity),
        "phase": event.phase.value,
    }


def outcome_row(result: OrderResult, done_us: int) -> dict[str, object]:
    """The second half of a row of ``order_log``."""
    row: dict[str, object] = {
        "outcome": result.outcome.value,
        "reply": None if result.reply is None else clean(result.reply),
        "text": clean(result.text),
        "done_at": done_us,
    }
    if result.sent:
        row["sent"] = clean(result.sent)
    return row


def identity_json(identity: Identity) -> dict[str, object]:
    """An identity as JSON."""
    return {
        "dialect": identity.dialect,
        "facts": dict(identity.facts),
        "refused": sorted(identity.refused),
        "packs": identity.packs,
        "evidence": [list(line) for line in identity.evidence],
    }


def identity_of(ups: str, stored: Any) -> Identity:
    """The identity a row holds; :class:`StoreError` if it is not one of ours."""
    try:
        packs = stored["packs"]
        return Identity(
            dialect=str(stored["dialect"]),
            facts={str(name): fact if isinstance(fact, str) else float(fact) for name, fact in stored["facts"].items()},
            refused=frozenset(str(request) for request in stored["refused"]),
            packs=None if packs is None else float(packs),
            evidence=tuple((str(a), str(b), str(c)) for a, b, c in stored["evidence"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{ups}: the stored identity is unreadable ({error!r}); it is detected again") from error
