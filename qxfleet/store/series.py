"""The history of one variable of one UPS: any range, at any width, from whichever tiers hold it.

Coarse tiers serve as far as they are made, finer ones and the readings themselves go on from there, so a bucket of this minute is
as good as one of last year. Where nothing was stored there is no bucket: a gap stays a gap.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import compress, repeat
from operator import add, itemgetter, sub, truediv
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, func, select, text

from qxfleet.errors import StoreError
from qxfleet.model.variables import READING_COLUMNS, VARIABLES, Kind, Variable
from qxfleet.store.engine import explain
from qxfleet.store.minutes import HOUR_US, unpack
from qxfleet.store.tables import ROLLED, device, packed_minutes, reading
from qxfleet.store.tiers import DAY, MINUTE, QUARTER, SECOND_US, TIERS, Tier, marks

STATUS = "ups.status"

T = TypeVar("T", bound=tuple[Any, ...])

AUTOMATIC = ((6 * 3600, 0), (2 * 86_400, MINUTE.seconds), (32 * 86_400, QUARTER.seconds))
"""Ranges up to so many seconds are shown in buckets of so many (0: every reading); longer ones by the day: some 3,000 points."""

SILENCE_S = 150.0
"""Readings further apart than this have a gap between them: a row is due every minute."""

_STEPS = {variable.name: (str(variable.column), variable.scale) for variable in READING_COLUMNS}


class Bucket(NamedTuple):
    """Values from ``at_us`` on, in the variable's unit; so many ``readings`` held one, in so many ``minutes``."""

    at_us: int
    min: float
    mean: float
    max: float
    last: float
    readings: int
    minutes: int


@dataclass(frozen=True, slots=True)
class Series:
    """Buckets of ``every_s`` seconds in time order; 0: every reading is a bucket of its own.

    ``since_us`` is where the series begins; ``finer_since_us`` is None unless this width is kept only from then on while coarser
    ones reach further back.
    """

    ups: str
    variable: str
    unit: str
    every_s: int
    since_us: int
    until_us: int
    points: list[Bucket]
    finer_since_us: int | None = None

    @property
    def gap_us(self) -> int:
        """Neighbours further apart than this have a gap between them."""
        return round(max(SILENCE_S, 1.5 * self.every_s) * SECOND_US)


class StatusSpan(NamedTuple):
    """Status flags that stood from ``at_us`` until ``until_us``."""

    at_us: int
    until_us: int
    status: int


def numeric(variable: str) -> Variable:
    """The numeric variable of that name; :class:`StoreError` with the reason if it has no history."""
    known = VARIABLES.get(variable)
    if known is None:
        raise StoreError(f"{variable}: there is no variable of this name")
    if known.kind is not Kind.NUMBER:
        raise StoreError(f"{variable} is a text, and texts have no history of their own: their changes are in `qxfleet events`")
    return known


def device_id(connection: Connection, ups: str) -> int:
    """The number of a UPS in the database; :class:`StoreError` if nothing of it was ever recorded."""
    found = connection.scalar(select(device.c.id).where(device.c.name == ups))
    if found is None:
        raise StoreError(f"{ups}: nothing of a UPS of this name is recorded")
    return int(found)


def begins(connection: Connection, ups: str) -> int | None:
    """When what is recorded of a UPS begins; None: nothing is."""
    number = connection.scalar(select(device.c.id).where(device.c.name == ups))
    return None if number is None else min(_firsts(connection, int(number)).values(), default=None)


def joined(older: Series, newer: Series) -> Series:
    """Two series of one variable at one width; ``newer`` has what came last, and its first bucket may lack its beginning."""
    whole = newer.points[1:] if newer.every_s and older.points and newer.points else newer.points
    begins_us = whole[0].at_us if whole else older.until_us
    return replace(older, points=[*(point for point in older.points if point.at_us < begins_us), *whole])


