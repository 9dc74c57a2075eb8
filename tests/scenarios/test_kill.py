"""Power cuts: the agent is killed under load, again and again. What it told is stored, and no order goes out twice.

With a fleet store PostgreSQL is stopped at once too, in every tenth life of the agent. The long form (``QXFLEET_SOAK=1``) is 20
rooms, each of 50 kills and 5 such stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from qxfleet.agent.fleet import NOT_STORED
from qxfleet.dialects.registry import DIALECTS
from qxfleet.model.events import Outcome
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import Standing
from qxfleet.store.upkeep import check
from tests.conftest import Postgres
from tests.scenarios.nursery import nursery
from tests.scenarios.play import SOAK, Follower, Gone, Play, family, measured

KILLS, STOP_EVERY = (50, 10) if SOAK else (10, 5)
LONGEST_LIFE_S = 1.0
CLIENTS, UPSES = 10, 12
FIRST_SEED = int(os.environ.get("QXFLEET_SEED", "2"))
SEEDS = range(FIRST_SEED, FIRST_SEED + (20 if SOAK else 1))
ORDERS = ("test.battery.start.quick", "beeper.toggle", "shutdown.return", "shutdown.stop")
FORGOTTEN = "the agent stopped before its end was known"
"""What a restarted agent writes behind an order that it finds without an outcome."""


class Witness:
    """Everything the outside was told across all rounds."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.events: Counter[tuple[str | None, ...]] = Counter()
        self.unanswered = 0

    def heard(self, follower: Follower) -> None:
        """The events of one follower: those that were said to be stored."""
        self.events.update(told(item["event"]) for item in follower.items if item["stored"])


def told(event: dict[str, Any]) -> tuple[str | None, ...]:
    return tuple(event[key] for key in ("time", "ups", "kind", "name", "value", "text"))


async def give_orders(play: Play, witness: Witness, chance: random.Random) -> None:
    """A client that gives one order after the other until the agent is gone."""
    while True:
        ups, order = chance.choice(list(play.farm.upses)), chance.choice(ORDERS)
        try:
            answer = await play.ask("command", ups=ups, name=order)
        except Gone:
            witness.unanswered += 1
            return
        if NOT_STORED not in answer["result"]["text"]:
            witness.outcomes[ups, order, answer["result"]["outcome"]] += 1
        await asyncio.sleep(chance.uniform(0, 0.1))


async def flip_mains(play: Play, chance: random.Random) -> None:
    while True:
        play.tell(f"mains {chance.choice(('on', 'off'))} {chance.choice((*play.farm.upses, 'group:feed-a'))}")
        await asyncio.sleep(chance.uniform(0.05, 0.5))


async def one_life(play: Play, witness: Witness, chance: random.Random, server: Postgres | None) -> None:
    """Start, load, kill at any moment; one life in six ends while it starts. ``server`` is stopped in it, and started again."""
    stopping = None if server is None else asyncio.create_task(stop_and_start(server, chance))
    try:
        if chance.random() < 1 / 6:
            await play.start(wait=False)
            await asyncio.sleep(chance.uniform(0.0, 0.5))
            await play.kill()
            return
        await play.start()
        follower = await play.follow()
        clients = [asyncio.create_task(give_orders(play, witness, chance)) for _ in range(CLIENTS)]
        mains = asyncio.create_task(flip_mains(play, chance))
        await asyncio.sleep(chance.uniform(0.1, LONGEST_LIFE_S))
        if chance.random() < 0.5:  # in the very moment of hearing something
            follower.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(follower.news.wait(), LONGEST_LIFE_S)
        await play.kill()
        mains.cancel()
        await asyncio.gather(*clients, mains, return_exceptions=True)
        for client in clients:
            client.result()
        await follower.close()
        witness.heard(follower)
    finally:
        if stopping is not None:
            await stopping


async def stop_and_start(server: Postgres, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0.0, 1.5))
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(chance.uniform(0.0, 0.5))
    await asyncio.to_thread(server.restart)


def recorded(url: str) -> tuple[list[history.StoredEvent], list[history.StoredOrder]]:
    engine = open_engine(url, writing=False)
    try:
        with engine.connect() as connection:
            return history.events(connection), history.orders(connection)
    finally:
        engine.dispose()


