# ruff: noqa: T201
"""Many NUT clients in one process: each lists the variables of one UPS after the other.

``python -m tests.benchmarks.nut_clients PORT CLIENTS SECONDS EVERY NAME...``: one JSON line of figures on stdout. ``EVERY``
seconds lie between two questions of a client; 0: it asks again as soon as it is answered.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

CONNECT_AT_ONCE = 100


class Client(asyncio.Protocol):
    """Asks, and checks that the answer is the whole list of the UPS it asked for."""

    def __init__(self, figures: Figures, number: int) -> None:
        self._figures = figures
        self._next = number
        self._answer = bytearray()
        self._end = b""
        self._asked_s = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._figures.over:
            self._figures.wrong("hung up" if exc is None else type(exc).__name__)

    def ask(self) -> None:
        """The next UPS's variables."""
        figures = self._figures
        if figures.over or self._transport is None or self._transport.is_closing():
            return
        name = figures.names[self._next % len(figures.names)]
        self._next += 1
        self._end = f"END LIST VAR {name}\n".encode()
        self._asked_s = time.monotonic()
        self._transport.write(f"LIST VAR {name}\n".encode())

    def data_received(self, data: bytes) -> None:
        self._answer += data
        figures = self._figures
        if self._answer.startswith(b"ERR"):
            figures.wrong(self._answer.decode().strip())
        elif not self._answer.endswith(self._end):
            return
        elif not self._answer.startswith(b"BEGIN" + self._end[3:]) or b' ups.status "' not in self._answer:
            figures.wrong("not what was asked")
        now_s = time.monotonic()
        figures.answered(now_s - self._asked_s, len(self._answer))
        self._answer.clear()
        if figures.every_s:
            due_s = self._asked_s + figures.every_s
            asyncio.get_running_loop().call_later(max(0.0, due_s - now_s), self.ask)
        else:
            self.ask()


class Figures:
    """What all clients saw."""

    def __init__(self, names: list[str], every_s: float) -> None:
        self.names, self.every_s = names, every_s
        self.over = False
        self.lists = self.bytes = 0
        self.latency = [0] * 10_001
        self.errors: dict[str, int] = {}

    def wrong(self, what: str) -> None:
        """Something that must not be."""
        self.errors[what] = self.errors.get(what, 0) + 1

    def answered(self, after_s: float, size: int) -> None:
        """One list came."""
        self.lists += 1
        self.bytes += size
        self.latency[min(10_000, int(after_s * 1000))] += 1

    def percentile_ms(self, share: float) -> int:
        """Whole milliseconds within which that share of the lists came."""
        left = share * self.lists
        for ms, count in enumerate(self.latency):
            left -= count
            if left <= 0:
                return ms
        return len(self.latency)


async def main(port: int, clients: int, seconds: float, every_s: float, names: list[str]) -> None:
    """Connect all, ask for so long, tell."""
    loop = asyncio.get_running_loop()
    figures = Figures(names, every_s)
    began_s = time.monotonic()
    connected: list[Client] = []
    transports: list[asyncio.BaseTransport] = []
    for first in range(0, clients, CONNECT_AT_ONCE):
        some = [
            loop.create_connection(lambda number=number: Client(figures, number), "127.0.0.1", port)  # type: ignore[misc]
            for number in range(first, min(clients, first + CONNECT_AT_ONCE))
        ]
        for transport, client in await asyncio.gather(*some):
            connected.append(client)
            transports.append(transport)
    print(json.dumps({"connected": len(connected), "connecting_s": time.monotonic() - began_s}), flush=True)
    random.seed(1)
    for client in connected:
        loop.call_later(random.uniform(0, every_s or 1.0), client.ask)
    await asyncio.sleep(seconds)
    figures.over = True
    await asyncio.sleep(0.2)
    for transport in transports:
        transport.close()
    print(json.dumps({
        "lists": figures.lists, "bytes": figures.bytes, "errors": figures.errors, "seconds": seconds,
        "p50_ms": figures.percentile_ms(0.5), "p99_ms": figures.percentile_ms(0.99), "worst_ms": figures.percentile_ms(1.0),
    }), flush=True)  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5:]))
