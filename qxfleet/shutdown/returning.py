"""Bringing loads back: in the opposite order, on power that lasts, again and again until they are up."""

from __future__ import annotations

from qxfleet.model.loads import Load
from qxfleet.shutdown.cutting import given_up, to_cycle
from qxfleet.shutdown.ending import names
from qxfleet.shutdown.model import Act, Result, Step
from qxfleet.shutdown.progress import Standing
from qxfleet.shutdown.scene import Scene

PAUSES_S = (30.0, 60.0, 120.0, 300.0, 600.0)
"""Between two tries to start a load; the last one from there on."""

BACK_SOON = (Standing.DOWN, Standing.STARTING, Standing.STOPPING)


def starts(scene: Scene, cut: set[str]) -> list[Step]:
    """Loads that can be started now; ``cut``: the UPSes that are told to cut at this moment."""
    down = [load for load in scene.plan.loads if scene.at[load.name] in BACK_SOON]
    if not down:
        return []
    going, held = to_cycle(scene) | cut, scene.held_down
    highest = _highest_stage(scene, down)
    steps = []
    for load in down:
        if scene.at[load.name] is not Standing.DOWN or load.start is None or load.name == scene.plan.host:
            continue
        if load.name in scene.must or load.name in held or going.intersection(load.fed_by) or not scene.powered(load):
            continue
        if any(_goes_first(scene, scene.plan.named[later]) for later in scene.plan.behind.get(load.name, ())):
            continue
        if any(highest.get(ups, load.stage) > load.stage for ups in load.fed_by):
            continue
        run = scene.run(load.name)
        last = None if run is None else run.start
        attempt = 1 if last is None else last.step.attempt + 1
        if last is not None and scene.now_s - (last.ended_s or 0.0) < PAUSES_S[min(attempt - 2, len(PAUSES_S) - 1)]:
            continue
        steps.append(Step(Act.START, load.name, "its power is back and stable", load.fed_by, attempt=attempt))
    return steps


def _goes_first(scene: Scene, later: Load) -> bool:
    """A load that needs this one is not back yet, or is about to go: what was stopped for its sake is not started under it."""
    return later.name in scene.must or scene.at[later.name] is Standing.STUCK or not back(scene, later)


def _highest_stage(scene: Scene, down: list[Load]) -> dict[str, int]:
    """For each UPS, the highest stage of what is still to come back on it."""
    highest: dict[str, int] = {}
    staged = scene.plan.staged
    for load in down if staged else ():
        if load.name != scene.plan.host and not staged.isdisjoint(load.fed_by) and not back(scene, load):
            for ups in load.fed_by:
                highest[ups] = max(highest.get(ups, load.stage), load.stage)
    return highest


def back(scene: Scene, load: Load) -> bool:
    """Nothing waits for this load any more: it is up, or was not ours, or its power came back and nothing tells more."""
    if scene.at[load.name] not in BACK_SOON:
        return True
    if scene.at[load.name] is not Standing.DOWN or load.name in scene.must:
        return False
    if load.name == scene.plan.host:
        return scene.powered(load)
    if load.start is not None or load.name in scene.held_down:
        return False
    if not scene.record.armed:
        return scene.powered(load) and not any(ups in scene.told for ups in load.fed_by)
    return load.down_when is None and scene.powered(load) and scene.cycled(load)


def by_hand(scene: Scene) -> dict[str, str]:
    """What only a person can do now."""
    asked: dict[str, str] = {}
    if not scene.record.armed:
        return asked
    cycle = to_cycle(scene)
    for load in scene.stranded:
        safe = scene.powered(load) or (scene.record.cancelled and not any(scene.feeds[ups].on_battery for ups in load.fed_by))
        if safe and load.name not in scene.must and not cycle.issuperset(load.fed_by):
            tells = "was stopped and may be down" if scene.unseen(load.name) else "is down"
            asked[load.name] = f"{load.name} {tells}, its power never went, and no start is configured: start it by hand"
    for load in scene.plan.loads:
        if scene.at[load.name] is not Standing.DOWN or load.start is not None or load.down_when is None:
            continue
        if scene.powered(load) and scene.cycled(load) and load.name not in scene.held_down and load.name != scene.plan.host:
            since_s = max(scene.feeds[ups].seen.since_s for ups in load.fed_by)
            for ups in load.fed_by:
                since_s = max(since_s, scene.feeds[ups].seen.output_since_s or 0.0)
            if scene.now_s - since_s > load.start_time_s:
                asked[load.name] = f"{load.name} did not start when its power came back: start it by hand"
    for load in scene.plan.loads:
        if scene.at[load.name] is Standing.STUCK and load.name not in asked:
            what = "would not stop" if scene.up[load.name] else "was not seen off"
            asked[load.name] = f"{load.name} {what}: stop it by hand; its UPS is not told to cut while it may be up"
    for ups, run in scene.found.upses.items():
        if given_up(scene, ups):
            did = "refused" if run.cut.result is Result.FAILED else "did not"
            loads = names([load.name for load in scene.plan.fed[ups]])
            down = f" what hangs on it ({loads}) is down," if scene.empty(ups) else ""
            asked[ups] = (
                f"{ups} was told to cut and {did}, and is not told again:{down} and its battery drains until it is empty; "
                f"switch it off by hand, or try `qxfleet cut {ups}`"
            )
    return asked
