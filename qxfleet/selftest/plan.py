"""Who may be tested, and who is next: pure functions of how the fleet stands and of what a wave has recorded.

Landscape section 5.6: at most one unit per redundancy group, caps on units and load, recharge spread out, and preconditions
each of which can be switched off and each refusal of which has its reason.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.model.selftest import QUICK_S, Asked, Rules, Verdict
from qxfleet.model.status import Status, status_text

DISTURBED = int(
    Status.OB | Status.LB | Status.BYPASS | Status.TRIM | Status.BOOST | Status.OFF | Status.FSD | Status.CAL | Status.OVER
)
"""Flags that do not go with mains that are normal."""

REGULATES = Status.BOOST | Status.TRIM
REGULATED_STABLE_S = 3600.0
"""Mains that a UPS regulates are normal there after an hour of the same: a brown-out would not last so long."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One UPS as far as a test asks. Times are how long something holds already, None: it does not hold, or nobody knows.

    ``load_span_percent``: most minus least over the steady time. ``mains``: what is odd about their voltage.
    ``unable``: why it can't take this test at all.
    ``failed``: what its last test found wrong with the battery that is still in it. ``maintenance``: by whom and why.
    """

    name: str
    contact: bool = True
    status: int = int(Status.OL)
    alarms: tuple[str, ...] = ()
    eco: bool = False
    mains: str = ""
    stable_s: float | None = math.inf
    charged_s: float | None = math.inf
    load_percent: float | None = None
    load_span_percent: float | None = 0.0
    charge_percent: float | None = None
    runtime_s: float | None = None
    watts: float | None = None
    maintenance: str = ""
    failed: str = ""
    unable: str = ""


@dataclass(frozen=True, slots=True)
class Objection:
    """A reason against a test now; ``lasting``: waiting won't help; ``in_s``: when it is over if nothing happens, if known."""

    text: str
    lasting: bool = False
    in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """One UPS of a wave: its ``state`` as recorded, and the verdict if it has one."""

    ups: str
    state: str = "waiting"
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Wave:
    """A wave as recorded. ``closes_s`` (monotonic): nothing begins later, None: no end. ``patient``: an objection that may
    pass is waited for as long as the window is open; otherwise it refuses at once."""

    asked: Asked
    rules: Rules
    members: tuple[Member, ...]
    closes_s: float | None = None
    patient: bool = True


