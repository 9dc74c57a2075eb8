"""Keeping a database in shape: retention, and what ``db prune`` and ``db check`` do, beside a running agent or without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, select, text
from sqlalchemy.exc import DatabaseError, OperationalError

from qxfleet.errors import StoreError
from qxfleet.model.retention import Retention
from qxfleet.store.engine import explain, explained, open_engine
from qxfleet.store.migrate import SchemaState, Standing, standing
from qxfleet.store.minutes import HOUR_US
from qxfleet.store.partitions import ELSEWHEN, make_weeks, past
from qxfleet.store.tables import Microseconds, metadata
from qxfleet.store.tables.fleet import fleet
from qxfleet.store.tiers import DAY, DAY_US, LATE, MINUTE, QUARTER, SECOND_US, Tier, marks, roll_up_step

CHUNK = 20_000
"""Rows deleted in one transaction: a fraction of a second, so that the agent's commits pass between two."""

PAGES = 2_000
"""Pages given back in one transaction, for the same reason."""

LOCK_MS = 500
"""How long a partition waits to be dropped while somebody reads it: all who write would wait behind it."""


def _nothing(_deleted: int) -> None:
    pass


def keep_up_step(connection: Connection, retention: Retention, now_us: int) -> bool:
    """One short step of all that is due: weeks to come, roll-ups, then retention; whether there is more to do.

    Safe to interrupt and to run twice. Readings are deleted only when they are rolled up, and on PostgreSQL by whole weeks.
    """
    make_weeks(connection, now_us, now_us + 8 * DAY_US)
    if roll_up_step(connection, now_us):
        return True
    return prune_step(connection, retention, now_us, whole_weeks=True) > 0


def prune_step(connection: Connection, retention: Retention, now_us: int, *, whole_weeks: bool = False) -> int:
    """Delete one chunk of what is kept no longer; how many rows it was, 0 when nothing is left to delete."""
    for source, before_us in _limits(connection, retention, now_us):
        if source is None:
            deleted = _drop_week(connection, before_us)
            table = ELSEWHEN if whole_weeks and connection.dialect.name == "postgresql" else "reading"
            deleted = deleted or _delete_chunk(connection, table, "device_id, at", before_us)
        else:
            deleted = _delete_chunk(connection, source.table.name, "device_id, at", before_us)
            if source is MINUTE:
                deleted += _delete_chunk(connection, "packed_minutes", "device_id, at", before_us - HOUR_US + 1)
            key, which = "device_id, name, resolution_s, at", f"r.resolution_s = {source.seconds}"
            deleted += _delete_chunk(connection, "extra_rollup", key, before_us, which)
        if deleted:
            return deleted
    return 0


def _limits(connection: Connection, retention: Retention, now_us: int) -> list[tuple[Tier | None, int]]:
    """Each tier (None: the readings) and the time before which it goes: never before the tier above it holds what it held."""
    done = marks(connection)
    late_us = done.get(LATE, now_us)
    kept = (
        (None, retention.raw_s, min(done.get(MINUTE.mark, 0), late_us)),
        (MINUTE, retention.minutes_s, min(done.get(QUARTER.mark, 0), late_us)),
        (QUARTER, retention.quarter_hours_s, min(done.get(DAY.mark, 0), late_us)),
        (DAY, retention.days_s, now_us),
    )
    return [(tier, min(now_us - round(keep_s * SECOND_US), safe_us)) for tier, keep_s, safe_us in kept if keep_s is not None]


def _drop_week(connection: Connection, before_us: int) -> int:
    """Drop the oldest partition that ended before; how many rows it held at least, 0 if there is none or it is being read."""
    for name in past(connection, before_us)[:1]:
        try:
            with connection.begin_nested():
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_MS}ms'"))
                rows = connection.scalar(text(f"SELECT count(*) FROM {name}")) or 0
                connection.execute(text(f"DROP TABLE {name}"))
                connection.execute(text("SET LOCAL lock_timeout = DEFAULT"))
        except OperationalError:  # somebody reads it: it goes next time
            return 0
        return max(1, rows)
    return 0


def _delete_chunk(connection: Connection, table: str, key: str, before_us: int, which: str = "true") -> int:
    chosen = ", ".join(f"r.{column}" for column in key.split(", "))
    statement = text(
        f"DELETE FROM {table} WHERE ({key}) IN (SELECT {chosen} FROM device d CROSS JOIN {table} r "
        f"WHERE r.device_id = d.id AND {which} AND r.at < :before LIMIT {CHUNK})"
    ).bindparams(bindparam("before", type_=Microseconds()))
    return connection.execute(statement, {"before": before_us}).rowcount


def prune(url: str, retention: Retention, now_us: int, progress: Callable[[int], None] = _nothing) -> int:
    """Roll up what is not yet, delete what is kept no longer, and give the space back; how many rows it was.

    Events, orders, tests and discharges stay. ``progress`` gets the count so far after each transaction. Safe beside a
    running agent.
    """
    engine = open_engine(url, writing=True)
    try:
        with explained(engine):
            deleted = 0
            more = True
            while more:
                with engine.begin() as connection:
                    more = roll_up_step(connection, now_us)
                progress(deleted)
            count = 1
            while count:
                with engine.begin() as connection:
                    count = prune_step(connection, retention, now_us)
                deleted += count
                progress(deleted)
            _give_back(engine)
            return deleted
    finally:
        engine.dispose()


def _give_back(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            while driver.execute("PRAGMA freelist_count").fetchone()[0]:
                driver.executescript(f"PRAGMA incremental_vacuum({PAGES})")  # execute() would free a single page
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        else:
            for table in ("reading", "packed_minutes", *(tier.table.name for tier in (MINUTE, QUARTER, DAY)), "extra_rollup"):
                connection.exec_driver_sql(f"VACUUM (ANALYZE) {table}")


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What ``db check`` found: the schema, and rows per table, or else every problem as a sentence."""

    schema: SchemaState
    rows: dict[str, int]
    problems: tuple[str, ...]


def check(url: str) -> CheckReport:
    """Look a database over from end to end, changing nothing. Reads all of it: minutes for many gigabytes.

    SQLite: integrity and foreign keys. PostgreSQL checks pages itself as it reads them, if it was set up with checksums:
    every row and index is visited.
    """
    engine = open_engine(url, writing=False)
    try:
        with explained(engine), engine.connect() as connection:
            schema = standing(connection)
            problems = _problems_of(connection)
            if schema.standing is not Standing.CURRENT:
                found = schema.revision or "none"
                problems.append(f"schema is {found}, this qxfleet works with {schema.ours}: run qxfleet db upgrade")
            if problems:
                return CheckReport(schema, {}, tuple(problems))
            tables = (metadata if connection.dialect.name == "sqlite" else fleet).sorted_tables
            rows = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
            return CheckReport(schema, rows, ())
    except StoreError as error:
        if "malformed" not in str(error):
            raise
        return CheckReport(SchemaState(Standing.FOREIGN, None), {}, (str(error),))  # not even its list of tables can be read
    finally:
        engine.dispose()


def _problems_of(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        invalid = connection.scalars(text("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"))
        return [f"index {name} is not valid: REINDEX INDEX {name}" for name in invalid]
    try:
        found = [line for line in connection.exec_driver_sql("PRAGMA integrity_check").scalars() if line != "ok"]
        for table, row, target, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            found.append(f"row {row} of {table} points to no row of {target}")
    except DatabaseError as error:
        return [explain(connection.engine.url, error)]
    return found
