"""Runs and steps of staged shutdowns, who armed them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIME = sa.BigInteger().with_variant(sa.TIMESTAMP(timezone=True), "postgresql")
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Tables ``shutdown_run``, ``shutdown_step`` and ``shutdown_arming`` in the place of two that nothing was ever written to."""
    op.drop_table("plan_step")
    op.drop_table("plan_run")
    op.create_table(
        "shutdown_run",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("armed", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("ordered", sa.JSON()),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("started", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.Column("outcome", sa.String()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_shutdown_run"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_shutdown_run_started", "shutdown_run", ["started"])
    op.create_table(
        "shutdown_step",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("run_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("act", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("step", sa.JSON(), nullable=False),
        sa.Column("begun", TIME, nullable=False),
        sa.Column("answer", sa.String()),
        sa.Column("answered", TIME),
        sa.Column("result", sa.String()),
        sa.Column("ended", TIME),
        sa.Column("took_s", sa.Float()),
        sa.Column("text", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_shutdown_step"),
        sa.ForeignKeyConstraint(["run_id"], ["shutdown_run.id"], name="fk_shutdown_step_run_id"),
        sa.UniqueConstraint("run_id", "number", name="uq_shutdown_step_run_id_number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_shutdown_step_target_act", "shutdown_step", ["target", "act"])
    op.create_table(
        "shutdown_arming",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("armed", sa.Boolean(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_shutdown_arming"),
        sqlite_autoincrement=True,
    )
