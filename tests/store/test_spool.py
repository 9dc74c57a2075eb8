"""The database is away: nothing is lost, not even with the agent; and nothing is there twice when it is back."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.rows import ReadingRow, reading_row
from qxfleet.store.spool import Sort, Spool
from qxfleet.store.store import Store
from qxfleet.store.tables import event, meta, reading
from tests.conftest import Postgres
from tests.store.conftest import T0_US, a_reading, all_rows, an_event
from tests.store.test_store_writer import CutAtCommit, until


def a_row(at_us: int) -> ReadingRow:
    return reading_row(a_reading(at_us=at_us), None)


def a_store(url: str, spool: Path, troubles: list[str]) -> Store:
    return Store(url, clock=Clock(), keep="all", on_trouble=troubles.append, spool=spool)


async def test_a_server_that_stops_costs_nothing_and_the_order_stays(
    postgres: Postgres, postgres_template: str, tmp_path: Path, troubles: list[str]
) -> None:
    store = a_store(postgres.create(postgres_template), tmp_path / "spool", troubles)
    store.open()
    try:
        await store.record_now(an_event(0))
        postgres.stop()
        try:
            for number in range(1, 61):
                store.record(a_reading(at_us=T0_US + number))
                store.record_event(an_event(number))
                if number % 20 == 0:
                    await asyncio.sleep(0.3)
            order = asyncio.ensure_future(store.order_intent("rack1-a", "test.battery.start", None, "T\r", "cli"))
            await until(lambda: (store.health().queued_readings, store.health().queued_events) == (60, 61))
            assert (tmp_path / "spool").exists()
            assert not order.done()
        finally:
            postgres.restart()
        assert await order > 0
        await store.record_now(an_event(61))
        await until(lambda: store.health().queued_readings == 0)
        kept = await store.read(history.events)
        assert [stored.event.text for stored in kept] == [f"event {number}" for number in range(62)]
        assert sorted(row["at"] - T0_US for row in await store.read(all_rows(reading))) == list(range(1, 61))
        health = store.health()
        assert (health.error, health.written, health.dropped) == (None, 60, 0)
        assert [row["key"] for row in await store.read(all_rows(meta)) if row["key"].startswith("spool")] == []
        assert not (tmp_path / "spool").exists()
    finally:
        await store.close()


AWAY = """
import asyncio, sys
from pathlib import Path
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind
from qxfleet.model.reading import Reading
from qxfleet.store.store import Store

