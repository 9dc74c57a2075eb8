"""What every table is made of, for SQLite and PostgreSQL alike.

Time is integer UTC microseconds on our side of :class:`Microseconds`, whatever the database keeps. Values of a reading
are integers in the steps of the variable list (``input_voltage`` 2301 is 230.1 V); view ``reading_v`` gives volts.
The migrations under ``migrations/versions`` make these tables; a test compares the two.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    TIMESTAMP,
    BigInteger,
    Column,
    Dialect,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

SCHEMA: Final = "0007"
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


def serial() -> Column[int]:
    """A key that is never given twice, so that "everything after id" holds across pruning."""
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(always=False), primary_key=True)


def device_key(*, nullable: bool = False, primary_key: bool = False) -> Column[int]:
    return Column("device_id", Integer, ForeignKey("device.id"), nullable=nullable, primary_key=primary_key)


meta = Table(
    "meta",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Single facts of this database."""
