"""Table ``reading`` on PostgreSQL: a partition for each week from Monday on, and one for whatever has none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from qxfleet.model.clock import from_us
from qxfleet.store.tiers import DAY_US

WEEK_US = 7 * DAY_US
MONDAY_US = 4 * DAY_US
"""1970-01-05 was the first Monday."""

ELSEWHEN = "reading_elsewhen"
"""Readings of weeks that have no partition: their clock was wrong, or nobody made the week in time."""

_ADVISORY_LOCK = 0x71786677
"""PostgreSQL's key for "one makes weeks at a time"."""

_NAMED = """
SELECT inhrelid::regclass::text, (substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \\(''([^'']+)''\\)'))::timestamptz
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'reading'::regclass
"""


def partitions(connection: Connection) -> dict[str, datetime | None]:
    """Partitions by name, with the time they end at; None for :data:`ELSEWHEN`."""
    return dict(connection.execute(text(_NAMED)).all())


def make_weeks(connection: Connection, since_us: int, until_us: int) -> None:
    """Make the weeks of ``[since, until]`` that are not there; readings that wait elsewhen move in. Nothing on SQLite."""
    if connection.dialect.name != "postgresql":
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    there = partitions(connection)
    first_us = since_us - (since_us - MONDAY_US) % WEEK_US
    for monday_us in range(first_us, until_us + 1, WEEK_US):
        monday = from_us(monday_us)
        name = f"reading_{monday:%Y%m%d}"
        before = there.get("reading_before_0002")
        if name in there or (before is not None and monday < before):
            continue
        begin, end = f"'{monday:%Y-%m-%d}T00:00:00Z'", f"'{monday + timedelta(7):%Y-%m-%d}T00:00:00Z'"
        connection.execute(text(f"LOCK TABLE {ELSEWHEN} IN SHARE ROW EXCLUSIVE MODE"))  # nothing of that week comes in between
        connection.execute(text(f"CREATE TABLE {name} (LIKE reading INCLUDING ALL)"))
        connection.execute(
            text(
                f"WITH moved AS (DELETE FROM {ELSEWHEN} WHERE at >= {begin} AND at < {end} RETURNING *) "
                f"INSERT INTO {name} SELECT * FROM moved"
            )
        )
        connection.execute(text(f"ALTER TABLE reading ATTACH PARTITION {name} FOR VALUES FROM ({begin}) TO ({end})"))


def past(connection: Connection, before_us: int) -> list[str]:
    """Partitions that end at or before a time, oldest first; none on SQLite."""
    if connection.dialect.name != "postgresql":
        return []
    limit = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=before_us)
    ended = sorted((end, name) for name, end in partitions(connection).items() if end is not None and end <= limit)
    return [name for _, name in ended]
