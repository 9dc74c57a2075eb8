"""``schedule list`` and ``schedule run``: what the calendar holds, and one date of it now."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.interfaces.cli.client import ORDER_S, ask, control_socket, follow
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table
from qxfleet.interfaces.cli.test import follow_wave, show_foreseen

app = typer.Typer(no_args_is_help=True, help="What is done on a calendar: battery tests, commands, reports.")


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """Every schedule with its next dates."""
    document = ask(control_socket(context.obj), requests.Schedules())
    if json:
        emit(document)
    elif not document["schedules"]:
        complain("no [[schedule]] is configured")
    else:
        headings = ("NAME", "DOES", "UPSES", "CRON", "ZONE", "NEXT (UTC)", "LAST (UTC)")
        print_table([(heading, "left") for heading in headings], [_row(each) for each in document["schedules"]])


def _row(schedule: responses.ScheduleItem) -> list[tuple[str, str | None]]:
    coming = ", ".join(_date(each) for each in schedule["next"]) or "never"
    last = _date(schedule["last"]) if schedule["last"] else "-"
    rest = (schedule["what"], str(len(schedule["ups"])), schedule["cron"], schedule["timezone"], coming, last)
    return [(schedule["name"], "bold"), *((text, None) for text in rest)]


def _date(text: str) -> str:
    return text[:16].replace("T", " ")


@app.command("run")
def run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule of the configuration.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done to whom, and to whom not and why.")] = False,
    json: Json = False,
) -> None:
    """Do now what a schedule does on its dates, under the same rules, and wait for its end.

    Exit code 0 only if all of it was done, and every test passed. Ctrl-C stops waiting, not the tests.
    """
    path = control_socket(context.obj)
    foreseen = ask(path, requests.ScheduleForesee(name=name))
    if foreseen["do"] != "test":
        longest_s = ORDER_S * max(1, len(foreseen["ups"]))
        document = foreseen if dry_run else ask(path, requests.ScheduleAct(name=name), longest_s)
        if json:
            emit(document)
        else:
            complain(f"{name}: {document['what']}{' on ' + ', '.join(document['ups']) if document['ups'] else ''}"
                     f"{': nothing was done' if dry_run else ': done, `qxfleet events` tells how each ended'}")  # fmt: skip
    elif dry_run:
        show_foreseen(foreseen, json=json)
    else:
        follow_wave(follow(path, requests.ScheduleRun(name=name)), json=json)
