"""Maintenance windows as they are stored. Times are UTC microseconds."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from qxfleet.store.records import Write, recorded
from qxfleet.store.rows import clean
from qxfleet.store.tables import device, maintenance


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One UPS under maintenance; ``until_us`` None: until somebody ends it."""

    ups: str
    started_us: int
    until_us: int | None
    actor: str
    reason: str


def open_windows(connection: Connection) -> list[StoredWindow]:
    """Windows that nobody has ended, oldest first; their time may be over."""
    query = (
        select(device.c.name, maintenance.c.started, maintenance.c.until, maintenance.c.actor, maintenance.c.reason)
        .join(device, device.c.id == maintenance.c.device_id)
        .where(maintenance.c.ended.is_(None))
        .order_by(maintenance.c.id)
    )
    return [StoredWindow(*row) for row in connection.execute(query)]


@recorded(StoredWindow)
def begin_window(window: StoredWindow) -> Write:
    """A write, for :meth:`Store.commit` with the window's UPS: it begins, in place of one that is open."""

    def write(connection: Connection, device_id: int) -> None:
        this = (maintenance.c.device_id == device_id, maintenance.c.started == window.started_us)
        if connection.scalar(select(maintenance.c.id).where(*this)) is not None:
            return
        _end(connection, device_id, window.started_us)
        connection.execute(
            insert(maintenance).values(
                device_id=device_id, started=window.started_us, until=window.until_us, actor=clean(window.actor),
                reason=clean(window.reason),
            )
        )  # fmt: skip

    return write


@recorded()
def end_windows(ended_us: int) -> Write:
    """A write, for :meth:`Store.commit` with one or more UPSes: whatever is open for them is over."""

    def write(connection: Connection, *device_ids: int) -> None:
        for device_id in device_ids:
            _end(connection, device_id, ended_us)

    return write


def _end(connection: Connection, device_id: int, ended_us: int) -> None:
    this = (maintenance.c.device_id == device_id, maintenance.c.ended.is_(None), maintenance.c.started <= ended_us)
    connection.execute(update(maintenance).where(*this).values(ended=ended_us))
