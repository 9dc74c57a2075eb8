"""Reading the fleet store: all agents, their UPSes, what happened, who did what; each row with its agent and its age.

Queries of :mod:`qxfleet.store.history` and :mod:`qxfleet.store.series` run on its connections as they do on a state's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

from qxfleet.errors import StoreError
from qxfleet.model.events import EventKind
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import history
from qxfleet.store.audit import ORDER, Entry, said_of_order
from qxfleet.store.engine import shown
from qxfleet.store.fleet import bounded
from qxfleet.store.migrate import Standing, standing

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
        found = standing(connection)
        if found.standing in (Standing.EMPTY, Standing.FOREIGN) or str(found.revision).isdecimal():
            raise StoreError(f"{shown(connection.engine.url)} is no fleet store yet: an agent with [fleet] makes it one")
        yield connection


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
