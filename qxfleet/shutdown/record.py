"""A run between memory and store: what is committed reads back as the same values, on this boot's monotonic time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from statistics import median
from typing import Any

from qxfleet.model import loads
from qxfleet.model.clock import Clock
from qxfleet.model.loads import Load, NutLoggedOut, Plan, TcpClosed
from qxfleet.shutdown.looks import SILENT_S
from qxfleet.shutdown.model import Act, Answer, Ordered, Record, Result, Step, Taken
from qxfleet.store.shutdown import StoredRun, StoredStep

_KINDS: Mapping[str, type] = {
    name: kind for name, kind in vars(loads).items() if isinstance(kind, type) and is_dataclass(kind)
}

ENOUGH = 3
"""Times that must have been seen before what is usual counts more than what is configured."""


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON; only what is not the default is kept."""
    coded = _coded(plan)
    assert isinstance(coded, dict)
    return coded


def plan_of(stored: Mapping[str, Any]) -> Plan:
    """The plan that was stored. Raises ValueError for one that is none."""
    plan = _decoded(stored)
    if not isinstance(plan, Plan):
        raise ValueError("the stored plan is none")
    return plan


def _coded(value: Any) -> Any:
    if type(value).__name__ in _KINDS:
        own = ((each, getattr(value, each.name)) for each in fields(value))
        return {"is": type(value).__name__, **{each.name: _coded(held) for each, held in own if held != each.default}}
    return [_coded(each) for each in value] if isinstance(value, tuple) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, Mapping):
        kind = _KINDS.get(value.get("is", ""))
        if kind is None:
            raise ValueError(f"the stored plan holds {value.get('is')!r}, which this version does not know")
        known = {each.name for each in fields(kind)}
        return kind(**{name: _decoded(held) for name, held in value.items() if name in known})
    return tuple(_decoded(each) for each in value) if isinstance(value, list) else value


def ordered_json(ordered: Ordered | None) -> dict[str, Any] | None:
    """An operator's wish as JSON."""
    if ordered is None:
        return None
    return {each.name: getattr(ordered, each.name) for each in fields(ordered)} | {"loads": sorted(ordered.loads)}


def ordered_of(stored: Mapping[str, Any] | None) -> Ordered | None:
    """An operator's wish as it was stored."""
    return None if stored is None else Ordered(**{**stored, "loads": frozenset(stored["loads"])})


@dataclass(frozen=True, slots=True)
class Scale:
    """Where monotonic time stands beside wall time now; a moment that was stored is placed by that, never in the future."""

    now_s: float
    now_us: int

    @classmethod
    def of(cls, clock: Clock) -> Scale:
        """Now."""
        return cls(clock.monotonic(), clock.wall_us())

    def seconds(self, wall_us: int) -> float:
        """Wall time as monotonic."""
        return self.now_s - max(0, self.now_us - wall_us) / 1e6

    def wall_us(self, mono_s: float) -> int:
        """Monotonic time as wall time."""
        return self.now_us - round((self.now_s - mono_s) * 1e6)


def step_row(taken: Taken, scale: Scale) -> StoredStep:
    """The intent of a step as it is stored."""
    step = taken.step
    own = {each.name: getattr(step, each.name) for each in fields(step) if each.name not in ("act", "target")}
    return StoredStep(
        taken.number, step.act.value, step.target, {**own, "due_to": list(step.due_to)}, scale.wall_us(taken.begun_s)
    )


def step_of(stored: StoredStep) -> Step:
    """What a stored step was to do."""
    known = {each.name for each in fields(Step)}
    own = {name: value for name, value in stored.step.items() if name in known}
    return Step(act=Act(stored.act), target=stored.target, **{**own, "due_to": tuple(own.get("due_to", ()))})


def record_of(run: StoredRun, scale: Scale) -> Record:
    """A run as it is taken up again: a step without an answer was interrupted, and is never simply repeated."""
    return Record(run.armed, tuple(_taken(each, scale) for each in run.steps), ordered_of(run.ordered), run.cancelled)


def _taken(stored: StoredStep, scale: Scale) -> Taken:
    begun = Taken(stored.number, step_of(stored), scale.seconds(stored.begun_us), text=stored.text)
    answered_s = None if stored.answered_us is None else scale.seconds(stored.answered_us)
    ended_s = None if stored.ended_us is None else scale.seconds(stored.ended_us)
    answer = Answer.INTERRUPTED if stored.answer is None else Answer(stored.answer)
    return replace(
        begun, answer=answer, answered_s=scale.now_s if answered_s is None else answered_s,
        result=None if stored.result is None else Result(stored.result), ended_s=ended_s,
    )  # fmt: skip


def learned(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What a stop took at worst of late, by load; nothing for one that was not seen often enough."""
    return {load: max(taken) for load, taken in times.items() if len(taken) >= ENOUGH}


def usual(times: Sequence[float]) -> float | None:
    """What it takes mostly; None where it was never seen."""
    return median(times) if times else None


def with_learned(plan: Plan, times: Mapping[str, Sequence[float]]) -> Plan:
    """The plan with what earlier runs and drills have shown."""
    worst = learned({
        load.name: [took_s for took_s in times.get(load.name, ()) if took_s >= _shortest_s(load)] for load in plan.loads
    })  # fmt: skip
    return replace(plan, loads=tuple(replace(load, learned_s=worst.get(load.name)) for load in plan.loads))


def _shortest_s(load: Load) -> float:
    """No host is seen off by its silence in less; times below are from versions that took a closed port or a logout for it."""
    return SILENT_S if isinstance(load.down_when, TcpClosed | NutLoggedOut) and load.down_when.also is None else 0.0
