"""Waking up is what a poll costs: what all links of one event loop share, so that one wake-up serves many."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol

COMPANY: Final = 2
"""With this many replies still outstanding, one that arrives is likely to be followed by more soon."""

COMPANY_S: Final = 0.01
"""How long those may then wait for each other. A reply takes 200 ms on a 2400 baud line: it is known at most 5 % later."""

EARLY_S: Final = 0.001
"""Deadlines this close together expire together."""


class Waiting(Protocol):
    """A link that waits for a reply until loop time ``due_s``."""

    due_s: float

    def expire(self) -> None:
        """The reply did not come in time."""


class Wakeups:
    """Readiness and deadlines of the links open on one event loop.

    Descriptors sit behind one of our own (epoll in epoll), so that with replies enough outstanding the loop can look the
    other way for COMPANY_S and take many at once. Deadlines share one timer: nearly all of them are over before
    they are due, and a timer each would cost more than reading the reply does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting: set[Waiting] = set()
        self._loop = loop
        self._links = 0
        self._readers: dict[int, Callable[[], None]] = {}
        self._links_epoll = select.epoll()
        self._gate_epoll = select.epoll()
        self._gate_epoll.register(self._links_epoll, select.EPOLLIN)
        self._pause: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        loop.add_reader(self._gate_epoll, self._wake)

    @classmethod
    def join(cls, loop: asyncio.AbstractEventLoop) -> Wakeups:
        """The one of ``loop``; each opened link joins, and leaves when it closes."""
        if (wakeups := _of_loop.get(loop)) is None:
            wakeups = _of_loop[loop] = cls(loop)
        wakeups._links += 1
        return wakeups

    def leave(self) -> None:
        """A link has closed; the last one to leave takes everything down."""
        self._links -= 1
        if self._links:
            return
        del _of_loop[self._loop]
        for timer in (self._pause, self._timer):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._gate_epoll)
        self._gate_epoll.close()
        self._links_epoll.close()

    def watch(self, fd: int, readable: Callable[[], None]) -> None:
        """Call ``readable`` whenever ``fd`` has something to read, or its other side is gone."""
        self._links_epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = readable

    def unwatch(self, fd: int) -> None:
        """Forget ``fd``, before it is closed."""
        if self._readers.pop(fd, None) is not None:
            self._links_epoll.unregister(fd)

    def wait(self, link: Waiting) -> None:
        """Call ``link.expire`` when it is due, unless it has left ``waiting`` by then."""
        self.waiting.add(link)
        if self._timer is None or link.due_s < self._timer_s:
            self._set_timer(link.due_s)

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._sweep)
        self._timer_s = at_s

    def _sweep(self) -> None:
        self._timer = None
        now_s = self._loop.time() + EARLY_S
        for link in [link for link in self.waiting if link.due_s <= now_s]:
            self.waiting.discard(link)
            link.expire()
        if self.waiting:
            self._set_timer(min(link.due_s for link in self.waiting))

    def _wake(self) -> None:
        if len(self.waiting) >= COMPANY:
            self._gate_epoll.unregister(self._links_epoll)
            self._pause = self._loop.call_later(COMPANY_S, self._look_again)
        else:
            self._take()

    def _look_again(self) -> None:
        self._pause = None
        self._take()
        self._gate_epoll.register(self._links_epoll, select.EPOLLIN)

    def _take(self) -> int:
        ready = self._links_epoll.poll(0)
        for fd, _ in ready:
            if (readable := self._readers.get(fd)) is not None:
                readable()
        return len(ready)


_of_loop: dict[asyncio.AbstractEventLoop, Wakeups] = {}