@dataclass(frozen=True, slots=True)
class Begin:
    """Test this UPS now."""

    ups: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """This UPS is not tested in this wave."""

    ups: str
    text: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now; what each waiting UPS waits for."""

    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Close:
    """Every member has its end."""


Step = Begin | Refuse | Wait | Close


def partners(feeds: Iterable[Collection[str]]) -> dict[str, frozenset[str]]:
    """By UPS: the other feeds of the loads it feeds. ``feeds`` has the UPSes of one load each."""
    found: dict[str, frozenset[str]] = {}
    for fed_by in feeds:
        for ups in fed_by:
            found[ups] = found.get(ups, frozenset()) | (frozenset(fed_by) - {ups})
    return found


QUICK_CHARGED_S = 900.0
"""A quick test takes less than a percent of the charge: a battery that is on float for a quarter of an hour will do. So a fleet
can be tested soon after its agent began to watch."""


def charged_needs_s(asked: Asked, rules: Rules) -> float:
    """How long a battery must be full before this test."""
    return min(rules.charged_s, QUICK_CHARGED_S) if asked.kind == "quick" else rules.charged_s


def timetable(
    upses: Sequence[str], mates: Mapping[str, frozenset[str]], lasts_s: Mapping[str, float], held_s: Mapping[str, float],
    places: int,
) -> dict[str, float]:
    """When each UPS's test would begin, in seconds from now, if nothing but the tests themselves makes any of them wait.

    ``held_s``: how long a UPS holds its place, and its partners up, from the begin of its test until it is recharged.
    """
    begins: dict[str, float] = {}
    free: dict[str, float] = {}
    waiting, now_s = list(upses), 0.0
    while waiting:
        later: list[str] = []
        taken = {ups for ups, until_s in free.items() if until_s > now_s}
        for ups in waiting:
            if len(taken) >= places or taken & mates.get(ups, frozenset()):
                later.append(ups)
                continue
            begins[ups] = now_s
            free[ups] = now_s + max(lasts_s[ups], held_s[ups])
            taken.add(ups)
        waiting = later
        if waiting:
            now_s = min(until_s for until_s in free.values() if until_s > now_s)
    return begins


def needed_s(asked: Asked, runtime_s: float | None) -> float | None:
    """Seconds of battery a test uses; None for one that uses up what is there, or whose length nobody can tell."""
    match asked.kind:
        case "quick":
            return QUICK_S
        case "timed":
            return asked.for_s
        case _:
            if asked.depth_percent is None or runtime_s is None:
                return None
            return runtime_s * asked.depth_percent / 100


def objections(unit: Unit, others: Sequence[Unit], asked: Asked, rules: Rules) -> tuple[Objection, ...]:
    """Everything that speaks against testing a UPS now; ``others`` are its partners. Nothing: it may be tested."""
    found = [*_own(unit, asked, rules), *_runtime(unit, asked, rules)]
    if unit.unable:
        found.append(Objection(unit.unable, lasting=True))
    if unit.failed and not rules.again_after_failure:
        found.append(Objection(f"its battery failed its last test and was not replaced since: {unit.failed}", lasting=True))
    if asked.depth_percent is not None and unit.contact and unit.charge_percent is None:
        found.append(Objection("it tells no charge, so a depth can't be kept", lasting=True))
    if rules.partner_healthy:
        weak = ((other, text) for other in others for text in _weakness(other, rules))
        found += [Objection(f"{other.name} must carry its load, but {text}", lasting=bool(other.failed)) for other, text in weak]
    elif rules.no_maintenance:
        found += [_maintained(other, f"{other.name}, which must carry its load, is ") for other in others if other.maintenance]
    return tuple(found)


def _own(unit: Unit, asked: Asked, rules: Rules) -> Iterable[Objection]:
    if rules.no_maintenance and unit.maintenance:
        yield _maintained(unit, "")
    if not unit.contact:
        yield Objection("no contact")
        return
    if unit.status & Status.CAL:
        yield Objection("a battery test is running that is not of this wave")
        return
    if not unit.status & Status.OL:
        yield Objection(f"not on line ({status_text(unit.status) or 'status not known'})")
        return
    if rules.mains_stable_s:
        if unit.stable_s is None:
            yield Objection(f"mains are not normal ({_mains(unit)})")
        elif unit.stable_s < (needs_s := max(rules.mains_stable_s, REGULATED_STABLE_S if unit.status & REGULATES else 0.0)):
            how = f" ({status_text(unit.status & REGULATES)})" if unit.status & REGULATES else ""
            yield Objection(f"mains stable for {_span(unit.stable_s)}{how}; needs {_span(needs_s)}", in_s=needs_s - unit.stable_s)
    if rules.charged_s:
        if unit.charged_s is None:
            charge = unit.charge_percent
            told = charge is not None and charge < rules.charge_percent
            yield Objection(f"not fully charged, {charge:.0f} %" if told else "not fully charged, by the time since it worked")
        elif unit.charged_s < (needs_s := charged_needs_s(asked, rules)):
            yield Objection(f"charged for {_span(unit.charged_s)}; needs {_span(needs_s)}", in_s=needs_s - unit.charged_s)
    if rules.load_steady_s:
        if unit.load_percent is None:
            yield Objection("its load is not known")
        elif unit.load_span_percent is None:
            yield Objection(f"its load was not watched for {_span(rules.load_steady_s)} yet")
        elif unit.load_span_percent > rules.load_change_percent:
            yield Objection(f"its load moved by {unit.load_span_percent:.0f} % within {_span(rules.load_steady_s)}")
    if rules.load_least_percent and (unit.load_percent is None or unit.load_percent < rules.load_least_percent):
        load = "is not known" if unit.load_percent is None else f"is {unit.load_percent:.0f} %"
        yield Objection(f"its load {load}, {rules.load_least_percent:g} % are asked for")
    if rules.no_alarm:
        yield from (Objection(f"alarm: {alarm}") for alarm in unit.alarms)
        if unit.eco:
            yield Objection("it feeds its load straight from the mains (ECO mode)")


def _runtime(unit: Unit, asked: Asked, rules: Rules) -> Iterable[Objection]:
    if not unit.contact:
        return
    if unit.runtime_s is None:
        if rules.runtime_known and asked.kind != "quick":
            yield Objection("its runtime is not known")
        return
    needed = needed_s(asked, unit.runtime_s)
    if needed is not None and rules.runtime_factor and unit.runtime_s < rules.runtime_factor * needed:
        wanted = f"{rules.runtime_factor:g} times the test's {_span(needed)}"
        yield Objection(f"its runtime of {_span(unit.runtime_s)} is less than {wanted}")


def _mains(unit: Unit) -> str:
    return "; ".join(filter(None, (status_text(unit.status), unit.mains)))


def _weakness(other: Unit, rules: Rules) -> Iterable[str]:
    """Why a partner may not be relied on; one reason is enough."""
    if rules.no_maintenance and other.maintenance:
        yield f"it is under maintenance ({other.maintenance})"
    elif not other.contact:
        yield "there is no contact with it"
    elif not other.status & Status.OL:
        yield "it is not on line"
    elif other.mains or other.status & (DISTURBED & ~REGULATES) or not _settled(other):
        yield f"its mains are not normal ({_mains(other)})"
    elif other.failed:
        yield f"its battery failed its last test: {other.failed}"
    elif rules.charged_s and other.charged_s is None:
        yield "it is not fully charged"
    elif rules.no_alarm and other.alarms:
        yield f"it has an alarm: {other.alarms[0]}"


def _settled(other: Unit) -> bool:
    """Whether mains that it regulates have been so for long."""
    return not other.status & REGULATES or (other.stable_s or 0.0) >= REGULATED_STABLE_S


def _maintained(unit: Unit, who: str) -> Objection:
    return Objection(f"{who}under maintenance ({unit.maintenance})")


def next_step(
    wave: Wave, units: Mapping[str, Unit], mates: Mapping[str, frozenset[str]], busy: Mapping[str, float],
    testing: Collection[str], now_s: float,
) -> Step:
    """What a wave does next.

    ``busy``: UPSes under test or recharging, of all waves, with the moment they are free again; ``testing``: those under test.
    ``mates`` as :func:`partners` gives it.
    """  # fmt: skip
    waiting = [member.ups for member in wave.members if member.state == "waiting"]
    if not waiting:
        return Wait() if any(member.state == "testing" for member in wave.members) else Close()
    failed = [member.ups for member in wave.members if member.verdict is Verdict.FAILED]
    closed = wave.closes_s is not None and now_s >= wave.closes_s
    taken = {ups for ups, free_s in busy.items() if free_s > now_s}
    reasons: dict[str, str] = {}
    for ups in waiting:
        mine = mates.get(ups, frozenset())
        if failed and wave.rules.on_failure == "wave":
            return Refuse(ups, f"the wave was ended: the battery of {failed[0]} failed")
        if broken := next((each for each in failed if each in mine), None):
            return Refuse(ups, f"the battery of {broken} failed in this wave, and {ups} must carry its load")
        against = objections(units[ups], [units[mate] for mate in sorted(mine) if mate in units], wave.asked, wave.rules)
        lasting = [each for each in against if each.lasting]
        held = next((mate for mate in sorted(mine) if mate in taken), None)
        reason = f"{held}, which feeds the same load, is under test or recharging{_left(busy[held], now_s)}" if held else ""
        if lasting or (against and (closed or not (wave.patient or held or ups in taken))):
            return Refuse(ups, "; ".join(each.text for each in lasting or against))
        reason = reason or "; ".join(map(_waited, against)) or _no_place(ups, wave, units, taken, testing)
        if taken and reason.startswith(str(len(taken))):
            reason += _left(min(busy[each] for each in taken), now_s, "the next place is free")
        if closed:
            return Refuse(ups, f"the window closed before its turn came{f': {reason}' if reason else ''}")
        if not reason:
            return Begin(ups)
        reasons[ups] = reason
    return Wait(reasons)


def _left(until_s: float, now_s: float, what: str = "") -> str:
    """How long that goes on; nothing where a test under way decides."""
    if not math.isfinite(until_s):
        return ""
    return f"; {what} in {_span(until_s - now_s)}" if what else f" for another {_span(until_s - now_s)}"


def _waited(each: Objection) -> str:
    return each.text if each.in_s is None else f"{each.text}, {_span(each.in_s)} to go"


def _no_place(ups: str, wave: Wave, units: Mapping[str, Unit], taken: Collection[str], testing: Collection[str]) -> str:
    """Why it is not a UPS's turn yet, though nothing speaks against it; empty if it is."""
    if ups in taken:
        return "it is recharging after a test"
    if len(taken) >= wave.rules.places(len(wave.members)):
        return f"{len(taken)} under test or recharging already"
    if wave.rules.max_watts:
        watts = [units[each].watts for each in (*testing, ups) if each in units]
        if any(each is None for each in watts):
            return "its load in watts is not known" if units[ups].watts is None else "the load under test is not known in watts"
        if testing and sum(each or 0.0 for each in watts) > wave.rules.max_watts:
            return f"more than {wave.rules.max_watts:g} W would be under test"
    return ""


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
