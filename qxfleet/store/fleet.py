"""The fleet store as one agent writes to it: its schema, who is registered, and what of each agent's outbox is there.

Everything is idempotent: a row is named by its agent and its key in the agent's state, a reading by its UPS and time, and what
was shipped is remembered in the same transaction. So a lost answer, a killed agent and a promoted standby that lacks the last
transactions are all settled alike: ask what is there, and ship the rest.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from qxfleet.errors import StoreError
from qxfleet.model.clock import iso
from qxfleet.store.engine import POSTGRES, explained, parse_url, shown
from qxfleet.store.migrate import Standing, refuse_unknown, standing, upgrade_on
from qxfleet.store.outbox import READINGS, RECORDS
from qxfleet.store.tables import Microseconds, metadata
from qxfleet.store.tables.fleet import FLEET_SCHEMA, SERIAL

CHANNEL: Final = "qxfleet"
"""Notified once a batch, with the number of the agent whose rows came."""

STATEMENT_MS: Final = 20_000
LOCK_MS: Final = 5_000
"""How long the server may take for a statement, and for a lock; a server that hangs is dropped by the shipper's own deadline."""

_REGISTER: Final = 0x71786672_01
"""PostgreSQL's key for "one agent registers at a time"."""


class Refused(StoreError):
    """The fleet store takes nothing from this agent, by a sentence that names the other."""


@dataclass(frozen=True, slots=True)
class AgentIdentity:
    """Who ships: ``uuid`` is the state's, the others are the configuration's."""

    uuid: str
    name: str
    site: str = ""
    version: str = ""