async def main(url, spool):
    store = Store(url, clock=Clock(), keep="all", on_trouble=lambda _: None, spool=Path(spool))
    store.open()
    assert store.away
    for number in range(40):
        values = {"input.voltage": 230.1, "output.current": 1.0 * number}
        store.record(Reading("ups0", 1_760_000_000_000_000 + number, 0.0, 1, values))
        store.record_event(Event(1_760_000_000_000_000 + number, "ups0", EventKind.STATUS, "x", "", f"event {number}"))
    while not (store._writer._spool.events, store._writer._spool.readings) == (40, 40):
        await asyncio.sleep(0.01)
    print("on the disk", flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


def killed_while_away(url: str, spool: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", AWAY, url, str(spool)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on the disk\n"
        process.send_signal(signal.SIGKILL)


async def test_started_without_the_server_and_killed_nothing_is_lost(
    postgres: Postgres, tmp_path: Path, troubles: list[str]
) -> None:
    url, spool = postgres.create(), tmp_path / "spool"  # not even the tables are there
    postgres.stop()
    try:
        killed_while_away(url, spool)
        store = a_store(url, spool, troubles)
        store.open()
        assert store.away
        assert store.identities() == {}
        with pytest.raises(StoreError, match="not reached since the start"):
            await store.read(history.events)
        store.record_event(an_event(40))
    finally:
        postgres.restart()
    try:
        await until(lambda: not store.away and store.health().queued_readings + store.health().queued_events == 0)
        kept = await store.read(history.events)
        assert [stored.event.text for stored in kept] == [f"event {number}" for number in range(41)]
        rows = await store.read(all_rows(reading))
        assert len(rows) == 40
        assert sum(row["extra"]["output.current"] for row in rows) == sum(range(40))
    finally:
        await store.close()


async def test_a_lost_answer_writes_nothing_twice(
    postgres: Postgres, postgres_template: str, tmp_path: Path, troubles: list[str]
) -> None:
    url = postgres.create(postgres_template)
    link = CutAtCommit(postgres.folder, tmp_path)
    store = a_store(url.replace(str(postgres.folder), str(tmp_path)), tmp_path / "spool", troubles)
    try:
        store.open()
        await store.record_now(an_event(0))
        await until(lambda: store.health().size_bytes)
        link.armed.set()
        store.record(a_reading())
        await store.record_now(an_event(1))
        assert any("the database is back" in sentence for sentence in troubles), "the answer was not lost"
        await until(lambda: store.health().queued_readings == 0)
        assert [stored.event.text for stored in await store.read(history.events)] == ["event 0", "event 1"]
        assert len(await store.read(all_rows(reading))) == 1
    finally:
        await store.close()
        link.close()


def test_what_the_database_took_before_a_kill_is_not_written_again(fleet_url: str, tmp_path: Path) -> None:
    """Killed behind the commit and before the file forgot: the mark in the database says how far it went."""
    spool = Spool(tmp_path / "spool")
    spool.put([], [an_event(0)])
    spool.put([], [an_event(1)])
    taken = spool.take(Sort.EVENTS, 1)
    assert taken is not None
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        spool.mark(connection, taken)
    engine.dispose()
    spool.close()

    async def start() -> list[str]:
        store = a_store(fleet_url, tmp_path / "spool", [])
        store.open()
        await store.record_now(an_event(2))
        found = await store.read(all_rows(event))
        await store.close()
        return [row["text"] for row in found]

    assert asyncio.run(start()) == ["event 1", "event 2"]


def test_what_was_taken_is_passed_over_also_when_the_database_has_forgotten_its_mark(fleet_url: str, tmp_path: Path) -> None:
    """Killed after the mark went and before the file did: nothing of it is written a second time."""
    spool = Spool(tmp_path / "spool")
    spool.put([a_row(number) for number in range(10)], [an_event(0)])
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        for sort in Sort:
            taken = spool.take(sort, 100)
            assert taken is not None
            spool.mark(connection, taken)
            spool.forget(taken)
            assert spool.take(sort, 100) is None
    with engine.begin() as connection:
        spool.unmark(connection)
    again = Spool(tmp_path / "spool")
    again.find()
    with engine.begin() as connection:
        again.compare(connection)
    engine.dispose()
    assert not again.waiting
    again.put([], [an_event(1)])
    assert (again.events, again.readings) == (1, 0)
    with closing(sqlite3.connect(tmp_path / "spool")) as file:
        assert file.execute("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM readings)").fetchall() == [(1, 0)]
    again.close()


async def test_a_row_at_fault_in_the_file_costs_only_itself(fleet_url: str, tmp_path: Path, troubles: list[str]) -> None:
    spool = Spool(tmp_path / "spool")
    ups, at_us, _, *rest = a_row(T0_US + 1)
    spool.put([a_row(T0_US), (ups, at_us, None, *rest), a_row(T0_US + 2)], [])
    spool.close()
    store = a_store(fleet_url, tmp_path / "spool", troubles)
    store.open()
    try:
        await until(lambda: store.health().written > 0)
        assert [row["at"] - T0_US for row in await store.read(all_rows(reading))] == [0, 2]
        assert len(troubles) == 1 and troubles[0].startswith("a reading of rack1-a was not stored")
    finally:
        await store.close()


async def test_a_locked_sqlite_file_is_away_too(
    sqlite_path: Path, tmp_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxfleet.store.engine.BUSY_S", 0.3)
    store = a_store(f"sqlite:///{sqlite_path}", tmp_path / "spool", troubles)
    store.open()
    try:
        await store.record_now(an_event(0))
        with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.record_event(an_event(1))
            store.record(a_reading())
            await until(lambda: (tmp_path / "spool").exists())
            other.execute("ROLLBACK")
        await until(lambda: store.health().queued_events + store.health().queued_readings == 0)
        assert [stored.event.text for stored in await store.read(history.events)] == ["event 0", "event 1"]
        assert len(await store.read(all_rows(reading))) == 1
    finally:
        await store.close()


def test_beyond_its_limit_the_oldest_readings_go_and_no_event(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", limit=25)
    for number in range(10):
        spool.put([a_row(number * 10 + each) for each in range(10)], [an_event(number)])
    assert (spool.readings, spool.events, spool.dropped) == (25, 10, 75)
    left = spool.take(Sort.READINGS, 1_000)
    assert left is not None
    assert [row[1] for row in spool.readings_of(left)] == list(range(75, 100))
    spool.close()
    again = Spool(tmp_path / "spool")
    again.find()
    assert (again.readings, again.events) == (25, 10)
    again.close()


def test_what_no_column_holds_is_absent_and_an_older_file_gets_the_new_columns(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "spool")) as file:
        file.execute("CREATE TABLE readings (id INTEGER PRIMARY KEY AUTOINCREMENT, txid INTEGER, ups, at, status, extra)")
    spool = Spool(tmp_path / "spool")
    ups, at_us, status, *steps, extra = a_row(5)
    huge = (ups, at_us, status, 10**30, *steps[1:], extra)
    spool.put([a_row(4), huge, a_row(6)], [])
    taken = spool.take(Sort.READINGS, 10)
    assert taken is not None
    assert list(spool.readings_of(taken)) == [a_row(4), (ups, at_us, status, None, *steps[1:], extra), a_row(6)]
    spool.close()


async def test_a_file_that_is_none_of_ours_is_told_and_left_alone(fleet_url: str, tmp_path: Path, troubles: list[str]) -> None:
    (tmp_path / "spool").write_text("a letter to the reader\n" * 100)
    store = a_store(fleet_url, tmp_path / "spool", troubles)
    store.open()
    await store.record_now(an_event(0))
    await store.close()
    assert len(troubles) == 1
    assert "spool takes nothing (file is not a database)" in troubles[0]
    assert (tmp_path / "spool").read_text().startswith("a letter")


def test_a_server_that_refuses_us_is_not_waited_for(postgres: Postgres, tmp_path: Path, troubles: list[str]) -> None:
    async def start() -> None:
        store = a_store(postgres.url("no_such_database"), tmp_path / "spool", troubles)
        try:
            with pytest.raises(StoreError, match="create it: createdb"):
                store.open()
        finally:
            await store.close()

    asyncio.run(start())
