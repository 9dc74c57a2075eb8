# ruff: noqa: T201
"""Many NUT clients on one agent, and on Debian's upsd over one nutdrv_qx per UPS, on the same simulated farm.

``python -m tests.benchmarks.bench_upsd [--ups 250] [--clients 2000] [--seconds 60] [--every 1.0] [--ours]``. Each client lists
the variables of one UPS after the other, a question every so many seconds; ``--every 0`` asks as fast as answers come. The
farm says when each UPS was polled: with no client, and with all of them. What is measured how: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_fleet import POLL_S, SETTLE_S, Helper, Window, cpu_s, helper, percentile, pss_mib, watch
from tests.compat.incumbent import Incumbent, missing

ROOT = Path(__file__).parents[2]

QUIET_S = 16.0
"""Polls are watched for so long with no client there."""


@dataclass(frozen=True)
class Side:
    """One server's turn: ``quiet`` before the clients came, ``busy`` with them; ``server_cpu_s`` is the server's own part."""

    name: str
    quiet: Window
    busy: Window
    server_cpu_s: float
    server_mib: tuple[float, float]
    clients: dict[str, Any]


async def load(port: int, clients: int, seconds: float, every_s: float, behind: int, names: Sequence[str]) -> dict[str, Any]:
    """What that many clients saw."""
    process = await asyncio.create_subprocess_exec(
        "nice", "-n", str(behind), sys.executable, "-m", "tests.benchmarks.nut_clients", str(port), str(clients),
        str(seconds), str(every_s), *names,
        cwd=ROOT, stdout=PIPE,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the clients came to nothing")
    figures: dict[str, Any] = {}
    for line in said.splitlines():
        figures.update(json.loads(line))
    return figures


async def turn(
    name: str, farm: Helper, pids: Sequence[int], server: int, port: int, names: Sequence[str], arguments: argparse.Namespace
) -> Side:
    """Quiet, then busy."""
    await asyncio.sleep(SETTLE_S)
    quiet = await watch(farm, pids, QUIET_S)
    mib = pss_mib([server])
    clients = asyncio.create_task(load(port, arguments.clients, arguments.seconds + 12, arguments.every, arguments.nice, names))
    await asyncio.sleep(8.0)
    before_s = cpu_s([server])
    busy = await watch(farm, pids, arguments.seconds)
    used_s = cpu_s([server]) - before_s
    mib_busy = pss_mib([server])
    return Side(name, quiet, busy, used_s, (mib, mib_busy), await clients)


async def ours(farm: Helper, links: Path, names: Sequence[str], arguments: argparse.Namespace) -> Side:
    """One agent, its NUT server on loopback."""
    folder = Path(tempfile.mkdtemp(prefix="qxb", dir="/tmp"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    config = folder / "qxfleet.toml"
    config.write_text(
        f'[agent]\ndatabase = "sqlite:///{folder / "fleet.db"}"\ncontrol = "{folder / "agent.sock"}"\n'
        f'poll_interval = "{POLL_S:g}s"\ninclude = ["{links / "fleet.toml"}"]\n[nut]\nlisten = ["127.0.0.1:{port}"]\n'
    )
    try:
        async with helper("agent", config, log=folder / "log") as agent:
            while (await agent.ask("figures"))["online"] < len(names):
                await asyncio.sleep(0.5)
            return await turn("qxfleet", farm, [agent.pid], agent.pid, port, names, arguments)
    finally:
        shutil.rmtree(folder)


async def theirs(farm: Helper, links: Path, dialects: dict[str, str], arguments: argparse.Namespace) -> Side:
    """One nutdrv_qx per UPS, and one upsd before them."""
    sections = {
        name: {"port": links / name, "protocol": dialect, "pollinterval": f"{POLL_S:g}"} for name, dialect in dialects.items()
    }
    server = f"MAXCONN {arguments.clients + len(sections) + 64}\n"
    async with Incumbent(sections, apart_s=POLL_S / len(sections), server=server) as incumbent:
        if dead := [name for name in sections if not incumbent.running(name)]:
            raise RuntimeError(f"drivers ended: {', '.join(dead)}: {incumbent.log(dead[0])}")
        assert incumbent.server is not None
        pids = [incumbent.server.pid, *(driver.pid for driver in incumbent.drivers.values())]
        return await turn("upsd 2.8.0", farm, pids, incumbent.server.pid, incumbent.port, list(dialects), arguments)


def table(sides: Sequence[Side]) -> str:
    """The figures of all sides in Markdown."""

    def wire(window: Window) -> str:
        return f"{percentile(window.wire_ms, 0.5):.1f} / {percentile(window.wire_ms, 0.99):.1f}"

    def per_list(side: Side) -> str:
        answered = side.clients["lists"] / side.clients["seconds"] * side.busy.seconds
        return f"{side.server_cpu_s / max(1, answered) * 1e6:.0f}"

    rows = [
        ("lists answered per second", *(f"{side.clients['lists'] / side.clients['seconds']:.0f}" for side in sides)),
        ("errors", *(json.dumps(side.clients["errors"]) if side.clients["errors"] else "none" for side in sides)),
        ("answered within, p50 / p99 / worst, ms",
         *(f"{side.clients['p50_ms']} / {side.clients['p99_ms']} / {side.clients['worst_ms']}" for side in sides)),
        ("server process, % of one core", *(f"{100 * side.server_cpu_s / side.busy.seconds:.1f}" for side in sides)),
        ("server process, CPU µs per list", *map(per_list, sides)),
        ("server process, MiB before / with clients", *("{:.1f} / {:.1f}".format(*side.server_mib) for side in sides)),
        ("poll lateness on the wire without clients, p50 / p99 ms", *(wire(side.quiet) for side in sides)),
        ("poll lateness on the wire with clients, p50 / p99 ms", *(wire(side.busy) for side in sides)),
        ("polls missed without / with clients", *(f"{side.quiet.missed} / {side.busy.missed}" for side in sides)),
    ]  # fmt: skip
    heading = ("", *(side.name for side in sides))
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


async def measure(arguments: argparse.Namespace) -> list[Side]:
    """Both in turn on one farm."""
    folder = Path(tempfile.mkdtemp(prefix="qxf", dir="/tmp"))
    sides: list[Side] = []
    try:
        async with helper("farm", folder, arguments.ups, log=folder / "log") as farm:
            dialects: dict[str, str] = await farm.ask("dialects")
            sides.append(await ours(farm, folder, list(dialects), arguments))
            print(f"  {sides[-1].clients}", file=sys.stderr, flush=True)
            if not arguments.ours:
                sides.append(await theirs(farm, folder, dialects, arguments))
                print(f"  {sides[-1].clients}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    return sides


def main() -> int:
    """Measure and print; 1 where a client of ours saw an error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ups", type=int, default=250)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--nice", type=int, default=10, help="how far the clients stand back: they would be other machines")
    parser.add_argument("--ours", action="store_true", help="leave upsd out")
    arguments = parser.parse_args()
    if not arguments.ours and (complaint := missing()):
        print(complaint, file=sys.stderr)
        arguments.ours = True
    sides = asyncio.run(measure(arguments))
    every = f"a list every {arguments.every:g} s each" if arguments.every else "as fast as they are answered"
    print(f"{arguments.clients} clients, {arguments.ups} UPSes, {arguments.seconds:g} s, {every}\n")
    print(table(sides))
    return 1 if sides[0].clients["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
