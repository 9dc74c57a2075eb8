"""The electrical rules, each on both sides of its bounds."""

from __future__ import annotations

import pytest

from qxfleet.model.electrical import dead_below, output_on, present_watts, rated_watts, runtime_at
from qxfleet.model.status import Status


@pytest.mark.parametrize(("nominal", "volts"), [(230.0, 23.0), (120.0, 12.0), (None, 11.0), (0.0, 11.0)])
def test_what_is_no_mains_at_all(nominal: float | None, volts: float) -> None:
    assert dead_below(nominal) == pytest.approx(volts)


@pytest.mark.parametrize(
    ("status", "values", "on"),
    [
        (Status.OL, {"output.voltage": 69.0, "output.voltage.nominal": 230.0}, True),
        (Status.OL, {"output.voltage": 68.9, "output.voltage.nominal": 230.0}, False),
        (Status.OL, {"output.voltage": 33.0}, True), (Status.OL, {"output.voltage": 32.9}, False),
        (Status.OL, {}, True), (Status.OL | Status.OFF, {"output.voltage": 230.0}, False),
    ],
)  # fmt: skip
def test_an_output_is_on(status: Status, values: dict[str, float], on: bool) -> None:
    assert output_on(int(status), values) is on


@pytest.mark.parametrize(
    ("values", "configured", "watts"),
    [
        ({"ups.realpower.nominal": 900.0, "ups.power.nominal": 1000.0}, None, 900.0),
        ({"ups.realpower.nominal": 900.0}, 850.0, 850.0),
        ({"ups.power.nominal": 1000.0, "output.powerfactor": 0.8}, None, 800.0),  # voltronic: QMD
        ({"ups.power.nominal": 1000.0}, None, 700.0),
        ({"input.voltage.nominal": 230.0, "input.current.nominal": 4.0}, None, 644.0),  # megatec: F
        ({"output.voltage.nominal": 230.0, "output.current.nominal": 4.0, "output.powerfactor": 0.9}, None, 828.0),
        ({"input.voltage.nominal": 230.0, "input.current.nominal": 0.0}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_the_watts_that_a_ups_may_carry(values: dict[str, float], configured: float | None, watts: float | None) -> None:
    assert rated_watts(values, configured) == (None if watts is None else pytest.approx(watts))
    load = present_watts({**values, "ups.load": 50.0}, configured)
    assert load == (None if watts is None else pytest.approx(watts / 2))
    assert present_watts(values, configured) is None
    assert present_watts({**values, "ups.realpower": 77.0}, configured) == 77.0


def test_twice_the_load_lasts_less_than_half_as_long_and_the_other_way_round() -> None:
    """Published discharge tables give a factor of 2.3 to 4 for twice the load, by how short the time is."""
    for minutes in (5, 15, 60, 240):
        longer_s = 60.0 * minutes
        shorter_s = runtime_at(longer_s, 2.0)
        assert 2.1 < longer_s / shorter_s < 6
        assert runtime_at(longer_s, 2.0, at_least=True) < shorter_s
        assert runtime_at(longer_s, 0.5, at_least=True) < runtime_at(longer_s, 0.5)
    assert runtime_at(600.0, 1.0) == runtime_at(600.0, 1.0, at_least=True) == 600.0
    assert runtime_at(600.0, 0.0) == float("inf")
