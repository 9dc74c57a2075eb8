"""Over random rooms, plans and outages: nothing loses its power while it runs, nothing is stopped for nothing, and so on."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qxfleet.shutdown.imagine import Course
from qxfleet.shutdown.model import Answer, Ordered
from tests.shutdown.rooms import Case, Watcher, cases, play, room_of

SOAK = os.environ.get("QXFLEET_SOAK") == "1"
FEW = settings(
    max_examples=1000 if SOAK else 8, derandomize=not SOAK,
    suppress_health_check=list(HealthCheck), print_blob=True,
)  # fmt: skip


def lost(course: Watcher) -> list[str]:
    return [name for name, machine in course.room.machines.items() if machine.lost_s is not None]


@FEW
@given(cases())
def test_with_honest_batteries_nothing_loses_its_power_while_it_runs(case: Case) -> None:
    course = Watcher(case.plan, room_of(case))
    play(case, course)
    assert not lost(course)
    failures = sum(not on for _, _, on in case.script)
    for name, times in course.stops.items():
        assert times <= failures, f"{name} was stopped {times} times in {failures} failures of mains"


@st.composite
def troubles(draw: st.DrawFn) -> tuple[Case, Watcher]:
    """A room in which loads hang or refuse, UPSes are deaf, fall silent or have worn batteries, and the agent is killed."""
    case = draw(cases())
    room = room_of(case)
    for machine in room.machines.values():
        machine.hangs, machine.refuses = draw(st.sampled_from([(False, False)] * 3 + [(True, False), (False, True)]))
    for ups in room.upses.values():
        ups.deaf = draw(st.integers(0, 5)) == 0
        ups.truth = draw(st.sampled_from([1.0, 1.0, 0.5, 0.2]))
        ups.told = draw(st.integers(0, 5)) > 0
    kills = frozenset(draw(st.lists(st.integers(1, 12), max_size=3)))
    return case, Watcher(case.plan, room, kill_at=kills, lose=draw(st.booleans()))


@FEW
@given(troubles(), st.lists(st.tuples(st.integers(1, 900), st.integers(10, 600), st.integers(0, 5)), max_size=2))
def test_whatever_goes_wrong_nothing_is_done_that_must_not_be(
    trouble: tuple[Case, Watcher], silences: list[tuple[int, int, int]]
) -> None:
    case, course = trouble
    names = list(course.room.upses)
    gaps = [(at, at + long, names[which % len(names)]) for at, long, which in silences]
    play(case, course, gaps=gaps, until_s=5000.0)
    failures = sum(not on for _, _, on in case.script)
    for name, times in course.stops.items():
        assert times <= failures + len(course.kill_at), f"{name} was stopped {times} times in {failures} failures of mains"


@FEW
@given(cases(host=False), st.integers(0, 6), st.booleans())
def test_killed_at_any_step_it_goes_on_and_nothing_is_lost(case: Case, at: int, lose: bool) -> None:
    course = Watcher(case.plan, room_of(case), kill_at=frozenset({at}), lose=lose)
    play(case, course)
    assert not lost(course)


@FEW
@given(cases(policies=False, host=False))
def test_what_was_stopped_comes_back(case: Case) -> None:
    """Every machine that can be started, or starts by itself when its power comes and whose power went, is up in the end."""
    course = Watcher(case.plan, room_of(case))
    play(case, course)
    asked = course.decision.by_hand
    for name, machine in course.room.machines.items():
        waiting = any(later in asked for later in _needed(case, name))
        assert machine.up or name in asked or waiting or _blind(case, name), f"{name} stays down: {course.decision}"


def _needed(case: Case, name: str) -> set[str]:
    """What must be up before a load comes back: those that go after it, and higher stages on its UPSes, and so on."""
    found: set[str] = set()
    stack = [name]
    while stack:
        load = case.plan.named[stack.pop()]
        later = set(case.plan.behind.get(load.name, ())) | {
            other.name for ups in load.fed_by for other in case.plan.fed[ups] if other.stage > load.stage
        }
        stack.extend(later - found)
        found |= later
    return found


def _blind(case: Case, name: str) -> bool:
    """Nothing tells whether it is down and nothing starts it: the run ended saying so."""
    load = case.plan.named[name]
    return load.down_when is None and load.start is None


@st.composite
def operated(draw: st.DrawFn) -> tuple[Case, list[tuple[int, Ordered | None]]]:
    """A room whose operator stops loads, drills them and cancels, whatever mains do; the last word is a cancel."""
    case = draw(cases(policies=False, host=False))
    names = [load.name for load in case.plan.loads]
    given: list[tuple[int, Ordered | None]] = []
    for at in sorted(draw(st.lists(st.integers(1, 1500), min_size=1, max_size=4))):
        loads = frozenset(draw(st.lists(st.sampled_from(names), min_size=1)))
        kind = draw(st.sampled_from(["stop", "stop and cut", "drill", "cancel"]))
        wish = Ordered(loads, "me", cut=kind == "stop and cut", drill=kind == "drill")
        given.append((at, None if kind == "cancel" else wish))
    last_s = max(at for at, *_ in (*case.script, *given)) if case.script else given[-1][0]
    return case, [*given, (last_s + draw(st.integers(1, 600)), None)]


@FEW
@given(operated(), st.frozensets(st.integers(1, 12), max_size=2), st.booleans())
def test_whatever_an_operator_orders_nothing_loses_its_power_and_all_comes_back(
    operation: tuple[Case, list[tuple[int, Ordered | None]]], kills: frozenset[int], lose: bool
) -> None:
    case, given = operation
    course = Watcher(case.plan, room_of(case), kill_at=kills, lose=lose)
    play(case, course, orders=given)
    assert not lost(course)
    asked = course.asked | course.decision.by_hand.keys()
    for name, machine in course.room.machines.items():
        waiting = any(later in asked for later in _needed(case, name))
        assert machine.up or name in asked or waiting or _blind(case, name), f"{name} stays down: {course.decision}"


@FEW
@given(cases(host=False))
def test_unarmed_it_touches_nothing(case: Case) -> None:
    plan = case.plan
    room = room_of(case)
    course = Course(plan, room, armed=False)
    done: list[str] = []
    room.act = lambda step: done.append(step.target) or Answer.ACCEPTED  # type: ignore[method-assign,func-returns-value]
    script = list(case.script)
    while script or room.now_s < 600:
        while script and script[0][0] <= room.now_s:
            _, ups, on = script.pop(0)
            room.mains(ups, on)
        course.look()
        room.pass_time(5.0)
    assert not done