def series(
    connection: Connection, ups: str, variable: str, since_us: int | None, until_us: int, every_s: int | None = None
) -> Series:
    """A variable's buckets in ``[since, until)``; ``since`` None: from the first reading on, ``every_s`` None: as suits.

    :class:`StoreError` for an unknown UPS or a variable without history.
    """
    known = numeric(variable)
    number = device_id(connection, ups)
    firsts = _firsts(connection, number)
    oldest_us = min(firsts.values(), default=until_us)
    begin_us = oldest_us if since_us is None else since_us
    asked_us = max(begin_us, oldest_us)
    width_s = _width_s(until_us - asked_us, asked_us, firsts) if every_s is None else every_s
    made = [tier for tier in reversed(TIERS) if width_s and width_s % tier.seconds == 0]
    if width_s:
        begin_us -= begin_us % (width_s * SECOND_US)
    reach_us = min((firsts[source] for source in (*made, None) if source in firsts), default=oldest_us)
    done = marks(connection)
    folded: list[Bucket] = []
    at_us = begin_us
    carried = _Carried(connection, number, known, begin_us) if variable not in _STEPS else None
    with uncollected():
        for tier in made:
            end_us = min(done.get(tier.mark, 0), until_us)
            if end_us > at_us:
                rows = _tier_rows(connection, number, known, tier, at_us, end_us, carried)
                _append(folded, _fold(rows, width_s * SECOND_US) if width_s > tier.seconds else rows, width_s)
                at_us = end_us
        if until_us > at_us:
            raw = _raw_rows(connection, number, known, at_us, until_us, carried)
            if width_s and width_s % MINUTE.seconds == 0:
                raw = [bucket._replace(minutes=1) for bucket in _fold(raw, MINUTE.us)]
            _append(folded, _fold(raw, width_s * SECOND_US) if width_s else raw, width_s)
    late = reach_us if reach_us > asked_us + max(width_s, MINUTE.seconds) * SECOND_US else None
    return Series(ups, variable, known.unit, width_s, begin_us, until_us, folded, late)


def status_spans(connection: Connection, ups: str, since_us: int | None, until_us: int) -> list[StatusSpan]:
    """What the status was in ``[since, until)``: spans of equal flags, from readings where they are kept, else from roll-ups.

    A span ends where readings stop coming; from a roll-up it holds every flag that was up in its bucket.
    """
    number = device_id(connection, ups)
    firsts = _firsts(connection, number)
    at_us = min(firsts.values(), default=until_us) if since_us is None else since_us
    spans: list[StatusSpan] = []
    for tier in (DAY, QUARTER, MINUTE, None):
        finer = (None, *TIERS)[: TIERS.index(tier) + 1] if tier else ()
        end_us = min([until_us, *(firsts[source] for source in finer if source in firsts)])
        if end_us <= at_us:
            continue
        table, column, width_us = ("reading", "status", 0) if tier is None else (tier.table.name, "status_seen", tier.us)
        patience_us = round(SILENCE_S * SECOND_US) if tier is None else 0
        rows = _rows(connection, table, number, column, at_us, end_us)
        for row_us, status in rows if tier is not MINUTE else _joined(rows, _packed_status(connection, number, at_us, end_us)):
            last = spans[-1] if spans else None
            if last is not None and row_us - last.until_us <= patience_us:
                spans[-1] = last._replace(until_us=row_us + (width_us if last.status == status else 0))
                if last.status == status:
                    continue
            spans.append(StatusSpan(row_us, row_us + width_us, status))
        at_us = end_us
    return spans


@contextmanager
def uncollected() -> Iterator[None]:
    """So many small tuples at once: the garbage collector would look through all of them again and again, and find nothing."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


# One source after the other

_bucket = partial(tuple.__new__, Bucket)
"""A bucket from a row, at a quarter of the constructor's cost."""

