"""The fast way in: tuples straight to the driver, near the driver's own speed (architecture section 8); and back-filling."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import islice
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Table, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.engine import explained, open_engine
from qxfleet.store.minutes import reopen
from qxfleet.store.partitions import make_weeks
from qxfleet.store.tables import device, meta, reading
from qxfleet.store.tiers import LATE, MINUTE, TIERS, Tier, marks, put, roll_up_range

CHUNK = 10_000
"""Rows of one transaction when back-filling: the lock is held for a tenth of a second."""

POSTGRES_EPOCH_US = 946_684_800_000_000
"""PostgreSQL's binary timestamps count microseconds from 2000-01-01 UTC."""

_LOADING = f"{LATE}.load"
"""The note of what was loaded and is not rolled up yet."""

Row = tuple[Any, ...]


@cache
def _statements(table: Table) -> tuple[str, str, str, list[str]]:
    """SQLite's insert, PostgreSQL's COPY, its insert of a single row, and the types COPY sends."""
    names = [column.name for column in table.columns]
    listed, count = ", ".join(names), len(names)
    once = "ON CONFLICT (device_id, at) DO NOTHING"
    marks = ["%s", "timestamptz 'epoch' + %s * interval '1 microsecond'", *["%s"] * (count - 2)]
    types = ["int4", "int8", *["int4"] * (count - 2)]
    if names[-1] == "extra":
        marks[-1], types[-1] = "%s::json", "text"
    return (
        f"INSERT INTO {table.name} ({listed}) VALUES ({', '.join('?' * count)}) {once}",
        f"COPY {table.name} ({listed}) FROM STDIN (FORMAT BINARY)",
        f"INSERT INTO {table.name} ({listed}) VALUES ({', '.join(marks)}) {once}",
        types,
    )


def insert_readings(connection: Connection, rows: Sequence[Row], *, singly: bool = False) -> None:
    """Insert rows in table order, ``at`` in µs since 1970 and ``extra`` as JSON text.

    A second reading of one device in the same microsecond is left out. PostgreSQL's COPY can't do that: it raises
    IntegrityError, and ``singly`` is the way to write that batch. OverflowError for a number too large for its column.
    """
    insert_rows(connection, reading, rows, singly=singly)


def insert_rows(connection: Connection, table: Table, rows: Sequence[Row], *, singly: bool = False) -> None:
    """The same for ``reading`` or the table of a tier."""
    plain, copy, single, types = _statements(table)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(plain, rows if isinstance(rows, list) else list(rows))
    elif singly:
        for row in rows:
            connection.exec_driver_sql(single, row)
    elif rows:
        for column in tuple(zip(*rows, strict=True))[2 : len(types) if types[-1] == "int4" else -1]:
            array("i", filter(None, column))  # raises where binary COPY would cut a large number silently
        _copy(connection, copy, types, ((number, at - POSTGRES_EPOCH_US, *rest) for number, at, *rest in rows))


def send_columns(connection: Connection, columns: Sequence[Sequence[Any]]) -> None:
    """Send readings to PostgreSQL, given column by column in table order with ``at`` in µs since 1970, by COPY.

    IntegrityError where a reading is there already, OverflowError for a number too large for its column.
    """
    for column in columns[2:-1]:
        array("i", filter(None, column))
    _, copy, _, types = _statements(reading)
    times = [at - POSTGRES_EPOCH_US for at in columns[1]]
    _copy(connection, copy, types, zip(columns[0], times, *columns[2:], strict=True))


def _copy(connection: Connection, statement: str, types: list[str], rows: Iterable[Row]) -> None:
    """``rows`` with ``at`` as PostgreSQL counts it."""
    driver: Any = connection.connection.driver_connection
    database_error = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(row)
    except database_error as error:
        raise DBAPIError.instance(statement, None, error, database_error, dialect=connection.dialect) from error


