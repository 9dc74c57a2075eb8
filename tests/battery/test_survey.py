"""What is stored of a battery, put together: which of it shows a failure, and what takes that back. On both databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, insert

from qxfleet.battery import register
from qxfleet.battery.health import Verdict, health
from qxfleet.battery.survey import evidence
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.store.engine import open_engine
from qxfleet.store.tables import battery_test, device, discharge, event
from tests.battery.ground import T0_US

DAY_US = 86_400_000_000
FACTS = BatteryFacts(cells=12, installed_us=T0_US - 5 * DAY_US)


@pytest.fixture
def connection(fleet_url: str) -> Iterator[Connection]:
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as opened:
        opened.execute(insert(device), [{"id": 7, "name": "a", "created": T0_US}])
        register.settle(opened, 7, "a", FACTS, T0_US)
        yield opened
    engine.dispose()


def failures(connection: Connection) -> tuple[str, ...]:
    (found,) = evidence(connection, {"a": FACTS}, T0_US + 100 * DAY_US)
    judged = health(found, T0_US + 100 * DAY_US)
    if found.failures:
        assert judged.verdict in (Verdict.REPLACE_SOON, Verdict.REPLACE_NOW)
        assert found.failures[0] in judged.reasons and "test start --force" in judged.next_step
    return found.failures


def ran_test(connection: Connection, day: float, verdict: str, text: str = "") -> None:
    at_us = T0_US + round(day * DAY_US)
    connection.execute(insert(battery_test).values(
        device_id=7, started=at_us, ended=at_us + 10_000_000, kind="quick", actor="test", verdict=verdict, text=text,
    ))  # fmt: skip


def drained(connection: Connection, day: float, low_after_s: float | None, **more: Any) -> None:
    at_us = T0_US + round(day * DAY_US)
    (battery_id,) = (each.battery_id for each in evidence(connection, {"a": FACTS}, at_us))
    values = {"rested": 1, "cause": "mains", "points": 9, "gap_s": 1.0, **more}
    connection.execute(insert(discharge).values(
        device_id=7, battery_id=battery_id, began=at_us, ended=at_us + 600_000_000, low_after_s=low_after_s, **values
    ))  # fmt: skip


def told(connection: Connection, day: float, value: str) -> None:
    connection.execute(insert(event).values(
        at=T0_US + round(day * DAY_US), device_id=7, kind="warning", name="replace-battery", value=value, text="", severity=2,
        phase=value,
    ))  # fmt: skip


def test_a_failed_test_stands_until_one_is_passed(connection: Connection) -> None:
    ran_test(connection, 1, "passed")
    assert failures(connection) == ()
    ran_test(connection, 2, "failed", "its battery was low after 3 s of a quick test")
    (text,) = failures(connection)
    assert text == "failed its test on 2025-10-11: its battery was low after 3 s of a quick test"
    ran_test(connection, 3, "aborted")
    assert failures(connection) == (text,)
    ran_test(connection, 4, "passed")
    assert failures(connection) == ()


@pytest.mark.parametrize(
    ("low_after_s", "more", "failed"),
    [(29.9, {}, True), (30.0, {}, False), (29.9, {"rested": 0}, False), (60.0, {"capacity_percent": 9.9}, True),
     (60.0, {"capacity_percent": 10.0, "capacity_error": 1.0, "method": "full"}, False), (None, {}, False)],
)  # fmt: skip
def test_a_charged_battery_that_is_low_at_once_has_failed(
    connection: Connection, low_after_s: float | None, more: dict[str, Any], failed: bool
) -> None:
    if "capacity_percent" in more:
        more = {"capacity_error": 1.0, "method": "full", **more}
    drained(connection, 2, low_after_s, **more)
    found = evidence(connection, {"a": FACTS}, T0_US + 100 * DAY_US)[0].failures
    assert bool(found) is failed
    if failed:
        assert found == (f"low {low_after_s:.0f} s after the mains failed on 2025-10-11, though it was charged",)
        ran_test(connection, 3, "passed")
        assert failures(connection) == ()


def test_the_units_own_flag_counts_while_it_stands(connection: Connection) -> None:
    told(connection, 1, "begin")
    assert failures(connection) == ("the UPS says since 2025-10-10 that it wants replacing",)
    told(connection, 2, "end")
    assert failures(connection) == ()


def test_another_battery_begins_without_failures(connection: Connection) -> None:
    ran_test(connection, 2, "failed", "low")
    drained(connection, 3, 5.0)
    told(connection, 4, "begin")
    assert len(failures(connection)) == 3
    register.replaced(connection, 7, "a", T0_US + 5 * DAY_US, None, {})
    assert failures(connection) == ()
