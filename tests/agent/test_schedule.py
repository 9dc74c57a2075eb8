"""Ticks and dates through clock steps: nothing stops, nothing is listed that was missed."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.agent.dates import Dates
from qxfleet.agent.schedule import CalendarTrigger, GridTrigger, Schedule
from qxfleet.config.load import load
from qxfleet.errors import ConfigError
from qxfleet.model.clock import Clock, from_us
from tests.virtual import VirtualClock, run_virtual

UTC_ZONE = ZoneInfo("UTC")
TEN_YEARS_S = 10 * 365.25 * 86400
NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday."""


def cron_trigger(expression: str, zone: ZoneInfo) -> CalendarTrigger:
    return CalendarTrigger(Dates.read(expression, zone))


class HandClock(Clock):
    """A clock that is set by hand."""

    def __init__(self, mono_s: float, wall_us: int = 1_790_000_000_000_000) -> None:
        self.mono_s = mono_s
        self.now_us = wall_us

    def monotonic(self) -> float:
        return self.mono_s

    def wall_us(self) -> int:
        return self.now_us


def test_a_grid_never_gives_a_point_that_has_passed() -> None:
    chance = random.Random(1)
    for _ in range(5000):
        clock = HandClock(chance.uniform(0, 1e6))
        period_s, phase_s = chance.choice((0.25, 1.0, 2.0, 30.0)), chance.uniform(0, 10)
        now = NOON + timedelta(seconds=chance.uniform(-1e8, 1e8))
        ahead_s = (GridTrigger(clock, period_s, phase_s).get_next_fire_time(None, now) - now).total_seconds()
        assert 0 < ahead_s <= period_s + 0.011
        points = (clock.mono_s + ahead_s - phase_s) / period_s
        assert abs(points - round(points)) < 1e-4, "it is a point of the grid"


def test_a_tick_at_its_point_gives_the_next_one() -> None:
    """Fired a little early or late, the point is used up; fired too early to be used, it comes again."""
    trigger = GridTrigger(clock := HandClock(0), 1.0, 0.0)
    for mono_s, next_s in ((100.0, 101.0), (99.995, 101.0), (100.3, 101.0), (99.985, 100.0)):
        clock.mono_s = mono_s
        ahead_s = (trigger.get_next_fire_time(NOON, NOON) - NOON).total_seconds()
        assert mono_s + ahead_s == pytest.approx(next_s, abs=1e-5)


@pytest.mark.parametrize("expression", ["* * * * *", "*/5 * * * *", "0 3 * * sun", None])
def test_ten_years_forward_list_nothing_and_cost_nothing(expression: str | None) -> None:
    """What APScheduler does with a job after a step: it asks for one fire time after the other until one is ahead."""
    trigger = cron_trigger(expression, UTC_ZONE) if expression else GridTrigger(HandClock(1000.0), 1.0, 0.0)
    due, now = NOON, NOON + timedelta(seconds=TEN_YEARS_S)
    began_s, listed = time.process_time(), 0
    following: datetime | None = due
    while following is not None and following <= now:
        listed += 1
        following = trigger.get_next_fire_time(following, now)
    assert listed == 1
    assert following is not None and following > now
    assert time.process_time() - began_s < 1.0


def test_a_date_is_not_given_twice() -> None:
    trigger = cron_trigger("0 3 * * *", UTC_ZONE)
    date = datetime(2026, 3, 3, 3, 0, tzinfo=UTC)
    assert trigger.get_next_fire_time(None, NOON) == date
    assert trigger.get_next_fire_time(date, date) == date + timedelta(days=1)


@pytest.mark.parametrize(
    ("weekdays", "dates"),
    [("sun", [8]), ("mon-fri", [3, 4, 5, 6]), ("SAT,sun", [7, 8]), ("*", [3, 4, 5, 6, 7, 8])],
)
def test_weekdays_mean_what_their_names_say(weekdays: str, dates: list[int]) -> None:
    trigger = cron_trigger(f"0 3 * * {weekdays}", UTC_ZONE)
    found, date = [], trigger.get_next_fire_time(None, NOON)
    while date is not None and date.day < 9:
        found.append(date.day)
        date = trigger.get_next_fire_time(date, date)
    assert found == dates


