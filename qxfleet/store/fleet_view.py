"""Reading the fleet store: all agents, their UPSes, what happened, who did what; each row with its agent and its age.

Queries of :mod:`qxfleet.store.history` and :mod:`qxfleet.store.series` run on its connections as they do on a state's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from qxfleet.errors import StoreError
from qxfleet.model.events import EventKind
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import history
from qxfleet.store.audit import ORDER, Entry, said_of_order
from qxfleet.store.engine import explain, explained, shown
from qxfleet.store.fleet import CHANNEL, bounded, open_fleet
from qxfleet.store.migrate import Standing, standing

SETTLED_S: Final = 60.0
"""No batch of a shipper is under way for so long,"""

UNDER_WAY: Final = 200_000
"""and so many numbers behind the newest: what a whole fleet that catches up writes meanwhile."""

POLL_S: Final = 2.0
"""A notice that was lost is made good for after this."""

ANSWER_S: Final = 10.0
"""How long a query may take in all; a server that hangs is left then."""


@dataclass(frozen=True, slots=True)
class StoredAgent:
    """One agent of the registry; ages by the database's clock. ``armed`` None: it has not said."""

    name: str
    site: str
    version: str
    age_s: float
    armed: bool | None
    upses: int


@dataclass(frozen=True, slots=True)
class StoredUps:
    """The newest reading of one UPS of the fleet; ``age_s`` None: none was ever shipped."""

    name: str
    agent: str
    site: str
    agent_age_s: float
    age_s: float | None
    status: int
    values: dict[str, float]


@contextmanager
def reading_fleet(url: str, within_s: float = ANSWER_S) -> Iterator[Connection]:
    """A connection that can only read, for ``within_s``. :class:`StoreError`: away, hanging, or no fleet store yet."""
    with bounded(url, within_s, writing=False) as connection:
        refuse_others(connection)
        yield connection


def refuse_others(connection: Connection) -> None:
    """Raise :class:`StoreError` for a database that is no fleet store yet."""
    found = standing(connection)
    if found.standing in (Standing.EMPTY, Standing.FOREIGN) or str(found.revision).isdecimal():
        raise StoreError(f"{shown(connection.engine.url)} is no fleet store yet: an agent with [fleet] makes it one")


@contextmanager
def listening(url: str) -> Iterator[tuple[Connection, Callable[[], None]]]:
    """A connection that can only read, and a way to wait until rows came or :data:`POLL_S` are over.

    :class:`StoreError`: the store is away, or no fleet store yet.
    """
    engine = open_fleet(url, writing=False)
    try:
        with explained(engine), engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            refuse_others(connection)
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            driver: Any = connection.connection.driver_connection

            def wait() -> None:
                try:
                    for _ in driver.notifies(timeout=POLL_S, stop_after=1):
                        pass
                except connection.dialect.loaded_dbapi.Error as error:
                    raise StoreError(explain(engine.url, error)) from error

            yield connection, wait
    finally:
        engine.dispose()


def agents(connection: Connection) -> list[StoredAgent]:
    """Every agent that ships here, by name."""
    rows = connection.execute(
        text(
            "SELECT a.name, a.site, a.version, extract(epoch FROM clock_timestamp() - a.seen)::float8 AS age_s, a.armed, "
            "(SELECT count(*) FROM device d WHERE d.agent_id = a.id) AS upses FROM agent a ORDER BY a.name"
        )
    )
    return [StoredAgent(row.name, row.site, row.version, max(0.0, row.age_s), row.armed, row.upses) for row in rows]


def upses(connection: Connection) -> list[StoredUps]:
    """Every UPS that some agent has configured, with its newest reading, by agent and name."""
    columns = ", ".join(f"r.{variable.column}" for variable in READING_COLUMNS)
    rows = connection.execute(
        text(
            "SELECT d.name, a.name AS agent, a.site, extract(epoch FROM clock_timestamp() - a.seen)::float8 AS agent_age_s, "
            f"extract(epoch FROM clock_timestamp() - r.at)::float8 AS age_s, r.status, {columns} "
            "FROM device d JOIN agent a ON a.id = d.agent_id "
            "LEFT JOIN LATERAL (SELECT * FROM reading WHERE device_id = d.id ORDER BY at DESC LIMIT 1) r ON true "
            "ORDER BY a.name, d.name"
        )
    ).mappings()
    return [
        StoredUps(
            row["name"], row["agent"], row["site"], max(0.0, row["agent_age_s"]),
            None if row["age_s"] is None else max(0.0, row["age_s"]), row["status"] or 0, _values(row),
        )
        for row in rows
    ]  # fmt: skip


