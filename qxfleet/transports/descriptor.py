"""A line behind a non-blocking descriptor: serial ports and TCP sockets, read and written by the event loop itself."""

from __future__ import annotations

import asyncio
import os

from qxfleet.transports.line import CHUNK, LineTransport, reason_of


class DescriptorTransport(LineTransport):
    """A line behind a non-blocking descriptor: the event loop reads and writes it, one persistent reader per link."""

    __slots__ = ("_fd",)

    loss_remedy = ""
    """What to look at when the other side is gone."""

    def __init__(self, label: str, *, raw: bool = False) -> None:
        super().__init__(label, raw=raw)
        self._fd = -1

    def _watch(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._fd = fd
        self._begin(loop)
        self._wakeups.watch(fd, self.look)

    def _unwatch(self) -> None:
        if self._fd >= 0:
            self._wakeups.unwatch(self._fd)

    def look(self) -> None:
        """Take what has arrived by now."""
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(reason_of(error), self.loss_remedy)
            return
        if chunk:
            self._received(chunk)
        else:
            self._gone("hung up", self.loss_remedy)

    def _write(self, data: bytes) -> int:
        return os.write(self._fd, data)

    async def _wait_writable(self, limit_s: float) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            async with asyncio.timeout(limit_s):
                await ready.wait()
        except TimeoutError:
            return
        finally:
            loop.remove_writer(self._fd)
