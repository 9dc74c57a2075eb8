"""The interfaces killed, stopped, driven to a whole core, flooded, and left by clients in every way, all in an outage.

Loads stop and UPSes cut as without interfaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.machine import Machine, Ratings, Source
from qxfleet.testing.simulator import SimulatedUps
from tests.interfaces.nut_stage import free_port
from tests.interfaces.test_upsd import certificate
from tests.interfaces.test_upsd_tls import FAREWELLS
from tests.scenarios.play import SOAK, Play, measured, until
from tests.scenarios.test_room_live import Hosts, configuration

APART_S = 0.2 if SOAK else 1.5
"""Between the moments of two runs. Where other things run beside it, a start of Python alone takes that much longer at times."""

SPEED = 6.0


ROUNDS = 3 if SOAK else 1
LATE_S = 0.5 if SOAK else 2.0
"""A load is late when it is asked to stop by so much later than without interfaces: the planner looks about once a second."""

ANSWER_S = 0.5 if SOAK else 3.0
IDLE, PROCESSES, HALF = (20_000, 4, 600) if SOAK else (3_000, 2, 600)
TLS_CLIENTS = 200 if SOAK else 40
LOG_A_MINUTE = 1_000_000


@dataclass
class Moments:
    """Seconds after the outage was known: each load asked to stop, each UPS told to cut; the slowest answer, and the log."""

    stops: dict[str, float]
    cuts: list[float]
    answer_s: float
    log_a_minute: float


@dataclass(frozen=True)
class Ports:
    """Where the interfaces listen."""

    nut: int
    http: int


@contextlib.asynccontextmanager
async def crowd(kind: str, port: int, count: int, *more: object) -> AsyncIterator[str]:
    """A process of clients; what it said when all was done."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.scenarios.crowd", kind, str(port), str(count), *map(str, more),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        async with asyncio.timeout(150):
            yield (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        await process.wait()


@contextlib.asynccontextmanager
async def flooded(play: Play, ports: Ports) -> AsyncIterator[None]:
    """Idle connections and half requests, all there before the outage, and more than are let in."""
    async with contextlib.AsyncExitStack() as stack:
        begun = [stack.enter_async_context(crowd("idle", ports.nut, IDLE // PROCESSES)) for _ in range(PROCESSES)]
        begun.append(stack.enter_async_context(crowd("half", ports.http, HALF)))
        said = await asyncio.gather(*begun)
        measured(f"flood: {', '.join(said)}")
        yield


@contextlib.asynccontextmanager
async def left_under_tls(play: Play, ports: Ports) -> AsyncIterator[None]:
    """So many TLS clients that say goodbye in one way, then as many in the next, and Debian's upsc in between."""
    over = asyncio.Event()

    async def come_and_go() -> None:
        for farewell in itertools.cycle(FAREWELLS):
            async with crowd(farewell.__name__, ports.nut, TLS_CLIENTS, play.folder / "cert.pem") as said:
                assert said == f"{TLS_CLIENTS} said goodbye", (farewell.__name__, said, play.log()[-2000:])
                rounds.append(farewell.__name__)
            if (upsc := shutil.which("upsc")) is not None:
                asking = await asyncio.create_subprocess_exec(
                    upsc, f"rack1-a@127.0.0.1:{ports.nut}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
                )
                listed, _ = await asking.communicate()
                assert b"ups.status: " in listed
            if over.is_set() and len(rounds) >= len(FAREWELLS):
                return

    rounds: list[str] = []
    going = asyncio.create_task(come_and_go())
    await until(lambda: bool(rounds) or going.done(), 100, "the first goodbyes")
    yield
    over.set()
    slowest_s = 0.0
    while not going.done():
        asked_s = asyncio.get_running_loop().time()
        assert (await play.ask("status"))["ok"]
        slowest_s = max(slowest_s, asyncio.get_running_loop().time() - asked_s)
        await asyncio.sleep(0.1)
    await going
    measured(f"{len(rounds)} times {TLS_CLIENTS} TLS clients: {', '.join(rounds)}; slowest status afterwards {slowest_s:.3f} s")
    assert slowest_s < ANSWER_S


@contextlib.asynccontextmanager
async def killed(play: Play, ports: Ports) -> AsyncIterator[None]:
    os.kill(await play.interfaces(), signal.SIGKILL)
    yield


@contextlib.asynccontextmanager
async def stopped(play: Play, ports: Ports) -> AsyncIterator[None]:
    os.kill(await play.interfaces(), signal.SIGSTOP)
    yield


@contextlib.asynccontextmanager
async def driven(play: Play, ports: Ports) -> AsyncIterator[None]:
    """Clients that ask for everything as fast as they are answered."""
    over = asyncio.Event()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports.nut)
        while not over.is_set():
            writer.write(b"LIST VAR rack1-a\n" * 50)
            await reader.read(1 << 16)
        writer.close()

    asking = [asyncio.create_task(ask()) for _ in range(8)]
    yield
    over.set()
    await asyncio.wait(asking, timeout=5)
    for each in asking:
        each.cancel()


@contextlib.asynccontextmanager
async def left_alone(play: Play, ports: Ports) -> AsyncIterator[None]:
    yield


Trouble = Callable[[Play, Ports], contextlib.AbstractAsyncContextManager[None]]


async def outage(trouble: Trouble | None, *, before: Trouble | None = None) -> Moments:
    """One outage with an armed plan, to the last cut; None: without interfaces. ``before`` is there when it begins."""
    dialect = dialect_named("megatec")
    assert dialect is not None
    upses = [
        SimulatedUps(dialect, name=f"rack1-{feed}", groups=(f"feed-{feed}",), machine=Machine(Ratings(), noise=0.0))
        for feed in "ab"
    ]  # fmt: skip
    names, ports = [f"{role}-1" for role in ("web", "job", "app", "db")], Ports(free_port(), free_port())
    now = asyncio.get_running_loop().time
    async with Play(upses) as play:
        hosts = Hosts(play.folder, names)
        with play.config.open("a") as config:
            config.write(configuration(hosts, 1))
            if trouble is not None:
                certificate(play.folder)
                config.write(
                    f'\n[nut]\nlisten = ["127.0.0.1:{ports.nut}"]\ncert = "cert.pem"\nkey = "key.pem"\n'
                    f'[http]\nlisten = ["127.0.0.1:{ports.http}"]\n'
                )
        with hosts.running():
            await until(lambda: len(hosts.up()) == len(names), 20, "every host is up")
            play.farm.speed = SPEED
            await play.start()
            await play.all_online()
            if trouble is not None:
                await until(lambda: listens(ports.nut) and listens(ports.http), 60, "the ports")
            async with (before or left_alone)(play, ports):
                began_s, follower = now(), await play.follow()
                play.tell("mains off all")
                await until(lambda: bool(follower.told("on-battery")), 20, "the outage is known")
                failed_s, slowest_s = now(), 0.0
                async with (trouble or left_alone)(play, ports):
                    while hosts.up() or not all(ups.machine.source is Source.OFF for ups in upses):
                        asked_s = now()
                        assert (await play.ask("shutdown-status"))["ok"] and (await play.ask("status"))["ok"]
                        slowest_s = max(slowest_s, (now() - asked_s) / 2)
                        assert now() - failed_s < 60
                        await asyncio.sleep(0.1)
                log_a_minute = len(play.log()) / (now() - began_s) * 60
            stops: dict[str, list[float]] = {}
            for at_s, word, name in hosts.diary():
                if word == "asked":
                    stops.setdefault(name, []).append(at_s - failed_s)
            assert {name: len(each) for name, each in stops.items()} == dict.fromkeys(names, 1), "each once"
            cuts = sorted(at_s - failed_s for ups in upses for at_s, request in play.asked(ups.name) if request.startswith(b"S"))
            assert len(cuts) == len(upses), "each once"
            assert "Traceback" not in play.log()
            return Moments({name: each[0] for name, each in stops.items()}, cuts, slowest_s, log_a_minute)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def middle(runs: Sequence[Moments]) -> Moments:
    """The median of every moment, and the worst of what has a limit."""
    return Moments(
        {load: statistics.median(each.stops[load] for each in runs) for load in runs[0].stops},
        [statistics.median(cuts) for cuts in zip(*(each.cuts for each in runs), strict=True)],
        max(each.answer_s for each in runs), max(each.log_a_minute for each in runs),
    )  # fmt: skip


def beside(alone: Moments, name: str, found: Moments, apart_s: float) -> None:
    """Tell, and hold to it, that moments are those of an outage without interfaces."""
    late = {load: found.stops[load] - alone.stops[load] for load in alone.stops}
    cuts_late = [there - here for here, there in zip(alone.cuts, found.cuts, strict=True)]
    measured(
        f"{name}: stops later by {show(late)}, cuts by {', '.join(f'{each:+.2f}' for each in cuts_late)} s, "
        f"slowest answer {found.answer_s:.3f} s, log {found.log_a_minute:.0f} bytes a minute"
    )
    assert max(map(abs, (*late.values(), *cuts_late))) < apart_s, name
    assert found.answer_s < ANSWER_S
    assert found.log_a_minute < LOG_A_MINUTE


@pytest.mark.more
@pytest.mark.timeout(1200)
async def test_what_becomes_of_the_interfaces_changes_nothing_in_an_outage() -> None:
    kinds: tuple[Trouble | None, ...] = (None, left_alone, killed, stopped, driven)
    runs: dict[Trouble | None, list[Moments]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind in kinds:
            runs[kind].append(await outage(kind))
    alone = middle(runs[None])
    measured(f"without interfaces: stops {show(alone.stops)}, cuts {alone.cuts}, slowest answer {alone.answer_s:.3f} s")
    for trouble in (left_alone, killed, stopped, driven):
        beside(alone, trouble.__name__, middle(runs[trouble]), APART_S)


@pytest.mark.more
@pytest.mark.timeout(900)
@pytest.mark.parametrize("crowded", [flooded, left_under_tls], ids=lambda each: each.__name__)
async def test_no_crowd_makes_a_load_late(crowded: Trouble) -> None:
    alone = await outage(None)
    found = await outage(left_alone, before=crowded)
    beside(alone, crowded.__name__, found, LATE_S)


def show(moments: dict[str, float]) -> str:
    return ", ".join(f"{name} {at_s:.2f}" for name, at_s in moments.items())
