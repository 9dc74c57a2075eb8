"""The parser's rules in plain Python: slow, obvious, and written apart from the compiled one that it judges.

``Oracle`` takes the arguments of ``_fastparse.Plan``; ``parse`` returns the values, or the word that says why there are
none. ``cut`` is what a ``_fastparse.Framer`` must make of a whole stream. ``arguments`` reads a dialect's table by
itself, so that ``session/plans.py`` is judged too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from math import isfinite
from typing import Any

from qxfleet._fastparse import BIT, CODE, NUMBER, POINTED, TEXT, Slot
from qxfleet.dialects.spec import Char, Convert, Letter, Query, Reply, Span, Token

Value = float | str | bool | None
KINDS = {Convert.NUMBER: NUMBER, Convert.POINTED: POINTED, Convert.TEXT: TEXT, Convert.BIT: BIT, Convert.CODE: CODE}

FILLERS = re.compile(r"[-@.#* ]*")
NUMERAL = re.compile(r"[ #]*([+-]?)([0-9]+(?:\.[0-9]+)?) *")
DIGITS = re.compile(r"[0-9]+")
STRANGE = re.compile(r"[^ -~]")

BAD, UNPOINTED = object(), object()


def numeral(text: str, scale: float, pointed: bool) -> object:
    """The number a field holds; None for fillers, BAD for anything else."""
    match = NUMERAL.fullmatch(text)
    if match is None:
        return None if FILLERS.fullmatch(text) else BAD
    sign, figures = match.groups()
    if len(figures) - ("." in figures) > 15:
        return BAD
    if pointed and "." not in figures:
        return UNPOINTED
    if scale == 1:
        value = float(figures)
    elif int(figures.replace(".", "")) * Fraction(repr(scale)).numerator > 2**53:
        return BAD
    else:
        value = float(Decimal(figures) * Decimal(repr(scale)))
    return -value if sign == "-" and value else value


def words_of_text(text: str) -> object:
    """What a text field says; None for "not told", BAD for bytes that are no text."""
    if STRANGE.search(text):
        return BAD
    said = text.strip("# ")
    if FILLERS.fullmatch(said) or (len(said) > 2 and said == said[0] * len(said)):
        return None
    return said


def characters(text: str) -> object:
    """What a code field says, as it stands."""
    if STRANGE.search(text):
        return BAD
    return None if FILLERS.fullmatch(text) else text.strip(" ")


class Oracle:
    """Same parameters as ``Plan``."""

    def __init__(
        self,
        lead: bytes,
        min_len: int,
        max_len: int,
        slots: Sequence[Slot],
        *,
        command: bytes = b"",
        tokens: tuple[int, int] | None = None,
        bits: tuple[int, int] | None = None,
        digits: tuple[int, int] | None = None,
        blanks: Sequence[int] = (),
        lenient: bool = False,
    ) -> None:
        self.blanks = blanks
        self.lead = lead.decode("latin-1")
        echo = re.escape(command.decode("latin-1").rstrip("\r"))
        self.before_lead = re.compile(rf"[ \0\n]{{0,4}}(?:|{echo}|[A-Z])(?={re.escape(self.lead)})")
        self.shortest, self.longest = min_len, max_len
        self.tokens, self.bits, self.digits, self.lenient = tokens, bits, digits, lenient
        self.readers = [self.reader(*slot) for slot in slots]
        self.zeros = [zero if kind == BIT else None for kind, _, _, _, _, zero, _, _ in slots]
        self.telling = all(zero != one for kind, _, _, _, _, zero, one, _ in slots if kind == BIT)
        self.number_words = {slot[1] for slot in slots if slot[0] in (NUMBER, POINTED)}

    def reader(
        self, kind: int, token: int, start: int, stop: int, scale: float, zero: object, one: object, critical: bool
    ) -> tuple[int, int, slice, Callable[[str], object]]:
        """(kind, word or -1, columns, what to make of that text)."""
        columns = slice(start, None if stop < 0 else stop)
        read: Callable[[str], object]
        if kind == BIT:
            meanings = {"0": zero, "1": one}
            if not critical and token >= 0:
                meanings["\0"] = zero
            place = start if token >= 0 else 0
            read = lambda text: meanings.get(text[place : place + 1])  # noqa: E731
        elif kind == TEXT:
            read = words_of_text
        elif kind == CODE:
            read = characters
        else:
            read = lambda text: numeral(text, scale, kind == POINTED)  # noqa: E731
        return kind, token, columns, read

    def parse(self, frame: bytes) -> list[Value] | str:
        """The values of a frame, one per slot, or the reason why there are none."""
        if len(frame) > 1024:
            return "long"
        text = frame.decode("latin-1").split("\r", 1)[0]
        if self.lead:
            junk = self.before_lead.match(text)
            if junk is None:
                rest = re.sub(r"\A[ \0\n]{1,4}", "", text)
                return "short" if self.lead.startswith(rest) else "lead"
            text = text[junk.end() :]
        if len(text) < self.shortest:
            return "short"
        if len(text) > self.longest:
            return "long"
        if self.digits is not None:
            start, stop = self.digits
            if stop > start and (len(text) < stop or not DIGITS.fullmatch(text, start, stop)):
                return "text"
        if any(text[column : column + 1] != " " for column in self.blanks):
            return "text"
        words: list[str] = []
        if self.tokens is not None:
            words = [word for word in text[len(self.lead) :].split(" ") if word]
            wrong = self.wrong_words(text, words)
            if wrong:
                return wrong
        return self.read(text, words)

    def wrong_words(self, text: str, words: list[str]) -> str:
        """Why these words are not the layout's; empty if they are."""
        assert self.tokens is not None
        if len(words) > self.tokens[1]:
            return "tokens"
        if len(words) < self.tokens[0]:
            return "short"
        bits_word = -1 if self.bits is None else self.bits[0]
        if STRANGE.search(text, len(self.lead)) and any(
            STRANGE.search(word) for index, word in enumerate(words) if index != bits_word
        ):
            return "text"
        if words and len(words) - 1 in self.number_words and words[-1].endswith("."):
            return "short"
        if self.bits is not None:
            word, width = words[bits_word], self.bits[1]
            if len(word) < width:
                return "short"
            if len(word) > width + 2 or word.count("\0") > 1:
                return "bits"
        return ""

    def read(self, text: str, words: list[str]) -> list[Value] | str:
        """The slots of a frame whose shape is right."""
        values: list[Any] = []
        unpointed = False
        good = bad = 0
        for kind, token, columns, read in self.readers:
            if token >= len(words) or (token < 0 and columns.start >= len(text)):
                values.append(None)
                continue
            value = read(words[token] if token >= 0 else text[columns])
            if value is BAD or value is UNPOINTED:
                unpointed = unpointed or value is UNPOINTED
                if value is BAD and not self.lenient:
                    return "text" if kind in (TEXT, CODE) else "number"
                bad += kind not in (TEXT, CODE)
                value = None
            elif value is not None:
                good += kind in (NUMBER, POINTED)
            values.append(value)
        if self.lenient:
            return "number" if bad and not good else values
        return "point" if unpointed else values


