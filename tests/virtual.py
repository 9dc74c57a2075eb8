"""An event loop whose time is advanced by hand: hours of scenario in a second of test."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from qxfleet.model.clock import Clock


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer whenever nothing else is ready; descriptors are still served."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self._now_s

    def jump(self, seconds: float) -> None:
        self._now_s += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready if ready or timeout is not None else super().select(None)
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


def run_virtual(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a fresh virtual loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
