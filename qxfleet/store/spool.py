"""What a database that is away can't take, kept in a file beside: it survives the agent, and goes in when the database is back.

The file is SQLite, a row for each reading and event. The database itself remembers up to which it has taken (a row of ``meta``
written with them), so that neither a lost answer nor a power cut writes anything twice. What was taken stays in the file,
passed over, until something new is put there or the file is done with: nothing waits for the disk while catching up.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import takewhile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select

from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.rows import ReadingRow, within_columns
from qxfleet.store.tables import meta
from qxfleet.store.tiers import PUT

LIMIT = 5_000_000
"""Readings kept, some 600 MB: eleven hours of 250 UPSes of which every poll is stored, weeks of the usual ones."""

_COLUMNS = ("ups", "at", "status", *(str(variable.column) for variable in READING_COLUMNS), "extra")
_TABLES = f"""
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY AUTOINCREMENT, txid INTEGER, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS readings (id INTEGER PRIMARY KEY AUTOINCREMENT, txid INTEGER, {", ".join(_COLUMNS)});
"""
_PUT = f"INSERT INTO readings (txid, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)})"


class Sort(Enum):
    """What is set aside; the names of the file's tables."""

    EVENTS = "events"
    READINGS = "readings"


@dataclass(frozen=True, slots=True)
class Aside:
    """``count`` of one sort, behind number ``after`` up to ``last``. ``txid``: the transaction that may have written them."""

    sort: Sort
    after: int
    last: int
    count: int
    txid: int | None


