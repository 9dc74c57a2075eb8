"""From the state of an agent into the fleet store, whatever the server does meanwhile: real servers, real threads."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.model.status import Status
from qxfleet.store import history, outbox, shutdown
from qxfleet.store.batteries import drop_discharges
from qxfleet.store.engine import open_engine
from qxfleet.store.fleet import AgentIdentity, forget_agent
from qxfleet.store.migrate import run_revisions
from qxfleet.store.series import series
from qxfleet.store.shipper import Shipper, Turn
from qxfleet.store.store import Store
from qxfleet.store.tiers import MINUTE, put, roll_up_step
from tests.conftest import Postgres
from tests.scenarios.play import SOAK, measured
from tests.store.conftest import T0_US, a_reading, an_event


class Agent:
    """A state with its store and its shipper."""

    def __init__(self, folder: Path, url: str, name: str = "row-a", upses: tuple[str, ...] = ("rack1-a",), **more: Any) -> None:
        self.path = folder / f"{name}.db"
        self.turns: list[Turn] = []
        self.store = Store(f"sqlite:///{self.path}", clock=Clock(), keep="all")
        self.who = AgentIdentity(str(uuid.uuid5(uuid.NAMESPACE_DNS, name + str(folder))), name, "hall 1", "1.0")
        self.url, self.upses, self.more = url, upses, more
        self.shipper = self.new_shipper()

    def new_shipper(self) -> Shipper:
        return Shipper(
            self.path, self.url, self.who, self.upses, clock=Clock(), tell=self.turns.append, armed=lambda: True, **self.more
        )

    async def start(self) -> None:
        self.store.open()
        await self.store.commit(outbox.follow)
        self.shipper.start()

    async def stop(self) -> None:
        self.shipper.close()
        await self.store.close()

    @property
    def states(self) -> list[str]:
        return [turn.state for turn in self.turns]

    def shipped(self) -> bool:
        """Whether the server has everything that is committed here."""
        with closing(sqlite3.connect(self.path)) as state:
            ends = {stream: outbox.ends(state, stream) for stream in (outbox.RECORDS, outbox.READINGS)}
        done = self.shipper.shipped()
        return all(before == end or (done.get(stream) or [(0, 0)])[0][1] >= end for stream, (before, end) in ends.items())


@asynccontextmanager
async def agent(folder: Path, url: str, *arguments: Any, **more: Any) -> AsyncIterator[Agent]:
    made = Agent(folder, url, *arguments, **more)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def until(true: Callable[[], Any], within_s: float = 30.0, what: str = "") -> None:
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, what or "in vain"
        await asyncio.sleep(0.02)


@contextmanager
def looking(url: str) -> Iterator[Any]:
    engine = open_engine(url, writing=False)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def fetch(url: str, query: Callable[[Any], Any]) -> Any:
    with looking(url) as connection:
        return query(connection)


@pytest.fixture
def fleet_store(postgres: Postgres, postgres_template: str) -> str:
    return postgres.create(postgres_template)


async def test_events_orders_and_readings_arrive_as_they_were_written(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store) as one:
        number = await one.store.order_intent("rack1-a", "shutdown.return", "30", "S.5R0003\r", "cli:root")
        await one.store.record_now(an_event(), an_event(1, ups=None))
        now_us = Clock().wall_us()
        for second in range(5):
            values = {"battery.voltage": 27.0 + second / 10, "battery.charge.low": 20.0 + second}
            one.store.record(a_reading(at_us=now_us + second * 1_000_000, values=values, status=Status.OB))
        await one.store.record_now()
        await until(one.shipped)
        await one.store.order_outcome(number, OrderResult("rack1-a", "shutdown.return", "30", Outcome.ACCEPTED, reply="ACK"))
        await until(one.shipped)
        for query in (history.orders, history.events):
            here, there = await one.store.read(query), fetch(fleet_store, query)
            assert [_without_id(row) for row in here] == [_without_id(row) for row in there]
            assert here
        for variable in ("battery.voltage", "battery.charge.low", "ups.load"):
            here = await one.store.read(lambda connection, v=variable: history.readings(connection, "rack1-a", v))
            assert here == fetch(fleet_store, lambda connection, v=variable: history.readings(connection, "rack1-a", v))
            assert here
    assert one.states == ["ok"]


def _without_id(row: Any) -> Any:
    return replace(row, id=0)


# A server in trouble


async def test_a_server_that_is_away_is_told_once_and_gets_everything_later(
    tmp_path: Path, postgres: Postgres, fleet_store: str
) -> None:
    postgres.stop()
    try:
        async with agent(tmp_path, fleet_store) as one:
            await one.store.record_now(an_event())
            await until(lambda: one.states == ["away"])
            assert "is the server running and reachable from here?" in one.turns[0].text
            one.store.record(a_reading(at_us=Clock().wall_us()))
            await one.store.record_now(an_event(1))
            await until(lambda: one.shipper.health().records == 2 + 1 and one.shipper.health().readings == 1)
            postgres.restart()
            await until(one.shipped)
            await until(lambda: one.states == ["away", "ok"])
            for number in range(2, 5):
                postgres.stop()
                await one.store.record_now(an_event(number))
                postgres.restart()
            await until(one.shipped)
            await until(lambda: one.states[-1] == "ok")
            assert [row.event.text for row in fetch(fleet_store, history.events)] == [f"event {n}" for n in range(5)]
    finally:
        if not (postgres.folder / "data" / "postmaster.pid").exists():
            postgres.restart()


def signal_server(postgres: Postgres, number: int) -> None:
    """The postmaster and every backend of it."""
    [master, *_] = (postgres.folder / "data" / "postmaster.pid").read_text().split()
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    for pid in (master, *children):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)


async def test_a_server_that_hangs_is_cut_off_told_once_and_holds_nobody_up(
    tmp_path: Path, postgres: Postgres, fleet_store: str
) -> None:
    async with agent(tmp_path, fleet_store, answer_s=1.0) as one:
        await one.store.record_now(an_event())
        await until(one.shipped)
        await until(lambda: one.states == ["ok"])
        signal_server(postgres, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            await asyncio.wait_for(one.store.record_now(an_event(1)), 20)
            await until(lambda: len(one.turns) == 2)
            assert one.turns[1].state == "away"
            assert "did not answer within 1 s" in one.turns[1].text
            assert one.shipper.health().trouble == one.turns[1].text.partition(";")[0]
            assert time.monotonic() - began_s < 20
            closing_s = time.monotonic()
            one.shipper.close()
            assert time.monotonic() - closing_s < 3
            one.shipper = one.new_shipper()
            one.shipper.start()
        finally:
            signal_server(postgres, signal.SIGCONT)
        await until(one.shipped)
        assert len(fetch(fleet_store, history.events)) == 2


async def test_a_full_server_is_told_once(tmp_path: Path, postgres: Postgres, fleet_store: str) -> None:
    name = str(make_url(fleet_store).database)
    postgres.sql(FULL, name)
    async with agent(tmp_path, fleet_store) as one:
        await one.store.record_now(an_event())
        await until(lambda: one.shipper._failures > 3)
        assert one.states == ["away"]
        assert "No space left on device" in one.turns[0].text
        postgres.sql("DROP TRIGGER full_disk ON event", name)
        await until(one.shipped)
        await until(lambda: one.states == ["away", "ok"])


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON event EXECUTE FUNCTION full_disk();
"""