_POSTGRES_US = "round(date_part('epoch', r.at) * 1000000)::bigint"
_POSTGRES_TIME = "to_timestamp(0) + {} * interval '1 microsecond'"

def _firsts(connection: Connection, number: int) -> dict[Tier | None, int]:
    """When each tier, and the readings themselves (None), begin for a device; what is empty is absent.

    A bucket begins before what it is made of; where that is still there, the tier begins with it.
    """
    found: dict[Tier | None, int] = {}
    for tier, table in ((None, reading), *((tier, tier.table) for tier in TIERS)):
        first_us = connection.scalar(select(func.min(table.c.at)).where(table.c.device_id == number))
        if tier is MINUTE:
            hours = packed_minutes.c
            hour = connection.execute(
                select(hours.at, hours.rows).where(hours.device_id == number).order_by(hours.at).limit(1)
            ).first()
            if hour is not None:
                packed_us = next(_counts(hour.at, hour.rows))[0]
                first_us = packed_us if first_us is None else min(first_us, packed_us)
        if first_us is not None:
            within = tier.us if tier else 0
            found[tier] = next((at for at in found.values() if first_us <= at < first_us + within), first_us)
    return found


def _width_s(span_us: int, asked_us: int, firsts: dict[Tier | None, int]) -> int:
    """The bucket that gives a readable number of points and whose tier, or a finer one, reaches back far enough."""
    wanted_s = next((width_s for longest_s, width_s in AUTOMATIC if span_us <= longest_s * SECOND_US), DAY.seconds)
    sources: list[Tier | None] = [None]
    for tier in (None, *TIERS):
        if tier is not None:
            sources.append(tier)
        width_s = tier.seconds if tier is not None else 0
        reach_us = min((firsts[source] for source in sources if source in firsts), default=None)
        if width_s >= wanted_s and reach_us is not None and reach_us <= asked_us + max(width_s, MINUTE.seconds) * SECOND_US:
            return width_s
    return DAY.seconds


def _rows(
    connection: Connection, table: str, number: int, columns: str, begin_us: int, end_us: int, more: str = ""
) -> Iterator[Any]:
    """Rows of a device in ``[begin, end)``: time in µs and these columns, straight from the driver: there may be many."""
    postgres = connection.dialect.name == "postgresql"
    mark, at, bound = ("%s", _POSTGRES_US, _POSTGRES_TIME.format("%s")) if postgres else ("?", "r.at", "?")
    statement = (
        f"SELECT {at}, {columns} FROM {table} r WHERE r.device_id = {mark} AND r.at >= {bound} AND r.at < {bound} {more} "
        "ORDER BY r.at"
    )
    driver: Any = connection.connection.driver_connection
    cursor = driver.cursor(binary=True) if postgres else driver.cursor()
    try:
        found = cursor.execute(statement, (number, begin_us, end_us))
        yield from found.fetchall() if postgres else found  # psycopg makes all rows at once for half of what each one costs
    except connection.dialect.loaded_dbapi.Error as error:
        raise StoreError(explain(connection.engine.url, error)) from error
    finally:
        cursor.close()


def _tier_rows(
    connection: Connection, number: int, variable: Variable, tier: Tier, begin_us: int, end_us: int, carried: _Carried | None
) -> list[Bucket]:
    if carried is not None:
        return list(carried.tier_rows(tier, begin_us, end_us))
    name, scale = _STEPS[variable.name]
    real = "::float8" if connection.dialect.name == "postgresql" else " * 1.0"
    values = (f"r.{name}_mean" if part == "mean" else f"coalesce(r.{name}_{part}, r.{name}_mean)" for part in ROLLED[:4])
    columns = ", ".join(f"{value}{real} / {scale}" for value in values) + f", coalesce(r.{name}_count, r.rows), r.minutes"
    found = _rows(connection, tier.table.name, number, columns, begin_us, end_us, f"AND r.{name}_mean IS NOT NULL")
    made = list(map(_bucket, found))
    return made if tier is not MINUTE else _joined(made, _packed_buckets(connection, number, name, scale, begin_us, end_us))


