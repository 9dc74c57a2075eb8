# ruff: noqa: T201
"""CPU per serial exchange on the event loop, against pseudo-terminals paced at 2400 baud by another process.

    python tests/benchmarks/bench_transport.py [--ports 64 256] [--seconds 12] [--slot 0.25] [--interval 2] [--jitter 0.05]

Each port is asked ``Q1`` once per interval. Asks sit on a grid of slots, as the agent's do (architecture, Concurrency);
``--slot 0`` spreads them evenly instead. Counted is this process alone, after every port was opened and asked once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import heapq
import json
import os
import random
import select
import subprocess
import sys
import time
import tty

from qxfleet.model.wire import Ask
from qxfleet.transports.serial_port import SerialTransport

REPLY = b"(208.4 140.0 208.4 034 59.9 2.05 35.0 00110000\r"
BYTE_S = 10 / 2400


def farm(count: int, jitter_s: float) -> None:
    """Serve ``count`` pseudo-terminals, one byte of a reply every 4.17 ms, until stdin closes."""
    thinking = random.Random(2400)
    lines = [os.openpty() for _ in range(count)]
    poller = select.epoll()
    for master, slave in lines:
        tty.setraw(slave)
        os.set_blocking(master, False)
        poller.register(master, select.EPOLLIN)
    poller.register(0, select.EPOLLIN)
    print(json.dumps([os.ttyname(slave) for _, slave in lines]), flush=True)
    due: list[tuple[float, int, int]] = []
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            at, master, index = heapq.heappop(due)
            os.write(master, REPLY[index : index + 1])
            if index + 1 < len(REPLY):
                heapq.heappush(due, (at + BYTE_S, master, index + 1))
        for fd, _ in poller.poll(max(0.0, due[0][0] - now) if due else None):
            if fd == 0:
                return
            if os.read(fd, 64).endswith(b"\r"):
                heapq.heappush(due, (time.monotonic() + BYTE_S + thinking.uniform(0, jitter_s), fd, 0))


async def measure(paths: list[str], seconds: float, interval_s: float, slot_s: float) -> dict[str, float]:
    """Ask every port once per interval; CPU µs per exchange, and how long replies took."""
    loop = asyncio.get_running_loop()
    links = [SerialTransport(path) for path in paths]
    await asyncio.gather(*(link.open() for link in links))
    ask = Ask(b"Q1\r")
    slots = max(1, round(interval_s / slot_s)) if slot_s else len(links)
    done = failed = 0
    took: list[float] = []
    grid = [loop.create_future() for _ in range(slots)]

    async def poll(link: SerialTransport, slot: int) -> None:
        nonlocal done, failed
        while True:
            await grid[slot]
            began = loop.time()
            try:
                frame = await link.exchange(ask)
            except Exception:
                failed += 1
                raise
            assert frame == REPLY[:-1]
            done += 1
            took.append(loop.time() - began)

    pollers = [loop.create_task(poll(link, index % slots)) for index, link in enumerate(links)]
    start = loop.time()
    due = start
    slot = 0

    async def run_until(end: float) -> None:
        nonlocal due, slot
        while due < end:
            await asyncio.sleep(due - loop.time())
            grid[slot].set_result(None)
            grid[slot] = loop.create_future()
            slot = (slot + 1) % slots
            due += interval_s / slots

    await run_until(start + interval_s + 0.5)
    gc.collect()
    gc.freeze()
    before, cpu = done, time.process_time()
    took.clear()
    await run_until(due + seconds)
    cpu, count = time.process_time() - cpu, done - before
    for poller in pollers:
        poller.cancel()
    await asyncio.gather(*pollers, return_exceptions=True)
    for link in links:
        await link.close()
    took.sort()
    return {
        "ports": len(paths),
        "exchanges": count,
        "failed": failed,
        "cpu_us_per_exchange": round(cpu / count * 1e6, 1),
        "reply_ms_p50": round(took[len(took) // 2] * 1e3, 1),
        "reply_ms_p99": round(took[len(took) * 99 // 100] * 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--interval", type=float, default=2.0)
    parser.add_argument("--slot", type=float, default=0.25)
    parser.add_argument("--jitter", type=float, default=0.0, help="units think for up to this many seconds")
    parser.add_argument("--farm", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.farm:
        farm(options.farm, options.jitter)
        return
    for count in options.ports:
        command = [sys.executable, __file__, "--farm", str(count), "--jitter", str(options.jitter)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as served:
            assert served.stdin and served.stdout
            try:
                paths = json.loads(served.stdout.readline())
                print(json.dumps(asyncio.run(measure(paths, options.seconds, options.interval, options.slot))), flush=True)
            finally:
                served.stdin.close()


if __name__ == "__main__":
    main()
