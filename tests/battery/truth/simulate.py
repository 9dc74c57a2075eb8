"""Years of lead-acid strings: discharges from PyBaMM's curves, an ageing law over them, blocks that fail. The truth beside what a
UPS would have told.

Curves: ``curves.json``, made by ``make_curves.py``. Ageing: D. Berndt, "Valve-regulated lead-acid batteries", J. Power Sources
100 (2001) 29-46: float life halves for 10 K, the end of life is at 80 %, capacity still rises at first. The loss grows as a power
of the age, which each string draws for itself; resistance grows with it. Blocks differ; the flag comes with their mean.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qxfleet.model.discharge import Sample
from qxfleet.model.status import Status

TABLE = json.loads((Path(__file__).parent / "curves.json").read_text())
RATES = np.array([each["rate"] for each in TABLE["curves"]])
EMPTY = np.array([each["empty_ah"] for each in TABLE["curves"]]) / TABLE["nominal_ah"]
VOLTS = np.array([each["volts"] for each in TABLE["curves"]])
SHARES = np.linspace(0, 1, VOLTS.shape[1])

FULL_LOAD_RATE = 3.8
"""Current of a new battery at full load, in multiples of that for one hour: about a quarter of an hour."""

LOW_V, FLOAT_V, STEP_S = 1.80, 2.27, 5.0
OHMIC_V = 0.062
"""Volts a cell loses in its resistance when new, at the one-hour current: the table's own, between 0.05 and 1 C."""

YEAR = 365.25
TEMPERATURES = ((0.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0), (0.71, 0.84, 0.90, 0.95, 1.0, 1.04, 1.07))
"""Degrees and capacity against 25 °C, of the order of IEEE 485's table."""

DAY_US = 86_400_000_000
BEGIN_US = 1_600_000_000_000_000


@dataclass(slots=True)
class Blocks:
    """Each block's own life, and what broke when. ``kind``: 0 none, 1 open, 2 one cell shorted, 3 dry."""

    life_days: np.ndarray
    power: np.ndarray
    start: np.ndarray
    fault_day: float = math.inf
    fault_kind: int = 0

    def capacity(self, day: float, aged: float) -> np.ndarray:
        """Of each block, against a formed new one."""
        found = self.start * (1 - 0.2 * (aged / self.life_days) ** self.power) * (1 - 0.045 * math.exp(-day / 90))
        if day >= self.fault_day and self.fault_kind == 3:
            found = found.copy()
            found[0] *= 0.45
        return np.maximum(found, 0.03)

    def resistance(self, day: float, aged: float) -> np.ndarray:
        """Of each block, against a new one."""
        found = 1 + 0.7 * (aged / self.life_days) ** self.power
        if day >= self.fault_day and self.fault_kind == 3:
            found = found.copy()
            found[0] *= 4.0
        return found


@dataclass(slots=True)
class Unit:
    """One UPS with its string over the years."""

    name: str
    cells: int
    policy: str
    load: float
    room_c: float
    stuck: bool
    blocks: Blocks
    runs: list[list[Sample]] = field(default_factory=list)
    run_days: list[float] = field(default_factory=list)

    def aged(self, day: float) -> float:
        """Days at 25 °C."""
        return float(day * 2 ** ((self.room_c - 25) / 10))

    def usable(self, day: float) -> float:
        """Runtime to the flag at the usual load and 25 °C, against that of a formed new string."""
        new = Blocks(np.full(1, 1e9), np.ones(1), np.ones(1))
        whole = _low_after(_volts(new, 1e6, 0.0, self.load, 25.0, _longest_s(self.load)))
        return _low_after(_volts(self.blocks, day, self.aged(day), self.load, 25.0, _longest_s(self.load))) / whole

    def worn_day(self) -> float:
        """The first day below 80 %."""
        low, high = 0.0, 25 * YEAR
        while high - low > 2:
            middle = (low + high) / 2
            low, high = (middle, high) if self.usable(max(middle, 200.0)) >= 0.8 else (low, middle)
        return high


def _volts(blocks: Blocks, day: float, aged: float, load: float, celsius: float, seconds: float) -> np.ndarray:
    """Mean volts per cell at each step of a discharge from full, at constant power."""
    times = np.arange(0, seconds, STEP_S)
    warm = np.interp(celsius, *TEMPERATURES)
    capacity, resistance = blocks.capacity(day, aged) * warm, blocks.resistance(day, aged)
    mean = np.full(len(times), 1.95)
    for _ in range(3):
        current = FULL_LOAD_RATE * load * 1.95 / np.maximum(mean, 1.5)
        drawn = np.cumsum(current) * STEP_S / 3600
        parts = []
        for number, (has, ohm) in enumerate(zip(capacity, resistance, strict=True)):
            rate = current / has
            share = drawn / has / np.interp(rate, RATES, EMPTY)
            place = np.clip(np.interp(rate, RATES, np.arange(len(RATES))), 0, len(RATES) - 1.001)
            below = place.astype(int)
            over = place - below
            at = np.clip(share, 0, 1) * (len(SHARES) - 1.001)
            left = at.astype(int)
            right = at - left
            lower = VOLTS[below, left] * (1 - right) + VOLTS[below, left + 1] * right
            upper = VOLTS[below + 1, left] * (1 - right) + VOLTS[below + 1, left + 1] * right
            volts = lower * (1 - over) + upper * over - OHMIC_V * current * (ohm - 1)
            volts = np.where(share >= 1, np.maximum(1.6 - 4 * (share - 1), 0.0), volts)
            if number == 0 and day >= blocks.fault_day:
                volts = {1: np.full_like(volts, -0.3), 2: volts * 5 / 6}.get(blocks.fault_kind, volts)
            parts.append(np.maximum(volts, -0.5))
        mean = np.mean(parts, axis=0)
    return mean


