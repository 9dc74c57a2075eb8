"""What observations mean: events with begin and end, and what is never mistaken for something else."""

from __future__ import annotations

import pytest

from qxfleet.agent.assess import assess
from qxfleet.dialects.megatec import MEGATEC
from qxfleet.dialects.spec import Tier
from qxfleet.model.events import Event, Link, LinkChange, OrderResult, Outcome, Trouble
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.model.status import status_text
from qxfleet.session.plans import read
from qxfleet.session.readout import Readout

QUICK = MEGATEC.tier(Tier.QUICK)[0]


class Story:
    """Frames told one after the other, as a session would report them."""

    def __init__(self, **options: object) -> None:
        self.readout = Readout(UpsOptions("u", "/dev/x", **options), MEGATEC)  # type: ignore[arg-type]
        self.readout.learn({"input.voltage.nominal": 230.0, "battery.voltage.nominal": 24.0})
        self.state = DeviceState("u")
        self.now_s = 100.0
        self.events: list[Event] = []

    def frame(self, bits: str, *, for_s: float = 0, input_v: float = 230.0, battery_v: float = 27.1, load: int = 40,
              fault_v: float | None = None, output_v: float = 230.0) -> Story:  # fmt: skip
        fault_v = input_v if fault_v is None else fault_v
        text = f"({input_v:05.1f} {fault_v:05.1f} {output_v:05.1f} {load:03d} 50.0 {battery_v:04.1f} 25.0 {bits}"
        end_s = self.now_s + for_s
        while True:
            reading = self.readout.reading(read(QUICK, text.encode()), int(self.now_s * 1e6), self.now_s)
            self.see(reading)
            self.now_s += 2
            if self.now_s > end_s:
                return self

    def see(self, seen: Reading | LinkChange | Trouble | OrderResult) -> Story:
        self.state, events = assess(self.state, seen)
        self.events.extend(events)
        return self

    def told(self, *names: str) -> list[tuple[str, str]]:
        return [(event.name, event.value) for event in self.events if not names or event.name in names]


MAINS, OUTAGE, LOW, TEST, TEST_RAISES_FAIL = "00001000", "10001001", "11001001", "00001100", "10001101"


def test_an_outage_begins_and_ends_once() -> None:
    story = Story().frame(MAINS).frame(OUTAGE, for_s=60, input_v=0, battery_v=25.0).frame(MAINS, for_s=30)
    assert story.told() == [("on-battery", "begin"), ("on-battery", "end")]
    begin, end = story.events
    assert ("input.voltage 0" in begin.text and "60 s" in end.text) or "62 s" in end.text


def test_status_says_discharging_then_charging() -> None:
    story = Story().frame(MAINS).frame(OUTAGE, for_s=10, input_v=0, battery_v=23.0)
    assert status_text(story.state.status) == "OB DISCHRG"
    story.frame(MAINS, for_s=10, battery_v=24.0)
    assert status_text(story.state.status) == "OL CHRG"
    story.frame(MAINS, for_s=10, battery_v=27.5)
    assert status_text(story.state.status) == "OL"


def test_a_flapping_line_makes_one_event_that_says_so() -> None:
    story = Story().frame(MAINS)
    for _ in range(50):
        story.frame(OUTAGE, input_v=0).frame(MAINS)
    story.frame(MAINS, for_s=30)
    assert story.told() == [("on-battery", "begin"), ("on-battery", "end")]
    assert "49 more times" in story.events[-1].text


def test_on_battery_is_told_at_once() -> None:
    story = Story().frame(MAINS)
    assert not story.events
    story.frame(OUTAGE, input_v=0)
    assert story.told() == [("on-battery", "begin")]


def test_a_test_is_not_an_outage_even_where_the_unit_raises_utility_fail() -> None:
    story = Story().frame(MAINS).frame(TEST_RAISES_FAIL, for_s=10, battery_v=25.0).frame(MAINS, for_s=20)
    assert story.told("on-battery") == []
    assert story.told("battery-test") == [("battery-test", "begin"), ("battery-test", "end")]


def test_mains_failing_during_a_test_is_an_outage_from_that_instant() -> None:
    story = Story().frame(MAINS).frame(TEST, for_s=4, battery_v=25.0)
    assert story.told("on-battery") == []
    story.frame(TEST_RAISES_FAIL, input_v=3.0, battery_v=25.0)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_lost_contact_is_not_an_outage() -> None:
    story = Story().frame(MAINS)
    story.see(LinkChange("u", 1, 1.0, Link.ONLINE)).see(LinkChange("u", 2, 2.0, Link.LOST, "gone"))
    assert story.told() == [("contact", "online"), ("contact-lost", "begin")]
    assert status_text(story.state.status) == "OL"


def test_contact_lost_on_battery_says_so_and_keeps_the_status() -> None:
    story = Story().frame(MAINS).see(LinkChange("u", 1, 1.0, Link.ONLINE)).frame(OUTAGE, input_v=0)
    story.see(LinkChange("u", 2, 2.0, Link.LOST, "gone"))
    assert "ON BATTERY" in story.events[-1].text
    assert "OB" in status_text(story.state.status)


def test_a_shutdown_bit_set_at_first_contact_is_not_believed() -> None:
    story = Story().frame("00001010", for_s=60)
    assert story.told("shutdown-pending") == []
    assert status_text(story.state.status) == "OL"
    assert story.state.alarms == ()


def test_a_shutdown_bit_that_rises_is_believed() -> None:
    story = Story().frame(MAINS).frame("00001010")
    assert story.told() == [("shutdown-pending", "begin")]
    assert status_text(story.state.status) == "ALARM OL FSD"


