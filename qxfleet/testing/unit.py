"""A simulated UPS on the wire, whatever it speaks: its name, its machine, and what can be wrong with it."""

from __future__ import annotations

import abc
import enum
import random
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from qxfleet.dialects.spec import Dialect
from qxfleet.testing.machine import Machine


class Fault(enum.Enum):
    """What can be wrong with a simulated UPS. Those in :data:`FAULT_VALUES` take a value."""

    SILENT = "silent"
    """Hears nothing, says nothing, does nothing."""
    GARBAGE = "garbage"
    """Bytes above 0x7F with a CR behind."""
    LATE = "late"
    """Every reply so many seconds late."""
    WRONG = "wrong"
    """The answer of the query before."""
    ECHO = "echo"
    """Everything comes back; nothing is carried out."""
    LOST_CR = "lost-cr"
    """Replies without their CR (NUT issue 608)."""
    NUL_BIT = "nul-bit"
    """NUL in place of this status bit, 0 the first, where it would be ``0`` (quirks.md, Framing)."""
    FROZEN = "frozen"
    """The same status frame for ever (quirks.md, Q1)."""
    ZERO = "zero"
    """A status frame of zeros (quirks.md, Q1: bridge not initialised)."""
    STUCK_SHUTDOWN_BIT = "stuck-shutdown-bit"
    STUCK_BEEPER = "stuck-beeper"
    DEAD_BATTERY = "dead-battery"
    """The battery collapses so many seconds after it took the load."""
    ACK_BUT_IGNORE = "ack-but-ignore"
    """Orders are answered as carried out, and are not."""
    REFUSE = "refuse"
    """Requests that match this pattern (``T``, ``S*``) are refused, for as long as the fault lasts."""
    REFUSE_ONCE = "refuse-once"
    """The next request that matches is refused (quirks.md: a PI01 unit did so once in 12 tries)."""
    NO_RATING = "no-rating"
    NO_VENDOR = "no-vendor"
    SLOW_FIRST = "slow-first"
    """The first reply after plugging in takes so many seconds (NUT issue 3282)."""
    TEST_RAISES_UTILITY_FAIL = "test-raises-utility-fail"
    """Status bit b7 is set during a battery test (megatec-family.md section 4.3)."""


FAULT_VALUES: Mapping[Fault, str | None] = {
    Fault.LATE: "1.5", Fault.NUL_BIT: "3", Fault.DEAD_BATTERY: "5", Fault.SLOW_FIRST: "2.5",
    Fault.REFUSE: None, Fault.REFUSE_ONCE: None,
}  # fmt: skip
"""Faults that take a value, and the value if none is given; None: one must be given."""


