"""``socket://host:port``: serial device servers that pass bytes over plain TCP."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Final

from qxfleet.errors import LinkTimeout, LinkUnavailable
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.descriptor import DescriptorTransport
from qxfleet.transports.line import CHUNK, reason_of

CONNECT_S: Final = 5.0

KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000))
"""A server that lost power is noticed after some 25 s without traffic, 20 s (in ms) with unacknowledged requests."""


class TcpTransport(DescriptorTransport):
    """A UPS behind a raw TCP device server, which is set to 2400 8N1 on its own side."""

    loss_remedy = "is the device server still up? some serve one client only"

    def __init__(self, label: str, host: str, port: int, *, raw: bool = False) -> None:
        super().__init__(label, raw=raw)
        self.host = host
        self.port = port
        self._socket: socket.socket | None = None

    async def open(self) -> LinkInfo:
        """Connect. Raises LinkUnavailable or LinkTimeout."""
        if self._loop is not None:
            raise RuntimeError(f"{self.label}: is open already")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                self._socket, peer = await connect_to(loop, self.host, self.port)
        except TimeoutError:
            remedy = "is the device server switched on, and no firewall in between?"
            raise LinkTimeout(self.label, f"no answer within {CONNECT_S:g} s", remedy) from None
        except OSError as error:
            raise unavailable(self.label, self.host, error) from error
        self._watch(loop, self._socket.fileno())
        return LinkInfo(f"{peer}:{self.port}", "TCP")

    async def close(self) -> None:
        """Disconnect; see ``transports.base.Transport``."""
        self._finish()
        self._fd = -1
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._fd, CHUNK):
                self.unsolicited += len(self._framer.feed(chunk))
        self._framer.reset()


async def connect_to(loop: asyncio.AbstractEventLoop, host: str, port: int) -> tuple[socket.socket, str]:
    """The first address of ``host`` that answers."""
    refusal: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        link = socket.socket(family, kind, protocol)
        try:
            link.setblocking(False)
            keep_alive(link)
            await loop.sock_connect(link, address)
        except OSError as error:
            link.close()
            refusal = error
        except BaseException:
            link.close()
            raise
        else:
            return link, str(address[0])
    raise refusal or OSError(errno.EADDRNOTAVAIL, "no address")


def keep_alive(link: socket.socket) -> None:
    """Send requests at once, and notice a peer that vanished without a word."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE:
        if (option := getattr(socket, name, None)) is not None:
            link.setsockopt(socket.IPPROTO_TCP, option, value)


def unavailable(label: str, host: str, error: OSError) -> LinkUnavailable:
    """Why a device server can't be reached, and what to do about it."""
    if isinstance(error, socket.gaierror):
        return LinkUnavailable(label, f"unknown host name {host!r}", "check the spelling, or give the IP address")
    if error.errno == errno.ECONNREFUSED:
        return LinkUnavailable(label, "connection refused", "is the port right, and the server free? some serve one client only")
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return LinkUnavailable(label, "no way to this host", "check the network and the address")
    return LinkUnavailable(label, reason_of(error))
