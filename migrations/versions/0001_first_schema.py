"""Devices, readings, events, orders, battery tests and plan runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

VALUES = {
    "input_voltage": ("input.voltage", 10),
    "input_voltage_fault": ("input.voltage.fault", 10),
    "input_frequency": ("input.frequency", 10),
    "output_voltage": ("output.voltage", 10),
    "ups_load": ("ups.load", 10),
    "ups_temperature": ("ups.temperature", 10),
    "battery_voltage": ("battery.voltage", 100),
    "battery_charge": ("battery.charge", 10),
    "battery_runtime": ("battery.runtime", 1),
}
FLAGS = {
    16384: "ALARM", 1: "OL", 2: "OB", 64: "DISCHRG", 32: "CHRG", 4: "LB", 8: "HB", 1024: "OVER", 16: "RB",
    2048: "TRIM", 4096: "BOOST", 128: "BYPASS", 32768: "ECO", 512: "OFF", 256: "CAL", 8192: "FSD",
}  # fmt: skip


def _key(kind: sa.types.TypeEngine[int] = KEY) -> sa.Column[int]:
    return sa.Column("id", kind, sa.Identity(always=False), nullable=False)


def _device(table: str, *, nullable: bool = False) -> tuple[sa.Column[int], sa.ForeignKeyConstraint]:
    column: sa.Column[int] = sa.Column("device_id", sa.Integer(), nullable=nullable)
    return column, sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=f"fk_{table}_device_id")


def upgrade() -> None:
    op.create_table(
        "device",
        _key(sa.Integer()),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("port", sa.String(), nullable=False, server_default=""),
        sa.Column("identity", sa.JSON()),
        sa.Column("identity_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_device"),
        sa.UniqueConstraint("name", name="uq_device_name"),
    )
    op.create_table(
        "device_era",
        _key(),
        *_device("device_era"),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_device_era"),
        sa.CheckConstraint("kind IN ('battery-replaced', 'unit-replaced', 'reconfigured')", name="ck_device_era_kind"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_device_era_device_id_at", "device_era", ["device_id", "at"])
    op.create_table(
        "reading",
        *_device("reading"),
        sa.Column("at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in VALUES),
        sa.Column("extra", sa.JSON()),
        sa.PrimaryKeyConstraint("device_id", "at", name="pk_reading"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rollup",
        *_device("rollup"),
        sa.Column("resolution_s", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("status_seen", sa.Integer(), nullable=False),
        sa.Column("status_last", sa.Integer(), nullable=False),
        *(sa.Column(f"{name}_{part}", sa.Integer()) for name in VALUES for part in ("min", "mean", "max", "last", "count")),
        sa.PrimaryKeyConstraint("device_id", "resolution_s", "at", name="pk_rollup"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        _key(),
        sa.Column("at", TIME, nullable=False),
        *_device("event", nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("severity", sa.SmallInteger(), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_event_at", "event", ["at"])
    op.create_index("ix_event_device_id_at", "event", ["device_id", "at"])
    op.create_table(
        "order_log",
        _key(),
        *_device("order_log"),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Text()),
        sa.Column("sent", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String()),
        sa.Column("reply", sa.Text()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.Column("done_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_order_log"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_order_log_device_id_at", "order_log", ["device_id", "at"])
    op.create_index(
        "ix_order_log_open", "order_log", ["id"],
        sqlite_where=sa.text("outcome IS NULL"), postgresql_where=sa.text("outcome IS NULL"),
    )  # fmt: skip
    op.create_table(
        "battery_test",
        _key(),
        *_device("battery_test"),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("asked_s", sa.Integer()),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("order_id", KEY),
        sa.Column("verdict", sa.String()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.Column("evidence", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_battery_test"),
        sa.ForeignKeyConstraint(["order_id"], ["order_log.id"], name="fk_battery_test_order_id"),
        sa.CheckConstraint("kind IN ('quick', 'deep', 'timed', 'outage')", name="ck_battery_test_kind"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_battery_test_device_id_started", "battery_test", ["device_id", "started"])
    op.create_table(
        "battery_test_point",
        sa.Column("test_id", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in VALUES),
        sa.PrimaryKeyConstraint("test_id", "at", name="pk_battery_test_point"),
        sa.ForeignKeyConstraint(["test_id"], ["battery_test.id"], name="fk_battery_test_point_test_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "plan_run",
        _key(),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("armed", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("outcome", sa.String()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_plan_run"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_plan_run_started", "plan_run", ["started"])
    op.create_table(
        "plan_step",
        _key(),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("intent_at", TIME, nullable=False),
        sa.Column("done_at", TIME),
        sa.Column("outcome", sa.String()),
        sa.Column("elapsed_s", sa.Float()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_plan_step"),
        sa.ForeignKeyConstraint(["run_id"], ["plan_run.id"], name="fk_plan_step_run_id"),
        sa.UniqueConstraint("run_id", "number", name="uq_plan_step_run_id_number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
        sqlite_with_rowid=False,
    )
    op.execute(reading_view(op.get_bind().dialect.name))


def reading_view(dialect: str) -> str:
    """Readings for people with an SQL shell: names of the variables, volts and percent, one text per status."""
    time = "r.at" if dialect == "postgresql" else "strftime('%Y-%m-%dT%H:%M:%fZ', r.at / 1000000.0, 'unixepoch')"
    flags = " || ".join(f"CASE WHEN r.status & {bit} > 0 THEN '{name} ' ELSE '' END" for bit, name in FLAGS.items())
    values = ", ".join(
        f'r.{column} / {scale}.0 AS "{name}"' if scale > 1 else f'r.{column} AS "{name}"'
        for column, (name, scale) in VALUES.items()
    )
    return (
        f'CREATE VIEW reading_v AS SELECT d.name AS ups, {time} AS time, trim({flags}) AS "ups.status", {values}, r.extra '
        "FROM reading r JOIN device d ON d.id = r.device_id"
    )
