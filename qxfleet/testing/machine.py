"""What stands behind a simulated UPS's serial port: mains, load, battery, regulation, tests and shutdown timers.

Knows no protocol. Time is whatever the caller passes to :meth:`Machine.advance`, in seconds; nothing happens in
between, so a machine that nobody looks at costs nothing.
"""

from __future__ import annotations

import enum
import math
import random
from dataclasses import dataclass, field

from qxfleet.testing.battery import Battery

HOLD_S = 10.0
"""An output that was switched off stays off for at least this long (megatec-family.md section 10.5)."""

QUICK_TEST_S = 10.0
"""Length of the quick test (megatec-family.md section 10.5)."""

OVERLOAD_PERCENT, OVERLOAD_S = 105.0, 10.0
"""Above so much load the inverter gives up after so many seconds."""

IDLE_FRACTION = 0.03
"""What the inverter draws for itself, as a fraction of the rated watts."""

BATTERY_STEP_S, MAINS_STEP_S = 2.0, 10.0
"""Longest steps of the arithmetic while something is happening, and while nothing is."""


class Source(enum.Enum):
    """Where the output's power comes from."""

    MAINS = "mains"
    BYPASS = "bypass"
    BATTERY = "battery"
    OFF = "off"


class Returns(enum.Enum):
    """When an output that is off comes back (megatec-family.md section 10.5)."""

    WITH_MAINS = "with mains"
    AFTER = "after a while"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Ratings:
    """The name plate. ``battery_ah`` is one string's; ``battery_strings`` of them are in parallel."""

    volts: float = 230.0
    hertz: float = 50.0
    va: float = 1000.0
    watts: float = 600.0
    battery_v: float = 24.0
    battery_ah: float = 9.0
    battery_strings: int = 1
    line_interactive: bool = True

    @property
    def amps(self) -> float:
        """Rated current."""
        return self.va / self.volts


@dataclass(slots=True)
class _Off:
    """An output that is off, and why it may come back. ``earliest_s`` counts for :attr:`Returns.AFTER`."""

    since_s: float
    returns: Returns
    earliest_s: float = 0.0
    ordered: bool = True


@dataclass(slots=True)
class _Countdown:
    """A shutdown that was ordered and has not happened. ``back_s`` counts from the moment of switching off."""

    off_at_s: float
    returns: Returns
    back_s: float = 0.0


@dataclass(slots=True)
class _Wander:
    """A value that strays around zero with the given spread and time constant."""

    spread: float
    constant_s: float
    value: float = field(default=0.0)

    def step(self, seconds: float, rng: random.Random) -> None:
        keep = math.exp(-seconds / self.constant_s)
        self.value = self.value * keep + self.spread * math.sqrt(1 - keep * keep) * rng.gauss(0.0, 1.0)


