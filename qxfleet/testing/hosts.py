"""Simulated hosts on a farm: three a rack, on both of its feeds, stopped and started by instructions to the simulator.

``loads.toml`` beside ``fleet.toml`` describes them to an agent, which stops them by the same commands that a person would give.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Self

from qxfleet.errors import LinkUnavailable
from qxfleet.testing.farm import FLEET_HEADER, Farm
from qxfleet.testing.loads import Host, HostState, Room, Trouble

TICK_S = 0.5

ROLES = (("web", (), 0.10, 12.0), ("app", ("web",), 0.10, 20.0), ("db", ("app",), 0.15, 30.0))
"""Role, what is stopped before it, share of one UPS's rating that it draws, seconds to stop."""

TROUBLES: Mapping[str, Trouble] = {"hang": Trouble.HANGS, "refuse": Trouble.REFUSES, "sleep": Trouble.SLEEPS}


class Hosts:
    """Hosts named ``web-rack1`` … that live on a farm's UPSes. Use as ``async with``, inside the farm's own."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self.racks: dict[str, list[str]] = {}
        for ups in farm.upses.values():
            self.racks.setdefault(next(group for group in ups.groups if group.startswith("rack")), []).append(ups.name)
        hosts = [
            Host(
                f"{role}-{rack}", [farm.upses[name].machine for name in names],
                watts=share * farm.upses[names[0]].machine.ratings.watts, stops_in_s=stops_in_s, starts_in_s=stops_in_s,
            )
            for rack, names in self.racks.items()
            for role, _, share, stops_in_s in ROLES
        ]  # fmt: skip
        self.room = Room([ups.machine for ups in farm.upses.values()], hosts)

    async def __aenter__(self) -> Self:
        self._write_loads_file()
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        await asyncio.wait({self._ticking})

    def perform(self, words: list[str]) -> list[str]:
        """``host stop|start|down|hang|refuse|sleep|heal NAME``; ``ValueError`` and ``LookupError`` say what is wrong."""
        if len(words) != 2:
            raise ValueError("expected host stop|start|down|hang|refuse|sleep|heal NAME")
        what, name = words
        host = self.room.hosts.get(name)
        if host is None:
            raise LookupError(f"no host is called {name!r}; there are {', '.join(list(self.room.hosts)[:6])} …")
        now_s = self._farm.now_s
        match what:
            case "stop":
                if not host.stop(now_s):
                    raise ValueError(f"{name} can't be reached: {host.state.value}")
            case "start":
                if not host.start(now_s):
                    raise ValueError(f"{name} does not start: {host.state.value}{'' if host.powered else ', no power'}")
            case "down":
                if host.state in (HostState.UP, HostState.STOPPING):
                    raise ValueError(f"{name} is {host.state.value}")
            case "heal":
                host.trouble = None
            case _ if what in TROUBLES:
                host.trouble = TROUBLES[what]
            case _:
                raise ValueError(f"host {what!r}: expected stop, start, down, hang, refuse, sleep or heal")
        return [f"ok {name}: {host.state.value}"]

    def show(self) -> list[str]:
        """One line for each host."""
        shown = {
            name: [host.state.value, *([host.trouble.value] if host.trouble else []), *([] if host.powered else ["no power"])]
            for name, host in self.room.hosts.items()
        }
        return [f"  {name}: {', '.join(words)}" for name, words in shown.items()]

    async def _tick(self) -> None:
        while True:
            self.room.advance(self._farm.now_s)
            await asyncio.sleep(TICK_S)

    def _write_loads_file(self) -> None:
        path = self._farm.directory / "loads.toml"
        if path.exists() and not path.read_text().startswith(FLEET_HEADER):
            raise LinkUnavailable(str(path), "was not written by the simulator", "move it or take another directory")
        tell = [sys.executable, "-m", "qxfleet", "simulate", "--dir", str(self._farm.directory), "--tell"]
        blocks = [
            f"\n[[load]]\nname = {json.dumps(f'{role}-{rack}')}\nfed_by = {json.dumps(names)}\n"
            f"after = {json.dumps([f'{each}-{rack}' for each in after])}\n"
            + "".join(
                f"{key} = {{ {way} = {json.dumps([*tell, f'host {what} {role}-{rack}'])} }}\n"
                for key, way, what in (("stop", "command", "stop"), ("start", "command", "start"), ("down_when", "exit", "down"))
            )
            for rack, names in self.racks.items()
            for role, after, _, _ in ROLES
        ]
        path.write_text(FLEET_HEADER + "".join(blocks))
