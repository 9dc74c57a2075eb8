"""Cutting discharges out of readings: begin, end, cause, and figures that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxfleet.battery.discharge import Rating, cut
from qxfleet.model.discharge import Cause, Discharge, Sample
from qxfleet.store.policy import Kept
from tests.battery.ground import CAL, LB, OB, OL, RATING, at, outage, readings, rest, sample, seconds_of, test_run


def cuts(*parts: list[Sample], rating: Rating = RATING) -> list[Discharge]:
    return [each.discharge for each in cut("a", [each for part in parts for each in part], rating)]


def test_an_outage() -> None:
    found = cuts(rest(0, 90), outage(100, 398, volts=25.0, fall=0.01), rest(400, 700))
    assert seconds_of(found) == [(100.0, 400.0, "mains")]
    [one] = found
    assert (one.lasted_s, one.points, one.rested) == (300.0, 150, True)
    assert (one.float_v, one.lowest_v, one.end_v) == (27.2, pytest.approx(22.02), pytest.approx(22.02))
    assert (one.load_percent, one.load_low_percent, one.load_high_percent) == (30.0, 30.0, 30.0)
    # 30 % of 600 W / 0.85 + 10 W = 221.76 W for 300 s (landscape section 5.2)
    assert one.energy_wh == pytest.approx(221.76 * 300 / 3600, abs=0.01)
    # mean of the eleven readings 50 to 70 s after the transfer lies at 60 s
    assert one.loaded_v == pytest.approx(25.0 - 0.6)
    assert one.recharge_s == 0.0  # back at 27.2 V with the first reading


def test_the_curve_reaches_from_the_reading_before_to_the_one_after() -> None:
    [found] = cut("a", [*rest(0, 90), *outage(100, 120), *rest(122, 200)], RATING)
    assert [(each.at_us - at(0)) / 1e6 for each in found.curve] == [90.0, *range(100, 121, 2), 122.0]


def test_a_test_is_no_outage() -> None:
    assert seconds_of(cuts(rest(0, 90), test_run(100, 110), rest(112, 200))) == [(100.0, 112.0, "test")]


def test_units_that_raise_the_on_battery_bit_in_a_test() -> None:
    running = test_run(100, 160, status=OB | CAL)
    assert seconds_of(cuts(rest(0, 90), running, rest(162, 200))) == [(100.0, 162.0, "test")]


def test_mains_that_fail_in_a_test_end_it_and_begin_an_outage() -> None:
    broken = [replace(each, status=OB | CAL, input_v=0.0) for each in test_run(112, 200)]
    found = cuts(rest(0, 90), test_run(100, 110), broken, rest(202, 260))
    assert seconds_of(found) == [(100.0, 112.0, "test"), (112.0, 202.0, "mains")]
    assert [each.rested for each in found] == [True, False]


def test_a_test_whose_input_is_not_told_becomes_an_outage_when_the_bit_rises_within_it() -> None:
    quiet = [replace(each, input_v=None) for each in test_run(100, 120)]
    rose = [replace(each, input_v=None, status=OB | CAL) for each in test_run(122, 140)]
    assert seconds_of(cuts(rest(0, 90), quiet, rose, rest(142, 200)))[0:2] == [(100.0, 122.0, "test"), (122.0, 142.0, "mains")]


def test_a_test_that_loads_nothing_is_no_discharge() -> None:
    assert cuts(rest(0, 90), test_run(100, 110, volts=27.1), rest(112, 200)) == []


def test_an_announced_cause_is_missing() -> None:
    """On battery although the input is as it was before, without a test bit: mains did not fail as far as anybody can see."""
    odd = [replace(each, input_v=229.0) for each in outage(100, 140)]
    assert seconds_of(cuts(rest(0, 90), odd, rest(142, 200))) == [(100.0, 142.0, "unknown")]


def test_a_short_return_does_not_end_an_outage() -> None:
    back = [sample(131.0), sample(133.0)]
    found = cuts(rest(0, 90), outage(100, 130), back, outage(138, 160), rest(162, 200))
    assert seconds_of(found) == [(100.0, 162.0, "mains")]


def test_ten_seconds_of_mains_end_it() -> None:
    found = cuts(rest(0, 90), outage(100, 130), [sample(132.0), sample(142.0)], outage(144, 160), rest(162, 200))
    assert seconds_of(found) == [(100.0, 132.0, "mains"), (144.0, 162.0, "mains")]


def test_it_goes_on_while_nothing_says_that_it_ended() -> None:
    assert seconds_of(cuts(rest(0, 90), outage(100, 130))) == [(100.0, None, "mains")]
    assert seconds_of(cuts(rest(0, 90), outage(100, 130), [sample(132.0)])) == [(100.0, None, "mains")]


def test_a_long_silence_ends_it_where_it_was_last_seen() -> None:
    found = cuts(rest(0, 90), outage(100, 130), rest(8000, 8100))
    assert seconds_of(found) == [(100.0, 130.0, "mains")]


def test_the_flag_and_the_silence_in_it() -> None:
    low = [replace(each, status=OB | LB) for each in outage(200, 230)]
    [one] = cuts(rest(0, 90), outage(100, 160), low, rest(232, 300))
    assert (one.low_after_s, one.gap_s) == (100.0, 40.0)


def test_a_battery_is_full_again_after_long_enough() -> None:
    long = [*rest(0, 90), *outage(100, 1000), *rest(1002, 4000, volts=26.5)]
    soon = cuts(long, outage(4010, 4100), rest(4102, 4200))
    assert [each.rested for each in soon] == [True, False]
    later = cuts(long, rest(4010, 60_000, 600, volts=26.5), outage(60_010, 60_100), rest(60_102, 60_200))
    assert [each.rested for each in later] == [True, True]


def test_recharge_is_measured_to_ten_millivolts_a_cell_of_float() -> None:
    # 12 cells: back at 27.2 - 0.12 V
    charging = [sample(300 + 60 * number, volts=26.0 + 0.05 * number) for number in range(40)]
    [one] = cuts(rest(0, 90), outage(100, 298), charging)
    assert one.recharge_s == pytest.approx(60 * 22)


def test_resistance_needs_two_loads() -> None:
    def amps(load: float, volts: float) -> float:
        return (load / 100 * 600 / 0.85 + 10) / volts

    def at_load(first: float, last: float, load: float) -> list[Sample]:
        """25 V falling by 1 mV a second, less the current through 50 mΩ."""
        made = []
        for each in outage(first, last, 1.0, load=load):
            open_v = 25.5 - 0.001 * (each.at_us - at(100)) / 1e6
            volts = open_v
            for _ in range(20):
                volts = open_v - 0.050 * amps(load, volts)
            made.append(replace(each, battery_v=round(volts, 2)))
        return made

    [one] = cuts(rest(0, 90), at_load(100, 259, 30.0), at_load(260, 400, 80.0), rest(402, 500))
    assert one.resistance_ohm == pytest.approx(0.050, rel=0.05)
    assert one.resistance_error is not None and one.resistance_error < 0.005
    [steady] = cuts(rest(0, 90), at_load(100, 400, 30.0), rest(402, 500))
    assert steady.resistance_ohm is None
    [unrated] = cuts(rest(0, 90), at_load(100, 259, 30.0), at_load(260, 400, 80.0), rest(402, 500), rating=Rating())
    assert (unrated.resistance_ohm, unrated.energy_wh) == (None, None)


def test_nothing_is_guessed() -> None:
    bare = [Sample(at(second), OL if not 100 <= second < 140 else OB) for second in range(0, 200, 2)]
    [one] = cuts(bare, rating=Rating())
    known = {name for name in Discharge.__slots__ if getattr(one, name) is not None}
    assert known == {"ups", "began_us", "ended_us", "cause", "rested", "points", "gap_s", "score"}
    assert one.cause is Cause.MAINS


PIECES = st.lists(
    st.tuples(
        st.sampled_from([OL, OL, OL, OB, OB | LB, OL | CAL, OB | CAL]),
        st.integers(1, 40),
        st.sampled_from([0.0, 120.0, 228.0, 231.0]),
        st.sampled_from([27.2, 26.4, 25.0, 23.1]),
        st.sampled_from([20.0, 35.0, 80.0]),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=60)
@given(PIECES, st.sampled_from([1.0, 2.0, 5.0]))
def test_what_is_stored_gives_what_was_seen(pieces: list[tuple[int, int, float, float, float]], step: float) -> None:
    """Every poll cut, and only the polls that are stored: the same discharges, with the same curve."""
    seen: list[Sample] = []
    clock_s = 0.0
    for status, count, input_v, volts, load in pieces:
        for number in range(count):
            working = status & (OB | CAL)
            seen.append(sample(clock_s, status, volts - (0.01 * number if working else 0.0), load, input_v))
            clock_s += step
    seen += rest(clock_s, clock_s + 300, 2.0)
    kept, stored = Kept(), []
    for each, reading in zip(seen, readings("a", seen), strict=True):
        if kept.outdated_by(reading):
            kept.keep(reading)
            stored.append(each)
    live, again = cut("a", seen, RATING), cut("a", stored, RATING)
    assert seconds_of([each.discharge for each in again]) == seconds_of([each.discharge for each in live])
    for first, second in zip(live, again, strict=True):
        working = [[each for each in found.curve if each.status & (OB | CAL)] for found in (first, second)]
        assert working[0] == working[1]
        for figure in ("points", "lowest_v", "end_v", "low_after_s", "loaded_v", "load_percent", "energy_wh", "rested"):
            assert getattr(first.discharge, figure) == getattr(second.discharge, figure), figure


@settings(max_examples=40)
@given(PIECES, st.data())
def test_a_cut_that_is_made_in_steps_is_the_same(pieces: list[tuple[int, int, float, float, float]], data: st.DataObject) -> None:
    """Cut up to a reading at rest, and from there on with what was found so far: nothing differs from one cut over all."""
    seen: list[Sample] = []
    clock_s = 0.0
    for status, count, input_v, volts, load in pieces:
        for _ in range(count):
            seen.append(sample(clock_s, status, volts, load, input_v))
            clock_s += 2.0
    seen += rest(clock_s, clock_s + 60, 2.0)
    whole = [each.discharge for each in cut("a", seen, RATING)]
    quiet = [
        number for number in range(1, len(seen) - 1)
        if all(not each.status & (OB | CAL) for each in seen[max(0, number - 8) : number + 1])
        and sum(1 for each in seen[max(0, number - 8) : number]) == 8
    ]  # fmt: skip
    if not quiet:
        return
    middle = data.draw(st.sampled_from(quiet))
    early = [each.discharge for each in cut("a", seen[: middle + 1], RATING)]
    late = [each.discharge for each in cut("a", seen[middle:], RATING, early[-1] if early else None)]

    def undated(found: list[Discharge]) -> list[Discharge]:
        return [replace(each, recharge_s=None) for each in found]

    assert undated([*early, *late]) == undated(whole)


def test_at_rest_one_reading_a_minute_is_enough() -> None:
    """Behind an outage a steady battery is stored once, then after a minute: until then it is known to have ended by the time."""
    few = [*rest(0, 90), *outage(100, 130), sample(132.0)]
    assert seconds_of([each.discharge for each in cut("a", few, RATING, until_us=at(141.0))]) == [(100.0, None, "mains")]
    assert seconds_of([each.discharge for each in cut("a", few, RATING, until_us=at(142.0))]) == [(100.0, 132.0, "mains")]
