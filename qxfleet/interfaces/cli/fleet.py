"""``status``, ``vars``, ``commands``, ``settings``: what the running agent knows."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.interfaces.cli import complete
from qxfleet.interfaces.cli.agents import Fleet, shipping_line, show_fleet
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table, printable

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="UPS names, group:NAME, or all.", autocompletion=complete.targets),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a UPS.", autocompletion=complete.ups_names)]

STATE_COLOURS = {"online": "green", "detecting": "cyan", "stale": "yellow", "lost": "red"}
STATUS_COLOURS = (
    ("LB", "bold red"), ("OVER", "bold red"), ("ALARM", "red"), ("FSD", "red"), ("OB", "yellow"), ("RB", "yellow"),
    ("BYPASS", "yellow"), ("OFF", "yellow"), ("CAL", "cyan"), ("OL", "green"),
)  # fmt: skip
"""The first token that is there decides."""

COLUMNS = (
    ("input V", "input.voltage"), ("load %", "ups.load"), ("batt V", "battery.voltage"), ("charge %", "battery.charge"),
)  # fmt: skip


def status(context: typer.Context, targets: Targets = None, fleet: Fleet = False, json: Json = False) -> None:
    """Show the UPSes of this agent at a glance, with --fleet those of all agents."""
    if fleet:
        show_fleet(context, targets, json)
    elif json:
        emit(ask(control_socket(context.obj), requests.Status(targets=tuple(targets or ()))))
    else:
        print_status(ask(control_socket(context.obj), requests.Status(targets=tuple(targets or ()), remedies=True)))


def print_status(document: responses.FleetStatus) -> None:
    """The fleet as a table, and below it a line for whatever a table can't say."""
    numbers = [(heading, "right") for heading in (*(heading for heading, _ in COLUMNS), "runtime", "age")]
    headings = [("NAME", "left"), ("STATE", "left"), ("STATUS", "left"), *((text.upper(), side) for text, side in numbers)]
    print_table(headings, [status_row(ups) for ups in document["ups"]])
    for ups in document["ups"]:
        if ups["alarms"]:
            typer.echo(f"{ups['name']}: {printable(' '.join(ups['alarms']))}")
    for name, remedies in document.get("remedies", {}).items():
        counts = ", ".join(f"{remedy.replace('-', ' ')} {count}" for remedy, count in remedies.items())
        typer.echo(f"{name}: its link mended itself ({counts})")
    if trouble := document.get("state_trouble"):
        typer.echo(printable(trouble))
    if (shipping := document.get("fleet_store")) and (line := shipping_line(shipping)):
        typer.echo(line)


def status_row(ups: responses.UpsStatus) -> list[tuple[str, str | None]]:
    """One UPS as (text, style) cells; what is not known is a dash."""
    variables = ups["variables"]
    return [
        (ups["name"], "bold"),
        (ups["state"], STATE_COLOURS.get(ups["state"])),
        (ups["status"] or "-", status_colour(ups["status"])),
        *((variables.get(name, "-"), None) for _, name in COLUMNS),
        (duration(variables.get("battery.runtime")), None),
        (age(ups["age_s"]), None if ups["state"] == "online" else "dim"),
    ]


def status_colour(text: str) -> str | None:
    """The style of a ``ups.status``."""
    tokens = text.split()
    return next((style for token, style in STATUS_COLOURS if token in tokens), None)


def duration(seconds: str | None) -> str:
    """Seconds as people say them: ``45 s``, ``12 min``, ``3 h 05``."""
    if seconds is None:
        return "-"
    whole = round(float(seconds))
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 6000 else f"{whole // 3600} h {whole % 3600 // 60:02d}"


def age(seconds: float | None) -> str:
    """How old a reading is."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 10 else duration(str(seconds))


def variables(
    context: typer.Context,
    name: Name,
    variable: Annotated[str | None, typer.Argument(metavar="[VAR]", help="Print the value of this one only.")] = None,
    origins: Annotated[
        bool, typer.Option("--origins", help="Say whether each was measured, scaled, estimated or configured.")
    ] = False,
    json: Json = False,
) -> None:
    """Show all variables of one UPS, as upsc does.

    Exit code 1 without contact: what is printed then are the last known values.
    """
    answer = ask(control_socket(context.obj), requests.Vars(ups=name))
    known = answer["variables"]
    if json:
        shown = known if variable is None else {n: v for n, v in known.items() if n == variable}
        emit({"ups": answer["ups"], "variables": shown, "origins": {n: answer["origins"][n] for n in shown}})
    elif variable is None:
        for each, value in known.items():
            typer.echo(f"{each}: {printable(value)}" + (f" ({answer['origins'][each]})" if origins else ""))
    elif variable in known:
        typer.echo(printable(known[variable]) + (f" ({answer['origins'][variable]})" if origins else ""))
    if variable is not None and variable not in known and known:
        complain(f"{name} does not tell {variable}; `qxfleet vars {name}` lists what it does")
        raise typer.Exit(1)
    if answer["state"] != "online":
        when = "nothing is known yet" if answer["age_s"] is None else f"last known values, {age(answer['age_s'])} old"
        complain(f"{name} is {answer['state']}: {when}" + (f" ({answer['reason']})" if answer["reason"] else ""))
        raise typer.Exit(1)


def commands(context: typer.Context, name: Name, json: Json = False) -> None:
    """List the instant commands of one UPS."""
    answer = ask(control_socket(context.obj), requests.Commands(ups=name))
    if json:
        emit(answer)
        return
    rows = [
        [(each["name"], "bold"), (_value_range(each["value"]), None), (_described(each), None)] for each in answer["commands"]
    ]
    print_table([("COMMAND", "left"), ("VALUE", "left"), ("DOES", "left")], rows)


def _described(command: responses.Command) -> str:
    hazard = {"load": " (cuts the load)", "battery": " (drains the battery)"}.get(command["hazard"], "")
    return f"{command['description']}{hazard}"


def _value_range(value: responses.Bounds | None) -> str:
    return "-" if value is None else f"{value['min']:g}-{value['max']:g} s, default {value['default']:g}"


def settings(context: typer.Context, name: Name, json: Json = False) -> None:
    """List the writable variables of one UPS with their ranges."""
    answer = ask(control_socket(context.obj), requests.Settings(ups=name))
    if json:
        emit(answer)
        return
    rows = [
        [(each, "bold"), (setting["value"] or "-", None), (_bounds(setting), None), (setting["description"], None)]
        for each, setting in answer["settings"].items()
    ]
    print_table([("VARIABLE", "left"), ("VALUE", "right"), ("RANGE", "left"), ("MEANING", "left")], rows)


def _bounds(setting: responses.Setting) -> str:
    if setting["choices"]:
        return " | ".join(setting["choices"])
    return "-" if setting["min"] is None else f"{setting['min']:g}-{setting['max']:g}"
