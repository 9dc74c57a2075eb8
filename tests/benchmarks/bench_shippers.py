"""A hundred agents that ship to one PostgreSQL: rows per second beside bare COPY in the same run, and how late an event is
seen.

``python -m tests.benchmarks.bench_shippers [AGENTS]``; needs the PostgreSQL server's programs. The agents' shippers, 250 UPSes
each, are threads of four processes.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from qxfleet.model.clock import Clock
from qxfleet.store import outbox
from qxfleet.store.bulk import POSTGRES_EPOCH_US
from qxfleet.store.engine import open_engine
from qxfleet.store.fleet import AgentIdentity
from qxfleet.store.migrate import upgrade
from qxfleet.store.shipper import Shipper, Turn
from qxfleet.store.tables import reading
from tests.conftest import Postgres

UPSES, PROCESSES, BATCH = 250, 4, 500
ROWS = 10_000
"""Readings of each agent in a run at full speed."""
LIVE_S = 20
COLUMNS = ", ".join(column.name for column in reading.columns)
TYPES = ["int4", "int8", *["int4"] * (len(reading.columns) - 3), "text"]


def rows_of(agent: int, count: int, begin_us: int) -> list[tuple[Any, ...]]:
    """Readings of an agent's UPSes, each UPS every second; device ids as in its state."""
    chance = random.Random(agent)
    return [
        (
            number % UPSES + 1, begin_us + number // UPSES * 1_000_000 + number % UPSES, 2, 0, 0, 500,
            round(chance.gauss(2300, 6)), round(chance.gauss(35, 3)) * 10, 250,
            round(chance.gauss(2500, 40)), 1000 - number % 1000, 1800 - number % 1800, None,
        )
        for number in range(count)
    ]  # fmt: skip