class Backfill(AbstractContextManager["Backfill"]):
    """Loads history from elsewhere into a database, chunk by chunk; use as ``with``.

    Each chunk is a transaction of its own, so an interrupted load is begun again and leaves out what is there. On the way
    out the tiers are made from the readings that were loaded. Rows of a tier may be loaded too: where readings are rolled
    up over the same time, the bucket of more readings stands.
    """

    def __init__(self, url: str, *, progress: Callable[[int], None] = lambda rows: None) -> None:
        self._engine = open_engine(url, writing=True)
        self._progress = progress
        self._loaded: tuple[int, int] | None = None
        self._devices: set[int] = set()
        self._rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.roll_up()
        finally:
            self._engine.dispose()

    def device_ids(self, names: Collection[str], created_us: int) -> dict[str, int]:
        """The numbers of these UPSes, made where they are new."""
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        with explained(self._engine), self._engine.begin() as connection:
            connection.execute(
                dialect.insert(device).on_conflict_do_nothing(index_elements=["name"]),
                [{"name": name, "created": created_us} for name in names],
            )
            found = connection.execute(select(device.c.name, device.c.id).where(device.c.name.in_(names))).all()
        return dict(found)

    def readings(self, rows: Iterable[Row]) -> None:
        """Load readings: rows in table order, ``at`` in µs since 1970 and ``extra`` as JSON text or None."""
        self._load(reading, rows)

    def buckets(self, tier: Tier, rows: Iterable[Row]) -> None:
        """Load rows of a tier, in the order of its table, ``at`` in µs since 1970."""
        self._load(tier.table, rows)

    def write(self, work: Callable[[Connection], None]) -> None:
        """Anything else, in a transaction of its own."""
        with explained(self._engine), self._engine.begin() as connection:
            work(connection)

    def roll_up(self) -> None:
        """Make the tiers from the readings loaded so far, device by device."""
        if self._loaded is None:
            return
        since_us, until_us = self._loaded
        with explained(self._engine):
            for number in sorted(self._devices):
                with self._engine.begin() as connection:
                    roll_up_range(connection, since_us, until_us + 1, number)
            with self._engine.begin() as connection:
                done = marks(connection)
                for tier in TIERS:
                    if tier.mark not in done:
                        put(connection, tier.mark, until_us - until_us % tier.us)
                connection.execute(delete(meta).where(meta.c.key == _LOADING))
        self._loaded = None

    def _load(self, table: Table, rows: Iterable[Row]) -> None:
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            with explained(self._engine), self._engine.begin() as connection:
                if table is reading:
                    self._expect(connection, chunk)
                elif table is MINUTE.table:
                    numbers, times = [{row[place] for row in chunk} for place in (0, 1)]
                    reopen(connection, min(times), max(times) + 1, min(numbers), max(numbers))
                insert_rows(connection, table, chunk)
            self._rows += len(chunk)
            self._progress(self._rows)

    def _expect(self, connection: Connection, chunk: list[Row]) -> None:
        """Widen what has to be rolled up, keep retention off it until that is done, and make room for its weeks."""
        self._devices.update({row[0] for row in chunk})
        times = [row[1] for row in chunk]
        since_us, until_us = min(times), max(times)
        first_us, last_us = self._loaded or (since_us, since_us - 1)
        if since_us < first_us or until_us > last_us:
            make_weeks(connection, since_us, until_us)
            self._loaded = min(since_us, first_us), max(until_us, last_us)
            put(connection, _LOADING, self._loaded[0])


def bucket_row(
    device_id: int, at_us: int, rows: int, minutes: int, status: int, values: Mapping[str, tuple[float, float, float, float]]
) -> Row:
    """A row of a tier: ``values`` are min, mean, max and last of each variable that has a column, in its unit.

    ``rows`` readings in ``minutes`` of its minutes held every one of them.
    """
    row: list[int | None] = [device_id, at_us, rows, minutes, status, status]
    for variable in READING_COLUMNS:
        found = values.get(variable.name)
        if found is None:
            row += (None, None, None, None, 0)
            continue
        low, mean, high, last = (round(value * variable.scale) for value in found)
        row += (None if low == mean else low, mean, None if high == mean else high, None if last == mean else last, None)
    return tuple(row)
