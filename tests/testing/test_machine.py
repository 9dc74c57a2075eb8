"""The simulated UPS's physics and timers; what orders do is megatec-family.md section 10.5."""

from __future__ import annotations

import math

import pytest

from qxfleet.testing.battery import Battery
from qxfleet.testing.machine import QUICK_TEST_S, Machine, Ratings, Returns, Source


def machine(*, age: float = 0.0, load: float = 50.0, **ratings: float | bool) -> Machine:
    made = Machine(Ratings(**ratings), age_years=age, load_percent=load, noise=0.0)  # type: ignore[arg-type]
    made.advance(1000.0)
    return made


def runtime_s(unit: Machine) -> tuple[float, float]:
    """Seconds of outage until the battery is low, and until the output is off."""
    unit.set_mains(0.0)
    low_s = math.nan
    for second in range(1, 86400):
        unit.advance(1000.0 + second)
        if math.isnan(low_s) and unit.battery_low:
            low_s = second
        if unit.source is Source.OFF:
            return low_s, second
    raise AssertionError("a day without mains and still on")


def test_an_outage_drains_the_battery_until_it_is_low_and_then_empty() -> None:
    unit = machine()
    before = unit.battery.volts
    low_s, off_s = runtime_s(unit)
    assert 0 < low_s < off_s
    assert unit.battery.volts < before
    assert unit.output_v == 0.0
    assert unit.dark


def test_the_battery_sags_at_once_and_recovers_when_the_load_is_gone() -> None:
    unit = machine(load=80)
    unit.set_mains(0.0)
    unit.advance(1020.0)
    under_load = unit.battery.volts
    assert under_load < 25.6  # float is 27.2 V; 24 V nominal with a load stands near 24 to 25 V
    unit.set_mains(230.0)
    unit.advance(1320.0)
    assert unit.battery.volts > 26.5


def test_more_load_means_less_time_than_in_proportion() -> None:
    half, full = runtime_s(machine(load=50))[1], runtime_s(machine(load=100))[1]
    assert full < half / 2


@pytest.mark.parametrize("load", [20.0, 60.0, 100.0])
def test_an_old_battery_holds_shorter_and_is_low_sooner(load: float) -> None:
    times = [runtime_s(machine(age=age, load=load)) for age in (0.0, 3.0, 6.0)]
    assert times[0][0] > times[1][0] > times[2][0]
    assert times[0][1] > times[1][1] > times[2][1]


def test_strings_in_parallel_hold_longer() -> None:
    assert runtime_s(machine(battery_strings=2))[1] > 2 * runtime_s(machine())[1]


def test_the_battery_is_full_again_after_a_night_of_mains() -> None:
    unit = machine()
    unit.battery.set_charge(0.3)
    unit.advance(1000.0 + 3600)
    assert 0.35 < unit.battery.charge < 0.7
    unit.advance(1000.0 + 14 * 3600)
    assert unit.battery.charge > 0.99
    assert unit.battery.volts == pytest.approx(27.24, abs=0.05)


def test_a_battery_that_nobody_looks_at_ends_where_a_watched_one_does() -> None:
    seldom, often = machine(), machine()
    for unit in (seldom, often):
        unit.set_mains(0.0)
    for tenth in range(1, 3001):
        often.advance(1000.0 + tenth / 10)
    seldom.advance(1300.0)
    assert seldom.battery.charge == pytest.approx(often.battery.charge, rel=0.01)
    assert seldom.battery.volts == pytest.approx(often.battery.volts, rel=0.005)


def test_the_output_comes_back_ten_seconds_after_mains_when_the_battery_was_empty() -> None:
    unit = machine()
    _, off_s = runtime_s(unit)
    at = 1000.0 + off_s + 600
    unit.advance(at)
    unit.set_mains(230.0)
    unit.advance(at + 9.9)
    assert unit.source is Source.OFF
    unit.advance(at + 10.1)
    assert unit.source is Source.MAINS
    assert not unit.shutting_down


@pytest.mark.parametrize(
    ("mains", "regulating", "ratio"),
    [(198.0, True, (1.05, 1.50)), (230.0, False, (1.0, 1.0)), (256.0, True, (0.50, 0.95))],
)
def test_a_line_interactive_unit_boosts_and_trims(mains: float, regulating: bool, ratio: tuple[float, float]) -> None:
    """The output's ratio to the input lies where section 4.2 says boost and trim are."""
    unit = machine()
    unit.set_mains(mains)
    assert unit.regulating is regulating
    assert ratio[0] <= unit.output_v / unit.input_v <= ratio[1]
    assert not unit.on_battery


def test_regulation_does_not_flutter_at_its_limit() -> None:
    unit = machine()
    states = []
    for volts in (208.0, 206.0, 208.0, 206.0, 208.0, 213.0):
        unit.set_mains(volts)
        states.append(unit.regulating)
    assert states == [False, True, True, True, True, False]


