"""Wild lines and cut connections at the NUT port: every line gets exactly one answer of the protocol. Run by ``tests.hunt``."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct

from qxfleet.interfaces.upsd.protocol import LONGEST_LINE, Code
from tests.hunt import ANSWERED_S, Findings, Stand

LINES_A_CONNECTION = 1000
"""Within what a client may ask at once, so that nobody waits for the rate limit."""

VERBS = (
    "GET", "LIST", "SET", "INSTCMD", "LOGIN", "PRIMARY", "MASTER", "FSD", "USERNAME", "PASSWORD", "VER", "NETVER", "PROTVER",
    "HELP",
)  # fmt: skip
WORDS = (
    "VAR", "TYPE", "DESC", "CMDDESC", "UPSDESC", "NUMLOGINS", "TRACKING", "UPS", "RW", "CMD", "ENUM", "RANGE", "CLIENT", "ups-01",
    "ups-02", "UPS-01", "nobody", "secret", "ups.status", "ups.delay.start", "input.voltage", "server.info", "load.off", "ON",
    "OFF", "60", "-1", "99999999999999999999", '"', "\\", '"a b"', '""', "'", "%s%n", "../../etc/passwd", "\x00", "\t", "\r",
    "é", "\u202e", "€" * 30, "A" * 300,
)  # fmt: skip

LAST = b"GET VAR fuzz server.version\n"
"""The last line of a connection: with its answer all before it are in."""

ANSWER = re.compile(
    rb"(?:ERR (?:" + b"|".join(code.value.encode() for code in Code) + rb")|OK(?: [A-Z-]+GRANTED)?|OFF|ON|1\.3|Commands: .*"
    rb"|qxfleet .*|(?:VAR|TYPE|DESC|CMDDESC|UPSDESC|NUMLOGINS) .+)"
)  # fmt: skip
"""What a line is answered with, lists apart."""


def wild_line(rng: random.Random) -> bytes:
    """One line, from nearly right to noise; never one that ends the conversation by right."""
    kind = rng.random()
    if kind < 0.65:
        line = " ".join([rng.choice(VERBS), *rng.choices(WORDS, k=rng.randrange(5))]).encode()
    elif kind < 0.85:
        line = rng.randbytes(rng.randrange(1, 80))
    elif kind < 0.95:
        line = " ".join(rng.choices(WORDS, k=rng.randrange(40))).encode()
    else:
        line = rng.choice(VERBS).encode() + b" " * rng.randrange(3) + rng.randbytes(rng.randrange(2 * LONGEST_LINE))
    for _ in range(rng.randrange(3) if kind < 0.85 else 0):
        at = rng.randrange(len(line) + 1)
        line = line[:at] + bytes([rng.randrange(256)]) * rng.randrange(3) + line[at + rng.randrange(2) :]
    line = line.replace(b"\n", b"")
    plain = bytes(byte for byte in line if byte >= 32 and byte not in b'"\\ ').upper()
    return b"LIST" if plain.startswith((b"LOGOUT", b"STARTTLS")) else line


async def converse(stand: Stand, rng: random.Random, count: int, found: Findings) -> None:
    """Send lines in pieces of any size, and count the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.nut, limit=1 << 20)
    sent = [wild_line(rng) for _ in range(count)]
    stream = b"".join(line + b"\n" for line in sent) + LAST

    async def send() -> None:
        at = 0
        while at < len(stream):
            size = rng.choice((1, 7, 100, 1500, 40_000))
            writer.write(stream[at : at + size])
            at += size
            await writer.drain()

    sending = asyncio.create_task(send())
    answers = 0
    inside = b""
    try:
        async with asyncio.timeout(ANSWERED_S):
            while True:
                line = (await reader.readline()).rstrip(b"\n")
                if line.startswith(b"VAR fuzz server.version "):
                    break
                if not line and reader.at_eof():
                    found.problems.append(f"hung up after {answers} answers")
                    return
                if inside:
                    inside = b"" if line == b"END" + inside[5:] else inside
                    answers += not inside
                elif line.startswith(b"BEGIN LIST "):
                    inside = line
                else:
                    answers += 1
                    if not ANSWER.fullmatch(line):
                        found.problems.append(f"no answer of the protocol: {line!r}")
        if answers != count:
            found.problems.append(f"{answers} answers to {count} lines")
    except (TimeoutError, ConnectionError) as error:
        found.problems.append(f"{type(error).__name__} after {answers} of {count} answers, before {sent[answers][:80]!r}")
    finally:
        sending.cancel()
        writer.transport.abort()
        found.asked += count
        found.connections += 1


async def cut(stand: Stand, rng: random.Random, found: Findings) -> None:
    """Open a connection and end it in the middle of something, in one way or another."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    try:
        await loop.sock_connect(client, ("127.0.0.1", stand.nut))
        for _ in range(rng.randrange(4)):
            words = rng.choice((
                b"LIST VAR ups-01\n", b"LIST UPS\nLIST V", b"GET VAR ups-01 ups.status\n", b'SET VAR "', b"USERNAME nobody\n",
                b"PASSWORD secret\nLOGIN ups-01\n", b"A" * 5000, b"STARTTLS\n", b"\x16\x03\x01\x02", b"LOGOUT\n", b"",
            ))  # fmt: skip
            await loop.sock_sendall(client, words)
        if rng.random() < 0.3:
            await asyncio.wait_for(loop.sock_recv(client, 100), 0.05)
        if rng.random() < 0.5:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except (OSError, TimeoutError):
        pass  # the server may hang up first
    finally:
        client.close()
        found.connections += 1
