"""An outage of one feed of a fleet on lines paced like real ones: told within three seconds, to the last member."""

from __future__ import annotations

import asyncio
import json

from qxfleet.testing.population import fleet
from tests.scenarios.play import Play, measured

WITHIN_S = 3.0


async def first_line(play: Play, lines: asyncio.StreamReader) -> None:
    """Wait until the follower follows, by making events that it must show."""
    line = asyncio.create_task(lines.readline())
    while not line.done():
        await play.ask("set", ups="ups-01", name="ups.delay.start", value="180")
        await asyncio.wait({line}, timeout=0.2)


async def test_an_outage_of_one_feed_is_told_within_three_seconds() -> None:
    now = asyncio.get_running_loop().time
    async with Play(fleet(24), pace="bytes") as play:
        await play.start()
        await play.all_online()
        members = {ups.name for ups in play.farm.select("group:feed-a")}
        assert len(members) == 12
        async with play.command_line("events", "--follow", "--json") as lines:
            await first_line(play, lines)
            play.tell("mains off group:feed-a")
            failed_s, told_s = now(), dict[str, float]()
            async with asyncio.timeout(20):
                while told_s.keys() < members:
                    event = json.loads(await lines.readline())
                    if (event["name"], event["value"]) == ("on-battery", "begin"):
                        told_s[event["ups"]] = now() - failed_s
        waits = sorted(told_s.values())
        measured(f"outage of 12 of 24 UPSes at 2400 baud: first told after {waits[0]:.2f} s, last after {waits[-1]:.2f} s")
        assert told_s.keys() == members
        assert waits[-1] <= WITHIN_S