class Machine:
    """One UPS without its serial port.

    Set ``load_percent``, ``frequency_hz``, ``forced_bypass`` freely, mains through :meth:`set_mains`; call
    :meth:`advance` before and read after. ``noise`` scales all random wandering (0: none). ``thermometer`` False: the
    temperature is the placeholder 25.0 of units that do not measure it (megatec-family.md section 4).
    """

    def __init__(
        self,
        ratings: Ratings,
        *,
        seed: int = 0,
        age_years: float = 0.0,
        load_percent: float = 30.0,
        ambient_c: float = 24.0,
        thermometer: bool = True,
        noise: float = 1.0,
    ) -> None:
        self.ratings = ratings
        self.battery = Battery(ratings.battery_v, ratings.battery_ah * ratings.battery_strings, age_years)
        self.load_percent = load_percent
        self.frequency_hz = ratings.hertz
        self.forced_bypass = False
        self.beeper = True
        self.failed = False
        self.test_passed: bool | None = None
        """How the last battery test ended; one that was stopped tells nothing."""
        self.follows_input = False
        """An online unit feeds its load straight from the mains, to save losses."""
        self.holds_frequency = False
        """An online unit's output keeps the rated frequency whatever the mains' is."""
        self.restarts = True
        """Comes back by itself with the mains after its battery was empty."""
        self.regulation = 1.0
        """Output divided by input voltage of the transformer: 1 straight through, above boost, below trim."""
        self.on_battery = False
        """Mains are missing or unfit; a running test does not count."""
        self._rng = random.Random(seed)
        self._now_s: float | None = None
        self._mains_v = ratings.volts
        self._fit_since_s = -math.inf
        self._thermometer = thermometer
        self._ambient_c = ambient_c
        self._warm_c = ambient_c + 2
        self._test_until_s: float | None = None
        self._test_is_quick = False
        self._countdown: _Countdown | None = None
        self._off: _Off | None = None
        self._overloaded_since_s: float | None = None
        self._overload_bypass = False
        self._mains_wander = _Wander(noise * 0.4 / 100 * ratings.volts, 20.0)
        self._load_wander = _Wander(noise * 2.0, 120.0)
        self._hertz_wander = _Wander(noise * 0.03, 10.0)
        self._fault_v = ratings.volts

    # -- what can be read --------------------------------------------------------------------------------------------

    @property
    def input_v(self) -> float:
        """Volts at the input now."""
        return max(0.0, self._mains_v + self._mains_wander.value) if self._mains_v else 0.0

    @property
    def source(self) -> Source:
        """Where the output's power comes from now."""
        if self._off:
            return Source.OFF
        if self.on_battery or self.testing:
            return Source.BATTERY
        return Source.BYPASS if self.forced_bypass or self._overload_bypass else Source.MAINS

    @property
    def output_v(self) -> float:
        """Volts at the output now."""
        match self.source:
            case Source.OFF:
                return 0.0
            case Source.BYPASS:
                return self.input_v
            case Source.MAINS if self.ratings.line_interactive or self.follows_input:
                return self.input_v * self.regulation
            case _:
                return self.ratings.volts

    @property
    def load_now(self) -> float:
        """Load in percent of the rating; nothing flows out of an output that is off."""
        return 0.0 if self._off else max(0.0, self.load_percent + self._load_wander.value)

    @property
    def hertz(self) -> float:
        """The mains' frequency, the inverter's without mains, zero without either."""
        if self._mains_v:
            return self.frequency_hz + self._hertz_wander.value
        return 0.0 if self._off else self.ratings.hertz

    @property
    def input_hertz(self) -> float:
        """The mains' frequency; zero without mains."""
        return self.hertz if self._mains_v else 0.0

    @property
    def output_hertz(self) -> float:
        """The output's frequency: an inverter keeps to the mains where it can."""
        if self._off:
            return 0.0
        own = self.source is Source.BATTERY or self.holds_frequency or not self._mains_v
        return self.ratings.hertz if own else self.hertz

    @property
    def temperature_c(self) -> float:
        """Degrees inside the case."""
        return self._warm_c if self._thermometer else 25.0

    @property
    def testing(self) -> bool:
        """Whether a battery test runs."""
        return self._test_until_s is not None

    @property
    def shutting_down(self) -> bool:
        """Whether a shutdown was ordered and the output has not come back since: status bit b1."""
        return self._countdown is not None or (self._off is not None and self._off.ordered)

    @property
    def returning(self) -> bool:
        """Whether the output is off and about to come back."""
        back_at_s = self._back_at_s()
        return back_at_s is not None and back_at_s - self._now <= HOLD_S

    @property
    def regulating(self) -> bool:
        """Whether the output is boosted, trimmed or on bypass: status bit b5."""
        return self.source is Source.BYPASS or (self.source is Source.MAINS and self.regulation != 1.0)

    @property
    def battery_low(self) -> bool:
        """Whether the battery is low: status bit b6."""
        return self.battery.low

    @property
    def dark(self) -> bool:
        """Whether nothing is left to feed even the unit's own electronics."""
        return self._off is not None and not self._off.ordered and not self._mains_v

    def read_fault_v(self) -> float:
        """The worst input since the last call, which starts a new one (megatec-family.md section 4)."""
        worst, self._fault_v = self._fault_v, self.input_v
        return worst

    # -- what can be done --------------------------------------------------------------------------------------------

    def set_mains(self, volts: float) -> None:
        """Mains of so many volts from now on; 0 is an outage."""
        self._mains_v = volts
        self._sense()
        self._react()

    def start_test(self, seconds: float) -> bool:
        """Put the load on the battery for ``seconds`` (``inf``: until low); False if that is not possible now."""
        if self.on_battery or self._off:
            return False
        self._test_until_s = self._now + seconds
        self._test_is_quick = seconds == QUICK_TEST_S
        return True

    def stop_test(self) -> None:
        """End any test at once."""
        self._test_until_s = None

    def shut_down(self, after_s: float, returns: Returns, back_s: float = 0.0) -> None:
        """Switch the output off in ``after_s``; ``back_s`` is for :attr:`Returns.AFTER`."""
        self._countdown = _Countdown(self._now + after_s, returns, back_s)
        self._react()

    def switch_off(self) -> None:
        """Switch the output off now, until it is switched on; nothing counts down and nothing is pending."""
        self._countdown = None
        self._off = _Off(self._now, Returns.NEVER, ordered=False)
        self._react()

    def cancel(self) -> None:
        """Stop a countdown, or bring an output back that is off: after the hold, if there are mains."""
        self._countdown = None
        if self._off:
            self._off.returns, self._off.earliest_s = Returns.AFTER, self._off.since_s + HOLD_S
        self._react()

    def advance(self, now_s: float) -> None:
        """Let everything happen up to ``now_s``. The first call only starts the time."""
        if self._now_s is None:
            self._now_s = now_s
            self._sense()
        self._react()
        while (left := now_s - self._now) > 0:
            longest_s = MAINS_STEP_S if self.source is Source.MAINS else BATTERY_STEP_S
            step = min(left, longest_s, *self._deadlines())
            self._flow(step)
            self._now_s = now_s if step == left else self._now + step
            self._sense()
            self._react()

    def skip(self, now_s: float) -> None:
        """Let a long quiet time pass at once, up to ``now_s``: on mains, nothing happening, the battery full afterwards."""
        self.advance(self._now)
        self._test_until_s = None
        self._now_s = max(self._now, now_s)
        self.battery.set_charge(1.0)
        self.battery.recharge(3600.0)

    # -- how it happens ----------------------------------------------------------------------------------------------

    @property
    def _now(self) -> float:
        return self._now_s or 0.0

    def _deadlines(self) -> list[float]:
        """Seconds until each moment at which something changes by itself."""
        overload = None if self._overloaded_since_s is None else self._overloaded_since_s + OVERLOAD_S
        off_at = self._countdown.off_at_s if self._countdown else None
        moments = (self._test_until_s, off_at, self._back_at_s(), overload)
        return [left for moment in moments if moment is not None and (left := moment - self._now) > 0]

    def _flow(self, seconds: float) -> None:
        """Energy, heat and chance over a short step."""
        source = self.source
        if source is Source.BATTERY:
            watts = self.ratings.watts * (self.load_now / 100 + IDLE_FRACTION)
            self.battery.discharge(watts, seconds)
        elif self._mains_v and not self.on_battery:
            self.battery.recharge(seconds)
        else:
            self.battery.rest(seconds)
        for wander in (self._mains_wander, self._load_wander, self._hertz_wander):
            wander.step(seconds, self._rng)
        warm = self._ambient_c + 0.08 * self.load_now + (5.0 if source is Source.BATTERY else 0.0)
        self._warm_c += (warm - self._warm_c) * -math.expm1(-seconds / 300)

    def _sense(self) -> None:
        """The input as the unit's meter and transfer logic see it; the way back from each limit is narrower."""
        volts, nominal = self.input_v, self.ratings.volts
        if abs(volts - nominal) > abs(self._fault_v - nominal):
            self._fault_v = volts
        ratio = volts / nominal
        low, high = (0.75, 1.20) if self.ratings.line_interactive else (0.55, 1.30)
        slack = 0.03 if self.on_battery else 0.0
        unfit = not low + slack <= ratio <= high - slack
        if self.on_battery and not unfit:
            self._fit_since_s = self._now
        self.on_battery = unfit
        if self.ratings.line_interactive:
            slack = 0.02 if self.regulation != 1.0 else 0.0
            self.regulation = 1.15 if ratio < 0.90 + slack else 0.88 if ratio > 1.08 - slack else 1.0

    def _react(self) -> None:
        """Whatever the unit decides by itself at this moment."""
        now = self._now
        if self._test_until_s is not None:
            short = self.battery.low or self.battery.empty
            if self.on_battery or self._off:
                self.stop_test()
            elif short or now >= self._test_until_s:
                self.failed = short and self._test_is_quick
                self.test_passed = not short or math.isinf(self._test_until_s)
                self.stop_test()
        countdown = self._countdown
        if countdown and (now >= countdown.off_at_s or (self.on_battery and self.battery.low)):
            self._countdown = None
            self._off = _Off(self._off.since_s if self._off else now, countdown.returns, now + countdown.back_s)
        if self.source is Source.BATTERY and self.on_battery and self.battery.empty:
            self._off = _Off(now, Returns.WITH_MAINS if self.restarts else Returns.NEVER, ordered=False)
        self._watch_overload()
        back_at_s = self._back_at_s()
        if back_at_s is not None and now >= back_at_s:
            self._off = None

    def _watch_overload(self) -> None:
        """An inverter above its rating gives up: to bypass where there is one, otherwise off."""
        if self.load_percent <= OVERLOAD_PERCENT:
            self._overloaded_since_s, self._overload_bypass = None, False
            return
        online_on_mains = not self.ratings.line_interactive and not self.on_battery
        if self._off or (self.source is not Source.BATTERY and not online_on_mains):
            self._overloaded_since_s = None
            return
        if self._overloaded_since_s is None:
            self._overloaded_since_s = self._now
        elif self._now - self._overloaded_since_s >= OVERLOAD_S:
            if self.testing:
                self.stop_test()
            elif online_on_mains:
                self._overload_bypass = True
            else:
                self._off = _Off(self._now, Returns.WITH_MAINS, ordered=False)

    def _back_at_s(self) -> float | None:
        """When the output comes back if nothing changes; None if it is on, or will not."""
        off = self._off
        if off is None or self.on_battery or off.returns is Returns.NEVER:
            return None
        if off.returns is Returns.WITH_MAINS:
            return max(off.since_s, self._fit_since_s) + HOLD_S
        return max(off.since_s + HOLD_S, off.earliest_s)
