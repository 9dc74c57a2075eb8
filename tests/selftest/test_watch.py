"""Since when things hold for a UPS: stable mains, a charged battery, a steady load."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxfleet.model.reading import Origin, Reading
from qxfleet.model.status import Status
from qxfleet.selftest.watch import Watch

OL, CAL, OB, OVER = int(Status.OL), int(Status.CAL), int(Status.OB), int(Status.OVER)
BOOST, TRIM = int(Status.BOOST), int(Status.TRIM)


class Told:
    """A watch told a reading every two seconds."""

    def __init__(self) -> None:
        self.watch = Watch(60.0)
        self.now_s = 0.0
        self.origins: dict[str, Origin] = {}

    def tell(self, status: int, for_s: float, **values: float) -> Told:
        end_s = self.now_s + for_s
        given = {"ups.load": 30.0, **{name.replace("_", "."): value for name, value in values.items()}}
        while self.now_s < end_s:
            self.now_s += 2.0
            self.watch.see(Reading("a", int(self.now_s * 1e6), self.now_s, status, given, origins=self.origins), 99.0)
        return self


def test_mains_are_stable_since_they_were_disturbed_last() -> None:
    told = Told().tell(OL, 100)
    assert told.watch.stable_s(told.now_s) == 98.0
    told.tell(OL | OVER, 10)
    assert told.watch.stable_s(told.now_s) is None
    told.tell(OL, 20)
    assert told.watch.stable_s(told.now_s) == 18.0


def test_mains_are_stable_since_they_are_regulated_the_same_way() -> None:
    told = Told().tell(OL, 100, input_voltage_nominal=230.0, input_voltage=212.0)
    for status in (OL | BOOST, OL | TRIM, OL):
        told.tell(status, 50, input_voltage_nominal=230.0, input_voltage=212.0)
        assert told.watch.stable_s(told.now_s) == 48.0


@pytest.mark.parametrize(("volts", "normal"), [(162.0, True), (160.0, False), (298.0, True), (300.0, False)])
def test_regulated_mains_may_be_further_away(volts: float, normal: bool) -> None:
    told = Told().tell(OL | BOOST, 10, input_voltage_nominal=230.0, input_voltage=volts)
    assert (told.watch.stable_s(told.now_s) is not None) is normal


@pytest.mark.parametrize(
    ("nominal", "volts", "normal"),
    [(400.0, 230.0, True), (400.0, 197.0, True), (400.0, 195.0, False), (400.0, 265.0, True), (400.0, 268.0, False),
     (400.0, 398.0, True), (400.0, 320.0, False), (480.0, 277.0, True), (230.0, 133.0, False)],
)  # fmt: skip
def test_a_three_phase_unit_reads_one_phase_or_two(nominal: float, volts: float, normal: bool) -> None:
    """The nominal voltage is that between two phases, as IEC 60038 lists it: 230/400 V, 277/480 V."""
    told = Told().tell(OL, 10, input_voltage_nominal=nominal, input_voltage=volts)
    assert (told.watch.stable_s(told.now_s) is not None) is normal


def test_a_three_phase_unit_of_208_v_says_that_it_has_three() -> None:
    for phases, normal in ((3.0, True), (1.0, False)):
        told = Told().tell(OL, 10, input_voltage_nominal=208.0, input_voltage=120.0, input_phases=phases)
        assert (told.watch.stable_s(told.now_s) is not None) is normal


@pytest.mark.parametrize(("volts", "normal"), [(230.0, True), (196.0, True), (195.0, False), (265.0, False)])
@pytest.mark.parametrize("nominal", ["input_voltage_nominal", "output_voltage_nominal"])
def test_a_voltage_that_no_mains_should_have_is_not_normal(volts: float, normal: bool, nominal: str) -> None:
    """Also where the UPS does nothing about it: EN 50160's bounds."""
    told = Told().tell(OL, 10, **{nominal: 230.0}, input_voltage=volts)
    assert (told.watch.stable_s(told.now_s) is not None) is normal


def test_a_gap_is_no_proof() -> None:
    told = Told().tell(OL, 100)
    told.now_s += 100
    told.tell(OL, 10)
    assert told.watch.stable_s(told.now_s) == 8.0
    assert told.watch.charged_s(told.now_s) == 8.0


def test_a_battery_that_tells_no_charge_charges_72_times_as_long_as_it_worked() -> None:
    told = Told().tell(OL, 20).tell(OL | CAL, 10).tell(OL, 710)
    assert told.watch.charged_s(told.now_s) is None
    told.tell(OL, 30)
    assert told.watch.charged_s(told.now_s) is not None


def test_a_told_charge_decides() -> None:
    told = Told().tell(OB, 10, battery_charge=90.0).tell(OL, 1000, battery_charge=98.0)
    assert told.watch.charged_s(told.now_s) is None
    told.tell(OL, 10, battery_charge=99.0)
    assert told.watch.charged_s(told.now_s) == 8.0


def test_a_charge_told_right_after_the_battery_worked_may_be_from_before() -> None:
    told = Told().tell(OL, 10, battery_charge=100.0).tell(OB, 100, battery_charge=100.0).tell(OL, 58, battery_charge=100.0)
    assert told.watch.charged_s(told.now_s) is None
    told.tell(OL, 10, battery_charge=100.0)
    assert told.watch.charged_s(told.now_s) == 8.0


