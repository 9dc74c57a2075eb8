"""One TOML file read: its tables and the lines of its keys, or what keeps it from being read, in plain words."""

from __future__ import annotations

import pathlib
import re
import tomllib

from qxfleet.config.findings import Findings, Place, Source
from qxfleet.config.places import key_lines


def read_source(file: pathlib.Path, findings: Findings, remedy: str) -> Source | None:
    """One file's tables; None, and a problem found, if it can't be read. ``remedy``: what to do if it is not there."""
    findings.begin(str(file))
    nothing = Place(Source(str(file), file, {}, {}))
    try:
        text = file.read_bytes().decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
        return Source(str(file), file, tomllib.loads(text), key_lines(text))
    except FileNotFoundError:
        findings.problem(nothing, f"no such file: {remedy}")
    except PermissionError:
        findings.problem(nothing, "no permission to read it: run as a user that may, or change its owner or mode")
    except OSError as error:
        findings.problem(nothing, f"can't be read, {error.strerror or error}: {remedy}")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        findings.problem(_at_line(file, line), "this line is not UTF-8 text: save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        message, line, column = _syntax(str(error), text)
        findings.problem(_at_line(file, line), f"column {column}: {message}")
    return None


def _at_line(file: pathlib.Path, line: int) -> Place:
    """A spot in a file that has no readable keys."""
    return Place(Source(str(file), file, {}, {(): line}))


_SYNTAX_WORDS = (
    ("Invalid value", "expected a value: text stands in quotes, a flag is true or false, a list is [1, 2]"),
    ("Expected '=' after a key", "expected KEY = VALUE"),
    ("Invalid statement", "expected KEY = VALUE, [table] or [[table]]; an unusual key stands in quotes"),
    ("Invalid initial character for a key", "expected KEY = VALUE; an unusual key stands in quotes"),
    ("Cannot overwrite a value", "this is set already further up: keep one; each UPS is a [[ups]] of its own"),
    ("Cannot declare", "this table is there already further up: write it once; each UPS is a [[ups]]"),
    ("Cannot mutate immutable namespace", "this table was complete already further up: keep it in one place"),
    ("Expected newline or end of document", "expected the end of the line: text and durations stand in quotes, "
                                            "numbers have no leading zero, each setting has a line of its own"),
    ("Unclosed array", "a list is not closed: expected ]"),
    ("Unclosed inline table", "a table in braces is not closed: expected }"),
    ("Illegal character", "a character that can't stand here; is a quote missing at the end of a text?"),
    ("Unterminated string", "a text is not closed: expected a quote"),
    ("Unescaped '\\' in a string", "a backslash in double quotes must be doubled; in single quotes it stays"),
    ("Expected ']]'", "expected ]] at the end of the line"),
    ("Expected ']'", "expected ] at the end of the line"),
)  # fmt: skip


def _syntax(message: str, text: str) -> tuple[str, int, int]:
    """tomllib's message in plain words, line and column."""
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    bare = message[: place.start()] if place else message
    words = next((words for start, words in _SYNTAX_WORDS if bare.startswith(start)), "not TOML")
    if place and place[1]:
        line, column = int(place[1]), int(place[2])
    else:
        written = text.rstrip("\n")
        line, column = written.count("\n") + 1, len(written) - written.rfind("\n")
    return f"{words} ({bare})", line, column