def test_an_online_unit_holds_its_output_where_a_line_interactive_one_leaves_mains() -> None:
    online, interactive = machine(line_interactive=False), machine()
    for unit in (online, interactive):
        unit.set_mains(160.0)
    assert (online.source, online.output_v, online.regulating) == (Source.MAINS, 230.0, False)
    assert interactive.source is Source.BATTERY


def test_bypass_passes_mains_on_and_ends_with_them() -> None:
    unit = machine(line_interactive=False)
    unit.forced_bypass = True
    unit.set_mains(221.0)
    assert (unit.source, unit.output_v, unit.regulating) == (Source.BYPASS, 221.0, True)
    unit.set_mains(0.0)
    assert (unit.source, unit.regulating) == (Source.BATTERY, False)


def test_overload_sends_an_online_unit_to_bypass_and_ends_a_line_interactive_one_on_battery() -> None:
    online, interactive = machine(line_interactive=False), machine()
    interactive.set_mains(0.0)
    for unit in (online, interactive):
        unit.load_percent = 130.0
        unit.advance(1005.0)
        assert unit.source not in (Source.BYPASS, Source.OFF)
        unit.advance(1012.0)
    assert (online.source, interactive.source) == (Source.BYPASS, Source.OFF)
    online.load_percent = 60.0
    online.advance(1013.0)
    assert online.source is Source.MAINS


def test_the_fault_voltage_is_the_worst_since_it_was_last_read() -> None:
    """Section 4: latched, read once, reset by the query to the present input voltage."""
    unit = machine()
    unit.read_fault_v()
    unit.set_mains(0.0)
    unit.set_mains(230.0)
    assert unit.read_fault_v() == 0.0
    assert unit.read_fault_v() == 230.0


def test_quick_test_takes_ten_seconds_on_the_battery() -> None:
    unit = machine()
    before = unit.battery.volts
    assert unit.start_test(QUICK_TEST_S)
    assert (unit.testing, unit.on_battery, unit.source) == (True, False, Source.BATTERY)
    unit.advance(1009.9)
    assert unit.testing
    assert unit.battery.volts < before - 1
    unit.advance(1010.1)
    assert (unit.testing, unit.source, unit.failed) == (False, Source.MAINS, False)


def test_a_deep_test_ends_when_the_battery_is_low() -> None:
    unit = machine()
    unit.start_test(math.inf)
    unit.advance(1060.0)
    assert unit.testing
    unit.advance(1000.0 + 3600)
    assert not unit.testing
    assert unit.battery.charge < 0.3
    assert unit.source is Source.MAINS


def test_a_quick_test_that_the_battery_does_not_survive_fails_and_keeps_the_load_up() -> None:
    unit = machine()
    unit.battery.fails_after_s = 4.0
    unit.start_test(QUICK_TEST_S)
    unit.advance(1020.0)
    assert (unit.testing, unit.failed, unit.source) == (False, True, Source.MAINS)


def test_a_dead_battery_drops_the_load_seconds_after_mains() -> None:
    unit = machine()
    unit.battery.fails_after_s = 5.0
    unit.set_mains(0.0)
    unit.advance(1004.0)
    assert unit.source is Source.BATTERY
    unit.advance(1008.0)
    assert unit.source is Source.OFF


def test_an_outage_ends_a_test_and_forbids_another() -> None:
    unit = machine()
    unit.start_test(600.0)
    unit.set_mains(0.0)
    assert not unit.testing
    assert not unit.start_test(QUICK_TEST_S)


def test_shutdown_without_return_time_comes_back_ten_seconds_after_mains() -> None:
    """S<n>: off after n even with mains; 10 s after they return it reconnects."""
    unit = machine()
    unit.set_mains(0.0)
    unit.shut_down(30.0, Returns.WITH_MAINS)
    assert unit.shutting_down
    unit.advance(1029.9)
    assert unit.source is Source.BATTERY
    unit.advance(1300.0)
    assert unit.source is Source.OFF
    unit.set_mains(230.0)
    unit.advance(1309.9)
    assert unit.source is Source.OFF
    unit.advance(1310.1)
    assert unit.source is Source.MAINS
    assert not unit.shutting_down


def test_shutdown_with_return_time_makes_a_power_cycle_while_mains_are_there() -> None:
    """S<n>R<m>: with mains all along the output is off for m minutes and comes back."""
    unit = machine()
    unit.shut_down(30.0, Returns.AFTER, 180.0)
    unit.advance(1031.0)
    assert unit.source is Source.OFF
    unit.advance(1209.0)
    assert unit.source is Source.OFF
    unit.advance(1211.0)
    assert unit.source is Source.MAINS


