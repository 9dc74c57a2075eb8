"""What one discharge says of the battery it drained: capacity, loaded voltage, resistance against the battery when new.

Methods and thresholds: landscape sections 5.1 to 5.4. Pure functions; numpy and scipy are imported when a curve is fitted.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Discharge, Method, Sample, Score
from qxfleet.model.electrical import local_exponent
from qxfleet.model.status import Status

LB = int(Status.LB)
DAY_US = 86400e6

NEW_US = 180 * DAY_US
"""A run this soon after the battery was installed shows what it is worth when new: its commissioning test."""

FIRST_YEAR_US = 365 * DAY_US
"""Loaded voltages of this time are what later ones are compared with."""

STEADY = 60.0
"""A silence of more seconds than this leaves too much of a discharge unknown."""

LOAD_ERROR, LOAD_STEP = 0.02, 0.29
"""Relative error of a load, and percent points lost by its rounding to whole percent (one sigma)."""

OTHER_ERROR = 0.02
"""Temperature, the flag's voltage step, readings seconds apart: relative."""

SKIPPED_S = 30.0
"""The first dip is not compared (section 5.3)."""

LIKE_LOAD = (0.7, 1.45)
"""Loads within these ratios make comparable curves."""

FINE_STEP_V = 0.005
"""Per cell: a voltage told in steps no coarser than this shows a stretch at half the depth."""

LEAST_DEPTH_FINE, LEAST_DEPTH = 0.20, 0.40
"""Share of the charge that a partial discharge must draw before its curve says anything (section 5.3)."""

CURVE_FLOOR_FINE, CURVE_FLOOR = 0.03, 0.05
"""Standard error of a stretch that no fit gets below, for 40 % of the charge (the desk simulation of section 5.3)."""

LARGEST_CURVE_ERROR = 0.12
STRETCH = (0.2, 1.15)
"""What lies outside is no battery of the same kind, or no fit."""


def temperature_factor(celsius: float | None) -> float:
    """Capacity at a temperature against that at 25 °C; 1 where it is not known (section 5.3)."""
    if celsius is None:
        return 1.0
    return min(1.02, 1 + 0.006 * (max(celsius, 0.0) - 25.0))


def cells_of(facts: BatteryFacts, nominal_v: float | None) -> int | None:
    """Cells in series; None where nobody said."""
    return facts.cells or (round(nominal_v / 2) if nominal_v else None)


def per_cell(volts: float | None, cells: int | None) -> float | None:
    """Volts of one cell from what a unit tells: a cell, a block of six, or the whole; None where it can't be told."""
    if volts is None or not cells:
        return None
    if volts < 3:
        return volts
    for count in (cells, 6):
        if 1.5 <= volts / count <= 2.6:
            return volts / count
    return None


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Seconds to the low-battery flag of the new battery at 25 °C, by load in percent; log-log between and beyond."""

    points: tuple[tuple[float, float], ...]

    def runtime_s(self, load_percent: float) -> float:
        """Seconds at a load."""
        points = self.points
        if len(points) == 1 or load_percent <= points[0][0] or load_percent >= points[-1][0]:
            load, seconds = min(points, key=lambda point: abs(math.log(point[0] / load_percent)))
            exponent, _ = local_exponent(seconds)
            return float(seconds * (load_percent / load) ** -exponent)
        for (low, long_s), (high, short_s) in pairwise(points):
            if low <= load_percent <= high:
                share = math.log(load_percent / low) / math.log(high / low)
                return float(long_s * (short_s / long_s) ** share)
        raise AssertionError("the points are sorted")

    def error(self, load_percent: float) -> float:
        """Relative error of :meth:`runtime_s` by what is not known of the slope; nothing at the points themselves."""
        load, seconds = min(self.points, key=lambda point: abs(math.log(point[0] / load_percent)))
        between = self.points[0][0] < load_percent < self.points[-1][0]
        _, spread = local_exponent(seconds)
        return abs(math.log(load_percent / load)) * spread * (0.3 if between else 1.0)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The battery when it was new: its yardstick, the run whose curve others are compared with, and first figures."""

    yardstick: Yardstick | None
    run: Discharge | None
    loaded: tuple[Discharge, ...]
    ohm: float | None


def full_run(discharge: Discharge) -> bool:
    """Whether it went from full to the low-battery flag, seen all the way, at a load that is known."""
    return bool(discharge.rested and discharge.low_after_s and discharge.load_percent and discharge.gap_s <= STEADY)