def sent_on_the_wire(play: Play, orders: Iterable[history.StoredOrder]) -> dict[tuple[str, bytes], list[float]]:
    """When each request that an order can be reached its UPS, as wall time in seconds."""
    wall_s = time.time() - asyncio.get_running_loop().time()
    known = {request for dialect in DIALECTS for query in dialect.queries for request in (query.command,)}
    found: dict[tuple[str, bytes], list[float]] = {}
    for name in play.farm.upses:
        for at_s, request in play.asked(name):
            if request not in known and request != b"\r":
                found.setdefault((name, request), []).append(at_s + wall_s)
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_what_was_told_survives_kills_and_no_order_goes_out_twice(
    fleet_url: str, backend: str, seed: int, request: pytest.FixtureRequest
) -> None:
    chance, witness = random.Random(seed), Witness()
    server = request.getfixturevalue("postgres") if backend == "postgresql" else None
    began_s, stops, compared = time.monotonic(), 0, 0
    agent = {"poll_interval": '"1s"'}
    async with nursery() as mother, Play(family(UPSES, seed=seed), database=fleet_url, agent=agent, nursery=mother) as play:
        for kill in range(KILLS):
            stop = server is not None and kill % STOP_EVERY == 1
            stops += stop
            await one_life(play, witness, chance, server if stop else None)
            found = check(play.state)
            if not witness.events and found.schema.standing is Standing.EMPTY:
                continue  # killed before there was anything
            assert found.problems == ()
            if not list(play.folder.glob("*.spool")):  # what the side file has is a record too, and in the state after a start
                compare(play, witness, play.state)
                compared += 1
        took_s = time.monotonic() - began_s

        left_open = {order.id for order in recorded(play.state)[1] if order.outcome is None}
        before = {key: len(times) for key, times in sent_on_the_wire(play, ()).items()}
        await play.start()
        await play.all_online()
        if server is not None:
            give_up_s = time.monotonic() + 120
            while different := await asyncio.to_thread(differences, play.state, fleet_url):  # the UPSes live in this loop
                assert time.monotonic() < give_up_s, different
                await asyncio.sleep(0.5)
        assert await play.stop() == 0
        after = {key: len(times) for key, times in sent_on_the_wire(play, ()).items()}
        assert after == before, "an order was sent again by the restarted agent"
        compare(play, witness, play.state)
        events, orders = recorded(play.state)
        closed = {order.id: order for order in orders}
        assert all(order.outcome is not None for order in orders)
        assert all(closed[key].outcome is Outcome.UNCONFIRMED and FORGOTTEN in closed[key].text for key in left_open)
        forgotten = sum(FORGOTTEN in order.text for order in orders)
        measured(f"{backend}, seed {seed}: {KILLS} kills and {stops} stops of the server, {took_s / KILLS:.1f} s each, "
              f"looked at after {compared} of them, "
              f"{len(events)} events stored, {sum(witness.events.values())} told as stored, "
              f"{sum(witness.outcomes.values())} outcomes told, {len(orders)} orders on record, {sum(after.values())} sent, "
              f"{witness.unanswered} clients cut off, {forgotten} orders closed by the next start")  # fmt: skip
        assert sum(witness.events.values()) > KILLS / 10
        assert sum(witness.outcomes.values()) > KILLS / 10


def differences(state: str, store: str) -> list[str]:
    """Events and orders that an agent's state and the fleet store do not hold alike, each once."""
    here, there = recorded(state), recorded(store)
    events = [Counter(stored.event for stored in each[0]) for each in (here, there)]
    orders = [Counter(replace(order, id=0) for order in each[1]) for each in (here, there)]
    found = [*((events[0] - events[1]) + (orders[0] - orders[1])), *((events[1] - events[0]) + (orders[1] - orders[0]))]
    return [f"{sum(events[1].values())} of {sum(events[0].values())} events", *map(str, found)] if found else []


def compare(play: Play, witness: Witness, url: str) -> None:
    """What was told is in the database; what went over the wire was written down before, once each."""
    events, orders = recorded(url)
    stored = Counter(told(event.event.as_json()) for event in events)
    assert set(stored.values()) <= {1}, "an event is there twice"
    assert not witness.events - stored, "an event that was told as stored is not there"
    ended = Counter(
        (order.ups, order.name, order.outcome.value) for order in orders if order.outcome and FORGOTTEN not in order.text
    )
    assert not witness.outcomes - ended, "an outcome that a client was told is not there"
    for (ups, request), sent_s in sent_on_the_wire(play, orders).items():
        intents_s = [order.at_us / 1e6 for order in orders if order.ups == ups and order.sent.encode("latin-1") == request]
        assert len(sent_s) <= len(intents_s), f"{ups} got {request!r} {len(sent_s)} times for {len(intents_s)} orders on record"
        late = [(sent, intent) for sent, intent in zip(sent_s, sorted(intents_s), strict=False) if sent < intent - 0.05]
        assert not late, f"{ups} got {request!r} before it was written down"
