"""What is next, in outages told one by one."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from qxfleet.model.events import Severity
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
from qxfleet.shutdown import telling
from qxfleet.shutdown.feeds import Feed, runtime_alone_s
from qxfleet.shutdown.imagine import Course, Machine, Room, Ups
from qxfleet.shutdown.model import Act, Answer, LoadPhase, Mains, Ordered, Record, Result, UpsPhase, UpsSeen
from qxfleet.shutdown.plan import next_steps

STOP, WAKE, PORT = Command(("poweroff",)), WakeOnLan("52:54:00:12:34:56"), TcpClosed("host", 22)
LOW, AUTO = Condition("low-battery"), Condition("runtime-below")
FEEDS = ("a", "b")


def host(name: str, *after: str, fed_by: tuple[str, ...] = FEEDS, **more: object) -> Load:
    settings = {"stop": STOP, "down_when": PORT, "start": WAKE, "stop_time_s": 60.0, **more}
    return Load(name, fed_by, after=after, **settings)  # type: ignore[arg-type]


RACK = Plan(
    (host("app-1"), host("app-2"), host("db", "app-1", "app-2")), Trigger((Condition("on-battery-for", 60.0), LOW)),
    coming_back=ComingBack(30.0, 60.0), armed=True,
)  # fmt: skip


class Play:
    """One room and its story."""

    def __init__(self, plan: Plan = RACK, runtime_s: float = 1800.0, upses: tuple[str, ...] = FEEDS) -> None:
        carried = 100.0 * len(plan.loads)
        self.room = Room(
            plan,
            [Ups(name, runtime_s, carried, recharge_s=600.0) for name in upses],
            [Machine(load, 100.0, 20.0, wakes=load.start is None, boots_s=20.0) for load in plan.loads],
        )
        self.course = Course(plan, self.room)
        self.done: list[tuple[float, Act, str]] = []

    def mains(self, on: bool, *upses: str) -> None:
        for ups in upses or self.room.upses:
            self.room.mains(ups, on)

    def go(self, seconds: float) -> None:
        end_s = self.room.now_s + seconds
        while self.room.now_s < end_s:
            decision = self.course.look()
            self.done += [(self.room.now_s, step.act, step.target) for step in decision.begin]
            self.room.pass_time(1.0)

    def flap(self, times: int, off_s: float, on_s: float) -> None:
        for _ in range(times):
            self.mains(False)
            self.go(off_s)
            self.mains(True)
            self.go(on_s)

    def acts(self, act: Act) -> list[str]:
        return [target for _, each, target in self.done if each is act]

    @property
    def lost(self) -> list[str]:
        return [name for name, machine in self.room.machines.items() if machine.lost_s is not None]


def test_a_whole_outage_in_order() -> None:
    play = Play()
    play.mains(False)
    play.go(600)
    assert [target for _, _, target in play.done] == ["app-1", "app-2", "db", "a", "b"]
    times = {target: at for at, _, target in play.done}
    assert times["app-1"] == 60
    assert times["db"] == times["app-1"] + 20
    assert times["b"] == times["a"] + 10  # staggered
    assert not play.room.upses["a"].output
    play.mains(True)
    play.go(900)
    assert play.acts(Act.START) == ["db", "app-1", "app-2"]
    assert all(machine.up for machine in play.room.machines.values())
    assert not play.lost
    assert play.course.finished[0].startswith("3 loads stopped; 2 UPSes cut; all are back")
    assert len(play.room.upses["a"].cuts) == 1


def test_one_feed_only_stops_nothing() -> None:
    play = Play(runtime_s=300.0)
    play.mains(False, "a")
    play.go(900)
    assert not play.done
    assert play.room.upses["a"].died_s is not None


def test_a_load_that_needs_both_feeds_goes_with_one() -> None:
    plan = replace(RACK, loads=(replace(RACK.loads[0], needs_feeds=2), RACK.loads[1]))
    play = Play(plan)
    play.mains(False, "a")
    play.go(120)
    assert play.acts(Act.STOP) == ["app-1"]


def test_mains_back_before_anything_was_cut_cancels_and_brings_back() -> None:
    play = Play()
    play.mains(False)
    play.go(70)
    assert play.acts(Act.STOP) == ["app-1", "app-2"]
    play.mains(True)
    play.go(200)
    assert play.acts(Act.STOP) == ["app-1", "app-2"]
    assert play.acts(Act.START) == ["app-1", "app-2"]
    assert not play.acts(Act.CUT)


def test_mains_back_behind_the_first_cut_finishes_what_was_begun() -> None:
    play = Play()
    play.mains(False)
    play.go(103)
    assert play.acts(Act.CUT) == ["a"]
    play.mains(True)
    play.go(3)
    assert play.course.decision.upses["a"] is UpsPhase.RACING
    play.go(20)
    assert play.acts(Act.CUT) == ["a", "b"]
    assert not play.acts(Act.CALL_BACK)
    play.go(900)
    assert all(len(ups.cuts) == 1 and ups.output for ups in play.room.upses.values())
    assert all(machine.up for machine in play.room.machines.values())


def test_something_up_on_a_ups_that_counts_down_calls_it_back_when_mains_are_back() -> None:
    play = Play()
    play.mains(False)
    play.go(125)
    assert play.acts(Act.CUT) == ["a", "b"]
    play.room.machines["db"].up = True  # somebody pressed its button
    play.mains(True)
    play.go(60)
    assert play.acts(Act.CALL_BACK) == ["a", "b"]
    assert not play.lost
    assert play.room.upses["a"].output


def test_machines_that_only_their_power_starts_are_cycled_when_it_never_went() -> None:
    plan = replace(RACK, loads=tuple(replace(load, start=None) for load in RACK.loads))
    play = Play(plan)
    play.mains(False)
    play.go(85)
    play.mains(True)
    play.go(900)
    assert sorted(play.acts(Act.CUT)) == ["a", "b"]
    assert all(machine.up for machine in play.room.machines.values())
    assert not play.lost


def test_flapping_mains_stop_and_start_nothing_again_and_again() -> None:
    play = Play()
    play.flap(60, 25, 20)
    assert len(play.acts(Act.STOP)) <= 3
    assert not play.acts(Act.START)
    assert not play.lost
    play.go(900)
    assert all(machine.up for machine in play.room.machines.values())


def test_on_battery_time_is_added_up_until_mains_are_stable() -> None:
    play = Play()
    play.flap(3, 25, 20)
    assert play.acts(Act.STOP)
    calm = Play()
    calm.flap(10, 25, 90)
    assert not calm.done


def test_one_that_hangs_holds_up_only_what_goes_after_it_and_its_ups_is_not_cut() -> None:
    play = Play()
    play.room.machines["app-1"].hangs = True
    play.mains(False)
    play.go(200)
    times = {target: at for at, _, target in play.done}
    assert times["db"] == times["app-1"] + 60  # its stop_time
    assert play.course.decision.loads["app-1"] is LoadPhase.STUCK
    assert "app-1" in play.course.decision.by_hand
    play.go(600)
    assert not play.acts(Act.CUT)


def test_a_refused_stop_is_tried_again_until_its_time_is_over() -> None:
    play = Play()
    play.room.machines["app-1"].refuses = True
    play.mains(False)
    play.go(90)
    play.room.machines["app-1"].refuses = False
    play.go(30)
    tries = [at for at, _, target in play.done if target == "app-1"]
    assert len(tries) >= 3
    assert min(later - sooner for sooner, later in itertools.pairwise(tries)) >= 10
    assert not play.room.machines["app-1"].up


def test_silent_on_battery_its_battery_is_reckoned_on() -> None:
    plan = replace(RACK, trigger=Trigger((AUTO, LOW)))
    play = Play(plan, runtime_s=900.0)
    play.mains(False)
    play.go(30)
    for ups in play.room.upses.values():
        ups.contact = False
    play.go(1800)
    assert [target for _, _, target in play.done][:3] == ["app-1", "app-2", "db"]
    assert not play.lost
    assert not play.acts(Act.CUT)


def test_lost_contact_is_no_outage() -> None:
    play = Play()
    play.go(10)
    for ups in play.room.upses.values():
        ups.contact = False
    play.go(3600)
    assert not play.done


@pytest.mark.parametrize("policy", ["stop", "ignore"])
def test_lost_on_battery_as_configured(policy: str) -> None:
    play = Play(replace(RACK, lost_on_battery=policy))  # type: ignore[arg-type]
    play.mains(False)
    play.go(20)
    for ups in play.room.upses.values():
        ups.contact = False
    play.go(5)
    assert bool(play.done) == (policy == "stop")


def test_a_battery_that_is_low_far_too_early_stops_everything_at_once() -> None:
    plan = replace(RACK, trigger=Trigger((AUTO, LOW)))
    play = Play(plan, runtime_s=7200.0)
    for ups in play.room.upses.values():
        ups.energy = 0.11
        ups.surely = 5.0  # it believes to have plenty
    play.mains(False)
    play.go(600)
    assert play.acts(Act.STOP)[:2] == ["app-1", "app-2"]
    assert not play.lost


def test_a_battery_that_carries_on_alone_is_used() -> None:
    """One of two feeds gives out early; the other lasts for hours with all of it."""
    play = Play(replace(RACK, trigger=Trigger((AUTO, LOW))), runtime_s=36000.0)
    play.room.upses["a"].energy = 0.05
    play.mains(False)
    play.go(1200)
    assert play.room.upses["a"].energy < 0.1
    assert not play.done


def test_auto_begins_as_late_as_is_safe() -> None:
    play = Play(replace(RACK, trigger=Trigger((AUTO,))), runtime_s=900.0)
    play.mains(False)
    before_s = 0.0
    while not play.done:
        before_s = play.room.world().upses["a"].runtime_low_s or 0.0
        play.go(1)
    # the path is 120 s, the margin 60 s, a condition must hold for 5 s
    assert 180 <= before_s <= 190
    play.go(600)
    assert not play.lost


def test_a_ups_in_maintenance_triggers_nothing_and_is_not_cut() -> None:
    play = Play()
    play.mains(False)
    play.go(1)
    world = play.room.world()
    seen = {name: replace(each, maintenance=True) for name, each in world.upses.items()}
    record = Record(True)
    for second in range(200):
        decision = next_steps(RACK, record, replace(world, upses=seen), float(second))
        record = replace(record, memory=decision.memory)
        assert not decision.begin


def test_hot_it_stops_its_loads_and_is_not_cut() -> None:
    plan = replace(RACK, trigger=Trigger((Condition("temperature-above", 45.0),)))
    play = Play(plan)
    world = play.room.world()
    hot = {name: replace(each, temperature_c=50.0) for name, each in world.upses.items()}
    record, begun = Record(True), []
    for second in range(30):
        decision = next_steps(plan, record, replace(world, upses=hot), float(second))
        record = replace(record, memory=decision.memory)
        for step in decision.begin:
            record = record.begun(step, float(second))
            begun.append((step.act, step.target))
    assert begun == [(Act.STOP, "app-1"), (Act.STOP, "app-2")]


def test_the_agents_own_host_and_its_upses_go_last() -> None:
    plan = replace(
        RACK, loads=(*RACK.loads, host("mgmt", start=None), host("far", fed_by=("c",))), host="mgmt",
        ups_off=UpsOff("return", 60.0, 180.0, 10.0),
    )  # fmt: skip
    play = Play(plan, upses=("a", "b", "c"))
    play.mains(False)
    play.go(140)
    assert [target for _, _, target in play.done] == ["app-1", "app-2", "far", "db", "c", "a", "b", "mgmt"]
    cut = next(taken.step for taken in play.course.record.taken if taken.step.target == "a")
    assert cut.offdelay_s == 120  # 60 s of its stop and some, in whole minutes


def test_an_operator_stops_what_he_wants_and_brings_it_back() -> None:
    play = Play()
    play.course.order(Ordered(frozenset({"db"}), "ann"))
    play.go(200)
    assert play.acts(Act.STOP) == ["app-1", "app-2", "db"]
    assert not play.acts(Act.START)
    play.course.cancel()
    play.go(200)
    assert play.acts(Act.START) == ["db", "app-1", "app-2"]


def test_a_drill_comes_back_by_itself() -> None:
    play = Play()
    play.course.order(Ordered(frozenset({"app-1"}), "ann", drill=True))
    play.go(300)
    assert [(act, target) for _, act, target in play.done] == [(Act.STOP, "app-1"), (Act.START, "app-1")]
    assert play.course.finished


def test_cancelled_it_stops_nothing_more_until_mains_are_back() -> None:
    play = Play()
    play.mains(False)
    play.go(65)
    play.course.cancel()
    play.go(300)
    assert play.acts(Act.STOP) == ["app-1", "app-2"]
    assert not play.acts(Act.CUT)
    play.mains(True)
    play.go(200)
    assert play.acts(Act.START) == ["app-1", "app-2"]


def test_unarmed_it_runs_in_full() -> None:
    play = Play()
    play.course = Course(RACK, play.room, armed=False)
    play.mains(False)
    play.go(600)
    assert [target for _, _, target in play.done] == ["app-1", "app-2", "db", "a", "b"]
    assert all(machine.up for machine in play.room.machines.values())
    play.mains(True)
    play.go(900)
    assert play.course.finished


def test_after_a_crash_a_cut_is_not_told_again_before_it_is_known_not_to_have_happened() -> None:
    play = Play()
    play.mains(False)
    play.go(103)
    assert play.acts(Act.CUT) == ["a"]
    play.course.restart()
    play.go(400)
    assert play.acts(Act.CUT).count("a") == 1


@pytest.mark.parametrize("deaf", [True, False])
def test_a_ups_that_took_the_order_and_stays_on_is_told_once_more_and_then_a_person(deaf: bool) -> None:
    play = Play(runtime_s=7200.0)
    play.room.upses["a"].deaf = deaf
    play.mains(False)
    play.go(800)
    assert play.acts(Act.CUT).count("a") == (2 if deaf else 1)
    assert ("a" in play.course.decision.by_hand) is deaf


def advice(play: Play) -> str:
    decision, record = play.course.decision, play.course.record
    counts = Counter(phase.value for phase in decision.loads.values())
    told = any(map(telling.was_told, record.taken))
    return telling.advice(record, counts, cut_told=told, to_cut=decision.to_cut, given_up=telling.given_up(decision))


@pytest.mark.parametrize("answer", [Answer.FAILED, Answer.UNSUPPORTED])
def test_a_ups_that_refuses_its_cut_is_said_to_be_told_again_and_then_to_need_a_person(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last load that is down on, no sentence says that nothing more is done while a UPS is to be cut."""
    play = Play(runtime_s=7200.0)
    act = play.room.act
    monkeypatch.setattr(play.room, "act", lambda step: answer if (step.act, step.target) == (Act.CUT, "a") else act(step))
    play.mains(False)
    tries = 3 if answer is Answer.FAILED else 1
    while play.acts(Act.CUT).count("a") < tries:
        play.go(1)
        if all(phase is LoadPhase.DOWN for phase in play.course.decision.loads.values()) and play.course.record.taken:
            assert "Nothing more is being stopped" not in advice(play)
            assert "a" not in play.course.decision.by_hand
    play.go(120)
    assert play.course.decision.upses == {"a": UpsPhase.UNTOLD, "b": UpsPhase.OFF}
    assert advice(play).splitlines()[1] == "a did not cut and needs you."
    assert play.course.decision.by_hand["a"] == (
        "a was told to cut and refused, and is not told again: what hangs on it (app-1, app-2 and db) is down, and its battery "
        "drains until it is empty; switch it off by hand, or try `qxfleet cut a`"
    )
    told = [event for event in play.course.events if event.name == "ups-not-cut"]
    assert [event.severity for event in told] == [Severity.WARNING] * (tries - 1) + [Severity.CRITICAL]
    assert all(event.text.startswith("a refused its cut (") for event in told)
    assert not [event for event in play.course.events if event.name == "ups-not-back"]
    play.mains(True)
    play.go(30)
    assert "a" not in play.course.decision.by_hand


