"""Long work on the loop, in turns with everything else.

A thread is no help here: it would take the interpreter's lock at every read and write of a poll, and give it back milliseconds
later. Work that gives way by itself delays a poll by one turn at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

TURN_S = 0.003
"""Work done before others have their turn."""


async def in_turns(pieces: Iterable[T]) -> list[T]:
    """Everything an iterator gives; between two pieces the loop goes on with whatever else is due."""
    found: list[T] = []
    end_s = time.monotonic() + TURN_S
    for piece in pieces:
        found.append(piece)
        if time.monotonic() >= end_s:
            await asyncio.sleep(0)
            end_s = time.monotonic() + TURN_S
    return found
