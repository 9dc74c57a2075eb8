"""The same small device behind every kind of link, with a way to break each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import threading
from pathlib import Path
from typing import Any

import serial
import serial.rfc2217

from qxfleet.testing.links import END, FaultyTransport, NoEnd, PtyLine, spoiled
from qxfleet.transports.inproc import InProcTransport
from qxfleet.transports.line import LineTransport
from qxfleet.transports.rfc2217 import Rfc2217Transport
from qxfleet.transports.serial_port import SerialTransport
from qxfleet.transports.tcp import TcpTransport

STATUS = b"(208.4 140.0 208.4 034 59.9 2.05 35.0 00110000"
RATING = b"#220.0 000 024.0 50.0"
"""Both from megatec-family.md, sections 4 and 5 (the protocol paper's own examples)."""


def device(request: bytes) -> bytes | None:
    """Knows ``Q1`` and ``F``, echoes what it does not know, and is silent to ``T``; ``X`` gets 600 bytes."""
    match request:
        case b"Q1\r":
            return STATUS + END
        case b"F\r":
            return RATING + END
        case b"T\r":
            return None
        case b"X\r":
            return b"x" * 600 + END
    return request


class Rig:
    """One link and the device at its end."""

    def __init__(self, folder: Path) -> None:
        self.line = PtyLine(folder / "ups0", device)
        self.link: LineTransport

    async def start(self) -> None: ...

    async def stop(self) -> None:
        await self.link.close()
        self.line.unplug()

    async def unplug(self) -> None:
        self.line.unplug()

    async def replug(self) -> None:
        self.line.plug()

    def say(self, chunk: bytes) -> None:
        self.line.say(chunk)


class PtyRig(Rig):
    async def start(self) -> None:
        self.line.plug()
        self.link = SerialTransport(self.line.path)


class InProcRig(Rig):
    """A faulty link around a healthy one, both in this process."""

    async def start(self) -> None:
        self.link = self.faulty = FaultyTransport(InProcTransport("ups0", device))
        self.line.faults = self.faulty.faults

    async def unplug(self) -> None:
        self.faulty.unplug()

    async def replug(self) -> None:
        self.faulty.plug()

    def say(self, chunk: bytes) -> None:
        self.faulty.say(chunk)


class TcpRig(Rig):
    """A device server that passes bytes through, one client at a time."""

    port = 0
    writer: asyncio.StreamWriter | None = None

    async def start(self) -> None:
        await self.replug()
        self.link = TcpTransport(f"socket://127.0.0.1:{self.port}", "127.0.0.1", self.port)

    async def stop(self) -> None:
        await self.link.close()
        await self.unplug()

    async def replug(self) -> None:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        self.server.close()
        if self.writer is not None:
            self.writer.close()
            with contextlib.suppress(OSError):
                await self.writer.wait_closed()
        await self.server.wait_closed()

    def say(self, chunk: bytes) -> None:
        assert self.writer is not None
        self.writer.write(chunk)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        loop = asyncio.get_running_loop()
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                request = await reader.readuntil(END)
                reply, delay_s = spoiled(self.line.faults, request, device(request))
                if reply:
                    loop.call_later(delay_s, writer.write, reply)
        writer.close()


class _PtyPort(serial.Serial):  # type: ignore[misc]
    """A pseudo-terminal as a server's port: its lines are remembered, because it has none."""

    cts = dsr = ri = cd = False

    def _update_dtr_state(self) -> None: ...

    def _update_rts_state(self) -> None: ...


class Rfc2217Rig(Rig):
    """pyserial's own RFC 2217 server side, one client at a time, in front of the device's terminal."""

    cablepower = "normal"

    async def start(self) -> None:
        self.line.plug()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.client: socket.socket | None = None
        self.manager: Any = None
        self.thread = threading.Thread(target=self.serve, name="device server")
        self.thread.start()
        label = f"rfc2217://127.0.0.1:{self.port}"
        self.link = Rfc2217Transport(label, "127.0.0.1", self.port, self.cablepower)

    async def stop(self) -> None:
        await self.link.close()
        self.listener.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self.thread.join)
        self.listener.close()
        self.line.unplug()

    async def unplug(self) -> None:
        assert self.client is not None
        self.client.shutdown(socket.SHUT_RDWR)

    async def replug(self) -> None: ...

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.client = client
            with client, _PtyPort(self.line.path, timeout=0) as port:
                self.serve_client(client, port)

    def serve_client(self, client: socket.socket, port: serial.Serial) -> None:
        self.served = port
        self.manager = serial.rfc2217.PortManager(port, _Wire(client))
        poller = select.poll()
        poller.register(client, select.POLLIN)
        poller.register(port.fileno(), select.POLLIN)
        with contextlib.suppress(OSError):
            while True:
                for fd, _ in poller.poll():
                    if fd == client.fileno():
                        if not (chunk := client.recv(1024)):
                            return
                        os.write(port.fileno(), b"".join(self.manager.filter(chunk)))
                    else:
                        client.sendall(b"".join(self.manager.escape(os.read(fd, 1024))))


class _Wire:
    """What PortManager writes its answers to."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client

    def write(self, data: bytes) -> None:
        self.client.sendall(data)


RIGS: dict[str, type[Rig]] = {"inproc": InProcRig, "pty": PtyRig, "tcp": TcpRig, "rfc2217": Rfc2217Rig}

__all__ = ["END", "RATING", "RIGS", "STATUS", "NoEnd", "PtyRig", "Rfc2217Rig", "Rig", "TcpRig", "device"]
