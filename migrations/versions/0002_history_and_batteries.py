"""Roll-up tiers, partitions of readings, views, discharges, the battery register."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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
TIERS = ("reading_minute", "reading_quarter", "reading_day")
RESOLUTION_S = {60: "minute", 900: "quarter", 86400: "day"}


def upgrade() -> None:
    dialect = op.get_bind().dialect.name
    op.execute("DROP VIEW reading_v")
    if dialect == "postgresql":
        _partition_readings()
    _tiers()
    _discharges()
    for view in views(dialect):
        op.execute(view)


def _partition_readings() -> None:
    """Make ``reading`` a table of partitions by time; what is there becomes the first of them, without being copied."""
    connection = op.get_bind()
    filled = connection.execute(sa.text("SELECT EXISTS (SELECT FROM reading)")).scalar()
    op.execute("ALTER TABLE reading RENAME TO reading_before_0002")
    op.execute("ALTER TABLE reading_before_0002 RENAME CONSTRAINT pk_reading TO pk_reading_before_0002")
    op.execute("ALTER TABLE reading_before_0002 RENAME CONSTRAINT fk_reading_device_id TO fk_reading_before_0002_device_id")
    op.create_table(
        "reading",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Integer()) for name in VALUES),
        sa.Column("extra", sa.JSON()),
        sa.PrimaryKeyConstraint("device_id", "at", name="pk_reading"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_reading_device_id"),
        postgresql_partition_by="RANGE (at)",
    )
    op.execute("CREATE TABLE reading_elsewhen PARTITION OF reading DEFAULT")
    if not filled:
        op.execute("DROP TABLE reading_before_0002")
        return
    monday = connection.execute(sa.text("SELECT date_trunc('week', now() AT TIME ZONE 'UTC')::date + 7")).scalar()
    bound = f"'{monday}T00:00:00Z'"
    op.execute(
        f"WITH ahead AS (DELETE FROM reading_before_0002 WHERE at >= {bound} RETURNING *) "
        "INSERT INTO reading_elsewhen SELECT * FROM ahead"
    )
    op.execute(f"ALTER TABLE reading ATTACH PARTITION reading_before_0002 FOR VALUES FROM (MINVALUE) TO ({bound})")


def _tiers() -> None:
    """A table for each tier in place of ``rollup``, which nothing ever filled."""
    op.drop_table("rollup")
    for name in TIERS:
        op.create_table(
            name,
            sa.Column("device_id", sa.Integer(), nullable=False),
            sa.Column("at", TIME, nullable=False),
            sa.Column("rows", sa.Integer(), nullable=False),
            sa.Column("minutes", sa.Integer(), nullable=False),
            sa.Column("status_seen", sa.Integer(), nullable=False),
            sa.Column("status_last", sa.Integer(), nullable=False),
            *(sa.Column(f"{value}_{part}", sa.Integer()) for value in VALUES for part in ("min", "mean", "max", "last", "count")),
            sa.PrimaryKeyConstraint("device_id", "at", name=f"pk_{name}"),
            sa.ForeignKeyConstraint(["device_id"], ["device.id"], name=f"fk_{name}_device_id"),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "extra_rollup",
        sa.Column("device_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("resolution_s", sa.Integer(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        *(sa.Column(part, sa.Float(), nullable=False) for part in ("min", "mean", "max", "last")),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "name", "resolution_s", "at", name="pk_extra_rollup"),
        sa.ForeignKeyConstraint(["device_id"], ["device.id"], name="fk_extra_rollup_device_id"),
        sqlite_with_rowid=False,
    )


def views(dialect: str) -> list[str]:
    """For people with an SQL shell or a Grafana: names of the variables, volts and percent, one text per status.

    ``time`` is for reading, and ``at_us`` (microseconds since 1970) for comparing on SQLite, where it is the indexed column; on
    PostgreSQL ``time`` is.
    """

    def time(column: str, name: str = "time") -> str:
        if dialect == "postgresql":
            return f"{column} AS {name}"
        return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1000000.0, 'unixepoch') AS {name}"

    def us(column: str) -> str:
        return f"(extract(epoch FROM {column}) * 1000000)::bigint" if dialect == "postgresql" else column

    def when(table: str) -> str:
        return f"{time(f'{table}.at')}, {us(f'{table}.at')} AS at_us"

    def status(column: str) -> str:
        return "trim(" + " || ".join(f"CASE WHEN {column} & {bit} > 0 THEN '{n} ' ELSE '' END" for bit, n in FLAGS.items()) + ")"

    def steps(value: str, scale: int) -> str:
        return f"{value} / {scale}.0" if scale > 1 else value

    made = [
        f'CREATE VIEW reading_v AS SELECT d.name AS ups, {when("r")}, {status("r.status")} AS "ups.status", '
        + ", ".join(f'{steps(f"r.{column}", scale)} AS "{name}"' for column, (name, scale) in VALUES.items())
        + ", r.extra FROM reading r JOIN device d ON d.id = r.device_id"
    ]
    for tier in TIERS:
        values = [
            f'{steps(f"coalesce(r.{column}_{part}, r.{column}_mean)", scale)} AS "{name}.{part}"'
            if part != "mean" else f'{steps(f"r.{column}_mean", scale)} AS "{name}"'
            for column, (name, scale) in VALUES.items() for part in ("mean", "min", "max", "last")
        ]  # fmt: skip
        counts = [f'coalesce(r.{column}_count, r.rows) AS "{name}.count"' for column, (name, _) in VALUES.items()]
        made.append(
            f'CREATE VIEW {tier}_v AS SELECT d.name AS ups, {when("r")}, r.rows AS readings, r.minutes, '
            f'{status("r.status_last")} AS "ups.status", {status("r.status_seen")} AS "ups.status.seen", '
            f"{', '.join(values + counts)} FROM {tier} r JOIN device d ON d.id = r.device_id"
        )
    tier_names = " ".join(f"WHEN {seconds} THEN '{name}'" for seconds, name in RESOLUTION_S.items())
    made += [
        f"CREATE VIEW extra_v AS SELECT d.name AS ups, {when('r')}, CASE r.resolution_s {tier_names} END AS tier, "
        "r.name AS variable, r.mean, r.min, r.max, r.last, r.count FROM extra_rollup r JOIN device d ON d.id = r.device_id",
        f"CREATE VIEW event_v AS SELECT e.id, d.name AS ups, {when('e')}, e.kind, e.name, e.value, e.text, "
        "CASE e.severity WHEN 0 THEN 'info' WHEN 1 THEN 'notice' WHEN 2 THEN 'warning' ELSE 'critical' END AS severity, "
        "e.phase FROM event e LEFT JOIN device d ON d.id = e.device_id",
        f"CREATE VIEW order_v AS SELECT o.id, d.name AS ups, {when('o')}, o.actor, o.name, o.value, o.sent, o.outcome, o.reply, "
        f"o.text, {time('o.done_at', 'done')} FROM order_log o JOIN device d ON d.id = o.device_id",
        f"CREATE VIEW discharge_v AS SELECT x.id, d.name AS ups, {time('x.began')}, {us('x.began')} AS at_us, "
        f"{time('x.ended', 'ended')}, "
        f"({us('x.ended')} - {us('x.began')}) / 1000000.0 AS seconds, x.cause, b.name AS battery, "
        f"{', '.join(f'x.{name}' for name in FIGURES)}, x.method FROM discharge x JOIN device d ON d.id = x.device_id "
        "LEFT JOIN battery b ON b.id = x.battery_id",
        f"CREATE VIEW battery_v AS SELECT b.name AS battery, d.name AS ups, {time('p.since', 'since')}, "
        f"{time('p.until', 'until')}, "
        "p.known, b.type, b.chemistry, b.cells, b.capacity_ah FROM battery_in_ups p JOIN battery b ON b.id = p.battery_id "
        "JOIN device d ON d.id = p.device_id",
    ]
    return made


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
    op.create_index(
        "ix_discharge_loaded", "discharge", ["battery_id", "began"],
        sqlite_where=sa.text("index_v IS NOT NULL"), postgresql_where=sa.text("index_v IS NOT NULL"),
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
