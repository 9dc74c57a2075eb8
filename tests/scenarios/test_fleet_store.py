"""Real agents and a real PostgreSQL as the fleet store: whatever it does, the agents act as if it were not there."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, STDOUT
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from qxfleet.dialects.registry import dialect_named
from qxfleet.store import fleet_view, history
from qxfleet.store.engine import open_engine
from qxfleet.store.fleet_view import reading_fleet
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.conftest import Postgres
from tests.scenarios.play import Play, family, measured, until
from tests.store.test_shipper import signal_server


def rows(url: str, query: Any) -> Any:
    engine = open_engine(url, writing=False)
    try:
        with engine.connect() as connection:
            return query(connection)
    finally:
        engine.dispose()


async def store_state(play: Play) -> str:
    found = (await play.ask("status"))["result"].get("fleet_store")
    return str(found["state"]) if found else "none"


async def test_an_agent_ships_what_it_sees_and_an_event_is_there_within_a_second(postgres: Postgres) -> None:
    url = postgres.create()
    async with Play(family(3), database=url, agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()

        async def shipping() -> bool:
            return await store_state(play) == "ok"

        await until(shipping, 30, "the fleet store is set up")
        follower = await play.follow()
        hit = sorted(play.farm.upses)[0]
        lags = []
        for turn in range(6):
            count = len(follower.told("on-battery"))
            play.tell(f"mains {'off' if turn % 2 == 0 else 'on'} {hit}")
            await until(lambda c=count: len(follower.told("on-battery")) > c, 20, "told")
            told_s = time.monotonic()
            await until(
                lambda c=count: len([e for e in rows(url, history.events) if e.event.name == "on-battery"]) > c, 20, "shipped"
            )
            lags.append(time.monotonic() - told_s)
        measured(f"an event in the fleet store after it was told: median {sorted(lags)[3]:.2f} s, longest {max(lags):.2f} s")
        assert sorted(lags)[3] < 2.0
        with reading_fleet(url) as connection:
            assert [each.name for each in fleet_view.agents(connection)] == ["play"]
            assert {each.name for each in fleet_view.upses(connection)} == set(play.farm.upses)
        assert await play.stop() == 0


@pytest.mark.parametrize("trouble", ["stopped", "away"])
async def test_orders_and_events_do_not_wait_for_a_fleet_store_in_trouble(postgres: Postgres, trouble: str) -> None:
    url = postgres.create()
    async with Play(family(3), database=url, agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()

        async def shipping() -> bool:
            return await store_state(play) == "ok"

        await until(shipping, 30, "the fleet store is set up")
        names = sorted(play.farm.upses)
        follower = await play.follow()
        well = [await order(play, names[0]) for _ in range(8)]
        if trouble == "stopped":
            signal_server(postgres, signal.SIGSTOP)
        else:
            postgres.stop()
        try:
            ill = [await order(play, names[0]) for _ in range(8)]
            play.tell(f"mains off {names[1]}")
            await until(lambda: bool(follower.told("on-battery", ups=names[1])), 20, "the outage is told")
            assert all(item["stored"] for item in follower.items)
            await until(lambda: follower.told("fleet-store") == [(None, "fleet-store", "away")], 40, "the trouble is told once")
            await play.kill()
            await play.start()
            await play.all_online()
            assert (await play.ask("command", ups=names[2], name="beeper.toggle"))["result"]["outcome"] == "accepted"
        finally:
            if trouble == "stopped":
                signal_server(postgres, signal.SIGCONT)
            else:
                postgres.restart()
        measured(f"an order with the fleet store: median {sorted(well)[4]:.3f} s; {trouble}: {sorted(ill)[4]:.3f} s")
        assert sorted(ill)[4] < sorted(well)[4] * 1.5 + 0.1
        await until(shipping, 40, "it is back")

        def there() -> bool:
            here, shipped = (rows(each, history.orders) for each in (play.state, url))
            return len(here) == len(shipped) and {order.outcome for order in shipped} == {order.outcome for order in here}

        await until(there, 30, "every order is in the fleet store")
        assert await play.stop() == 0


async def order(play: Play, ups: str) -> float:
    began_s = time.monotonic()
    assert (await play.ask("command", ups=ups, name="beeper.toggle"))["result"]["outcome"] == "accepted"
    return time.monotonic() - began_s


async def test_the_same_agent_twice_is_refused_and_goes_on_watching(postgres: Postgres) -> None:
    url = postgres.create()
    async with Play(family(2), database=url) as one, Play(family(2), database=url) as two:
        await one.start()
        await one.all_online()

        async def first() -> bool:
            return await store_state(one) == "ok"

        await until(first, 30, "the first one ships")
        await two.start()
        await two.all_online()
        follower = await two.follow()

        async def refused() -> bool:
            return await store_state(two) == "refused"

        await until(refused, 30, "the second one is refused")
        assert "another agent is named play" in await command(two, "check", code=2)
        assert "names were not compared" not in await command(one, "check", code=0)
        shown = await command(one, "status", "--fleet", code=0)
        assert all(ups in shown for ups in one.farm.upses)
        assert "play" in await command(one, "fleet", "status", code=0)
        assert "it is not gone; stop it first" in await command(two, "fleet", "forget", "play", code=1)
        assert "agent-started" in await command(one, "events", "--fleet", code=0)
        assert "takes nothing from this agent" in await command(two, "status", code=0)
        found = await two.ask("status")
        assert "another agent is named play in the fleet store" in found["result"]["fleet_store"]["trouble"]
        two.tell("mains off group:feed-a")
        await until(lambda: bool(follower.told("on-battery")), 20, "it watches all the same")
        assert await two.stop() == 0
        assert await one.stop() == 0


async def test_a_state_deleted_under_the_agent_begins_anew_as_the_same_agent(postgres: Postgres) -> None:
    """Trouble of the state is not told as the fleet store's, and what follows is shipped, also after a restart."""
    url = postgres.create()
    async with Play(family(2), database=url, agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()

        async def shipping() -> bool:
            return await store_state(play) == "ok"

        await until(shipping, 30, "it ships")
        hit = sorted(play.farm.upses)[0]
        follower = await play.follow()
        for count, ends in enumerate((("", "-wal"), ("",)), start=1):
            for end in ends:
                (play.folder / f"state.db{end}").unlink()
            await until(lambda n=count: len(follower.told("state-trouble")) == n, 20, "it is noticed")
            play.tell(f"mains off {hit}")
            await until(lambda n=count: len(follower.told("on-battery", ups=hit)) == 2 * n - 1, 20, "told")
            play.tell(f"mains on {hit}")
            await until(lambda n=count: len(follower.told("on-battery", ups=hit)) == 2 * n, 20, "its end is told")
            both = 2 * count
            await until(
                lambda n=both: len([e for e in rows(url, history.events) if e.event.name == "on-battery"]) == n, 30, "shipped"
            )
        assert not follower.told("fleet-store"), follower.events
        assert await play.stop() == 0
        await play.start()
        await until(shipping, 30, "it is the same agent after a restart")
        assert await play.stop() == 0


async def command(play: Play, *arguments: str, code: int) -> str:
    """What a command prints, which must end with this exit code."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qxfleet", "--config", str(play.config), *arguments, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == code, said.decode()
    return said.decode()


async def test_history_older_than_the_state_comes_from_the_fleet_store(postgres: Postgres) -> None:
    url = postgres.create()
    async with Play(family(1), database=url, agent={"poll_interval": '"1s"', "record": '"all"'}) as play:
        await play.start()
        await play.all_online()
        [ups] = play.farm.upses

        async def shipped() -> bool:
            store = (await play.ask("status"))["result"].get("fleet_store")
            return bool(store) and store["state"] == "ok" and store["shipped"] > 20

        await until(shipped, 60, "some readings are shipped")
        assert await play.stop() == 0
        whole = json.loads(await command(play, "history", ups, "input.voltage", "--every", "0s", "--json", code=0))["points"]
        with closing(sqlite3.connect(play.folder / "state.db")) as state:
            [(middle,)] = state.execute("SELECT at FROM reading ORDER BY at LIMIT 1 OFFSET 5").fetchall()
            with state:
                state.execute("DELETE FROM reading WHERE at < ?", [middle])
        again = json.loads(await command(play, "history", ups, "input.voltage", "--every", "0s", "--json", code=0))["points"]
        assert again == whole
        postgres.stop()
        try:
            said = await command(play, "history", ups, "input.voltage", "--every", "0s", code=0)
        finally:
            postgres.restart()
        assert "is in the fleet store, which can't be read now: " in said
        assert len(said.splitlines()) == len(whole) - 5 + 2


def armed(file: Path, upses: list[str]) -> str:
    """A plan that stops one load on these UPSes two seconds after they lost mains; its stop writes down when it came."""
    stop, down = f"date +%s.%N >> {file}", f"test -s {file}"
    return f"""
[shutdown]
armed = true
start_when = {{ on_battery_for = "2s" }}
hold = "0s"

[[load]]
name = "host-{upses[0]}"
fed_by = {json.dumps(upses)}
stop = {{ command = {json.dumps(["/bin/sh", "-c", stop])} }}
down_when = {{ exit = {json.dumps(["/bin/sh", "-c", down])} }}
stop_time = "20s"
"""


async def stopped_after(play: Play, file: Path) -> float:
    """Mains off for all; seconds from the trigger (two after the outage) to the first stop."""
    failed_s = time.time()
    play.tell("mains off all")
    await until(lambda: file.exists() and file.stat().st_size > 0, 40, "the host is told to stop")
    return float(file.read_text().split()[0]) - failed_s - 2.0


def units(*names: str) -> list[SimulatedUps]:
    dialect = dialect_named("megatec")
    assert dialect is not None
    return [SimulatedUps(dialect, name=name, groups=("feed-a",), machine=Machine(Ratings(), noise=0.0)) for name in names]


async def test_two_agents_on_one_fleet_store_stop_their_own_hosts_each_in_time(postgres: Postgres) -> None:
    url = postgres.create()
    fast = {"poll_interval": '"1s"'}
    a = Play(units("a-1", "a-2"), database=url, agent={**fast, "name": '"row-a"'})
    b = Play(units("b-1", "b-2"), database=url, agent={**fast, "name": '"row-b"'})
    async with a, b:
        files = {}
        for play in (a, b):
            files[play] = play.folder / "stopped"
            with play.config.open("a") as config:
                config.write(armed(files[play], sorted(play.farm.upses)))
            await play.start()
            await play.all_online()
        after = [await stopped_after(a, files[a]), await stopped_after(b, files[b])]
        measured(f"two agents on one fleet store: first stops {after[0]:.2f} and {after[1]:.2f} s after their triggers")
        assert max(after) < 2.0 + 1.0, "1 s of it is the poll that sees the outage"

        def runs_there() -> bool:
            query = text(
                "SELECT a.name, r.ended IS NULL, r.armed, array_agg(s.target::text ORDER BY s.number) FROM shutdown_run r "
                "JOIN agent a ON a.id = r.agent_id JOIN shutdown_step s ON s.run_id = r.id GROUP BY 1, 2, 3, r.id ORDER BY 1"
            )
            found = rows(url, lambda connection: connection.execute(query).all())
            return [(row[0], row[1], row[2], row[3][0]) for row in found] == [
                ("row-a", True, True, "host-a-1"), ("row-b", True, True, "host-b-1"),
            ]  # fmt: skip

        with reading_fleet(url) as connection:
            assert [(each.name, each.armed) for each in fleet_view.agents(connection)] == [("row-a", True), ("row-b", True)]
        await until(runs_there, 30, "both runs are in the fleet store, each with its own steps")
        for play in (a, b):
            assert len(files[play].read_text().splitlines()) == 1


@pytest.mark.parametrize("trouble", ["hangs", "is away at the start"])
async def test_an_armed_agent_stops_its_hosts_in_time_whatever_the_fleet_store_does(postgres: Postgres, trouble: str) -> None:
    url = postgres.create()
    async with Play(units("a-1", "a-2"), database=url, agent={"poll_interval": '"1s"'}) as play:
        file = play.folder / "stopped"
        with play.config.open("a") as config:
            config.write(armed(file, sorted(play.farm.upses)))
        await play.start()
        await play.all_online()
        if trouble == "hangs":
            signal_server(postgres, signal.SIGSTOP)
        else:
            postgres.stop()
            await play.kill()
            await play.start()
            await play.all_online()
        try:
            after_s = await stopped_after(play, file)
            measured(f"the fleet store {trouble}: first stop {after_s:.2f} s after its trigger")
            assert after_s < 2.0 + 1.0
            answer = (await play.ask("shutdown-status"))["result"]
            assert "mains are good everywhere" not in json.dumps(answer)
            await play.kill()
            with closing(sqlite3.connect(play.folder / "state.db")) as state:
                counts = "SELECT (SELECT count(*) FROM shutdown_run), count(*) FROM shutdown_step"
                [(runs, steps)] = state.execute(counts).fetchall()
                assert (runs, steps >= 1) == (1, True), "nothing is lost by the kill"
        finally:
            if trouble == "hangs":
                signal_server(postgres, signal.SIGCONT)
            else:
                postgres.restart()
