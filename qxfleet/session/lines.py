"""Replies of several lines, each with a name: to values, and to the orders and settings that a device lists itself.

Source: RFC 9271 (LIST VAR, RW, CMD, ENUM and RANGE, GET TYPE). Pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from qxfleet.dialects.spec import (
    OFFERS,
    TAKES,
    Convert,
    DeviceSetting,
    Dialect,
    Field,
    Form,
    Hazard,
    Limit,
    Lines,
    Listing,
    Named,
    Order,
    Reply,
    Word,
)  # fmt: skip
from qxfleet.model.reading import Value
from qxfleet.model.variables import VARIABLES, Kind

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_VARIABLE = re.compile(rf'({NAME}) "((?:[^"\\\n]|\\.)*)"')
_FORM = re.compile(rf"(TYPE|ENUM|RANGE) ({NAME}) (.*)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NUMBER = re.compile(r"[+-]?\d{1,15}(\.\d{1,15})?")

LONGEST = 255
"""Characters of a value that are kept: NUT's own limit for most."""

MOST = 1000
"""Lines of a reply that are looked at; no UPS has so many variables."""

_UNWRITABLE = frozenset("{}")
"""What a request can't hold: braces name a value in the tables."""


def read_lines(reply: Reply, frame: bytes) -> dict[str, Value | bool]:
    """The values of a reply of lines; a line that is none of its kind tells nothing."""
    text = frame.decode("utf-8", "replace")
    if reply.lines is Lines.NAMES:
        return {f"{OFFERS}{name}": True for name in text.split("\n", MOST)[:MOST] if re.fullmatch(NAME, name)}
    if reply.lines is Lines.FORMS:
        return _forms(text)
    raw = {name: _unquoted(value) for name, value in _VARIABLE.findall(text)[:MOST]}
    values: dict[str, Value | bool] = {}
    for name, said in raw.items():
        if not name.startswith(reply.hides) and (value := _value(name, said)) is not None:
            values[name] = value
    for field in reply.fields:
        told = _field(field, raw)
        if told is not None:
            values[field.name] = told
    return values


def _unquoted(text: str) -> str:
    if "\\" in text:
        text = re.sub(r"\\(.)", r"\1", text)
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable())
    return text[:LONGEST].strip()


def _value(name: str, said: str) -> Value | None:
    variable = VARIABLES.get(name)
    if variable is not None and variable.kind is Kind.NUMBER:
        return _number(said)
    return said or None


def _number(said: str | None) -> float | None:
    return float(said) if said is not None and _NUMBER.fullmatch(said) else None


def _field(field: Field, raw: Mapping[str, str]) -> Value | bool | None:
    match field.where:
        case Named(name, instead, lowest, highest):
            said = raw.get(name) or raw.get(instead)
            if field.convert is not Convert.NUMBER:
                return dict(field.words).get(said or "") if field.words else said or None
            value = _number(said)
            if value is None and (lowest or highest):
                found = [each for other in lowest or highest if (each := _number(raw.get(other))) is not None]
                value = (min if lowest else max)(found, default=None)
            return value
        case Word(name, words, other, silent):
            if name not in raw:
                return silent
            said_words = _words(raw[name])
            if not said_words.isdisjoint(words):
                return True
            return False if not other or not said_words.isdisjoint(other) else None
        case _:
            raise ValueError(f"{field.name}: stands in no line")


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    """The words of a text in capitals; the same few texts come with every poll."""
    return frozenset(re.findall(r"[A-Z]+", text.upper()))