def baseline_of(earlier: Sequence[Discharge], facts: BatteryFacts) -> Baseline:
    """What the battery's discharges so far, in order of time, say of it when new."""
    installed_us = facts.installed_us
    runs: list[Discharge] = []
    early: list[Discharge] = []
    if installed_us is not None:
        runs = [each for each in earlier if full_run(each) and 0 <= each.began_us - installed_us <= NEW_US]
        early = [each for each in earlier if 0 <= each.began_us - installed_us <= FIRST_YEAR_US]
    loaded = tuple(each for each in early if each.rested and each.loaded_v and each.loaded_percent)[:8]
    ohm = next((each.resistance_ohm for each in early if each.resistance_ohm), None)
    by_load: dict[float, list[float]] = {}
    for run in runs:
        assert run.load_percent and run.low_after_s
        load = facts.assumed_load_percent or run.load_percent
        near = next((known for known in by_load if abs(math.log(load / known)) < 0.1), load)
        at_25_s = run.low_after_s / temperature_factor(_celsius(run, facts))
        by_load.setdefault(near, []).append(at_25_s)
    points = facts.runtimes or tuple((load, statistics.fmean(seconds)) for load, seconds in by_load.items())
    yardstick = Yardstick(tuple(sorted(points))) if points else None
    return Baseline(yardstick, runs[0] if runs else None, loaded, ohm)


def _celsius(discharge: Discharge, facts: BatteryFacts) -> float | None:
    told = discharge.temperature_c
    return None if told is None else told + facts.sensor_offset_c


def score(
    discharge: Discharge,
    curve: Sequence[Sample],
    earlier: Sequence[Discharge],
    curve_of: Callable[[Discharge], Sequence[Sample]],
    facts: BatteryFacts,
    cells: int | None,
) -> Score:
    """What a discharge that ended says; ``earlier`` are those of the same battery before it, in order of time.

    It depends on nothing that came later, so scoring as it happens and scoring all again give the same.
    """
    if not facts.lead or not cells or discharge.ended_us is None:
        return Score()
    base = baseline_of([*earlier, discharge], facts)
    result = Score(
        index_v=_index_v(discharge, base, cells),
        resistance_ratio=(
            round(discharge.resistance_ohm / base.ohm, 4) if discharge.resistance_ohm is not None and base.ohm else None
        ),
    )
    if base.yardstick is None or not (discharge.load_percent or facts.assumed_load_percent):
        return result
    used = _used(curve, discharge, base.yardstick, facts)
    if not used:
        return result
    factor = temperature_factor(_celsius(discharge, facts))
    result = replace(result, used_percent=round(100 * used[-1][1], 2))
    if full_run(discharge):
        assert discharge.low_after_s is not None
        at_flag = max(share for seconds, share, _ in used if seconds <= discharge.low_after_s + 1e-6)
        error = _relative_error(discharge, base.yardstick, facts)
        capacity = 100 * at_flag / factor
        return replace(result, capacity_percent=round(capacity, 2), capacity_error=round(capacity * error, 2), method=Method.FULL)
    if base.run is None or discharge.id == base.run.id or not discharge.rested or discharge.gap_s > STEADY:
        return result
    return _by_curve(result, discharge, used, base, curve_of, facts, cells, factor)


def _by_curve(
    result: Score,
    discharge: Discharge,
    used: Sequence[tuple[float, float, float]],
    base: Baseline,
    curve_of: Callable[[Discharge], Sequence[Sample]],
    facts: BatteryFacts,
    cells: int,
    factor: float,
) -> Score:
    """The result with a capacity from the stretch of the curve, where depth and load allow it."""
    assert base.run is not None and base.run.load_percent and base.yardstick is not None
    told_per_cell = used[0][2] < 3
    fine = (0.01 if told_per_cell else 0.1 / cells) <= FINE_STEP_V
    depth = used[-1][1]
    if depth < (LEAST_DEPTH_FINE if fine else LEAST_DEPTH):
        return result
    load = facts.assumed_load_percent or discharge.load_percent or 0.0
    low, high = LIKE_LOAD
    if not low <= load / (facts.assumed_load_percent or base.run.load_percent) <= high:
        return result
    new = _used(curve_of(base.run), base.run, base.yardstick, facts)
    fit = stretch(_shape(new, cells), _shape(used, cells))
    if fit is None:
        return result
    base_factor = temperature_factor(_celsius(base.run, facts))
    floor = (CURVE_FLOOR_FINE if fine else CURVE_FLOOR) * max(1.0, LEAST_DEPTH / depth)
    error = math.hypot(max(fit[1] / fit[0], floor), _relative_error(discharge, base.yardstick, facts))
    if error > LARGEST_CURVE_ERROR:
        return result
    capacity = 100 * fit[0] * fit[2] * base_factor / factor
    return replace(result, capacity_percent=round(capacity, 2), capacity_error=round(capacity * error, 2), method=Method.CURVE)


def _used(
    curve: Sequence[Sample], discharge: Discharge, yardstick: Yardstick, facts: BatteryFacts
) -> list[tuple[float, float, float]]:
    """(seconds since the begin, share of a new battery's charge drawn by then, volts) along a curve."""
    found: list[tuple[float, float, float]] = []
    share = 0.0
    load = facts.assumed_load_percent or discharge.load_percent
    fixed = facts.assumed_load_percent is not None
    before_us = discharge.began_us
    for sample in curve:
        if sample.at_us < discharge.began_us or (discharge.ended_us is not None and sample.at_us > discharge.ended_us):
            continue
        if load:
            share += (sample.at_us - before_us) / 1e6 / yardstick.runtime_s(load)
        before_us = sample.at_us
        if sample.load_percent and not fixed:
            load = sample.load_percent
        if sample.battery_v and sample.at_us != discharge.ended_us:
            found.append(((sample.at_us - discharge.began_us) / 1e6, share, sample.battery_v))
    return found