def test_a_shutdown_bit_is_believed_after_an_order_whatever_it_was() -> None:
    story = Story().frame("00001010")
    story.see(OrderResult("u", "shutdown.return", None, Outcome.UNCONFIRMED, sent="S.5R0003\r")).frame("00001010")
    assert story.told() == [("shutdown-pending", "begin")]


def test_a_refused_shutdown_order_changes_nothing() -> None:
    story = Story().frame("00001010")
    story.see(OrderResult("u", "shutdown.return", None, Outcome.REJECTED, sent="S.5R0003\r")).frame("00001010")
    assert story.told() == []


def test_overload_has_hysteresis_and_a_minimum_duration() -> None:
    story = Story().frame(MAINS).frame(MAINS, load=105).frame(MAINS, load=80)
    assert story.told() == []
    story.frame(MAINS, load=105, for_s=10).frame(MAINS, load=98, for_s=60)
    assert story.told() == [("overload", "begin")]
    assert "OVER" in status_text(story.state.status)
    story.frame(MAINS, load=90, for_s=20)
    assert story.told() == [("overload", "begin"), ("overload", "end")]


def test_bypass_boost_and_trim_need_three_seconds() -> None:
    story = Story().frame(MAINS).frame("00101000", output_v=230.0).frame(MAINS, for_s=20)
    assert story.told() == []
    story.frame("00101000", for_s=6).frame(MAINS, for_s=20)
    assert story.told() == [("bypass", "begin"), ("bypass", "end")]


def test_low_battery_soon_after_mains_failed_wants_replacing() -> None:
    story = Story().frame(MAINS).frame(OUTAGE, for_s=10, input_v=0).frame(LOW, for_s=4, input_v=0, battery_v=21.0)
    assert ("replace-battery", "begin") in story.told()
    assert "RB" in status_text(story.state.status)
    story.frame(MAINS, for_s=60)
    assert "RB" in status_text(story.state.status), "the sign outlives the outage"


def test_low_battery_after_a_long_discharge_is_normal() -> None:
    story = Story().frame(MAINS).frame(OUTAGE, for_s=600, input_v=0).frame(LOW, for_s=4, input_v=0, battery_v=21.0)
    assert story.told() == [("on-battery", "begin"), ("low-battery", "begin")]


def test_implausible_frames_open_one_condition_that_good_readings_close() -> None:
    story = Story().frame(MAINS)
    for _ in range(5):
        story.now_s += 2
        story.see(Trouble("u", int(story.now_s * 1e6), story.now_s, "ReplyImplausible: zeros", b"(000.0"))
    assert story.told() == [("implausible-reading", "begin")]
    story.frame(MAINS, for_s=80)
    assert story.told() == [("implausible-reading", "begin"), ("implausible-reading", "end")]
    assert story.state.counters.implausible == 5


def test_an_unreadable_line_bit_keeps_the_line_state() -> None:
    story = Story().frame(MAINS).frame(OUTAGE, input_v=0).frame("@0001001", input_v=0, for_s=30)
    assert "OB" in status_text(story.state.status)
    assert story.told("on-battery") == [("on-battery", "begin")]


def test_an_input_glitch_is_told_when_it_is_news() -> None:
    story = Story().frame(MAINS).frame(MAINS, fault_v=170.0).frame(MAINS, fault_v=170.0, for_s=20)
    assert story.told() == [("input-glitch", "170")]


def test_constant_or_zero_fault_voltages_say_nothing() -> None:
    story = Story().frame(MAINS, fault_v=140.0, for_s=20).frame(MAINS, fault_v=0.0, for_s=4).frame(MAINS, fault_v=230.0)
    assert story.told() == []


def test_events_carry_the_time_they_are_about() -> None:
    story = Story().frame(MAINS)
    failed_s = story.now_s
    story.frame(OUTAGE, for_s=20, input_v=0)
    back_s = story.now_s
    story.frame(MAINS, for_s=30)
    assert [event.wall_us for event in story.events] == [int(failed_s * 1e6), int(back_s * 1e6)]




# -- what contradicts itself, and what is too little


def test_no_input_voltage_is_an_outage_although_the_ups_says_that_it_is_on_line() -> None:
    story = Story().frame(MAINS).frame(MAINS, input_v=0)
    assert not story.told() and status_text(story.state.status) == "OL"
    story.frame(MAINS, input_v=0, for_s=6)
    assert story.told() == [("on-battery", "begin"), ("status-conflict", "begin")]
    assert status_text(story.state.status) == "OB DISCHRG"
    assert story.events[-1].text == (
        "the UPS contradicts itself (no input voltage, and the UPS says that it is on line; input.voltage 0.0)"
    )
    story.frame(MAINS, for_s=30)
    assert story.told("on-battery") == [("on-battery", "begin"), ("on-battery", "end")]
    assert story.told("status-conflict") == [("status-conflict", "begin"), ("status-conflict", "end")]


@pytest.mark.parametrize(
    ("volts", "low_v", "held"),
    [
        (160.9, None, True), (161.0, None, False), (23.0, None, True), (22.9, None, False), (120.0, 110.0, False),
        (109.0, 110.0, True),
    ],
)  # fmt: skip
def test_a_brown_out_is_an_event_of_its_own(volts: float, low_v: float | None, held: bool) -> None:
    story = Story()
    if low_v is not None:
        story.readout.learn({"input.transfer.low": low_v})
    story.frame(MAINS).frame(MAINS, input_v=volts, fault_v=0.0, for_s=8)
    assert bool(story.told("brown-out")) is held
    assert bool(story.told("on-battery")) is (volts < 23)
    story.frame(OUTAGE, input_v=0, for_s=20)
    assert story.told("brown-out") == ([("brown-out", "begin"), ("brown-out", "end")] if held else [])
