"""``[http]``: web page, JSON API and the fleet's metrics, as a part of the agent. Nothing listens without the table."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from qxfleet.config.load import Config
from qxfleet.interfaces.http import HttpServer, load
from qxfleet.interfaces.metrics import Metrics

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.interfaces.http import App


class Web:
    """One listening server; the application is made with it."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._http = HttpServer(agent, "http", self._make, ("fastapi", "jinja2", "prometheus_client"))
        self._metrics: Metrics | None = None
        self._app: Any = None
        self._moving: asyncio.Task[None] | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        return self._http.urls

    async def start(self) -> None:
        """Listen, if the configuration says so. """
        face = self._agent.config.faces.http
        if face is not None:
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
            self._http.take_certificate()  # the files may be new though their names are not
            return []
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(self._http.move(face))
        return [f"[http]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}"]

    async def _make(self) -> App:
        """The application; the same one wherever it is served."""
        if self._app is None:
            self._metrics = Metrics(self._agent)
            await load("prometheus_client")
            made = await load("qxfleet.interfaces.web.app")
            self._app = await asyncio.to_thread(made.application, self._agent, self._metrics)
        return cast("App", self._app)
