"""The wall clock is set while a real agent runs: polling goes on. A library in front of the C library's clock sets it."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from qxfleet.store import history
from qxfleet.store.engine import open_engine
from tests.parts import absent
from tests.scenarios.play import Play, family, measured, until

TEN_YEARS_S = 10 * 365.25 * 86400
HOUR_S = 3600.0
LONGEST_GAP_S = 6.0
"""Far from the second it is here, and far from the ten years, the hour or the rest of the test it would be."""
WATCHED_S = 8.0


@pytest.fixture
def faketime(tmp_path: Path) -> dict[str, str]:
    """The environment of a process whose wall clock follows the file ``clock``; skipped where libfaketime is missing."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        absent("no libfaketime here: apt-get install -y faketime")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(folder: Path, offset_s: float) -> None:
    """Set the agent's wall clock to ours plus ``offset_s``, in one go."""
    fresh = folder / "clock.new"
    fresh.write_text(f"{offset_s:+.0f}\n")
    fresh.replace(folder / "clock")


async def test_polling_goes_on_when_the_clock_is_set(tmp_path: Path, faketime: dict[str, str]) -> None:
    now = asyncio.get_running_loop().time
    set_clock(tmp_path, 0)
    async with Play(family(4), agent={"poll_interval": '"1s"'}, environment=faketime) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        began_s, stepped = now(), 0
        for offset_s in (TEN_YEARS_S, TEN_YEARS_S - HOUR_S, 0.0):
            set_clock(tmp_path, offset_s)
            stepped += 1
            await until(lambda: len(follower.told("clock-stepped")) == stepped, 20, f"step to {offset_s:+.0f} s is told")  # noqa: B023
            await asyncio.sleep(WATCHED_S)
        play.tell("mains off ups-01")
        await until(lambda: follower.told("on-battery") == [("ups-01", "on-battery", "begin")], 20, "the outage is told")
        ended_s = now()

        gaps = []
        for name in play.farm.upses:
            polls = [began_s, *play.polls(name, began_s), ended_s]
            gaps += [b - a for a, b in itertools.pairwise(polls)]
        measured(f"clock set {stepped} times: longest gap between two polls {max(gaps):.2f} s")
        assert max(gaps) <= LONGEST_GAP_S

        steps = [float(value) for _, _, value in follower.told("clock-stepped")]
        assert steps == [pytest.approx(step_s, abs=5) for step_s in (TEN_YEARS_S, -HOUR_S, -TEN_YEARS_S + HOUR_S)]
        assert set((await play.states()).values()) == {"online"}
        assert {name for _, name, _ in follower.told()} - {"battery-registered"} == {"clock-stepped", "on-battery"}
        assert await play.stop() == 0
        engine = open_engine(play.database, writing=False)
        try:
            with engine.connect() as connection:
                recorded = [stored.event.name for stored in history.events(connection)]
        finally:
            engine.dispose()
        assert recorded.count("clock-stepped") == 3