async def test_a_row_that_the_server_can_not_hold_is_left_out_and_told(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store) as one:
        await one.store.record_now(an_event(0))
        await one.store.commit(lambda connection: connection.execute(text(ODD)))
        await one.store.record_now(an_event(1))
        await until(one.shipped)
        assert [row.event.text for row in fetch(fleet_store, history.events)] == ["event 0", "event 1"]
        [told] = [turn.text for turn in one.turns if turn.state == "row"]
        assert told.startswith("row [2] of event was not shipped to the fleet store: ")


async def test_readings_that_come_twice_are_there_once(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store) as one:
        now_us = Clock().wall_us()
        for second in range(10):
            one.store.record(a_reading(at_us=now_us + second))
        await one.store.record_now(an_event())
        await until(one.shipped)
        one.shipper.close()
        with open_writing(fleet_store) as connection:
            connection.execute(text("DELETE FROM shipped"))
            connection.execute(text("DELETE FROM reading WHERE at IN (SELECT at FROM reading LIMIT 3)"))
        one.shipper = one.new_shipper()
        one.shipper.start()
        await until(one.shipped)
        assert fetch(fleet_store, lambda connection: connection.scalar(text("SELECT count(*) FROM reading"))) == 10
        assert len(fetch(fleet_store, history.events)) == 1


