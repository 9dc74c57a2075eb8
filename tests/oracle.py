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

from qxfleet._fastparse import BIT, CLOCK, CODE, FLAG, MARK, NUMBER, POINTED, TEXT, UNSIGNED, Rule, Slot
from qxfleet.dialects.spec import Among, Bits, Char, Convert, Letter, Query, Reply, Span, Token

Value = float | str | bool | None
KINDS = {Convert.NUMBER: NUMBER, Convert.POINTED: POINTED, Convert.TEXT: TEXT, Convert.BIT: BIT, Convert.CODE: CODE,
         Convert.UNSIGNED: UNSIGNED, Convert.FLAG: FLAG, Convert.CLOCK: CLOCK,
         Convert.DATE: CODE}  # fmt: skip

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


ESCAPES = {"(\0": "\r", "(\1": "\x11", "(\2": "\x13", "(\3": "\n", "(\4": " "}


def plain_bytes(word: str, width: int) -> str | None:
    """What a word of bytes stands for; None if that is not of its width."""
    said = re.sub("\\([\0-\4]", lambda found: ESCAPES[found[0]], word)
    if len(said) == width - 1:
        for at in range(len(word) - 1):
            if word[at : at + 2] in ESCAPES:
                rest = re.sub("\\([\0-\4]", lambda found: ESCAPES[found[0]], word[at + 1 :])
                said = word[: at + 1] + rest
                break
    return said if len(said) == width else None


def whole_number(text: str) -> int:
    """Bytes as one number."""
    return int.from_bytes(text.encode("latin-1"), "big")


class Oracle:
    """Same parameters as ``Plan``."""

    def __init__(
        self,
        lead: bytes,
        min_len: int,
        max_len: int,
        slots: Sequence[Slot],
        *,
        tokens: tuple[int, int] | None = None,
        bits: tuple[int, int] | None = None,
        widths: Sequence[int] = (),
        separator: str = " ",
        digits: tuple[int, int] | None = None,
        blanks: Sequence[int] = (),
        lenient: bool = False,
    ) -> None:
        self.blanks = blanks
        self.lead = lead.decode("latin-1")
        self.shortest, self.longest = min_len, max_len
        self.tokens, self.bits, self.digits, self.lenient = tokens, bits, digits, lenient
        self.widths, self.separator = widths, separator
        self.readers = [self.reader(*slot) for slot in slots]
        self.zeros = [slot[5] if slot[0] in (BIT, FLAG, MARK) else None for slot in slots]
        self.telling = all(slot[5] != slot[6] for slot in slots if slot[0] in (BIT, FLAG, MARK))
        self.of_bytes = not widths and any(slot[0] in (UNSIGNED, FLAG) for slot in slots)
        self.number_words = {slot[1] for slot in slots if slot[0] in (NUMBER, POINTED)}

    def reader(
        self, kind: int, token: int, start: int, stop: int, scale: float, zero: object, one: object, critical: bool,
        marks: bytes = b"",
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
        elif kind in (UNSIGNED, FLAG):
            low, size = (start, stop - start + 1) if token >= 0 and stop >= 0 else (0, 48)

            def read(text: str) -> object:
                if not 0 < len(text) < 7:
                    return BAD
                found = whole_number(text) // 2**low % 2**size
                if kind == FLAG:
                    return one if found else zero
                scaled = Fraction(found) * Fraction(repr(float(scale)))
                too_big = found * Fraction(repr(float(scale))).numerator > 2**53
                return BAD if too_big else float(scaled)
        elif kind == CLOCK:

            def read(text: str) -> object:
                if FILLERS.fullmatch(text):
                    return None
                if not re.fullmatch(r"[0-9]{1,5}([:.][0-9]{1,5}){0,3}", text):
                    return BAD
                *_, days, hours, minutes, seconds = map(int, ["0"] * 3 + re.split("[:.]", text))
                return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        elif kind == MARK:

            def read(text: str) -> object:
                if re.search("[^A-Z ]", text):
                    return BAD
                return one if set(text) & set(marks.decode()) else zero
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
        text = frame.decode("latin-1")
        if not self.of_bytes:
            text = text.split("\r", 1)[0]
        if self.lead:
            begins = text.find(self.lead, 0, 8 + len(self.lead))
            if begins < 0:
                return "short" if self.lead.startswith(text) else "lead"
            text = text[begins:]
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
        if self.widths:
            pieces = text[len(self.lead) :].split(" ")
            for piece, width in zip(pieces, self.widths, strict=False):
                word = plain_bytes(piece, width)
                if word is None:
                    shorter = len(re.sub("\\([\0-\4]", "x", piece)) < width
                    return "short" if shorter else "long"
                words.append(word)
            if len(pieces) != len(self.widths):
                return "short" if len(pieces) < len(self.widths) else "long"
        elif self.tokens is not None:
            words = text[len(self.lead) :].split(self.separator)
            if self.separator == " ":
                words = [word for word in words if word]
            elif words[-1] == "":
                del words[-1]
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
        if words and len(words) - 1 in self.number_words and words[-1].endswith(".") and words[-1] != ".":
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
                values.append(read("") if kind == MARK else None)
                continue
            value = read(words[token] if token >= 0 else text[columns])
            if value is BAD or value is UNPOINTED:
                unpointed = unpointed or value is UNPOINTED
                if value is BAD and not self.lenient:
                    return "text" if kind in (TEXT, CODE, MARK) else "number"
                if kind in (UNSIGNED, FLAG, MARK):
                    return "text" if kind == MARK else "number"
                bad += kind not in (TEXT, CODE)
                value = None
            elif value is not None:
                good += kind in (NUMBER, POINTED, CLOCK)
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
        elif isinstance(field.where, Bits):
            token, start, stop = field.where.word, field.where.lowest, field.where.highest
        elif isinstance(field.where, Among):
            start = field.where.start
        elif isinstance(field.where, Char):
            assert reply.bits is not None
            token, start = reply.bits[0], field.where.index
        values: tuple[object, object] = field.choices if field.choices else (False, True)
        kind, marks = KINDS.get(field.convert), ()
        if isinstance(field.where, Among):
            kind, marks = MARK, (field.where.letters.encode(),)
        slots.append((kind, token, start, stop, field.scale, *values, field.critical, *marks))
    return (reply.lead, reply.length[0], reply.length[1], slots), {
        "tokens": reply.tokens, "bits": reply.bits, "widths": reply.widths, "separator": reply.separator,
        "digits": reply.digits, "blanks": reply.blanks, "lenient": reply.lenient,
    }  # fmt: skip


def derived(rules: Sequence[Rule], values: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Values with all that follows from them by the rules, and the names of what was added."""
    said, added = dict(values), set[str]()
    for name, of, over, scale, step, most, rows, given, when, wins in rules:
        numbers = {each: said[each] for each in said if type(said[each]) is float}
        if name in added or (name in said and not wins):
            continue
        if not all(each in numbers and low <= numbers[each] < high for each, low, high in given):
            continue
        if not all((said.get(each) is not None and (not wanted or said[each] in wanted)) != negated
                   for each, wanted, negated in when):  # fmt: skip
            continue
        if not numbers.keys() >= {*of, *over} or any(numbers[each] == 0 for each in over):
            continue
        number = 1.0
        for each in of:
            number *= numbers[each]
        for each in over:
            number /= numbers[each]
        if step and isfinite(number):
            number = number / step // 1 * step
        number *= scale
        if not isfinite(number):
            continue
        number = min(number, most)
        fitting = [result for least, result in rows if number >= least] if rows else [number]
        if fitting:
            said[name] = fitting[0]
            added.add(name)
    return said, added


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
