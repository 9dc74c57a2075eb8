"""Waves of battery tests: one run of a schedule, or of a command, over many UPSes."""

from __future__ import annotations

from sqlalchemy import JSON, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text

from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

test_wave = Table(
    "test_wave",
    metadata,
    serial(),
    Column("schedule", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("started", Microseconds, nullable=False),
    Column("closes", Microseconds),
    Column("ended", Microseconds),
    Column("outcome", String),
    Column("text", Text, nullable=False, server_default=""),
    Index(None, "started"),
    sqlite_autoincrement=True,
)
"""``plan`` is the test and the rules the wave started with; ``closes`` when nothing is started any more; ``ended`` null: open."""

test_wave_member = Table(
    "test_wave_member",
    metadata,
    Column("wave_id", ForeignKey("test_wave.id"), primary_key=True),
    device_key(primary_key=True),
    Column("place", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("text", Text, nullable=False, server_default=""),
    Column("test_id", ForeignKey("battery_test.id")),
    CheckConstraint("state IN ('waiting', 'testing', 'tested', 'refused')", name="state"),
    sqlite_with_rowid=False,
)
"""One UPS of a wave. ``text`` says why it was not tested, or what it is still waiting for."""
