"""What was carried over, as the text of a configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qxfleet.config.findings import toml_text
from qxfleet.config.nut.complaints import Note
from qxfleet.config.nut.ups import ImportedUps, profile

_LONG = 10_000


def ups_text(ups: ImportedUps) -> str:
    """The ``[[ups]]`` block and, where settings of the device were found, its ``[[profile]]``; notes stand above as comments."""
    lines = [f"# {note}" for note in ups.notes]
    block = block_lines("ups", ups.table)
    if ups.live:
        block += ["", *block_lines("profile", profile(ups))]
    if ups.left_out:
        block = [f"# {line}".rstrip() for line in block]
    return "\n".join([*lines, *block]) + "\n"


def block_text(header: str, table: Mapping[str, object], notes: Iterable[Note]) -> str:
    """One ``[[header]]`` block below its notes; ``[shutdown]`` with its brackets is a table that stands once."""
    return "\n".join([*(f"# {note}" for note in notes), *block_lines(header, table)]) + "\n"


def block_lines(header: str, table: Mapping[str, object]) -> list[str]:
    """The lines of one ``[[header]]`` block; a table inside stands in braces."""
    head = header if header.startswith("[") else f"[[{header}]]"
    return [head, *(f"{_key(key)} = {_value(value)}" for key, value in _worth(table.items()))]


def _worth(items: Iterable[tuple[str, object]]) -> Iterable[tuple[str, object]]:
    return (item for item in items if item != ("dialect", "auto"))


def _key(key: str) -> str:
    return key if all(part.replace("_", "").replace("-", "").isalnum() for part in key.split(".")) else toml_text(key, _LONG)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{toml_text(key, _LONG)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return toml_text(value, _LONG)
