"""``user``: what the users of the network faces need."""

from __future__ import annotations

import sys

import typer

from qxfleet.interfaces.cli.output import Json, complain, emit

app = typer.Typer(no_args_is_help=True, help="Users of the network faces.")


@app.callback()
def user() -> None:
    """Users of the network faces."""


@app.command("hash")
def hash_(json: Json = False) -> None:
    """Make the password_hash of a [[user]] from a password, asked for without showing it, or the first line of stdin."""
    from qxfleet.model.password import hash_password

    if sys.stdin.isatty():
        password = typer.prompt("Password", hide_input=True, confirmation_prompt="Once more", err=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        complain("no password: type one, or give it as the first line of the input")
        raise typer.Exit(2)
    kept = hash_password(password)
    emit({"password_hash": kept}) if json else typer.echo(f'password_hash = "{kept}"')
