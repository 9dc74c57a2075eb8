"""Ticks and calendar dates, kept alive through clock steps. APScheduler runs both; it decides nothing.

What made the own trigger and the guard necessary: APScheduler 3 lists every missed slot after a forward step, and after a
backward step fires nothing until the old time is reached again (its issues 526, 1066, 351, 339).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from qxfleet.agent.dates import Dates
from qxfleet.model.clock import Clock, from_us

TICK_S = 1.0
COHORTS = 4
"""Ticks a second, each for its part of the fleet: one wake-up then serves many ports, and none waits for the others."""

BEAT_S = 2.0
"""How often a job of the scheduler sets the ticks up, which the loop then does by itself: a job of its own for each of them would
cost more than their work."""

GUARD_S = 1.0
"""How often the wall clock is looked at."""

STEP_S = 0.5
"""A change of wall against monotonic time that counts as a step."""

EARLY_S = 0.010
"""A tick that fires this little before its grid point is that point's tick. Sessions see it the same way."""


LATEST_S = 3600
"""A calendar date that could not be dealt with for so long is skipped."""

EPOCH = from_us(0)


class GridTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires at ``phase_s`` + k × ``period_s`` of the monotonic clock; jumps over whatever was missed."""

    def __init__(self, clock: Clock, period_s: float, phase_s: float) -> None:
        self._clock = clock
        self._period_s = period_s
        self._phase_s = phase_s

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The next grid point, as a wall time that is as far away as the point is on the monotonic clock."""
        mono_s = self._clock.monotonic()
        return now + timedelta(seconds=next_point_s(mono_s, self._period_s, self._phase_s) - mono_s)


def next_point_s(mono_s: float, period_s: float, phase_s: float) -> float:
    """The next point of a grid; one that is reached within EARLY_S counts as reached."""
    return phase_s + math.ceil((mono_s + EARLY_S - phase_s) / period_s) * period_s


class CalendarTrigger(BaseTrigger):  # type: ignore[misc]
    """The dates of a cron expression; those that were missed are jumped over, not listed."""

    def __init__(self, dates: Dates) -> None:
        self._dates = dates

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first date after ``now``; None if there is none."""
        date_us = next(self._dates.after((now - EPOCH) // timedelta(microseconds=1)), None)
        return None if date_us is None else from_us(date_us)


class _Starter(AsyncIOExecutor):  # type: ignore[misc]
    """Jobs only start things, so one that is about to may do so: cancelling it at the end is logged as its failure."""

    def shutdown(self, wait: bool = True) -> None:
        """Nothing to end."""


def _check(work: Callable[[], Awaitable[None]]) -> None:
    """APScheduler runs anything but a coroutine function in a thread of its own, without a word."""
    if not inspect.iscoroutinefunction(work):
        raise TypeError(f"a job must be a coroutine function, {work!r} is none")


class _Ticks:
    """Ticks of a grid that the loop gives by itself for a while; each beat sets up those that follow.

    They reach beyond the next beat, until the guard has seen that a clock step made the scheduler miss it.
    """

    def __init__(self, clock: Clock, period_s: float, phase_s: float, work: Callable[[int], None]) -> None:
        self._clock = clock
        self._period_s = period_s
        self._phase_s = phase_s
        self._work = work
        self._given = self._point() - 1
        self._coming: list[asyncio.TimerHandle] = []

    async def beat(self) -> None:
        """What the scheduler calls."""
        self.set_up()

    def set_up(self) -> None:
        """Give the ticks that are due, and have the loop give those up to a guard's period after the next beat."""
        self.stop()
        self._give()
        loop, clock_s = asyncio.get_running_loop(), self._clock.monotonic()
        for point in range(self._given + 1, self._given + 1 + round((BEAT_S + GUARD_S) / self._period_s)):
            at_s = self._phase_s + point * self._period_s
            self._coming.append(loop.call_later(at_s - clock_s, self._give))

    def stop(self) -> None:
        """Give no more."""
        for handle in self._coming:
            handle.cancel()
        self._coming.clear()

    def _point(self) -> int:
        return math.floor((self._clock.monotonic() + EARLY_S - self._phase_s) / self._period_s)

    def _give(self) -> None:
        """Every point up to now that was not given; of those a stuck loop left behind, the last second's."""
        point = self._point()
        first = max(self._given + 1, point - round(TICK_S / self._period_s) + 1)
        self._given = max(point, self._given)  # before the work: a mistake in it must not bring the same point again and again
        for each in range(first, point + 1):
            self._work(each)


