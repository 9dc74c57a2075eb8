"""What a battery is worth now, and until when: a verdict with its reasons, never a bare percentage. Pure functions.

Methods, thresholds and their limits: landscape section 5. What the data can't carry is said to be insufficient.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qxfleet.battery.capacity import per_cell
from qxfleet.battery.trend import WORN, Forecast, Line, Point, Z, forecast, line_through
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Method
from qxfleet.store.batteries import Capacity, Recent, Rest

DAY_US = 86400e6
YEAR_DAYS = 365.25

GOOD = 90.0
SURE = 1.28
"""Standard errors by which a capacity must miss 80 % to be called worn out."""

SOON_DAYS = 180.0
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
    rest: Rest | None = None
    lately: Rest | None = None
    failures: tuple[str, ...] = ()
    """What shows that it failed, in words; each of them stands until it is replaced or passes a test."""


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement of one battery; None is "insufficient". Times are UTC microseconds.

    ``confidence``: A measured capacity, B partial curve, C indicators only, D age only. ``basis`` tells whether the dates come
    from the ``trend`` of capacities or from the ``age``. ``data`` names what is wrong with the data.
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
    line: Line | None = None
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
    day0_us = evidence.facts.installed_us or evidence.since_us
    today = (now_us - day0_us) / DAY_US
    points = [Point((each.at_us - day0_us) / DAY_US, each.percent, each.error) for each in used]
    line = line_through(points)
    ageing = (evidence.rest.ageing if evidence.rest else None) or 1.0
    design_days = facts.design_life_years * YEAR_DAYS
    ahead = forecast(line, points, today, ageing, design_days, dated=facts.installed_us is not None)
    percent, error = _level(points, line, today)
    confidence = _confidence(used, evidence, now_us, frozen, ahead)
    _judge_capacity(found, used, percent, error, today, points)
    _judge_indicators(found, evidence, outliers)
    _judge_date(found, ahead, today, confidence, ageing)
    if percent is None and not used:
        found.reasons.append("no capacity: " + _why_insufficient(evidence, frozen))
    verdict = _worst(found)
    measured_good = percent is not None and percent >= GOOD and confidence in ("A", "B")
    if verdict is Verdict.UNKNOWN and (measured_good or confidence == "C"):
        verdict = Verdict.GOOD
    dates = _dates(ahead, day0_us, now_us, ageing, design_days, used)
    return Health(
        evidence, verdict, _rounded(percent), _rounded(error), None if line is None else round(line.per_day * YEAR_DAYS, 1),
        *dates, ahead.basis if ahead else None, confidence, tuple(found.reasons), tuple(found.data),
        FAILED_STEP if evidence.failures else _next_step(verdict, confidence, frozen), line, tuple(used),
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


def _level(points: Sequence[Point], line: Line | None, today: float) -> tuple[float | None, float | None]:
    """Capacity now and its standard error; None where it was measured too long ago."""
    if not points or today - points[-1].day > STALE_DAYS:
        return None, None
    last = points[-1]
    if line is None:
        return last.percent, last.error
    now = line.at(min(today, line.last_day + STALE_DAYS))
    near = statistics.fmean([now, last.percent + line.per_day * (today - last.day)])
    return max(0.0, min(near, 110.0)), max(line.error, 0.6 * last.error)


def _confidence(used: Sequence[Capacity], evidence: Evidence, now_us: int, frozen: bool, ahead: Forecast | None) -> str | None:
    """The grade; a load that is only assumed lowers it by one."""
    fresh = [each for each in used if (now_us - each.at_us) / DAY_US <= STALE_DAYS]
    grade: str | None = None
    if any(each.method is Method.FULL for each in fresh):
        grade = "A"
    elif fresh:
        grade = "B"
    elif any(each.index_v is not None and (now_us - each.began_us) / DAY_US <= STALE_DAYS for each in evidence.recent):
        grade = "C"
    elif ahead is not None:
        grade = "D"
    if frozen and grade in ("A", "B", "C"):
        grade = chr(ord(grade) + 1)
    return grade


def _judge_capacity(
    found: _Findings, used: Sequence[Capacity], percent: float | None, error: float | None, today: float, points: Sequence[Point]
) -> None:
    if used and percent is None:
        found.say(
            Verdict.TEST_DUE, f"capacity was measured {(today - points[-1].day):.0f} days ago, {used[-1].percent:.0f} % then"
        )
    if percent is None or error is None:
        return
    how = "a run to low battery" if used[-1].method is Method.FULL else "the stretch of a partial discharge"
    shown = f"capacity {percent:.0f} ± {Z * error:.0f} % by {len(used)} measurement{'s' if len(used) > 1 else ''}, the last {how}"
    worn = percent + SURE * error < WORN
    twice = len(used) >= 2 and all(each.percent < WORN for each in used[-2:]) and percent + 0.5 * error < WORN
    if (worn and used[-1].percent < WORN) or twice:
        found.say(Verdict.REPLACE_NOW, f"{shown}: below {WORN:.0f} % a whole string is replaced")
    elif percent < WORN:
        found.say(Verdict.REPLACE_SOON, f"{shown}: below {WORN:.0f} %, within its error")
    elif percent < GOOD:
        found.say(Verdict.WATCH, f"{shown}: test at least yearly")
    else:
        found.reasons.append(shown)


def _judge_indicators(found: _Findings, evidence: Evidence, outliers: Sequence[str]) -> None:
    levels = [each.index_v for each in evidence.recent if each.index_v is not None]
    if levels:
        index_v = statistics.fmean(levels[-3:]) if (evidence.cells or 0) <= 12 else statistics.median(levels[-3:])
        shown = f"loaded voltage {1000 * index_v:+.0f} mV per cell against its first discharges"
        if index_v <= ALARM_V:
            found.say(Verdict.TEST_DUE, f"{shown}: test it now")
        elif index_v <= WATCH_V:
            found.say(Verdict.WATCH, shown)
    ratios = [each.resistance_ratio for each in evidence.recent if each.resistance_ratio is not None]
    if ratios:
        ratio = statistics.median(ratios[-3:])
        if ratio >= RESISTANCE_FAILING:
            found.say(Verdict.TEST_DUE, f"apparent resistance {ratio:.2f} times its first: often failing")
        elif ratio >= RESISTANCE_WATCH:
            found.say(Verdict.WATCH, f"apparent resistance {ratio:.2f} times its first")
    for text in outliers:
        found.say(Verdict.WATCH, text)


def _judge_date(found: _Findings, ahead: Forecast | None, today: float, confidence: str | None, ageing: float) -> None:
    if ahead is None:
        return
    if ahead.basis == "trend" and ahead.likely_day - today <= SOON_DAYS and confidence in ("A", "B"):
        found.say(Verdict.REPLACE_SOON, f"the trend meets {WORN:.0f} % within {max(0, ahead.likely_day - today):.0f} days")
    elif ahead.basis == "age" and today > ahead.likely_day and confidence in ("C", "D"):
        found.say(Verdict.TEST_DUE, f"{today / YEAR_DAYS:.1f} years old, ageing {ageing:.1f} times as fast as at 25 °C")


def _why_insufficient(evidence: Evidence, frozen: bool) -> str:
    if frozen:
        return "insufficient, the load reading is frozen"
    if not evidence.cells:
        return "insufficient, the number of cells is not known"
    if evidence.facts.installed_us is None and not evidence.facts.runtimes:
        return "insufficient, neither a run of the battery when new nor the maker's runtimes are known"
    return "insufficient, no discharge was deep enough to measure one"


def _dates(
    ahead: Forecast | None, day0_us: int, now_us: int, ageing: float, design_days: float, used: Sequence[Capacity]
) -> tuple[int | None, int | None, int | None]:
    """Likely, early and late date; the first two are cut to the design life, but not to before a good measurement."""
    if ahead is None:
        return None, None, None
    end = design_days / ageing
    last_good = max(((each.at_us - day0_us) / DAY_US for each in used if each.percent > WORN), default=0.0)
    cut = max(end, last_good)
    days = (min(ahead.likely_day, cut), min(ahead.low_day, cut), ahead.high_day)
    likely, low, high = (day0_us + round(day) * round(DAY_US) for day in days)
    return likely, min(low, likely), max(high, likely)


def _next_step(verdict: Verdict, confidence: str | None, frozen: bool) -> str:
    """The cheapest thing that helps."""
    if frozen:
        return "write assumed_load into [[battery]], the load as measured with a meter"
    match verdict:
        case Verdict.REPLACE_NOW:
            return "replace the whole string"
        case Verdict.REPLACE_SOON:
            return "order a string; a deep test tells whether it is urgent"
        case Verdict.TEST_DUE | Verdict.UNKNOWN:
            return "run a deep test, or a timed one to 40 % of the charge"
        case Verdict.WATCH:
            return "test it again within half a year"
        case Verdict.GOOD:
            return "none" if confidence in ("A", "B") else "a deep test would measure its capacity"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


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
