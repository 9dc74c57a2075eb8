"""The whole history as files: one for each SQL view, CSV or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, String, inspect, select, text

from qxfleet.errors import StoreError
from qxfleet.interfaces.parquet import TIMES, Writer
from qxfleet.model.clock import from_us, iso
from qxfleet.model.status import Status, status_text
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.minutes import HOUR_US, unpack_hour
from qxfleet.store.tables import device, packed_minutes, reading_minute

BATCH = 10_000
"""Rows in memory at a time."""

EARLIEST_US = -(2**62)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Sink(Protocol):
    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows."""


def views(connection: Connection) -> list[str]:
    """What can be exported: the documented views, without their ``_v``."""
    return sorted(name.removesuffix("_v") for name in inspect(connection).get_view_names() if name.endswith("_v"))


def export(
    connection: Connection,
    folder: Path,
    form: str,
    wanted: Collection[str],
    since_us: int | None,
    until_us: int,
    progress: Callable[[str, int], None],
) -> list[tuple[Path, int]]:
    """Write one file for each view; the files with their rows.

    ``progress`` gets a file's name and the rows so far. :class:`StoreError` for a file that is there already or can't be
    written: nothing is overwritten.
    """
    paths = {name: folder / f"{name}.{form}" for name in wanted}
    if there := [path for path in paths.values() if path.exists()]:
        raise StoreError(f"{there[0]} is there already: name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            (path, _view(connection, f"{name}_v", path, form, (since_us, until_us), partial(progress, path.name)))
            for name, path in paths.items()
        ]
    except OSError as error:
        raise StoreError(f"{error.filename or folder} could not be written: {error.strerror or error}") from error


def _view(
    connection: Connection, view: str, path: Path, form: str, span: tuple[int | None, int], progress: Callable[[int], None]
) -> int:
    columns = inspect(connection).get_columns(view)
    names = [column["name"] for column in columns]
    texts = [column["name"] for column in columns if isinstance(column["type"], String)]
    listed = ", ".join(f'"{name}"' for name in names)
    within = "WHERE at_us >= :since AND at_us < :until" if "at_us" in names else ""
    bounds = {"since": EARLIEST_US if span[0] is None else span[0], "until": span[1]} if within else {}
    statement = text(f"SELECT {listed} FROM {view} {within}")
    times = [index for index, name in enumerate(names) if name in TIMES]
    rows = 0
    with _sink(path, names, texts, form) as sink:
        if view == "reading_minute_v":
            found = _minutes(connection, bounds["since"], bounds["until"])
        else:
            found = iter(connection.execution_options(yield_per=BATCH).execute(statement, bounds))
        while batch := list(islice(found, BATCH)):
            sink.write([_plain(row, times, as_text=form == "csv") for row in batch])
            rows += len(batch)
            progress(rows)
    return rows


def _minutes(connection: Connection, since_us: int, until_us: int) -> Iterator[Sequence[Any]]:
    """What the view of minutes shows, hour by hour and not bit by bit."""
    for table, first_us in ((packed_minutes, since_us - HOUR_US + 1), (reading_minute, since_us)):
        query = select(device.c.name, table).join(table, table.c.device_id == device.c.id)
        query = query.where(table.c.at >= max(0, first_us), table.c.at < until_us).execution_options(yield_per=BATCH)
        for ups, *row in connection.execute(query):
            for minute in unpack_hour(row[0], row[1], row[2:]) if table is packed_minutes else (row,):
                if since_us <= minute[1] < until_us:
                    yield _minute(ups, minute)


def _minute(ups: str, minute: Sequence[Any]) -> list[Any]:
    """A row of ``reading_minute`` as a row of its view."""
    _, at_us, rows, length, seen, last, *cells = minute
    values: list[Any] = []
    counts: list[Any] = []
    for place, variable in enumerate(READING_COLUMNS):
        low, mean, high, final, count = cells[5 * place : 5 * place + 5]
        steps = (mean, mean if low is None else low, mean if high is None else high, mean if final is None else final)
        values += [each if each is None or variable.scale == 1 else each / variable.scale for each in steps]
        counts.append(rows if count is None else count)
    hour: Any = at_us - at_us % HOUR_US
    status, flags = status_text(Status(last)), status_text(Status(seen))
    return [ups, from_us(at_us), at_us, rows, length, status, flags, *values, *counts, hour]


@contextmanager
def _sink(path: Path, names: Sequence[str], texts: Collection[str], form: str) -> Iterator[_Sink]:
    if form == "parquet":
        with Writer(path, names, texts) as writer:
            yield writer
        return
    with path.open("x", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(names)
        yield _Lines(lines)


class _Lines:
    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        self._lines.writerows(rows)


def _plain(row: Sequence[Any], times: Collection[int], *, as_text: bool) -> list[Any]:
    """Numbers as numbers, times as both databases can mean them: text for CSV, datetimes for Parquet."""
    values = [float(value) if isinstance(value, Decimal) else value for value in row]
    for index in times:
        time: Any = values[index]
        if isinstance(time, str):
            time = datetime.fromisoformat(time)
        if time is not None and as_text:
            time = iso((time - _EPOCH) // timedelta(microseconds=1))
        values[index] = time
    return [str(value) if isinstance(value, dict | list) else value for value in values]
