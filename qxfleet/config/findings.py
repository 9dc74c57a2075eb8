"""Mistakes and warnings while a configuration is read: where, what, what was expected, what to do."""

from __future__ import annotations

import difflib
import json
import pathlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qxfleet.config.places import Path
from qxfleet.model.printable import printable


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One file as read: its name for messages, its tables, and the line of each key."""

    name: str
    path: pathlib.Path
    tables: Mapping[str, object]
    lines: Mapping[Path, int]


@dataclass(frozen=True, slots=True)
class Place:
    """A table or key in a file; ``str()`` gives ``fleet.toml:12: ups[1] "rack1-b" .dialect``."""

    source: Source
    path: Path = ()

    def at(self, *keys: str | int) -> Place:
        """A place further down."""
        return Place(self.source, self.path + keys)

    @property
    def line(self) -> int:
        """The line of the key, or of the nearest thing around it that has one; 0 if none has."""
        for end in range(len(self.path), -1, -1):
            line = self.source.lines.get(self.path[:end])
            if line is not None:
                return line
        return 0

    @property
    def spot(self) -> str:
        """File and line: ``fleet.toml:12``."""
        return f"{self.source.name}:{self.line}" if self.line else self.source.name

    def __str__(self) -> str:
        text = ""
        value: object = self.source.tables
        if len(self.path) == 1:
            whole = self.source.tables.get(str(self.path[0]))
            if isinstance(whole, dict):
                return f"{self.spot}: [{self.path[0]}]"
            if isinstance(whole, list) and all(isinstance(item, dict) for item in whole):
                return f"{self.spot}: [[{self.path[0]}]]"
        for key in self.path:
            if isinstance(key, int):
                text += f"[{key}]"
                value = value[key] if isinstance(value, list) and key < len(value) else None
                name = value.get("name") if isinstance(value, dict) else None
                if isinstance(name, str):
                    text += f" {toml_text(name)} "
                continue
            text += ("." if text else "") + (key if key.replace("_", "").isalnum() else _quoted_unless_dotted(key))
            value = value.get(key) if isinstance(value, dict) else None
        return f"{self.spot}: {text.strip()}" if text else self.spot


@dataclass(slots=True)
class Findings:
    """What was found so far, in the order of the files and of their lines."""

    problems: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)
    _ranks: dict[str, int] = field(default_factory=dict)

    def begin(self, name: str) -> None:
        """A file is about to be read; what is found in it comes behind the files begun before."""
        self._ranks.setdefault(name, len(self._ranks))

    def problem(self, place: Place, text: str) -> None:
        """A mistake: the configuration can't be used."""
        self.problems.append((self._rank(place), printable(f"{place}: {text}")))

    def warning(self, place: Place, text: str) -> None:
        """Something worth telling that does not stop anything."""
        self.warnings.append((self._rank(place), printable(f"{place}: {text}")))

    def _rank(self, place: Place) -> int:
        return self._ranks[place.source.name] * 1_000_000 + place.line


def in_order(found: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """The texts by file and line; what shares a line stays in the order it was found."""
    return tuple(text for _, text in sorted(found, key=lambda ranked: ranked[0]))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    by_plain = {name.lower(): name for name in known}
    match = difflib.get_close_matches(word.lower().replace("-", "_"), by_plain, 1, 0.6)
    return by_plain[match[0]] if match else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``, did you mean "dialect"?`` or nothing."""
    match = nearest(word, known)
    return f', did you mean "{match}"?' if match else ""


def toml_text(value: object, limit: int = 60) -> str:
    """A value as it would stand in the file, cut to ``limit`` characters."""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(toml_text(item) for item in value) + "]"
    elif isinstance(value, dict):
        text = "{" + ", ".join(f"{key} = {toml_text(item)}" for key, item in value.items()) + "}"
    else:
        text = str(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _quoted_unless_dotted(key: str) -> str:
    plain = key.replace(".", "").replace("_", "").replace("-", "")
    return key if plain.isalnum() else toml_text(key)