async def test_what_is_gone_here_goes_there(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store) as one:
        await one.store.commit(lambda connection, device: connection.execute(text(DISCHARGE), {"device": device}), "rack1-a")
        await until(one.shipped)
        count = text("SELECT (SELECT count(*) FROM discharge), (SELECT count(*) FROM discharge_point)")
        assert fetch(fleet_store, lambda connection: connection.execute(count).one()) == (1, 0)
        await one.store.commit(
            lambda connection: connection.execute(
                text("INSERT INTO discharge_point (discharge_id, at, status) VALUES (1, 5, 2)")
            )
        )
        await until(one.shipped)
        assert fetch(fleet_store, lambda connection: connection.execute(count).one()) == (1, 1)
        await one.store.commit(lambda connection: drop_discharges(connection, 1, 0, 10, ()))
        await until(one.shipped)
        assert fetch(fleet_store, lambda connection: connection.execute(count).one()) == (0, 0)


DISCHARGE = "INSERT INTO discharge (device_id, began, cause, rested, points, gap_s) VALUES (:device, 5, 'mains', 0, 1, 1.0)"


ODD = "INSERT INTO event (at, kind, name, value, text, severity, phase) VALUES (1, 'agent', 'odd', '', '', 99999, 'once')"
OLD = (
    "INSERT INTO event (at, device_id, kind, name, value, text, severity, phase) "
    "VALUES (now(), 1, 'status', 'old', '', 'old', 1, 'once')"
)


# Several agents


async def test_two_agents_keep_their_rows_apart(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store, "row-a", ("a-1",)) as one, agent(tmp_path, fleet_store, "row-b", ("b-1",)) as two:
        for each, ups in ((one, "a-1"), (two, "b-1")):
            run = each.store.new_key("shutdown_run")
            assert run == 1
            await each.store.commit(shutdown.begin_run(run, True, f"mains of {ups}", {}, None, 1_000_000))
            await each.store.commit(shutdown.go_on(run, [], [shutdown.StoredStep(1, "stop", f"host-{ups}", {}, 1_000_000)]))
            await each.store.record_now(an_event(ups=ups))
        await two.store.commit(shutdown.end_run(1, "done", "all are back", 2_000_000))
        await until(lambda: one.shipped() and two.shipped())
        runs = {run.actor: run for run in fetch(fleet_store, lambda connection: shutdown.runs(connection, 10))}
        assert {actor: run.ended_us for actor, run in runs.items()} == {"mains of a-1": None, "mains of b-1": 2_000_000}
        assert [step.target for step in runs["mains of a-1"].steps] == ["host-a-1"]
        assert [step.target for step in runs["mains of b-1"].steps] == ["host-b-1"]
        names = text("SELECT a.name, d.name FROM event e JOIN agent a ON a.id = e.agent_id JOIN device d ON d.id = e.device_id")
        assert set(fetch(fleet_store, lambda connection: connection.execute(names).all())) == {
            ("row-a", "a-1"),
            ("row-b", "b-1"),
        }


