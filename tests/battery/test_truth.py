"""The judgement against a second truth: PyBaMM's discharges, a published ageing law, failing blocks (tests/battery/truth)."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
import pytest

from tests.battery.truth.judge import figures, weeks
from tests.battery.truth.simulate import EMPTY, RATES, TABLE, VOLTS, units

SOAK = os.environ.get("QXFLEET_SOAK") == "1"
COUNT = 200 if SOAK else 40


@lru_cache
def judged() -> dict[str, float]:
    """The figures of a fleet over five years, judged each week."""
    return figures([weeks(unit) for unit in units(COUNT, seed=3)])


def test_the_curves_are_those_of_a_lead_acid_battery() -> None:
    """Less charge at higher currents (Peukert 1.1 to 1.3 between 0.05 and 1 C, of sealed batteries' data sheets), and falling."""
    assert TABLE["made_by"].startswith("PyBaMM ") and TABLE["parameters"] == "Sulzer2019"
    assert (np.diff(EMPTY) < 0).all() and (np.diff(VOLTS, axis=1) < 0).all() and (np.diff(VOLTS[:, 0]) < 0).all()
    hours = EMPTY / RATES
    slope = -np.polyfit(np.log(RATES[5:]), np.log(hours[5:]), 1)[0]
    assert 1.1 < slope < 1.35


@pytest.mark.more
@pytest.mark.timeout(7000 if SOAK else 900)
def test_bounds_hold_what_they_promise() -> None:
    found = judged()
    assert 86 <= found["end within its bounds"] <= 94, found
    assert found["end before the early bound"] <= 6, found
    assert found["the same, thermometer stuck"] <= 6, found
    assert 86 <= found["health within its error"] <= 94, found
    assert abs(found["bias of health, points"]) <= 2, found


@pytest.mark.more
@pytest.mark.timeout(7000 if SOAK else 900)
def test_the_worn_are_told_and_the_sound_are_not() -> None:
    found = judged()
    assert found["never below 85 %: told 'replace now'"] <= found["never below 85 %: units"] / 200, found
    assert found["of these told within 60 days of the first evidence"] >= 95, found
    assert found["of these told"] >= 90, found
    assert found["of these told of a block though above 80 %"] <= found["short runs only, none failed: units"] / 100, found
