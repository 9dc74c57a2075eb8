"""What a discharge says of its battery, against figures worked out by hand and the tables of published curves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from qxfleet.battery.capacity import Yardstick, baseline_of, cells_of, per_cell, score, stretch, temperature_factor
from qxfleet.battery.discharge import cut
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Discharge, Method, Sample, Score
from tests.battery.ground import LB, OB, RATING, T0_US, outage, rest, sample

FACTS = BatteryFacts(cells=12, installed_us=T0_US - 30 * 86_400_000_000)
YEAR_S = 365.25 * 86400


def run(begin_s: float, lasts_s: float, *, shape_s: float, low: bool, load: float = 40.0, ohmic: float = 0.0,
        temperature: float = 25.0, number: int = 1) -> tuple[Discharge, tuple[Sample, ...]]:  # fmt: skip
    """A discharge whose voltage falls as a battery's does that lasts ``shape_s``, less a constant per cell."""
    body = []
    for each in outage(begin_s, begin_s + lasts_s, 2.0, load=load, temperature=temperature):
        share = (each.at_us - T0_US - begin_s * 1e6) / 1e6 / shape_s
        cell = 2.02 - 0.1 * share - 0.008 * share / (1.04 - min(share, 1.02)) - ohmic
        body.append(replace(each, battery_v=round(12 * cell, 1)))
    if low:
        body[-1] = replace(body[-1], status=OB | LB)
    end_s = begin_s + lasts_s
    [found] = cut("a", [*rest(begin_s - 90, begin_s - 5), *body, *rest(end_s + 2, end_s + 60)], RATING)
    return replace(found.discharge, id=number, battery_id=1), found.curve


def scored(run_: tuple[Discharge, tuple[Sample, ...]], *before: tuple[Discharge, tuple[Sample, ...]],
           facts: BatteryFacts = FACTS) -> Score:  # fmt: skip
    curves = {each.id: curve for each, curve in (*before, run_)}
    return score(run_[0], run_[1], [each for each, _ in before], lambda each: curves[each.id], facts, facts.cells)


@pytest.mark.parametrize(("celsius", "percent"), [(40, 102), (25, 100), (0, 85)])
def test_temperature_factor_fits_the_published_curve(celsius: float, percent: float) -> None:
    # landscape section 5.3: Panasonic 12 V curve, 102 % at 40 °C, 100 % at 25 °C, 85 % at 0 °C
    assert 100 * temperature_factor(celsius) == pytest.approx(percent, abs=1)
    assert temperature_factor(None) == 1


def test_yardstick_is_straight_in_log_log() -> None:
    stick = Yardstick(((25.0, 1600.0), (100.0, 200.0)))
    assert stick.runtime_s(50) == pytest.approx(math.sqrt(1600 * 200))
    assert stick.runtime_s(25) == 1600
    assert stick.error(25) == 0 and stick.error(50) > 0
    # beyond the points the slopes of published tables: 1.75 at 4 to 10 minutes (section 5.3)
    assert Yardstick(((50.0, 400.0),)).runtime_s(60) == pytest.approx(400 * 1.2**-1.75)


@pytest.mark.parametrize(("volts", "cells", "cell"), [(2.27, 12, 2.27), (27.2, 12, 2.267), (13.6, 12, 2.267), (40.0, 12, None),
                                                      (27.2, None, None), (None, 12, None)])  # fmt: skip
def test_volts_of_a_cell(volts: float | None, cells: int | None, cell: float | None) -> None:
    found = per_cell(volts, cells)
    assert found == (None if cell is None else pytest.approx(cell, abs=0.001))
    assert (
        cells_of(BatteryFacts(), 24.0) == 12
        and cells_of(BatteryFacts(cells=6), 24.0) == 6
        and cells_of(BatteryFacts(), None) is None
    )


def test_time_adjusted_capacity_of_a_run_to_the_flag() -> None:
    new = run(1e5, 900, shape_s=900, low=True)
    assert scored(new).capacity_percent == pytest.approx(100)
    assert scored(new).method is Method.FULL
    old = run(3 * YEAR_S, 720, shape_s=720, low=True, number=2)
    assert scored(old, new).capacity_percent == pytest.approx(80, abs=0.5)
    # 2 % of load and 0.29 points of 40 % by a slope of 1.55, and 2 % of all else
    assert scored(old, new).capacity_error == pytest.approx(80 * math.hypot(1.55 * 0.02, 1.55 * 0.29 / 40, 0.02), rel=0.1)


