"""The electrical rules, once: when mains are gone, when an output is on, what a UPS carries, how runtime follows the load.

Voltages in volts, powers in watts, times in seconds. Values that are not known are None, and so is what follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from qxfleet.model.status import Status

Values = Mapping[str, float | str]

OFF = int(Status.OFF)

UNKNOWN_NOMINAL_V = 110.0
"""The lowest usual mains voltage: what is below a share of this is below the same share of any."""

# -- mains

LINE_TO_LINE_V = 300.0
"""No single-phase mains are nominally higher (IEC 60038: 100 to 277 V); 380, 400, 415 and 480 V are between two phases."""

THREE_PHASES = math.sqrt(3.0)


def nominal_input_v(nominal: float, volts: float, phases: float | None = None) -> float:
    """The nominal value on the scale of a voltage read at the input: a three-phase unit may tell the voltage between two phases
    as nominal and read one phase, 400 and 230 V.

    Which one it reads shows in the reading itself: it counts for the phase if that is nearer, on a scale of ratios.
    """
    if nominal < LINE_TO_LINE_V and phases != 3:
        return nominal
    of_phase = nominal / THREE_PHASES
    return of_phase if volts < math.sqrt(nominal * of_phase) else nominal


def nominal_input_of(values: Mapping[str, object]) -> float | None:
    """:func:`nominal_input_v` of a reading; the output's nominal stands in. None where nothing tells, or nothing is read."""
    volts, phases = values.get("input.voltage"), values.get("input.phases")
    nominal = values.get("input.voltage.nominal") or values.get("output.voltage.nominal")
    if not isinstance(nominal, float) or nominal <= 0 or not isinstance(volts, float):
        return None
    return nominal_input_v(nominal, volts, phases if isinstance(phases, float) else None)


DEAD_BELOW = 0.1
"""An input below this share of nominal is no mains at all, whatever the UPS calls it (voltronic.md section 5.5, "65 = 1 but QMOD
L"). Both sides of an open switch pick up a few volts; no mains that a UPS could use is so low."""

GONE_BELOW = 0.7
"""An input below this share of nominal, with the on-battery bit, is an outage even while a test runs."""

GOOD = (0.85, 1.15)
"""An input between these shares of nominal: mains are there, whatever a test makes of the on-battery bit."""

DEAD_POLLS = 2
"""So many polls in a row must show a dead input before it is an outage without the UPS saying so."""


def dead_below(nominal_v: float | None) -> float:
    """Volts below which an input is no mains at all."""
    return DEAD_BELOW * (nominal_v if nominal_v is not None and nominal_v > 0 else UNKNOWN_NOMINAL_V)


def brown_out(values: Values) -> bool | None:
    """Whether the input is below what the unit works with, and not dead; None where it can't be told.

    The unit's own limit is ``input.transfer.low``; without one it is :data:`GONE_BELOW` of nominal.
    """
    volts, nominal = number(values, "input.voltage"), nominal_input_of(values)
    limit = number(values, "input.transfer.low") or (GONE_BELOW * nominal if nominal else None)
    if volts is None or limit is None:
        return None
    return dead_below(nominal) <= volts < limit


# -- output

DARK_BELOW = 0.3
"""An output below this share of its nominal voltage is off; no unit boosts from so deep."""


def output_on(status: int, values: Values) -> bool:
    """Whether the output carries anything. An output that is not told is on unless the UPS says OFF."""
    volts = number(values, "output.voltage")
    nominal = number(values, "output.voltage.nominal") or number(values, "input.voltage.nominal") or UNKNOWN_NOMINAL_V
    return not status & OFF and (volts is None or volts >= DARK_BELOW * nominal)


# -- power

VA_TO_WATTS = 0.7
"""Middle of the power factors of line-interactive units, for those that tell no watts."""


def rated_watts(values: Values, configured_w: float | None = None) -> float | None:
    """What a UPS may carry: as configured, as it says in watts, in volt-amperes, or in volts and amperes."""
    if watts := configured_w or number(values, "ups.realpower.nominal") or number(values, "output.realpower.nominal"):
        return watts
    factor = number(values, "output.powerfactor") or VA_TO_WATTS
    if power := number(values, "ups.power.nominal") or number(values, "output.power.nominal"):
        return factor * power
    volts = number(values, "output.voltage.nominal") or number(values, "input.voltage.nominal")
    amps = number(values, "output.current.nominal") or number(values, "input.current.nominal")
    return factor * volts * amps if volts and amps else None


def present_watts(values: Values, configured_w: float | None = None) -> float | None:
    """What a UPS carries now: as measured, else its load in percent of what it may carry."""
    measured = number(values, "ups.realpower")
    if measured is None:
        measured = number(values, "output.realpower")
    if measured is None:
        phases = [number(values, f"output.L{n}.realpower") for n in (1, 2, 3)]
        known = [watts for watts in phases if watts is not None]
        measured = sum(known) if len(known) == len(phases) else None
    load, rated = number(values, "ups.load"), rated_watts(values, configured_w)
    if measured is not None:
        return measured
    return None if rated is None or load is None else rated * load / 100


# -- runtime


def local_exponent(runtime_s: float) -> tuple[float, float]:
    """Slope of log runtime against log load near a runtime, and its spread over battery types (published discharge tables)."""
    minutes = runtime_s / 60
    for until, exponent, spread in ((4, 2.3, 0.5), (10, 1.75, 0.3), (15, 1.55, 0.15), (30, 1.42, 0.12), (60, 1.3, 0.1)):
        if minutes < until:
            return exponent, spread
    return 1.2, 0.1


def runtime_at(runtime_s: float, times_the_load: float, *, at_least: bool = False) -> float:
    """What a battery lasts at so many times the load at which it lasts ``runtime_s``. ``at_least``: by the steeper of batteries
    where the load rises, by the flatter where it falls."""
    if times_the_load <= 0:
        return math.inf
    ratio = math.log(times_the_load)
    exponent, spread = local_exponent(runtime_s * math.exp(-1.4 * ratio / 2))
    if at_least:
        exponent += spread if ratio > 0 else -spread
    return runtime_s * math.exp(-exponent * ratio)


def number(values: Values, name: str) -> float | None:
    """A value that is a number; None for one that is not there."""
    value = values.get(name)
    return value if isinstance(value, float) else None
