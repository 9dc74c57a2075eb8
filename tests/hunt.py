# ruff: noqa: T201
"""Wild requests and cut connections against everything that a running agent listens at.

``python -m tests.hunt nut|control|http --requests N --connections N``. Each request gets exactly one answer, nothing ends the
agent or its interfaces, no answer and no line of the log tells of an error of our own, and afterwards neither process holds more
memory or more descriptors than before. Exits 1, saying what, where one of that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tests.interfaces.nut_stage import free_port
from tests.scenarios.play import Play, family, until

AT_ONCE = 20
WARM = 0.2
"""What goes before the memory is taken that must stay: caches are full then, and so are
the allocator's pools, and every thread that reads the database has it open."""

ANSWERED_S = 300.0
"""A conversation is answered by then; refusals wait for the database, which has a lot to write here."""

PARTS = 10

GROWTH_KIB = 6144
"""What a process may grow by, all told: readings, events and entries of the audit trail are written meanwhile."""

USERS = {
    "op": 'allow = ["read", "command", "set", "test", "shutdown"]', "reader": 'allow = ["read"]', "nobody": "",
    "sec": 'upsmon = "secondary"',
}  # fmt: skip
"""Users, each with the password ``secret``."""

PLAN = """
[shutdown]
armed = false
start_when = { on_battery_for = "60s" }
[[load]]
name = "host"
fed_by = ["ups-02"]
stop = { command = ["/bin/true"] }
down_when = { exit = ["/bin/true"] }
[[profile]]
name = "quiet"
targets = ["all"]
[profile.settings]
"ups.delay.start" = 120
"""


@dataclass
class Findings:
    """What was asked, and what must not be."""

    asked: int = 0
    connections: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stand:
    """Where the agent is to be found."""

    control: Path
    nut: int
    http: int


def resident_kib(pid: int) -> int:
    """Memory of a process that is its own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(value) for value in re.findall(r"^Private_\w+:\s+(\d+)", text, re.MULTILINE))


def descriptors(pid: int) -> int:
    """Open files and sockets of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def hunter(name: str) -> ModuleType:
    """``converse`` and ``cut`` at one of the doors."""
    return importlib.import_module(f"tests.hunt_{name}")


def _tracebacks(log: str) -> list[str]:
    """Every traceback of a log."""
    return [each.partition("\n20")[0] for each in log.split("Traceback (most recent call last):")[1:]]


async def wild(name: str, stand: Stand, requests: int, connections: int, found: Findings, seed: int) -> None:
    """So many requests and cut connections, some at the same time."""
    hunt, left = hunter(name), [requests, connections]

    async def one(number: int) -> None:
        rng = random.Random(f"{seed}/{number}")
        while left[0] > 0 or left[1] > 0:
            if left[0] > 0 and (left[1] <= 0 or number % 2 == 0):
                count = min(hunt.LINES_A_CONNECTION, left[0])
                left[0] -= count
                await hunt.converse(stand, rng, count, found)
            else:
                left[1] -= 1
                await hunt.cut(stand, rng, found)

    await asyncio.gather(*(one(number) for number in range(AT_ONCE)))


async def hunt(name: str, requests: int, connections: int, seed: int, *, grown: bool = True) -> Findings:
    """The whole hunt on an agent of its own; problems found are in the answer. ``grown``: a growth of its memory is one.

    In a short hunt it is not: an agent's own first minutes take more.
    """
    found = Findings()
    async with Play(family(2)) as play:
        stand = Stand(play.folder / "agent.sock", free_port(), free_port())
        (play.folder / "secret").write_text("secret\n")
        (play.folder / "secret").chmod(0o600)
        from tests.interfaces.test_upsd import certificate

        certificate(play.folder)
        users = "".join(f'[[user]]\nname = "{name}"\npassword_file = "secret"\n{lines}\n' for name, lines in USERS.items())
        with play.config.open("a") as config:
            config.write(
                f'\n[nut]\nlisten = ["127.0.0.1:{stand.nut}"]\ncert = "cert.pem"\nkey = "key.pem"\n'
                f'[http]\nlisten = ["127.0.0.1:{stand.http}"]\n{users}{PLAN}'
            )
        await play.start()
        await play.all_online()
        assert play.process is not None
        pids = {"core": play.process.pid, "interfaces": await play.interfaces()}

        async def answers() -> bool:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", stand.nut)
            except ConnectionRefusedError:
                return False
            writer.write(b"GET VAR ups-01 ups.status\n")
            answer = await reader.readline()
            writer.close()
            return answer.startswith(b"VAR") and bool((await play.ask("status"))["ok"])

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", stand.http)
            except ConnectionRefusedError:
                return False
            writer.close()
            return True

        await until(answers, 60, "the first reading")
        await until(listens, 60, "the page")
        await wild(name, stand, int(requests * WARM), int(connections * WARM), Findings(), seed)
        await asyncio.sleep(5.0)
        empty = {name: descriptors(pid) for name, pid in pids.items()}
        before = {name: resident_kib(pid) for name, pid in pids.items()}
        began_s = time.monotonic()
        memory: dict[str, list[str]] = {name: [] for name in pids}
        for part in range(PARTS):
            await wild(name, stand, requests // PARTS, connections // PARTS, found, seed + 1 + part)
            for process, pid in pids.items():
                memory[process].append(f"{resident_kib(pid) / 1024:.1f}")
            print(f"{found.asked} asked after {time.monotonic() - began_s:.0f} s, problems: {len(found.problems)}", flush=True)
            if len(found.problems) > 100:
                break
        took_s = time.monotonic() - began_s
        if play.process.returncode is not None:
            found.problems.append(f"the agent ended with {play.process.returncode}")
            return found
        if await play.interfaces() != pids["interfaces"]:
            found.problems.append("the interfaces' process did not live to see the end")
            return found
        if not await answers():
            found.problems.append("the agent does not answer")

        def gone() -> bool:
            return all(descriptors(pid) <= empty[name] + 1 for name, pid in pids.items())

        try:
            await until(gone, 30, "every connection is forgotten")
        except AssertionError:
            found.problems.append(f"descriptors {({name: descriptors(pid) for name, pid in pids.items()})}, {empty} before")
        print(f"{name}: {found.asked} requests and {found.connections} connections in {took_s:.0f} s: {dict(found.answers)}")
        for process, pid in pids.items():
            after = resident_kib(pid)
            print(
                f"{process}: private memory, MiB: {before[process] / 1024:.1f}, then {', '.join(memory[process])}, at last "
                f"{after / 1024:.1f}; descriptors {empty[process]}, then {descriptors(pid)}"
            )
            if grown and after - before[process] > GROWTH_KIB:
                found.problems.append(f"private memory of {process} grew from {before[process]} to {after} KiB")
        await play.stop()
        if "Traceback" in play.log():
            found.problems += [f"an error that is ours: {each[-1500:]}" for each in set(_tracebacks(play.log()))]
        print(f"log: {len(play.log())} bytes")
    return found


def main() -> int:
    """Hunt, and tell what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("door", choices=("nut", "control", "http"))
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = asyncio.run(hunt(arguments.door, arguments.requests, arguments.connections, arguments.seed))
    for problem in sorted(set(found.problems))[:40]:
        print(problem)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
