"""Discharges, their curves, and which battery is in which UPS since when."""

from __future__ import annotations

from typing import Final

from sqlalchemy import CheckConstraint, Column, Float, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.tables.base import Microseconds, device_key, metadata, serial

battery = Table(
    "battery",
    metadata,
    serial(),
    Column("name", String, nullable=False, unique=True),
    Column("type", String, nullable=False, server_default=""),
    Column("chemistry", String, nullable=False, server_default="lead-acid"),
    Column("cells", Integer),
    Column("capacity_ah", Float),
    Column("made", Microseconds),
    Column("note", Text, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)
"""One battery (all blocks of a string together); it may move from UPS to UPS and keeps its history."""

battery_in_ups = Table(
    "battery_in_ups",
    metadata,
    Column("battery_id", ForeignKey("battery.id"), primary_key=True),
    Column("since", Microseconds, primary_key=True),
    device_key(),
    Column("until", Microseconds),
    Column("known", String, nullable=False),
    CheckConstraint("known IN ('told', 'configured', 'first-seen')", name="known"),
    UniqueConstraint("device_id", "since"),
)
"""Which battery was in which UPS; ``until`` null: it still is. ``known`` says how ``since`` is known."""

discharge = Table(
    "discharge",
    metadata,
    serial(),
    device_key(),
    Column("battery_id", ForeignKey("battery.id")),
    Column("test_id", ForeignKey("battery_test.id")),
    Column("began", Microseconds, nullable=False),
    Column("ended", Microseconds),
    Column("cause", String, nullable=False),
    Column("rested", Integer, nullable=False),
    Column("points", Integer, nullable=False),
    Column("gap_s", Float, nullable=False),
    *(
        Column(name, Float)
        for name in (
            "float_v", "lowest_v", "end_v", "load_percent", "load_low_percent", "load_high_percent", "temperature_c",
            "depth_percent", "energy_wh", "low_after_s", "loaded_v", "loaded_percent", "resistance_ohm", "resistance_error",
            "recharge_s", "used_percent", "capacity_percent", "capacity_error",
        )
    ),
    Column("method", String),
    Column("index_v", Float),
    Column("resistance_ratio", Float),
    CheckConstraint("cause IN ('mains', 'test', 'unknown')", name="cause"),
    UniqueConstraint("device_id", "began"),
    Index(None, "began"),
    Index(None, "battery_id", "began"),
    sqlite_autoincrement=True,
)  # fmt: skip
"""One discharge with its figures; see model Discharge. ``ended`` null: it goes on."""
Index(
    "ix_discharge_capacity",
    discharge.c.battery_id,
    discharge.c.began,
    sqlite_where=discharge.c.capacity_percent.is_not(None),
    postgresql_where=discharge.c.capacity_percent.is_not(None),
)
Index(
    "ix_discharge_loaded",
    discharge.c.battery_id,
    discharge.c.began,
    sqlite_where=discharge.c.index_v.is_not(None),
    postgresql_where=discharge.c.index_v.is_not(None),
)

CURVE: Final = ("battery_voltage", "ups_load", "battery_charge", "input_voltage", "ups_temperature")
"""Columns of a curve, with the names and steps they have in table ``reading``."""

discharge_point = Table(
    "discharge_point",
    metadata,
    Column("discharge_id", ForeignKey("discharge.id"), primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("status", Integer, nullable=False),
    *(Column(str(variable.column), Integer) for variable in READING_COLUMNS if variable.column in CURVE),
    sqlite_with_rowid=False,
)
"""The curve at full rate, from the last reading before to the first after; kept when the raw readings are long gone."""

battery_month = Table(
    "battery_month",
    metadata,
    device_key(primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("days", Float, nullable=False),
    *(
        Column(name, Float)
        for name in (
            "ageing", "temperature_c", "temperature_low_c", "temperature_high_c", "float_v", "load_percent",
            "load_low_percent", "load_high_percent",
        )
    ),
    sqlite_with_rowid=False,
)  # fmt: skip
"""What a month at rest did to the battery of a UPS: ``ageing`` is days at 25 °C that one day of it counted for."""
