"""An imagined room: batteries that drain by what is really on, loads that take their time, UPSes that cut and return.

Nothing here decides anything: it only lets the loop of :mod:`~qxfleet.shutdown.loop` see a world, and does what it is told.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qxfleet.model.clock import Clock
from qxfleet.model.electrical import runtime_at
from qxfleet.model.events import Event
from qxfleet.model.loads import Load, Plan
from qxfleet.shutdown.durations import expected_s
from qxfleet.shutdown.loop import Loop
from qxfleet.shutdown.model import (
    Act,
    Answer,
    Decision,
    End,
    LoadSeen,
    Mains,
    Memory,
    Ordered,
    Record,
    Step,
    Taken,
    UpsSeen,
    World,
)  # fmt: skip

IDLE_SHARE = 0.1
"""Of what a UPS carries when all its loads are on: what is left when all are off."""

LOW_CHARGE = 0.1
"""The share of its energy at which a UPS says that its battery is low."""

RECHARGE_S = 4 * 3600.0
"""From empty to full, as a rule."""


@dataclass(slots=True)
class Ups:
    """``runtime_s``: what its full battery lasts at ``full_w``; ``rated_w``: what it may carry; ``surely``: the share of the
    runtime that is sure; ``told``: whether it tells charge and runtime; ``truth``: the share of what it believes to hold that it
    holds."""

    name: str
    runtime_s: float
    full_w: float
    rated_w: float | None = None
    surely: float = 0.8
    told: bool = True
    tells_watts: bool = True
    """Whether the plan learns what it carries."""
    truth: float = 1.0
    recharge_s: float = RECHARGE_S
    idle_w: float | None = None
    """What it carries besides the loads; None: a share of ``full_w``."""
    mains: bool = True
    output: bool = True
    contact: bool = True
    testing: bool = False
    energy: float = 1.0
    off_at_s: float | None = None
    on_at_s: float | None = None
    since_s: float = 0.0
    output_since_s: float | None = 0.0
    contact_since_s: float = 0.0
    deaf: bool = False
    """Takes orders and does nothing."""
    remembered: UpsSeen | None = None
    cuts: list[float] = field(default_factory=list)
    """When its output went off because it was told."""
    died_s: float | None = None

    def drain(self, load_w: float, now_s: float, dt_s: float) -> None:
        """One stretch of time with this much on it."""
        if self.mains:
            self.energy = min(1.0, self.energy + dt_s / self.recharge_s)
        elif self.output:
            self.energy -= dt_s / (self.truth * self.lasts_s(load_w))
            if self.energy <= 0:
                self.energy, self.died_s = 0.0, now_s
                self.switch(False, now_s)
        if self.off_at_s is not None and now_s >= self.off_at_s:
            self.off_at_s = None
            if self.output:
                self.switch(False, now_s)
                self.cuts.append(now_s)
        due = self.died_s is not None or (self.on_at_s is not None and now_s >= self.on_at_s)
        if due and not self.output and self.mains and self.off_at_s is None:
            self.switch(True, now_s)
            self.on_at_s = self.died_s = None

    def lasts_s(self, load_w: float) -> float:
        """How long its full battery lasts with this much on it, as it believes."""
        return runtime_at(self.runtime_s, load_w / self.full_w)

    def switch(self, on: bool, now_s: float) -> None:
        """Output on or off."""
        self.output = on
        self.output_since_s = now_s if on else None

    def seen(self, load_w: float, now_s: float) -> UpsSeen:
        """What it looks like from outside."""
        if not self.contact:
            seen = self.remembered or UpsSeen(contact=False)
            return UpsSeen(seen.mains, seen.since_s, seen.seen_s, False, None, seen.counting_down, seen.low_battery, seen.charge,
                           seen.runtime_s, seen.runtime_low_s, seen.load_percent, seen.load_w, seen.rated_w)  # fmt: skip
        left_s = self.energy * self.lasts_s(load_w)
        since_s = None if self.output_since_s is None else max(self.output_since_s, self.contact_since_s)
        self.remembered = UpsSeen(
            mains=Mains.ON if self.mains else Mains.OFF, since_s=self.since_s, seen_s=now_s, output_since_s=since_s,
            counting_down=self.off_at_s is not None, low_battery=self.energy <= LOW_CHARGE,
            charge=100 * self.energy if self.told else None, runtime_s=left_s if self.told else None,
            runtime_low_s=left_s * self.surely if self.told else None, load_w=load_w if self.tells_watts else None,
            rated_w=self.rated_w, testing=self.testing,
        )  # fmt: skip
        return self.remembered


@dataclass(slots=True)
class Machine:
    """A load. ``wakes``: starts when its power comes. ``shares``: what of its watts comes from each feed; evenly, where that is
    not known. ``hangs``, ``refuses``: what it does when told to stop; while it boots nobody is there to take the order.

    ``lost_s``: when it lost its power while it ran.
    """

    load: Load
    watts: float
    takes_s: float
    wakes: bool
    boots_s: float = 60.0
    hangs: bool = False
    refuses: bool = False
    up: bool = True
    stopping_until_s: float | None = None
    booting_until_s: float | None = None
    powered: bool = True
    lost_s: float | None = None
    stopped_s: float | None = None
    shares: Mapping[str, float] = field(default_factory=dict)

    def live(self, powered: bool, now_s: float) -> None:
        """One stretch of time with power or without."""
        if not powered:
            if self.up:
                self.lost_s = now_s
            self.up, self.stopping_until_s, self.booting_until_s = False, None, None
        elif not self.powered and self.wakes:
            self.booting_until_s = now_s + self.boots_s
        if self.stopping_until_s is not None and now_s >= self.stopping_until_s:
            self.up, self.stopping_until_s, self.stopped_s = False, None, now_s
        if self.booting_until_s is not None and now_s >= self.booting_until_s:
            self.up, self.booting_until_s = True, None
        self.powered = powered


class Room:
    """UPSes and machines, and the time. ``act`` does what a step says and gives the answer."""

    def __init__(self, plan: Plan, upses: list[Ups], machines: list[Machine]) -> None:
        self.plan = plan
        self.upses = {ups.name: ups for ups in upses}
        self.machines = {machine.load.name: machine for machine in machines}
        self.now_s = 0.0
        self.booted_s = float("-inf")
        """Since when the agent's own host is up."""

    def power_w(self, ups: str) -> float:
        """What a UPS carries: what is on, shared between the feeds that are alive."""
        idle_w = self.upses[ups].idle_w
        watts = self.upses[ups].full_w * IDLE_SHARE if idle_w is None else idle_w
        for load in self.plan.fed.get(ups, ()):
            machine = self.machines[load.name]
            live = sum(self.upses[each].output for each in load.fed_by)
            if live and (machine.up or machine.booting_until_s is not None):
                even_w = machine.watts / len(load.fed_by)
                dead_w = sum(machine.shares.get(each, even_w) for each in load.fed_by if not self.upses[each].output)
                watts += machine.shares.get(ups, even_w) + dead_w / live
        return watts

    def pass_time(self, dt_s: float) -> None:
        """Let time go by."""
        self.now_s += dt_s
        carried = {name: self.power_w(name) for name in self.upses}
        for name, ups in self.upses.items():
            if ups.output or ups.mains:
                ups.drain(carried[name], self.now_s, dt_s)
        for machine in self.machines.values():
            live = sum(self.upses[each].output for each in machine.load.fed_by)
            machine.live(live >= machine.load.needs_feeds, self.now_s)

    def mains(self, ups: str, on: bool) -> None:
        """Mains of one UPS come or go."""
        if self.upses[ups].mains is not on:
            self.upses[ups].mains = on
            self.upses[ups].since_s = self.now_s

    def world(self) -> World:
        """What is seen."""
        return World(
            {name: ups.seen(self.power_w(name), self.now_s) for name, ups in self.upses.items()},
            {name: LoadSeen(each.up) for name, each in self.machines.items() if each.load.down_when is not None},
            self.booted_s,
        )

    def act(self, step: Step) -> Answer:
        """Do it."""
        if step.act in (Act.STOP, Act.START):
            return self._load(step, self.machines[step.target])
        ups = self.upses[step.target]
        if ups.deaf:
            return Answer.ACCEPTED
        if step.act is Act.CUT:
            ups.off_at_s = self.now_s + step.offdelay_s
            ups.on_at_s = None if step.stay_off else ups.off_at_s + step.ondelay_s
        elif step.act is Act.CALL_BACK:
            ups.off_at_s = ups.on_at_s = None
        elif ups.mains:
            ups.switch(True, self.now_s)
        return Answer.ACCEPTED

    def force(self, forced: Mapping[str, frozenset[str]]) -> None:
        """NUT clients that run see what their UPSes show: upsmon stops its host when too few of them are without FSD."""
        for name, upses in forced.items():
            machine = self.machines[name]
            left = sum(ups not in upses for ups in machine.load.fed_by)
            if machine.up and machine.stopping_until_s is None and not machine.hangs and left < machine.load.needs_feeds:
                machine.stopping_until_s = self.now_s + machine.takes_s

    def _load(self, step: Step, machine: Machine) -> Answer:
        if step.act is Act.STOP:
            if machine.refuses or machine.booting_until_s is not None:
                return Answer.FAILED
            if machine.up and not machine.hangs and machine.stopping_until_s is None:
                machine.stopping_until_s = self.now_s + machine.takes_s
        elif machine.powered and not machine.up and machine.booting_until_s is None:
            machine.booting_until_s = self.now_s + machine.boots_s
        return Answer.ACCEPTED


