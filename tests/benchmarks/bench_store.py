"""Storing readings: into the state beside the bare driver, into the fleet store by back-filling; and what a row takes.

``python -m tests.benchmarks.bench_store``; needs the PostgreSQL server's programs for its half.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg

from qxfleet.model.clock import Clock
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.store.bulk import Backfill
from qxfleet.store.migrate import upgrade
from qxfleet.store.policy import Kept
from qxfleet.store.rows import reading_row
from qxfleet.store.store import Store
from qxfleet.store.tables import reading
from tests.conftest import Postgres

UPSES = 250
ROWS = 50_000
START_US = 1_760_000_000_000_000
COLUMNS = len(reading.columns)


def polls(count: int) -> list[Reading]:
    """Readings of 250 UPSes every 2 s, with the noise real ones have."""
    chance = random.Random(20)
    return [
        Reading(
            f"ups{number % UPSES}",
            START_US + number // UPSES * 2_000_000 + number % UPSES * 8_000,
            number // UPSES * 2.0,
            Status.OL,
            {
                "input.voltage": round(chance.gauss(230, 0.6), 1),
                "input.voltage.fault": 228.0,
                "output.voltage": round(chance.gauss(230, 0.6), 1),
                "ups.load": float(round(chance.gauss(35, 1))),
                "input.frequency": round(chance.gauss(50, 0.05), 1),
                "battery.voltage": round(chance.gauss(27.4, 0.03), 1),
                "ups.temperature": 25.0,
                "battery.charge": 100.0,
                "battery.runtime": float(round(chance.gauss(1800, 5))),
                "ups.beeper.status": "enabled",
                "ups.type": "offline / line interactive",
            },
        )
        for number in range(count)
    ]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def per_call_us(work: Callable[[Reading], object], readings: list[Reading]) -> float:
    """CPU µs of one call, the best of many rounds: other work on the machine only ever adds."""
    rounds = []
    for _ in range(40):
        began = time.process_time()
        for item in readings:
            work(item)
        rounds.append((time.process_time() - began) / len(readings) * 1e6)
    return min(rounds)


async def through_the_store(url: str, readings: list[Reading]) -> tuple[float, float]:
    store = Store(url, clock=Clock(), keep="all", queue_limit=len(readings))
    store.open()
    await store.record_now()

    wall, cpu = time.perf_counter(), time.process_time()
    for item in readings:
        store.record(item)
    await store.record_now()
    while store.health().queued_readings:
        await store.record_now()
    spent = time.perf_counter() - wall, time.process_time() - cpu
    assert store.health().written == len(readings)
    await store.close()
    return spent


async def at_the_pace_of_a_fleet(url: str, seconds: int) -> float:
    """CPU µs a row, all in, with 125 rows a second and a commit a second, less what an idle store takes."""
    store = Store(url, clock=Clock(), keep="all")
    store.open()
    readings = polls(125 * seconds)
    for item in readings[:UPSES]:
        store.record(replace(item, wall_us=item.wall_us - 1))
    await store.record_now()
    idle = time.process_time()
    await asyncio.sleep(2.0)
    idle_per_s = (time.process_time() - idle) / 2.0
    began, cpu = time.perf_counter(), time.process_time()
    for second in range(seconds):
        for item in readings[second * 125 : second * 125 + 125]:
            store.record(item)
        await asyncio.sleep(max(0.0, began + second + 1 - time.perf_counter()))
    spent = time.process_time() - cpu - idle_per_s * seconds
    await store.close()
    return spent / len(readings) * 1e6


def bare_rows(readings: list[Reading]) -> list[tuple[object, ...]]:
    return [(number % UPSES + 1, *reading_row(item, None)[1:]) for number, item in enumerate(readings)]


def bare_sqlite(path: Path, rows: list[tuple[object, ...]]) -> None:
    marks = ", ".join("?" * COLUMNS)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA synchronous=FULL")
        for start in range(0, len(rows), 2_000):
            file.execute("BEGIN IMMEDIATE")
            file.executemany(f"INSERT INTO reading VALUES ({marks})", rows[start : start + 2_000])
            file.execute("COMMIT")


def paced(write: Callable[[list[tuple[object, ...]]], object], rows: list[tuple[object, ...]]) -> float:
    """CPU µs a row of a bare driver that gets 125 rows a second."""
    spent = 0.0
    for start in range(0, len(rows), 125):
        cpu = time.process_time()
        write(rows[start : start + 125])
        spent += time.process_time() - cpu
        time.sleep(0.5)
    return spent / len(rows) * 1e6


def bare_sqlite_paced(path: Path, rows: list[tuple[object, ...]]) -> float:
    marks = ", ".join("?" * COLUMNS)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA synchronous=FULL")

        def write(some: list[tuple[object, ...]]) -> None:
            file.execute("BEGIN IMMEDIATE")
            file.executemany(f"INSERT INTO reading VALUES ({marks})", some)
            file.execute("COMMIT")

        return paced(write, rows)


def bare_postgres(server: Postgres, database: str, rows: list[tuple[object, ...]]) -> None:
    types = ["int4", "int8", *["int4"] * (COLUMNS - 3), "text"]
    with psycopg.connect(host=str(server.folder), user="postgres", dbname=database) as connection:
        for start in range(0, len(rows), 2_000):
            with connection.cursor() as cursor, cursor.copy("COPY reading FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(types)
                for row in rows[start : start + 2_000]:
                    copy.write_row(row)
            connection.commit()


def backfilled(url: str, rows: list[tuple[object, ...]]) -> None:
    """Through the way for back-filling."""
    history = Backfill(url)
    history.readings(rows)
    history._engine.dispose()


def sqlite_url(folder: Path, name: str) -> tuple[Path, str]:
    path = folder / name
    upgrade(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as file:
        file.executemany("INSERT INTO device (name, created) VALUES (?, 0)", [[f"ups{n}"] for n in range(UPSES)])
        file.commit()
    return path, f"sqlite:///{path}"


def rows_made(readings: list[Reading]) -> list[bool]:
    """For each reading, whether the rule stores it."""
    seen: dict[str, Kept] = {}
    made = []
    for item in readings:
        device = seen.setdefault(item.device, Kept())
        made.append(device.outdated_by(item))
        if made[-1]:
            device.keep(item)
    return made


def show(what: str, spent: tuple[float, float], rows: int) -> None:
    wall, cpu = spent
    print(f"  {what:<34} {rows / wall:>10,.0f} rows/s   {cpu / rows * 1e6:6.2f} µs CPU a row")  # noqa: T201


def main() -> None:
    """Print the table."""
    say = print
    readings = polls(ROWS)
    hot = readings[: 10 * UPSES]
    kept = {item.device: Kept() for item in hot}

    def judge(item: Reading) -> None:
        device = kept[item.device]
        if device.outdated_by(item):
            device.keep(item)

    with tempfile.TemporaryDirectory(prefix="qxbench") as name:
        folder = Path(name)
        _, url = sqlite_url(folder, "unused.db")
        both = Store(url, clock=Clock(), queue_limit=200), Store(url, clock=Clock(), keep="all", queue_limit=200)
        say("The loop's side, CPU µs a call")
        say(f"  the rule alone                     {per_call_us(judge, hot):6.2f}")
        say(f"  record(), keep = changes           {per_call_us(both[0].record, hot):6.2f}")
        say(f"  record(), keep = all               {per_call_us(both[1].record, hot):6.2f}")
        on_battery = [replace(item, status=int(Status.OB)) for item in hot]
        say(f"  record(), changes, on battery      {per_call_us(both[0].record, on_battery):6.2f}")
        settled = rows_made(readings)[-len(readings) // 2 :]
        share = sum(settled) / len(settled)
        say(f"  polls that make a row, keep = changes: {share:.1%}, one in {2 / share:.0f} s")

        say(f"SQLite, {ROWS:,} readings (WAL, synchronous FULL)")
        path, _ = sqlite_url(folder, "bare.db")
        rows = bare_rows(readings)
        show("bare driver, 2,000 a commit", timed(lambda: bare_sqlite(path, rows)), ROWS)
        _, url = sqlite_url(folder, "backfill.db")
        show("back-filling", timed(lambda: backfilled(url, rows)), ROWS)
        path, url = sqlite_url(folder, "store.db")
        before = path.stat().st_size
        show("Store, record() to commit", asyncio.run(through_the_store(url, readings)), ROWS)
        say(f"  {(path.stat().st_size - before) / ROWS:.1f} bytes a reading")
        path, _ = sqlite_url(folder, "bare-pace.db")
        say(f"  at 125 rows a commit, bare driver: {bare_sqlite_paced(path, rows[: 125 * 10]):.1f} µs CPU a row")
        _, url = sqlite_url(folder, "pace.db")
        say(f"  at 125 rows/s, a commit a second: {asyncio.run(at_the_pace_of_a_fleet(url, 10)):.1f} µs CPU a row, all in")

    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        say("PostgreSQL: not measured; apt-get install -y postgresql")
        return
    with tempfile.TemporaryDirectory(prefix="qxpg", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(programs[-1], folder)
        server.start()
        try:
            say(f"PostgreSQL over a local socket, {ROWS:,} readings (its own CPU not counted)")
            upgrade(server.url("template1"))
            server.sql(
                f"INSERT INTO device (name, created) SELECT 'ups' || n, now() FROM generate_series(0, {UPSES - 1}) n", "template1"
            )
            server.create("template1")
            show("bare driver, binary COPY", timed(lambda: bare_postgres(server, "fleet1", rows)), ROWS)
            url = server.create("template1")
            show("back-filling", timed(lambda: backfilled(url, rows)), ROWS)
            at = {"host": str(server.folder), "user": "postgres", "dbname": "fleet2"}
            with psycopg.connect(**at) as connection:
                [size] = connection.execute(
                    "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'reading'::regclass"
                ).fetchone() or (0,)
            say(f"  {size / ROWS:.1f} bytes a reading, its index included")
        finally:
            server.stop()


if __name__ == "__main__":
    main()
