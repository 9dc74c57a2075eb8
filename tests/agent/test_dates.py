"""Dates of cron expressions at the changes of the clocks, against a walk through every minute."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxfleet.agent.dates import Dates, dates
from qxfleet.agent.schedule import CalendarTrigger

ZONES = ("Europe/Berlin", "Europe/London", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca")
FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def us(at: datetime) -> int:
    return round(at.timestamp()) * 1_000_000


@lru_cache
def changes(zone: str) -> tuple[datetime, ...]:
    """The hours within ten years in which the clocks of a zone change."""
    place, at, found = ZoneInfo(zone), FIRST, []
    while at < LAST:
        if at.astimezone(place).utcoffset() != (at + HOUR).astimezone(place).utcoffset():
            found.append(at)
        at += HOUR
    return tuple(found)


@lru_cache(maxsize=256)
def minutes_around(zone: str, change: datetime) -> tuple[tuple[datetime, datetime], ...]:
    """Every minute of three days, with the local time that clocks show at it."""
    place, first = ZoneInfo(zone), change - 36 * HOUR
    walk = (first + number * MINUTE for number in range(72 * 60))
    return tuple((at, at.astimezone(place).replace(tzinfo=None)) for at in walk)


def expected(zone: str, change: datetime, minutes: set[int], hours: set[int], weekdays: set[int]) -> list[int]:
    """By watching a clock: a local minute counts when it is first shown, one left out when the clock is past it."""
    found: list[int] = []
    seen_to: datetime | None = None
    for at, shown in minutes_around(zone, change):
        if seen_to is None:
            seen_to = shown
            continue
        passed = [seen_to + number * MINUTE for number in range(1, int((shown - seen_to) / MINUTE) + 1)]
        if any(each.minute in minutes and each.hour in hours and each.weekday() in weekdays for each in passed):
            found.append(us(at))
        seen_to = max(seen_to, shown)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_the_clocks_change_twenty_times_in_ten_years(zone: str) -> None:
    assert 20 <= len(changes(zone)) <= 22, "Casablanca goes by Ramadan, of which 2030 has two"


@settings(max_examples=150, deadline=None, database=None)
@given(
    zone=st.sampled_from(ZONES),
    number=st.integers(0, 19),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=6),
    hours=st.one_of(st.just(set(range(24))), st.sets(st.integers(0, 4), min_size=1), st.sets(st.integers(0, 23), min_size=1)),
    weekdays=st.one_of(st.just(set(range(7))), st.sets(st.integers(0, 6), min_size=1)),
)
def test_each_date_comes_once_and_none_is_missed(
    zone: str, number: int, minutes: set[int], hours: set[int], weekdays: set[int]
) -> None:
    change = changes(zone)[number]
    expression = " ".join((
        ",".join(map(str, sorted(minutes))), ",".join(map(str, sorted(hours))), "* *",
        ",".join(WEEKDAYS[each] for each in sorted(weekdays)),
    ))  # fmt: skip
    walked = minutes_around(zone, change)
    first_us, last_us = us(walked[0][0]), us(walked[-1][0])
    wanted = expected(zone, change, minutes, hours, weekdays)
    assert list(dates(expression, ZoneInfo(zone), first_us, last_us)) == wanted
    trigger = CalendarTrigger(Dates.read(expression, ZoneInfo(zone)))
    found, at = [], walked[0][0]
    while (due := trigger.get_next_fire_time(None, at)) is not None and us(due) <= last_us:
        found.append(us(due))
        at = due
    assert found == wanted, "the scheduler, asked from date to date, gives the same"


@settings(max_examples=100, deadline=None, database=None)
@given(zone=st.sampled_from(ZONES), number=st.integers(0, 19), minute=st.integers(-2160, 2159), hour=st.integers(0, 4))
def test_an_enumeration_may_begin_at_any_minute(zone: str, number: int, minute: int, hour: int) -> None:
    """Also within the repeated hour, where APScheduler's own goes round for ever."""
    expression, place = f"30 {hour} * * *", ZoneInfo(zone)
    at_us = us(changes(zone)[number] + minute * MINUTE)
    whole = list(itertools.islice(dates(expression, place, at_us - 5 * 86_400_000_000), 12))
    assert list(itertools.islice(dates(expression, place, at_us), 3)) == [each for each in whole if each > at_us][:3]


