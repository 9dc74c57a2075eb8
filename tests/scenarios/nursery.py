"""Agents forked from a process that has imported everything: a whole agent in a fraction of the time a new interpreter takes.

Run as a program it reads the paths of a configuration and of a log a line, forks an agent on them, and says its process id and,
once it has ended, its exit code. One agent at a time.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from typer import Context

BEFORE = (
    "alembic.command", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite",
    "qxfleet.interfaces.cli.run", "qxfleet.interfaces.logs", "qxfleet.agent.agent", "qxfleet.config.load",
    "qxfleet.interfaces.parts", "qxfleet.interfaces.service",
)  # fmt: skip
"""What an agent imports, some of it only when it is needed."""


class Forked:
    """A forked agent; as much of :class:`asyncio.subprocess.Process` as a play needs."""

    def __init__(self, pid: int, server: Process) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.ensure_future(self._wait(server))

    async def _wait(self, server: Process) -> int:
        assert server.stdout is not None
        self.returncode = int(await server.stdout.readline())
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError where it is gone."""
        os.kill(self.pid, number)

    async def wait(self) -> int:
        """Its exit code, below zero for the signal that ended it."""
        return await asyncio.shield(self._ended)


class Nursery:
    """Forks agents; see :func:`nursery`."""

    def __init__(self, server: Process) -> None:
        self._server = server

    async def fork(self, config: Path, log: Path) -> Forked:
        """An agent that begins to run on a configuration now; the one before must have ended."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(f"{config}\t{log}\n".encode())
        return Forked(int(await self._server.stdout.readline()), self._server)


@asynccontextmanager
async def nursery() -> AsyncIterator[Nursery]:
    """A process to fork agents from."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.scenarios.nursery", stdin=PIPE, stdout=PIPE)
    assert server.stdin is not None and server.stdout is not None
    try:
        await server.stdout.readline()
        yield Nursery(server)
    finally:
        server.stdin.close()
        await server.stdout.read()
        await server.wait()


def _agent(config: str, log: str) -> None:
    from qxfleet.interfaces.cli.run import LogLevel, run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 2)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    run(cast(Context, SimpleNamespace(obj=Path(config))), LogLevel.WARNING)


def _serve() -> None:
    for module in BEFORE:
        importlib.import_module(module)
    gc.freeze()
    os.write(1, b"ready\n")
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid == 0:
            _agent(*line.rstrip("\n").split("\t"))
            return
        os.write(1, f"{pid}\n".encode())
        _, status = os.waitpid(pid, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    _serve()
