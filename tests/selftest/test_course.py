"""What a test comes to, reading by reading: ends before its time, and verdicts."""

from __future__ import annotations

import pytest

from qxfleet.model.events import Outcome
from qxfleet.model.selftest import Asked, Rules, Verdict
from qxfleet.model.status import Status
from qxfleet.selftest.course import LOST_S, NO_EFFECT_S, Course, Point

OL, CAL, LB, OB = int(Status.OL), int(Status.CAL), int(Status.LB), int(Status.OB)
QUICK, DEEP, TEN_MINUTES = Asked("quick"), Asked("deep"), Asked("timed", 600.0)


class Story:
    """A course told four readings a second, from the order at time 0; 27.2 V before."""

    def __init__(self, asked: Asked = QUICK, *, sent: Outcome = Outcome.ACCEPTED, **rules: float) -> None:
        self.course = Course(asked, Rules(**rules), 0.0, (asked.for_s or 10.0) + 50.0)  # type: ignore[arg-type]
        self.course.before = [Point(-1.0, OL, 27.2, 24.0, 40.0, 100.0)] * 3
        self.course.sent = sent
        self.now_s = 0.0

    def tell(self, status: int, for_s: float, volts: float | None = 27.2, **more: object) -> Story:
        end_s = self.now_s + for_s
        while self.now_s < end_s:
            self.now_s += 0.25
            given = {"nominal_v": 24.0, "load": 40.0, "charge": 100.0, **more}
            self.course.see(Point(self.now_s, status, volts, **given))  # type: ignore[arg-type]
        return self

    @property
    def verdict(self) -> Verdict:
        assert self.course.over(self.now_s, contact=True)
        return self.course.judge(self.now_s)[0]

    @property
    def stop(self) -> str | None:
        found = self.course.reason_to_stop(self.now_s)
        return None if found is None else found[0]

    def ended(self) -> Story:
        """What the runner does with a reason to stop."""
        found = self.course.reason_to_stop(self.now_s)
        assert found is not None
        self.course.stop_kind, self.course.stopped = found
        return self


def test_a_test_is_not_over_before_the_way_back_was_seen() -> None:
    story = Story().tell(OL, 1).tell(OL | CAL, 10, 25.0)
    assert not story.course.over(story.now_s, contact=True)
    story.tell(OL, 2)
    assert not story.course.over(story.now_s, contact=True)
    assert story.tell(OL, 2).verdict is Verdict.PASSED


def test_a_test_bit_without_a_fall_of_voltage_is_no_discharge() -> None:
    assert Story().tell(OL | CAL, 10, 27.2).tell(OL, 4).verdict is Verdict.NO_EFFECT


def test_a_fall_of_voltage_without_a_test_bit_is_one() -> None:
    assert Story().tell(OL, 10, 25.0).tell(OL, 6, 26.9).verdict is Verdict.PASSED


@pytest.mark.parametrize("sent", [Outcome.ACCEPTED, Outcome.UNCONFIRMED])
def test_nothing_seen_is_no_effect_after_a_while(sent: Outcome) -> None:
    story = Story(sent=sent).tell(OL, NO_EFFECT_S - 1)
    assert not story.course.over(story.now_s, contact=True)
    assert story.tell(OL, 2).verdict is Verdict.NO_EFFECT


def test_no_answer_and_nothing_seen_is_not_known() -> None:
    assert Story(sent=Outcome.NO_ANSWER).tell(OL, NO_EFFECT_S + 1).verdict is Verdict.INCONCLUSIVE


def test_a_unit_without_a_voltage_proves_nothing_unless_it_says_so_itself() -> None:
    story = Story()
    story.course.before = [Point(-1.0, OL)]
    assert story.tell(OL | CAL, 10, None).tell(OL, 4, None).verdict is Verdict.INCONCLUSIVE
    story = Story()
    story.course.before = [Point(-1.0, OL)]
    assert story.tell(OL | CAL, 10, None).tell(OL, 4, None, result="passed").verdict is Verdict.PASSED


def test_low_battery_before_the_time_is_a_failure_and_at_the_end_of_a_deep_test_is_not() -> None:
    story = Story(TEN_MINUTES).tell(OL | CAL, 100, 24.0).tell(OL | CAL | LB, 1, 22.0)
    assert story.stop == "low"
    assert story.ended().tell(OL, 5, 24.0).verdict is Verdict.FAILED
    deep = Story(DEEP).tell(OL | CAL, 300, 24.0).tell(OL | CAL | LB, 1, 22.0)
    assert deep.ended().tell(OL, 5, 24.0).verdict is Verdict.PASSED
    early = Story(DEEP).tell(OL | CAL, 30, 24.0).tell(OL | CAL | LB, 1, 22.0)
    assert early.ended().tell(OL, 5, 24.0).verdict is Verdict.FAILED


