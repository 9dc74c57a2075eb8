"""``maintenance start``, ``stop`` and ``list``: somebody is at work on a UPS, so nothing is started on it by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.api import requests
from qxfleet.config.durations import parse_duration
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table

Targets = Annotated[list[str], typer.Argument(metavar="TARGET...", help="UPS names, group:NAME, or all.")]

app = typer.Typer(no_args_is_help=True, help="Maintenance windows: no battery test begins on a UPS, nor on what it must carry.")


@app.command("start")
def start(
    context: typer.Context,
    targets: Targets,
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="So long, as in 2h; without, until it is stopped.")] = "",
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="For whoever wonders.")] = "",
    json: Json = False,
) -> None:
    """Put UPSes under maintenance; a test that runs on them is ended. It outlives a restart of the agent."""
    try:
        for_s = parse_duration(for_) if for_ else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--for'") from None
    document = ask(control_socket(context.obj), requests.MaintenanceStart(targets=tuple(targets), for_s=for_s, reason=reason))
    if json:
        emit(document)
    else:
        complain(f"under maintenance: {', '.join(document['started'])}{f', for {for_}' if for_ else ''}")


@app.command("stop")
def stop(context: typer.Context, targets: Targets, json: Json = False) -> None:
    """End the maintenance of UPSes.

    Exit code 1 if none of them was under maintenance.
    """
    document = ask(control_socket(context.obj), requests.MaintenanceStop(targets=tuple(targets)))
    if json:
        emit(document)
    else:
        stopped = ", ".join(document["stopped"])
        complain(f"no longer under maintenance: {stopped}" if stopped else "none of these is under maintenance")
    if not document["stopped"]:
        raise typer.Exit(1)


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """The UPSes that are under maintenance now."""
    document = ask(control_socket(context.obj), requests.Maintenance())
    if json:
        emit(document)
    elif not document["maintenance"]:
        complain("no UPS is under maintenance")
    else:
        rows = [
            [(each["ups"], "bold"), (each["since"][:16].replace("T", " "), None),
             (each["until"][:16].replace("T", " ") if each["until"] else "stopped", None), (each["actor"], None),
             (each["reason"] or "-", None)]
            for each in document["maintenance"]
        ]  # fmt: skip
        headings = ("UPS", "SINCE (UTC)", "UNTIL (UTC)", "BY", "WHY")
        print_table([(heading, "left") for heading in headings], rows)
