"""Pruning and checking."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qxfleet.model.clock import Clock
from qxfleet.model.retention import DAY_S, Retention
from qxfleet.store import history, upkeep
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import Standing
from qxfleet.store.store import Store
from qxfleet.store.tables import reading
from qxfleet.store.tiers import DAY_US
from qxfleet.store.upkeep import check, prune
from tests.store.conftest import T0_US, a_reading, all_rows, an_event

AFTER_A_DAY = Retention(DAY_S, None, None, None)


async def test_old_readings_go_and_everything_else_stays(store: Store, fleet_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "CHUNK", 7)
    for number in range(30):
        store.record(a_reading(at_us=T0_US + number))
        store.record(a_reading("rack1-b", at_us=T0_US + number + 25))
    await store.record_now(an_event())
    order = await store.order_intent("rack1-a", "beeper.toggle", None, "Q\r", "cli")
    told: list[int] = []
    assert prune(fleet_url, AFTER_A_DAY, T0_US + 26 + DAY_US, told.append) == 27
    assert sorted(set(told)) == [0, 7, 14, 21, 27]
    rows = await store.read(all_rows(reading))
    assert sorted(row["at"] - T0_US for row in rows) == sorted([*range(26, 30), *range(26, 55)])
    assert len(await store.read(history.events)) == 1
    assert [kept.id for kept in store.open_orders()] == [order]
    assert prune(fleet_url, AFTER_A_DAY, T0_US + 26 + DAY_US) == 0


async def fill(url: str, rows: int) -> None:
    store = Store(url, clock=Clock(), keep="all")
    store.open()
    for number in range(rows):
        store.record(a_reading(at_us=T0_US + number))
    await store.close()


def test_pruning_gives_space_back(sqlite_path: Path) -> None:
    asyncio.run(fill(f"sqlite:///{sqlite_path}", 20_000))
    before = sqlite_path.stat().st_size
    assert prune(f"sqlite:///{sqlite_path}", AFTER_A_DAY, T0_US + 19_000 + DAY_US) == 19_000
    assert sqlite_path.stat().st_size < before / 3


async def test_event_numbers_are_not_given_again_after_deleting(store: Store, fleet_url: str) -> None:
    await store.record_now(an_event(0), an_event(1))
    last = (await store.read(history.events))[-1].id
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM event")
    engine.dispose()
    await store.record_now(an_event(2))
    [kept] = await store.read(history.events)
    assert kept.id > last


async def test_a_sound_database(store: Store, fleet_url: str) -> None:
    store.record(a_reading())
    await store.record_now(an_event(0), an_event(1))
    report = check(fleet_url)
    assert report.problems == ()
    assert report.schema.standing is Standing.CURRENT
    assert (report.rows["reading"], report.rows["event"], report.rows["device"]) == (1, 2, 1)


def test_a_database_without_tables(empty_url: str) -> None:
    if empty_url.startswith("sqlite"):
        Path(empty_url.removeprefix("sqlite:///")).touch()
    report = check(empty_url)
    assert report.schema.standing is Standing.EMPTY
    assert report.problems == (f"schema is none, this qxfleet works with {report.schema.ours}: run qxfleet db upgrade",)


def test_damage_is_found(sqlite_path: Path) -> None:
    asyncio.run(fill(f"sqlite:///{sqlite_path}", 5_000))
    content = bytearray(sqlite_path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    sqlite_path.write_bytes(content)
    assert check(f"sqlite:///{sqlite_path}").problems


def test_a_row_that_points_nowhere_is_found(sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}"
    engine = open_engine(url, writing=True, migrating=True)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO event (at, device_id, kind, name, value, text, severity, phase) "
            "VALUES (0, 99, 'status', 'x', '', '', 0, 'point')"
        )
    engine.dispose()
    assert check(url).problems == ("row 1 of event points to no row of device",)
