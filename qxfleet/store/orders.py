"""Orders and identities as records: the intent before a byte is sent, the outcome after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update

from qxfleet.errors import StoreError
from qxfleet.store.records import Write, insert_new, insert_once, recorded
from qxfleet.store.tables import device, event, order_log


@recorded()
def order_intent(number: int, row: Mapping[str, Any]) -> Write:
    """An order that is about to be sent, under the number it was given."""

    def write(connection: Connection, device_id: int) -> None:
        insert_new(connection, order_log, {"id": number, "device_id": device_id, **row})

    return write


@recorded()
def order_outcome(number: int, ups: str, row: Mapping[str, Any], told: Mapping[str, Any] | None = None) -> Write:
    """What became of an order, and the event that tells it. The first outcome stands; StoreError if there is no such order."""

    def write(connection: Connection, device_id: int) -> None:
        if told is not None:
            insert_once(connection, event, {**told, "device_id": device_id})
        this = order_log.c.id == number
        changed = connection.execute(update(order_log).where(this, order_log.c.outcome.is_(None)).values(row))
        if not changed.rowcount and connection.scalar(select(order_log.c.id).where(this)) is None:
            raise StoreError(f"order {number} of {ups} is not in the log")

    return write


@recorded()
def identity(row: Mapping[str, Any]) -> Write:
    """Who a UPS is, and where it was recognised."""

    def write(connection: Connection, device_id: int) -> None:
        connection.execute(update(device).where(device.c.id == device_id).values(row))

    return write