def test_a_unit_that_calls_a_deep_test_failed_says_only_that_its_battery_was_low() -> None:
    """It was ordered for the longest time, which no battery is to last."""
    assert Story(DEEP).tell(OL | CAL, 300, 24.0).tell(OL, 5, 24.0, result="failed").verdict is Verdict.PASSED
    assert Story(DEEP).tell(OL | CAL, 30, 24.0).tell(OL, 5, 24.0, result="failed").verdict is Verdict.FAILED
    assert Story().tell(OL | CAL, 5, 24.0).tell(OL, 5, 24.0, result="failed").verdict is Verdict.FAILED


def test_a_deep_test_that_lasts_less_than_half_of_what_was_predicted_failed() -> None:
    story = Story(DEEP)
    story.course.runtime_s = 900.0
    story.tell(OL | CAL, 400, 24.0).tell(OL | CAL | LB, 1, 22.0)
    assert story.ended().tell(OL, 5, 24.0).verdict is Verdict.FAILED


def test_a_test_ends_at_the_warning_voltage() -> None:
    story = Story(TEN_MINUTES, warning_cell_v=1.9).tell(OL | CAL, 100, 23.0)
    assert story.stop is None
    story.tell(OL | CAL, 1, 22.7)  # 1.89 V per cell
    assert story.stop == "low"
    assert story.ended().tell(OL, 5, 24.0).verdict is Verdict.FAILED


def test_a_test_ends_when_another_load_has_lasted_three_readings() -> None:
    story = Story(TEN_MINUTES).tell(OL | CAL, 10, 25.0).tell(OL | CAL, 0.5, 25.0, load=51.0)
    assert story.stop is None
    story.tell(OL | CAL, 0.25, 25.0, load=51.0)
    assert story.stop == "load"
    assert story.ended().tell(OL, 4).verdict is Verdict.ABORTED


def test_silence_is_lost_contact_and_ends_with_the_bound() -> None:
    story = Story(TEN_MINUTES).tell(OL | CAL, 10, 25.0)
    story.now_s += LOST_S + 1
    assert story.stop == "contact"
    story.ended()
    assert not story.course.over(story.now_s, contact=False)
    story.now_s = 650.0
    assert story.course.over(story.now_s, contact=False)
    assert story.verdict is Verdict.ABORTED


def test_a_device_that_goes_on_beyond_its_time_is_stopped_at_the_bound() -> None:
    story = Story().tell(OL | CAL, 59, 25.0)
    assert story.stop is None
    story.tell(OL | CAL, 2, 25.0)
    assert story.stop == "bound"
    assert story.ended().tell(OL, 4).verdict is Verdict.PASSED


def test_a_device_that_ends_a_timed_test_by_itself_proves_nothing() -> None:
    assert Story(TEN_MINUTES).tell(OL | CAL, 400, 25.0).tell(OL, 4).verdict is Verdict.INCONCLUSIVE


def test_a_device_that_ends_it_before_half_its_time_gave_up() -> None:
    """It does so when its battery is low (megatec-family.md section 10.5)."""
    assert Story(TEN_MINUTES).tell(OL | CAL, 100, 25.0).tell(OL, 4).verdict is Verdict.FAILED


def test_an_outage_beats_everything_that_came_of_it() -> None:
    story = Story(TEN_MINUTES).tell(OL | CAL, 10, 25.0).tell(OB, 1, 24.0, outage=True).tell(OB | LB, 1, 21.0, outage=True)
    assert story.stop == "mains"
    assert story.ended().tell(OB | LB, 4, 21.0, outage=True).verdict is Verdict.ABORTED


def test_a_gap_in_the_readings_leaves_the_verdict_open() -> None:
    story = Story().tell(OL | CAL, 2, 25.0)
    story.now_s += 9
    assert story.tell(OL, 4).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("outcome", [Outcome.REJECTED, Outcome.UNSUPPORTED])
def test_a_refusal_is_over_at_once(outcome: Outcome) -> None:
    story = Story(sent=outcome)
    assert story.verdict is Verdict.ABORTED


def test_evidence_has_the_figures() -> None:
    story = Story().tell(OL | CAL, 10, 25.0).tell(OL, 4)
    evidence = story.course.evidence()
    assert (evidence["volts_before"], evidence["lowest_volts"], evidence["lowest_cell_volts"]) == (27.2, 25.0, 2.083)
    assert (evidence["test_bit"], evidence["discharge"], evidence["low_after_s"]) == (True, True, None)
    assert evidence["lasted_s"] == pytest.approx(10, abs=0.5)
