"""The short form of the hunt in ``tests/hunt.py``: wild requests and cut connections on an agent of their own."""

from __future__ import annotations

import pytest

from tests.hunt import hunt
from tests.scenarios.play import SOAK


@pytest.mark.timeout(14_400 if SOAK else 180)
@pytest.mark.parametrize("door", ["nut", *(pytest.param(door, marks=pytest.mark.more) for door in ("control", "http"))])
async def test_no_request_and_no_cut_connection_harms_the_agent(door: str) -> None:
    requests, connections = (1_000_000, 50_000) if SOAK else (5_000, 500)
    found = await hunt(door, requests, connections, seed=7, grown=SOAK)
    assert found.problems == []
    assert found.asked == requests
    assert found.connections >= connections
