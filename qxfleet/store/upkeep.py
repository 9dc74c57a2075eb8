"""Keeping a database in shape: what ``db prune`` and ``db check`` do, beside a running agent or without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, delete, func, select, text
from sqlalchemy.exc import DatabaseError

from qxfleet.store.engine import explain, explained, open_engine
from qxfleet.store.migrate import SchemaState, Standing, standing
from qxfleet.store.tables import device, metadata, reading

CHUNK = 20_000
"""Rows deleted in one transaction: a fraction of a second, so that the agent's commits pass between two."""

PAGES = 2_000
"""Pages given back in one transaction, for the same reason."""


def _nothing(_deleted: int) -> None:
    pass


def prune(url: str, before_us: int, progress: Callable[[int], None] = _nothing) -> int:
    """Delete readings older than ``before_us`` and give their space back; how many there were. Events and orders stay.

    ``progress`` gets the count so far after each transaction. Safe beside a running agent.
    """
    engine = open_engine(url, writing=True)
    try:
        with explained(engine):
            with engine.connect() as connection:
                devices = list(connection.scalars(select(device.c.id).order_by(device.c.id)))
            deleted = 0
            for device_id in devices:
                while count := _prune_chunk(engine, device_id, before_us):
                    deleted += count
                    progress(deleted)
            _give_back(engine)
            return deleted
    finally:
        engine.dispose()


def _prune_chunk(engine: Engine, device_id: int, before_us: int) -> int:
    mine = reading.c.device_id == device_id
    with engine.begin() as connection:
        edge = select(reading.c.at).where(mine, reading.c.at < before_us).order_by(reading.c.at).offset(CHUNK).limit(1)
        until = connection.scalar(edge)
        return connection.execute(delete(reading).where(mine, reading.c.at < (until or before_us))).rowcount


def _give_back(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "sqlite":
            driver: Any = connection.connection.driver_connection
            while driver.execute("PRAGMA freelist_count").fetchone()[0]:
                driver.executescript(f"PRAGMA incremental_vacuum({PAGES})")  # execute() would free a single page
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        else:
            connection.exec_driver_sql("VACUUM (ANALYZE) reading")


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
            try:
                schema = standing(connection)
            except DatabaseError as error:  # so damaged that not even the list of tables can be read
                return CheckReport(SchemaState(Standing.FOREIGN, None), {}, (explain(engine.url, error),))
            problems = _problems_of(connection)
            if schema.standing is not Standing.CURRENT:
                found = schema.revision or "none"
                problems.append(f"schema is {found}, this qxfleet works with {schema.ours}: run qxfleet db upgrade")
            if problems:
                return CheckReport(schema, {}, tuple(problems))
            tables = metadata.sorted_tables
            rows = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
            return CheckReport(schema, rows, ())
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
