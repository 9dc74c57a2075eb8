"""``full_interval``, the seeds' ``pollfreq``: how often everything but the status is asked."""

from __future__ import annotations

import asyncio

import pytest

from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from tests.session.script import Contact, Device
from tests.virtual import run_virtual

WATCHED_S = 300.0


@pytest.mark.parametrize("full_interval_s", [10.0, 30.0, 60.0])
def test_full_polls_come_at_their_interval_and_quick_ones_at_theirs(full_interval_s: float) -> None:
    class Unit(Device):
        ups = VoltronicUps(VOLTRONIC, model("P01"))

        def __call__(self, request: bytes) -> bytes | None:
            self.log.append((asyncio.get_running_loop().time(), request.decode().rstrip("\r")))
            return self.ups.answer(request, asyncio.get_running_loop().time())

    async def story() -> None:
        unit = Unit()
        async with Contact(unit, dialect="voltronic", full_interval_s=full_interval_s):
            await asyncio.sleep(20)
            began = len(unit.log)
            await asyncio.sleep(WATCHED_S)
            asked = [text for _, text in unit.log[began:]]
            assert asked.count("QWS") == pytest.approx(WATCHED_S / full_interval_s, abs=1)
            assert asked.count("QGS") == pytest.approx(WATCHED_S / 2, abs=2)

    run_virtual(story())
