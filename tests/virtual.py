"""The virtual loop as tests use it: no story takes for ever."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from qxfleet.testing import virtual
from qxfleet.testing.virtual import TimelessStore, VirtualClock, VirtualLoop

__all__ = ["TimelessStore", "VirtualClock", "VirtualLoop", "run_virtual"]

STORY_S = 7000.0 if os.environ.get("QXFLEET_SOAK") == "1" else 100.0
"""Real time one story may take: asyncio swallows what a test's own time limit raises inside a callback; this it does not."""


def run_virtual(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a fresh virtual loop."""
    return virtual.run_virtual(main, longest_s=STORY_S)
