"""The short form of the hunt in ``tests/fuzz_upsd.py``: wild lines and cut connections on an agent in a process of its own."""

from __future__ import annotations

from tests.fuzz_upsd import hunt
from tests.scenarios.play import SOAK


async def test_no_line_and_no_cut_connection_harms_the_agent() -> None:
    lines, connections = (1_000_000, 100_000) if SOAK else (5_000, 500)
    found = await hunt(lines, connections, seed=7, grown=SOAK)
    assert found.problems == []
    assert found.lines == lines
    assert found.connections >= connections
