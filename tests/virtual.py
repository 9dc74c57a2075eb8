"""An event loop whose time is advanced by hand: hours of scenario in a second of test."""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from qxfleet.model.clock import Clock
from qxfleet.model.events import Event
from qxfleet.store.store import Store

STORY_S = 7000.0 if os.environ.get("QXFLEET_SOAK") == "1" else 100.0
"""Real time one story may take: asyncio swallows what a test's own time limit raises inside a callback; this it does not."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever nothing else is ready; descriptors are still served."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._held = 0
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-6  # beyond 194 days a nanosecond is less than a float can tell: timers would never be due

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float) -> None:
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


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._deadline_s = time.monotonic() + STORY_S

    def select(self, timeout: float | None = None) -> Any:
        if time.monotonic() > self._deadline_s:
            raise TimeoutError(f"the story ran for {STORY_S:.0f} s of real time; it is at {self._loop.time():.0f} s of its own")
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready if ready or timeout is not None else super().select(None)
        if self._loop.held:
            return super().select(0.05)
        self._loop.jump(timeout)
        return []


class VirtualClock(Clock):
    """Monotonic time of a virtual loop; wall time runs beside it from a fixed date, and can be set."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall_us: int = 1_790_000_000_000_000) -> None:
        self._loop = loop
        self._offset_us = wall_us - int(loop.time() * 1e6)

    def monotonic(self) -> float:
        return self._loop.time()

    def wall_us(self) -> int:
        return self._offset_us + int(self._loop.time() * 1e6)

    def set_wall(self, by_s: float) -> None:
        self._offset_us += int(by_s * 1e6)


class TimelessStore(Store):
    """A real store on a virtual loop: what its thread needs to write takes no time there."""

    async def order_intent(self, *args: Any, **kwargs: Any) -> int:
        with _virtual_loop().hold():
            return await super().order_intent(*args, **kwargs)

    async def order_outcome(self, *args: Any, **kwargs: Any) -> None:
        with _virtual_loop().hold():
            await super().order_outcome(*args, **kwargs)

    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        with _virtual_loop().hold():
            return await super().commit(*args, **kwargs)

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        with _virtual_loop().hold():
            return await super().read(*args, **kwargs)

    async def record_now(self, *events: Event) -> None:
        with _virtual_loop().hold():
            await super().record_now(*events)

    async def close(self) -> None:
        with _virtual_loop().hold():
            await super().close()


def _virtual_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def run_virtual(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a fresh virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
