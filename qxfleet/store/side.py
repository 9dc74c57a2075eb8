"""The side file: what the state can't take at the moment, line by line, until it is joined to the state.

A journal and nothing else: nothing reads history from it. One line of JSON for each reading, event and record, in the order in
which they came, synced before anybody goes on. Joining a line twice changes nothing, so a crash needs no marks.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

LIMIT = 1 << 30
"""Bytes beyond which readings are dropped, the newest first, as the file is one sequence; events and records never are."""

SQLITE = b"SQLite format 3\0"

Line = list[Any]
"""A letter, and what the writer makes of it."""


class Side:
    """One file, there only while something waits in it. Every method raises OSError; the counts may be read from any thread."""

    def __init__(self, path: Path, limit: int = LIMIT) -> None:
        self.path = path
        self.waiting = 0
        self.dropped = 0
        self._limit = limit
        self._file: int | None = None
        self._end = 0
        self._joined = 0
        self._lock = threading.Lock()

    def find(self) -> None:
        """Open the file if an earlier run left one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as found:
            former = found.read(len(SQLITE)) == SQLITE
        if former:
            self._convert()
        else:
            with self._lock:
                self._open()

    def append(self, lines: Iterable[Line]) -> None:
        """Keep lines behind all others, synced when this returns; none of them if it raises."""
        with self._lock:
            kept = []
            for line in lines:
                if line[0] == "r" and self._end > self._limit:
                    self.dropped += 1
                else:
                    kept.append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if not kept:
                return
            self._open()
            try:
                text = b"".join(kept)
                done = 0
                while done < len(text):
                    done += os.pwrite(self._fd, text[done:], self._end + done)
                os.fsync(self._fd)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, self._end)
                raise
            self._end += len(text)
            self.waiting += len(kept)

    def lines(self, most: int) -> tuple[list[Line], int]:
        """The oldest lines that are not joined, and where they end, for :meth:`joined`."""
        with self._lock:
            end, joined = self._end, self._joined
            if joined >= end:
                return [], end
            self._open()
            found: list[Line] = []
            with os.fdopen(os.dup(self._fd), "rb") as file:
                file.seek(joined)
                while len(found) < most and joined < end:
                    text = file.readline()
                    joined += len(text)
                    try:
                        found.append(json.loads(text))
                    except ValueError:
                        found.append(["?", text.decode(errors="replace").strip()])
            return found, joined

    def joined(self, end: int, count: int) -> None:
        """So far all lines are in the state; with the last of them the file goes."""
        with self._lock:
            self._joined = end
            self.waiting -= count
            if end >= self._end:
                self.path.unlink(missing_ok=True)
                self._close()
                self.waiting = self._end = self._joined = 0

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._close()

    @property
    def _fd(self) -> int:
        assert self._file is not None
        return self._file

    def _open(self) -> None:
        if self._file is None:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            if os.fstat(self._file).st_size > self._end:
                self._count()
            with suppress(OSError):
                folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(folder)  # the name must outlive a power cut too
                finally:
                    os.close(folder)

    def _count(self) -> None:
        """What an earlier run left. A line that was cut off was never acknowledged, and is cut off whole."""
        self._end = self.waiting = 0
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._end += len(line)
                    self.waiting += 1
        os.ftruncate(self._fd, self._end)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _convert(self) -> None:
        """The spool of a former version, a SQLite file, becomes lines."""
        former = self.path.with_name(self.path.name + ".former")
        self.path.replace(former)
        try:
            with closing(sqlite3.connect(former)) as old:
                passed = dict(old.execute("SELECT key, value FROM about"))
                events = old.execute("SELECT body FROM events WHERE id > ? ORDER BY id", [int(passed.get("passed.events", 0))])
                self.append([["e", *json.loads(body)] for (body,) in events])
                rows = old.execute("SELECT * FROM readings WHERE id > ? ORDER BY id", [int(passed.get("passed.readings", 0))])
                names = [column[0] for column in rows.description][5:-1]  # between status and extra
                while found := rows.fetchmany(10_000):
                    self.append([["r", *row[2:5], dict(zip(names, row[5:-1], strict=True)), row[-1]] for row in found])
        except sqlite3.Error as error:
            raise OSError(f"the spool of a former version, {former}, can't be read: {error}") from error
        former.unlink()
