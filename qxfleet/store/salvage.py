"""What can still be read of a damaged state, brought into the one in use."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, insert, select, text
from sqlalchemy.exc import IntegrityError

from qxfleet.errors import StoreError
from qxfleet.store.engine import explained, open_engine
from qxfleet.store.migrate import upgrade
from qxfleet.store.tables import device, meta, metadata, reading
from qxfleet.store.tiers import mark_late

CHUNK = 2_000
"""Rows of one transaction, so that an agent beside is never held up for long."""

Progress = Callable[[str], None]


@dataclass(slots=True)
class Salvaged:
    """How many rows of each table were brought back, and what was not to be read or to be placed."""

    rows: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def salvage(source: Path, url: str, progress: Progress = lambda _: None) -> Salvaged:
    """Bring every row of ``source`` that can be read into the database, with its key; what is there already stays.

    ``source`` is not changed. The database may be in use by an agent. :class:`StoreError` where nothing can be read at all.
    """
    if not source.is_file():
        raise StoreError(f"{source} is no file: name the one that was put aside, as in state.db.damaged-20260101T000000Z")
    upgrade(url)
    found = Salvaged()
    engine = open_engine(url, writing=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="qxfleet-salvage-", dir=source.parent) as folder,
            closing(_readable(source, Path(folder), found, progress)) as old,
            explained(engine),
        ):
            ids: dict[int, int] = {}
            for table in metadata.sorted_tables:
                if table is meta or not (columns := _columns(old, table)):
                    continue
                rows = _rows(old, table.name, columns, found)
                while chunk := [dict(zip(columns, row, strict=True)) for row in islice(rows, CHUNK)]:
                    with engine.begin() as connection:
                        _bring(connection, table, chunk, ids, found)
                    progress(f"{table.name}: {found.rows[table.name]} rows")
    finally:
        engine.dispose()
    return found


def _readable(source: Path, folder: Path, found: Salvaged, progress: Progress) -> sqlite3.Connection:
    """A copy of the file that is sound enough to be read: what SQLite's own shell recovers, else the file as it is."""
    copy = folder / "copy.db"
    for end in ("", "-wal"):
        if (part := source.with_name(source.name + end)).exists():
            shutil.copyfile(part, copy.with_name(copy.name + end))
    _make_whole(copy)
    shell = shutil.which("sqlite3")
    if shell is not None:
        progress(f"recovering {source.name}")
        made = folder / "recovered.db"
        quiet = subprocess.DEVNULL
        with subprocess.Popen([shell, copy, ".recover"], stdout=subprocess.PIPE, stderr=quiet) as recovering:
            subprocess.run([shell, made], stdin=recovering.stdout, stdout=quiet, stderr=quiet, check=False)
        if made.exists():
            connection = sqlite3.connect(made)
            with suppress(sqlite3.Error):
                if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'device'").fetchone()[0]:
                    return connection
            connection.close()
    else:
        found.problems.append("the program sqlite3 is not installed, which would recover more: apt-get install sqlite3")
    connection = sqlite3.connect(copy)
    try:
        connection.execute("SELECT count(*) FROM device").fetchone()
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(f"{source}: nothing of it can be read: {error}") from error
    return connection


def _make_whole(copy: Path) -> None:
    """A file that is shorter than its header says is not read at all: the pages that are missing become empty ones."""
    with copy.open("r+b") as file:
        header = file.read(32)
        if header.startswith(b"SQLite format 3\0"):
            size = int.from_bytes(header[16:18]) * int.from_bytes(header[28:32])
            file.truncate(max(size, file.seek(0, 2)))


def _columns(old: sqlite3.Connection, table: Table) -> list[str]:
    there = {row[1] for row in old.execute(f"PRAGMA table_info({table.name})")}
    return [column.name for column in table.columns if column.name in there]


def _rows(old: sqlite3.Connection, table: str, columns: list[str], found: Salvaged) -> Iterator[tuple[Any, ...]]:
    """Rows from the front until a damaged page, then from the back; a row may come twice."""
    listed = ", ".join(f'"{column}"' for column in columns)
    key = "1, 2" if "id" not in columns else "id"
    for order in (key, ", ".join(f"{part} DESC" for part in key.split(", "))):
        try:
            yield from old.execute(f"SELECT {listed} FROM {table} ORDER BY {order}")
            return
        except sqlite3.Error as error:
            trouble = f"{table}: not all of it can be read: {error}"
    found.problems.append(trouble)


def _bring(
    connection: Connection, table: Table, rows: list[dict[str, Any]], ids: dict[int, int], found: Salvaged
) -> None:
    """Insert rows as they are, with the device ids of this database."""
    if table is device:
        for row in rows:
            old_id = row.pop("id")
            number = connection.scalar(select(device.c.id).where(device.c.name == row["name"]))
            if number is None:
                made = connection.execute(insert(device).values(name=row["name"], created=row["created"])).inserted_primary_key
                assert made is not None
                number = int(made[0])
                raw = {key: row[key] for key in ("port", "identity", "identity_at") if row.get(key) is not None}
                for key, value in raw.items():
                    connection.execute(text(f"UPDATE device SET {key} = :value WHERE id = :id"), {"value": value, "id": number})
                found.rows["device"] = found.rows.get("device", 0) + 1
            ids[old_id] = number
        found.rows.setdefault("device", 0)
        return
    for row in rows:
        if row.get("device_id") is not None:
            row["device_id"] = ids.get(row["device_id"])
    if table is reading and rows:
        mark_late(connection, min(row["at"] for row in rows))
    listed = ", ".join(f'"{column}"' for column in rows[0])
    places = ", ".join(f":{column}" for column in rows[0])
    statement = text(f"INSERT OR IGNORE INTO {table.name} ({listed}) VALUES ({places})")  # JSON stays the text it is
    brought, lost = 0, 0
    for row in rows:
        try:
            with connection.begin_nested():
                brought += connection.execute(statement, row).rowcount
        except IntegrityError:  # it points to a row that could not be read
            lost += 1
    found.rows[table.name] = found.rows.get(table.name, 0) + brought
    if lost:
        found.problems.append(f"{table.name}: {lost} rows belong to rows that could not be read")