def open_fleet(url: str, *, writing: bool = True) -> Engine:
    """An engine whose connections are not kept, with the fleet's limits of time; nothing is connected yet."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "postgresql":
        raise StoreError(f"{shown(parsed)} is no PostgreSQL database: the fleet store is one")
    options = {key: value for key, value in POSTGRES.items() if key not in parsed.query}
    try:
        engine = create_engine(parsed.set(drivername="postgresql+psycopg"), poolclass=NullPool, connect_args=options)
    except ImportError as error:
        raise StoreError(f"{shown(parsed)}: {error.name} is not installed; pip install 'qxfleet[postgres]'") from error

    def connected(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET statement_timeout = {STATEMENT_MS}; SET lock_timeout = {LOCK_MS}; "
                f"SET idle_in_transaction_session_timeout = {STATEMENT_MS}"
            )
        connection.commit()
        connection.read_only = not writing

    event.listen(engine, "connect", connected)
    return engine


class Line:
    """An engine for one connection at a time, which another thread can cut off where the server never answers."""

    def __init__(self, url: str, *, writing: bool = True) -> None:
        self.engine = open_fleet(url, writing=writing)
        self._driver: Any = None
        event.listen(self.engine, "do_connect", self._connects)

    def hang_up(self) -> None:
        """Shut the connection's socket: whoever waits for an answer on it gets an error at once."""
        driver = self._driver
        if driver is None or driver.closed:
            return
        with suppress(OSError), socket.socket(fileno=os.dup(driver.pgconn.socket)) as line:
            line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the server."""
        self._driver = None
        self.engine.dispose()

    def _connects(self, dialect: Any, _record: object, arguments: Any, options: Any) -> Any:
        self._driver = dialect.connect(*arguments, **options)
        return self._driver


@contextmanager
def bounded(url: str, within_s: float, *, writing: bool) -> Iterator[Connection]:
    """A connection for at most ``within_s``, whatever the server does. :class:`StoreError`: it is away, or hangs."""
    line = Line(url, writing=writing)
    hung = threading.Event()

    def give_up() -> None:
        hung.set()
        line.hang_up()

    timer = threading.Timer(within_s, give_up)
    timer.start()
    try:
        with explained(line.engine), line.engine.connect() as connection:
            yield connection
    except StoreError as error:
        if hung.is_set():
            raise StoreError(f"the fleet store did not answer within {within_s:.0f} s") from error
        raise
    finally:
        timer.cancel()
        line.close()
        timer.join()


def ready(connection: Connection) -> str | None:
    """Make a fleet store ready for an agent: an empty one, or one that only one agent ever wrote to, is set up.

    A sentence where something was done. A schema of the version after this one is worked with. :class:`StoreError`: any other,
    because to upgrade what many agents use is an operator's decision.
    """
    found = standing(connection)
    if found.standing is Standing.CURRENT or found.revision == _next(FLEET_SCHEMA):
        return None
    if found.standing is Standing.EMPTY or (found.standing is Standing.OLDER and str(found.revision).isdecimal()):
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        upgrade_on(connection)
        if found.standing is Standing.EMPTY:
            return f"the fleet store was empty: it has schema {FLEET_SCHEMA} now"
        return f"the database of schema {found.revision} is the fleet store now, schema {FLEET_SCHEMA}; its rows are kept"
    if found.standing is Standing.OLDER:
        raise StoreError(
            f"the fleet store has schema {found.revision}, this qxfleet needs {FLEET_SCHEMA}: run qxfleet fleet upgrade"
        )
    refuse_unknown(found, shown(connection.engine.url))
    return None


def _next(revision: str) -> str:
    return f"fleet_{int(revision.rpartition('_')[2]) + 1:04}"


# Who


def conflict(connection: Connection, who: AgentIdentity, upses: Collection[str]) -> str | None:
    """Why the fleet store would refuse this agent, None if it would not."""
    named = connection.execute(
        text("SELECT uuid, site, seen FROM agent WHERE name = :name AND uuid <> :uuid"), {"name": who.name, "uuid": who.uuid}
    ).first()
    if named is not None:
        return (
            f"another agent is named {who.name} in the fleet store{_at(named.site)}, last seen {_time(named.seen)}: give this "
            f"one another [agent] name, or, if the other is gone for good, run qxfleet fleet forget {who.name}"
        )
    taken = connection.execute(
        text(
            "SELECT d.name, a.name AS agent, a.site, a.seen FROM device d JOIN agent a ON a.id = d.agent_id "
            "WHERE d.name = ANY(:upses) AND a.uuid <> :uuid ORDER BY d.name"
        ),
        {"upses": list(upses), "uuid": who.uuid},
    ).all()
    if not taken:
        return None
    first = taken[0]
    more = f" (and {len(taken) - 1} more names)" if len(taken) > 1 else ""
    return (
        f"UPS {first.name}{more} belongs to agent {first.agent} in the fleet store{_at(first.site)}, last seen "
        f"{_time(first.seen)}: rename it here or remove it there, or, if that agent is gone for good, run "
        f"qxfleet fleet forget {first.agent}"
    )


def _at(site: str) -> str:
    return f" (site {site})" if site else ""


def _time(moment: Any) -> str:
    return iso(round(moment.timestamp() * 1_000_000))


def register(connection: Connection, who: AgentIdentity, upses: Collection[str], *, seeded: bool = True) -> int:
    """Enter an agent and its UPSes; its number. Raises :class:`Refused`.

    The first agent of a fleet store adopts the rows that nobody's name stands on. ``seeded``: its state began with a copy of
    them, under the same ids; else they get keys below zero, which no state ever gives.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _REGISTER})
    sentence = conflict(connection, who, upses)
    if sentence is not None:
        raise Refused(sentence)
    first = connection.scalar(text("SELECT NOT EXISTS (SELECT FROM agent)"))
    number = int(
        connection.execute(
            text(
                "INSERT INTO agent (uuid, name, site, version, registered, seen) "
                "VALUES (:uuid, :name, :site, :version, clock_timestamp(), clock_timestamp()) ON CONFLICT (uuid) DO UPDATE "
                "SET name = excluded.name, site = excluded.site, version = excluded.version, seen = excluded.seen RETURNING id"
            ),
            {"uuid": who.uuid, "name": who.name, "site": who.site, "version": who.version},
        ).scalar_one()
    )
    if first:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        for name in SERIAL:
            row = "id" if seeded else f"id - (SELECT max(id) + 1 FROM {name})"
            adopt = text(f'UPDATE {name} SET agent_id = :agent, "row" = {row} WHERE agent_id IS NULL')
            connection.execute(adopt, {"agent": number})
    mine = {"agent": number, "upses": sorted(upses)}
    connection.execute(text("UPDATE device SET agent_id = NULL WHERE agent_id = :agent AND name <> ALL(:upses)"), mine)
    connection.execute(
        text(
            "INSERT INTO device (name, created, agent_id) SELECT n, clock_timestamp(), :agent "
            "FROM unnest(CAST(:upses AS text[])) n ON CONFLICT (name) DO UPDATE SET agent_id = excluded.agent_id "
            "WHERE device.agent_id IS DISTINCT FROM excluded.agent_id"
        ),
        mine,
    )
    return number


def forget_agent(connection: Connection, name: str, force: bool = False) -> str:
    """Free the name and the UPSes of an agent that is gone for good; its history stays. What was done, as a sentence."""
    found = connection.execute(
        text(
            "SELECT id, seen, clock_timestamp() - seen < interval '5 minutes' AS alive FROM agent WHERE name = :name FOR UPDATE"
        ),
        {"name": name},
    ).first()
    if found is None:
        raise StoreError(f"no agent is named {name} in the fleet store")
    if found.alive and not force:
        raise StoreError(f"agent {name} was in touch at {_time(found.seen)}: it is not gone; stop it first")
    upses = connection.execute(text("UPDATE device SET agent_id = NULL WHERE agent_id = :id"), {"id": found.id}).rowcount
    connection.execute(
        text("UPDATE agent SET name = name || ' (forgotten ' || to_char(clock_timestamp() AT TIME ZONE 'UTC', "
             "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') || ')' WHERE id = :id"),
        {"id": found.id},
    )  # fmt: skip
    return f"{name} is forgotten: its name and its {upses} UPSes are free, its history stays"


# What is there