def test_a_cold_battery_is_not_called_worn() -> None:
    new = run(1e5, 900, shape_s=900, low=True)
    cold = run(2 * YEAR_S, 810, shape_s=810, low=True, temperature=10.0, number=2)
    assert scored(cold, new).capacity_percent == pytest.approx(90 / 0.91, rel=0.01)


def test_the_makers_table_stands_in_for_a_first_run() -> None:
    facts = replace(FACTS, runtimes=((20.0, 2600.0), (40.0, 1000.0), (80.0, 360.0)))
    assert scored(run(2 * YEAR_S, 750, shape_s=750, low=True), facts=facts).capacity_percent == pytest.approx(75, abs=0.5)
    nothing = scored(run(2 * YEAR_S, 750, shape_s=750, low=True))
    assert (nothing.capacity_percent, nothing.used_percent) == (None, None)


def test_a_partial_run_shows_its_stretch() -> None:
    new = run(1e5, 900, shape_s=900, low=True)
    worn = run(2 * YEAR_S, 0.6 * 900, shape_s=0.8 * 900, low=False, ohmic=0.02, number=2)
    found = scored(worn, new)
    assert found.method is Method.CURVE
    assert found.capacity_percent == pytest.approx(80, abs=4)
    assert found.capacity_error is not None and 4 <= found.capacity_error < 10


def test_a_short_run_shows_nothing() -> None:
    """Section 5.3: 20 % of a 24 V string in steps of 0.1 V is useless, a ten-second test all the more."""
    new = run(1e5, 900, shape_s=900, low=True)
    for share in (0.02, 0.2, 0.38):
        found = scored(run(2 * YEAR_S, share * 900, shape_s=700, low=False, number=2), new)
        assert found.capacity_percent is None
        assert found.used_percent == pytest.approx(100 * share, abs=0.5)


def test_nothing_is_said_of_other_chemistries_or_unknown_strings() -> None:
    new = run(1e5, 900, shape_s=900, low=True)
    assert scored(new, facts=replace(FACTS, chemistry="lifepo4")) == Score()
    assert scored(new, facts=replace(FACTS, cells=None)) == Score()


def test_a_run_that_began_half_empty_or_was_not_watched_measures_nothing() -> None:
    new = run(1e5, 900, shape_s=900, low=True)
    tired = (
        replace(run(YEAR_S, 500, shape_s=500, low=True, number=2)[0], rested=False),
        run(YEAR_S, 500, shape_s=500, low=True)[1],
    )
    assert scored(tired, new).capacity_percent is None
    blind = (replace(run(YEAR_S, 500, shape_s=500, low=True, number=2)[0], gap_s=90.0), tired[1])
    assert scored(blind, new).capacity_percent is None


def test_loaded_voltage_against_the_first_discharges() -> None:
    early = [run(1e5 * number, 120, shape_s=900, low=False, number=number) for number in (1, 2, 3)]
    sunk = run(2 * YEAR_S, 120, shape_s=900, low=False, ohmic=0.05, number=9)
    assert scored(sunk, *early).index_v == pytest.approx(-0.05, abs=0.006)  # 0.1 V of 12 cells is 8 mV a cell
    other_load = run(2 * YEAR_S, 120, shape_s=900, low=False, load=80.0, number=9)
    assert scored(other_load, *early).index_v is None
    assert scored(sunk, *early[:1]).index_v is None


def test_later_discharges_change_nothing() -> None:
    new, later = run(1e5, 900, shape_s=900, low=True), run(2e5, 700, shape_s=900, low=False, number=2)
    assert baseline_of([new[0]], FACTS).run is new[0]
    assert scored(later, new) == scored(later, new)
    assert baseline_of([replace(new[0], began_us=new[0].began_us + round(YEAR_S * 1e6))], FACTS).yardstick is None


def test_stretch_of_a_known_curve() -> None:
    x = np.linspace(0.03, 0.98, 400)

    def level(at: np.ndarray) -> np.ndarray:
        return 2.0 - 0.12 * at - 0.01 * at / (1.05 - at)

    rng = np.random.default_rng(3)
    for true in (0.6, 0.8, 1.0):
        part = x[x <= 0.6 * true]
        noisy = level(part / true) - 0.015 + rng.normal(0, 0.002, len(part))
        found = stretch((list(x), list(level(x))), (list(part), list(noisy)))
        assert found is not None
        assert abs(found[0] - true) < 4 * max(found[1], 0.005)
    assert stretch((list(x), list(level(x))), ([0.1] * 5, [2.0] * 5)) is None


def test_what_a_sample_is() -> None:
    assert sample(1.0).at_us == T0_US + 1_000_000
