"""Wild requests at the HTTP port, many on one connection: each gets one answer, and none is 500. Run by ``tests.hunt``."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import struct
from typing import Any
from urllib.parse import quote

from tests.hunt import ANSWERED_S, Findings, Stand

LINES_A_CONNECTION = 200

PAGES = ("/", "/ups/ups-01", "/ups/nobody", "/batteries", "/tests", "/shutdown", "/events", "/audit", "/agents", "/login",
         "/static/none.css", "/static/../../../etc/passwd", "/%00", "/..%2f..%2f", "//", "/api", "/api/v1", "/docs",
         "/metrics")  # fmt: skip

VALUES = (
    "ups-01", "ups-02", "UPS-01", "nobody", "all", "group:feed-a", "group:", "input.voltage", "ups.status", "ups.delay.start",
    "beeper.toggle", "test.battery.start.quick", "load.off", "24h", "30d", "1h", "2026-01-01", "2026-01-01T00:00:00Z", "0", "1",
    "-1", "100", "10000", "10001", "9" * 30, "1e9", "0.5", "nan", "true", "null", "", " ", "%", "\x00", "\x1b[31m", "a\r\nb",
    "é" * 40,
    "\u202e", "A" * 3000, "../../etc/passwd", "';--", "{{7*7}}", "<script>", "raw", "15m", "csv", "op", "quick",
)  # fmt: skip
BODIES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, 1e308, "", "ups-01", "120", "quick", "deep", "all", [], {}, ["all"], ["ups-01"], [1], [[]],
    {"a": 1}, "é" * 40, "\x00", "A" * 2000, "\ud800", ["x"] * 2000, False, 60,
)  # fmt: skip
NAMES = ("value", "targets", "kind", "for_s", "armed", "reason", "cut", "drill", "name", "allow", "expires_s", "force", "x", "")
METHODS = ("GET",) * 8 + ("HEAD", "POST", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")
ACTING = 0.08
"""Of requests that act: they are written to the disk before and behind, which takes its time."""

LOGIN = {name: "Basic " + base64.b64encode(f"{name}:secret".encode()).decode() for name in ("op", "reader", "nobody")}
STRANGERS = ("Basic b3A6d3Jvbmc=", "Basic !!", "Bearer qxf_" + "A" * 40, "Bearer", "Digest x", "Basic " + "A" * 5000)
"""They come from an address of their own: who guesses is soon not heard there any more."""

_paths: dict[int, list[tuple[str, str]]] = {}
"""(method, path with places) of every operation, by port."""


async def operations(stand: Stand) -> list[tuple[str, str]]:
    """What the agent says may be asked; without streams, which have no end."""
    if stand.http not in _paths:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.http, limit=1 << 22)
        writer.write(b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % LOGIN["op"].encode())
        status, body = await next_answer(reader, "GET")
        assert status == 200, body
        writer.close()
        paths = json.loads(body)["paths"].items()
        found = [(method.upper(), path) for path, methods in paths if not path.endswith("stream") for method in methods]
        _paths[stand.http] = sorted(found)
    return _paths[stand.http]


async def next_answer(reader: asyncio.StreamReader, method: str) -> tuple[int, bytes]:
    """Status and body of the next answer. Raises IncompleteReadError."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split()[1])
    if method == "HEAD" or status in (204, 304) or status < 200:
        return status, b""
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size + 2)
        await reader.readexactly(2)
        return status, body
    return status, await reader.readexactly(int(headers.get("content-length", "0")))


