"""Bring a database to the schema this qxfleet works with; alembic is imported only here, and only when there is work."""

from __future__ import annotations

import enum
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from qxfleet.errors import StoreError
from qxfleet.store.engine import explained, open_engine, shown, sqlite_path
from qxfleet.store.tables import SCHEMA, SCHEMA_TABLE, metadata
from qxfleet.store.tables.fleet import FLEET_SCHEMA

SCRIPTS = "qxfleet.migrations:"
"""Alembic finds the revisions through the package, from a wheel as from an editable install."""

LAST_SHARED = "0005"
"""Up to this revision SQLite and PostgreSQL had the same tables; then each has its own."""

ADVISORY_LOCK = 0x71786665
"""PostgreSQL's key for "one upgrade at a time": the letters qxfe."""


class Standing(enum.Enum):
    """A database's schema compared with ours."""

    EMPTY = "empty"
    OLDER = "older"
    CURRENT = "current"
    NEWER = "newer"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What a database holds: its ``revision`` (None: none of ours), ours, and how they compare."""

    standing: Standing
    revision: str | None
    ours: str = SCHEMA


def state(url: str) -> SchemaState:
    """The schema of a database, changing nothing in it; a SQLite file that is not there is empty."""
    engine = open_engine(url, writing=False)
    path = sqlite_path(engine.url)
    try:
        if path is not None and path.parent.is_dir() and not path.exists():
            return SchemaState(Standing.EMPTY, None, SCHEMA)
        with explained(engine), engine.connect() as connection:
            return standing(connection)
    finally:
        engine.dispose()


def standing(connection: Connection) -> SchemaState:
    """The schema as this connection sees it."""
    names = set(inspect(connection).get_table_names())
    target = SCHEMA if connection.dialect.name == "sqlite" else FLEET_SCHEMA
    if SCHEMA_TABLE not in names:
        ours = names.intersection(metadata.tables)
        return SchemaState(Standing.FOREIGN if ours else Standing.EMPTY, None, target)
    revision = connection.scalar(text(f"SELECT version_num FROM {SCHEMA_TABLE}"))
    if revision is None:
        return SchemaState(Standing.EMPTY, None, target)
    found = str(revision)
    if found == target:
        return SchemaState(Standing.CURRENT, found, target)
    place, ours_at = _place(found), _place(target)
    if place is None or ours_at is None or (place[0] != ours_at[0] and found > LAST_SHARED):
        return SchemaState(Standing.FOREIGN, found, target)
    return SchemaState(Standing.OLDER if place < ours_at else Standing.NEWER, found, target)


def _place(revision: str) -> tuple[str, int] | None:
    """Where a revision stands: those that both kinds of database had come before those of the fleet store."""
    branch, _, number = revision.rpartition("_")
    known = branch in ("", "fleet") and number.isdecimal() and len(number) == len(SCHEMA)
    return (branch, int(number)) if known else None


def refuse_unknown(found: SchemaState, where: str) -> None:
    """Raise :class:`StoreError` for a database this qxfleet must not touch."""
    if found.standing is Standing.NEWER:
        raise StoreError(
            f"database {where} has schema {found.revision}, this qxfleet knows up to {found.ours}: upgrade qxfleet or restore "
            f"the copy made before the upgrade (fleet.db.before-{found.revision} beside a SQLite file)"
        )
    if found.standing is Standing.FOREIGN:
        what = f"schema {found.revision!r}" if found.revision else "tables with qxfleet's names"
        raise StoreError(f"database {where} holds {what} that qxfleet did not make: name another database")


def upgrade(url: str, *, busy_s: float | None = None) -> SchemaState:
    """Migrate to our schema in one transaction under a lock; what stood before, so that callers can say what was done.

    A SQLite file with data is copied aside first, to ``<file>.before-<our schema>``. A second upgrade at the same time waits
    and finds nothing left to do. :class:`StoreError` for a newer or foreign schema and for a database out of reach.
    """
    engine = open_engine(url, writing=True, migrating=True, busy_s=busy_s)
    try:
        with explained(engine), engine.begin() as connection:
            return upgrade_on(connection)
    finally:
        engine.dispose()


def upgrade_on(connection: Connection) -> SchemaState:
    """The same in a transaction that is open."""
    url = connection.engine.url
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    before = standing(connection)
    refuse_unknown(before, shown(url))
    if before.standing is Standing.CURRENT:
        return before
    path = sqlite_path(url)
    if path is not None and before.standing is Standing.OLDER:
        copy_aside(path, path.with_name(f"{path.name}.before-{SCHEMA}"))
    run_revisions(connection, before.ours)
    if path is not None and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
        raise StoreError(f"database {path}: row {broken[1]} of {broken[0]} points to no row of {broken[2]}; nothing changed")
    return before


def run_revisions(connection: Connection, target: str) -> None:
    """Apply what is missing up to a revision, in the transaction that is open."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", SCRIPTS)
    config.attributes["connection"] = connection
    command.upgrade(config, target)


def copy_aside(source: Path, target: Path) -> None:
    """A sound copy of a SQLite file in use; the name appears only when the copy is whole and on the disk."""
    part = target.with_name(target.name + ".part")
    try:
        part.unlink(missing_ok=True)
        address = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as old, closing(sqlite3.connect(part)) as new:
            old.backup(new)
        with part.open("rb") as copied:
            os.fsync(copied.fileno())
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(f"{source} could not be copied to {target} before the upgrade: {error}; nothing changed") from error