async def test_a_ups_that_another_agent_has_is_refused_with_its_name(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store, "row-a", ("shared", "a-1")) as one:
        await until(lambda: one.states == ["ok"])
        async with agent(tmp_path, fleet_store, "row-b", ("shared",)) as two:
            await two.store.record_now(an_event(ups="shared"))
            await until(lambda: two.states == ["refused"])
            assert "UPS shared belongs to agent row-a in the fleet store (site hall 1), last seen 20" in two.turns[0].text
            assert "qxfleet fleet forget row-a" in two.turns[0].text
            assert two.shipper.health().records is not None
            assert fetch(fleet_store, history.events) == []
            one.shipper.watch(("a-1",))
            await until(two.shipped)
            await until(lambda: two.states == ["refused", "ok"])
            assert len(fetch(fleet_store, history.events)) == 1


async def test_an_agent_of_the_same_name_is_refused_until_the_other_is_forgotten(tmp_path: Path, fleet_store: str) -> None:
    (tmp_path / "other").mkdir()
    async with agent(tmp_path, fleet_store, "row-a", ("a-1",)) as one:
        await until(lambda: one.states == ["ok"])
    async with agent(tmp_path / "other", fleet_store, "row-a", ("a-1",)) as two:
        await until(lambda: two.states == ["refused"])
        assert two.turns[0].text.startswith("the fleet store takes nothing from this agent: another agent is named row-a")
        alive = r"agent row-a was in touch at 20.*: it is not gone; stop it first"
        with pytest.raises(StoreError, match=alive), open_writing(fleet_store) as connection:
            forget_agent(connection, "row-a")
        with open_writing(fleet_store) as connection:
            connection.execute(text("UPDATE agent SET seen = seen - interval '1 day'"))
            assert (
                forget_agent(connection, "row-a") == "row-a is forgotten: its name and its 1 UPSes are free, its history stays"
            )
        await until(lambda: two.states == ["refused", "ok"])


