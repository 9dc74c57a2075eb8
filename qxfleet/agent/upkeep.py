"""Keeps the database in shape while the agent runs: roll-ups, retention, partitions to come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from qxfleet.agent.shipping import Shipping
from qxfleet.errors import StoreError
from qxfleet.model.retention import BESIDE_FLEET, Retention
from qxfleet.store.upkeep import keep_up_step

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

PERIOD_S = 900.0
"""A quarter of an hour's readings are rolled up at a time; queries fold what is newer by themselves."""

STEP_US = 3600 * 1_000_000
"""A clock set forward by more than this in a run is not believed by what deletes: a wrong year would empty the history."""

PAUSE_S = 0.2
"""Between two steps, so that a backlog of months leaves the writer to the readings most of the time."""

log = logging.getLogger(__name__)


class Upkeep:
    """A part of every agent: does what is due each quarter of an hour, in steps of a fraction of a second."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._store = agent.store
        self._clock = agent.clock
        self._schedule = agent.schedule
        self._retention: Retention = agent.config.retention
        self._task: asyncio.Task[None] | None = None
        self._began_us, self._began_s = agent.clock.wall_us(), agent.clock.monotonic()

    async def start(self) -> None:
        """Do what is due, now and from now on."""
        self._schedule.every(PERIOD_S, self._clock.monotonic() + PERIOD_S, self._begin)
        await self._begin()

    async def stop(self) -> None:
        """End between two steps; the step that is being written is finished or undone by the database."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def apply(self, config: Config) -> list[str]:
        """Take new rules; they hold from the next step on."""
        if config.retention == self._retention:
            return []
        self._retention = config.retention
        return ["[retention] changed"]

    def _step(self, connection: Connection) -> bool:
        ran_us = round((self._clock.monotonic() - self._began_s) * 1e6)
        shipping = self._agent.part(Shipping)
        everything_shipped = shipping is not None and shipping.has_everything()
        kept = self._retention.at_most(BESIDE_FLEET) if everything_shipped else self._retention
        return keep_up_step(connection, kept, min(self._clock.wall_us(), self._began_us + ran_us + STEP_US))

    async def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="upkeep")

    async def _work(self) -> None:
        try:
            more = True
            while more:
                more = await self._store.commit(self._step)
                await asyncio.sleep(PAUSE_S)
        except StoreError as error:
            log.warning("history was not rolled up: %s", error)