@pytest.mark.parametrize("zone", ZONES)
def test_every_local_day_of_ten_years_has_its_date_once(zone: str) -> None:
    place = ZoneInfo(zone)
    for expression in ("30 1 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *"):
        found = list(dates(expression, place, us(FIRST), us(LAST)))
        assert found == sorted(set(found))
        days = [datetime.fromtimestamp(each / 1e6, place).date() for each in found]
        assert days == [days[0] + number * DAY for number in range(len(days))]
        assert len(days) in (3652, 3653)


def test_the_night_that_hung() -> None:
    """New York, 2026-11-01: 01:30 comes twice; an agent that starts between the two once went round for ever."""
    place = ZoneInfo("America/New_York")
    first = us(datetime(2026, 11, 1, 5, 30, tzinfo=UTC))
    for minute in range(60):
        at_us = first + minute * 60_000_000
        assert list(dates("30 1 * * sun", place, at_us, at_us + 3_600_000_000)) == []
        assert next(dates("30 1 * * sun", place, at_us)) == us(datetime(2026, 11, 8, 6, 30, tzinfo=UTC))


def test_a_date_in_the_spring_gap_comes_at_its_end() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    day = us(datetime(2027, 3, 28, tzinfo=UTC))
    gap_end = us(datetime(2027, 3, 28, 1, 0, tzinfo=UTC))
    assert next(dates("30 2 * * *", berlin, day)) == gap_end
    assert list(dates("*/10 2,3 * * *", berlin, day, gap_end + 599_000_000)) == [gap_end]
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    assert next(dates("15 2 * * *", lord_howe, us(datetime(2026, 10, 3, 12, tzinfo=UTC)))) == us(
        datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
    )


def test_a_day_that_a_country_left_out_is_at_its_end() -> None:
    """Samoa had no 30 December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    found = list(itertools.islice(dates("0 12 * * *", apia, us(datetime(2011, 12, 29, tzinfo=UTC))), 3))
    assert [datetime.fromtimestamp(each / 1e6, UTC).isoformat() for each in found] == [
        "2011-12-29T22:00:00+00:00", "2011-12-30T10:00:00+00:00", "2011-12-30T22:00:00+00:00",
    ]  # fmt: skip


def test_what_never_comes_ends_the_enumeration() -> None:
    assert list(dates("0 3 30 feb *", ZoneInfo("Europe/Berlin"), us(FIRST))) == []
    assert CalendarTrigger(Dates.read("0 3 31 4,6,9,11 *", ZoneInfo("UTC"))).get_next_fire_time(None, FIRST) is None


def test_the_rarest_date_is_found() -> None:
    found = next(dates("0 3 29 feb sun", ZoneInfo("UTC"), us(datetime(2088, 3, 1, tzinfo=UTC))))
    day = datetime.fromtimestamp(found / 1e6, UTC).date()
    assert day == next(
        each for year in range(2089, 2200) if year % 4 == 0 and year % 100 and (each := date(year, 2, 29)).weekday() == 6
    )


@pytest.mark.parametrize(
    ("months", "meant"), [("jan-apr/2", [1, 3]), ("nov-12", [11, 12]), ("2-MAR", [2, 3]), ("jan,jul", [1, 7])]
)
def test_steps_and_ranges_of_named_months(months: str, meant: list[int]) -> None:
    found = dates(f"0 3 1 {months} *", ZoneInfo("UTC"), us(FIRST), us(FIRST + 365 * DAY))
    assert [datetime.fromtimestamp(at / 1e6, UTC).month for at in found] == meant
