"""Runtimes learned from a battery's own discharges."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qxfleet.battery.keeper import runtime_table
from qxfleet.battery.runtime import predicted_runtime
from qxfleet.model.battery import Calibration, Estimator, Limits, RuntimeTable
from qxfleet.model.discharge import Cause, Discharge
from qxfleet.model.electrical import local_exponent
from tests.battery.ground import T0_US

RUN = Discharge("a", T0_US, T0_US + 900_000_000, Cause.MAINS, rested=True, load_percent=40.0, load_low_percent=39.0,
                load_high_percent=41.0, low_after_s=900.0)  # fmt: skip
YEAR_US = round(365.25 * 86400e6)


@pytest.mark.parametrize(
    ("minutes", "low", "high"),
    # landscape section 5.3, local exponents of CSB HC1228W, GP12400 and GP645
    [(3, 2.2, 2.9), (7, 1.5, 2.1), (12, 1.4, 1.6), (20, 1.35, 1.5), (45, 1.3, 1.3), (120, 1.1, 1.3)],
)
def test_exponents_are_those_of_published_tables(minutes: float, low: float, high: float) -> None:
    assert low <= local_exponent(60 * minutes)[0] <= high


def test_its_own_load_is_its_own_time() -> None:
    band = predicted_runtime([RUN], 40.0, 100.0)
    assert band is not None
    assert band.likely_s == pytest.approx(900)
    assert 0.75 * 900 < band.low_s < 900 < band.high_s < 1.3 * 900


def test_other_loads_have_wider_bands() -> None:
    near, far = predicted_runtime([RUN], 44.0, 100.0), predicted_runtime([RUN], 80.0, 100.0)
    assert near is not None and far is not None
    assert far.likely_s == pytest.approx(900 * 2**-1.75, rel=0.1)
    assert far.high_s / far.low_s > near.high_s / near.low_s


def test_what_it_can_not_tell() -> None:
    assert predicted_runtime([], 40.0, 100.0) is None
    assert predicted_runtime([RUN], 0.0, 100.0) is None
    assert predicted_runtime([RUN], 40.0, 0.0) is None
    assert predicted_runtime([RUN], 5.0, 100.0) is None  # eight times below every run
    for useless in (replace(RUN, rested=False), replace(RUN, low_after_s=None), replace(RUN, load_high_percent=90.0),
                    replace(RUN, load_percent=None), replace(RUN, gap_s=120.0)):  # fmt: skip
        assert predicted_runtime([useless], 40.0, 100.0) is None


def test_charge_and_age_take_away() -> None:
    full, half = predicted_runtime([RUN], 40.0, 100.0), predicted_runtime([RUN], 40.0, 50.0)
    assert full is not None and half is not None
    assert half.likely_s == pytest.approx(full.likely_s / 2)
    assert half.low_s < full.low_s * 0.45
    later = predicted_runtime([RUN], 40.0, 100.0, now_us=T0_US + 2 * YEAR_US)
    assert later is not None and later.low_s == pytest.approx(0.8 * full.low_s, rel=0.01)


def test_the_newest_runs_count() -> None:
    runs = [replace(RUN, began_us=T0_US + number * YEAR_US, low_after_s=900.0 if number < 2 else 700.0) for number in range(10)]
    band = predicted_runtime(runs, 40.0, 100.0)
    assert band is not None and band.likely_s == pytest.approx(700)


def test_a_table_estimates_as_two_points_do() -> None:
    """``runtimecal`` is a straight line in log-log, and so is a table of its two points (engine.md section 8.5)."""
    cal, table = Calibration.from_points(240, 100, 720, 50), RuntimeTable(((50.0, 720.0), (100.0, 240.0)))
    limits = Limits(20.8, 26.0)
    for load in (10.0, 30.0, 75.0, 100.0):
        estimates = [Estimator(each, 43200.0, 10.0).estimate(0.0, True, 27.0, limits, load) for each in (cal, table)]
        assert estimates[0] == pytest.approx(estimates[1])


def test_learned_runtimes_take_over_while_it_runs() -> None:
    estimator, limits = Estimator(None, 43200.0, 10.0), Limits(20.8, 26.0)
    assert estimator.estimate(0.0, True, 27.0, limits, 40.0) == (100.0, None)
    estimator.learn(runtime_table([RUN]))
    charge, runtime_s = estimator.estimate(2.0, True, 27.0, limits, 40.0)
    assert charge == pytest.approx(100) and runtime_s == pytest.approx(900, rel=0.05)
    estimator.estimate(4.0, False, 26.5, limits, 40.0)
    charge, runtime_s = estimator.estimate(454.0, False, 26.5, limits, 40.0)
    assert runtime_s == pytest.approx(450, rel=0.08)
    estimator.learn(None)
    assert estimator.estimate(456.0, True, 26.5, limits, 40.0)[1] is None
    assert runtime_table([]) is None
