"""The one thread that writes: batches, durable commits, patience with a database that is away.

Three queues wait for it. Readings are bounded: the oldest are dropped and counted. Events and jobs (orders, identities)
are never dropped; they wake the writer, readings don't. A batch is written in one transaction and held until it is
committed; if a row itself is the trouble, the batch is written row by row, and that row is given up and reported.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store.bulk import insert_readings
from qxfleet.store.engine import explain, sqlite_path
from qxfleet.store.rows import ReadingRow, event_row, within_columns
from qxfleet.store.tables import device, event

BATCH = 500
"""Readings that wake the writer before its second is over."""

LARGEST_BATCH = 2_000
"""Readings of one transaction at most, so that a backlog does not hold the lock for long."""

QUEUE_LIMIT = 50_000
"""Readings kept for a database that is away: about 20 MB; 250 UPSes on mains fill it in some hours."""

FLUSH_S = 1.0
SIZE_EVERY_S = 60.0
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

CLOSE_S = 5.0
"""How long closing waits for the last commit."""

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
    """What one transaction writes, kept until it is committed."""

    readings: list[ReadingRow]
    events: list[Event]
    jobs: list[Job]
    waiting: list[Future[None]]
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


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How storing goes. ``dropped`` and ``given_up`` count readings and single rows lost since the start; ``error`` is the
    trouble that lasts, None when all is well; ``size_bytes`` is None until measured."""

    queued_readings: int
    queued_events: int
    written: int
    dropped: int
    given_up: int
    last_commit_us: int | None
    error: str | None
    size_bytes: int | None


