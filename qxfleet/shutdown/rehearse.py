"""The same plan against an imagined outage: a timeline, who would lose power, and how much time is left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.model.loads import Plan
from qxfleet.shutdown.imagine import IDLE_SHARE, LOW_CHARGE, Course, Room, Ups, machine_for
from qxfleet.shutdown.model import Act, End, LoadPhase, Result, Step, Taken
from qxfleet.shutdown.triggers import spell_s

UNIT_W = 100.0
"""What a load draws where nothing is known: only the shares matter."""

WORSE = 0.8
"""The second rehearsal: batteries that hold this share of what they promise."""

TICK_S, WAITING_S = 1.0, 5.0
LONGEST_S = 48 * 3600.0
CALM_S = 300.0
"""Without mains, this much time in which nothing changes any more ends a rehearsal."""

RUNNING, STOPPING, DOWN, STARTING, LOST = "running", "stopping", "down", "starting", "lost power"


@dataclass(frozen=True, slots=True)
class Battery:
    """A UPS as the rehearsal takes it: seconds its battery lasts at the present load, and at the least; percent it is charged;
    the watts it carries now and may carry, None where they are not known. ``asked``: it was asked, so that what is not known here
    is not known to the plan either."""

    runtime_s: float
    runtime_low_s: float | None = None
    charge: float = 100.0
    load_w: float | None = None
    rated_w: float | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline. ``kind``: an act, or ``mains-off``, ``mains-on``, ``down``, ``failed``, ``low-battery``, ``off``,
    ``dead``, ``on``, ``up``, ``lost``, ``by-hand``, ``end``. ``gain_s``: runtime gained by it, on the UPS that gains least."""

    at_s: float
    kind: str
    targets: tuple[str, ...]
    text: str
    gain_s: float | None = None


@dataclass(frozen=True, slots=True)
class Slack:
    """What the battery of a UPS still held at the moment at which a load on it was down."""

    load: str
    ups: str
    left_s: float


@dataclass(slots=True)
class Rehearsal:
    """What would happen. Times are seconds from the moment mains fail.

    ``spans``: what each load does, from when to when. ``charges``: each failing UPS's battery, percent over time. ``lost``: loads
    that lose their power while they run, with the time. ``slack``: where it was tightest; None where nothing was stopped.
    """

    failing: tuple[str, ...]
    moments: list[Moment] = field(default_factory=list)
    spans: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)
    charges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    slack: Slack | None = None
    stopped: int = 0
    unstopped: tuple[str, ...] = ()
    ended_s: float = 0.0

    @property
    def fits(self) -> bool:
        """Nothing loses its power while it runs."""
        return not self.lost


def rehearse(
    plan: Plan, batteries: Mapping[str, Battery], failing: Iterable[str], *, back_s: float | None = None, truth: float = 1.0,
) -> Rehearsal:  # fmt: skip
    """Let mains of ``failing`` go; they come back after ``back_s``, or never. ``truth``: the share of their runtime that the
    batteries really hold, while the plan believes all of it."""
    return _Play(plan, batteries, tuple(failing), back_s, truth).run()


