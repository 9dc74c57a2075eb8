"""Goodbyes under TLS, of every kind and in any number: none holds up the loop on which UPSes are polled."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interfaces.nut_stage import stage
from tests.interfaces.test_upsd import certificate, plain
from tests.parts import absent

Secured = ssl.SSLSocket

IN_TIME_S = 0.5


def unwrap(client: Secured) -> None:
    """close_notify, and wait for that of the other side."""
    with contextlib.suppress(OSError):
        client.unwrap().close()


def logout(client: Secured) -> None:
    client.sendall(b"LOGOUT\n")
    assert client.recv(100) == b"OK Goodbye\n"
    unwrap(client)


def half_close(client: Secured) -> None:
    """The TCP side ends without a word of TLS; what was asked is answered, or not."""
    client.sendall(b"VER\n")
    client.shutdown(socket.SHUT_WR)


def reset(client: Secured) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def notify_and_go_on(client: Secured) -> None:
    """close_notify, and then the TCP connection is kept."""
    client.setblocking(False)
    with contextlib.suppress(ssl.SSLError, OSError):
        client.unwrap()


def silence(client: Secured) -> None:
    """Nothing."""


FAREWELLS: tuple[Callable[[Secured], None], ...] = (unwrap, logout, half_close, reset, notify_and_go_on, silence)


def secured(port: int, trusting: ssl.SSLContext) -> Secured:
    """A client behind a finished handshake that has asked once."""
    plain_socket = socket.create_connection(("127.0.0.1", port), timeout=20)
    plain_socket.sendall(b"STARTTLS\n")
    assert plain_socket.recv(100) == b"OK STARTTLS\n"
    client = trusting.wrap_socket(plain_socket, server_hostname="localhost")
    client.sendall(b"PROTVER\n")
    assert client.recv(100) == b"1.3\n"
    return client


class Pulse:
    """How late the loop was at most while it was watched."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def watch(self) -> None:
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(0.01)
            self.worst_s = max(self.worst_s, time.monotonic() - began_s - 0.01)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("farewell", FAREWELLS, ids=lambda each: each.__name__)
async def test_a_goodbye_under_tls_holds_up_nothing(tmp_path: Path, farewell: Callable[[Secured], None]) -> None:
    files = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with stage([plain()], 'cert = "cert.pem"\nkey = "key.pem"', files=files) as play:
        clients: list[Secured] = []

        def come_and_go() -> None:
            for _ in range(5):
                client = secured(play.port, trusting)
                clients.append(client)
                farewell(client)

        pulse = Pulse()
        watching = asyncio.create_task(pulse.watch())
        await asyncio.to_thread(come_and_go)
        caller = await play.caller()
        began_s = time.monotonic()
        assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        assert time.monotonic() - began_s < IN_TIME_S
        watching.cancel()
        assert pulse.worst_s < IN_TIME_S
        if farewell is not silence:
            async with asyncio.timeout(10):
                while await caller.ask("VER") and len(play.server._connections()) > 1:
                    await asyncio.sleep(0.02)
        caller.close()
        for client in clients:
            client.close()


@pytest.mark.timeout(60)
async def test_debians_upsc_says_goodbye_under_tls(tmp_path: Path) -> None:
    upsc = shutil.which("upsc") or absent("no NUT client here: apt-get install -y nut-client")
    async with stage([plain()], 'cert = "cert.pem"\nkey = "key.pem"', files=certificate(tmp_path)) as play:
        for _ in range(3):
            asking = await asyncio.create_subprocess_exec(
                upsc, f"u@127.0.0.1:{play.port}", "ups.status",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(20):
                said, _ = await asking.communicate()
            assert said == b"OL\n"
        caller = await play.caller()
        assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        caller.close()
