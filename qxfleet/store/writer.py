"""The one thread that writes: batches, durable commits, patience with a database that is away.

Three queues wait for it. Readings are bounded: the oldest are dropped and counted. Events and jobs (orders, identities)
are never dropped; they wake the writer, readings don't. A batch is written in one transaction and held until it is
committed; if a row itself is the trouble, the batch is written row by row, and that row is given up and reported.

While the database is away, readings and events go to the spool on the disk; jobs wait in memory, because whoever gave them waits
too. When it is back, what happened goes in first, then the jobs, then the readings, beside what comes anew.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store.engine import explain, sqlite_path
from qxfleet.store.rows import ReadingRow
from qxfleet.store.spool import Aside, Sort, Spool
from qxfleet.store.transactions import ROW_AT_FAULT, Batch, Job, Transactions

BATCH = 500
"""Readings that wake the writer before its time is over."""

LARGEST_BATCH = 2_000
"""Readings of one transaction at most, so that a backlog does not hold the lock for long."""

REPLAY_BATCH = 10_000
"""Rows from the spool in one transaction: a tenth of a second, in which nothing else is written."""

QUEUE_LIMIT = 50_000
"""Readings kept in memory: about 20 MB; only where nothing can be set aside on the disk do they ever become that many."""

FLUSH_S = 4.0
"""How long a reading waits for others at most: two of one UPS share a page, and the fewer pages are written again."""

LULL_S, GATHERED_S = 0.05, 0.3
"""What nobody is in a hurry for is committed once nothing more came for so long, and after so long in any case. When mains fail,
events come by hundreds, and the thread that stores them takes the interpreter away from the one that reads the rest."""

ASIDE_S = 1.0
"""How long a reading waits, while the database is away, until it is set aside on the disk."""

SIZE_EVERY_S = 60.0
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

CLOSE_S = 5.0
"""How long closing waits for the last commit."""


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How storing goes. ``dropped`` and ``given_up`` count readings and single rows lost since the start; ``error`` is the
    trouble that lasts, None when all is well; ``size_bytes`` is None until measured. What is queued may be on the disk."""

    queued_readings: int
    queued_events: int
    written: int
    dropped: int
    given_up: int
    last_commit_us: int | None
    error: str | None
    size_bytes: int | None


