"""``shutdown``: the staged shutdown as an operator meets it, also at three in the morning."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.interfaces.cli import shutdown_rehearsal
from qxfleet.interfaces.cli.client import ask, control_socket, follow
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, print_table, printable

app = typer.Typer(no_args_is_help=True, help="Stop everything in order before the batteries are empty, and bring it back.")
app.command("check")(shutdown_rehearsal.check)
app.command("simulate")(shutdown_rehearsal.simulate)

Targets = Annotated[
    list[str],
    typer.Argument(metavar="TARGET...", help="Loads by name; or a UPS, group:NAME, all: loads that can't live without them."),
]
Mean = Annotated[
    str | None, typer.Option("--yes-i-mean", metavar="NAME", help="For scripts: the targets once more, in place of typing them.")
]
Cut = Annotated[
    bool, typer.Option("--cut", help="Then tell the UPSes that feed nothing else to cut their output, mains or not.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]

LOAD_COLOURS = {
    "stuck": "red", "stranded": "red", "not-seen-off": "red",
    "stopping": "yellow", "waiting": "yellow", "starting": "yellow", "back": "green",
}  # fmt: skip
UPS_COLOURS = {
    "triggered": "red", "telling": "red", "told": "red", "racing": "red", "late": "red",
    "off": "red", "untold": "red", "on-battery": "yellow",
}  # fmt: skip
FEW = 12
"""Lines of one kind that are shown; the rest is counted."""


@app.command()
def status(
    context: typer.Context,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--follow", "-f", help="Show it again each second, until Ctrl-C.")] = False,
    whole: Annotated[bool, typer.Option("--all", help="Every load and UPS concerned, not only the first few of a kind.")] = False,
) -> None:
    """Show how the staged shutdown stands: what is down, what is stopping, what waits, and what needs you."""
    where = control_socket(context.obj)
    if not watch:
        document = ask(where, requests.ShutdownStatus())
        if json:
            emit(document)
        else:
            _print_status(document, whole)
        return
    for document in follow(where, requests.ShutdownFollow()):
        if json:
            typer.echo(json_text.dumps(document, ensure_ascii=False))
        else:
            if sys.stdout.isatty():
                typer.echo("\x1b[H\x1b[2J", nl=False)
            _print_status(document, whole)
            typer.echo("")


@app.command()
def start(
    context: typer.Context,
    targets: Targets,
    cut: Cut = False,
    mean: Mean = None,
    json: Json = False,
) -> None:
    """Stop loads now, in order, whether mains are good or not. Asks you to type the targets first.

    `qxfleet shutdown cancel` brings back what was stopped.
    """
    _order(context, targets, cut=cut, drill=False, mean=mean, json=json)


@app.command()
def drill(context: typer.Context, targets: Targets, mean: Mean = None, json: Json = False) -> None:
    """Stop loads in order, and start them again once all are down: a drill that learns how long they take.

    Mains and UPSes are left alone. `qxfleet shutdown history RUN` is the report. On a plan that is not armed nothing is touched.
    """
    _order(context, targets, cut=False, drill=True, mean=mean, json=json)


@app.command()
def cancel(context: typer.Context, json: Json = False) -> None:
    """Stop nothing more, and bring back what was stopped. Asks nothing: it is safe to run."""
    document = ask(control_socket(context.obj), requests.ShutdownCancel())
    if json:
        emit(document)
    else:
        typer.echo(printable(f"cancelled: {document['text']}"))
        typer.echo("`qxfleet shutdown status` shows how it goes on.")


@app.command()
def end(
    context: typer.Context,
    run: Annotated[int, typer.Argument(metavar="RUN", help="Its number, as `qxfleet shutdown status` shows it.")],
    reason: Reason = "",
    json: Json = False,
) -> None:
    """End a run that people have settled by hand. Stops, starts and cuts nothing.

    Not while a UPS of the plan is on battery: another run would begin at once. `qxfleet shutdown cancel` is for that.
    """
    document = ask(control_socket(context.obj), requests.ShutdownEnd(run=run, reason=reason))
    if json:
        emit(document)
    else:
        typer.echo(printable(f"run {document['run']}: {document['text']}"))


@app.command()
def arm(context: typer.Context, reason: Reason = "", json: Json = False) -> None:
    """Let the plan act. From now on an outage stops loads and cuts UPSes."""
    _arm(context, True, reason, json)


@app.command()
def disarm(context: typer.Context, reason: Reason = "", json: Json = False) -> None:
    """Let the plan only say what it would do. A run that acts already goes on: `qxfleet shutdown cancel` ends it."""
    _arm(context, False, reason, json)


@app.command()
def history(
    context: typer.Context,
    run: Annotated[int | None, typer.Argument(metavar="[RUN]", help="A run's number: its report, step by step.")] = None,
    most: Annotated[int, typer.Option("--most", help="Runs to list at most.")] = 20,
    json: Json = False,
) -> None:
    """List the shutdowns and drills that were, newest first; or the report of one.

    For one run the exit code is 1 if anything did not go as it should.
    """
    document = ask(control_socket(context.obj), requests.ShutdownHistory(run=run, most=most))
    if json:
        emit(document)
    elif not document["runs"]:
        complain("there was no shutdown and no drill yet")
    elif run is None:
        _print_runs(document["runs"])
    else:
        _print_report(document["runs"][0])
    if run is not None and _failures(document["runs"][0]):
        raise typer.Exit(1)


# -- asking


def _order(context: typer.Context, targets: list[str], *, cut: bool, drill: bool, mean: str | None, json: bool) -> None:
    where = control_socket(context.obj)
    preview = ask(where, requests.ShutdownPreview(targets=tuple(targets)))
    loads, name = preview["loads"], " ".join(targets)
    what = "a drill stops and starts again" if drill else "this stops"
    complain(f"On agent {preview['agent']} {what} {_count(len(loads), 'load')}: {_some(loads, FEW)}")
    if cut:
        complain("Then every UPS that feeds nothing else CUTS ITS OUTPUT.")
    if not preview["armed"]:
        complain("The plan is not armed: nothing will be touched, it will only say what it would do.")
    if mean is None:
        if not sys.stdin.isatty():
            raise typer.BadParameter(f"not on a terminal: confirm by --yes-i-mean {_quoted(name)}", param_hint="--yes-i-mean")
        mean = typer.prompt(f"Type {name} to go ahead, anything else to leave", err=True, default="", show_default=False)
    if mean.strip() != name:
        complain(f"{mean!r} is not {name!r}: nothing was done")
        raise typer.Exit(1)
    document = ask(where, requests.ShutdownStart(targets=tuple(targets), cut=cut, drill=drill))
    if json:
        emit(document)
    else:
        number = "" if document["run"] is None else f" {document['run']}"
        typer.echo(f"{'drill' if drill else 'shutdown'}{number} began: {_count(len(document['loads']), 'load')}")
        typer.echo("`qxfleet shutdown status --follow` shows how it goes, `qxfleet shutdown cancel` ends it and brings back")
        typer.echo("what was stopped.")


def _arm(context: typer.Context, armed: bool, reason: str, json: bool) -> None:
    document = ask(control_socket(context.obj), requests.ShutdownArm(armed=armed, reason=reason))
    if json:
        emit(document)
        return
    if armed:
        typer.echo("armed: from now on an outage stops loads and cuts UPSes as configured")
    else:
        typer.echo("disarmed: an outage will be followed in full and touch nothing")
        if document["running_armed"]:
            complain("A run that acts is under way and goes on: `qxfleet shutdown cancel` ends it.")
    if not document["kept"]:
        complain("No record of this is kept: neither the state nor the side file takes one. An agent that starts again before "
                 "they do is as it was; make room, or run this again then.")  # fmt: skip
        raise typer.Exit(1)


# -- printing


def _print_status(document: responses.Shutdown, whole: bool) -> None:
    run, most = document["run"], 10**6 if whole else FEW
    head = document["headline"]
    alarm = run is not None and run["armed"]
    typer.echo(coloured(printable(head[0].upper() + head[1:]), "red" if alarm else None))
    if run is not None:
        typer.echo(printable(run["says"]))
    else:
        since = f" since {document['armed_since']}" if document["armed_since"] else ""
        reason = f": {document['armed_reason']}" if document["armed_reason"] else ""
        typer.echo(printable(f"{'armed' if document['armed'] else 'disarmed'} by {document['armed_by']}{since}{reason}"))
    if trouble := document.get("state_trouble"):
        typer.echo(coloured(printable(trouble), "yellow"))
    _print_by_hand(document["by_hand"])
    _print_upses(document["upses"], most)
    _print_loads(document["loads"], most)
    if document["advice"]:
        typer.echo("")
        typer.echo(document["advice"])


def _print_by_hand(by_hand: dict[str, str]) -> None:
    if by_hand:
        typer.echo("")
        typer.echo(coloured("NEEDS YOU", "red"))
        for name, text in by_hand.items():
            typer.echo(printable(f"  {text}" if text.startswith(name) else f"  {name}: {text}"))


def _print_upses(upses: Sequence[responses.UpsNow], most: int) -> None:
    if not upses:
        return
    typer.echo("")
    rows = [
        [
            (ups["ups"], None), (ups["stands"], UPS_COLOURS.get(ups["phase"])),
            ("?" if ups["charge"] is None else f"{ups['charge']:.0f} %", None), (ups["left"], None),
            ("LOW" if ups["low_battery"] else "", "red"), ("" if ups["contact"] else "no contact", "red"),
        ]
        for ups in sorted(upses, key=lambda each: (each["runtime_s"] is None, each["runtime_s"] or 0.0))
    ]  # fmt: skip
    print_table([("UPS", "left"), ("stands", "left"), ("charge", "right"), ("to go", "right"), ("battery", "left"), ("", "left")],
                rows[:most])  # fmt: skip
    _print_rest(len(rows) - most, "UPSes")


def _print_loads(loads: Sequence[responses.LoadNow], most: int) -> None:
    order = ("stuck", "stranded", "not-seen-off", "stopping", "waiting", "starting", "down", "back", "untouched")
    for phase in order:
        chosen = [load for load in loads if load["phase"] == phase]
        if not chosen:
            continue
        typer.echo("")
        typer.echo(coloured(f"{chosen[0]['stands']} ({len(chosen)})", LOAD_COLOURS.get(phase)))
        if phase in ("down", "back") and len(chosen) > most:
            typer.echo(printable(f"  {_some([load['load'] for load in chosen], most)}"))
            continue
        for load in chosen[:most]:
            typer.echo(printable(f"  {_load_line(load)}"))
        _print_rest(len(chosen) - most, "loads")


def _load_line(load: responses.LoadNow) -> str:
    return "  ".join(filter(None, (load["load"], load["says"])))


def _print_rest(count: int, what: str) -> None:
    if count > 0:
        typer.echo(f"  and {count} more {what}; --all shows them")


def _print_runs(runs: Sequence[responses.Run]) -> None:
    rows = []
    for run in runs:
        bad = _failures(run)
        rows.append([
            (str(run["run"]), None), (run["kind"] if run["armed"] else f"{run['kind']}, unarmed", None), (run["started"], None),
            (run["ended"] or "under way", None if run["ended"] else "yellow"), (run["actor"], None),
            (f"{len(run['steps'])}", None), (f"{len(bad)}" if bad else "", "red"), (run["text"], None),
        ])  # fmt: skip
    print_table([("run", "right"), ("kind", "left"), ("began", "left"), ("ended", "left"), ("by", "left"), ("steps", "right"),
                 ("trouble", "right"), ("how it ended", "left")], rows)  # fmt: skip


def _print_report(run: responses.Run) -> None:
    what = f"{run['kind']}{'' if run['armed'] else ', not armed: nothing was touched'}"
    typer.echo(printable(f"run {run['run']} ({what}), by {run['actor']}"))
    typer.echo(printable(f"began {run['started']}, {'ended ' + run['ended'] if run['ended'] else 'under way'}"
                         f"{': ' + run['text'] if run['text'] else ''}"))  # fmt: skip
    rows = []
    for step in run["steps"]:
        colour = {"done": "green", "not-seen-off": "yellow", None: "yellow"}.get(step["result"], "red")
        of = " of ".join(_duration(seconds) for seconds in (step["for_s"], step["limit_s"]) if seconds is not None)
        rows.append([
            (step["begun"][11:19], None), (step["act"], None), (step["target"], None),
            (step["result"] or "open", colour), (of if step["result"] else "", None), (step["text"] or "", None),
        ])  # fmt: skip
    typer.echo("")
    print_table([("at", "left"), ("step", "left"), ("of", "left"), ("result", "left"), ("took", "left"), ("", "left")], rows)
    bad = _failures(run)
    typer.echo("")
    if bad:
        they, whose = "it" if len(bad) == 1 else "they", list(dict.fromkeys(bad))
        typer.echo(coloured(f"{_count(len(bad), 'step')} did not go as {they} should: {_some(whose, FEW)}", "red"))
    else:
        blind = sorted({step["target"] for step in run["steps"] if _blind(step)})
        went = "Everything that can be seen went as it should" if blind else "Everything went as it should"
        typer.echo(f"{went}." if run["ended"] else f"So far {went[0].lower()}{went[1:]}.")
        if blind:
            typer.echo(printable(f"Nothing tells whether {_some(blind, FEW)} went off: write down_when."))


def _failures(run: responses.Run) -> list[str]:
    """The steps that did not go as they should, by target; a later try that went well makes up for those before it."""
    last = {(step["act"], step["target"]): step for step in run["steps"]}
    over = run["ended"] is not None
    bad = ("failed", "no-effect", "not-seen-off", *((None,) if over and run["outcome"] == "finished" else ()))
    return [
        step["target"] for step in run["steps"]
        if step["result"] in bad and not _blind(step) and last[step["act"], step["target"]]["result"] in bad
    ]  # fmt: skip


def _blind(step: responses.RunStep) -> bool:
    """Not seen off, of a load that nothing was configured to be seen by: no evidence, and no failure."""
    return step["result"] == "not-seen-off" and not step["watched"]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
