"""``token create``, ``list`` and ``revoke``: what programs log in to the JSON API with."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.api import requests, responses
from qxfleet.config.durations import parse_duration
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table

app = typer.Typer(no_args_is_help=True, help="Tokens that programs log in to the JSON API with.")

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="What the token is for, e.g. grafana.")]


@app.command("create")
def create(
    context: typer.Context,
    name: TokenName,
    user: Annotated[str, typer.Option("--user", metavar="USER", help="The [[user]] it acts as.")],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="RIGHT", help="Only this right of the user's; may be repeated. Default: all."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="D", help="Ends by itself after 90d, 12h, … Default: never.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a token and print it: this is the only time it is shown."""
    try:
        expires_s = None if expires is None else parse_duration(expires)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--expires'") from None
    wanted = requests.TokenCreate(name=name, user=user, allow=tuple(allow) if allow else None, expires_s=expires_s)
    made = ask(control_socket(context.obj), wanted)
    if json:
        emit(made)
        return
    until = f", until {made['expires']}" if made["expires"] else ""
    complain(f"token {name} acts as {user}{_rights(made)}{until}. Keep it now, it is not shown again:")
    typer.echo(made["token"])


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """Show every token: whose it is, what it may do, until when, and when it was used last."""
    document = ask(control_socket(context.obj), requests.TokenList())
    if json:
        emit(document)
    elif not document["tokens"]:
        complain("there are no tokens; `qxfleet token create NAME --user USER` makes one")
    else:
        headings = [(name, "left") for name in ("name", "user", "rights", "created", "expires", "last used")]
        print_table(headings, ([(text, None) for text in _row(each)] for each in document["tokens"]))


@app.command("revoke")
def revoke(context: typer.Context, name: TokenName, json: Json = False) -> None:
    """End a token at once."""
    document = ask(control_socket(context.obj), requests.TokenRevoke(name=name))
    if json:
        emit(document)
    else:
        typer.echo(f"token {name} is revoked")


def _rights(token: responses.Token) -> str:
    return "" if token["allow"] is None else f" with {', '.join(token['allow']) or 'no rights'}"


def _row(token: responses.Token) -> list[str]:
    allow = "the user's" if token["allow"] is None else ", ".join(token["allow"]) or "none"
    return [token["name"], token["user"], allow, token["created"], token["expires"] or "never", token["used"] or "never"]
