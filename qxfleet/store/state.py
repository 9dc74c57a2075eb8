"""The file of the state: opened, watched, put aside when it is damaged, begun anew."""

from __future__ import annotations

import enum
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, MetaData, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.store.engine import explained, open_engine, sqlite_path
from qxfleet.store.lock import StateLock
from qxfleet.store.migrate import upgrade
from qxfleet.store.tables import meta, metadata

BUSY_S = 1.0
"""How long a write waits for another process's before it counts as not taken; the side file has the records long before."""

KEYED = ("order_log", "shutdown_run")
"""Tables whose keys are given before the row is written."""

UUID, NAME = "agent.uuid", "agent.name"
"""Rows of ``meta``: whose state it is."""

_DAMAGED = (11, 26)
"""SQLITE_CORRUPT and SQLITE_NOTADB."""


class Gone(enum.Enum):
    """What became of a file under the agent."""

    MOVED = "was moved away or deleted"
    REPLACED = "was replaced by another file"


class State:
    """One database with an engine that writes and one that reads. :class:`StoreError` for a URL that names none."""

    def __init__(self, url: str, readers: int, lock: StateLock | None = None) -> None:
        self._url = url
        self._lock = lock
        self.writing = open_engine(url, writing=True, busy_s=BUSY_S)
        self.reading = open_engine(url, writing=False, connections=readers, busy_s=BUSY_S)
        self.path: Path | None = sqlite_path(self.writing.url)
        self._file: tuple[int, int] | None = None

    def open(self) -> None:
        """Bring it to the schema of this version; a file that is not there is made. :class:`StoreError` if that can't be.

        A lock that could not be taken before, because its folder or the file was missing, is taken now.
        :class:`StateHeld`: the file under the name is another agent's.
        """
        self._take_lock()
        upgrade(self._url, busy_s=BUSY_S)
        self._take_lock()
        if self._lock is not None:
            with explained(self.writing), self.writing.begin() as connection:
                running = self._file is not None
                self._lock.sign(_signed(connection, self._lock.agent, self._lock.uuid, running=running))
        self._file = self._found()

    def _take_lock(self) -> None:
        if self._lock is not None:
            with suppress(OSError):  # told where it was tried first
                self._lock.take()

    def begin_anew(self, why: str) -> str:
        """Put what is there aside, if anything is, and make a new one; a sentence that says so. :class:`StoreError`, OSError.

        Its keys begin where no older state's can be, at the seconds since 1970: what is brought back keeps its own.
        """
        assert self.path is not None
        self.dispose()
        aside = None
        if self.path.exists():
            aside = self.path.with_name(f"{self.path.name}.{why}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + end).rename(aside.with_name(aside.name + end))
        self.open()
        with explained(self.writing), self.writing.begin() as connection:
            begin_keys_at(connection, int(time.time()))
        if aside is None:
            return f"a new one was begun at {self.path}"
        return f"it was put aside as {aside} and a new one was begun; `qxfleet db salvage {aside}` brings back what can be read"

    def gone(self) -> Gone | None:
        """What became of the file under this name since it was opened: None if it is the same one."""
        if self._file is None or self.path is None:
            return None
        found = self._found()
        if found == self._file:
            return None
        return Gone.MOVED if found is None else Gone.REPLACED

    def leave(self) -> str | None:
        """Close a file that is no longer under its name; where it is now, None if it has no name any more.

        SQLite leaves the log of a moved file under the old name, where it would be taken for that of the next one: it is written
        back into its own file first.
        """
        assert self.path is not None
        where = self._name_now()
        self.reading.dispose()
        with explained(self.writing), self.writing.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        self.writing.dispose()
        log = self.path.with_name(f"{self.path.name}-wal")
        if log.exists() and not log.stat().st_size:
            log.unlink(missing_ok=True)
        return where

    def _name_now(self) -> str | None:
        """The name of the file that is open, by its descriptor."""
        for link in Path("/proc/self/fd").glob("*"):
            with suppress(OSError):
                found = link.stat()
                if (found.st_dev, found.st_ino) == self._file:
                    name = str(link.readlink())
                    return None if name.endswith(" (deleted)") else name
        return None

    def last_keys(self) -> dict[str, int]:
        """The largest key that was ever given in each table of :data:`KEYED`. :class:`StoreError` if it can't be read."""
        with explained(self.reading), self.reading.connect() as connection:
            if self.path is not None:
                found = {name: int(seq) for name, seq in connection.execute(text("SELECT name, seq FROM sqlite_sequence"))}
                return {name: found.get(name, 0) for name in KEYED}
            return {name: connection.scalar(select(func.max(metadata.tables[name].c.id))) or 0 for name in KEYED}

    def size(self) -> int | None:
        """Bytes on the disk; None if they can't be told."""
        try:
            if self.path is None:
                with self.writing.begin() as connection:
                    return int(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
            files = (self.path, self.path.with_name(self.path.name + "-wal"))
            return sum(file.stat().st_size for file in files if file.exists())
        except (SQLAlchemyError, OSError):
            return None

    def dispose(self) -> None:
        """Close what is open. The last connection writes the log back into the file, wherever that is now."""
        self.reading.dispose()
        self.writing.dispose()

    def _found(self) -> tuple[int, int] | None:
        if self.path is None:
            return None
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _signed(connection: Connection, agent: str, known: str | None, *, running: bool) -> str:
    """Whose state this is: a UUID that stays, also when the state is begun anew, and the name the agent has now.

    That of an agent that is running stays whatever file it is given.
    """
    found = dict(connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.in_((UUID, NAME)))).all())
    own = str((running and known) or found.get(UUID) or known or uuid.uuid4())
    for key, value in ((UUID, own), (NAME, agent)):
        if key not in found:
            connection.execute(insert(meta).values(key=key, value=value))
        elif found[key] != value:
            connection.execute(update(meta).where(meta.c.key == key).values(value=value))
    return own


def begin_keys_at(connection: Connection, first: int, tables: MetaData = metadata) -> None:
    """Let every table that never gives a key twice go on from here, unless it is further on already."""
    there = {str(name): int(seq) for name, seq in connection.execute(text("SELECT name, seq FROM sqlite_sequence"))}
    for table in tables.sorted_tables:
        if not table.dialect_options["sqlite"]["autoincrement"] or there.get(table.name, 0) >= first:
            continue
        named = {"name": table.name, "seq": first}
        connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), named)
        connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), named)


def damaged(error: BaseException) -> bool:
    """Whether SQLite said that the file is damaged, or no database at all."""
    cause = error.__cause__ if isinstance(error, StoreError) else error
    code = getattr(cause.orig, "sqlite_errorcode", None) if isinstance(cause, DBAPIError) else None
    return code is not None and code & 0xFF in _DAMAGED
