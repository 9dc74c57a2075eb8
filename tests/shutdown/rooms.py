"""Random rooms and outages for the planner, and an observer that cries out when something must not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from qxfleet.model.loads import (
    ComingBack,
    Command,
    Condition,
    Load,
    NutClients,
    NutLoggedOut,
    Plan,
    TcpClosed,
    Trigger,
    UpsOff,
    WakeOnLan,
)  # fmt: skip
from qxfleet.shutdown.imagine import Course, Machine, Room, Ups
from qxfleet.shutdown.model import Act, Decision, Ordered, Result, Taken

STOP, START, WATCH = Command(("stop",)), WakeOnLan("52:54:00:12:34:56"), TcpClosed("host", 22)
AUTO, LOW = Condition("runtime-below"), Condition("low-battery")
SOON = Trigger((AUTO, LOW, Condition("on-battery-for", 60.0)))
WATTS = 100.0


Gaps = Sequence[tuple[int, int, str]]
Orders = Sequence[tuple[int, Ordered | None]]
"""When an operator orders what; None: cancels."""


@dataclass(frozen=True)
class Case:
    """A plan, how long each stop really takes, and when mains of which UPS go (False) and come."""

    plan: Plan
    takes_s: Mapping[str, float]
    runtime_s: Mapping[str, float]
    script: tuple[tuple[int, str, bool], ...]


@st.composite
def cases(draw: st.DrawFn, *, host: bool = True, policies: bool = True) -> Case:
    """One to three racks with two UPSes each; up to eight loads with what they wait for; mains that fail, return and flap."""
    racks = draw(st.integers(1, 3))
    upses = [f"{side}{rack}" for rack in range(racks) for side in "ab"]
    loads: list[Load] = []
    takes: dict[str, float] = {}
    for number in range(draw(st.integers(1, 6))):
        rack = draw(st.integers(0, racks - 1))
        pair = (f"a{rack}", f"b{rack}")
        fed_by = draw(st.sampled_from([pair, pair, pair[:1], pair[1:], (f"a{rack}", f"b{draw(st.integers(0, racks - 1))}")]))
        after = tuple(load.name for load in loads if draw(st.integers(0, 3)) == 0)
        least = max((load.stage for load in loads if load.name in after), default=1)
        stop_time_s = float(draw(st.integers(4, 20)))
        name = f"load-{number}"
        takes[name] = draw(st.floats(1, stop_time_s * 0.8))
        nut = draw(st.integers(0, 3)) == 0
        watch = NutLoggedOut() if nut else WATCH
        loads.append(Load(
            name, fed_by, draw(st.integers(1, len(fed_by))) if draw(st.booleans()) else 1, after,
            stage=least + draw(st.sampled_from([0, 0, 1])), stop=NutClients(user=name) if nut else STOP, stop_time_s=stop_time_s,
            down_when=watch if nut or draw(st.integers(0, 4)) else None, start=START if draw(st.booleans()) else None,
            start_time_s=200.0, trigger=draw(st.sampled_from([None, None, SOON])),
        ))  # fmt: skip
    own = draw(st.sampled_from([None, *(load.name for load in loads if not any(load.name in each.after for each in loads))]))
    plan = Plan(
        tuple(loads), draw(st.sampled_from([Trigger((AUTO, LOW)), Trigger((AUTO, LOW, Condition("on-battery-for", 120.0)))])),
        UpsOff(draw(st.sampled_from(["return", "return", "stay-off", "leave"])) if policies else "return", 30.0, 60.0,
               draw(st.sampled_from([0.0, 10.0]))),
        ComingBack(50.0, 60.0, 300.0), draw(st.sampled_from(["cancel", "cancel", "finish"])) if policies else "cancel",
        host=own if host else None, armed=True,
    )  # fmt: skip
    worst_s = sum(load.stop_time_s for load in loads) + plan.margin_s + 60.0
    runtime = {ups: worst_s * draw(st.floats(3.0, 4.0)) for ups in upses}
    script: list[tuple[int, str, bool]] = []
    together = draw(st.booleans())
    for rack in range(racks):
        for side in "ab":
            if side == "b" and together:
                script += [(at, f"b{rack}", on) for at, ups, on in script if ups == f"a{rack}"]
                continue
            at = 10
            for length, pause in draw(st.lists(st.tuples(st.integers(2, 1000), st.integers(1, 300)), max_size=3)):
                script += [(at, f"{side}{rack}", False), (at + length, f"{side}{rack}", True)]
                at += length + pause
    return Case(plan, takes, runtime, tuple(sorted(script)))


def room_of(case: Case) -> Room:
    """The room of a case, everything on."""
    plan = case.plan
    feeding = {ups: WATTS * max(len(plan.fed.get(ups, ())), 1) * 1.2 for ups in case.runtime_s}
    return Room(
        plan,
        [Ups(name, runtime_s, feeding[name], recharge_s=1800.0) for name, runtime_s in case.runtime_s.items()],
        [Machine(load, WATTS, case.takes_s[load.name], wakes=load.start is None or load.name == plan.host, boots_s=20.0)
         for load in plan.loads],
    )


@dataclass
class Watcher(Course):
    """A course that checks each step against the room as it really is."""

    plan: Plan
    room: Room
    stops: dict[str, int] = field(default_factory=dict)
    kill_at: frozenset[int] = frozenset()
    lose: bool = False
    """Killed before the act, or behind it."""

    def __post_init__(self) -> None:
        super().__init__(self.plan, self.room)
        self.begun = 0
        self.restarted = False
        self.cancelled_s = 0.0
        self.asked: set[str] = set()
        """What people were told to do when a run ended."""

    def look(self) -> Decision:
        """One turn; what a run that ends leaves to people is kept."""
        decision = super().look()
        if decision.finished is not None:
            self.asked |= decision.by_hand.keys()
        return decision

    def hear(self, wish: Ordered | None) -> None:
        """Take an operator's order as the agent does; what it refuses changes nothing."""
        record = self.record
        if wish is not None:
            if record.ordered is None or record.ordered.released:
                self.order(wish)
        elif self.loop.run_id is not None:
            self.cancelled_s = self.room.now_s
            self.cancel()

    def carry_out(self, taken: Taken) -> None:
        """Check the step, then do it; or be killed before or behind that."""
        step = taken.step
        self.begun += 1
        if step.act is Act.STOP:
            self.stops[step.target] = self.stops.get(step.target, 0) + (step.attempt == 1)
            self.check_stop(step.target)
        elif step.act is Act.START:
            self.check_start(step.target)
        elif step.act is Act.CUT:
            self.check_cut(step.target)
        killed = self.begun in self.kill_at
        if not (killed and self.lose):
            super().carry_out(taken)
        if killed:
            self.restarted = True

    def restart(self) -> None:
        """The agent was killed, or its host was down."""
        super().restart()
        self.restarted = False

    # -- what must never be

    def poor(self, load: Load) -> bool:
        """Fewer good feeds than it needs, as far as is seen."""
        good = [u for u in load.fed_by if self.seen_good(u)]
        return len(good) < load.needs_feeds

    def seen_good(self, ups: str) -> bool:
        """On mains, in contact, and not about to go."""
        each = self.room.upses[ups]
        return each.mains and each.contact and each.output and each.off_at_s is None and ups not in self.finishing()

    def finishing(self) -> set[str]:
        """UPSes that an earlier step was for, where the plan says that what was begun is finished."""
        if self.plan.on_power_return != "finish":
            return set()
        return {ups for taken in self.record.taken for ups in taken.step.due_to}

    def check_stop(self, name: str) -> None:
        """Nothing is stopped for nothing, and nothing before its time."""
        load = self.plan.named[name]
        wish = self.record.ordered
        wished = set(wish.loads) if wish is not None and not wish.released else set()
        poor = {each.name for each in self.plan.loads if self.poor(each)} | wished
        if self.record.cancelled:
            anew = any(self.room.upses[ups].since_s >= self.cancelled_s for ups in self.plan.fed)
            assert anew, f"{name} is stopped though an operator cancelled and mains have not changed since"
        needing, stack = {name}, [name]
        while stack:
            for later in self.plan.behind.get(stack.pop(), ()):
                if later not in needing:
                    needing.add(later)
                    stack.append(later)
        last = self.plan.host in poor and name != self.plan.host
        assert needing & poor or last, f"{name} is stopped though nothing that needs it is at risk"
        for earlier in load.after:
            gone = not self.room.machines[earlier].up or self.gave_up(earlier) or self.hangs_unseen(earlier)
            assert gone, f"{name} is stopped before {earlier} is down"
        if name == self.plan.host:
            running = [m.load.name for m in self.room.machines.values()
                       if m.up and m.load.name != name and self.poor(m.load)
                       and not self.gave_up(m.load.name) and not self.hangs_unseen(m.load.name)
                       and any(not self.room.upses[u].mains and self.room.upses[u].contact for u in m.load.fed_by)]  # fmt: skip
            assert not running, f"the agent's host goes before {running}"

    def gave_up(self, name: str) -> bool:
        """Its stop failed."""
        tried = [t for t in self.record.taken if t.step.target == name and t.step.act is Act.STOP]
        return bool(tried) and tried[-1].result is Result.FAILED

    def hangs_unseen(self, name: str) -> bool:
        """It took the order to stop and hangs, and nothing tells: its stop_time is over, and that is all there is to go by."""
        machine = self.room.machines[name]
        tried = [t for t in self.record.taken if t.step.target == name and t.step.act is Act.STOP]
        return machine.hangs and machine.load.down_when is None and bool(tried) and tried[-1].down

    def check_start(self, name: str) -> None:
        """Nothing comes back on power that is not good, nor before what it needs."""
        load = self.plan.named[name]
        lasting = [u for u in load.fed_by if self.room.upses[u].mains and self.room.upses[u].off_at_s is None]
        assert len(lasting) >= load.needs_feeds, f"{name} is started on poor power"
        for ups in lasting:
            assert self.charged(ups) or len(lasting) > load.needs_feeds, f"{name} is started on {ups}, whose battery is low"
        for later in self.plan.behind.get(name, ()):
            machine = self.room.machines[later]
            last = [t for t in self.record.taken if t.step.target == later and t.step.act in (Act.STOP, Act.START)]
            ours = last and last[-1].step.act is Act.STOP and machine.load.down_when is not None and later != self.plan.host
            assert not ours or machine.up, f"{name} is started before {later}, which it needs, is up"

    def charged(self, name: str) -> bool:
        """Enough; or, where the UPS does not tell, mains have been there for long enough."""
        ups, back = self.room.upses[name], self.plan.coming_back
        if ups.told:
            return ups.energy * 100 >= back.charge_above
        return self.room.now_s - ups.since_s >= back.unknown_charge_s

    def check_cut(self, name: str) -> None:
        """No UPS is cut under something that runs, and none twice."""
        ups = self.room.upses[name]
        for load in self.plan.fed[name]:
            machine = self.room.machines[load.name]
            down = not machine.up or self.hangs_unseen(load.name)
            assert down or load.name == self.plan.host, f"{name} is cut while {load.name} runs"
        assert ups.off_at_s is None, f"{name} counts down already and is told again"
        assert ups.output, f"{name} is off already and is told again"


