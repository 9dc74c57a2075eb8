"""Runs of the staged shutdown with every step they took, and who armed it."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from qxfleet.store.tables.base import Microseconds, metadata, serial

shutdown_run = Table(
    "shutdown_run",
    metadata,
    serial(),
    Column("armed", Boolean, nullable=False),
    Column("actor", String, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("ordered", JSON(none_as_null=True)),
    Column("cancelled", Boolean, nullable=False),
    Column("started", Microseconds, nullable=False),
    Column("ended", Microseconds),
    Column("outcome", String),
    Column("text", Text, nullable=False, server_default=""),
    Index(None, "started"),
    sqlite_autoincrement=True,
)
"""One run with the version of the plan it started with; ``ordered`` is an operator's wish, ``ended`` null: still under way."""

shutdown_step = Table(
    "shutdown_step",
    metadata,
    serial(),
    Column("run_id", ForeignKey("shutdown_run.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("act", String, nullable=False),
    Column("target", String, nullable=False),
    Column("step", JSON, nullable=False),
    Column("begun", Microseconds, nullable=False),
    Column("answer", String),
    Column("answered", Microseconds),
    Column("result", String),
    Column("ended", Microseconds),
    Column("took_s", Float),
    Column("text", Text, nullable=False, server_default=""),
    UniqueConstraint("run_id", "number"),
    Index(None, "target", "act"),
    sqlite_autoincrement=True,
)
"""Written before the step acts, completed after; one without ``answer`` is checked, not repeated.

``took_s``: from intent to effect, where the effect was seen and not assumed.
"""

shutdown_arming = Table(
    "shutdown_arming",
    metadata,
    serial(),
    Column("at", Microseconds, nullable=False),
    Column("armed", Boolean, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)
"""Who armed or disarmed the plan; the last row counts, without one it is unarmed."""
