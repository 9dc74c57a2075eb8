"""What all the evidence on one battery says together: a Bayesian filter over possible lives. Pure; imports numpy when called.

A life is a battery's capacity over its years: formation, then a loss that reaches 20 % at the end of its life and grows as a
power of the age. Each of a grid of lives is weighed by everything that was measured. Capacity now, its bounds, and the date when
it falls below 80 % are quantiles of the same weights, so that they can't contradict each other. A measurement says less the older
it is, so the error grows between measurements. A block may also have failed between two measurements, which no smooth life shows:
each such moment is a hypothesis beside "none did".

Sources: end of life at 80 % of capacity, IEEE 1188 as summarised by its vendors; estimation on a grid of hypotheses, Bucy and
Senne, Automatica 7 (1971) 287-298.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

WORN = 80.0
"""Percent of capacity below which a whole string is replaced: the stationary-battery criterion (landscape section 5.3)."""

SIDES = 0.90
"""Bounds are meant to hold the truth so often."""

Z = 1.645
"""Normal quantile for :data:`SIDES`."""

LIFE_SHARE, LIFE_SPREAD, LIFE_SPREAD_BLIND = 0.82, 0.25, 0.32
"""Median service life at 25 °C as a share of the design life, and its spread (of the logarithm): three to six years of five are
usual; wider where no thermometer tells how warm the battery is."""

WARM = 1.2
"""Ageing against 25 °C where nobody knows the temperature: inside a UPS it is usually a few degrees warmer."""

SHAPES = (1.0, 1.5, 2.2, 3.2)
"""Powers of the age with which capacity is lost: straight on, or late and fast."""

FORMATION, FORMATION_DAYS = 0.045, 100.0
"""What a new battery still gains in its first months (IEEE 450 and makers: 90 to 95 % on delivery)."""

LEVEL_SPREAD = 0.03
"""Of the measure: by how much the run (or the maker's table) that is 100 % may be off."""

OWN_ERROR = 0.40
"""Of a measurement's error, what is its own: the rest, such as the rating, is the same in every run and cancels."""

BORN_SPREAD = 0.008
"""By how much new batteries differ, which a comparison with the battery's own first run can't show."""

MODEL_ERROR = 0.009
"""By how much a battery leaves any such life."""

FORGET_PER_YEAR = 0.022
"""How much further it may have left it a year after a measurement."""

TAIL = 6.0
"""Degrees of freedom of a measurement's error (Student): one in a few hundred is far off."""

FAULTS_PER_YEAR, FAULT_LEFT = 0.03, (0.92, 0.85, 0.75, 0.6, 0.4, 0.2)
"""Blocks of a string that fail suddenly, per battery and year, and what such a battery has left of its capacity."""

SAG_V, SAG_SPREAD_V = 0.15, 0.015
"""Loaded volts per cell lost for all of the capacity, which goes with resistance, and what they scatter by."""

OHMIC, OHMIC_SPREAD = 2.5, 0.15
"""The same for the resistance, as a ratio to the first."""

LOOSE = 0.6
"""How loosely these two follow capacity, as a share of what is expected."""

FINE = 2
"""Steps of a percent in which capacities are told apart."""

SOON_DAYS = 180.0
AGES = (0.0, 0.2, 0.4, 0.6)
"""Ages at first sight of a battery whose date nobody knows, in design lives."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured capacity: days since the battery came, percent, standard error in percent points."""

    day: float
    percent: float
    error: float


@dataclass(frozen=True, slots=True)
class Signs:
    """What else is known. ``sag_v``: loaded volts per cell against its first discharges; ``ohmic``: resistance against its first;
    None: not seen. ``ageing``: days at 25 °C per day, None: the temperature is not known. ``dated``: day 0 is its first."""

    design_days: float
    ageing: float | None = None
    dated: bool = True
    sag_v: float | None = None
    ohmic: float | None = None


@dataclass(frozen=True, slots=True)
class Belief:
    """The posterior. Percent with bounds of nine in ten; probabilities that the battery is worn now, and within half a year; that
    a block failed. Days of the end of life are counted as :class:`Measure` does, and may lie in the past."""

    percent: float
    percent_low: float
    percent_high: float
    worn: float
    worn_soon: float
    fault: float
    per_year: float
    end_low: float
    end_likely: float
    end_high: float


@lru_cache(maxsize=4)
def _grid(spread: float, dated: bool) -> tuple[Any, Any, Any, Any, Any]:
    """Log life, shape, level, first age in design lives, and log weight of every life."""
    import numpy as np

    z, levels = np.linspace(-2.6, 2.6, 35), np.linspace(-2, 2, 7)
    ages = np.array([0.0] if dated else AGES)
    parts = np.meshgrid(z, np.array(SHAPES), levels, ages, indexing="ij")
    log_life, shape, level, first = (part.ravel() for part in parts)
    weight = -0.5 * log_life**2 - 0.5 * level**2
    return spread * log_life, shape, 1.0 + LEVEL_SPREAD * level, first, weight


@lru_cache(maxsize=4096)
def believe(measures: tuple[Measure, ...], signs: Signs, today: int) -> Belief:
    """What is to be believed on a day; ``measures`` in order of time, none later than it. Remembered: a fleet is asked again and
    again, and a new discharge changes one battery."""
    import numpy as np

    log_life, shape, level, first, weight = _grid(LIFE_SPREAD if signs.ageing else LIFE_SPREAD_BLIND, signs.dated)
    ageing = signs.ageing or WARM
    life = LIFE_SHARE * signs.design_days * np.exp(log_life)
    before = first * signs.design_days

    def capacity(day: float) -> Any:
        age = np.maximum(day, 0.0)
        loss = 0.2 * ((before + ageing * age) / life) ** shape
        return np.maximum(1.0 - loss, 0.02) * (1.0 - FORMATION * math.exp(-age / FORMATION_DAYS))

    now = capacity(today)
    weight = weight + _signs(np, 1.0 - now, signs)
    if not signs.dated:
        weight = np.where((before > 0) & (capacity(0.0) < 0.6), -np.inf, weight)
    days = [each.day for each in measures]
    found = np.array([each.percent for each in measures]) / 100.0
    away = FORGET_PER_YEAR * (today - np.array(days)) / 365.25
    error = np.sqrt((OWN_ERROR * np.array([each.error for each in measures]) / 100.0) ** 2 + MODEL_ERROR**2 + away**2)
    true = np.array([capacity(day) / level for day in days]).reshape(len(days), len(level))

    def log_likely(left: float, since: int) -> Any:
        off = (found[since:, None] - left * true[since:]) / error[since:, None]
        return -0.5 * (TAIL + 1) * np.log1p(off**2 / TAIL)

    plain = log_likely(1.0, 0)
    until = np.vstack((np.zeros((1, plain.shape[1])), np.cumsum(plain, axis=0)))
    weights, left, since_day = [weight + until[-1]], [1.0], [math.inf]
    for k in range(max(0, len(days) - 3), len(days)):
        earlier = days[k - 1] if k else 0.0
        chance = max(FAULTS_PER_YEAR * (days[k] - earlier) / 365.25, 1e-4) / len(FAULT_LEFT)
        for share in FAULT_LEFT:
            weights.append(weight + until[k] + math.log(chance) + np.sum(log_likely(share, k), axis=0))
            left.append(share)
            since_day.append((earlier + days[k]) / 2)
    table = np.array(weights)
    share_of = np.array(left)[:, None]
    probability = np.exp(table - table.max())
    probability /= probability.sum()
    value = share_of * now
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.maximum(1.0 - WORN / 100.0 / share_of, 0.0) / 0.2
        end = np.where(lost > 0, (life * lost ** (1 / shape) - before) / ageing, np.array(since_day)[:, None])
    rate = (capacity(today + 30.0) - now) * 365.25 / 30.0
    chances = probability.ravel()
    (low, middle, high), worn = _percents(np, value.ravel(), chances)
    ends = _ends(np, end.ravel(), chances, today)
    return Belief(
        middle, low, high, worn, max(worn, float(chances[end.ravel() < today + SOON_DAYS].sum())), float(probability[1:].sum()),
        float(100 * (probability * share_of * rate).sum()), *ends,
    )  # fmt: skip


def _signs(np: Any, loss: Any, signs: Signs) -> Any:
    """Log likelihood of what goes with a loss of capacity, loosely."""
    found = np.zeros_like(loss)
    for seen, per_loss, spread, none in ((signs.sag_v, -SAG_V, SAG_SPREAD_V, 0.0), (signs.ohmic, OHMIC, OHMIC_SPREAD, 1.0)):
        if seen is not None:
            expected = per_loss * loss
            error = np.sqrt(spread**2 + (LOOSE * expected) ** 2)
            off = (seen - none - expected) / error
            found = found - 0.5 * (TAIL + 1) * np.log1p(off**2 / TAIL) - np.log(error)
    return found


def _percents(np: Any, values: Any, chances: Any) -> tuple[list[float], float]:
    """Early, likely and late percent of capacity, and the chance that it is worn; new batteries differ by BORN_SPREAD."""
    places = np.clip(np.rint(values * 100 * FINE), 0, 130 * FINE).astype(int)
    density = np.bincount(places, chances, 130 * FINE + 1)
    width = BORN_SPREAD * 100 * FINE
    kernel = np.exp(-0.5 * (np.arange(-3 * width, 3 * width + 1) / width) ** 2)
    summed = np.cumsum(np.convolve(density, kernel / kernel.sum(), mode="same"))
    at = np.arange(len(summed)) / FINE
    found = [float(np.interp(share, summed, at)) for share in ((1 - SIDES) / 2, 0.5, (1 + SIDES) / 2)]
    return found, float(np.interp(WORN, at, summed))


def _ends(np: Any, ends: Any, chances: Any, today: float) -> list[float]:
    """Early, likely and late end: worn out, or by a block that fails from now on."""
    order = np.argsort(ends)
    at = ends[order]
    worn = np.cumsum(chances[order])
    spared = np.exp(-0.5 * FAULTS_PER_YEAR * np.maximum(at - today, 0.0) / 365.25)
    gone = 1 - (1 - worn) * spared
    return [float(at[min(int(np.searchsorted(gone, share)), len(at) - 1)]) for share in ((1 - SIDES) / 2, 0.5, (1 + SIDES) / 2)]
