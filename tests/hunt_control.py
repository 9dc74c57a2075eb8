"""Wild requests at the control socket: every line gets one answer, and none tells of a fault of ours. Run by ``tests.hunt``."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import fields
from typing import Any

from qxfleet.api.requests import REQUESTS
from tests.hunt import ANSWERED_S, Findings, Stand

LINES_A_CONNECTION = 500

CODES = {"bad-request", "unknown-target", "too-slow", "not-possible", "failed", "busy"}
"""What an error may be called; ``internal`` is a fault of ours."""

ASKED = sorted(name for name, kind in REQUESTS.items() if not kind.stream)
STREAMS = sorted(name for name, kind in REQUESTS.items() if kind.stream)

RARELY = frozenset(name for name, kind in REQUESTS.items() if kind.right not in (None, "read") or name == "battery-replaced")
"""What acts is written to the disk before and behind, which takes its time."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 60, 0.5, 1e308, -1e308, 2**63, -(2**63), 10**30, "", "all", "ups-01", "ups-02", "UPS-01",
    "group:feed-a", "group:", "ups-99", "ups.status", "ups.delay.start", "beeper.toggle", "test.battery.start.quick",
    "load.off.delay", "120", "quick", "deep", "timed", "op", "nobody", "host", "quiet", "\x00", "\x1b[31m", "a\r\nb",
    "\u202e", "é" * 70, "A" * 2000, "\ud800", "../../etc/passwd", "%s%n", "';--", [], {}, ["all"], ["ups-01"], ["ups-01", "x"],
    [1], [None], [[]], [["all"]], {"a": 1}, ["x"] * 1001,
)  # fmt: skip


LIKELY: dict[str, tuple[Any, ...]] = {
    "targets": (["all"], ["ups-01"], ["group:feed-a"], ["ups-01", "ups-02"], []), "ups": ("ups-01", "ups-02"),
    "name": ("beeper.toggle", "ups.delay.start", "quiet", "nightly", "t1"), "value": ("120", 180, "x"), "armed": (False,),
    "user": ("op", "reader"), "names": (["quiet"], []), "kind": ("quick", "deep"), "run": (1,), "most": (5,), "limit": (10,),
    "since_us": (0, 1_700_000_000_000_000), "force": (False,), "curve": (True, False), "remedies": (True, False),
    "every_s": (1,), "for_s": (60,), "reason": ("why",), "allow": (["read"],),
}  # fmt: skip
"""What an argument of that name may well be."""


def wild_object(rng: random.Random, do: str) -> dict[str, Any]:
    """A request by name with arguments that may be right."""
    names = [each.name for each in fields(REQUESTS[do])] if do in REQUESTS else []
    likely = 0.95 if rng.random() < 0.5 else 0.3
    args: Any = {
        name: rng.choice(LIKELY[name] if name in LIKELY and rng.random() < likely else VALUES)
        for name in names if name in ("targets", "ups", "name") or rng.random() < 0.4
    }  # fmt: skip
    if rng.random() < 0.1:
        args[rng.choice(("target", "x", "", "\ud800", "do"))] = rng.choice(VALUES)
    elif rng.random() < 0.05:
        args = rng.choice(VALUES)
    said: dict[str, Any] = {"do": do, "args": args}
    if rng.random() < 0.03:
        said["do"] = rng.choice(VALUES)
    if rng.random() < 0.02:
        del said[rng.choice(("do", "args"))]
    return said


def wild_line(rng: random.Random, key: int) -> bytes:
    """One line, from right to noise; never a stream, which ends the conversation."""
    kind = rng.random()
    if kind < 0.75:
        do = rng.choice(ASKED)
        if do in RARELY and rng.random() < 0.9:
            do = rng.choice(("status", "vars", "about", "commands", "settings"))
        return json.dumps({"id": key, **wild_object(rng, do)}).encode()
    if kind < 0.9:
        line = bytearray(json.dumps({"id": key, "do": rng.choice(ASKED[:6]), "args": {"targets": ["all"]}}).encode())
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(line))
            line[at : at + rng.randrange(3)] = bytes([rng.randrange(256)]) * rng.randrange(3)
        return bytes(line).replace(b"\n", b" ")
    if kind < 0.97:
        return rng.randbytes(rng.randrange(1, 120)).replace(b"\n", b"")
    return rng.choice((b"[", b"{", b'{"a":', b"[[1],", b"9", b" ", b'"')) * rng.randrange(1, 12_000)


