"""Ships the outbox of an agent's state to the fleet store, on a thread and a connection of its own.

Nothing that acts waits for it: it reads the state as any reader does, and what it can't ship stays where it is. Events and orders
go before readings, and what is new before what is old, so that catching up after an outage holds nothing up. Which of it the
server has is asked of the server at every connect and never remembered: after a failover some of it may be missing there.

A server may vanish, refuse, fill up, or just never answer again while its connections stay open. Every exchange has a deadline of
ours, and trouble is told once when it begins and once when it is over.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.store import fleet, outbox
from qxfleet.store.engine import explain
from qxfleet.store.fleet import AgentIdentity, Line, Refused
from qxfleet.store.fleet_rows import Rows
from qxfleet.store.outbox import READINGS, RECORDS

STREAMS: Final = (RECORDS, READINGS)
"""In the order in which they are shipped."""

POLL_S: Final = 0.2
"""How often the state is asked for something new: one look at a counter."""

ANSWER_S: Final = 10.0
"""A server that takes longer for one batch hangs: its connection is cut. A batch takes it a tenth of a second."""

SETUP_S: Final = 600.0
"""The same while the schema is made or rows are adopted, once."""

ALIVE_S: Final = 5.0
"""How often the registry hears of an agent that has nothing to ship."""

ENTRIES: Final = 500
"""Records shipped in one transaction, at most."""

BATCH_ROWS: Final = 2_000
"""Readings shipped in one transaction: 10 ms of the interpreter, 50 ms of the server."""

PAUSE_S: Final = 0.02
"""Between two batches of a backlog: the agent's loop has the interpreter to itself meanwhile."""

BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

BEHIND_S: Final = 60.0
"""A server that takes what is new this much later is too slow, and that is told."""

CLOSE_S: Final = 1.2
CONNECT_S: Final = 10.0
MEASURE_S: Final = 5.0
WATCH_S: Final = 0.5

log = logging.getLogger(__name__)

ROW_AT_FAULT: Final = (DataError, IntegrityError, OverflowError, UnicodeError)
"""Errors that come back however often the same row is shipped."""

@dataclass(frozen=True, slots=True)
class Turn:
    """Something to tell: ``state`` is ``away``, ``refused``, ``behind``, ``row`` (one was left out),
    ``restored`` (an older copy of the state), ``set-up`` or ``ok``."""

    state: str
    text: str


@dataclass(frozen=True, slots=True)
class ShipperHealth:
    """How shipping goes: ``state`` as in :class:`Turn`, ``starting`` before the first contact; ``trouble`` None: it goes well.

    ``records`` and ``readings`` wait in the outbox, the oldest since ``oldest_us``; the counts are None until they were measured.
    """

    state: str
    trouble: str | None
    since_us: int
    records: int | None
    readings: int | None
    oldest_us: int | None
    shipped: int
    last_us: int | None


