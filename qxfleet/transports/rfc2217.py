"""``rfc2217://host:port``: device servers whose port is configured over the network, through pyserial.

pyserial speaks RFC 2217 with a thread of its own and no descriptor to wait on, so each link costs a second thread, which
opens, receives and closes. Where the server can be set to 2400 8N1 by itself, ``socket://`` is cheaper.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import select
import threading
from collections.abc import Callable
from typing import Final, get_args

import serial
import serial.rfc2217

from qxfleet.errors import LinkError, LinkTimeout, LinkUnavailable
from qxfleet.model.wire import CR, QUIET_S
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.line import CHUNK, LineTransport
from qxfleet.transports.serial_port import BAUD, BITS_PER_BYTE, LINES, CablePower
from qxfleet.transports.tcp import keep_alive, unavailable

OPEN_S: Final = 10.0
"""Connecting may take five seconds, agreeing on speed, frame and lines some more."""

CLOSE_S: Final = 2.0

GATHER_S: Final = QUIET_S / 2
"""Bytes that follow each other faster than this are handed to the loop together; sooner than a drain calls the line quiet."""


class Rfc2217Transport(LineTransport):
    """A UPS behind an RFC 2217 device server, which is told 2400 8N1 and the lines that ``cablepower`` names."""

    byte_s = BITS_PER_BYTE / BAUD

    def __init__(self, label: str, host: str, port: int, cablepower: str = "normal", *, raw: bool = False) -> None:
        if cablepower not in LINES:
            raise ValueError(f"cablepower {cablepower!r} is none of {', '.join(get_args(CablePower))}")
        super().__init__(label, raw=raw)
        self.host = host
        self.port = port
        self.cablepower = cablepower
        self._worker: _Worker | None = None

    async def open(self) -> LinkInfo:
        """Connect and configure the far port. Raises LinkUnavailable or LinkTimeout."""
        if self._loop is not None:
            raise RuntimeError(f"{self.label}: is open already")
        loop = asyncio.get_running_loop()
        worker = _Worker(self, loop)
        try:
            async with asyncio.timeout(OPEN_S):
                await worker.opened
        except (TimeoutError, asyncio.CancelledError) as error:
            worker.stop()
            self._worker = None
            self._finish()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise LinkTimeout(self.label, f"no RFC 2217 session within {OPEN_S:g} s", "is it such a server?") from None
        return LinkInfo(f"{self.host}:{self.port}", f"RFC 2217 {BAUD} 8N1, cablepower {self.cablepower}")

    async def close(self) -> None:
        """Disconnect and end both threads; see ``transports.base.Transport``."""
        self._finish()
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop()
            await asyncio.wait({worker.ended}, timeout=CLOSE_S)

    def _flush(self) -> None:
        assert self._worker is not None
        self._worker.port.discard()

    def _write(self, data: bytes) -> int:
        assert self._worker is not None
        return self._worker.port.send(data)

    def _opened(self, worker: _Worker) -> None:
        self._worker = worker
        self._begin(worker.loop)

    def _arrived(self, worker: _Worker, chunk: bytes, discards: int) -> None:
        if worker is self._worker and discards == worker.port.discards and self._lost is None:
            self._received(chunk)

    def _cut_off(self, worker: _Worker) -> None:
        if worker is self._worker:
            self._gone("the device server closed the connection", "is it still up? some serve one client only")


class _Port(serial.rfc2217.Serial):  # type: ignore[misc]
    """pyserial's client with its queue of received bytes opened up: whole lines out, and a way to wake the reader."""

    discards = 0

    def receive(self) -> tuple[bytes, int] | None:
        """Wait for bytes up to a CR or a gap of GATHER_S, and the count of discards they belong to; None: it is over."""
        chunk = bytearray()
        discards = self.discards
        timeout_s = None
        while len(chunk) < CHUNK:
            try:
                byte = self._read_buffer.get(True, timeout_s)
            except queue.Empty:
                break
            if byte is None:
                return None
            if discards != self.discards:
                discards = self.discards
                chunk.clear()
            chunk += byte
            if byte[0] == CR:
                break
            timeout_s = GATHER_S
        return bytes(chunk), discards

    def discard(self) -> None:
        """Throw away what has arrived, here and on its way through ``receive``."""
        self.discards += 1
        ended = False
        with contextlib.suppress(queue.Empty):
            while True:
                ended = self._read_buffer.get(False) is None or ended
        if ended:
            self.wake()

    def send(self, data: bytes) -> int:
        """Send without waiting; BlockingIOError while the network takes nothing."""
        poller = select.poll()
        try:
            poller.register(self._socket, select.POLLOUT)
        except (TypeError, ValueError) as error:  # its thread has closed the socket meanwhile
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN)) from error
        if not poller.poll(0):
            raise BlockingIOError
        return int(self.write(data))

    def wake(self) -> None:
        """End the wait in ``receive``."""
        self._read_buffer.put(None)


class _Worker:
    """The thread of one open link, from connecting to the end of pyserial's own thread."""

    def __init__(self, owner: Rfc2217Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.owner = owner
        self.loop = loop
        self.opened: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.port = _Port(None, BAUD)
        self.port.dtr, self.port.rts = LINES[owner.cablepower]
        host = f"[{owner.host}]" if ":" in owner.host else owner.host
        self.port.port = f"rfc2217://{host}:{owner.port}"
        self._stopping = threading.Event()
        threading.Thread(target=self._run, name=f"qxfleet {owner.label}", daemon=True).start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        if self.port.is_open:
            self.port.wake()

    def _run(self) -> None:
        try:
            error = self._open()
            if error is not None:
                self._tell(self._refused, error)
                return
            self._tell(self._accepted)
            while not self._stopping.is_set():
                if (received := self.port.receive()) is None:
                    break
                self._tell(self.owner._arrived, self, *received)
            self._tell(self.owner._cut_off, self)
        finally:
            try:
                self.port.close()
            finally:
                self._tell(self._over)

    def _open(self) -> LinkError | None:
        owner = self.owner
        try:
            self.port.open()
            keep_alive(self.port._socket)
        except (OSError, ValueError) as error:
            cause = error.__context__
            if isinstance(cause, TimeoutError):
                return LinkTimeout(owner.label, "no answer within 5 s", "is the device server switched on?")
            if isinstance(cause, OSError) and not isinstance(cause, serial.SerialException):
                return unavailable(owner.label, owner.host, cause)
            reason = f"no RFC 2217 session: {error}".split(" [")[0]
            return LinkUnavailable(owner.label, reason, "for a raw TCP server use socket://")
        return None

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(what, *args)

    def _accepted(self) -> None:
        if not self.opened.done():
            self.owner._opened(self)
            self.opened.set_result(None)

    def _refused(self, error: LinkError) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)

    def _over(self) -> None:
        self._refused(LinkUnavailable(self.owner.label, "pyserial failed, see the log"))
        if not self.ended.done():
            self.ended.set_result(None)
