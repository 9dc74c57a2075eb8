"""Two threads: one writes to the state, one to the side file what the state has not taken in time.

Three queues wait. Readings are bounded: the oldest are dropped and counted. Events and jobs (orders, identities, steps) are
never dropped; they wake the writer, readings don't. A batch is one transaction and is held until it is committed; if a row itself
is the trouble, the batch is written row by row, and that row is given up and reported.

What somebody waits for and the state has not committed within :data:`SPILL_S` goes to the side file, and counts as written from
then on. The writer joins the side file to the state before it writes anything else, so that the order stays. Neither thread ever
waits for the other: a disk that hangs takes one of them, and whoever waits gives up by himself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf

from sqlalchemy.exc import SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, Severity
from qxfleet.store.engine import explain
from qxfleet.store.rows import ReadingRow
from qxfleet.store.side import Side
from qxfleet.store.state import Gone, State, damaged
from qxfleet.store.transactions import ROW_AT_FAULT, Batch, Job, Transactions

BATCH = 500
"""Readings that wake the writer before its time is over."""

LARGEST_BATCH = 2_000
"""Readings of one transaction at most, so that a backlog does not hold the lock for long."""

QUEUE_LIMIT = 50_000
"""Readings kept in memory: about 20 MB; only where nothing can be set aside on the disk do they ever become that many."""

FLUSH_S = 4.0
"""How long a reading waits for others at most: two of one UPS share a page, and the fewer pages are written again."""

LULL_S, GATHERED_S = 0.05, 0.3
"""What nobody is in a hurry for is committed once nothing more came for so long, and after so long in any case. When mains fail,
events come by hundreds, and the thread that stores them takes the interpreter away from the one that reads the rest."""

SPILL_S, SPILL_LAZY_S = 0.1, 1.0
"""How long the state may take for what somebody waits for, and for what nobody waits for, before the side file takes it. A step
of a shutdown waits 0.5 s for either, so this leaves the side file the greater part."""

ASIDE_S = 1.0
"""How long a reading waits, while the state takes nothing, until it is in the side file."""

LOOK_S = 5.0
"""How often the file is looked at: its size, and whether it is still the same one."""

SILENT_S = 3.0
"""A state that has not said yes or no to a batch for so long is in trouble; the largest steps of a roll-up take a tenth of it."""

BACKOFF_S = (0.2, 0.5, 1.0, 2.0)

CLOSE_S = 5.0
"""How long closing waits for the last commit."""

Trouble = Callable[[str, Severity], None]


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """How storing goes. ``dropped`` and ``given_up`` count readings and single rows lost since the start; ``error`` is the
    trouble that lasts, since ``since_us``, None when all is well; ``in_memory``: the side file takes nothing either;
    ``size_bytes`` is None until measured. What is queued may be in the side file."""

    queued_readings: int
    queued_events: int
    written: int
    dropped: int
    given_up: int
    last_commit_us: int | None
    error: str | None
    size_bytes: int | None
    since_us: int | None
    in_memory: bool


class Writer:
    """Owns what writes. ``trouble`` is called on one of its threads with one sentence per turn for the worse or better.

    ``anew`` is called when a new state was begun while it ran. ``side`` None: what the state can't take waits in memory.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        trouble: Trouble,
        *,
        queue_limit: int = QUEUE_LIMIT,
        side: Side | None = None,
        anew: Callable[[], None] = lambda: None,
    ) -> None:
        self._state = state
        self._clock = clock
        self._trouble = trouble
        self._anew = anew
        self._transactions = Transactions(state.writing, clock)
        self._side = side
        self._readings: deque[ReadingRow] = deque(maxlen=queue_limit)
        self._events: list[Event] = []
        self._jobs: list[Job] = []
        self._waiting: list[Future[None]] = []
        self._held: Batch | None = None
        self._due_s = inf
        self._untaken: dict[int, float] = {}
        self._aside_due_s = 0.0
        self._spilling = False
        self._number = clock.wall_us()
        self._first = self._number
        self._committed = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._spill_wake = threading.Event()
        self._side_found = threading.Event()
        self._closing = threading.Event()
        self._ended = threading.Event()
        self.tried = threading.Event()
        """Whether the state was opened, or could not be, for the first time."""
        self.refused: StoreError | None = None
        """Why this state is not for this version of qxfleet."""
        self._opened = False
        self._give_up_s = inf
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._spiller = threading.Thread(target=self._spill, name="store-side", daemon=True)
        self._written = 0
        self._put = 0
        self._taken = 0
        self._dropped_told = 0
        self._given_up = 0
        self._last_commit_us: int | None = None
        self._error: str | None = None
        self._error_us: int | None = None
        self._side_error: str | None = None
        self._neither_told = False
        self._size_bytes: int | None = None
        self._look_due_s = 0.0

    # Called from the loop's thread, or any other

    def start(self) -> None:
        """Open the state and begin to write what is queued."""
        self._thread.start()
        self._spiller.start()

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
            self._expect(SPILL_LAZY_S)
        self._wake.set()

    def put_job(self, job: Job, *, hurry: bool = True) -> None:
        """Queue a job and wake the writer; ``job.done`` is resolved after the commit, or when the side file has it."""
        with self._lock:
            self._check_open()
            self._number += 1
            job.number = self._number
            self._jobs.append(job)
            if job.record is not None:
                self._untaken[job.number] = time.monotonic()
                self._expect(SPILL_S if hurry else SPILL_LAZY_S)
        if hurry:
            self._hurry.set()
        self._wake.set()

    def committed(self) -> Future[None]:
        """Resolved when all events and jobs queued before are in the state, where they can be read."""
        done: Future[None] = Future()
        with self._lock:
            self._check_open()
            self._waiting.append(done)
        self._wake.set()
        return done

    def untaken_s(self) -> float:
        """How long the oldest record waits that neither the state nor the side file has taken; 0.0: none waits."""
        with self._lock:
            return time.monotonic() - next(iter(self._untaken.values())) if self._untaken else 0.0

    def alive(self) -> bool:
        """Whether the threads run; they end before :meth:`close` only by a mistake of ours."""
        return self._thread.is_alive() and self._spiller.is_alive()

    def health(self) -> StoreHealth:
        """How storing goes at this moment."""
        with self._lock:
            held, waiting = self._held, self._side.waiting if self._side is not None else 0
            return StoreHealth(
                queued_readings=len(self._readings) + (len(held.readings) if held else 0),
                queued_events=len(self._events) + len(self._jobs) + (len(held.events) + len(held.jobs) if held else 0) + waiting,
                written=self._written,
                dropped=self._dropped() + (0 if self._side is None else self._side.dropped),
                given_up=self._given_up,
                last_commit_us=self._last_commit_us,
                error=self._error or self._silence(),
                size_bytes=self._size_bytes,
                since_us=self._error_us if self._error is not None else self._silent_us(),
                in_memory=self._side is None or self._side_error is not None,
            )

    def _silence(self) -> str | None:
        """A state that says nothing at all, not even no."""
        silent_s = self._silent_s()
        return None if silent_s is None else f"state {self._state.path}: it has not answered for {silent_s:.0f} s"

    def _silent_s(self) -> float | None:
        held, now_s = self._held, time.monotonic()
        return None if held is None or now_s < held.taken_s + SILENT_S else now_s - held.taken_s

    def _silent_us(self) -> int | None:
        silent_s = self._silent_s()
        return None if silent_s is None else self._clock.wall_us() - round(silent_s * 1e6)

    def close(self) -> None:
        """Write what is queued and end the threads; returns within five seconds, whatever the disks do.

        A state in trouble is waited for only while something is neither in it nor in the side file.
        """
        with self._lock:
            self._give_up_s = time.monotonic() + CLOSE_S - 0.5
            self._closing.set()
            self._error = self._error or self._silence()
            if self._error is not None:
                self._due_s = self._aside_due_s = 0.0
        self._hurry.set()
        self._wake.set()
        self._spill_wake.set()
        if self._thread.ident is not None:
            until_s = time.monotonic() + CLOSE_S
            while self._thread.is_alive() and time.monotonic() < until_s and not (self._error is not None and self._kept()):
                self._thread.join(0.05)
            self._ended.set()
            self._spill_wake.set()
            self._spiller.join(0.5)
        self._abandon()
        if self._side is not None:
            self._side.close()
        self._state.dispose()

    def _dropped(self) -> int:
        return self._put - self._taken - len(self._readings)

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise StoreError("the store is closed")

    def _expect(self, within_s: float) -> None:
        """Something waits that the side file must have soon, unless the state has it. Called under the lock."""
        due_s = time.monotonic() + (within_s if self._error is None else 0.0)
        if due_s < self._due_s:
            self._due_s = due_s
            self._spill_wake.set()

    def _abandon(self) -> None:
        with self._lock:
            held = self._held or Batch()
            if held.spilled:
                held.strip()
            jobs, waiting = [*held.jobs, *self._jobs], [*held.waiting, *self._waiting]
            records = len(self._events) + len(held.events) + sum(job.record is not None for job in jobs)
            readings = len(self._readings) + len(held.readings)
            self._jobs, self._waiting = [], []  # a writer that was not waited for takes them no more
        if records or readings:
            why = self._error or self._silence() or "the database did not answer"
            self._trouble(f"closing with {records} events and orders and {readings} readings unwritten: {why}", Severity.CRITICAL)
        if self._side is not None and self._side.waiting:
            self._trouble(
                f"closing with {self._side.waiting} records in {self._side.path}, which the next start joins", Severity.WARNING
            )
        for done in (*(job.done for job in jobs if job.done is not None), *waiting):
            if not done.done():
                done.set_exception(StoreError("the store was closed before this was written"))

    # The writer's thread

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._error = f"the writer stopped on a mistake of its own: {error!r}"
            self._trouble(self._error, Severity.CRITICAL)
            raise
        finally:
            self.tried.set()
            if self._ended.is_set():  # closing did not wait for what this was doing
                self._state.dispose()

    def _loop(self) -> None:
        failures = 0
        self._side_found.wait(2.0)
        while not self._ended.is_set():
            closing = self._closing.is_set()
            try:
                self._bring_up_to_date()
            except (SQLAlchemyError, OSError, *ROW_AT_FAULT) as error:
                self._failed(error)
                failures += 1
            else:
                self._recovered()
                failures = 0
            self.tried.set()
            self._tell_dropped()
            if closing and (not failures or self._kept() or time.monotonic() + BACKOFF_S[0] > self._give_up_s):
                return
            self._wait(failures)

    def _wait(self, failures: int) -> None:
        if failures:
            delay_s = BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
            if self._closing.wait(delay_s):
                time.sleep(BACKOFF_S[0])
        elif self._wake.wait(0 if self._behind() or self._closing.is_set() else FLUSH_S):
            self._gather()
        self._wake.clear()
        self._hurry.clear()

    def _gather(self) -> None:
        """Wait for company, unless somebody is in a hurry."""
        until_s, seen = time.monotonic() + GATHERED_S, -1
        while (count := len(self._events) + len(self._jobs)) != seen and time.monotonic() < until_s:
            seen = count
            if self._hurry.wait(LULL_S):
                return

    def _bring_up_to_date(self) -> None:
        """Open the state if need be, join the side file, then commit what is queued. Raises what the database says."""
        if not self._opened:
            self._state.open()
            self._opened = True
        if time.monotonic() >= self._look_due_s:
            self._look()
        while True:
            self._join()
            batch = self._next()
            if batch is None:
                return
            if not batch:
                continue
            self._transactions.commit(batch)
            self._finish(batch)
            if not self._queued():
                return

    def _look(self) -> None:
        self._look_due_s = time.monotonic() + LOOK_S
        what = self._state.gone()
        if what is not None:
            self._opened = False
            self._begin_anew(what)
        self._size_bytes = self._state.size()

    def _begin_anew(self, what: Gone) -> None:
        """Go on with another file under the same name: the one that is there now, or a new one."""
        where = self._state.leave()
        self._transactions.forget()
        if what is Gone.REPLACED:
            self._state.open()
            text = "the agent goes on with the one that is there now"
        else:
            text = self._state.begin_anew("damaged")
        text = f"{text}; what was kept before is in {where}" if where else text
        self._opened = True
        self._trouble(f"state {self._state.path} {what.value} under the agent: {text}", Severity.CRITICAL)
        self._anew()

    def _behind(self) -> bool:
        return self._side is not None and self._side.waiting > 0

    def _queued(self) -> bool:
        return bool(self._readings or self._events or self._jobs or self._waiting)

    def _kept(self) -> bool:
        """Whether nothing is left that only memory has. What is no record can't be kept, and is undone at the end."""
        with self._lock:
            held = Batch() if self._held is None or self._held.spilled else self._held
            jobs = any(job.record is not None for job in (*held.jobs, *self._jobs))
            return not (jobs or held.readings or held.events or self._readings or self._events)

    def _join(self) -> None:
        """What waits in the side file, oldest first. Records that were committed after all, only late, are passed over."""
        side = self._side
        while side is not None and side.waiting:
            lines, end = side.lines(LARGEST_BATCH)
            batch = Batch.of_lines([line for line in lines if not (line[0] == "w" and self._first < line[1] <= self._committed)])
            if batch:
                self._transactions.commit(batch)
            side.joined(end, len(lines))
            self._count(len(batch.readings), batch.given_up)

    def _next(self) -> Batch | None:
        """The batch in hand, without what the side file has by now; else what is queued. Empty: that file comes first again."""
        with self._lock:
            if self._behind():
                return Batch()
            if self._held is not None and self._held.spilled:
                self._held.strip()
            if self._held:
                return self._held
            queue = self._readings
            readings = [queue.popleft() for _ in range(min(len(queue), LARGEST_BATCH))]
            self._taken += len(readings)
            jobs = [job for job in self._jobs if job.begin()]
            waiting = [done for done in self._waiting if done.set_running_or_notify_cancel()]
            again = self._spilling  # the side file may have had these events by now, and they may be joined already
            batch = Batch(readings, self._events, jobs, waiting, again, due_s=self._due_s, taken_s=time.monotonic())
            self._events, self._jobs, self._waiting, self._due_s = [], [], [], inf
            self._held = batch or None
            return self._held

    def _failed(self, error: BaseException) -> None:
        self._state.writing.dispose()
        sentence = str(error) if isinstance(error, StoreError) else explain(self._state.writing.url, error)
        if isinstance(error, StoreError) and error.__cause__ is None and not self.tried.is_set():
            self.refused = error
        if self._state.path is not None and damaged(error):
            try:
                self._transactions.forget()
                sentence = f"{sentence}; {self._state.begin_anew('damaged')}"
            except (StoreError, OSError) as also:
                sentence = f"{sentence}; nor could a new one be begun: {also}"
            else:
                self._opened = True
                self._trouble(sentence, Severity.CRITICAL)
                self._anew()
                return
        with self._lock:
            if self._held is not None:
                self._held.again = True  # it may have been committed, and only the answer was lost
            news = sentence != self._error
            if self._error is None:
                self._error_us = self._clock.wall_us()
            self._error = sentence
            self._due_s = min(self._due_s, time.monotonic())
        self._spill_wake.set()
        if news:
            where = "in memory" if self._side is None else f"in {self._side.path}"
            left = self.health()
            self._trouble(
                f"{sentence}; keeping {left.queued_events} records and {left.queued_readings} readings {where} and trying again",
                Severity.WARNING,
            )
        self._tell_neither()

    def _recovered(self) -> None:
        with self._lock:
            was, self._error, self._neither_told = self._error, None, False
        if was is not None:
            self._trouble("the state takes records again, and all that waited is in it", Severity.NOTICE)

    def _tell_dropped(self) -> None:
        dropped = self._dropped()
        if dropped > self._dropped_told:
            self._trouble(
                f"{dropped - self._dropped_told} readings dropped, the oldest first: more than {self._readings.maxlen} waited",
                Severity.WARNING,
            )
            self._dropped_told = dropped

    def _count(self, readings: int, given_up: Iterable[str] = ()) -> None:
        given_up = tuple(given_up)
        with self._lock:
            self._written += readings
            self._given_up += len(given_up)
            self._last_commit_us = self._clock.wall_us()
        for sentence in given_up:
            self._trouble(sentence, Severity.WARNING)

    def _finish(self, batch: Batch) -> None:
        self._count(len(batch.readings), batch.given_up)
        with self._lock:
            self._held = None
            if batch.jobs:
                self._committed = batch.jobs[-1].number
            for job in batch.jobs:
                self._untaken.pop(job.number, None)
                job.end()
            for done in batch.waiting:
                if not done.done():
                    done.set_result(None)

    # The side file's thread

    def _spill(self) -> None:
        if self._side is not None:
            try:
                self._side.find()
            except OSError as error:
                self._side_failed(error)
        self._side_found.set()
        while not self._ended.is_set():
            self._spill_wake.clear()
            if self._side is not None and self._wait_s() <= 0:
                self._put_aside(self._side)
            wait_s = min(self._wait_s(), ASIDE_S if self._error is not None else inf)
            self._spill_wake.wait(None if wait_s == inf else max(0.0, wait_s))

    def _wait_s(self) -> float:
        """Seconds until something should be in the side file."""
        with self._lock:
            held = self._held
            due_s = min(self._due_s, inf if held is None or held.spilled else held.due_s)
            if self._error is not None and self._readings:
                due_s = min(due_s, self._aside_due_s)
        return due_s - time.monotonic()

    def _put_aside(self, side: Side) -> None:
        """All that waits and can be kept as text, into the side file; whoever waits for it goes on."""
        with self._lock:
            held = None if self._held is None or self._held.spilled else self._held
            events, jobs = self._events, [job for job in self._jobs if job.record is not None and job.begin()]
            count, last = len(events), self._number
            readings = [self._readings.popleft() for _ in range(len(self._readings))] if self._error is not None else []
            self._taken += len(readings)
            self._due_s = inf
            self._aside_due_s = time.monotonic() + ASIDE_S
            self._spilling = True
        queued = Batch(readings, events[:count], jobs)
        try:
            side.append([*(held.lines() if held is not None else ()), *queued.lines()])
        except OSError as error:
            with self._lock:
                self._spilling = False
                self._taken -= len(readings)
                self._readings.extendleft(reversed(readings))
                self._due_s = time.monotonic() + BACKOFF_S[0]
                if held is not None:
                    held.due_s = self._due_s
            self._side_failed(error)
            return
        self._side_error, self._neither_told = None, False
        with self._lock:
            self._spilling = False
            if self._events is events:
                del events[:count]
            self._jobs = [job for job in self._jobs if job.record is None or job.number > last]
            for job in (*jobs, *(held.jobs if held is not None else ())):
                if job.record is not None:
                    self._untaken.pop(job.number, None)
                    job.end()
            if held is not None:
                held.spilled = True
        self._wake.set()

    def _side_failed(self, error: OSError) -> None:
        assert self._side is not None
        self._side_error = f"side file {self._side.path}: {error.strerror or error}"
        self._tell_neither()

    def _tell_neither(self) -> None:
        """Nothing takes a record: told once, until one of the two takes one again."""
        state = self._error or self._silence()
        if state is None or self._side_error is None or self._neither_told:
            return
        self._neither_told = True
        self._trouble(
            f"neither the state nor the side file takes a record ({state}; {self._side_error}): the steps of an armed shutdown "
            "go on with their record in memory, all other orders are refused; both are tried again",
            Severity.CRITICAL,
        )
