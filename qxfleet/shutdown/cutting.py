"""Telling UPSes to cut, calling them back, switching them on again.

A UPS with something running on it is never told to cut: its battery decides. What was told is finished: it goes off and returns
by itself, and with it every UPS that feeds the same stopped loads, so that machines see their power go and come. It is called
back only where mains are back in time and something on it is up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qxfleet.model.loads import Load
from qxfleet.shutdown.ending import names
from qxfleet.shutdown.model import Act, Mains, Result, Step
from qxfleet.shutdown.progress import RETRY_S, Standing
from qxfleet.shutdown.scene import GONE, Scene
from qxfleet.shutdown.triggers import spell_s

OWN_EXTRA_S = 30.0
"""Beyond the stop_time of the agent's own host, before its UPS cuts."""

LATE_S = 5.0
"""A countdown that should be over by this much is not called back any more."""

CALLS = 2
"""How often a UPS is called back at most."""


def cuts(scene: Scene) -> list[Step]:
    """Orders to cut that are due now: one by one, ``stagger`` apart, the agent's own UPSes behind all others."""
    off = scene.plan.ups_off
    if off.then == "leave":
        return []
    wanted = _wanted(scene)
    host = scene.plan.named[scene.plan.host] if scene.plan.host is not None else None
    own = [ups for ups in wanted if host is not None and ups in host.fed_by]
    others = [ups for ups in wanted if ups not in own]
    if others or not _all_else_settled(scene, host):
        turn = sorted(others, key=lambda ups: not scene.feeds[ups].low_battery)
    else:
        turn = own
    last_s = scene.found.last_cut_s
    steps: list[Step] = []
    for rank, ups in enumerate(turn):
        hurry = scene.feeds[ups].low_battery
        waits = last_s is not None and scene.now_s - last_s < off.stagger_s
        if not hurry and (waits or (rank and off.stagger_s)):
            continue
        steps.append(_cut(scene, ups, wanted[ups], len(scene.told) + len(steps), host if ups in own else None))
    return steps


def _wanted(scene: Scene) -> dict[str, str]:
    """UPSes that are to cut now, each with the reason."""
    return {ups: why for ups, why in _due(scene).items() if not _paused(scene, ups)}


def _due(scene: Scene) -> dict[str, str]:
    """UPSes that are to cut, now or at their next try, each with the reason."""
    cycle = to_cycle(scene)
    return {ups: why for ups in scene.plan.fed if (why := _why(scene, ups, cycle)) is not None}


def _paused(scene: Scene, ups: str) -> bool:
    """Its last cut came to nothing a moment ago."""
    run = scene.ups_run(ups)
    return run is not None and run.cut.ended_s is not None and scene.now_s - run.cut.ended_s < RETRY_S


def to_cut(scene: Scene) -> tuple[str, ...]:
    """UPSes that are to be told to cut yet, or again, and those that were and have not answered."""
    if scene.plan.ups_off.then == "leave":
        return ()
    due = _due(scene)
    return tuple(ups for ups in scene.plan.fed if ups in due or (ups in scene.told and _unanswered(scene, ups)))


def given_up(scene: Scene, ups: str) -> bool:
    """It was told to cut on battery, refused or did not, and is not told again; its output is on as far as is known."""
    run, feed = scene.ups_run(ups), scene.feeds[ups]
    vain = run is not None and run.cut.result in (Result.FAILED, Result.NO_EFFECT)
    return vain and feed.on_battery and not scene.may_try(ups)


def late(scene: Scene, ups: str) -> bool:
    """Its countdown is over by more than a moment, and its output was seen to be on since."""
    run, seen = scene.ups_run(ups), scene.feeds[ups].seen
    if run is None or not seen.contact or seen.output_since_s is None:
        return False
    return seen.seen_s > run.cut.begun_s + run.cut.step.offdelay_s + LATE_S


