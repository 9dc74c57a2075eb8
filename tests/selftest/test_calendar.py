"""Schedules: dates that come, dates that were missed, and what is done on them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qxfleet.agent.schedule import Schedule as Clockwork
from qxfleet.config.schedules import Schedule
from qxfleet.model.selftest import Asked
from qxfleet.selftest.calendar import Calendar
from qxfleet.store import tests as stored
from tests.selftest.ground import SOON, TestGround, a_unit
from tests.virtual import VirtualClock, run_virtual

WEEKLY = Schedule("weekly", "test", "0 3 * * sun", "UTC", ("a", "b"), 7200.0, "skip", Asked("quick"), SOON)
SUNDAY_US = int(datetime(2026, 9, 27, 3, tzinfo=UTC).timestamp() * 1e6)


@dataclass
class Hands:
    """What the calendar needs of an agent."""

    config: Any
    schedule: Clockwork
    site: TestGround

    def __getattr__(self, name: str) -> Any:
        return getattr(self.site, name)

    def part(self, kind: type) -> Any:
        return self.site.tests


async def with_calendar(folder: Path, at_us: int, *schedules: Schedule) -> tuple[TestGround, Calendar, Clockwork]:
    """A ground whose wall clock shows a moment, and a calendar on it; the caller leaves both."""
    clock = VirtualClock(asyncio.get_running_loop(), at_us)
    site = TestGround(folder / "fleet.db", [a_unit("a"), a_unit("b")], clock=clock)
    await site.__aenter__()
    await site.settled(60)
    clockwork = Clockwork(site.clock, lambda step: None)
    clockwork.start()
    calendar = Calendar(Hands(SimpleNamespace(schedules=schedules), clockwork, site))  # type: ignore[arg-type]
    await calendar.start()
    return site, calendar, clockwork


async def leave(site: TestGround, calendar: Calendar, clockwork: Clockwork) -> None:
    await calendar.stop()
    clockwork.stop()
    await site.__aexit__()


async def starts(folder: Path, at_us: int, *schedules: Schedule, for_s: float = 120) -> tuple[list[tuple[str, str]], int]:
    """What the schedules tell when an agent starts at a moment, and how many tests were begun within some time."""
    site, calendar, clockwork = await with_calendar(folder, at_us, *schedules)
    await asyncio.sleep(for_s)
    told = [(event.value, event.text) for event in site.events if event.name == "schedule"]
    tests = sum(len(site.starts(ups)) for ups in "ab")
    await leave(site, calendar, clockwork)
    return told, tests


def test_a_missed_date_is_told_and_let_go(sqlite_path: Path) -> None:
    async def story() -> None:
        folder = sqlite_path.parent
        assert await starts(folder, SUNDAY_US - 3_600_000_000, WEEKLY) == ([], 0)
        told, tests = await starts(folder, SUNDAY_US + 1_800_000_000, WEEKLY)
        assert [value for value, _ in told] == ["missed"] and "2026-09-27T03:00" in told[0][1]
        assert tests == 0
        assert await starts(folder, SUNDAY_US + 2_400_000_000, WEEKLY) == ([], 0)  # told once

    run_virtual(story())


def test_a_missed_date_is_made_up_for_within_its_window_and_once(sqlite_path: Path) -> None:
    late = replace(WEEKLY, missed="run")

    async def story() -> None:
        folder = sqlite_path.parent
        await starts(folder, SUNDAY_US - 3_600_000_000, late)
        told, tests = await starts(folder, SUNDAY_US + 1_800_000_000, late)
        assert told[0][0] == "begin" and "31 min late" in told[0][1]
        assert tests == 2
        assert await starts(folder, SUNDAY_US + 2_400_000_000, late) == ([], 0)

    run_virtual(story())


def test_a_window_that_is_over_is_not_made_up_for(sqlite_path: Path) -> None:
    late = replace(WEEKLY, missed="run")

    async def story() -> None:
        folder = sqlite_path.parent
        await starts(folder, SUNDAY_US - 3_600_000_000, late)
        assert await starts(folder, SUNDAY_US + 7_300_000_000, late) == ([], 0)

    run_virtual(story())


def test_commands_and_reports_are_carried_out(sqlite_path: Path) -> None:
    folder = sqlite_path.parent
    beeper = Schedule("quiet", "command", "0 9 * * mon-fri", "UTC", ("a", "b"), 3600.0, "skip", command="beeper.toggle")
    report = Schedule("monthly", "report", "0 6 1 * *", "UTC", ("a",), 3600.0, "skip", report="fleet", file=folder / "fleet.json")
    results = replace(report, name="results", report="tests", file=folder / "tests.txt")

    async def story() -> None:
        site, calendar, clockwork = await with_calendar(folder, SUNDAY_US, WEEKLY, beeper, report, results)
        wave = await calendar.run(WEEKLY, SUNDAY_US, "test:me")
        assert wave is not None and wave.stored.closes_us == SUNDAY_US + 7_200_000_000
        assert await calendar.run(WEEKLY, SUNDAY_US, "test:me") is None  # the wave before is not over
        await wave.done.wait()
        for each in (beeper, report, results):
            assert await calendar.run(each, SUNDAY_US, "test:me") is None
        assert [request for ups in "ab" for _, request in site.heard[ups] if request == b"Q\r"] == [b"Q\r", b"Q\r"]
        assert [order.actor for order in await site.orders() if order.name == "beeper.toggle"] == ["test:me", "test:me"]
        document = json.loads((folder / "fleet.json").read_text())
        assert [(each["ups"], each["state"]) for each in document["fleet"]] == [("a", "online")]
        text = (folder / "tests.txt").read_text()
        assert "passed" in text and " b " not in text
        names = {each.schedule.name: each for each in calendar.due()}
        assert names["weekly"].last_us == SUNDAY_US
        assert datetime.fromtimestamp(names["quiet"].next_us[0] / 1e6, UTC).strftime("%a %H:%M") == "Mon 09:00"
        assert await site.store.read(stored.noted_dates) == dict.fromkeys(("weekly", "quiet", "monthly", "results"), SUNDAY_US)
        await leave(site, calendar, clockwork)

    run_virtual(story())


def test_a_clock_set_back_does_not_bring_a_date_again(sqlite_path: Path) -> None:
    async def story() -> None:
        site, calendar, clockwork = await with_calendar(sqlite_path.parent, SUNDAY_US - 61_000_000, WEEKLY)
        await asyncio.sleep(2)
        for _ in range(3):
            await calendar._job(WEEKLY)()
            await asyncio.sleep(1)
        begun = [event for event in site.events if event.name == "schedule" and event.value == "begin"]
        assert [event.text for event in begun] == ["weekly: quick test of 2026-09-27T03:00:00.000Z"]
        await leave(site, calendar, clockwork)

    run_virtual(story())


def test_a_new_configuration_changes_the_calendar(sqlite_path: Path) -> None:
    async def story() -> None:
        other = replace(WEEKLY, name="other")
        site, calendar, clockwork = await with_calendar(sqlite_path.parent, SUNDAY_US, WEEKLY, other)
        assert calendar.apply(SimpleNamespace(schedules=(WEEKLY, other))) == []  # type: ignore[arg-type]
        changed = SimpleNamespace(schedules=(replace(WEEKLY, cron="0 4 * * sun"), replace(WEEKLY, name="new")))
        assert calendar.apply(changed) == [  # type: ignore[arg-type]
            "schedule weekly: changed", "schedule other: removed", "schedule new: added",
        ]  # fmt: skip
        assert [each.schedule.name for each in calendar.due()] == ["weekly", "new"]
        await leave(site, calendar, clockwork)

    run_virtual(story())
