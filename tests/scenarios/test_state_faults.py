"""The state breaks before mains fail, or before the agent starts: loads are stopped and UPSes cut in time all the same.

Real UPSes' lines, real processes as hosts, a real disk that is full, frozen or read-only (a loop device, for root), a real lock
of another process. Each outage is played beside one on a sound state.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.model.clock import Clock
from qxfleet.model.events import Outcome
from qxfleet.shutdown.journal import Journal
from qxfleet.store import history, shutdown
from qxfleet.store.engine import open_engine
from qxfleet.store.store import Store
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.conftest import Postgres
from tests.parts import absent
from tests.scenarios.play import Play, measured, until
from tests.scenarios.test_room_live import Hosts, configuration
from tests.store.test_shipper import signal_server
from tests.store.test_side import locked

pytestmark = [pytest.mark.more, pytest.mark.timeout(240)]

RACKS = 2
NAMES = [f"{role}-{rack}" for rack in range(1, RACKS + 1) for role in ("web", "job", "app", "db")]
UPSES = [f"rack{rack}-{feed}" for rack in range(1, RACKS + 1) for feed in "ab"]
LATER_S = 1.5
"""A stage may come so much later than on a sound state: half a second of patience, and what a loaded machine adds."""

STARTED_S = 5.0
"""How much later than on a sound state UPSes may be asked; beyond that what the start itself takes on a loaded machine."""


@contextmanager
def disk(folder: Path) -> Iterator[Path]:
    """A disk of 24 MB of its own, for the state and the side file."""
    folder.mkdir()
    image = folder.with_name("disk.img")
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        absent("a disk of its own needs root and mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(24 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, folder], check=False).returncode:
        absent("no loop device here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def sound(_: Path) -> Iterator[None]:
    yield


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte is left."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Whoever writes waits, and can't be killed."""
    subprocess.run(["fsfreeze", "-f", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["fsfreeze", "-u", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """As a kernel does to a disk that fails."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=False)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@contextmanager
def locked_by_another(folder: Path) -> Iterator[None]:
    with locked(folder / "state.db"):
        yield


@contextmanager
def not_even_readable(folder: Path) -> Iterator[None]:
    with locked(folder / "state.db", "exclusive"):
        yield


class Room:
    """Two racks of two UPSes and four hosts each, and an armed agent whose state lies on a disk of its own."""

    def __init__(self) -> None:
        dialect = dialect_named("megatec")
        assert dialect is not None
        units = [SimulatedUps(dialect, name=name, machine=Machine(Ratings(), noise=0.0)) for name in UPSES]
        self.play = Play(units, agent={"database": '"sqlite:///disk/state.db"'})
        self.folder = self.play.folder / "disk"
        self.hosts = Hosts(self.play.folder, NAMES)

    def cuts(self, since_s: float) -> dict[str, float]:
        """When each UPS was told to cut."""
        found: dict[str, float] = {}
        for name in UPSES:
            for at_s, request in self.play.asked(name, since_s):
                if request.startswith(b"S"):
                    found.setdefault(name, at_s)
        return found

    async def outage(self, began_s: float) -> dict[str, float]:
        """Wait until every host was stopped and every UPS cut; seconds from ``began_s``."""
        await until(lambda: len(self.cuts(began_s)) == len(UPSES), 60, f"every UPS is cut; the log: {self.play.log()}")
        asked = {name: at_s for at_s, word, name in self.hosts.diary() if word == "asked"}
        assert asked.keys() == set(NAMES)
        cuts = sorted(self.cuts(began_s).values())  # of equal UPSes any may be the first
        return {name: at_s - began_s for name, at_s in (*asked.items(), *zip(UPSES, cuts, strict=True))}

    async def ships(self) -> bool:
        """Whether the fleet store takes what happens."""
        found = (await self.play.ask("status"))["result"].get("fleet_store")
        return found is not None and found["state"] == "ok"

    def stored(self) -> None:
        """What happened is in the state, once."""
        engine = open_engine(f"sqlite:///{self.folder / 'state.db'}", writing=False)
        try:
            with engine.connect() as connection:
                [run] = shutdown.runs(connection, 5)
                steps = [(step.act, step.target) for step in run.steps]
                assert len(set(steps)) == len(steps) and len(steps) >= len(NAMES) + len(UPSES)
                orders = [order for order in history.orders(connection) if order.name == "shutdown.return"]
                assert sorted(order.ups for order in orders) == sorted(UPSES)
                assert all(order.outcome in (Outcome.ACCEPTED, Outcome.UNCONFIRMED) for order in orders)
                told = [item.event for item in history.events(connection)]
                events = [(event.wall_us, event.ups, event.name, event.text) for event in told]
                assert len(events) == len(set(events))
                begun = [event[1] for event in events if event[2] == "on-battery"]
                assert sorted(begun) == sorted(UPSES)
        finally:
            engine.dispose()


Fault = Callable[[Path], object]


async def play_outage(fault: Callable[[Path], object], fleet: str | None = None) -> dict[str, float]:
    """The fault comes while the agent runs, then mains fail. ``fleet`` is the URL of the fleet store, if there is one."""
    room = Room()
    async with room.play as play:
        with disk(room.folder), room.hosts.running():
            with play.config.open("a") as config:
                config.write(configuration(room.hosts, RACKS))
                if fleet is not None:
                    config.write(f"\n[fleet]\ndatabase = {json.dumps(fleet)}\n")
            await until(lambda: len(room.hosts.up()) == len(NAMES), 20, "every host is up")
            await play.start()
            await play.all_online()
            if fleet is not None:
                await until(room.ships, 60, "it ships")
            await asyncio.sleep(1)
            with fault(room.folder):  # type: ignore[attr-defined]
                began_s = asyncio.get_running_loop().time()
                play.tell("mains off all")
                found = await room.outage(began_s)
                status = (await play.ask("shutdown-status"))["result"]
                assert "did not" not in str(status) and "mains are good" not in str(status), status
            await until(lambda: not (room.folder / "state.db.spool").exists(), 90, "all is joined")
            await asyncio.sleep(1)
            assert await play.stop() == 0
            room.stored()
    return found


@pytest.mark.parametrize("fault", [locked_by_another, full, frozen], ids=lambda fault: fault.__name__)
async def test_the_state_breaks_and_then_mains_fail(fault: Fault) -> None:
    usual = await play_outage(sound)
    found = await play_outage(fault)
    later = {name: found[name] - usual[name] for name in usual}
    measured(
        f"{fault.__name__}: {len(found)} of {len(usual)} stops and cuts, the last after {max(found.values()):.1f} s "
        f"({max(usual.values()):.1f} s on a sound state), at most {max(later.values()):.2f} s later"
    )
    assert max(later.values()) < LATER_S


@contextmanager
def stopped(server: Postgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.restart()


@contextmanager
def hanging(server: Postgres) -> Iterator[None]:
    """Connections stay open and nobody answers."""
    signal_server(server, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_server(server, signal.SIGCONT)


def stages(found: dict[str, float]) -> str:
    """When the last load of each stage was told to stop, and the last UPS to cut."""
    each = [[found[f"{role}-{rack}"] for rack in range(1, RACKS + 1)] for role in ("web", "app", "db")]
    return ", ".join(f"{max(times):.2f}" for times in [*each, [found[ups] for ups in UPSES]])


@pytest.mark.parametrize("trouble", [stopped, hanging], ids=lambda trouble: trouble.__name__)
async def test_the_fleet_store_is_in_trouble_and_then_mains_fail(
    postgres: Postgres, trouble: Callable[[Postgres], object]
) -> None:
    """Every host is stopped and every UPS cut, each as soon as with a fleet store that answers."""
    usual = await play_outage(sound, postgres.create())
    found = await play_outage(lambda _: trouble(postgres), postgres.create())
    later = {name: found[name] - usual[name] for name in usual}
    measured(
        f"fleet store {trouble.__name__}: {len(found)} of {len(usual)} stops and cuts, stages after {stages(found)} s "
        f"({stages(usual)} s on one that answers), at most {max(later.values()):.2f} s later"
    )
    assert max(later.values()) < LATER_S


def garbage(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"not a database, " * 1000)


def truncated(folder: Path) -> None:
    content = (folder / "state.db").read_bytes()
    (folder / "state.db").write_bytes(content[: len(content) // 2])


def a_folder(folder: Path) -> None:
    (folder / "state.db").unlink()
    (folder / "state.db").mkdir()


def nothing(_: Path) -> None:
    pass


async def test_arming_that_nothing_takes_a_record_of_says_so(tmp_path: Path) -> None:
    """It holds at once, no shutdown is told of, and the record follows when there is room."""
    told: list[str] = []
    with disk(tmp_path / "disk") as folder:
        store = Store(f"sqlite:///{folder / 'state.db'}", clock=Clock(), side=Path(f"{folder}/state.db.spool"))
        store.open()
        journal = Journal(store, Clock(), told.append)
        try:
            await journal.arm(True, "ann", "the state is there")
            while not await store.settled(5.0):
                pass
            with full(folder):
                kept = True
                for number in range(200):  # what the files have room for yet is used up first
                    if not kept:
                        break
                    entry, kept = await journal.arm(bool(number % 2), "ann", "x" * 500)
                assert not kept
                assert told == []
            entry, _ = await journal.arm(False, "ann", "room again")
            async with asyncio.timeout(60):
                while (await store.read(shutdown.arming)) != entry:
                    await asyncio.sleep(0.1)
        finally:
            journal.close()
            await store.close()


BROKEN = [(garbage, sound), (truncated, sound), (a_folder, sound), (nothing, read_only), (nothing, full),
          (nothing, not_even_readable), (nothing, frozen)]  # fmt: skip


@pytest.mark.parametrize(("before", "fault"), BROKEN, ids=lambda each: each.__name__)
async def test_broken_before_the_start_polls_and_stops_come_in_time(before: Callable[[Path], None], fault: Fault) -> None:
    """An armed agent starts on battery, on a state that can't be used."""
    room = Room()
    async with room.play as play:
        with disk(room.folder), room.hosts.running():
            with play.config.open("a") as config:
                config.write(configuration(room.hosts, RACKS))
            await until(lambda: len(room.hosts.up()) == len(NAMES), 20, "every host is up")
            began_s = asyncio.get_running_loop().time()
            await play.start(wait=False)
            await until(lambda: all(play.polls(ups) for ups in UPSES), 60, "polls on a sound state")
            usual_s = max(play.polls(ups)[0] for ups in UPSES) - began_s
            await until(play._answers, 60, "the agent answers")
            await play.all_online()
            assert await play.stop() == 0
            before(room.folder)
            play.tell("mains off all")
            with fault(room.folder):
                began_s = asyncio.get_running_loop().time()
                await play.start(wait=False)
                await until(lambda: all(play.polls(ups, began_s) for ups in UPSES), 60, "polls")
                polled_s = max(play.polls(ups, began_s)[0] for ups in UPSES) - began_s
                first_s = min((await room.outage(began_s)).values()) - polled_s
                status = (await play.ask("shutdown-status"))["result"]
                assert "did not" not in str(status) and "mains are good" not in str(status), status
            if before is a_folder:
                (room.folder / "state.db").rmdir()
            await until(lambda: not (room.folder / "state.db.spool").exists(), 90, "all is joined")
            await asyncio.sleep(2)
            log = play.log()
            assert await play.stop() == 0
            with closing(sqlite3.connect(room.folder / "state.db")) as file:
                assert file.execute("SELECT count(*) FROM shutdown_run").fetchone() == (1,), log
                cuts = file.execute("SELECT count(*) FROM order_log WHERE name = 'shutdown.return' AND outcome IS NOT NULL")
                assert cuts.fetchone() == (len(UPSES),), log
    measured(
        f"{before.__name__}, {fault.__name__}: polls after {polled_s:.1f} s ({usual_s:.1f} s on a sound state), first stop "
        f"{first_s:.1f} s later"
    )
    assert polled_s < 2 * usual_s + STARTED_S
    assert first_s < 2.0 + 2.0 + LATER_S + usual_s  # on_battery_for, at most 2 s, and what shows in the start of a loaded machine


def all_gone(folder: Path) -> None:
    for file in folder.glob("state.db*"):
        file.unlink()


@pytest.mark.parametrize("what", ["damaged", "a folder", "locked", "deleted under the agent"])
async def test_the_state_is_lost_and_the_agent_starts_on_battery_the_battery_is_the_same(what: str) -> None:
    """How many cells there are can't be seen on battery: 2.07 V must not stand where 81 V stood."""
    dialect = dialect_named("megatec")
    assert dialect is not None
    unit = SimulatedUps(dialect, name="online", machine=Machine(Ratings(), noise=0.0), per_cell=True)
    async with Play([unit], agent={"database": '"sqlite:///state.db"', "poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()

        async def battery(status: str) -> float | None:
            """Its voltage in that status, once the charge is known too."""
            answer = (await play.ask("vars", ups="online"))["result"]
            found = answer["variables"]
            if answer["state"] != "online" or status not in found["ups.status"].split() or "battery.charge" not in found:
                return None
            return float(found["battery.voltage"])

        async def whole(status: str = "OB") -> bool:
            return await battery(status) is not None

        await until(lambda: whole("OL"), 30, "the battery is known")
        if what.startswith("deleted"):
            follower = await play.follow()
            all_gone(play.folder)
            await until(lambda: bool(follower.told("state-trouble")), 20, "it is noticed")
        play.tell("mains off online")
        await until(whole, 30, "it is on battery")
        volts = await battery("OB")
        assert volts is not None and volts > 10.0
        await play.kill()
        if what == "damaged":
            garbage(play.folder)
        elif what == "a folder":
            a_folder(play.folder)
        with not_even_readable(play.folder) if what == "locked" else sound(play.folder):
            await play.start()
            await until(whole, 30, "volts and charge are known")
            again = await battery("OB")
            assert again is not None and volts * 0.8 < again < volts * 1.2, play.log()
        assert await play.stop() == 0, play.log()


@pytest.mark.parametrize("before", [garbage, a_folder], ids=lambda each: each.__name__)
async def test_killed_in_an_outage_and_the_state_is_lost_the_run_goes_on(before: Callable[[Path], None]) -> None:
    """What was stopped is known, what was not is stopped, every UPS is cut: by the copy of the run."""
    room = Room()
    room.folder.mkdir()
    async with room.play as play:
        with room.hosts.running():
            with play.config.open("a") as config:
                config.write(configuration(room.hosts, RACKS))
            await until(lambda: len(room.hosts.up()) == len(NAMES), 20, "every host is up")
            await play.start(wait=False)
            await until(play._answers, 60, "the agent answers")
            await play.all_online()
            began_s = asyncio.get_running_loop().time()
            play.tell("mains off all")
            await until(lambda: (room.hosts.folder / "diary").read_text().count("down") >= 4, 60, "web and job are down")
            await play.kill()
            before(room.folder)
            await play.start(wait=False)
            await until(play._answers, 60, "the agent answers")
            status = (await play.ask("shutdown-status"))["result"]
            assert "nothing stopped yet" not in str(status) and "No shutdown" not in str(status), status
            await room.outage(began_s)
            asked = [name for _, word, name in room.hosts.diary() if word == "asked"]
            assert sorted(asked) == sorted(NAMES), "each once"
            if before is garbage:
                await asyncio.sleep(2)
                assert await play.stop() == 0
                with closing(sqlite3.connect(room.folder / "state.db")) as file:
                    assert file.execute("SELECT count(*) FROM shutdown_run").fetchone() == (1,), play.log()
                    steps = file.execute("SELECT count(*) FROM shutdown_step").fetchone()[0]
                    assert steps >= len(NAMES) + len(UPSES), play.log()
