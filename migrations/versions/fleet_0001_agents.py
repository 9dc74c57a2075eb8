"""PostgreSQL becomes the fleet store: agents, the agent of every row, what of each agent's outbox is here.

A branch of its own behind 0005, up to which both kinds of database had the same tables. What one agent wrote straight into
PostgreSQL is adopted by the first agent that registers (``agent_id`` null until then).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fleet_0001"
down_revision = "0005"
branch_labels = None
depends_on = None

TIME = sa.TIMESTAMP(timezone=True)

SERIAL = (
    "audit", "battery", "shutdown_arming", "shutdown_run", "test_wave", "device_era", "event", "maintenance", "order_log",
    "shutdown_step", "battery_test", "discharge",
)  # fmt: skip
PLAIN = {"battery": ("name",), "battery_in_ups": ("device_id", "since"), "discharge": ("device_id", "began")}


def upgrade() -> None:
    """Tables ``agent`` and ``shipped``; ``agent_id`` and ``row`` in every table that an agent writes."""
    op.create_table(
        "agent",
        sa.Column("id", sa.Integer(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("site", sa.String(), nullable=False, server_default=""),
        sa.Column("version", sa.String(), nullable=False, server_default=""),
        sa.Column("registered", TIME, nullable=False),
        sa.Column("seen", TIME, nullable=False),
        sa.Column("armed", sa.Boolean()),
        sa.PrimaryKeyConstraint("id", name="pk_agent"),
        sa.UniqueConstraint("uuid", name="uq_agent_uuid"),
        sa.UniqueConstraint("name", name="uq_agent_name"),
    )
    op.create_table(
        "shipped",
        sa.Column("agent_id", sa.Integer(), nullable=False),
        sa.Column("stream", sa.String(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent_id", "stream", "first", name="pk_shipped"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_shipped_agent_id"),
    )
    for table, columns in PLAIN.items():
        op.drop_constraint(f"uq_{table}_{'_'.join(columns)}", table, type_="unique")
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
    op.add_column("device", sa.Column("agent_id", sa.Integer()))
    op.create_foreign_key("fk_device_agent_id", "device", "agent", ["agent_id"], ["id"])
    for table in SERIAL:
        op.add_column(table, sa.Column("agent_id", sa.Integer()))
        op.add_column(table, sa.Column("row", sa.BigInteger()))
        op.create_foreign_key(f"fk_{table}_agent_id", table, "agent", ["agent_id"], ["id"])
        op.create_unique_constraint(f"uq_{table}_agent_id_row", table, ["agent_id", "row"])
