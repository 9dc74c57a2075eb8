"""Where each key of a TOML text stands, so that a mistake can be shown with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator

Path = tuple[str | int, ...]
"""The way to a value through tables and lists: ``("ups", 1, "dialect")``."""

_TOKEN = re.compile(
    r"""
      (?P<comment>\#[^\n]*)
    | (?P<string>\"\"\"(?:\\.|[^\\])*?\"{3,5} | '''.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<newline>\n)
    | (?P<open>[\[{]) | (?P<close>[\]}])
    | (?P<mark>[=.,])
    | (?P<bare>[^\s\#"'\[\]{}=.,]+)
    """,
    re.VERBOSE | re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every table header and key of ``text``, which must be TOML that :mod:`tomllib` accepts.

    Keys inside an inline table or a list have no entry: the line of the setting that holds them stands for them.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for kind, keys, line in _statements(text):
        if kind == "key":
            path = table
            for key in keys:
                path = (*path, key)
                lines.setdefault(path, line)
            continue
        path = ()
        for depth, key in enumerate(keys, 1):
            path = (*path, key)
            lines.setdefault(path, line)
            if kind == "[[" and depth == len(keys):
                counts[path] = counts.get(path, 0) + 1
            if path in counts:
                path = (*path, counts[path] - 1)
                lines.setdefault(path, line)
        table = path
    return lines


def _statements(text: str) -> Iterator[tuple[str, list[str], int]]:
    """Headers (``[`` or ``[[``) and assignments (``key``) with their dotted key and line; values are skipped."""
    line, depth, kind, begun = 1, 0, "", 1
    keys: list[str] = []
    for token in _TOKEN.finditer(text):
        what, word = token.lastgroup, token.group()
        if what == "newline":
            if depth == 0:
                kind, keys = "", []
        elif kind == "rest":
            depth += (what == "open") - (what == "close" and depth > 0)
        elif what == "open":
            kind, begun = kind + word, line
        elif what == "close" or word == "=":
            yield kind, keys, begun
            kind = "rest"
        elif what in ("string", "bare"):
            if not kind:
                kind, begun = "key", line
            keys.append(_key(word) if what == "string" else word)
        line += word.count("\n")


def _key(quoted: str) -> str:
    """A quoted key without its quotes; the escapes a key may hold are undone."""
    if quoted.startswith("'"):
        return quoted[1:-1]
    return quoted[1:-1].encode("latin-1", "backslashreplace").decode("unicode_escape")
