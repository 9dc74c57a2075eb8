"""What systemd wants to know of a service: sd_notify(3) without a library."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping

log = logging.getLogger(__name__)


class ServiceManager:
    """Tells the service manager how the agent stands; does nothing where none asked (``$NOTIFY_SOCKET``)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s: float | None = int(usec) / 1e6 if self._address and mine and usec.isdecimal() and int(usec) else None
        """A sign of life is expected at least this often; None: none is."""
        self.asked = bool(self._address)

    def ready(self, status: str) -> None:
        """The agent is up, or up again after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The agent is on its way down."""
        self._send("STOPPING=1", "STATUS=stopping")

    def alive(self, status: str) -> None:
        """A sign of life, and how things stand."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
                manager.setblocking(False)
                manager.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager could not be told %s: %s", lines[0], error)
