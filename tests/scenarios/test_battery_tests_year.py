"""A year of battery tests over A/B pairs: weekly quick, quarterly partial, yearly deep, with outages and brown-outs in the waves.

Everything but the time is real: sessions, fleet, database, runner; each week the agent is a new one. CI plays five weeks of it
with 12 UPSes, ``QXFLEET_SOAK=1`` the whole year with 120.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from qxfleet.agent.dates import dates
from qxfleet.model.events import Event, Phase
from qxfleet.model.selftest import Asked, Rules, Verdict
from qxfleet.selftest.run import Wave
from qxfleet.session import session
from qxfleet.testing.simulator import SimulatedUps, Unknown
from qxfleet.testing.unit import Fault, Unit
from tests.scenarios.play import SOAK, measured
from tests.selftest.ground import TestGround, a_unit
from tests.virtual import VirtualClock, VirtualLoop, run_virtual

PAIRS = 60 if SOAK else 6
OUTAGES, BROWN_OUTS = (12, 8) if SOAK else (2, 1)
DEAD, LAZY, NAKS = (5, 3, 2) if SOAK else (2, 1, 1)
SEED = 6
POLL_S = 50.0
SETTLE_S = 420.0
DIALECTS = ("megatec", "mecer", "voltronic", "zinto", "mustek")

LONGEST_S = 3600 if SOAK else 600
RULES = Rules(mains_stable_s=240, charged_s=300, load_steady_s=240, recharge_s=120, max_parallel=20, longest_s=LONGEST_S)
WINDOW_US = 3000 * 1_000_000

CALENDAR: tuple[tuple[str, str, Asked, str], ...] = (
    ("yearly-deep-a", "0 3 8-14 nov sun", Asked("deep"), "a"),
    ("yearly-deep-b", "0 3 15-21 nov sun", Asked("deep"), "b"),
    ("quarterly-partial-a", "0 3 1-7 jan,apr,jul,oct sun", Asked("timed", 180.0), "a"),
    ("quarterly-partial-b", "0 3 8-14 jan,apr,jul,oct sun", Asked("timed", 180.0), "b"),
    ("weekly-quick", "0 3 * * sun", Asked("quick"), "ab"),
)
"""Name, cron, test, feeds; on a Sunday that several mean, the first of them."""

BEGIN_US = int(datetime(2026, 9, 25, tzinfo=UTC).timestamp()) * 1_000_000


def sundays() -> list[tuple[int, str, Asked, str]]:
    """Every wave of the year: date, schedule, test, feeds. In CI: five of them, one of each kind."""
    year: dict[int, tuple[int, str, Asked, str]] = {}
    for name, cron, asked, feeds in CALENDAR:
        for date_us in dates(cron, ZoneInfo("UTC"), BEGIN_US, BEGIN_US + 365 * 86_400_000_000):
            year.setdefault(date_us, (date_us, name, asked, feeds))
    waves = [year[date_us] for date_us in sorted(year)]
    assert len(waves) == 52
    assert Counter(name for _, name, _, _ in waves) == {
        "weekly-quick": 42, "quarterly-partial-a": 4, "quarterly-partial-b": 4, "yearly-deep-a": 1, "yearly-deep-b": 1,
    }  # fmt: skip
    if SOAK:
        return waves
    picked = [next(wave for wave in waves if wave[1] == name) for name, *_ in CALENDAR]
    return sorted(picked, key=lambda wave: wave[0])


@dataclass
class Truth:
    """What really happened to one UPS: kept beside the machine, not by anything under test."""

    disturbed_s: list[float] = field(default_factory=list)
    outages: int = 0
    """Outages that any poll must have seen."""
    started: int = 0
    bad_starts: list[str] = field(default_factory=list)


class Year:
    """The units, their pairs, and what is done to them."""

    def __init__(self) -> None:
        self.chance = random.Random(SEED)
        self.units: dict[str, Unit] = {}
        for number in range(1, PAIRS + 1):
            for feed in "ab":
                name = f"r{number:02d}{feed}"
                self.units[name] = a_unit(
                    name, dialect=self.chance.choice(DIALECTS), load=self.chance.randint(40, 70), noise=1.0,
                    age=self.chance.uniform(0, 4), seed=self.chance.getrandbits(32),
                )  # fmt: skip
        self.pairs = [(f"r{number:02d}a", f"r{number:02d}b") for number in range(1, PAIRS + 1)]
        bad_pairs = self.chance.sample(self.pairs, DEAD + LAZY + NAKS)
        bad = [self.chance.choice(pair) for pair in bad_pairs]
        self.dead, self.lazy, self.naks = bad[:DEAD], bad[DEAD:DEAD + LAZY], bad[DEAD + LAZY:]
        for name in self.dead:
            self.units[name].set_fault(Fault.DEAD_BATTERY, f"{self.chance.uniform(2, 6):.1f}")
        for name in self.lazy:
            self.units[name].set_fault(Fault.ACK_BUT_IGNORE)
        for name in self.naks:
            unit = self.units[name]
            unit.set_fault(Fault.REFUSE, "T*")
            if isinstance(unit, SimulatedUps):
                unit.unknown = Unknown.NAK
        for name in self.chance.sample(sorted(self.units), len(self.units) // 4):
            self.units[name].set_fault(Fault.TEST_RAISES_UTILITY_FAIL)
        self.truth = {name: Truth() for name in self.units}
        for a, b in self.pairs:
            self.watch_starts(a, b)
            self.watch_starts(b, a)

    def watch_starts(self, name: str, mate: str) -> None:
        """See with the machine's own eyes what holds at the moment a test begins."""
        machine, other, truth = self.units[name].machine, self.units[mate].machine, self.truth[name]
        start = machine.start_test

        def start_test(seconds: float) -> bool:
            now_s = asyncio.get_running_loop().time()
            other.advance(now_s)
            truth.started += 1
            truth.bad_starts += [f"{name}: {why}" for why, bad in (
                (f"{mate} is under test", other.testing),
                (f"{mate} is on battery", other.on_battery and self.seen(mate, now_s)),
                ("on battery", machine.on_battery and self.seen(name, now_s)),
                ("mains disturbed", self.disturbed(name, now_s)),
                ("not charged", machine.battery.charge < 0.97),
                (f"{mate} not charged", other.battery.charge < 0.97 and (not other.on_battery or self.seen(mate, now_s))),
                (f"{mate} has a dead battery that is known", mate in self.found),
            ) if bad]  # fmt: skip
            return start(seconds)

        machine.start_test = start_test  # type: ignore[method-assign]

    found: frozenset[str] = frozenset()
    """Dead batteries that earlier waves have found."""

    def seen(self, name: str, now_s: float) -> bool:
        """Whether what happened last to a UPS's mains is older than two polls."""
        disturbed = self.truth[name].disturbed_s
        return not disturbed or now_s - disturbed[-1] > 2 * POLL_S

    def disturbed(self, name: str, now_s: float) -> bool:
        """Whether mains changed within the time they are to be stable, beyond what a poll may not have seen yet."""
        return any(2 * POLL_S < now_s - at_s < RULES.mains_stable_s - 2 * POLL_S for at_s in self.truth[name].disturbed_s)

    def set_mains(self, volts: float, names: list[str], now_s: float) -> None:
        for name in names:
            machine = self.units[name].machine
            machine.advance(now_s)
            machine.set_mains(volts * machine.ratings.volts / 230)
            self.truth[name].disturbed_s.append(now_s)


