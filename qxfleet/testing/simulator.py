"""A simulated UPS: the physics of :mod:`.machine` speaking a dialect's own tables. No I/O, no clock of its own."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from qxfleet.dialects.spec import AnswerStyle, Arg, Dialect, Form, Holds, Order, Query, Style, Topic
from qxfleet.model.reading import Value
from qxfleet.model.wire import sealing
from qxfleet.testing.frames import FRAMES
from qxfleet.testing.machine import QUICK_TEST_S, Machine, Ratings, Returns, Source
from qxfleet.testing.unit import Fault, Unit


class Unknown(enum.Enum):
    """What a unit says to a string it does not know (megatec-family.md section 8)."""

    ECHO = "echo"
    SILENCE = "silence"
    N = "N"
    NAK = "NAK"
    BRACKET_NAK = "(NAK"


FRAMED = frozenset({b"QS\r"})
"""Questions that a frame of bytes answers, in a dialect that has one."""

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


class SimulatedUps(Unit):
    """A unit of any dialect whose tables say all there is to say: it answers in their templates.

    ``per_cell``: battery voltage as S.SS per cell; by default online units do so (megatec-family.md section 4).
    ``protocol`` is the answer to QPI where the dialect has it; None: not known. ``accepted`` is what an order is answered with
    when it is carried out; by default what the dialect says, mostly nothing.
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
        super().__init__(
            dialect, machine or Machine(Ratings(), seed=seed), name=name, seed=seed, groups=groups, description=description,
            think_s=think_s,
        )  # fmt: skip
        words = dialect.answer is AnswerStyle.WORD
        self.unknown = unknown or (Unknown.BRACKET_NAK if words else Unknown.ECHO)
        self._accepted = accepted or ((*dialect.accepts, b"(ACK")[0] + b"\r" if words else None)
        self._per_cell = per_cell if per_cell is not None else not self.machine.ratings.line_interactive
        self._texts = {"device.mfr": maker, "device.model": model, "ups.firmware": firmware, "protocol": protocol}
        self._queries = {query.command: query for query in dialect.queries}
        self._orders = self._spell_orders(protocol)

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

    def _letters(self) -> str:
        """The state in letters, as gtec tells it (extra-dialects.md section 9)."""
        machine = self.machine
        on = machine.source not in (Source.BATTERY, Source.OFF) or machine.testing
        tested = {None: "L", True: "I", False: "J"}[machine.test_passed]
        letters = (
            "A" * machine.on_battery + "B" * machine.battery_low + "C" * (machine.source is Source.BYPASS)
            + "D" * machine.failed + ("E" if machine.testing else tested) + "F" * machine.shutting_down
            + "M" * (on and not machine.on_battery and machine.source is not Source.BYPASS)
        )  # fmt: skip
        return letters or " "

    def _masterguard_bits(self) -> str:
        """The two words of masterguard's status (extra-dialects.md section 6.1)."""
        machine = self.machine
        bits = (
            machine.on_battery, machine.battery_low, machine.source is Source.BYPASS, machine.failed, False, machine.testing,
            machine.shutting_down, False,
        )  # fmt: skip
        test = "001" if machine.testing else {None: "000", True: "010", False: "011"}[machine.test_passed]
        return "".join("1" if bit else "0" for bit in bits) + " 00000" + test

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
            "battery.volts": battery.volts,
            "battery.cell": battery.cell_v,
            "battery.percent": 100 * battery.charge,
            "battery.amps": 0 if machine.source is not Source.BATTERY else ratings.watts * machine.load_now / 100 / battery.volts,
            "input.hertz": machine.input_hertz,
            "output.hertz": machine.output_hertz,
            "output.watts": ratings.watts * machine.load_now / 100,
            "ups.id": "00",
            "letters": self._letters(),
            "bits.masterguard": self._masterguard_bits(),
            "bits.axpert": "00010000" if machine.source is not Source.OFF else "00000000",
            "mode.axpert": {Source.BATTERY: "B", Source.OFF: "S"}.get(machine.source, "L"),
            "warnings.axpert": f"00000{int(machine.on_battery)}000000{int(machine.battery_low)}" + "0" * 19,
            "ups.temperature": machine.temperature_c,
            "bits": self.status_bits(),
            "input.voltage.nominal": ratings.volts,
            "input.current.nominal": round(ratings.amps),
            "battery.voltage.nominal": ratings.battery_v,
            "input.frequency.nominal": ratings.hertz,
        }

    # -- what a healthy unit would say -------------------------------------------------------------------------------

    def _truth(self, request: bytes) -> bytes | None:
        query = self._queries.get(request.replace(b",00\r", b",{ups.id}\r"))
        if query is not None:
            return self._reply(query) or self._refusal(request)
        if any(form.first == request for order in self.dialect.orders for form in order.forms):
            return self._accepted
        for pattern, order, arguments in self._orders:
            match = pattern.fullmatch(request)
            if match:
                texts = match.groups()
                given = {name: _seconds(text.decode()) for name, text in zip(arguments, texts, strict=True)}
                if Fault.ACK_BUT_IGNORE in self.faults or self._carry_out(order, given):
                    return self._accepted
                return self._refusal(request) if self._accepted else None
        return self._refusal(request)

    def _refusal(self, request: bytes) -> bytes | None:
        if self.dialect.seals:
            return sealing(b"(NAK")
        match self.unknown:
            case Unknown.ECHO:
                return request
            case Unknown.SILENCE:
                return None
            case word:
                return str(word.value).encode() + b"\r"

    def _reply(self, query: Query) -> bytes | None:
        """The reply to a query; None if this unit does not know it."""
        if query.command in FRAMED and (write := FRAMES.get(self.dialect.name)) is not None:
            return self._as_broken(write(self.machine, self.status_bits()))
        template = next((reply.render for reply in query.replies if reply.render), None)
        if template is None:
            return query.samples[0].frame + b"\r"
        match query.topic:
            case Topic.STATUS:
                return self._status(query, template)
            case Topic.RATING if Fault.NO_RATING in self.faults:
                return None
            case Topic.VENDOR if Fault.NO_VENDOR in self.faults:
                return None
            case Topic.PROTOCOL if self._texts["protocol"] is None:
                return None
            case _:
                frame = (template % _Values(query, self.values())).encode("latin-1")
                return sealing(frame) if query.crc else frame + b"\r"

    def _status(self, query: Query, template: str) -> bytes:
        values = _Values(query, self.values() | {"input.voltage.fault": self.machine.read_fault_v()})
        frame = (template % values).encode("latin-1")
        return self._as_broken(sealing(frame) if query.crc else frame + b"\r")

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
                return machine.start_test(given.get("value", QUICK_TEST_S))
            case "test.battery.start.quick":
                return machine.start_test(QUICK_TEST_S)
            case "clear.fault.record" | "beeper.enable" | "beeper.disable":
                machine.beeper = order.name != "beeper.disable"
            case "bypass.start" | "bypass.stop":
                machine.forced_bypass = order.name == "bypass.start"
            case "test.battery.start.deep" | "test.battery.start.low":
                return machine.start_test(float("inf"))
            case "test.battery.stop":
                machine.stop_test()
            case unheard:
                raise NotImplementedError(f"{self.dialect.name}: the simulator has no machinery for {unheard}")
        return True


class _Values(dict[str, object]):
    """Values for a template; what the machine does not know is what the query's samples say of it."""

    def __init__(self, query: Query, values: Mapping[str, object]) -> None:
        super().__init__(values)
        self._query = query

    def __missing__(self, name: str) -> object:
        for sample in self._query.samples:
            if name in sample.values:
                return sample.values[name]
        command = self._query.command.decode("latin-1").strip()
        raise ValueError(f"the template of {command} asks for {name}, which neither the machine nor a sample knows")


def _holds(condition: Holds, facts: Mapping[str, Value]) -> bool:
    value = facts.get(condition.name)
    return (value is not None and (not condition.values or value in condition.values)) is not condition.negated


def order_patterns(dialect: Dialect) -> list[re.Pattern[bytes]]:
    """Every way the tables of a dialect can write its orders."""
    return [_pattern(form) for order in dialect.orders for form in order.forms]


def _pattern(form: Form) -> re.Pattern[bytes]:
    parts = (
        _STYLES[part.style].encode() if isinstance(part, Arg) else re.escape(part.replace(b"{ups.id}", b"00"))
        for part in form.parts
    )
    return re.compile(b"".join(parts))
