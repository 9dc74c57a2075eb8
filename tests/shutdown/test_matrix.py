"""Mains come back at any second of a run: on either feed or both, with the agent killed or not, for every kind of load.

No load loses its power while it runs, none is stopped twice, none stays down on good power without a person being told, and no
sentence says what is not so: a checker reads them against the room as it really is. The short form takes every 150th second,
``make test-more`` every 13th, the long one (``QXFLEET_SOAK=1``) every second there is.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable

import pytest

from qxfleet.model.loads import (
    ComingBack,
    Command,
    Condition,
    Load,
    NutClients,
    NutLoggedOut,
    Outlet,
    Plan,
    Stop,
    TcpClosed,
    Trigger,
    WakeOnLan,
    Webhook,
)  # fmt: skip
from qxfleet.shutdown import telling
from qxfleet.shutdown.imagine import Course, Machine, Room, Ups
from qxfleet.shutdown.model import Decision, LoadPhase, Mains, UpsPhase

SOAK = os.environ.get("QXFLEET_SOAK") == "1"
KINDS: dict[str, Stop] = {
    "nut": NutClients(), "command": Command(("stop",)), "webhook": Webhook("http://stop"), "outlet": Outlet("a", 1),
}  # fmt: skip
FEEDS = (("a",), ("b",), ("a", "b"))
RUN_S = 330
"""From the failure of mains until everything is down and off."""


def plan_of(kind: str) -> Plan:
    down = NutLoggedOut() if kind == "nut" else TcpClosed("x", 22)
    wakes = WakeOnLan("52:54:00:12:34:56") if kind in ("command", "webhook") else None
    start = Outlet("a", 1) if kind == "outlet" else wakes

    def load(name: str, *after: str) -> Load:
        return Load(name, ("a", "b"), after=after, stop=KINDS[kind], down_when=down, start=start, stop_time_s=60.0)

    return Plan(
        (load("web"), load("app", "web"), load("db", "app")),
        Trigger((Condition("on-battery-for", 30.0), Condition("low-battery"))),
        coming_back=ComingBack(0.0, 60.0, 60.0), armed=True,
    )  # fmt: skip


class Reader(Course):
    """Reads every sentence, and looks whether it is so."""

    def look(self) -> Decision:
        decision = super().look()
        self.check_phases(decision)
        if decision.finished is not None:
            self.check_end(decision.finished)
        return decision

    def check_phases(self, decision: Decision) -> None:
        machines, upses = self.room.machines, self.room.upses
        for name, phase in decision.loads.items():
            up = machines[name].up
            if phase in (LoadPhase.DOWN, LoadPhase.STRANDED):
                assert not up, f"{name} is said to be {phase.value}"
            if phase in (LoadPhase.BACK, LoadPhase.STUCK):
                assert up, f"{name} is said to be {phase.value}"
        for name, phase in decision.upses.items():
            ups = upses[name]
            if phase is UpsPhase.OFF:
                assert not ups.output or ups.off_at_s is None, f"{name} is said to be off"
            if phase in (UpsPhase.TOLD, UpsPhase.RACING):
                assert ups.off_at_s is not None or ups.deaf or not ups.output, f"{name} is said to count down"
            if phase in (UpsPhase.TRIGGERED, UpsPhase.ON_BATTERY):
                assert not ups.mains, f"{name} is said to be on battery"
        world = self.room.world()
        line = telling.headline(self.plan, self.record, decision, world, running=bool(self.record.taken), armed=True)
        on_battery = sum(not ups.mains for ups in upses.values())
        if match := re.search(r"(\d+) of \d+ UPSes on battery", line):
            assert int(match[1]) == on_battery, line
        elif "mains are good" in line:
            assert on_battery == 0 or all(seen.mains is not Mains.OFF for seen in world.upses.values()), line

    def check_end(self, said: str) -> None:
        machines, upses = self.room.machines, self.room.upses
        stopped = [each for each in machines.values() if each.stopped_s is not None]
        count = re.match(r"(no|\d+) loads? stopped", said)
        assert count is not None and int(count[1].replace("no", "0")) == len(stopped), said
        cut = re.search(r"(no|\d+) UPS(?:es)? cut", said)
        assert cut is not None and int(cut[1].replace("no", "0")) == sum(bool(each.cuts) for each in upses.values()), said
        if re.search(r"all are back|\w+ is back", said):
            assert all(each.up for each in stopped), said
        for name in re.findall(r"(\w+) would not stop", said):
            assert machines[name].up, said


def play(kind: str, back: tuple[str, ...], back_s: int, kill_s: int | None) -> Reader:
    """Mains of both feeds fail; those of ``back`` return after ``back_s``, the rest much later."""
    plan = plan_of(kind)
    room = Room(
        plan, [Ups(name, 3600.0, 330.0, recharge_s=600.0) for name in ("a", "b")],
        [Machine(load, 100.0, 20.0, wakes=load.start is None, boots_s=30.0) for load in plan.loads],
    )  # fmt: skip
    course = Reader(plan, room)
    room.pass_time(1.0)
    for ups in room.upses:
        room.mains(ups, False)
    began_s = room.now_s
    late_s = back_s + 400
    while room.now_s - began_s < late_s + 900:
        now_s = int(room.now_s - began_s)
        if now_s == back_s:
            for ups in back:
                room.mains(ups, True)
        if now_s == late_s:
            for ups in room.upses:
                room.mains(ups, True)
        if now_s == kill_s:
            course.restart()
        course.look()
        settled = not course.record.taken and all(each.up for each in room.machines.values())
        settled = settled and all(ups.mains and ups.output and ups.off_at_s is None for ups in room.upses.values())
        if settled and now_s > back_s + 3:
            break
        waits = now_s > back_s + 3 and not any(taken.result is None for taken in course.record.taken)
        room.pass_time(min(5.0, late_s - now_s) if waits and now_s < late_s else 1.0)
    return course


def check(kind: str, back: tuple[str, ...], back_s: int, kill_s: int | None) -> None:
    course = play(kind, back, back_s, kill_s)
    room, what = course.room, f"{kind}, {'+'.join(back)} back after {back_s} s, killed at {kill_s}"
    assert [name for name, each in room.machines.items() if each.lost_s is not None] == [], what
    asked = course.decision.by_hand
    assert [name for name, each in room.machines.items() if not each.up and name not in asked] == [], what
    assert all(len(ups.cuts) <= 1 for ups in room.upses.values()), what
    assert course.finished or asked or not any(each.stopped_s for each in room.machines.values()), what


def cases(every_s: int) -> Iterable[tuple[str, tuple[str, ...], int, int | None]]:
    for kind, back, back_s in itertools.product(KINDS, FEEDS, range(1, RUN_S, every_s)):
        for kill_s in (None, back_s - 1 if back_s % 2 else back_s + 3):
            yield kind, back, back_s, kill_s


@pytest.mark.parametrize("kind", KINDS)
def test_mains_come_back_in_the_middle(kind: str) -> None:
    for case in cases(150):
        if case[0] == kind:
            check(*case)


@pytest.mark.more
@pytest.mark.timeout(7200 if SOAK else 600)
@pytest.mark.parametrize(("kind", "back"), list(itertools.product(KINDS, FEEDS)))
def test_mains_come_back_at_any_second(kind: str, back: tuple[str, ...]) -> None:
    for case in cases(1 if SOAK else 13):
        if case[:2] == (kind, back):
            check(*case)
