"""One request, one reply, over anything that carries bytes: what serial ports, TCP, RFC 2217 and in-process links share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from qxfleet._fastparse import Framer
from qxfleet.errors import LinkLost, ReplyMalformed, ReplyTimeout
from qxfleet.model.wire import CR, QUIET_S, Ask
from qxfleet.transports.wakeups import CALM_S, Wakeups

CHUNK: Final = 2048
"""Most bytes taken from a link at once."""

HELD: Final = 2 * CHUNK
"""Most bytes of one frame kept: a chunk on top of the longest reply an Ask allows."""

WRITE_S: Final = 1.0
"""A request that the link has not taken after this long never will be."""

ECHO_S: Final = 0.3
"""How long a reply may follow an echo of its request, before it is known whether the line itself echoes."""

DRAIN_S: Final = 2.0
"""A line that is still talking after this long is not going to be quiet."""


class LineTransport:
    """The exchange itself; a subclass opens the way, sends bytes, and hands over what comes.

    A reply ends at the end byte. Where no end byte ever came and a reply was left hanging, ``raw`` becomes true: from then
    on a reply also ends when the line was quiet for QUIET_S (quirks.md, Framing: "no CR at all, frame otherwise whole").
    ``raw`` outlives close and open, and falls back by itself at the first end byte seen.

    An echo of the request is passed over where another reply follows it (quirks.md, Framing): a line that echoes everything is
    learned, once and for all, from the first request that is answered with or without its echo in front.

    Bytes that came before a request never become its reply. ``unsolicited`` counts lines that nobody had asked for.
    ``on_lost`` is called, at most once per opening, when the link goes away while no exchange or drain is under way;
    otherwise those raise.
    """

    __slots__ = (
        "_asked", "_binary_len", "_body", "_bytes", "_call", "_drained", "_echo", "_echoes", "_end", "_end_seen", "_framer",
        "_heard_s", "_loop", "_lost", "_max_len", "_patience_s", "_quiet", "_reply_owed", "_waiter", "_wakeups", "calm_until_s",
        "due_s", "label", "on_healed", "on_lost", "raw", "unsolicited",
    )  # fmt: skip

    def __init__(self, label: str, *, raw: bool = False) -> None:
        self.label = label
        self.raw = raw
        self.unsolicited = 0
        self.on_lost: Callable[[LinkLost], None] | None = None
        self.on_healed: Callable[[str, int, str], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wakeups: Wakeups
        self._lost: tuple[str, str] | None = None
        self._end = CR
        self._framer = Framer(CR, HELD)
        self._asked: Ask | None = None
        self._max_len = 0
        self._patience_s = 0.0
        self._call = _Call(self)
        self._waiter: asyncio.Future[bytes] | _Call | None = None
        self._quiet: asyncio.TimerHandle | None = None
        self._end_seen = False
        self._body = b""
        self._echo = b""
        self._echoes: bool | None = None
        self._binary_len = 0
        self._bytes = b""
        self._reply_owed = False
        self._drained: int | None = None
        self._heard_s = 0.0
        self.due_s = self.calm_until_s = 0.0

    # --- what a kind of link provides

    byte_s = 0.0
    """Seconds one byte of a request needs on a wire whose speed we set; the deadline starts after the last one."""

    def _flush(self) -> None:
        """Throw away what has arrived. May raise OSError."""
        raise NotImplementedError

    def _write(self, data: bytes) -> int:
        """Send what can be sent without waiting; the number of bytes taken. May raise OSError."""
        raise NotImplementedError

    def _send(self, request: bytes) -> int:
        """Throw away what has arrived and send a request, as far as it is taken at once. May raise OSError."""
        self._flush()
        try:
            return self._write(request)
        except BlockingIOError:
            return 0

    async def _wait_writable(self, limit_s: float) -> None:
        """Return when the link may take more, at the latest after ``limit_s``."""
        await asyncio.sleep(min(limit_s, QUIET_S))

    def _unwatch(self) -> None:
        """Stop listening: the link is gone or being closed."""

    def _frame_by(self, *, raw: bool) -> None:
        """The framing changes: to ``self._end``, or to every byte as it comes. May raise OSError."""

    def look(self) -> None:
        """Hand over what has arrived by now."""

    def _unfinished(self) -> bytes:
        """Bytes that came since the last end byte. May raise OSError."""
        return self._framer.pending()

    # --- the contract of transports.base.Transport

    async def exchange(self, ask: Ask) -> bytes:
        """Send ``ask.request`` and return the one reply, without its end byte; see ``transports.base.Transport``."""
        loop = self._loop
        if loop is None or self._lost is not None:
            raise self._unusable()
        if self._waiter is not None:
            raise RuntimeError(f"{self.label}: a link carries one exchange at a time")
        if self._reply_owed:
            await self.drain()
        request = ask.request
        waiter: asyncio.Future[bytes] = asyncio.Future(loop=loop)
        self._waiter = waiter
        try:
            try:
                if ask is not self._asked:
                    self._prepare(ask)
                self._framer.reset()
                self._bytes = self._echo = b""
                sent = self._send(request)
                if sent < len(request):
                    await self._write_rest(request[sent:], waiter)
            except OSError as error:
                raise self._lose(reason_of(error)) from error
            self.due_s, self.calm_until_s = loop.time() + self._patience_s, 0.0
            self._wakeups.wait(self)
            return await waiter
        except asyncio.CancelledError:
            self._reply_owed = True
            raise
        finally:
            self._waiter = None
            self._wakeups.waiting.discard(self)
            if self._quiet is not None:
                self._quiet.cancel()
                self._quiet = None

    def start(self, ask: Ask, then: Callable[[bytes | BaseException], None], *, calm: bool = False) -> bool:
        """An exchange without a coroutine: ``then`` is called with what :meth:`exchange` would return or raise.

        False, and nothing was sent, where more is needed first than to send and to wait. Half of what an exchange costs is
        waking its coroutine; a poll that goes well needs none.
        """
        loop = self._loop
        if loop is None or self._lost is not None or self._waiter is not None or self._reply_owed:
            return False
        if ask is not self._asked:
            if ask.end != self._end:
                return False
            self._prepare(ask)
        request = ask.request
        call = self._waiter = self._call
        call.then = then
        try:
            self._framer.reset()
            self._bytes = self._echo = b""
            sent = self._send(request)
            if sent < len(request):
                call.rest = loop.create_task(self._write_rest(request[sent:], call))
        except LinkLost as error:
            call.set_exception(error)
            return True
        except OSError as error:
            call.set_exception(self._lose(reason_of(error)))
            return True
        now_s = loop.time()
        self.due_s = now_s + self._patience_s
        self.calm_until_s = now_s + CALM_S if calm and self.byte_s else 0.0
        self._wakeups.wait(self)
        return True

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Throw away bytes until none came for QUIET_S, the first for ``listen_s``; see ``transports.base.Transport``."""
        loop = self._loop
        if loop is None or self._lost is not None:
            raise self._unusable()
        self._drained, self._heard_s = len(self._framer.pending()), loop.time() + listen_s - QUIET_S
        limit = self._heard_s + DRAIN_S
        try:
            self._frame_by(raw=True)
            while True:
                wait_s = min(self._heard_s + QUIET_S, limit) - loop.time()
                if wait_s <= 0:
                    break
                await asyncio.sleep(wait_s)
                if self._loop is None or self._lost is not None:
                    raise self._unusable()
            self._frame_by(raw=self.raw or bool(self._binary_len))
            self._reply_owed = False
            return self._drained
        except LinkLost:
            raise
        except OSError as error:
            raise self._lose(reason_of(error)) from error
        finally:
            self._drained = None
            self._framer.reset()

    # --- for subclasses

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """The link is open."""
        self._loop = loop
        self._wakeups = Wakeups.join(loop)
        self._lost = None
        self._end_seen = self._reply_owed = False
        self._framer.reset()

    def _finish(self) -> None:
        """The link is closed; whoever waits for a reply learns it."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(self._lose("closed during an exchange"))
        if self._loop is not None:
            if self._lost is None:
                self._unwatch()
            self._wakeups.leave()
        self._loop = None

    def _received(self, chunk: bytes) -> None:
        """Bytes came."""
        call = self._call
        if self._waiter is call and not self.raw and not self._binary_len and not self._echo:
            frame = self._framer.only(chunk, self._max_len)
            if frame is not None and frame != self._body:
                self._end_seen, self._echoes = True, False
                call.set_result(frame)
                return
        if self._drained is not None:
            self._drained += len(chunk)
            self._heard_s = asyncio.get_running_loop().time()
            return
        waiter = self._waiter
        if self._binary_len and waiter is not None and not waiter.done():
            self._received_bytes(chunk, waiter)
            return
        frames = self._framer.feed(chunk)
        if frames and waiter is not None and not waiter.done():
            frames = self._without_echo(frames)
            if not frames:
                self._wait_quiet(ECHO_S, waiter)
                return
        if waiter is None or waiter.done():
            self.unsolicited += len(frames)
        elif frames:
            if len(frames) > 1:
                self.unsolicited += len(frames) - 1
            self._end_seen = True
            if self.raw:
                self._become(raw=False)
            self._settle(waiter, frames[0])
        elif len(pending := self._framer.pending()) > self._max_len:
            self._settle(waiter, pending)
        elif self.raw and pending:
            self._wait_quiet(QUIET_S, waiter)

    def _without_echo(self, frames: list[bytes]) -> list[bytes]:
        """Frames without an echo that a reply may follow; none where that is to be waited for."""
        if frames[0] != self._body or self._echo:
            if self._echoes is None:
                self._echoes = bool(self._echo)
            return frames
        if self._echoes is False:
            return frames
        self._echo = frames.pop(0)
        if frames:
            self._echoes = True
        return frames

    def _received_bytes(self, chunk: bytes, waiter: asyncio.Future[bytes] | _Call) -> None:
        """Bytes of a reply in which end bytes may be data came."""
        self._bytes += chunk
        if self._bytes[self._binary_len : self._binary_len + 1] == bytes((self._end,)):
            self._settle(waiter, self._bytes[: self._binary_len])
        elif len(self._bytes) > self._max_len:
            self._settle(waiter, self._bytes)
        else:
            self._wait_quiet(QUIET_S, waiter)

    def _wait_quiet(self, limit_s: float, waiter: asyncio.Future[bytes] | _Call) -> None:
        """Settle with what there is, unless more comes within ``limit_s``. A line that echoes is waited for to the end."""
        if self._quiet is not None:
            self._quiet.cancel()
            self._quiet = None
        if not (self._echo and self._echoes):
            self._quiet = asyncio.get_running_loop().call_later(limit_s, self._went_quiet, waiter)

    def _gone(self, reason: str, remedy: str = "") -> None:
        """The link went away by itself."""
        if self._lost is not None or self._loop is None:
            return
        error = self._lose(reason, remedy)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        elif self._drained is None and self.on_lost is not None:
            self.on_lost(error)

    # --- inside

    def _prepare(self, ask: Ask) -> None:
        """What is to be asked next is not what was asked before. May raise OSError."""
        if ask.end != self._end:
            self._end, self._framer = ask.end, Framer(ask.end, HELD)
            self._frame_by(raw=self.raw)
        if ask.binary_len != self._binary_len:
            self._binary_len = ask.binary_len
            self._frame_by(raw=self.raw or bool(ask.binary_len))
        self._asked, self._max_len, self._body = ask, ask.max_len, ask.request.rstrip(bytes((ask.end,)))
        self._patience_s = ask.deadline_s + len(ask.request) * self.byte_s

    def _unusable(self) -> LinkLost:
        return LinkLost(self.label, *(self._lost or ("not open", "")))

    def _lose(self, reason: str, remedy: str = "") -> LinkLost:
        if self._lost is None:
            self._lost = (reason, remedy)
            self._unwatch()
        return LinkLost(self.label, *self._lost)

    def _settle(self, waiter: asyncio.Future[bytes] | _Call, frame: bytes) -> None:
        self._wakeups.waiting.discard(self)
        if len(frame) > self._max_len:
            waiter.set_exception(ReplyMalformed("long", frame))
        else:
            waiter.set_result(frame)

    def _become(self, *, raw: bool) -> None:
        self.raw = raw
        try:
            self._frame_by(raw=raw)
        except OSError as error:
            self._gone(reason_of(error))

    def _went_quiet(self, waiter: asyncio.Future[bytes] | _Call) -> None:
        self._quiet = None
        self.look()
        if self._quiet is None and not waiter.done():
            self._settle(waiter, self._so_far())

    def _so_far(self) -> bytes:
        """What came up to now, an echo only where nothing else did."""
        if self._binary_len:
            return self._bytes.rstrip(bytes((self._end,)))
        return self._framer.pending() or self._echo

    def expire(self) -> None:
        """The deadline is over: a last look, then ReplyTimeout with what there is."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        self.look()
        if waiter.done():
            return
        try:
            frame = self._bytes if self._binary_len else self._unfinished()
        except OSError as error:
            self._gone(reason_of(error))
            return
        if len(frame) > self._max_len:
            waiter.set_exception(ReplyMalformed("long", frame))
        else:
            waiter.set_exception(ReplyTimeout("no end byte", frame) if frame else ReplyTimeout())
        if frame and not self.raw and not self._end_seen and not self._binary_len:
            self._become(raw=True)

    async def _write_rest(self, rest: bytes, waiter: asyncio.Future[bytes] | _Call) -> None:
        """The slow way: the link did not take the request at once. A loss ends it through ``waiter``."""
        loop = asyncio.get_running_loop()
        limit = loop.time() + WRITE_S
        while rest and not waiter.done():
            left_s = limit - loop.time()
            if left_s <= 0:
                self._gone(f"takes no data: {len(rest)} bytes unsent after {WRITE_S:g} s", "is the cable or the server stuck?")
                return
            await self._wait_writable(left_s)
            try:
                rest = rest[self._write(rest) :]
            except BlockingIOError:
                continue


class _Call:
    """Who waits for a reply without a coroutine; looks like the future that an exchange waits for."""

    __slots__ = ("_link", "rest", "then")

    def __init__(self, link: LineTransport) -> None:
        self._link = link
        self.then: Callable[[bytes | BaseException], None]
        self.rest: asyncio.Task[None] | None = None
        """Sends what the link did not take at once."""

    def done(self) -> bool:
        return self._link._waiter is not self

    def set_result(self, answer: bytes | BaseException) -> None:
        link = self._link
        link._waiter = None
        link._wakeups.waiting.discard(link)
        if link._quiet is not None:
            link._quiet.cancel()
            link._quiet = None
        if self.rest is not None:
            self.rest.cancel()
            self.rest = None
        self.then(answer)

    def set_exception(self, error: BaseException) -> None:
        self.set_result(error)


def reason_of(error: OSError) -> str:
    """The system's own words for an error, for messages."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
