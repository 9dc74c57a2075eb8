"""From a dialect's table to compiled plans, and from a frame to named values."""

from __future__ import annotations

from functools import cache

from qxfleet._fastparse import BIT, NUMBER, POINTED, TEXT, Plan, Slot, named
from qxfleet.dialects.spec import Char, Convert, Field, Query, Reply, Span, Token
from qxfleet.errors import ReplyImplausible, ReplyMalformed

_KINDS = {Convert.NUMBER: NUMBER, Convert.POINTED: POINTED, Convert.TEXT: TEXT, Convert.BIT: BIT}

_ANOTHER_SHAPE = frozenset({"lead", "short", "long"})
"""Reasons that say a layout was not meant; any other reason comes from one whose lead and length fit."""


def _slot(field: Field, reply: Reply) -> Slot:
    zero, one = field.choices or (False, True)
    match field.where:
        case Token(index):
            place = (index, 0, -1)
        case Span(start, stop):
            place = (-1, start, -1 if stop is None else stop)
        case Char(index) if reply.bits is not None:
            place = (reply.bits[0], index, -1)
        case Char():
            raise ValueError(f"{field.name}: a status bit in a reply without a word of status bits")
    return (_KINDS[field.convert], *place, field.scale, zero, one, field.critical)


@cache
def _plan(command: bytes, reply: Reply) -> Plan:
    return Plan(
        reply.lead,
        *reply.length,
        [_slot(field, reply) for field in reply.fields],
        command=command,
        tokens=reply.tokens,
        bits=reply.bits,
        digits=reply.digits,
        lenient=reply.lenient,
    )


def plan_for(query: Query, reply: Reply) -> Plan:
    """The compiled plan of one of a query's layouts; made once."""
    return _plan(query.command, reply)


class QueryPlan:
    """Every layout one query may be answered in, compiled; reads a frame into named values."""

    __slots__ = ("_layouts", "query")

    def __init__(self, query: Query) -> None:
        self.query = query
        self._layouts = tuple(
            (
                plan_for(query, reply).parse,
                tuple(field.name for field in reply.fields),
                tuple((field.name, dict(field.words)) for field in reply.fields if field.words),
            )
            for reply in query.replies
        )

    def read(self, frame: bytes) -> dict[str, float | str | bool]:
        """Values by name from the first layout that fits; what is not available is left out.

        Raises ReplyMalformed or ReplyImplausible: that of the last layout whose lead and length fit, else the first's.
        """
        failure: ReplyMalformed | ReplyImplausible | None = None
        for parse, names, words in self._layouts:
            try:
                found = parse(frame)
            except (ReplyMalformed, ReplyImplausible) as error:
                if failure is None or error.reason not in _ANOTHER_SHAPE:
                    failure = error
                continue
            values = named(names, found)
            for name, published in words:
                text = values.pop(name, None)
                if text in published:
                    values[name] = published[text]
            return values
        raise failure or ReplyMalformed("text", frame)


_COMPILED: dict[int, QueryPlan] = {}
"""By identity: a Query holds samples and can't be hashed; the plan keeps it alive, so its id stays its own."""


def read(query: Query, frame: bytes) -> dict[str, float | str | bool]:
    """Values by name of a frame that answered ``query``; see :meth:`QueryPlan.read`."""
    plan = _COMPILED.get(id(query))
    if plan is None:
        plan = _COMPILED[id(query)] = QueryPlan(query)
    return plan.read(frame)
