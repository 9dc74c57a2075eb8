"""What an agent remembers of one device across openings: remedies used, resets left, whether it answers at all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

RESETS_PER_HOUR: Final = 4

REMEDIES: Final = ("drains", "repeats", "halts-cleared", "reopens", "resets")
"""The ladder, from below: throw away what an earlier command left behind, ask again (the session does, and only queries), clear
a stalled endpoint, open anew, reset the device."""


class Care:
    """Counts every remedy and says whether the next may be tried. ``told`` gets remedy, count and a sentence for people."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(REMEDIES, 0)
        self.told: Callable[[str, int, str], None] | None = None
        self.answered = False
        self.openings_in_vain = 0
        self._resets_s: deque[float] = deque(maxlen=RESETS_PER_HOUR)

    def used(self, remedy: str, text: str = "") -> None:
        """A remedy was used; without a text it is counted only."""
        self.counts[remedy] += 1
        if text and self.told is not None:
            self.told(remedy, self.counts[remedy], text)

    def well(self) -> None:
        """A reply came."""
        self.answered, self.openings_in_vain = True, 0

    def may_reset(self) -> bool:
        """Whether one more reset is allowed now; asking takes it."""
        now_s = time.monotonic()
        if len(self._resets_s) == RESETS_PER_HOUR and now_s - self._resets_s[0] < 3600.0:
            return False
        self._resets_s.append(now_s)
        return True

    def reset_at_opening(self) -> bool:
        """Whether opening alone was tried in vain, on a device that did answer before; opening is then tried afresh."""
        if not (self.answered and self.openings_in_vain > 0 and self.may_reset()):
            return False
        self.openings_in_vain = 0
        return True

    def __str__(self) -> str:
        return ", ".join(f"{count} {remedy.replace('-', ' ')}" for remedy, count in self.counts.items() if count)
