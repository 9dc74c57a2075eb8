"""``profile check`` and ``profile apply``: named sets of settings for groups of UPSes."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.interfaces.cli.client import ask, control_socket, work
from qxfleet.interfaces.cli.orders import SENTENCES
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, print_table, printable

INTERRUPTED = 130

app = typer.Typer(no_args_is_help=True, help="Compare UPSes with the profiles of the configuration, and set what differs.")


@app.command("check")
def check(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of profiles; all without.")] = None,
    json: Json = False,
) -> None:
    """Show how each UPS differs from its profile. Sends nothing.

    Exit code 1 if anything differs or is not known.
    """
    document = ask(control_socket(context.obj), requests.ProfileCheck(names=tuple(names or ())))
    if json:
        emit(document)
    elif not document["profiles"]:
        complain("no [[profile]] is configured")
    else:
        _print_drift(document["profiles"])
    if any(profile["drift"] for profile in document["profiles"]):
        raise typer.Exit(1)


@app.command("apply")
def apply(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A profile of the configuration.")],
    go_on: Annotated[bool, typer.Option("--go-on", help="Go on behind a refusal.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be set, and send nothing.")] = False,
    json: Json = False,
) -> None:
    """Set what differs from a profile: one UPS after the other, one setting after the other, up to the first refusal.

    Exit code 0 only if every UPS has what the profile says. Ctrl-C ends it behind the setting under way.
    """
    if dry_run:
        _rehearse(context, name, json)
        return
    steps: list[responses.ProfileStep] = []
    profile: responses.Applied = {"ups": []}
    last: responses.Applied = {}
    for item in work(control_socket(context.obj), requests.ProfileApply(name=name, go_on=go_on)):
        if "step" in item:
            steps.append(item["step"])
            complain(_sentence(item["step"], profile["ups"]))
        elif "ended" in item:
            last = item
        else:
            profile = item
    if json:
        emit({"profile": name, **last, "steps": steps})
    else:
        typer.echo(_summary(name, profile["ups"], steps, last))
    if last["ended"] == "stopped":
        raise typer.Exit(INTERRUPTED)
    if last["refused"]:
        raise typer.Exit(1)


def _rehearse(context: typer.Context, name: str, json: bool) -> None:
    (profile,) = ask(control_socket(context.obj), requests.ProfileCheck(names=(name,)))["profiles"]
    refused = sum(not each["settable"] for each in profile["drift"])
    if json:
        steps = [
            {"ups": each["ups"], "setting": each["setting"], "wanted": each["wanted"], "was": each["is"], "outcome": None,
             "reply": None, "sent": "", "text": each["why"]}
            for each in profile["drift"]
        ]  # fmt: skip
        emit({"profile": name, "ended": "dry-run", "refused": refused, "steps": steps})
    else:
        _print_drift([profile])
    if refused:
        raise typer.Exit(1)


def _print_drift(profiles: list[responses.Profile]) -> None:
    """One row per setting that differs, then one line per profile."""
    headings = ("PROFILE", "UPS", "SETTING", "WANTED", "IS", "CAN BE SET")
    rows = [_row(profile["profile"], each) for profile in profiles for each in profile["drift"]]
    if rows:
        print_table([(heading, "left") for heading in headings], rows)
    for profile in profiles:
        differ = len({each["ups"] for each in profile["drift"]})
        told = f"{differ} differ{'s' if differ == 1 else ''}, in {_count(len(profile['drift']), 'setting')}"
        whole = f"{_count(len(profile['settings']), 'setting')} on {_count(len(profile['ups']), 'UPS')}"
        typer.echo(f"{profile['profile']}: {whole}, {told if differ else 'none differs'}")


def _row(profile: str, drift: responses.Drift) -> list[tuple[str, str | None]]:
    return [
        (profile, None),
        (drift["ups"], "bold"),
        (drift["setting"], None),
        (drift["wanted"], "green"),
        ("-" if drift["is"] is None else drift["is"], "yellow"),
        ("yes", None) if drift["settable"] else (f"no: {drift['why']}", "red"),
    ]


def _sentence(step: responses.ProfileStep, upses: list[str]) -> str:
    """One setting that has ended, and how far the profile has come."""
    reply = "" if step["reply"] is None else f"; the UPS answered {step['reply']!r}"
    text = f"; {step['text']}" if step["text"] else ""
    was = "unknown" if step["was"] is None else step["was"]
    place = f"[{upses.index(step['ups']) + 1}/{len(upses)}]" if step["ups"] in upses else ""
    word = coloured(step["outcome"], "green" if step["outcome"] == "accepted" else "red")
    return f"{place} {step['ups']} {step['setting']} {was} → {step['wanted']}: {word} ({SENTENCES[step['outcome']]}{reply}{text})"


def _summary(name: str, upses: list[str], steps: list[responses.ProfileStep], last: responses.Applied) -> str:
    refusing = sorted({step["ups"] for step in steps if step["outcome"] != "accepted"})
    parts = [f"{_count(len(steps) - last['refused'], 'setting')} changed on {_count(len(upses), 'UPS')}"]
    if refusing:
        parts.append(f"{_count(last['refused'], 'setting')} refused by {', '.join(refusing)}")
    if last["ended"] == "refused":
        parts.append("stopped there, --go-on goes on")
    if last["ended"] == "stopped":
        parts.append("stopped by Ctrl-C")
    return printable(f"{name}: {'; '.join(parts)}")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 'es' if noun.endswith('S') else 's'}"
