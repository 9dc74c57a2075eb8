"""Durations as people write them: ``"30s"``, ``"5m"``, ``"12h"``, ``"90d"``."""

from __future__ import annotations

import re

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
"""Seconds in one unit."""

LONGEST_S = 100 * 365 * UNITS["d"]
"""No setting of ours is longer; a figure beyond it is a slip of the finger."""

_SHAPE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-zµ]*)", re.ASCII)

_EXPECTED = 'expected a duration: a number and its unit (s, m or min, h, d), as in "30s", "5m", "12h" or "90d"'


def parse_duration(text: str) -> float:
    """Seconds of a duration; raises ValueError with what was expected and, where it can be told, what to write."""
    match = _SHAPE.fullmatch(text.strip())
    if match is None:
        parts = _SHAPE.findall(text)
        whole = "".join(number + unit for number, unit in parts)
        if len(parts) > 1 and whole == text.replace(" ", "") and all(unit in UNITS for _, unit in parts):
            total = sum(float(number) * UNITS[unit] for number, unit in parts)
            raise ValueError(f'{_EXPECTED}; "{text}" has several: write "{duration_text(total)}"')
        raise ValueError(f'{_EXPECTED}; found "{text}"')
    number, unit = match.groups()
    if not unit:
        raise ValueError(f'{_EXPECTED}; "{text}" has no unit: write "{number}s" for seconds')
    factor = UNITS.get(unit)
    if factor is None:
        lower = unit.lower()
        known = lower if lower in UNITS else next((name for name in UNITS if lower in _LONG_NAMES[name]), None)
        if known is not None:
            raise ValueError(f'{_EXPECTED}; unknown unit "{unit}" in "{text}": write "{number}{known}"')
        if lower == "ms":
            raise ValueError(f'{_EXPECTED}; unknown unit "{unit}" in "{text}": write "{float(number) / 1000:g}s"')
        raise ValueError(f'{_EXPECTED}; unknown unit "{unit}" in "{text}"')
    seconds = float(number) * factor
    if seconds > LONGEST_S:
        raise ValueError(f'"{text}" is longer than 100 years')
    return seconds


_LONG_NAMES = {
    "s": ("sec", "secs", "second", "seconds"),
    "m": ("mins", "minute", "minutes"),
    "min": (),
    "h": ("hr", "hrs", "hour", "hours"),
    "d": ("day", "days"),
}


def duration_text(seconds: float) -> str:
    """A duration in its largest whole unit, as :func:`parse_duration` reads it: 180 → ``3m``, 0.5 → ``0.5s``."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % UNITS[unit] == 0:
            return f"{seconds // UNITS[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