def _longest_s(load: float) -> float:
    """No string carries a load for longer."""
    return float(1300 * load**-1.3)


def _low_after(volts: np.ndarray) -> float:
    under = np.nonzero(volts < LOW_V)[0]
    return float(under[0] * STEP_S + 1) if len(under) else len(volts) * STEP_S


def units(count: int, seed: int = 1, years: float = 5.0) -> list[Unit]:
    """So many units with all their discharges."""
    return [_unit(number, np.random.default_rng(seed * 1000 + number), years) for number in range(count)]


def _unit(number: int, rng: np.random.Generator, years: float) -> Unit:
    cells = int((12, 18, 36, 48)[number % 4])
    count = cells // 6
    life = YEAR * 6.3 * math.exp(rng.normal(0, 0.22))
    blocks = Blocks(
        life * np.exp(rng.normal(0, 0.06, count)), np.full(count, rng.uniform(1.5, 3.0)), 1 + rng.normal(0, 0.015, count)
    )
    policy = ("deep", "partial", "quick")[number % 3]
    room_c = rng.uniform(22, 30)
    unit = Unit(f"u{number}", cells, policy, rng.uniform(0.25, 0.7), room_c, number % 2 == 1, blocks)
    if rng.random() < (0.35 if policy == "quick" else 0.1):
        blocks.fault_day, blocks.fault_kind = rng.uniform(300, years * YEAR - 200), int(rng.integers(1, 4))
    happenings: list[tuple[float, str]] = [(10.0, "deep")] if policy != "quick" else []
    for month in range(round(years * 12)):
        happenings.append((month * 30.4 + 15, "quick"))
    for half in range(1, round(years * 2)):
        happenings.append((half * 182.6 + 3, "deep" if policy == "deep" and half % 2 == 0 else "partial"))
        if policy == "quick":
            happenings.pop()
    happenings += [(float(day), "outage") for day in rng.uniform(20, years * YEAR, rng.poisson(2 * years))]
    last = -9.0
    for day, kind in sorted(happenings):
        if day - last >= 2:
            unit.runs.append(_run(unit, day, kind, rng))
            unit.run_days.append(day)
            last = day
    return unit


def _run(unit: Unit, day: float, kind: str, rng: np.random.Generator) -> list[Sample]:
    """One discharge as a UPS tells it: whole percents, tenths of volts."""
    load = float(np.clip(unit.load * (1 + rng.normal(0, 0.05)), 0.1, 0.95))
    celsius = unit.room_c + 2.5 * math.sin(2 * math.pi * day / YEAR) + rng.normal(0, 0.5)
    seconds = {"quick": 12.0, "deep": 20_000.0, "partial": 0.0, "outage": float(rng.exponential(120)) + 12}[kind]
    whole_s = seconds + 60 if kind in ("quick", "outage") else _longest_s(load)
    volts = _volts(unit.blocks, day, unit.aged(day), load, celsius, whole_s)
    low_s = _low_after(volts)
    if kind == "partial":
        new = Blocks(np.full(1, 1e9), np.ones(1), np.ones(1))
        seconds = 0.45 * _low_after(_volts(new, 1e6, 0.0, load, 25.0, _longest_s(load)))
    last_s = min(seconds, low_s + 4)
    at_us = BEGIN_US + round(day * DAY_US)
    told_c = 25.0 if unit.stuck else round(celsius, 1)
    told = [Sample(at_us - 20_000_000, int(Status.OL), round(FLOAT_V * unit.cells, 1), round(100 * load), None, 230.0, told_c)]
    for second in np.arange(0, last_s + 0.1, STEP_S if last_s > 30 else 2.0):
        level = float(np.interp(second, np.arange(len(volts)) * STEP_S, volts)) - 0.02 * load * math.exp(-second / 15)
        status = Status.OB if kind == "outage" else Status.OL | Status.CAL
        if second >= low_s:
            status |= Status.LB
        shown = round(100 * load * (1 + rng.normal(0, 0.01)))
        read = round((level + rng.normal(0, 0.0015)) * unit.cells, 1)
        told.append(Sample(at_us + round(second * 1e6), int(status), max(read, 0.1), shown, None,
                           0.0 if kind == "outage" else 230.0, told_c))  # fmt: skip
    after_us = told[-1].at_us + 2_000_000
    told += [
        Sample(after_us + round(second * 1e6), int(Status.OL), round((2.1 + 0.17 * min(second / 40_000, 1)) * unit.cells, 1),
               round(100 * load), None, 230.0, told_c)
        for second in (0, 12, 60, 3600, 14_400, 43_000)
    ]  # fmt: skip
    return told