class Spool:
    """One file; used by the writer's thread only, except for the counts. Raises sqlite3.Error, OSError."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.readings = 0
        self.events = 0
        self.dropped = 0
        self._limit = limit
        self._file: sqlite3.Connection | None = None
        self._name = ""
        self._passed = dict.fromkeys(Sort, 0)

    @property
    def waiting(self) -> bool:
        """Whether it holds anything."""
        return bool(self.readings or self.events)

    def find(self) -> None:
        """Open the file if an earlier run left one."""
        if self.path.exists():
            self._open()

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            file = sqlite3.connect(self.path, isolation_level=None, timeout=1.0)
            try:
                file.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {_TABLES}")
                file.execute("INSERT OR IGNORE INTO about VALUES ('name', ?)", [uuid.uuid4().hex])
                [(self._name,)] = file.execute("SELECT value FROM about WHERE key = 'name'").fetchall()
                there = {row[1] for row in file.execute("PRAGMA table_info(readings)")}
                for column in _COLUMNS:
                    if column not in there:  # left by a version that did not know the column
                        file.execute(f"ALTER TABLE readings ADD COLUMN {column}")
                for sort in Sort:
                    found = file.execute("SELECT value FROM about WHERE key = ?", [_passed_key(sort)]).fetchone()
                    self._pass(file, sort, int(found[0]) if found else 0)
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def _pass(self, file: sqlite3.Connection, sort: Sort, last: int) -> None:
        """Go on behind ``last``, and count what is there."""
        self._passed[sort] = last
        [(count,)] = file.execute(f"SELECT count(*) FROM {sort.value} WHERE id > ?", [last]).fetchall()
        if sort is Sort.EVENTS:
            self.events = count
        else:
            self.readings = count

    def put(self, readings: Sequence[ReadingRow], events: Sequence[Event], txid: int | None = None) -> None:
        """Keep these; on the disk when it returns. Beyond the limit the oldest readings go, and are counted as dropped.

        What some database's column can't hold is left out of a reading here already.
        """
        if not readings and not events:
            return
        file = self._open()
        over = max(self.readings + len(readings) - self._limit, 0)
        file.execute("BEGIN IMMEDIATE")
        try:
            for sort in Sort:
                file.execute(f"DELETE FROM {sort.value} WHERE id <= ?", [self._passed[sort]])
            file.executemany("INSERT INTO events (txid, body) VALUES (?, ?)", [(txid, _packed(event)) for event in events])
            file.executemany(_PUT, [(txid, *within_columns(row)) for row in readings])
            file.execute("DELETE FROM readings WHERE id IN (SELECT id FROM readings ORDER BY id LIMIT ?)", [over])
            file.execute("COMMIT")
        except BaseException:
            if file.in_transaction:
                file.execute("ROLLBACK")
            raise
        self.events += len(events)
        self.readings += len(readings) - over
        self.dropped += over

    def take(self, sort: Sort, most: int) -> Aside | None:
        """The oldest of a sort, at most so many and of one transaction; None if there are none. They stay until forgotten."""
        if self._file is None:
            return None
        after = self._passed[sort]
        oldest = f"SELECT id, txid FROM {sort.value} WHERE id > ? ORDER BY id LIMIT ?"
        found = self._file.execute(oldest, [after, most]).fetchall()
        if not found:
            return None
        txid = found[0][1]
        found = list(takewhile(lambda row: row[1] == txid, found))
        return Aside(sort, after, found[-1][0], len(found), txid)

    def events_of(self, aside: Aside) -> list[Event]:
        """The events that were taken."""
        return [_unpacked(body) for [body] in self._select(aside, "body")]

    def readings_of(self, aside: Aside) -> Iterator[ReadingRow]:
        """The readings that were taken, one after the other."""
        return self._select(aside, ", ".join(_COLUMNS))

    def begins(self, aside: Aside) -> dict[str, int]:
        """The UPSes that readings were taken of, and when each one's first was, in µs since 1970."""
        return dict(self._select(aside, "ups, min(at)", "GROUP BY ups"))

    def _select(self, aside: Aside, columns: str, order: str = "ORDER BY id") -> Iterator[Any]:
        if self._file is None:
            return iter(())
        rows = f"SELECT {columns} FROM {aside.sort.value} WHERE id > ? AND id <= ? {order}"
        return self._file.execute(rows, [aside.after, aside.last])

    def forget(self, aside: Aside) -> None:
        """The database has these, which were just taken."""
        self._passed[aside.sort] = aside.last
        if aside.sort is Sort.EVENTS:
            self.events -= aside.count
        else:
            self.readings -= aside.count

    def close(self) -> None:
        """Let go of the file; one that holds nothing is deleted."""
        if self._file is None:
            return
        self._file.close()
        self._file = None
        if not self.waiting:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    # In the database

    def _mark(self, sort: Sort) -> str:
        return f"spool.{self._name}.{sort.value}"

    def mark(self, connection: Connection, aside: Aside) -> None:
        """Remember in the database that it has these; for the transaction that writes them."""
        connection.execute(PUT, {"key": self._mark(aside.sort), "value": str(aside.last)})

    def pour(self, connection: Connection, aside: Aside) -> None:
        """Copy readings into a SQLite database that has this file attached as ``spool``; no row passes through Python."""
        columns = ", ".join(_COLUMNS[1:])
        connection.exec_driver_sql(
            f"INSERT INTO reading (device_id, {columns}) SELECT (SELECT id FROM device WHERE name = ups), {columns} "
            "FROM spool.readings WHERE id > ? AND id <= ? ORDER BY id ON CONFLICT (device_id, at) DO NOTHING",
            (aside.after, aside.last),
        )

    def compare(self, connection: Connection) -> None:
        """Forget what the database has already: an answer, or the whole agent, was lost after a commit."""
        for sort in Sort:
            last = connection.scalar(select(meta.c.value).where(meta.c.key == self._mark(sort)))
            if self._file is not None and last is not None and int(last) > self._passed[sort]:
                self._pass(self._file, sort, int(last))

    def unmark(self, connection: Connection) -> None:
        """All is in the database: the file says so of itself from now on, and nothing is left to remember there."""
        if self._file is not None:
            passed = [(_passed_key(sort), str(self._passed[sort])) for sort in Sort]
            self._file.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", passed)
        connection.execute(delete(meta).where(meta.c.key.in_([self._mark(sort) for sort in Sort])))


def _passed_key(sort: Sort) -> str:
    return f"passed.{sort.value}"


def _packed(event: Event) -> str:
    return json.dumps([
        event.wall_us, event.ups, event.kind.value, event.name, event.value, event.text, int(event.severity), event.phase.value,
    ])  # fmt: skip


def _unpacked(body: str) -> Event:
    wall_us, ups, kind, name, value, text, severity, phase = json.loads(body)
    return Event(
        int(str(wall_us)), None if ups is None else str(ups), EventKind(kind), str(name), str(value), str(text),
        Severity(int(str(severity))), Phase(phase),
    )  # fmt: skip
