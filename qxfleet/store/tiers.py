"""Tiers: readings rolled up by minute, quarter of an hour and day, each made from the one below it.

A quarter of an hour is rolled up at a time, UPS by UPS, in steps of a fraction of a second. How far a tier has got, and at which
UPS the next step goes on, are rows of ``meta``, committed with the buckets themselves: a step may be interrupted anywhere and run
twice. A bucket gives way only to one of at least as many readings, so that rolling up again after the readings below were
deleted takes nothing away.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, Table, TextClause, bindparam, delete, func, select, text

from qxfleet.model.status import Status
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import minutes
from qxfleet.store.tables import ROLLED, Microseconds, meta, reading, reading_day, reading_minute, reading_quarter
from qxfleet.store.tables import device as devices

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US

GRACE_US = 60 * SECOND_US
"""Readings younger than this may still be on their way into the database."""

LATE_US = 30 * SECOND_US
"""A reading that comes in this long after its time may belong to a bucket that is made already."""

STEP_US = 900 * SECOND_US
"""So much is rolled up at a time, of every UPS."""

DEVICES = 10
"""UPSes of one statement: a step ends after the one with which it has taken :data:`~qxfleet.store.minutes.BUDGET_S`."""

LATE = "late-readings-from"
STEP = "roll-up-goes-on"
"""The key in ``meta`` of the step that is under way: the time it begins, and the UPS behind which it goes on."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier: its bucket in seconds, its table, and the tier it is made from (None: from the readings)."""

    name: str
    seconds: int
    table: Table
    below: Tier | None = None

    @property
    def us(self) -> int:
        """The bucket in microseconds."""
        return self.seconds * SECOND_US

    @property
    def mark(self) -> str:
        """The key in ``meta`` of the time up to which this tier is made."""
        return f"rolled-up-until.{self.name}"


MINUTE = Tier("minute", 60, reading_minute)
QUARTER = Tier("quarter", 900, reading_quarter, MINUTE)
DAY = Tier("day", 86_400, reading_day, QUARTER)
TIERS = (MINUTE, QUARTER, DAY)

PUT = text(
    "INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)

def mark_late(connection: Connection, at_us: int) -> None:
    """Note that readings came in whose time is long past, the oldest at ``at_us``: their buckets are to be made again.

    Each note is a row of its own: nobody waits for it, and a step that began before it was committed does not take it for done.
    """
    put(connection, f"{LATE}.{uuid.uuid4().hex}", at_us)


def marks(connection: Connection) -> dict[str, int]:
    """How far each tier has got, by its mark, and where late readings begin; absent: nowhere, none."""
    keys = tuple(tier.mark for tier in TIERS)
    done = {key: int(value) for key, value in connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.in_(keys)))}
    late = _late(connection)
    return done | ({LATE: min(late.values())} if late else {})


def _late(connection: Connection) -> dict[str, int]:
    """The notes of late readings, by key."""
    found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(LATE, autoescape=True)))
    return {key: int(value) for key, value in found}


def put(connection: Connection, key: str, at_us: int | str) -> None:
    """Set a mark."""
    connection.execute(PUT, {"key": key, "value": str(at_us)})


def _forget(connection: Connection, *keys: str) -> None:
    connection.execute(delete(meta).where(meta.c.key.in_(keys)))


def roll_up_step(connection: Connection, now_us: int) -> bool:
    """One short step of rolling up, or of packing minutes; whether there is more to do.

    Readings that came late go first. Call it in a transaction of its own or with others; what it does stands or falls with that.
    """
    if connection.dialect.name == "postgresql":
        alone = connection.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": minutes.ADVISORY_LOCK})
        if not alone:
            return False
    edge_us = _floor(now_us - GRACE_US, STEP_US)
    done = marks(connection)
    if MINUTE.mark not in done:
        first_us = _next_reading(connection, 0)
        if first_us is None or first_us >= edge_us:
            return False
        done[MINUTE.mark] = _floor(first_us, DAY.us)
    until_us = _floor(min(done[MINUTE.mark], edge_us), STEP_US)  # beyond now: the clock was wrong for a while
    begin_us, after = _step(connection, until_us, edge_us)
    if begin_us < edge_us:
        device = _roll_chunks(connection, begin_us, until_us, after)
        if device is not None:
            put(connection, STEP, json.dumps([begin_us, device]))
            return True
        _forget(connection, STEP)
        if begin_us < until_us:
            put(connection, LATE, begin_us + STEP_US)
            return True
        begin_us += STEP_US
    for tier in TIERS:
        put(connection, tier.mark, _floor(begin_us, tier.us))
    return begin_us < edge_us or minutes.pack_step(connection, _floor(begin_us, minutes.HOUR_US))


