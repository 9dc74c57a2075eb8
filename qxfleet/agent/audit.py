"""Writing down who did what, from where, with what outcome.

Orders to a device need nothing of this: :meth:`Fleet.perform` and :meth:`Fleet.set` keep their own log. Everything else that
people or programs do, or are refused, goes through :func:`record`. ``qxfleet audit`` shows both as one list.

An *actor* is one text, ``face:who@where``: ``cli:root(uid 0)``, ``http:operator@192.0.2.7``, ``nut:upsmon@::1``,
``schedule:weekly-quick``. Without ``@`` it is on this machine.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import TYPE_CHECKING

from qxfleet.errors import StoreError
from qxfleet.store.audit import insert_act

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.store.store import Store

log = logging.getLogger(__name__)

RECORD_S = 5.0
"""A database that takes nothing for this long is not waited for; the log line stands alone then."""


class Act(enum.Enum):
    """The drawer an entry belongs in; those of orders are ``command`` and ``setting``."""

    COMMAND = "command"
    SETTING = "setting"
    LOGIN = "login"
    TOKEN = "token"
    TEST = "test"
    ARM = "arm"
    SHUTDOWN = "shutdown"
    MAINTENANCE = "maintenance"
    BATTERY = "battery"
    CONFIGURATION = "configuration"


ACCEPTED, REJECTED, FORBIDDEN = "accepted", "rejected", "forbidden"
"""Usual outcomes: done; asked for and not done; not allowed to whoever asked."""


def actor(face: str, who: str, where: str = "") -> str:
    """The one text for somebody: ``actor("http", "operator", "192.0.2.7")``."""
    return f"{face}:{who}@{where}" if where else f"{face}:{who}"


async def record(
    agent: Agent, actor: str, act: Act, target: str, name: str, outcome: str, *, value: str | None = None, text: str = ""
) -> bool:
    """Write one act down; whether it is committed. Never raises for a database that is away: then the log has it alone.

    ``target`` is what it was done to (a UPS, a plan, a user), ``name`` what (``login``, ``arm``, ``test.battery.start``),
    ``outcome`` one word (:data:`ACCEPTED`, :data:`REJECTED`, :data:`FORBIDDEN`, or an order's). Secrets never go in.
    """
    return await agent.record(actor, act, target, name, outcome, value=value, text=text)


async def write_down(
    store: Store, at_us: int, actor: str, act: Act, target: str, name: str, outcome: str, value: str | None, text: str
) -> bool:
    """:func:`record` where the store is."""
    level = logging.INFO if outcome == ACCEPTED else logging.WARNING
    log.log(level, "%s: %s %s %s%s", outcome, actor, name, target, f": {text}" if text else "")
    writing = asyncio.ensure_future(store.commit(insert_act(at_us, actor, act.value, target, name, value, outcome, text)))
    done, _ = await asyncio.wait({writing}, timeout=RECORD_S)
    if not done:
        log.error("the database took no record of that within %g s; it is written when it can", RECORD_S)
        writing.add_done_callback(_late)
        return False
    error = writing.exception()
    if error is None:
        return True
    if not isinstance(error, StoreError):
        raise error
    log.error("no record of that was stored: %s", error)
    return False


def _late(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled() and (error := writing.exception()) is not None:
        log.error("no record of an act was stored: %s", error)
