"""Who is meant: UPS names, groups, dialects, and what they have in common, as ``group:feed-a & !group:spare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from qxfleet.config.findings import did_you_mean, toml_text

WORDS = 'list of UPS names (also with *), "group:NAME", "dialect:NAME" or "all", joined by & and negated by !'


@dataclass(frozen=True, slots=True)
class Member:
    """A UPS as far as it can be meant by a target."""

    name: str
    groups: tuple[str, ...] = ()
    dialect: str = "auto"


def select(target: str, fleet: Sequence[Member]) -> list[str]:
    """Names meant by one target, in the fleet's order. Raises ValueError that says what is wrong, and the nearest match."""
    chosen = list(fleet)
    for part in target.split("&"):
        word = part.strip()
        negated = word.startswith("!")
        meant = _meant(word.removeprefix("!").strip(), target, fleet)
        chosen = [each for each in chosen if (each.name in meant) is not negated]
    return [each.name for each in chosen]


def _meant(word: str, target: str, fleet: Sequence[Member]) -> frozenset[str]:
    if not word:
        raise ValueError(f"expected {WORDS}, found {toml_text(target)}")
    if word == "all":
        return frozenset(each.name for each in fleet)
    groups = {group for each in fleet for group in each.groups}
    if word.startswith("group:"):
        name = word.removeprefix("group:").strip()
        if name not in groups:
            raise ValueError(f"no UPS is in group {toml_text(name)}{did_you_mean(name, groups)}")
        return frozenset(each.name for each in fleet if name in each.groups)
    if word.startswith("dialect:"):
        name = word.removeprefix("dialect:").strip()
        dialects = {each.dialect for each in fleet} - {"auto"}
        if name not in dialects:
            raise ValueError(f"no UPS is configured with the dialect {toml_text(name)}{did_you_mean(name, dialects)}")
        return frozenset(each.name for each in fleet if each.dialect == name)
    meant = frozenset(each.name for each in fleet if fnmatchcase(each.name, word))
    if not meant:
        guess = f': write "group:{word}"' if word in groups else did_you_mean(word, [each.name for each in fleet])
        raise ValueError(f"no UPS is named {toml_text(word)}{guess}")
    return meant
