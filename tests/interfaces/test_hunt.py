"""The short form of the hunt in ``tests/hunt.py``: wild requests and cut connections on an agent of their own."""

from __future__ import annotations

import pytest

from tests.hunt import hunt
from tests.scenarios.play import SOAK

SHORT = {"nut": (5_000, 500), "control": (5_000, 500), "http": (1_000, 100)}


@pytest.mark.more
@pytest.mark.timeout(14_400 if SOAK else 900)
@pytest.mark.parametrize("door", SHORT)
async def test_no_request_and_no_cut_connection_harms_the_agent(door: str) -> None:
    requests, connections = (1_000_000, 50_000) if SOAK else SHORT[door]
    found = await hunt(door, requests, connections, seed=7, grown=SOAK)
    assert found.problems == []
    assert found.asked == requests
    assert found.connections >= connections
