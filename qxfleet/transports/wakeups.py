"""Waking up is what a poll costs: what all links of one event loop share, so that one wake-up serves many."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

COMPANY: Final = 2
"""With this many replies still outstanding, one that arrives is likely to be followed by more soon."""

COMPANY_S: Final = 0.01
"""How long those may then wait for each other. A reply takes 200 ms on a 2400 baud line: it is known at most 5 % later."""

CALM_S: Final = 0.23
"""So long after a request at 2400 baud that nobody is in a hurry about, its reply is looked for: it takes 0.21 s in any case, and
is taken with those of all others that were asked at the same time."""

EARLY_S: Final = 0.001
"""Deadlines this close together expire together."""


class Waiting(Protocol):
    """A link that waits for a reply until loop time ``due_s``, and need not be looked at before ``calm_until_s``."""

    due_s: float
    calm_until_s: float

    def look(self) -> None:
        """Hand over what has arrived by now."""

    def expire(self) -> None:
        """The reply did not come in time."""


class Wakeups:
    """Readiness and deadlines of the links open on one event loop.

    Descriptors sit behind one of our own (epoll in epoll), so that with replies enough outstanding the loop can look the
    other way for COMPANY_S and take many at once; while none of them is wanted soon, for CALM_S. Deadlines share one timer:
    nearly all of them are over before they are due, and a timer each would cost more than reading the reply does.
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
        self._calm = False
        self._looked_s = self._took_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = inf
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
        if self._calm:
            if not link.calm_until_s:
                self._open()
        elif link.calm_until_s and self._pause is None and len(self.waiting) == 1:
            self._stay_calm(link.calm_until_s)
        elif link.due_s < self._timer_s:
            self._set_timer(link.due_s)

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._sweep)
        self._timer_s = at_s

    def _sweep(self) -> None:
        self._timer, self._timer_s = None, inf
        now_s = self._loop.time() + EARLY_S
        for link in [link for link in self.waiting if link.due_s <= now_s]:
            self.waiting.discard(link)
            link.expire()
        if self.waiting:
            self._set_timer(min(link.due_s for link in self.waiting))

    def _wake(self) -> None:
        if self._pause is not None:
            return
        gathered = self._took_s - self._looked_s >= COMPANY_S and self._loop.time() - self._took_s < EARLY_S
        if len(self.waiting) >= COMPANY and not gathered:  # else they had that time while the ones before were taken
            self._gate_epoll.modify(self._links_epoll, 0)
            self._pause = self._loop.call_later(COMPANY_S, self._look_again)
        else:
            self._take()

    def _look_again(self) -> None:
        waiting, now_s = self.waiting, self._loop.time() + EARLY_S
        if self._calm:
            for link in [link for link in waiting if link.calm_until_s <= now_s]:
                link.look()  # asking the kernel first which of them can be read costs as much as reading
        else:
            self._take()
        calm_until_s = min((link.calm_until_s for link in waiting), default=0.0)
        if calm_until_s > now_s:
            self._stay_calm(calm_until_s)
        else:
            self._open()

    def _stay_calm(self, until_s: float) -> None:
        """Look at nothing until then. The gate is shut here, whoever opened it: open, it would wake the loop again and again."""
        self._calm = True
        self._gate_epoll.modify(self._links_epoll, 0)
        self._pause = self._loop.call_at(until_s, self._look_again)

    def _open(self) -> None:
        """No longer calm: replies are taken as they come, and their deadlines watched."""
        self._calm = False
        due_s = min((link.due_s for link in self.waiting), default=inf)
        if due_s < self._timer_s:
            self._set_timer(due_s)
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        self._gate_epoll.modify(self._links_epoll, select.EPOLLIN)

    def _take(self) -> None:
        self._looked_s = self._loop.time()
        for fd, _ in self._links_epoll.poll(0):
            if (readable := self._readers.get(fd)) is not None:
                readable()
        self._took_s = self._loop.time()


_of_loop: dict[asyncio.AbstractEventLoop, Wakeups] = {}
