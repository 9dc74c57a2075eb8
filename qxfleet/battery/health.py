"""What a battery is worth now, and until when: a verdict with its reasons, never a bare percentage. Pure functions.

Methods, thresholds and their limits: landscape section 5. What the data can't carry is said to be insufficient.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.battery.capacity import per_cell
from qxfleet.battery.posterior import WORN, Belief, Measure, Signs, Z, believe
from qxfleet.battery.steps import SHORT_LEAST, step_chance
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.clock import from_us
from qxfleet.model.discharge import Method
from qxfleet.store.batteries import Capacity, Recent, Rest, Short

DAY_US = 86400e6
YEAR_DAYS = 365.25

GOOD = 90.0
NOW, SOON, DOUBT = 0.95, 0.50, 0.20
"""Probabilities that a battery is worn out for it to be replaced now, or soon, or tested."""

FAULT_NOW, FAULT_TEST = 0.90, 0.30
"""Probabilities that a block failed, by the voltage of short runs, for it to be replaced soon, or tested."""

STALE_DAYS = 400.0
"""A capacity measured longer ago than this is history: a yearly test is due."""

WATCH_V, ALARM_V = -0.020, -0.050
"""Loaded voltage per cell against the battery's own first discharges (section 5.4)."""

RESISTANCE_WATCH, RESISTANCE_FAILING = 1.2, 1.5
FLOAT_V = (2.20, 2.35)
"""Volts per cell at 25 °C that a charger holds: 2.25 to 2.30, and what thermometer and voltmeter may add (section 5.5)."""

FLOAT_PER_K = 0.003
CELLS_DOUBTED = (2.05, 2.50)
FROZEN_DAYS = 30.0
"""A load that stays on one whole percent for so many days is no measurement."""

TREND = 2
"""Capacities from which on the dates rest on them rather than on the age."""

LATEST_DAYS = 30 * YEAR_DAYS
NOTHING = (None, None, None)
OUTLIER = 3.0
COHORT = 5
REPLACED_UP = 12.0
"""A capacity does not rise by so many points unless the battery is another one."""


FAILED_STEP = "replace it and write that down (battery replaced), or have it pass a test (test start --force)"


class Verdict(enum.Enum):
    """What to do about a battery, the worst last."""

    UNKNOWN = "unknown"
    GOOD = "good"
    WATCH = "watch"
    TEST_DUE = "test due"
    REPLACE_SOON = "replace soon"
    REPLACE_NOW = "replace now"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one battery, as stored; ``cells`` None: nobody said how many there are."""

    ups: str
    battery: str
    battery_id: int
    since_us: int
    facts: BatteryFacts
    cells: int | None
    model: str = ""
    capacities: tuple[Capacity, ...] = ()
    recent: tuple[Recent, ...] = ()
    short: tuple[Short, ...] = ()
    rest: Rest | None = None
    lately: Rest | None = None
    failures: tuple[str, ...] = ()
    """What shows that it failed, in words; each of them stands until it is replaced or passes a test."""


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement of one battery; None is "insufficient". Times are UTC microseconds.

    ``percent`` with its standard error, where a capacity was ever measured. ``confidence``: A measured capacity, B partial
    curve, C indicators only, D age only. ``basis``: the dates rest on a ``trend`` of capacities or on the ``age``. ``data`` names
    what is wrong with the data. ``belief`` is what verdict, figures and dates come from.
    """

    evidence: Evidence
    verdict: Verdict
    percent: float | None = None
    error: float | None = None
    per_year: float | None = None
    by_us: int | None = None
    low_us: int | None = None
    high_us: int | None = None
    basis: str | None = None
    confidence: str | None = None
    reasons: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    next_step: str = ""
    belief: Belief | None = None
    used: tuple[Capacity, ...] = ()


@dataclass(slots=True)
class _Findings:
    reasons: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def say(self, verdict: Verdict, text: str) -> None:
        self.verdicts.append(verdict)
        self.reasons.append(text)


def fleet_health(fleet: Sequence[Evidence], now_us: int) -> list[Health]:
    """The judgement of every battery, each also compared with its like."""
    outliers = cohort_outliers(fleet)
    return [health(each, now_us, outliers.get(each.battery_id, ())) for each in fleet]


