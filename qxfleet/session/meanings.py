"""What values mean for the status: a dialect's meanings and flags, looked up (voltronic.md sections 5 to 7)."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qxfleet.dialects.spec import Dialect, Flags, Meaning, Tier
from qxfleet.model.notice import Notice
from qxfleet.model.reading import Value
from qxfleet.model.status import Status


@dataclass(frozen=True, slots=True)
class Said:
    """Status flags that values set and take away, and the notices they make."""

    sets: int = 0
    clears: int = 0
    notices: tuple[Notice, ...] = ()


class Sayings:
    """One device's meanings. It remembers the last two answers of flags: a notice goes when both are without it."""

    def __init__(self, dialect: Dialect) -> None:
        quick = {field.name for query in dialect.tier(Tier.QUICK) for reply in query.replies for field in reply.fields}
        quick |= {each.name for query in dialect.tier(Tier.QUICK) for reply in query.replies for each in reply.derived}
        quick |= {each.name for each in dialect.derived}
        self._meanings: dict[str, list[Meaning]] = {}
        self._quick: dict[str, list[Meaning]] = {}
        for meaning in dialect.meanings:
            (self._quick if meaning.name in quick else self._meanings).setdefault(meaning.name, []).append(meaning)
        self._flags = tuple(flags for flags in dialect.flags if flags.name not in quick)
        self._quick_flags = tuple(flags for flags in dialect.flags if flags.name in quick)
        self._heard: dict[str, tuple[str, str]] = {}

    def heard(self, values: Mapping[str, Value | bool]) -> bool:
        """Note an answer's flags. True if they differ from those before."""
        changed = False
        for flags in (*self._flags, *self._quick_flags):
            now = values.get(flags.name)
            if isinstance(now, str):
                before = self._heard.get(flags.name, ("", ""))[0]
                changed = changed or before not in ("", now)
                self._heard[flags.name] = (now, before)
        return changed

    def at_once(self, *layers: dict[str, Value | bool]) -> Said:
        """What the values of a status reply say, the first of ``layers`` that has one; called for every poll."""
        if not self._quick and not self._quick_flags:
            return _NOTHING
        return self._of(ChainMap(*layers), self._quick, self._quick_flags)

    def of(self, values: Mapping[str, Value | bool]) -> Said:
        """What the values of all other replies say together."""
        return self._of(values, self._meanings, self._flags)

    def _of(
        self, values: Mapping[str, Value | bool], by_name: Mapping[str, list[Meaning]], all_flags: Sequence[Flags]
    ) -> Said:
        sets = clears = 0
        notices: list[Notice] = []
        for name, meanings in by_name.items():
            value = values.get(name)
            if value is None or (meaning := _meaning(meanings, value, values)) is None:
                continue
            sets |= meaning.sets
            clears |= meaning.clears
            if (notice := meaning.notice) is not None:
                if meaning.value is None:
                    notice = replace(notice, code=notice.code.format(value), text=notice.text.format(value))
                notices.append(notice)
        for flags in all_flags:
            now = values.get(flags.name)
            if not isinstance(now, str):
                continue
            before = self._heard.get(flags.name, ("", ""))[1]
            for index, (flag, notice) in enumerate(flags.meanings):
                if now[index : index + 1] == "1":
                    sets |= flag
                    notices.append(notice)
                elif before[index : index + 1] == "1":
                    notices.append(notice)
        clears |= _AGAINST[sets & _LINE]
        return Said(sets, clears & ~sets, tuple(notices))


_NOTHING = Said()

_OL, _OB = int(Status.OL), int(Status.OB)
_LINE = _OL | _OB
_AGAINST = {0: 0, _OL: _OB, _OB: _OL, _LINE: _OL}
"""Flags of the line that can't stand beside those that are set: a warning of failed mains stands above a mode."""


def _meaning(meanings: list[Meaning], value: Value | bool, values: Mapping[str, Value | bool]) -> Meaning | None:
    """The meaning of a value; one that lists it before one for all others. False bits of no meaning of their own have none."""
    for meaning in meanings:
        if meaning.value == value and all(holds.of(values) for holds in meaning.when):
            return meaning
    for meaning in meanings:
        if meaning.value is None and _within(meaning, value) and all(holds.of(values) for holds in meaning.when):
            return meaning
    return None


def _within(meaning: Meaning, value: Value | bool) -> bool:
    return not isinstance(value, float) or meaning.low <= value < meaning.high
