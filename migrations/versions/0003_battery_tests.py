"""Waves of battery tests, what a test needs to be found again after a restart, maintenance."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Tables ``test_wave``, ``test_wave_member`` and ``maintenance``; four columns of ``battery_test``."""
    for column in (
        sa.Column("depth", sa.Integer()), sa.Column("bound", TIME), sa.Column("sent", sa.String()),
        sa.Column("stop_reason", sa.Text()),
    ):  # fmt: skip
        op.add_column("battery_test", column)
    op.create_table(
        "test_wave",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("schedule", sa.String(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("closes", TIME),
        sa.Column("ended", TIME),
        sa.Column("outcome", sa.String()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_test_wave"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_test_wave_started", "test_wave", ["started"])
    op.create_table(
        "test_wave_member",
        sa.Column("wave_id", KEY, nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.Column("test_id", KEY),
        sa.PrimaryKeyConstraint("wave_id", "device_id", name="pk_test_wave_member"),
        sa.ForeignKeyConstraint(["wave_id"], ["test_wave.id"], name="fk_test_wave_member_wave_id"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_test_wave_member_device_id"),
        sa.ForeignKeyConstraint(["test_id"], ["battery_test.id"], name="fk_test_wave_member_test_id"),
        sa.CheckConstraint("state IN ('waiting', 'testing', 'tested', 'refused')", name="ck_test_wave_member_state"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "maintenance",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("until", TIME),
        sa.Column("ended", TIME),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_maintenance"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_maintenance_device_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_maintenance_device_id_started", "maintenance", ["device_id", "started"])
