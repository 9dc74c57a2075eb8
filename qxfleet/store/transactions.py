"""One batch, one transaction: everything of it together, or row by row where a row itself is the trouble."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store import outbox
from qxfleet.store.bulk import insert_readings, send_readings
from qxfleet.store.engine import attached
from qxfleet.store.rows import ReadingRow, event_row, within_columns
from qxfleet.store.spool import Aside, Spool
from qxfleet.store.tables import device, event
from qxfleet.store.tiers import LATE_US, mark_late

ROW_AT_FAULT = (DataError, IntegrityError, OverflowError, UnicodeError, StoreError)
"""Errors that come back however often the same row is written."""


@dataclass(slots=True)
class Job:
    """One write that someone may wait for. ``write`` gets the connection and the id of each of ``ups``, and may run again."""

    ups: tuple[str, ...]
    write: Callable[..., Any]
    done: Future[Any] | None = None
    result: Any = None
    error: BaseException | None = None


@dataclass(slots=True)
class Batch:
    """What one transaction writes, kept until it is committed. ``also`` is written with whatever of it can be."""

    readings: list[ReadingRow]
    events: list[Event]
    jobs: list[Job]
    waiting: list[Future[None]]
    also: Callable[[Connection], None] | None = None
    transaction: int | None = None
    given_up: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.readings or self.events or self.jobs or self.waiting)

    def names(self) -> set[str]:
        """Every UPS the batch speaks of."""
        names = {row[0] for row in self.readings}
        names.update(name for job in self.jobs for name in job.ups)
        names.update(event.ups for event in self.events if event.ups is not None)
        return names


_STATUS = "SELECT CASE WHEN :id < txid_snapshot_xmax(txid_current_snapshot()) THEN txid_status(:id) END"
"""PostgreSQL says what became of a transaction; of one it has not heard of it says nothing."""


class Transactions:
    """Writes batches through the one engine that writes; used by the writer's thread only."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._ids: dict[str, int] = {}

    def commit(self, batch: Batch) -> None:
        """Write a batch, or find that it was written before and only the answer was lost.

        Raises what the database says; the batch is as it was then, to be tried again.
        """
        if batch.transaction is not None and self.committed(batch.transaction):
            return
        batch.transaction = None
        try:
            self._write(batch, self._write_together)
        except ROW_AT_FAULT:
            self._ids.clear()
            self._write(batch, self._write_apart)

    def _write(self, batch: Batch, write: Callable[[Connection, Batch], None]) -> None:
        self._learn_ids(batch.names())
        with self._engine.begin() as connection:
            write(connection, batch)
            if batch.also is not None:
                batch.also(connection)
            if connection.dialect.name == "postgresql":
                batch.transaction = connection.scalar(text("SELECT txid_current()"))

    def pour(self, spool: Spool, aside: Aside) -> None:
        """Write readings from the spool in one transaction; raises what the database says."""
        begins = spool.begins(aside)
        self._learn_ids(set(begins))
        in_file = self._engine.dialect.name == "sqlite"
        with (
            self._engine.connect() as connection,
            attached(connection, spool.path) if in_file else nullcontext(),
            connection.begin(),
        ):
            self._mark_late(connection, min(begins.values()))
            if in_file:
                spool.pour(connection, aside)
            else:
                send_readings(connection, spool.readings_of(aside), self._ids)
            spool.mark(connection, aside)

    def committed(self, transaction: int) -> bool:
        """Whether a commit whose answer was lost took place: nothing may be written twice."""
        with self._engine.begin() as connection:
            return bool(connection.scalar(text(_STATUS), {"id": transaction}) == "committed")

    def _write_together(self, connection: Connection, batch: Batch, *, singly: bool = False) -> None:
        ids = self._ids
        if batch.readings:
            self._mark_late(connection, min(row[1] for row in batch.readings))
            rows = [(ids[row[0]], *row[1:]) for row in batch.readings]
            insert_readings(connection, rows, singly=singly)
            outbox.put_readings(connection, rows)
        if batch.events:
            connection.execute(insert(event), [event_row(item, ids.get(item.ups or "")) for item in batch.events])
        for job in batch.jobs:
            job.result = job.write(connection, *(ids[name] for name in job.ups))

    def _mark_late(self, connection: Connection, oldest_us: int) -> None:
        if oldest_us < self._clock.wall_us() - LATE_US:
            mark_late(connection, oldest_us)

    def _write_apart(self, connection: Connection, batch: Batch) -> None:
        batch.given_up = []
        for row in batch.readings:
            self._attempt(connection, Batch([within_columns(row)], [], [], []), f"a reading of {row[0]}", batch)
        for item in batch.events:
            self._attempt(connection, Batch([], [item], [], []), f"event {item.name} of {item.ups or 'the agent'}", batch)
        for job in batch.jobs:
            what = f"a record of {', '.join(job.ups) or 'the agent'}"
            job.error = self._attempt(connection, Batch([], [], [job], []), what, batch)

    def _attempt(self, connection: Connection, one: Batch, what: str, batch: Batch) -> BaseException | None:
        try:
            with connection.begin_nested():
                self._write_together(connection, one, singly=True)
        except ROW_AT_FAULT as error:
            batch.given_up.append(f"{what} was not stored: {' '.join(str(error).split())}")
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
