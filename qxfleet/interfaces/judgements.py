"""What the batteries are worth, for faces that are asked again and again: judged once in a while, on a reader's thread."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from qxfleet.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from qxfleet.agent.agent import Agent
    from qxfleet.battery.health import Health

PATIENCE_S = 5.0
"""A database that has not answered after so long is not waited for: live figures matter more."""

FRESH_S = 300.0
"""A judgement rests on weeks; so long it is taken for the present one."""


class Judgements:
    """The judgement of every battery of one fleet, by UPS."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._found: list[Health] = []
        self._at_s: float | None = None
        self._one_at_a_time = asyncio.Lock()

    async def all(self) -> list[Health]:
        """Every battery. Raises StoreError."""
        async with self._one_at_a_time:
            now_s = self._agent.clock.monotonic()
            if self._at_s is None or now_s - self._at_s > FRESH_S:
                self._found = await self._agent.store.read(self._judged)
                self._at_s = now_s
            return self._found

    async def known(self) -> list[Health]:
        """Every battery; as it was judged last where the database can't be asked, or takes its time."""
        if self._agent.store.health().error is None:
            with contextlib.suppress(TimeoutError, StoreError):
                async with asyncio.timeout(PATIENCE_S):
                    return await self.all()
        return self._found

    def _judged(self, connection: Connection) -> list[Health]:
        from qxfleet.battery.health import fleet_health
        from qxfleet.battery.survey import evidence

        now_us = self._agent.clock.wall_us()
        return fleet_health(evidence(connection, self._agent.config.batteries, now_us), now_us)
