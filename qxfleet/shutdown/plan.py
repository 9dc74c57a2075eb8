"""What is next in a shutdown or a return: a pure function of the plan, what was done, and what is seen.

A load must go when fewer of its feeds last than it needs, and a trigger holds on one of them; with it go the loads that must be
down before it. It is stopped when those are. A UPS is told to cut when nothing on it runs. When a load need not go any more it is
left alone, and when its power is good it comes back, in the opposite order. All of it follows from the moment and the record:
there is no state besides.
"""

from __future__ import annotations

from collections.abc import Iterable

from qxfleet.model.loads import Load, Plan
from qxfleet.shutdown.cutting import all_told, call_backs, called_back, cuts, late, switch_ons, to_cut
from qxfleet.shutdown.ending import sentence
from qxfleet.shutdown.forcing import forced
from qxfleet.shutdown.model import Act, Decision, LoadPhase, Mains, Memory, Record, Result, Step, UpsPhase, World
from qxfleet.shutdown.progress import RETRY_S, Standing
from qxfleet.shutdown.returning import back, by_hand, starts
from qxfleet.shutdown.scene import SETTLED, Scene, quiet

LOOK_S = 1.0
"""While anything is on battery or under way, time alone can change what is to be done."""

CALL_S = 5.0
"""Between the end of a stop and the cut, for what is stopped only because a UPS did not let itself be called back."""


def next_steps(plan: Plan, record: Record, world: World, now_s: float) -> Decision:
    """What is to happen now. Called again after every change, and by ``look_s`` at the latest."""
    if quiet(plan, record, world):
        return Decision(memory=Memory(now_s))
    scene = Scene(plan, record, world, now_s)
    steps = call_backs(scene)
    steps += _stops(scene, {*(step.target for step in steps), *called_back(scene)})
    off = cuts(scene)
    steps += [*off, *switch_ons(scene), *starts(scene, {step.target for step in off})]
    hand = by_hand(scene)
    active = bool(steps or scene.record.taken or scene.must)
    return Decision(
        begin=tuple(steps),
        end=scene.ended,
        memory=scene.memory,
        look_s=now_s + LOOK_S if active or any(feed.on_battery for feed in scene.feeds.values()) else None,
        finished=None if steps else _finished(scene, hand),
        forced=forced(scene),
        by_hand=hand,
        to_cut=to_cut(scene),
        loads=_load_phases(scene) if active else {},
        upses=_ups_phases(scene),
    )


def _stops(scene: Scene, called: set[str]) -> list[Step]:
    """Loads that must go and wait for nobody any more. ``called``: the UPSes that are being called back."""
    if not scene.must:
        return []
    host = scene.plan.host
    lowest: dict[str, int] = {}
    for name in scene.must:
        if name != host:
            load = scene.plan.named[name]
            for ups in load.fed_by:
                lowest[ups] = min(lowest.get(ups, load.stage), load.stage)
    going = _going(scene, {ups for ups in called if _in_time(scene, ups)})
    return [step for name in going if (step := _stop(scene, scene.plan.named[name], lowest)) is not None]


def _going(scene: Scene, saved: set[str]) -> Iterable[str]:
    """Those that must go, less those that keep their power if these UPSes let themselves be called back."""
    named, host = scene.plan.named, scene.plan.host
    if not saved:
        return scene.must

    def kept(load: Load) -> bool:
        return sum(scene.good(ups) or ups in saved for ups in load.fed_by) >= load.needs_feeds

    going = {name for name, must in scene.must.items() if not must.due_to or not kept(named[name])}
    if host in going:
        return scene.must
    stack = list(going)
    while stack:
        earlier = {name for name in named[stack.pop()].after if name in scene.must} - going
        going |= earlier
        stack.extend(earlier)
    return [name for name in scene.must if name in going]


def _in_time(scene: Scene, ups: str) -> bool:
    """Should it not let itself be called back, there is still time to stop what is up on it."""
    run = scene.ups_run(ups)
    if run is None:
        return False
    left_s = run.cut.begun_s + run.cut.step.offdelay_s - scene.now_s
    return left_s > scene.need_s.get(ups, 0.0) + CALL_S


