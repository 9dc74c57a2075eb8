"""Discharges between readings and tables, on both databases: the same however they are made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, delete, insert

from qxfleet.battery import chronicle, register
from qxfleet.battery.discharge import cut
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Discharge, Method, Sample
from qxfleet.store import batteries
from qxfleet.store.bulk import insert_readings
from qxfleet.store.engine import open_engine
from qxfleet.store.rows import reading_row
from qxfleet.store.tables import device, reading
from tests.battery.ground import OB, OL, RATING, T0_US, at, outage, readings, rest, sample
from tests.battery.test_capacity import run

DAY_S = 86_400.0
FACTS = BatteryFacts(cells=12, installed_us=T0_US - 5 * 86_400_000_000, rated_w=600.0)


@pytest.fixture
def connection(fleet_url: str) -> Iterator[Connection]:
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as opened:
        opened.execute(insert(device), [{"id": 7, "name": "a", "created": T0_US}])
        register.settle(opened, 7, "a", FACTS, T0_US)
        yield opened
    engine.dispose()


def story() -> list[Sample]:
    """A run to the flag when new, a short outage, a partial one, a year later another to the flag."""
    parts: list[Sample] = []
    for number, (day, lasts_s, shape_s, low) in enumerate(((1, 900, 900, True), (8, 20, 900, False), (200, 540, 860, False),
                                                           (380, 800, 800, True))):  # fmt: skip
        begin_s = day * DAY_S
        _, curve = run(begin_s, lasts_s, shape_s=shape_s, low=low, number=number)
        parts += [*rest(begin_s - 300, begin_s - 10, 60.0), *curve]
        after_s = begin_s + lasts_s
        parts += [sample(after_s + 60 + 600 * each, OL, 25.6 + 0.1 * each) for each in range(20)]
    by_time = {each.at_us: each for each in parts}
    return [by_time[moment] for moment in sorted(by_time)]


def store(connection: Connection, samples: list[Sample]) -> None:
    rows = [reading_row(each, None) for each in readings("a", samples)]
    insert_readings(connection, [(7, *row[1:]) for row in rows])


def as_told(found: list[Discharge]) -> list[Discharge]:
    return [replace(each, id=None) for each in found]


def test_cut_scored_and_kept(connection: Connection) -> None:
    samples = story()
    store(connection, samples)
    found = chronicle.update_span(connection, 7, "a", samples[0].at_us, samples[-1].at_us, RATING, FACTS)
    assert [each.score.method for each in found] == [Method.FULL, None, Method.CURVE, Method.FULL]
    assert [each.score.capacity_percent for each in found][::3] == pytest.approx([100, 89], abs=1)
    assert found[2].score.capacity_percent == pytest.approx(95.5, abs=4)
    assert all(each.recharge_s is not None for each in found)
    cuts = cut("a", samples, RATING)
    assert [batteries.curve(connection, each.id or 0) for each in found] == [list(each.curve) for each in cuts]
    assert batteries.capacities(connection)[1][0].at_us == at(DAY_S)


def test_piece_by_piece_and_all_at_once(connection: Connection) -> None:
    """As the agent does, from the reading before each discharge on; then all anew: nothing changes, however often."""
    samples = story()
    store(connection, samples)
    for each in cut("a", samples, RATING):
        since_us = batteries.last_rest_before_us(connection, "a", each.discharge.began_us)
        assert since_us is not None
        chronicle.update_span(connection, 7, "a", since_us, (each.discharge.ended_us or 0) + 20_000_000, RATING, FACTS)
        chronicle.update_span(connection, 7, "a", since_us, (each.discharge.ended_us or 0) + 15_000_000_000, RATING, FACTS)
    live = batteries.discharges(connection)
    assert len(live) == 4
    assert chronicle.rebuild(connection, "a", RATING, FACTS) == (4, 0)
    assert chronicle.rebuild(connection, "a", RATING, FACTS) == (4, 0)
    assert batteries.discharges(connection) == live


def test_the_same_when_the_readings_are_gone(connection: Connection) -> None:
    samples = story()
    store(connection, samples)
    chronicle.update_span(connection, 7, "a", samples[0].at_us, samples[-1].at_us, RATING, FACTS)
    before = batteries.discharges(connection)
    for gone_until_us in (before[0].began_us + 100_000_000, before[2].began_us, samples[-1].at_us + 1):
        connection.execute(delete(reading).where(reading.c.at < gone_until_us))
        assert chronicle.rebuild(connection, "a", RATING, FACTS) == (4, 0)
    assert batteries.discharges(connection) == before


def test_what_the_readings_do_not_show_goes(connection: Connection) -> None:
    samples = story()
    store(connection, samples)
    wrong = Discharge("a", at(100 * DAY_S), at(100 * DAY_S + 5), before_cause := cut("a", samples, RATING)[0].discharge.cause)
    assert before_cause is not None
    batteries.put_discharge(connection, 7, wrong, [])
    assert chronicle.rebuild(connection, "a", RATING, FACTS) == (4, 5)
    assert len(batteries.discharges(connection)) == 4


def test_another_installation_date_means_other_scores(connection: Connection) -> None:
    samples = story()
    store(connection, samples)
    chronicle.update_span(connection, 7, "a", samples[0].at_us, samples[-1].at_us, RATING, FACTS)
    register.replaced(connection, 7, "a", at(300 * DAY_S), None, {})
    chronicle.rescore(connection, {place.battery.id for place in batteries.placements(connection)}, FACTS, RATING)
    scores = [each.score.capacity_percent for each in batteries.discharges(connection)]
    assert scores[0] == pytest.approx(100) and scores[3] == pytest.approx(100)


def test_a_tests_row_is_pointed_to(connection: Connection) -> None:
    from qxfleet.store.tables import battery_test

    probe = [*rest(0, 90), *(sample(100 + 2 * each, OL | 256, 25.0) for each in range(10)), *rest(120, 200, 2.0)]
    store(connection, probe + outage(300, 340) + rest(342, 400, 2.0))
    found = chronicle.update_span(connection, 7, "a", at(0), at(400), RATING, FACTS)
    assert [each.cause.value for each in found] == ["test", "mains"]
    values = {"id": 3, "device_id": 7, "started": at(99), "kind": "quick", "actor": "test"}
    connection.execute(insert(battery_test).values(values))
    assert batteries.name_test(connection, 7, at(95), at(400), 3) == 1
    chronicle.update_span(connection, 7, "a", at(0), at(400), RATING, FACTS)
    assert [each.test_id for each in batteries.discharges(connection)] == [3, None]


def test_rating() -> None:
    from qxfleet.model.reading import Identity

    told = Identity("megatec", {"input.voltage.nominal": 230.0, "input.current.nominal": 4.0, "battery.voltage.nominal": 24.0})
    # volts times amperes times 0.7, the middle of the usual power factors (landscape section 5.2)
    assert chronicle.rating_of(BatteryFacts(), told).watts == pytest.approx(644)
    assert chronicle.rating_of(BatteryFacts(rated_w=500.0), told).watts == 500
    assert chronicle.rating_of(BatteryFacts(), None).watts is None


def test_points_keep_the_steps_of_readings(connection: Connection) -> None:
    odd = Sample(at(0), OB, 25.43, 33.0, 88.5, 229.4, 26.1)
    number = batteries.put_discharge(
        connection, 7, Discharge("a", at(0), None, cut("a", [odd], RATING)[0].discharge.cause), [odd]
    )
    assert batteries.curve(connection, number) == [odd]