def health(evidence: Evidence, now_us: int, outliers: Sequence[str] = ()) -> Health:
    """The judgement of one battery; ``outliers`` names what sets it apart from its like."""
    found = _Findings()
    facts = evidence.facts
    for text in evidence.failures:
        found.say(Verdict.REPLACE_SOON, text)
    if not facts.lead:
        found.say(Verdict.UNKNOWN, f"{facts.chemistry}: its voltage tells neither charge nor age, the methods are for lead-acid")
        step = FAILED_STEP if evidence.failures else "follow the maker's advice"
        return Health(evidence, _worst(found), reasons=tuple(found.reasons), next_step=step)
    frozen = _check_data(evidence, found)
    used = _usable_capacities(evidence, frozen, found)
    day0_us = facts.installed_us or evidence.since_us
    today = max(0.0, (now_us - day0_us) / DAY_US)
    measures = [Measure((each.at_us - day0_us) / DAY_US, each.percent, each.error) for each in used]
    signs = _signs(evidence)
    dated = facts.installed_us is not None
    known = dated or bool(measures) or signs.sag_v is not None
    belief = believe(tuple(measures), signs, math.ceil(today)) if known else None
    confidence = _confidence(used, evidence, now_us, frozen, belief)
    _judge(found, belief, used, measures, today, confidence)
    _judge_steps(found, evidence)
    _judge_signs(found, signs, evidence, used)
    for text in outliers:
        found.say(Verdict.WATCH, text)
    if not used:
        found.reasons.append("no capacity: " + _why_insufficient(evidence, frozen))
    verdict = _worst(found)
    if verdict is Verdict.UNKNOWN and belief is not None and confidence in ("A", "B", "C"):
        verdict = Verdict.GOOD
    shown = belief is not None and bool(used)
    percent, error, per_year = _figures(belief) if belief is not None and shown else NOTHING
    by_us, low_us, high_us = _dates(belief, day0_us) if belief is not None and (dated or used) else NOTHING
    basis = None if by_us is None else "trend" if len(used) >= TREND else "age"
    return Health(
        evidence, verdict, percent, error, per_year, by_us, low_us, high_us, basis, confidence, tuple(found.reasons),
        tuple(found.data), FAILED_STEP if evidence.failures else _next_step(verdict, confidence, frozen), belief, tuple(used),
    )  # fmt: skip


def _signs(evidence: Evidence) -> Signs:
    """What goes with a loss of capacity; and how warm it is, where a thermometer tells."""
    facts, rest = evidence.facts, evidence.rest
    levels = [each.index_v for each in evidence.recent if each.index_v is not None]
    ratios = [each.resistance_ratio for each in evidence.recent if each.resistance_ratio is not None]
    stuck = rest is not None and rest.days >= FROZEN_DAYS and rest.temperature_low_c == rest.temperature_high_c
    ageing = None if rest is None or stuck or rest.temperature_low_c is None else rest.ageing
    return Signs(
        facts.design_life_years * YEAR_DAYS, ageing, facts.installed_us is not None,
        statistics.median(levels[-3:]) if levels else None, statistics.median(ratios[-3:]) if ratios else None,
    )  # fmt: skip


def _worst(found: _Findings) -> Verdict:
    return max(found.verdicts, key=list(Verdict).index, default=Verdict.UNKNOWN)


def _check_data(evidence: Evidence, found: _Findings) -> bool:
    """What is wrong with the data; whether the load reading is frozen."""
    facts, rest, lately = evidence.facts, evidence.rest, evidence.lately
    if facts.installed_us is None:
        found.data.append(
            "nobody wrote down when the battery was installed: `qxfleet battery replaced`, or installed in [[battery]]"
        )
    if not evidence.cells:
        found.data.append("the number of cells is not known: write cells into [[battery]]")
    frozen = False
    if rest is None:
        found.data.append("no days of history yet")
        return False
    if rest.load_low_percent is not None and rest.load_low_percent == rest.load_high_percent and rest.days >= FROZEN_DAYS:
        frozen = True
        shown = f"the load reading is frozen at {rest.load_low_percent:g} % for {rest.days:.0f} days"
        remedy = f", {facts.assumed_load_percent:g} % is assumed" if facts.assumed_load_percent else ": write assumed_load"
        found.data.append(shown + remedy)
    span_days = (rest.last_us - rest.first_us) / DAY_US + 28
    if rest.days < 0.8 * span_days:
        found.data.append(f"history of {rest.days:.0f} days in {span_days:.0f} only")
    if rest.temperature_low_c is None:
        found.data.append("no temperature: 25 °C is assumed")
    elif rest.temperature_low_c == rest.temperature_high_c and rest.days >= FROZEN_DAYS:
        found.data.append(f"the temperature never leaves {rest.temperature_low_c:g} °C: a placeholder, ageing is not known")
    told = lately or rest
    cell_v = per_cell(told.float_v, evidence.cells)
    if told.float_v is not None and evidence.cells:
        if cell_v is None or not CELLS_DOUBTED[0] <= cell_v <= CELLS_DOUBTED[1]:
            found.data.append(f"{told.float_v:g} V at rest do not fit {evidence.cells} cells")
        else:
            warm = told.temperature_c if told.temperature_c is not None else 25.0
            at_25 = cell_v + FLOAT_PER_K * (warm + facts.sensor_offset_c - 25)
            if not FLOAT_V[0] <= at_25 <= FLOAT_V[1]:
                side = "low" if at_25 < FLOAT_V[0] else "high"
                found.say(Verdict.WATCH, f"charger: {at_25:.2f} V per cell at 25 °C is {side} ({FLOAT_V[0]} to {FLOAT_V[1]} V)")
    return frozen