def play(case: Case, course: Watcher, *, until_s: float = 12000.0, gaps: Gaps = (), orders: Orders = ()) -> None:
    """Until the script is over and everything has settled. ``gaps``: from when to when a UPS is silent."""
    room, script, given = course.room, list(case.script), list(orders)
    last_s = max((at for at, *_ in (*script, *given)), default=0)
    while room.now_s < until_s:
        while given and given[0][0] <= room.now_s:
            course.hear(given.pop(0)[1])
        while script and script[0][0] <= room.now_s:
            _, ups, on = script.pop(0)
            room.mains(ups, on)
        for ups in room.upses.values():
            heard = not any(begin <= room.now_s < end and ups.name == name for begin, end, name in gaps)
            if heard and not ups.contact:
                ups.contact_since_s = room.now_s
            ups.contact = heard
        host = room.machines.get(course.plan.host or "")
        if host is not None and not host.up:
            course.restarted = True
            room.pass_time(20.0)
            room.booted_s = room.now_s
            continue
        if course.restarted:
            course.restart()
        decision = course.look()
        quiet = not decision.begin and not decision.end and not any(t.result is None for t in course.record.taken)
        settled = all(u.output and u.off_at_s is None for u in room.upses.values())
        settled = settled and all(m.booting_until_s is None for m in room.machines.values())
        if room.now_s > last_s and settled and not course.record.taken:
            return
        battery = any(not ups.mains for ups in room.upses.values())
        next_s = min((at for at, *_ in (*script[:1], *given[:1])), default=room.now_s + 20.0)
        room.pass_time(2.0 if not quiet else 4.0 if battery else min(20.0, max(next_s - room.now_s, 1.0)))
