# ruff: noqa: T201
"""What scrapes and pages cost an agent with 250 UPSes, and whether polls stay punctual.

``python -m tests.benchmarks web``
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

from qxfleet.agent.agent import Agent
from qxfleet.config.load import load
from qxfleet.interfaces.parts import PARTS
from qxfleet.testing.farm import Farm
from qxfleet.testing.population import fleet
from tests.interfaces.web_site import free_port


def fetch(url: str) -> int:
    """Bytes of an answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return len(answer.read())


def memory_mib() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def watched(agent: Agent, seconds: float, load_it: Callable[[], Awaitable[None]]) -> str:
    """Lateness of polls, missed ones and processor time while something is done again and again."""
    before, missed, cpu_s = list(agent.fleet.pace.lateness), agent.fleet.missed_polls(), time.process_time()
    worst_s, running = 0.0, asyncio.create_task(load_it())
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        began_s = time.monotonic()
        await asyncio.sleep(0.01)
        worst_s = max(worst_s, time.monotonic() - began_s - 0.01)
    running.cancel()
    await asyncio.wait({running})
    counts = [now - then for now, then in zip(agent.fleet.pace.lateness, before, strict=True)]
    total, shares = sum(counts), []
    for share in (0.5, 0.99):
        seen = 0
        shares.append(next((ms for ms, count in enumerate(counts) if (seen := seen + count) >= share * total), 0))
    cpu = 100 * (time.process_time() - cpu_s) / seconds
    return (
        f"{total:6d} polls, late p50 {shares[0]} ms, p99 {shares[1]} ms, missed {agent.fleet.missed_polls() - missed}; "
        f"loop held up {1000 * worst_s:.0f} ms at most; {cpu:.0f} % of a core (with the simulator)"
    )


async def main(count: int, seconds: float) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        async with Farm(folder / "ups", fleet(count)):
            config = folder / "qxfleet.toml"
            config.write_text(
                '[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "a.sock"\ninclude = ["ups/fleet.toml"]\n'
                f'[http]\nlisten = ["127.0.0.1:{port}"]\n[metrics]\nlisten = ["127.0.0.1:{free_port()}"]\n'
            )
            agent = Agent(load(config), parts=PARTS)
            running = asyncio.create_task(agent.run())
            await asyncio.sleep(30)
            online = sum(state.link.value == "online" for state in agent.fleet.snapshot().values())
            print(f"{online} of {count} UPSes online, {memory_mib():.0f} MiB with simulator and faces")
            base = f"http://127.0.0.1:{port}"

            async def nothing() -> None:
                await asyncio.sleep(3600)

            def again(path: str, every_s: float, at_once: int = 1) -> Callable[[], Awaitable[None]]:
                took: list[float] = []
                size: list[int] = []

                async def one() -> None:
                    while True:
                        began_s = time.monotonic()
                        size.append(await asyncio.to_thread(fetch, base + path))
                        took.append(time.monotonic() - began_s)
                        await asyncio.sleep(max(0.0, every_s - took[-1]))

                async def work() -> None:
                    try:
                        await asyncio.gather(*(one() for _ in range(at_once)))
                    finally:
                        if took:
                            middle_ms, most_ms = 1000 * statistics.median(took), 1000 * max(took)
                            kib = size[-1] // 1024
                            print(f"  {path}: {len(took)} times {kib} KiB, median {middle_ms:.0f} ms, at most {most_ms:.0f} ms")

                return work

            async def streams() -> None:
                async def one() -> None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"GET /api/v1/fleet/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                    try:
                        while await reader.read(1 << 16):
                            pass
                    finally:
                        writer.close()

                await asyncio.gather(*(one() for _ in range(10)))

            for what, load_it in (
                ("nobody asks", nothing),
                ("/metrics every 5 s", again("/metrics", 5)),
                ("/api/v1/fleet every second", again("/api/v1/fleet", 1)),
                ("the page every second", again("/", 1)),
                ("10 pages open, live", streams),
                ("nobody asks", nothing),
            ):
                print(f"{what:28} {await watched(agent, seconds, load_it)}")
            began_s = time.monotonic()
            agent.stop()
            await running
            print(f"stopped in {time.monotonic() - began_s:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ups", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    asyncio.run(main(options.ups, options.seconds))
