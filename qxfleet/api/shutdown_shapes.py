"""How the staged shutdown stands, and runs that were, made into answers: see ``responses``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from qxfleet.agent.agent import Agent
from qxfleet.api import responses
from qxfleet.api.shapes import state_told
from qxfleet.errors import PlanError
from qxfleet.model.clock import iso
from qxfleet.model.loads import Load
from qxfleet.shutdown.model import Act, Decision, LoadPhase, Mains, Taken, UpsPhase, UpsSeen, World
from qxfleet.shutdown.record import Scale
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.shutdown.telling import (
    FORCED_ADVICE,
    GOING,
    LOAD_WORDS,
    UPS_WORDS,
    advice,
    duration,
    given_up,
    headline,
    load_says,
    run_says,
    was_told,
)  # fmt: skip
from qxfleet.store.shutdown import StoredRun


def part_of(agent: Agent) -> StagedShutdown:
    """The staged shutdown of an agent. Raises PlanError where it runs none."""
    part = agent.part(StagedShutdown)
    if part is None:
        raise PlanError("this agent runs no staged shutdown")
    return part


def status_document(agent: Agent) -> responses.Shutdown:
    """How it stands now: the headline, each load and UPS that is concerned, what only a person can do. Raises PlanError."""
    part, scale = part_of(agent), Scale.of(agent.clock)
    plan, record, decision, world = part.plan, part.record, part.decision, part.world
    last = {taken.step.target: taken for taken in record.taken}
    loads = [
        _load(load, phase, last.get(load.name), decision, world, scale)
        for load in plan.loads
        if (phase := decision.loads.get(load.name, LoadPhase.UNTOUCHED)) is not LoadPhase.UNTOUCHED
        or load.name in decision.by_hand
    ]
    upses = [
        _ups(name, decision.upses.get(name, UpsPhase.GOOD), last.get(name), world.upses.get(name), scale)
        for name in sorted({ups for load in plan.loads for ups in load.fed_by})
        if decision.upses.get(name, UpsPhase.GOOD) is not UpsPhase.GOOD
    ]
    forced = {flag.ups: flags.actor for flag, flags in agent.forced.all().items() if not flag.load}
    told = any(was_told(taken) for taken in record.taken)
    counts = dict(Counter(each["phase"] for each in loads))
    said = advice(record, counts, cut_told=told, to_cut=decision.to_cut, given_up=given_up(decision))
    run = _run(part, scale) if part.running else None
    return {
        "agent": agent.config.agent.name,
        "time": iso(scale.now_us),
        "advice": said if run is not None else FORCED_ADVICE if forced else "",
        "headline": headline(
            plan, record, decision, world, running=run is not None, armed=part.armed, forced=forced, unread=part.unread
        ),
        "forced": forced,
        **arming(part),
        "run": run,
        "loads": loads,
        "upses": upses,
        "by_hand": dict(decision.by_hand),
        "counts": counts,
        "loads_configured": len(plan.loads),
        "cut_told": told,
        **state_told(agent),
    }


def arming(part: StagedShutdown) -> responses.Arming:
    """Whether it is armed, since when, and by whom."""
    last = part.arming
    return {
        "armed": part.armed, "armed_by": last.actor if last else "the configuration",
        "armed_since": iso(last.at_us) if last else None, "armed_reason": last.reason if last else "",
    }  # fmt: skip


def _run(part: StagedShutdown, scale: Scale) -> responses.RunNow:
    ordered, taken = part.record.ordered, part.record.taken
    for_s, by = round(scale.now_s - taken[0].begun_s, 1) if taken else None, ordered.actor if ordered else None
    return {
        "run": part.run_id, "began": iso(scale.wall_us(taken[0].begun_s)) if taken else None, "for_s": for_s, "steps": len(taken),
        "armed": part.record.armed, "cancelled": part.record.cancelled, "ordered_by": by,
        "drill": bool(ordered and ordered.drill), "says": run_says(part.run_id, by, for_s, len(taken)),
    }  # fmt: skip


def _load(
    load: Load, phase: LoadPhase, taken: Taken | None, decision: Decision, world: World, scale: Scale
) -> responses.LoadNow:
    seen = world.loads.get(load.name)
    limit_s = load.start_time_s if taken is not None and taken.step.act is Act.START else load.stop_time_s
    step = _step(taken, scale)
    waits_for = [name for name in load.after if decision.loads.get(name) in GOING] if phase is LoadPhase.WAITING else []
    return {
        "load": load.name, "phase": phase.value, "stands": LOAD_WORDS[phase],
        "up": seen.up if seen else None, "fed_by": list(load.fed_by),
        "after": list(load.after), **step, "limit_s": limit_s, "by_hand": decision.by_hand.get(load.name), "waits_for": waits_for,
        "says": load_says(phase, limit_s, waits_for, for_s=step["for_s"], tries=step["try"], text=step["text"]),
    }  # fmt: skip


def _ups(name: str, phase: UpsPhase, taken: Taken | None, seen: UpsSeen | None, scale: Scale) -> responses.UpsNow:
    age_s = None if seen is None else max(0.0, scale.now_s - seen.seen_s)
    left_s = None
    if seen is not None and seen.mains is Mains.OFF and seen.runtime_s is not None and age_s is not None:
        left_s = max(0.0, seen.runtime_s - age_s)
    return {
        "ups": name, "phase": phase.value, "stands": UPS_WORDS[phase],
        "mains": seen.mains.value if seen else None, "contact": bool(seen and seen.contact),
        "charge": seen.charge if seen else None, "runtime_s": left_s,
        "left": "" if left_s is None else duration(left_s), "low_battery": bool(seen and seen.low_battery),
        **_step(taken, scale),
    }  # fmt: skip


def _step(taken: Taken | None, scale: Scale) -> responses.Taken:
    if taken is None:
        return {"since": None, "for_s": None, "why": None, "try": None, "answer": None, "text": None}
    ended_s = scale.now_s if taken.ended_s is None else taken.ended_s
    return {
        "since": iso(scale.wall_us(taken.begun_s)), "for_s": round(max(0.0, ended_s - taken.begun_s), 1),
        "why": taken.step.why, "try": taken.step.attempt, "answer": taken.answer.value if taken.answer else None,
        "text": taken.text or None,
    }  # fmt: skip


def report(run: StoredRun, loads: Mapping[str, Load]) -> responses.Run:
    """A run as a report: every load and UPS it acted on, how that ended, what it took and what it was given."""
    rows: list[responses.RunStep] = []
    for step in run.steps:
        load = loads.get(step.target)
        allowed = None if load is None else load.start_time_s if step.act == "start" else load.stop_time_s
        rows.append({
            "number": step.number, "act": step.act, "target": step.target, "try": step.step.get("attempt", 1),
            "why": step.step.get("why", ""), "begun": iso(step.begun_us), "answer": step.answer, "result": step.result,
            "ended": None if step.ended_us is None else iso(step.ended_us), "took_s": step.took_s,
            "for_s": None if step.ended_us is None else round((step.ended_us - step.begun_us) / 1e6, 1),
            "limit_s": allowed if load is not None else None, "text": step.text,
            "watched": load is not None and load.down_when is not None,
        })  # fmt: skip
    ordered = run.ordered or {}
    return {
        "run": run.id, "kind": "drill" if ordered.get("drill") else "ordered" if ordered else "outage", "armed": run.armed,
        "actor": run.actor, "started": iso(run.started_us), "ended": None if run.ended_us is None else iso(run.ended_us),
        "outcome": run.outcome, "text": run.text, "steps": rows,
    }  # fmt: skip
