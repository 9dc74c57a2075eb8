"""``import-nut``: what Network UPS Tools is configured to do, as a configuration of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qxfleet.interfaces.cli.output import Json, complain, emit


def import_nut(
    file: Annotated[Path, typer.Argument(metavar="UPS.CONF", help="NUT's ups.conf.")],
    users: Annotated[Path | None, typer.Option("--users", metavar="UPSD.USERS", help="Its upsd.users as well.")] = None,
    upsmon: Annotated[
        Path | None, typer.Option("--upsmon", metavar="UPSMON.CONF", help="This machine's upsmon.conf as well.")
    ] = None,
    members: Annotated[
        bool, typer.Option("--members", help="UPSes that stay with NUT become members by their upsd (nut://).")
    ] = False,
    json: Json = False,
) -> None:
    """Turn NUT's ups.conf into [[ups]] blocks, its upsd.users into [[user]] blocks, and what upsmon did into a [[load]].

    The blocks go to stdout, what could not be carried over to stderr and, as comments, above the block it belongs to. Touches no
    device and changes nothing. Exit code 1 if no UPS could be carried over.
    """
    from qxfleet.config.nut.syntax import read_text
    from qxfleet.config.nut.toml import block_text, ups_text
    from qxfleet.config.nut.ups import import_ups_conf
    from qxfleet.config.nut.upsmon import ImportedMonitor, import_upsmon
    from qxfleet.config.nut.users import import_users

    upses, notes = import_ups_conf(read_text(file), str(file), members=members)
    people, loose = import_users(read_text(users), str(users)) if users else ([], [])
    names = [str(ups.table["name"]) for ups in upses if not ups.left_out]
    monitor = import_upsmon(read_text(upsmon), str(upsmon), names, members=members) if upsmon else ImportedMonitor()
    seen = len(upses) + sum(bool(note.section) for note in notes)
    notes += [note for ups in upses for note in ups.notes] + loose
    notes += [note for user in people for note in user.notes] + monitor.notes
    blocks = [ups_text(ups) for ups in upses] + [block_text("ups", ups, ()) for ups in monitor.members]
    blocks += [block_text("user", user.table, user.notes) for user in people]
    if monitor.load:
        blocks += [block_text("load", monitor.load, monitor.notes), block_text("[shutdown]", monitor.shutdown, ())]
    sound = sum(not ups.left_out for ups in upses) + len(monitor.members)
    seen += len(monitor.members)
    if json:
        emit({
            "ups": [
                *({**ups.table, "left_out": ups.left_out or None, "settings": ups.live} for ups in upses),
                *({**ups, "left_out": None, "settings": {}} for ups in monitor.members),
            ],
            "user": [user.table for user in people],
            "load": [monitor.load] if monitor.load else [],
            "shutdown": monitor.shutdown,
            "toml": "\n".join(blocks),
            "notes": [{"at": note.spot, "section": note.section or None, "text": note.text} for note in notes],
        })  # fmt: skip
    else:
        typer.echo("\n".join(blocks), nl=False)
        for note in notes:
            complain(str(note))
        and_users = f", {len(people)} users" if users else ""
        complain(f"{sound} of {seen} UPSes{and_users} carried over, {len(notes)} notes")
    if not sound:
        raise typer.Exit(1)
