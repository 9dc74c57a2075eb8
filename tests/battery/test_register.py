"""Which battery is where since when, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Connection, insert, select

from qxfleet.battery import register
from qxfleet.errors import StoreError
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Cause, Discharge
from qxfleet.store import batteries
from qxfleet.store.engine import open_engine
from qxfleet.store.tables import device, device_era
from tests.battery.ground import T0_US

DAY_US = 86_400_000_000


@pytest.fixture
def connection(fleet_url: str) -> Iterator[Connection]:
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as opened:
        opened.execute(insert(device), [{"id": 7, "name": "a", "created": T0_US}, {"id": 8, "name": "b", "created": T0_US}])
        yield opened
    engine.dispose()


def there(connection: Connection, ups: str) -> list[tuple[str, int, int | None, str]]:
    """(battery, days since the fixed moment, until, how known) of one UPS."""
    return [
        (place.battery.name, (place.since_us - T0_US) // DAY_US,
         None if place.until_us is None else (place.until_us - T0_US) // DAY_US, place.known)
        for place in batteries.placements(connection, ups)
    ]  # fmt: skip


def test_first_sight_then_a_date(connection: Connection) -> None:
    assert register.settle(connection, 7, "a", BatteryFacts(), T0_US) != []
    assert register.settle(connection, 7, "a", BatteryFacts(), T0_US + DAY_US) == []
    assert there(connection, "a") == [("a/1", 0, None, "first-seen")]
    dated = BatteryFacts(installed_us=T0_US - 300 * DAY_US)
    register.settle(connection, 7, "a", dated, T0_US + DAY_US)
    assert there(connection, "a") == [("a/1", -300, None, "configured")]
    assert register.settle(connection, 7, "a", dated, T0_US + DAY_US) == []


def test_a_later_date_means_another_battery(connection: Connection) -> None:
    register.settle(connection, 7, "a", BatteryFacts(installed_us=T0_US), T0_US)
    register.settle(connection, 7, "a", BatteryFacts(installed_us=T0_US + 900 * DAY_US), T0_US + 910 * DAY_US)
    assert there(connection, "a") == [("a/1", 0, 900, "configured"), ("a/2", 900, None, "configured")]


def test_replaced(connection: Connection) -> None:
    register.settle(connection, 7, "a", BatteryFacts(), T0_US)
    made = register.replaced(connection, 7, "a", T0_US + 5 * DAY_US, None, {"type": "NP7-12", "cells": 12})
    assert (made.battery, made.before) == ("a/2", "a/1")
    assert there(connection, "a") == [("a/1", 0, 5, "first-seen"), ("a/2", 5, None, "told")]
    assert connection.execute(select(device_era.c.kind, device_era.c.text)).all() == [("battery-replaced", "a/2 instead of a/1")]
    facts = register.facts_of(batteries.battery_named(connection, "a/2"), BatteryFacts(cells=6), batteries.placements(connection))
    assert (facts.type, facts.cells, facts.installed_us) == ("NP7-12", 12, T0_US + 5 * DAY_US)
    first = register.facts_of(batteries.battery_named(connection, "a/1"), BatteryFacts(cells=6), batteries.placements(connection))
    assert (first.cells, first.installed_us) == (6, None)
    # what the configuration still says of the battery before does not undo it
    assert register.settle(connection, 7, "a", BatteryFacts(installed_us=T0_US - DAY_US), T0_US + 9 * DAY_US) == []


def test_history_follows_the_battery(connection: Connection) -> None:
    for number, name in ((7, "a"), (8, "b")):
        register.settle(connection, number, name, BatteryFacts(installed_us=T0_US), T0_US)
    for number, name, day in ((7, "a", 1), (7, "a", 20), (8, "b", 2), (8, "b", 21)):
        outage = Discharge(name, T0_US + day * DAY_US, T0_US + day * DAY_US + 1_000_000, Cause.MAINS)
        batteries.put_discharge(connection, number, outage, [])
    register.replaced(connection, 8, "b", T0_US + 10 * DAY_US, "a/1", {})
    moved = batteries.battery_named(connection, "a/1").id
    found = batteries.discharges_of_battery(connection, moved)
    assert [(each.ups, (each.began_us - T0_US) // DAY_US) for each in found] == [("a", 1), ("b", 21)]
    assert there(connection, "a") == [("a/1", 0, 10, "configured")]
    assert there(connection, "b") == [("b/1", 0, 10, "configured"), ("a/1", 10, None, "told")]
    # what was discharged in a after its battery left belongs to none until another is there
    register.settle(connection, 7, "a", BatteryFacts(), T0_US + 30 * DAY_US)
    assert batteries.battery_at(connection, 7, T0_US + 20 * DAY_US) is None


def test_what_the_register_refuses(connection: Connection) -> None:
    register.settle(connection, 7, "a", BatteryFacts(installed_us=T0_US), T0_US)
    register.replaced(connection, 7, "a", T0_US + 10 * DAY_US, None, {})
    with pytest.raises(StoreError, match="later change"):
        register.replaced(connection, 7, "a", T0_US + 5 * DAY_US, None, {})
    with pytest.raises(StoreError, match="has battery a/2 already"):
        register.replaced(connection, 7, "a", T0_US + 15 * DAY_US, "a/2", {})
    with pytest.raises(StoreError, match="no battery is named 'x'"):
        batteries.battery_named(connection, "x")


def test_a_discharge_is_written_over_itself(connection: Connection) -> None:
    outage = Discharge("a", T0_US, None, Cause.MAINS)
    number = batteries.put_discharge(connection, 7, outage, None)
    ended = replace(outage, ended_us=T0_US + 5_000_000, lowest_v=24.9)
    assert batteries.put_discharge(connection, 7, ended, []) == number
    assert batteries.discharges(connection) == [replace(ended, id=number)]
    assert batteries.drop_discharges(connection, 7, T0_US - 1, T0_US + 1, [number]) == 0
    assert batteries.drop_discharges(connection, 7, T0_US - 1, T0_US + 1, []) == 1
    assert batteries.discharges(connection) == []