def _relative_error(discharge: Discharge, yardstick: Yardstick, facts: BatteryFacts) -> float:
    load = facts.assumed_load_percent or discharge.load_percent or 1.0
    exponent, _ = local_exponent(yardstick.runtime_s(load))
    step = 0.1 if facts.assumed_load_percent else LOAD_STEP / load
    return math.hypot(exponent * LOAD_ERROR, exponent * step, OTHER_ERROR, yardstick.error(load))


def _index_v(discharge: Discharge, base: Baseline, cells: int) -> float | None:
    """Loaded voltage per cell less what the battery's first discharges make one expect at this load (section 5.4)."""
    volts = per_cell(discharge.loaded_v, cells)
    if volts is None or not discharge.loaded_percent or not discharge.rested:
        return None
    first = [
        (each.loaded_percent, at) for each in base.loaded
        if each.loaded_percent and (at := per_cell(each.loaded_v, cells)) is not None and each.began_us != discharge.began_us
    ]  # fmt: skip
    if len(first) < 2:
        return None
    loads, levels = [load for load, _ in first], [level for _, level in first]
    expected = statistics.fmean(levels)
    middle = statistics.fmean(loads)
    if len(first) >= 4 and max(loads) - min(loads) > 0.25 * middle:
        slope, level = statistics.linear_regression(loads, levels)
        expected = level + min(slope, 0.0) * discharge.loaded_percent if slope < 0 else expected
    elif abs(discharge.loaded_percent - middle) > 0.25 * middle:
        return None
    return round(volts - expected, 5)


def _shape(used: Sequence[tuple[float, float, float]], cells: int) -> tuple[list[float], list[float]]:
    """Share drawn and volts per cell, behind the first dip."""
    kept = [
        (share, level) for seconds, share, volts in used
        if seconds >= SKIPPED_S and (level := per_cell(volts, cells)) is not None
    ]  # fmt: skip
    return [share for share, _ in kept], [level for _, level in kept]


def stretch(
    new: tuple[list[float], list[float]], now: tuple[list[float], list[float]]
) -> tuple[float, float, float] | None:
    """Stretch ``s``, its standard error, and the share of the new battery's run that is left at this voltage; None: nothing fits.

    ``now(x)`` is ``new(x / s) + c``. Both are (share drawn, volts per cell), ``new`` to the low-battery flag. The flag is a
    voltage: a battery whose resistance grew is lower by ``c`` and comes to it where the new one was ``c`` above it. Landscape
    section 5.3, "partial discharge".
    """
    import numpy as np
    from scipy.optimize import curve_fit

    if len(new[0]) < 20 or len(now[0]) < 20:
        return None
    grid = np.linspace(new[0][0], new[0][-1], 60)
    edges = np.digitize(new[0], (grid[:-1] + grid[1:]) / 2)
    counts = np.bincount(edges, minlength=60)
    sums = np.bincount(edges, weights=np.asarray(new[1]), minlength=60)
    there = counts > 0
    level = np.interp(grid, grid[there], sums[there] / counts[there])
    end_slope = (level[-1] - level[-4]) / (grid[-1] - grid[-4])
    x, y = np.asarray(now[0]), np.asarray(now[1])

    def model(at: Any, s: float, c: float) -> Any:
        scaled = at / s
        inside = np.interp(scaled, grid, level)
        return inside + np.maximum(scaled - grid[-1], 0.0) * end_slope + c

    def misfit(s: float) -> float:
        shape = model(x, s, 0.0)
        return float(np.var(y - shape))

    start = min(np.arange(0.3, 1.31, 0.05), key=misfit)
    try:
        found, covariance = curve_fit(model, x, y, p0=(start, float(np.mean(y - model(x, start, 0.0)))), maxfev=200)
    except RuntimeError:
        return None
    s, variance = float(found[0]), float(covariance[0, 0])
    if not STRETCH[0] <= s <= STRETCH[1] or not math.isfinite(variance):
        return None
    rest = y - model(x, *found)
    lag = float(np.corrcoef(rest[:-1], rest[1:])[0, 1]) if np.std(rest) > 0 else 0.0
    inflated = math.sqrt(variance * (1 + max(lag, 0.0)) / max(1 - max(lag, 0.0), 0.05))
    return s, inflated, _until(level, grid, float(level[-1]) - float(found[1]), float(end_slope))


def _until(level: Any, grid: Any, volts: float, end_slope: float) -> float:
    """Share of a run to the flag after which it came to a voltage; beyond the flag by its last slope, a twentieth at most."""
    import numpy as np

    falling = np.minimum.accumulate(level)
    if volts < falling[-1]:
        further = (volts - falling[-1]) / end_slope if end_slope < 0 else 0.0
        return float(min(1.05, 1 + further / grid[-1]))
    return float(np.interp(-volts, -falling, grid) / grid[-1])