@pytest.mark.parametrize("weekdays", ["0", "7", "1-5", "mon,3", "*/2", "*/2,3", "mon-5", "fri/2", "mon-fri/2", "son", ""])
def test_weekdays_by_number_are_refused(weekdays: str) -> None:
    """0 is Sunday in cron and Monday in APScheduler; ``*/2`` counts from there too."""
    with pytest.raises(ConfigError, match="cron"):
        cron_trigger(f"0 3 * * {weekdays}", UTC_ZONE)


@pytest.mark.parametrize("expression", ["0 3 * *", "0 3 * * sun 2026", "61 3 * * sun", "0 25 * * sun", "x 3 * * sun"])
def test_other_nonsense_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError, match="cron"):
        cron_trigger(expression, UTC_ZONE)


async def test_only_coroutine_functions_are_jobs() -> None:
    schedule = Schedule(Clock(), lambda step_s: None)
    for add in (lambda work: schedule.every(1.0, 0.0, work), lambda work: schedule.at("0 3 * * sun", UTC_ZONE, work)):
        with pytest.raises(TypeError, match="coroutine function"):
            add(lambda: None)


async def test_every_job_of_an_agent_is_a_coroutine_function(tmp_path: Path) -> None:
    path = tmp_path / "qxfleet.toml"
    path.write_text('[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\n')
    agent = Agent(load(path))
    jobs = []

    def started() -> None:
        jobs.extend(agent.schedule._scheduler.get_jobs())
        agent.stop()

    await asyncio.wait_for(agent.run(started), 20)
    assert jobs
    assert all(asyncio.iscoroutinefunction(job.func) for job in jobs)


def test_ticks_go_on_whatever_is_done_to_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler itself through hours with steps: both clocks are virtual, APScheduler's and ours."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        clock = VirtualClock(loop)

        class Now(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
                return from_us(clock.wall_us()).astimezone(tz)

        monkeypatch.setattr("apscheduler.schedulers.base.datetime", Now)
        monkeypatch.setattr("apscheduler.executors.base.datetime", Now)
        ticks: list[float] = []
        points: list[tuple[int, float]] = []
        dates: list[datetime] = []
        steps: list[float] = []

        async def tick() -> None:
            ticks.append(loop.time())

        async def date() -> None:
            dates.append(from_us(clock.wall_us()))

        schedule = Schedule(clock, steps.append)
        began = loop.time()
        schedule.every(1.0, began, tick)
        schedule.ticks(0.25, began, lambda number: points.append((number, loop.time())))
        schedule.at("* * * * *", UTC_ZONE, date)
        schedule.start()
        made = (TEN_YEARS_S, -3600.0, -TEN_YEARS_S, 0.3, -0.3, 86400.0, -1.0)
        began_s = time.process_time()
        for step_s in made:
            await asyncio.sleep(300.37)
            clock.set_wall(step_s)
        await asyncio.sleep(300)
        schedule.stop()
        assert time.process_time() - began_s < 30.0
        assert max(b - a for a, b in itertools.pairwise(ticks)) <= 2.01
        assert len(ticks) >= 8 * 300 - len(made)
        assert [number for number, _ in points] == list(range(len(points))), "each once, none left out"
        assert all(began + number * 0.25 - 0.011 <= at_s <= began + number * 0.25 + 0.001 for number, at_s in points)
        assert len(points) >= (len(made) + 1) * 300 * 4
        assert [round(step_s) for step_s in steps] == [round(step_s) for step_s in made if abs(step_s) > 0.5]
        assert 8 * 5 - len(made) <= len(dates) <= 8 * 5 + len(made), "minutes go on after each step, and none is made up for"

    run_virtual(story())


async def test_stopping_beside_a_tick_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """The end comes in the very turn of the loop in which a tick is due."""
    loop, clock = asyncio.get_running_loop(), Clock()
    schedule = Schedule(clock, lambda step_s: None)

    async def tick() -> None:
        pass

    at_s = clock.monotonic() + 0.2
    schedule.every(3600.0, at_s, tick)
    schedule.start()
    loop.call_at(at_s - 0.1, time.sleep, 0.15)
    loop.call_at(at_s + 0.01, schedule.stop)
    with caplog.at_level(logging.INFO):
        await asyncio.sleep(0.5)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
