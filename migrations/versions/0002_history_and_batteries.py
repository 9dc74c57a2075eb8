"""Roll-up tiers, discharges, the battery register."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _discharges()


FIGURES = (
    "float_v", "lowest_v", "end_v", "load_percent", "load_low_percent", "load_high_percent", "temperature_c",
    "depth_percent", "energy_wh", "low_after_s", "loaded_v", "loaded_percent", "resistance_ohm", "resistance_error",
    "recharge_s", "used_percent", "capacity_percent", "capacity_error",
)  # fmt: skip
CURVE = ("input_voltage", "ups_load", "ups_temperature", "battery_voltage", "battery_charge")
MONTH = (
    "ageing", "temperature_c", "temperature_low_c", "temperature_high_c", "float_v", "load_percent",
    "load_low_percent", "load_high_percent",
)  # fmt: skip


def _discharges() -> None:
    """Discharges with their curves, the battery register, and what months at rest did."""
    op.create_table(
        "battery",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False, server_default=""),
        sa.Column("chemistry", sa.String(), nullable=False, server_default="lead-acid"),
        sa.Column("cells", sa.Integer()),
        sa.Column("capacity_ah", sa.Float()),
        sa.Column("made", TIME),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_battery"),
        sa.UniqueConstraint("name", name="uq_battery_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "battery_in_ups",
        sa.Column("battery_id", KEY, nullable=False),
        sa.Column("since", TIME, nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("until", TIME),
        sa.Column("known", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("battery_id", "since", name="pk_battery_in_ups"),
        sa.ForeignKeyConstraint(["battery_id"], ["battery.id"], name="fk_battery_in_ups_battery_id"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_battery_in_ups_device_id"),
        sa.CheckConstraint("known IN ('told', 'configured', 'first-seen')", name="ck_battery_in_ups_known"),
        sa.UniqueConstraint("device_id", "since", name="uq_battery_in_ups_device_id_since"),
    )
    op.create_table(
        "discharge",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("battery_id", KEY),
        sa.Column("test_id", KEY),
        sa.Column("began", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("rested", sa.Integer(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("gap_s", sa.Float(), nullable=False),
        *(sa.Column(name, sa.Float()) for name in FIGURES),
        sa.Column("method", sa.String()),
        sa.Column("index_v", sa.Float()),
        sa.Column("resistance_ratio", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_discharge"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_discharge_device_id"),
        sa.ForeignKeyConstraint(["battery_id"], ["battery.id"], name="fk_discharge_battery_id"),
        sa.ForeignKeyConstraint(["test_id"], ["battery_test.id"], name="fk_discharge_test_id"),
        sa.CheckConstraint("cause IN ('mains', 'test', 'unknown')", name="ck_discharge_cause"),
        sa.UniqueConstraint("device_id", "began", name="uq_discharge_device_id_began"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_discharge_began", "discharge", ["began"])
    op.create_index("ix_discharge_battery_id_began", "discharge", ["battery_id", "began"])
    op.create_index(
        "ix_discharge_capacity", "discharge", ["battery_id", "began"],
        sqlite_where=sa.text("capacity_percent IS NOT NULL"), postgresql_where=sa.text("capacity_percent IS NOT NULL"),
    )  # fmt: skip
    op.create_table(
        "discharge_point",
        sa.Column("discharge_id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in CURVE),
        sa.PrimaryKeyConstraint("discharge_id", "at", name="pk_discharge_point"),
        sa.ForeignKeyConstraint(["discharge_id"], ["discharge.id"], name="fk_discharge_point_discharge_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "battery_month",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("days", sa.Float(), nullable=False),
        *(sa.Column(name, sa.Float()) for name in MONTH),
        sa.PrimaryKeyConstraint("device_id", "at", name="pk_battery_month"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_battery_month_device_id"),
        sqlite_with_rowid=False,
    )
