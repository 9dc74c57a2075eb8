"""The one face of the store: readings and events go in, orders are written before they are sent, queries come out."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import Connection, select

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, OrderResult, Outcome, Severity
from qxfleet.model.reading import Identity, Reading
from qxfleet.store import history, orders
from qxfleet.store.engine import explained, parse_url, sqlite_path
from qxfleet.store.known import Known, Recognised
from qxfleet.store.lock import StateHeld, StateLock
from qxfleet.store.policy import Kept
from qxfleet.store.records import nothing
from qxfleet.store.rows import clean, event_row, identity_json, identity_of, outcome_row, reading_row
from qxfleet.store.side import Side
from qxfleet.store.state import KEYED, State
from qxfleet.store.tables import device
from qxfleet.store.transactions import Job
from qxfleet.store.writer import QUEUE_LIMIT, StoreHealth, Writer

T = TypeVar("T")

READERS = 3
"""Queries that run at the same time; a slow report must not delay the others."""

OPEN_S = 5.0
"""How long from the opening on it is waited for the state, by queries too: it is made, upgraded, or locked by another process."""

log = logging.getLogger(__name__)


def _log(text: str, severity: Severity) -> None:
    log.log(logging.INFO if severity < Severity.WARNING else logging.WARNING, "%s", text)


class Store:
    """The state of one agent: one database, and the threads that write to it.

    ``keep="changes"`` stores readings on change and on the minute, ``"all"`` stores every one. ``on_trouble`` gets one
    sentence whenever storing turns bad or good or something was lost; it is called on a thread of the writer. Without it the
    sentences are logged. ``side`` is the file for what the state can't take at the moment; without one that waits in memory.
    ``agent`` is who holds the lock. :class:`StoreError` for a URL that names no database.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        keep: Literal["changes", "all"] = "changes",
        on_trouble: Callable[[str, Severity], None] = _log,
        queue_limit: int = QUEUE_LIMIT,
        side: Path | None = None,
        agent: str = "",
    ) -> None:
        self._clock = clock
        self._keep_all = keep == "all"
        self._trouble = on_trouble
        path = sqlite_path(parse_url(url))
        self._lock = None if path is None or not agent else StateLock(path, agent)
        self._state = State(url, READERS, self._lock)
        self.side = side
        kept = None if side is None else Side(side)
        self._writer = Writer(self._state, clock, on_trouble, queue_limit=queue_limit, side=kept, anew=self._begun_anew)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._known = Known(None if side is None else side.with_suffix(".ups"))
        self._kept: dict[str, Kept] = {}
        self._keys: dict[str, int] = {}
        self._giving = threading.Lock()
        self._made_until_s = 0.0
        self._told: list[Event] = []
        self.on_anew: list[Callable[[], object]] = []
        """Called on the writer's thread when a new state was begun while the agent ran: what is under way is not in it."""

    def open(self) -> None:
        """Take the lock, check the schema, upgrade an older one, start writing. Blocks for :data:`OPEN_S` at most.

        A state that can't be used is told as trouble and tried again; what is recorded before waits in the side file.
        :class:`StateHeld`: another agent has it. :class:`StoreError`: it was made by a newer qxfleet, or by something else.
        """
        if self._lock is not None:
            try:
                self._lock.take()
            except StateHeld:
                self._lock.release()
                raise
            except OSError as error:
                self._trouble(f"no lock can be kept at {self._lock.path}: {error.strerror}", Severity.WARNING)
        self._made_until_s = time.monotonic() + OPEN_S
        self._writer.start()
        self._wait_until_made()
        if self._writer.refused is not None:
            self._writer.close()
            raise self._writer.refused
        self.learn_keys()

    def learn_keys(self) -> None:
        """Go on behind the keys that are in the state: at its opening, and when rows came into it from elsewhere. Blocks."""
        with suppress(StoreError):
            found = self._state.last_keys()
            with self._giving:
                self._keys = {table: max(last, self._keys.get(table, 0)) for table, last in found.items()}

    def _begun_anew(self) -> None:
        with self._giving:
            self._keys = {}
        known = self._known.all().values()
        self._known.learned(*known)  # what took the state away may have taken the file beside it too
        with suppress(StoreError):  # it is being closed
            for one in known:
                self._save(one)
        for callback in self.on_anew:
            callback()

    def new_key(self, table: Literal["order_log", "shutdown_run"]) -> int:
        """A key for a row that is to be written: known before the database has the row, and never given twice."""
        with self._giving:
            if not self._keys:  # it was not readable: beyond whatever is in it
                self._keys = dict.fromkeys(KEYED, int(time.time()))
            self._keys[table] += 1
            return self._keys[table]

    # In

    def record(self, reading: Reading) -> None:
        """Keep a reading if it is news; never blocks. Readings of one UPS come in the order of ``mono_s``."""
        kept = self._kept.get(reading.device)
        if kept is None:
            kept = self._kept[reading.device] = Kept()
        elif not self._keep_all:
            if not kept.outdated_by(reading):
                kept.passed = reading
                return
            if (before := kept.before(reading)) is not None:
                self._writer.put(reading_row(before, kept.extra.news(before.values)))
        if not self._keep_all:
            kept.keep(reading)
        self._writer.put(reading_row(reading, kept.extra.news(reading.values)))

    def record_event(self, event: Event) -> None:
        """Keep an event; never blocks, never dropped, committed at once."""
        if any(event is told for told in self._told):
            self._told = [told for told in self._told if told is not event]
        else:
            self._writer.put_event(event)

    async def record_now(self, *events: Event) -> None:
        """Keep events; returns after their commit. Readings recorded before go along, unless thousands wait."""
        for event in events:
            self._writer.put_event(event)
        done: Future[None] = Future()
        self._writer.put_job(Job((), nothing(), done))
        await asyncio.wrap_future(done)

    async def settled(self, within_s: float) -> bool:
        """Whether everything recorded before can be read from the state, waiting for it at most ``within_s``.

        Waits for nothing while the state is known to be in trouble.
        """
        if self._writer.health().error is not None:
            return False
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(self._writer.committed())
        except (TimeoutError, StoreError):
            return False
        return True

    def save_identity(self, ups: str, port: str, identity: Identity) -> None:
        """Keep who a UPS is, and on which port (or with which fingerprint) it was."""
        one = Recognised(ups, self._clock.wall_us(), port, identity)
        self._known.learned(one)
        self._save(one)

    def _save(self, one: Recognised) -> None:
        row = {"port": clean(one.port), "identity": identity_json(one.identity), "identity_at": one.at_us}
        self._writer.put_job(Job((one.ups,), orders.identity(row)), hurry=False)

    async def commit(self, write: Callable[..., T], *ups: str, hurry: bool = True) -> T:
        """Run a write on the writer's thread and return what it returned, once that is committed.

        ``write`` gets the connection and the device id of each of ``ups``; it may run again where a commit failed, and takes
        part in a transaction with others. Once begun it is not undone by the caller's going away. :class:`StoreError` if it
        could not be written. Without ``hurry`` it may wait for others.
        """
        done: Future[T] = Future()
        self._writer.put_job(Job(ups, write, done), hurry=hurry)
        return await asyncio.wrap_future(done)

    async def order_intent(
        self, ups: str, name: str, value: str | None, sent: str, actor: str, *, number: int | None = None
    ) -> int:
        """Write down an order before it is sent; its number, once that is kept. Cancelled: the order counts as not sent."""
        number = self.new_key("order_log") if number is None else number
        row = {
            "at": self._clock.wall_us(),
            "actor": clean(actor),
            "name": clean(name),
            "value": None if value is None else clean(value),
            "sent": clean(sent),
        }
        done: Future[None] = Future()
        self._writer.put_job(Job((ups,), orders.order_intent(number, row), done))
        try:
            await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            if not done.cancel():
                unsent = OrderResult(ups, name, value, Outcome.REJECTED, text="given up before it was sent")
                self._writer.put_job(Job((ups,), orders.order_outcome(number, ups, outcome_row(unsent, self._clock.wall_us()))))
            raise
        return number

    async def order_outcome(self, order_id: int, result: OrderResult, told: Event | None = None) -> None:
        """Write down what became of an order; returns when that is kept. The first outcome stands.

        The event that tells it is kept with it, and not again when it is recorded. :class:`StoreError` if there is no such order.
        """
        row = None
        if told is not None:
            row = event_row(told, None)
            self._told.append(told)
        await self.commit(orders.order_outcome(order_id, result.ups, outcome_row(result, self._clock.wall_us()), row), result.ups)

    def patience_s(self, within_s: float) -> float:
        """How long a record that must not hold anything up may be waited for: not at all while an older one waits for so long."""
        return 0.0 if self._writer.untaken_s() > within_s else within_s

    # Out

    def identities(self) -> dict[str, tuple[str, Identity]]:
        """Every UPS that was recognised once: its port or fingerprint then, and its identity. Blocks for one query."""
        return {name: (one.port, one.identity) for name, one in self._recognised().items()}

    def _recognised(self) -> dict[str, Recognised]:
        known: dict[str, Recognised] = {}
        columns = (device.c.name, device.c.port, device.c.identity, device.c.identity_at)
        with self._reading() as connection:
            for name, port, stored, at_us in connection.execute(select(*columns).where(device.c.identity.is_not(None))):
                try:
                    known[name] = Recognised(name, at_us or 0, port or "", identity_of(name, stored))
                except StoreError as error:
                    self._trouble(str(error), Severity.WARNING)
        return known

    def remembered(self, upses: Collection[str]) -> dict[str, Identity]:
        """Who ``upses`` are by the file beside the state, which need not be readable. Called once, first. Blocks for the disk."""
        self._known.read(upses)
        return {name: one.identity for name, one in self._known.all().items()}

    def recall(self, upses: Collection[str]) -> dict[str, Identity]:
        """The same by the state too; each of the two gets what only the other knows. Blocks for one query."""
        stored, beside = self._recognised(), self._known.all()
        for here, there in ((stored.get(name), beside.get(name)) for name in upses):
            if there is not None and (here is None or here.at_us < there.at_us):
                self._save(there)
            elif here is not None and (there is None or there.at_us < here.at_us):
                self._known.learned(here)
        return {name: one.identity for name, one in self._known.all().items()}

    def open_orders(self, ups: Collection[str] | None = None) -> list[history.StoredOrder]:
        """Orders without an outcome, oldest first: after a crash, what may or may not have been sent. Blocks for one query.

        ``ups`` limits them to an agent's own. Each is closed with :meth:`order_outcome`, after the device was looked at.
        """
        with self._reading() as connection:
            return history.orders(connection, ups, open_only=True)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query (see :mod:`qxfleet.store.history`) on a reader's thread; it can't write."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)

    def _query(self, query: Callable[[Connection], T]) -> T:
        with self._reading() as connection:
            return query(connection)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._wait_until_made()
        with explained(self._state.reading), self._state.reading.connect() as connection:
            yield connection

    def _wait_until_made(self) -> None:
        """A state that is being made or upgraded is no trouble: it is read when the writer has done so, or failed."""
        while (left_s := self._made_until_s - time.monotonic()) > 0 and not self._writer.tried.wait(min(left_s, 0.1)):
            pass  # closing cuts it short

    def health(self) -> StoreHealth:
        """How storing goes; takes no query."""
        return self._writer.health()

    def alive(self) -> bool:
        """Whether anything can still be stored, once the database takes it."""
        return self._writer.alive()

    async def close(self) -> None:
        """Write what is queued, within five seconds, and let go of the database."""
        self._made_until_s = 0.0
        await asyncio.get_running_loop().run_in_executor(self._readers, self._writer.close)
        await asyncio.get_running_loop().run_in_executor(self._readers, self._known.close)
        self._readers.shutdown()
        if self._lock is not None:
            self._lock.release()