def test_shutdown_with_return_time_waits_for_mains() -> None:
    unit = machine()
    unit.set_mains(0.0)
    unit.shut_down(30.0, Returns.AFTER, 180.0)
    unit.advance(2000.0)
    assert unit.source is Source.OFF
    unit.set_mains(230.0)
    unit.advance(2001.0)
    assert unit.source is Source.MAINS


def test_a_battery_that_gets_low_ends_the_countdown() -> None:
    """At once if the battery gets low first."""
    unit = machine(load=100)
    unit.battery.set_charge(0.25)
    unit.set_mains(0.0)
    unit.shut_down(600.0, Returns.WITH_MAINS)
    low_at = next(second for second in range(1, 600) if unit.advance(1000.0 + second) or unit.source is Source.OFF)
    assert low_at < 599
    assert unit.battery.charge > 0.02


def test_stay_off_stays_off_until_it_is_told_to_come_back() -> None:
    unit = machine()
    unit.shut_down(0.0, Returns.NEVER)
    assert (unit.source, unit.load_now) == (Source.OFF, 0.0)
    unit.set_mains(0.0)
    unit.advance(5000.0)
    unit.set_mains(230.0)
    unit.advance(90000.0)
    assert unit.source is Source.OFF
    unit.cancel()
    assert unit.source is Source.MAINS


def test_cancel_stops_a_countdown_and_holds_an_output_off_for_ten_seconds() -> None:
    """C: while n runs cancelled; while m runs output on, held off at least 10 s, mains needed."""
    unit = machine()
    unit.shut_down(30.0, Returns.AFTER, 180.0)
    unit.cancel()
    unit.advance(1100.0)
    assert (unit.source, unit.shutting_down) == (Source.MAINS, False)
    unit.shut_down(0.0, Returns.AFTER, 180.0)
    unit.advance(1103.0)
    unit.cancel()
    unit.advance(1109.9)
    assert unit.source is Source.OFF
    unit.advance(1110.1)
    assert unit.source is Source.MAINS


def test_cancel_needs_mains_to_bring_an_output_back() -> None:
    unit = machine()
    unit.set_mains(0.0)
    unit.shut_down(0.0, Returns.NEVER)
    unit.cancel()
    unit.advance(1100.0)
    assert unit.source is Source.OFF
    unit.set_mains(230.0)
    assert unit.source is Source.MAINS


def test_noise_stays_small_and_the_same_seed_gives_the_same_values() -> None:
    units = [Machine(Ratings(), seed=seed, load_percent=40.0) for seed in (1, 1, 2)]
    tracks = []
    for unit in units:
        track = []
        for second in range(0, 4000, 2):
            unit.advance(float(second))
            track.append((unit.input_v, unit.load_now, unit.hertz))
        tracks.append(track)
    assert tracks[0] == tracks[1] != tracks[2]
    assert len(set(tracks[0])) > 1000
    for volts, load, hertz in tracks[0]:
        assert 220 < volts < 240
        assert 28 < load < 52
        assert 49.7 < hertz < 50.3


def test_a_unit_without_thermometer_says_25_degrees() -> None:
    """Section 4: 25.0 is the placeholder for "not measured"."""
    unit = Machine(Ratings(), thermometer=False, ambient_c=30.0)
    unit.advance(0.0)
    unit.advance(5000.0)
    assert unit.temperature_c == 25.0


def test_warmth_follows_the_load() -> None:
    unit = machine(load=10)
    unit.advance(4000.0)
    cool = unit.temperature_c
    unit.load_percent = 90.0
    unit.advance(8000.0)
    assert unit.temperature_c > cool + 3


def drained(watts: float, seconds: float, age: float = 0.0) -> Battery:
    battery = Battery(24.0, 9.0, age)
    battery.discharge(watts, seconds)
    return battery


def test_a_battery_is_a_string_of_two_volt_cells() -> None:
    battery = Battery(24.0, 9.0)
    assert battery.cells == 12
    assert battery.volts == pytest.approx(27.24)  # float charge, 2.27 V per cell


def test_peukert_twice_the_current_takes_more_than_twice_the_charge() -> None:
    once, twice = 1 - drained(100, 60).charge, 1 - drained(200, 60).charge
    assert twice / once == pytest.approx(2**1.25)


def test_an_old_battery_holds_less_and_sags_more() -> None:
    """The same ampere-seconds are a larger part of what is left; at the same charge the same current costs more volts."""
    new, old = drained(100, 600), drained(100, 600, age=4.0)
    assert (1 - old.charge) / (1 - new.charge) == pytest.approx(0.76**-1.25, rel=0.03)
    for battery in (new, old):
        battery.set_charge(0.8)
    rest_v = new.volts
    assert rest_v == old.volts
    for battery in (new, old):
        battery.discharge(300, 15.0)
        battery.charge = 0.8
    assert rest_v - old.volts > 1.5 * (rest_v - new.volts)