def arguments(query: Query, reply: Reply) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """One of a query's layouts as the arguments of ``Plan`` and ``Oracle``."""
    slots: list[Slot] = []
    for field in reply.fields:
        if isinstance(field.where, Letter):
            continue
        token, start, stop = -1, 0, -1
        if isinstance(field.where, Token):
            token = field.where.index
        elif isinstance(field.where, Span):
            start = field.where.start
            stop = field.where.stop if field.where.stop is not None else -1
        elif isinstance(field.where, Char):
            assert reply.bits is not None
            token, start = reply.bits[0], field.where.index
        values: tuple[object, object] = field.choices if field.choices else (False, True)
        slots.append((KINDS[field.convert], token, start, stop, field.scale, *values, field.critical))
    return (reply.lead, reply.length[0], reply.length[1], slots), {
        "command": query.command, "tokens": reply.tokens, "bits": reply.bits, "digits": reply.digits,
        "blanks": reply.blanks,
        "lenient": reply.lenient,
    }  # fmt: skip


def laid(
    oracle: Oracle, names: Sequence[str | None], ranges: Sequence[tuple[float, float]], frame: bytes, over: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """The key of a frame and what becomes of ``over``."""
    values = oracle.parse(frame)
    if isinstance(values, str):
        return -1, over
    if any(isinstance(value, float) and not low <= value <= high for (low, high), value in zip(ranges, values, strict=True)):
        return -1, over
    told = [0 if value is None else 1 if value is zero else 2 for value, zero in zip(values, oracle.zeros, strict=True)]
    said = {name: value for name, value in zip(names, values, strict=True) if name is not None and value is not None}
    return sum(two_bits * 4**slot for slot, two_bits in enumerate(told)), over | said


def in_steps(names: Sequence[str], scales: Sequence[int], values: dict[str, Any]) -> tuple[int | None, ...] | None:
    """Named numbers as whole steps, half a step going to the even one."""
    known = [values.get(name) for name in names]
    if not all(value is None or (type(value) is float and isfinite(value)) for value in known):
        return None
    try:
        return tuple(None if value is None else round(value * scale) for value, scale in zip(known, scales, strict=True))
    except OverflowError:
        return None


def in_corridor(ranges: dict[str, tuple[float, float] | None], values: dict[str, Any]) -> bool:
    """Whether every number is where it must be."""
    for name, bounds in ranges.items():
        if (bounds is None) is (name in values):
            return False
        if bounds is not None and not (type(values[name]) is float and bounds[0] <= values[name] <= bounds[1]):
            return False
    return True


def cut(stream: bytes, end: int, max_len: int) -> tuple[list[bytes], bytes, int]:
    """(frames, pending bytes, bytes thrown away) of a whole stream."""
    *complete, last = stream.split(bytes([end]))
    frames: list[bytes] = []
    thrown = 0
    for piece in complete:
        frame = piece.lstrip(b"\0\n")
        thrown += len(piece) - len(frame)
        if 0 < len(frame) <= max_len:
            frames.append(frame)
        else:
            thrown += len(frame) + 1
    pending = last.lstrip(b"\0\n")
    thrown += len(last) - len(pending)
    if len(pending) > max_len:
        thrown += len(pending)
        pending = b""
    return frames, pending, thrown
