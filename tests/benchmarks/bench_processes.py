# ruff: noqa: T201
"""Core and interfaces beside another qxfleet, which may be one process: ``python -m tests.benchmarks.bench_processes OTHER``.

``OTHER`` is a checkout with a ``.venv`` of its own. Both take turns on one farm, each with every interface open: some seconds
without a client, then some with many NUT clients that list the variables of one UPS after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_fleet import POLL_S, SETTLE_S, Helper, cpu_s, helper, pss_mib
from tests.benchmarks.bench_upsd import load
from tests.interfaces.nut_stage import free_port

ROOT = Path(__file__).parents[2]

KNOWN_WITHIN_S = 120.0
CONNECTED_S = 8.0
"""Until all clients are connected and in step."""


@dataclass(frozen=True)
class Turn:
    """One side's turn: by process, percent of a core and MiB without clients and with them; and what the clients saw."""

    quiet: dict[str, float]
    busy: dict[str, float]
    mib: dict[str, float]
    clients: dict[str, Any]


async def ask(path: Path, do: str) -> Any:
    """One question at the control socket."""
    reader, writer = await asyncio.open_unix_connection(path, limit=1 << 24)
    writer.write(json.dumps({"id": 1, "do": do}).encode() + b"\n")
    line = await reader.readline()
    writer.close()
    return json.loads(line)["result"]


@asynccontextmanager
async def agent(home: Path, config: Path) -> AsyncIterator[int]:
    """An agent of a checkout; its process."""
    process = await asyncio.create_subprocess_exec(
        home / ".venv/bin/python", "-m", "qxfleet", "--config", config, "run", "--log-level", "warning",
        cwd=home, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(home)},
    )  # fmt: skip
    try:
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


def processes(pid: int) -> dict[str, int]:
    """The agent's process, and that of its interfaces where it has one."""
    found = {"core": pid}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"qxfleet.interfaces.process" in Path(f"/proc/{child}/cmdline").read_bytes():
            found["interfaces"] = int(child)
    return found


async def percent(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """Of a core, by process, over so long."""
    before, began_s = {name: cpu_s([pid]) for name, pid in pids.items()}, time.monotonic()
    await asyncio.sleep(seconds)
    took_s = time.monotonic() - began_s
    return {name: 100 * (cpu_s([pid]) - before[name]) / took_s for name, pid in pids.items()}


async def turn(home: Path, links: Path, names: Sequence[str], arguments: argparse.Namespace) -> Turn:
    """Start, settle, measure, end."""
    folder = Path(tempfile.mkdtemp(prefix="qxb", dir="/tmp"))
    port, config, control = free_port(), folder / "qxfleet.toml", folder / "agent.sock"
    config.write_text(
        f'[agent]\ndatabase = "sqlite:///{folder / "fleet.db"}"\ncontrol = "{control}"\npoll_interval = "{POLL_S:g}s"\n'
        f'include = ["{links / "fleet.toml"}"]\n[nut]\nlisten = ["127.0.0.1:{port}"]\n'
        f'[http]\nlisten = ["127.0.0.1:{free_port()}"]\n[metrics]\nlisten = ["127.0.0.1:{free_port()}"]\n'
    )
    try:
        async with agent(home, config) as pid:
            end_s, online = time.monotonic() + KNOWN_WITHIN_S, 0
            while online < len(names) and time.monotonic() < end_s:
                await asyncio.sleep(1.0)
                if control.exists():
                    online = sum(ups["state"] == "online" for ups in (await ask(control, "status"))["ups"])
            await asyncio.sleep(arguments.settle)
            pids = processes(pid)
            quiet = await percent(pids, arguments.seconds)
            mib = {name: pss_mib([each]) for name, each in pids.items()}
            asking = asyncio.create_task(load(port, arguments.clients, arguments.seconds + CONNECTED_S + 2, 1.0, 10, names))
            await asyncio.sleep(CONNECTED_S)
            busy = await percent(pids, arguments.seconds)
            return Turn(quiet, busy, mib, await asking)
    finally:
        shutil.rmtree(folder)


def table(before: Sequence[Turn], now: Sequence[Turn]) -> str:
    """The medians, in Markdown."""

    def middle(turns: Sequence[Turn], what: str, name: str) -> str:
        return f"{statistics.median(getattr(each, what)[name] for each in turns):.1f}"

    def latency(turns: Sequence[Turn]) -> str:
        keys = ("p50_ms", "p99_ms", "worst_ms")
        return " / ".join(f"{statistics.median(each.clients[key] for each in turns):g}" for key in keys)

    rows = [("", "before: one process", "core", "interfaces"), ("---", "---:", "---:", "---:")]
    figures = {"quiet": "CPU without clients, % of a core", "busy": "CPU with clients, % of a core", "mib": "memory (PSS), MiB"}
    for what, title in figures.items():
        rows.append((title, middle(before, what, "core"), middle(now, what, "core"), middle(now, what, "interfaces")))
    rows.append(("a list answered within, p50 / p99 / worst, ms", latency(before), "", latency(now)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def measure(arguments: argparse.Namespace) -> tuple[list[Turn], list[Turn]]:
    """All turns."""
    folder = Path(tempfile.mkdtemp(prefix="qxf", dir="/tmp"))
    sides: dict[Path, list[Turn]] = {arguments.other: [], ROOT: []}
    try:
        async with helper("farm", folder, arguments.ups, log=folder / "log") as farm:
            names = list(await Helper.ask(farm, "dialects"))
            for number in range(arguments.rounds):
                for home in list(sides) if number % 2 == 0 else list(sides)[::-1]:
                    sides[home].append(await turn(home, folder, names, arguments))
                    print(f"  {home}: {sides[home][-1]}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    return sides[arguments.other], sides[ROOT]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--ups", type=int, default=250)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--settle", type=float, default=SETTLE_S)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    print(table(*asyncio.run(measure(arguments))))


if __name__ == "__main__":
    main()