def _usable_capacities(evidence: Evidence, frozen: bool, found: _Findings) -> list[Capacity]:
    """Those that speak of this battery, by a load that was measured or is known."""
    if frozen and evidence.facts.assumed_load_percent is None:
        return []
    used: list[Capacity] = []
    for each in evidence.capacities:
        before = [other.percent for other in used[-3:]]
        if before and each.percent - statistics.median(before) > max(REPLACED_UP, 2.5 * each.error):
            found.data.append(
                f"capacity rose from {statistics.median(before):.0f} to {each.percent:.0f} %: was the battery replaced? "
                f"then write it down: qxfleet battery replaced {evidence.ups} --date …"
            )
            used = []
        used.append(each)
    return used


def _confidence(
    used: Sequence[Capacity], evidence: Evidence, now_us: int, frozen: bool, belief: Belief | None
) -> str | None:
    """The grade; a load that is only assumed lowers it by one."""
    fresh = [each for each in used if (now_us - each.at_us) / DAY_US <= STALE_DAYS]
    seen = [each.began_us for each in evidence.recent if each.index_v is not None]
    seen += [each.began_us for each in evidence.short[SHORT_LEAST - 1 :]]
    grade: str | None = None
    if any(each.method is Method.FULL for each in fresh):
        grade = "A"
    elif fresh:
        grade = "B"
    elif any((now_us - at_us) / DAY_US <= STALE_DAYS for at_us in seen):
        grade = "C"
    elif belief is not None:
        grade = "D"
    if frozen and grade in ("A", "B", "C"):
        grade = chr(ord(grade) + 1)
    return grade


def _judge(
    found: _Findings, belief: Belief | None, used: Sequence[Capacity], measures: Sequence[Measure], today: float,
    confidence: str | None,
) -> None:
    """The verdict of the posterior, in words."""
    if belief is None:
        return
    if not used:
        if belief.worn >= SOON:
            age = f"{today / YEAR_DAYS:.1f} years old" if confidence == "D" else "by its age and its voltage"
            found.say(Verdict.TEST_DUE, f"{age}, worn out with {100 * belief.worn:.0f} % probability")
        elif belief.worn >= DOUBT and confidence == "C":
            found.say(Verdict.WATCH, f"worn out with {100 * belief.worn:.0f} % probability, by its age and its voltage")
        return
    how = "a run to low battery" if used[-1].method is Method.FULL else "the stretch of a partial discharge"
    ago = today - measures[-1].day
    when = f" {ago:.0f} days ago" if ago >= STALE_DAYS else ""
    count = f"{len(used)} measurement{'s' if len(used) > 1 else ''}"
    half = (belief.percent_high - belief.percent_low) / 2
    shown = f"capacity {(belief.percent_low + belief.percent_high) / 2:.0f} ± {half:.0f} % by {count}, the last {how}{when}"
    if belief.worn >= NOW:
        found.say(Verdict.REPLACE_NOW, f"{shown}: below {WORN:.0f} % a whole string is replaced")
    elif belief.worn >= SOON:
        found.say(Verdict.REPLACE_SOON, f"{shown}: below {WORN:.0f} % with {100 * belief.worn:.0f} % probability")
    elif belief.worn_soon >= SOON:
        found.say(Verdict.REPLACE_SOON, f"{shown}: below {WORN:.0f} % within half a year with "
                                        f"{100 * belief.worn_soon:.0f} % probability")  # fmt: skip
    elif ago >= STALE_DAYS or belief.worn >= DOUBT:
        found.say(Verdict.TEST_DUE, f"{shown}: below {WORN:.0f} % with {100 * belief.worn:.0f} % probability")
    elif belief.percent < GOOD:
        found.say(Verdict.WATCH, f"{shown}: test at least yearly")
    else:
        found.reasons.append(shown)