async def trouble(year: Year, site: TestGround, wave: Wave, plan: list[tuple[float, float, float, str]]) -> None:
    """What befalls the mains during one wave: (after, volts, for, feed)."""
    began_s = site.clock.monotonic()
    for after_s, volts, for_s, feed in plan:
        await asyncio.sleep(max(0.0, began_s + after_s - site.clock.monotonic()))
        names = [name for name in year.units if feed in ("all", name[-1])]
        year.set_mains(volts, names, site.clock.monotonic())
        for name in names:
            year.truth[name].outages += volts == 0
        await asyncio.sleep(for_s)
        year.set_mains(230, names, site.clock.monotonic())


def troubles(year: Year, count: int) -> list[list[tuple[float, float, float, str]]]:
    """For each wave what happens to the mains in it: outages of one feed or of the site, brown-outs."""
    plans: list[list[tuple[float, float, float, str]]] = [[] for _ in range(count)]
    kinds = [0.0] * OUTAGES + [190.0] * BROWN_OUTS
    for volts in kinds:
        plan = plans[year.chance.randrange(count)]
        while any(volts == 0 for _, volts, _, _ in plan) and volts == 0:
            plan = plans[year.chance.randrange(count)]
        after_s = (plan[-1][0] + plan[-1][2] if plan else 0) + year.chance.uniform(5, 400)
        plan.append((after_s, volts, year.chance.uniform(110, 240), year.chance.choice(("a", "b", "all"))))
    return plans


