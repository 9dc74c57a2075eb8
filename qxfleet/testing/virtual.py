"""An event loop with a time of its own: hours of scenario in a second, or the pace of real time and any multiple of it.

Time goes on only where the loop waits. What it computes takes none, so a busy machine makes nothing late.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store.store import Store

T = TypeVar("T")


class VirtualLoop(asyncio.SelectorEventLoop):
    """Goes on to the next timer whenever nothing else is ready, at ``speed`` times real time at most; descriptors are served.

    Without ``speed`` it jumps. TimeoutError once it has run for ``longest_s`` of real time.
    """

    def __init__(self, speed: float = math.inf, longest_s: float = math.inf) -> None:
        self._now_s = 1000.0
        self._held = 0
        super().__init__(_VirtualSelector(self, speed, longest_s))
        self._clock_resolution = 1e-6  # beyond 194 days a nanosecond is less than a float can tell: timers would never be due

    def time(self) -> float:
        """Seconds of its own."""
        return self._now_s

    def jump(self, seconds: float) -> None:
        """Let time pass at once."""
        self._now_s += seconds

    @property
    def held(self) -> bool:
        """Whether time stands."""
        return self._held > 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let time stand while something real is waited for, such as another thread."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1


class _VirtualSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop, speed: float, longest_s: float) -> None:
        super().__init__()
        self._loop, self._speed = loop, speed
        self._began_s, self._longest_s = time.monotonic(), longest_s
        self._due_s = self._began_s
        """The real time at which the loop's own time may be what it is."""

    def select(self, timeout: float | None = None) -> Any:
        now_s = time.monotonic()
        if now_s - self._began_s > self._longest_s:
            raise TimeoutError(f"ran for {self._longest_s:.0f} s of real time; it is at {self._loop.time():.0f} s of its own")
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready if ready or timeout is not None else super().select(None)
        if self._loop.held:
            return super().select(0.05)
        if math.isinf(self._speed):
            self._loop.jump(timeout)
            return []
        self._due_s = max(self._due_s, now_s - 1.0)  # what a busy or sleeping machine lost is not made up for at a rush
        wait_s = self._due_s + timeout / self._speed - now_s
        ready = super().select(wait_s) if wait_s > 0 else []
        passed_s = min(max((time.monotonic() - self._due_s) * self._speed, 0.0), timeout) if ready else timeout
        self._due_s += passed_s / self._speed
        self._loop.jump(passed_s)
        return ready


class VirtualClock(Clock):
    """Monotonic time of a virtual loop; wall time runs beside it from a fixed date, and can be set."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_us: int = 1_790_000_000_000_000) -> None:
        self._loop = loop
        self._offset_us = wall_us - int(loop.time() * 1e6)
        self.up_since_s = -math.inf

    def booted_s(self) -> float:
        """As set."""
        return self.up_since_s

    def monotonic(self) -> float:
        """The loop's time."""
        return self._loop.time()

    def wall_us(self) -> int:
        """The fixed date, and what has passed since."""
        return self._offset_us + int(self._loop.time() * 1e6)

    def set_wall(self, by_s: float) -> None:
        """Set the wall clock forward, or back."""
        self._offset_us += int(by_s * 1e6)


class TimelessStore(Store):
    """A real store on a virtual loop: what its thread needs to write takes no time there."""

    async def order_intent(self, *args: Any, **kwargs: Any) -> int:
        """As the store's."""
        with _virtual_loop().hold():
            return await super().order_intent(*args, **kwargs)

    async def order_outcome(self, *args: Any, **kwargs: Any) -> None:
        """As the store's."""
        with _virtual_loop().hold():
            await super().order_outcome(*args, **kwargs)

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        """As the store's."""
        with _virtual_loop().hold():
            return await super().commit(*args, **kwargs)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        """As the store's."""
        with _virtual_loop().hold():
            return await super().read(*args, **kwargs)

    async def record_now(self, *events: Event) -> None:
        """As the store's."""
        with _virtual_loop().hold():
            await super().record_now(*events)

    async def close(self) -> None:
        """As the store's."""
        with _virtual_loop().hold():
            await super().close()


def _virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run_virtual(main: Coroutine[Any, Any, T], speed: float = math.inf, longest_s: float = math.inf) -> T:
    """Run a coroutine on a fresh virtual loop. Ctrl-C cancels it, and KeyboardInterrupt is raised once it has ended."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(speed, longest_s)) as runner:
        return runner.run(main)
