"""Capacity over time: the Theil–Sen line, and when it meets the end of a battery's life. Pure arithmetic on numpy arrays.

Line and interval are those of P. K. Sen, J. Am. Stat. Assoc. 63 (1968) 1379–1389, as ``scipy.stats.theilslopes`` has them; that
one takes 2 ms a call and seconds to import, which is too much for a fleet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

WORN = 80.0
"""Percent of capacity below which a whole string is replaced: the stationary-battery criterion (landscape section 5.3)."""

SIDES = 0.90
"""The bounds are meant to hold the truth in nine of ten units."""

Z = 1.645
"""Normal quantile for :data:`SIDES`."""

LEAST_POINTS, LEAST_SPAN_DAYS = 4, 180.0
"""Below these a slope says nothing (landscape section 5.5)."""

LIFE_LOW, LIFE_LIKELY, LIFE_HIGH = 0.50, 0.80, 1.40
"""Service life as a share of design life: three to five years of five are usual below 10 kVA (section 5.5)."""

STILL = 0.10
"""A battery that outlived the usual span, and was not found worn, may go on for such a share of its expected life at least."""

MODEL_ERROR = 1.5
"""Percent points by which capacity leaves any straight line."""

BENDING = 1.6
"""Loss speeds up towards the end: for the early bound it may go on this much faster than it did (section 5.3)."""


@dataclass(frozen=True, slots=True)
class Point:
    """A measured capacity: days since the battery was installed (or first seen), percent, standard error."""

    day: float
    percent: float
    error: float


@dataclass(frozen=True, slots=True)
class Line:
    """A robust straight line through measured capacities: ``percent`` at ``day``, with the error of that level."""

    day: float
    percent: float
    error: float
    per_day: float
    per_day_low: float
    per_day_high: float
    first_day: float
    last_day: float

    def at(self, day: float) -> float:
        """Percent on the line."""
        return self.percent + self.per_day * (day - self.day)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Days (on the scale of :class:`Point`) on which the battery is worn out: early bound, likely, late bound.

    ``basis``: ``trend``, or ``age`` where the design life has to stand in for it.
    """

    low_day: float
    likely_day: float
    high_day: float
    basis: str


def theil_sen(x: Sequence[float], y: Sequence[float], sides: float = SIDES) -> tuple[float, float, float]:
    """Median of the pairwise slopes and the bounds of its two-sided interval; at least two different ``x``."""
    import numpy as np

    at, value = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    first, second = _pairs(len(at))
    run = at[second] - at[first]
    apart = run != 0
    slopes = np.sort((value[second] - value[first])[apart] / run[apart])
    count = len(slopes)
    n = len(at)
    variance = n * (n - 1) * (2 * n + 5) / 18
    for tie in (*Counter(x).values(), *Counter(y).values()):
        variance -= tie * (tie - 1) * (2 * tie + 5) / 18
    half = _normal_quantile(sides) * math.sqrt(max(0.0, variance))
    upper = min(round((count + half) / 2), count - 1)
    lower = max(round((count - half) / 2) - 1, 0)
    middle = count // 2
    slope = slopes[middle] if count % 2 else (slopes[middle - 1] + slopes[middle]) / 2
    return float(slope), float(slopes[lower]), float(slopes[upper])


@lru_cache
def _pairs(count: int) -> Any:
    """Indices of every pair."""
    import numpy as np

    return np.triu_indices(count, 1)


@lru_cache
def _normal_quantile(sides: float) -> float:
    return NormalDist().inv_cdf((1 + sides) / 2)


def line_through(points: Sequence[Point]) -> Line | None:
    """The robust line; None for fewer than four points or less than half a year."""
    if len(points) < LEAST_POINTS or points[-1].day - points[0].day < LEAST_SPAN_DAYS:
        return None
    days, percents = [point.day for point in points], [point.percent for point in points]
    slope, low, high = theil_sen(days, percents)
    day = sum(days) / len(days)
    levels = sorted(percent - slope * (at - day) for at, percent in zip(days, percents, strict=True))
    middle = len(levels) // 2
    level = levels[middle] if len(levels) % 2 else (levels[middle - 1] + levels[middle]) / 2
    off = sorted(abs(each - level) for each in levels)
    scatter = 1.4826 * off[len(off) // 2]
    told = math.sqrt(sum(point.error**2 for point in points) / len(points))
    error = 1.25 * max(scatter, 0.5 * told) / math.sqrt(len(points))
    return Line(day, level, math.hypot(error, MODEL_ERROR / Z), slope, min(low, slope), max(high, slope), days[0], days[-1])


def forecast(
    line: Line | None, points: Sequence[Point], today: float, ageing: float, design_life_days: float, *, dated: bool
) -> Forecast | None:
    """When the battery is worn out. ``ageing``: days at 25 °C that one of its days counts for; ``dated``: day 0 is its first.

    The line is followed as far ahead as it was observed and no further; beyond that, and without a line, the design life
    stands in, divided by the ageing. None without either.
    """
    prior = _by_age(points, today, design_life_days / ageing) if dated else None
    if line is None:
        return prior
    horizon = line.last_day + (line.last_day - line.first_day)
    steepest = min(line.per_day_low, line.per_day * BENDING)
    low = _crossing(line.percent - Z * line.error, steepest, line.day, line.last_day)
    likely = _crossing(line.percent, line.per_day, line.day, line.last_day)
    high = _crossing(line.percent + Z * line.error, line.per_day_high, line.day, line.last_day)
    if likely > horizon:
        if prior is None:
            return None
        low = max(min(low, horizon), min(prior.low_day, horizon))
        likely = max(prior.likely_day, horizon)
        return Forecast(low, likely, max(prior.high_day, likely), "age")
    low = max(low, max((point.day for point in points if point.percent - Z * point.error > WORN), default=low))
    likely = max(likely, low)
    if high > horizon:
        high = max(horizon, prior.high_day) if prior is not None else horizon + (line.last_day - line.first_day)
    return Forecast(low, likely, max(high, likely), "trend")


def _crossing(level: float, per_day: float, day: float, last_day: float) -> float:
    """When a line meets the end of life; far away where it does not fall."""
    if per_day >= -1e-6:
        return math.inf if level > WORN else last_day
    return day + (WORN - level) / per_day


def _by_age(points: Sequence[Point], today: float, life_days: float) -> Forecast:
    """The usual service life; a capacity that was measured moves the early bound behind its day, if it was well above."""
    low, likely, high = LIFE_LOW * life_days, LIFE_LIKELY * life_days, LIFE_HIGH * life_days
    good = [point for point in points if point.percent - Z * point.error > WORN]
    if good:
        last = good[-1]
        low = max(low, last.day)
        loss = max(100 - last.percent + Z * last.error, 3.0) / max(last.day, 30.0)
        early = last.day + (last.percent - Z * last.error - WORN) / (BENDING * loss)
        low = max(low, early) if last.day > 0.3 * life_days else low
    bad = [point for point in points if point.percent + Z * point.error < WORN]
    if bad:
        high = min(high, max(bad[0].day, low))
    else:
        high = max(high, today + STILL * life_days)
    likely = min(max(likely, low), high) if high >= low else low
    return Forecast(low, likely, max(high, likely), "age")
