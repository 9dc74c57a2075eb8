"""A battery test is never mistaken for an outage, nor an outage for a test (landscape section 5.6; megatec-family.md 4.3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qxfleet.agent.assess import LONGEST_TEST_S, LOW_IN_TEST_S
from qxfleet.model.status import status_text
from tests.agent.test_assess import MAINS, OUTAGE, TEST, TEST_RAISES_FAIL, Story

TEST_LOW, TEST_RAISES_FAIL_LOW = "01001100", "11001101"


@pytest.mark.parametrize(("bits", "status"), [(TEST, "OL CAL"), (TEST_RAISES_FAIL, "OB DISCHRG CAL")])
def test_a_test_is_told_as_a_test_and_published_as_the_unit_has_it(bits: str, status: str) -> None:
    story = Story().frame(MAINS).frame(bits, for_s=10, battery_v=24.5)
    assert status_text(story.state.status) == status
    story.frame(MAINS, for_s=10)
    assert story.told() == [("battery-test", "begin"), ("battery-test", "end")]


def test_mains_that_fail_in_a_test_are_an_outage_at_once() -> None:
    story = Story().frame(MAINS).frame(TEST, for_s=4, battery_v=24.5).frame(TEST_RAISES_FAIL, input_v=0.0)
    assert ("on-battery", "begin") in story.told()


def test_a_brown_out_that_the_unit_answers_within_a_test_is_an_outage() -> None:
    """Between 70 and 85 % of nominal the voltage can't tell; that the bit rose within the test does."""
    story = Story().frame(MAINS).frame(TEST, for_s=4, battery_v=24.5).frame(TEST_RAISES_FAIL, input_v=170.0)
    assert ("on-battery", "begin") in story.told()
    story.frame(TEST_RAISES_FAIL, input_v=170.0, for_s=20)
    assert ("on-battery", "end") not in story.told()


def test_a_unit_that_raises_the_bit_late_in_its_test_has_no_outage() -> None:
    story = Story().frame(MAINS).frame(TEST, battery_v=24.5)
    story.frame(TEST_RAISES_FAIL, for_s=8, battery_v=24.4).frame(MAINS, for_s=20)
    assert story.told("on-battery") == []


def test_a_unit_whose_nominal_voltage_is_not_known_is_measured_by_itself() -> None:
    story = Story()
    story.readout.learn({"input.voltage.nominal": 0.0})
    story.frame(MAINS).frame(TEST_RAISES_FAIL, battery_v=24.4, for_s=8).frame(MAINS, for_s=20)
    assert story.told("on-battery") == []
    story.frame(TEST_RAISES_FAIL, input_v=60.0)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_an_outage_that_goes_on_when_the_test_bit_falls_is_one_outage() -> None:
    story = Story().frame(MAINS).frame(TEST, for_s=4, battery_v=24.5).frame(TEST_RAISES_FAIL, input_v=0.0)
    story.frame(OUTAGE, input_v=0.0, for_s=30, battery_v=24.0).frame(MAINS, for_s=20)
    assert story.told("on-battery") == [("on-battery", "begin"), ("on-battery", "end")]


def test_low_battery_in_a_test_is_told_at_once() -> None:
    story = Story().frame(MAINS).frame(TEST_LOW, battery_v=22.0)
    assert ("low-battery", "begin") in story.told()


def test_low_battery_is_not_ignored_beyond_the_bound_that_was_announced() -> None:
    story = Story().frame(MAINS)
    story.state = replace(story.state, test_until_s=story.now_s + 100)
    story.frame(TEST_RAISES_FAIL_LOW, for_s=90, battery_v=21.0)
    assert story.told("on-battery") == []
    story.frame(TEST_RAISES_FAIL_LOW, for_s=14, battery_v=21.0)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_low_battery_in_a_test_that_nobody_announced_is_believed_for_half_a_minute() -> None:
    story = Story().frame(MAINS).frame(TEST_RAISES_FAIL, for_s=60, battery_v=24.0)
    story.frame(TEST_RAISES_FAIL_LOW, for_s=LOW_IN_TEST_S, battery_v=21.0)
    assert story.told("on-battery") == []
    story.frame(TEST_RAISES_FAIL_LOW, for_s=2, battery_v=21.0)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_no_unannounced_test_lasts_longer_than_any_can_be_ordered_for() -> None:
    story = Story().frame(MAINS).frame(TEST_RAISES_FAIL, for_s=LONGEST_TEST_S, battery_v=24.0)
    assert story.told("on-battery") == []
    story.frame(TEST_RAISES_FAIL, for_s=4, battery_v=24.0)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_an_announcement_is_over_with_its_test() -> None:
    """What was announced for one test must not make an outage of the next."""
    story = Story().frame(MAINS)
    story.state = replace(story.state, test_until_s=story.now_s + 30)
    story.frame(TEST_RAISES_FAIL, for_s=10, battery_v=24.5).frame(MAINS, for_s=60)
    assert story.state.test_until_s is None
    story.frame(TEST_RAISES_FAIL, for_s=10, battery_v=24.5)
    assert story.told("on-battery") == []


def test_an_announcement_that_nothing_came_of_lapses() -> None:
    story = Story().frame(MAINS)
    story.state = replace(story.state, test_until_s=story.now_s + 30)
    story.frame(MAINS, for_s=20)
    assert story.state.test_until_s is not None
    story.frame(MAINS, for_s=20)
    assert story.state.test_until_s is None
