# ruff: noqa: T201
"""Reading history back: a fleet's five years in both databases, how long queries take, and what it takes on the disk.

``python -m tests.benchmarks.bench_history [--ups 200] [--full 20]``: ``--full`` UPSes have every tier that the rules of retention
keep, the others readings and days; needs the PostgreSQL server's programs for its half.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import product
from pathlib import Path

import psycopg
from rich.progress import Progress
from sqlalchemy import Connection

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.bulk import Backfill, Row
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import upgrade
from qxfleet.store.series import Series, series
from qxfleet.store.tiers import DAY, DAY_US, MINUTE, QUARTER, SECOND_US, Tier, put
from tests.conftest import Postgres

END_US = 1_780_272_000_000_000 // DAY_US * DAY_US
YEARS, MINUTE_DAYS, RAW_DAYS = 5, 31, 1
VARIABLES = {
    "input.voltage": (230.0, 0.8), "input.voltage.fault": (228.0, 0.0), "input.frequency": (50.0, 0.05),
    "output.voltage": (230.0, 0.8), "ups.load": (35.0, 1.0), "ups.temperature": (25.0, 0.3), "battery.voltage": (27.4, 0.02),
    "battery.charge": (100.0, 0.0), "battery.runtime": (1800.0, 6.0),
}  # fmt: skip
ROUNDS = 60


def cells(chance: random.Random) -> list[tuple[int | None, ...]]:
    """Values in the form of a tier's row, to be used again and again: what they are does not matter."""
    made = []
    for _ in range(400):
        row: list[int | None] = []
        for variable in READING_COLUMNS:
            middle, noise = VARIABLES[variable.name]
            mean = round(chance.gauss(middle, noise) * variable.scale)
            low, high = (round(mean + way * abs(chance.gauss(0, noise)) * variable.scale) for way in (-1, 1))
            last = round((low + high) / 2)
            row += [None if value == mean else value for value in (low,)] + [mean]
            row += [None if value == mean else value for value in (high, last)] + [None]
        made.append(tuple(row))
    return made


def buckets(tier: Tier, devices: list[int], days: int, rows: int, step_us: int) -> Iterator[Row]:
    """Rows of a tier as the roll-up writes them: a step of time, device by device."""
    made = cells(random.Random(tier.seconds))
    minutes = tier.seconds // 60
    number = 0
    for start_us in range(END_US - days * DAY_US, END_US, step_us):
        for device_id, at_us in product(devices, range(start_us, start_us + step_us, tier.us)):
            number += 1
            yield (device_id, at_us, rows, minutes, 1, 1, *made[number % len(made)])


def polls(devices: list[int], days: int) -> Iterator[Row]:
    """Readings twice a minute, as they came."""
    chance = random.Random(1)
    made = [
        tuple(
            round(chance.gauss(*VARIABLES[variable.name]) * variable.scale)
            for variable in READING_COLUMNS
        )
        for _ in range(400)
    ]  # fmt: skip
    for step in range(days * 2880):
        at_us = END_US - days * DAY_US + step * 30 * SECOND_US
        for device_id in devices:
            yield (device_id, at_us + device_id * 8_000, 1, *made[(step + device_id) % 400], None)


def load(url: str, upses: int, full: int, size: Callable[[str], int]) -> dict[str, tuple[int, int]]:
    """Fill a database; rows and bytes of each table."""
    with Progress(transient=True) as bar:
        task = bar.add_task("loading", total=None)
        backfill = Backfill(url, progress=lambda rows: bar.update(task, completed=rows, description=f"{rows:,} rows"))
        ids = backfill.device_ids([f"ups{number:03}" for number in range(upses)], END_US)
        every = sorted(ids.values())
        some = every[:full]
        backfill.buckets(DAY, buckets(DAY, every, YEARS * 365, 2880, DAY_US))
        backfill.buckets(QUARTER, buckets(QUARTER, some, YEARS * 365, 30, QUARTER.us))
        backfill.buckets(MINUTE, buckets(MINUTE, some, MINUTE_DAYS, 2, QUARTER.us))
        backfill.readings(polls(every, RAW_DAYS))

        def marked(connection: Connection) -> None:
            for tier in (MINUTE, QUARTER, DAY):
                put(connection, tier.mark, END_US)

        backfill.write(marked)
        backfill._engine.dispose()
    counts = {
        "reading_day": upses * YEARS * 365,
        "reading_quarter": full * YEARS * 365 * 96,
        "reading_minute": full * MINUTE_DAYS * 1440,
        "reading": upses * RAW_DAYS * 2880,
    }
    return {table: (rows, size(table)) for table, rows in counts.items()}


