"""What a database that is away can't take, kept in a file beside: it survives the agent, and goes in when the database is back.

The file is SQLite, one row for each batch. The database itself remembers up to which batch it has taken (a row of ``meta``
written with the batch), so that neither a lost answer nor a power cut writes anything twice.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sqlalchemy import Connection, delete, select

from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.store.rows import ReadingRow
from qxfleet.store.tables import meta
from qxfleet.store.tiers import PUT

LIMIT = 5_000_000
"""Readings kept, some 600 MB: eleven hours of 250 UPSes of which every poll is stored, weeks of the usual ones."""

_TABLES = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, count INTEGER NOT NULL, txid INTEGER, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS batch_kind ON batch (kind, id);
"""


class Sort(Enum):
    """What a batch holds."""

    EVENTS = "events"
    READINGS = "readings"


@dataclass(frozen=True, slots=True)
class Aside:
    """Batches of one sort, taken together: up to number ``last``. ``txid``: the transaction that may have written them."""

    sort: Sort
    last: int
    readings: list[ReadingRow]
    events: list[Event]
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
                self.events, self.readings = (
                    file.execute("SELECT coalesce(sum(count), 0) FROM batch WHERE kind = ?", [sort.value]).fetchone()[0]
                    for sort in (Sort.EVENTS, Sort.READINGS)
                )
            except BaseException:
                file.close()
                raise
            self._file = file
        return self._file

    def put(self, readings: Sequence[ReadingRow], events: Sequence[Event], txid: int | None = None) -> None:
        """Keep these; on the disk when it returns. Beyond the limit the oldest readings go, and are counted as dropped."""
        rows: list[tuple[str, int, int | None, str]] = []
        if events:
            rows.append((Sort.EVENTS.value, len(events), txid, json.dumps([_packed(event) for event in events])))
        if readings:
            rows.append((Sort.READINGS.value, len(readings), txid, json.dumps(readings)))
        if not rows:
            return
        file = self._open()
        dropped = 0
        file.execute("BEGIN IMMEDIATE")
        try:
            file.executemany("INSERT INTO batch (kind, count, txid, body) VALUES (?, ?, ?, ?)", rows)
            while self.readings + len(readings) - dropped > self._limit:
                oldest = "SELECT id, count FROM batch WHERE kind = ? ORDER BY id LIMIT 1"
                number, count = file.execute(oldest, [Sort.READINGS.value]).fetchone()
                file.execute("DELETE FROM batch WHERE id = ?", [number])
                dropped += count
            file.execute("COMMIT")
        except BaseException:
            if file.in_transaction:
                file.execute("ROLLBACK")
            raise
        self.events += len(events)
        self.readings += len(readings) - dropped
        self.dropped += dropped

    def take(self, sort: Sort, rows: int) -> Aside | None:
        """The oldest batches of a sort, some ``rows`` of them together; None if there are none. They stay until forgotten."""
        if self._file is None:
            return None
        taken: list[tuple[int, int, int | None, str]] = []
        count = 0
        for batch in self._file.execute("SELECT id, count, txid, body FROM batch WHERE kind = ? ORDER BY id", [sort.value]):
            if taken and (count + batch[1] > rows or batch[2] is not None or taken[0][2] is not None):
                break
            taken.append(batch)
            count += batch[1]
        if not taken:
            return None
        bodies = [item for batch in taken for item in json.loads(batch[3])]
        readings, events = (bodies, []) if sort is Sort.READINGS else ([], [_unpacked(body) for body in bodies])
        return Aside(sort, taken[-1][0], readings, events, taken[0][2])

    def forget(self, sort: Sort, last: int) -> None:
        """The database has these and all before them. An empty file is deleted."""
        if self._file is None:
            return
        self._file.execute("DELETE FROM batch WHERE kind = ? AND id <= ?", [sort.value, last])
        left = self._file.execute("SELECT coalesce(sum(count), 0) FROM batch WHERE kind = ?", [sort.value]).fetchone()[0]
        if sort is Sort.EVENTS:
            self.events = left
        else:
            self.readings = left

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

    def compare(self, connection: Connection) -> None:
        """Forget what the database has already: an answer, or the whole agent, was lost after a commit."""
        for sort in Sort:
            last = connection.scalar(select(meta.c.value).where(meta.c.key == self._mark(sort)))
            if last is not None:
                self.forget(sort, int(last))

    def unmark(self, connection: Connection) -> None:
        """All is in the database: nothing is left to remember there."""
        connection.execute(delete(meta).where(meta.c.key.in_([self._mark(sort) for sort in Sort])))


def _packed(event: Event) -> list[object]:
    return [
        event.wall_us, event.ups, event.kind.value, event.name, event.value, event.text, int(event.severity), event.phase.value,
    ]  # fmt: skip


def _unpacked(body: list[object]) -> Event:
    wall_us, ups, kind, name, value, text, severity, phase = body
    return Event(
        int(str(wall_us)), None if ups is None else str(ups), EventKind(kind), str(name), str(value), str(text),
        Severity(int(str(severity))), Phase(phase),
    )  # fmt: skip
