# ruff: noqa: T201
"""One agent beside the incumbent, on the same simulated farm with lines paced at 2400 baud.

``python -m tests.benchmarks.bench_fleet [--ups 16 64 250] [--seconds 40] [--rounds 1]
[--outages 5]``. The sides take turns on one farm:
our agent with every poll stored; Debian's nutdrv_qx, one process per UPS, with upsd, told to publish what every poll carries
(``pollfreq = 1``); and the same at its default of full data every half minute. Counted are steady seconds, after all UPSes
are known and have settled; then mains fail for all of them at once, some times over. What is measured how: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from bisect import bisect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.compat.incumbent import Incumbent, missing

ROOT = Path(__file__).parents[2]

POLL_S = 2.0
SETTLE_S = 6.0
"""Three polls after the last UPS was found."""

SETTLED_WITHIN_S = 120.0
"""Longest wait for the register of batteries that a first start writes."""

PART_S = 8.0
"""What else runs on the machine makes the same work cost more; the calmest part of this length is told beside the whole."""

PROMISED = 250
"""UPSes for which targets were set."""

KNOWN_WITHIN_S = 15.0
"""Longest wait for an outage to be known everywhere."""

RESTED_S = 15.0
"""So long after an outage everything goes its usual pace again."""

OURS, FULL, DEFAULT = "qxfleet", "nutdrv_qx pollfreq=1", "nutdrv_qx default"


@dataclass(frozen=True)
class Result:
    """One side in one turn; times in the unit of their name, None where nobody measured it."""

    polls: int
    missed: int
    cpu_us_per_poll: float
    calmest_us_per_poll: float
    cpu_percent: float
    pss_mib: float
    wire_p50_ms: float
    wire_p99_ms: float
    late_p50_ms: float | None
    late_p99_ms: float | None
    first_known_s: float
    last_known_s: float
    known: int
    rows_missing: int | None


# -- asking a process


class Helper:
    """One of ``fleet_processes``."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    async def ask(self, question: str) -> Any:
        """The answer to one question."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(question.encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process for {question!r} has ended: {self._log.read_text()}")
        return json.loads(line)


@asynccontextmanager
async def helper(*arguments: object, log: Path) -> AsyncIterator[Helper]:
    """A process of ``fleet_processes``, ended at the end; what it logs goes into a file."""
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.benchmarks.fleet_processes", *map(str, arguments),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=stderr, limit=1 << 26,
        )  # fmt: skip
    try:
        yield Helper(process, log)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


# -- what processes cost


def cpu_s(pids: Iterable[int]) -> float:
    """Seconds on a CPU, user and system, of all threads together; to the nanosecond, unlike utime and stime."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size together: memory shared by several processes counts once."""
    lines = (line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


# -- what the wire saw


def missed(times: Sequence[float]) -> int:
    """Polls that should have been between the first and the last of these, and were not."""
    return sum(max(0, round((after - before) / POLL_S) - 1) for before, after in pairwise(times))


def lateness_ms(times: Sequence[float]) -> list[float]:
    """By how much each poll came behind this UPS's own grid: 2 s apart, through the most punctual of them."""
    behind = [(at_s - times[0]) - round((at_s - times[0]) / POLL_S) * POLL_S for at_s in times]
    return [(each - min(behind)) * 1000 for each in behind]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def bucket(counts: Sequence[int], share: float) -> float | None:
    """The same of a histogram by whole milliseconds."""
    left = share * sum(counts)
    for ms, count in enumerate(counts):
        left -= count
        if count and left <= 0:
            return float(ms)
    return None


# -- one turn


@dataclass(frozen=True)
class Window:
    """Steady seconds of one side."""

    polls: int
    missed: int
    cpu_s: float
    calmest_us_per_poll: float
    seconds: float
    pss_mib: float
    wire_ms: list[float]


async def watch(farm: Helper, pids: Sequence[int], seconds: float) -> Window:
    """Let it run, and count."""
    marks = [(time.monotonic(), cpu_s(pids))]
    for _ in range(max(1, round(seconds / PART_S))):
        await asyncio.sleep(min(PART_S, seconds))
        marks.append((time.monotonic(), cpu_s(pids)))
    (begin_s, cpu_before), (end_s, cpu_after) = marks[0], marks[-1]
    asked: dict[str, list[float]] = await farm.ask(f"requests {begin_s - 2 * POLL_S}")
    asked = {name: [at_s for at_s in times if at_s < end_s] for name, times in asked.items()}
    inside = {name: [at_s for at_s in times if at_s >= begin_s] for name, times in asked.items()}
    at = sorted(at_s for times in inside.values() for at_s in times)
    parts = [
        (cpu - cpu_then) / (bisect(at, now_s) - bisect(at, then_s)) for (then_s, cpu_then), (now_s, cpu) in pairwise(marks)
    ]
    return Window(
        polls=sum(map(len, inside.values())),
        missed=sum(map(missed, asked.values())) + sum(end_s - max(times, default=0) > 1.5 * POLL_S for times in asked.values()),
        cpu_s=cpu_after - cpu_before,
        calmest_us_per_poll=min(parts) * 1e6,
        seconds=end_s - begin_s,
        pss_mib=pss_mib(pids),
        wire_ms=[ms for times in inside.values() if times for ms in lateness_ms(times)],
    )


async def outages(farm: Helper, upses: int, count: int, known: Callable[[], Awaitable[Mapping[str, float]]]) -> list[list[float]]:
    """Mains fail for all UPSes at once, each time at another moment of a poll: after how long each knew of it."""
    told = []
    for number in range(count):
        await asyncio.sleep((RESTED_S if number else 0.0) + random.uniform(0.0, POLL_S))
        began_s = await farm.ask("mains off")
        delays: list[float] = []
        while len(delays) < upses and time.monotonic() < began_s + KNOWN_WITHIN_S:
            await asyncio.sleep(0.2)
            delays = [at_s - began_s for at_s in (await known()).values() if at_s > began_s]
        await farm.ask("mains on")
        told.append(delays or [float("nan")])
    return told


def result(window: Window, told: Sequence[Sequence[float]], **more: Any) -> Result:
    """A turn's figures from its window and the slowest of its outages."""
    slowest = max(told, key=max)
    return Result(
        polls=window.polls,
        missed=window.missed,
        cpu_us_per_poll=window.cpu_s / window.polls * 1e6,
        calmest_us_per_poll=window.calmest_us_per_poll,
        cpu_percent=100 * window.cpu_s / window.seconds,
        pss_mib=window.pss_mib,
        wire_p50_ms=percentile(window.wire_ms, 0.5),
        wire_p99_ms=percentile(window.wire_ms, 0.99),
        first_known_s=min(slowest),
        last_known_s=max(slowest),
        known=min(map(len, told)),
        **more,
    )


async def ours(farm: Helper, links: Path, upses: int, seconds: float, count: int) -> Result:
    """Our agent: every poll stored, no face but the command line's socket."""
    folder = Path(tempfile.mkdtemp(prefix="qxb", dir="/tmp"))
    config, database = folder / "qxfleet.toml", folder / "fleet.db"
    config.write_text(
        f'[agent]\ndatabase = "sqlite:///{database}"\ncontrol = "{folder / "agent.sock"}"\nrecord = "all"\n'
        f'poll_interval = "{POLL_S:g}s"\ninclude = ["{links / "fleet.toml"}"]\n'
    )
    try:
        async with helper("agent", config, log=folder / "log") as agent:
            while (await agent.ask("figures"))["online"] < upses:
                await asyncio.sleep(0.5)
            end_s = time.monotonic() + SETTLED_WITHIN_S
            while (await agent.ask("figures"))["starting"] and time.monotonic() < end_s:
                await asyncio.sleep(0.5)
            await asyncio.sleep(SETTLE_S)
            before = await agent.ask("figures")
            window = await watch(farm, [agent.pid], seconds)
            after = await agent.ask("figures")
            told = await outages(farm, upses, count, lambda: agent.ask("outages"))
            polls = (await agent.ask("figures"))["polls"]
        with closing(sqlite3.connect(database)) as connection:
            ((rows,),) = connection.execute("SELECT count(*) FROM reading")
        late = [now - then for now, then in zip(after["lateness"], before["lateness"], strict=True)]
        return result(
            window, told, late_p50_ms=bucket(late, 0.5), late_p99_ms=bucket(late, 0.99),
            rows_missing=max(0, polls - rows),
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)


async def theirs(
    farm: Helper, links: Path, dialects: Mapping[str, str], seconds: float, count: int, options: Mapping[str, object]
) -> Result:
    """One nutdrv_qx per UPS, and upsd. Its drivers tell an outage to whoever listens at their sockets: so do we."""
    common = {"pollinterval": f"{POLL_S:g}", **options}
    sections = {name: {"port": links / name, "protocol": dialect, **common} for name, dialect in dialects.items()}
    async with Incumbent(sections, apart_s=POLL_S / len(sections)) as incumbent:
        if dead := [name for name in sections if not incumbent.running(name)]:
            raise RuntimeError(f"drivers ended: {', '.join(dead)}: {incumbent.log(dead[0])}")
        assert incumbent.server is not None
        pids = [incumbent.server.pid, *(driver.pid for driver in incumbent.drivers.values())]
        await asyncio.sleep(SETTLE_S)
        window = await watch(farm, pids, seconds)
        known: dict[str, float] = {}
        listeners = [asyncio.create_task(_on_battery(incumbent.socket(name), name, known)) for name in sections]
        await asyncio.sleep(2 * POLL_S)

        async def heard() -> Mapping[str, float]:
            return known

        told = await outages(farm, len(sections), count, heard)
        for listener in listeners:
            listener.cancel()
        return result(window, told, late_p50_ms=None, late_p99_ms=None, rows_missing=None)


async def _on_battery(path: Path, name: str, known: dict[str, float]) -> None:
    """Listen until cancelled: a 2.8.0 driver whose listener hangs up spins on its socket and slows all the others down."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(b"DUMPALL\n")
        while line := await reader.readline():
            fresh = time.monotonic() - known.get(name, 0.0) > KNOWN_WITHIN_S / 2  # LB may be added later to what is known
            if fresh and line.startswith(b"SETINFO ups.status ") and b"OB" in line:
                known[name] = time.monotonic()
    finally:
        writer.close()


# -- all turns, and their table


async def measure(upses: int, seconds: float, rounds: int, count: int) -> dict[str, list[Result]]:
    """Every side in turn on one farm; each further round in the opposite order."""
    results: dict[str, list[Result]] = {OURS: [], FULL: [], DEFAULT: []}
    folder = Path(tempfile.mkdtemp(prefix="qxf", dir="/tmp"))
    try:
        async with helper("farm", folder, upses, log=folder / "log") as farm:
            dialects: dict[str, str] = await farm.ask("dialects")
            for number in range(rounds):
                for side in (OURS, FULL, DEFAULT) if number % 2 == 0 else (DEFAULT, FULL, OURS):
                    if side == OURS:
                        one = await ours(farm, folder, upses, seconds, count)
                    else:
                        options = {"pollfreq": 1} if side == FULL else {}
                        one = await theirs(farm, folder, dialects, seconds, count, options)
                    results[side].append(one)
                    print(f"  {upses} {side}: {one}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    return results


def middle(results: Sequence[Result]) -> Result:
    """The median of each figure over the rounds; missed polls and rows are added up."""
    merged: dict[str, Any] = {}
    for name in (field.name for field in fields(Result)):
        values = [getattr(one, name) for one in results]
        if None in values:
            merged[name] = None
        else:
            merged[name] = sum(values) if name in ("missed", "rows_missing", "polls") else statistics.median(values)
    return Result(**merged)


def table(upses: int, sides: Mapping[str, Result]) -> str:
    """One block of lines per number of UPSes, in Markdown."""
    def slowest_outage(one: Result) -> str:
        return f"{one.first_known_s:.2f} / {one.last_known_s:.2f}"

    def cell(value: float | None, digits: int) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    rows: list[tuple[str, ...]] = [
        ("CPU, µs per poll", *(cell(one.cpu_us_per_poll, 1) for one in sides.values())),
        ("CPU, µs per poll, calmest 8 s", *(cell(one.calmest_us_per_poll, 1) for one in sides.values())),
        ("CPU, % of one core", *(cell(one.cpu_percent, 2) for one in sides.values())),
        ("memory (PSS), MiB in all", *(cell(one.pss_mib, 1) for one in sides.values())),
        ("memory (PSS), MiB per UPS", *(cell(one.pss_mib / upses, 3) for one in sides.values())),
        ("lateness by its own account, p50 / p99 ms",
         *(f"{cell(one.late_p50_ms, 0)} / {cell(one.late_p99_ms, 0)}" for one in sides.values())),
        ("lateness on the wire, p50 / p99 ms",
         *(f"{cell(one.wire_p50_ms, 1)} / {cell(one.wire_p99_ms, 1)}" for one in sides.values())),
        ("polls, of them missed", *(f"{one.polls}, {one.missed}" for one in sides.values())),
        ("readings not stored", *(cell(one.rows_missing, 0) for one in sides.values())),
        ("slowest outage known: first / last, s", *map(slowest_outage, sides.values())),
        ("outage known: UPSes", *(str(round(one.known)) for one in sides.values())),
    ]  # fmt: skip
    heads = (f"{upses} UPSes", *sides)
    lines = [f"| {' | '.join(heads)} |", f"|---{'|---:' * len(sides)}|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def ratios(sides: Mapping[str, Result]) -> str:
    """Ours divided by theirs."""
    us = sides[OURS]
    return "\n".join(
        f"{OURS} / {name}: CPU {us.cpu_us_per_poll / one.cpu_us_per_poll:.3f}"
        f" (calmest {us.calmest_us_per_poll / one.calmest_us_per_poll:.3f}), memory {us.pss_mib / one.pss_mib:.3f}"
        for name, one in sides.items()
        if name != OURS
    )


def targets(upses: int, sides: Mapping[str, Result]) -> str:
    """Ours beside what was promised for 250 UPSes."""
    us = sides[OURS]
    checks = (
        (f"CPU per poll / {FULL}", us.cpu_us_per_poll / sides[FULL].cpu_us_per_poll, 0.25),
        ("memory, MiB per UPS", us.pss_mib / upses, 0.35),
        ("lateness p99, ms", us.late_p99_ms or 0.0, 10),
        ("missed polls", us.missed, 0),
        ("readings not stored", us.rows_missing or 0, 0),
        ("last outage known, s", us.last_known_s, 0.8),
        ("outages unknown", upses - us.known, 0),
    )
    return "\n".join(
        f"{name}: {value:.3g}, at most {limit:g} wanted: {'met' if value <= limit else 'NOT MET'}"
        for name, value, limit in checks
    )


def run(argv: Sequence[str] = ()) -> str:
    """Measure and return the tables. Raises RuntimeError where the incumbent is not installed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ups", type=int, nargs="+", default=[16, 64, 250])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--outages", type=int, default=5)
    options = parser.parse_args(argv)
    if complaint := missing():
        raise RuntimeError(complaint)
    blocks = []
    for upses in options.ups:
        measured = asyncio.run(measure(upses, options.seconds, options.rounds, options.outages))
        sides = {name: middle(results) for name, results in measured.items()}
        blocks += [table(upses, sides), ratios(sides)]
        if upses == PROMISED:
            blocks.append(targets(upses, sides))
    return "\n\n".join(blocks)


def main() -> int:
    """Print the tables."""
    try:
        print(run(sys.argv[1:]))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
