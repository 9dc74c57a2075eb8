"""The only source of time, so that tests own it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """Monotonic time for every decision, wall time for labels only."""

    def monotonic(self) -> float:
        """Seconds that only go forward; the same scale as the event loop's ``time()``."""
        return time.monotonic()

    def booted_s(self) -> float:
        """The monotonic time at which this machine began to run: Linux counts from there."""
        return 0.0

    def wall_us(self) -> int:
        """UTC as microseconds since 1970."""
        return time.time_ns() // 1000


def from_us(wall_us: int) -> datetime:
    """UTC datetime of a wall time in microseconds."""
    return datetime.fromtimestamp(wall_us / 1_000_000, UTC)


def iso(wall_us: int) -> str:
    """ISO 8601 with milliseconds and ``Z``, as every interface prints time."""
    return from_us(wall_us).strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_us % 1_000_000 // 1000:03d}Z"
