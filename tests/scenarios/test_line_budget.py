"""2400 baud is little for the largest voltronic units: while their full poll runs, a change to battery is still seen in time."""

from __future__ import annotations

import asyncio
import random

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.machine import Machine
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from tests.scenarios.play import SOAK, Play, measured, until

FLIPS = 100 if SOAK else 8

WITHIN_S = 3.0

FULL_INTERVAL_S = 2.0
"""The longest full poll there is, three phases and four outlets, takes more than half of it."""

CALM_S = (2.5, 4.5)
"""Random pauses before an outage: long enough for the usual pace to be back, of no fixed phase to it."""

FULL_POLL = {b"QMOD\r", b"QWS\r", b"QBV\r", b"QLDL\r", b"Q3PV\r", b"Q3PC\r", b"QSK1\r", b"QSK2\r", b"QSK3\r", b"QSK4\r"}
"""Of a P03 with outlets (voltronic.md sections 1.6 and 3.1)."""

ONCE = {b"QMD\r", b"QFLAG\r", b"QHE\r", b"QSKT4\r", b"QPD\r"}
"""Asked before the measurement begins."""


async def test_a_change_to_battery_is_seen_in_time_during_full_polls() -> None:
    dialect = dialect_named("voltronic")
    assert dialect is not None
    product = model("P03")
    ups = VoltronicUps(dialect, product, name="ups-01", machine=Machine(product.ratings, seed=1))
    now, rng = asyncio.get_running_loop().time, random.Random(3)
    waits: list[float] = []
    full_polls, usual_s = 0, 0.0
    async with Play([ups], pace="bytes", agent={"full_interval": f'"{FULL_INTERVAL_S:g}s"'}) as play:

        async def runs_on(flag: str) -> bool:
            (shown,) = (await play.ask("status"))["result"]["ups"]
            return flag in shown["status"].split()

        await play.start()
        await play.all_online()
        await until(lambda: {request for _, request in play.asked("ups-01")} >= FULL_POLL | ONCE, 30, "all was asked")
        for _ in range(FLIPS):
            calm_since_s = now()
            await asyncio.sleep(rng.uniform(*CALM_S))
            play.tell("mains off ups-01")
            cut_s = now()
            await until(lambda: runs_on("OB"), 20, "the outage is seen")
            waits.append(now() - cut_s)
            asked = [request for _, request in play.asked("ups-01", calm_since_s)]
            full_polls += min(asked.count(request) for request in FULL_POLL)
            usual_s += now() - calm_since_s
            play.tell("mains on ups-01")
            await until(lambda: runs_on("OL"), 20, "its end is seen")
    waits.sort()
    p99_s = waits[min(FLIPS - 1, int(FLIPS * 0.99))]
    measured(
        f"P03 with four outlets at 2400 baud, {FLIPS} outages, a full poll each {usual_s / max(1, full_polls):.1f} s: on battery "
        f"seen p50 {waits[FLIPS // 2]:.2f} s, p99 {p99_s:.2f} s, worst {waits[-1]:.2f} s"
    )
    assert full_polls >= FLIPS, "full polls ran meanwhile"
    assert p99_s <= WITHIN_S
