"""Maintenance windows: begun and ended by people or by their time, told, and kept across a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from qxfleet.agent.bus import Bus
from qxfleet.agent.maintenance import Maintenance
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store.store import Store


class Site:
    """A store, and maintenance on it that can be started anew."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.events: list[tuple[str | None, str]] = []
        self.bus = Bus()
        self.bus.attach(Event, lambda event: self.events.append((event.ups, event.value)))
        self.store = Store(url, clock=self.clock)
        self.maintenance = Maintenance(self.store, self.bus, self.clock)

    async def __aenter__(self) -> Maintenance:
        self.store.open()
        await self.maintenance.start()
        return self.maintenance

    async def __aexit__(self, *_: object) -> None:
        await self.maintenance.stop()
        await self.store.close()


async def test_a_window_is_open_until_somebody_ends_it(fleet_url: str) -> None:
    site = Site(fleet_url)
    async with site as maintenance:
        await maintenance.begin(("a", "b"), None, "new batteries", "me")
        window = maintenance.of("a")
        assert window is not None and (window.reason, window.actor, window.until_us) == ("new batteries", "me", None)
        assert await maintenance.end(("a", "c"), "me") == ("a",)
        assert set(maintenance.all()) == {"b"}
    assert site.events == [("a", "begin"), ("b", "begin"), ("a", "end")]


async def test_windows_outlive_the_agent(fleet_url: str) -> None:
    async with Site(fleet_url) as maintenance:
        await maintenance.begin(("a",), 3600, "", "me")
        await maintenance.begin(("b",), None, "", "me")
        await maintenance.begin(("c",), 0.01, "", "me")
        await maintenance.end(("b",), "me")
    async with Site(fleet_url) as again:
        for _ in range(100):
            if set(again.all()) == {"a"}:
                break
            await asyncio.sleep(0.02)
        assert set(again.all()) == {"a"}


async def test_a_window_ends_when_its_time_is_over(sqlite_path: Path) -> None:
    site = Site(f"sqlite:///{sqlite_path}")
    async with site as maintenance:
        await maintenance.begin(("a",), 0.05, "", "me")
        assert maintenance.of("a") is not None
        for _ in range(100):
            if maintenance.of("a") is None:
                break
            await asyncio.sleep(0.02)
        assert maintenance.of("a") is None
    assert site.events == [("a", "begin"), ("a", "end")]


async def test_a_new_window_takes_the_place_of_the_old_one(sqlite_path: Path) -> None:
    url = f"sqlite:///{sqlite_path}"
    async with Site(url) as maintenance:
        await maintenance.begin(("a",), 0.05, "short", "me")
        await maintenance.begin(("a",), None, "long", "you")
        await asyncio.sleep(0.1)
        assert maintenance.of("a") is not None
    async with Site(url) as again:
        window = again.of("a")
        assert window is not None and window.reason == "long"
