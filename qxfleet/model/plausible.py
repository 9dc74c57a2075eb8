"""Whether well-formed values can be true; what can't is never published.

Sources: quirks.md "Parser rules in short" rule 4 and the tables above it; ranges of what 135 current dumps report.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from qxfleet.errors import ReplyImplausible
from qxfleet.model.reading import Value

RANGES: tuple[tuple[str, float, float], ...] = (
    ("input.voltage", 0.0, 400.0),
    ("input.voltage.fault", 0.0, 500.0),
    ("output.voltage", 0.0, 400.0),
    ("ups.load", 0.0, 300.0),
    ("input.frequency", 0.0, 100.0),
    ("battery.voltage", 0.0, 600.0),
    ("ups.temperature", -40.0, 150.0),
)
"""A value outside costs that value, never the status bits: "input 408.0 V while on battery: flag, keep status bits"."""

RATING_RANGES: tuple[tuple[str, float, float], ...] = (
    ("input.voltage.nominal", 80.0, 480.0),
    ("input.current.nominal", 0.0, 2000.0),
    ("battery.voltage.nominal", 5.0, 600.0),
    ("input.frequency.nominal", 40.0, 70.0),
    ("output.voltage.nominal", 80.0, 480.0),
    ("output.current.nominal", 0.0, 2000.0),
    ("output.frequency.nominal", 40.0, 70.0),
)
"""quirks.md "F ratings": each number has its own range, and a nominal of 0.0 is not known."""


OTHER_RANGES: tuple[tuple[str, float, float], ...] = (
    ("battery.charge", 0.0, 100.0),
)
"""Of what is told outside the status (extra-dialects.md sections 7 and 12)."""


def sift_other(values: MutableMapping[str, Value | bool]) -> tuple[str, ...]:
    """Remove values of any other reply that can't be true, and name them."""
    return _out_of_range(values, OTHER_RANGES)


LISTED_RANGES: tuple[tuple[str, float, float], ...] = (
    ("input.voltage", 0.0, 1000.0),
    ("output.voltage", 0.0, 1000.0),
    ("battery.voltage", 0.0, 1000.0),
    ("battery.charge", 0.0, 100.0),
    ("ups.load", 0.0, 300.0),
    ("input.frequency", 0.0, 500.0),
    ("output.frequency", 0.0, 500.0),
    ("ups.temperature", -40.0, 150.0),
    ("battery.runtime", 0.0, 1e8),
)
"""Of UPSes of any kind, those of three phases with long strings of batteries included."""


def sift_listed(values: MutableMapping[str, Value | bool]) -> tuple[str, ...]:
    """Remove values of a reply of lines that can't be true, and name them; a UPS may well tell no voltage at all."""
    return _out_of_range(values, LISTED_RANGES)


def _out_of_range(values: MutableMapping[str, Value | bool], ranges: tuple[tuple[str, float, float], ...]) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    for name, low, high in ranges:
        value = values.get(name)
        if value is not None and not low <= value <= high:  # type: ignore[operator]
            del values[name]
            notes = (*notes, f"{name} implausible: {value:g}")
    return notes


VOLTS = tuple(f"{part}{side}.voltage" for part in ("", "part.") for side in ("battery", "input", "output"))
"""A status reply has one of these, at least as a part of what is published."""


def sift_status(values: MutableMapping[str, Value | bool]) -> tuple[str, ...]:
    """Remove values of a status reply that can't be true, and name them.

    Raises ReplyImplausible (``zeros``) for a reply without a single volt in it: a bridge that is not ready answers like that
    (quirks.md "all zero, still 47 bytes"), and it must never read as "on mains".
    """
    if not any(values.get(name) for name in VOLTS):
        raise ReplyImplausible("zeros")
    for name, low, high in RANGES:
        value = values.get(name)
        if value is not None and not low <= value <= high:  # type: ignore[operator]
            return _out_of_range(values, RANGES)
    return ()


def sift_rating(values: MutableMapping[str, Value | bool]) -> tuple[str, ...]:
    """Remove ratings that can't be true, and name them. Raises ReplyImplausible (``zeros``) for a reply of zeros."""
    if not any(values.get(name) for name, _, _ in RATING_RANGES):
        raise ReplyImplausible("zeros")
    return _out_of_range(values, RATING_RANGES)
