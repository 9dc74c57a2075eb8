"""A simulated fleet with a real agent on it, each a process of its own, shared by the session; and loose UPSes without one."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from qxfleet.interfaces.cli.main import run_command

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("QXFLEET_", "NOTIFY_", "WATCHDOG_"))}
PLAIN = {**ENVIRONMENT, "COLUMNS": "200", "TERM": "dumb"}


@dataclass(frozen=True)
class Done:
    """What a command said and how it ended."""

    returncode: int
    stdout: str
    stderr: str


def qxfleet(*args: object) -> Done:
    """Run the command to its end, in this process: start-up is tested elsewhere, and costs more than all the rest."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(arg) for arg in args])
    return Done(code, out.getvalue(), err.getvalue())


def process(*args: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end as a process of its own."""
    options.setdefault("env", PLAIN)
    command = [sys.executable, "-m", "qxfleet", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=40, check=False, **options)


def start(*args: object, **options: Any) -> subprocess.Popen[str]:
    """Start the command and leave it running."""
    options.setdefault("env", PLAIN)
    return subprocess.Popen([sys.executable, "-m", "qxfleet", *map(str, args)], text=True, **options)


def wait_for(condition: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Look until something is so."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


@contextlib.contextmanager
def simulator(folder: Path, count: int) -> Iterator[Path]:
    """UPSes of all dialects in turn, in ``folder``: mecer, zinto, megatec, q1, mustek, megatec/old."""
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        process = start("simulate", "--dir", folder, "--ups", count, stderr=log)
    try:
        wait_for((folder / "control").exists, "a simulator", 15)
        wait_for(lambda: (folder / f"ups-{count:02d}").is_symlink(), "its last UPS", 15)
        yield folder
    finally:
        process.terminate()
        assert process.wait(20) == 0


@dataclass
class Site:
    """One agent: its folder, its configuration, its process, and the simulator below it."""

    folder: Path
    ups: Path
    process: subprocess.Popen[str] | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(PLAIN))

    @property
    def config(self) -> Path:
        return self.folder / "qxfleet.toml"

    @property
    def socket(self) -> Path:
        return self.folder / "agent.sock"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def write(self, body: str) -> None:
        """Write the configuration: the agent's table, then ``body``."""
        self.config.write_text(
            '[agent]\nname = "test"\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\npoll_interval = "1s"\n' + body
        )

    def block(self, name: str, dialect: str, more: str = "") -> str:
        return f'[[ups]]\nname = "{name}"\nport = "{self.ups / name}"\ndialect = "{dialect}"\n{more}\n'

    def run(self, *args: object) -> Done:
        return qxfleet("--config", self.config, *args)

    def json(self, *args: object, code: int = 0) -> Any:
        """The one document a command prints."""
        done = self.run(*args, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def tell(self, instruction: str) -> str:
        done = qxfleet("simulate", "--dir", self.ups, "--tell", instruction)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def asked(self, name: str) -> list[bytes]:
        """Every request the simulated UPS received."""
        return asked(self.ups, name)

    def states(self) -> dict[str, str]:
        return {ups["name"]: ups["state"] for ups in self.json("status")["ups"]}

    def start(self) -> None:
        with (self.folder / "agent.log").open("a") as log:
            self.process = start("--config", self.config, "run", stderr=log, env=self.environment)
        process = self.process
        wait_for(lambda: self.socket.exists() or process.poll() is not None, "a control socket", 15)
        assert process.poll() is None, self.log

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(20)
        self.process = None
        return code

    def all_online(self) -> None:
        wait_for(lambda: set(self.states().values()) == {"online"}, "every UPS online")


def asked(folder: Path, name: str) -> list[bytes]:
    """Every request a simulated UPS received."""
    done = qxfleet("simulate", "--dir", folder, "--tell", f"log {name}")
    return [literal_eval(line.split(maxsplit=1)[1]) for line in done.stdout.splitlines() if line.startswith("  ")]


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path ends at 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="qx"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Six UPSes, one of each dialect, watched by an agent; tests leave them as they found them, mains on."""
    with short_folder() as folder, simulator(folder / "ups", 6) as ups:
        site = Site(folder, ups)
        site.write(f'include = ["{ups}/fleet.toml"]\n')
        site.start()
        try:
            site.all_online()
            yield site
        finally:
            if site.process is not None:
                assert site.stop() == 0


@pytest.fixture(scope="session")
def loose() -> Iterator[Path]:
    """Six UPSes, one of each dialect, that no agent holds."""
    with short_folder() as folder, simulator(folder / "ups", 6) as ups:
        yield ups


@pytest.fixture
def own(loose: Path) -> Iterator[Site]:
    """A site of a test's own on the loose UPSes, not started."""
    with short_folder() as folder:
        site = Site(folder, loose)
        try:
            yield site
        finally:
            if site.process is not None:
                site.process.kill()
                site.process.wait(20)