def _stop(scene: Scene, load: Load, lowest: dict[str, int]) -> Step | None:
    at, run, now_s = scene.at[load.name], scene.run(load.name), scene.now_s
    if at is Standing.STOPPING or any(_waited_for(scene, earlier) for earlier in load.after):
        return None
    if load.name == scene.plan.host:
        if any(name != load.name for name in scene.must) or not all_told(scene):
            return None
    elif any(lowest.get(ups, load.stage) < load.stage for ups in load.fed_by):
        return None
    must, attempt, left_s = scene.must[load.name], 1, load.stop_time_s
    if at is Standing.AGAIN and run is not None:
        attempt = run.stop.step.attempt + 1
        if not run.interrupted:
            if now_s - (run.stop.ended_s or now_s) < RETRY_S:
                return None
            left_s = max(load.stop_time_s - (now_s - run.first.begun_s), 1.0)
    return Step(Act.STOP, load.name, must.why, must.due_to, attempt=attempt, limit_s=left_s)


def _waited_for(scene: Scene, name: str) -> bool:
    return scene.at[name] not in SETTLED and scene.plan.named[name].stop is not None


def _finished(scene: Scene, hand: dict[str, str]) -> str | None:
    """How a run ended, in a sentence; None while it has not."""
    record = scene.record
    wished = record.ordered is not None and not record.ordered.released
    if not (record.taken or wished) or scene.must or scene.told or scene.kept_off or scene.finishing:
        return None
    if any(taken.result is None for taken in record.taken):
        return None
    if any(feed.on_battery and (feed.seen.contact or _holds_stopped(scene, ups)) for ups, feed in scene.feeds.items()):
        return None
    lonely = {load.name for load in scene.stranded if load.down_when is None or record.cancelled}
    for load in scene.plan.loads:
        if scene.at[load.name] is Standing.DOWN and not back(scene, load) and load.name not in lonely:
            return None
    return sentence(scene, hand)


def _holds_stopped(scene: Scene, ups: str) -> bool:
    """Something on it was stopped, or would not; a new run would only tell it again."""
    return any(scene.at[load.name] in (Standing.STUCK, Standing.DOWN) for load in scene.plan.fed[ups])


def _load_phases(scene: Scene) -> dict[str, LoadPhase]:
    """Every load that is not simply up and left alone."""
    lost = {load.name for load in scene.stranded if scene.powered(load)}
    phases: dict[str, LoadPhase] = {}
    for load in scene.plan.loads:
        name, at = load.name, scene.at[load.name]
        run = scene.run(name)
        if at is Standing.UP and run is None and name not in scene.must:
            continue
        match at:
            case Standing.UP | Standing.ABSENT:
                if name in scene.must:
                    phases[name] = LoadPhase.WAITING
                elif run is not None:
                    phases[name] = LoadPhase.BACK
            case Standing.STOPPING | Standing.AGAIN:
                phases[name] = LoadPhase.STOPPING
            case Standing.STUCK:
                phases[name] = LoadPhase.STUCK
            case Standing.STARTING:
                phases[name] = LoadPhase.WAITING if name in scene.must else LoadPhase.STARTING
            case Standing.DOWN:
                down = LoadPhase.NOT_SEEN if scene.unseen(name) else LoadPhase.DOWN
                phases[name] = LoadPhase.STRANDED if name in lost else LoadPhase.BACK if back(scene, load) else down
    return phases


def _ups_phases(scene: Scene) -> dict[str, UpsPhase]:
    """Every UPS that is not simply good."""
    phases: dict[str, UpsPhase] = {}
    for name, feed in scene.feeds.items():
        run, seen = scene.ups_run(name), feed.seen
        if run is not None and run.told:
            over = scene.now_s >= run.cut.begun_s + run.cut.step.offdelay_s
            on = seen.contact and seen.output_since_s is not None
            gone = over and not (scene.record.armed and on)
            racing = seen.mains is Mains.ON
            sent = run.cut.answer is not None
            counts = UpsPhase.LATE if late(scene, name) else UpsPhase.RACING if racing else UpsPhase.TOLD
            phases[name] = UpsPhase.OFF if gone else counts if sent else UpsPhase.TELLING
        elif name in scene.kept_off:
            phases[name] = UpsPhase.OFF
        elif feed.on_battery:
            untold = run is not None and run.cut.result in (Result.NO_EFFECT, Result.FAILED) and not scene.new_outage(name)
            going = scene.triggered(name) and any(load.name in scene.must for load in scene.plan.fed[name])
            phases[name] = UpsPhase.UNTOLD if untold else UpsPhase.TRIGGERED if going else UpsPhase.ON_BATTERY
        elif run is not None and run.cut.result is Result.DONE:
            phases[name] = UpsPhase.RETURNED
        elif not seen.contact:
            phases[name] = UpsPhase.UNSEEN
    return phases
