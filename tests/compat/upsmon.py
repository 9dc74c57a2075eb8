"""Debian's upsmon in the foreground, one host each, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Sequence
from pathlib import Path
from typing import Self

PROGRAM = Path("/lib/nut/upsmon")
PID_FOLDER = Path("/run/nut")


def alone() -> list[str]:
    """What gives a program a folder of PID files of its own: upsmon starts once on a machine. Empty where nothing can."""
    if not PID_FOLDER.is_dir():
        return []
    for how in (["unshare", "-m"], ["unshare", "-Urm"]):
        hide = [*how, "sh", "-c", f'mount -t tmpfs none {PID_FOLDER} && exec "$@"', "sh"]
        if shutil.which("unshare") and subprocess.run([*hide, "true"], capture_output=True, check=False).returncode == 0:
            return hide
    return []


class Upsmon:
    """A host that a UPS feeds: ``shut_down`` is when its shutdown command ran (loop's time), None before.

    Use as ``async with``; ``options`` are further lines of upsmon.conf, ``inside`` is what starts it elsewhere.
    """

    def __init__(
        self, folder: Path, ups: str, user: str, role: str, options: str = "", inside: Sequence[str] = ()
    ) -> None:
        self._folder, self._inside = folder, inside
        self._process: Process | None = None
        folder.mkdir()
        (folder / "upsmon.conf").write_text(
            f"RUN_AS_USER root\nMONITOR {ups} 1 {user} secret {role}\nMINSUPPLIES 1\n"
            f'SHUTDOWNCMD "date +%s.%N >> {folder}/down"\nPOWERDOWNFLAG {folder}/killpower\n'
            f"POLLFREQ 1\nPOLLFREQALERT 1\nHOSTSYNC 10\nDEADTIME 5\nFINALDELAY 1\nRBWARNTIME 60\nNOCOMMWARNTIME 60\n{options}\n"
        )
        (folder / "upsmon.conf").chmod(0o600)

    async def __aenter__(self) -> Self:
        folder = str(self._folder)
        environment = {**os.environ, "NUT_CONFPATH": folder, "NUT_STATEPATH": folder, "NUT_ALTPIDPATH": folder}
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._inside, *alone(), str(PROGRAM), "-F", "-p", stdin=DEVNULL, stdout=log, stderr=STDOUT, env=environment
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    @property
    def down(self) -> float | None:
        """When the host was shut down, as wall time."""
        told = self._folder / "down"
        text = told.read_text().strip() if told.exists() else ""
        return float(text) if text else None

    @property
    def ended(self) -> bool:
        """Whether upsmon itself has ended."""
        return self._process is not None and self._process.returncode is not None

    @property
    def log(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text(errors="replace")