def _raw_rows(
    connection: Connection, number: int, variable: Variable, begin_us: int, end_us: int, carried: _Carried | None
) -> list[Bucket]:
    if carried is not None:
        return list(carried.raw_rows(begin_us, end_us))
    name, scale = _STEPS[variable.name]
    found = _rows(connection, "reading", number, f"r.{name}", begin_us, end_us, f"AND r.{name} IS NOT NULL")
    return [Bucket(at, value, value, value, value, 1, 1) for at, value in ((at, steps / scale) for at, steps in found)]


# Packed minutes


def _packed(connection: Connection, number: int, columns: str, begin_us: int, end_us: int) -> Iterator[Any]:
    return _rows(connection, "packed_minutes", number, columns, begin_us - begin_us % HOUR_US, end_us)


def _packed_buckets(
    connection: Connection, number: int, name: str, scale: int, begin_us: int, end_us: int
) -> list[Bucket]:
    """Column by column, by what is written in C: half a million numbers for a month."""
    made: list[Bucket] = []
    for at_us, counts, body in _packed(connection, number, f"r.rows, r.{name}", begin_us, end_us):
        if body is None:
            continue
        least, [rows] = unpack(counts, 1)
        base, [over, below, above, final, lacking] = unpack(body, 5)
        mean = [base + each for each in over]
        low = list(map(sub, mean, below))
        known = [least + count - lack for count, lack in zip(rows, lacking, strict=True)]
        values = (map(truediv, each, repeat(scale)) for each in (low, mean, map(add, mean, above), map(add, low, final)))
        hour = compress(map(_bucket, zip(_minutes(at_us), *values, known, repeat(1), strict=False)), map((0).__lt__, known))
        if begin_us <= at_us and at_us + HOUR_US <= end_us:
            made += hour
        else:
            made += [bucket for bucket in hour if begin_us <= bucket.at_us < end_us]
    return made


