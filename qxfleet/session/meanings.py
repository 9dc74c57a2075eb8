"""What values mean for the status: a dialect's meanings and flags, looked up (voltronic.md sections 5 to 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qxfleet.dialects.spec import Dialect, Meaning, Tier
from qxfleet.model.notice import Notice
from qxfleet.model.reading import Value


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
        self._meanings: dict[str, list[Meaning]] = {}
        self._quick: dict[str, list[Meaning]] = {}
        for meaning in dialect.meanings:
            (self._quick if meaning.name in quick else self._meanings).setdefault(meaning.name, []).append(meaning)
        self._flags = dialect.flags
        self._heard: dict[str, tuple[str, str]] = {}

    def heard(self, values: Mapping[str, Value | bool]) -> bool:
        """Note an answer's flags. True if they differ from those before."""
        changed = False
        for flags in self._flags:
            now = values.get(flags.name)
            if isinstance(now, str):
                before = self._heard.get(flags.name, ("", ""))[0]
                changed = changed or before not in ("", now)
                self._heard[flags.name] = (now, before)
        return changed

    def at_once(self, *layers: Mapping[str, Value | bool]) -> Said:
        """What the values of a status reply say; called for every poll. Such meanings have no conditions."""
        said = _NOTHING
        for name, meanings in self._quick.items():
            value = next((layer[name] for layer in layers if name in layer), None)
            if value is None or (meaning := _meaning(meanings, value, layers[0])) is None:
                continue
            notices = said.notices if meaning.notice is None else (*said.notices, meaning.notice)
            said = Said(said.sets | meaning.sets, said.clears | meaning.clears, notices)
        return said

    def of(self, values: Mapping[str, Value | bool]) -> Said:
        """What the values of all other replies say together."""
        sets = clears = 0
        notices: list[Notice] = []
        for name, meanings in self._meanings.items():
            value = values.get(name)
            if value is None or (meaning := _meaning(meanings, value, values)) is None:
                continue
            sets |= meaning.sets
            clears |= meaning.clears
            if (notice := meaning.notice) is not None:
                if meaning.value is None:
                    notice = replace(notice, code=notice.code.format(value), text=notice.text.format(value))
                notices.append(notice)
        for flags in self._flags:
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
        return Said(sets, clears, tuple(notices))


_NOTHING = Said()


def _meaning(meanings: list[Meaning], value: Value | bool, values: Mapping[str, Value | bool]) -> Meaning | None:
    """The meaning of a value; one that lists it before one for all others. False bits of no meaning of their own have none."""
    for meaning in meanings:
        if meaning.value == value and all(holds.of(values) for holds in meaning.when):
            return meaning
    for meaning in meanings:
        if meaning.value is None and all(holds.of(values) for holds in meaning.when):
            return meaning
    return None
