"""Since when a UPS is as it should be: mains normal, battery charged, load steady. Told by its readings, one after the other."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from qxfleet._fastparse import Corridor
from qxfleet.model.electrical import nominal_input_of
from qxfleet.model.reading import Origin, Reading, Value
from qxfleet.model.status import Status
from qxfleet.selftest.plan import DISTURBED, REGULATES

LATEST = 5
"""Readings remembered: with them a test's course begins."""

SILENCE_S = 60.0
"""A gap in the readings that nobody can vouch for: whatever held, it is not known to have held through it."""

LOAD_STEP_S = 10.0
"""Width of the slots in which least and most load are kept."""

FULL_CELL_V = 2.15
"""Below it a lead-acid cell on its charger is not full: open circuit of a full one is 2.13 to 2.17 V (landscape section 5.4)."""

RECHARGE_FACTOR, LONGEST_RECHARGE_S = 72.0, 12 * 3600.0
"""A battery whose charge nobody tells counts as charging for so many times its discharge, at most as long as from empty to full:
the seeds' default charge time, after ten minutes, which empty the battery of a heavily loaded UPS."""

STALE_S = 60.0
"""A charge told so soon after the battery worked may be one from before: some dialects tell it with every full poll only."""

REGULATED_BAND = 0.30
"""The same for a UPS that regulates (BOOST, TRIM). Line-interactive ones do so from 162 to 290 V of 230 V; further away is a
brown-out."""

MAINS_BAND = 0.15
"""Mains further than this from nominal are not normal, also for a UPS that does nothing about it: EN 50160 has supply voltages at
all times within 10 % above and 15 % below."""

_CARRIED = int(Status.OB | Status.CAL)
_NORMAL = int(Status.OL)
_REGULATES = int(REGULATES)
_LINE = int(Status.OL | DISTURBED) & ~_REGULATES


@dataclass(slots=True)
class Watch:
    """One UPS. Monotonic times; None: not so now, or not known. ``load_window_s`` is how far back its load is remembered."""

    load_window_s: float = 300.0
    stable_since_s: float | None = None
    charged_since_s: float | None = None
    last_s: float | None = None
    regulates: int = 0
    """BOOST or TRIM, while the mains are stable."""
    latest: deque[Reading] = field(default_factory=lambda: deque(maxlen=LATEST))
    _worked_s: float = -math.inf
    _carrying_s: float = 0.0
    _full_at_s: float = 0.0
    _loads: deque[tuple[float, float, float]] = field(default_factory=deque)
    _corridor: Corridor | None = None
    """Where everything must stay for nothing to change: mains are stable and the battery is full."""
    _corridor_percent: float = 0.0

    def see(self, reading: Reading, full_percent: float) -> None:
        """Take the next reading in; ``full_percent`` is the charge that counts as full."""
        now_s, before_s, values = reading.mono_s, self.last_s, reading.values
        if before_s is not None and now_s - before_s > SILENCE_S:
            self.lose()
        self.last_s = now_s
        self.latest.append(reading)
        corridor = self._corridor
        if corridor is None or reading.status != _NORMAL or full_percent != self._corridor_percent or not corridor.holds(values):
            self._judge(reading, full_percent, 0.0 if before_s is None else now_s - before_s)
        load = values.get("ups.load")
        if isinstance(load, float):
            loads = self._loads
            if not loads or now_s - loads[-1][0] >= LOAD_STEP_S:
                self._begin_load(now_s, load)
            else:
                at_s, least, most = loads[-1]
                if not least <= load <= most:
                    loads[-1] = (at_s, min(least, load), max(most, load))

    def lose(self) -> None:
        """Contact was lost: nothing is known to hold any more. How much was discharged is remembered."""
        self.stable_since_s = self.charged_since_s = self._corridor = None
        self._loads.clear()

    def resume(self, stable_since_s: float, carried_s: tuple[float, float] | None, now_s: float) -> None:
        """Take up what an earlier run of the agent saw: since when mains are normal, and from when to when the battery worked.

        A battery that tells its charge is judged by that with the next reading.
        """
        self.stable_since_s, self._corridor = stable_since_s, None
        full_s = stable_since_s
        if carried_s is not None:
            began_s, ended_s = carried_s
            full_s = ended_s + min(LONGEST_RECHARGE_S, RECHARGE_FACTOR * (ended_s - began_s))
        self._full_at_s = full_s
        self.charged_since_s = full_s if full_s <= now_s else None

    def stable_s(self, now_s: float) -> float | None:
        """How long mains are normal."""
        return None if self.stable_since_s is None else now_s - self.stable_since_s

    def charged_s(self, now_s: float) -> float | None:
        """How long the battery is full and on float."""
        return None if self.charged_since_s is None else now_s - self.charged_since_s

    def load_span(self, now_s: float) -> float | None:
        """Most minus least load over the window, in percent points; None if it was not watched for so long."""
        if not self._loads or self._loads[0][0] > now_s - self.load_window_s + 2 * LOAD_STEP_S:
            return None
        return max(most for _, _, most in self._loads) - min(least for _, least, _ in self._loads)

    def _judge(self, reading: Reading, full_percent: float, passed_s: float) -> None:
        now_s, status = reading.mono_s, reading.status
        regulates = status & _REGULATES
        if status & _LINE != _NORMAL or odd_volts(reading.values, status):
            self.stable_since_s = None
        elif self.stable_since_s is None or regulates != self.regulates:
            self.stable_since_s, self.regulates = now_s, regulates
        if status & _CARRIED:
            self._carry(passed_s, now_s)
        elif not self._full(reading, full_percent):
            self.charged_since_s = None
        elif self.charged_since_s is None:
            self.charged_since_s, self._carrying_s = now_s, 0.0
        self._corridor, self._corridor_percent = None, full_percent
        settled = self.stable_since_s is not None and self.charged_since_s is not None
        if settled and status == _NORMAL and now_s >= max(self._full_at_s, self._worked_s + STALE_S):
            self._corridor = _corridor(reading.values, full_percent)

    def _carry(self, passed_s: float, now_s: float) -> None:
        self._worked_s = now_s
        self._carrying_s += min(passed_s, SILENCE_S)
        self._full_at_s = now_s + min(LONGEST_RECHARGE_S, RECHARGE_FACTOR * self._carrying_s)
        self.charged_since_s = None

    def _full(self, reading: Reading, full_percent: float) -> bool:
        """By the charge that the UPS itself tells, else by the time it had; an estimate follows the charger's voltage, and is
        full long before the battery is."""
        values, at_s = reading.values, self._full_at_s
        charge = values.get("battery.charge")
        if isinstance(charge, float):
            if charge < full_percent:
                return False
            if reading.origins.get("battery.charge") is not Origin.ESTIMATED:
                at_s = self._worked_s + STALE_S
        if reading.mono_s < at_s:
            return False
        cell_v = cell_volts(values.get("battery.voltage"), values.get("battery.voltage.nominal"))
        return cell_v is None or cell_v >= FULL_CELL_V

    def _begin_load(self, now_s: float, load: float) -> None:
        loads = self._loads
        loads.append((now_s, load, load))
        while len(loads) > 1 and loads[1][0] <= now_s - self.load_window_s:
            loads.popleft()


