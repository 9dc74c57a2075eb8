"""One client's connection: lines in, answers out, with bounds on what either side may leave lying."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from qxfleet.errors import OrderNotSupported
from qxfleet.interfaces.listener import Place
from qxfleet.interfaces.upsd.commands import GOODBYE, STARTTLS
from qxfleet.interfaces.upsd.orders import Peer
from qxfleet.interfaces.upsd.protocol import LONGEST_LINE, Code, Refused
from qxfleet.interfaces.upsd.tls import Tls

if TYPE_CHECKING:
    from qxfleet.interfaces.upsd.server import NutServer

log = logging.getLogger(__name__)

MOST_WAITING = 8 * 1024
"""Bytes of requests kept unread into; beyond it the connection is not read from."""

MOST_UNTAKEN = 64 * 1024
"""Bytes of answers the client has not taken; beyond it no further request is answered."""

LINES_A_TURN = 16
"""Requests of one connection answered before others have their turn."""

RATE_PER_S, BURST = 500.0, 2000.0
"""Requests of one connection; faster ones wait."""


class Connection(asyncio.BufferedProtocol):
    """The server's side of one connection. Nothing is answered when bytes come: the server gives turns."""

    __slots__ = (
        "_allowance", "_allowance_s", "_busy", "_closing", "_full", "_held", "_incoming", "_last", "_loop", "_server",
        "_skipping", "_throttled", "_tls", "_transport", "active_s", "peer", "place", "queued",
    )  # fmt: skip

    def __init__(self, server: NutServer) -> None:
        self.peer = Peer("")
        self.active_s = 0.0
        """When the last request came (loop's time)."""
        self.queued = False
        self.place: Place
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray()
        self._skipping = False
        self._full = False
        self._held = False
        self._last = False
        self._throttled = False
        self._tls: Tls | None = None
        self._busy: asyncio.Task[None] | None = None
        self._closing = False
        self._allowance = BURST
        self._allowance_s = self.active_s = self._loop.time()

    # -- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=MOST_UNTAKEN)
        self.peer.address = self.place.address

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; orders it gave run on."""
        self._closing = True
        self._incoming.clear()
        self._transport = None
        self.place.left()

    def get_buffer(self, sizehint: int) -> memoryview:
        """One buffer for all, so that a client costs no more than what waits of its requests."""
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came and ask for a turn."""
        came: bytes | memoryview = self._server.buffer[:nbytes]
        if self._tls is not None:
            try:
                came = self._tls.receive(came)
            except ssl.SSLError as error:
                log.info("TLS with %s came to nothing: %s", self.peer.address, error)
                return self._break_off()
            self._last = self._last or self._tls.ended
            if self._transport is not None and (due := self._tls.due()):
                self._transport.write(due)
        self._incoming += came
        if len(self._incoming) > MOST_WAITING and self._transport is not None and not self._held:
            self._held = True
            self._transport.pause_reading()
        if self._busy is None and not self._full:
            self._server.queue(self)

    def eof_received(self) -> bool:
        """The client says no more: what it asked is answered first."""
        self._last = True
        return self._busy is not None or b"\n" in self._incoming

    def pause_writing(self) -> None:
        """The client does not take its answers."""
        self._full = True

    def resume_writing(self) -> None:
        """It takes them again."""
        self._full = False
        self._server.queue(self)

    # -- the server's side

    def turn(self, now_s: float) -> bool:
        """Answer a few requests; whether more wait and may be answered at once."""
        if self._throttled:
            return False
        self._allowance = min(BURST, self._allowance + (now_s - self._allowance_s) * RATE_PER_S)
        self._allowance_s = now_s
        for _ in range(LINES_A_TURN):
            if self._closing or self._busy is not None or self._full:
                return False
            line = self._next_line()
            if line is None:
                if self._last:
                    self.hang_up()
                else:
                    self._read_on()
                return False
            self._allowance -= 1.0
            self.active_s = now_s
            self.place.touch()
            self._answer(line)
            if self._allowance < 0:
                self._throttled = True
                self._loop.call_later(-self._allowance / RATE_PER_S, self._go_on)
                return False
        return True

    def _go_on(self) -> None:
        self._throttled = False
        self._server.queue(self)

    def hang_up(self) -> None:
        """Close once the answers are taken; at once if the client takes none."""
        self._closing = True
        if self._transport is not None:
            if self._full:
                self._transport.abort()
                return
            if self._tls is not None:
                self._tls.close()
                self._transport.write(self._tls.due())
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def secure(self) -> bool:
        """Whether it is under TLS."""
        return self._tls is not None

    @property
    def idle(self) -> bool:
        """Whether nothing of the client is under way."""
        return self._busy is None

    @property
    def silent(self) -> bool:
        """Whether it may make room for another: idle, and not logged in."""
        return self._busy is None and not self.peer.login

    def _break_off(self) -> None:
        """Close without a further word but the reason in TLS's own."""
        self._incoming.clear()
        if self._transport is not None and self._tls is not None:
            self._transport.write(self._tls.due())
        self.hang_up()

    def _next_line(self) -> bytes | None:
        """The next request without its end; an empty one where it was too long to be kept."""
        end = self._incoming.find(b"\n")
        if end < 0:
            if len(self._incoming) > LONGEST_LINE:
                self._skipping = True
                self._incoming.clear()
            return None
        line = bytes(self._incoming[:end])
        del self._incoming[: end + 1]
        if self._skipping or len(line) > LONGEST_LINE:
            self._skipping = False
            self._say(Code.TOO_LONG.line)
            return self._next_line()
        return line

    def _read_on(self) -> None:
        if self._held and self._transport is not None:
            self._held = False
            self._transport.resume_reading()

    def _answer(self, line: bytes) -> None:
        try:
            answer = self._server.commands.answer(self.peer, line)
        except Refused as refused:
            answer = refused.code.line
        except OrderNotSupported:
            answer = Code.DATA_STALE.line
        if not isinstance(answer, bytes):
            self._busy = self._loop.create_task(self._later(answer))
            return
        if answer is STARTTLS:
            return self._start_tls() if self._tls is None else self._say(Code.ALREADY_SSL_MODE.line)
        self._say(answer)
        if answer is GOODBYE:
            self.hang_up()

    async def _later(self, answer: Awaitable[bytes]) -> None:
        try:
            said = await answer
        except Refused as refused:
            said = refused.code.line
        except OrderNotSupported:  # contact was lost between two looks
            said = Code.DATA_STALE.line
        except Exception:  # a bug of ours ends this connection, never the server
            log.exception("a request of %s ended by an error that is ours", self.peer.address)
            return self.abort()
        finally:
            self._busy = None
        self.active_s = self._loop.time()
        self._say(said)
        self._server.queue(self)

    def _start_tls(self) -> None:
        """Go over to TLS; what came behind the request in clear text is thrown away, and so is who the client said it is."""
        assert self._server.tls_context is not None
        self._say(STARTTLS)
        self._incoming.clear()
        self.peer = Peer(self.peer.address)
        self._tls = Tls(self._server.tls_context)

    def _say(self, answer: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._tls is None:
            self._transport.write(answer)
        else:
            self._tls.seal(answer)
            self._transport.write(self._tls.due())
