"""What happened, and what was ordered."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Index,
    SmallInteger,
    String,
    Table,
    Text,
)

from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

event = Table(
    "event",
    metadata,
    serial(),
    Column("at", Microseconds, nullable=False),
    device_key(nullable=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("phase", String, nullable=False),
    Index(None, "at"),
    Index(None, "device_id", "at"),
    sqlite_autoincrement=True,
)
"""What happened; ``device_id`` null: to the agent itself."""

order_log = Table(
    "order_log",
    metadata,
    serial(),
    device_key(),
    Column("at", Microseconds, nullable=False),
    Column("actor", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Text),
    Column("sent", Text, nullable=False),
    Column("outcome", String),
    Column("reply", Text),
    Column("text", Text, nullable=False, server_default=""),
    Column("done_at", Microseconds),
    Index(None, "device_id", "at"),
    sqlite_autoincrement=True,
)
"""Intent first, outcome later: a row without ``outcome`` may or may not have reached the device."""
Index(
    "ix_order_log_open",
    order_log.c.id,
    sqlite_where=order_log.c.outcome.is_(None),
    postgresql_where=order_log.c.outcome.is_(None),
)

