"""From a database URL to an engine, and from a database's complaint to a sentence that helps."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from qxfleet.errors import StoreError

FORMS = "sqlite:////var/lib/qxfleet/fleet.db or postgresql+psycopg://user@host/fleet"
DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")

BUSY_S = 5.0
"""How long SQLite waits for another process's write, e.g. ``db prune`` beside the agent."""

UPGRADE_WAIT_S = 60.0
"""How long an upgrade waits for another one on the same SQLite file."""

POSTGRES: dict[str, Any] = {
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "application_name": "qxfleet",
}
"""A server that vanished (its rack lost power too) is noticed in seconds, not in the kernel's quarter of an hour."""


_as_it_is: dict[None, None] = {None: None}
sqlite3.register_adapter(type(None), _as_it_is.__getitem__)
"""Python's driver looks for a way to adapt whatever is no plain number or text, and finding none is dear: told that None is to be
taken as it is, it takes a row with some absent values in half the time."""


def parse_url(url: str) -> URL:
    """The URL taken apart; :class:`StoreError` unless it names a SQLite file or a PostgreSQL database."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"{url!r} is not a database URL; expected {FORMS}") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.drivername in DRIVERS:
        if parsed.database in (None, "", ":memory:"):
            raise StoreError(f"{url!r} names no file, so nothing would be kept; expected {FORMS}")
    elif backend != "postgresql" or parsed.drivername not in DRIVERS:
        raise StoreError(f"{parsed.drivername!r} is not a database qxfleet works with; expected {FORMS}")
    elif not parsed.database:
        raise StoreError(f"{shown(parsed)!r} names no database; expected {FORMS}")
    return parsed


def shown(url: URL) -> str:
    """The URL as it may be printed: without its password."""
    return url.render_as_string(hide_password=True)


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL."""
    if url.get_backend_name() != "sqlite":
        return None
    database = str(url.database).removeprefix("file:") if "uri" in url.query else str(url.database)
    return Path(database)


def open_engine(url: str, *, writing: bool, connections: int = 1, migrating: bool = False, busy_s: float | None = None) -> Engine:
    """An engine with at most ``connections`` connections; nothing is connected yet.

    A ``writing`` engine's transactions take SQLite's write lock at once (a lock taken half-way can fail without waiting);
    any other engine can't write at all. ``migrating`` makes a SQLite file that is not there, waits longer for the lock, and
    leaves foreign keys unchecked, because SQLite changes a table by rebuilding it. ``busy_s``: how long it waits for the lock.
    """
    parsed = parse_url(url)
    options: dict[str, Any] = {"pool_size": connections, "max_overflow": 0, "pool_timeout": 30}
    if parsed.get_backend_name() == "postgresql":
        options["pool_pre_ping"] = not writing
        options["connect_args"] = {key: value for key, value in POSTGRES.items() if key not in parsed.query}
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
    else:
        timeout_s = busy_s if busy_s is not None else UPGRADE_WAIT_S if migrating else BUSY_S
        options["connect_args"] = {"timeout": timeout_s, "check_same_thread": False}
    try:
        engine = create_engine(parsed, **options)
    except ImportError as error:
        raise StoreError(f"{shown(parsed)}: {error.name} is not installed; pip install 'qxfleet[postgres]'") from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, writing=writing, migrating=migrating)
    elif not writing:
        event.listen(engine, "connect", _postgres_reads_only)
    return engine


def _prepare_sqlite(engine: Engine, *, writing: bool, migrating: bool) -> None:
    first = ["PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA journal_mode=WAL"] if writing else ["PRAGMA query_only=ON"]
    pragmas = (
        *first,
        "PRAGMA synchronous=FULL",
        f"PRAGMA foreign_keys={'OFF' if migrating else 'ON'}",
        "PRAGMA journal_size_limit=67108864",
    )
    begin = "BEGIN IMMEDIATE" if writing else "BEGIN"

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own guessing of BEGIN leaves out DDL and savepoints
        cursor = connection.cursor()
        try:
            for pragma in pragmas:
                cursor.execute(pragma)
        finally:
            cursor.close()

    def began(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    path = sqlite_path(engine.url)
    if not migrating and path is not None and "uri" not in engine.url.query:
        address = f"{path.absolute().as_uri()}?mode=rw"  # only a migration makes the file

        def connecting(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> None:
            arguments[0] = address
            options["uri"] = True

        event.listen(engine, "do_connect", connecting)
    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", began)


def _postgres_reads_only(connection: Any, _record: object) -> None:
    connection.read_only = True


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn the database's own errors inside the block into a :class:`StoreError` that says what to do."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(explain(engine.url, error)) from error


def explain(url: URL, error: BaseException) -> str:
    """One sentence: which database, what is wrong, and the remedy where we know one."""
    where = shown(url)
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    reason = " ".join(str(cause).split()) or type(cause).__name__
    path = sqlite_path(url)
    remedy = _sqlite_remedy(path, reason) if path is not None else _postgres_remedy(reason)
    return f"database {where}: {reason}" + (f" ({remedy})" if remedy else "")


def _sqlite_remedy(path: Path, reason: str) -> str:
    if "unable to open" in reason:
        if path.is_dir():
            return "this is a folder; name a file in it"
        if not path.parent.is_dir():
            return f"folder {path.parent} does not exist; create it and give it to the user qxfleet runs as"
        if not path.exists():
            return "there is no such file; qxfleet run and qxfleet db upgrade make one"
        return f"the user qxfleet runs as must be able to write {path} and its folder"
    if "readonly" in reason:
        return f"the user qxfleet runs as must be able to write {path}, {path}-wal and their folder"
    if "not a database" in reason:
        return "the file is something else; move it away or name another one"
    if "malformed" in reason:
        return f"the file is damaged; stop qxfleet and restore a copy, or save what can be read: qxfleet db salvage {path}"
    if "full" in reason:
        return f"free some space on the disk of {path.parent}, or run: qxfleet db prune"
    if "locked" in reason:
        return "another process holds the write lock; it is retried"
    return ""


def _postgres_remedy(reason: str) -> str:
    if "password" in reason or "authentication" in reason or "role " in reason:
        return "check user, password and pg_hba.conf"
    if "does not exist" in reason and "database" in reason:
        return "create it: createdb …"
    if "permission denied" in reason:
        return "the user needs CREATE on the schema the first time, and INSERT, UPDATE, DELETE and SELECT always"
    if "onnection" in reason or "timeout" in reason or "resolve" in reason:
        return "is the server running and reachable from here?"
    return ""
