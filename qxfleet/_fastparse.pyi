"""Types of the compiled parser: bytes → frames → values. ``stubtest`` compares this file with the build."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, final

NUMBER: Final[int]
POINTED: Final[int]
TEXT: Final[int]
BIT: Final[int]
CODE: Final[int]
UNSIGNED: Final[int]
FLAG: Final[int]
MARK: Final[int]
CLOCK: Final[int]

Slot = tuple[int, int, int, int, float, object, object, bool, *tuple[bytes, ...]]
"""(kind, token or -1, start, stop or -1, scale, value of 0, value of 1, critical), and the marks of a MARK.

``token`` >= 0: the word's index, ``start``/``stop`` unused, except BIT, where ``start`` is the character of that word, and
UNSIGNED and FLAG, where they are the lowest and the highest bit (-1: the whole word).
``token`` == -1: columns ``start`` up to ``stop`` (-1: to the end); the lead is column 0. ``scale`` multiplies numbers.
The two values are what a BIT slot yields for ``0`` and ``1``, a FLAG for bits that are all 0 or not, a MARK where none or one
of the capital letters ``marks`` stands in its columns. UNSIGNED: bytes as one number, high byte first. CLOCK:
days, hours, minutes and seconds, as seconds. ``critical``: NUL in place of this bit is unknown rather
than 0.
"""

@final
class Framer:
    """Cuts a byte stream into frames at ``end``; bounded, and back in step after garbage.

    ``max_len`` is in bytes, the end byte not counted.
    """

    def __new__(cls, end: int = 13, max_len: int = 512) -> Self: ...
    def feed(self, chunk: bytes) -> list[bytes]:
        """Frames completed by ``chunk``, in order, without end byte; where chunks were cut makes no difference.

        LF and NUL between frames, and an end byte with nothing before it, make no frame; a frame longer than
        ``max_len`` is thrown away with its end byte. Every byte is in a frame, ends one, is pending, or is counted.
        """
    def only(self, chunk: bytes, max_len: int) -> bytes | None:
        """The frame, of at most ``max_len`` bytes, where :meth:`feed` would give just that and leave nothing pending or thrown
        away; else None, and the chunk is still to be fed."""
    def pending(self) -> bytes:
        """Bytes of the frame that is not complete yet."""
    def reset(self) -> int:
        """Forget the incomplete frame; returns the bytes thrown away since the last reset, these included."""

@final
class Plan:
    """Reads frames of one layout into a list of values, one per slot; None is "not available".

    The parameters are those of :class:`qxfleet.dialects.spec.Reply`. Lengths are bytes of the frame without its end
    byte and without what stood before the lead, which may be up to 8 bytes of anything. Raises ValueError for a layout that
    makes no sense or passes a bound: 64 words, 64 slots, 1024 bytes, 16 bytes of lead, 32 blanks, 6 bytes of a binary number,
    a scale of more than 8 decimals.
    """

    def __new__(
        cls,
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
    ) -> Self: ...
    def parse(self, frame: bytes) -> list[float | str | bool | None]:
        """Values of one frame. Raises ReplyMalformed or ReplyImplausible; never anything else for ``bytes``.

        What is checked, in this order; the first failure gives the reason: ``lead``; length (``short``, ``long``);
        columns of digits or of blanks (``text``); number of words (``tokens``, ``short``); bytes that can't be printed
        (``text``); a last number that ends in its point (``short``); status bits (``short``, ``bits``); slot by slot ``number``
        or ``text``. ``point`` is given only to a frame without any of these. Sources: megatec-family.md sections 8 and 13,
        quirks.md "Framing" and "Parser rules in short".
        """
    def parse_many(self, frames: Sequence[bytes]) -> list[list[float | str | bool | None] | str]:
        """Values of each frame, or the reason (a word of ReplyMalformed/ReplyImplausible) why it has none."""

def named(names: tuple[str, ...], values: list[float | str | bool | None]) -> dict[str, float | str | bool]:
    """Values by name, those that are not available left out. Raises ValueError unless there is one name per value."""

Rule = tuple[
    str,
    tuple[str, ...],
    tuple[str, ...],
    float,
    float,
    float,
    tuple[tuple[float, float | str | bool], ...],
    tuple[tuple[str, float, float], ...],
    tuple[tuple[str, tuple[float | str | bool, ...], bool], ...],
    bool,
]
"""(name, of, over, scale, step, most, table, given, when, wins), as in :class:`qxfleet.dialects.spec.Derived`."""

@final
class Derivation:
    """Adds to values what follows from them, rule by rule; each name is added once, by the first rule that can.

    Raises ValueError for a step below 0, a scale that is not finite, and a table whose rows do not fall.
    """

    def __new__(cls, rules: Sequence[Rule]) -> Self: ...
    def into(self, values: dict[str, float | str | bool]) -> set[str]:
        """Add them to ``values``; the names that were added or changed."""

@final
class Overlay:
    """Lays what a frame says over what was known before it, where nothing of it is out of the ordinary: a poll in one step.

    ``names`` has one name per slot of the plan, None for a slot that shows in the key alone; ``ranges`` the least and the
    greatest number of each. Raises ValueError unless there is one of both per slot, and for a plan of more than 31 slots.
    """

    def __new__(cls, plan: Plan, names: tuple[str | None, ...], ranges: Sequence[tuple[float, float]]) -> Self: ...
    def lay(self, frame: bytes, over: dict[str, float | str]) -> int:
        """Write the values of ``frame`` into ``over`` and return the frame's key.

        The key holds two bits per slot, those of the first slot lowest: 0 where nothing is available, 1 for a bit that is 0,
        2 for a bit that is 1 and for anything else. -1, and ``over`` as it was, for a frame that :meth:`Plan.parse` would not
        take and for one with a number out of its range.
        """

def steps(
    names: tuple[str, ...],
    scales: tuple[int, ...],
    values: dict[str, float | str],
    before: tuple[object, ...] = (),
    after: tuple[object, ...] = (),
) -> tuple[Any, ...] | None:
    """Each named value times its scale, rounded half to even, None for a name without a value; between ``before`` and ``after``.

    None instead of a row where a value is anything but a finite float. Raises ValueError unless there is one scale per name.
    """

@final
class Corridor:
    """Least and greatest value of each of some numbers; None for one that must not be there.

    Raises ValueError for more than 31 numbers.
    """

    def __new__(cls, ranges: dict[str, tuple[float, float] | None]) -> Self: ...
    def holds(self, values: Mapping[str, float | str]) -> bool:
        """Whether every one of them is there, a plain float, and in its range, or not there where it must not be."""