def _packed_status(connection: Connection, number: int, begin_us: int, end_us: int) -> Iterator[tuple[int, int]]:
    for at_us, counts, body in _packed(connection, number, "r.rows, r.status", begin_us, end_us):
        base, (seen, _) = unpack(body, 2)
        for at, _count in _counts(at_us, counts):
            if begin_us <= at < end_us:
                yield at, base + seen[(at - at_us) // MINUTE.us]


def _counts(at_us: int, body: bytes) -> Iterator[tuple[int, int]]:
    """The minutes of an hour that exist, and how many readings were stored in each."""
    least, [rows] = unpack(body, 1)
    return ((at, least + count) for at, count in zip(_minutes(at_us), rows, strict=False) if least + count)


def _minutes(hour_us: int) -> range:
    return range(hour_us, hour_us + HOUR_US, MINUTE.us)


def _joined(one: Iterable[T], other: Iterable[T]) -> list[T]:
    """Minutes of open and of packed hours, in time order."""
    return sorted([*other, *one], key=itemgetter(0))


class _Carried:
    """A variable that is stored when it changes: between two changes it is what it was, as long as readings came."""

    def __init__(self, connection: Connection, number: int, variable: Variable, begin_us: int) -> None:
        self._connection = connection
        self._number = number
        self._name = variable.name
        self._value: float | None = self._before(begin_us)

    def _before(self, at_us: int) -> float | None:
        """The last value told before a time."""
        postgres = self._connection.dialect.name == "postgresql"
        end = _POSTGRES_TIME.format(":end") if postgres else ":end"
        told = "r.extra ->> :name IS NOT NULL" if postgres else "json_extract(r.extra, :path) IS NOT NULL"
        newest = self._connection.execute(
            text(
                f"SELECT r.extra FROM reading r WHERE r.device_id = :number AND r.at < {end} AND r.extra IS NOT NULL AND {told} "
                "ORDER BY r.at DESC LIMIT 1"
            ),
            {"number": self._number, "end": at_us, **({"name": self._name} if postgres else {"path": f'$."{self._name}"'})},
        ).scalar()
        if newest is not None:
            return float((json.loads(newest) if isinstance(newest, str) else newest)[self._name])
        for tier in TIERS:
            last = self._connection.execute(
                text(
                    "SELECT r.last FROM extra_rollup r WHERE r.device_id = :number AND r.name = :name "
                    f"AND r.resolution_s = :every AND r.at < {end} ORDER BY r.at DESC LIMIT 1"
                ),
                {"number": self._number, "name": self._name, "every": tier.seconds, "end": at_us - tier.us + 1},
            ).scalar()
            if last is not None:
                return float(last)
        return None

    def tier_rows(self, tier: Tier, begin_us: int, end_us: int) -> Iterator[Bucket]:
        which = f"AND r.name = '{self._name}' AND r.resolution_s = {tier.seconds}"
        columns = "r.min, r.mean, r.max, r.last, r.count"
        told = {at: row for at, *row in _rows(self._connection, "extra_rollup", self._number, columns, begin_us, end_us, which)}
        found: Iterable[Any] = _rows(self._connection, tier.table.name, self._number, "r.rows, r.minutes", begin_us, end_us)
        if tier is MINUTE:
            hours = _packed(self._connection, self._number, "r.rows", begin_us, end_us)
            minutes = ((at, count, 1) for hour in hours for at, count in _counts(*hour) if begin_us <= at < end_us)
            found = _joined(found, minutes)
        for at, count, length in found:
            if at in told:  # unless every reading told it, what stood before may have gone on for a while
                low, mean, high, last, of = told[at]
                before = last if self._value is None or of == count else self._value
                yield Bucket(at, min(low, before), mean, max(high, before), last, count, length)
                self._value = last
            elif self._value is not None:
                yield Bucket(at, self._value, self._value, self._value, self._value, count, length)

    def raw_rows(self, begin_us: int, end_us: int) -> Iterator[Bucket]:
        for at, extra in _rows(self._connection, "reading", self._number, "r.extra", begin_us, end_us):
            if extra is not None:
                told = json.loads(extra) if isinstance(extra, str) else extra
                self._value = told.get(self._name, self._value)
            if (value := self._value) is not None:
                yield Bucket(at, value, value, value, value, 1, 1)


def _fold(rows: Iterable[Bucket], width_us: int) -> list[Bucket]:
    """Rows in time order into buckets; a mean weighs each row by the minutes it stands for."""
    made: list[Bucket] = []
    start = -1
    low = high = last = total = 0.0
    count = weight = 0
    for at, row_low, mean, row_high, row_last, row_count, minutes in rows:
        bucket = at - at % width_us
        if bucket != start:
            if count:
                made.append(Bucket(start, low, total / weight, high, last, count, weight))
            start, low, high, total, count, weight = bucket, row_low, row_high, 0.0, 0, 0
        low, high, last = min(low, row_low), max(high, row_high), row_last
        total += mean * minutes
        weight += minutes
        count += row_count
    if count:
        made.append(Bucket(start, low, total / weight, high, last, count, weight))
    return made


def _append(made: list[Bucket], more: list[Bucket], width_s: int) -> None:
    """Go on with another source. The halves of a bucket that both have part in become one, weighed by their minutes."""
    if width_s and made and more and made[-1].at_us == more[0].at_us:
        before, after = made.pop(), more[0]
        count = before.readings + after.readings
        mean = (before.mean * before.minutes + after.mean * after.minutes) / (before.minutes + after.minutes)
        low, high, minutes = min(before.min, after.min), max(before.max, after.max), before.minutes + after.minutes
        more[0] = Bucket(before.at_us, low, mean, high, after.last, count, minutes)
    made += more