class Schedule:
    """Runs cohort ticks and calendar jobs on the loop, whatever the wall clock does.

    ``on_step`` is called with the seconds by which the wall clock jumped.
    """

    def __init__(self, clock: Clock, on_step: Callable[[float], None]) -> None:
        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._clock = clock
        self._on_step = on_step
        self._scheduler = AsyncIOScheduler(
            timezone=ZoneInfo("UTC"),
            job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1},
            executors={"default": _Starter()},
        )
        self._grids: list[tuple[Job, GridTrigger]] = []
        self._calendar: list[tuple[Job, CalendarTrigger]] = []
        self._ticks: list[_Ticks] = []
        self._offset_s = 0.0
        self._guard: asyncio.TimerHandle | None = None
        self._phase_s = clock.monotonic()

    def every(self, period_s: float, phase_s: float, work: Callable[[], Awaitable[None]]) -> None:
        """Call ``work`` on a grid of the monotonic clock; it must only start things. TypeError if it is no coroutine function."""
        _check(work)
        if not self._grids:
            self._phase_s = phase_s + GUARD_S / 2  # awake then anyway, and no job is about to run, which re-arming would skip
        trigger = GridTrigger(self._clock, period_s, phase_s)
        self._grids.append((self._scheduler.add_job(work, trigger), trigger))

    def ticks(self, period_s: float, phase_s: float, work: Callable[[int], None]) -> None:
        """Call ``work`` with its number at every point of a fast grid, from the start on.

        A point the loop was too busy for comes late, together with others, but not more than a second's worth of them.
        """
        ticks = _Ticks(self._clock, period_s, phase_s, work)
        self._ticks.append(ticks)
        self.every(BEAT_S, phase_s, ticks.beat)

    def at(self, expression: str, zone: ZoneInfo, work: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Call ``work`` at the dates of a cron expression; a date missed by more than an hour is skipped.

        Returns what ends it. TypeError if ``work`` is no coroutine function, ConfigError for an expression that can't be read.
        """
        _check(work)
        trigger = CalendarTrigger(Dates.read(expression, zone))
        entry = (self._scheduler.add_job(work, trigger, misfire_grace_time=LATEST_S), trigger)
        self._calendar.append(entry)

        def end() -> None:
            if entry in self._calendar:
                self._calendar.remove(entry)
                entry[0].remove()

        return end

    def start(self) -> None:
        """Begin; call on the running loop."""
        self._scheduler.start()
        for ticks in self._ticks:
            ticks.set_up()
        self._offset_s = self._wall_offset_s()
        self._watch()

    def stop(self) -> None:
        """End; work already started goes on."""
        for ticks in self._ticks:
            ticks.stop()
        if self._guard is not None:
            self._guard.cancel()
            self._guard = None
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def _wall_offset_s(self) -> float:
        return self._clock.wall_us() / 1e6 - self._clock.monotonic()

    def _watch(self) -> None:
        """On the loop's own clock: re-arm every job when the wall clock was set."""
        mono_s = self._clock.monotonic()
        wait_s = next_point_s(mono_s, GUARD_S, self._phase_s) - mono_s
        self._guard = asyncio.get_running_loop().call_later(wait_s, self._watch)
        step_s = self._wall_offset_s() - self._offset_s
        if abs(step_s) > STEP_S:
            self._offset_s += step_s
            for job, trigger in (*self._grids, *self._calendar):
                job.reschedule(trigger)
            for ticks in self._ticks:
                ticks.set_up()  # a beat may have been missed
            self._on_step(step_s)