def _judge_signs(found: _Findings, signs: Signs, evidence: Evidence, used: Sequence[Capacity]) -> None:
    """What was seen under load since the last capacity, or with it, and can't wait for the next."""
    if used and evidence.recent and evidence.recent[-1].began_us < used[-1].at_us:
        return
    if signs.sag_v is not None and signs.sag_v <= WATCH_V:
        text = f"loaded voltage {1000 * signs.sag_v:+.0f} mV per cell against its first discharges"
        found.say(Verdict.TEST_DUE if signs.sag_v <= ALARM_V else Verdict.WATCH, text)
    if signs.ohmic is not None and signs.ohmic >= RESISTANCE_WATCH:
        text = f"apparent resistance {signs.ohmic:.2f} times its first"
        found.say(Verdict.TEST_DUE if signs.ohmic >= RESISTANCE_FAILING else Verdict.WATCH, text)


def _judge_steps(found: _Findings, evidence: Evidence) -> None:
    """A step of the voltage in short runs, as the ten seconds of a quick test are: a block that failed."""
    seen = step_chance(evidence.short)
    if seen is None or seen.chance < FAULT_TEST:
        return
    since = from_us(seen.since_us).date().isoformat()
    text = f"voltage under load {1000 * seen.step_v:+.0f} mV per cell since {since}, in {seen.count} short runs"
    if seen.chance >= FAULT_NOW:
        found.say(Verdict.REPLACE_SOON, f"{text}: a block failed, or it wears out fast ({100 * seen.chance:.0f} % probability)")
    else:
        found.say(Verdict.TEST_DUE, f"{text}: a block may have failed")


def _why_insufficient(evidence: Evidence, frozen: bool) -> str:
    if frozen:
        return "insufficient, the load reading is frozen"
    if not evidence.cells:
        return "insufficient, the number of cells is not known"
    if evidence.facts.installed_us is None and not evidence.facts.runtimes:
        return "insufficient, neither a run of the battery when new nor the maker's runtimes are known"
    return "insufficient, no discharge was deep enough to measure one"


def _figures(belief: Belief) -> tuple[float, float, float]:
    """Percent, its standard error, and percent a year: so that percent ± Z errors are the bounds."""
    middle = (belief.percent_low + belief.percent_high) / 2
    return round(middle, 1), round((belief.percent_high - belief.percent_low) / 2 / Z, 1), round(belief.per_year, 1)


def _dates(belief: Belief, day0_us: int) -> tuple[int, int, int]:
    """Likely, early and late date of the end."""
    likely, low, high = (
        day0_us + round(min(day, LATEST_DAYS) * DAY_US) for day in (belief.end_likely, belief.end_low, belief.end_high)
    )
    return likely, min(low, likely), max(high, likely)


def _next_step(verdict: Verdict, confidence: str | None, frozen: bool) -> str:
    """The cheapest thing that helps."""
    if frozen:
        return "write assumed_load into [[battery]], the load as measured with a meter"
    match verdict:
        case Verdict.REPLACE_NOW:
            return "replace the whole string"
        case Verdict.REPLACE_SOON:
            return "order a string; a deep test tells how urgent it is"
        case Verdict.TEST_DUE | Verdict.UNKNOWN:
            return "run a deep test, or a timed one to 40 % of the charge"
        case Verdict.WATCH:
            return "test it again within half a year"
        case Verdict.GOOD:
            return "none" if confidence in ("A", "B") else "a deep test would measure its capacity"


def cohort_outliers(fleet: Sequence[Evidence]) -> Mapping[int, tuple[str, ...]]:
    """Batteries that differ from their like in two discharges running, by robust z above 3 (section 5.5); at least five alike."""
    groups: dict[tuple[str, str, int], list[Evidence]] = {}
    for each in fleet:
        if each.facts.installed_us is not None and each.recent:
            age = int((each.recent[-1].began_us - each.facts.installed_us) / DAY_US / YEAR_DAYS / 2)
            groups.setdefault((each.model, each.facts.type, age), []).append(each)
    found: dict[int, tuple[str, ...]] = {}
    kinds: tuple[tuple[str, Callable[[Recent], float | None], float], ...] = (
        ("loaded voltage", lambda item: item.index_v, -1.0),
        ("time of recharge", lambda item: item.recharge_per_depth_s, 1.0),
    )
    for alike in groups.values():
        for what, value_of, bad in kinds if len(alike) >= COHORT else ():
            series = {each.battery_id: [v for item in each.recent if (v := value_of(item)) is not None] for each in alike}
            all_values = [value for values in series.values() for value in values[-2:]]
            if len(all_values) < COHORT:
                continue
            middle = statistics.median(all_values)
            spread = 1.4826 * statistics.median(abs(value - middle) for value in all_values)
            if spread <= 0:
                continue
            for battery_id, values in series.items():
                if len(values) >= 2 and all(bad * (value - middle) / spread > OUTLIER for value in values[-2:]):
                    z = (values[-1] - middle) / spread
                    text = f"{what} stands out among {len(alike)} alike (z {z:+.1f})"
                    found[battery_id] = (*found.get(battery_id, ()), text)
    return found
