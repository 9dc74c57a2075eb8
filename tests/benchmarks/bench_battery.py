# ruff: noqa: T201
"""A fleet's batteries over years of which the truth is known: loaded on both databases, judged, and asked for.

``python -m tests.benchmarks.bench_battery [UPSES] [--table]``: 200 UPSes over five years without a number; the PostgreSQL half
needs the server's programs. ``--table`` prints predicted beside true for every UPS.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import text

from qxfleet.battery.health import fleet_health
from qxfleet.battery.survey import evidence
from qxfleet.store import batteries
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import upgrade
from qxfleet.testing.years import DAY_US, END_US, Story, fleet
from tests.battery.years import Judged, as_text, facts_of, figures, judge, load_years, table
from tests.conftest import Postgres

YEARS = 5.0
ROUNDS = 25


def main() -> None:
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 200)
    stories = told(count)
    points = sum(len(story.samples) for story in stories)
    print(f"{count} UPSes over {YEARS:g} years: {points} readings on battery, {sum(len(story.days) for story in stories)} days")
    with tempfile.TemporaryDirectory(prefix="qxyears", dir="/tmp") as folder:
        file = Path(folder) / "fleet.db"
        judged = on_database("SQLite", f"sqlite:///{file}", stories)
        print(f"  {file.stat().st_size / count / YEARS / 1e3:.0f} kB per UPS and year on disk")
    with postgres() as server:
        if server is None:
            print("PostgreSQL: no server programs here")
        else:
            url = server.create()
            again = on_database("PostgreSQL", url, stories)
            same = [str(each.health) for each in judged] == [str(each.health) for each in again]
            print(f"  the same judgement on both: {same}")
    if "--table" in sys.argv:
        print(table(judged))
    print(as_text(figures(judged)))


STORIES = 0


def told(count: int) -> list[Story]:
    """The stories, with a progress bar."""
    with bar("simulating") as progress:
        found = []
        for story in fleet(count, YEARS):
            found.append(story)
            progress.advance(progress.task_ids[0], 1)
            progress.update(progress.task_ids[0], total=count)
    return found


@contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        progress.add_task(what, total=total)
        yield progress


def on_database(name: str, url: str, stories: list[Story]) -> list[Judged]:
    """Load, judge, and time the queries."""
    upgrade(url)
    began = time.perf_counter()
    with bar(f"loading {name}", len(stories)) as progress:
        load_years(url, stories, lambda done: progress.advance(progress.task_ids[0], done))
    print(f"{name}: loaded, cut and scored in {time.perf_counter() - began:.0f} s")
    engine = open_engine(url, writing=False)
    configured = {story.name: facts_of(story) for story in stories}
    with engine.connect() as connection:
        judged = judge(connection, stories)
        rows = {
            "fleet-wide health": lambda: fleet_health(evidence(connection, configured, END_US), END_US),
            "health of one UPS": lambda: fleet_health(evidence(connection, configured, END_US, ["ups-005"]), END_US),
            "outages of the fleet, a year": lambda: batteries.discharges(connection, None, END_US - 365 * DAY_US, END_US),
            "curve of one discharge": lambda: batteries.curve(connection, 1),
        }
        for what, query in rows.items():
            wall, cpu = [], []
            for _ in range(ROUNDS):
                began, used = time.perf_counter(), time.process_time()
                query()
                wall.append(1000 * (time.perf_counter() - began))
                cpu.append(1000 * (time.process_time() - used))
            wall.sort()
            print(f"  {what:<30} median {statistics.median(wall):6.1f} ms, p95 {wall[int(0.95 * ROUNDS)]:6.1f} ms, "
                  f"of it {statistics.median(cpu):.1f} ms CPU here")  # fmt: skip
        counts = {name: connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in ("discharge", "discharge_point")}
        print(f"  {counts['discharge']} discharges, {counts['discharge_point']} points")
    engine.dispose()
    return judged


@contextmanager
def postgres() -> Iterator[Postgres | None]:
    """A server of our own; None without its programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="qxpg", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        server = Postgres(found[-1].parent, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


if __name__ == "__main__":
    main()
