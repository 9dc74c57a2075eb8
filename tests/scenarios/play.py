"""The stage of a scenario: simulated UPSes on pseudo-terminals here, and a real agent on them in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from qxfleet.dialects.spec import Tier
from qxfleet.testing.control import Control
from qxfleet.testing.farm import Farm, Pace
from qxfleet.testing.population import fleet
from qxfleet.testing.unit import Unit
from tests.scenarios.nursery import Forked, Nursery

READY_S = 60.0
SOAK = os.environ.get("QXFLEET_SOAK") == "1"
"""``make soak``: the long form of whatever has one."""


def family(count: int, *, seed: int = 0, noise: float = 1.0) -> list[Unit]:
    """UPSes of the Megatec family's dialects in turn; ``ups-07`` and every seventh after it would speak another."""
    return [ups for ups in fleet(count + count // 6 + 1, seed=seed, noise=noise) if ups.dialect.name != "voltronic"][:count]


def measured(figures: str) -> None:
    """Say what a scenario measured; ``pytest -s`` shows it."""
    sys.stdout.write(f"\n{figures}\n")


async def until(holds: Callable[[], bool | Awaitable[bool]], timeout_s: float, what: str) -> None:
    """Wait for a condition; fails saying what did not come."""
    give_up = asyncio.get_running_loop().time() + timeout_s
    while True:
        held = holds()
        if held if isinstance(held, bool) else await held:
            return
        assert asyncio.get_running_loop().time() < give_up, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


class Gone(Exception):
    """The agent went away before it answered."""


class Follower:
    """``follow`` on the control socket: items as they come, until the agent ends or :meth:`close`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.items: list[dict[str, Any]] = []
        self.news = asyncio.Event()
        self._writer = writer
        self._task = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while (line := await reader.readline()).endswith(b"\n"):
                self.items.append(json.loads(line)["item"])
                self.news.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        """The contract's shape of every event so far."""
        return [item["event"] for item in self.items]

    def told(self, *names: str, ups: str | None = None) -> list[tuple[str | None, str, str]]:
        """(ups, name, value) of the events with these names, in order; of all without."""
        return [
            (event["ups"], event["name"], event["value"])
            for event in self.events
            if (not names or event["name"] in names) and (ups is None or event["ups"] == ups)
        ]

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._task


class Play:
    """A farm, its control, and an agent that can be started, killed and started again on one folder.

    Use as ``async with``; the agent is started by :meth:`start`. ``agent`` is keys and TOML values of ``[agent]``. Each UPS
    is configured with its dialect unless ``detect`` is set: finding out takes a while, and is not what is played here.
    ``within`` is a command that runs the agent.
    """

    def __init__(
        self,
        upses: Sequence[Unit],
        *,
        database: str = "sqlite:///fleet.db",
        pace: Pace | None = None,
        agent: Mapping[str, str] = {},
        detect: bool = False,
        environment: Mapping[str, str] = {},
        within: Sequence[str] = (),
        nursery: Nursery | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="qxplay", dir="/tmp"))  # short: socket paths end at 107 bytes
        self.farm = Farm(self.folder / "ups", upses, pace=pace)
        self.control = Control(self.farm)
        self.config = self.folder / "qxfleet.toml"
        self.database = f"sqlite:///{self.folder / 'fleet.db'}" if database == "sqlite:///fleet.db" else database
        beside = {} if self.database.startswith("sqlite") else {"state": '"state.db"'}
        self.state = self.database if not beside else f"sqlite:///{self.folder / 'state.db'}"
        self.process: Process | Forked | None = None
        self._agent = {"database": json.dumps(self.database), "control": '"agent.sock"', "name": '"play"', **beside, **agent}
        self._detect = detect
        self._within = within
        self._environment = {**os.environ, **environment}
        self._nursery = nursery
        self._followers: list[Follower] = []

    async def __aenter__(self) -> Self:
        self.configure()
        await self.farm.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process is not None:
            await self.kill()
        for follower in self._followers:
            await follower.close()
        await self.farm.__aexit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    def configure(self, **options: str) -> None:
        """Write the configuration; ``options`` are TOML lines for single UPSes, by name."""
        keys = "".join(f"{key} = {value}\n" for key, value in self._agent.items())
        blocks = [f"[agent]\n{keys}"]
        for ups in self.farm.upses.values():
            dialect = "auto" if self._detect else ups.dialect.name
            named = {"name": ups.name, "port": str(self.farm.link(ups.name)), "groups": list(ups.groups), "dialect": dialect}
            lines = [f"{key} = {json.dumps(value)}" for key, value in named.items()]
            blocks.append("\n".join(["[[ups]]", *lines, options.get(ups.name.replace("-", "_"), "")]))
        self.config.write_text("\n\n".join(blocks) + "\n")

    # -- the farm

    def tell(self, instruction: str) -> None:
        """One instruction of the simulator's control, which must succeed."""
        lines = self.control.perform(instruction)
        assert lines[-1].startswith("ok"), lines

    def asked(self, ups: str, since_s: float = 0.0) -> list[tuple[float, bytes]]:
        """Requests that a UPS received, with the time of this loop."""
        return [(at_s, request) for at_s, request in self.farm.logs[ups] if at_s >= since_s]

    def polls(self, ups: str, since_s: float = 0.0) -> list[float]:
        """When a UPS was asked for its status."""
        status = self.farm.upses[ups].dialect.tier(Tier.QUICK)[0].command
        return [at_s for at_s, request in self.asked(ups, since_s) if request == status]

    # -- the agent

    async def start(self, *, wait: bool = True) -> None:
        """Start the agent, from the nursery if there is one; ``wait`` until it answers."""
        assert self.process is None
        if self._nursery is not None:
            self.process = await self._nursery.fork(self.config, self.folder / "agent.log")
        else:
            with (self.folder / "agent.log").open("ab") as log:
                self.process = await asyncio.create_subprocess_exec(
                    *self._within, sys.executable, "-m", "qxfleet", "--config", str(self.config), "run", "--log-level", "warning",
                    stdin=DEVNULL, stdout=DEVNULL, stderr=log, env=self._environment,
                )  # fmt: skip
        if wait:
            await until(self._answers, READY_S, f"the agent answers; its log: {self.log()}")

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, f"exit code {self.process.returncode}: {self.log()}"
        try:
            await self.ask("about")
        except Gone:
            return False
        return True

    async def kill(self) -> None:
        """SIGKILL, as a power cut does."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self.process = None

    async def interfaces(self) -> int:
        """The process of the network interfaces."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def found() -> list[int]:
            pids = map(int, children.read_text().split())
            return [pid for pid in pids if b"qxfleet.interfaces.process" in Path(f"/proc/{pid}/cmdline").read_bytes()]

        await until(lambda: bool(found()), 30, "the interfaces' process")
        return found()[0]

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self.process.wait(), 20)
        self.process = None
        return code

    def hang_up(self) -> None:
        """SIGHUP: read the configuration again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What all agents of this play have logged."""
        path = self.folder / "agent.log"
        return path.read_text() if path.exists() else ""

    # -- talking to it

    async def ask(self, do: str, **args: Any) -> dict[str, Any]:
        """One request on the control socket; ``{"ok", "result" or "error"}``. Raises Gone."""
        try:
            reader, writer = await asyncio.open_unix_connection(self.folder / "agent.sock", limit=1 << 20)
        except OSError as error:
            raise Gone from error
        try:
            writer.write(json.dumps({"id": 1, "do": do, "args": args}).encode() + b"\n")
            line = await reader.readline()
        except ConnectionError as error:
            raise Gone from error
        finally:
            writer.close()
        if not line.endswith(b"\n"):
            raise Gone
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def follow(self) -> Follower:
        """Follow the events of everyone from now on."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "agent.sock", limit=1 << 20)
        writer.write(json.dumps({"id": 1, "do": "follow", "args": {}}).encode() + b"\n")
        assert "following" in json.loads(await reader.readline())["item"]
        follower = Follower(reader, writer)
        self._followers.append(follower)
        return follower

    async def states(self) -> dict[str, str]:
        """State of every UPS by name."""
        return {ups["name"]: ups["state"] for ups in (await self.ask("status"))["result"]["ups"]}

    async def all_online(self, timeout_s: float = 40.0) -> None:
        """Wait until every UPS is online."""

        async def online() -> bool:
            return set((await self.states()).values()) == {"online"}

        await until(online, timeout_s, "every UPS is online")

    def command(self, *arguments: str) -> list[str]:
        """``qxfleet …`` for this agent, as words."""
        return [sys.executable, "-m", "qxfleet", "--config", str(self.config), *arguments]

    @contextlib.asynccontextmanager
    async def command_line(self, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
        """``qxfleet …`` beside the agent; its standard output."""
        process = await asyncio.create_subprocess_exec(*self.command(*arguments), stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            if process.returncode is None:
                process.terminate()
            await process.stdout.read()
            await process.wait()
