"""Tables of the fleet store: those of the state, with the agent that wrote each row and the row's key there.

The columns of the state keep their names and meanings, so that the same query runs on both. ``row`` is the ``id`` in the agent's
state: with ``agent_id`` it names a row once in the fleet, however often it is shipped. Revisions ``fleet_…`` under
``migrations/versions`` make these tables on PostgreSQL; a test compares the two.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from qxfleet.store.tables.base import Microseconds, metadata

FLEET_SCHEMA: Final = "fleet_0002"
"""The schema of the fleet store that this qxfleet works with."""

LOCAL: Final = frozenset({"meta", "token", "outbox", "outbox_readings"})
"""Tables of the state that are never shipped: its own marks, the digests of its tokens, what is to be shipped."""

TIERS: Final = frozenset({"reading_minute", "packed_minutes", "reading_quarter", "reading_day", "extra_rollup"})
"""Shipped only as history of before there was a fleet: the fleet store rolls up for itself."""

SERIAL: Final = tuple(
    table.name
    for table in metadata.sorted_tables
    if table.name not in LOCAL and table.name != "device" and [column.name for column in table.primary_key] == ["id"]
)
"""Tables with a number of their own: ``id`` is another one in the fleet, ``row`` is the agent's."""

KEYED: Final = tuple(
    table.name
    for table in metadata.sorted_tables
    if table.name not in LOCAL | TIERS | {"device", "reading"} and table.name not in SERIAL
)
"""Tables whose rows are named by what they belong to; that is another number in the fleet, the rest of the key is the same."""

fleet = MetaData(naming_convention=metadata.naming_convention)

agent = Table(
    "agent",
    fleet,
    Column("id", Integer, Identity(always=False), primary_key=True),
    Column("uuid", String, nullable=False, unique=True),
    Column("name", String, nullable=False, unique=True),
    Column("site", String, nullable=False, server_default=""),
    Column("version", String, nullable=False, server_default=""),
    Column("registered", Microseconds, nullable=False),
    Column("seen", Microseconds, nullable=False),
    Column("armed", Boolean),
)
"""Every agent that ships here. ``seen``: its last contact, by the database's clock. ``armed``: what its own state says."""

shipped = Table(
    "shipped",
    fleet,
    Column("agent_id", ForeignKey("agent.id"), primary_key=True),
    Column("stream", String, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("last", BigInteger, nullable=False),
)
"""What of an agent's outbox is here: intervals of its numbers, committed with the rows themselves."""

_PLAIN = {"uq_battery_name", "uq_battery_in_ups_device_id_since", "uq_discharge_device_id_began"}
"""Unique in one state; in the fleet rows of several agents meet, and rows of one come in any order."""


def _derive() -> None:
    for table in metadata.sorted_tables:
        if table.name.startswith("outbox"):
            continue  # meta holds the fleet's own marks; token what an agent kept here before it had a state
        made = table.to_metadata(fleet)
        for constraint in [each for each in made.constraints if isinstance(each, UniqueConstraint)]:
            if _named(constraint) in _PLAIN:
                made.constraints.discard(constraint)
                Index(_named(constraint).replace("uq_", "ix_"), *constraint.columns)
        if made.name == "device":
            made.append_column(Column("agent_id", ForeignKey("agent.id")))
        elif made.name in SERIAL:
            made.append_column(Column("agent_id", ForeignKey("agent.id")))
            made.append_column(Column("row", BigInteger))
            made.append_constraint(UniqueConstraint("agent_id", "row", name=f"uq_{made.name}_agent_id_row"))


def _named(constraint: UniqueConstraint) -> str:
    return f"uq_{constraint.table.name}_{'_'.join(column.name for column in constraint.columns)}"


_derive()
