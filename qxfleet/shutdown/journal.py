"""What a run writes down before it acts and after: in order, and waited for as long as it is worth."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.loads import Plan
from qxfleet.shutdown.model import Act, Answer, End, Ordered, Result, Taken
from qxfleet.shutdown.record import Scale, ordered_json, plan_json, step_row
from qxfleet.store import shutdown as stored
from qxfleet.store.store import Store

log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""A database that has not taken a record after this long is not waited for: loads that crash for want of a record are worse."""

TROUBLED_PATIENCE_S = 0.2
"""The same where the database is known to be in trouble."""


@dataclass(slots=True)
class Key:
    """The number of a run; None while the database has not given it one. Writes behind it are carried out behind it."""

    id: int | None = None


class Journal:
    """Writes to the store. Every method returns after the commit, or when patience ends: then the write follows on its own."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._late: set[asyncio.Future[Any]] = set()

    async def begin(self, armed: bool, actor: str, plan: Plan, ordered: Ordered | None) -> Key:
        """A run begins."""
        key = Key()
        row = stored.begin_run(armed, actor, plan_json(plan), ordered_json(ordered), self._clock.wall_us())

        def write(connection: Connection) -> None:
            key.id = row(connection)

        await self._write(write)
        return key

    async def go_on(
        self, key: Key, plan: Plan, ends: Sequence[tuple[Taken, End]], begun: Sequence[Taken], *, armed: bool
    ) -> None:
        """Ends of steps, and the intents of the next."""
        scale = Scale.of(self._clock)
        ended = [_ended(taken, end, scale, teaches=armed and _seen_to_end(taken, end, plan)) for taken, end in ends]
        rows = [step_row(taken, scale) for taken in begun]
        await self._write(lambda connection: stored.go_on(_known(key), ended, rows)(connection))

    async def answer(self, key: Key, number: int, answer: Answer, text: str) -> None:
        """What came of an act."""
        now_us = self._clock.wall_us()
        await self._write(lambda connection: stored.answer(_known(key), number, answer.value, now_us, text)(connection))

    async def wish(self, key: Key, ordered: Ordered | None, cancelled: bool) -> None:
        """What an operator wants."""
        wanted = ordered_json(ordered)
        await self._write(lambda connection: stored.wish(_known(key), wanted, cancelled)(connection))

    async def end(self, key: Key, outcome: str, text: str) -> None:
        """A run is over."""
        now_us = self._clock.wall_us()
        await self._write(lambda connection: stored.end_run(_known(key), outcome, text, now_us)(connection))

    async def arm(self, armed: bool, actor: str, reason: str) -> stored.Arming:
        """The plan is armed or disarmed."""
        entry = stored.Arming(self._clock.wall_us(), armed, actor, reason)
        await self._write(stored.arm(entry))
        return entry

    async def _write(self, write: stored.Write) -> None:
        writing = asyncio.ensure_future(self._store.commit(write))
        patience_s = PATIENCE_S if self._store.health().error is None else TROUBLED_PATIENCE_S
        await asyncio.wait({writing}, timeout=patience_s)
        if not writing.done():
            log.error("the database has not stored a step of the shutdown yet; the shutdown goes on")
        self._late.add(writing)
        writing.add_done_callback(self._written)

    def _written(self, writing: asyncio.Future[Any]) -> None:
        self._late.discard(writing)
        if not writing.cancelled() and isinstance(error := writing.exception(), Exception):
            log.error("a step of the shutdown was not stored: %s", error)


def _known(key: Key) -> int:
    if key.id is None:
        raise StoreError("the run that this belongs to was not stored")
    return key.id


def _ended(taken: Taken, end: End, scale: Scale, *, teaches: bool) -> stored.Ended:
    took_s = max(0.0, scale.now_s - taken.begun_s) if teaches else None
    return stored.Ended(end.number, end.result.value, scale.now_us, took_s, end.text or taken.text)


def _seen_to_end(taken: Taken, end: End, plan: Plan) -> bool:
    """Whether the effect was seen and not only waited for, so that its time teaches something."""
    load = plan.named.get(taken.step.target)
    watched = load is not None and load.down_when is not None
    return watched and end.result is Result.DONE and taken.step.act in (Act.STOP, Act.START) and taken.answer is Answer.ACCEPTED


def interrupted(taken: Iterable[Taken]) -> list[int]:
    """Numbers of the steps that an earlier agent began and did not live to see answered."""
    return [each.number for each in taken if each.answer is Answer.INTERRUPTED and each.result is None]
