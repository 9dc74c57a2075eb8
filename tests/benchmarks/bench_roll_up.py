# ruff: noqa: T201
"""Rolling up and packing a large fleet: how long each step takes, on both databases, and what a minute takes on the disk.

``python -m tests.benchmarks.bench_roll_up [--ups 10000] [--hours 1]``: two readings a minute and UPS; needs the PostgreSQL
server's programs for its half.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.bulk import Backfill, Row
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import upgrade
from qxfleet.store.minutes import HOUR_US
from qxfleet.store.tiers import SECOND_US, roll_up_step
from tests.benchmarks.bench_history import END_US, VARIABLES
from tests.conftest import Postgres

SIZE = {
    "sqlite": "SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%packed_minutes%'",
    "postgresql": "SELECT pg_total_relation_size('packed_minutes')",
}


def polls(numbers: list[int], hours: int) -> Iterator[Row]:
    """Two readings a minute of every UPS, in the order of time."""
    chance = random.Random(3)
    some = [
        tuple(round(chance.gauss(*VARIABLES[variable.name]) * variable.scale) for variable in READING_COLUMNS)
        for _ in range(5_000)
    ]
    for step in range(hours * 120):
        at_us = END_US + step * 30 * SECOND_US
        for number in numbers:
            yield (number, at_us + number * 1_000, 1, *some[(step * 7 + number) % len(some)], None)


def show(url: str, upses: int, hours: int) -> None:
    backfill = Backfill(url)
    ids = backfill.device_ids([f"ups{number:05}" for number in range(upses)], END_US)
    backfill.readings(polls(sorted(ids.values()), hours))
    backfill._engine.dispose()
    engine = open_engine(url, writing=True)
    steps: list[float] = []
    more = True
    while more:
        began = time.perf_counter()
        with engine.begin() as connection:
            more = roll_up_step(connection, END_US + hours * HOUR_US + 70 * SECOND_US)
        steps.append(time.perf_counter() - began)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        rows = connection.scalar(text("SELECT count(*) FROM packed_minutes")) or 0
        assert rows == upses * hours, rows
        size = connection.scalar(text(SIZE[engine.dialect.name])) or 0
    engine.dispose()
    steps.sort()
    print(f"  {len(steps)} steps, {sum(steps):.1f} s in all; a step median {statistics.median(steps):.3f} s, "
          f"p99 {steps[round(len(steps) * 0.99) - 1]:.3f} s, longest {steps[-1]:.3f} s")  # fmt: skip
    print(f"  {size / rows / 60:.1f} bytes a minute and UPS, index included")


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ups", type=int, default=10_000)
    parser.add_argument("--hours", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qxbench") as name:
        url = f"sqlite:///{Path(name) / 'fleet.db'}"
        upgrade(url)
        print(f"SQLite, {wanted.ups} UPSes, {wanted.hours} h")
        show(url, wanted.ups, wanted.hours)
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
            url = server.create()
            upgrade(url)
            print(f"PostgreSQL, {wanted.ups} UPSes, {wanted.hours} h")
            show(url, wanted.ups, wanted.hours)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
