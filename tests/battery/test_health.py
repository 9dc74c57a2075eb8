"""Verdicts, grades and what is said to be insufficient."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qxfleet.battery.health import Evidence, Health, Verdict, cohort_outliers, fleet_health, health
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Cause, Method
from qxfleet.store.batteries import Capacity, Recent, Rest
from tests.battery.ground import T0_US

DAY_US = 86_400_000_000
NOW_US = T0_US + 1000 * DAY_US
FACTS = BatteryFacts(cells=12, installed_us=T0_US)
REST = Rest(360, 1.1, 26.0, 22.0, 30.0, 27.2, 40.0, 30.0, 55.0, NOW_US - 365 * DAY_US, NOW_US - 20 * DAY_US)
PLAIN = Evidence("a", "a/1", 1, T0_US, FACTS, 12, "Q24", rest=REST, lately=REST)


def capacities(
    *percents: float, every: int = 200, method: Method = Method.FULL, error: float = 3.0, last: int = 30
) -> tuple[Capacity, ...]:
    first = 1000 - last - every * (len(percents) - 1)
    return tuple(
        Capacity(1, T0_US + (first + every * number) * DAY_US, percent, error, method, number + 1)
        for number, percent in enumerate(percents)
    )


def judged(**changes: object) -> Health:
    return health(replace(PLAIN, **changes), NOW_US)  # type: ignore[arg-type]


def recent(*levels: float | None, ratio: float | None = None) -> tuple[Recent, ...]:
    return tuple(
        Recent(NOW_US - (len(levels) - number) * 30 * DAY_US, Cause.MAINS, level, None, ratio)
        for number, level in enumerate(levels)
    )


def test_a_good_battery() -> None:
    found = judged(capacities=capacities(100, 98.5, 97, 96, 95))
    assert (found.verdict, found.confidence) == (Verdict.GOOD, "A")
    assert found.percent is not None and found.error is not None and found.per_year is not None
    assert abs(found.percent - 95) < 1.645 * found.error < 6
    assert -6 < found.per_year < -1
    assert found.data == ()


def test_below_eighty_the_string_is_replaced() -> None:
    found = judged(capacities=capacities(100, 94, 88, 80, 72))
    assert (found.verdict, found.basis) == (Verdict.REPLACE_NOW, "trend")
    assert found.low_us is not None and found.by_us is not None and found.high_us is not None
    assert found.low_us <= found.by_us <= found.high_us
    assert "below 80 %" in found.reasons[0]


def test_one_uncertain_measurement_does_not_condemn() -> None:
    found = judged(capacities=capacities(78, error=12.0))
    assert found.verdict in (Verdict.TEST_DUE, Verdict.REPLACE_SOON)
    assert "probability" in found.reasons[0]


def test_two_in_a_row_do() -> None:
    assert judged(capacities=capacities(76, 74, error=4.0)).verdict is Verdict.REPLACE_NOW


def test_between_eighty_and_ninety_it_is_watched() -> None:
    assert judged(capacities=capacities(100, 96, 92, 88, every=240)).verdict is Verdict.WATCH


def test_a_measurement_says_less_the_older_it_is() -> None:
    errors = [judged(capacities=capacities(97, last=days)).error or 0.0 for days in (10, 200, 399, 600)]
    assert errors == sorted(errors) and errors[-1] > errors[0] + 0.5
    assert judged(capacities=capacities(97, last=401)).verdict is Verdict.TEST_DUE
    assert judged(capacities=capacities(97, last=399)).verdict is not Verdict.TEST_DUE


@pytest.mark.parametrize("last", [98, 90, 84, 81, 79, 76, 70, 40])
@pytest.mark.parametrize("error", [2.0, 5.0, 9.0])
def test_verdict_and_date_never_contradict_each_other(last: float, error: float) -> None:
    found = judged(capacities=capacities(100, 98, last, error=error))
    assert found.low_us is not None and found.by_us is not None and found.high_us is not None
    assert found.low_us <= found.by_us <= found.high_us
    told = found.verdict in (Verdict.REPLACE_SOON, Verdict.REPLACE_NOW)
    assert told or found.by_us > NOW_US, "a date in the past goes with a battery to be replaced"
    assert found.verdict is not Verdict.GOOD or found.low_us > NOW_US - 200 * DAY_US


def test_a_capacity_that_drops_at_once_is_believed() -> None:
    found = judged(capacities=capacities(100, 99, 98, 97, 55))
    assert found.verdict is Verdict.REPLACE_NOW and found.percent is not None and found.percent < 65


def test_partial_runs_give_grade_b() -> None:
    assert judged(capacities=capacities(97, 96, method=Method.CURVE)).confidence == "B"


def test_indicators_alone_give_grade_c_and_no_percent() -> None:
    found = judged(recent=recent(-0.002, 0.001))
    assert (found.verdict, found.confidence, found.percent, found.per_year) == (Verdict.GOOD, "C", None, None)
    assert found.basis == "age"


def test_nothing_at_all_is_insufficient() -> None:
    found = health(Evidence("a", "a/1", 1, T0_US, BatteryFacts(), None), NOW_US)
    assert (found.verdict, found.percent, found.by_us, found.low_us, found.high_us, found.confidence) == (Verdict.UNKNOWN,) + (
        None,
    ) * 5
    assert any("installed" in text for text in found.data) and any("cells" in text for text in found.data)
    assert "insufficient" in found.reasons[-1]


def test_age_alone_gives_grade_d() -> None:
    found = judged(rest=None, lately=None)
    assert (found.confidence, found.basis, found.percent) == ("D", "age", None)


def test_other_chemistries_are_not_judged() -> None:
    found = judged(facts=replace(FACTS, chemistry="lifepo4"), capacities=capacities(50, 50))
    assert (found.verdict, found.percent, found.by_us) == (Verdict.UNKNOWN, None, None)
    assert "lead-acid" in found.reasons[0]


FROZEN = replace(REST, load_low_percent=24.0, load_high_percent=24.0)


def test_a_frozen_load_makes_capacities_worthless() -> None:
    found = judged(rest=FROZEN, lately=FROZEN, capacities=capacities(100, 90, 80, 70))
    assert found.percent is None and found.verdict is not Verdict.REPLACE_NOW
    assert any("frozen at 24 %" in text for text in found.data)
    assert "assumed_load" in found.next_step


def test_an_assumed_load_costs_a_grade() -> None:
    facts = replace(FACTS, assumed_load_percent=35.0)
    assert judged(facts=facts, rest=FROZEN, lately=FROZEN, capacities=capacities(100, 98)).confidence == "B"


def test_a_capacity_that_rises_is_another_battery() -> None:
    found = judged(capacities=capacities(84, 80, 76, 99, 98, every=150))
    assert any("replaced?" in text for text in found.data)
    assert [each.percent for each in found.used] == [99, 98]
    assert found.verdict is not Verdict.REPLACE_NOW


@pytest.mark.parametrize(("index", "verdict"), [(-0.010, Verdict.GOOD), (-0.025, Verdict.WATCH), (-0.060, Verdict.TEST_DUE)])
def test_loaded_voltage(index: float, verdict: Verdict) -> None:
    # landscape section 5.4: watch at -20 mV per cell, alarm at -50 mV
    assert judged(capacities=capacities(98, 97), recent=recent(index, index, index)).verdict is verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, Verdict.GOOD), (1.25, Verdict.WATCH), (1.6, Verdict.TEST_DUE)])
def test_resistance(ratio: float, verdict: Verdict) -> None:
    assert judged(capacities=capacities(98, 97), recent=recent(0.0, 0.0, ratio=ratio)).verdict is verdict


@pytest.mark.parametrize(("volts", "told"), [(27.2, ""), (25.9, "charger"), (28.6, "charger"), (40.8, "do not fit 12 cells")])
def test_float_voltage_is_of_the_charger(volts: float, told: str) -> None:
    found = judged(lately=replace(REST, float_v=volts), capacities=capacities(98, 97))
    said = " ".join((*found.reasons, *found.data))
    assert told in said and ("charger" in said) == (told == "charger")


def test_what_is_wrong_with_the_data() -> None:
    thin = replace(REST, days=200, temperature_low_c=25.0, temperature_high_c=25.0)
    found = judged(rest=thin)
    assert any("200 days in" in text for text in found.data) and any("placeholder" in text for text in found.data)


def test_like_is_compared_with_like() -> None:
    alike = [
        replace(
            PLAIN, ups=f"u{number}", battery_id=number, recent=recent(*(-0.001 * (number % 3) - 0.0005 * k for k in range(3)))
        )
        for number in range(8)
    ]
    odd = replace(PLAIN, ups="odd", battery_id=99, recent=recent(-0.015, -0.016, -0.016))
    assert cohort_outliers(alike) == {}
    found = cohort_outliers([*alike, odd])
    assert list(found) == [99] and "loaded voltage stands out among 9 alike" in found[99][0]
    once = replace(odd, recent=recent(0.0, 0.0, -0.016))
    assert cohort_outliers([*alike, once]) == {}
    assert cohort_outliers([*alike[:3], odd]) == {}
    by_name = {each.evidence.ups: each for each in fleet_health([*alike, odd], NOW_US)}
    assert by_name["odd"].verdict is Verdict.WATCH and by_name["u1"].verdict is Verdict.GOOD