def _forms(text: str) -> dict[str, Value | bool]:
    """What each setting takes, its lines together."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n", 10 * MOST):
        if match := _FORM.fullmatch(line):
            found.setdefault(match[2], []).append(f"{match[1]} {match[3]}")
    return {f"{TAKES}{name}": "\n".join(lines) for name, lines in found.items()}


# -- what a device lists


def as_listed(dialect: Dialect, told: Mapping[str, Value | bool]) -> Dialect:
    """The dialect as one device has it that lists its own orders and settings; the same for any other."""
    if dialect.listing is None:
        return dialect
    offers = tuple(sorted(name.removeprefix(OFFERS) for name in told if name.startswith(OFFERS)))
    takes = tuple(sorted((name, value) for name, value in told.items() if name.startswith(TAKES) and isinstance(value, str)))
    return _as_listed(dialect.name, _Table(dialect), offers, takes)


class _Table:
    """A dialect as a key: by identity, because its samples can't be hashed."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Table) and other.dialect is self.dialect

    def __hash__(self) -> int:
        return id(self.dialect)


@lru_cache(maxsize=256)
def _as_listed(name: str, table: _Table, offers: tuple[str, ...], takes: tuple[tuple[str, str], ...]) -> Dialect:
    """Made once for all devices with the same lists."""
    dialect = table.dialect
    listing = dialect.listing
    assert listing is not None
    known = {order.name for order in dialect.orders}
    orders = (*dialect.orders, *(_order(each, listing) for each in offers if each not in known))
    settings = (_setting(each.removeprefix(TAKES), forms, listing) for each, forms in takes)
    return replace(dialect, orders=orders, device_settings=tuple(filter(None, settings)))


def _order(name: str, listing: Listing) -> Order:
    """An order that no table knows: what it may cost is not known either."""
    return Order(name, (Form(((listing.order % name).encode(),)),), "as the device names it", hazard=Hazard.LOAD)


def _setting(name: str, forms: str, listing: Listing) -> DeviceSetting | None:
    """A setting by what the device says it takes; None for one that nothing can be written into."""
    listed = VARIABLES.get(name)
    about = listed.description if listed is not None and listed.description else "as the device names it"
    lines = [line.partition(" ")[::2] for line in forms.split("\n")]
    choices = tuple(
        (text, (listing.setting % (name, quoted(text))).encode())
        for kind, rest in lines if kind == "ENUM" and (match := _QUOTED.fullmatch(rest))
        and (text := _unquoted(match[1])) and not _UNWRITABLE & set(text)
    )  # fmt: skip
    if choices:
        return DeviceSetting(name, about, listing.shows, choices)
    limits = tuple(Limit(low, high) for kind, rest in lines if kind == "RANGE" for low, high in _range(rest))
    wire = (listing.setting % (name, "{}")).replace("%", "%%")
    if limits:
        return DeviceSetting(name, about, listing.shows, wire=wire.replace("{}", "%.10g"), limits=(_widest(limits),), step=0)
    words = [rest.split() for kind, rest in lines if kind == "TYPE"]
    if not words or "RW" not in words[0]:
        return None
    length = next((int(word[7:]) for word in words[0] if re.fullmatch(r"STRING:\d{1,4}", word)), LONGEST)
    return DeviceSetting(name, about, listing.shows, wire=wire.replace("{}", "%s"), longest=min(length, LONGEST) or LONGEST)


def _range(rest: str) -> Iterator[tuple[float, float]]:
    bounds = [_number(each) for each in _QUOTED.findall(rest)]
    if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None and bounds[0] <= bounds[1]:
        yield bounds[0], bounds[1]


def _widest(limits: tuple[Limit, ...]) -> Limit:
    return Limit(min(each.low for each in limits), max(each.high for each in limits))


def quoted(text: str) -> str:
    """A value as it stands between double quotes."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def as_number(name: str, text: str) -> float | None:
    """A free text as the number that the variable is; None where it is none, or the variable no number."""
    variable = VARIABLES.get(name)
    if variable is None or variable.kind is not Kind.NUMBER:
        return None
    number = _number(text.strip())
    return number if number is not None and math.isfinite(number) else None


def writable(text: str) -> bool:
    """Whether a text can be sent as it is."""
    return text.isprintable() and not _UNWRITABLE & set(text)
