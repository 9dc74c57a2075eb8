"""What every test gets: no thread and no descriptor is left behind, and databases of both kinds on request."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import make_url

from qxfleet.store.migrate import upgrade
from qxfleet.store.tables.fleet import fleet
from tests.parts import absent

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how long an example takes, or the making of it, is no property of the product

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in the background, children too

LINGER_S = 3.0
"""How long a thread that was told to end may take to do so."""


def _descriptors() -> dict[int, str]:
    """Open descriptors and what they are; the one that lists them is gone by the time it is asked about."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found[int(link.name)] = str(link.readlink())
    return found


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread running or a descriptor open."""
    threads = set(threading.enumerate())
    descriptors = _descriptors()
    yield
    give_up = time.monotonic() + LINGER_S
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(max(0.0, give_up - time.monotonic()))
    if alive := [thread.name for thread in left if thread.is_alive()]:
        pytest.fail(f"threads left running: {', '.join(alive)}")
    if opened := _opened_since(descriptors):
        gc.collect()  # a cycle may hold the last reference to something that closes itself
        opened = _opened_since(descriptors)
    if opened:
        pytest.fail(f"descriptors left open: {opened}")


def _opened_since(before: dict[int, str]) -> dict[int, str]:
    return {number: what for number, what in _descriptors().items() if before.get(number) != what}


class Postgres:
    """A PostgreSQL server of our own, on a socket in a folder of its own."""

    def __init__(self, programs: Path, folder: Path, connections: int = 50) -> None:
        self.folder = folder
        self._connections = connections
        self._programs = programs
        self._data = folder / "data"
        self._numbers = count(1)
        self._as_postgres = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def start(self) -> None:
        """Make the cluster and start it; nothing is synced, nothing listens on the network."""
        if self._as_postgres:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        self.restart()

    def restart(self) -> None:
        """Start again after :meth:`stop`, with the same data."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off"
        options += f" -c max_connections={self._connections}"
        self._run("pg_ctl", "-D", self._data, "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        """Stop at once, cutting every connection."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def create(self, template: str = "template0") -> str:
        """A new database; its URL."""
        name = f"fleet{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database on this server."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def sql(self, statement: str, database: str | None = None) -> None:
        """Run one statement as the superuser."""
        import psycopg

        at = {"host": str(self.folder), "user": "postgres", "dbname": database or "postgres"}
        with psycopg.connect(**at, autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: object) -> None:
        command = [*self._as_postgres, str(self._programs / program), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running server for the whole session; skipped where its programs are missing, except under ``CI=true``."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = installed[-1] if installed else shutil.which("initdb")
    if found is None:
        absent("no PostgreSQL server here: apt-get install -y postgresql")
    with tempfile.TemporaryDirectory(prefix="qxpg", dir="/tmp") as folder:  # short: socket paths end at 107 bytes
        Path(folder).chmod(0o755)
        server = Postgres(Path(found).parent, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """A migrated PostgreSQL database to copy."""
    upgrade(postgres.url("template1"))
    return "template1"


@pytest.fixture(scope="session")
def postgres_fleet(postgres: Postgres, postgres_template: str) -> str:
    """The PostgreSQL database that tests empty and use, one after the other: six times faster than one for each."""
    return postgres.create(postgres_template)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "fleet.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both kinds of database, one after the other."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path / 'fleet.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.create()


@pytest.fixture
def sqlite_path(sqlite_template: Path, tmp_path: Path) -> Path:
    """A migrated SQLite file without rows."""
    return Path(shutil.copy(sqlite_template, tmp_path / "fleet.db"))


@pytest.fixture
def fleet_url(backend: str, request: pytest.FixtureRequest) -> str:
    """A migrated database without rows."""
    if backend == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    url: str = request.getfixturevalue("postgres_fleet")
    tables = ", ".join(table.name for table in fleet.sorted_tables)
    request.getfixturevalue("postgres").sql(f"TRUNCATE {tables} RESTART IDENTITY CASCADE", make_url(url).database)
    return url
