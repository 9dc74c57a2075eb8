"""How commands print: one JSON document, a table, or lines; and nothing that a device said reaches the terminal raw."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.model.printable import printable as printable

if TYPE_CHECKING:
    from rich.console import Console

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

WIDE = 500
"""Columns of a table that goes into a pipe or a file: nothing is cut there."""


def emit(document: Any) -> None:
    """Print a JSON document: indented for people, on one line for programs."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def complain(text: str) -> None:
    """Say what is wrong, on stderr."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=True)


def coloured(text: str, colour: str | None) -> str:
    """Text in a colour where the terminal shows colours."""
    if colour is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, fg=colour)


def console(*, stderr: bool = False) -> Console:
    """A rich console that cuts nothing when its output is not a terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDE, highlight=False, markup=False, emoji=False)


def print_table(
    headings: Sequence[tuple[str, str]], rows: Iterable[Sequence[tuple[str, str | None]]], *, stderr: bool = False
) -> None:
    """Rows of (text, rich style) under (heading, ``left`` or ``right``); where there is no room, words wrap."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, (heading, side) in enumerate(headings):
        right = side == "right"
        table.add_column(heading, justify="right" if right else "left", no_wrap=right or number == 0)
    for row in rows:
        table.add_row(*(Text(printable(text), style or "") for text, style in row))
    where = console(stderr=stderr)
    with where.capture() as drawn:
        where.print(table)
    stream = sys.stderr if stderr else sys.stdout
    stream.write("".join(f"{line.rstrip()}\n" for line in drawn.get().splitlines()))
