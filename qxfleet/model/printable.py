"""Text from outside, on its way to people: the one place where what could steer a terminal or forge a line is written out."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text on one line without control characters, each written as Python would (``\\n``, ``\\x1b``).

    Whoever prints or logs what a user, a device or a file said calls this; a page's templates escape by themselves.
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
