"""The interfaces killed, stopped and driven to a whole core in an outage: loads stop and UPSes cut as without them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.machine import Machine, Ratings, Source
from qxfleet.testing.simulator import SimulatedUps
from tests.interfaces.nut_stage import free_port
from tests.scenarios.play import SOAK, Play, measured, until
from tests.scenarios.test_room_live import Hosts, configuration

APART_S = 0.2 if SOAK else 1.5
"""Between the moments of two runs. Where other things run beside it, a start of Python alone takes that much longer at times."""

SPEED = 6.0


@dataclass
class Moments:
    """Seconds after the outage was known: each load asked to stop, each UPS told to cut; and the slowest answer."""

    stops: dict[str, float]
    cuts: list[float]
    answer_s: float


@contextlib.asynccontextmanager
async def killed(play: Play, port: int) -> AsyncIterator[None]:
    os.kill(await play.interfaces(), signal.SIGKILL)
    yield


@contextlib.asynccontextmanager
async def stopped(play: Play, port: int) -> AsyncIterator[None]:
    os.kill(await play.interfaces(), signal.SIGSTOP)
    yield


@contextlib.asynccontextmanager
async def driven(play: Play, port: int) -> AsyncIterator[None]:
    """Clients that ask for everything as fast as they are answered."""
    over = asyncio.Event()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
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
async def left_alone(play: Play, port: int) -> AsyncIterator[None]:
    yield


Trouble = Callable[[Play, int], contextlib.AbstractAsyncContextManager[None]]


async def outage(trouble: Trouble | None) -> Moments:
    """One outage with an armed plan, to the last cut; None: without interfaces."""
    dialect = dialect_named("megatec")
    assert dialect is not None
    upses = [
        SimulatedUps(dialect, name=f"rack1-{feed}", groups=(f"feed-{feed}",), machine=Machine(Ratings(), noise=0.0))
        for feed in "ab"
    ]  # fmt: skip
    names, port = [f"{role}-1" for role in ("web", "job", "app", "db")], free_port()
    now = asyncio.get_running_loop().time
    async with Play(upses) as play:
        hosts = Hosts(play.folder, names)
        with play.config.open("a") as config:
            config.write(configuration(hosts, 1))
            if trouble is not None:
                config.write(f'\n[nut]\nlisten = ["127.0.0.1:{port}"]\n[http]\nlisten = ["127.0.0.1:{free_port()}"]\n')
        with hosts.running():
            await until(lambda: len(hosts.up()) == len(names), 20, "every host is up")
            play.farm.speed = SPEED
            await play.start()
            await play.all_online()
            if trouble is not None:
                await until(lambda: listens(port), 60, "the NUT port")
            slowest_s, follower = 0.0, await play.follow()
            play.tell("mains off all")
            await until(lambda: bool(follower.told("on-battery")), 20, "the outage is known")
            failed_s = now()
            async with (trouble or left_alone)(play, port):
                while hosts.up() or not all(ups.machine.source is Source.OFF for ups in upses):
                    asked_s = now()
                    assert (await play.ask("shutdown-status"))["ok"]
                    slowest_s = max(slowest_s, now() - asked_s)
                    assert now() - failed_s < 60
                    await asyncio.sleep(0.1)
            stops: dict[str, list[float]] = {}
            for at_s, word, name in hosts.diary():
                if word == "asked":
                    stops.setdefault(name, []).append(at_s - failed_s)
            assert {name: len(each) for name, each in stops.items()} == dict.fromkeys(names, 1), "each once"
            cuts = sorted(at_s - failed_s for ups in upses for at_s, request in play.asked(ups.name) if request.startswith(b"S"))
            assert len(cuts) == len(upses), "each once"
            assert "Traceback" not in play.log()
            return Moments({name: each[0] for name, each in stops.items()}, cuts, slowest_s)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.more
@pytest.mark.timeout(600)
async def test_what_becomes_of_the_interfaces_changes_nothing_in_an_outage() -> None:
    alone = await outage(None)
    measured(f"without interfaces: stops {show(alone.stops)}, cuts {alone.cuts}, slowest answer {alone.answer_s:.3f} s")
    for trouble in (left_alone, killed, stopped, driven):
        found = await outage(trouble)
        late = {name: found.stops[name] - alone.stops[name] for name in alone.stops}
        cuts_late = [there - here for here, there in zip(alone.cuts, found.cuts, strict=True)]
        measured(
            f"{trouble.__name__}: stops later by {show(late)}, cuts by {', '.join(f'{each:+.2f}' for each in cuts_late)} s, "
            f"slowest answer {found.answer_s:.3f} s"
        )
        assert max(map(abs, (*late.values(), *cuts_late))) < APART_S, trouble.__name__
        assert found.answer_s < (0.5 if SOAK else 3.0)


def show(moments: dict[str, float]) -> str:
    return ", ".join(f"{name} {at_s:.2f}" for name, at_s in moments.items())