def measured(url: str, upses: int, full: int) -> Iterator[tuple[str, float, float, int]]:
    """Each query with its median and p95 in ms, and the points it gave."""
    names = [f"ups{number:03}" for number in range(upses)]
    chance = random.Random(7)

    def ask(name: str, days: float, every_s: int | None) -> Callable[[Connection], Series]:
        since_us = END_US - round(days * DAY_US)
        return lambda connection: series(connection, name, "battery.voltage", since_us, END_US, every_s)

    queries: tuple[tuple[str, Callable[[], Callable[[Connection], Series]]], ...] = (
        ("one year by day", lambda: ask(chance.choice(names), 365, DAY.seconds)),
        ("five years, width as suits (days)", lambda: ask(chance.choice(names), 365 * YEARS, None)),
        ("30 days of minutes", lambda: ask(chance.choice(names[:full]), 30, MINUTE.seconds)),
        ("30 days, width as suits (quarters)", lambda: ask(chance.choice(names[:full]), 30, None)),
        ("five years by the hour", lambda: ask(chance.choice(names[:full]), 365 * YEARS, 3600)),
        ("last 24 h, every reading", lambda: ask(chance.choice(names), 1, 0)),
    )
    engine = open_engine(url, writing=False)
    try:
        for what, query in queries:
            times, points = [], 0
            with engine.connect() as connection:
                for _ in range(ROUNDS if "hour" not in what else 10):
                    made = query()
                    began = time.perf_counter()
                    points = len(made(connection).points)
                    times.append((time.perf_counter() - began) * 1e3)
            yield what, statistics.median(times), statistics.quantiles(times, n=20)[-1], points
    finally:
        engine.dispose()


def show(url: str, upses: int, full: int, size: Callable[[str], int]) -> None:
    began = time.perf_counter()
    tables = load(url, upses, full, size)
    rows = sum(count for count, _ in tables.values())
    print(f"  loaded {rows:,} rows in {time.perf_counter() - began:.0f} s")
    for table, (count, taken) in tables.items():
        print(f"  {table:<18} {count:>11,} rows  {taken / count:6.1f} bytes each")
    each = {table: taken / count for table, (count, taken) in tables.items()}
    year_mb = (each["reading_minute"] * 525_600 + each["reading_quarter"] * 35_040 + each["reading_day"] * 365) / 1e6
    quarters_mb = (each["reading_quarter"] * 35_040 + each["reading_day"] * 365) / 1e6
    print(f"  a UPS-year with its minutes: {year_mb:.1f} MB; when only quarters and days are left: {quarters_mb:.1f} MB; "
        f"14 days of readings: {each['reading'] * 2880 * 14 / 1e6:.1f} MB")  # fmt: skip
    for what, median, p95, points in measured(url, upses, full):
        print(f"  {what:<36} median {median:7.1f} ms   p95 {p95:7.1f} ms   {points:>6} points")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ups", type=int, default=200)
    parser.add_argument("--full", type=int, default=20)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qxbench") as name:
        path = Path(name) / "fleet.db"
        upgrade(f"sqlite:///{path}")
        print(f"SQLite, {wanted.ups} UPSes")

        def pages(table: str) -> int:
            with closing(sqlite3.connect(path)) as file:
                return int(file.execute("SELECT sum(pgsize) FROM dbstat WHERE name = ?", [table]).fetchone()[0])

        show(f"sqlite:///{path}", wanted.ups, wanted.full, pages)
        print(f"  the file: {path.stat().st_size / 1e6:.0f} MB")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        print("PostgreSQL: not measured; apt-get install -y postgresql")
        return
    with tempfile.TemporaryDirectory(prefix="qxpg", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = Postgres(programs[-1], folder)
        server.start()
        try:
            upgrade(server.url("template1"))
            url = server.create("template1")
            print(f"PostgreSQL, {wanted.ups} UPSes, its indexes included")
            at = {"host": str(folder), "user": "postgres", "dbname": "fleet1"}

            def relation(table: str) -> int:
                with psycopg.connect(**at, autocommit=True) as connection:
                    connection.execute(f"VACUUM (ANALYZE) {table}".encode())
                    parts = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree(%s)"
                    found = connection.execute(parts, [table]).fetchone()
                    if found is None or found[0] is None:
                        found = connection.execute("SELECT pg_total_relation_size(%s)", [table]).fetchone()
                    assert found is not None
                    return int(found[0])

            show(url, wanted.ups, wanted.full, relation)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
