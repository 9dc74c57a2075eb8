"""Words shared by tables read by columns: columns as the references count them, protocol numbers, samples."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.dialects.spec import Convert, Field, Holds, Reply, Sample, Span
from qxfleet.model.reading import Value

CRC = 2
"""Bytes that a closing CRC adds to a reply (voltronic.md section 1.5)."""


def protocols(*numbers: str) -> Holds:
    """The device said it is one of these (``P01``, …)."""
    return Holds("ups.firmware.aux", numbers)


def number(name: str, first: int, last: int | None, scale: float = 1.0, *, wins: bool = False) -> Field:
    """A number at columns ``first`` to ``last`` inclusive, as the reference writes them; None: to the end."""
    return Field(name, Span(first, None if last is None else last + 1), scale=scale, wins=wins)


def text(name: str, first: int, last: int | None) -> Field:
    """A name: stripped of its padding, absent where it is filler."""
    return Field(name, Span(first, None if last is None else last + 1), Convert.TEXT)


def code(name: str, first: int, last: int, **words: str) -> Field:
    """Characters as they stand; ``words``, if given, say what is published for them (a leading ``_`` is not part of it)."""
    listed = tuple((sent.removeprefix("_"), published) for sent, published in words.items())
    return Field(name, Span(first, last + 1), Convert.CODE, words=listed)


def columns(length: int, *fields: Field, blanks: tuple[int, ...] = (), lead: bytes = b"(", render: str = "") -> Reply:
    """A reply of fixed columns: a bad field costs that field; it may be followed by a CRC."""
    return Reply(
        lead, fields, length=(length, length + CRC), blanks=blanks, lenient=True, render=render,
    )  # fmt: skip


def sample(frame: bytes, source: str, /, **values: Value | bool) -> Sample:
    """A sample whose value names are given with ``__`` for a dot."""
    return Sample(frame, {name.replace("__", "."): value for name, value in values.items()}, source)


def told(frame: bytes, values: Mapping[str, Value | bool], source: str) -> Sample:
    """A sample whose value names can't be written as keywords."""
    return Sample(frame, values, source)
