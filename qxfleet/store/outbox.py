"""The outbox of an agent's state: everything the fleet store is to have, in the order in which it was committed.

Triggers fill it, on every table that is shipped, so that no writing code has to remember it, and a row and the note to ship it
stand or fall together. It names rows; what is shipped is the row as it stands then, so shipping twice does no harm. Readings are
many: the writer puts a whole batch of them down as one packed row.

Where no fleet is configured there are no triggers and nothing is put down; see :func:`follow`.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, Table, text

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.minutes import HOUR_US, unpack_hour
from qxfleet.store.tables import metadata
from qxfleet.store.tables.fleet import KEYED, SERIAL
from qxfleet.store.tiers import MINUTE, marks

RECORDS, READINGS = "outbox", "outbox_readings"
"""The two streams, by their tables."""

KEPT_US: Final = 86_400 * 1_000_000
"""How long what was shipped stays in the outbox: a standby that lacks the last hours when it is promoted gets them again."""

RANGE_ROWS: Final = 1_000
"""Rows of history that one entry stands for."""

COUNTED: Final = 2_000
"""Batches whose readings are counted one by one."""

BODY_BYTES: Final = 28
"""What a reading takes in the outbox, with its share of the row around it."""

THINNED: Final = 200
"""Batches that give way to minutes in one transaction."""

CHUNK: Final = 20_000
"""Entries deleted in one transaction."""

_NOW_US: Final = "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"
_PUT: Final = f"INSERT INTO outbox_readings (at, rows, body) VALUES ({_NOW_US}, ?, ?)"
_COLUMNS: Final = ("device_id", "at", "status", *(str(variable.column) for variable in READING_COLUMNS), "extra")
_FOLLOWED: Final = ("device", *SERIAL, *KEYED)
_HISTORY_S: Final = {"reading": 86_400, "reading_minute": 86_400, "reading_quarter": 30 * 86_400, "reading_day": 3_650 * 86_400,
                     "extra_rollup": 30 * 86_400}  # fmt: skip
"""How much time of one UPS an entry of history stands for."""


# Filling


def following(connection: Connection) -> bool:
    """Whether the outbox is filled."""
    found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = 'outbox_event_insert'")
    return found.first() is not None


def follow(connection: Connection) -> bool:
    """Fill the outbox from now on; the first time, with all the history that is there. Whether it was the first time."""
    first = not following(connection)
    for name in _FOLLOWED:
        for event, body in _triggers(metadata.tables[name]):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS outbox_{name}_{event}")
            connection.exec_driver_sql(f"CREATE TRIGGER outbox_{name}_{event} AFTER {event.upper()} ON {name} BEGIN {body} END")
    if first:
        _put_history(connection)
    return first


def unfollow(connection: Connection) -> None:
    """Empty the outbox and fill it no longer."""
    for name in _FOLLOWED:
        for event in ("insert", "update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS outbox_{name}_{event}")
    connection.exec_driver_sql("DELETE FROM outbox")
    connection.exec_driver_sql("DELETE FROM outbox_readings")


def _triggers(table: Table) -> Iterator[tuple[str, str]]:
    keys = [column.name for column in table.primary_key]

    def put(row: str, which: str = "") -> str:
        listed = ", ".join(f"{row}.{key}" for key in keys)
        return f"INSERT INTO outbox (at, name, key) SELECT {_NOW_US}, '{table.name}', json_array({listed}){which};"

    moved = " OR ".join(f"OLD.{key} IS NOT NEW.{key}" for key in keys)
    yield "insert", put("NEW")
    yield "update", put("OLD", f" WHERE {moved}") + " " + put("NEW")
    yield "delete", put("OLD")


def _put_history(connection: Connection) -> None:
    """Every row that is there, in entries of a few hundred."""
    put = f"INSERT INTO outbox (at, name, key) SELECT {_NOW_US}, '{{}}', "
    for name in SERIAL:
        span = f"json_object('from', id / {RANGE_ROWS} * {RANGE_ROWS}, 'to', id / {RANGE_ROWS} * {RANGE_ROWS} + {RANGE_ROWS - 1})"
        connection.exec_driver_sql(put.format(name) + f"{span} FROM {name} GROUP BY id / {RANGE_ROWS} ORDER BY id")
    for name in KEYED:
        first = next(iter(metadata.tables[name].primary_key)).name
        span = f"json_object('from', {first}, 'to', {first})"
        connection.exec_driver_sql(put.format(name) + f"{span} FROM {name} GROUP BY {first} ORDER BY {first}")
    for name, every_s in _HISTORY_S.items():
        rows = f"{name} GROUP BY device_id"
        if name == "reading_minute":
            rows = f"(SELECT device_id, at FROM {name} UNION ALL SELECT device_id, at FROM packed_minutes) GROUP BY device_id"
        begin = f"value * {every_s * 1_000_000}"
        span = f"json_object('from', d.id, 'to', d.id, 'since', {begin}, 'until', {begin} + {every_s * 1_000_000})"
        days = (
            "WITH RECURSIVE span(device_id, value, last) AS ("
            f"SELECT device_id, min(at) / {every_s * 1_000_000}, max(at) / {every_s * 1_000_000} FROM {rows} "
            "UNION ALL SELECT device_id, value + 1, last FROM span WHERE value < last) "
        )
        connection.exec_driver_sql(
            f"INSERT INTO outbox (at, name, key) {days} SELECT {_NOW_US}, '{name}', {span} FROM span JOIN device d ON "
            "d.id = span.device_id ORDER BY value, d.id"
        )


def put_readings(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Put down a batch of readings in the order of their table's columns, in the transaction that writes them."""
    if rows and connection.dialect.name == "sqlite" and following(connection):
        connection.exec_driver_sql(_PUT, (len(rows), packed(rows)))


