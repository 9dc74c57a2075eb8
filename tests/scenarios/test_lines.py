"""Bad lines and sick devices beside healthy ones: each ends in the right state, comes back by itself, and disturbs nobody."""

from __future__ import annotations

import asyncio
import itertools

from tests.scenarios.play import Play, family, measured, until

INTERVAL_S = 1.0
UNPLUGGED, SILENT, GARBAGE, LATE, BEFORE, OTHER = (f"ups-0{number}" for number in range(1, 7))
HEALTHY = ("ups-08", "ups-09", "ups-10")


def lateness_ms(times: list[float]) -> list[float]:
    """How far each poll is behind the earliest grid that the polls allow, in milliseconds."""
    first = min(times, key=lambda at_s: (at_s - times[0] + INTERVAL_S / 2) % INTERVAL_S)
    return sorted(((at_s - first + INTERVAL_S / 2) % INTERVAL_S - INTERVAL_S / 2) * 1000 for at_s in times)


async def test_sick_lines_end_in_the_right_state_and_disturb_nobody() -> None:
    now = asyncio.get_running_loop().time
    async with Play(family(9, noise=0.5), pace="bytes", agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        began_s = now()

        play.tell(f"unplug {UNPLUGGED}")
        play.tell(f"fault silent {SILENT}")
        play.tell(f"fault garbage {GARBAGE}")
        play.tell(f"fault late 1.5 {LATE}")
        play.tell(f"fault wrong {BEFORE}")
        confused = play.farm.upses[OTHER]
        truth, ratings = confused.answer, b"W\r" if confused.dialect.name == "megatec/old" else b"F\r"
        confused.answer = lambda request, now_s: truth(ratings, now_s)  # type: ignore[method-assign]

        sick = {UNPLUGGED: "lost", SILENT: "stale", GARBAGE: "stale", OTHER: "stale"}

        async def all_sick() -> bool:
            states = await play.states()
            return all(states[name] == state for name, state in sick.items())

        await until(all_sick, 15, f"states become {sick}")
        assert follower.told("contact-lost", ups=UNPLUGGED) == [(UNPLUGGED, "contact-lost", "begin")]
        states = await play.states()
        assert {name: states[name] for name in (LATE, BEFORE, *HEALTHY)} == dict.fromkeys((LATE, BEFORE, *HEALTHY), "online")

        play.tell(f"replug {UNPLUGGED}")
        play.tell("fault clear all")
        del confused.answer
        await play.all_online(15)
        back_s = now()

        await until(
            lambda: {ups for ups, _, value in follower.told("contact-lost") if value == "end"} == set(sick), 15,
            "the end of every loss is told",
        )  # fmt: skip
        unusual = {
            name: [event for event in follower.told(ups=name) if event[1] != "battery-registered"] for name in play.farm.upses
        }
        for name in sick:
            assert unusual[name] == [(name, "contact-lost", "begin"), (name, "contact-lost", "end")]
        for name in (LATE, BEFORE, *HEALTHY):
            assert unusual[name] == []

        late: list[float] = []
        for name in HEALTHY:
            polls = [at_s for at_s in play.polls(name, began_s) if at_s < back_s]
            assert max(b - a for a, b in itertools.pairwise(polls)) < 2 * INTERVAL_S, f"{name} missed a poll"
            assert len(polls) >= int((back_s - began_s) / INTERVAL_S) - 1, f"{name} missed a poll"
            late += lateness_ms(polls)
        late.sort()
        measured(f"lateness of the others, {len(late)} polls: p50 {late[len(late) // 2]:.1f} ms, "
                 f"p99 {late[int(len(late) * 0.99)]:.1f} ms, worst {late[-1]:.1f} ms")  # fmt: skip


async def test_a_loose_cable_is_one_story() -> None:
    """A line that comes and goes makes one event that says so, not a pair for each time."""
    async with Play(family(2), agent={"poll_interval": '"1s"'}) as play:
        await play.start()
        await play.all_online()
        follower = await play.follow()
        for _ in range(3):
            play.tell("unplug ups-01")
            await until(lambda: _is(play, "lost"), 20, "ups-01 is lost")
            play.tell("replug ups-01")
            await until(lambda: _is(play, "online"), 10, "ups-01 is online")
        await until(lambda: len(follower.told("contact-lost")) == 2, 15, "the loss ends")
        losses = [event for event in follower.events if event["name"] == "contact-lost"]
        assert [event["value"] for event in losses] == ["begin", "end"]
        assert "came and went 2 more times" in losses[-1]["text"]


async def _is(play: Play, state: str) -> bool:
    return (await play.states())["ups-01"] == state
