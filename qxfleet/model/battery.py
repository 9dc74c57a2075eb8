"""Charge and runtime as the seeds define them, from what the device gives and the user typed in. Pure arithmetic.

Source of every formula: engine.md section 8; the seeds' chapter "BATTERY CHARGE".
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

LOW_PER_NOMINAL, HIGH_PER_NOMINAL = 104 / 120, 130 / 120
"""Limits where only the nominal voltage is known (engine.md section 8.2)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Battery voltage, in volts, at which the battery counts as empty and as full."""

    low_v: float
    high_v: float

    @classmethod
    def from_nominal(cls, nominal_v: float) -> Limits:
        """The limits the incumbent takes when none are configured."""
        return cls(nominal_v * LOW_PER_NOMINAL, nominal_v * HIGH_PER_NOMINAL)

    def fraction(self, battery_v: float) -> float:
        """Where a voltage lies between empty (0) and full (1), clamped."""
        fraction = (battery_v - self.low_v) / (self.high_v - self.low_v)
        return 0.0 if fraction < 0.0 else fraction if fraction < 1.0 else 1.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """``runtimecal``: full-load runtime ``full_s`` of a full battery, and the exponent of the load."""

    full_s: float
    exponent: float

    @classmethod
    def from_points(cls, t1_s: float, l1_percent: float, t2_s: float, l2_percent: float) -> Calibration:
        """Two runtimes at two loads; the configuration has checked 0 < t1 <= t2 and 100 >= l1 > l2 > 0."""
        exponent = math.log(t2_s / t1_s) / math.log(l1_percent / l2_percent)
        return cls(t1_s * (l1_percent / 100) ** exponent, exponent)

    def burden(self, load_percent: float) -> float:
        """Full-load seconds that one second at a load costs."""
        return float((load_percent / 100) ** self.exponent)


@dataclass(frozen=True, slots=True)
class RuntimeTable:
    """Runtimes of a full battery, (load in percent, seconds) in order of load, two at least; log-log between and beyond."""

    points: tuple[tuple[float, float], ...]

    @property
    def full_s(self) -> float:
        """Runtime at full load."""
        return self.runtime_s(100.0)

    def runtime_s(self, load_percent: float) -> float:
        """Seconds at a load."""
        loads = [load for load, _ in self.points]
        right = min(max(bisect_left(loads, load_percent), 1), len(loads) - 1)
        (low, long_s), (high, short_s) = self.points[right - 1], self.points[right]
        share = math.log(load_percent / low) / math.log(high / low)
        return float(long_s * (short_s / long_s) ** share)

    def burden(self, load_percent: float) -> float:
        """Full-load seconds that one second at a load costs."""
        return self.full_s / self.runtime_s(max(load_percent, 1.0))


def packs_for(reported_v: float, nominal_v: float) -> float | None:
    """By how much a reported battery voltage must be multiplied to get the real one; None where it can't be told.

    Units report a cell, a 12 V block, or the whole battery. The rule is engine.md section 8.3's, checked against the nominal
    voltage: what does not come out near it is not guessed.
    """
    if reported_v < 3:
        packs = float(round(nominal_v / 2))
    elif 9 < reported_v < 16 and nominal_v >= 24:
        packs = float(round(nominal_v / 12))
    else:
        packs = 1.0
    return packs if 0.8 * nominal_v <= packs * reported_v <= 1.3 * nominal_v else None


class Estimator:
    """Estimates one battery's charge and runtime, poll by poll. ``counts``: it must be told every poll; else the charge follows
    the voltage alone, and there is no runtime."""

    def __init__(self, calibration: Calibration | RuntimeTable | None, chargetime_s: float, idleload_percent: float) -> None:
        self._calibration = calibration
        self.counts = calibration is not None
        self._chargetime_s = chargetime_s
        self._idle = idleload_percent / 100
        self._left_s: float | None = None
        self._burden = 1.0
        self._at_s = 0.0

    def learn(self, table: RuntimeTable | None) -> None:
        """Take runtimes that were learned; None forgets them. What is left of the charge keeps its share."""
        before, self._calibration = self._calibration, table
        self.counts = table is not None
        if self._left_s is not None:
            self._left_s = self._left_s * table.full_s / before.full_s if before and table else None

    def estimate(
        self, mono_s: float, on_mains: bool, battery_v: float | None, limits: Limits | None, load_percent: float | None
    ) -> tuple[float | None, float | None]:
        """Charge in percent and runtime in seconds now, each None where nothing supports a figure.

        Without ``runtimecal`` the charge follows the battery voltage alone (section 8.4); with it, full-load seconds are counted
        in and out between the polls and capped by the voltage (section 8.5).
        """
        at_rest = limits.fraction(battery_v) if limits is not None and battery_v else None
        cal = self._calibration
        if cal is None:
            return (None if at_rest is None else 100 * at_rest), None
        if self._left_s is None:
            if at_rest is None:
                return None, None
            self._left_s = cal.full_s * at_rest
        else:
            elapsed_s = mono_s - self._at_s
            if on_mains:
                self._left_s = min(cal.full_s, self._left_s + cal.full_s * elapsed_s / self._chargetime_s)
            else:
                self._left_s = max(0.0, self._left_s - self._burden * elapsed_s)
        self._at_s = mono_s
        if at_rest is not None:
            self._left_s = min(self._left_s, cal.full_s * at_rest)
        charge = 100 * self._left_s / cal.full_s
        if load_percent is None:
            return charge, None
        self._burden = max(cal.burden(load_percent), self._idle)
        return charge, self._left_s / self._burden