def wild_request(rng: random.Random, known: list[tuple[str, str]], authorization: str | None) -> tuple[str, bytes]:
    """Method and bytes of one request that is HTTP, whatever else it may be."""
    kind = rng.random()
    if kind < 0.75:
        method, path = rng.choice(known)
        if method not in ("GET", "HEAD") and rng.random() > ACTING:
            method, path = "GET", rng.choice([path for method, path in known if method == "GET"])
        while "{" in path:
            before, _, rest = path.partition("{")
            path = before + quote(rng.choice(VALUES[:12] if rng.random() < 0.8 else VALUES), safe="") + rest.partition("}")[2]
        if rng.random() < 0.05:
            method = rng.choice(METHODS)
    else:
        method, path = "GET" if rng.random() < 0.7 else rng.choice(METHODS), rng.choice(PAGES)
        if path == "/login" and method == "POST":
            method = "GET"  # a hash each time
    if rng.random() < 0.5:
        names = ("target", "since", "until", "limit", "after", "every", "kind", "x", "next", "curve", "force")
        texts = (f"{rng.choice(names)}={quote(rng.choice(VALUES), safe='')}" for _ in range(rng.randrange(4)))
        path += "?" + "&".join(texts)
    if path.partition("?")[0].endswith("stream"):
        path = "/"
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    for name, values in (
        ("Accept", ("text/html", "application/json", "*/*", "x" * 2000)), ("Cookie", ("qxfleet_session=x", "a=b; " * 50)),
        ("Origin", ("http://x", "http://evil.example", "null")), ("Sec-Fetch-Site", ("same-origin", "cross-site", "none", "?")),
        ("If-None-Match", ("*", '"x"')), ("Range", ("bytes=0-1",)), ("Accept-Language", ("de", "\xff\xfe")),
        ("X-Forwarded-For", ("1.2.3.4",)), ("Last-Event-ID", ("9" * 30, "x")),
    ):  # fmt: skip
        if rng.random() < 0.08:
            lines.append(f"{name}: {rng.choice(values)}")
    body = b""
    if method not in ("GET", "HEAD") or rng.random() < 0.02:
        if rng.random() < 0.7:
            said: Any = {name: rng.choice(BODIES) for name in rng.sample(NAMES, rng.randrange(4))}
            body = json.dumps(said if rng.random() < 0.9 else rng.choice(BODIES)).encode()
        else:
            body = rng.choice((b"", b"{", b"[" * 30_000, b"\xff\xfe", rng.randbytes(rng.randrange(2000))))
        lines.append(f"Content-Type: {rng.choice(('application/json',) * 6 + ('text/plain', 'x', 'multipart/form-data'))}")
        lines.append(f"Content-Length: {len(body)}")
    return method, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def converse(stand: Stand, rng: random.Random, count: int, found: Findings) -> None:
    """Send requests one behind the other without waiting, and look at every answer; who is hung up on comes back."""
    known = await operations(stand)
    stranger = rng.random() < 0.1
    left = [
        wild_request(rng, known, rng.choice(STRANGERS) if stranger else rng.choice((*LOGIN.values(), LOGIN["op"], None)))
        for _ in range(count)
    ]
    address = ("127.0.0.66" if stranger else f"127.0.0.{rng.randrange(2, 60)}", 0)
    deadline = asyncio.get_running_loop().time() + ANSWERED_S
    while left:
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.http, limit=1 << 22, local_addr=address)
        stream = b"".join(request for _, request in left)
        sending = asyncio.create_task(_send(writer, stream, rng))
        answered = 0
        try:
            async with asyncio.timeout_at(deadline):
                for method, request in left:
                    status, body = await next_answer(reader, method)
                    answered += 1
                    found.answers[str(status)] += 1
                    if status == 500 or b"Traceback" in body:
                        found.problems.append(f"{request[:400]!r} is answered {status}: {body[:400]!r}")
        except (asyncio.IncompleteReadError, ConnectionError):
            if not answered:
                found.problems.append(f"hung up unanswered: {left[0][1][:400]!r}")
                answered = 1
        except (TimeoutError, ValueError, asyncio.LimitOverrunError) as error:
            found.problems.append(f"{type(error).__name__} before {left[answered][1][:400]!r}")
            answered += 1
        finally:
            sending.cancel()
            writer.transport.abort()
            found.connections += 1
        found.asked += answered
        left = left[answered:]


async def _send(writer: asyncio.StreamWriter, stream: bytes, rng: random.Random) -> None:
    at = 0
    while at < len(stream):
        size = rng.choice((1, 7, 100, 1500, 40_000, 40_000))
        writer.write(stream[at : at + size])
        at += size
        await writer.drain()


async def cut(stand: Stand, rng: random.Random, found: Findings) -> None:
    """What is no HTTP, half a request, a stream or an answer nobody takes; then hang up in one way or another."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    try:
        await loop.sock_connect(client, ("127.0.0.1", stand.http))
        login = LOGIN["op"].encode()
        await loop.sock_sendall(client, rng.choice((
            b"GET / HTTP/1.1\r\nHost:", b"\x16\x03\x01\x02", rng.randbytes(200), b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100,
            b"GET /" + b"a" * 100_000, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % login,
            b"GET /api/v1/fleet/stream HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % login,
            b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n" % login * 20,
            b"POST /api/v1/tests HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n{",
            b"POST /api/v1/tests HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b"",
        )))  # fmt: skip
        if rng.random() < 0.3:
            client.shutdown(socket.SHUT_WR)
        if rng.random() < 0.5:
            said = await asyncio.wait_for(loop.sock_recv(client, 1000), 0.1)
            if said.startswith(b"HTTP/1.1 500"):
                found.problems.append(f"what is no request is answered {said!r}")
        if rng.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, TimeoutError):
        pass  # the server may hang up first
    finally:
        client.close()
        found.connections += 1