class Writer:
    """Owns the write connection. ``trouble`` is called on this thread with one sentence per turn for the worse or better.

    ``prepare`` is called before the first transaction, until it succeeds once; ``spool`` None: everything waits in memory.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        trouble: Callable[[str], None],
        *,
        queue_limit: int = QUEUE_LIMIT,
        spool: Spool | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._trouble = trouble
        self._transactions = Transactions(engine, clock)
        self._spool = spool
        self.prepare = prepare
        self._compared = False
        self._readings: deque[ReadingRow] = deque(maxlen=queue_limit)
        self._events: list[Event] = []
        self._jobs: list[Job] = []
        self._waiting: list[Future[None]] = []
        self._held: Batch | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._closing = threading.Event()
        self._give_up_s = float("inf")
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
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
        self._readings.append(row)
        self._put += 1
        if not self._put % BATCH:
            self._wake.set()

    def put_event(self, event: Event) -> None:
        """Queue an event and wake the writer."""
        with self._lock:
            self._check_open()
            self._events.append(event)
        self._wake.set()

    def put_job(self, job: Job, *, hurry: bool = True) -> None:
        """Queue a job and wake the writer; ``job.done`` is resolved after the commit."""
        with self._lock:
            self._check_open()
            self._jobs.append(job)
        if hurry:
            self._hurry.set()
        self._wake.set()

    def committed(self, events: tuple[Event, ...] = (), *, hurry: bool = True) -> Future[None]:
        """Queue these events; resolved when they, and all events and jobs queued before, are committed."""
        done: Future[None] = Future()
        with self._lock:
            self._check_open()
            self._events.extend(events)
            self._waiting.append(done)
        if hurry:
            self._hurry.set()
        self._wake.set()
        return done

    def alive(self) -> bool:
        """Whether the thread runs; it ends before :meth:`close` only by a mistake of ours."""
        return self._thread.is_alive()

    def health(self) -> StoreHealth:
        """How storing goes at this moment."""
        with self._lock:
            held, spool = self._held, self._spool
            return StoreHealth(
                queued_readings=len(self._readings) + (len(held.readings) if held else 0) + (spool.readings if spool else 0),
                queued_events=len(self._events) + len(self._jobs) + (len(held.events) + len(held.jobs) if held else 0)
                + (spool.events if spool else 0),
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
        self._hurry.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)
        self._abandon()
        self._engine.dispose()

    def _dropped(self) -> int:
        return self._put - self._taken - len(self._readings) + (self._spool.dropped if self._spool is not None else 0)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StoreError("the store is closed")

    def _abandon(self) -> None:
        with self._lock:
            held, spool = self._held, self._spool
            jobs = [*(held.jobs if held else ()), *self._jobs]
            events = len(self._events) + (len(held.events) if held else 0)
            readings = len(self._readings) + (len(held.readings) if held else 0)
            waiting = [*(held.waiting if held else ()), *self._waiting]
        if events or readings or jobs:
            why = self._error or "the database did not answer"
            self._trouble(f"closing with {events + len(jobs)} events and orders and {readings} readings unwritten: {why}")
        if spool is not None and spool.waiting:
            self._trouble(f"closing with {spool.events} events and {spool.readings} readings in {spool.path}, for the next start")
        for done in (*(job.done for job in jobs if job.done is not None), *waiting):
            if not done.done():
                done.set_exception(StoreError("the store was closed before this was written"))

    # The writer's thread

    def _run(self) -> None:
        try:
            self._find_spool()
            self._loop()
        except BaseException as error:
            self._error = f"the writer stopped on a mistake of its own: {error!r}"
            self._trouble(self._error)
            raise
        finally:
            if self._spool is not None:
                self._spool.close()

    def _find_spool(self) -> None:
        try:
            if self._spool is not None:
                self._spool.find()
        except (sqlite3.Error, OSError) as error:
            self._lose_spool(error)

    def _loop(self) -> None:
        while True:
            if self._wake.wait(0 if self._behind() else FLUSH_S):
                self._gather()
            self._wake.clear()
            self._hurry.clear()
            closing = self._closing.is_set()
            while self._take() or self.prepare is not None or self._behind():
                if not self._write_held():
                    return
                if not self._queued():
                    break
            self._tell_dropped()
            if closing:
                return
            if time.monotonic() >= self._size_due_s:
                self._measure()

    def _gather(self) -> None:
        """Wait for company, unless somebody is in a hurry."""
        until_s, seen = time.monotonic() + GATHERED_S, -1
        while (count := len(self._events) + len(self._jobs)) != seen and time.monotonic() < until_s:
            seen = count
            if self._hurry.wait(LULL_S):
                return

    def _queued(self) -> bool:
        return bool(self._readings or self._events or self._jobs or self._waiting)

    def _behind(self) -> bool:
        return self._spool is not None and self._spool.waiting

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
        """Write the batch in hand and some of what is set aside, however long it takes; False if closing cut it short."""
        batch = self._held or Batch([], [], [], [])
        failures = 0
        while True:
            try:
                self._write(batch)
                break
            except (SQLAlchemyError, *ROW_AT_FAULT) as error:
                self._failed(error, first=failures == 0)
            self._set_aside(batch, batch.transaction)
            delay_s = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
            failures += 1
            if self._closing.is_set():
                if time.monotonic() + BACKOFF_S[0] > self._give_up_s:
                    self._set_aside_queued()
                    return False
                delay_s = BACKOFF_S[0]
            self._wait(delay_s)
            self._tell_dropped()
        self._finish(batch, recovered=failures > 0)
        return True

    def _write(self, batch: Batch) -> None:
        """Events that were set aside, then the batch, then some readings that were set aside."""
        if self.prepare is not None:
            self.prepare()
            self.prepare = None
        while self._replay(Sort.EVENTS):
            pass
        if batch:
            self._transactions.commit(batch)
        self._replay(Sort.READINGS)

    def _replay(self, sort: Sort) -> bool:
        """Write one batch of what is set aside; whether there was one."""
        spool = self._spool
        if spool is None or not spool.waiting:
            return False
        try:
            if not self._compared:  # once after each trouble: what did the database take, though its answer was lost?
                with self._engine.begin() as connection:
                    spool.compare(connection)
                self._compared = True
            aside = spool.take(sort, REPLAY_BATCH)
            if aside is None:
                return False
            if aside.txid is None or not self._transactions.committed(aside.txid):
                self._write_aside(spool, aside)
            spool.forget(aside)
            if not (spool.events or spool.readings):
                with self._engine.begin() as connection:
                    spool.unmark(connection)
                spool.close()
        except (sqlite3.Error, OSError, json.JSONDecodeError) as error:
            self._lose_spool(error)
            return False
        return True

    def _write_aside(self, spool: Spool, aside: Aside) -> None:
        again = Batch([], [], [], [], also=partial(spool.mark, aside=aside))
        if aside.sort is Sort.EVENTS:
            again.events = spool.events_of(aside)
        else:
            with suppress(*ROW_AT_FAULT):  # then each by itself, below
                self._transactions.pour(spool, aside)
                self._count(aside.count)
                return
            again.readings = list(spool.readings_of(aside))
        self._transactions.commit(again)
        self._count(len(again.readings), again.given_up)

    def _wait(self, delay_s: float) -> None:
        """Wait for the next attempt; what comes meanwhile is set aside within a second, events at once."""
        closing, until_s = self._closing.is_set(), time.monotonic() + delay_s
        while (left_s := until_s - time.monotonic()) > 0 and self._closing.is_set() == closing:
            self._wake.wait(min(ASIDE_S, left_s))
            self._wake.clear()
            self._set_aside_queued()

    def _set_aside(self, batch: Batch, transaction: int | None) -> None:
        """Readings and events of a batch onto the disk; its jobs wait in memory."""
        if self._spool is None or not (batch.readings or batch.events):
            return
        try:
            self._spool.put(batch.readings, batch.events, transaction)
        except (sqlite3.Error, OSError) as error:
            self._lose_spool(error)
            return
        with self._lock:
            batch.readings, batch.events = [], []

    def _set_aside_queued(self) -> None:
        if self._spool is None:
            return
        with self._lock:
            queue = self._readings
            queued = Batch([queue.popleft() for _ in range(len(queue))], self._events, [], [])
            self._taken += len(queued.readings)
            self._events = []
        self._set_aside(queued, None)
        if queued:  # the disk did not take them
            with self._lock:
                self._taken -= len(queued.readings)
                self._readings.extendleft(reversed(queued.readings))
                self._events = queued.events + self._events

    def _lose_spool(self, error: Exception) -> None:
        """Without a place on the disk everything waits in memory, as far as that goes; what is in the file stays there."""
        spool, self._spool = self._spool, None
        if spool is not None:
            self._trouble(f"{spool.path} takes nothing ({error}): what the database can't take waits in memory")
            spool.close()

    def _failed(self, error: BaseException, *, first: bool) -> None:
        self._engine.dispose()
        self._compared = False
        sentence = str(error) if isinstance(error, StoreError) else explain(self._engine.url, error)
        news = first or sentence != self._error
        self._error = sentence
        if news:
            left = self.health()
            where = "in memory" if self._spool is None else f"in {self._spool.path}"
            self._trouble(
                f"{sentence}; keeping {left.queued_events} events and orders and {left.queued_readings} readings {where} "
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

    def _count(self, readings: int, given_up: Sequence[str] = ()) -> None:
        with self._lock:
            self._written += readings
            self._given_up += len(given_up)
            self._last_commit_us = self._clock.wall_us()
        for sentence in given_up:
            self._trouble(sentence)

    def _finish(self, batch: Batch, *, recovered: bool) -> None:
        with self._lock:
            self._held = None
            self._error = None
        self._count(len(batch.readings), batch.given_up)
        if recovered:
            left = self.health()
            self._trouble(
                f"the database is back: all events and orders are written, {left.queued_readings} readings to go"
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