def test_a_year_of_battery_tests(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "RACE_S", 1.0)  # four readings a second are for real lines; one is enough to judge
    run_virtual(play(sqlite_path))


async def play(database: Path) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    year, waves, clock = Year(), sundays(), VirtualClock(loop, BEGIN_US)
    plans = troubles(year, len(waves))
    counts: Counter[str] = Counter()
    events: list[Event] = []
    longest_s = 0.0
    verdicts: dict[str, set[str]] = {name: set() for name in year.units}
    for (date_us, name, asked, feeds), plan in zip(waves, plans, strict=True):
        skip_to(loop, clock, year, date_us)
        site = TestGround(database, year.units.values(), rules=RULES, pairs=year.pairs, poll_s=POLL_S, clock=clock)
        async with site:
            await site.settled(SETTLE_S)
            upses = [ups for ups in year.units if ups[-1] in feeds]
            if asked.kind == "deep" and not SOAK:
                upses = upses[:2]
            began_s = site.clock.monotonic()
            wave = await site.begin(*upses, asked=asked, schedule=name, closes_us=site.clock.wall_us() + WINDOW_US)
            befalling = asyncio.create_task(trouble(year, site, wave, plan))
            await wave.done.wait()
            longest_s = max(longest_s, site.clock.monotonic() - began_s)
            await befalling
            await asyncio.sleep(60)
            events += site.events
        for ups, member in wave.members.items():
            assert member.state in ("tested", "refused"), (name, ups, member)
            counts[member.verdict.value if member.verdict else "not tested"] += 1
            if member.verdict:
                verdicts[ups].add(member.verdict.value)
            if member.verdict is Verdict.FAILED:
                year.found |= {ups}
    judge(year, verdicts, events)
    measured(
        f"{len(year.units)} UPSes, {len(waves)} waves, {sum(len(p) for p in plans)} troubles: "
        f"{sum(t.started for t in year.truth.values())} tests begun; {dict(sorted(counts.items()))}; longest wave "
        f"{longest_s / 3600:.1f} h; {sum(t.outages for t in year.truth.values())} UPS outages, all told, none else"
    )


def skip_to(loop: VirtualLoop, clock: VirtualClock, year: Year, date_us: int) -> None:
    """Let the days until shortly before a date pass at once."""
    loop.jump(max(0.0, (date_us - clock.wall_us()) / 1e6 - SETTLE_S))
    for unit in year.units.values():
        unit.machine.skip(loop.time())


def judge(year: Year, verdicts: dict[str, set[str]], events: list[Event]) -> None:
    """What must hold at the end of the year, by what the machines know."""
    bad = [why for truth in year.truth.values() for why in truth.bad_starts]
    assert bad == []
    for name in year.dead:
        assert "failed" in verdicts[name], (name, verdicts[name])
        assert verdicts[name] <= {"failed", "aborted"}, name
    for name in year.lazy:
        assert verdicts[name] <= {"no-effect", "aborted"} and "no-effect" in verdicts[name], (name, verdicts[name])
    for name in year.naks:
        assert verdicts[name] == {"aborted"}, name
    healthy = set(year.units) - {*year.dead, *year.lazy, *year.naks}
    for name in healthy:
        assert "passed" in verdicts[name] or mate(name) in year.dead, (name, verdicts[name])
        assert not verdicts[name] & {"failed", "no-effect"}, (name, verdicts[name])
    told = Counter(event.ups for event in events if event.name == "on-battery" and event.phase is Phase.BEGIN)
    for name, truth in year.truth.items():
        if name in year.dead:
            assert told[name] <= truth.outages, name  # it may be dark before anybody asks
        else:
            assert told[name] == truth.outages, (name, told[name], truth.outages)


def mate(name: str) -> str:
    return name[:-1] + ("b" if name[-1] == "a" else "a")

