"""A staged shutdown in words: events for those who are told, sentences for those who ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from qxfleet.model.events import Event, EventKind, Severity
from qxfleet.model.loads import Plan
from qxfleet.shutdown.ending import count, names
from qxfleet.shutdown.model import (
    Act,
    Answer,
    Decision,
    End,
    LoadPhase,
    Mains,
    Record,
    Result,
    Step,
    Taken,
    UpsPhase,
    World,
)  # fmt: skip

BEGUN = {
    Act.STOP: ("load-stopping", "is being stopped"), Act.START: ("load-starting", "is being started"),
    Act.CUT: ("ups-cutting", "is to cut its output"), Act.CALL_BACK: ("ups-calling-back", "its cut is to be called back"),
    Act.SWITCH_ON: ("ups-switching-on", "is to switch its output on"),
}  # fmt: skip
ENDED = {
    (Act.STOP, Result.NOT_SEEN): ("load-not-seen-off", "was not seen off"),
    (Act.STOP, Result.DONE): ("load-down", "is down"), (Act.STOP, Result.FAILED): ("load-stuck", "would not stop"),
    (Act.START, Result.DONE): ("load-up", "is up again"), (Act.START, Result.FAILED): ("load-not-up", "did not come up"),
    (Act.CUT, Result.DONE): ("ups-back", "was off and is back"), (Act.CUT, Result.FAILED): ("ups-not-cut", "refused its cut"),
    (Act.CUT, Result.NO_EFFECT): ("ups-not-cut", "did not cut its output"),
    (Act.CUT, Result.UNDONE): ("ups-called-back", "its cut was called back"),
    (Act.CALL_BACK, Result.DONE): ("ups-called-back", "no longer counts down"),
    (Act.CALL_BACK, Result.FAILED): ("ups-not-called-back", "its cut could not be called back"),
    (Act.SWITCH_ON, Result.DONE): ("ups-on", "its output is on"),
    (Act.SWITCH_ON, Result.FAILED): ("ups-not-on", "its output did not come on"),
}  # fmt: skip
"""Names of events, and what they say of their target."""

GOING = (LoadPhase.WAITING, LoadPhase.STOPPING)
"""Phases of a load that others may have to wait for."""

LOAD_WORDS = {
    LoadPhase.UNTOUCHED: "not touched", LoadPhase.WAITING: "waiting", LoadPhase.STOPPING: "stopping", LoadPhase.DOWN: "down",
    LoadPhase.NOT_SEEN: "NOT SEEN OFF",
    LoadPhase.STUCK: "WOULD NOT STOP", LoadPhase.STARTING: "starting", LoadPhase.STRANDED: "START IT BY HAND",
    LoadPhase.BACK: "back",
}  # fmt: skip
UPS_WORDS = {
    UpsPhase.GOOD: "good", UpsPhase.ON_BATTERY: "on battery", UpsPhase.TRIGGERED: "on battery, its loads must go",
    UpsPhase.TELLING: "is being told to cut", UpsPhase.TOLD: "counts down to its cut",
    UpsPhase.RACING: "counts down, mains are back", UpsPhase.LATE: "was to be off by now, is on",
    UpsPhase.OFF: "off", UpsPhase.RETURNED: "back",
    UpsPhase.UNTOLD: "was to cut, did not", UpsPhase.UNSEEN: "no contact",
}  # fmt: skip
"""What every face says of a load and of a UPS."""

UPS_ACTS = (Act.CUT, Act.CALL_BACK, Act.SWITCH_ON)


def begun(step: Step, wall_us: int, *, armed: bool) -> Event:
    """A step's intent."""
    name, text = BEGUN[step.act]
    again = f", try {step.attempt}" if step.attempt > 1 else ""
    return _event(step, name, "begin", f"{step.target} {text}{again}: {step.why}", wall_us, armed, Severity.WARNING)


def answered(step: Step, answer: Answer, text: str, wall_us: int) -> Event:
    """What the act itself gave."""
    good = answer is Answer.ACCEPTED
    said = f": {text}" if text else ""
    return _event(step, BEGUN[step.act][0], answer.value, f"{step.target}: {answer.value}{said}", wall_us, True,
                  Severity.INFO if good else Severity.WARNING)  # fmt: skip


