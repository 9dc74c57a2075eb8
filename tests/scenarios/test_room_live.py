"""The whole thing in real time: UPSes on pseudo-terminals, loads that are processes here, stopped and started by commands.

What the agent tells the UPSes is read off their wires, with the time it came. The long form has 10 UPSes and 20 loads, and goes
on until all are back; a cut counts as over a minute after its time at the soonest, which is too long for every day.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.machine import Machine, Ratings, Source
from qxfleet.testing.simulator import SimulatedUps
from tests.scenarios.play import SOAK, Follower, Play, measured, until

RACKS = 5 if SOAK else 1
SPEED = 1.0 if SOAK else 6.0
"""Of the UPSes' own timers; ours run as they are."""

STAGGER_S = 2.0
LOAD = """\
import os, signal, socket, subprocess, sys, time
from pathlib import Path
what, name, port = sys.argv[1:]
here = Path(__file__).parent
alive, diary = here / f"{name}.pid", here / "diary"
def note(word):
    with diary.open("a") as lines:
        lines.write(f"{time.monotonic():.3f} {word} {name}\\n")
if what == "start":
    subprocess.Popen([sys.executable, "-S", __file__, "run", name, port], start_new_session=True,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
elif what == "stop":
    note("asked")
    os.kill(int(alive.read_text()), signal.SIGTERM)
elif what == "down":
    sys.exit(1 if alive.exists() else 0)
else:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    listener = socket.create_server(("127.0.0.1", int(port)))
    alive.write_text(str(os.getpid()))
    note("up")
    signal.sigwait({signal.SIGTERM})
    time.sleep(0.5)
    listener.close()
    alive.unlink()
    note("down")
"""


class Hosts:
    """Processes that stand for hosts: each listens on a port, and takes half a second to stop."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.program = folder / "load.py"
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    def way(self, what: str, name: str) -> list[str]:
        return [sys.executable, "-S", str(self.program), what, name, str(self.ports[name])]

    def up(self) -> set[str]:
        return {name for name in self.ports if (self.folder / f"{name}.pid").exists()}

    def diary(self) -> list[tuple[float, str, str]]:
        lines = (line.split() for line in (self.folder / "diary").read_text().splitlines())
        return [(float(at), word, name) for at, word, name in lines]

    @contextmanager
    def running(self) -> Iterator[None]:
        self.program.write_text(LOAD)
        for name in self.ports:
            subprocess.run(self.way("start", name), check=True)
        try:
            yield
        finally:
            for alive in self.folder.glob("*.pid"):
                os.kill(int(alive.read_text() or 0), signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    import socket

    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def configuration(hosts: Hosts, racks: int) -> str:
    """Four loads a rack: web and job, then app, then db; ports watched of two, programs asked of the others."""
    blocks = [f"""
[shutdown]
armed = true
start_when = {{ on_battery_for = "2s" }}
hold = "0s"
ups_off = {{ offdelay = "12s", ondelay = "60s", stagger = "{STAGGER_S:g}s" }}
return = {{ charge_above = 1, mains_stable_for = "2s", unknown_charge_for = "2s" }}
"""]  # fmt: skip
    after = {"web": [], "job": [], "app": ["web", "job"], "db": ["app"]}
    for rack in range(1, racks + 1):
        for role, before in after.items():
            name = f"{role}-{rack}"
            if role in ("web", "db"):
                down = f'{{ tcp_closed = "127.0.0.1:{hosts.ports[name]}", exit = {json.dumps(hosts.way("down", name))} }}'
            else:
                down = f"{{ exit = {json.dumps(hosts.way('down', name))} }}"
            blocks.append(f"""
