"""Since when a UPS is as it should be: mains normal, battery charged, load steady. Told by its readings, one after the other."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.selftest.plan import DISTURBED

SILENCE_S = 60.0
"""A gap in the readings that nobody can vouch for: whatever held, it is not known to have held through it."""

LOAD_STEP_S = 10.0
"""Width of the slots in which least and most load are kept."""

FULL_CELL_V = 2.15
"""Below it a lead-acid cell on its charger is not full: open circuit of a full one is 2.13 to 2.17 V (landscape section 5.4)."""

RECHARGE_FACTOR, LONGEST_RECHARGE_S = 72.0, 12 * 3600.0
"""A battery whose charge nobody tells counts as charging for so many times its discharge, at most as long as from empty to full:
the seeds' default charge time, after ten minutes, which empty the battery of a heavily loaded UPS."""

_CARRIED = int(Status.OB | Status.CAL)
_NORMAL, _DISTURBED = int(Status.OL), int(DISTURBED)


@dataclass(slots=True)
class Watch:
    """One UPS. Monotonic times; None: not so now, or not known. ``load_window_s`` is how far back its load is remembered."""

    load_window_s: float = 300.0
    stable_since_s: float | None = None
    charged_since_s: float | None = None
    last_s: float | None = None
    _carrying_s: float = 0.0
    _full_at_s: float = 0.0
    _loads: deque[tuple[float, float, float]] = field(default_factory=deque)

    def see(self, reading: Reading, full_percent: float) -> None:
        """Take the next reading in; ``full_percent`` is the charge that counts as full."""
        now_s = reading.mono_s
        if self.last_s is not None and now_s - self.last_s > SILENCE_S:
            self.lose()
        before_s, self.last_s = self.last_s, now_s
        good = reading.status & _NORMAL and not reading.status & _DISTURBED
        self.stable_since_s = (self.stable_since_s if self.stable_since_s is not None else now_s) if good else None
        self._charge(reading, before_s, full_percent)
        load = reading.values.get("ups.load")
        if isinstance(load, float):
            self._remember(now_s, load)

    def lose(self) -> None:
        """Contact was lost: nothing is known to hold any more. How much was discharged is remembered."""
        self.stable_since_s = self.charged_since_s = None
        self._loads.clear()

    def resume(self, stable_since_s: float, carried_s: tuple[float, float] | None, now_s: float) -> None:
        """Take up what an earlier run of the agent saw: since when mains are normal, and from when to when the battery worked.

        A battery that tells its charge is judged by that with the next reading.
        """
        self.stable_since_s = stable_since_s
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

    def _charge(self, reading: Reading, before_s: float | None, full_percent: float) -> None:
        now_s = reading.mono_s
        if reading.status & _CARRIED:
            passed_s = now_s - before_s if before_s is not None else 0.0
            self._carrying_s += min(passed_s, SILENCE_S)
            self._full_at_s = now_s + min(LONGEST_RECHARGE_S, RECHARGE_FACTOR * self._carrying_s)
            self.charged_since_s = None
            return
        charge = reading.values.get("battery.charge")
        full = charge >= full_percent if isinstance(charge, float) else now_s >= self._full_at_s
        if full and _cell_v(reading) is not None and (_cell_v(reading) or 0.0) < FULL_CELL_V:
            full = False
        if full:
            self._carrying_s = 0.0
        self.charged_since_s = (self.charged_since_s if self.charged_since_s is not None else now_s) if full else None

    def _remember(self, now_s: float, load: float) -> None:
        loads = self._loads
        if loads and now_s - loads[-1][0] < LOAD_STEP_S:
            at_s, least, most = loads[-1]
            loads[-1] = (at_s, min(least, load), max(most, load))
        else:
            loads.append((now_s, load, load))
        while len(loads) > 1 and loads[1][0] <= now_s - self.load_window_s:
            loads.popleft()


def _cell_v(reading: Reading) -> float | None:
    """Volts per cell, where nominal voltage tells how many there are; told per cell already, they are below three."""
    volts, nominal = reading.values.get("battery.voltage"), reading.values.get("battery.voltage.nominal")
    return cell_volts(volts if isinstance(volts, float) else None, nominal if isinstance(nominal, float) else None)


def cell_volts(volts: float | None, nominal: float | None) -> float | None:
    """Volts of one of the cells in series, of which each has two volts nominally (landscape section 5.1); None: not known."""
    if volts is None:
        return None
    if volts < 3:
        return volts
    return volts / (nominal / 2) if nominal is not None and nominal >= 2 else None