class Unit(abc.ABC):
    """One simulated UPS: requests in, replies out, and the :attr:`machine` that does what its orders say.

    ``think_s`` seconds pass before every reply. The unit's time begins with the first ``now_s`` it is given.
    """

    def __init__(
        self,
        dialect: Dialect,
        machine: Machine,
        *,
        name: str,
        seed: int,
        groups: tuple[str, ...],
        description: str,
        think_s: float,
    ) -> None:
        self.dialect = dialect
        self.machine = machine
        self.name = name
        self.groups = groups
        self.description = description
        self.faults: dict[Fault, str] = {}
        self.delay_s = 0.0
        """Seconds by which the last answer is to be held back."""
        self._think_s = think_s
        self._rng = random.Random(seed)
        self._answered = False
        self._last: bytes | None = None
        self._frozen: bytes | None = None

    @abc.abstractmethod
    def status_bits(self) -> str:
        """The characters of the status frame's bits, the first one first."""

    @abc.abstractmethod
    def _truth(self, request: bytes) -> bytes | None:
        """What a healthy unit says to ``request``, after carrying it out; CR included, None for silence."""

    @abc.abstractmethod
    def _refusal(self, request: bytes) -> bytes | None:
        """What this unit says to what it does not know or can't do."""

    def answer(self, request: bytes, now_s: float) -> bytes | None:
        """The reply to ``request`` (CR included, both ways), None for silence; carries orders out.

        ``now_s`` is seconds on any clock that only goes forward. :attr:`delay_s` says how late the reply is to be sent.
        """
        self.machine.advance(now_s)
        faults = self.faults
        self.delay_s = self._think_s
        if Fault.SILENT in faults or self.machine.dark:
            return None
        if Fault.LATE in faults:
            self.delay_s += float(faults[Fault.LATE])
        if Fault.SLOW_FIRST in faults and not self._answered:
            self.delay_s += float(faults[Fault.SLOW_FIRST])
        self._answered = True
        if Fault.ECHO in faults:
            return request
        if Fault.GARBAGE in faults:
            return bytes(self._rng.randrange(0x80, 0x100) for _ in range(self._rng.randrange(4, 40))) + b"\r"
        reply = (self._refusal(request) or b"NAK\r") if self._refuses(request) else self._truth(request)
        if Fault.WRONG in faults:
            reply, self._last = self._last, reply
        else:
            self._last = reply
        return reply[:-1] if reply and Fault.LOST_CR in faults else reply

    def plugged_in(self) -> None:
        """The line was connected anew: the next reply is the first."""
        self._answered = False

    # -- faults ------------------------------------------------------------------------------------------------------

    def set_fault(self, fault: Fault, value: str = "") -> None:
        """Break the unit in this way. ``ValueError`` says what is wrong with ``value``."""
        if fault in FAULT_VALUES:
            value = value or FAULT_VALUES[fault] or ""
            if not value:
                raise ValueError(f"{fault.value} needs the request to refuse, like T or S*")
            last = len(self.status_bits()) - 1
            if fault is Fault.NUL_BIT and value not in map(str, range(last + 1)):
                raise ValueError(f"{fault.value} takes a status bit from 0 (the first) to {last}, not {value!r}")
            if fault in (Fault.LATE, Fault.DEAD_BATTERY, Fault.SLOW_FIRST) and not _is_seconds(value):
                raise ValueError(f"{fault.value} takes seconds from 0 to 3600, not {value!r}")
        elif value:
            raise ValueError(f"{fault.value} takes no value")
        self.faults[fault] = value
        if fault is Fault.DEAD_BATTERY:
            self.machine.battery.fails_after_s = float(value)

    def clear_fault(self, fault: Fault | None = None) -> None:
        """Repair one fault, or all of them."""
        cleared = tuple(self.faults) if fault is None else (fault,)
        for one in cleared:
            self.faults.pop(one, None)
        if Fault.FROZEN in cleared:
            self._frozen = None
        if Fault.DEAD_BATTERY in cleared:
            self.machine.battery.fails_after_s = None

    def _refuses(self, request: bytes) -> bool:
        text = request.rstrip(b"\r").decode("latin-1")
        if Fault.REFUSE in self.faults and fnmatchcase(text, self.faults[Fault.REFUSE]):
            return True
        if Fault.REFUSE_ONCE in self.faults and fnmatchcase(text, self.faults[Fault.REFUSE_ONCE]):
            self.clear_fault(Fault.REFUSE_ONCE)
            return True
        return False

    def _as_broken(self, status: bytes) -> bytes:
        """The status frame as the faults leave it; its bits are its last word."""
        if self._frozen is not None:
            return self._frozen
        if Fault.ZERO in self.faults:
            status = re.sub(rb"\d", b"0", status)
        if Fault.NUL_BIT in self.faults:
            place = status.rindex(b" ") + 1 + int(self.faults[Fault.NUL_BIT])
            if status[place : place + 1] == b"0":
                status = status[:place] + b"\0" + status[place + 1 :]
        if Fault.FROZEN in self.faults:
            self._frozen = status
        return status


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) <= 3600
    except ValueError:
        return False
