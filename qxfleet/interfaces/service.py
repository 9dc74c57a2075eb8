"""One agent as a service: its control socket, signals, the service manager, and an end in time."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from qxfleet.agent.agent import Agent
from qxfleet.errors import ConfigError
from qxfleet.interfaces.control import ControlServer
from qxfleet.interfaces.notify_socket import ServiceManager
from qxfleet.model.events import Link

log = logging.getLogger("qxfleet")

OTHERS = 0o007

STOP_WITHIN_S = 4.8
"""From the signal to the end of the process: the outside face promises 5 s."""

STANDING_S = 15.0
"""How often the service manager is told how many UPSes are online."""


class Service:
    """Runs an agent until SIGTERM or SIGINT; SIGHUP reads ``config`` (None: the usual place) again."""

    def __init__(self, agent: Agent, config: Path | None) -> None:
        self._agent = agent
        self._config = config
        self._control = ControlServer(agent, agent.config.agent.control)
        self._manager = ServiceManager()
        self._deadline: threading.Timer | None = None
        self._saved = False
        self._starting: asyncio.Task[None] | None = None

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Serve until told to stop. Raises AgentRunning, StoreError, and OSError where the socket can't be made."""
        loop = asyncio.get_running_loop()
        await self._control.claim()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

        def up() -> None:
            _close_to_others(self._agent.config.agent.state)
            self._starting = loop.create_task(self._control.start())
            self._manager.ready(self._standing())
            if self._manager.asked:
                self._live()
            log.info("ready: %d UPSes, control socket %s", len(self._agent.config.ups), self._control.path)
            started()

        try:
            await self._agent.run(up)
        finally:
            self._saved = True
            await self._control.close()

    def stop(self) -> None:
        """Begin to end: no new clients, then the agent; the process is gone in time, even past a hung driver."""
        if self._deadline is not None:
            return
        log.info("stopping")
        self._deadline = threading.Timer(STOP_WITHIN_S, self._out_of_time)
        self._deadline.daemon = True
        self._deadline.start()
        self._manager.stopping()
        self._control.stop_accepting()
        self._agent.stop()

    def _out_of_time(self) -> None:
        """The loop, or a thread in a port's driver, did not come back."""
        if not self._saved:
            log.error("could not write everything within %.1f s", STOP_WITHIN_S)
        logging.shutdown()
        os._exit(0 if self._saved else 1)

    def _reload(self) -> None:
        self._manager.reloading()
        try:
            changes = self._agent.reload(self._config)
        except ConfigError as error:
            for problem in error.problems:
                log.error("%s", problem)
            log.error("the configuration has errors: the old one stays in force")
        else:
            for change in changes or ["nothing changed"]:
                log.info("reloaded: %s", change)
        self._manager.ready(self._standing())

    def _live(self) -> None:
        """A sign of life while there is life: an agent whose schedule or writer came to a stand is better started anew."""
        if (stuck := self._agent.stuck()) is not None:
            log.critical("%s: the service manager is told nothing any more, so that it starts the agent anew", stuck)
        else:
            self._manager.alive(self._standing())
        every_s = STANDING_S if self._manager.watchdog_s is None else min(STANDING_S, self._manager.watchdog_s / 2)
        asyncio.get_running_loop().call_later(every_s, self._live)

    def _standing(self) -> str:
        states = self._agent.fleet.snapshot().values()
        return f"{sum(state.link is Link.ONLINE for state in states)} of {len(states)} UPSes online"


def _close_to_others(state: Path) -> None:
    """Take from everybody else what the umask left them of the state and of the files beside it; SQLite's own follow its mode."""
    for file in (state, *state.parent.glob(f"{state.name}*")):
        try:
            mode = file.stat().st_mode
            if mode & OTHERS:
                file.chmod(mode & 0o7777 & ~OTHERS)
        except OSError as error:
            log.warning("%s: its mode can't be changed: %s", file, error.strerror)