_MARK: Final = text(
    "WITH marked AS (INSERT INTO shipped (agent_id, stream, first, last) VALUES (:agent, :stream, :first, :last) "
    "ON CONFLICT (agent_id, stream, first) DO UPDATE SET last = excluded.last), "
    "noted AS (INSERT INTO meta (key, value) SELECT :key, CAST(:value AS text) WHERE CAST(:value AS text) IS NOT NULL "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value) "
    f"SELECT pg_notify('{CHANNEL}', CAST(CAST(:agent AS int) AS text))"
)
"""One exchange for both: a batch is small, and a server far away."""


def shipped(connection: Connection, agent: int, stream: str) -> list[tuple[int, int]]:
    """What of a stream is there, as intervals in order."""
    rows = connection.execute(
        text("SELECT first, last FROM shipped WHERE agent_id = :agent AND stream = :stream ORDER BY first"),
        {"agent": agent, "stream": stream},
    )
    return [(first, last) for first, last in rows]


def mark(
    connection: Connection, agent: int, stream: str, done: Sequence[tuple[int, int]], first: int, last: int,
    put_down_us: int | None,
) -> list[tuple[int, int]]:  # fmt: skip
    """Note in the transaction of its rows that ``first`` to ``last`` of a stream are there, and wake whoever follows.

    The intervals then. ``put_down_us`` is when the entry ``last`` was put down, for :func:`last_shipped`.
    """
    joined = [each for each in done if each[0] <= last + 1 and each[1] >= first - 1]
    begin, end = min([first, *(each[0] for each in joined)]), max([last, *(each[1] for each in joined)])
    others = [each[0] for each in joined if each[0] != begin]
    here = {"agent": agent, "stream": stream}
    if others:
        gone = text("DELETE FROM shipped WHERE agent_id = :agent AND stream = :stream AND first = ANY(:others)")
        connection.execute(gone, {**here, "others": others})
    noted = f"{last} {put_down_us}" if end == last and put_down_us is not None else None
    connection.execute(_MARK, {**here, "first": begin, "last": end, "key": _last_key(agent, stream), "value": noted})
    return sorted([*(each for each in done if each not in joined), (begin, end)])


def _last_key(agent: int, stream: str) -> str:
    return f"shipped.{agent}.{stream}"


def last_shipped(connection: Connection, agent: int, stream: str) -> tuple[int, int] | None:
    """The last number of a stream that is there, and when that entry was put down; None: nothing yet."""
    found = connection.scalar(text("SELECT value FROM meta WHERE key = :key"), {"key": _last_key(agent, stream)})
    if found is None:
        return None
    last, at_us = str(found).split()
    return int(last), int(at_us)


def set_aside(connection: Connection, agent: int, state: sqlite3.Connection) -> int:
    """Make room for a state that is an older copy of what was shipped: it gives numbers that are taken. How many rows that was.

    Rows that the copy does not have, or has as another one, get numbers below zero, which no state gives; they stay in the
    history. The marks go, so that the whole outbox is shipped again: what is there already is written over by itself.
    """
    count = 0
    for name in SERIAL:
        table = metadata.tables[name]
        label = next((each.name for each in table.columns if isinstance(each.type, Microseconds) and not each.nullable), "name")
        told = f"(extract(epoch FROM {label}) * 1000000)::bigint" if label != "name" else label
        below = 1 << 62
        while True:  # from the newest on, until the first that both have
            found = connection.execute(
                text(
                    f'SELECT "row", {told} AS told FROM {name} WHERE agent_id = :agent AND "row" BETWEEN 1 AND :below '
                    'ORDER BY "row" DESC LIMIT 1000'
                ),
                {"agent": agent, "below": below - 1},
            ).all()
            same = None
            for row, label_there in found:
                here = state.execute(f"SELECT {label} FROM {name} WHERE id = ?", [row]).fetchone()
                if here is not None and here[0] == label_there:
                    same = row
                    break
                below = row
            if same is not None or not found:
                break
        if below < 1 << 62:
            aside = text(
                f'UPDATE {name} SET "row" = (SELECT least(min("row"), 0) FROM {name} WHERE agent_id = :agent) - "row" '
                'WHERE agent_id = :agent AND "row" >= :below'
            )
            count += connection.execute(aside, {"agent": agent, "below": below}).rowcount
    connection.execute(text("DELETE FROM shipped WHERE agent_id = :agent"), {"agent": agent})
    connection.execute(
        text("DELETE FROM meta WHERE key = ANY(:keys)"), {"keys": [_last_key(agent, stream) for stream in (RECORDS, READINGS)]}
    )
    return count


def require_current(connection: Connection) -> None:
    """Raise :class:`StoreError` unless the fleet store has this version's schema."""
    found = standing(connection)
    if found.standing is not Standing.CURRENT:
        where = shown(connection.engine.url)
        raise StoreError(f"the fleet store {where} has schema {found.revision or 'none'}, this qxfleet works with {found.ours}")


def seen(connection: Connection, agent: int, armed: bool | None) -> None:
    """Note that an agent is in touch."""
    connection.execute(
        text("UPDATE agent SET seen = clock_timestamp(), armed = :armed WHERE id = :agent"), {"agent": agent, "armed": armed}
    )
