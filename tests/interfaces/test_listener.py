"""Limits of what listens: a flood makes room for others, slow requests end, and what is asked properly is answered throughout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from qxfleet.agent.bus import Bus
from qxfleet.config.access import Listen
from qxfleet.config.faces import Face
from qxfleet.interfaces import http
from qxfleet.interfaces.http import HttpServer, Receive, Send
from qxfleet.interfaces.upsd import server as nut
from qxfleet.model.clock import Clock
from tests.interfaces.nut_stage import free_port, stage
from tests.interfaces.test_upsd import plain


async def application(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """``/long``: 20 MB; ``/stream``: never ends; else what was posted."""
    body = b""
    while scope["method"] == "POST":
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/long":
        for _ in range(320):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    if scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await asyncio.sleep(60)
    await send({"type": "http.response.body", "body": body or b"well"})


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """The application at a port."""

    async def made() -> Any:
        return application

    agent: Any = SimpleNamespace(bus=Bus(), clock=Clock())
    server, port = HttpServer(agent, "http", made, ()), free_port()
    await server.start(Face((Listen("127.0.0.1", port),)))
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.05)
        yield port
    finally:
        await server.stop()


async def answer(port: int, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    async with asyncio.timeout(10):
        found = await reader.read()
    writer.close()
    return found


async def ends(reader: asyncio.StreamReader) -> bool:
    """Whether the other side hangs up."""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
    return True


async def test_silent_connections_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_CONNECTIONS", 20)
    async with serving() as port:
        streaming = await asyncio.open_connection("127.0.0.1", port)
        streaming[1].write(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"begun" in await streaming[0].readuntil(b"begun")
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
        for _ in range(5):
            assert (await answer(port)).endswith(b"well\r\n0\r\n\r\n")
        assert await ends(silent[0][0])
        assert not streaming[0].at_eof(), "who is being answered is not silent"
        for _, writer in (streaming, *silent):
            writer.close()


async def test_headers_and_bodies_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("HEADERS_S", "BODY_S"):
        monkeypatch.setattr(http, limit, 1.5)
    monkeypatch.setattr(http, "SWEEP_S", 0.1)
    halves = (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
    async with serving() as port:
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in halves]
        for (_, writer), half in zip(clients, halves, strict=True):
            writer.write(half)

        async def drip(writer: asyncio.StreamWriter) -> None:
            """A header every moment is no end of headers."""
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"X-More: a\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.2)

        dripping = asyncio.create_task(drip(clients[2][1]))
        began_s = time.monotonic()
        assert all(await asyncio.gather(*(ends(reader) for reader, _ in clients)))
        assert time.monotonic() - began_s > 1.0
        dripping.cancel()
        whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\ncompleted"
        assert b"completed" in await answer(port, whole)
        for _, writer in clients:
            writer.close()


async def test_an_answer_that_is_not_taken_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "UNTAKEN_S", 0.5)
    monkeypatch.setattr(http, "SWEEP_S", 0.1)
    async with serving() as port:
        with socket.socket() as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            greedy.connect(("127.0.0.1", port))
            greedy.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
            await asyncio.sleep(2)
            assert (await answer(port)).endswith(b"well\r\n0\r\n\r\n")
            greedy.settimeout(10)
            taken = 0
            with contextlib.suppress(ConnectionError):
                while piece := await asyncio.to_thread(greedy.recv, 1 << 20):
                    taken += len(piece)
            assert taken < 20 << 20


async def test_a_burst_does_not_pass_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nut, "MOST_CLIENTS", 50)
    async with stage([plain()]) as play:
        upsmon = await play.caller("sec")
        assert await upsmon.ask("LOGIN u") == "OK"
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, len(play.server._listener))
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        burst = []
        for _ in range(400):
            each = socket.socket()
            each.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                each.connect(("127.0.0.1", play.port))
            burst.append(each)
        caller = await play.caller()
        assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        assert await upsmon.ask("GET NUMLOGINS u") == "NUMLOGINS u 1", "who is logged in makes no room"
        watching.cancel()
        assert 50 <= most <= 50 + 64, "those who make room are counted until they are gone"
        for each in burst:
            each.close()
        upsmon.close()
        caller.close()


async def test_one_address_takes_no_more_than_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nut, "MOST_CLIENTS", 20)
    monkeypatch.setattr(nut, "MOST_OF_ADDRESS", 10)
    async with stage([plain()]) as play:
        elsewhere = socket.create_connection(("127.0.0.1", play.port), source_address=("127.0.0.9", 0))
        many = [await play.caller() for _ in range(40)]
        assert await many[-1].ask("NETVER") == "1.3"
        elsewhere.sendall(b"NETVER\n")
        assert await asyncio.to_thread(elsewhere.recv, 10) == b"1.3\n", "the one silent longest of all, and not of that address"
        elsewhere.close()
        for each in many:
            each.close()


async def test_a_connection_that_is_not_made_yet_is_no_trouble_to_the_sweep(caplog: pytest.LogCaptureFixture) -> None:
    """The listener counts a guest before asyncio tells it of its connection."""
    async with serving() as port:
        made: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            """Never called."""

        import uvicorn
        from uvicorn.protocols.http.h11_impl import H11Protocol
        from uvicorn.server import ServerState

        config = uvicorn.Config(application, interface="asgi3", ws="none", lifespan="off", log_config=None)
        made.append(http._bounded(H11Protocol)(config, ServerState(), {}))
        assert made[0].late(asyncio.get_running_loop().time()) is False
        assert made[0].silent
        made[0].abort()
        assert (await answer(port)).endswith(b"well\r\n0\r\n\r\n")
