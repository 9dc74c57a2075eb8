"""``command`` and ``set``: orders through the agent's one door."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from qxfleet.interfaces.cli.client import ORDER_S, ask, control_socket
from qxfleet.interfaces.cli.fleet import Name
from qxfleet.interfaces.cli.output import Json, coloured, emit, printable

SENTENCES = {
    "accepted": "done",
    "rejected": "refused",
    "unsupported": "this UPS has no such thing",
    "no-answer": "the UPS gave no answer; whether it acted is not known",
    "unconfirmed": "sent, but nothing shows that the UPS acted; this kind of UPS says nothing to a command",
}


def command(
    context: typer.Context,
    name: Name,
    order: Annotated[str, typer.Argument(metavar="CMD", help="An instant command; `qxfleet commands NAME` lists them.")],
    value: Annotated[str | None, typer.Argument(metavar="[VALUE]", help="Its value in seconds, if it takes one.")] = None,
    json: Json = False,
) -> None:
    """Run an instant command, wait for what becomes of it, and say it.

    Exit code 0 only if the UPS accepted it or later readings show that it acted.
    """
    _report(ask(control_socket(context.obj), "command", ORDER_S, ups=name, name=order, value=value), json)


def set_(
    context: typer.Context,
    name: Name,
    variable: Annotated[str, typer.Argument(metavar="VAR", help="A writable variable; `qxfleet settings NAME` lists them.")],
    value: Annotated[str, typer.Argument(metavar="VALUE")],
    json: Json = False,
) -> None:
    """Change a writable variable."""
    _report(ask(control_socket(context.obj), "set", ORDER_S, ups=name, name=variable, value=value), json)


def _report(result: dict[str, Any], json: bool) -> None:
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
