"""The incumbent as Debian ships it: one driver's process per UPS, one ``upsd`` before them, and its own clients.

Everything lives in a short-lived folder and on loopback; no service of the machine is touched. Only its public face is
used: configuration files, ``upsc``, ``upscmd`` and ``upsrw``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

DRIVERS = Path("/lib/nut")
DRIVER, SERVER = DRIVERS / "nutdrv_qx", DRIVERS / "upsd"

OPERATOR = ("-u", "op", "-p", "secret")
OPERATOR_USER = "[op]\n password = secret\n actions = SET\n instcmds = ALL\n"

START_S = 30.0
STOP_S = 5.0


def missing() -> str | None:
    """What has to be installed, as one line; None if all is there."""
    clients = ("upsc", "upscmd", "upsrw")
    if DRIVER.exists() and SERVER.exists() and all(shutil.which(client) for client in clients):
        return None
    return "no nutdrv_qx, upsd, upsc here: apt-get install -y nut-server nut-client"


class Incumbent:
    """Drivers for ``upses``, name → the lines of its section in ``ups.conf``, and the server before them.

    ``driver`` in a section is another than ``nutdrv_qx``. Files that a driver reads may be put into :attr:`folder` by ``files``.
    Drivers are started ``apart_s`` seconds after each other; ``users`` is upsd.users, ``server`` further lines of upsd.conf. Use
    as ``async with``: inside, every driver has been started and the server knows those that found their UPS.
    """

    def __init__(
        self, upses: Mapping[str, Mapping[str, object]], *, apart_s: float = 0.0, users: str = OPERATOR_USER, server: str = "",
        files: Mapping[str, str] = {},
    ) -> None:
        self.drivers: dict[str, Process] = {}
        self.server: Process | None = None
        self.port = 0
        self.folder = Path()
        self._upses = upses
        self._apart_s = apart_s
        self._users = users
        self._server_lines = server
        self._files = files

    async def __aenter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="nut", dir="/tmp"))  # short: socket paths end at 107 bytes
        self.port = _free_port()
        self._write_configuration()
        try:
            for name in self._upses:
                await self.start_driver(name)
                await asyncio.sleep(self._apart_s)
            await self._until(self._settled, "the drivers neither opened their sockets nor ended")
            await self.start_server()
            await self._until(self._answers, "upsd does not answer")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        processes = [*self.drivers.values(), *([self.server] if self.server else [])]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*(process.wait() for process in processes)), STOP_S)
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        shutil.rmtree(self.folder)

    async def start_driver(self, name: str) -> None:
        """The driver of one UPS, for the first time or again."""
        self.drivers[name] = await self._run(DRIVERS / self._driver(name), "-a", name, "-F", "-u", "root", log=name)

    async def start_server(self) -> None:
        """upsd, for the first time or again."""
        self.server = await self._run(SERVER, "-F", "-u", "root", log="upsd")

    def _driver(self, name: str) -> str:
        return str(self._upses[name].get("driver", "nutdrv_qx"))

    def log(self, name: str) -> str:
        """What a driver, or ``upsd``, has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def socket(self, name: str) -> Path:
        """Where a driver tells its server, and whoever else listens, what changes."""
        return self.folder / f"{self._driver(name)}-{name}"

    def running(self, name: str) -> bool:
        """Whether the driver of a UPS lives."""
        return self.drivers[name].returncode is None

    async def variables(self, name: str) -> dict[str, str]:
        """``upsc``: every variable as text; nothing while the driver has not told any."""
        code, said = await self.client("upsc", self._at(name))
        pairs = (line.partition(": ") for line in said.splitlines())
        return {} if code else {variable: value for variable, separator, value in pairs if separator}

    async def commands(self, name: str) -> frozenset[str]:
        """``upscmd -l``: names of the instant commands."""
        _, said = await self.client("upscmd", "-l", self._at(name))
        return frozenset(line.partition(" - ")[0] for line in said.splitlines() if " - " in line)

    async def settings(self, name: str) -> frozenset[str]:
        """``upsrw``: names of the writable variables."""
        _, said = await self.client("upsrw", self._at(name))
        return frozenset(line[1:-1] for line in said.splitlines() if line.startswith("[") and line.endswith("]"))

    async def command(self, name: str, command: str, value: str | None = None) -> bool:
        """``upscmd``; whether the server took it. The driver gets to it in its turn."""
        code, _ = await self.client("upscmd", *OPERATOR, self._at(name), command, *([] if value is None else [value]))
        return code == 0

    async def set(self, name: str, variable: str, value: str) -> bool:
        """``upsrw -s``; whether the server took it. The driver gets to it in its turn."""
        code, _ = await self.client("upsrw", *OPERATOR, "-s", f"{variable}={value}", self._at(name))
        return code == 0

    async def client(self, program: str, *arguments: str) -> tuple[int, str]:
        """Run one of its clients; exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=self._environment()
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode(errors="replace")

    def _at(self, name: str) -> str:
        return f"{name}@127.0.0.1:{self.port}"

    def _write_configuration(self) -> None:
        sections = (
            f"[{name}]\n driver = {self._driver(name)}\n"
            + "".join(f" {_line(key, value)}\n" for key, value in section.items() if key != "driver")
            for name, section in self._upses.items()
        )
        for file, text in (
            ("nut.conf", "MODE=none\n"),
            ("ups.conf", "maxretry = 1\n" + "".join(sections)),
            ("upsd.conf", f"LISTEN 127.0.0.1 {self.port}\n{self._server_lines}"),
            ("upsd.users", self._users),
            *self._files.items(),
        ):
            (self.folder / file).write_text(text)
            (self.folder / file).chmod(0o600)

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {**os.environ, "NUT_CONFPATH": folder, "NUT_STATEPATH": folder, "NUT_ALTPIDPATH": folder}

    async def _run(self, program: Path, *arguments: str, log: str) -> Process:
        with (self.folder / f"{log}.log").open("wb") as stream:
            return await asyncio.create_subprocess_exec(
                program, *arguments, stdin=DEVNULL, stdout=stream, stderr=STDOUT, env=self._environment()
            )

    async def _until(self, done: Callable[[], Awaitable[bool]], complaint: str) -> None:
        give_up_s = asyncio.get_running_loop().time() + START_S
        while not await done():
            if asyncio.get_running_loop().time() > give_up_s:
                raise TimeoutError(f"{complaint} within {START_S:g} s; it said:\n" + "".join(map(self.log, self._logs())))
            await asyncio.sleep(0.1)

    def _logs(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.log"))

    async def _settled(self) -> bool:
        return all(self.socket(name).exists() or not self.running(name) for name in self.drivers)

    async def _answers(self) -> bool:
        if self.server is None or self.server.returncode is not None:
            raise RuntimeError(f"upsd ended: {self.log('upsd')}")
        code, said = await self.client("upsc", "-l", f"127.0.0.1:{self.port}")
        if code or len(said.split()) < len(self._upses):
            return False
        for name in self.drivers:
            if self.running(name) and not await self.variables(name):
                return False
        return True


def _line(key: str, value: object) -> str:
    return key if value is True else f'{key} = "{value}"'


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
