"""What the log looks like: one line an entry whatever is in it, and a flood of the same kind told by a count."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import TextIO

from qxfleet.model.printable import printable

ONCE_IN_S = 10.0
"""One line of a kind is written in this time; how many more there were is told by the first line of any kind after it."""

MOST_KINDS = 1000
ALL_OF = frozenset({"qxfleet", "qxfleet.events"})
"""Loggers whose every line is written: what the service itself says, and what UPSes do. No client makes these."""


class Lines(logging.Formatter):
    """UTC, level, logger, message; tracebacks of our own errors keep their lines."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a message, before a traceback is put behind it."""
        record.message = printable(record.message)
        return super().formatMessage(record)


class Log(logging.StreamHandler[TextIO]):
    """Writes a line of a kind at most once in ten seconds. A kind is a logger and its message before the values are in it."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.setFormatter(Lines())
        self._clock = clock
        self._kinds: dict[tuple[str, str], Kind] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write it, or count it."""
        if record.name in ALL_OF:
            return super().emit(record)
        now_s = self._clock()
        for name in [name for name, kind in self._kinds.items() if now_s - kind.since_s >= ONCE_IN_S]:
            kind = self._kinds.pop(name)
            if kind.left_out:
                super().emit(kind.sum())
        known = self._kinds.get((record.name, str(record.msg)))
        if known is not None:
            known.left_out, known.last = known.left_out + 1, record
        elif len(self._kinds) < MOST_KINDS:
            self._kinds[record.name, str(record.msg)] = Kind(now_s)
            super().emit(record)


def set_up(level: str) -> None:
    """Log to stderr from ``level`` on."""
    logging.basicConfig(level=level, handlers=[Log()])
    for chatty in ("apscheduler", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@dataclass(slots=True)
class Kind:
    """Lines of one kind since one was written."""

    since_s: float
    left_out: int = 0
    last: logging.LogRecord | None = None

    def sum(self) -> logging.LogRecord:
        """The last one, and how many went before it."""
        assert self.last is not None
        more = copy(self.last)
        more.msg, more.args, more.exc_info, more.exc_text = f"{self.last.getMessage()}{self._others()}", (), None, None
        return more

    def _others(self) -> str:
        return f" (and {self.left_out - 1} more like this)" if self.left_out > 1 else ""
