"""A simulated UPS: the physics of :mod:`.machine` speaking a dialect's own tables. No I/O, no clock of its own."""

from __future__ import annotations

import enum
import random
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from qxfleet.dialects.spec import AnswerStyle, Arg, Dialect, Form, Holds, Order, Query, Style, Topic
from qxfleet.model.reading import Value
from qxfleet.testing.machine import QUICK_TEST_S, Machine, Ratings, Returns


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


class Unknown(enum.Enum):
    """What a unit says to a string it does not know (megatec-family.md section 8)."""

    ECHO = "echo"
    SILENCE = "silence"
    N = "N"
    NAK = "NAK"
    BRACKET_NAK = "(NAK"


_STYLES = {
    Style.TENTHS_OR_MINUTES: r"(\.[2-9]|0[1-9]|10)",
    Style.MINUTES_2: r"(0[1-9]|[1-9]\d)",
    Style.MINUTES_4: r"(?!0000)(\d{4})",
    Style.TENTHS: r"(\.[2-9])",
}
"""The unit's own limits (megatec-family.md section 10.2); ``R0000`` is another order than ``R0001``."""


def _seconds(text: str) -> float:
    """``.5`` → 30, ``03`` → 180 (megatec-family.md section 10.2)."""
    return float(text) * 60


