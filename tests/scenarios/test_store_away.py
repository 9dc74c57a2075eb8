"""The database does not answer for a while: what happens is told all the same, and no order goes out without a record."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

from qxfleet.agent.fleet import RECORD_S
from qxfleet.interfaces.control import STORED_WITHIN_S
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from tests.scenarios.play import Play, family, measured, until


async def test_events_are_told_and_orders_kept_back_while_the_database_is_away() -> None:
    now = asyncio.get_running_loop().time
    async with Play(family(4), agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        await play.ask("set", ups="ups-01", name="ups.delay.start", value="180")
        await until(lambda: len(follower.items) == 1, 5, "an event")
        assert follower.items[0]["stored"]

        with closing(sqlite3.connect(play.folder / "fleet.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            play.tell("mains off ups-02")
            failed_s = now()
            await until(lambda: follower.told("on-battery") == [("ups-02", "on-battery", "begin")], 5, "the outage is told")
            measured(f"outage with the database locked: told after {now() - failed_s:.2f} s")
            assert not follower.items[-1]["stored"]

            asked_s = now()
            answer = await play.ask("command", ups="ups-01", name="beeper.toggle")
            assert RECORD_S <= now() - asked_s < RECORD_S + 2
            assert answer["result"]["outcome"] == "rejected"
            assert "nothing was sent" in answer["result"]["text"]
            play.tell("mains off group:feed-a")
            failed_s = now()
            await until(lambda: len(follower.told("on-battery")) == 3, 5, "the outage of two more")
            assert now() - failed_s < 1.0 + STORED_WITHIN_S + 1.0, "nobody waits again for a database that is known to be away"
            other.execute("ROLLBACK")

        async def stored_again() -> bool:
            await play.ask("set", ups="ups-01", name="ups.delay.start", value="180")
            return bool(follower.items[-1]["stored"])

        await until(stored_again, 15, "the database is back")
        assert (await play.ask("command", ups="ups-03", name="beeper.toggle"))["result"]["outcome"] == "accepted"
        assert b"Q\r" not in [request for _, request in play.asked("ups-01")]
        assert [request for _, request in play.asked("ups-03")].count(b"Q\r") == 1
        assert await play.stop() == 0

        engine = open_engine(play.database, writing=False)
        try:
            with engine.connect() as connection:
                stored = [item.event.as_json() for item in history.events(connection)]
                assert all(event in stored for event in follower.events)
                orders = {order.ups: order for order in history.orders(connection) if order.name == "beeper.toggle"}
        finally:
            engine.dispose()
        assert "ups-01" not in orders or orders["ups-01"].outcome is not None
