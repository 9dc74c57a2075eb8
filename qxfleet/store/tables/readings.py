"""Devices, what they read, and what that is rolled up into."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    Identity,
    Index,
    Integer,
    LargeBinary,
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
    postgresql_partition_by="RANGE (at)",
)
"""One stored poll. Null is "not known"; ``extra`` holds other numeric values that changed since the row before."""

ROLLED: Final = ("min", "mean", "max", "last", "count")


def _tier(name: str) -> Table:
    return Table(
        name,
        metadata,
        device_key(primary_key=True),
        Column("at", Microseconds, primary_key=True),
        Column("rows", Integer, nullable=False),
        Column("minutes", Integer, nullable=False),
        Column("status_seen", Integer, nullable=False),
        Column("status_last", Integer, nullable=False),
        *(Column(f"{variable.column}_{part}", Integer) for variable in READING_COLUMNS for part in ROLLED),
        sqlite_with_rowid=False,
    )


reading_minute = _tier("reading_minute")
reading_quarter = _tier("reading_quarter")
reading_day = _tier("reading_day")
"""Readings rolled up by minute, quarter of an hour and day (UTC), in the steps of ``reading``; ``at`` is the beginning.

``rows`` readings were stored in ``minutes`` of its minutes; ``status_seen`` is every flag that was up. ``mean`` null: the
value was not known. To keep rows small, ``min``, ``max`` and ``last`` are null where they equal ``mean``, ``count`` where it
equals ``rows``; the views spell them out. ``reading_minute`` holds the minutes of hours that are not packed yet.
"""

packed_minutes = Table(
    "packed_minutes",
    metadata,
    device_key(primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("rows", LargeBinary, nullable=False),
    Column("status", LargeBinary, nullable=False),
    *(Column(str(variable.column), LargeBinary) for variable in READING_COLUMNS),
)
"""The minutes of an hour of a UPS, a body for each variable (null: not known all hour); see :mod:`qxfleet.store.minutes`.

With row numbers on SQLite: so hours are written one behind the other, and pages are full.
"""

extra_rollup = Table(
    "extra_rollup",
    metadata,
    device_key(primary_key=True),
    Column("name", String, primary_key=True),
    Column("resolution_s", Integer, primary_key=True),
    Column("at", Microseconds, primary_key=True),
    *(Column(part, Float, nullable=False) for part in ROLLED[:4]),
    Column("count", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""What ``extra`` said in each bucket of each tier, in the variables' units; no row: it did not change."""