class SimulatedUps:
    """One UPS that answers requests in its dialect, and whose :attr:`machine` does what its orders say.

    ``per_cell``: battery voltage as S.SS per cell; by default online units do so (megatec-family.md section 4).
    ``protocol`` is the answer to QPI where the dialect has it; None: not known. ``accepted`` is what an order is answered with
    when it is carried out; by default what the dialect says, mostly nothing. ``think_s`` seconds pass before every reply.
    The unit's time begins with the first ``now_s`` it is given.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        name: str = "ups",
        seed: int = 0,
        machine: Machine | None = None,
        maker: str = "ACME UPS CO",
        model: str = "RT-1000",
        firmware: str = "VT12046Q",
        groups: tuple[str, ...] = (),
        description: str = "",
        per_cell: bool | None = None,
        protocol: str | None = "PI98",
        unknown: Unknown | None = None,
        accepted: bytes | None = None,
        think_s: float = 0.0,
    ) -> None:
        self.dialect = dialect
        self.name = name
        self.groups = groups
        self.description = description
        self.machine = machine or Machine(Ratings(), seed=seed)
        self.faults: dict[Fault, str] = {}
        self.delay_s = 0.0
        """Seconds by which the last answer is to be held back."""
        words = dialect.answer is AnswerStyle.WORD
        self.unknown = unknown or (Unknown.BRACKET_NAK if words else Unknown.ECHO)
        self._accepted = accepted or (b"(ACK\r" if words else None)
        self._per_cell = per_cell if per_cell is not None else not self.machine.ratings.line_interactive
        self._texts = {"device.mfr": maker, "device.model": model, "ups.firmware": firmware, "protocol": protocol}
        self._queries = {query.command: query for query in dialect.queries}
        self._orders = self._spell_orders(protocol)
        self._think_s = think_s
        self._rng = random.Random(seed)
        self._answered = False
        self._last: bytes | None = None
        self._frozen: bytes | None = None

    # -- the wire ----------------------------------------------------------------------------------------------------

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
        reply = self._truth(request)
        if Fault.WRONG in faults:
            reply, self._last = self._last, reply
        else:
            self._last = reply
        return reply[:-1] if reply and Fault.LOST_CR in faults else reply

    def plugged_in(self) -> None:
        """The line was connected anew: the next reply is the first."""
        self._answered = False

    def status_bits(self) -> str:
        """The eight characters of the status frame, b7 first (megatec-family.md section 4.1)."""
        machine, faults = self.machine, self.faults
        tested_as_outage = machine.testing and Fault.TEST_RAISES_UTILITY_FAIL in faults
        bits = (
            machine.on_battery or tested_as_outage,
            machine.battery_low,
            machine.regulating,
            machine.failed,
            machine.ratings.line_interactive,
            machine.testing,
            machine.shutting_down or Fault.STUCK_SHUTDOWN_BIT in faults,
            machine.beeper,
        )
        return "".join("1" if bit else "0" for bit in bits)

    def values(self) -> dict[str, object]:
        """What the templates of :class:`~qxfleet.dialects.spec.Reply` may ask for, as it is now."""
        machine, ratings = self.machine, self.machine.ratings
        battery = machine.battery
        return self._texts | {
            "input.voltage": machine.input_v,
            "output.voltage": machine.output_v,
            "ups.load": machine.load_now,
            "input.frequency": machine.hertz,
            "battery.field": f"{battery.cell_v:.2f}" if self._per_cell else f"{battery.volts:04.1f}",
            "ups.temperature": machine.temperature_c,
            "bits": self.status_bits(),
            "input.voltage.nominal": ratings.volts,
            "input.current.nominal": round(ratings.amps),
            "battery.voltage.nominal": ratings.battery_v,
            "input.frequency.nominal": ratings.hertz,
        }

    # -- faults ------------------------------------------------------------------------------------------------------

    def set_fault(self, fault: Fault, value: str = "") -> None:
        """Break the unit in this way. ``ValueError`` says what is wrong with ``value``."""
        if fault in FAULT_VALUES:
            value = value or FAULT_VALUES[fault] or ""
            if not value:
                raise ValueError(f"{fault.value} needs the request to refuse, like T or S*")
            if fault is Fault.NUL_BIT and value not in tuple("01234567"):
                raise ValueError(f"{fault.value} takes a status bit from 0 (the first) to 7, not {value!r}")
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

    # -- what a healthy unit would say -------------------------------------------------------------------------------

    def _truth(self, request: bytes) -> bytes | None:
        if self._refuses(request):
            return self._refusal(request) or b"NAK\r"
        query = self._queries.get(request)
        if query is not None:
            return self._reply(query) or self._refusal(request)
        for pattern, order, arguments in self._orders:
            match = pattern.fullmatch(request)
            if match:
                texts = match.groups()
                given = {name: _seconds(text.decode()) for name, text in zip(arguments, texts, strict=True)}
                if Fault.ACK_BUT_IGNORE in self.faults or self._carry_out(order, given):
                    return self._accepted
                return self._refusal(request) if self._accepted else None
        return self._refusal(request)

    def _refuses(self, request: bytes) -> bool:
        text = request.rstrip(b"\r").decode("latin-1")
        if Fault.REFUSE in self.faults and fnmatchcase(text, self.faults[Fault.REFUSE]):
            return True
        if Fault.REFUSE_ONCE in self.faults and fnmatchcase(text, self.faults[Fault.REFUSE_ONCE]):
            self.clear_fault(Fault.REFUSE_ONCE)
            return True
        return False

    def _refusal(self, request: bytes) -> bytes | None:
        match self.unknown:
            case Unknown.ECHO:
                return request
            case Unknown.SILENCE:
                return None
            case word:
                return str(word.value).encode() + b"\r"

    def _reply(self, query: Query) -> bytes | None:
        """The reply to a query; None if this unit does not know it."""
        template = next(reply.render for reply in query.replies if reply.render)
        match query.topic:
            case Topic.STATUS:
                return self._status(template)
            case Topic.RATING if Fault.NO_RATING in self.faults:
                return None
            case Topic.VENDOR if Fault.NO_VENDOR in self.faults:
                return None
            case Topic.PROTOCOL if self._texts["protocol"] is None:
                return None
            case _:
                return (template % self.values()).encode("latin-1") + b"\r"

    def _status(self, template: str) -> bytes:
        if self._frozen is not None:
            return self._frozen
        values = self.values()
        values["input.voltage.fault"] = self.machine.read_fault_v()
        if Fault.ZERO in self.faults:
            values = dict.fromkeys(values, 0) | {"input.voltage.fault": 0, "battery.field": "00.0", "bits": "00000000"}
        frame = (template % values).encode("latin-1") + b"\r"
        if Fault.NUL_BIT in self.faults:
            start = frame.rindex(str(values["bits"]).encode()) + int(self.faults[Fault.NUL_BIT])
            if frame[start : start + 1] == b"0":
                frame = frame[:start] + b"\0" + frame[start + 1 :]
        if Fault.FROZEN in self.faults:
            self._frozen = frame
        return frame

    # -- orders ------------------------------------------------------------------------------------------------------

    def _spell_orders(self, protocol: str | None) -> list[tuple[re.Pattern[bytes], Order, tuple[str, ...]]]:
        """Every way the tables can write an order that this unit knows, in table order."""
        facts: dict[str, Value] = {}
        for query in self.dialect.queries:
            for fld in (fld for reply in query.replies for fld in reply.fields if query.topic is Topic.PROTOCOL):
                if (word := dict(fld.words).get(protocol or "")) is not None:
                    facts[fld.name] = word
        spelled = []
        for order in self.dialect.orders:
            for form in order.forms:
                if all(_holds(condition, facts) for condition in form.needs):
                    spelled.append((_pattern(form), order, tuple(p.name for p in form.parts if isinstance(p, Arg))))
        return spelled

    def _carry_out(self, order: Order, given: Mapping[str, float]) -> bool:
        """Do what the order says (megatec-family.md section 10.5); False if the unit can't now."""
        machine = self.machine
        match order.name:
            case "beeper.toggle":
                machine.beeper ^= Fault.STUCK_BEEPER not in self.faults
            case "load.off":
                machine.shut_down(0.0, Returns.NEVER)
            case "load.on" | "shutdown.stop":
                machine.cancel()
            case "shutdown.return" if "ups.delay.start" in given:
                machine.shut_down(given["ups.delay.shutdown"], Returns.AFTER, given["ups.delay.start"])
            case "shutdown.return":
                machine.shut_down(given["ups.delay.shutdown"], Returns.WITH_MAINS)
            case "shutdown.stayoff":
                machine.shut_down(given["ups.delay.shutdown"], Returns.NEVER)
            case "test.battery.start":
                return machine.start_test(given["value"])
            case "test.battery.start.quick":
                return machine.start_test(QUICK_TEST_S)
            case "test.battery.start.deep":
                return machine.start_test(float("inf"))
            case "test.battery.stop":
                machine.stop_test()
            case unheard:
                raise NotImplementedError(f"{self.dialect.name}: the simulator has no machinery for {unheard}")
        return True


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) <= 3600
    except ValueError:
        return False


def _holds(condition: Holds, facts: Mapping[str, Value]) -> bool:
    value = facts.get(condition.name)
    return (value is not None and (not condition.values or value in condition.values)) is not condition.negated


def _pattern(form: Form) -> re.Pattern[bytes]:
    parts = (_STYLES[part.style].encode() if isinstance(part, Arg) else re.escape(part) for part in form.parts)
    return re.compile(b"".join(parts))
