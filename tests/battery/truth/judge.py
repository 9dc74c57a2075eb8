"""The judgement of simulated strings week by week beside the truth, through the package's own cutting and scoring."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qxfleet.battery.capacity import score
from qxfleet.battery.discharge import Rating, cut
from qxfleet.battery.health import Evidence, Health, Verdict, health
from qxfleet.battery.survey import short_runs
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Discharge
from qxfleet.store.batteries import EARLY_LOW_S, SHORT_S, Capacity, Recent, Rest
from tests.battery.truth.simulate import BEGIN_US, DAY_US, YEAR, Unit

RATED_W = 1500.0


@dataclass(frozen=True, slots=True)
class Week:
    """One judgement and the truth of its day."""

    unit: Unit
    day: float
    health: Health
    usable: float
    worn_day: float

    @property
    def told(self) -> bool:
        """Whether somebody is told to replace it."""
        return self.health.verdict in (Verdict.REPLACE_SOON, Verdict.REPLACE_NOW)


def rest_of(unit: Unit, day: float) -> Rest:
    """The months before: what a thermometer told."""
    warm = 25.0 if unit.stuck else unit.room_c
    spread = 0.0 if unit.stuck else 3.0
    since_us, now_us = BEGIN_US + round(max(0, day - 365) * DAY_US), BEGIN_US + round(day * DAY_US)
    load = 100 * unit.load
    return Rest(min(day, 365.0), 2 ** ((warm - 25) / 9), warm, warm - spread, warm + spread, 2.27 * unit.cells, load, load - 9,
                load + 9, since_us, now_us)  # fmt: skip


def discharges(unit: Unit, facts: BatteryFacts) -> list[Discharge]:
    """Cut and scored as they happened."""
    rating = Rating(RATED_W, input_v=230.0, battery_v=2.0 * unit.cells)
    curves, found, previous = {}, list[Discharge](), None
    for number, samples in enumerate(unit.runs):
        cuts = cut(unit.name, samples, rating, previous)
        for each in cuts:
            item = replace(each.discharge, id=number, battery_id=1)
            curves[number] = each.curve
            item = replace(item, score=score(item, each.curve, found, lambda run: curves[run.id], facts, unit.cells))
            found.append(item)
            previous = item
    return found


def weeks(unit: Unit, years: float = 5.0, every_days: float = 7.0) -> list[Week]:
    """One judgement a week, until the string is worn far beyond doubt."""
    facts = BatteryFacts(cells=unit.cells, installed_us=BEGIN_US, rated_w=RATED_W)
    scored = discharges(unit, facts)
    worn_day = unit.worn_day()
    found = []
    truth_days = np.arange(0, years * YEAR + 30, 28.0)
    truth = np.array([unit.usable(float(day)) for day in truth_days])
    for day in np.arange(35.0, years * YEAR, every_days):
        now_us = BEGIN_US + round(day * DAY_US)
        before = [each for each in scored if each.began_us <= now_us]
        judged = health(_evidence(unit, facts, before, float(day)), now_us)
        usable = float(np.interp(day, truth_days, truth))
        if day >= unit.blocks.fault_day:
            usable = unit.usable(float(day))
        found.append(Week(unit, float(day), judged, usable, worn_day))
        if usable < 0.6 and day > max(worn_day, unit.blocks.fault_day) + 200:
            break
    return found


def _evidence(unit: Unit, facts: BatteryFacts, before: list[Discharge], day: float) -> Evidence:
    capacities = tuple(
        Capacity(1, each.began_us, each.score.capacity_percent, each.score.capacity_error or 9.0, each.score.method, each.id or 0)
        for each in before if each.score.capacity_percent is not None and each.score.method is not None
    )  # fmt: skip
    recent = tuple(
        Recent(each.began_us, each.cause, each.score.index_v, None, each.score.resistance_ratio)
        for each in before if each.score.index_v is not None
    )[-3:]  # fmt: skip
    short = short_runs(
        [(each.began_us, each.lowest_v, each.float_v, each.load_percent) for each in before
         if each.rested and each.lowest_v and each.load_percent and SHORT_S[0] <= (each.lasted_s or 0) <= SHORT_S[1]],
        unit.cells,
    )  # fmt: skip
    low = [each for each in before if each.rested and each.low_after_s is not None and each.low_after_s < EARLY_LOW_S]
    failures = ("low at once",) if low and low[-1] is before[-1] else ()
    rest = rest_of(unit, day)
    return Evidence(unit.name, "b", 1, BEGIN_US, facts, unit.cells, capacities=capacities, recent=recent, short=short, rest=rest,
                    lately=rest, failures=failures)  # fmt: skip


def figures(found: list[list[Week]]) -> dict[str, float]:
    """Shares in percent, as the documentation gives them."""
    every = [each for unit in found for each in unit]
    sound = [each for each in every if each.unit.blocks.fault_kind == 0]
    dated = [each for each in sound if each.health.low_us is not None and each.health.high_us is not None]
    ends = [(each, each.worn_day * DAY_US + BEGIN_US) for each in dated]
    measured = [each for each in every if each.health.percent is not None and each.health.error is not None
                and each.day < each.unit.blocks.fault_day]  # fmt: skip
    off = [(each.health.percent or 0) - 100 * each.usable for each in measured]
    stuck = [(each, end) for each, end in ends if each.unit.stuck]

    def share(hits: list[bool]) -> float:
        return 100 * sum(hits) / max(1, len(hits))

    good = [unit for unit in found if min(each.usable for each in unit) >= 0.85]
    worn = [unit for unit in found if unit[0].unit.policy != "quick" and _first_evidence(unit) is not None]
    late = []
    for unit in worn:
        since = _first_evidence(unit)
        assert since is not None
        late.append(any(each.told for each in unit if each.day <= since + 60))
    broken = [unit for unit in found if unit[0].unit.policy == "quick" and unit[0].unit.blocks.fault_kind]
    whole = [unit for unit in found if unit[0].unit.policy == "quick" and not unit[0].unit.blocks.fault_kind]
    return {
        "units": len(found),
        "judgements": len(every),
        "end within its bounds": share([(each.health.low_us or 0) <= end <= (each.health.high_us or 0) for each, end in ends]),
        "end before the early bound": share([end < (each.health.low_us or 0) for each, end in ends]),
        "the same, thermometer stuck": share([end < (each.health.low_us or 0) for each, end in stuck]),
        "health within its error": share([abs(o) <= 1.645 * (e.health.error or 0) for o, e in zip(off, measured, strict=True)]),
        "bias of health, points": float(np.mean(off)) if off else 0.0,
        "never below 85 %: units": len(good),
        "never below 85 %: told 'replace now'": sum(any(e.health.verdict is Verdict.REPLACE_NOW for e in unit) for unit in good),
        "truly below 80 % and measured: units": len(worn),
        "of these told within 60 days of the first evidence": share(late),
        "short runs only, a block failed: units": len(broken),
        "of these told": share([any(e.told for e in unit if e.day > unit[0].unit.blocks.fault_day) for unit in broken]),
        "short runs only, none failed: units": len(whole),
        "of these told of a block though above 80 %": sum(
            any(e.usable >= 0.8 and e.told and "a block failed" in " ".join(e.health.reasons) for e in unit) for unit in whole
        ),
    }


def _first_evidence(unit: list[Week]) -> float | None:
    """The day of the first run that measured a capacity after the string fell below 80 %."""
    for each in unit:
        if each.usable < 0.8 and any(c.at_us > BEGIN_US + each.worn_day * DAY_US for c in each.health.used):
            return each.day
    return None