def _values(row: Any) -> dict[str, float]:
    return {
        variable.name: row[str(variable.column)] / variable.scale
        for variable in READING_COLUMNS
        if row[str(variable.column)] is not None
    }


def events(
    connection: Connection,
    ups: Collection[str] | None = None,
    since_us: int | None = None,
    limit: int | None = None,
    *,
    until_us: int | None = None,
    kinds: Collection[EventKind] | None = None,
) -> list[tuple[str, history.StoredEvent]]:
    """Events of all agents in the order of their times, each with its agent's name; see :func:`qxfleet.store.history.events`."""
    found = history.events(connection, ups, since_us, limit, until_us=until_us, kinds=kinds)
    names = _agents_of(connection, "event", [stored.id for stored in found])
    found.sort(key=lambda stored: stored.event.wall_us)
    return [(names.get(stored.id, ""), stored) for stored in found]


class Follower:
    """Events of all agents from now on, each once, with a place in each agent's own.

    An agent writes on one connection, so its events come in the order of their numbers; those of several agents do not, and a
    number that is lower than one that was seen may still be on its way for as long as a batch may take.
    """

    def __init__(self, connection: Connection) -> None:
        rows = connection.execute(text("SELECT a.id, (SELECT max(id) FROM event WHERE agent_id = a.id) FROM agent a"))
        self._places: dict[int, int] = {number: last or 0 for number, last in rows}
        newest = max(self._places.values(), default=0)
        self._settled = newest - UNDER_WAY
        self._newest: tuple[float, int] = (time.monotonic(), newest)

    def news(
        self, connection: Connection, ups: Collection[str] | None = None, kinds: Collection[EventKind] | None = None
    ) -> list[tuple[str, history.StoredEvent]]:
        """What came since the last time, in the order of its times, each with its agent's name."""
        found = connection.execute(
            text(
                "SELECT e.id, e.agent_id FROM event e LEFT JOIN unnest(CAST(:agents AS int[]), CAST(:lasts AS bigint[])) "
                "AS p(agent, last) ON p.agent = e.agent_id WHERE e.id > :settled AND e.agent_id IS NOT NULL "
                "AND e.id > coalesce(p.last, 0) ORDER BY e.id"
            ),
            {"agents": list(self._places), "lasts": list(self._places.values()), "settled": self._settled},
        ).all()
        for number, agent in found:
            self._places[agent] = number
        since_s, newest = self._newest
        if time.monotonic() > since_s + SETTLED_S:
            self._settled = newest
            self._newest = time.monotonic(), max([newest, *(number for number, _ in found)])
        if not found:
            return []
        stored = history.events(connection, ups, kinds=kinds, ids=[number for number, _ in found])
        names = _agents_of(connection, "event", [each.id for each in stored])
        return [(names.get(each.id, ""), each) for each in sorted(stored, key=lambda each: each.event.wall_us)]


def trail(connection: Connection, since_us: int | None = None, limit: int | None = None) -> list[tuple[str, Entry]]:
    """The audit of all agents, oldest first, each entry with its agent's name."""
    since = "" if since_us is None else "WHERE at >= to_timestamp(0) + :since * interval '1 microsecond' "
    rows = connection.execute(
        text(
            "SELECT (extract(epoch FROM at) * 1000000)::bigint AS at_us, actor, act, target, name, value, outcome, text, "
            f"agent_id FROM audit {since}ORDER BY at DESC, id DESC LIMIT :most"
        ),
        {"most": limit} | ({} if since_us is None else {"since": since_us}),
    ).all()
    names: dict[int, str] = dict(connection.execute(text("SELECT id, name FROM agent")).all())
    acts = [(names.get(agent, ""), Entry(*entry)) for *entry, agent in rows]
    orders = history.orders(connection, None, since_us, limit)
    whose = _agents_of(connection, "order_log", [order.id for order in orders])
    for order in orders:
        outcome = None if order.outcome is None else order.outcome.value
        entry = Entry(order.at_us, order.actor, ORDER, order.ups, order.name, order.value, outcome, said_of_order(order))
        acts.append((whose.get(order.id, ""), entry))
    acts.sort(key=lambda each: each[1].at_us)
    return acts if limit is None else acts[-limit:]


def _agents_of(connection: Connection, table: str, ids: list[int]) -> dict[int, str]:
    query = text(f"SELECT t.id, a.name FROM {table} t JOIN agent a ON a.id = t.agent_id WHERE t.id = ANY(:ids)")
    return dict(connection.execute(query, {"ids": ids}).all())
