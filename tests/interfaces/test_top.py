"""The screen of ``top`` on a living agent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, RichLog

from qxfleet.errors import AgentUnreachable
from qxfleet.interfaces.cli.screen import Screen
from tests.interfaces.conftest import Site


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await pilot.pause(0.02)
    pytest.fail("not within 10 s")


async def test_the_fleet_and_its_events_are_shown(site: Site) -> None:
    screen = Screen(site.socket, [])
    async with screen.run_test(size=(120, 40)) as pilot:
        table = screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 6)
        first = [str(cell) for cell in table.get_row("ups-01")]
        assert first[:2] == ["ups-01", "online"]
        assert first[2].split()[0] == "OL"
        assert first[-1] == "feed-a rack1"
        await pilot.press("down", "down")
        log = screen.query_one(RichLog)
        site.run("command", "ups-02", "no.such.command")
        await until(pilot, lambda: any("no.such.command" in line.text for line in log.lines))
        assert table.cursor_row == 2
        await pilot.press("q")
    assert screen.failure is None
    assert not screen.is_running


async def test_some_of_the_fleet(site: Site) -> None:
    screen = Screen(site.socket, ["group:feed-b"])
    async with screen.run_test() as pilot:
        table = screen.query_one(DataTable)
        await until(pilot, lambda: table.row_count == 3)
        assert [str(key.value) for key in table.rows] == ["ups-02", "ups-04", "ups-06"]


async def test_an_agent_that_goes_away_ends_it(tmp_path: Path) -> None:
    screen = Screen(tmp_path / "nobody.sock", [])
    async with screen.run_test() as pilot:
        await until(pilot, lambda: screen.failure is not None)
    assert isinstance(screen.failure, AgentUnreachable)
