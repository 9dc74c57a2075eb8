"""The estimate between two polls: engine.md section 8.5 for ``runtimecal``, ``chargetime`` and ``idleload``."""

from __future__ import annotations

import pytest

from qxfleet.model.battery import Calibration, Estimator, Limits

LIMITS = Limits(20.8, 26.0)
EMPTY_V, FULL_V = 20.8, 26.0


@pytest.mark.parametrize("chargetime_s", [43200.0, 3600.0])
def test_a_battery_charges_from_empty_to_full_in_its_chargetime(chargetime_s: float) -> None:
    """The voltage is full at once on a charger; the charge is not."""
    estimator = Estimator(Calibration.from_points(240, 100, 720, 50), chargetime_s, 10)
    assert estimator.estimate(0, False, EMPTY_V, LIMITS, 50)[0] == 0
    for share in (0.25, 0.5, 1.0):
        charge, _ = estimator.estimate(share * chargetime_s, True, FULL_V, LIMITS, 50)
        assert charge == pytest.approx(100 * share)


@pytest.mark.parametrize(("load", "idleload", "runtime_s"), [
    # p = ln(720 / 240) / ln(100 / 50) = 1.585; 240 s / load^p
    (100, 10, 240), (50, 10, 720), (1, 10, 2400), (1, 50, 480), (None, 10, None),
])  # fmt: skip
def test_runtime_by_load_and_never_by_less_than_idleload(load: float | None, idleload: float, runtime_s: float | None) -> None:
    estimator = Estimator(Calibration.from_points(240, 100, 720, 50), 43200, idleload)
    _, runtime = estimator.estimate(0, True, FULL_V, LIMITS, load)
    assert runtime == (None if runtime_s is None else pytest.approx(runtime_s))


def test_on_battery_it_runs_down_as_it_was_foretold() -> None:
    """720 s at half load: after 360 s half is left, if the voltage does not say less."""
    estimator = Estimator(Calibration.from_points(240, 100, 720, 50), 43200, 10)
    estimator.estimate(0, True, FULL_V, LIMITS, 50)
    charge, runtime = estimator.estimate(360, False, FULL_V, LIMITS, 50)
    assert (charge, runtime) == (pytest.approx(50), pytest.approx(360))
    charge, _ = estimator.estimate(370, False, EMPTY_V + 0.1 * (FULL_V - EMPTY_V), LIMITS, 50)
    assert charge == pytest.approx(10)
