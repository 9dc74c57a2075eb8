"""``command`` and ``set``: orders through the agent's one door."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.config.durations import parse_duration
from qxfleet.interfaces.cli import complete
from qxfleet.interfaces.cli.client import ORDER_S, ask, control_socket
from qxfleet.interfaces.cli.fleet import Name
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, printable

SENTENCES = {
    "accepted": "done",
    "rejected": "refused",
    "unsupported": "this UPS has no such thing",
    "no-answer": "the UPS gave no answer; whether it acted is not known",
    "unconfirmed": "sent, but nothing shows that the UPS acted; this kind of UPS says nothing to a command",
}


def seconds(value: str | None) -> str | None:
    """A value as the agent takes it: a duration with its unit (``3m``) becomes seconds, anything else stays as it is."""
    if value is None:
        return None
    try:
        return f"{parse_duration(value):g}"
    except ValueError:
        return value


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")]


def behind(loads: Sequence[str]) -> str:
    """What hangs on a UPS, as a sentence."""
    return f"Behind it: {', '.join(loads)}." if loads else "No [[load]] says what hangs on it."


def consent(what: str, *, yes: bool) -> None:
    """Ask before power is cut. Raises BadParameter without a terminal and ``--yes``, Exit(1) if the answer is no."""
    if yes:
        return
    complain(what)
    if not sys.stdin.isatty():
        raise typer.BadParameter("not on a terminal: add --yes to go ahead", param_hint="--yes")
    if not typer.confirm("Go ahead?", default=False, err=True):
        complain("nothing was done")
        raise typer.Exit(1)


def command(
    context: typer.Context,
    name: Name,
    order: Annotated[
        str,
        typer.Argument(
            metavar="CMD", help="An instant command; `qxfleet commands NAME` lists them.", autocompletion=complete.orders
        ),
    ],
    value: Annotated[
        str | None, typer.Argument(metavar="[VALUE]", help="Its value, if it takes one: seconds, or a duration like 10m.")
    ] = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Run an instant command, wait for what becomes of it, and say it.

    One that cuts power names the loads behind the UPS and asks first; without a terminal it needs --yes.
    Exit code 0 only if the UPS accepted it or later readings show that it acted.
    """
    known = ask(control_socket(context.obj), requests.Commands(ups=name))
    hazard = next((each["hazard"] for each in known["commands"] if each["name"] == order), "none")
    if hazard == "load":
        consent(f"{order} cuts the power of {name}. {behind(known['feeds'])}", yes=yes)
    _report(ask(control_socket(context.obj), requests.Command(ups=name, name=order, value=seconds(value)), ORDER_S), json)


def set_(
    context: typer.Context,
    name: Name,
    variable: Annotated[
        str,
        typer.Argument(
            metavar="VAR", help="A writable variable; `qxfleet settings NAME` lists them.", autocompletion=complete.settings
        ),
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The new value; a duration may be written like 3m.")],
    json: Json = False,
) -> None:
    """Change a writable variable."""
    _report(ask(control_socket(context.obj), requests.Set(ups=name, name=variable, value=seconds(value) or ""), ORDER_S), json)


def _report(result: responses.OrderTold, json: bool) -> None:
    outcome = result["outcome"]
    if json:
        emit({key: result[key] for key in ("ups", "name", "value", "outcome", "reply")})
    else:
        value = "" if result["value"] is None else f" {result['value']}"
        never_sent = outcome != "accepted" and not result["sent"] and result["text"]
        parts = [] if never_sent else [SENTENCES[outcome]]
        if result["reply"] is not None:
            parts.append(f"the UPS answered {result['reply']!r}")
        if result["text"]:
            parts.append(printable(result["text"]))
        word = coloured(outcome, "green" if outcome == "accepted" else "red")
        typer.echo(f"{result['ups']} {result['name']}{value}: {word} ({'; '.join(parts)})")
    if outcome != "accepted":
        raise typer.Exit(1)
