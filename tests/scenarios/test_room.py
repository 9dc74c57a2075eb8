"""Outages of a room of racks, scripted: what must not happen does not happen, and what must, does.

The long form (``QXFLEET_SOAK=1``) has 40 UPSes and 120 loads, and kills the agent behind every commit there is.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path

import pytest

from qxfleet.model.loads import Condition, Trigger
from qxfleet.testing.loads import HostState, Trouble
from qxfleet.testing.machine import Source
from qxfleet.testing.unit import Fault
from tests.scenarios.play import SOAK, measured
from tests.scenarios.room import ON_BATTERY_S, PLAN, Scene, hosts_down, hosts_up, play, run_of, until
from tests.virtual import run_virtual

RACKS = 20 if SOAK else 2
SETTLE_S = 20.0
"""Until the agent is in contact with everybody."""

Story = Callable[[Scene], Awaitable[None]]


@pytest.fixture
def scene(sqlite_path: Path) -> Scene:
    return Scene(RACKS, PLAN, sqlite_path)


def tell(scene: Scene, story: Story, *, crashed: Collection[str] = (), kills: tuple[int, ...] = ()) -> None:
    """Play it, and look at what must hold in every story. ``crashed``: hosts that nothing could save."""
    began_s = time.monotonic()
    run_virtual(play(scene, story, kills))
    assert set(scene.room.crashed) <= set(crashed)
    scene.check_order(excepted=crashed)
    scene.check_cuts()
    wrong = [event.text for event in scene.events if event.name in ("shutdown-trouble", "session-crashed", "assess-failed")]
    assert wrong == []
    if SOAK and not kills:
        took_s = time.monotonic() - began_s
        measured(f"{len(scene.upses)} UPSes, {len(scene.room.hosts)} loads: {took_s:.0f} s, {scene.commits} commits")


def off(scene: Scene) -> bool:
    return all(ups.machine.source is Source.OFF for ups in scene.upses.values())


async def outage(scene: Scene) -> None:
    """Both feeds fail for good; everything goes down, mains come back, everything comes up."""
    await asyncio.sleep(SETTLE_S)
    scene.mains(False)
    await until(lambda: hosts_down(scene), 600, "everything is down")
    await until(lambda: off(scene), 700, "every UPS is off")
    await asyncio.sleep(120)
    scene.mains(True)
    await until(lambda: hosts_up(scene), 900, "everything is up again")
    await asyncio.sleep(60)


def test_both_feeds_fail_and_come_back(scene: Scene) -> None:
    tell(scene, outage)
    assert all(len(scene.cuts(ups)) == 1 for ups in scene.upses)
    assert all(count == 1 for count in scene.asked_to_stop().values())
    (run,) = run_of(scene)
    assert run.outcome == "finished" and "all are back" in run.text
    loads = len(scene.room.hosts)
    assert [sum(step.act == act for step in run.steps) for act in ("stop", "start", "cut")] == [loads, loads, len(scene.upses)]


def test_a_port_that_closes_long_before_its_host_is_off_cuts_nothing_under_it(scene: Scene) -> None:
    """sshd goes early, 60 s before its host is off. Nothing that waits for the host may begin, no UPS may be cut."""
    for host in scene.room.hosts.values():
        host.stops_in_s, host.closes_early_s = 80.0, 60.0
    scene.plan = replace(scene.plan, loads=tuple(replace(load, stop_time_s=150.0) for load in scene.plan.loads))
    tell(scene, outage)
    (run,) = run_of(scene)
    took = [step.took_s for step in run.steps if step.act == "stop"]
    assert all(each is not None and each >= 80 for each in took), took


def test_a_port_that_closes_and_an_address_that_answers_on_is_not_called_down(scene: Scene) -> None:
    scene.room.hosts["web-a-1"].closes_early_s = 1000.0

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.room.hosts["web-a-1"].stops_in_s = 1000.0
        scene.mains(False)
        await until(lambda: scene.room.hosts["san-1"].state is HostState.DOWN, 900, "what goes after it is down")

    run_virtual(play(scene, story))  # what waits for it goes on, as its stop_time is over
    (run,) = run_of(scene)
    (step,) = [step for step in run.steps if step.target == "web-a-1"]
    assert step.result == "not-seen-off" and step.took_s is None
    assert step.text.startswith("not seen off after 40 s: its port is closed, and nothing else agrees")


def test_of_one_feed_alone_nothing_stops(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False, "a")
        await asyncio.sleep(10 * ON_BATTERY_S)
        scene.mains(True)
        await asyncio.sleep(120)

    tell(scene, story)
    assert scene.asked_to_stop() == {}
    assert not any(scene.cuts(ups) for ups in scene.upses)
    assert run_of(scene) == []


def test_mains_that_blink_stop_nothing(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        for _ in range(5):
            scene.mains(False)
            await asyncio.sleep(8)
            scene.mains(True)
            await asyncio.sleep(4)
        await asyncio.sleep(120)

    tell(scene, story)
    assert scene.asked_to_stop() == {}


def test_mains_that_flap_for_long_end_well(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        for _ in range(12):
            scene.mains(False)
            await asyncio.sleep(25)
            scene.mains(True)
            await asyncio.sleep(10)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await asyncio.sleep(60)

    tell(scene, story)


STAGES_S = (30, 62, 75, 95, 120, 150, 166, 172, 180, 200, 230, 300)
"""From before the trigger, through the stops and the cuts, to long after the UPSes went off."""


@pytest.mark.parametrize("back_s", STAGES_S if SOAK else STAGES_S[1::2])
def test_mains_come_back_at_each_stage(scene: Scene, back_s: float) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await asyncio.sleep(back_s)
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await asyncio.sleep(120)
        assert hosts_up(scene)
        assert not any(ups.machine.source is Source.OFF for ups in scene.upses.values())

    tell(scene, story)
    if back_s < ON_BATTERY_S:
        assert scene.asked_to_stop() == {}
    assert all(count == 1 for count in scene.asked_to_stop().values())


def test_a_load_that_hangs_costs_itself_and_nobody_else(scene: Scene) -> None:
    scene.room.hosts["app-1"].trouble = Trouble.HANGS

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        others = [host for name, host in scene.room.hosts.items() if name != "app-1"]
        await until(lambda: all(host.state is HostState.DOWN for host in others), 600, "all others are down")
        await asyncio.sleep(120)
        scene.mains(True)
        await asyncio.sleep(300)

    tell(scene, story, crashed={"app-1"})
    assert "load-stuck" in {event.name for event in scene.events}
    assert not scene.cuts("rack1-a") and not scene.cuts("rack1-b")  # app-1 still runs on them


def test_a_target_that_refuses_is_tried_again_and_then_told(scene: Scene) -> None:
    scene.room.hosts["web-a-1"].trouble = Trouble.REFUSES

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        others = [host for name, host in scene.room.hosts.items() if name != "web-a-1"]
        await until(lambda: all(host.state is HostState.DOWN for host in others), 600, "all others are down")
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")

    tell(scene, story, crashed={"web-a-1"})
    tries = scene.asked_to_stop()
    assert 1 < tries.pop("web-a-1") <= 10
    assert set(tries.values()) == {1}
    assert any("Connection refused" in event.text for event in scene.events)


def test_a_ups_that_goes_silent_on_battery_costs_no_load(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await asyncio.sleep(15)
        for name in ("rack1-a", "rack2-a", "rack2-b"):
            scene.upses[name].set_fault(Fault.SILENT)
        await until(lambda: hosts_down(scene), 900, "everything is down")
        await asyncio.sleep(60)
        for ups in scene.upses.values():
            ups.clear_fault()
        scene.mains(True)
        await until(lambda: hosts_up(scene), 1200, "everything is up again")

    tell(scene, story)


def test_a_battery_that_is_low_far_too_early_is_still_early_enough(sqlite_path: Path) -> None:
    patient = replace(
        PLAN, trigger=Trigger(any=(Condition("on-battery-for", 3600.0), Condition("low-battery"))), hold_s=2.0,
        coming_back=replace(PLAN.coming_back, charge_above=1.0),
    )  # fmt: skip
    scene = Scene(RACKS, patient, sqlite_path, battery_ah=36.0)

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await asyncio.sleep(60)
        for ups in scene.upses.values():
            ups.machine.battery.set_charge(0.14)  # a quarter of an hour is promised, a few minutes are left
        await until(lambda: hosts_down(scene), 900, "everything is down")
        scene.mains(True)
        await until(lambda: hosts_up(scene), 3600 * 3, "everything is up again")

    tell(scene, story)


# -- killed


def commits_of(sqlite_path: Path, tmp_path: Path, racks: int, story: Story) -> int:
    scene = Scene(racks, PLAN, Path(shutil.copy(sqlite_path, tmp_path / "whole.db")))
    run_virtual(play(scene, story))
    return scene.commits


async def short_outage(scene: Scene) -> None:
    """As short as a whole shutdown and return can be, for it is played often."""
    await asyncio.sleep(10)
    scene.mains(False)
    await until(lambda: hosts_down(scene), 600, "everything is down")
    await until(lambda: off(scene), 900, "every UPS is off")
    await asyncio.sleep(30)
    scene.mains(True)
    await until(lambda: hosts_up(scene), 1200, "everything is up again")
    await asyncio.sleep(10)


@pytest.mark.parametrize(("racks", "every"), [(4, 1), (20, 40)] if SOAK else [(1, 13)])
def test_the_agent_is_killed_at_each_recorded_step(sqlite_path: Path, tmp_path: Path, racks: int, every: int) -> None:
    commits = commits_of(sqlite_path, tmp_path, racks, short_outage)
    killed = 0
    for after in range(1, commits + 1, every):
        database = Path(shutil.copy(sqlite_path, tmp_path / f"killed-{after}.db"))
        scene = Scene(racks, PLAN, database)
        try:
            tell(scene, short_outage, kills=(after,))
            killed += scene.killed
            assert all(count <= 2 for count in scene.asked_to_stop().values())
            assert len(run_of(scene)) == 1
        except BaseException as error:
            error.add_note(f"killed behind commit {after} of {commits}")
            raise
        database.unlink()
    assert killed >= commits // every - 1
    measured(f"{racks * 2} UPSes, killed behind {killed} of {commits} commits: every run was finished, no cut was told twice")
