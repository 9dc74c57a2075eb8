"""Simulated hosts draw from simulated UPSes what they need, and live and die with them."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.control import Control
from qxfleet.testing.farm import Farm
from qxfleet.testing.hosts import Hosts
from qxfleet.testing.loads import Host, HostState, Room, Trouble
from qxfleet.testing.machine import Machine, Ratings, Returns, Source
from qxfleet.testing.population import fleet


def ups(watts: float = 600.0) -> Machine:
    return Machine(Ratings(watts=watts), noise=0.0)


def play(room: Room, from_s: int, to_s: int) -> None:
    for second in range(from_s, to_s + 1):
        room.advance(float(second))


def test_a_ups_carries_what_is_on() -> None:
    a, b = ups(), ups()
    room = Room([a, b], [Host("both", [a, b], watts=120, stops_in_s=20), Host("one", [a], watts=60)], base_percent=5)
    play(room, 0, 1)
    assert (a.load_percent, b.load_percent) == pytest.approx((5 + 10 + 10, 5 + 10))
    assert room.hosts["both"].stop(1.0)
    play(room, 2, 15)
    assert room.hosts["both"].state is HostState.STOPPING
    assert a.load_percent == pytest.approx(25)
    play(room, 16, 22)
    assert room.hosts["both"].changes[-1] == (21.0, HostState.DOWN)
    assert (a.load_percent, b.load_percent) == pytest.approx((15, 5))


def test_one_feed_less_loads_the_other_and_harms_nobody() -> None:
    a, b = ups(), ups()
    room = Room([a, b], [Host("both", [a, b], watts=120)], base_percent=0)
    play(room, 0, 1)
    a.switch_off()
    play(room, 2, 5)
    assert room.hosts["both"].state is HostState.UP
    assert (a.load_now, b.load_percent) == (0.0, pytest.approx(20))
    assert room.crashed == []


def test_a_battery_lasts_longer_for_what_was_stopped() -> None:
    def lasts(stop: bool) -> int:
        a = ups()
        room = Room([a], [Host("big", [a], watts=300, stops_in_s=10), Host("small", [a], watts=60)])
        play(room, 0, 1)
        a.set_mains(0.0)
        if stop:
            room.hosts["big"].stop(1.0)
        for second in range(2, 36000):
            room.advance(float(second))
            if a.source is Source.OFF:
                return second
        raise AssertionError

    assert lasts(stop=True) > 2 * lasts(stop=False)


def test_power_that_goes_crashes_what_runs_and_spares_what_is_down() -> None:
    a = ups()
    room = Room([a], [Host("runs", [a], boots=True, starts_in_s=30), Host("down", [a], stops_in_s=1)])
    play(room, 0, 1)
    room.hosts["down"].stop(1.0)
    play(room, 2, 4)
    a.shut_down(6.0, Returns.AFTER, 30.0)
    play(room, 5, 12)
    assert room.crashed == ["runs"]
    assert room.hosts["down"].state is HostState.DOWN
    play(room, 13, 80)
    assert room.hosts["runs"].state is HostState.UP  # its power came back, and it boots
    assert room.hosts["down"].state is HostState.DOWN  # it waits to be woken
    assert room.hosts["down"].start(80.0)


def test_troubles() -> None:
    a = ups()
    hangs, refuses, sleeps = Host("h", [a]), Host("r", [a]), Host("s", [a], stops_in_s=1)
    hangs.trouble, refuses.trouble = Trouble.HANGS, Trouble.REFUSES
    room = Room([a], [hangs, refuses, sleeps])
    play(room, 0, 1)
    assert hangs.stop(1.0) and not refuses.stop(1.0) and sleeps.stop(1.0)
    sleeps.trouble = Trouble.SLEEPS
    play(room, 2, 600)
    assert (hangs.state, refuses.state, sleeps.state) == (HostState.STOPPING, HostState.UP, HostState.DOWN)
    assert not sleeps.start(600.0)


async def test_hosts_of_a_farm_are_told_by_instructions(tmp_path: Path) -> None:
    farm = Farm(tmp_path / "ups", fleet(4, dialect_named("megatec")))
    async with farm, Hosts(farm) as hosts:
        control = Control(farm, hosts)
        assert hosts.racks == {"rack1": ["ups-01", "ups-02"], "rack2": ["ups-03", "ups-04"]}
        assert control.perform("host down web-rack1") == ["error web-rack1 is up"]
        assert control.perform("host stop web-rack1") == ["ok web-rack1: stopping"]
        farm.speed = 3600
        await asyncio.sleep(1.2)
        assert control.perform("host down web-rack1") == ["ok web-rack1: down"]
        assert control.perform("host stop web-rack1") == ["error web-rack1 can't be reached: down"]
        assert control.perform("host refuse db-rack2") == ["ok db-rack2: up"]
        assert control.perform("host stop db-rack2") == ["error db-rack2 can't be reached: up"]
        assert "  db-rack2: up, refuses" in control.perform("hosts")
        assert control.perform("host stop nobody")[0].startswith("error no host is called 'nobody'")
        assert control.perform("host dance db-rack2")[0].startswith("error host 'dance': expected stop, start")
        blocks = tomllib.loads((farm.directory / "loads.toml").read_text())["load"]
    assert [(block["name"], block["after"]) for block in blocks[:3]] == [
        ("web-rack1", []), ("app-rack1", ["web-rack1"]), ("db-rack1", ["app-rack1"])
    ]  # fmt: skip
    assert blocks[5]["stop"]["command"][-2:] == ["--tell", "host stop db-rack2"]
