"""Bad lines on purpose: faults between a device and whoever asks it, over any transport or on a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import random
import select
import threading
import time
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from qxfleet.errors import LinkLost, LinkUnavailable, ReplyTimeout
from qxfleet.model.wire import CR, REPLY_S, Ask
from qxfleet.transports.base import LinkInfo, Transport
from qxfleet.transports.inproc import InProcTransport

END = bytes((CR,))

Device = Callable[[bytes], bytes | None]
"""Request as sent → reply with its end byte; None is silence."""


@dataclass
class Fault:
    """What the line makes of a reply, and how late. This one changes nothing."""

    delay_s: float = field(default=0.0, kw_only=True)

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        """The bytes that arrive instead of ``reply``; None is silence."""
        return reply


class Slow(Fault):
    """Whole replies, ``delay_s`` late."""


class Silent(Fault):
    """Nothing comes back."""

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        return None


class Echoing(Fault):
    """The request comes back before the reply."""

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        return request + (reply or b"")


class NoEnd(Fault):
    """Replies without end byte (quirks.md, Framing: "no CR at all, frame otherwise whole")."""

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        return reply and reply.removesuffix(END)


@dataclass
class Lossy(Fault):
    """Each reply is lost with probability ``replies``, each of its bytes with probability ``single``."""

    replies: float = 0.1
    single: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        if reply is None or self._random.random() < self.replies:
            return None
        return bytes(byte for byte in reply if self._random.random() >= self.single)


@dataclass
class Noisy(Fault):
    """One to ``most`` stray bytes, none of them an end byte, before each reply."""

    most: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        return _stray(self._random, self._random.randint(1, self.most)) + (reply or b"")


@dataclass
class Garbage(Fault):
    """As many stray bytes as the reply had, ended like a reply."""

    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        return reply and _stray(self._random, len(reply) - 1) + END


@dataclass
class Wrong(Fault):
    """Each request is answered with the reply to the one before; the first with nothing."""

    _held: bytes | None = field(default=None, init=False)

    def spoil(self, request: bytes, reply: bytes | None) -> bytes | None:
        before, self._held = self._held, reply
        return before


def spoiled(faults: Sequence[Fault], request: bytes, reply: bytes | None) -> tuple[bytes | None, float]:
    """What is left of ``reply`` after all ``faults``, and how many seconds it is late."""
    for fault in faults:
        reply = fault.spoil(request, reply)
    return reply, sum(fault.delay_s for fault in faults)


def _stray(source: random.Random, count: int) -> bytes:
    return bytes(byte if byte != CR else 0xFF for byte in source.randbytes(count))


class FaultyTransport(InProcTransport):
    """Another transport behind a bad line. ``faults`` may be changed at any time; the inner link stays well."""

    def __init__(self, inner: Transport, *faults: Fault) -> None:
        super().__init__(inner.label, self._ask)
        self.faults: list[Fault] = list(faults)
        self._inner = inner
        self._inner_free = asyncio.Lock()
        self._deadline_s = REPLY_S
        self._plugged = True

    async def open(self) -> LinkInfo:
        """Open both. Raises LinkUnavailable while unplugged."""
        if not self._plugged:
            raise LinkUnavailable(self.label, "no such port", "is the adapter plugged in?")
        info = await self._inner.open()
        await super().open()
        return info

    async def close(self) -> None:
        """Close both."""
        await super().close()
        await self._inner.close()

    async def exchange(self, ask: Ask) -> bytes:
        """One exchange over both."""
        self._deadline_s = ask.deadline_s
        return await super().exchange(ask)

    def unplug(self) -> None:
        """Cut the link: whoever uses it learns it at once."""
        self._plugged = False
        self._gone("hung up", "is the adapter still plugged in?")

    def plug(self) -> None:
        """Let it be opened again."""
        self._plugged = True

    async def _ask(self, request: bytes) -> bytes | None:
        try:
            async with self._inner_free:
                reply: bytes | None = await self._inner.exchange(Ask(request, self._deadline_s)) + END
        except ReplyTimeout as silence:
            reply = silence.frame or None
        except LinkLost as loss:
            self._gone(loss.reason, loss.remedy)
            return None
        reply, delay_s = spoiled(self.faults, request, reply)
        if delay_s:
            await asyncio.sleep(delay_s)
        return reply


class PtyLine:
    """A device on a real pseudo-terminal, served by a thread, so that it lives on whatever the loop under test does.

    ``path`` is a link to the terminal and stays the same from one plugging in to the next; the terminal behind it is a
    new one each time, as with a USB adapter. ``faults`` may be changed at any time. ``requests`` holds what was asked.
    """

    def __init__(self, path: Path | str, device: Device, *faults: Fault) -> None:
        self.path = str(path)
        self.device = device
        self.faults: list[Fault] = list(faults)
        self.requests: list[bytes] = []
        self._served: _Served | None = None

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug(self) -> None:
        """Make a terminal and link ``path`` to it."""
        if self._served is None:
            self._served = _Served(self)
            Path(self.path).symlink_to(self._served.terminal)

    def unplug(self) -> None:
        """Take the terminal away: whoever has it open is hung up, and ``path`` is gone."""
        if self._served is not None:
            served, self._served = self._served, None
            with contextlib.suppress(FileNotFoundError):
                Path(self.path).unlink()
            served.stop()

    def say(self, chunk: bytes, after_s: float = 0.0) -> None:
        """Have the device send bytes that nobody asked for."""
        if self._served is not None:
            self._served.send(chunk, after_s)


class _Served:
    """One terminal from plugging in to unplugging."""

    def __init__(self, line: PtyLine) -> None:
        self._line = line
        self._master, self._slave = os.openpty()
        self._wake_read, self._wake_write = os.pipe()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.terminal = os.ttyname(self._slave)
        self._due: list[tuple[float, int, bytes]] = []
        self._count = itertools.count()
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name=f"device {line.path}", daemon=True)
        self._thread.start()

    def send(self, chunk: bytes, after_s: float) -> None:
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + after_s, next(self._count), chunk))
        os.write(self._wake_write, b"!")

    def stop(self) -> None:
        self._stopping = True
        os.write(self._wake_write, b"!")
        self._thread.join()

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        heard = b""
        try:
            while not self._stopping:
                for fd, _ in poller.poll(self._send_due()):
                    if fd == self._wake_read:
                        os.read(fd, 64)
                        continue
                    *requests, heard = (heard + os.read(fd, 4096)).split(END)
                    for request in requests:
                        self._answer(request + END)
        finally:
            for fd in (self._master, self._slave, self._wake_read, self._wake_write):
                os.close(fd)

    def _answer(self, request: bytes) -> None:
        self._line.requests.append(request)
        reply, delay_s = spoiled(self._line.faults, request, self._line.device(request))
        if reply:
            self.send(reply, delay_s)

    def _send_due(self) -> float | None:
        """Send what is due; milliseconds until there is more to do."""
        with self._lock:
            while self._due and self._due[0][0] <= time.monotonic():
                with contextlib.suppress(BlockingIOError):  # nobody reads: the bytes are lost, as on a wire
                    os.write(self._master, heapq.heappop(self._due)[2])
            return max(1.0, (self._due[0][0] - time.monotonic()) * 1000) if self._due else None
