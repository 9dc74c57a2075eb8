"""One batch, one transaction: everything of it together, or row by row where a row itself is the trouble."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import outbox
from qxfleet.store.bulk import insert_readings
from qxfleet.store.records import Record, insert_once
from qxfleet.store.rows import ReadingRow, event_row, within_columns
from qxfleet.store.side import Line
from qxfleet.store.tables import device, event
from qxfleet.store.tiers import LATE_US, mark_late

ROW_AT_FAULT = (DataError, IntegrityError, OverflowError, UnicodeError, StoreError)
"""Errors that come back however often the same row is written."""

_COLUMNS = tuple(str(variable.column) for variable in READING_COLUMNS)


@dataclass(slots=True)
class Job:
    """One write that someone may wait for. ``write`` gets the connection and the id of each of ``ups``, and may run again.

    Only a :class:`Record` can be kept in the side file; any other write waits for the state.
    """

    ups: tuple[str, ...]
    write: Callable[..., Any]
    done: Future[Any] | None = None
    result: Any = None
    error: BaseException | None = None
    number: int = 0
    begun: bool = False

    def begin(self) -> bool:
        """Whether it is to be written: whoever gave it may have gone, as long as nothing was begun."""
        self.begun = self.begun or self.done is None or self.done.set_running_or_notify_cancel()
        return self.begun

    def end(self) -> None:
        """It is written, or given up: whoever waits is told, once."""
        if self.done is None or self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)

    @property
    def record(self) -> Record | None:
        """The write as data, where it is."""
        return self.write if isinstance(self.write, Record) else None


@dataclass(slots=True)
class Batch:
    """What one transaction writes. ``again``: some of it may be there already, and nothing is written twice.

    ``taken_s``: when the writer took it. ``due_s``: when the side file is to have what the state has not; ``spilled``: it has it.
    """

    readings: list[ReadingRow] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    waiting: list[Future[None]] = field(default_factory=list)
    again: bool = False
    due_s: float = inf
    taken_s: float = 0.0
    spilled: bool = False
    given_up: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.readings or self.events or self.jobs or self.waiting)

    def names(self) -> set[str]:
        """Every UPS the batch speaks of."""
        names = {row[0] for row in self.readings}
        names.update(name for job in self.jobs for name in job.ups)
        names.update(event.ups for event in self.events if event.ups is not None)
        return names

    def strip(self) -> None:
        """The side file has what it can keep: the rest waits on."""
        self.readings, self.events = [], []
        self.jobs = [job for job in self.jobs if job.record is None]

    def lines(self) -> Iterator[Line]:
        """What of it the side file can keep."""
        for item in self.events:
            what = (item.kind.value, item.name, item.value, item.text, int(item.severity), item.phase.value)
            yield ["e", item.wall_us, item.ups, *what]
        for job in self.jobs:
            if job.record is not None:
                yield ["w", job.number, job.ups, *job.record.as_json()]
        for ups, at_us, status, *values, extra in self.readings:
            yield ["r", ups, at_us, status, dict(zip(_COLUMNS, values, strict=True)), extra]

    @classmethod
    def of_lines(cls, lines: list[Line]) -> Batch:
        """Lines of the side file as a batch; what this version can't read is given up."""
        batch = cls(again=True)
        for line in lines:
            try:
                match line:
                    case ["e", wall_us, ups, kind, name, value, text, severity, phase]:
                        batch.events.append(
                            Event(int(wall_us), ups, EventKind(kind), name, value, text, Severity(severity), Phase(phase))
                        )
                    case ["w", _, ups, *record]:
                        batch.jobs.append(Job(tuple(ups), Record.of_json(record)))
                    case ["r", ups, at_us, status, values, extra]:
                        batch.readings.append((ups, at_us, status, *(values.get(column) for column in _COLUMNS), extra))
                    case _:
                        raise ValueError("it can't be read")
            except (ValueError, KeyError, TypeError) as error:
                batch.given_up.append(f"a line of the side file was not stored: {error}: {str(line)[:200]}")
        return batch


class Transactions:
    """Writes batches through the one engine that writes; used by the writer's thread only."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._ids: dict[str, int] = {}

    def forget(self) -> None:
        """The database may be another one from now on."""
        self._ids.clear()

    def commit(self, batch: Batch) -> None:
        """Write a batch. Raises what the database says; the batch is as it was then, to be tried again."""
        try:
            self._write(batch, self._write_together)
        except ROW_AT_FAULT:
            self._ids.clear()
            self._write(batch, self._write_apart)

    def _write(self, batch: Batch, write: Callable[[Connection, Batch], None]) -> None:
        self._learn_ids(batch.names())
        with self._engine.begin() as connection:
            write(connection, batch)

    def _write_together(self, connection: Connection, batch: Batch, *, singly: bool = False) -> None:
        ids = self._ids
        if batch.readings:
            self._mark_late(connection, min(row[1] for row in batch.readings))
            rows = [(ids[row[0]], *row[1:]) for row in batch.readings]
            insert_readings(connection, rows, singly=singly)
            outbox.put_readings(connection, rows)
        events = [event_row(item, ids.get(item.ups or "")) for item in batch.events]
        if batch.again:
            for row in events:
                insert_once(connection, event, row)
        elif events:
            connection.execute(insert(event), events)
        for job in batch.jobs:
            job.result = job.write(connection, *(ids[name] for name in job.ups))

    def _mark_late(self, connection: Connection, oldest_us: int) -> None:
        if oldest_us < self._clock.wall_us() - LATE_US:
            mark_late(connection, oldest_us)

    def _write_apart(self, connection: Connection, batch: Batch) -> None:
        given_up: list[str] = []
        for row in batch.readings:
            self._attempt(connection, Batch([within_columns(row)]), f"a reading of {row[0]}", given_up)
        for item in batch.events:
            what = f"event {item.name} of {item.ups or 'the agent'}"
            self._attempt(connection, Batch(events=[item], again=batch.again), what, given_up)
        for job in batch.jobs:
            what = f"a record of {', '.join(job.ups) or 'the agent'}"
            job.error = self._attempt(connection, Batch(jobs=[job]), what, given_up)
        batch.given_up += given_up

    def _attempt(self, connection: Connection, one: Batch, what: str, given_up: list[str]) -> BaseException | None:
        try:
            with connection.begin_nested():
                self._write_together(connection, one, singly=True)
        except ROW_AT_FAULT as error:
            given_up.append(f"{what} was not stored: {' '.join(str(error).split())}")
            return error
        return None

    def _learn_ids(self, names: set[str]) -> None:
        unknown = names - self._ids.keys()
        if not unknown:
            return
        created = self._clock.wall_us()
        dialect = postgresql if self._engine.dialect.name == "postgresql" else sqlite
        with self._engine.begin() as connection:
            connection.execute(
                dialect.insert(device).on_conflict_do_nothing(index_elements=["name"]),
                [{"name": name, "created": created} for name in sorted(unknown)],
            )
            found = connection.execute(select(device.c.name, device.c.id).where(device.c.name.in_(unknown))).all()
        self._ids.update((name, number) for name, number in found)
