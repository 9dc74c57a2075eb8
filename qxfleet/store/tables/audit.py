"""Who did what beyond orders to a device, and the tokens programs log in with."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, String, Table, Text, UniqueConstraint

from qxfleet.store.tables.base import Microseconds, metadata, serial

audit = Table(
    "audit",
    metadata,
    serial(),
    Column("at", Microseconds, nullable=False),
    Column("actor", String, nullable=False),
    Column("act", String, nullable=False),
    Column("target", String, nullable=False),
    Column("name", String, nullable=False),
    Column("value", Text),
    Column("outcome", String, nullable=False),
    Column("text", Text, nullable=False, server_default=""),
    Index(None, "at"),
    sqlite_autoincrement=True,
)
"""Acts that never became an order: logins refused, rights missing, tokens, arming, maintenance. Orders stand in ``order_log``.

``target`` is a name as it was given (a UPS, a plan, a user), known or not.
"""

token = Table(
    "token",
    metadata,
    serial(),
    Column("name", String, nullable=False),
    Column("user", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("allow", JSON(none_as_null=True)),
    Column("created", Microseconds, nullable=False),
    Column("expires", Microseconds),
    Column("used", Microseconds),
    UniqueConstraint("name"),
    UniqueConstraint("digest"),
    sqlite_autoincrement=True,
)
"""A token acts as ``user`` of the configuration, with the rights in ``allow`` at most (null: all of the user's).

``digest`` is the SHA-256 of the token, which itself is shown once and kept nowhere.
"""
