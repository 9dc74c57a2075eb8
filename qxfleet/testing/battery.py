"""A lead-acid battery that sags, drains, recovers, charges and grows old: pure arithmetic over seconds.

The figures are those of an ordinary sealed battery at room temperature, chosen to look right on a chart: float at
2.27 V per cell, two volts at half charge, a knee before the end. They describe no product.
"""

from __future__ import annotations

import math

FLOAT_V, LOW_V, CUTOFF_V = 2.27, 1.85, 1.67
"""Volts per cell: held by the charger; below it the UPS says "battery low"; below it the inverter stops."""

PEUKERT = 1.25
"""Drain grows with the current to this power: twice the load lasts 2.4 times shorter, not twice."""

OHM_AH = 0.025
"""Resistance of one new cell times its capacity, ohm · ampere-hours."""

FULL_CHARGE_S, TAPER_S = 6 * 3600.0, 3600.0
"""Charging at full current takes so long from empty; towards the end it slows down with this time constant."""

SAG_S, RECOVERY_S = 3.0, 45.0
"""Time constants of the terminal voltage, downwards and upwards."""


def capacity_left(age_years: float) -> float:
    """Fraction of the rated capacity that is left: 0.91 after 2 years, 0.76 after 4, 0.52 after 6."""
    return max(0.05, 1.0 - 0.02 * age_years - 0.01 * age_years**2)


def resistance_growth(age_years: float) -> float:
    """Internal resistance as a multiple of a new battery's: 1.2 after 2 years, 1.7 after 4, 2.4 after 6."""
    return 1.0 + 0.05 * age_years + 0.03 * age_years**2


def rest_v(charge: float) -> float:
    """Volts per cell without current at ``charge`` 0..1."""
    return 1.95 + 0.18 * charge - 0.25 * math.exp(-charge / 0.1)


class Battery:
    """Cells in series. ``charge`` is 0..1 of what the battery can hold at its age; ``cell_v`` the volts of one cell.

    ``fails_after_s`` set: the battery collapses after so many seconds of discharge, whatever its charge said.
    """

    def __init__(self, nominal_v: float, capacity_ah: float, age_years: float = 0.0) -> None:
        self.nominal_v = nominal_v
        self.capacity_ah = capacity_ah
        self.age_years = age_years
        self.cells = round(nominal_v / 2)
        self.charge = 1.0
        self.cell_v = FLOAT_V
        self.discharging_s = 0.0
        self.fails_after_s: float | None = None

    @property
    def volts(self) -> float:
        """Volts of the whole string."""
        return self.cell_v * self.cells

    @property
    def low(self) -> bool:
        """Whether the UPS would raise "battery low"."""
        return self.cell_v < LOW_V

    @property
    def empty(self) -> bool:
        """Whether the inverter can't go on."""
        return self.charge <= 0 or self.cell_v < CUTOFF_V

    def set_charge(self, charge: float) -> None:
        """Put the battery, at rest, at ``charge`` 0..1."""
        self.charge = min(max(charge, 0.0), 1.0)
        self.cell_v = rest_v(self.charge)

    def discharge(self, watts: float, seconds: float) -> None:
        """Draw ``watts`` for ``seconds``; exact enough for steps of a few seconds."""
        self.charge = max(0.0, self.charge - self._drain(watts) * seconds)
        self.discharging_s += seconds
        if self.fails_after_s is not None and self.discharging_s >= self.fails_after_s:
            self.charge = 0.0
        self._settle(rest_v(self.charge) - self._amps(watts) * self._cell_ohm(), seconds)

    def runtime_s(self, watts: float) -> float:
        """Seconds until ``watts`` have drawn it empty, from its charge; ``inf`` without a draw."""
        drain = self._drain(watts)
        return self.charge / drain if drain else math.inf

    def recharge(self, seconds: float) -> None:
        """Let the charger work for ``seconds``."""
        self.discharging_s = 0.0
        self.charge = min(1.0, self.charge + min(1 / FULL_CHARGE_S, (1 - self.charge) / TAPER_S) * seconds)
        self._settle(FLOAT_V - 0.25 * (1 - self.charge) ** 1.5, seconds)

    def rest(self, seconds: float) -> None:
        """Neither draw nor charge."""
        self.discharging_s = 0.0
        self._settle(rest_v(self.charge), seconds)

    def _amps(self, watts: float) -> float:
        return watts / (max(self.cell_v, 1.5) * self.cells)

    def _drain(self, watts: float) -> float:
        """Charge lost per second."""
        capacity_ah = self.capacity_ah * capacity_left(self.age_years)
        return float((20 * self._amps(watts) / capacity_ah) ** PEUKERT / 72000)

    def _cell_ohm(self) -> float:
        return OHM_AH / self.capacity_ah * resistance_growth(self.age_years)

    def _settle(self, target_v: float, seconds: float) -> None:
        constant = SAG_S if target_v < self.cell_v else RECOVERY_S
        self.cell_v += (target_v - self.cell_v) * -math.expm1(-seconds / constant)
