"""The rehearsal and the run: in a room of unequal UPSes, on pseudo-terminals and in real time, they take the same steps.

A 1 kVA UPS stands beside a 3 kVA one that carries three times its watts and gives out first. Percent of unequal UPSes say that
the small one carries all of it long enough; the watts say that it does not, so everything must go when the big one does.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.desk import ampere_hours
from qxfleet.testing.loads import Host, HostState, Room
from qxfleet.testing.machine import IDLE_FRACTION, Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.scenarios.play import Play, measured, until

SMALL_W, BIG_W = 140.0, 420.0
"""What each carries."""

SMALL_S, BIG_S = 200.0, 110.0
"""How long each lasts with that."""

BACK_S = 150.0
STOPS_S = 12.0
"""What a simulated host takes of 30 s where nothing was learned (:func:`qxfleet.testing.desk._stops_in_s`)."""

CONFIGURATION = """
[shutdown]
armed = true
start_when = {{ runtime_below = "auto", low_battery = true }}
margin = "10s"
hold = "2s"
ups_off = {{ offdelay = "12s", ondelay = "60s", stagger = "2s" }}
return = {{ charge_above = 1, mains_stable_for = "5s", unknown_charge_for = "5s" }}
"""

LOAD = """
[[load]]
name = "{name}"
fed_by = ["small", "big"]
after = {after}
stop = {{ command = ["touch", "{folder}/stop-{name}"] }}
start = {{ command = ["touch", "{folder}/start-{name}"] }}
down_when = {{ exit = ["test", "-e", "{folder}/down-{name}"] }}
stop_time = "30s"
start_time = "60s"
"""
CHAIN = {"web": (), "app": ("web",), "db": ("app",)}


def ups(name: str, va: float, carries_w: float, lasts_s: float) -> SimulatedUps:
    rated_w = 0.7 * va
    volts = 24.0
    ratings = Ratings(
        va=va, watts=rated_w, battery_v=volts, battery_ah=ampere_hours(volts, carries_w + IDLE_FRACTION * rated_w, lasts_s)
    )
    dialect = dialect_named("megatec")
    assert dialect is not None
    return SimulatedUps(dialect, name=name, machine=Machine(ratings, load_percent=100 * carries_w / rated_w, noise=0.0))


class Hosts:
    """The room's hosts, told by files."""

    def __init__(self, folder: Path, units: list[SimulatedUps]) -> None:
        self.folder = folder
        machines = [unit.machine for unit in units]
        idle = [0.1 * SMALL_W, 0.1 * BIG_W]
        shares = [0.9 * SMALL_W / 3, 0.9 * BIG_W / 3]
        self.room = Room(
            machines,
            [Host(name, machines, watts=sum(shares), shares=shares, stops_in_s=STOPS_S, starts_in_s=30.0) for name in CHAIN],
            base_w=idle,
        )

    async def live(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now_s = loop.time()
            for name, host in self.room.hosts.items():
                for act, do in (("stop", host.stop), ("start", host.start)):
                    order = self.folder / f"{act}-{name}"
                    if order.exists():
                        order.unlink()
                        do(now_s)
            self.room.advance(now_s)
            for name, host in self.room.hosts.items():
                down = self.folder / f"down-{name}"
                if host.state in (HostState.UP, HostState.STOPPING):
                    down.unlink(missing_ok=True)
                else:
                    down.touch()
            await asyncio.sleep(0.1)


async def command(play: Play, *arguments: str) -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qxfleet", "--config", str(play.config), *arguments, "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert out, err.decode()
    return json.loads(out)


@pytest.mark.more
@pytest.mark.timeout(900)
async def test_in_a_room_of_unequal_upses_the_rehearsal_is_the_run_step_by_step() -> None:
    units = [ups("small", 1000, SMALL_W, SMALL_S), ups("big", 3000, BIG_W, BIG_S)]
    async with Play(units) as play:
        hosts = Hosts(play.folder, units)
        runtimes = {  # at full load and at a quarter of it, from the present load by Peukert's exponent 1.25 of these batteries
            unit.name: runtimecal(100 * watts / unit.machine.ratings.watts, lasts_s)
            for unit, watts, lasts_s in zip(units, (SMALL_W, BIG_W), (SMALL_S, BIG_S), strict=True)
        }
        play.configure(**{name: f"runtimecal = {cal}" for name, cal in runtimes.items()})
        with play.config.open("a") as config:
            config.write(CONFIGURATION.format())
            for name, after in CHAIN.items():
                config.write(LOAD.format(name=name, after=json.dumps(list(after)), folder=play.folder))
        living = asyncio.create_task(hosts.live())
        await play.start()
        await play.all_online()
        await asyncio.sleep(4)
        outlook = (await play.ask("shutdown-outlook"))["result"]["ups"]
        carried = {name: seen["load_w"] for name, seen in outlook.items()}
        assert carried == pytest.approx({"small": SMALL_W, "big": BIG_W}, rel=0.1)
        rehearsed = await command(play, "rehearse", "--speed", "10000", "--back", f"{BACK_S:g}s")
        computed = await command(play, "shutdown", "simulate", "--fail", "all", "--back", f"{BACK_S:g}s")

        loop = asyncio.get_running_loop()
        failed_s, failed_at = loop.time(), await wall(play)
        play.tell("mains off all")
        await asyncio.sleep(max(0.0, failed_s + BACK_S - loop.time()))
        play.tell("mains on all")

        async def over() -> bool:
            runs = (await play.ask("shutdown-history"))["result"]["runs"]
            return bool(runs) and runs[0]["ended"] is not None

        await until(over, 400, "the run is over")
        (run,) = (await play.ask("shutdown-history"))["result"]["runs"]
        living.cancel()
        await asyncio.wait({living})
        assert hosts.room.crashed == []

    real = [(step["act"], step["target"]) for step in run["steps"]]
    assert real == [(step["act"], step["target"]) for step in rehearsed["steps"]]
    acts = [(moment["kind"], target) for moment in computed["timeline"] for target in moment["targets"]]
    assert real == [(kind, target) for kind, target in acts if kind in ("stop", "cut", "start")]
    assert [(act, target) for act, target in real if act == "stop"] == [("stop", "web"), ("stop", "app"), ("stop", "db")]
    assert [step["result"] for step in run["steps"]] == [step["result"] for step in rehearsed["steps"]]
    assert kinds(run["steps"]) == kinds(rehearsed["steps"])
    assert "all are back" in run["text"] and "all are back" in rehearsed["ended"][0]
    late = {}
    for step, same in zip(run["steps"], rehearsed["steps"], strict=True):
        late[f"{step['act']} {step['target']}"] = seconds(step["begun"]) - failed_at - same["at_s"]
    measured("run beside rehearsal, s later: " + ", ".join(f"{what} {by:+.1f}" for what, by in late.items()))
    assert all(abs(by) < 30 for by in late.values()), late


def runtimecal(load_percent: float, lasts_s: float) -> list[float]:
    """Two points of a battery that lasts so long at this load."""
    return [round(lasts_s * (load_percent / 100) ** 1.25, 1), 100, round(lasts_s * (load_percent / 10) ** 1.25, 1), 10]


def kinds(steps: list[dict[str, Any]]) -> list[str]:
    """Why each step was taken, without its times."""
    return [re.sub(r"(\d+ (h|min|s) ?)+", "N", step["why"]) for step in steps]


async def wall(play: Play) -> float:
    return seconds((await play.ask("shutdown-status"))["result"]["time"])


def seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
