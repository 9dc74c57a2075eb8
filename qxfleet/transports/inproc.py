"""A link to a callable in the same process: replay, simulator, scenarios on a clock of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from qxfleet.transports.base import LinkInfo
from qxfleet.transports.line import LineTransport

Answer = Callable[[bytes], bytes | Awaitable[bytes | None] | None]
"""Request as sent → bytes as they would come over the wire, end byte included; None or nothing is silence.

What it raises comes out of the exchange, so a LinkLost raised here is a link lost.
"""


class InProcTransport(LineTransport):
    """A device that is a function. All its waiting is done by the loop's own clock."""

    def __init__(self, label: str, answer: Answer, *, raw: bool = False) -> None:
        super().__init__(label, raw=raw)
        self._answer = answer
        self._late: set[asyncio.Future[bytes | None]] = set()

    async def open(self) -> LinkInfo:
        """Open at once."""
        if self._loop is not None:
            raise RuntimeError(f"{self.label}: is open already")
        self._begin(asyncio.get_running_loop())
        return LinkInfo(self.label, "in process")

    async def close(self) -> None:
        """Close, and forget replies still on their way."""
        self._finish()
        for reply in self._late:
            reply.cancel()
        self._late.clear()

    def say(self, chunk: bytes) -> None:
        """Have bytes arrive that nobody asked for."""
        if self._loop is not None and self._lost is None:
            self._received(chunk)

    def _flush(self) -> None:
        pass

    def _write(self, data: bytes) -> int:
        reply = self._answer(data)
        if isinstance(reply, Awaitable):
            task = asyncio.ensure_future(reply)
            self._late.add(task)
            task.add_done_callback(self._answered)
        elif reply:
            asyncio.get_running_loop().call_soon(self.say, reply)
        return len(data)

    def _answered(self, reply: asyncio.Future[bytes | None]) -> None:
        self._late.discard(reply)
        if reply.cancelled():
            return
        if (error := reply.exception()) is None:
            if answer := reply.result():
                self.say(answer)
        elif self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        else:
            raise error
