"""SIGHUP while a real agent polls: who changed is taken up anew, without a word of lost contact; the others notice nothing."""

from __future__ import annotations

import asyncio
import itertools

from tests.scenarios.play import Play, family, until

RELOADS = 3


async def test_a_reload_costs_nobody_contact() -> None:
    now = asyncio.get_running_loop().time
    async with Play(family(4), pace="bytes", agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        began_s = now()
        for number in range(RELOADS):
            play.configure(ups_01=f'description = "number {number}"', ups_02=f'full_interval = "{20 + number}s"')
            play.hang_up()
            await until(lambda: len(follower.told("configuration-reloaded")) > number, 20, "the reload")  # noqa: B023
            await play.all_online(10)
            await asyncio.sleep(0.7)
        assert follower.told("contact-lost") == []
        for name in ("ups-03", "ups-04"):
            polls = play.polls(name, began_s)
            assert max(b - a for a, b in itertools.pairwise(polls)) < 2.0
            registered = "battery-registered"  # at its first reading, which may be told behind the beginning
            assert [each for each in follower.told(ups=name) if registered not in each] == []
        assert await play.stop() == 0
