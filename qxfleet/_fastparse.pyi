"""Types of the compiled parser: bytes → frames → values. ``stubtest`` compares this file with the build."""

from collections.abc import Sequence
from typing import Final

NUMBER: Final[int]
POINTED: Final[int]
TEXT: Final[int]
BIT: Final[int]

Slot = tuple[int, int, int, int, float, object, object, bool]
"""(kind, token or -1, start, stop or -1, scale, value of 0, value of 1, critical).

``token`` >= 0: the word's index, ``start``/``stop`` unused, except BIT, where ``start`` is the character of that word.
``token`` == -1: columns ``start`` up to ``stop`` (-1: to the end). ``scale`` multiplies numbers. The two values are what a BIT
slot yields for ``0`` and ``1``. ``critical``: NUL in place of this bit is unknown rather than 0.
"""

class Framer:
    """Cuts a byte stream into frames at ``end``; bounded, and back in step after garbage."""

    def __init__(self, end: int = 13, max_len: int = 512) -> None: ...
    def feed(self, chunk: bytes) -> list[bytes]:
        """Frames completed by ``chunk``, without end byte; LF and NUL between frames are dropped and counted.

        A frame longer than ``max_len`` is thrown away up to its end byte and counted.
        """
    def pending(self) -> bytes:
        """Bytes of the frame that is not complete yet."""
    def reset(self) -> int:
        """Forget the incomplete frame; returns the bytes thrown away since the last reset."""

class Plan:
    """Reads frames of one layout into a list of values, one per slot; None is "not available"."""

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
        lenient: bool = False,
    ) -> None: ...
    def parse(self, frame: bytes) -> list[float | str | bool | None]:
        """Values of one frame. Raises ReplyMalformed or ReplyImplausible; never anything else for ``bytes``."""
    def parse_many(self, frames: Sequence[bytes]) -> list[list[float | str | bool | None] | str]:
        """Values of each frame, or the reason (a word of ReplyMalformed/ReplyImplausible) why it has none."""
