"""The fast way in for readings: tuples straight to the driver, near the driver's own speed (architecture section 8)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from qxfleet.store.tables import reading

_NAMES = tuple(column.name for column in reading.columns)
_LIST = ", ".join(_NAMES)
_ONCE = "ON CONFLICT (device_id, at) DO NOTHING"

_SQLITE = f"INSERT INTO reading ({_LIST}) VALUES ({', '.join('?' * len(_NAMES))}) {_ONCE}"
_COPY = f"COPY reading ({_LIST}) FROM STDIN (FORMAT BINARY)"
_COPY_TYPES = ["int4", "int8", *["int4"] * (len(_NAMES) - 3), "text"]
_POSTGRES = (
    f"INSERT INTO reading ({_LIST}) VALUES (%s, timestamptz 'epoch' + %s * interval '1 microsecond', "
    f"{', '.join(['%s'] * (len(_NAMES) - 3))}, %s::json) {_ONCE}"
)

POSTGRES_EPOCH_US = 946_684_800_000_000
"""PostgreSQL's binary timestamps count microseconds from 2000-01-01 UTC."""


def insert_readings(connection: Connection, rows: Sequence[tuple[Any, ...]], *, singly: bool = False) -> None:
    """Insert rows in table order, ``at`` in µs since 1970 and ``extra`` as JSON text.

    A second reading of one device in the same microsecond is left out. PostgreSQL's COPY can't do that: it raises
    IntegrityError, and ``singly`` is the way to write that batch. OverflowError for a number too large for its column.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(_SQLITE, list(rows))
    elif singly:
        for row in rows:
            connection.exec_driver_sql(_POSTGRES, row)
    else:
        _copy(connection, rows)


def _copy(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    driver: Any = connection.connection.driver_connection
    database_error = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_COPY_TYPES)
            write = copy.write_row
            for device_id, at, *rest in rows:
                array("i", filter(None, rest[:-1]))  # raises where binary COPY would cut a large number silently
                write((device_id, at - POSTGRES_EPOCH_US, *rest))
    except database_error as error:
        raise DBAPIError.instance(_COPY, None, error, database_error, dialect=connection.dialect) from error
