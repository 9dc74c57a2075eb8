"""The loop around the planner, on virtual time: arming, wishes of operators, trouble of one that is nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qxfleet.errors import PlanError, StoreError
from qxfleet.model.loads import Load
from qxfleet.shutdown.effects import Done
from qxfleet.shutdown.looks import SILENT_S
from qxfleet.shutdown.model import Ordered
from qxfleet.store import shutdown as stored
from qxfleet.testing.loads import HostState, Trouble
from tests.scenarios.room import (
    ON_BATTERY_S,
    PLAN,
    Doors,
    KillableStore,
    RoomAgent,
    Scene,
    hosts_down,
    hosts_up,
    play,
    run_of,
    until,
)
from tests.virtual import run_virtual

SETTLE_S = 10.0
ALL = frozenset({"web-a-1", "web-b-1", "app-1", "db-1", "san-1", "cron-1"})

Story = Callable[[Scene], Awaitable[None]]


@pytest.fixture
def scene(sqlite_path: Path) -> Scene:
    return Scene(1, PLAN, sqlite_path)


def tell(scene: Scene, story: Story) -> None:
    run_virtual(play(scene, story))
    assert [event.text for event in scene.events if event.name == "shutdown-trouble"] == []


def shutdown(scene: Scene) -> Any:
    assert isinstance(scene.agent, RoomAgent)
    return scene.agent.shutdown


def test_unarmed_it_runs_in_full_and_touches_nothing(scene: Scene) -> None:
    scene.plan = replace(scene.plan, armed=False)

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await asyncio.sleep(ON_BATTERY_S + 600)
        scene.mains(True)
        await asyncio.sleep(900)

    tell(scene, story)
    assert scene.asked_to_stop() == {}
    assert scene.doors.probes == 0
    assert all(told == [] for told in scene.told.values())
    (run,) = run_of(scene)
    assert not run.armed
    assert {step.target for step in run.steps if step.act == "stop"} == ALL
    assert {step.target for step in run.steps if step.act == "cut"} == {"rack1-a", "rack1-b"}
    texts = [event.text for event in scene.events if event.name == "load-stopping"]
    assert any("would run stop web-a-1" in text for text in texts)
    cut = next(event.text for event in scene.events if event.name == "ups-cutting" and event.value == "accepted")
    assert "would tell rack1-" in cut and "to cut its output in 30 s and to return" in cut
    with_times = [step for step in run.steps if step.took_s is not None]
    assert with_times == []  # nothing is learned from what did not happen


def test_armed_in_the_middle_of_an_unarmed_run_it_acts(scene: Scene) -> None:
    scene.plan = replace(scene.plan, armed=False)

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await asyncio.sleep(ON_BATTERY_S + 10)
        assert scene.asked_to_stop() == {}
        await shutdown(scene).arm(True, "cli:ann(uid 7)", "this is real")
        await until(lambda: hosts_down(scene), 600, "everything is down")
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await asyncio.sleep(30)

    tell(scene, story)
    later, first = run_of(scene)
    assert (first.armed, first.outcome) == (False, "superseded")
    assert (later.armed, later.outcome) == (True, "finished")
    (event,) = [event for event in scene.events if event.name == "shutdown-armed"]
    assert event.text == "the shutdown plan was armed by cli:ann(uid 7): this is real"


def test_who_armed_outlives_the_agent(scene: Scene) -> None:
    async def disarmed(scene: Scene) -> None:
        await asyncio.sleep(1)
        await shutdown(scene).arm(False, "ann", "")

    async def look(scene: Scene) -> None:
        await asyncio.sleep(1)
        part = shutdown(scene)
        assert (part.armed, part.arming.actor, part.plan.armed) == (False, "ann", False)

    run_virtual(play(scene, disarmed))
    run_virtual(play(scene, look))


def test_cancelled_nothing_more_stops_and_what_was_stopped_comes_back(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await until(lambda: scene.room.hosts["web-b-1"].state is HostState.DOWN, 300, "the first are down")
        text = await shutdown(scene).cancel("cli:ann(uid 7)")
        assert text == "nothing more is stopped; what was stopped is started again as soon as its power is good"
        asked = scene.asked_to_stop()
        await asyncio.sleep(120)
        assert scene.asked_to_stop() == asked
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await asyncio.sleep(60)

    tell(scene, story)
    assert "san-1" not in scene.asked_to_stop()
    assert not any(scene.cuts(ups) for ups in scene.upses)
    scene.check_order()
    (run,) = run_of(scene)
    assert run.cancelled and run.outcome == "finished"


def test_what_cannot_be_asked_of_it_is_said(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        part = shutdown(scene)
        with pytest.raises(PlanError, match="nothing is under way"):
            await part.cancel("ann")
        with pytest.raises(PlanError, match="no load is named nonsense"):
            await part.order(Ordered(frozenset({"nonsense"}), "ann"))
        with pytest.raises(PlanError, match="nothing to stop"):
            await part.order(Ordered(frozenset(), "ann"))
        await part.order(Ordered(frozenset({"cron-1"}), "ann"))
        with pytest.raises(PlanError, match="ordered already"):
            await part.order(Ordered(frozenset({"app-1"}), "ann"))

    tell(scene, story)


def test_three_drills_teach_what_a_stop_takes(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        part = shutdown(scene)
        for _ in range(3):
            assert {load.learned_s for load in part.plan.loads} == {None}
            await part.order(Ordered(ALL, "ann", drill=True))
            await until(lambda: hosts_down(scene), 600, "everything is down")
            await until(lambda: hosts_up(scene), 900, "everything is up again")
            await until(lambda: not part.running, 300, "the drill is over")
        learned = {load.name: load.learned_s for load in part.plan.loads}
        for name, host in scene.room.hosts.items():
            assert host.stops_in_s <= learned[name] <= host.stops_in_s + SILENT_S + 8, name

    tell(scene, story)
    assert not any(scene.cuts(ups) for ups in scene.upses)
    scene.check_order()
    assert [run.outcome for run in run_of(scene)] == ["finished"] * 3


def test_a_shutdown_that_was_ordered_stays_until_it_is_released(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        part = shutdown(scene)
        await part.order(Ordered(ALL, "ann"))
        await until(lambda: hosts_down(scene), 600, "everything is down")
        await asyncio.sleep(600)
        assert hosts_down(scene) and part.running
        await part.cancel("ann")
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await until(lambda: not part.running, 300, "it is over")

    tell(scene, story)
    assert not any(scene.cuts(ups) for ups in scene.upses)


def test_a_run_keeps_the_plan_it_began_with(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await until(lambda: bool(scene.asked_to_stop()), 300, "it has begun")
        part = shutdown(scene)
        assert isinstance(scene.agent, RoomAgent)
        fewer = replace(scene.plan, loads=tuple(load for load in scene.plan.loads if load.name == "cron-1"))
        changes = part.apply(SimpleNamespace(shutdown=fewer, ups=scene.agent.upses))
        assert changes == ["[shutdown]: changed, from the next run on: one is under way"]
        await until(lambda: hosts_down(scene), 600, "everything is down")
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await until(lambda: not part.running, 300, "it is over")
        assert list(part.plan.named) == ["cron-1"]

    tell(scene, story)


class Broken(Doors):
    """An error of ours in what stops one load."""

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        if argv == ("stop", "web-a-1"):
            raise ZeroDivisionError
        return await super().command(argv, within_s)


def test_an_error_of_ours_with_one_load_is_nobody_elses(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.doors = Broken(scene.room, scene.doors.macs)

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        others = [host for name, host in scene.room.hosts.items() if name != "web-a-1"]
        await until(lambda: all(host.state is HostState.DOWN for host in others), 900, "all others are down")
        scene.mains(True)
        await asyncio.sleep(30)

    tell(scene, story)
    assert "failed by an error of ours" in caplog.text


def test_a_database_that_takes_nothing_does_not_keep_loads_from_being_stopped(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        assert isinstance(scene.agent, RoomAgent)
        away = asyncio.Event()
        real = scene.agent.store.commit

        async def commit(*args: Any) -> Any:
            await away.wait()
            return await real(*args)

        scene.agent.store.commit = commit  # type: ignore[method-assign]
        scene.mains(False)
        await until(lambda: hosts_down(scene), 600, "everything is down")
        away.set()
        scene.mains(True)
        await until(lambda: hosts_up(scene), 900, "everything is up again")
        await until(lambda: not shutdown(scene).running, 300, "it is over")

    tell(scene, story)
    scene.check_order()
    (run,) = run_of(scene)
    assert len([step for step in run.steps if step.act == "stop"]) == len(ALL)
    assert all(step.answer is not None for step in run.steps)


def test_the_record_reads_back(scene: Scene) -> None:
    """What an agent that was killed finds: the same plan, the same steps, and an open one as interrupted."""
    from qxfleet.shutdown.record import Scale, plan_json, plan_of, record_of

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)
        await until(lambda: scene.room.hosts["app-1"].state is HostState.STOPPING, 300, "the second rank is stopping")
        part = shutdown(scene)
        assert plan_of(plan_json(part.plan)) == part.plan
        run = await part._agent.store.read(stored.open_run)
        assert run is not None
        read = record_of(run, Scale.of(part._clock))
        assert [(taken.number, taken.step, taken.result) for taken in read.taken] == [
            (taken.number, taken.step, taken.result) for taken in part.record.taken
        ]
        for then, now in zip(read.taken, part.record.taken, strict=True):
            assert then.begun_s == pytest.approx(now.begun_s, abs=0.01)
            assert now.answer is None or then.answer is now.answer

    tell(scene, story)


def test_a_load_has_its_own_line_in_the_plan_it_is_stored_with() -> None:
    from qxfleet.model import loads
    from qxfleet.shutdown.record import plan_json, plan_of

    ways = (loads.Command(("a", "b c")), loads.Webhook("https://x", "/s"), loads.NutClients("u", "1.2.3.4"), loads.Outlet("u", 2))
    downs = (loads.TcpClosed("h", 22), loads.CommandSays(("x",)), loads.UpsLoadBelow(5.0), loads.NutLoggedOut())
    starts = (loads.WakeOnLan("02:00:00:00:00:01"), *ways[:2], ways[3])
    plan = replace(PLAN, loads=tuple(
        Load(f"load-{number}", ("u",), stop=way, down_when=down, start=start, trigger=PLAN.trigger, watts=12.5, learned_s=3.0)
        for number, (way, down, start) in enumerate(zip(ways, downs, starts, strict=True))
    ))  # fmt: skip
    assert plan_of(plan_json(plan)) == plan
    with pytest.raises(ValueError, match="does not know"):
        plan_of({"is": "Nonsense"})


def test_a_run_that_people_settled_by_hand_is_ended_by_its_number(scene: Scene) -> None:
    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        part = shutdown(scene)
        with pytest.raises(PlanError, match="no run is under way"):
            await part.end(1, "ann")
        scene.mains(False)
        await until(lambda: hosts_down(scene), 600, "everything is down")
        with pytest.raises(PlanError, match="known: rack1-a and rack1-b; another run would begin at once"):
            await part.end(1, "ann")
        await until(lambda: all(scene.cuts(ups) for ups in scene.upses), 120, "the UPSes are told")
        scene.mains(True)
        await asyncio.sleep(20)
        with pytest.raises(PlanError, match="run 7 is not under way: run 1 is"):
            await part.end(7, "ann")
        text = await part.end(1, "ann", "the rest is done by hand")
        assert text.startswith("ended by ann: the rest is done by hand; 6 loads stopped; no UPSes cut; rack1-")
        assert "told to cut, and are not known to be back" in text and "are down" in text
        assert not part.running
        await asyncio.sleep(300)
        assert not part.running and not hosts_up(scene)

    tell(scene, story)
    (run,) = run_of(scene)
    assert run.outcome == "ended"


@pytest.mark.parametrize("away_s", [10.0, 90.0, 300.0])
def test_taken_up_behind_its_time_a_load_is_looked_at_before_anything_is_said_of_it(scene: Scene, away_s: float) -> None:
    """The agent is killed behind three accepted stops, and away until they have been down for long."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.mains(False)

        def accepted() -> bool:
            return sum(event.name == "load-stopping" and "accepted" in event.value for event in scene.events) == 3

        await until(accepted, ON_BATTERY_S + 60, "three stops were accepted")
        assert isinstance(scene.agent, RoomAgent)
        scene.agent.store.killed.set()
        await asyncio.sleep(away_s)
        await until(lambda: hosts_down(scene), 600, "everything is down")
        scene.mains(True)
        await until(lambda: hosts_up(scene), 1200, "everything is up again")
        await asyncio.sleep(60)

    run_virtual(play(scene, story, kills=(None,), away_s=away_s))
    assert [event.text for event in scene.events if event.name in ("load-stuck", "load-not-stopped", "shutdown-trouble")] == []
    assert set(scene.asked_to_stop()) == ALL and set(scene.asked_to_stop().values()) == {1}
    scene.check_order()
    assert run_of(scene)[0].text.startswith("6 loads stopped; ")


