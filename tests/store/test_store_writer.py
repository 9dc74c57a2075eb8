"""The writer: what goes in is there, in time, once, whatever the database does."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.model.status import Status
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.store import Store
from qxfleet.store.tables import device, event, order_log, reading
from qxfleet.store.writer import BACKOFF_S, BATCH, CLOSE_S, FLUSH_S
from tests.conftest import Postgres
from tests.store.conftest import T0_US, VALUES, a_reading, all_rows, an_event


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "condition never came true"
        await asyncio.sleep(0.005)


async def test_a_reading_is_kept_as_it_came(store: Store) -> None:
    store.record(a_reading(status=Status.OL | Status.CHRG, values={"battery.charge.low": 20.0}))
    await store.record_now()
    rows = await store.read(all_rows(reading))
    assert rows == [
        {
            "device_id": rows[0]["device_id"], "at": T0_US, "status": 33, "input_voltage": 2301, "input_voltage_fault": 2290,
            "input_frequency": 500, "output_voltage": 2301, "ups_load": 150, "ups_temperature": 251,
            "battery_voltage": 2743, "battery_charge": 1000, "battery_runtime": 1234, "extra": {"battery.charge.low": 20.0},
        }
    ]  # fmt: skip
    last = await store.read(lambda connection: history.last_reading(connection, "rack1-a"))
    numbers = {name: value for name, value in VALUES.items() if isinstance(value, float)}
    assert last == history.StoredReading("rack1-a", T0_US, 33, {**numbers, "battery.charge.low": 20.0})


async def test_an_unknown_value_is_absent_not_zero(store: Store) -> None:
    store.record(a_reading(values={"ups.temperature": None, "input.voltage": 0.0}))
    await store.record_now()
    last = await store.read(lambda connection: history.last_reading(connection, "rack1-a"))
    assert last is not None
    assert "ups.temperature" not in last.values
    assert last.values["input.voltage"] == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 4e9, "twelve"])
async def test_a_value_no_column_can_hold_costs_only_itself(store: Store, troubles: list[str], value: float | str) -> None:
    store.record(a_reading(values={"input.voltage": value}))
    store.record(a_reading(at_us=T0_US + 1))
    await store.record_now()
    rows = await store.read(all_rows(reading))
    assert rows[0]["input_voltage"] in (None, 40_000_000_000)
    assert rows[1]["input_voltage"] == 2301
    assert [row["output_voltage"] for row in rows] == [2301, 2301]
    assert troubles == []


async def test_below_zero_and_before_1970(store: Store) -> None:
    early = -1_000_001
    store.record(a_reading(at_us=early, values={"ups.temperature": -12.3}))
    await store.record_now()
    rows = await store.read(all_rows(reading))
    assert (rows[0]["at"], rows[0]["ups_temperature"]) == (early, -123)


async def test_the_databases_own_time_is_utc(store: Store, backend: str) -> None:
    store.record(a_reading())
    await store.record_now(an_event())
    for table in ("reading", "event"):
        raw = await store.read(lambda connection, table=table: connection.scalar(text(f"SELECT at FROM {table}")))
        assert raw == (T0_US if backend == "sqlite" else datetime(2025, 10, 9, 8, 53, 20, 123457, UTC))


async def test_the_view_speaks_volts(store: Store, backend: str) -> None:
    store.record(a_reading(status=Status.OB | Status.DISCHRG | Status.LB))
    await store.record_now()
    query = 'SELECT ups, time, "ups.status", "input.voltage", "battery.voltage", "battery.runtime" FROM reading_v'
    row = await store.read(lambda connection: connection.execute(text(query)).one())
    time_shown = "2025-10-09T08:53:20.123Z" if backend == "sqlite" else datetime(2025, 10, 9, 8, 53, 20, 123457, UTC)
    assert tuple(row)[:3] == ("rack1-a", time_shown, "OB DISCHRG LB")
    assert [float(value) for value in row[3:]] == [230.1, 27.43, 1234.0]


async def test_two_readings_in_one_microsecond_cost_nobody_else(store: Store, troubles: list[str]) -> None:
    store.record(a_reading())
    store.record(a_reading(values={"input.voltage": 1.0}))
    store.record(a_reading("rack1-b"))
    store.record(a_reading(at_us=T0_US + 1, values={"battery.charge.low": 20.0}))
    await store.record_now(an_event())
    rows = await store.read(all_rows(reading))
    assert sorted((row["at"] - T0_US, row["input_voltage"]) for row in rows) == [(0, 2301), (0, 2301), (1, 2301)]
    assert [row["extra"] for row in rows if row["at"] > T0_US] == [{"battery.charge.low": 20.0}]
    assert len(await store.read(all_rows(event))) == 1
    assert troubles == []


async def test_readings_are_committed_every_few_seconds(store: Store) -> None:
    began = time.monotonic()
    store.record(a_reading())
    await until(lambda: store.health().written == 1)
    assert time.monotonic() - began < 2 * FLUSH_S
    assert len(await store.read(all_rows(reading))) == 1


async def test_a_full_batch_does_not_wait_for_the_second(store: Store) -> None:
    await store.record_now(an_event())
    began = time.monotonic()
    for number in range(BATCH):
        store.record(a_reading(at_us=T0_US + number))
    await until(lambda: store.health().written == BATCH)
    assert time.monotonic() - began < FLUSH_S / 2


async def test_events_gather_but_not_for_ever_and_nobody_who_waits_does(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qxfleet.store.writer.LULL_S", 0.5)
    monkeypatch.setattr("qxfleet.store.writer.GATHERED_S", 1.0)
    numbers = itertools.count()
    while not await store.read(history.events):
        store.record_event(an_event(next(numbers)))
        await asyncio.sleep(0.05)
    assert next(numbers) > 2, "several at once, though no lull was ever there"

    monkeypatch.setattr("qxfleet.store.writer.LULL_S", 60.0)
    store.record_event(an_event(1000))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(store.order_intent("rack1-a", "load.off", None, "S00R0000\r", "cli"), 30)
    assert (await store.read(history.events))[-1].event == an_event(1000)


async def test_an_event_is_committed_at_once(store: Store) -> None:
    await store.record_now(an_event())
    for number in range(1, 4):
        began = time.monotonic()
        store.record_event(an_event(number))
        await until(lambda: store.health().queued_events == 0)
        assert time.monotonic() - began < FLUSH_S / 2
    kept = await store.read(history.events)
    assert [stored.event for stored in kept] == [an_event(number) for number in range(4)]


async def test_text_that_a_database_refuses_is_made_visible(store: Store, troubles: list[str]) -> None:
    odd = an_event()
    for bad in ("NUL\0inside", "half \ud800 character", "Überlast °C"):
        object.__setattr__(odd, "text", bad)
        await store.record_now(odd)
    kept = await store.read(history.events)
    assert [stored.event.text for stored in kept] == ["NUL\\x00inside", "half \\ud800 character", "Überlast °C"]
    assert troubles == []


async def test_a_row_at_fault_is_given_up_and_told_and_costs_nobody_else(store: Store, troubles: list[str]) -> None:
    store.record(a_reading())
    store.record(a_reading(at_us=2**70))
    store.record_event(an_event(1))
    await store.record_now(an_event(2))
    await until(lambda: store.health().queued_readings == 0)
    assert [row["at"] for row in await store.read(all_rows(reading))] == [T0_US]
    assert len(await store.read(history.events)) == 2
    assert store.health().given_up == 1
    assert len(troubles) == 1
    assert troubles[0].startswith("a reading of rack1-a was not stored")


async def test_a_device_deleted_by_hand_is_made_again(store: Store, fleet_url: str, troubles: list[str]) -> None:
    await store.record_now(an_event(ups="rack1-b"))
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM event"))
        connection.execute(text("DELETE FROM device"))
    engine.dispose()
    store.record(a_reading("rack1-b"))
    await store.record_now(an_event(7, ups="rack1-b"))
    assert [row["name"] for row in await store.read(all_rows(device))] == ["rack1-b"]
    assert len(await store.read(all_rows(reading))) == 1
    assert troubles == []


# Orders


async def test_an_order_is_written_before_and_after(store: Store) -> None:
    number = await store.order_intent("rack1-a", "shutdown.return", "30", "S.5R0003\r", "cli:root")
    assert [(order.id, order.outcome) for order in store.open_orders()] == [(number, None)]
    await store.order_outcome(
        number, OrderResult("rack1-a", "shutdown.return", "30", Outcome.ACCEPTED, reply="ACK\0", sent="S.5R0003\r", text="seen")
    )
    assert store.open_orders() == []
    [order] = await store.read(history.orders)
    assert (order.ups, order.actor, order.name, order.value, order.sent) == (
        "rack1-a", "cli:root", "shutdown.return", "30", "S.5R0003\r",
    )  # fmt: skip
    assert (order.outcome, order.reply, order.text) == (Outcome.ACCEPTED, "ACK\\x00", "seen")
    assert order.done_us is not None
    assert order.done_us >= order.at_us


async def test_the_first_outcome_stands(store: Store) -> None:
    number = await store.order_intent("rack1-a", "beeper.toggle", None, "Q\r", "cli")
    for outcome in (Outcome.REJECTED, Outcome.ACCEPTED):
        await store.order_outcome(number, OrderResult("rack1-a", "beeper.toggle", None, outcome))
    [order] = await store.read(history.orders)
    assert (order.outcome, order.sent) == (Outcome.REJECTED, "Q\r")


async def test_an_outcome_without_an_order_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="order 77 of rack1-a is not in the log"):
        await store.order_outcome(77, OrderResult("rack1-a", "beeper.toggle", None, Outcome.ACCEPTED))
    await store.record_now(an_event())


async def test_orders_left_open_by_a_crash_are_found_and_closed(store: Store, fleet_url: str) -> None:
    mine = await store.order_intent("rack1-a", "load.off", None, "S00R0000\r", "plan:night")
    await store.order_intent("rack9-z", "load.off", None, "S00R0000\r", "another agent")
    again = Store(fleet_url, clock=Clock())
    again.open()
    try:
        assert len(again.open_orders()) == 2
        [order] = again.open_orders(["rack1-a"])
        assert (order.id, order.name, order.outcome) == (mine, "load.off", None)
        await again.order_outcome(order.id, order.result(Outcome.UNCONFIRMED, "the agent was restarted"))
        assert again.open_orders(["rack1-a"]) == []
    finally:
        await again.close()


async def test_an_intent_given_up_while_the_database_is_away_counts_as_not_sent(sqlite_path: Path) -> None:
    store = Store(f"sqlite:///{sqlite_path}", clock=Clock(), on_trouble=lambda *_: None)
    store.open()
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.order_intent("rack1-a", "load.off", None, "S00R0000\r", "cli"))
        await until(lambda: store.health().queued_events == 1)
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        other.execute("COMMIT")
    await until(lambda: store.health().queued_events == 0)
    await store.record_now()
    logged = await store.read(history.orders)
    assert [(order.outcome, order.text) for order in logged] in (
        [], [(Outcome.REJECTED, "given up before it was sent")],
    )  # fmt: skip
    assert store.open_orders() == []
    await store.close()


# Trouble


async def test_a_full_queue_drops_the_oldest_readings_and_counts(fleet_url: str, troubles: list[str]) -> None:
    store = Store(fleet_url, clock=Clock(), keep="all", on_trouble=lambda text, _: troubles.append(text), queue_limit=10)
    for number in range(25):
        store.record(a_reading(at_us=T0_US + number))
        store.record_event(an_event(number))
    assert store.health().dropped == 15
    store.open()
    await store.record_now()
    assert [row["at"] - T0_US for row in await store.read(all_rows(reading))] == list(range(15, 25))
    assert len(await store.read(history.events)) == 25
    await until(lambda: troubles)
    assert troubles == ["15 readings dropped, the oldest first: more than 10 waited"]
    await store.close()


async def test_postgres_goes_away_and_comes_back(postgres: Postgres, postgres_template: str, troubles: list[str]) -> None:
    url = postgres.create(postgres_template)
    store = Store(url, clock=Clock(), keep="all", on_trouble=lambda text, _: troubles.append(text), queue_limit=100)
    store.open()
    try:
        await store.record_now(an_event(0))
        postgres.stop()
        try:
            began = time.monotonic()
            for number in range(1, 301):
                store.record(a_reading(at_us=T0_US + number))
                store.record_event(an_event(number))
            order = asyncio.ensure_future(store.order_intent("rack1-a", "test.battery.start", None, "T\r", "cli"))
            assert time.monotonic() - began < BACKOFF_S[-1] / 2, "recording waited for the database"
            await until(lambda: store.health().error is not None)
            assert store.health().queued_events >= 300
            assert "is the server running and reachable" in str(store.health().error)
            assert not order.done()
        finally:
            postgres.restart()
        assert await order > 0
        await store.record_now(an_event(301))
        kept = await store.read(history.events)
        assert [stored.event.text for stored in kept] == [f"event {number}" for number in range(302)]
        assert len(await store.read(all_rows(order_log))) == 1
        health = store.health()
        assert (health.error, health.queued_events) == (None, 0)
        assert health.written + health.dropped == 300
        assert len(await store.read(all_rows(reading))) == health.written
        assert any("takes records again" in sentence for sentence in troubles)
    finally:
        await store.close()


async def test_a_database_that_refuses_is_tried_until_it_takes(fleet_url: str, store: Store, troubles: list[str]) -> None:
    await store.record_now(an_event(0))
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE event RENAME TO event_away"))
    store.record_event(an_event(1))
    await until(lambda: troubles)
    assert "event" in troubles[0]
    assert "keeping 1 records" in troubles[0]
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE event_away RENAME TO event"))
    engine.dispose()
    await store.record_now(an_event(2))
    assert [stored.event for stored in await store.read(history.events)] == [an_event(number) for number in range(3)]


async def test_closing_commits_what_is_queued(fleet_url: str) -> None:
    store = Store(fleet_url, clock=Clock(), keep="all")
    store.open()
    for number in range(5_000):
        store.record(a_reading(at_us=T0_US + number))
    store.record_event(an_event())
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < CLOSE_S
    again = Store(fleet_url, clock=Clock())
    again.open()
    assert len(await again.read(all_rows(reading))) == 5_000
    assert len(await again.read(history.events)) == 1
    await again.close()


async def test_closing_is_bounded_when_the_database_is_stuck(sqlite_path: Path, troubles: list[str]) -> None:
    store = Store(f"sqlite:///{sqlite_path}", clock=Clock(), on_trouble=lambda text, _: troubles.append(text))
    store.open()
    with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(store.record_now(an_event()))
        await until(lambda: store.health().queued_events == 2)
        began = time.monotonic()
        await store.close()
        assert CLOSE_S - 1.0 <= time.monotonic() - began < 2 * CLOSE_S
        with pytest.raises(StoreError, match="closed before this was written"):
            await waiting
        other.execute("COMMIT")
    assert any("closing with 2 events and orders and 0 readings unwritten" in sentence for sentence in troubles)


async def test_a_closed_store_takes_no_events(fleet_url: str) -> None:
    store = Store(fleet_url, clock=Clock())
    store.open()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        store.record_event(an_event())
    with pytest.raises(StoreError, match="closed"):
        await store.record_now(an_event())


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError, match=r"readonly|read-only"):
        await store.read(lambda connection: connection.execute(text("DELETE FROM event")))


async def test_health_knows_the_size_and_the_last_commit(store: Store) -> None:
    before = Clock().wall_us()
    await store.record_now(an_event())
    await until(lambda: store.health().size_bytes)
    health = store.health()
    assert health.last_commit_us is not None
    assert before <= health.last_commit_us <= Clock().wall_us()
    assert (health.size_bytes or 0) > 4096


async def test_a_store_that_was_never_opened_lets_go_too(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/no/fleet.db", clock=Clock())
    await store.close()