def _corridor(values: Mapping[str, Value], full_percent: float) -> Corridor:
    """Where values must stay for mains to be normal and the battery full, as they are by these; narrower is no harm."""
    ranges: dict[str, tuple[float, float] | None] = {}
    for name in ("input.voltage", "input.voltage.nominal", "output.voltage.nominal", "battery.voltage.nominal", "battery.voltage",
                 "battery.charge"):  # fmt: skip
        value = values.get(name)
        ranges[name] = (value, value) if isinstance(value, float) else None
    usual = nominal_input_of(values)
    if ranges["input.voltage"] is not None and usual is not None:
        ranges["input.voltage"] = (usual - MAINS_BAND * usual, usual + MAINS_BAND * usual)
    volts, nominal = values.get("battery.voltage"), values.get("battery.voltage.nominal")
    if isinstance(volts, float) and volts < 3:
        ranges["battery.voltage"] = (FULL_CELL_V, math.nextafter(3, 0))
    elif isinstance(volts, float):
        least = FULL_CELL_V * nominal / 2 if isinstance(nominal, float) and nominal >= 2 else 3.0
        ranges["battery.voltage"] = (max(3.0, math.nextafter(least, math.inf)), math.inf)
    if ranges["battery.charge"] is not None:
        ranges["battery.charge"] = (full_percent, math.inf)
    return Corridor(ranges)


def odd_volts(values: Mapping[str, Value], status: int = 0) -> str:
    """An input voltage that no mains should have, in words; "" for a good one, and where it or what it should be is not known."""
    volts, nominal = values.get("input.voltage"), nominal_input_of(values)
    band = REGULATED_BAND if status & _REGULATES else MAINS_BAND
    if not isinstance(volts, float) or nominal is None or abs(volts - nominal) <= band * nominal:
        return ""
    return f"{volts:.0f} V, {nominal:.0f} V nominal"


def cell_volts(volts: Value | None, nominal: Value | None) -> float | None:
    """Volts of one of the cells in series, of which each has two volts nominally (landscape section 5.1); None: not known."""
    if not isinstance(volts, float):
        return None
    if volts < 3:
        return volts
    return volts / (nominal / 2) if isinstance(nominal, float) and nominal >= 2 else None