@contextmanager
def open_writing(url: str) -> Iterator[Any]:
    engine = open_engine(url, writing=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


# Before there was a fleet


def upgrade_to(url: str, revision: str) -> None:
    with open_writing(url) as connection:
        run_revisions(connection, revision)


async def test_turning_the_fleet_on_ships_what_the_state_holds(tmp_path: Path, fleet_store: str) -> None:
    one = Agent(tmp_path, fleet_store)
    one.store.open()
    day_us = 86_400_000_000
    now_us = Clock().wall_us()
    for number in range(50):
        one.store.record(a_reading(at_us=now_us - 3 * day_us + number * day_us // 20))
        one.store.record_event(an_event(number))
    await one.store.record_now()
    await one.store.commit(
        lambda connection: connection.execute(text("DELETE FROM reading WHERE at < :at"), {"at": now_us - 2 * day_us})
    )
    await one.stop()
    one = Agent(tmp_path, fleet_store)
    await one.start()
    try:
        await until(one.shipped)
        for query in (history.events, lambda connection: history.readings(connection, "rack1-a", "ups.load")):
            here, there = await one.store.read(query), fetch(fleet_store, query)
            assert len(here) == len(there) > 20
    finally:
        await one.stop()


async def test_rows_from_before_the_fleet_go_to_the_first_agent(tmp_path: Path, postgres: Postgres) -> None:
    url = postgres.create()
    upgrade_to(url, "0005")
    with open_writing(url) as connection:
        connection.execute(text("INSERT INTO device (name, created) VALUES ('rack1-a', now()), ('rack1-b', now())"))
        connection.execute(text(OLD))
    async with agent(tmp_path, url, "row-a", ("rack1-a",), seeded=False) as one:
        await one.store.record_now(an_event())
        await until(one.shipped)
        assert one.turns[0].state == "set-up"
        assert one.turns[0].text == "the database of schema 0005 is the fleet store now, schema fleet_0002; its rows are kept"
        rows = text("SELECT a.name, e.row, e.text FROM event e JOIN agent a ON a.id = e.agent_id ORDER BY e.id")
        assert fetch(url, lambda connection: connection.execute(rows).all()) == [("row-a", -1, "old"), ("row-a", 1, "event 0")]


async def test_an_outbox_that_is_too_large_thins_to_minutes_and_loses_no_event(tmp_path: Path, fleet_store: str) -> None:
    one = Agent(tmp_path, fleet_store)
    one.store.open()
    await one.store.commit(outbox.follow)
    now_us = Clock().wall_us()
    begin_us = now_us - 7_200_000_000
    begin_us -= begin_us % 900_000_000
    for number in range(300):
        one.store.record(a_reading(at_us=begin_us + number * 10_000_000, values={"ups.load": 10.0 + number % 7}))
        one.store.record_event(an_event(number))
    await one.store.record_now()
    while await one.store.commit(lambda connection: roll_up_step(connection, now_us)):
        pass
    thinned = 0
    while gone := await one.store.commit(lambda connection: outbox.thin(connection, [])):
        thinned += gone
    assert thinned == 300
    one.shipper.start()
    try:
        await until(one.shipped)
        count = text(
            "SELECT (SELECT count(*) FROM reading), (SELECT count(*) FROM reading_minute_v), (SELECT count(*) FROM event)"
        )
        assert fetch(fleet_store, lambda connection: tuple(connection.execute(count).one())) == (0, 50, 300)

        def minutes(connection: Any) -> Any:
            return series(connection, "rack1-a", "ups.load", begin_us, begin_us + 3_000_000_000, 60).points

        here = await one.store.read(minutes)
        assert [point.mean for point in here[:3]] != []
        with open_writing(fleet_store) as connection:  # the fleet knows how far its own roll-up got only when it has readings
            put(connection, MINUTE.mark, now_us)
        assert fetch(fleet_store, minutes) == here
    finally:
        await one.stop()


async def test_a_day_of_what_was_shipped_stays(tmp_path: Path, fleet_store: str) -> None:
    async with agent(tmp_path, fleet_store) as one:
        one.store.record(a_reading(at_us=Clock().wall_us()))
        await one.store.record_now(an_event())
        await until(one.shipped)
        for age_us, left in ((outbox.KEPT_US, 1), (-1_000_000, 0)):
            for stream, done in one.shipper.shipped().items():
                before_us = Clock().wall_us() - age_us
                await one.store.commit(
                    lambda connection, s=stream, d=done, b=before_us: outbox.forget(connection, s, d, b)
                )
                with closing(sqlite3.connect(one.path)) as state:
                    assert bool(state.execute(f"SELECT count(*) FROM {stream}").fetchone()[0]) == bool(left)
        await one.store.record_now(an_event(1))
        await until(lambda: len(fetch(fleet_store, history.events)) == 2)


# A state that is put back from an older copy


@pytest.mark.parametrize("since", [1, 9], ids=["short of the marks", "beyond the marks before the first contact"])
async def test_an_older_copy_of_a_state_ships_what_is_new_and_writes_nothing_over(
    tmp_path: Path, fleet_store: str, since: int
) -> None:
    copy = tmp_path / "copy.db"

    def texts(connection: Any) -> list[str]:
        return sorted(connection.scalars(text("SELECT text FROM event")))

    async with agent(tmp_path, fleet_store) as one:
        for number in range(3):
            await one.store.record_now(an_event(number))
        one.store.record(a_reading(at_us=T0_US))
        await one.store.record_now()
        await until(one.shipped)
    shutil.copy(one.path, copy)
    async with agent(tmp_path, fleet_store) as one:
        for number in range(10, 15):
            await one.store.record_now(an_event(number))
        number = await one.store.order_intent("rack1-a", "beeper.toggle", None, "Q\r", "cli:root")
        await one.store.order_outcome(number, OrderResult("rack1-a", "beeper.toggle", None, Outcome.ACCEPTED))
        one.store.record(a_reading(at_us=T0_US + 1))
        await one.store.record_now()
        await until(one.shipped)
    shutil.copy(copy, one.path)
    one = Agent(tmp_path, fleet_store)
    one.store.open()
    await one.store.commit(outbox.follow)
    for number in range(20, 20 + since):
        await one.store.record_now(an_event(number))
    one.store.record(a_reading(at_us=T0_US + 2))
    await one.store.record_now()
    one.shipper.start()
    try:
        await until(one.shipped)
        later = [f"event {number}" for number in (0, 1, 2, *range(10, 15), *range(20, 20 + since))]
        await until(lambda: fetch(fleet_store, texts) == sorted(later))
        assert fetch(fleet_store, lambda connection: connection.scalar(text("SELECT count(*) FROM reading"))) == 3
        assert fetch(fleet_store, lambda connection: connection.scalar(text("SELECT count(*) FROM order_log"))) == 1
        assert one.states[0] == "restored"
        assert one.turns[0].text.startswith("this state is an older copy than what was shipped: ")
        mine = text('SELECT "row", text FROM event WHERE "row" > 0')
        own = fetch(fleet_store, lambda connection: connection.execute(mine).all())
        with closing(sqlite3.connect(one.path)) as state:
            assert sorted(own) == sorted(state.execute("SELECT id, text FROM event").fetchall())
    finally:
        await one.stop()
    async with agent(tmp_path, fleet_store) as one:
        await one.store.record_now(an_event(99))
        await until(one.shipped)
        assert "restored" not in one.states


# A standby that lacks what was shipped last


class Standby:
    """A copy of a running server that follows it, until it is cut off and promoted in its place."""

    def __init__(self, postgres: Postgres, folder: Path) -> None:
        folder.chmod(0o755)
        self.primary, self.folder = postgres, folder / "standby"
        self.folder.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
        postgres._run(
            "pg_basebackup",
            "-h",
            postgres.folder,
            "-U",
            "postgres",
            "-D",
            self.folder / "data",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        self._start(self.folder)

    def _start(self, sockets: Path) -> None:
        options = f"-k {sockets} -c listen_addresses='' -c fsync=off -c max_connections=50"
        self.primary._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")

    def sql(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def cut_off(self) -> None:
        """Follow no longer; returns when nothing comes any more."""
        self.sql("ALTER SYSTEM SET primary_conninfo = ''")
        self.sql("SELECT pg_reload_conf()")
        give_up_s = time.monotonic() + 20
        while self.receives():
            assert time.monotonic() < give_up_s, "the standby still follows"
            time.sleep(0.01)

    def receives(self) -> bool:
        """Whether it follows the primary now."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            return connection.execute("SELECT 1 FROM pg_stat_wal_receiver").fetchone() is not None

    def readings(self, database: str) -> int:
        """How many readings it holds, asked of itself."""
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname=database) as connection:
            row = connection.execute("SELECT count(*) FROM reading").fetchone()
        assert row is not None
        return int(row[0])

    def promote(self) -> None:
        """Take the primary's place, at its address; the primary is stopped already."""
        self.stop()
        self._start(self.primary.folder)
        self.primary._run("pg_ctl", "-D", self.folder / "data", "-w", "promote")

    def stop(self) -> None:
        self.primary._run("pg_ctl", "-D", self.folder / "data", "-m", "fast", "-w", "stop")


async def test_a_promoted_standby_gets_again_what_it_lacks(tmp_path: Path, postgres: Postgres, fleet_store: str) -> None:
    with tempfile.TemporaryDirectory(prefix="qxsb", dir="/tmp") as folder:
        standby = Standby(postgres, Path(folder))
        promoted = False
        try:
            async with agent(tmp_path, fleet_store) as one:
                now_us = Clock().wall_us()
                for number in range(300):
                    one.store.record(a_reading(at_us=now_us + number * 1000))
                    one.store.record_event(an_event(number))
                    if number == 100:
                        await one.store.record_now()
                        await until(one.shipped)
                        standby.cut_off()
                    await asyncio.sleep(0.002)
                await one.store.record_now()
                await until(one.shipped)
                postgres.stop()
                one.store.record_event(an_event(300))
                # asked before it is promoted: the shipper is back within milliseconds
                held = standby.readings(str(make_url(fleet_store).database))
                assert held < 300, "nothing was lost by the failover: the test shows nothing"
                standby.promote()
                promoted = True
                await one.store.record_now(an_event(301))
                await until(lambda: len(fetch(fleet_store, history.events)) == 302)
                await until(lambda: fetch(fleet_store, lambda c: c.scalar(text("SELECT count(*) FROM reading"))) == 300)
                told = [row.event.text for row in fetch(fleet_store, history.events)]
                assert sorted(told) == sorted(f"event {number}" for number in range(302))
                assert one.states == ["ok", "away", "ok"]
        finally:
            with contextlib.suppress(RuntimeError):
                standby.stop()
            if promoted or not (postgres.folder / "data" / "postmaster.pid").exists():
                postgres.restart()


SHIP = """
import os, sys, time, uuid
from pathlib import Path
from qxfleet.model.clock import Clock
from qxfleet.store.fleet import AgentIdentity
from qxfleet.store.series import series
from qxfleet.store.shipper import Shipper
import sqlalchemy.dialects.postgresql.psycopg
state, url = sys.argv[1:]
who = AgentIdentity(str(uuid.UUID(int=7)), "row-a")
for _ in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid == 0:
        Shipper(Path(state), url, who, ["rack1-a"], clock=Clock(), tell=lambda turn: None).start()
        time.sleep(600)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


@contextmanager
def shippers(state: Path, url: str) -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Processes that ship, one after the other, each killed with -9; forked from one that has imported everything."""
    command = [sys.executable, "-c", SHIP, str(state), url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as mother:

        @contextmanager
        def one() -> Iterator[None]:
            assert mother.stdin is not None and mother.stdout is not None
            mother.stdin.write("go\n")
            mother.stdin.flush()
            pid = int(mother.stdout.readline())
            try:
                yield
            finally:
                os.kill(pid, signal.SIGKILL)
                mother.stdout.readline()

        yield one


@pytest.mark.timeout(3600 if SOAK else 180)
async def test_nothing_is_lost_or_doubled_by_kills_and_stops_under_load(
    tmp_path: Path, postgres: Postgres, fleet_store: str
) -> None:
    """The shipper killed with -9 and the server stopped at once, again and again, while rows come."""
    kills, stops = (1000, 100) if SOAK else (6, 2)
    one = Agent(tmp_path, fleet_store)
    one.store.open()
    await one.store.commit(outbox.follow)
    chance = random.Random(13)
    numbers = itertools.count()
    try:
        with shippers(one.path, fleet_store) as shipping:
            for turn in range(kills):
                with shipping():
                    until_s = time.monotonic() + chance.uniform(0.1, 0.8)
                    stop_now = turn % (kills // stops) == 1
                    while time.monotonic() < until_s:
                        for number in itertools.islice(numbers, 20):
                            one.store.record(a_reading(at_us=1_790_000_000_000_000 + number * 1000))
                            one.store.record_event(an_event(number))
                        await one.store.record_now()
                        await asyncio.sleep(0.01)
                        if stop_now:
                            postgres.stop()
                            postgres.restart()
                            stop_now = False
        count = next(numbers)
        one.who = AgentIdentity(str(uuid.UUID(int=7)), "row-a")
        one.shipper = one.new_shipper()
        one.shipper.start()
        await until(one.shipped, 1800 if SOAK else 120)
        events = text("SELECT count(*), count(DISTINCT text) FROM event")
        readings = text("SELECT count(*), count(DISTINCT at) FROM reading")
        assert fetch(fleet_store, lambda connection: connection.execute(events).one()) == (count, count)
        assert fetch(fleet_store, lambda connection: connection.execute(readings).one()) == (count, count)
        measured(
            f"{kills} kill -9 of the shipper, {stops} immediate stops of PostgreSQL: {count} events, {count} readings, each once"
        )
    finally:
        await one.stop()