def _cut(scene: Scene, ups: str, why: str, rank: int, host: Load | None) -> Step:
    off, run = scene.plan.ups_off, scene.ups_run(ups)
    again = run is not None and run.cut.result in (Result.FAILED, Result.NO_EFFECT) and not scene.new_outage(ups)
    offdelay_s = off.offdelay_s
    if host is not None and scene.at[host.name] is not Standing.DOWN:
        before_s = host.stop_time_s + OWN_EXTRA_S + len(host.fed_by) * off.stagger_s
        offdelay_s = max(offdelay_s, 60.0 * math.ceil(before_s / 60.0))
    return Step(
        Act.CUT, ups, why, (ups,), attempt=run.cut.step.attempt + 1 if again and run is not None else 1,
        offdelay_s=offdelay_s, ondelay_s=off.ondelay_s + rank * off.stagger_s,
        stay_off=off.then == "stay-off" or ups in scene.plan.stay_off,
    )  # fmt: skip


def _why(scene: Scene, ups: str, cycle: set[str]) -> str | None:
    """Why a UPS is to cut now; None where it is not, or may not."""
    plan, feed = scene.plan, scene.feeds[ups]
    loads = plan.fed[ups]
    host = next((load for load in loads if load.name == plan.host), None)
    ours = [load for load in loads if scene.at[load.name] is Standing.DOWN]
    leaving = host is not None and (host.name in scene.must or host in ours)
    if not (ours or leaving) or not scene.empty(ups) or not scene.may_try(ups):
        return None
    if host is not None and not leaving:
        return None
    if ups in cycle:
        return "mains are back, and what hangs on it starts only when its power comes"
    if scene.record.cancelled and not _anew(scene, ups):
        return None
    last_chance = plan.host is not None and plan.host in scene.must  # nobody is left to cut this one later
    due = bool(scene.triggered(ups)) or last_chance or any(ups in _due_to(scene, load) for load in ours)
    if (feed.on_battery and due) or ups in scene.finishing:
        return _all_gone(scene, ours, host)
    if not (feed.good or feed.on_battery):
        return None
    sharing = [*ours, *([host] if host is not None else [])]
    shared = (other for load in sharing for other in load.fed_by if other in scene.told)
    partner = next((other for other in shared if not _came_after(scene, ups, other)), None)
    if partner is not None and scene.spared is None:
        return f"{partner} was told to cut and feeds the same: what has begun is finished"
    wish = scene.record.ordered
    if wish is not None and wish.cut and not wish.released and all(load.name in scene.held_down for load in ours):
        return f"{wish.actor} ordered it"
    return None


def _all_gone(scene: Scene, ours: Sequence[Load], host: Load | None) -> str:
    """That nothing on a UPS is known to run, in words that claim no more than was seen."""
    later = "" if host is None else ", or will be by then"
    unseen = [load for load in ours if scene.unseen(load.name)]
    if not unseen:
        return f"everything it feeds is down{later}"
    down = [load.name for load in ours if load not in unseen and load is not host]
    are = f"{names(down)} {'is' if len(down) == 1 else 'are'} down{later}, " if down else ""
    time = f"was not seen off in its {spell_s(unseen[0].stop_time_s)}" if len(unseen) == 1 else "were not seen off in their time"
    return f"{are}{names([load.name for load in unseen])} {time}"


def _came_after(scene: Scene, ups: str, other: str) -> bool:
    """Its output came on when the other was off already: what hangs on both has seen its power come."""
    run, since_s = scene.ups_run(other), scene.feeds[ups].seen.output_since_s
    return run is not None and since_s is not None and since_s > run.cut.begun_s + run.cut.step.offdelay_s


def _due_to(scene: Scene, load: Load) -> tuple[str, ...]:
    run = scene.run(load.name)
    return () if run is None else run.stop.step.due_to


def _all_else_settled(scene: Scene, host: Load | None) -> bool:
    return host is None or all(name == host.name for name in scene.must)


def _unanswered(scene: Scene, ups: str) -> bool:
    run = scene.ups_run(ups)
    return run is not None and run.cut.answer is None


def all_told(scene: Scene) -> bool:
    """Every UPS that can be told to cut was told, and answered."""
    if scene.plan.ups_off.then == "leave":
        return True
    return not _wanted(scene) and not any(_unanswered(scene, ups) for ups in scene.told)


