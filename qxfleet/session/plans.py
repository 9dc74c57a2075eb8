"""From a dialect's table to compiled plans, and from a frame to named values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import cache
from math import inf

from qxfleet._fastparse import (
    BIT,
    CLOCK,
    CODE,
    FLAG,
    MARK,
    NUMBER,
    POINTED,
    TEXT,
    UNSIGNED,
    Derivation,
    Overlay,
    Plan,
    Rule,
    Slot,
    named,
)
from qxfleet.dialects.spec import PART, Among, Bits, Char, Convert, Derived, Field, Letter, Query, Reply, Span, Token
from qxfleet.errors import ReplyImplausible, ReplyMalformed
from qxfleet.model.plausible import RANGES
from qxfleet.model.reading import Value
from qxfleet.model.wire import REPLY_S, Answer, Ask, sealed, sort_answer
from qxfleet.session.lines import read_lines

_KINDS = {
    Convert.NUMBER: NUMBER, Convert.POINTED: POINTED, Convert.TEXT: TEXT, Convert.BIT: BIT, Convert.CODE: CODE,
    Convert.UNSIGNED: UNSIGNED, Convert.FLAG: FLAG, Convert.MARK: MARK, Convert.CLOCK: CLOCK,
    Convert.DATE: CODE,
}  # fmt: skip

_ANOTHER_SHAPE = frozenset({"lead", "short", "long"})
"""Reasons that say a layout was not meant; any other reason comes from one whose lead and length fit."""

BIT_PREFIX = "bit."
"""What begins the name of a status bit."""

_NO_DATA = (Answer.REFUSED, Answer.ECHO)

_LONGEST_REFUSAL = 12
"""Longer frames are no refusal words (``UPS No Ack`` has 10 characters, ``(NAK`` with its CRC 6)."""


def _slot(field: Field, reply: Reply) -> Slot:
    zero, one = field.choices or (False, True)
    match field.where:
        case Token(index):
            place = (index, 0, -1)
        case Span(start, stop):
            place = (-1, start, -1 if stop is None else stop)
        case Char(index) if reply.bits is not None:
            place = (reply.bits[0], index, -1)
        case Bits(word, highest, lowest):
            place = (word, lowest, highest)
        case Among(start, letters):
            return (MARK, -1, start, -1, field.scale, zero, one, field.critical, letters.encode())
        case _:
            raise ValueError(f"{field.name}: a status bit in a reply without a word of status bits")
    return (_KINDS[field.convert], *place, field.scale, zero, one, field.critical)


@cache
def _plan(reply: Reply) -> Plan:
    return Plan(
        reply.lead,
        *reply.length,
        [_slot(field, reply) for field in _placed(reply)],
        tokens=reply.tokens,
        bits=reply.bits,
        widths=reply.widths,
        separator=reply.separator,
        digits=reply.digits,
        blanks=reply.blanks,
        lenient=reply.lenient,
    )


def _placed(reply: Reply) -> list[Field]:
    return [field for field in reply.fields if not isinstance(field.where, Letter)]


def plan_for(reply: Reply) -> Plan:
    """The compiled plan of a layout; made once."""
    return _plan(reply)


def overlay_for(query: Query) -> Overlay | None:
    """What reads a status reply in one step, where its values are nothing but what stands in the slots of its first layout.

    Status bits show in the key alone: two bits for each of :func:`slot_names`.
    """
    reply = query.replies[0]
    if reply.lines is not None or reply.alphabet or reply.derived or query.sealed or query.crc:
        return None
    if reply.length[0] <= _LONGEST_REFUSAL or any(map(_is_special, reply.fields)):
        return None
    ranges = {name: (low, high) for name, low, high in RANGES}
    names = slot_names(query)
    return Overlay(
        plan_for(reply),
        tuple(None if name.startswith(BIT_PREFIX) else name for name in names),
        [ranges.get(name, (-inf, inf)) for name in names],
    )


def slot_names(query: Query) -> tuple[str, ...]:
    """Names of the slots of a query's first layout."""
    return tuple(field.name for field in _placed(query.replies[0]))


def _is_special(field: Field) -> bool:
    return bool(field.words or field.after or field.numbers) or field.convert is Convert.DATE or isinstance(field.where, Letter)


def rule(derived: Derived) -> Rule:
    """A rule as the compiled module takes it."""
    when = tuple((holds.name, holds.values, holds.negated) for holds in derived.when)
    return (
        derived.name, derived.of, derived.over, derived.scale, derived.step, derived.most, derived.table, derived.given, when,
        derived.wins,
    )  # fmt: skip


def derivation(rules: Sequence[Derived]) -> Derivation | None:
    """What adds the derived values to others; None where there are none."""
    return Derivation([rule(each) for each in rules]) if rules else None


def without_parts(values: dict[str, float | str | bool]) -> dict[str, float | str | bool]:
    """What is more than a part of something else."""
    return {name: value for name, value in values.items() if not name.startswith(PART)}


class QueryPlan:
    """Every layout one query may be answered in, compiled; reads a frame into named values."""

    __slots__ = ("_layouts", "_lines", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self._lines = next((reply for reply in query.replies if reply.lines is not None), None)
        self._layouts = () if self._lines is not None else tuple(
            (
                plan_for(reply).parse,
                tuple(field.name for field in _placed(reply)),
                tuple(filter(_is_special, reply.fields)),
                derivation(reply.derived),
                reply,
            )
            for reply in query.replies
        )

    def read(self, frame: bytes) -> dict[str, float | str | bool]:
        """Values by name from the first layout that fits; what is not available is left out.

        Raises ReplyMalformed or ReplyImplausible: that of the last layout whose lead and length fit, else the first's.
        """
        if self._lines is not None:
            return read_lines(self._lines, frame)
        if self.query.crc:
            if not sealed(frame):
                raise ReplyMalformed("crc", frame)
            frame = frame[:-CRC_BYTES]
        if len(frame.rstrip(b" ")) <= _LONGEST_REFUSAL and sort_answer(self.query.command, frame) in _NO_DATA:
            raise ReplyMalformed("short", frame)
        failure: ReplyMalformed | ReplyImplausible | None = None
        for parse, names, special, derived, reply in self._layouts:
            try:
                found = parse(frame)
                if reply.alphabet and _body(frame, reply).strip(reply.alphabet):
                    raise ReplyMalformed("text", frame)
            except (ReplyMalformed, ReplyImplausible) as error:
                if failure is None or error.reason not in _ANOTHER_SHAPE:
                    failure = error
                continue
            values = named(names, found)
            for field in special:
                _tell(values, field, frame, reply)
            if derived is not None:
                derived.into(values)
                values = without_parts(values)
            return values
        raise failure or ReplyMalformed("text", frame)


def _tell(values: dict[str, float | str | bool], field: Field, frame: bytes, reply: Reply) -> None:
    """What a field says that is more than its characters: a capability letter, a listed word, a text behind a mark."""
    if isinstance(field.where, Letter):
        assert field.choices is not None
        section = ""
        for character in _body(frame, reply):
            if character in "ED":
                section = character
            elif character == field.where.letter and section:
                values[field.name] = field.choices[section == "E"] or ""
        return
    if field.numbers:
        index = values.pop(field.name)
        if isinstance(index, float) and index < len(field.numbers):
            values[field.name] = float(field.numbers[int(index)])
        return
    text = values.pop(field.name, None)
    if not isinstance(text, str):
        return
    if field.convert is Convert.DATE:
        with suppress(ValueError):
            values[field.name] = date.fromisoformat(text).isoformat()
        return
    if field.after:
        text = text.partition(field.after)[2] or text
        values[field.name] = text.strip()
        return
    for word, published in field.words:
        if text == word:
            values[field.name] = published


def _body(frame: bytes, reply: Reply) -> str:
    text = frame.decode("latin-1").partition("\r")[0]
    return text.partition(reply.lead.decode("latin-1"))[2]


def filled(request: bytes, known: Mapping[str, Value | bool]) -> bytes | None:
    """A request with what is known in the place of each ``{name}``; None where that is not known."""
    before, _, rest = request.partition(b"{")
    name, found, after = rest.partition(b"}")
    if not found:
        return request
    value = known.get(name.decode())
    return before + value.encode() + after if isinstance(value, str) else None


def ask_of(query: Query, request: bytes = b"", deadline_s: float = REPLY_S) -> Ask:
    """What a transport is asked for a query: bytes in the columns of its reply may be end bytes."""
    return Ask(request or query.command, deadline_s, binary_len=_bytes_of(query))


def _bytes_of(query: Query) -> int:
    """The length of a reply with bytes in its columns; 0 for one that ends at its end byte."""
    first = query.replies[0]
    in_columns = any(field.convert is Convert.UNSIGNED and isinstance(field.where, Span) for field in first.fields)
    return first.length[0] if in_columns else 0


_COMPILED: dict[int, QueryPlan] = {}
"""By identity: a Query holds samples and can't be hashed; the plan keeps it alive, so its id stays its own."""


def read(query: Query, frame: bytes) -> dict[str, float | str | bool]:
    """Values by name of a frame that answered ``query``; see :meth:`QueryPlan.read`."""
    plan = _COMPILED.get(id(query))
    if plan is None:
        plan = _COMPILED[id(query)] = QueryPlan(query)
    return plan.read(frame)


def is_sealed(query: Query, frame: bytes) -> bool:
    """Whether this answer to a status query shows that the device closes its replies with a CRC.

    Only a reply of exactly the fixed length and two bytes tells: a longer or shorter one could pass by chance.
    """
    return query.sealed and len(frame) == query.replies[0].length[0] + CRC_BYTES and sealed(frame)


def unsealed(frame: bytes) -> bytes:
    """The frame without its CRC, if it has one."""
    return frame[:-CRC_BYTES] if sealed(frame) else frame


CRC_BYTES = 2