def _step(connection: Connection, until_us: int, edge_us: int) -> tuple[int, int]:
    """Where the step begins that is due, ``edge_us`` if none is, and behind which UPS it goes on.

    Late readings whose notes are there when a step begins are in it; of each the note stays until the step is done.
    """
    under_way = connection.scalar(select(meta.c.value).where(meta.c.key == STEP))
    begin_us, device = json.loads(under_way or "[null, 0]")
    if begin_us is not None and begin_us < edge_us:
        return begin_us, device
    notes = _late(connection)
    _forget(connection, *notes)
    late_us = _floor(max(0, min(notes.values(), default=until_us)), STEP_US)
    found_us = _next_reading(connection, min(late_us, until_us))
    found_us = edge_us if found_us is None else min(_floor(found_us, STEP_US), edge_us)
    if late_us < until_us and found_us < until_us:
        put(connection, LATE, found_us)
        return found_us, 0
    if until_us % DAY.us:  # the day that was begun is rolled up, whatever follows
        found_us = min(found_us, _floor(until_us, DAY.us) + DAY.us - STEP_US)
    return max(until_us, found_us), 0


def _roll_chunks(connection: Connection, begin_us: int, until_us: int, after: int) -> int | None:
    """Roll a quarter of an hour up, of some UPSes behind one; the last of them, None: those were all."""
    device: int = after
    end_us, day_us = begin_us + STEP_US, _floor(begin_us, DAY.us)
    deadline_s = time.monotonic() + minutes.BUDGET_S
    while True:
        chosen = select(devices.c.id).where(devices.c.id > device).order_by(devices.c.id).limit(DEVICES)
        numbers = connection.scalars(chosen).all()
        if numbers:
            first, last = numbers[0], numbers[-1]
            minutes.reopen(connection, begin_us, end_us, first, last)
            _roll(connection, MINUTE, begin_us, end_us, first, last)
            _roll(connection, QUARTER, begin_us, end_us, first, last)
            if day_us + DAY.us <= max(until_us, end_us):
                _roll(connection, DAY, day_us, day_us + DAY.us, first, last)
        if len(numbers) < DEVICES:
            return None
        device = numbers[-1]
        if time.monotonic() >= deadline_s:
            return device


def roll_up_range(connection: Connection, since_us: int, until_us: int, device_id: int) -> None:
    """Make every tier of a device anew from its readings in ``[since, until)``, widened to whole days; marks stay as they are."""
    begin_us, end_us = _floor(since_us, DAY.us), _floor(until_us - 1, DAY.us) + DAY.us
    minutes.reopen(connection, begin_us, end_us, device_id, device_id)
    for tier in TIERS:
        _roll(connection, tier, begin_us, end_us, device_id, device_id)


def _floor(at_us: int, step_us: int) -> int:
    return at_us - at_us % step_us


def _next_reading(connection: Connection, since_us: int) -> int | None:
    """The time of the first reading of any device at or after ``since_us``: one look into the index for each device."""
    first = (
        select(func.min(reading.c.at)).where(reading.c.device_id == devices.c.id, reading.c.at >= since_us).scalar_subquery()
    )
    found: int | None = connection.scalar(select(func.min(first, type_=Microseconds())).select_from(devices))
    return found


def _roll(connection: Connection, tier: Tier, begin_us: int, end_us: int, first: int, last: int) -> None:
    """Make the buckets of ``[begin, end)`` anew, of devices ``first`` to ``last``."""
    bounds = {"begin": begin_us, "end": end_us, "first": first, "last": last}
    connection.execute(_statement(tier, connection.dialect.name), bounds)
    connection.execute(_extra_statement(tier, connection.dialect.name), bounds)


