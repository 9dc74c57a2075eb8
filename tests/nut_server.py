"""A small NUT server for tests: what it says is a table, and how it misbehaves is chosen. Written from RFC 9271."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

VARIABLES = {
    "device.mfr": "APC", "device.model": "Smart-UPS 1500", "device.serial": "AS1", "ups.status": "OL", "battery.charge": "100",
    "battery.runtime": "1800", "battery.voltage": "27.1", "battery.voltage.nominal": "24", "input.voltage": "230.1",
    "input.voltage.nominal": "230", "output.voltage": "230.0", "ups.load": "23", "ups.delay.shutdown": "20",
    "ups.delay.start": "30", "ups.timer.shutdown": "-1", "ups.test.result": "No test initiated", "input.sensitivity": "high",
    "ups.id": "hall", "ups.beeper.status": "enabled",
}  # fmt: skip
COMMANDS = (
    "load.off", "shutdown.return", "shutdown.stop", "test.battery.start.quick", "test.battery.stop", "beeper.disable",
    "odd.thing",
)  # fmt: skip
WRITABLE = {
    "ups.delay.shutdown": ("RW NUMBER",), "ups.delay.start": ("RW RANGE NUMBER", ("0", "600")),
    "input.sensitivity": ("RW ENUM STRING:8", "low", "high"), "ups.id": ("RW STRING:8",),
}  # fmt: skip


@dataclass
class Ups:
    variables: dict[str, str] = field(default_factory=lambda: dict(VARIABLES))
    commands: tuple[str, ...] = COMMANDS
    writable: dict[str, tuple[object, ...]] = field(default_factory=lambda: dict(WRITABLE))
    gone: str = ""
    """The code by which everything about it is refused."""


@dataclass
class NutServer:
    """``tracking``: None: not offered; else the words on an order. ``instead``: the answer to a request in the place of the true
    one; None: silence. ``acts``: what an order does to the UPS."""

    upses: dict[str, Ups] = field(default_factory=lambda: {"a": Ups()})
    user: tuple[str, str] = ("op", "secret")
    tracking: tuple[str, ...] | None = ("SUCCESS",)
    instead: Callable[[str], bytes | str | None] = lambda request: ""
    acts: Callable[[Ups, str], None] = lambda ups, order: None
    context: ssl.SSLContext | None = None
    heard: list[str] = field(default_factory=list)
    connections: int = 0
    most_ahead: int = 0
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    asked_tracking: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while line := await reader.readline():
                request = line.decode().rstrip("\n")
                self.heard.append(request)
                answer = self.instead(request)
                if answer is None:
                    continue
                if answer == "":
                    answer = self.answer(request)
                writer.write(answer if isinstance(answer, bytes) else answer.encode())
                await writer.drain()
                if request == "STARTTLS" and self.context is not None:
                    await writer.start_tls(self.context)
        self.writers.discard(writer)
        writer.close()

    def answer(self, request: str) -> str:
        words = shlex.split(request)
        match words:
            case ["VER"]:
                return "Test upsd\n"
            case ["STARTTLS"]:
                return "OK STARTTLS\n" if self.context else "ERR FEATURE-NOT-CONFIGURED\n"
            case ["USERNAME", _] | ["PASSWORD", _]:
                return "OK\n"
            case ["SET", "TRACKING", "ON"]:
                return "OK\n" if self.tracking is not None else "ERR INVALID-ARGUMENT\n"
            case ["GET", "TRACKING", _]:
                assert self.tracking is not None
                word = self.tracking[min(self.asked_tracking, len(self.tracking) - 1)]
                self.asked_tracking += 1
                return f"{word}\n"
            case ["LIST", "UPS"]:
                return self._list("UPS", [f'UPS {name} "Unavailable"' for name in self.upses])
        name = words[2] if words[0] in ("LIST", "GET", "SET") else words[1]
        ups = self.upses.get(name)
        if ups is None:
            return "ERR UNKNOWN-UPS\n"
        if ups.gone:
            return f"ERR {ups.gone}\n"
        match words:
            case ["LIST", "VAR", _]:
                return self._list(f"VAR {name}", [f'VAR {name} {key} "{_quoted(text)}"' for key, text in ups.variables.items()])
            case ["LIST", "RW", _]:
                return self._list(f"RW {name}", [f'RW {name} {key} "{_quoted(ups.variables[key])}"' for key in ups.writable])
            case ["LIST", "CMD", _]:
                return self._list(f"CMD {name}", [f"CMD {name} {command}" for command in ups.commands])
            case ["GET", "TYPE", _, key]:
                return f"TYPE {name} {key} {ups.writable[key][0]}\n"
            case ["LIST", "ENUM", _, key]:
                return self._list(f"ENUM {name} {key}", [f'ENUM {name} {key} "{each}"' for each in ups.writable[key][1:]])
            case ["LIST", "RANGE", _, key]:
                ranges = (f'RANGE {name} {key} "{low}" "{high}"' for low, high in ups.writable[key][1:])  # type: ignore[misc]
                return self._list(f"RANGE {name} {key}", list(ranges))
            case ["INSTCMD", _, command, *_]:
                if command not in ups.commands:
                    return "ERR CMD-NOT-SUPPORTED\n"
                self.acts(ups, command)
                return self._taken()
            case ["SET", "VAR", _, key, value]:
                if key not in ups.writable:
                    return "ERR READONLY\n"
                self.acts(ups, f"{key}={value}")
                ups.variables[key] = value
                return self._taken()
        return "ERR UNKNOWN-COMMAND\n"

    def _taken(self) -> str:
        self.asked_tracking = 0
        return "OK TRACKING 1234-5678\n" if self.tracking is not None else "OK\n"

    @staticmethod
    def _list(what: str, lines: list[str]) -> str:
        return "\n".join([f"BEGIN LIST {what}", *lines, f"END LIST {what}", ""])

    def orders(self) -> list[str]:
        return [request for request in self.heard if request.startswith(("INSTCMD", "SET VAR"))]

    async def hang_up(self) -> None:
        for writer in tuple(self.writers):
            writer.transport.abort()
        await asyncio.sleep(0)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


@asynccontextmanager
async def running(server: NutServer, port: int = 0) -> AsyncIterator[NutServer]:
    """The server on a free port of this machine."""
    listening = await asyncio.start_server(server.serve, "127.0.0.1", port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.hang_up()
        await asyncio.sleep(0.01)
