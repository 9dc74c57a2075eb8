"""The database does not answer for a while: what happens is told all the same, and no order goes out without a record."""

from __future__ import annotations

import asyncio
import bisect
import sqlite3
import time
from asyncio.subprocess import PIPE, STDOUT
from contextlib import closing

import pytest

from qxfleet.agent.fleet import RECORD_S
from qxfleet.interfaces.control import STORED_WITHIN_S
from qxfleet.model.events import Outcome
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from tests.conftest import Postgres
from tests.scenarios.play import SOAK, Follower, Play, family, measured, until
from tests.store.test_side import locked


def kept(follower: Follower, *names: str) -> list[bool]:
    """Of the events with these names so far, in order: was it in the database when it was told?"""
    return [bool(item["stored"]) for item in follower.items if item["event"]["name"] in names]


async def told_by(play: Play, *arguments: str) -> str:
    """All that a command says, which must go well."""
    process = await asyncio.create_subprocess_exec(*play.command(*arguments), stdout=PIPE, stderr=STDOUT)
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_events_are_told_and_orders_carried_out_while_the_state_is_locked() -> None:
    now = asyncio.get_running_loop().time
    async with Play(family(4), agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        spool = play.folder / "fleet.db.spool"
        await play.ask("set", ups="ups-01", name="ups.delay.start", value="180")
        await until(lambda: len(kept(follower, "ups.delay.start")) == 1, 20, "an event")
        assert all(kept(follower, "ups.delay.start"))

        with closing(sqlite3.connect(play.folder / "fleet.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            play.tell("mains off ups-02")
            failed_s = now()
            await until(lambda: follower.told("on-battery") == [("ups-02", "on-battery", "begin")], 20, "the outage is told")
            measured(f"outage with the state locked: told after {now() - failed_s:.2f} s")
            assert kept(follower, "on-battery") == [False]

            asked_s = now()
            answer = await play.ask("command", ups="ups-01", name="beeper.toggle")
            assert now() - asked_s < RECORD_S, "the side file has the record"
            assert answer["result"]["outcome"] == "accepted"
            await until(lambda: len(follower.told("state-trouble")) == 1, 20, "it is told")
            said = f"database is locked (another process holds the write lock; it is retried); what happens is kept in {spool}"
            for command in (["status"], ["shutdown", "status"], ["events"]):
                for shown in (command, [*command, "--json"]):
                    found = await told_by(play, *shown)
                    assert found.count(said) == 1 and "the state takes no records since 20" in found, found
            play.tell("mains off group:feed-a")
            failed_s = now()
            await until(lambda: len(follower.told("on-battery")) == 3, 20, "the outage of two more")
            assert now() - failed_s < 1.0 + STORED_WITHIN_S + 1.0, "nobody waits again for a state that is known to be locked"
            other.execute("ROLLBACK")

        async def stored_again() -> bool:
            await play.ask("set", ups="ups-01", name="ups.delay.start", value="180")
            return kept(follower, "ups.delay.start")[-1]

        await until(stored_again, 15, "the state takes records again")
        for command in ("status", "events"):
            assert "the state takes no" not in await told_by(play, command)
        await until(lambda: len(follower.told("state-well")) == 1, 20, "it is told")
        assert [request for _, request in play.asked("ups-01")].count(b"Q\r") == 1
        assert await play.stop() == 0

        engine = open_engine(play.database, writing=False)
        try:
            with engine.connect() as connection:
                stored = [item.event.as_json() for item in history.events(connection)]
                assert all(event in stored for event in follower.events)
                orders = {order.ups: order for order in history.orders(connection) if order.name == "beeper.toggle"}
        finally:
            engine.dispose()
        assert orders["ups-01"].outcome is Outcome.ACCEPTED
        assert not (play.folder / "fleet.db.spool").exists()


@pytest.mark.parametrize("how", ["immediate", "exclusive"])
async def test_an_agent_stopped_while_another_process_holds_the_state_ends_well(how: str) -> None:
    """What it could not write is in the side file, and the next start has it."""
    async with Play(family(4), agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        if how == "exclusive":
            assert await play.stop() == 0
        with locked(play.folder / "fleet.db", how):
            if how == "exclusive":
                await play.start()
                await play.all_online()
            assert (await play.ask("command", ups="ups-01", name="beeper.toggle"))["result"]["outcome"] == "accepted"
            assert await play.stop() == 0, play.log()
            assert "unwritten" not in play.log() and "Traceback" not in play.log()
        await play.start()
        await until(lambda: not (play.folder / "fleet.db.spool").exists(), 30, "the next start joins it")
        assert await play.stop() == 0
        engine = open_engine(play.database, writing=False)
        try:
            with engine.connect() as connection:
                [order] = history.orders(connection)
                stopped = [item for item in history.events(connection) if item.event.name == "agent-stopped"]
        finally:
            engine.dispose()
        assert order.outcome is Outcome.ACCEPTED
        assert len(stopped) == (3 if how == "exclusive" else 2)


UPSES, AWAY_S = (250, 600.0) if SOAK else (6, 4.0)


@pytest.mark.timeout(1500 if SOAK else 120)
async def test_a_fleet_store_that_is_away_for_minutes_lacks_no_poll_and_no_event(postgres: Postgres) -> None:
    """Every poll that the UPSes answered is a row there in the end, and the outage in the midst of it is told and stored; ten
    minutes in the long form. The agent is killed and started again while the server is away."""
    loop = asyncio.get_running_loop()
    agent = {"poll_interval": '"2s"', "record": '"all"'}
    async with Play(family(UPSES), database=postgres.create(), agent=agent) as play:

        async def shipped() -> bool:
            store = (await play.ask("status"))["result"]["fleet_store"]
            return store["state"] == "ok" and store["records"] == 0 and store["readings"] == 0

        hit = sorted(play.farm.upses)[1]
        await play.start(wait=False)
        await until(play._answers, 120, "the agent answers")
        await play.all_online(240)
        wall_s = time.time() - loop.time()
        began_s = loop.time()
        await asyncio.sleep(4)
        postgres.stop()
        try:
            await asyncio.sleep(AWAY_S / 4)
            follower = await play.follow()
            play.tell(f"mains off {hit}")
            await asyncio.sleep(AWAY_S / 4)
            await until(lambda: len(follower.told("on-battery")) == 1, 40, "the outage is told")
            play.tell(f"mains on {hit}")
            await until(lambda: len(follower.told("on-battery")) == 2, 40, "the outage is over")
            await asyncio.sleep(0.5)
            killed_s = loop.time()
            await play.kill()
            await play.start(wait=False)
            await until(play._answers, 120, "the agent answers")
            await play.all_online(240)
            again_s = loop.time()
            await asyncio.sleep(AWAY_S / 2)
        finally:
            postgres.restart()
        back_s = loop.time()
        engine = open_engine(play.database, writing=False)
        try:
            # events first: they are all there while readings still come
            def events_stored() -> bool:
                with engine.connect() as connection:
                    return {"on-battery"} <= {item.event.name for item in history.events(connection, [hit])}

            await until(events_stored, 20, "the outage is stored")
            events_s = loop.time() - back_s
            await until(shipped, 60 + AWAY_S, "all is shipped")
            caught_up_s = loop.time() - back_s
            ended_s = loop.time()
            await asyncio.sleep(4)
            await until(shipped, 60, "what came since is shipped too")
            assert await play.stop() == 0
            with engine.connect() as connection:
                told = [item.event for item in history.events(connection, [hit]) if item.event.name == "on-battery"]
                missing, polls, rows = 0, 0, 0
                for ups in play.farm.upses:
                    stored = [point.at_us / 1e6 - wall_s for point in history.readings(connection, ups, "input.voltage")]
                    asked = [at for at in play.polls(ups) if began_s <= at < ended_s and not killed_s - 2 <= at < again_s]
                    polls += len(asked)
                    rows += len(stored)
                    missing += sum(1 for at in asked if not any(at - 0.1 <= row < at + 1.9 for row in near(stored, at)))
        finally:
            engine.dispose()
        measured(
            f"server away for {back_s - began_s - 4:.0f} s under {UPSES} UPSes, agent killed in between: {polls} polls, "
            f"{missing} of them not there; events after {events_s:.1f} s, all after {caught_up_s:.1f} s; {rows} rows in all"
        )
        assert polls > UPSES * AWAY_S / 2.5
        assert missing == 0
        assert [event.phase.value for event in told] == ["begin", "end"]


def near(times: list[float], at_s: float) -> list[float]:
    """The times around one of them."""
    place = bisect.bisect_left(times, at_s)
    return times[max(0, place - 2) : place + 3]