class _Play:
    def __init__(
        self, plan: Plan, batteries: Mapping[str, Battery], failing: tuple[str, ...], back_s: float | None, truth: float
    ) -> None:
        self.plan = plan
        self.room = room_of(plan, batteries, truth)
        self.course = Course(plan, self.room)
        self.back_s = back_s
        self.story = Rehearsal(failing)
        self.was: dict[str, str] = {}
        self.since: dict[str, float] = {}
        self.low: set[str] = set()
        self.asleep = False

    def run(self) -> Rehearsal:
        story, room = self.story, self.room
        self.say("mains-off", story.failing, f"mains fail; {_all(story.failing)} run{_s(story.failing)} on battery")
        for ups in story.failing:
            room.mains(ups, False)
        changed_s, back = 0.0, False
        while room.now_s < LONGEST_S:
            if self.back_s is not None and not back and room.now_s >= self.back_s:
                back = True
                for ups in story.failing:
                    room.mains(ups, True)
                self.say("mains-on", story.failing, "mains are back")
            count = len(story.moments)
            if self.awake():
                self.look()
            over = self.course.finished or (back and not self.course.record.taken)
            changed_s = room.now_s if len(story.moments) > count else changed_s
            waiting = any(ups.off_at_s is not None for ups in room.upses.values()) or any(
                not ups.mains and ups.output for ups in room.upses.values()
            )
            if over or (self.back_s is None and not waiting and room.now_s - changed_s > CALM_S):
                break
            calm = not any(taken.result is None for taken in self.course.record.taken) and not self.course.decision.begin
            step_s = TICK_S if not calm or room.now_s - changed_s < 10 else WAITING_S
            if self.back_s is not None and not back:
                step_s = min(step_s, max(self.back_s - room.now_s, TICK_S))
            room.pass_time(step_s)
            self.observe()
        return self.close()

    def awake(self) -> bool:
        """The agent's own host is up; once it has been down, the agent begins anew with its record."""
        host = self.room.machines.get(self.plan.host or "")
        if host is None or host.up:
            if self.asleep:
                self.asleep = False
                self.room.booted_s = self.room.now_s
                self.course.restart()
            return True
        self.asleep = True
        return False

    def look(self) -> None:
        """One turn of the planner, told as it goes."""
        course = self.course
        before = {taken.number: taken for taken in course.record.taken}
        decision = course.look()
        for end in decision.end:
            self.tell_end(before[end.number], end)
        stops: dict[str, list[Step]] = {}
        for step in decision.begin:
            if step.act in (Act.STOP, Act.START):
                stops.setdefault(step.act.value + step.why, []).append(step)
            else:
                self.tell_order(step)
        for steps in stops.values():
            self.say(steps[0].act.value, tuple(step.target for step in steps), steps[0].why)
        for name, text in decision.by_hand.items():
            if self.was.get(f"hand {name}") != text:
                self.was[f"hand {name}"] = text
                self.say("by-hand", (name,), text)
        if decision.finished is not None:
            self.say("end", (), decision.finished)

    def tell_end(self, taken: Taken, end: End) -> None:
        step = taken.step
        if step.target == self.plan.host and step.act is Act.STOP:
            return
        if step.act is Act.STOP and end.result in (Result.DONE, Result.NOT_SEEN):
            self.story.stopped += 1
            self.say("down", (step.target,), end.text, self.gained_s(step.target))
        elif step.act is Act.STOP:
            self.say("failed", (step.target,), end.text)
        elif step.act is Act.START and end.result is Result.DONE:
            self.say("up", (step.target,), end.text)

    def tell_order(self, step: Step) -> None:
        match step.act:
            case Act.CUT if step.stay_off:
                text = f"cut in {spell_s(step.offdelay_s)} and stay off; {step.why}"
            case Act.CUT:
                back = f"back {spell_s(step.ondelay_s)} later at the earliest, with mains"
                text = f"cut in {spell_s(step.offdelay_s)}, {back}; {step.why}"
            case _:
                text = step.why
        self.say(step.act.value, (step.target,), text)

    def left_s(self, ups: str) -> float:
        """What the battery of a UPS still lasts, with what is on now."""
        each = self.room.upses[ups]
        if each.mains or not each.output:
            return float("inf") if each.mains else 0.0
        return each.energy * each.truth * each.lasts_s(self.room.power_w(ups))

    def gained_s(self, name: str) -> float | None:
        """Runtime that the UPSes of a load gain by its being down; the least of them, None where none of them is on battery."""
        machine, gains = self.room.machines[name], []
        for ups in machine.load.fed_by:
            if not self.room.upses[ups].mains and self.room.upses[ups].output:
                after_s = self.left_s(ups)
                machine.up = True
                before_s = self.left_s(ups)
                machine.up = False
                gains.append(after_s - before_s)
                if self.story.slack is None or before_s < self.story.slack.left_s:
                    self.story.slack = Slack(name, ups, before_s)
        return min(gains, default=None)

    def observe(self) -> None:
        """What changed by itself."""
        now_s, story = self.room.now_s, self.story
        for name, ups in self.room.upses.items():
            if name in story.failing:
                story.charges.setdefault(name, [(0.0, 100.0)]).append((now_s, 100 * ups.energy))
            if ups.energy <= LOW_CHARGE and not ups.mains and name not in self.low:
                self.low.add(name)
                self.say("low-battery", (name,), f"its battery is low, about {spell_s(self.left_s(name))} left")
            state = "on" if ups.output else "dead" if ups.died_s is not None else "off"
            if self.was.get(f"ups {name}", "on") != state:
                self.was[f"ups {name}"] = state
                told = {"off": "goes off as it was told", "dead": "its battery is empty", "on": "is on again"}[state]
                self.say(state, (name,), told)
        for name, machine in self.room.machines.items():
            state = RUNNING if machine.up else DOWN
            state = STOPPING if machine.stopping_until_s is not None else state
            state = STARTING if machine.booting_until_s is not None else state
            if machine.lost_s is not None and not machine.up:
                state = LOST
                if name not in story.lost:
                    story.lost[name] = machine.lost_s
                    self.say("lost", (name,), "LOSES ITS POWER WHILE IT RUNS")
            self.enter(name, state)

    def enter(self, name: str, state: str) -> None:
        now_s, was = self.room.now_s, self.was.get(name, RUNNING)
        if was != state:
            self.story.spans.setdefault(name, []).append((self.since.get(name, 0.0), now_s, was))
            self.since[name], self.was[name] = now_s, state
            if state == DOWN and name == self.plan.host:
                self.story.stopped += 1
                self.say("down", (name,), "down, and the agent with it; the UPSes go on by themselves")
            if state == RUNNING and name == self.plan.host:
                self.say("up", (name,), "up again, and the agent with it")
            elif state == RUNNING and was in (STARTING, LOST) and self.plan.named[name].start is None:
                self.say("up", (name,), "started by itself as its power came")

    def say(self, kind: str, targets: Sequence[str], text: str, gain_s: float | None = None) -> None:
        self.story.moments.append(Moment(self.room.now_s, kind, tuple(targets), text, gain_s))

    def close(self) -> Rehearsal:
        story, now_s = self.story, self.room.now_s
        story.ended_s = now_s
        for name in self.room.machines:
            story.spans.setdefault(name, []).append((self.since.get(name, 0.0), now_s, self.was.get(name, RUNNING)))
        story.unstopped = tuple(name for name, phase in self.course.decision.loads.items() if phase is LoadPhase.STUCK)
        return story