def test_a_charge_that_is_estimated_from_the_voltage_counts_only_with_the_time_it_takes() -> None:
    told = Told()
    told.origins = {"battery.charge": Origin.ESTIMATED}
    told.tell(OL, 20, battery_charge=100.0)
    assert told.watch.charged_s(told.now_s) == 18.0
    told.tell(OB, 10, battery_charge=80.0).tell(OL, 700, battery_charge=100.0)
    assert told.watch.charged_s(told.now_s) is None
    told.tell(OL, 30, battery_charge=98.0)
    assert told.watch.charged_s(told.now_s) is None
    told.tell(OL, 10, battery_charge=100.0)
    assert told.watch.charged_s(told.now_s) == 8.0


def test_a_battery_below_float_is_not_full_whatever_it_tells() -> None:
    told = Told().tell(OL, 10, battery_charge=100.0, battery_voltage=25.6, battery_voltage_nominal=24.0)
    assert told.watch.charged_s(told.now_s) is None  # 2.13 V per cell


def test_the_load_must_be_watched_for_its_time_and_forgets_what_is_older() -> None:
    told = Told().tell(OL, 30, ups_load=30.0)
    assert told.watch.load_span(told.now_s) is None
    told.tell(OL, 30, ups_load=38.0)
    assert told.watch.load_span(told.now_s) == 8.0
    told.tell(OL, 90, ups_load=38.0)
    assert told.watch.load_span(told.now_s) == 0.0


def test_what_held_before_a_restart_may_be_taken_up() -> None:
    told = Told()
    told.watch.resume(-1000.0, (-1010.0, -1000.0), 0.0)
    told.tell(OL, 10)
    assert told.watch.stable_s(told.now_s) == 1010.0
    assert told.watch.charged_s(told.now_s) == 290.0  # full 720 s after ten seconds of work


def test_a_battery_that_worked_before_a_restart_is_not_taken_for_full() -> None:
    told = Told()
    told.watch.resume(-100.0, (-700.0, -100.0), 0.0)
    told.tell(OL, 1000)
    assert told.watch.stable_s(told.now_s) == 1100.0
    assert told.watch.charged_s(told.now_s) is None


def near(*values: float) -> st.SearchStrategy[float]:
    """One of these, or a little beside it."""
    return st.sampled_from(values).flatmap(lambda value: st.sampled_from([value - 0.1, value, value + 0.1]))


NOMINAL = ["input.voltage.nominal", "output.voltage.nominal"]
steps_st = st.lists(
    st.tuples(
        st.sampled_from([2.0, 2.0, 2.0, 9.0, 61.0, 700.0]),
        st.sampled_from([OL, OL, OL, OL, OL, OB, OL | CAL, OL | BOOST, 0]),
        st.one_of(
            st.just((None, None)),
            st.tuples(st.just("input.voltage"), near(230.0, 195.5, 264.5, 0.0)),
            st.tuples(st.just("battery.voltage"), near(27.3, 25.8, 2.15, 2.3, 3.0)),
            st.tuples(st.just("battery.charge"), near(100.0, 99.0, 40.0)),
            st.tuples(st.just("ups.load"), near(30.0, 35.0)),
            st.tuples(st.sampled_from(NOMINAL), st.sampled_from([230.0, 208.0, 0.0, "230"])),
            st.tuples(st.just("battery.voltage.nominal"), st.sampled_from([24.0, 12.0, 1.0])),
            st.tuples(st.sampled_from(["battery.charge", "input.voltage", "input.voltage.nominal", "ups.load"]), st.none()),
        ),
        st.integers(1, 5),
        st.sampled_from([None, None, Origin.MEASURED, Origin.ESTIMATED]),
        st.sampled_from([99.0, 99.0, 99.0, 100.0]),
    ),
    min_size=2, max_size=15,
)  # fmt: skip
GOOD = {
    "input.voltage": 230.0, "input.voltage.nominal": 230.0, "battery.voltage": 27.3, "battery.voltage.nominal": 24.0,
    "battery.charge": 100.0, "ups.load": 30.0,
}  # fmt: skip
Step = tuple[float, int, tuple[str | None, float | str | None], int, Origin | None, float]


@settings(max_examples=500)
@given(steps_st)
def test_what_is_not_looked_at_again_would_have_changed_nothing(steps: list[Step]) -> None:
    """As long as all stays where it was, nothing is judged anew; one that judges every reading comes to the same."""
    watch, always = Watch(60.0), Watch(60.0)
    now_s, values, origin = 0.0, dict[str, float | str](GOOD), Origin.MEASURED
    for step_s, status, (name, value), times, told, full_percent in steps:
        origin = told or origin
        if name is not None and value is not None:
            values = {**values, name: value}
        elif name is not None:
            values = {key: each for key, each in values.items() if key != name}
        for _ in range(times):
            now_s += step_s
            reading = Reading("a", int(now_s * 1e6), now_s, status, values, origins={"battery.charge": origin})
            always._corridor = None
            for each in (watch, always):
                each.see(reading, full_percent)
            for asked in ("stable_s", "charged_s", "load_span"):
                assert getattr(watch, asked)(now_s) == getattr(always, asked)(now_s), asked