@cache
def _statement(tier: Tier, dialect: str) -> TextClause:
    """One statement that makes buckets of a tier: readings or finer buckets, folded, then spelled as the table keeps them."""
    names = [str(variable.column) for variable in READING_COLUMNS]
    if tier.below is None:
        source = "reading"
        taken = ["r.status AS status_any", "r.status AS status_end", *(f"r.{name}" for name in names)]
        facts = "count(*) AS rows, 1 AS minutes"
        low = high = last = "{0}"
        mean, count = "round(avg({0}))", "count({0})"
    else:
        source = tier.below.table.name
        taken = ["r.rows", "r.minutes", "r.status_seen AS status_any", "r.status_last AS status_end"]
        for name in names:
            taken += [f"r.{name}_mean", *(f"coalesce(r.{name}_{end}, r.{name}_mean) AS {name}_{end}" for end in _ENDS)]
            taken.append(f"CASE WHEN r.{name}_mean IS NOT NULL THEN coalesce(r.{name}_count, r.rows) END AS {name}_count")
        facts = "sum(rows) AS rows, sum(minutes) AS minutes"
        low, high, last = "{0}_min", "{0}_max", "{0}_last"
        mean = "round(sum({0}_mean * minutes) * 1.0 / sum(minutes) FILTER (WHERE {0}_mean IS NOT NULL))"
        count = "coalesce(sum({0}_count), 0)"
    parts = {"min": f"min({low})", "mean": mean, "max": f"max({high})", "last": _last(last, tier, dialect), "count": count}
    folded = [f"{parts[part].format(name)} AS {name}_{part}" for name in names for part in ROLLED]
    spelled = [_SPELLED[part].format(name) for name in names for part in ROLLED]
    keep = [column.name for column in tier.table.columns]
    return _bound(
        f"INSERT INTO {tier.table.name} ({', '.join(keep)}) "
        f"SELECT device_id, bucket, rows, minutes, status_seen, status_last, {', '.join(spelled)} FROM ("
        f"SELECT device_id, bucket, {facts}, {_any_flag(dialect)} AS status_seen, "
        f"{_last('status_end', tier, dialect)} AS status_last, {', '.join(folded)} FROM ("
        f"SELECT r.device_id, r.at, {_bucket(tier, dialect)}, {', '.join(taken)} FROM device d CROSS JOIN {source} r "
        f"WHERE {_WITHIN}) f GROUP BY device_id, bucket) g WHERE true "
        f"ON CONFLICT (device_id, at) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in keep[2:])} "
        f"WHERE excluded.rows >= {tier.table.name}.rows"
    )


_WITHIN = "d.id BETWEEN :first AND :last AND r.device_id = d.id AND r.at >= :begin AND r.at < :end"
_ENDS = ("min", "max", "last")
_SPELLED = {
    "mean": "{0}_mean", **{end: f"nullif({{0}}_{end}, {{0}}_mean)" for end in _ENDS}, "count": "nullif({0}_count, rows)"
}  # fmt: skip


@cache
def _extra_statement(tier: Tier, dialect: str) -> TextClause:
    """The same for the values without a column, which are few: ``last`` is found by a window."""
    if tier.below is None:
        json, number = ("json_each_text", "double precision") if dialect == "postgresql" else ("json_each", "REAL")
        value = f"CAST(e.value AS {number})"
        taken = f"e.key AS name, {value} AS low, {value} AS middle, {value} AS high, {value} AS final, 1 AS weight"
        source, more = f"reading r CROSS JOIN {json}(r.extra) e", "r.extra IS NOT NULL"
    else:
        taken = "r.name, r.min AS low, r.mean AS middle, r.max AS high, r.last AS final, r.count AS weight"
        source, more = "extra_rollup r", f"r.resolution_s = {tier.below.seconds}"
    values = ("min", "mean", "max", "last", "count")
    return _bound(
        f"INSERT INTO extra_rollup (device_id, name, resolution_s, at, {', '.join(values)}) "
        f"SELECT device_id, name, {tier.seconds}, bucket, min(low), sum(middle * weight) / sum(weight), max(high), min(newest), "
        "sum(weight) FROM (SELECT device_id, name, bucket, low, middle, high, weight, first_value(final) OVER "
        "(PARTITION BY device_id, name, bucket ORDER BY at DESC) AS newest FROM ("
        f"SELECT r.device_id, r.at, {_bucket(tier, dialect)}, {taken} FROM device d CROSS JOIN {source} "
        f"WHERE {_WITHIN} AND {more}) f) w GROUP BY device_id, name, bucket "
        f"ON CONFLICT (device_id, name, resolution_s, at) DO UPDATE SET {', '.join(f'{v} = excluded.{v}' for v in values)} "
        "WHERE excluded.count >= extra_rollup.count"
    )


def _bound(statement: str) -> TextClause:
    return text(statement).bindparams(bindparam("begin", type_=Microseconds()), bindparam("end", type_=Microseconds()))


def _bucket(tier: Tier, dialect: str) -> str:
    if dialect == "postgresql":
        return f"date_bin('{tier.seconds} seconds', r.at, to_timestamp(0)) AS bucket"
    return f"r.at - r.at % {tier.us} AS bucket"


def _last(value: str, tier: Tier, dialect: str) -> str:
    """The value of the newest row that has one, as an aggregate both databases know: time and value in one 64-bit number."""
    unit_us = 1 if tier.below is None else tier.below.us
    at = "CAST(extract(epoch FROM at) * 1000000 AS bigint)" if dialect == "postgresql" else "at"
    return f"max(({at} % {tier.us} / {unit_us}) * 4294967296 + {value} + 2147483648) % 4294967296 - 2147483648"


def _any_flag(dialect: str) -> str:
    if dialect == "postgresql":
        return "bit_or(status_any)"
    return " + ".join(f"max(status_any & {flag.value})" for flag in Status if flag)
