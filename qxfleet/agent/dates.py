"""The dates of a cron expression, right at every change of the clocks. APScheduler parses the expression, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from qxfleet.config.cron import MONTHS
from qxfleet.errors import ConfigError
from qxfleet.model.clock import from_us

HORIZON_YEARS = 41
"""The rarest date, a 29 February on a given weekday, comes again within 40 years; what doesn't come by then never does."""

_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_NAMED_DAYS = re.compile(rf"{_DAY}(?:-{_DAY})?")
_MONTH = re.compile(rf"\b(?:{'|'.join(MONTHS)})\b")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  local times of any zone are counted from here


@dataclass(frozen=True)
class Dates:
    """The dates of a five-field cron expression in a time zone.

    Every local date comes once: in the hour that autumn repeats, the first time; in the hour that spring leaves out, at its end.
    Weekdays go by name only, because APScheduler counts them from Monday and cron from Sunday.
    """

    zone: ZoneInfo
    times: tuple[timedelta, ...]
    """Local times of day, in order."""
    cron: CronTrigger

    @classmethod
    def read(cls, expression: str, zone: ZoneInfo) -> Dates:
        """Raises ConfigError for an expression that can't be read."""
        fields = expression.split()
        if len(fields) != 5:
            raise ConfigError([f"cron {expression!r}: five fields expected (minute hour day month weekday), {len(fields)} given"])
        minute, hour, day, month, weekday = fields
        month = _MONTH.sub(lambda found: str(MONTHS.index(found[0]) + 1), month.lower())  # APScheduler does not look behind names
        if weekday != "*" and not all(_NAMED_DAYS.fullmatch(part) for part in weekday.lower().split(",")):
            raise ConfigError(
                [f"cron {expression!r}: write weekdays by name (mon, mon-fri, sat,sun), numbers mean different days elsewhere"]
            )
        try:
            cron = CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=weekday.lower(), timezone=zone)
        except ValueError as error:
            raise ConfigError([f"cron {expression!r}: {error}"]) from None
        of_day = [datetime(2000, 1, 1, at // 60, at % 60, tzinfo=UTC) for at in range(1440)]
        times = tuple(timedelta(hours=at.hour, minutes=at.minute) for at in of_day if _in(cron, ("hour", "minute"), at))
        return cls(zone, times, cron)

    def after(self, after_us: int) -> Iterator[int]:
        """The dates after a moment, in UTC microseconds and in order; the iterator ends where no further date comes."""
        last_us = after_us
        local = from_us(after_us).astimezone(self.zone).replace(tzinfo=None)
        for day in self._days(local.date()):
            midnight = datetime.combine(day, datetime.min.time())
            for time in self.times:
                if midnight + time < local:
                    continue  # saves the arithmetic of zones: an earlier local time never comes later
                at_us = _utc_s(midnight + time, self.zone) * 1_000_000
                if at_us > last_us:  # several dates of a spring gap are one at its end
                    yield at_us
                    last_us = at_us

    def _days(self, first: date) -> Iterator[date]:
        day, end_year = first, min(first.year + HORIZON_YEARS, 9998)
        while day.year <= end_year:
            at = datetime.combine(day, datetime.min.time(), UTC)
            if not _in(self.cron, ("month",), at):
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
                continue
            if _in(self.cron, ("day", "day_of_week"), at):
                yield day
                end_year = min(day.year + HORIZON_YEARS, 9998)
            day += timedelta(days=1)


def dates(expression: str, zone: ZoneInfo, after_us: int, until_us: int | None = None) -> Iterator[int]:
    """The dates of a cron expression after a moment, as UTC microseconds, up to and with ``until_us``. Raises ConfigError."""
    for date_us in Dates.read(expression, zone).after(after_us):
        if until_us is not None and date_us > until_us:
            return
        yield date_us


def _in(cron: CronTrigger, names: tuple[str, ...], at: datetime) -> bool:
    return all(field.get_next_value(at) == field.get_value(at) for field in cron.fields if field.name in names)


def _utc_s(local: datetime, zone: ZoneInfo) -> int:
    """Seconds since 1970 of a local time: the first one where it comes twice, the end of the gap where it never comes."""
    wall_s = int((local - _EPOCH).total_seconds())
    first_s, second_s = (_offset_s(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    if first_s >= second_s:
        return wall_s - first_s
    before, behind = wall_s - second_s, wall_s - first_s  # PEP 495: in a gap the offsets are those before and behind it
    while behind - before > 1:
        middle = (before + behind) // 2
        if _offset_s(datetime.fromtimestamp(middle, zone)) == first_s:
            before = middle
        else:
            behind = middle
    return behind


def _offset_s(at: datetime) -> int:
    offset = at.utcoffset()
    assert offset is not None, "a time with a zone has an offset"
    return int(offset.total_seconds())
