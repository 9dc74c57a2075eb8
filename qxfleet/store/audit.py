"""The audit trail: acts written by :mod:`qxfleet.agent.audit` and orders from ``order_log``, as one list."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from qxfleet.store import history
from qxfleet.store.records import Write, insert_once, recorded
from qxfleet.store.rows import clean
from qxfleet.store.tables import audit

LONGEST_TEXT = 500
"""Characters kept of whatever a stranger may choose: a name to log in with, a value, a path."""

ORDER = "order"
"""The act of entries that come from ``order_log``: a command or a setting, as its name tells."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One act: ``outcome`` None is an order that is under way, or whose agent died before its end was known."""

    at_us: int
    actor: str
    act: str
    target: str
    name: str
    value: str | None
    outcome: str | None
    text: str


@recorded()
def insert_act(
    at_us: int, actor: str, act: str, target: str, name: str, value: str | None, outcome: str, text: str
) -> Write:
    """The write of one act, for :meth:`Store.commit`."""
    row = {
        "at": at_us,
        "actor": _kept(actor),
        "act": act,
        "target": _kept(target),
        "name": _kept(name),
        "value": None if value is None else _kept(value),
        "outcome": outcome,
        "text": _kept(text),
    }

    def write(connection: Connection) -> None:
        insert_once(connection, audit, row)

    return write


def _kept(text: str) -> str:
    text = clean(text)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def trail(connection: Connection, since_us: int | None = None, limit: int | None = None) -> list[Entry]:
    """Everything that was done or refused since then, oldest first; the last ``limit`` of it."""
    both = heapq.merge(_acts(connection, since_us, limit), _orders(connection, since_us, limit), key=lambda each: each.at_us)
    entries = list(both)
    return entries if limit is None else entries[-limit:]


def _acts(connection: Connection, since_us: int | None, limit: int | None) -> list[Entry]:
    query = select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
    if since_us is not None:
        query = query.where(audit.c.at >= since_us)
    return [
        Entry(row["at"], row["actor"], row["act"], row["target"], row["name"], row["value"], row["outcome"], row["text"])
        for row in connection.execute(query).mappings()
    ][::-1]


def _orders(connection: Connection, since_us: int | None, limit: int | None) -> Iterator[Entry]:
    found = history.orders(connection, None, since_us, limit)
    for order in sorted(found, key=lambda each: each.at_us):
        outcome = None if order.outcome is None else order.outcome.value
        yield Entry(order.at_us, order.actor, ORDER, order.ups, order.name, order.value, outcome, said_of_order(order))


def said_of_order(order: history.StoredOrder) -> str:
    """What was sent to the device, what it answered, and whatever else is known."""
    said = [f"sent {order.sent!r}"] if order.sent else []
    said += [f"answered {order.reply!r}"] if order.reply is not None else []
    said += [order.text] if order.text else []
    return "; ".join(said)