async def connected(stand: Stand) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the socket; where too many wait to be let in, asyncio takes the kernel's "try again" for success."""
    while True:
        reader, writer = await asyncio.open_unix_connection(stand.control, limit=1 << 22)
        try:
            writer.get_extra_info("socket").getpeername()
        except OSError:
            writer.transport.abort()
            await asyncio.sleep(0.05)
        else:
            return reader, writer


async def converse(stand: Stand, rng: random.Random, count: int, found: Findings) -> None:
    """Send lines in pieces of any size, and look at every answer."""
    reader, writer = await connected(stand)
    sent = [wild_line(rng, number) for number in range(count)]
    stream = b"".join(line + b"\n" for line in sent)

    async def send() -> None:
        at = 0
        while at < len(stream):
            size = rng.choice((1, 7, 100, 1500, 40_000, 40_000))
            writer.write(stream[at : at + size])
            at += size
            await writer.drain()

    sending = asyncio.create_task(send())
    answered = 0
    try:
        async with asyncio.timeout(ANSWERED_S):
            while answered < count:
                line = await reader.readline()
                if not line.endswith(b"\n"):
                    found.problems.append(f"hung up after {answered} answers, before {sent[answered][:200]!r}")
                    return
                answer = json.loads(line)
                if answer.get("error", {}).get("code") == "busy":  # others' orders are not over yet
                    found.answers["busy"] += 1
                    return await _again(stand, rng, count, found)
                _judge(answer, answered, sent[answered], found)
                answered += 1
    except (TimeoutError, ConnectionError, ValueError) as error:
        found.problems.append(f"{type(error).__name__} after {answered} of {count} answers, before {sent[answered][:200]!r}")
    finally:
        sending.cancel()
        writer.transport.abort()
        found.asked += answered
        found.connections += 1


async def _again(stand: Stand, rng: random.Random, count: int, found: Findings) -> None:
    await asyncio.sleep(1.0)
    await converse(stand, rng, count, found)


def _judge(answer: dict[str, Any], key: int, sent: bytes, found: Findings) -> None:
    code = "ok" if answer.get("ok") is True and isinstance(answer.get("result"), dict) else answer.get("error", {}).get("code")
    found.answers[str(code)] += 1
    if code != "ok" and code not in CODES:
        found.problems.append(f"{sent[:300]!r} is answered {str(answer)[:300]}")
    if sent.startswith(b'{"id": %d, "do"' % key) and answer.get("id") not in (key, None):
        found.problems.append(f"{sent[:300]!r} is answered as {answer.get('id')!r}")


async def cut(stand: Stand, rng: random.Random, found: Findings) -> None:
    """Begin a stream, or send too long a line, or half of one; look at a first answer or not, and hang up."""
    reader, writer = await connected(stand)
    kind = rng.random()
    try:
        if kind < 0.6:
            do = rng.choice(STREAMS)
            writer.write(json.dumps({"id": 1, **wild_object(rng, do), "do": do}).encode() + b"\n")
        elif kind < 0.7:
            writer.write(b"x" * 70_000 + b"\n")
        else:
            writer.write(wild_line(rng, 1)[: rng.randrange(1, 200)])
        if kind < 0.7 and rng.random() < 0.5:
            async with asyncio.timeout(0.2):
                said = json.loads(await reader.readline() or "{}")
            if (code := said.get("error", {}).get("code")) not in (None, *CODES):
                found.problems.append(f"a stream ends with {code}: {said}")
        if rng.random() < 0.5:
            writer.write(b"\n")
    except (TimeoutError, ConnectionError):
        pass  # the agent may hang up first, and a stream may say nothing for a while
    finally:
        writer.transport.abort()
        found.connections += 1
