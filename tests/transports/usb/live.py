"""Programs on an emulated USB bus with the real libusb in them: what is needed, and running one.

Where that is missing the test skips, saying what to install; under ``CI=true`` it fails.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

from tests.parts import absent

BUS = Path(__file__).parent / "umockdev_bus.py"
PYTHON = "/usr/bin/python3"
"""The distribution's own: PyGObject belongs to it."""

PACKAGES = "umockdev gir1.2-umockdev-1.0 python3-gi libusb-1.0-0"


@cache
def missing() -> str | None:
    """What has to be installed, as one line; None if all is there."""
    check = "import gi; gi.require_version('UMockdev', '1.0'); from gi.repository import UMockdev"
    if Path(PYTHON).exists() and subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0:
        return None
    return f"no emulated USB bus here: apt-get install -y {PACKAGES}"


class OnBus:
    """A program beside emulated devices, ``KIND@PATH`` or ``KIND@PATH=SERIAL``. Use as ``async with``."""

    def __init__(self, devices: Sequence[str], command: Sequence[object], environment: dict[str, str] | None = None) -> None:
        self.devices = devices
        self.command = [str(each) for each in command]
        self.folder = Path()
        self._environment = {**os.environ, **(environment or {})}

    async def __aenter__(self) -> Self:
        if complaint := missing():
            absent(complaint)
        self.folder = Path(tempfile.mkdtemp(prefix="qxusb", dir="/tmp"))
        options = [word for device in self.devices for word in ("--device", device)]
        self.process = await asyncio.create_subprocess_exec(
            PYTHON, str(BUS), *options, "--control", str(self.folder / "bus.sock"), "--", *self.command,
            stdout=PIPE, stderr=PIPE, env=self._environment, start_new_session=True,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.signal(signal.SIGKILL)
            await self.process.communicate()
        shutil.rmtree(self.folder)

    async def output(self, limit_s: float = 40.0) -> str:
        """What the program printed; it must end well."""
        said, complained = await asyncio.wait_for(self.process.communicate(), limit_s)
        assert self.process.returncode == 0, (self.process.returncode, said.decode(), complained.decode())
        return said.decode()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its bus, which passes SIGINT over."""
        os.killpg(self.process.pid, number)

    async def tell(self, do: str, path: str, **more: object) -> Any:
        """Plug, unplug, set or look at a device."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "bus.sock")
        try:
            writer.write(json.dumps({"do": do, "path": path, **more}).encode() + b"\n")
            answer = json.loads(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
        assert "ok" in answer, answer
        return answer["ok"]
