"""Power cuts: what was said to be committed is there after a SIGKILL, and the database is sound."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.upkeep import check

WRITES = """
import asyncio, sys
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, OrderResult, Outcome
from qxfleet.model.reading import Reading
from qxfleet.store.store import Store

async def main(url, first):
    store = Store(url, clock=Clock(), keep="all")
    store.open()
    number = first
    while True:
        for ups in range(20):
            store.record(Reading(f"ups{ups}", number, 0.0, 1, {"input.voltage": 230.1, "battery.voltage": 27.4}))
        await store.record_now(Event(number, "ups0", EventKind.STATUS, "on-battery", "begin", str(number)))
        print("event", number, flush=True)
        order = await store.order_intent("ups1", "test.battery.start", None, "T", "crash test")
        print("intent", order, flush=True)
        await store.order_outcome(order, OrderResult("ups1", "test.battery.start", None, Outcome.ACCEPTED))
        print("outcome", order, flush=True)
        number += 1

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def test_what_was_committed_survives_a_kill(fleet_url: str) -> None:
    said: dict[str, set[int]] = {"event": set(), "intent": set(), "outcome": set()}
    first = 1
    for lines_before_kill in (1, 8, 21, 50):
        with subprocess.Popen([sys.executable, "-c", WRITES, fleet_url, str(first)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines_before_kill):
                word, number = writer.stdout.readline().split()
                said[word].add(int(number))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:  # said between the last look and the kill
                if line.endswith("\n"):
                    word, number = line.split()
                    said[word].add(int(number))
            assert writer.wait(timeout=30) == -signal.SIGKILL
        first = max(said["event"]) + 10
        engine = open_engine(fleet_url, writing=False)
        try:
            with engine.connect() as connection:
                events = [int(stored.event.text) for stored in history.events(connection)]
                orders = {order.id: order.outcome for order in history.orders(connection)}
        finally:
            engine.dispose()
        assert said["event"] <= set(events)
        assert len(events) == len(set(events))
        assert said["intent"] <= orders.keys()
        assert all(orders[number] is not None for number in said["outcome"])
        assert check(fleet_url).problems == ()
    assert len(said["event"]) >= 20


@pytest.mark.parametrize("backend", ["sqlite"])
def test_a_kill_leaves_the_log_behind_and_the_next_start_reads_it(fleet_url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES, fleet_url, "1"], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "event 1\n"
        writer.send_signal(signal.SIGKILL)
    report = check(fleet_url)
    assert report.problems == ()
    assert report.rows["event"] >= 1
