"""A rehearsal tells what would happen, and an inspection what is wrong before it does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from qxfleet.model.loads import Command, Condition, Load, Outlet, Plan, TcpClosed, Trigger, WakeOnLan
from qxfleet.shutdown.durations import critical_path, down_in_s, longest_s
from qxfleet.shutdown.findings import inspect
from qxfleet.shutdown.rehearse import Battery, rehearse, room_of

SSH, PORT, WAKE = Command(("ssh", "-o", "BatchMode=yes", "x")), TcpClosed("x", 22), WakeOnLan("52:54:00:12:34:56")


def load(name: str, *after: str, fed_by: tuple[str, ...] = ("a", "b"), **more: object) -> Load:
    settings = {"stop": SSH, "down_when": PORT, "start": WAKE, "stop_time_s": 60.0, "watts": 100.0, **more}
    return Load(name, fed_by, after=after, **settings)  # type: ignore[arg-type]


PLAN = Plan((load("app"), load("web", stop_time_s=30.0), load("db", "app", "web", stop_time_s=120.0)),
            Trigger((Condition("runtime-below"), Condition("low-battery"))), armed=True)  # fmt: skip
BATTERIES = {"a": Battery(720.0), "b": Battery(720.0)}


def test_the_longest_way_through_loads_that_wait_for_each_other() -> None:
    takes = {each.name: longest_s(each) for each in PLAN.loads}
    assert down_in_s(PLAN, takes) == {"app": 60, "web": 30, "db": 180}
    assert critical_path(PLAN, takes) == ("app", "db")


def test_the_host_goes_behind_everything() -> None:
    plan = replace(PLAN, loads=(load("mgmt", stop_time_s=10.0), *PLAN.loads), host="mgmt")
    assert down_in_s(plan, {each.name: longest_s(each) for each in plan.loads})["mgmt"] == 190
    assert critical_path(plan, {each.name: longest_s(each) for each in plan.loads}) == ("app", "db", "mgmt")


def test_what_was_learned_counts_with_some_more_and_never_above_the_limit() -> None:
    assert longest_s(load("x", learned_s=20.0)) == 30.0
    assert longest_s(load("x", learned_s=59.0)) == 60.0


def test_it_fits_and_tells_in_order() -> None:
    story = rehearse(PLAN, BATTERIES, ("a", "b"))
    assert story.fits
    assert story.stopped == 3
    kinds = [(moment.kind, moment.targets) for moment in story.moments if moment.kind in ("stop", "cut")]
    assert kinds == [("stop", ("app", "web")), ("stop", ("db",)), ("cut", ("a",)), ("cut", ("b",))]
    gains = [moment.gain_s for moment in story.moments if moment.kind == "down"]
    assert all(gain is not None and gain > 0 for gain in gains)
    assert story.slack is not None
    assert story.slack.left_s > 0
    for spans in story.spans.values():
        assert all(one[1] == two[0] for one, two in itertools.pairwise(spans))


def test_it_comes_back() -> None:
    story = rehearse(PLAN, BATTERIES, ("a", "b"), back_s=1500.0)
    assert [moment.targets for moment in story.moments if moment.kind == "start"] == [("db",), ("app", "web")]
    assert all(spans[-1][2] == "running" for spans in story.spans.values())


def test_one_of_two_feeds_stops_nothing() -> None:
    story = rehearse(PLAN, BATTERIES, ("a",))
    assert (story.fits, story.stopped) == (True, 0)
    assert any(moment.kind == "dead" for moment in story.moments)


def test_a_plan_that_can_not_fit_is_told_so() -> None:
    story = rehearse(PLAN, {"a": Battery(60.0), "b": Battery(60.0)}, ("a", "b"))
    assert "db" in story.lost
    found = inspect(PLAN, {"a": Battery(60.0), "b": Battery(60.0)})
    assert not found.sound
    assert [time.fits for time in found.times] == [False, False]
    assert any("does not fit (longest: app → db)" in each.text for each in found.findings)


def test_a_sound_plan_has_no_problem() -> None:
    found = inspect(replace(PLAN, host="db"), BATTERIES, armed=True)
    assert found.sound
    assert found.dies == {"a": (), "b": ()}
    assert found.stays["a"] == ("app", "web", "db")
    assert found.times[0].needs_s == 180
    assert found.times[0].spare_s == 720 - 180 - 60


@pytest.mark.parametrize(("odd", "severity", "text"), [
    (load("x", stop=None), "problem", "has no stop"),
    (load("x", fed_by=("a",)), "note", "hangs on a alone"),
    (load("x", needs_feeds=2), "note", "needs all its 2 feeds"),
    (load("x", down_when=None), "risk", "nothing tells whether it is down"),
    (load("x", down_when=None, start=None), "risk", "and up again once its power came: both assumed, not known"),
    (load("x", start=None), "note", "has no start"),
    (load("x", stop=Command(("/usr/bin/ssh", "x"))), "risk", "ask for a password"),
])  # fmt: skip
def test_what_is_found_in_a_load(odd: Load, severity: str, text: str) -> None:
    plan = replace(PLAN, loads=(odd,))
    hits = [each for each in inspect(plan, BATTERIES).findings if each.subject == "x" and text in each.text]
    assert [each.severity for each in hits] == [severity]


def test_a_load_on_one_feed_dies_with_it() -> None:
    plan = replace(PLAN, loads=(*PLAN.loads, load("single", fed_by=("a",)), load("greedy", needs_feeds=2)))
    found = inspect(plan, BATTERIES)
    assert found.dies == {"a": ("single", "greedy"), "b": ("greedy",)}


def test_a_runtime_nobody_knows_is_said_to_be_unknown() -> None:
    found = inspect(PLAN, {"a": Battery(720.0)})
    assert [time.fits for time in found.times] == [True, None]
    assert any(each.subject == "b" and "runtime is not known" in each.text for each in found.findings)
    assert found.together is None


# -- what check says


def findings(plan: Plan, runtime_s: dict[str, float], **known: Any) -> list[str]:
    batteries = {ups: Battery(seconds) for ups, seconds in runtime_s.items()}
    return [f"{each.severity} {each.subject}: {each.text}" for each in inspect(plan, batteries, **known).findings]


def test_check_names_the_host_on_a_short_pair() -> None:
    stop = Command(("stop",))
    loads = (Load("agent", ("a", "b"), stop=stop, stop_time_s=30.0), Load("far", ("c",), stop=stop, stop_time_s=30.0))
    plan = Plan(loads, host="agent")
    said = findings(plan, {"a": 255.0, "b": 200.0, "c": 3600.0})
    assert (
        "risk agent: is where the agent runs, and a and b last 4 min 15 s at least: whatever is on battery is stopped by then, "
        "on 1 UPS that would last up to 1 h as well"
    ) in said
    assert not any("is where the agent runs" in each for each in findings(plan, {"a": 3600.0, "b": 200.0, "c": 3600.0}))


def test_check_finds_an_outlet_that_is_not_there_and_says_why_a_runtime_is_unknown() -> None:
    plan = Plan((Load("x", ("a",), stop=Outlet("a", 2), start=Outlet("a", 2)),), Trigger((Condition("runtime-below"),)))
    able = {"a": ("shutdown.return", "outlet.1.load.off", "outlet.2.load.on")}
    said = findings(plan, {}, able=able, unknown={"a": "it tells no load"})
    assert "problem x: is switched off by outlet 2 of a, and a has no such order" in said
    assert not any("switched on" in each for each in said)
    assert any(each.startswith("risk a: its runtime is not known, it tells no load:") for each in said)
    later = findings(replace(plan, trigger=Trigger((Condition("low-battery"),))), {}, unknown={"a": "there is no contact"})
    assert "note a: its runtime is not known, there is no contact: whether stopping fits its battery can't be told" in later
    assert "problem a: is to be cut by shutdown.return, and a has no such order" in findings(plan, {}, able={"a": ()})
    assert not any("no such order" in each for each in findings(plan, {}))


def test_a_rehearsal_believes_the_watts_of_unequal_upses() -> None:
    """140 W on 1 kVA beside 420 W on 3 kVA: when the big one goes, the small one lasts no third of its time."""
    load = Load("x", ("a", "b"), stop=Command(("stop",)), stop_time_s=60.0, down_when=TcpClosed("x", 22))
    plan = Plan((load,), Trigger((Condition("runtime-below"), Condition("low-battery"))), armed=True)
    equal = {ups: Battery(3000.0, 3000.0, 100.0, 280.0, 2000.0) for ups in "ab"}
    room = room_of(plan, equal)
    assert room.power_w("a") == room.power_w("b") == pytest.approx(280.0)
    unequal = {"a": Battery(1800.0, 1800.0, 100.0, 140.0, 700.0), "b": Battery(1800.0, 1800.0, 100.0, 420.0, 2100.0)}
    room = room_of(plan, unequal)
    seen = room.world().upses
    assert (seen["a"].load_w, seen["b"].load_w) == (pytest.approx(140.0), pytest.approx(420.0))
    assert (seen["a"].rated_w, seen["b"].rated_w) == (700.0, 2100.0)
    room.upses["b"].switch(False, 0.0)
    assert room.power_w("a") == pytest.approx(14.0 + 126.0 + 378.0)  # all of the load, and nothing of the other's own use
