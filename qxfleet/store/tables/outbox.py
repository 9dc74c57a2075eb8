"""What an agent's state has to ship to the fleet store."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, String, Table

from qxfleet.store.tables.base import Microseconds, metadata

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", Microseconds, nullable=False),
    Column("name", String, nullable=False),
    Column("key", String, nullable=False),
    sqlite_autoincrement=True,
)
"""Rows that are new, changed or gone, each by its table ``name`` and its ``key`` (JSON); a row is shipped as it is when read."""

outbox_readings = Table(
    "outbox_readings",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("at", Microseconds, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)
"""A row for each batch of readings that was committed: packed, because a row for each would double what a reading costs."""
