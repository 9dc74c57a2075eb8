"""All tables, for SQLite and PostgreSQL alike.

Time is integer UTC microseconds on our side of :class:`Microseconds`, whatever the database keeps. Values of a reading
are integers in the steps of the variable list (``input_voltage`` 2301 is 230.1 V); view ``reading_v`` gives volts.
The migrations under ``migrations/versions`` make these tables; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    JSON,
    TIMESTAMP,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.types import TypeEngine

from qxfleet.model.variables import READING_COLUMNS

SCHEMA: Final = "0001"
"""The schema this qxfleet works with: the newest revision under ``migrations/versions``."""

SCHEMA_TABLE: Final = "qxfleet_schema"
"""Where alembic keeps the revision; a name of our own, so that no other program's ``alembic_version`` is mistaken for it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Microseconds(TypeDecorator[int]):
    """UTC as integer microseconds since 1970 in Python; ``timestamptz`` on PostgreSQL, an integer on SQLite."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        native: TypeEngine[Any] = TIMESTAMP(timezone=True) if dialect.name == "postgresql" else BigInteger()
        return dialect.type_descriptor(native)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return value
        return _EPOCH + timedelta(microseconds=value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        if isinstance(value, datetime):
            return (value - _EPOCH) // _MICROSECOND
        return None if value is None else int(value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _serial() -> Column[int]:
    """A key that is never given twice, so that "everything after id" holds across pruning."""
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(always=False), primary_key=True)


def _device(*, nullable: bool = False, primary_key: bool = False) -> Column[int]:
    return Column("device_id", Integer, ForeignKey("device.id"), nullable=nullable, primary_key=primary_key)


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
    _serial(),
    _device(),
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
    _device(primary_key=True),
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
    _device(primary_key=True),
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

event = Table(
    "event",
    metadata,
    _serial(),
    Column("at", Microseconds, nullable=False),
    _device(nullable=True),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("severity", SmallInteger, nullable=False),
    Column("phase", String, nullable=False),
    Index(None, "at"),
    Index(None, "device_id", "at"),
    sqlite_autoincrement=True,
)
"""What happened; ``device_id`` null: to the agent itself."""

order_log = Table(
    "order_log",
    metadata,
    _serial(),
    _device(),
    Column("at", Microseconds, nullable=False),
    Column("actor", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Text),
    Column("sent", Text, nullable=False),
    Column("outcome", String),
    Column("reply", Text),
    Column("text", Text, nullable=False, server_default=""),
    Column("done_at", Microseconds),
    Index(None, "device_id", "at"),
    sqlite_autoincrement=True,
)
"""Intent first, outcome later: a row without ``outcome`` may or may not have reached the device."""
Index(
    "ix_order_log_open",
    order_log.c.id,
    sqlite_where=order_log.c.outcome.is_(None),
    postgresql_where=order_log.c.outcome.is_(None),
)

battery_test = Table(
    "battery_test",
    metadata,
    _serial(),
    _device(),
    Column("started", Microseconds, nullable=False),
    Column("ended", Microseconds),
    Column("kind", String, nullable=False),
    Column("asked_s", Integer),
    Column("actor", String, nullable=False),
    Column("order_id", ForeignKey("order_log.id")),
    Column("verdict", String),
    Column("text", Text, nullable=False, server_default=""),
    Column("evidence", JSON(none_as_null=True)),
    CheckConstraint("kind IN ('quick', 'deep', 'timed', 'outage')", name="kind"),
    Index(None, "device_id", "started"),
    sqlite_autoincrement=True,
)
"""A test, or an outage that serves as one. ``verdict`` null: running, or the agent died; ``evidence`` what it rests on."""

battery_test_point = Table(
    "battery_test_point",
    metadata,
    Column("test_id", ForeignKey("battery_test.id"), primary_key=True),
    Column("at", Microseconds, primary_key=True),
    Column("status", Integer, nullable=False),
    *(Column(str(variable.column), Integer) for variable in READING_COLUMNS),
    sqlite_with_rowid=False,
)
"""The discharge curve of one test, kept when the raw readings are long gone."""

plan_run = Table(
    "plan_run",
    metadata,
    _serial(),
    Column("kind", String, nullable=False),
    Column("name", String, nullable=False),
    Column("armed", Boolean, nullable=False),
    Column("actor", String, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("started", Microseconds, nullable=False),
    Column("ended", Microseconds),
    Column("outcome", String),
    Column("text", Text, nullable=False, server_default=""),
    Index(None, "started"),
    sqlite_autoincrement=True,
)
"""One run of a shutdown or test plan with the version of the plan it started with."""

plan_step = Table(
    "plan_step",
    metadata,
    _serial(),
    Column("run_id", ForeignKey("plan_run.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("target", String, nullable=False),
    Column("act", String, nullable=False),
    Column("intent_at", Microseconds, nullable=False),
    Column("done_at", Microseconds),
    Column("outcome", String),
    Column("elapsed_s", Float),
    Column("text", Text, nullable=False, server_default=""),
    UniqueConstraint("run_id", "number"),
    sqlite_autoincrement=True,
)
"""Written before the step acts, completed after; a step without ``outcome`` is checked, not repeated."""

meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Single facts of this database."""