class Shipper:
    """``tell`` is called on the shipper's thread; ``upses`` are the names this agent has configured, and
    ``armed`` says whether its plan is.

    ``seeded``: the state began with a copy of what the fleet store holds; see :func:`qxfleet.store.fleet.register`.
    """

    def __init__(
        self, state: Path, url: str, who: AgentIdentity, upses: Collection[str], *, clock: Clock, tell: Callable[[Turn], None],
        armed: Callable[[], bool | None] = lambda: None, seeded: bool = True, answer_s: float = ANSWER_S,
    ) -> None:  # fmt: skip
        self._state_path = state
        self._url = url
        self._who = who
        self._upses = tuple(upses)
        self._clock = clock
        self._tell = tell
        self._armed = armed
        self._seeded = seeded
        self._answer_s = answer_s
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._watch = threading.Thread(target=self._watch_deadline, name="shipper-watch", daemon=True)
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._closing = False
        self._register_again = False
        self._line: Line | None = None
        self._opened: int | None = None
        self._deadline_s = inf
        self._hung = False
        self._failures = 0
        self._done: dict[str, list[tuple[int, int]]] = {}
        self._heads: dict[str, int] = {}
        self._at = "starting"
        self._trouble: str | None = None
        self._since_us = clock.wall_us()
        self._waiting: outbox.Waiting | None = None
        self._measure_s = 0.0
        self._alive_s = 0.0
        self._shipped = 0
        self._last_us: int | None = None

    # From the loop's thread

    def start(self) -> None:
        """Begin to ship."""
        self._thread.start()
        self._watch.start()

    def watch(self, upses: Collection[str]) -> None:
        """The agent has other UPSes configured now."""
        self._upses = tuple(upses)
        self._register_again = True
        self._wake.set()

    def health(self) -> ShipperHealth:
        """How shipping goes at this moment; asks nobody."""
        waiting = self._waiting
        return ShipperHealth(
            self._at, self._trouble, self._since_us, waiting.records if waiting else None, waiting.readings if waiting else None,
            waiting.oldest_us if waiting else None, self._shipped, self._last_us,
        )  # fmt: skip

    def shipped(self) -> dict[str, list[tuple[int, int]]]:
        """What the server has of each stream, as intervals; empty where it was not asked since the start."""
        return {stream: list(done) for stream, done in self._done.items()}

    def close(self) -> None:
        """End the threads, within two seconds whatever the server does; what is not shipped waits in the state."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is None:
            return
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            self._hang_up()
            self._thread.join(CLOSE_S / 3)
        self._ended.set()
        self._watch.join(1.0)

    # A server that never answers

    def _watch_deadline(self) -> None:
        while not self._ended.wait(WATCH_S):
            if time.monotonic() > self._deadline_s:
                self._hung = True
                self._deadline_s = inf
                self._hang_up()

    def _hang_up(self) -> None:
        line = self._line
        if line is not None:
            line.hang_up()

    # The thread

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self._turn("away", f"shipping to the fleet store stopped on a mistake of its own: {error!r}")
            raise
        finally:
            self._ended.set()

    def _loop(self) -> None:
        while not self._closing:
            try:
                with closing(self._open_state()) as state:
                    try:
                        self._session(state)
                    except (SQLAlchemyError, StoreError) as error:
                        self._measure(state)
                        self._failed(error)
            except sqlite3.Error as error:  # no trouble of the fleet store, and the state's own is told by itself
                log.info("the state can't be read by what ships it: %s", error)
            finally:
                self._deadline_s = inf
            if not self._register_again:
                self._pause(BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)])
                self._failures += 1

    def _pause(self, delay_s: float) -> None:
        until_s = time.monotonic() + delay_s
        while not self._closing and (left_s := until_s - time.monotonic()) > 0:
            self._wake.wait(left_s)
            self._wake.clear()

    def _open_state(self) -> sqlite3.Connection:
        state = sqlite3.connect(f"{self._state_path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
        state.execute("PRAGMA query_only=ON")
        state.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the file itself
        self._opened = self._inode()
        return state

    def _inode(self) -> int | None:
        with suppress(OSError):
            return self._state_path.stat().st_ino
        return None

    def _session(self, state: sqlite3.Connection) -> None:
        """Ship for as long as the connection lasts, and the agent's UPSes are the same."""
        line = self._line = Line(self._url)
        try:
            self._allow(CONNECT_S)
            with line.engine.connect() as connection:
                agent = self._enter(connection, state)
                rows = Rows(connection, state, agent)
                while not self._closing and not self._register_again:
                    if not self._round(connection, state, rows, agent):
                        self._went_well()
                        self._wake.wait(POLL_S)
                        self._wake.clear()
        finally:
            self._deadline_s = inf
            self._line = None
            line.close()

    def _allow(self, seconds: float) -> None:
        self._deadline_s = time.monotonic() + seconds

    def _enter(self, connection: Connection, state: sqlite3.Connection) -> int:
        """Make the store ready, register, and learn what it has; the agent's number there."""
        self._register_again = False
        self._allow(SETUP_S)
        with connection.begin():
            made = fleet.ready(connection)
        if made is not None:
            self._tell(Turn("set-up", made))
        with connection.begin():
            agent = fleet.register(connection, self._who, self._upses, seeded=self._seeded)
            if any(self._taken(connection, state, agent, stream) for stream in STREAMS):
                count = fleet.set_aside(connection, agent, state)
                kept = "1 record of later stays" if count == 1 else f"{count} records of later stay"
                self._tell(Turn("restored", f"this state is an older copy than what was shipped: {kept} in the fleet store, "
                                "and what is new is shipped beside"))  # fmt: skip
            done = {stream: fleet.shipped(connection, agent, stream) for stream in STREAMS}
        self._heads = {stream: outbox.ends(state, stream)[1] for stream in done}
        self._done = done
        self._alive_s = 0.0
        return agent

    @staticmethod
    def _taken(connection: Connection, state: sqlite3.Connection, agent: int, stream: str) -> bool:
        """Whether the last number that was shipped is one that this state never gave, or gave to something else."""
        last, at_us = fleet.last_shipped(connection, agent, stream) or (0, 0)
        ends = [end for _, end in fleet.shipped(connection, agent, stream)]
        if max([last, *ends]) > outbox.ends(state, stream)[1]:
            return True
        here = state.execute(f"SELECT at FROM {stream} WHERE seq = ?", [last]).fetchone()
        return here is not None and here[0] != at_us

    def _round(self, connection: Connection, state: sqlite3.Connection, rows: Rows, agent: int) -> bool:
        """Ship one batch of each kind, what is new first; whether there was any."""
        if time.monotonic() >= self._alive_s:
            self._allow(self._answer_s)
            with connection.begin():
                fleet.seen(connection, agent, self._armed())
            self._alive_s = time.monotonic() + ALIVE_S
        if time.monotonic() >= self._measure_s:
            self._measure(state)
        worked = False
        gaps = {stream: self._gaps(state, stream) for stream in STREAMS}
        for new in (True, False):
            for stream in STREAMS:
                gap = next((each for each in gaps[stream] if (each[0] >= self._heads[stream]) == new), None)
                if gap is not None and not self._closing:
                    self._allow(self._answer_s)
                    worked = self._ship(connection, state, rows, agent, stream, gap) or worked
        self._deadline_s = inf
        if worked:
            self._wake.wait(PAUSE_S)
        return worked

    def _gaps(self, state: sqlite3.Connection, stream: str) -> list[tuple[int, int]]:
        """What the server lacks of a stream, as ``(after, until)`` in order, cut where the backlog of this connection ends."""
        after, end = outbox.ends(state, stream)
        head = self._heads.get(stream, 0)
        found = []
        for first, last in [*self._done.get(stream, []), (end + 1, end)]:
            until = min(first - 1, end)
            if until > after:
                found += [(after, head), (head, until)] if after < head < until else [(after, until)]
            after = max(after, last)
        return found

    def _ship(
        self, connection: Connection, state: sqlite3.Connection, rows: Rows, agent: int, stream: str, gap: tuple[int, int]
    ) -> bool:
        """Ship the first of a gap in one transaction, with the mark of it and a notice to whoever follows."""
        after, until = gap
        before = rows.count
        state.execute("BEGIN")  # what several tables say of one thing is read as of one moment
        try:
            entries = outbox.records(state, after, until, ENTRIES) if stream == RECORDS else []
            batches = outbox.batches(state, after, until, BATCH_ROWS) if stream == READINGS else []
            last = entries[-1].seq if entries else batches[-1][0] if batches else until
            columns = outbox.joined([body for _, _, body in batches])
            put_down = state.execute(f"SELECT at FROM {stream} WHERE seq = ?", [last]).fetchone()
            span = (after + 1, last, put_down[0] if put_down else None)
            try:
                with connection.begin():
                    rows.apart = False
                    rows.put((entry.name, entry.key) for entry in entries)
                    rows.readings(columns, self._clock.wall_us())
                    done = fleet.mark(connection, agent, stream, self._done[stream], *span)
                told = []
            except ROW_AT_FAULT:
                rows.undone(before)
                with connection.begin():
                    rows.apart = True
                    told = self._put_apart(connection, rows, entries)
                    rows.readings(columns, self._clock.wall_us())
                    done = fleet.mark(connection, agent, stream, self._done[stream], *span)
        finally:
            state.execute("ROLLBACK")
        self._done[stream] = done
        self._shipped += rows.count - before
        self._last_us = self._clock.wall_us()
        for sentence in told:
            self._tell(Turn("row", sentence))
        return bool(entries or batches)

    def _put_apart(self, connection: Connection, rows: Rows, entries: Sequence[outbox.Entry]) -> list[str]:
        """Write the rows of entries one by one; those that the store can't take are left out, each with a sentence."""
        told = []
        for entry in entries:
            before = rows.count
            try:
                with connection.begin_nested():
                    rows.put([(entry.name, entry.key)])
            except ROW_AT_FAULT as error:
                rows.undone(before)
                why = " ".join(str(getattr(error, "orig", error)).split())
                told.append(f"row {entry.key} of {entry.name} was not shipped to the fleet store: {why}")
        return told

    # How it goes

    def _measure(self, state: sqlite3.Connection) -> None:
        self._measure_s = time.monotonic() + MEASURE_S
        if self._inode() != self._opened:
            raise sqlite3.OperationalError("another file is in its place now")
        gaps = {stream: self._gaps(state, stream) for stream in STREAMS}
        self._waiting = outbox.waiting(state, gaps)
        if self._at in ("ok", "behind"):
            new = {stream: [gap for gap in gaps[stream] if gap[0] >= self._heads[stream]] for stream in gaps}
            oldest_us = outbox.waiting(state, new).oldest_us
            late_s = 0.0 if oldest_us is None else (self._clock.wall_us() - oldest_us) / 1e6
            if late_s > BEHIND_S:
                self._turn("behind", f"the fleet store is slow: it takes what is new {late_s:.0f} s later")
            elif self._at == "behind" and late_s < BEHIND_S / 2:
                self._turn("ok", "the fleet store keeps up again")

    def _failed(self, error: SQLAlchemyError | StoreError) -> None:
        if self._closing:
            return
        if self._hung:
            self._hung = False
            self._turn("away", f"the fleet store did not answer within {self._answer_s:.0f} s")
        elif isinstance(error, Refused):
            self._turn("refused", f"the fleet store takes nothing from this agent: {error}")
        else:
            sentence = str(error) if isinstance(error, StoreError) else explain(make_url(self._url), error)
            self._turn("away", f"the fleet store takes nothing now: {sentence}")

    def _went_well(self) -> None:
        """Everything that was waiting is shipped, or nothing was and the store knows that this agent is alive."""
        self._failures = 0
        if self._at == "starting":
            self._turn("ok", f"shipping to the fleet store as {self._who.name}")
        elif self._at != "behind":
            self._turn("ok", "the fleet store is there again, and has everything")

    def _turn(self, state: str, text: str) -> None:
        """Another state: told once; the same again is only remembered, with its latest sentence."""
        self._trouble = None if state == "ok" else text
        if state == self._at:
            return
        self._at, self._since_us = state, self._clock.wall_us()
        waiting = self._waiting
        if state in ("away", "refused", "behind") and waiting is not None and (waiting.records or waiting.readings):
            text = f"{text}; {waiting.records} records and {waiting.readings} readings wait in the state"
        self._tell(Turn(state, text))
