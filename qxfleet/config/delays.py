"""The two delays that qxfleet keeps for a UPS: their ranges and steps are those of its dialect."""

from __future__ import annotations

from collections.abc import Sequence

from qxfleet.config.forms import Duration
from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import Dialect, Setting

DELAY = Duration(bare=True, whole=True)
"""A delay as it is written; its range is checked by :func:`delay_problem`, once the dialect is known."""


def settings_of(option: str, dialects: Sequence[Dialect] = DIALECTS) -> tuple[Setting, ...]:
    """The settings that ``option`` gives the first value of, one per dialect that has it."""
    return tuple(setting for dialect in dialects for setting in dialect.settings if setting.option == option)


def delay_form(option: str) -> str:
    """The ranges of a delay, each with the dialects that have it."""
    ranges = _ranges(option, DIALECTS)
    most = max(ranges, key=lambda each: len(ranges[each]))
    texts = [
        f"{low:g} to {high:g} s" + ("" if (low, high) == most else f" ({', '.join(who)})") for (low, high), who in ranges.items()
    ]
    return f"duration, or a number of seconds, {'; '.join(sorted(texts, key=len))}"


def delay_problem(option: str, seconds: int, dialects: Sequence[Dialect]) -> str | None:
    """What is wrong with a delay for a UPS that speaks one of these dialects: most of them must be able to write it.

    A UPS that turns out to have a narrower range keeps the nearest it can; an order with a value it can't write is refused.
    """
    ranges = _ranges(option, dialects)
    if not ranges:
        return None
    low, high = max(ranges, key=lambda each: len(ranges[each]))
    if low <= seconds <= high:
        return None
    if len(dialects) == 1:
        return f"expected {low:g} to {high:g} seconds, the range of the {dialects[0].name} dialect, found {seconds}"
    able = [name for (least, most), who in ranges.items() if least <= seconds <= most for name in who]
    remedy = f': {" and ".join(able)} can, write dialect = "{able[0]}"' if able else ""
    return f"expected {low:g} to {high:g} seconds, which most dialects can write, found {seconds}{remedy}"


def delay_cut(option: str, seconds: int, dialects: Sequence[Dialect]) -> int:
    """The delay cut down to the dialects' step, where they agree on it."""
    kept = {int(setting.truncate(seconds)) for setting in settings_of(option, dialects)}
    return kept.pop() if len(kept) == 1 else seconds


def _ranges(option: str, dialects: Sequence[Dialect]) -> dict[tuple[float, float], list[str]]:
    ranges: dict[tuple[float, float], list[str]] = {}
    for dialect in dialects:
        for setting in settings_of(option, (dialect,)):
            ranges.setdefault((setting.low, setting.high), []).append(dialect.name)
    return ranges
