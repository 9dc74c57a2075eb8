"""When somebody was at work on a UPS."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text

from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

maintenance = Table(
    "maintenance",
    metadata,
    serial(),
    device_key(),
    Column("started", Microseconds, nullable=False),
    Column("until", Microseconds),
    Column("ended", Microseconds),
    Column("actor", String, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Index(None, "device_id", "started"),
    sqlite_autoincrement=True,
)
"""``until`` null: until somebody ends it; ``ended`` null: not over yet."""