def ended(taken: Taken, end: End, wall_us: int, *, armed: bool, again: bool = False) -> Event:
    """How a step ended. ``again``: it failed, and will be tried again."""
    step = taken.step
    if step.act is Act.CUT and end.result is Result.FAILED:
        given = "it is not told again, and its battery drains until it is empty: switch it off by hand"
        what = "it is told again" if again else given
        said = f"{step.target} refused its cut ({end.text}): {what}"
        severity = Severity.WARNING if again else Severity.CRITICAL
        return _event(step, "ups-not-cut", end.result.value, said, wall_us, armed, severity)
    if again:
        said = f"{step.target} was not stopped, and is tried again: {end.text}"
        return _event(step, "load-not-stopped", end.result.value, said, wall_us, armed, Severity.WARNING)
    name, text = ENDED.get((step.act, end.result), (BEGUN[step.act][0], f"{end.result.value}: {step.act.value}"))
    severity = {Result.DONE: Severity.NOTICE, Result.NOT_SEEN: Severity.WARNING}.get(end.result, Severity.CRITICAL)
    said = f"{step.target} {text}" if not end.text or end.text == text else f"{step.target}: {end.text}"
    return _event(step, name, end.result.value, said, wall_us, armed, severity)


def _event(step: Step, name: str, value: str, text: str, wall_us: int, armed: bool, severity: Severity) -> Event:
    ups = step.target if step.act in UPS_ACTS else None
    return Event(wall_us, ups, EventKind.SHUTDOWN, name, value if ups else f"{step.target} {value}",
                 text if armed else f"(not armed, nothing is touched) {text}", severity)  # fmt: skip


def was_told(taken: Taken) -> bool:
    """An order to cut that went out, as far as is known, and has not come to its end."""
    sent = taken.answer in (Answer.ACCEPTED, Answer.UNCONFIRMED, Answer.INTERRUPTED)
    return taken.step.act is Act.CUT and taken.result is None and sent


def cancelled(record: Record) -> str:
    """What cancelling means now."""
    cut = [taken.step.target for taken in record.taken if was_told(taken)]
    if not record.taken:
        return "nothing was stopped, and nothing will be"
    if cut:
        return (
            f"nothing more is stopped. {', '.join(cut)} {'was' if len(cut) == 1 else 'were'} told to cut already: what still "
            f"counts down is called back; what is off {_comes_back(record)}"
        )
    return "nothing more is stopped; what was stopped is started again as soon as its power is good"


def _comes_back(record: Record) -> str:
    """What becomes of UPSes that are off, by what they were told."""
    stays = any(taken.step.act is Act.CUT and taken.step.stay_off for taken in record.taken)
    return "stays off until it is switched on" if stays else "comes back by itself with the mains"


# -- how it stands, for those who ask


def given_up(decision: Decision) -> list[str]:
    """UPSes that were to cut, did not, and need a person."""
    return [ups for ups in decision.by_hand if decision.upses.get(ups) is UpsPhase.UNTOLD]


def advice(
    record: Record, counts: Mapping[str, int], *, cut_told: bool, to_cut: Sequence[str] = (), given_up: Sequence[str] = ()
) -> str:
    """What an operator can do now, in a sentence or two; ``to_cut``: of the decision, ``given_up``: of :func:`given_up`."""
    if record.cancelled:
        return "It was cancelled. What was stopped is started again as soon as its power is good; there is nothing left to do."
    if not record.armed:
        return "It is not armed: nothing is touched. `qxfleet shutdown arm` lets it act from now on."
    if cut_told:
        some = counts.get(LoadPhase.NOT_SEEN.value)
        unseen = "What was not seen off loses its power with them if it still runs.\n" if some else ""
        more = f"{names(to_cut)} {_is(to_cut)} to be told to cut as well.\n" if to_cut else ""
        vain = f"{_vain(given_up)}\n" if given_up else ""
        return (
            f"UPSes were told to cut: what goes off {_comes_back(record)}.\n{unseen}{more}{vain}"
            "`qxfleet shutdown cancel` stops nothing more, and calls back every cut that still counts down."
        )
    if any(counts.get(phase.value) for phase in (LoadPhase.WAITING, LoadPhase.STOPPING, LoadPhase.STUCK)):
        tried = any(taken.step.act is Act.CUT for taken in record.taken)
        none = "No UPS counts down to its cut" if tried else "No UPS was told to cut yet"
        return f"{none}: `qxfleet shutdown cancel` stops nothing more and brings back what was stopped."
    if to_cut:
        return (
            f"{names(to_cut)} {_is(to_cut)} about to be told to cut: `qxfleet shutdown cancel` cuts nothing more and\n"
            "brings back what was stopped."
        )
    wish = record.ordered
    if wish is not None and not wish.released and not wish.drill:
        return (
            "Nothing more is being stopped. What was ordered to stop stays down until `qxfleet shutdown cancel`, on good power\n"
            "too, or until somebody starts it by hand."
        )
    head = _vain(given_up) if given_up else "Nothing more is being stopped."
    return f"{head} What is down is started again as soon as its power is good and stable."


def _vain(upses: Sequence[str]) -> str:
    return f"{names(upses)} did not cut and need{'s' if len(upses) == 1 else ''} you."


def _is(of: Sequence[str]) -> str:
    return "is" if len(of) == 1 else "are"


