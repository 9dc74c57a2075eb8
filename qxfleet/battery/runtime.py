"""How long a battery will carry a load, learned from its own discharges. Pure arithmetic.

Runtime against load is a straight line in neither scale; in log-log it is nearly one, with a slope that grows towards short
times (landscape section 5.3). So the unit's own full runs make a log-log table, and slopes of published data lead away from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from qxfleet.model.discharge import Discharge
from qxfleet.model.electrical import local_exponent

NEWEST = 6
"""Full runs that count: older ones were run on a younger battery."""

SPREAD = 0.08
"""Relative error of one run that nothing else explains: load in whole percent, temperature, the flag's voltage step."""

CHARGE_ERROR = 10.0
"""Percent points by which a charge is wrong that was read from a voltage."""

FADE_PER_YEAR = 0.10
"""How much a battery may lose in a year after its last full run: the steep part of its life (section 5.3)."""

REACH = 4.0
"""A load this many times above or below every run is too far away to say anything."""

Z80 = 1.2816
"""Both sides of the band together leave out a fifth."""

YEAR_US = 365.25 * 86400e6


class RuntimeBand(NamedTuple):
    """Seconds until the low-battery flag: four in five lie between ``low_s`` and ``high_s``."""

    low_s: float
    likely_s: float
    high_s: float


def predicted_runtime(
    discharges: Sequence[Discharge], load_percent: float, charge_percent: float, *, now_us: int | None = None
) -> RuntimeBand | None:
    """Seconds until low battery at this load and charge, with a band; None where the discharges can't tell.

    ``discharges`` are those of the battery that is in the UPS now, in any order; only runs from full to the low-battery flag
    at a steady load count. ``now_us`` widens the band downwards by what the battery may have lost since.
    """
    if load_percent <= 0 or charge_percent <= 0:
        return None
    runs = full_runs(discharges)
    if not runs or not 1 / REACH <= load_percent / _nearest_load(runs, load_percent) <= REACH:
        return None
    scaled = [_scaled(each, load_percent) for each in runs]
    weights = [1 / error**2 for _, error in scaled]
    centre = sum(w * math.log(s) for w, (s, _) in zip(weights, scaled, strict=True)) / sum(weights)
    scatter = sum(w * (math.log(s) - centre) ** 2 for w, (s, _) in zip(weights, scaled, strict=True)) / sum(weights)
    error = math.sqrt(1 / sum(weights) + scatter + SPREAD**2)
    newest_us = max(each.began_us for each in runs)
    age_years = max(0.0, (now_us - newest_us) / YEAR_US) if now_us is not None else 0.0
    likely_s = math.exp(centre)
    low_s, high_s = likely_s * math.exp(-Z80 * error), likely_s * math.exp(Z80 * error)
    low_s *= max(0.1, 1 - FADE_PER_YEAR * age_years)
    charge = min(100.0, charge_percent)
    unsure = CHARGE_ERROR if charge < 99.5 else 0.0
    low_s *= max(0.0, charge - unsure) / 100
    high_s *= min(100.0, charge + unsure) / 100
    return RuntimeBand(low_s, likely_s * charge / 100, high_s)


def full_runs(discharges: Sequence[Discharge]) -> list[Discharge]:
    """The newest runs from a full battery to the low-battery flag at a known, steady load."""
    runs = [
        each for each in discharges
        if each.rested and each.low_after_s and each.load_percent and each.gap_s < 60
        and (each.load_high_percent or 0) - (each.load_low_percent or 0) <= max(10.0, 0.3 * each.load_percent)
    ]  # fmt: skip
    return sorted(runs, key=lambda each: each.began_us)[-NEWEST:]


def _nearest_load(runs: Sequence[Discharge], load_percent: float) -> float:
    return min((each.load_percent or 1.0 for each in runs), key=lambda load: abs(math.log(load / load_percent)))


def _scaled(run: Discharge, load_percent: float) -> tuple[float, float]:
    """A run's time carried over to another load, and its relative error."""
    assert run.low_after_s is not None and run.load_percent is not None
    ratio = math.log(load_percent / run.load_percent)
    exponent, spread = local_exponent(run.low_after_s * math.exp(-1.4 * ratio / 2))
    return run.low_after_s * math.exp(-exponent * ratio), math.hypot(SPREAD, spread * ratio)
