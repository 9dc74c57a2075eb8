"""Electrical rules, each in this one place. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Mapping

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
