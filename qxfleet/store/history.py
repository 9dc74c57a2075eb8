"""What was: plain queries for :meth:`Store.read`, each with plain arguments and frozen rows. Times are UTC microseconds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, select

from qxfleet.errors import StoreError
from qxfleet.model.events import Event, EventKind, OrderResult, Outcome, Phase, Severity
from qxfleet.model.status import Status
from qxfleet.model.variables import READING_COLUMNS, VARIABLES, Kind
from qxfleet.store.rows import row_values
from qxfleet.store.tables import device, event, order_log, reading

_COLUMN_OF = {variable.name: (reading.c[str(variable.column)], variable.scale) for variable in READING_COLUMNS}


class Point(NamedTuple):
    """One stored value, in the variable's unit."""

    at_us: int
    value: float


@dataclass(frozen=True, slots=True)
class StoredReading:
    """One row of ``reading``: status flags and whatever was known."""

    ups: str
    at_us: int
    status: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event and its number; numbers only grow."""

    id: int
    event: Event


@dataclass(frozen=True, slots=True)
class StoredOrder:
    """One order as logged; ``outcome`` None: it may or may not have been sent."""

    id: int
    ups: str
    at_us: int
    actor: str
    name: str
    value: str | None
    sent: str
    outcome: Outcome | None
    reply: str | None
    text: str
    done_us: int | None

    def result(self, outcome: Outcome, text: str) -> OrderResult:
        """This order ended now, for :meth:`Store.order_outcome`."""
        return OrderResult(self.ups, self.name, self.value, outcome, sent=self.sent, text=text)


def readings(
    connection: Connection, ups: str, variable: str, since_us: int | None = None, until_us: int | None = None
) -> list[Point]:
    """Stored values of a variable in ``[since, until)``, in time order; polls that did not give it leave no point.

    :class:`StoreError` for a name that is no numeric variable of the list.
    """
    known = VARIABLES.get(variable)
    if known is None or known.kind is not Kind.NUMBER:
        raise StoreError(f"{variable}: no numeric variable of this name is recorded")
    value, scale = _COLUMN_OF.get(variable, (reading.c.extra, 0))
    query = (
        select(reading.c.at, value)
        .join(device, device.c.id == reading.c.device_id)
        .where(device.c.name == ups, value.is_not(None))
        .order_by(reading.c.at)
    )
    if since_us is not None:
        query = query.where(reading.c.at >= since_us)
    if until_us is not None:
        query = query.where(reading.c.at < until_us)
    rows = connection.execute(query)
    if scale:
        return [Point(at, steps / scale) for at, steps in rows]
    return [Point(at, extra[variable]) for at, extra in rows if variable in extra]


def last_reading(connection: Connection, ups: str) -> StoredReading | None:
    """The newest stored reading of a UPS; None if there is none."""
    query = (
        select(reading)
        .join(device, device.c.id == reading.c.device_id)
        .where(device.c.name == ups)
        .order_by(reading.c.at.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else StoredReading(ups, row["at"], row["status"], row_values(dict(row)))


def upses(connection: Connection) -> list[str]:
    """Names of every UPS that was ever recorded, sorted."""
    return list(connection.scalars(select(device.c.name).order_by(device.c.name)))


def events(
    connection: Connection,
    ups: Collection[str] | None = None,
    since_us: int | None = None,
    limit: int | None = None,
    after_id: int | None = None,
    *,
    until_us: int | None = None,
    kinds: Collection[EventKind] | None = None,
    ids: Collection[int] | None = None,
) -> list[StoredEvent]:
    """Events of these UPSes (None: of all, and of the agent) in the order they were recorded.

    With ``after_id``, for following: those recorded after that one, the first ``limit`` of them. Without: those since
    ``since_us``, the last ``limit`` of them.
    """
    query = select(event, device.c.name.label("ups")).outerjoin(device, device.c.id == event.c.device_id)
    if ups is not None:
        query = query.where(device.c.name.in_(ups))
    if since_us is not None:
        query = query.where(event.c.at >= since_us)
    if until_us is not None:
        query = query.where(event.c.at < until_us)
    if kinds:
        query = query.where(event.c.kind.in_([kind.value for kind in kinds]))
    if after_id is not None:
        query = query.where(event.c.id > after_id)
    if ids is not None:
        query = query.where(event.c.id.in_(ids))
    rows = _in_order(connection, query, event.c.id, limit, first=after_id is not None)
    return [
        StoredEvent(
            row["id"],
            Event(
                wall_us=row["at"],
                ups=row["ups"],
                kind=EventKind(row["kind"]),
                name=row["name"],
                value=row["value"],
                text=row["text"],
                severity=Severity(row["severity"]),
                phase=Phase(row["phase"]),
            ),
        )
        for row in rows
    ]


def orders(
    connection: Connection,
    ups: Collection[str] | None = None,
    since_us: int | None = None,
    limit: int | None = None,
    *,
    open_only: bool = False,
) -> list[StoredOrder]:
    """The last ``limit`` orders to these UPSes (None: to all) since then, in the order they were given."""
    query = select(order_log, device.c.name.label("ups")).join(device, device.c.id == order_log.c.device_id)
    if ups is not None:
        query = query.where(device.c.name.in_(ups))
    if since_us is not None:
        query = query.where(order_log.c.at >= since_us)
    if open_only:
        query = query.where(order_log.c.outcome.is_(None))
    return [
        StoredOrder(
            id=row["id"],
            ups=row["ups"],
            at_us=row["at"],
            actor=row["actor"],
            name=row["name"],
            value=row["value"],
            sent=row["sent"],
            outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
            reply=row["reply"],
            text=row["text"],
            done_us=row["done_at"],
        )
        for row in _in_order(connection, query, order_log.c.id, limit, first=False)
    ]


def _in_order(connection: Connection, query: Select[Any], key: Any, limit: int | None, *, first: bool) -> list[Any]:
    """Rows by key, at most ``limit`` from the front or from the back."""
    if limit is None or first:
        return list(connection.execute(query.order_by(key).limit(limit)).mappings())
    return list(connection.execute(query.order_by(key.desc()).limit(limit)).mappings())[::-1]


LAST_EVENTS = 100
"""Begins of one outage that are looked through: each restart of the agent makes one more."""


def outages(connection: Connection, upses: Collection[str], since_us: int) -> dict[str, tuple[int, int]]:
    """UPSes whose last stored reading is no older than ``since_us`` and was on battery: since when, and that reading's time."""
    found: dict[str, tuple[int, int]] = {}
    for ups in upses:
        last = last_reading(connection, ups)
        if last is None or last.at_us < since_us or not last.status & int(Status.OB):
            continue
        query = (
            select(event.c.at, event.c.phase)
            .join(device, device.c.id == event.c.device_id)
            .where(device.c.name == ups, event.c.name == "on-battery")
            .order_by(event.c.id.desc())
            .limit(LAST_EVENTS)
        )
        began_us = last.at_us
        for at_us, phase in connection.execute(query):
            if phase == Phase.END.value:
                break
            began_us = at_us
        found[ups] = (began_us, last.at_us)
    return found