def test_taken_up_behind_its_time_a_load_that_is_up_would_not_stop(scene: Scene) -> None:
    """What the look shows is said, and what hangs behind it waits for that."""

    async def story(scene: Scene) -> None:
        await asyncio.sleep(SETTLE_S)
        scene.room.hosts["web-a-1"].trouble = Trouble.HANGS
        scene.mains(False)
        await until(lambda: len(scene.asked_to_stop()) == 3, ON_BATTERY_S + 60, "three were asked to stop")
        await asyncio.sleep(5)
        assert isinstance(scene.agent, RoomAgent)
        scene.agent.store.killed.set()
        await asyncio.sleep(120)

    run_virtual(play(scene, story, kills=(None,), away_s=90.0))
    stuck = [event.text for event in scene.events if event.name == "load-stuck"]
    assert len(stuck) == 1 and stuck[0].startswith("web-a-1: not down after "), stuck


def test_while_the_record_can_t_be_read_it_is_not_known_what_is_under_way(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    readable = False
    read = KillableStore.read

    async def unsure(self: KillableStore, *args: Any) -> Any:
        if not readable:
            raise StoreError("not now")
        return await read(self, *args)

    monkeypatch.setattr(KillableStore, "read", unsure)

    async def story(scene: Scene) -> None:
        nonlocal readable
        await asyncio.sleep(SETTLE_S)
        assert shutdown(scene).unread
        readable = True
        await until(lambda: not shutdown(scene).unread, 60, "the record was read")

    tell(scene, story)