[[load]]
name = "{name}"
fed_by = ["rack{rack}-a", "rack{rack}-b"]
after = {json.dumps([f"{each}-{rack}" for each in before])}
stop = {{ command = {json.dumps(hosts.way("stop", name))} }}
start = {{ command = {json.dumps(hosts.way("start", name))} }}
down_when = {down}
stop_time = "20s"
start_time = "20s"
""")  # fmt: skip
    return "".join(blocks)


async def test_processes_go_down_in_order_the_ups_are_cut_and_all_comes_back() -> None:
    dialect = dialect_named("megatec")
    assert dialect is not None
    upses = [
        SimulatedUps(dialect, name=f"rack{rack}-{feed}", groups=(f"feed-{feed}",), machine=Machine(Ratings(), noise=0.0))
        for rack in range(1, RACKS + 1) for feed in "ab"
    ]  # fmt: skip
    names = [f"{role}-{rack}" for rack in range(1, RACKS + 1) for role in ("web", "job", "app", "db")]
    now = asyncio.get_running_loop().time
    async with Play(upses) as play:
        hosts = Hosts(play.folder, names)
        with play.config.open("a") as config:
            config.write(configuration(hosts, RACKS))
        with hosts.running():
            await until(lambda: len(hosts.up()) == len(names), 20, "every host is up")
            play.farm.speed = SPEED
            await play.start()
            await play.all_online()
            await ask_status(play, "no shutdown is under way (armed); mains are good everywhere")
            follower = await play.follow()

            failed_s = now()
            play.tell("mains off all")
            await until(lambda: not hosts.up(), 60, "every host is down")
            down_s = now()
            await until(lambda: all(ups.machine.source is Source.OFF for ups in upses), 60, "every UPS has cut")
            await asyncio.sleep(1)
            await told(play)
            check_order(hosts)
            cuts = sorted(
                (at_s, request) for ups in upses for at_s, request in play.asked(ups.name) if request.startswith(b"S")
            )  # fmt: skip
            assert len(cuts) == len(upses)  # each once
            assert {request for _, request in cuts} == {b"S.2R0001\r"}  # cut in 12 s, stay off for a minute
            gaps = [later - sooner for (sooner, _), (later, _) in pairwise(cuts)]
            assert cuts[0][0] >= down_by_rack(hosts)[0]
            assert min(gaps) >= STAGGER_S - 0.2
            measured(
                f"{len(upses)} UPSes, {len(names)} processes: first asked {asked(hosts)[0] - failed_s:.2f} s after mains failed "
                f"(2 s of it the trigger's), all down after {down_s - failed_s:.1f} s, cuts told {gaps[0]:.1f} s apart"
            )
            if SOAK:
                await comes_back(play, hosts, follower)


async def comes_back(play: Play, hosts: Hosts, follower: Follower) -> None:
    """Mains return: every UPS switches on by itself, every host is started, in the opposite order."""
    names = set(hosts.ports)
    play.tell("mains on all")
    await until(lambda: hosts.up() == names, 240, "every host is up again")
    await until(lambda: (None, "shutdown-run", "end") in follower.told(), 60, "it is over")
    check_order(hosts)
    events = [name for _, name, _ in follower.told()]
    assert events.count("load-down") == events.count("load-up") == len(names)
    (run,) = (await play.ask("shutdown-history"))["result"]["runs"]
    assert run["outcome"] == "finished" and "all are back" in run["text"]
    measured(f"over after: {run['text']}")


async def ask_status(play: Play, headline: str) -> None:
    answer = await play.ask("shutdown-status")
    assert answer["result"]["headline"] == headline


async def told(play: Play) -> None:
    """What the operator reads in the middle of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qxfleet", "--config", str(play.config), "shutdown", "status",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    text = out.decode()
    measured(text)
    assert text.startswith("Shutdown under way; ")
    assert f"down ({4 * RACKS})" in text


def asked(hosts: Hosts) -> list[float]:
    return [at_s for at_s, word, _ in hosts.diary() if word == "asked"]


def down_by_rack(hosts: Hosts) -> list[float]:
    """When the last host of each rack was down, the soonest first."""
    racks: dict[str, float] = {}
    for at_s, word, name in hosts.diary():
        if word == "down":
            racks[name.split("-")[1]] = at_s
    return sorted(racks.values())


def check_order(hosts: Hosts) -> None:
    """By the hosts' own diary: app behind web and job, db behind app; and the other way on the way up."""
    at: dict[str, dict[str, list[float]]] = {}
    for at_s, word, name in hosts.diary():
        at.setdefault(name, {}).setdefault(word, []).append(at_s)
    for name, times in at.items():
        role, rack = name.split("-")
        assert [len(times[word]) for word in ("asked", "down")] == [1, 1], name
        for before in {"app": ("web", "job"), "db": ("app",)}.get(role, ()):
            other: dict[str, Any] = at[f"{before}-{rack}"]
            assert other["down"][0] <= times["asked"][0], (name, before)
            if len(times["up"]) > 1 or len(other["up"]) > 1:
                assert times["up"][1] <= other["up"][1], (name, before)