class OneAgent:
    """A state with an outbox, and its shipper."""

    def __init__(self, folder: Path, template: Path, number: int, url: str) -> None:
        self.path = folder / f"agent-{number}.db"
        shutil.copy(template, self.path)
        self.number = number
        names = [f"a{number}-u{ups}" for ups in range(UPSES)]
        with closing(sqlite3.connect(self.path)) as state, state:
            state.execute("PRAGMA synchronous=OFF")
            state.executemany("INSERT INTO device (name, created) VALUES (?, 1)", [(name,) for name in names])
        self.state = sqlite3.connect(self.path, timeout=10)
        self.state.execute("PRAGMA synchronous=OFF")
        self.batches = 0
        self.turns: list[Turn] = []
        who = AgentIdentity(str(uuid.UUID(int=number + 1)), f"agent-{number}")
        self.shipper = Shipper(self.path, url, who, names, clock=Clock(), tell=self.turns.append)

    def fill(self, bodies: list[tuple[int, bytes]], event: bool = False) -> None:
        """Put batches into the outbox as the writer does, and an event."""
        now_us = time.time_ns() // 1000
        self.batches += len(bodies)
        with self.state as state:
            put = "INSERT INTO outbox_readings (at, rows, body) VALUES (?, ?, ?)"
            state.executemany(put, [(now_us, *body) for body in bodies])
            if event:
                state.execute(
                    "INSERT INTO event (at, device_id, kind, name, value, text, severity, phase) "
                    "VALUES (?, 1, 'status', 'on-battery', 'begin', 'mains failed', 2, 'begin')", [time.time_ns() // 1000],
                )  # fmt: skip

    def done(self) -> bool:
        """Whether the server has every batch; one whose answer was lost on a busy machine is known at the next connect."""
        return sum(last - first + 1 for first, last in self.shipper.shipped().get(outbox.READINGS, [])) >= self.batches


def packed(rows: list[tuple[Any, ...]]) -> list[tuple[int, bytes]]:
    parts = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
    return [(len(part), outbox.packed(part)) for part in parts]


def worker(kind: str, url: str, folder: str, first: int, count: int) -> None:
    """One process: prepare, say so, wait for the word, run, say what was done."""
    template = Path(folder) / "template.db"
    begin_us = time.time_ns() // 1000
    if kind == "copy":
        work = {number: rows_of(number, ROWS, begin_us) for number in range(first, first + count)}
        threads = [threading.Thread(target=bare, args=(url, number, rows)) for number, rows in work.items()]
        go()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.stdout.write("done\n")
        return
    agents = [OneAgent(Path(folder), template, number, url) for number in range(first, first + count)]
    for agent in agents:
        agent.shipper.start()
    while not all(agent.turns and agent.turns[-1].state == "ok" for agent in agents):
        time.sleep(0.1)
    if kind == "live":
        begin_us = time.time_ns() // 1000
        seconds = [
            [packed(rows_of(agent.number, UPSES, begin_us + second * 1_000_000)) for agent in agents] for second in range(LIVE_S)
        ]  # what making and packing readings costs is the agents', and measured with the writer
        go()
        for bodies in seconds:
            until_s = time.monotonic() + 1.0
            for agent, body in zip(agents, bodies, strict=True):
                agent.fill(body, event=True)
                time.sleep(max(0.0, (until_s - time.monotonic()) / count / 2))
            time.sleep(max(0.0, until_s - time.monotonic()))
    else:
        backlogs = [packed(rows_of(agent.number, ROWS, begin_us)) for agent in agents]
        go()
        for agent, backlog in zip(agents, backlogs, strict=True):
            agent.fill(backlog)
    while not all(agent.done() for agent in agents):
        time.sleep(0.02)
    sys.stdout.write("done\n")
    sys.stdout.flush()
    for agent in agents:
        agent.shipper.close()
        agent.state.close()


def go() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def bare(url: str, agent: int, rows: list[tuple[Any, ...]]) -> None:
    """The same rows in the same transactions by the driver alone."""
    statement = f"COPY reading ({COLUMNS}) FROM STDIN (FORMAT BINARY)"
    with psycopg.connect(**place(url)) as connection:
        base = agent * UPSES
        for at in range(0, len(rows), 2_000):
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.set_types(TYPES)
                for device, moment, *rest in rows[at : at + 2_000]:
                    copy.write_row((base + device, moment - POSTGRES_EPOCH_US, *rest))


def place(url: str) -> dict[str, Any]:
    parsed = make_url(url)
    return {"host": parsed.query["host"], "user": "postgres", "dbname": parsed.database}


def run(kind: str, url: str, folder: Path, agents: int) -> float:
    """Seconds from the word to the last worker's end."""
    share = agents // PROCESSES
    command = [sys.executable, "-m", "tests.benchmarks.bench_shippers", "worker", kind, url, str(folder)]
    workers = [
        subprocess.Popen([*command, str(part * share), str(share)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for part in range(PROCESSES)
    ]
    for each in workers:
        assert each.stdout is not None
        each.stdout.readline()
    began_s = time.monotonic()
    for each in workers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in workers:
        assert each.stdout is not None
        assert each.stdout.readline() == "done\n"
    took_s = time.monotonic() - began_s
    for each in workers:
        each.communicate()
    return took_s


def watch(url: str, lags: list[float], stop: threading.Event) -> None:
    """Another agent's view: a follower that is woken by the notices, and asks at least every two seconds."""
    seen: dict[int, int] = {}
    news = (
        "SELECT a.id, e.row, (extract(epoch FROM e.at) * 1e6)::bigint FROM agent a JOIN event e ON e.agent_id = a.id "
        "AND e.row > coalesce((%s::json ->> a.id::text)::bigint, 0)"
    )
    with psycopg.connect(**place(url), autocommit=True) as connection:
        connection.execute("LISTEN qxfleet")
        while not stop.is_set():
            for _ in connection.notifies(timeout=0.5, stop_after=1):
                pass
            found = connection.execute(news, [json.dumps(seen)]).fetchall()
            now_us = time.time_ns() // 1000
            for agent, row, at_us in found:
                lags.append((now_us - at_us) / 1e6)
                seen[agent] = max(seen.get(agent, 0), row)


def main(agents: int) -> None:
    """Print the figures."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        sys.stdout.write("not measured; apt-get install -y postgresql\n")
        return
    with tempfile.TemporaryDirectory(prefix="qxsh", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(programs[-1], folder, connections=agents + 20)
        server.start()
        try:
            template = folder / "template.db"
            upgrade(f"sqlite:///{template}")
            engine = open_engine(f"sqlite:///{template}", writing=True)
            with engine.begin() as connection:
                outbox.follow(connection)
            engine.dispose()
            upgrade(server.url("template1"))
            total = ROWS * agents
            url = server.create("template1")
            devices = f"INSERT INTO device (name, created) SELECT n, now() FROM generate_series(1, {agents * UPSES}) n"
            server.sql(devices, make_url(url).database)
            bare_s = run("copy", url, folder, agents)
            show(f"bare COPY, {agents} connections", total, bare_s)
            ship_s = run("ship", server.create("template1"), folder, agents)
            show(f"{agents} shippers", total, ship_s)
            sys.stdout.write(f"  {bare_s / ship_s:.2f} of bare COPY\n")
            url = server.create("template1")
            lags: list[float] = []
            stop = threading.Event()
            watcher = threading.Thread(target=watch, args=(url, lags, stop))
            watcher.start()
            live_s = run("live", url, folder, agents)
            time.sleep(1.0)
            stop.set()
            watcher.join()
            lags.sort()
            show(f"{agents} agents with {UPSES} UPSes on battery at 1 s", agents * UPSES * LIVE_S, live_s)
            sys.stdout.write(
                f"  an event seen by another agent: {len(lags)} events, median {lags[len(lags) // 2]:.2f} s, "
                f"p99 {lags[int(len(lags) * 0.99)]:.2f} s, longest {lags[-1]:.2f} s\n"
            )
        finally:
            server.stop()


def show(what: str, rows: int, seconds: float) -> None:
    sys.stdout.write(f"  {what}: {rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        worker(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
