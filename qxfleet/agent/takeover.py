"""What an agent wrote into PostgreSQL before it had a state of its own comes into that state, at its first start."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text

from qxfleet.errors import StoreError
from qxfleet.model.events import Event, EventKind, Severity
from qxfleet.store import adopt
from qxfleet.store.fleet import bounded

if TYPE_CHECKING:
    from qxfleet.config.stores import FleetSettings
    from qxfleet.store.store import Store

EVENT: Final = "fleet-store"
"""The name of every event about the fleet store."""

ADOPT_S: Final = 3.0
"""How long the first start waits for the server: no UPS is asked before."""

STATE_S: Final = 1.0
"""And for the state, which may be locked by another program."""


def own_uuid(connection: Connection) -> str:
    """The state's agent, as the fleet store knows it; made where there was none. A write, for :meth:`Store.commit`."""
    new = text("INSERT OR IGNORE INTO meta (key, value) VALUES ('agent.uuid', :uuid)")
    connection.execute(new, {"uuid": str(uuid.uuid4())})
    return str(connection.scalar(text("SELECT value FROM meta WHERE key = 'agent.uuid'")))


async def take_over(store: Store, fleet: FleetSettings | None) -> Notice | None:
    """Before anything is written into a new state: take into it what its agent wrote into PostgreSQL before it had one, once.

    Where the server is away now, the agent goes on without, and what that means is to be told.
    """
    if fleet is None:
        return None
    try:
        async with asyncio.timeout(STATE_S):
            if await store.read(adopt.seeded) is not None:
                return None
            who = await store.commit(own_uuid)
            empty = await store.read(adopt.empty)
    except (StoreError, TimeoutError):
        return None  # the state is in trouble, which is told by itself: another start asks again
    try:
        taken = await asyncio.get_running_loop().run_in_executor(None, _taken, fleet.database, who, empty)
    except StoreError as error:
        return Notice(
            "not-adopted",
            "the fleet's database can't be read at the first start with this state. If this agent wrote to it before, what it "
            "knew there (arming or disarming by an operator, tests, batteries, maintenance) is missing until its next start; "
            f"`qxfleet shutdown status` says whether the plan is armed. {error}",
            Severity.CRITICAL,
        )
    try:
        async with asyncio.timeout(STATE_S):
            sentence = await store.commit(lambda connection: adopt.put(connection, taken))
        store.learn_keys()
    except (StoreError, TimeoutError):
        return None
    return None if sentence is None else Notice("adopted", sentence, Severity.NOTICE)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the fleet store to be told as an event."""

    value: str
    text: str
    severity: Severity

    def event(self, wall_us: int) -> Event:
        """The event."""
        return Event(wall_us, None, EventKind.AGENT, EVENT, self.value, self.text, self.severity)


def _taken(url: str, who: str, empty: bool) -> adopt.Taken | None:
    with bounded(url, ADOPT_S, writing=True) as connection, connection.begin():
        return adopt.take(connection, who, empty=empty)