def test_both_that_would_not_cut_are_not_said_to_be_well(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(runtime_s=7200.0)
    monkeypatch.setattr(
        play.room, "act", lambda step, act=play.room.act: Answer.FAILED if step.act is Act.CUT else act(step)
    )
    play.mains(False)
    play.go(300)
    assert advice(play) == (
        "a and b did not cut and need you. What is down is started again as soon as its power is good and stable."
    )


def test_a_countdown_that_is_over_with_the_output_on_is_not_said_to_go_on() -> None:
    play = Play(runtime_s=7200.0)
    play.room.upses["a"].deaf = True
    play.mains(False)
    while not play.acts(Act.CUT):
        play.go(1)
    play.go(RACK.ups_off.offdelay_s + 3)
    phases = [play.course.decision.upses["a"]]
    play.go(5)
    phases.append(play.course.decision.upses["a"])
    assert phases == [UpsPhase.TOLD, UpsPhase.LATE]
    assert "Nothing more is being stopped" not in advice(play)


def test_shedding_goes_before_the_rest() -> None:
    shed = replace(RACK.loads[0], trigger=Trigger((Condition("on-battery-for", 20.0), LOW)))
    play = Play(replace(RACK, loads=(shed, *RACK.loads[1:])))
    play.mains(False)
    play.go(50)
    assert play.acts(Act.STOP) == ["app-1"]


def test_stages_go_one_after_the_other_and_come_back_in_the_opposite_order() -> None:
    plan = replace(RACK, loads=(host("late", stage=3), host("soon", stage=1), host("mid", stage=2)))
    play = Play(plan)
    play.mains(False)
    play.go(400)
    assert play.acts(Act.STOP) == ["soon", "mid", "late"]
    play.mains(True)
    play.go(900)
    assert play.acts(Act.START) == ["late", "mid", "soon"]


def test_what_was_stopped_for_anothers_sake_is_not_started_under_it() -> None:
    plan = replace(RACK, loads=(host("app", fed_by=("c",)), host("db", "app")))
    play = Play(plan, upses=("a", "b", "c"))
    play.mains(False, "a", "b")
    play.go(600)
    assert play.acts(Act.STOP) == ["app", "db"]
    assert not play.acts(Act.START)
    play.mains(True)
    play.go(900)
    assert play.acts(Act.START) == ["db", "app"]


def test_a_stop_that_the_agent_did_not_live_to_send_has_its_whole_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.mains(False)
    play.go(60)
    with monkeypatch.context() as dying:
        dying.setattr(play.course, "carry_out", lambda taken: None)
        play.go(1)
    assert play.acts(Act.STOP) == ["app-1", "app-2"]
    play.room.pass_time(100.0)  # longer than its stop_time
    play.course.restart()
    play.go(120)
    assert play.acts(Act.STOP) == ["app-1", "app-2", "app-1", "app-2", "db"]
    assert not any(machine.up for machine in play.room.machines.values())


def test_what_a_call_back_saves_is_not_stopped_meanwhile() -> None:
    plan = replace(RACK, loads=(host("app"), host("agent")), host="agent")
    play = Play(plan)
    play.mains(False)
    while play.acts(Act.CUT) != ["a", "b"]:
        play.go(1)
    play.mains(True)
    play.go(120)
    assert play.acts(Act.CALL_BACK) == ["a", "b"]
    assert play.acts(Act.STOP) == ["app"]
    assert play.room.machines["agent"].up


def test_an_unwatched_host_that_hangs_is_told_once() -> None:
    plan = replace(RACK, loads=(host("app"), host("agent", down_when=None, stop_time_s=10.0)), host="agent")
    play = Play(plan)
    play.room.machines["agent"].hangs = True
    play.mains(False)
    while play.room.upses["a"].output:
        play.go(1)
    assert play.acts(Act.STOP) == ["app", "agent"]


def test_one_that_would_not_stop_is_not_told_again_in_run_after_run_while_its_ups_is_silent() -> None:
    play = Play(replace(RACK, loads=RACK.loads[:1]))
    play.room.machines["app-1"].hangs = True
    play.mains(False)
    play.go(200)
    for ups in play.room.upses.values():
        ups.contact = False
    play.go(300)
    assert play.acts(Act.STOP) == ["app-1"]
    assert not play.course.finished


def test_a_ups_that_came_back_for_a_moment_was_cut() -> None:
    play = Play(replace(RACK, loads=(host("app-1", start=None),)))
    play.mains(False)
    play.go(600)
    assert not play.room.upses["a"].output
    play.mains(True)
    play.go(3)
    play.mains(False)
    play.go(15)
    ended = [taken.result for taken in play.course.record.taken if taken.step.act is Act.CUT]
    assert ended == [Result.DONE, Result.DONE]
    play.go(100)
    assert play.acts(Act.STOP) == ["app-1", "app-1"]  # it started by its power, and is not cut while it does
    assert not play.lost


# -- NUT clients


def nut_client(name: str, fed_by: tuple[str, ...] = FEEDS) -> Load:
    return Load(name, fed_by, stop=NutClients(user=name), down_when=NutLoggedOut(), stop_time_s=60.0)


def test_a_nut_client_that_its_power_starts_is_told_once_in_an_outage() -> None:
    play = Play(replace(RACK, loads=(nut_client("x"), nut_client("y", ("a",)))))
    play.mains(False)
    play.go(400)
    assert play.course.decision.forced == {"x": {"a", "b"}, "y": {"a"}}
    assert play.acts(Act.CUT) == ["a", "b"]
    play.mains(True)
    play.go(900)
    assert play.course.decision.forced == {}
    assert play.course.finished and "all are back" in play.course.finished[0]
    assert play.acts(Act.STOP) == ["x", "y"]
    assert all(machine.up and machine.stopped_s is not None for machine in play.room.machines.values())
    assert not play.lost


def test_each_ups_that_is_back_stops_telling_while_the_other_is_off() -> None:
    play = Play(replace(RACK, loads=(nut_client("x"),)))
    play.mains(False)
    play.go(300)
    play.mains(True, "a")
    play.go(250)
    assert play.room.machines["x"].up
    assert play.course.decision.forced in ({}, {"x": {"b"}})
    play.go(300)
    assert play.acts(Act.STOP) == ["x"]


def test_cancelled_no_nut_client_is_told_any_more() -> None:
    play = Play(replace(RACK, loads=(nut_client("x"),)))
    play.mains(False)
    play.go(70)
    assert play.course.decision.forced
    play.course.cancel()
    play.go(2)
    assert play.course.decision.forced == {}


def test_ordered_down_with_mains_good_a_host_that_is_started_by_hand_stays_up() -> None:
    play = Play(replace(RACK, loads=(nut_client("x"),)))
    play.course.order(Ordered(frozenset({"x"}), "ann"))
    play.go(10)
    assert play.course.decision.forced == {"x": {"a", "b"}}
    play.go(30)
    assert not play.room.machines["x"].up
    assert play.course.decision.forced == {}
    counts = {"down": 1}
    assert "stays down until `qxfleet shutdown cancel`" in telling.advice(play.course.record, counts, cut_told=False)
    assert "started again" not in telling.advice(play.course.record, counts, cut_told=False)
    released = replace(play.course.record, ordered=Ordered(frozenset({"x"}), "ann", drill=True))
    assert "started again" in telling.advice(released, counts, cut_told=False)
    play.room.machines["x"].up = True
    play.go(300)
    assert play.room.machines["x"].up
    assert play.course.decision.forced == {}
    assert play.acts(Act.STOP) == ["x"]


def test_a_nut_client_that_goes_down_as_mains_come_back_is_told_until_it_is_down_or_they_are_stable() -> None:
    play = Play(replace(RACK, loads=(replace(nut_client("x"), stop_time_s=200.0),)))
    play.room.machines["x"].hangs = True
    play.mains(False)
    play.go(63)
    play.mains(True)
    play.go(58)
    assert play.course.decision.forced == {"x": {"a", "b"}}
    play.go(5)  # mains_stable_s is 60
    assert play.course.decision.forced == {}


def test_a_restart_remembers_who_is_told_while_it_holds() -> None:
    play = Play(replace(RACK, loads=(nut_client("x"),)))
    play.mains(False)
    play.go(300)
    play.course.restart()
    play.go(1)
    assert play.course.decision.forced == {"x": {"a", "b"}}
    play.mains(True)
    play.go(250)
    play.course.restart()
    play.go(1)
    assert play.course.decision.forced == {}


# -- unequal UPSes


def feed(load_w: float | None, rated_w: float | None, percent: float, runtime_s: float = 300.0) -> Feed:
    seen = UpsSeen(Mains.OFF, load_percent=percent, load_w=load_w, rated_w=rated_w)
    return Feed("x", seen, False, True, runtime_s, runtime_s, 100.0, False, False)


def test_the_small_one_of_two_unequal_upses_is_not_taken_to_last_with_the_load_of_the_big_one() -> None:
    """20 % of 1 kVA and 20 % of 3 kVA are 140 W and 420 W: four times the load, not twice."""
    small, big = feed(140.0, 700.0, 20.0), feed(420.0, 2100.0, 20.0)
    alone_s = runtime_alone_s(small, [big])
    assert alone_s is not None and alone_s < 300 / 4**1.3
    back_s = runtime_alone_s(big, [small])
    assert back_s is not None and 300 / (4 / 3) ** 3 < back_s < 300 / (4 / 3)


def test_one_that_can_t_carry_it_all_lasts_no_time() -> None:
    small, big = feed(300.0, 700.0, 43.0), feed(401.0, 2100.0, 19.0)
    assert runtime_alone_s(small, [big]) == 0.0
    assert runtime_alone_s(small, [feed(400.0, 2100.0, 19.0)]) != 0.0


def test_without_watts_nothing_is_compared() -> None:
    assert runtime_alone_s(feed(None, None, 20.0), [feed(420.0, 2100.0, 20.0)]) is None
    assert runtime_alone_s(feed(140.0, 700.0, 20.0), [feed(None, None, 20.0)]) is None
    assert runtime_alone_s(feed(None, None, 20.0), []) == 300.0


# -- what is said


def test_of_upses_on_battery_only_those_with_something_to_stop_are_said_to_have_it() -> None:
    plan = replace(RACK, loads=(RACK.loads[0], host("far", fed_by=("c", "d"))))
    play = Play(plan, upses=("a", "b", "c", "d"))
    play.mains(False, "a", "b", "c")
    play.go(70)
    phases = play.course.decision.upses
    assert phases["a"] is phases["b"] is UpsPhase.TRIGGERED
    assert phases["c"] is UpsPhase.ON_BATTERY  # its trigger fired too, and far has another feed
    play.go(20)
    assert play.course.decision.upses["c"] is UpsPhase.ON_BATTERY


def test_a_cut_that_nobody_answered_yet_is_not_said_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    play.mains(False)
    play.go(99)
    monkeypatch.setattr(play.course, "carry_out", lambda taken: None)
    play.go(3)
    assert play.acts(Act.CUT) == ["a"]
    assert play.course.decision.upses["a"] is UpsPhase.TELLING
    assert "told to cut" not in telling.cancelled(play.course.record)


def test_how_a_run_ended_says_what_failed_and_what_is_left() -> None:
    play = Play()
    play.room.machines["app-1"].hangs = play.room.machines["app-2"].hangs = True
    play.mains(False)
    play.go(125)
    play.mains(True)
    play.go(300)
    (said,) = play.course.finished
    assert said.startswith("1 load stopped; no UPSes cut; app-1 and app-2 would not stop; db is back; it took ")


def test_one_healthy_feed_is_enough_to_come_back_on_while_the_other_is_off() -> None:
    """Nothing tells whether db is up, and its power came: what goes behind it does not wait for the other feed."""
    db = host("db", "app", start=None, down_when=None)
    play = Play(replace(RACK, loads=(host("app"), db)))
    play.mains(False)
    play.go(400)
    assert play.acts(Act.CUT) == ["a", "b"]
    play.mains(True, "a")
    play.go(90)
    assert play.acts(Act.START) == ["app"]


def test_when_the_agents_host_must_go_no_ups_is_left_to_run_empty() -> None:
    """Nobody is left to cut them later: those whose loads were stopped for the host's sake are cut too."""
    plan = replace(
        RACK, loads=(host("agent", start=None), host("far", fed_by=("c", "d"))), host="agent",
        trigger=Trigger((AUTO, LOW)),
    )  # fmt: skip
    play = Play(plan, upses=("a", "b", "c", "d"))
    for ups in ("c", "d"):
        play.room.upses[ups].runtime_s = 20000.0
    for ups in ("a", "b"):
        play.room.upses[ups].runtime_s, play.room.upses[ups].full_w = 700.0, play.room.power_w(ups)
    play.mains(False)
    play.go(900)
    assert play.acts(Act.STOP) == ["far", "agent"]
    assert play.acts(Act.CUT)[:2] == ["c", "d"] and set(play.acts(Act.CUT)) == {"a", "b", "c", "d"}
    assert not play.lost


@pytest.mark.parametrize(
    ("then", "words"), [("return", "comes back by itself with the mains"), ("stay-off", "stays off until it is switched on")]
)
def test_what_is_said_of_a_cut_is_what_the_cut_will_do(then: str, words: str) -> None:
    play = Play(replace(RACK, loads=(host("app"),), ups_off=replace(RACK.ups_off, then=then)))  # type: ignore[arg-type]
    play.mains(False)
    while not any(map(telling.was_told, play.course.record.taken)):
        play.go(1)
        assert not play.course.finished
    record = play.course.record
    for sentence in (telling.advice(record, {"down": 1}, cut_told=True), telling.cancelled(record)):
        assert words in sentence
        assert "where anything still runs" not in sentence and "where something still runs" not in sentence
        assert "still counts down" in " ".join(sentence.split())


def test_a_load_that_was_not_seen_off_is_nowhere_said_to_be_down() -> None:
    play = Play(replace(RACK, loads=(host("app"), host("early", down_when=None))))
    play.room.machines["early"].hangs = True
    play.mains(False)
    play.go(125)
    decision, record = play.course.decision, play.course.record
    assert decision.loads == {"app": LoadPhase.DOWN, "early": LoadPhase.NOT_SEEN}
    line = telling.headline(play.course.plan, record, decision, play.room.world(), running=True, armed=True)
    assert line.endswith("of 2 loads 1 not seen off, 1 down")
    (cut,) = [taken.step for taken in record.taken if taken.step.act is Act.CUT]
    assert cut.why == "app is down, early was not seen off in its 1 min"
    assert "loses its power with them if it still runs" in telling.advice(record, {"not-seen-off": 1}, cut_told=True)
    assert "not seen off" not in telling.advice(record, {"down": 2}, cut_told=True)
    play.go(300)
    play.mains(True)
    play.go(1200)
    assert play.course.finished[0].startswith("1 load stopped; 2 UPSes cut; early was not seen off; ")


def test_status_says_what_others_do_to_the_upses_without_a_run() -> None:
    play = Play()
    play.go(1)
    plan, record, decision = play.course.plan, play.course.record, play.course.decision

    def line(**more: Any) -> str:
        return telling.headline(plan, record, decision, play.room.world(), running=False, armed=True, **more)

    assert line() == "no shutdown is under way (armed); mains are good everywhere"
    assert line(unread=True) == (
        "the record can't be read yet, so that it is not known whether a shutdown is under way (armed); 0 of 2 UPSes on battery"
    )
    said = "no shutdown of the plan is under way (armed); mains are good everywhere"
    assert line(forced={"a": "nut:op"}) == f"{said}; all NUT clients of a are told to shut down (FSD), by nut:op"
    play.room.upses["b"].off_at_s = play.room.now_s + 30
    assert line() == f"{said}; b counts down to its cut"
    running = telling.headline(plan, record, decision, play.room.world(), running=True, armed=True)
    assert running.endswith("; b counts down to its cut")
    ours = replace(decision, upses={"b": UpsPhase.TOLD})  # the run's own list has it
    assert "counts down" not in telling.headline(plan, record, ours, play.room.world(), running=True, armed=True)


def test_the_agents_own_host_that_was_off_and_is_up_again_is_not_said_to_have_refused() -> None:
    """Its stop was accepted, it went off, and the agent is back with it: it is up now, and did stop."""
    play = Play(replace(RACK, loads=(*RACK.loads, host("mgmt", start=None)), host="mgmt"))
    room = play.room
    play.mains(False)
    while room.machines["mgmt"].up:
        play.go(1)
        assert room.now_s < 900
    room.pass_time(300.0)
    play.mains(True)
    while not room.machines["mgmt"].up:
        room.pass_time(1.0)
        assert room.now_s < 1800
    room.booted_s = room.now_s
    play.course.restart()
    play.go(400)
    (said,) = play.course.finished
    assert "would not stop" not in said and "all are back" in said
    (stop,) = [event for event in play.course.events if event.name == "load-down" and "mgmt" in event.text]
    assert stop.text == "mgmt: it was off, and is up again"


def test_a_load_that_hangs_far_down_a_chain_is_not_stopped_again_and_again() -> None:
    """Only the last of the chain is on battery; the first would not stop, and what waits for it must go on all the same."""
    chain = (
        host("first", fed_by=("c",), stop_time_s=5.0), host("middle", "first", fed_by=("c",)),
        host("last", "middle", fed_by=("a",)),
    )  # fmt: skip
    play = Play(replace(RACK, loads=chain), upses=("a", "c"))
    play.room.machines["first"].hangs = True
    play.mains(False, "a")
    play.go(200)
    assert play.acts(Act.STOP) == ["first", "middle", "last"]
    assert not play.room.machines["last"].up


def test_loads_that_are_down_in_an_outage_without_a_record_are_not_said_to_be_untouched() -> None:
    play = Play()
    play.mains(False)
    play.go(1)
    course = play.course

    def line() -> str:
        return telling.headline(course.plan, course.record, course.decision, play.room.world(), running=False, armed=True)

    assert line() == "no shutdown is under way (armed); 2 of 2 UPSes on battery, nothing stopped yet"
    for machine in play.room.machines.values():
        machine.up = False
    assert line().endswith("; 2 of 2 UPSes on battery, 3 loads seen down, by no shutdown on record")
