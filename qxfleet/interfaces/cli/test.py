"""``test start``, ``test stop``, ``test results``: battery tests now, and what came of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from qxfleet.api import requests, responses
from qxfleet.config.durations import duration_text, parse_duration
from qxfleet.interfaces.cli.client import ask, control_socket, follow
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, print_table, printable

INTERRUPTED = 130

COLOURS = {"passed": "green", "failed": "red", "aborted": "yellow", "no-effect": "yellow", "inconclusive": "yellow",
           "refused": "cyan"}  # fmt: skip

Targets = Annotated[list[str], typer.Argument(metavar="TARGET...", help="UPS names, group:NAME, or all.")]

MOST_WAITING = 5
"""UPSes of which a terminal is told what they wait for, at a time."""

app = typer.Typer(no_args_is_help=True, help="Battery tests: start and stop them, and see how they ended.")


@app.command("start")
def start(
    context: typer.Context,
    targets: Targets,
    quick: Annotated[bool, typer.Option("--quick", help="About ten seconds; the default.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Until the battery is low, or to --depth.")] = False,
    for_: Annotated[str, typer.Option("--for", metavar="DURATION", help="So long, as in 10m.")] = "",
    depth: Annotated[
        int | None, typer.Option("--depth", metavar="PERCENT", min=1, max=80, help="Until so much of the charge is taken out.")
    ] = None,
    parallel: Annotated[int | None, typer.Option("--parallel", min=1, help="UPSes at a time; else [tests] max_parallel.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Without preconditions; feeds of one load still take turns.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say who would be tested, who not and why. Sends nothing.")] = False,
    json: Json = False,
) -> None:
    """Test batteries now and wait for the verdicts.

    Exit code 0 only if every UPS passed. Ctrl-C stops waiting, not the tests: ``test stop`` does that.
    """
    asked = _asked(quick, deep, for_, depth)
    args: dict[str, Any] = {"targets": tuple(targets), "force": force, "max_parallel": parallel, **asked}
    path = control_socket(context.obj)
    if dry_run:
        document = ask(path, requests.TestForesee(**args))
        show_foreseen(document, json=json)
        if document["not_tested"]:
            raise typer.Exit(1)
        return
    follow_wave(follow(path, requests.TestStart(**args)), json=json)


def _asked(quick: bool, deep: bool, for_: str, depth: int | None) -> dict[str, Any]:
    if sum((quick, deep or depth is not None, bool(for_))) > 1:
        raise typer.BadParameter("choose one of --quick, --deep (with or without --depth) and --for")
    if for_:
        try:
            return {"kind": "timed", "for_s": parse_duration(for_)}
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'--for'") from None
    if deep or depth is not None:
        return {"kind": "deep", "depth_percent": depth}
    return {"kind": "quick"}


@app.command("stop")
def stop(context: typer.Context, targets: Targets, json: Json = False) -> None:
    """End running tests, and take UPSes out of waves they still wait in.

    Exit code 1 if no test of these UPSes runs or waits.
    """
    document = ask(control_socket(context.obj), requests.TestStop(targets=tuple(targets)))
    if json:
        emit(document)
    else:
        stopped = ", ".join(document["stopped"])
        complain(f"stopped: {stopped}" if stopped else "none of these is under test or waiting")
    if not document["stopped"]:
        raise typer.Exit(1)


@app.command("results")
def results(
    context: typer.Context,
    targets: Annotated[list[str] | None, typer.Argument(metavar="[TARGET]...", help="UPS names, group:NAME, or all.")] = None,
    since: Annotated[str, typer.Option("--since", metavar="T", help="ISO 8601, or how long ago, as in 30d.")] = "90d",
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only the last so many.")] = None,
    curve: Annotated[bool, typer.Option("--curve", help="With --json: every reading of each test too.")] = False,
    json: Json = False,
) -> None:
    """How battery tests ended, oldest first, and the waves that are under way."""
    from qxfleet.interfaces.cli.when import since_us
    from qxfleet.model.clock import Clock

    start_us = since_us(since, Clock().wall_us())
    wanted = requests.TestResults(targets=tuple(targets or ()), since_us=start_us, limit=last, curve=curve and json)
    document = ask(control_socket(context.obj), wanted)
    if json:
        emit(document)
        return
    if document["tests"]:
        headings = ("TIME", "UPS", "TEST", "VERDICT", "WHAT WAS SEEN")
        print_table([(heading, "left") for heading in headings], [_result_row(test) for test in document["tests"]])
    else:
        complain("no battery test since then")
    for wave in document["waves"]:
        typer.echo(_wave_line(wave))


def _result_row(test: responses.Test) -> list[tuple[str, str | None]]:
    verdict = test["verdict"] or "running"
    return [(test["started"][:16].replace("T", " "), None), (test["ups"], "bold"), (test["test"], None),
            (verdict, COLOURS.get(verdict)), (test["text"] or "-", None)]  # fmt: skip


def _wave_line(wave: responses.Wave) -> str:
    states = [member["state"] for member in wave["ups"]]
    order = ("testing", "waiting", "tested", "refused")
    counts = ", ".join(f"{states.count(state)} {state}" for state in order if state in states)
    closes = f", nothing begins after {wave['closes'][:16].replace('T', ' ')}Z" if wave["closes"] else ""
    return printable(f"wave {wave['id']} ({wave['schedule'] or 'by hand'}, {wave['test']}) is under way: {counts}{closes}")


def follow_wave(items: Iterator[responses.WaveItem], *, json: bool) -> None:
    """Say what becomes of each UPS of a wave as it happens; ends the command with 1 unless all passed."""
    wave: responses.Wave | None = None
    try:
        for item in items:
            if "ended" in item:
                _ended(item, json=json)
                return
            if "wave" in item:
                wave = item["wave"]
                complain(f"wave {wave['id']}: {wave['test']} of {len(wave['ups'])} UPSes")
            elif "member" in item:
                complain(_member_line(item["member"], wave))
            elif item.get("waiting"):
                for line in _waiting_lines(item["waiting"]):
                    complain(line)
    except KeyboardInterrupt:
        number = "?" if wave is None else wave["id"]
        complain(f"wave {number} goes on; `qxfleet test results` shows it, `qxfleet test stop` ends it")
        raise typer.Exit(INTERRUPTED) from None


def _waiting_lines(reasons: dict[str, str]) -> list[str]:
    """What the UPSes wait for that have not had their turn; the first few."""
    shown = [printable(f"{ups} waits: {reason}") for ups, reason in list(reasons.items())[:MOST_WAITING]]
    more = [f"… and {len(reasons) - MOST_WAITING} more wait"] if len(reasons) > MOST_WAITING else []
    return shown + more


def _ended(item: responses.WaveItem, *, json: bool) -> None:
    wave = item["wave"]
    if json:
        emit({"wave": wave})
    else:
        typer.echo(printable(f"{wave['test']}: {item['text']}"))
        if not wave["schedule"] and any(each["state"] == "refused" for each in wave["ups"]):
            complain("--force tests without the preconditions; feeds of one load still take turns")
    if item["ended"] != "passed":
        raise typer.Exit(1)


def _member_line(member: responses.WaveMember, wave: responses.Wave | None) -> str:
    names = [] if wave is None else [each["ups"] for each in wave["ups"]]
    place = f"[{names.index(member['ups']) + 1}/{len(names)}] " if member["ups"] in names else ""
    word = member["verdict"] or member["state"]
    text = f": {member['text']}" if member["text"] else ""
    return f"{place}{member['ups']} {coloured(word, COLOURS.get(word))}{text}"


def show_foreseen(document: responses.Foreseen, *, json: bool) -> None:
    """Who would not be tested and why, then who would, in their order, and how long it would take."""
    if json:
        emit(document)
        return
    rows = [
        [(each["ups"], "bold"), ("yes", "green") if each["tested"] else ("no", "red"), (_when(each), None), (_why(each), None)]
        for each in sorted(document["ups"], key=lambda each: each["tested"])
    ]
    if rows:
        print_table([("UPS", "left"), ("TESTED", "left"), ("BEGINS", "left"), ("WHY", "left")], rows)
    count, total = document["tested"], len(document["ups"])
    title = f"{document['schedule']}: " if document["schedule"] else ""
    typer.echo(printable(f"{title}{document['test']}: {count} of {total} UPSes would be tested now, {total - count} would not"))
    if count:
        at_once = document["max_parallel"]
        places = f"{at_once} at a time" if at_once > 1 else "one at a time"
        apart_s = document["recharge_s"]
        recharge = f", the next one {_span(apart_s)} after a test, for recharging" if apart_s else ""
        typer.echo(f"{places}{recharge}: about {_span(document['needs_s'])} in all{_fits(document)}")


def _when(each: responses.ForeseenUps) -> str:
    begins_s = each["begins_in_s"]
    return "-" if begins_s is None else "now" if begins_s == 0 else f"in {_span(begins_s)}"


def _why(each: responses.ForeseenUps) -> str:
    if each["reasons"]:
        return "; ".join(each["reasons"])
    return f"once {each['after']} is tested and recharged: both feed the same load" if each["after"] else ""


def _fits(document: responses.Foreseen) -> str:
    window_s = document["window_s"]
    if window_s is None:
        return ""
    if document["needs_s"] <= window_s:
        return f", within the window of {duration_text(window_s)}"
    return f"; the window is {duration_text(window_s)} only: whoever's turn has not come by then is not tested"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

