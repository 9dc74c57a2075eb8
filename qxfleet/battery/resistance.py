"""Apparent resistance of a battery, from two different loads within one discharge. Pure arithmetic.

Never from float to loaded: that fall is not ohmic (landscape section 5.4). What the voltage was doing anyway is taken off by
a straight line through the readings before the step.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

SETTLED_S = 60.0
"""The first dip after the transfer is over by then."""

WINDOW_S, PAUSE_S = 30.0, 4.0
"""Readings compared on either side of a step, and those around it that are left out."""

LEAST_READINGS = 8
LEAST_STEP = 0.25
"""The current must change by this share."""

LARGEST_ERROR = 0.10
"""A resistance known worse than this is not told."""

LOAD_ERROR = 0.02


class Resistance(NamedTuple):
    """Ohms of the whole string and its leads, with the standard error."""

    ohm: float
    error_ohm: float


def resistance(points: Sequence[tuple[float, float, float]]) -> Resistance | None:
    """From (seconds, volts, amperes) in order of time; None where no step of the load is large enough to tell."""
    times = [seconds for seconds, _, _ in points]
    best: Resistance | None = None
    for index in range(1, len(points)):
        step = abs(points[index][2] - points[index - 1][2])
        if step < LEAST_STEP / 2 * points[index][2]:
            continue
        found = _at(points, times, index)
        if found is not None and (best is None or found.error_ohm < best.error_ohm):
            best = found
    return best


def _at(points: Sequence[tuple[float, float, float]], times: Sequence[float], index: int) -> Resistance | None:
    """The resistance from the windows before and after one step."""
    at_s = times[index]
    first = max(bisect_left(times, at_s - WINDOW_S - PAUSE_S), bisect_left(times, SETTLED_S))
    before = points[first : bisect_left(times, at_s - PAUSE_S)]
    after = points[bisect_left(times, at_s + PAUSE_S) : bisect_left(times, at_s + WINDOW_S + PAUSE_S)]
    if len(before) < LEAST_READINGS or len(after) < LEAST_READINGS:
        return None
    amps_before, amps_after = (statistics.fmean(a for _, _, a in side) for side in (before, after))
    change_a = amps_after - amps_before
    if abs(change_a) < LEAST_STEP * min(amps_before, amps_after):
        return None
    slope, level = statistics.linear_regression([s for s, _, _ in before], [v for _, v, _ in before])
    middle_s = statistics.fmean(s for s, _, _ in after)
    fall_v = slope * middle_s + level - statistics.fmean(v for _, v, _ in after)
    ohm = fall_v / change_a
    if ohm <= 0:
        return None
    rest_v = statistics.pstdev([v - slope * s - level for s, v, _ in before])
    step_v = min((abs(a[1] - b[1]) for a, b in pairwise(points) if a[1] != b[1]), default=0.1)
    noise_v = max(rest_v, step_v / math.sqrt(12))
    lead_s = middle_s - statistics.fmean(s for s, _, _ in before)
    spread_s = statistics.pstdev([s for s, _, _ in before]) or 1.0
    error_v = noise_v * math.sqrt((1 + (lead_s / spread_s) ** 2) / len(before) + 1 / len(after))
    error_a = LOAD_ERROR * math.hypot(amps_before, amps_after)
    error = math.hypot(error_v / fall_v, error_a / change_a)
    return Resistance(round(ohm, 5), round(ohm * error, 5)) if error <= LARGEST_ERROR else None
