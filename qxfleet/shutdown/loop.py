"""The loop of a run: see, decide, write down, act. The agent's shutdown and every rehearsal go through this one.

Deciding is :func:`~qxfleet.shutdown.plan.next_steps`; this file keeps the order: an intent is committed before its act, an answer
before anything is concluded from it. What is seen, how an act is done and where records go is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.model.loads import Plan
from qxfleet.shutdown import telling
from qxfleet.shutdown.model import ACTOR, Act, Answer, Decision, End, Ordered, Record, Result, Taken, World
from qxfleet.shutdown.plan import next_steps


class Journal(Protocol):
    """Where a run is written down. Each method returns when its record is kept, or is as good as kept."""

    async def begin(self, armed: bool, actor: str, plan: Plan, ordered: Ordered | None) -> int:
        """A run begins; its number."""

    async def go_on(
        self, run_id: int, plan: Plan, ends: Sequence[tuple[Taken, End]], begun: Sequence[Taken], *, armed: bool
    ) -> None:
        """Ends of steps, and the intents of the next."""

    async def answer(self, run_id: int, number: int, answer: Answer, text: str) -> None:
        """What came of an act."""

    async def wish(self, run_id: int, ordered: Ordered | None, cancelled: bool) -> None:
        """What an operator wants."""

    async def end(self, run_id: int, outcome: str, text: str) -> None:
        """A run is over."""


class Hands(Protocol):
    """What a loop sees with and acts with."""

    @property
    def world(self) -> World:
        """All that is seen now."""

    def act(self, taken: Taken) -> None:
        """Begin a step; what comes of it is handed to :meth:`Loop.answer`."""

    def hold(self, plan: Plan, forced: Mapping[str, frozenset[str]]) -> None:
        """Tell the NUT clients of these loads, and no others, to shut down."""

    def tell(self, event: Event) -> None:
        """Say what happens to whoever listens."""

    async def next_plan(self) -> Plan:
        """The plan that the next run is to follow."""


class Loop:
    """A plan, the run of it that is under way, and what was decided last.

    ``record``'s ``armed`` is the run's, the plan's between runs. ``run_id``: its number; None without one.
    """

    def __init__(self, plan: Plan, clock: Clock, journal: Journal, hands: Hands) -> None:
        self.plan = plan
        self.record = Record(plan.armed)
        self.decision = Decision()
        self.run_id: int | None = None
        self._clock, self._journal, self._hands = clock, journal, hands

    async def turn(self) -> None:
        """One look: see, decide, write down, act."""
        now_s = self._clock.monotonic()
        decision = self.decision = next_steps(self.plan, self.record, self._hands.world, now_s)
        self.record = replace(self.record, memory=decision.memory)
        if decision.begin and self.run_id is None:
            await self._begin(ACTOR, decision.begin[0].why)
        begun = await self._write_down(decision, now_s)
        if decision.finished is not None and self.run_id is not None:
            await self.finish("finished", decision.finished)
        if self.record.armed:
            self._hands.hold(self.plan, decision.forced)
        for taken in begun:
            self._hands.act(taken)

    async def _write_down(self, decision: Decision, now_s: float) -> list[Taken]:
        """Commit ends and intents; the steps to be taken now."""
        if self.run_id is None or not (decision.begin or decision.end):
            return []
        first, armed = len(self.record.taken) + 1, self.record.armed
        begun = [Taken(number, step, now_s) for number, step in enumerate(decision.begin, first)]
        taken = {each.number: each for each in self.record.taken}
        ends = [(taken[end.number], end) for end in decision.end]
        await self._journal.go_on(self.run_id, self.plan, ends, begun, armed=armed)
        for each, end in ends:
            self.record = self.record.ended(end, now_s)
            again = end.result is Result.FAILED and (
                (each.step.act is Act.STOP and decision.loads.get(each.step.target) in telling.GOING)
                or (each.step.act is Act.CUT and each.step.target in decision.to_cut)
            )  # fmt: skip
            self._hands.tell(telling.ended(each, end, self._clock.wall_us(), armed=armed, again=again))
        for step in decision.begin:
            self.record = self.record.begun(step, now_s)
            self._hands.tell(telling.begun(step, self._clock.wall_us(), armed=armed))
        return begun

    async def answer(self, run_id: int | None, number: int, answer: Answer, text: str) -> None:
        """What came of an act of a run, which may be over by now."""
        if run_id is None or run_id != self.run_id:
            return
        await self._journal.answer(run_id, number, answer, text)
        step = self.record.taken[number - 1].step
        self.record = self.record.answered(number, answer, self._clock.monotonic(), text)
        self._hands.tell(telling.answered(step, answer, text, self._clock.wall_us()))

    async def order(self, wish: Ordered) -> None:
        """Take an operator's order, which begins a run where none is under way."""
        self.record = replace(self.record, ordered=wish, cancelled=False)
        if self.run_id is None:
            await self._begin(wish.actor)
        else:
            await self._journal.wish(self.run_id, wish, False)

    async def cancel(self) -> None:
        """Stop nothing more in the run under way, and bring back what was stopped."""
        assert self.run_id is not None
        ordered = self.record.ordered and replace(self.record.ordered, released=True)
        self.record = replace(self.record, ordered=ordered, cancelled=True)
        await self._journal.wish(self.run_id, ordered, True)

    async def _begin(self, actor: str, why: str = "") -> None:
        self.run_id = await self._journal.begin(self.record.armed, actor, self.plan, self.record.ordered)
        armed = "" if self.record.armed else "; it is not armed and touches nothing"
        self._tell("begin", f"a shutdown begins, by {actor}{': ' if why else ''}{why}{armed}",
                   Severity.CRITICAL if self.record.armed else Severity.WARNING, Phase.BEGIN)  # fmt: skip

    async def finish(self, outcome: str, text: str) -> None:
        """End the run under way."""
        assert self.run_id is not None
        await self._journal.end(self.run_id, outcome, text)
        self._tell("end", f"the shutdown is over: {text}", Severity.NOTICE, Phase.END)
        self._hands.hold(self.plan, {})
        self.run_id = None
        memory = self.record.memory if outcome == "finished" else Record().memory
        self.plan = await self._hands.next_plan()
        self.record = Record(self.plan.armed, memory=memory)

    def _tell(self, value: str, text: str, severity: Severity, phase: Phase) -> None:
        self._hands.tell(Event(self._clock.wall_us(), None, EventKind.SHUTDOWN, "shutdown-run", value, text, severity, phase))
