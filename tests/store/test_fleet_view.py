"""One view of all agents, and what the first agent takes over from a database of before."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.model.retention import Retention
from qxfleet.model.status import Status
from qxfleet.store import adopt, fleet_view, history, outbox, series, shutdown
from qxfleet.store.fleet import bounded
from qxfleet.store.fleet_upkeep import FleetUpkeep, retention
from qxfleet.store.fleet_view import reading_fleet
from qxfleet.store.maintenance import open_windows
from tests.conftest import Postgres
from tests.store.conftest import a_reading, an_event
from tests.store.test_shipper import Agent, agent, fetch, fleet_store, open_writing, until, upgrade_to

__all__ = ["fleet_store"]


async def test_every_row_has_its_agent_and_its_age(tmp_path: Path, fleet_store: str) -> None:
    row_a = agent(tmp_path, fleet_store, "row-a", ("a-1", "a-2"))
    async with row_a as one, agent(tmp_path, fleet_store, "row-b", ("b-1",)) as two:
        now_us = Clock().wall_us()
        one.store.record(a_reading("a-1", at_us=now_us - 60_000_000))
        two.store.record(a_reading("b-1", at_us=now_us - 5_000_000, status=Status.OB | Status.LB))
        for each, ups, at_us in ((one, "a-1", now_us), (two, "b-1", now_us + 1)):
            number = await each.store.order_intent(ups, "beeper.toggle", None, "Q\r", "cli:root")
            await each.store.order_outcome(number, OrderResult(ups, "beeper.toggle", None, Outcome.ACCEPTED))
            await each.store.record_now(an_event(ups=ups, at_us=at_us))
        await until(lambda: one.shipped() and two.shipped())
        with reading_fleet(fleet_store) as connection:
            found = {each.name: each for each in fleet_view.upses(connection)}
            assert {name: each.agent for name, each in found.items()} == {"a-1": "row-a", "a-2": "row-a", "b-1": "row-b"}
            assert found["a-2"].age_s is None
            assert 59 < (found["a-1"].age_s or 0) < 100
            assert found["b-1"].status == Status.OB | Status.LB
            assert found["b-1"].values["battery.voltage"] == 27.43
            agents = {each.name: each for each in fleet_view.agents(connection)}
            assert {name: (each.upses, each.site, each.armed) for name, each in agents.items()} == {
                "row-a": (2, "hall 1", True), "row-b": (1, "hall 1", True)
            }  # fmt: skip
            assert all(each.age_s < 30 for each in agents.values())
            told = [(name, stored.event.ups) for name, stored in fleet_view.events(connection)]
            assert told == [("row-a", "a-1"), ("row-b", "b-1")]
            orders = [(name, entry.target, entry.outcome) for name, entry in fleet_view.trail(connection)]
            assert sorted(orders) == [("row-a", "a-1", "accepted"), ("row-b", "b-1", "accepted")]


def test_a_database_that_is_no_fleet_store_is_told_so(postgres: Postgres) -> None:
    with pytest.raises(StoreError, match="is no fleet store yet"), reading_fleet(postgres.create()):
        pass


async def test_the_fleet_rolls_up_what_was_shipped_as_a_state_does(tmp_path: Path, fleet_store: str) -> None:
    from qxfleet.store.upkeep import keep_up_step

    forever = Retention(None, None, None, None)
    async with agent(tmp_path, fleet_store) as one:
        now_us = Clock().wall_us()
        begin_us = (now_us - 120_000_000) // 900_000_000 * 900_000_000 - 7_200_000_000
        for number in range(120):
            values = {"ups.load": 10.0 + number % 30}
            one.store.record(a_reading(at_us=begin_us + number * 60_000_000, values=values))
        await one.store.record_now()
        await until(one.shipped)
        while await one.store.commit(lambda connection: keep_up_step(connection, forever, now_us)):
            pass
        upkeep = FleetUpkeep(fleet_store, Clock(), forever, first_s=0.0)
        upkeep.start()
        count = text("SELECT (SELECT count(*) FROM reading_quarter), (SELECT count(*) FROM meta WHERE key LIKE 'late%')")
        await until(lambda: fetch(fleet_store, lambda connection: tuple(connection.execute(count).one())) == (8, 0))
        upkeep.close()

        def quarters(connection: Any) -> Any:
            return series.series(connection, "rack1-a", "ups.load", begin_us, now_us, 900).points

        assert await one.store.read(quarters) == fetch(fleet_store, quarters)
        with open_writing(fleet_store) as connection:
            assert retention(connection, Retention()) == forever, "what the first agent said stays"


OLD = (
    "INSERT INTO device (name, created) VALUES ('rack1-b', now()), ('rack1-a', now())",
    "INSERT INTO order_log (device_id, at, actor, name, sent) VALUES (2, now(), 'cli', 'load.off', 'x')",
    "INSERT INTO shutdown_arming (at, armed, actor, reason) VALUES (now(), true, 'cli:root', 'ready')",
    "INSERT INTO maintenance (device_id, started, actor, reason) VALUES (2, now(), 'cli:root', 'fan')",
    "INSERT INTO event (at, device_id, kind, name, value, text, severity, phase) "
    "VALUES (now(), 2, 'status', 'x', '', 'old', 1, 'point')",
    "INSERT INTO meta (key, value) VALUES ('schedule/monthly', '1790000000000000'), ('rolled-up-until.minute', '5')",
)


@pytest.mark.parametrize("first", [True, False], ids=["at the first start", "when it was away then"])
async def test_a_new_state_takes_over_what_its_agent_wrote_before(tmp_path: Path, postgres: Postgres, first: bool) -> None:
    url = postgres.create()
    upgrade_to(url, "0005")
    with open_writing(url) as connection:
        for statement in OLD:
            connection.execute(text(statement))
    one = Agent(tmp_path, url, "row-a", ("rack1-a", "rack1-b"), seeded=first)
    one.store.open()
    if not first:
        await one.store.commit(outbox.follow)
        await one.store.record_now(an_event(7))
        one.shipper.start()
        await until(one.shipped)
        one.shipper.close()
    empty = await one.store.read(adopt.empty)
    assert empty == first
    with bounded(url, 10, writing=True) as connection, connection.begin():
        taken = adopt.take(connection, one.who.uuid, empty=empty)
    sentence = await one.store.commit(lambda connection: adopt.put(connection, taken))
    assert sentence is not None
    assert "1 rows of shutdown_arming" in sentence
    one.store.learn_keys()
    assert await one.store.read(adopt.seeded) == ("same" if first else "below")
    try:
        arming = await one.store.read(shutdown.arming)
        assert arming is not None
        assert arming.armed
        assert [window.ups for window in await one.store.read(open_windows)] == ["rack1-a"]
        [order] = one.store.open_orders()
        assert (order.ups, order.id) == ("rack1-a", 1 if first else -1)
        number = await one.store.order_intent("rack1-b", "load.off", None, "y", "cli")
        assert number == (2 if first else 1)
        await one.store.record_now(an_event(8))
        one.shipper = one.new_shipper()
        if first:
            await one.store.commit(outbox.follow)
        one.shipper.start()
        await until(one.shipped)
        for query in (history.events, history.orders):
            here, there = await one.store.read(query), fetch(url, query)
            assert len(here) == len(there), "nothing twice in the fleet store"
        assert fetch(url, lambda connection: connection.scalar(text("SELECT count(*) FROM event WHERE agent_id IS NULL"))) == 0
    finally:
        await one.stop()


async def test_nothing_of_another_agents_is_taken(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store, "row-a", ("a-1",)) as one:
        await one.store.commit(shutdown.arm(shutdown.Arming(1, True, "cli", "")))
        await until(one.shipped)
        with bounded(fleet_store, 10, writing=True) as connection, connection.begin():
            assert adopt.take(connection, "another", empty=True) is None


async def test_a_hanging_server_holds_nobody_who_reads(postgres: Postgres, fleet_store: str) -> None:
    import signal

    from tests.store.test_shipper import signal_server

    signal_server(postgres, signal.SIGSTOP)
    try:
        with pytest.raises(StoreError):
            await asyncio.wait_for(asyncio.to_thread(lambda: fetch_all(fleet_store)), 30)
    finally:
        signal_server(postgres, signal.SIGCONT)


def fetch_all(url: str) -> None:
    with reading_fleet(url, 1.0) as connection:
        fleet_view.agents(connection)
