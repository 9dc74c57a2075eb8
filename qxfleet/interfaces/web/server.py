"""``[http]``: web page, JSON API and the fleet's metrics, as a part of the agent. Nothing listens without the table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from qxfleet.config.load import Config
from qxfleet.interfaces.http import HttpServer, load
from qxfleet.interfaces.metrics import Metrics

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.interfaces.http import Receive, Send


class Web:
    """One listening server; the application is made with it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._http = HttpServer("http", self._answer)
        self._metrics: Metrics | None = None
        self._app: Any = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        return self._http.urls

    async def start(self) -> None:
        """Listen, if the configuration says so. Raises CannotListen."""
        face = self._agent.config.faces.http
        if face is not None:
            await self._make()
            await self._http.start(face)

    async def stop(self) -> None:
        """End streams, listen no more."""
        if self._moving is not None:
            self._moving.cancel()
        if self._app is not None:
            self._app.state.live.close()
        await self._http.stop()
        if self._metrics is not None:
            self._metrics.close()

    def apply(self, config: Config) -> list[str]:
        """Listen where the new configuration says."""
        face = config.faces.http
        if face == self._http.face:
            return []
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(self._move(config))
        return [f"[http]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}"]

    async def _move(self, config: Config) -> None:
        if config.faces.http is not None:
            await self._make()
        await self._http.move(config.faces.http)

    async def _make(self) -> None:
        """Load the application, on a thread: that takes a second in which UPSes are polled on."""
        if self._app is None:
            self._metrics = Metrics(self._agent)
            made = await load("http", "qxfleet.interfaces.web.app")
            self._app = await asyncio.to_thread(made.application, self._agent, self._metrics)

    async def _answer(self, scope: Any, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
