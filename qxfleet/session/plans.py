"""From a dialect's table to compiled plans, and from a frame to named values."""

from __future__ import annotations

from functools import cache
from math import inf

from qxfleet._fastparse import BIT, CODE, NUMBER, POINTED, TEXT, Overlay, Plan, Slot, named
from qxfleet.dialects.spec import Char, Convert, Field, Letter, Query, Reply, Span, Token
from qxfleet.errors import ReplyImplausible, ReplyMalformed
from qxfleet.model.plausible import RANGES
from qxfleet.model.wire import Answer, sealed, sort_answer

_KINDS = {Convert.NUMBER: NUMBER, Convert.POINTED: POINTED, Convert.TEXT: TEXT, Convert.BIT: BIT, Convert.CODE: CODE}

_ANOTHER_SHAPE = frozenset({"lead", "short", "long"})
"""Reasons that say a layout was not meant; any other reason comes from one whose lead and length fit."""

BIT_PREFIX = "bit."
"""What begins the name of a status bit."""

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
        case _:
            raise ValueError(f"{field.name}: a status bit in a reply without a word of status bits")
    return (_KINDS[field.convert], *place, field.scale, zero, one, field.critical)


@cache
def _plan(command: bytes, reply: Reply) -> Plan:
    return Plan(
        reply.lead,
        *reply.length,
        [_slot(field, reply) for field in _placed(reply)],
        command=command,
        tokens=reply.tokens,
        bits=reply.bits,
        digits=reply.digits,
        blanks=reply.blanks,
        lenient=reply.lenient,
    )


def _placed(reply: Reply) -> list[Field]:
    return [field for field in reply.fields if not isinstance(field.where, Letter)]


def plan_for(query: Query, reply: Reply) -> Plan:
    """The compiled plan of one of a query's layouts; made once."""
    return _plan(query.command, reply)


def overlay_for(query: Query) -> Overlay | None:
    """What reads a status reply in one step, where its values are nothing but what stands in the slots of its first layout.

    Status bits show in the key alone: two bits for each of :func:`slot_names`.
    """
    reply = query.replies[0]
    if reply.alphabet or query.sealed or reply.length[0] <= _LONGEST_REFUSAL or any(map(_is_special, reply.fields)):
        return None
    ranges = {name: (low, high) for name, low, high in RANGES}
    names = slot_names(query)
    return Overlay(
        plan_for(query, reply),
        tuple(None if name.startswith(BIT_PREFIX) else name for name in names),
        [ranges.get(name, (-inf, inf)) for name in names],
    )


def slot_names(query: Query) -> tuple[str, ...]:
    """Names of the slots of a query's first layout."""
    return tuple(field.name for field in _placed(query.replies[0]))


def _is_special(field: Field) -> bool:
    return bool(field.words or field.after) or isinstance(field.where, Letter)


class QueryPlan:
    """Every layout one query may be answered in, compiled; reads a frame into named values."""

    __slots__ = ("_layouts", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self._layouts = tuple(
            (
                plan_for(query, reply).parse,
                tuple(field.name for field in _placed(reply)),
                tuple(filter(_is_special, reply.fields)),
                reply,
            )
            for reply in query.replies
        )

    def read(self, frame: bytes) -> dict[str, float | str | bool]:
        """Values by name from the first layout that fits; what is not available is left out.

        Raises ReplyMalformed or ReplyImplausible: that of the last layout whose lead and length fit, else the first's.
        """
        if len(frame) <= _LONGEST_REFUSAL and sort_answer(self.query.command, frame) is Answer.REFUSED:
            raise ReplyMalformed("short", frame)
        failure: ReplyMalformed | ReplyImplausible | None = None
        for parse, names, special, reply in self._layouts:
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
                values[field.name] = field.choices[section == "E"]
        return
    text = values.pop(field.name, None)
    if not isinstance(text, str):
        return
    if field.after:
        text = text.partition(field.after)[2] or text
        values[field.name] = text.strip()
        return
    for sent, published in field.words:
        if text == sent:
            values[field.name] = published


def _body(frame: bytes, reply: Reply) -> str:
    text = frame.decode("latin-1").partition("\r")[0]
    return text.partition(reply.lead.decode("latin-1"))[2]


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
