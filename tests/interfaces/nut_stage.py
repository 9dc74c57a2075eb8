"""A real agent in this process, its NUT server on a free port, simulated UPSes on pseudo-terminals before it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from qxfleet.agent.agent import Agent
from qxfleet.agent.part import MakePart
from qxfleet.config.load import load
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.upsd import NutServer
from qxfleet.model.events import Link
from qxfleet.testing.farm import Farm
from qxfleet.testing.unit import Unit

USERS: Mapping[str, str] = {
    "op": 'allow = ["read", "command", "set"]',
    "beep": 'allow = ["command"]\ninstcmds = ["beeper.toggle"]',
    "tester": 'allow = ["test"]',
    "fsd": 'allow = ["fsd"]',
    "pri": 'upsmon = "primary"',
    "sec": 'upsmon = "secondary"',
    "nobody": "",
}
"""Users, each with the password ``secret``, and their lines of the configuration."""


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def configuration(farm: Farm, port: int, extra: str = "", *, descriptions: bool = True, listen: str = "127.0.0.1") -> str:
    """The file of an agent on a farm; ``secret`` lies beside it."""
    blocks = ['[agent]\nname = "stage"\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\npoll_interval = "0.5s"']
    blocks.append(f'[nut]\nlisten = ["{listen}:{port}"]\n{extra}')
    blocks += [f'[[user]]\nname = "{name}"\npassword_file = "secret"\n{lines}' for name, lines in USERS.items()]
    for ups in farm.upses.values():
        keys: dict[str, object] = {"name": ups.name, "port": str(farm.link(ups.name)), "dialect": ups.dialect.name}
        if descriptions:
            keys["description"] = ups.description
        blocks.append("\n".join(["[[ups]]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]))
    return "\n\n".join(blocks) + "\n"


@dataclass
class Stage:
    """What plays."""

    agent: Agent
    farm: Farm
    folder: Path
    port: int

    @property
    def server(self) -> NutServer:
        """The part under test."""
        found = self.agent.part(NutServer)
        assert found is not None
        return found

    async def caller(self, user: str = "", tracking: bool = False) -> Caller:
        """A connection, as a user if one is named."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        caller = Caller(reader, writer)
        if user:
            assert await caller.ask(f"USERNAME {user}") == "OK"
            assert await caller.ask("PASSWORD secret") == "OK"
        if tracking:
            assert await caller.ask("SET TRACKING ON") == "OK"
        return caller


class Caller:
    """One client that asks line by line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: str | bytes) -> str:
        """The answer to one request: one line, or a whole list; empty if the server hung up."""
        self.writer.write(request if isinstance(request, bytes) else request.encode() + b"\n")
        return await self.take()

    async def take(self) -> str:
        """One answer."""
        async with asyncio.timeout(15):
            lines = [(await self.reader.readline()).decode()]
            while lines[0].startswith("BEGIN LIST") and not lines[-1].startswith("END LIST"):
                lines.append((await self.reader.readline()).decode())
        return "".join(lines).rstrip("\n")

    async def secure(self, context: ssl.SSLContext) -> None:
        """STARTTLS."""
        assert await self.ask("STARTTLS") == "OK STARTTLS"
        await self.writer.start_tls(context, server_hostname="localhost")

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


async def _settled(agent: Agent) -> None:
    """Wait until everything was asked of every UPS, and is in a reading."""
    complete: set[str] = set()
    while len(complete) < len(agent.fleet.snapshot()):
        since_s = agent.clock.monotonic()
        settled = {name for name in agent.fleet.snapshot() if agent.fleet.session(name).settled}
        while settled - complete:
            for name, state in agent.fleet.snapshot().items():
                if name in settled and state.link is Link.ONLINE and state.reading and state.reading.mono_s > since_s:
                    complete.add(name)
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(
    upses: Sequence[Unit], extra: str = "", *, files: Mapping[str, bytes] = {}, parts: Sequence[MakePart] = (),
    port: int = 0, listen: str = "127.0.0.1",
) -> AsyncIterator[Stage]:
    """An agent that knows all of its UPSes; ``extra`` lines of ``[nut]``, ``files`` beside them, further ``parts``."""
    folder = Path(tempfile.mkdtemp(prefix="qxnut", dir="/tmp"))
    port = port or free_port()
    try:
        async with Farm(folder / "ups", upses) as farm:
            for name, content in {"secret": b"secret\n", **files}.items():
                (folder / name).write_bytes(content)
                (folder / name).chmod(0o600)
            config = folder / "qxfleet.toml"
            config.write_text(configuration(farm, port, extra, listen=listen))
            agent = Agent(load(config), parts=(*parts, Accounts, NutServer))
            ready = asyncio.Event()
            running = asyncio.create_task(agent.run(ready.set))
            try:
                await asyncio.wait({running, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
                async with asyncio.timeout(30):
                    await _settled(agent)
                yield Stage(agent, farm, folder, port)
            finally:
                agent.stop()
                await running
    finally:
        shutil.rmtree(folder, ignore_errors=True)