FORCED_ADVICE = "`qxfleet shutdown cancel` tells them no longer to shut down; what has seen it goes down all the same."


def headline(
    plan: Plan, record: Record, decision: Decision, world: World, *, running: bool, armed: bool, forced: Mapping[str, str] = {},
    unread: bool = False,
) -> str:  # fmt: skip
    """One sentence that is true and says the worst first; ``forced``: UPSes whose NUT clients are told to
    shut down because one of them said so, each with who that was; ``unread``: what an earlier agent left can't be read yet."""
    others = _others(decision, world, forced)
    off = [ups for ups in world.upses.values() if ups.mains is Mains.OFF]
    if not plan.loads:
        return "; ".join(("no [[load]] is configured: nothing would be stopped", *others))
    if not running:
        guard = "armed" if armed else "NOT ARMED: nothing would be touched"
        on_battery = f"{len(off)} of {len(world.upses)} UPSes on battery"
        if unread:
            head = f"the record can't be read yet, so that it is not known whether a shutdown is under way ({guard})"
            return "; ".join((head, on_battery, *others))
        down = sum(seen.up is False for seen in world.loads.values())
        so_far = f"{count(down, 'load')} seen down, by no shutdown on record" if down else "nothing stopped yet"
        battery = f"{on_battery}, {so_far}" if off else "mains are good everywhere"
        return "; ".join((f"no shutdown {'of the plan ' if others else ''}is under way ({guard})", battery, *others))
    phases = Counter(decision.loads.values())
    what = "drill" if record.ordered is not None and record.ordered.drill else "shutdown"
    head = f"{what} under way" if record.armed else f"{what} under way, NOT ARMED: nothing is touched"
    if record.cancelled:
        head += ", cancelled: nothing more is stopped"
    words = (
        (LoadPhase.STUCK, "would not stop"), (LoadPhase.NOT_SEEN, "not seen off"),
        (LoadPhase.STOPPING, "stopping"), (LoadPhase.WAITING, "waiting for others"),
        (LoadPhase.DOWN, "down"), (LoadPhase.STARTING, "starting"), (LoadPhase.STRANDED, "to be started by hand"),
        (LoadPhase.BACK, "back"),
    )  # fmt: skip
    counts = ", ".join(f"{phases[phase]} {word}" for phase, word in words if phases[phase])
    battery = f"{len(off)} of {len(world.upses)} UPSes on battery" if off else "mains are good"
    return "; ".join((head, battery, f"of {len(plan.loads)} loads {counts or 'none touched yet'}", *others))


def _others(decision: Decision, world: World, forced: Mapping[str, str]) -> list[str]:
    """What goes on besides the plan: UPSes that somebody else told to cut, clients that another client tells to go."""
    ours = (UpsPhase.TELLING, UpsPhase.TOLD, UpsPhase.RACING, UpsPhase.LATE, UpsPhase.OFF)
    cut = [ups for ups, seen in world.upses.items()
           if seen.contact and seen.counting_down and decision.upses.get(ups) not in ours]  # fmt: skip
    told = [f"all NUT clients of {names(list(forced))} are told to shut down (FSD), by {names(sorted(set(forced.values())))}"]
    count = f"count{'s' if len(cut) == 1 else ''} down to {'its' if len(cut) == 1 else 'their'} cut"
    return [*([f"{names(cut)} {count}"] if cut else []), *(told if forced else [])]


def load_says(
    phase: LoadPhase, limit_s: float, waits_for: Sequence[str], *, for_s: float | None, tries: int | None, text: str | None
) -> str:
    """What there is to say of a load beside its phase, from its last step; ``waits_for``: loads that must be down before it."""
    parts: list[str] = []
    if for_s is not None:
        if phase in (LoadPhase.STOPPING, LoadPhase.STARTING):
            again = f", try {tries}" if tries is not None and tries > 1 else ""
            parts.append(f"for {duration(for_s)} of at most {duration(limit_s)}{again}")
        elif phase in (LoadPhase.DOWN, LoadPhase.BACK):
            return f"after {duration(for_s)}"
    if phase is LoadPhase.WAITING:
        parts.append(f"for {names(waits_for)}" if waits_for else "for its turn")
    return " ".join([*parts, *([f"({text})"] if text else [])])


def run_says(number: int | None, ordered_by: str | None, for_s: float | None, steps: int) -> str:
    """A run under way, in one line."""
    which = "" if number is None else f"run {number}, "
    began = "" if for_s is None else f" {duration(for_s)} ago"
    return f"{which}{f'ordered by {ordered_by}' if ordered_by else 'begun by the plan'}{began}, {count(steps, 'step')} so far"


def duration(seconds: float) -> str:
    """Whole seconds, minutes or tenths of hours."""
    if seconds >= 120:
        return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
    return f"{seconds:.0f} s"
