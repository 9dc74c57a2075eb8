"""A wave of battery tests whose agent is killed behind each of its commits: no unit is tested twice, no test is forgotten.

The agent runs in a child process on virtual time and sends itself SIGKILL. The UPSes outlive it: each request they got is in a
journal, by which the next process brings them to where they were.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from qxfleet.model.options import UpsOptions
from qxfleet.model.selftest import Asked
from qxfleet.testing.unit import Fault, Unit
from qxfleet.transports.inproc import InProcTransport
from tests.scenarios.play import SOAK, measured
from tests.selftest.ground import SOON, TestGround, a_unit
from tests.virtual import TimelessStore, VirtualClock, run_virtual

PAIRS = [("a1", "b1"), ("a2", "b2")]
LAZY = "b2"
RULES = replace(SOON, max_parallel=2, recharge_s=10.0, partner_healthy=False)
BEGIN_US = 1_790_000_000_000_000
EVERY = 1 if SOAK else 13
"""Which of the steps are tried."""

OUTSIDE = 60
"""Exit code of a child whose wave came to its end."""


class Journal:
    """Every request that any UPS got, with its time in seconds since the beginning; written through to the file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[tuple[float, str, str]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [tuple(json.loads(line)) for line in lines]

    def note(self, at_s: float, ups: str, request: bytes) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([at_s, ups, request.decode("latin-1")]) + "\n")

    def last_s(self) -> float:
        return max((at_s for at_s, _, _ in self.entries()), default=0.0)

    def starts(self) -> Counter[str]:
        return Counter(ups for _, ups, request in self.entries() if request.startswith("T"))

    def replay(self, units: dict[str, Unit]) -> None:
        for at_s, ups, request in self.entries():
            units[ups].answer(request.encode("latin-1"), at_s)


class Killed(TestGround):
    """A ground whose process dies behind its ``kill_at``-th recorded step."""

    def __init__(self, folder: Path, *, after_s: float, kill_at: int | None) -> None:
        self.journal = Journal(folder / "journal")
        units = {name: a_unit(name) for pair in PAIRS for name in pair}
        units[LAZY].set_fault(Fault.ACK_BUT_IGNORE)
        self.journal.replay(units)
        clock = VirtualClock(asyncio.get_running_loop(), BEGIN_US + round(after_s * 1e6))
        super().__init__(folder / "fleet.db", units.values(), rules=RULES, pairs=PAIRS, clock=clock)
        self.steps = 0
        self.kill_at = kill_at
        for name in ("commit", "order_intent", "order_outcome"):
            self.count(self.store, name)

    def count(self, store: TimelessStore, name: str) -> None:
        """Count a kind of recorded step, and die behind the one that was chosen."""
        write = getattr(store, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            done = await write(*args, **kwargs)
            self.steps += 1
            if self.steps == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        setattr(store, name, counted)

    def _transport(self, options: UpsOptions) -> InProcTransport:
        unit = self.units[options.name]
        queries = {query.command for query in unit.dialect.queries}

        def answer(request: bytes) -> bytes | None:
            at_s = (self.clock.wall_us() - BEGIN_US) / 1e6
            if request not in queries:
                self.journal.note(at_s, options.name, request)
            return unit.answer(request, at_s)

        return InProcTransport(options.name, answer)


async def play(folder: Path, after_s: float, kill_at: int | None, *, begin: bool) -> None:
    """A wave from its beginning, or what an earlier process left of one, to its end. One of its tests is ended by hand."""
    site = Killed(folder, after_s=after_s, kill_at=kill_at)
    async with site:
        await site.settled(40)
        if begin:
            await site.begin(asked=Asked("timed", 60.0), schedule="weekly", closes_us=site.clock.wall_us() + 3_600_000_000)
            await asyncio.sleep(30)
            await site.tests.stop_tests(["a1"], "me")
        while site.tests.waves():
            await asyncio.sleep(1)
        (folder / "steps").write_text(str(site.steps))


def in_child(folder: Path, after_s: float, kill_at: int | None, *, begin: bool) -> int:
    """How a child process ended that played: its exit code, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run_virtual(play(folder, after_s, kill_at, begin=begin))
            code = OUTSIDE
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ends(database: Path) -> tuple[dict[str, str], list[tuple[str, str | None]], str | None]:
    """Members' states, verdicts of all tests, and the wave's outcome."""
    with closing(sqlite3.connect(database)) as file:
        members = dict(file.execute("SELECT name, state FROM test_wave_member m JOIN device d ON d.id = m.device_id"))
        query = "SELECT name, verdict FROM battery_test t JOIN device d ON d.id = t.device_id ORDER BY t.id"
        tests = file.execute(query).fetchall()
        wave = file.execute("SELECT outcome FROM test_wave").fetchone()
    return members, tests, None if wave is None else wave[0]


def killed_at(step: int, database: Path, folder: Path) -> bool:
    """Kill behind one step, start again, and see that all came to its end; False if there are fewer steps."""
    folder.mkdir()
    shutil.copy(database, folder / "fleet.db")
    code = in_child(folder, 0.0, step, begin=True)
    if code == OUTSIDE:
        return False
    assert code == -signal.SIGKILL, code
    journal = Journal(folder / "journal")
    away_s = 3.0 if step % 2 else 200.0
    assert in_child(folder, journal.last_s() + away_s, None, begin=False) == OUTSIDE
    members, tests, outcome = ends(folder / "fleet.db")
    if not members:
        assert outcome is None and not journal.starts()  # killed ahead of the wave's first commit
        return True
    assert set(members.values()) <= {"tested", "refused"}, (step, members)
    assert outcome is not None, step
    assert all(verdict is not None for _, verdict in tests), (step, tests)
    assert all(count == 1 for count in journal.starts().values()), (step, journal.starts())
    by_ups: dict[str, str | None] = dict(tests)  # the last of each
    assert set(journal.starts()) <= {ups for ups, state in members.items() if state == "tested"}, (step, members)
    unsent = {verdict for ups, verdict in by_ups.items() if ups not in journal.starts()}
    assert unsent <= {"inconclusive", "aborted"}, (step, by_ups)  # written down as about to be sent, and perhaps never was
    assert by_ups.get(LAZY) in (None, "no-effect", "inconclusive"), (step, by_ups)
    assert "failed" not in by_ups.values(), (step, by_ups)
    assert "no-effect" not in [verdict for ups, verdict in by_ups.items() if ups != LAZY], (step, by_ups)
    return True


def test_a_wave_survives_kills_behind_each_of_its_commits(sqlite_path: Path, tmp_path: Path) -> None:
    step, kills = 1, 0
    while killed_at(step, sqlite_path, tmp_path / str(step)):
        shutil.rmtree(tmp_path / str(step))
        kills += 1
        step += EVERY
    steps = int((tmp_path / str(step) / "steps").read_text())
    measured(f"killed behind {kills} of {steps} recorded steps of a wave over 4 UPSes; nobody tested twice, none without its end")
    assert kills >= steps // EVERY

