"""Whether a block failed, by the loaded voltage of short runs: what a quick test of ten seconds shows. Pure arithmetic.

Voltage under load drifts slowly as a battery ages. A block that opens, dries out or has a shorted cell shows as a step that
stays: two hypotheses at every run, "it goes on as before" against "from here on it is lower". Landscape section 5.4.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from qxfleet.store.batteries import Short

SHORT_LEAST = 4
"""Runs before a step can be told from scatter."""

LATEST = 24
"""Runs looked back at: a step is told long before it is older."""

LOAD_SLOPE_V, LOAD_SLOPE_SPREAD = -0.15, 0.10
"""Volts per cell that full load takes in the first seconds (ohmic loss and the dip), and how that differs between batteries."""

LEAST_SCATTER_V = 0.0025
"""Volts per cell by which two runs differ that nothing tells apart."""

CHANCE = 0.003
"""A failing block between two runs, about a month apart."""

STEP_V = (0.010, 2.5)
"""What a step is at least and at most, volts per cell; its size is as likely on every scale between."""

ABRUPT = 0.5
"""Share of a step that shows from one run to the next: ageing that speeds up is as deep after a year, and not abrupt."""

DRIFT_V = 0.0004
"""By how much a run is expected to be lower than the one before, by age alone: 5 mV a year."""

DRIFT_SPREAD_V = 0.0008
"""How much faster or slower it may go on than before, per run."""

TAIL = 6.0


@dataclass(frozen=True, slots=True)
class Step:
    """The likeliest step: its size in volts per cell, since which run, over how many; ``chance`` that there is one at all."""

    chance: float
    step_v: float
    since_us: int
    count: int


@lru_cache(maxsize=4096)
def step_chance(runs: tuple[Short, ...]) -> Step | None:
    """The probability of a step that stays until the last run, and the likeliest; None for fewer than five runs."""
    seen = list(runs[-LATEST:])
    if len(seen) <= SHORT_LEAST:
        return None
    load = statistics.median(each.load_percent for each in seen)
    level = [each.cell_v - _slope(seen) * (each.load_percent - load) / 100 for each in seen]
    moved = [b - a for a, b in pairwise(level)]
    middle = statistics.median(moved)
    scatter = 1.4826 * statistics.median(abs(each - middle) for each in moved) / math.sqrt(2)
    off_load = statistics.pstdev([each.load_percent for each in seen]) / 100 * LOAD_SLOPE_SPREAD / 2
    error = math.hypot(scatter, LEAST_SCATTER_V, max(each.step_v for each in seen) / math.sqrt(12), off_load)
    plain = 0.0
    found: list[tuple[float, float, int]] = []
    for k in range(SHORT_LEAST, len(level)):
        before, after = level[max(0, k - 8) : k], level[k:]
        half = len(before) // 2
        drift = max(DRIFT_V, (statistics.median(before[:half]) - statistics.median(before[-half:])) / (len(before) - half))
        base = statistics.median(before) - drift * (len(before) - 1) / 2
        wide = error * math.sqrt(1 + 1.5 / len(before))
        off = [each - base + drift * number for number, each in enumerate(after, 1)]
        widths = [math.hypot(wide, DRIFT_SPREAD_V * number) for number in range(1, len(off) + 1)]
        none = sum(_log_t(each / width) for each, width in zip(off, widths, strict=True))
        step = statistics.median(off[:6])
        jump = statistics.median(level[k : k + 3]) - statistics.median(level[k - 3 : k])
        if step < -STEP_V[0] and jump < ABRUPT * step:
            size = -math.log(math.log(STEP_V[1] / STEP_V[0])) + math.log(wide / -step)  # the density of the step, times its width
            stays = sum(_log_t((each - step) / width) for each, width in zip(off, widths, strict=True))
            found.append((math.log(CHANCE) + size + stays - none, step, k))
    if not found:
        return Step(0.0, 0.0, seen[-1].began_us, len(seen))
    most = max(max(each[0] for each in found), plain)
    weights = [math.exp(each[0] - most) for each in found]
    chance = sum(weights) / (sum(weights) + math.exp(plain - most))
    _, step, k = max(found)
    return Step(chance, step, seen[k].began_us, len(seen) - k)


def _slope(runs: Sequence[Short]) -> float:
    """Volts per cell and unit of load, by these runs where their loads differ enough, within what batteries have."""
    loads = [each.load_percent / 100 for each in runs]
    if statistics.pstdev(loads) < 0.05:
        return LOAD_SLOPE_V
    told = statistics.linear_regression(loads, [each.cell_v for each in runs]).slope
    return min(max(told, LOAD_SLOPE_V - LOAD_SLOPE_SPREAD), LOAD_SLOPE_V + LOAD_SLOPE_SPREAD)


def _log_t(z: float) -> float:
    return -0.5 * (TAIL + 1) * math.log1p(z * z / TAIL)
