"""Battery tests, and their discharge curves."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

battery_test = Table(
    "battery_test",
    metadata,
    serial(),
    device_key(),
    Column("started", Microseconds, nullable=False),
    Column("ended", Microseconds),
    Column("kind", String, nullable=False),
    Column("asked_s", Integer),
    Column("actor", String, nullable=False),
    Column("order_id", ForeignKey("order_log.id")),
    Column("verdict", String),
    Column("text", Text, nullable=False, server_default=""),
    Column("evidence", JSON(none_as_null=True)),
    Column("depth", Integer),
    Column("bound", Microseconds),
    Column("sent", String),
    Column("stop_reason", Text),
    CheckConstraint("kind IN ('quick', 'deep', 'timed', 'outage')", name="kind"),
    Index(None, "device_id", "started"),
    sqlite_autoincrement=True,
)
"""A test, or an outage that serves as one. Written before it is started; ``verdict`` null: not over yet.

``evidence`` is what the verdict rests on. ``depth``: percent of charge to be taken out. ``bound``: the latest end, kept by the
agent whatever the device does. ``sent``: outcome of the order that started it, null: not known. ``stop_reason``: why the agent
ended it early, written before it is told to stop.
"""

battery_test_point = Table(
    "battery_test_point",
    metadata,
    Column("test_id", ForeignKey("battery_test.id"), primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("status", Integer, nullable=False),
    *(Column(str(variable.column), Integer) for variable in READING_COLUMNS),
    sqlite_with_rowid=False,
)
"""The discharge curve of one test, kept when the raw readings are long gone."""
