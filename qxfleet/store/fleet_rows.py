"""Rows of an agent's state as rows of the fleet store: the fleet's numbers in place of the state's, and its types."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Connection, Float, String, Table, Text, text

from qxfleet.store import outbox
from qxfleet.store.bulk import send_columns
from qxfleet.store.minutes import reopen
from qxfleet.store.rows import INT4
from qxfleet.store.tables import Microseconds, metadata, reading, reading_minute
from qxfleet.store.tables.fleet import SERIAL, TIERS
from qxfleet.store.tiers import LATE_US, mark_late

_TABLES = tuple(metadata.sorted_tables)
"""Parents before their children; sorting them takes a millisecond."""


class Rows:
    """Writes rows of one agent's state on one connection; numbers it has learned hold until a transaction is undone.

    ``apart``: rows go by statements that take one that is there already, or a number that no column holds. Else readings go by
    COPY, and any such row fails the transaction.
    """

    def __init__(self, connection: Connection, state: sqlite3.Connection, agent: int) -> None:
        self._connection = connection
        self._state = state
        self._agent = agent
        self._devices: dict[int, int] = {}
        self.count = 0
        self.apart = False

    def undone(self, count: int) -> None:
        """The transaction was undone, and with it the UPSes that it entered; ``count`` as it was before."""
        self._devices.clear()
        self.count = count

    def put(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Write the rows that entries stand for as they are now; one that is gone from the state goes here too."""
        keys: dict[str, dict[str, Any]] = {}
        for name, key in entries:
            keys.setdefault(name, {})[str(key)] = key
        found: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {}
        for table in reversed(_TABLES):  # what is gone goes first, and children before their parents
            if table.name not in keys or table.name == "reading" or table.name in TIERS:
                continue
            rows: dict[tuple[Any, ...], tuple[Any, ...]] = {}
            gone = []
            width = len(table.primary_key)
            places = [list(table.columns).index(column) for column in table.primary_key]
            for key in keys[table.name].values():
                these = outbox.rows_of(self._state, table, key)
                if not these and isinstance(key, list) and len(key) == width:
                    gone.append(tuple(key))
                rows.update({tuple(row[place] for place in places): row for row in these})
            found[table.name] = rows
            if gone and table.name != "device":
                self._delete(table, gone)
        for table in _TABLES:
            if found.get(table.name):
                self._insert(table, list(found[table.name].values()))
        for name in ("reading", *sorted(TIERS)):
            for key in keys.get(name, {}).values():
                self._put_history(metadata.tables[name], outbox.rows_of(self._state, metadata.tables[name], key))

    def readings(self, columns: Sequence[Sequence[Any]], now_us: int) -> None:
        """Write readings, given column by column in the order of their table."""
        if not columns:
            return
        mine = set(columns[0])
        devices = self._device_ids(mine)
        if not mine <= devices.keys():  # some are of a UPS that is gone from the state
            columns = list(zip(*(row for row in zip(*columns, strict=True) if row[0] in devices), strict=True))
        if not columns:
            return
        columns = [[devices[device] for device in columns[0]], *columns[1:]]
        oldest_us = min(columns[1])
        if oldest_us < now_us - LATE_US:
            mark_late(self._connection, oldest_us)
        if self.apart:
            self._merge(reading, [_within(row) for row in zip(*columns, strict=True)])
        else:
            send_columns(self._connection, columns)
        self.count += len(columns[0])

    def _put_history(self, table: Table, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        if table is reading:
            self.readings(list(zip(*rows, strict=True)), 1 << 62)
            return
        devices = self._device_ids({row[0] for row in rows})
        kept = [(devices[row[0]], *row[1:]) for row in rows if row[0] in devices]
        if table is reading_minute and kept:
            numbers, times = [{row[place] for row in kept} for place in (0, 1)]
            reopen(self._connection, min(times), max(times) + 1, min(numbers), max(numbers))
        size = "count" if table.name == "extra_rollup" else "rows"
        self._write(table, [column.name for column in table.columns], kept, where=f'excluded."{size}" >= {table.name}."{size}"')

    def _merge(self, table: Table, rows: list[tuple[Any, ...]]) -> None:
        """Write rows some of which are there already; the first one of a UPS and time stands."""
        self._write(table, [column.name for column in table.columns], list({row[:2]: row for row in rows}.values()), update=False)

    def _device_ids(self, rows: Collection[int]) -> dict[int, int]:
        """Numbers of UPSes in the fleet by those in the state; a UPS that is new is entered."""
        unknown = [row for row in rows if row not in self._devices]
        if unknown:
            table = metadata.tables["device"]
            these = outbox.rows_of(self._state, table, {"from": min(unknown), "to": max(unknown)})
            self._insert(table, these)
            names = {row[1]: row[0] for row in these}
            found = self._connection.execute(text("SELECT name, id FROM device WHERE name = ANY(:names)"), {"names": list(names)})
            self._devices.update((names[name], number) for name, number in found)
        return self._devices

    def _ids(self, table: Table, rows: Collection[int]) -> dict[int, int]:
        """Numbers in the fleet of rows of a table; rows that are not there yet are written first."""
        if table.name == "device":
            return self._device_ids(rows)
        query = text(f'SELECT "row", id FROM {table.name} WHERE agent_id = :agent AND "row" = ANY(:rows)')
        wanted = {"agent": self._agent, "rows": list(rows)}
        known: dict[int, int] = dict(self._connection.execute(query, wanted).all())
        if missing := [row for row in rows if row not in known]:
            self._insert(table, [each for row in missing for each in outbox.rows_of(self._state, table, [row])])
            known = dict(self._connection.execute(query, wanted).all())
        return known

    def _insert(self, table: Table, rows: list[tuple[Any, ...]]) -> None:
        if not rows:
            return
        columns = [column.name for column in table.columns]
        if table.name == "device":
            mine = f"device.agent_id IS NULL OR device.agent_id = {self._agent}"  # whose a UPS is, only registering says
            self._write(table, columns[1:], [row[1:] for row in rows], key=("name",), where=mine)
            return
        rows = self._translated(table, columns, rows)
        if table.name in SERIAL:
            names = ["row" if name == "id" else name for name in columns]
            self._write(table, [*names, "agent_id"], [(*row, self._agent) for row in rows], key=("agent_id", "row"))
        else:
            self._write(table, columns, rows)
        self.count += len(rows)

    def _translated(self, table: Table, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Rows with the fleet's numbers in place of the state's; one that belongs to a row that is gone is left out."""
        for place, name in enumerate(columns):
            column = table.c[name]
            target = next((key.column.table for key in column.foreign_keys), None)
            if target is None:
                continue
            ids = self._ids(target, {row[place] for row in rows if row[place] is not None})
            if column.nullable:
                rows = [(*row[:place], ids.get(row[place]), *row[place + 1 :]) for row in rows]
            else:
                rows = [(*row[:place], ids[row[place]], *row[place + 1 :]) for row in rows if row[place] in ids]
        return rows

    def _delete(self, table: Table, keys: list[tuple[Any, ...]]) -> None:
        if table.name in SERIAL:
            gone = text(f'DELETE FROM {table.name} WHERE agent_id = :agent AND "row" = ANY(:rows)')
            self._connection.execute(gone, {"agent": self._agent, "rows": [key[0] for key in keys]})
            return
        names = [column.name for column in table.primary_key]
        translated = self._translated_keys(table, names, keys)
        if translated:
            taken = ", ".join(_unnested(table.c[name], f"k.{name}") for name in names)
            self._connection.exec_driver_sql(
                f"DELETE FROM {table.name} WHERE ({', '.join(names)}) IN (SELECT {taken} FROM "
                f"unnest({', '.join(_array(table.c[name]) for name in names)}) AS k({', '.join(names)}))",
                tuple(list(column) for column in zip(*translated, strict=True)),
            )

    def _translated_keys(self, table: Table, names: list[str], keys: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        for place, name in enumerate(names):
            target = next((key.column.table for key in table.c[name].foreign_keys), None)
            if target is None:
                continue
            if target.name == "device":
                ids = self._device_ids({key[place] for key in keys})
            else:
                query = text(f'SELECT "row", id FROM {target.name} WHERE agent_id = :agent AND "row" = ANY(:rows)')
                wanted = {"agent": self._agent, "rows": [key[place] for key in keys]}
                ids = dict(self._connection.execute(query, wanted).all())
            keys = [(*key[:place], ids[key[place]], *key[place + 1 :]) for key in keys if key[place] in ids]
        return keys

    def _write(
        self, table: Table, names: Sequence[str], rows: list[tuple[Any, ...]], *, key: tuple[str, ...] = (), where: str = "",
        update: bool = True,
    ) -> None:
        if rows:
            statement = _statement(table, tuple(names), key, where, update)
            self._connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))



def _within(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:3], *(None if step is not None and abs(step) > INT4 else step for step in row[3:-1]), row[-1])


def _kind(column: Column[Any] | None) -> str:
    kind = None if column is None else column.type
    if isinstance(kind, Float):
        return "float8"
    if isinstance(kind, (JSON, String, Text)):
        return "text"
    return "int8"


def _array(column: Column[Any] | None) -> str:
    return f"%s::{_kind(column)}[]"


def _unnested(column: Column[Any] | None, value: str) -> str:
    kind = None if column is None else column.type
    if isinstance(kind, Microseconds):
        return f"timestamptz 'epoch' + {value} * interval '1 microsecond'"
    if isinstance(kind, JSON):
        return f"{value}::json"
    if isinstance(kind, Boolean):
        return f"{value} <> 0"
    return value


@cache
def _statement(table: Table, names: tuple[str, ...], key: tuple[str, ...], where: str, update: bool) -> str:
    """One statement for any number of rows, given as an array for each column; a row that is there is written over."""
    columns = [table.c.get(name) for name in names]
    quoted = [f'"{name}"' for name in names]
    keys = key or tuple(column.name for column in table.primary_key)
    listed = ", ".join(quoted)
    taken = ", ".join(_unnested(column, f"u.{name}") for column, name in zip(columns, quoted, strict=True))
    change = [f"{name} = excluded.{name}" for name, plain in zip(quoted, names, strict=True) if plain not in keys]
    then = f"DO UPDATE SET {', '.join(change)}" + (f" WHERE {where}" if where else "") if update and change else "DO NOTHING"
    return (
        f"INSERT INTO {table.name} ({listed}) SELECT {taken} FROM unnest({', '.join(_array(column) for column in columns)}) "
        f"AS u({listed}) ON CONFLICT ({', '.join(chr(34) + name + chr(34) for name in keys)}) {then}"
    )