class Writer:
    """Owns the write connection. ``trouble`` is called on this thread with one sentence per turn for the worse or better."""

    def __init__(self, engine: Engine, clock: Clock, trouble: Callable[[str], None], *, queue_limit: int = QUEUE_LIMIT) -> None:
        self._engine = engine
        self._clock = clock
        self._trouble = trouble
        self._readings: deque[ReadingRow] = deque(maxlen=queue_limit)
        self._events: list[Event] = []
        self._jobs: list[Job] = []
        self._waiting: list[Future[None]] = []
        self._held: Batch | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._give_up_s = float("inf")
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._ids: dict[str, int] = {}
        self._written = 0
        self._put = 0
        self._taken = 0
        self._dropped_told = 0
        self._given_up = 0
        self._last_commit_us: int | None = None
        self._error: str | None = None
        self._size_bytes: int | None = None
        self._size_due_s = 0.0

    # Called from the loop's thread, or any other

    def start(self) -> None:
        """Begin writing what is queued."""
        self._thread.start()

    def put(self, row: ReadingRow) -> None:
        """Queue a reading; drops the oldest when the queue is full. From one thread only: it takes no lock."""
        readings = self._readings
        readings.append(row)
        self._put += 1
        if len(readings) == BATCH:
            self._wake.set()

    def put_event(self, event: Event) -> None:
        """Queue an event and wake the writer."""
        with self._lock:
            self._check_open()
            self._events.append(event)
        self._wake.set()

    def put_job(self, job: Job) -> None:
        """Queue a job and wake the writer; ``job.done`` is resolved after the commit."""
        with self._lock:
            self._check_open()
            self._jobs.append(job)
        self._wake.set()

    def committed(self, events: tuple[Event, ...] = ()) -> Future[None]:
        """Queue these events; resolved when they, and all events and jobs queued before, are committed."""
        done: Future[None] = Future()
        with self._lock:
            self._check_open()
            self._events.extend(events)
            self._waiting.append(done)
        self._wake.set()
        return done

    def alive(self) -> bool:
        """Whether the thread runs; it ends before :meth:`close` only by a mistake of ours."""
        return self._thread.is_alive()

    def health(self) -> StoreHealth:
        """How storing goes at this moment."""
        with self._lock:
            held = self._held
            return StoreHealth(
                queued_readings=len(self._readings) + (len(held.readings) if held else 0),
                queued_events=len(self._events) + len(self._jobs) + (len(held.events) + len(held.jobs) if held else 0),
                written=self._written,
                dropped=self._dropped(),
                given_up=self._given_up,
                last_commit_us=self._last_commit_us,
                error=self._error,
                size_bytes=self._size_bytes,
            )

    def close(self) -> None:
        """Write what is queued and end the thread; returns within five seconds, whatever the database does."""
        with self._lock:
            self._give_up_s = time.monotonic() + CLOSE_S - 0.5
            self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)
        self._abandon()
        self._engine.dispose()

    def _dropped(self) -> int:
        return self._put - self._taken - len(self._readings)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StoreError("the store is closed")

    def _abandon(self) -> None:
        left = self.health()
        if left.queued_readings or left.queued_events:
            self._trouble(
                f"closing with {left.queued_events} events and orders and {left.queued_readings} readings unwritten: "
                f"{self._error or 'the database did not answer'}"
            )
        held = self._held
        jobs = [*(held.jobs if held else ()), *self._jobs]
        waiting = [*(held.waiting if held else ()), *self._waiting]
        for done in (*(job.done for job in jobs if job.done is not None), *waiting):
            if not done.done():
                done.set_exception(StoreError("the store was closed before this was written"))

    # The writer's thread

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._error = f"the writer stopped on a mistake of its own: {error!r}"
            self._trouble(self._error)
            raise

    def _loop(self) -> None:
        while True:
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            closing = self._closing.is_set()
            while self._take():
                if not self._write_held():
                    return
            self._tell_dropped()
            if closing:
                return
            if time.monotonic() >= self._size_due_s:
                self._measure()

    def _take(self) -> Batch | None:
        with self._lock:
            queue = self._readings
            readings = [queue.popleft() for _ in range(min(len(queue), LARGEST_BATCH))]
            self._taken += len(readings)
            jobs = [job for job in self._jobs if job.done is None or job.done.set_running_or_notify_cancel()]
            waiting = [done for done in self._waiting if done.set_running_or_notify_cancel()]
            batch = Batch(readings, self._events, jobs, waiting)
            self._events, self._jobs, self._waiting = [], [], []
            self._held = batch if batch else None
            return self._held

    def _write_held(self) -> bool:
        """Write the batch in hand, however long it takes; False if closing cut the attempts short."""
        batch = self._held
        assert batch is not None
        failures = 0
        while True:
            try:
                self._commit(batch)
                break
            except (SQLAlchemyError, *ROW_AT_FAULT) as error:
                self._failed(error, first=failures == 0)
            delay_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            if self._closing.is_set():
                if time.monotonic() + BACKOFF_S[0] > self._give_up_s:
                    return False
                time.sleep(BACKOFF_S[0])
            else:
                self._closing.wait(delay_s)
            self._tell_dropped()
        self._finish(batch, recovered=failures > 0)
        return True

    def _failed(self, error: BaseException, *, first: bool) -> None:
        self._engine.dispose()
        sentence = explain(self._engine.url, error)
        news = first or sentence != self._error
        self._error = sentence
        if news:
            left = self.health()
            self._trouble(
                f"{sentence}; keeping {left.queued_events} events and orders and {left.queued_readings} readings in memory "
                "and trying again"
            )

    def _tell_dropped(self) -> None:
        dropped = self._dropped()
        if dropped > self._dropped_told:
            self._trouble(
                f"{dropped - self._dropped_told} readings dropped, the oldest first: "
                f"more than {self._readings.maxlen} waited for the database"
            )
            self._dropped_told = dropped

    def _finish(self, batch: Batch, *, recovered: bool) -> None:
        with self._lock:
            self._held = None
            self._written += len(batch.readings)
            self._given_up += len(batch.given_up)
            self._last_commit_us = self._clock.wall_us()
            self._error = None
        for sentence in batch.given_up:
            self._trouble(sentence)
        if recovered:
            self._trouble(
                f"the database is back: {len(batch.events) + len(batch.jobs)} events and orders and "
                f"{len(batch.readings)} readings written, {len(self._readings)} readings to go"
            )
        for job in batch.jobs:
            if job.done is None or job.done.done():
                continue
            if job.error is not None:
                job.done.set_exception(job.error)
            else:
                job.done.set_result(job.result)
        for done in batch.waiting:
            if not done.done():
                done.set_result(None)

    # One transaction

    def _commit(self, batch: Batch) -> None:
        if batch.transaction is not None and self._was_committed(batch.transaction):
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
            if connection.dialect.name == "postgresql":
                batch.transaction = connection.scalar(text("SELECT txid_current()"))

    def _was_committed(self, transaction: int) -> bool:
        """Whether a commit whose answer was lost took place: nothing may be written twice."""
        with self._engine.begin() as connection:
            return bool(connection.scalar(text("SELECT txid_status(:id)"), {"id": transaction}) == "committed")

    def _write_together(self, connection: Connection, batch: Batch, *, singly: bool = False) -> None:
        ids = self._ids
        if batch.readings:
            insert_readings(connection, [(ids[row[0]], *row[1:]) for row in batch.readings], singly=singly)
        if batch.events:
            connection.execute(insert(event), [event_row(item, ids.get(item.ups or "")) for item in batch.events])
        for job in batch.jobs:
            job.result = job.write(connection, *(ids[name] for name in job.ups))

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

    def _measure(self) -> None:
        self._size_due_s = time.monotonic() + SIZE_EVERY_S
        path = sqlite_path(self._engine.url)
        try:
            if path is None:
                with self._engine.begin() as connection:
                    self._size_bytes = connection.scalar(text("SELECT pg_database_size(current_database())"))
            else:
                files = (path, path.with_name(path.name + "-wal"))
                self._size_bytes = sum(file.stat().st_size for file in files if file.exists())
        except (SQLAlchemyError, OSError):
            self._size_bytes = None
