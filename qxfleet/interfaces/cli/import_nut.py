"""``import-nut``: what Network UPS Tools is configured to do, as a configuration of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qxfleet.interfaces.cli.output import Json, complain, emit


def import_nut(
    file: Annotated[Path, typer.Argument(metavar="UPS.CONF", help="NUT's ups.conf.")],
    json: Json = False,
) -> None:
    """Turn NUT's ups.conf into [[ups]] blocks.

    The blocks go to stdout, what could not be carried over to stderr and, as comments, above the block it belongs to. Touches no
    device and changes nothing. Exit code 1 if no UPS could be carried over.
    """
    from qxfleet.config.nut.syntax import read_text
    from qxfleet.config.nut.toml import ups_text
    from qxfleet.config.nut.ups import import_ups_conf

    imported, loose = import_ups_conf(read_text(file), str(file))
    notes = [*loose, *(note for ups in imported for note in ups.notes)]
    if json:
        emit({
            "ups": [{**ups.table, "left_out": ups.left_out or None, "settings": ups.live} for ups in imported],
            "toml": "\n".join(ups_text(ups) for ups in imported),
            "notes": [{"at": note.spot, "section": note.ups or None, "text": note.text} for note in notes],
        })  # fmt: skip
    else:
        typer.echo("\n".join(ups_text(ups) for ups in imported), nl=False)
        for note in notes:
            complain(str(note))
    sound = sum(not ups.left_out for ups in imported)
    if not json:
        complain(f"{sound} of {len(imported) + sum(bool(note.ups) for note in loose)} UPSes carried over, {len(notes)} notes")
    if not sound:
        raise typer.Exit(1)
