"""The robust line against scipy's, and dates that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import theilslopes

from qxfleet.battery.trend import Point, forecast, line_through, theil_sen

LIFE = 5 * 365.25

NUMBERS = st.lists(st.tuples(st.integers(0, 2000), st.integers(50, 110)), min_size=4, max_size=14, unique_by=lambda each: each[0])


@settings(max_examples=60)
@given(NUMBERS, st.sampled_from([0.8, 0.9, 0.95]))
def test_the_same_as_scipy(points: list[tuple[int, int]], sides: float) -> None:
    x, y = [float(each) for each, _ in points], [float(each) for _, each in points]
    wanted = theilslopes(np.asarray(y), np.asarray(x), alpha=sides)
    found = theil_sen(x, y, sides)
    assert found == pytest.approx((wanted.slope, wanted.low_slope, wanted.high_slope), abs=1e-9)


def falling(count: int, per_year: float, every_days: float = 120.0, first: float = 100.0, error: float = 1.0) -> list[Point]:
    return [Point(every_days * number, first - per_year * every_days * number / 365.25, error) for number in range(count)]


def test_a_line_needs_four_points_and_half_a_year() -> None:
    assert line_through(falling(3, 5)) is None
    assert line_through(falling(5, 5, every_days=40)) is None
    line = line_through(falling(5, 5))
    assert line is not None
    assert line.per_day * 365.25 == pytest.approx(-5)
    assert line.at(0) == pytest.approx(100)


def test_one_wild_point_changes_little() -> None:
    points = falling(9, 5)
    points[4] = Point(points[4].day, 60.0, 1.0)
    line = line_through(points)
    assert line is not None and line.per_day * 365.25 == pytest.approx(-5, abs=0.3)


def test_the_date_is_where_the_line_meets_eighty() -> None:
    # 5 % a year over 2.63 years: 80 % after 4 years, within twice the span observed
    points = falling(9, 5)
    found = forecast(line_through(points), points, 970, 1.0, 10 * 365.25, dated=True)
    assert found is not None and found.basis == "trend"
    assert found.likely_day == pytest.approx(4 * 365.25, rel=0.01)
    assert found.low_day < found.likely_day < found.high_day


def test_no_further_ahead_than_was_observed() -> None:
    points = falling(6, 2)  # 80 % after ten years, observed for less than two
    found = forecast(line_through(points), points, 650, 1.0, LIFE, dated=True)
    assert found is not None and found.basis == "age"
    assert found.low_day >= points[-1].day
    assert forecast(line_through(points), points, 650, 1.0, LIFE, dated=False) is None


def test_age_alone() -> None:
    found = forecast(None, [], 100, 1.5, LIFE, dated=True)
    assert found is not None and found.basis == "age"
    assert found.likely_day == pytest.approx(0.8 * LIFE / 1.5)
    assert forecast(None, [], 100, 1.0, LIFE, dated=False) is None


def test_a_battery_that_was_good_lately_is_not_overdue() -> None:
    found = forecast(None, [Point(1500, 95.0, 3.0)], 1520, 1.0, LIFE, dated=True)
    assert found is not None and found.low_day >= 1500


def test_a_battery_that_outlived_its_span_may_go_on() -> None:
    found = forecast(None, [], 4000, 1.0, LIFE, dated=True)
    assert found is not None and found.high_day > 4000


def test_a_rising_line_is_no_date() -> None:
    points = [Point(120.0 * number, 95.0 + number, 1.0) for number in range(6)]
    found = forecast(line_through(points), points, 700, 1.0, LIFE, dated=True)
    assert found is not None and found.basis == "age" and math.isfinite(found.high_day)
