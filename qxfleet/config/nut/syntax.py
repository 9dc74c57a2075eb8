"""How the incumbent's files are written: words, quotes, comments, sections. Facts: the manual pages ups.conf(5), upsd.users(5)
and upsmon.conf(5)."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from qxfleet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Line:
    """The words of one line that has any; ``words`` holds an ``=`` outside quotes as a word of its own."""

    number: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """``key``, ``key = value`` or ``key value value``: ``value`` is None for a key alone, ``words`` is all that follows."""

    line: int
    key: str
    value: str | None = None
    words: tuple[str, ...] = ()


@dataclass(slots=True)
class Section:
    """``[name]`` and what stands below it."""

    line: int
    name: str
    entries: list[Entry] = field(default_factory=list)


def read_text(file: pathlib.Path) -> str:
    """The text of a file. Raises ConfigError that says what to do."""
    try:
        return file.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")
    except FileNotFoundError:
        raise ConfigError([f"{file}: no such file: name the ups.conf, as in `qxfleet import-nut /etc/nut/ups.conf`"]) from None
    except PermissionError:
        raise PermissionError(f"{file}: no permission to read it: NUT keeps it from other users, try as root") from None
    except OSError as error:
        raise ConfigError([f"{file}: can't be read, {error.strerror or error}"]) from None


def lines(text: str) -> Iterator[Line]:
    """The lines with their words. A backslash takes the next character as it is, quotes hold blanks, ``#`` begins a comment."""
    number, began = 1, 1
    words: list[str] = []
    word: list[str] | None = None
    quoted = comment = False
    characters = iter(text + "\n")
    for char in characters:
        if char == "\n":
            number += 1
        if comment:
            if char != "\n":
                continue
            comment = False
        if char == "\\":
            following = next(characters, "")
            number += following == "\n"
            if following not in ("", "\n"):
                word = [*(word or ()), following]
        elif char == '"':
            quoted = not quoted
            word = word or []
        elif quoted and char != "\n":
            word = [*(word or ()), char]
        elif char == "#":
            comment = True
        elif char in " \t\r\n=":
            if word is not None:
                words.append("".join(word))
                word = None
            if char == "=":
                words.append("=")
            if char == "\n":
                if words:
                    yield Line(began, tuple(words))
                words, began, quoted = [], number, False
        else:
            word = [*(word or ()), char]


def sections(text: str) -> tuple[list[Entry], list[Section]]:
    """What stands above the first ``[section]``, and the sections."""
    above: list[Entry] = []
    found: list[Section] = []
    for line in lines(text):
        whole = " ".join(line.words)
        if whole.startswith("[") and "]" in whole:
            found.append(Section(line.number, whole[1 : whole.index("]")].strip()))
            continue
        (found[-1].entries if found else above).append(_entry(line))
    return above, found


def _entry(line: Line) -> Entry:
    key, *rest = line.words
    if rest and rest[0] == "=":
        rest = rest[1:]
        return Entry(line.number, key, " ".join(rest), tuple(rest))
    return Entry(line.number, key, " ".join(rest) if rest else None, tuple(rest))
