"""Devices, what they read, and what that is rolled up into."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

device = Table(
    "device",
    metadata,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("name", String, nullable=False, unique=True),
    Column("created", Microseconds, nullable=False),
    Column("port", String, nullable=False, server_default=""),
    Column("identity", JSON),
    Column("identity_at", Microseconds),
)
"""``identity`` is a model Identity, learned at ``port`` (a port or fingerprint); null: not recognised yet."""

device_era = Table(
    "device_era",
    metadata,
    serial(),
    device_key(),
    Column("at", Microseconds, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False, server_default=""),
    CheckConstraint("kind IN ('battery-replaced', 'unit-replaced', 'reconfigured')", name="kind"),
    Index(None, "device_id", "at"),
    sqlite_autoincrement=True,
)
"""Boundaries no trend may be drawn across."""

reading = Table(
    "reading",
    metadata,
    device_key(primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("status", Integer, nullable=False),
    *(Column(str(variable.column), Integer) for variable in READING_COLUMNS),
    Column("extra", JSON(none_as_null=True)),
    sqlite_with_rowid=False,
)
"""One stored poll. Null is "not known"; ``extra`` holds other numeric values that changed since the row before."""

ROLLED: Final = ("min", "mean", "max", "last")

rollup = Table(
    "rollup",
    metadata,
    device_key(primary_key=True),
    Column("resolution_s", Integer, primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("status_seen", Integer, nullable=False),
    Column("status_last", Integer, nullable=False),
    *(
        Column(f"{variable.column}_{part}", Integer)
        for variable in READING_COLUMNS
        for part in (*ROLLED, "count")
    ),
    sqlite_with_rowid=False,
)  # fmt: skip
"""Readings of one bucket starting ``at``, in the same steps as ``reading``; ``status_seen`` is every flag that was up."""