def machine_for(load: Load, watts: float, *, wakes: bool = False) -> Machine:
    """A load as it is expected to behave; one that nothing starts wakes when its power comes."""
    return Machine(load, watts, expected_s(load), wakes=wakes or load.start is None)


class Course:
    """A plan let loose on a room, through the loop that the agent runs: only what is seen, and what acts do, is imagined.

    ``finished``: how each run ended; ``events``: all that was told. Nothing waits for anything here, so one turn is one call.
    """

    def __init__(self, plan: Plan, room: Room, *, armed: bool = True) -> None:
        self.plan = plan if plan.armed is armed else replace(plan, armed=armed)
        self.room = room
        self.finished: list[str] = []
        self.events: list[Event] = []
        self._runs = 0
        self._answers: list[tuple[int, int, Answer]] = []
        self.loop = Loop(self.plan, _RoomClock(room), self, self)

    @property
    def record(self) -> Record:
        """The run under way, as far as it has come."""
        return self.loop.record

    @property
    def decision(self) -> Decision:
        """What was decided last."""
        return self.loop.decision

    def look(self) -> Decision:
        """One turn: the answers to what was asked at the last one come in, and what is next is begun."""
        answers, self._answers = self._answers, []
        for run_id, number, answer in answers:
            _at_once(self.loop.answer(run_id, number, answer, ""))
        _at_once(self.loop.turn())
        return self.decision

    def order(self, wish: Ordered) -> None:
        """An operator orders loads to stop."""
        _at_once(self.loop.order(wish))

    def cancel(self) -> None:
        """An operator cancels the run under way."""
        _at_once(self.loop.cancel())

    def restart(self) -> None:
        """The agent ended and is there again: it has its record, and contacts the UPSes anew."""
        self._answers = []
        record = self.record
        for taken in record.taken:
            if taken.answer is None and taken.result is None:
                record = record.answered(taken.number, Answer.INTERRUPTED, self.room.now_s)
        self.loop.record = replace(record, memory=Memory())
        for ups in self.room.upses.values():
            ups.contact_since_s = self.room.now_s

    def carry_out(self, taken: Taken) -> None:
        """Act; the answer is there at the next turn."""
        assert self.loop.run_id is not None
        answer = self.room.act(taken.step) if self.record.armed else Answer.ACCEPTED
        self._answers.append((self.loop.run_id, taken.number, answer))

    # -- the loop's hands

    @property
    def world(self) -> World:
        """What is seen of the room."""
        return self.room.world()

    def act(self, taken: Taken) -> None:
        """Begin a step."""
        self.carry_out(taken)

    def hold(self, plan: Plan, forced: Mapping[str, frozenset[str]]) -> None:
        """Tell NUT clients to shut down."""
        self.room.force(forced)

    def tell(self, event: Event) -> None:
        """Keep what is told."""
        self.events.append(event)

    async def next_plan(self) -> Plan:
        """The same again: nothing is learned from what is imagined."""
        return self.plan

    # -- the loop's journal, of which nothing must outlive this

    async def begin(self, armed: bool, actor: str, plan: Plan, ordered: Ordered | None) -> int:
        """Number the runs."""
        self._runs += 1
        return self._runs

    async def go_on(
        self, run_id: int, plan: Plan, ends: Sequence[tuple[Taken, End]], begun: Sequence[Taken], *, armed: bool
    ) -> None:
        """Ends and intents."""

    async def answer(self, run_id: int, number: int, answer: Answer, text: str) -> None:
        """An answer."""

    async def wish(self, run_id: int, ordered: Ordered | None, cancelled: bool) -> None:
        """An operator's wish."""

    async def end(self, run_id: int, outcome: str, text: str) -> None:
        """How a run ended."""
        self.finished.append(text)


class _RoomClock(Clock):
    """The time of an imagined room; its wall time begins in 1970."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def monotonic(self) -> float:
        return self._room.now_s

    def wall_us(self) -> int:
        return round(self._room.now_s * 1e6)


def _at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("a turn in an imagined room waited for something")
