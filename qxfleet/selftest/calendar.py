"""The schedules of the configuration: each date is committed, then dealt with; one that was missed is let go or made up for."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from qxfleet.agent.dates import dates
from qxfleet.agent.schedule import LATEST_S
from qxfleet.config.schedules import Schedule
from qxfleet.errors import OrderError, StoreError
from qxfleet.model.clock import iso
from qxfleet.model.events import Event, EventKind, Severity
from qxfleet.selftest.report import write_report
from qxfleet.selftest.run import BatteryTests, Wave
from qxfleet.store import tests as stored

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

log = logging.getLogger(__name__)

LATEST_US = round((LATEST_S + 1) * 1e6)
"""The scheduler gives up a date that is later than this."""

LATE_US = 60_000_000
"""A date that is dealt with so much later is told as late."""


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule as ``schedule list`` shows it: its next dates, and the one dealt with last."""

    schedule: Schedule
    next_us: tuple[int, ...]
    last_us: int | None


class Calendar:
    """Runs the schedules; a part of the agent, behind :class:`BatteryTests`."""

    def __init__(self, agent: Agent) -> None:
        tests = agent.part(BatteryTests)
        assert tests is not None, "the calendar needs the part that runs battery tests, ahead of it"
        self._agent = agent
        self._tests = tests
        self._schedules: tuple[Schedule, ...] = ()
        self._ends: list[Callable[[], None]] = []
        self._last: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- a part of the agent

    async def start(self) -> None:
        """Make up for dates that passed while the agent was down, where the schedule wants it; then wait for the next ones."""
        self._last = await self._agent.store.read(stored.noted_dates)
        since = await self._agent.store.read(partial(stored.noted_dates, what=stored.KNOWN))
        self._arm(self._agent.config.schedules)
        for schedule in self._schedules:
            await self._catch_up(schedule, since.get(schedule.name))

    async def stop(self) -> None:
        """Forget the dates to come."""
        self._arm(())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)

    def apply(self, config: Config) -> list[str]:
        """Keep to the schedules of a new configuration."""
        before = {each.name: each for each in self._schedules}
        after = {each.name: each for each in config.schedules}
        if before == after:
            return []
        self._arm(config.schedules)
        names = [*before, *(name for name in after if name not in before)]
        changed = [(name, "removed" if name not in after else "changed" if name in before else "added")
                   for name in names if before.get(name) != after.get(name)]  # fmt: skip
        return [f"schedule {name}: {what}" for name, what in changed]

    # -- what may be asked and done

    def due(self, count: int = 3) -> tuple[Due, ...]:
        """Every schedule with its next dates."""
        now_us = self._agent.clock.wall_us()

        def due(each: Schedule) -> Due:
            coming = itertools.islice(dates(each.cron, ZoneInfo(each.timezone), now_us), count)
            return Due(each, tuple(coming), self._last.get(each.name))

        return tuple(map(due, self._schedules))

    def named(self, name: str) -> Schedule | None:
        """The schedule of that name."""
        return next((each for each in self._schedules if each.name == name), None)

    async def run(self, schedule: Schedule, date_us: int, actor: str) -> Wave | None:
        """Deal with one date of a schedule: the wave of tests it begins, None for what is not a test. Raises StoreError."""
        self._last[schedule.name] = date_us
        await self._agent.store.commit(stored.note_date(schedule.name, date_us))
        match schedule.do:
            case "test":
                return await self._test(schedule, date_us, actor)
            case "command":
                await self._command(schedule, actor)
            case "report":
                await self._report(schedule)
        return None

    # -- dates

    def _arm(self, schedules: tuple[Schedule, ...]) -> None:
        for end in self._ends:
            end()
        self._schedules = schedules
        self._ends = [
            self._agent.schedule.at(each.cron, ZoneInfo(each.timezone), self._job(each)) for each in schedules
        ]

    def _job(self, schedule: Schedule) -> Callable[[], Coroutine[None, None, None]]:
        async def come() -> None:
            now_us = self._agent.clock.wall_us()
            passed = list(dates(schedule.cron, ZoneInfo(schedule.timezone), now_us - LATEST_US, now_us))
            if passed and passed[-1] != self._last.get(schedule.name):  # a clock set back brings a date again
                self._begin(schedule, passed[-1])

        return come

    async def _catch_up(self, schedule: Schedule, known_us: int | None) -> None:
        """A date between the last one dealt with and now is missed; its window may still be open."""
        now_us = self._agent.clock.wall_us()
        if known_us is None:
            await self._agent.store.commit(stored.note_date(schedule.name, now_us, stored.KNOWN))
            return
        last_us = max(known_us, self._last.get(schedule.name, 0))
        since_us = max(last_us, now_us - round(schedule.window_s * 1e6))
        missed = list(dates(schedule.cron, ZoneInfo(schedule.timezone), since_us, now_us))
        if not missed:
            return
        if schedule.missed == "run":
            self._begin(schedule, missed[-1])
        else:
            self._last[schedule.name] = missed[-1]
            await self._agent.store.commit(stored.note_date(schedule.name, missed[-1]))
            text = f"{schedule.what} of {iso(missed[-1])} was missed: the agent did not run"
            self._tell(schedule, "missed", text, Severity.NOTICE)

    def _begin(self, schedule: Schedule, date_us: int) -> None:
        task = asyncio.create_task(self._deal(schedule, date_us), name=f"schedule {schedule.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deal(self, schedule: Schedule, date_us: int) -> None:
        late_us = self._agent.clock.wall_us() - date_us
        late = f", {late_us / 60e6:.0f} min late" if late_us > LATE_US else ""
        self._tell(schedule, "begin", f"{schedule.what} of {iso(date_us)}{late}", Severity.INFO)
        try:
            await self.run(schedule, date_us, f"schedule:{schedule.name}")
        except (StoreError, OSError) as error:
            self._tell(schedule, "failed", f"{schedule.what} failed: {error}", Severity.WARNING)

    # -- what is done

    async def _test(self, schedule: Schedule, date_us: int, actor: str) -> Wave | None:
        if any(each.stored.schedule == schedule.name for each in self._tests.waves().values()):
            self._tell(schedule, "skipped", "its wave before is not over", Severity.NOTICE)
            return None
        present = self._agent.fleet.snapshot()
        upses = [ups for ups in schedule.upses if ups in present]
        closes_us = date_us + round(schedule.window_s * 1e6)
        return await self._tests.begin_wave(
            upses, schedule.test, schedule.rules, actor, schedule=schedule.name, closes_us=closes_us
        )

    async def _command(self, schedule: Schedule, actor: str) -> None:
        """One UPS after the other; each order has its own outcome in the order log."""
        for ups in schedule.upses:
            try:
                await self._agent.fleet.perform(ups, schedule.command, schedule.value, actor=actor)
            except OrderError as error:
                self._tell(schedule, "failed", f"{ups}: {error}", Severity.WARNING)

    async def _report(self, schedule: Schedule) -> None:
        assert schedule.file is not None
        agent = self._agent
        tests = await agent.store.read(partial(stored.tests, ups=schedule.upses or None)) if schedule.report == "tests" else []
        states = dict(agent.fleet.snapshot())
        chosen = {ups: states[ups] for ups in schedule.upses or states if ups in states}
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, write_report, schedule.file, schedule.report, agent.clock.wall_us(), tests, chosen)
        self._tell(schedule, "end", f"written to {schedule.file}", Severity.INFO)

    def _tell(self, schedule: Schedule, value: str, text: str, severity: Severity) -> None:
        event = Event(self._agent.clock.wall_us(), None, EventKind.AGENT, "schedule", value, f"{schedule.name}: {text}", severity)
        self._agent.bus.publish(event)
