"""A fleet of devices that are functions, on virtual time, with a real bus and a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import SLOT_S, Fleet
from qxfleet.agent.schedule import COHORTS, TICK_S
from qxfleet.model.events import Event
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.store import history
from qxfleet.transports.base import Transport
from tests.virtual import TimelessStore, VirtualClock


class Ground:
    """Runs ``upses`` as an agent does, without APScheduler, which keeps to the real clock.

    ``transport_for`` opens the way to a device. Use as ``async with``: inside, the fleet runs.
    """

    def __init__(
        self, database: Path, upses: list[UpsOptions], transport_for: Callable[[UpsOptions], Transport],
        clock: VirtualClock | None = None,
    ) -> None:
        self.clock = clock or VirtualClock(asyncio.get_running_loop())
        self.bus = Bus()
        self.store = TimelessStore(f"sqlite:///{database}", clock=self.clock)
        self.fleet = Fleet(self.bus, self.store, self.clock, transport_for)
        self.upses = upses
        self.events: list[Event] = []

    async def __aenter__(self) -> Self:
        self.store.open()
        self.bus.attach(Reading, self.store.record)
        self.bus.attach(Event, self.store.record_event)
        self.bus.attach(Event, self.events.append)
        self.fleet.apply(self.upses, {})
        self._ticking = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ticking.cancel()
        await self.fleet.stop()
        await self.store.close()

    async def _tick(self) -> None:
        cohort = 0
        while True:
            self.fleet.tick(cohort % COHORTS, COHORTS)
            cohort += 1
            await asyncio.sleep(max(0.0, self.fleet.phase_s(cohort) - self.clock.monotonic()))

    def told(self, *names: str) -> list[tuple[str | None, str, str]]:
        """(ups, name, value) of the events with these names."""
        return [(event.ups, event.name, event.value) for event in self.events if event.name in names]

    def links(self) -> dict[str, str]:
        """State of every device."""
        return {name: state.link.value for name, state in self.fleet.snapshot().items()}

    async def orders(self) -> list[history.StoredOrder]:
        """The audit trail."""
        await self.store.record_now()
        return self.store._query(history.orders)


def options_of(names: Mapping[str, object] | list[str], **options: object) -> list[UpsOptions]:
    """Plain megatec UPSes with these names."""
    given = {"dialect": "megatec", **options}
    return [UpsOptions(name, f"/dev/{name}", **given) for name in names]  # type: ignore[arg-type]


assert SLOT_S * COHORTS == TICK_S, "a cohort's phase is one slot after the other"
