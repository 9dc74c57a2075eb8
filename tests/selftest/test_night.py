"""A whole fleet tested in one night by the defaults, on virtual time, and how well its end was foreseen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qxfleet.model.selftest import Asked, Rules
from qxfleet.selftest import plan
from tests.selftest.ground import TestGround, a_unit, counted
from tests.virtual import run_virtual


async def a_night(file: Path, racks: int) -> tuple[float, float]:
    """Seconds that a quick test of the fleet was foreseen to take, and took; feeds in pairs, the rules the defaults."""
    names = [f"r{rack:03}{feed}" for rack in range(racks) for feed in "ab"]
    units = [a_unit(name, seed=number, load=25.0 + number % 30) for number, name in enumerate(names)]
    pairs = [(f"r{rack:03}a", f"r{rack:03}b") for rack in range(racks)]
    async with TestGround(file, units, rules=Rules(), pairs=pairs, poll_s=20.0) as site:
        await site.settled(1000)
        foreseen = site.tests.foresee(names, Asked("quick"), Rules())
        assert [each.reasons for each in foreseen if each.reasons] == [], "a quarter of an hour after the agent began to watch"
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        wave = await site.begin(*names, schedule="night", closes_us=site.clock.wall_us() + 4 * 3_600_000_000)
        both: list[str] = []
        most = 0
        while not wave.done.is_set():
            testing = set(site.tests.running())
            most = max(most, len(testing))
            both += [pair[0] for pair in pairs if testing.issuperset(pair)]
            await asyncio.sleep(2.0)
        took_s = loop.time() - began_s
        assert counted(wave) == {"passed": len(names)} and both == [] and most <= Rules().places(len(names))
        return max(each.over_s or 0.0 for each in foreseen), took_s


def test_forty_upses_and_the_forecast_of_their_end(sqlite_path: Path) -> None:
    async def story() -> None:
        foreseen_s, took_s = await a_night(sqlite_path, 20)
        assert abs(took_s - foreseen_s) <= 0.10 * took_s

    run_virtual(story())


@pytest.mark.more
@pytest.mark.timeout(600)
def test_two_hundred_and_fifty_are_done_in_a_night(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual.STORY_S", 550.0)

    async def story() -> None:
        foreseen_s, took_s = await a_night(sqlite_path, 125)
        assert abs(took_s - foreseen_s) <= 0.10 * took_s and took_s < 4 * 3600

    run_virtual(story())


def test_a_timetable_lets_feeds_take_turns_and_keeps_to_its_places() -> None:
    names = ["a1", "a2", "b1", "b2", "c"]
    mates = plan.partners([("a1", "a2"), ("b1", "b2")])
    lasts = dict.fromkeys(names, 20.0)
    held = dict.fromkeys(names, 600.0)
    assert plan.timetable(names, mates, lasts, held, 9) == {"a1": 0, "b1": 0, "c": 0, "a2": 600, "b2": 600}
    assert plan.timetable(names, mates, lasts, held, 2) == {"a1": 0, "b1": 0, "a2": 600, "b2": 600, "c": 1200}
    assert plan.timetable([], mates, lasts, held, 2) == {}


@pytest.mark.parametrize(("upses", "places"), [(1, 4), (40, 4), (41, 5), (48, 5), (250, 25)])
def test_a_tenth_of_a_wave_has_its_turn_at_a_time(upses: int, places: int) -> None:
    assert Rules().places(upses) == places
    assert Rules(max_parallel=2).places(upses) == 2
