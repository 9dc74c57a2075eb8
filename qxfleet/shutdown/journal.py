"""What a run writes down before it acts and after: in order, and waited for as long as it is worth."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from qxfleet.model.clock import Clock
from qxfleet.model.loads import Plan
from qxfleet.shutdown.model import Act, Answer, End, Ordered, Result, Taken
from qxfleet.shutdown.model import Record as RunRecord
from qxfleet.shutdown.record import Scale, ordered_json, plan_json, step_row
from qxfleet.store import shutdown as stored
from qxfleet.store.records import Record
from qxfleet.store.side import Side
from qxfleet.store.store import Store
from qxfleet.store.tables import metadata
from qxfleet.store.transactions import Batch, Job

log = logging.getLogger(__name__)

LONGEST_RUN = 1_000_000
"""Records of one run at most."""

RECORD_S = 0.5
"""A step that neither the state nor the side file has taken for so long goes on with its record in memory: loads that crash for
want of a record are worse."""


class Journal:
    """Writes to the store. Every method returns when the record is kept, or after :data:`RECORD_S`: then it follows on its own.

    ``unrecorded`` is told, once per trouble, that a step goes on without.
    """

    def __init__(
        self, store: Store, clock: Clock, unrecorded: Callable[[str], None] = log.error, copy: Path | None = None
    ) -> None:
        self._store = store
        self._copy = None if copy is None else Side(copy)
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="shutdown-copy")
        self._clock = clock
        self._unrecorded = unrecorded
        self._in_memory = False
        self._late: set[asyncio.Future[Any]] = set()

    async def begin(self, armed: bool, actor: str, plan: Plan, ordered: Ordered | None) -> int:
        """A run begins; its number."""
        run_id = self._store.new_key("shutdown_run")
        await self._write(
            stored.begin_run(run_id, armed, actor, plan_json(plan), ordered_json(ordered), self._clock.wall_us())
        )
        return run_id

    async def go_on(
        self, run_id: int, plan: Plan, ends: Sequence[tuple[Taken, End]], begun: Sequence[Taken], *, armed: bool
    ) -> None:
        """Ends of steps, and the intents of the next."""
        scale = Scale.of(self._clock)
        ended = [_ended(taken, end, scale, teaches=armed and _seen_to_end(taken, end, plan)) for taken, end in ends]
        rows = [step_row(taken, scale) for taken in begun]
        await self._write(stored.go_on(run_id, ended, rows))

    async def answer(self, run_id: int, number: int, answer: Answer, text: str) -> None:
        """What came of an act."""
        await self._write(stored.answer(run_id, number, answer.value, self._clock.wall_us(), text))

    async def wish(self, run_id: int, ordered: Ordered | None, cancelled: bool) -> None:
        """What an operator wants."""
        await self._write(stored.wish(run_id, ordered_json(ordered), cancelled))

    async def end(self, run_id: int, outcome: str, text: str) -> None:
        """A run is over."""
        await self._write(stored.end_run(run_id, outcome, text, self._clock.wall_us()))

    async def arm(self, armed: bool, actor: str, reason: str) -> tuple[stored.Arming, bool]:
        """The plan is armed or disarmed; and whether the record of it was kept in time. No step of a run: nobody is told here."""
        entry = stored.Arming(self._clock.wall_us(), armed, actor, reason)
        return entry, await self._kept(stored.arm(entry))

    async def left(self) -> stored.StoredRun | None:
        """The run that an earlier agent left, by its copy, for a state that was lost or can't be read; None: there is none."""
        return await asyncio.get_running_loop().run_in_executor(self._copier, self._left)

    def _left(self) -> stored.StoredRun | None:
        if self._copy is None:
            return None
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        try:
            self._copy.find()
            lines, _ = self._copy.lines(LONGEST_RUN)
            metadata.create_all(engine)
            with engine.begin() as connection:
                for job in Batch.of_lines(lines).jobs:
                    job.write(connection)
                return stored.open_run(connection)
        except (OSError, SQLAlchemyError) as error:
            log.error("the copy of the run that was under way can't be read: %s", error)
            return None
        finally:
            engine.dispose()

    def close(self) -> None:
        """Let go of the copy and its thread, once what was handed to it is written, and without waiting for its disk."""
        if self._copy is not None:
            self._copier.submit(self._copy.close)
        self._copier.shutdown(wait=False)

    def _copy_down(self, write: Record) -> None:
        if self._copy is None:
            return
        try:
            if write.name == "end_run":
                lines, end = self._copy.lines(LONGEST_RUN)
                self._copy.joined(end, len(lines))
            elif write.name != "arm":
                self._copy.append(Batch(jobs=[Job((), write)]).lines())
        except OSError as error:
            log.warning("the copy of the run under way can't be written: %s", error)

    async def rewrite(self, run_id: int, actor: str, plan: Plan, record: RunRecord) -> None:
        """A run under way, as far as it has come, into a state that has none of it."""
        scale = Scale.of(self._clock)
        ordered = ordered_json(record.ordered)
        await self._write(stored.begin_run(run_id, record.armed, actor, plan_json(plan), ordered, self._clock.wall_us()))
        await self._write(stored.wish(run_id, ordered, record.cancelled))
        await self._write(stored.go_on(run_id, [], [step_row(taken, scale) for taken in record.taken]))
        for taken in record.taken:
            if taken.answer is not None and taken.answered_s is not None:
                await self._write(
                    stored.answer(run_id, taken.number, taken.answer.value, scale.wall_us(taken.answered_s), taken.text)
                )
        ended = [
            stored.Ended(taken.number, taken.result.value, scale.wall_us(taken.ended_s), None, taken.text)
            for taken in record.taken
            if taken.result is not None and taken.ended_s is not None
        ]
        await self._write(stored.go_on(run_id, ended, []))

    async def _write(self, write: Record) -> None:
        if await self._kept(write):
            self._in_memory = False
        elif not self._in_memory:
            self._in_memory = True
            self._unrecorded("neither the state nor the side file took a step of the shutdown within "
                             f"{RECORD_S:g} s: the shutdown goes on with its record in memory")  # fmt: skip

    async def _kept(self, write: Record) -> bool:
        self._copier.submit(self._copy_down, write)
        writing = asyncio.ensure_future(self._store.commit(write))
        self._late.add(writing)
        writing.add_done_callback(self._written)
        await asyncio.wait({writing}, timeout=self._store.patience_s(RECORD_S))
        return writing.done()

    def _written(self, writing: asyncio.Future[Any]) -> None:
        self._late.discard(writing)
        if not writing.cancelled() and isinstance(error := writing.exception(), Exception):
            log.error("a step of the shutdown was not stored: %s", error)


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