def to_cycle(scene: Scene) -> set[str]:
    """UPSes to be cut although mains are there, because loads on them start by themselves only when their power comes.

    None once an operator cancelled: what would be cut for that would be called back for this.
    """
    if not scene.record.armed or scene.plan.ups_off.then != "return" or scene.record.cancelled:
        return set()
    cycle: set[str] = set()
    for load in scene.stranded:
        if scene.powered(load) and all(_may_cycle(scene, ups) for ups in load.fed_by):
            cycle.update(load.fed_by)
    return cycle


def _may_cycle(scene: Scene, ups: str) -> bool:
    """Everything on it is seen to be down, and none of it is to go on being down."""
    return ups not in scene.plan.stay_off and ups in scene.live and scene.may_try(ups) and all(
        scene.at[load.name] in GONE and scene.up[load.name] is False and load.name not in scene.held_down
        for load in scene.plan.fed[ups]
    )  # fmt: skip


def call_backs(scene: Scene) -> list[Step]:
    """UPSes that count down with mains back and something up on them; and, when an operator cancels, all that count down."""
    steps = []
    for ups in (each for each in scene.plan.fed if each in scene.told):
        run, feed = scene.ups_run(ups), scene.feeds[ups]
        if run is None or run.cut.answer is None or not feed.seen.contact or feed.seen.output_since_s is None:
            continue
        if scene.now_s > run.cut.begun_s + run.cut.step.offdelay_s + LATE_S:
            continue
        why = _call_back_why(scene, ups)
        last = run.call_back
        if last is not None and last.begun_s >= run.cut.begun_s:
            tried = last.step.attempt
            if last.result is None or tried >= CALLS or scene.now_s - (last.ended_s or 0.0) < RETRY_S:
                continue
        else:
            tried = 0
        if why is not None:
            steps.append(Step(Act.CALL_BACK, ups, why, (ups,), attempt=tried + 1))
    return steps


def called_back(scene: Scene) -> set[str]:
    """UPSes that were called back, and have not shown yet whether they took it."""
    runs = ((ups, scene.ups_run(ups)) for ups in scene.told)
    return {ups for ups, run in runs if run is not None and run.call_back is not None and run.call_back.result is None}


def _call_back_why(scene: Scene, ups: str) -> str | None:
    if scene.record.cancelled and not _anew(scene, ups):
        return "the shutdown was cancelled while it counts down"
    if scene.feeds[ups].seen.mains is not Mains.ON or scene.plan.on_power_return == "finish":
        return None
    for load in scene.plan.fed[ups]:
        running = scene.at[load.name] in (Standing.UP, Standing.AGAIN, Standing.STUCK, Standing.STARTING)
        if running and scene.up[load.name] and sum(scene.good(each) for each in load.fed_by) < load.needs_feeds:
            return f"mains are back, and {load.name} is up on it"
    return None


def _anew(scene: Scene, ups: str) -> bool:
    """Its mains failed after an operator cancelled: that is another story."""
    return scene.spared is not None and ups not in scene.spared and scene.feeds[ups].on_battery


def switch_ons(scene: Scene) -> list[Step]:
    """UPSes that were told to stay off, once mains are stable; one at a time, ``stagger`` apart."""
    steps: list[Step] = []
    held = {ups for name in scene.held_down for ups in scene.plan.named[name].fed_by}
    began = [run.switch_on.begun_s for run in scene.found.upses.values() if run.switch_on is not None]
    last_s = max(began, default=None)
    for ups in sorted(scene.kept_off - held):
        run, seen = scene.found.upses[ups], scene.feeds[ups].seen
        stable = seen.mains is Mains.ON and scene.now_s - seen.since_s >= scene.plan.coming_back.mains_stable_s
        charged = seen.charge is None or seen.charge >= scene.plan.coming_back.charge_above
        last = run.switch_on if run.switch_on is not None and run.switch_on.begun_s > run.cut.begun_s else None
        ready = last is None or (last.ended_s is not None and scene.now_s - last.ended_s >= 6 * RETRY_S)
        if not (stable and charged and seen.contact and ready):
            continue
        if steps or (last_s is not None and scene.now_s - last_s < scene.plan.ups_off.stagger_s):
            break
        attempt = 1 if last is None else last.step.attempt + 1
        steps.append(Step(Act.SWITCH_ON, ups, "mains are stable again", (ups,), attempt=attempt))
    return steps
