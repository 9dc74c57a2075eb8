"""Stores on both databases, and readings to put into them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.store.store import Store

T0_US = 1_760_000_000_123_457
"""2025-10-09T08:53:20.123457Z."""

VALUES: dict[str, float | str] = {
    "input.voltage": 230.1,
    "input.voltage.fault": 229.0,
    "output.voltage": 230.1,
    "ups.load": 15.0,
    "input.frequency": 50.0,
    "battery.voltage": 27.43,
    "ups.temperature": 25.1,
    "battery.charge": 100.0,
    "battery.runtime": 1234.0,
    "ups.beeper.status": "enabled",
    "ups.type": "offline / line interactive",
}


def a_reading(ups: str = "rack1-a", at_us: int = T0_US, mono_s: float = 0.0, status: int = Status.OL, **more: Any) -> Reading:
    values = {**VALUES, **more.pop("values", {})}
    return Reading(ups, at_us, mono_s, status, {k: v for k, v in values.items() if v is not None}, **more)


def an_event(number: int = 0, ups: str | None = "rack1-a", at_us: int = T0_US) -> Event:
    return Event(
        at_us + number, ups, EventKind.STATUS, "on-battery", "begin", f"event {number}", Severity.WARNING, Phase.BEGIN
    )  # fmt: skip


@pytest.fixture
def troubles() -> list[str]:
    """What the store complained about."""
    return []


@pytest.fixture
async def store(fleet_url: str, troubles: list[str]) -> AsyncIterator[Store]:
    """An open store that keeps every reading."""
    opened = Store(fleet_url, clock=Clock(), keep="all", on_trouble=lambda text, _: troubles.append(text))
    opened.open()
    yield opened
    await opened.close()


def all_rows(table: Any) -> Callable[[Any], list[dict[str, Any]]]:
    from sqlalchemy import select

    return lambda connection: [dict(row) for row in connection.execute(select(table)).mappings()]
