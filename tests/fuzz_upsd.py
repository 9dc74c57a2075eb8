# ruff: noqa: T201
"""Wild lines and cut connections against a running agent's NUT server: ``python -m tests.fuzz_upsd --lines N --connections N``.

Every line gets exactly one answer of the protocol, nothing ends the agent, and afterwards it holds no more memory and no more
descriptors than before. Exits 1, saying what, where one of that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from qxfleet.interfaces.upsd.protocol import LONGEST_LINE, Code
from tests.interfaces.nut_stage import USERS, free_port
from tests.scenarios.play import Play, family, until

LINES_A_CONNECTION = 1000
"""Within what a client may ask at once, so that nobody waits for the rate limit."""

AT_ONCE = 20
WARM_LINES, WARM_CONNECTIONS = 20_000, 2_000
"""After these the memory is taken that must stay: caches are full, and so are the allocator's pools."""

ANSWERED_S = 300.0
"""A conversation of a thousand lines is answered by then; refusals wait for the database, which has a lot to write here."""

PARTS = 10

GROWTH_KIB = 4096
"""What the agent may grow by, all told: readings and events are written meanwhile."""

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


@dataclass
class Findings:
    """What was sent, and what must not be."""

    lines: int = 0
    connections: int = 0
    problems: list[str] = field(default_factory=list)


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


async def converse(port: int, rng: random.Random, count: int, found: Findings) -> None:
    """Send lines in pieces of any size, and count the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
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
        found.lines += count
        found.connections += 1


async def cut(port: int, rng: random.Random, found: Findings) -> None:
    """Open a connection and end it in the middle of something, in one way or another."""
    loop = asyncio.get_running_loop()
    client = socket.socket()
    client.setblocking(False)
    try:
        await loop.sock_connect(client, ("127.0.0.1", port))
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


async def wild(port: int, lines: int, connections: int, found: Findings, seed: int) -> None:
    """So many lines and cut connections, some at the same time."""
    left = [lines, connections]

    async def one(number: int) -> None:
        rng = random.Random(f"{seed}/{number}")
        while left[0] > 0 or left[1] > 0:
            if left[0] > 0 and (left[1] <= 0 or number % 2 == 0):
                count = min(LINES_A_CONNECTION, left[0])
                left[0] -= count
                await converse(port, rng, count, found)
            else:
                left[1] -= 1
                await cut(port, rng, found)

    await asyncio.gather(*(one(number) for number in range(AT_ONCE)))


def resident_kib(pid: int) -> int:
    """Memory of a process that is its own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(value) for value in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE))


def descriptors(pid: int) -> int:
    """Open files and sockets of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def hunt(lines: int, connections: int, seed: int, *, grown: bool = True) -> Findings:
    """The whole hunt on an agent of its own; problems found are in the answer. ``grown``: a growth of its memory is one.

    In a short hunt it is not: an agent's own first minutes take more.
    """
    found = Findings()
    port = free_port()
    async with Play(family(2)) as play:
        (play.folder / "secret").write_text("secret\n")
        from tests.interfaces.test_upsd import certificate

        certificate(play.folder)
        users = "".join(f'[[user]]\nname = "{name}"\npassword_file = "secret"\n{USERS[name]}\n' for name in ("nobody", "sec"))
        text = play.config.read_text()
        play.config.write_text(f'{text}\n[nut]\nlisten = ["127.0.0.1:{port}"]\ncert = "cert.pem"\nkey = "key.pem"\n{users}')
        await play.start()
        assert play.process is not None
        pid = await play.interfaces()

        async def online() -> bool:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return False
            writer.write(b"GET VAR ups-01 ups.status\n")
            answer = await reader.readline()
            writer.close()
            return answer.startswith(b"VAR")

        await until(online, 30, "the first reading")
        empty = descriptors(pid)
        await wild(port, min(lines // 5, WARM_LINES), min(connections // 5, WARM_CONNECTIONS), Findings(), seed)
        await asyncio.sleep(1.0)
        before = resident_kib(pid)
        began_s = time.monotonic()
        memory: list[str] = []
        for part in range(PARTS):
            await wild(port, lines // PARTS, connections // PARTS, found, seed + 1 + part)
            memory.append(f"{resident_kib(pid) / 1024:.1f}")
        took_s = time.monotonic() - began_s
        if play.process.returncode is not None:
            found.problems.append(f"the agent ended with {play.process.returncode}")
            return found
        if await play.interfaces() != pid:
            found.problems.append("the interfaces' process did not live to see the end")
            return found
        if not await online():
            found.problems.append("the agent does not answer")

        async def gone() -> bool:
            return descriptors(pid) <= empty + 1

        try:
            await until(gone, 20, "every connection is forgotten")
        except AssertionError:
            found.problems.append(f"{descriptors(pid)} descriptors, {empty} before")
        after = resident_kib(pid)
        kept = ", ".join(memory)
        print(f"{found.lines} lines and {found.connections} connections in {took_s:.0f} s")
        print(f"private memory, MiB: {before / 1024:.1f}, then {kept}, at last {after / 1024:.1f}")
        print(f"descriptors {empty}, then {descriptors(pid)}")
        if grown and after - before > GROWTH_KIB:
            found.problems.append(f"private memory grew from {before} to {after} KiB")
        await play.stop()
        if "Traceback" in play.log():
            found.problems.append(f"an error that is ours: {play.log()[-2000:]}")
    return found


def main() -> int:
    """Hunt, and tell what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = asyncio.run(hunt(arguments.lines, arguments.connections, arguments.seed))
    for problem in found.problems[:20]:
        print(problem)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