def room_of(plan: Plan, batteries: Mapping[str, Battery], truth: float = 1.0) -> Room:
    """The room with everything on. What a UPS carries is what it carries now; the rest of it goes to the loads without ``watts``
    in equal parts. Where that is not known, a load draws its ``watts``, or the mean of those that are known."""
    known = [load.watts for load in plan.loads if load.watts is not None]
    usual = sum(known) / len(known) if known else UNIT_W
    machines = []
    for load in plan.loads:
        shares = {ups: share for ups in load.fed_by if (share := _share(ups, plan, batteries)) is not None}
        told = load.watts is None and len(shares) == len(load.fed_by) and sum(shares.values()) > 0
        machine = machine_for(load, sum(shares.values()) if told else load.watts or usual, wakes=load.name == plan.host)
        machine.shares = shares if told else {}
        machines.append(machine)
    by_name = {machine.load.name: machine for machine in machines}
    upses = []
    for name, loads in plan.fed.items():
        battery = batteries.get(name, Battery(3600.0))
        on_it = [by_name[load.name] for load in loads]
        carried = sum(each.shares.get(name, each.watts / len(each.load.fed_by)) for each in on_it) or UNIT_W
        surely = 1.0 if battery.runtime_low_s is None else battery.runtime_low_s / battery.runtime_s
        share = battery.charge / 100.0 or 1.0
        idle_w = None if battery.load_w is None else max(battery.load_w - carried, 0.0)
        upses.append(Ups(
            name, battery.runtime_s / share, carried * 1.1, battery.rated_w, surely, truth=truth, energy=share, idle_w=idle_w,
            tells_watts=battery.load_w is not None or not battery.asked,
        ))  # fmt: skip
    room = Room(plan, upses, machines)
    for ups in upses:
        ups.full_w = room.power_w(ups.name)
    return room


def _share(ups: str, plan: Plan, batteries: Mapping[str, Battery]) -> float | None:
    """What of a UPS's present load falls to each load on it that has no ``watts``."""
    battery, loads = batteries.get(ups), plan.fed[ups]
    unknown = [load for load in loads if load.watts is None]
    if battery is None or battery.load_w is None or not unknown:
        return None
    rest_w = battery.load_w * (1 - IDLE_SHARE) - sum((load.watts or 0.0) / len(load.fed_by) for load in loads)
    return max(rest_w, 0.0) / len(unknown)


def _all(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _s(names: Sequence[str]) -> str:
    return "s" if len(names) == 1 else ""
