"""What a device complains about: warnings, faults and modes as items, and the one line that NUT clients read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ALARM_LIMIT = 255
"""Characters NUT keeps of ``ups.alarm``; it cuts the rest off silently (voltronic.md section 6)."""

WARNINGS = "UPS warnings: "


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing a device complains about, as long as it does.

    ``code`` is stable (``warning.56``, ``fault.43``, ``mode.fault``); ``level`` 1 is the gravest, 3 informational; ``source`` the
    variable or bit that says it; ``group`` what it is about. ``number`` is the place of a warning bit. ``linked`` names a
    condition that is told anyway on other grounds. ``alarm``: belongs into ``ups.alarm``.
    """

    code: str
    text: str
    level: int
    source: str
    group: str = ""
    number: int | None = None
    linked: str = ""
    alarm: bool = True


def ranges(numbers: Iterable[int]) -> str:
    """``1,2,3,7`` → ``#1-3 #7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(f"#{first}" if first == last else f"#{first}-{last}" for first, last in runs)


def alarm_text(alarms: Sequence[str], notices: Sequence[Notice] = ()) -> str:
    """``ups.alarm``: alarm texts, then notices by level and number, never cut inside an item.

    What does not fit ALARM_LIMIT is given by its bit numbers, as the seeds promise, with the count; those always fit.
    Sources: voltronic.md section 6; the seeds' chapter "UPS WARNINGS".
    """
    told = sorted((notice for notice in notices if notice.alarm), key=lambda each: (each.level, each.number or 0))
    plain = [*alarms, *(_sentence(notice.text) for notice in told if notice.number is None)]
    warnings = [notice for notice in told if notice.number is not None]
    for spelled in range(len(warnings), -1, -1):
        text = _line(plain, warnings, spelled)
        if len(text) <= ALARM_LIMIT:
            return text
    while plain and len(_line(plain, warnings, 0)) > ALARM_LIMIT:
        plain.pop()
    return _line(plain, warnings, 0)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _line(plain: Sequence[str], warnings: Sequence[Notice], spelled: int) -> str:
    parts = list(plain)
    if warnings:
        items = [f"{notice.text}." for notice in warnings[:spelled]]
        if left := [notice.number for notice in warnings[spelled:] if notice.number is not None]:
            items.append(f"({len(left)} more: {ranges(left)})")
        parts.append(WARNINGS + " ".join(items))
    return " ".join(parts)