def packed(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Readings as a body: the names of their columns, then each column, about 20 bytes a reading."""
    return zlib.compress(json.dumps([_COLUMNS, *zip(*rows, strict=True)], separators=(",", ":")).encode(), 1)


def unpacked(body: bytes) -> list[list[Any]]:
    """The readings of a body, column by column in this version's order; a column that its version did not know is None."""
    names, *columns = json.loads(zlib.decompress(body))
    there = dict(zip(names, columns, strict=True))
    absent = [None] * len(columns[0])
    return [there.get(name, absent) for name in _COLUMNS]


def joined(bodies: Sequence[bytes]) -> list[list[Any]]:
    """The readings of several bodies, column by column; of none, no column."""
    each = [unpacked(body) for body in bodies]
    return each[0] if len(each) == 1 else [list(chain(*parts)) for parts in zip(*each, strict=True)]


# Reading, on the shipper's thread


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits to be shipped: entries of records, readings, and the time of the oldest of either in µs; None: nothing."""

    records: int
    readings: int
    oldest_us: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the records."""

    seq: int
    name: str
    key: Any


def ends(state: sqlite3.Connection, stream: str) -> tuple[int, int]:
    """The number before the first entry there is, and the last ever given."""
    last = state.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", [stream]).fetchone()
    first = state.execute(f"SELECT min(seq) FROM {stream}").fetchone()[0]
    end = int(last[0]) if last else 0
    return (end if first is None else first - 1), end


def records(state: sqlite3.Connection, after: int, until: int, most: int) -> list[Entry]:
    """Entries with ``after < seq <= until``, the first ``most``."""
    found = state.execute(
        "SELECT seq, name, key FROM outbox WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", [after, until, most]
    )
    return [Entry(seq, name, json.loads(key)) for seq, name, key in found]


def batches(state: sqlite3.Connection, after: int, until: int, most_rows: int) -> list[tuple[int, int, bytes]]:
    """Number, count and body of batches with ``after < seq <= until``: one, and more while they hold ``most_rows`` together."""
    found: list[tuple[int, int, bytes]] = []
    total = 0
    for seq, rows, body in state.execute(
        "SELECT seq, rows, body FROM outbox_readings WHERE seq > ? AND seq <= ? ORDER BY seq", [after, until]
    ):
        if found and total + rows > most_rows:
            break
        found.append((seq, rows, body))
        total += rows
    return found


def waiting(state: sqlite3.Connection, gaps: dict[str, list[tuple[int, int]]]) -> Waiting:
    """How much lies in the gaps of what was shipped, given for each stream as ``(after, until)``.

    Entries are numbered without holes; of very many, the readings are reckoned from the first ones. So it costs the same after an
    hour as after a month.
    """
    count, rows = 0, 0
    oldest: list[int] = []
    for stream, each in gaps.items():
        for after, until in each:
            at = f"SELECT at FROM {stream} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1"
            first = state.execute(at, [after, until]).fetchone()
            if first is None:
                continue
            oldest.append(first[0])
            if stream == RECORDS:
                count += until - after
                continue
            some = "SELECT count(*), sum(rows) FROM (SELECT rows FROM outbox_readings WHERE seq > ? AND seq <= ? LIMIT ?)"
            number, held = state.execute(some, [after, until, COUNTED]).fetchone()
            rows += held if number < COUNTED else round(held / number * (until - after))
    return Waiting(count, rows, min(oldest, default=None))


def rows_of(state: sqlite3.Connection, table: Table, key: Any) -> list[tuple[Any, ...]]:
    """The rows that the key of an entry stands for, as they are now, in the order of the table's columns."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name not in ("agent_id", "row"))
    names = [column.name for column in table.primary_key]
    if isinstance(key, list):
        which, values = " AND ".join(f"{name} = ?" for name in names), key
    else:
        which, values = f"{names[0]} BETWEEN ? AND ?", [key["from"], key["to"]]
        if "since" in key:
            which, values = f"{which} AND at >= ? AND at < ?", [*values, key["since"], key["until"]]
    rows = state.execute(f"SELECT {columns} FROM {table.name} WHERE {which}", values).fetchall()
    if table.name == "reading_minute":
        _, _, since, until = values
        packed = f"SELECT * FROM packed_minutes WHERE {which}"
        for device, at, *bodies in state.execute(packed, [*values[:2], since - HOUR_US + 1, until]):
            rows += [row for row in unpack_hour(device, at, bodies) if since <= row[1] < until]
    return rows


# Keeping it small, in the writer's transaction


def forget(connection: Connection, stream: str, shipped: Sequence[tuple[int, int]], before_us: int) -> int:
    """Delete a chunk of what was shipped and put down before ``before_us``; how many entries."""
    gone = 0
    for first, last in shipped:
        found = connection.execute(
            text(
                f"DELETE FROM {stream} WHERE seq IN (SELECT seq FROM (SELECT seq, at FROM {stream} "
                f"WHERE seq BETWEEN :first AND :last ORDER BY seq LIMIT {CHUNK}) WHERE at < :before)"
            ),
            {"first": first, "last": last, "before": before_us},
        )
        gone += found.rowcount
        if gone >= CHUNK:
            break
    return gone


def thin(connection: Connection, shipped: Sequence[tuple[int, int]]) -> int:
    """Let the oldest batches that are not shipped go, some hundreds; their minutes are shipped instead. How many readings it was.

    For an outbox that has become too large. Batches that are not rolled up yet stay.
    """
    made = marks(connection).get(MINUTE.mark, 0)
    after = shipped[0][1] if shipped and shipped[0][0] <= 1 else 0
    found = connection.exec_driver_sql(
        f"SELECT seq, rows, body FROM {READINGS} WHERE seq > ? ORDER BY seq LIMIT {THINNED}", (after,)
    ).all()
    spans: dict[int, tuple[int, int]] = {}
    gone, count = [], 0
    for seq, rows, body in found:
        devices, times, *_ = unpacked(body)
        if max(times) >= made:
            break
        for device, at in zip(devices, times, strict=True):
            first, last = spans.get(device, (at, at))
            spans[device] = min(first, at), max(last, at)
        gone.append(seq)
        count += rows
    if gone:
        connection.exec_driver_sql(f"DELETE FROM {READINGS} WHERE seq BETWEEN ? AND ?", (gone[0], gone[-1]))
        for device, (first, last) in spans.items():
            span = {"from": device, "to": device, "since": first - first % MINUTE.us, "until": last + 1}
            connection.exec_driver_sql(
                f"INSERT INTO {RECORDS} (at, name, key) VALUES ({_NOW_US}, ?, ?)", (MINUTE.table.name, json.dumps(span))
            )
    return count
