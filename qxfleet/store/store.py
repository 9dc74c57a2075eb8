"""The one face of the store: readings and events go in, orders are written before they are sent, queries come out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from sqlalchemy import Connection, Engine, insert, select, update

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, OrderResult, Outcome
from qxfleet.model.reading import Identity, Reading
from qxfleet.store import history
from qxfleet.store.engine import explained, open_engine, out_of_reach
from qxfleet.store.migrate import upgrade
from qxfleet.store.policy import Kept
from qxfleet.store.rows import clean, identity_json, identity_of, outcome_row, reading_row
from qxfleet.store.spool import Spool
from qxfleet.store.tables import device, order_log
from qxfleet.store.transactions import Job
from qxfleet.store.writer import QUEUE_LIMIT, StoreHealth, Writer

T = TypeVar("T")

READERS = 3
"""Queries that run at the same time; a slow report must not delay the others."""

log = logging.getLogger(__name__)


class Store:
    """One database and the thread that writes to it.

    ``keep="changes"`` stores readings on change and on the minute, ``"all"`` stores every one. ``on_trouble`` gets one
    sentence whenever storing turns bad or good or something was lost; it is called on the writer's thread. Without it the
    sentences are logged as warnings. ``spool`` is the file for what a database that is away can't take; without one that
    waits in memory. :class:`StoreError` for a URL that is none of ours.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        keep: Literal["changes", "all"] = "changes",
        on_trouble: Callable[[str], None] = log.warning,
        queue_limit: int = QUEUE_LIMIT,
        spool: Path | None = None,
    ) -> None:
        self._url = url
        self._clock = clock
        self._keep_all = keep == "all"
        self._trouble = on_trouble
        self._engine: Engine = open_engine(url, writing=False, connections=READERS)
        aside = None if spool is None else Spool(spool)
        self._writer = Writer(open_engine(url, writing=True), clock, on_trouble, queue_limit=queue_limit, spool=aside)
        self._can_wait = spool is not None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._kept: dict[str, Kept] = {}

    def open(self) -> None:
        """Check the schema, upgrade an older one, start writing. Blocks; what was recorded before is written now.

        With a spool, a server that is away is waited for: see :attr:`away`. :class:`StoreError`: out of reach, not writable,
        not a database, or a newer schema.
        """
        try:
            upgrade(self._url)
        except StoreError as error:
            if not (self._can_wait and out_of_reach(error)):
                raise
            self._writer.prepare = self._upgrade
        self._writer.start()

    def _upgrade(self) -> None:
        upgrade(self._url)

    @property
    def away(self) -> bool:
        """Whether the database was not reached since the start: nothing can be read from it yet."""
        return self._writer.prepare is not None

    # In

    def record(self, reading: Reading) -> None:
        """Keep a reading if it is news; never blocks. Readings of one UPS come in the order of ``mono_s``."""
        kept = self._kept.get(reading.device)
        if kept is None:
            kept = self._kept[reading.device] = Kept()
        elif not self._keep_all and not kept.outdated_by(reading):
            return
        if not self._keep_all:
            kept.keep(reading)
        self._writer.put(reading_row(reading, kept.extra.news(reading.values)))

    def record_event(self, event: Event) -> None:
        """Keep an event; never blocks, never dropped, committed at once."""
        self._writer.put_event(event)

    async def record_now(self, *events: Event) -> None:
        """Keep events; returns after their commit. Readings recorded before go along, unless thousands wait."""
        await asyncio.wrap_future(self._writer.committed(events))

    async def settled(self, within_s: float) -> bool:
        """Whether everything recorded before is committed, waiting for it at most ``within_s``.

        Waits for nothing while the database is known to be in trouble.
        """
        if self._writer.health().error is not None:
            return False
        try:
            async with asyncio.timeout(within_s):
                await asyncio.wrap_future(self._writer.committed(hurry=False))
        except (TimeoutError, StoreError):
            return False
        return True

    def save_identity(self, ups: str, port: str, identity: Identity) -> None:
        """Keep who a UPS is, and on which port (or with which fingerprint) it was."""
        values = {"port": clean(port), "identity": identity_json(identity), "identity_at": self._clock.wall_us()}

        def write(connection: Connection, device_id: int) -> None:
            connection.execute(update(device).where(device.c.id == device_id).values(values))

        self._writer.put_job(Job((ups,), write), hurry=False)

    async def commit(self, write: Callable[..., T], *ups: str, hurry: bool = True) -> T:
        """Run a write on the writer's thread and return what it returned, once that is committed.

        ``write`` gets the connection and the device id of each of ``ups``; it may run again where a commit failed, and takes
        part in a transaction with others. Once begun it is not undone by the caller's going away. :class:`StoreError` if it
        could not be written. Without ``hurry`` it may wait for others.
        """
        done: Future[T] = Future()
        self._writer.put_job(Job(ups, write, done), hurry=hurry)
        return await asyncio.wrap_future(done)

    async def order_intent(self, ups: str, name: str, value: str | None, sent: str, actor: str) -> int:
        """Write down an order before it is sent; its number, once committed. Cancelled: the order counts as not sent."""
        row = {
            "at": self._clock.wall_us(),
            "actor": clean(actor),
            "name": clean(name),
            "value": None if value is None else clean(value),
            "sent": clean(sent),
        }

        def write(connection: Connection, device_id: int) -> int:
            key = connection.execute(insert(order_log).values(device_id=device_id, **row)).inserted_primary_key
            assert key is not None
            return int(key[0])

        done: Future[int] = Future()
        self._writer.put_job(Job((ups,), write, done))
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            if not done.cancel():
                unsent = OrderResult(ups, name, value, Outcome.REJECTED, text="given up before it was sent")
                done.add_done_callback(lambda late: self._close_unsent(late, unsent))
            raise

    async def order_outcome(self, order_id: int, result: OrderResult) -> None:
        """Write down what became of an order; returns after the commit. The first outcome stands.

        :class:`StoreError` if there is no such order.
        """
        done: Future[None] = Future()
        self._writer.put_job(self._outcome_job(order_id, result, done))
        await asyncio.wrap_future(done)

    def _outcome_job(self, order_id: int, result: OrderResult, done: Future[None] | None) -> Job:
        row = outcome_row(result, self._clock.wall_us())

        def write(connection: Connection, _device_id: int) -> None:
            this = order_log.c.id == order_id
            changed = connection.execute(update(order_log).where(this, order_log.c.outcome.is_(None)).values(row))
            if not changed.rowcount and connection.scalar(select(order_log.c.id).where(this)) is None:
                raise StoreError(f"order {order_id} of {result.ups} is not in the log")

        return Job((result.ups,), write, done)

    def _close_unsent(self, late: Future[int], unsent: OrderResult) -> None:
        if not late.cancelled() and late.exception() is None:
            self._writer.put_job(self._outcome_job(late.result(), unsent, None))

    # Out

    def identities(self) -> dict[str, tuple[str, Identity]]:
        """Every UPS that was recognised once: its port or fingerprint then, and its identity. Blocks for one query."""
        known: dict[str, tuple[str, Identity]] = {}
        if self.away:
            return known
        columns = (device.c.name, device.c.port, device.c.identity)
        with explained(self._engine), self._engine.connect() as connection:
            for name, port, stored in connection.execute(select(*columns).where(device.c.identity.is_not(None))):
                try:
                    known[name] = (port, identity_of(name, stored))
                except StoreError as error:
                    self._trouble(str(error))
        return known

    def open_orders(self, ups: Collection[str] | None = None) -> list[history.StoredOrder]:
        """Orders without an outcome, oldest first: after a crash, what may or may not have been sent. Blocks for one query.

        ``ups`` limits them to an agent's own. Each is closed with :meth:`order_outcome`, after the device was looked at.
        """
        with explained(self._engine), self._engine.connect() as connection:
            return history.orders(connection, ups, open_only=True)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run a query (see :mod:`qxfleet.store.history`) on a reader's thread; it can't write."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._query, query)

    def _query(self, query: Callable[[Connection], T]) -> T:
        if self.away:
            raise StoreError("the database was not reached since the start")
        with explained(self._engine), self._engine.connect() as connection:
            return query(connection)

    def health(self) -> StoreHealth:
        """How storing goes; takes no query."""
        return self._writer.health()

    def alive(self) -> bool:
        """Whether anything can still be stored, once the database takes it."""
        return self._writer.alive()

    async def close(self) -> None:
        """Write what is queued, within five seconds, and let go of the database."""
        await asyncio.get_running_loop().run_in_executor(self._readers, self._writer.close)
        self._readers.shutdown()
        self._engine.dispose()
