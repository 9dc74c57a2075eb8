"""What a shell offers after TAB: names of the running fleet. Where the agent does not answer at once, nothing is offered."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer

from qxfleet.api import requests, responses
from qxfleet.errors import QxfleetError
from qxfleet.interfaces.cli.client import ask, control_socket

R = TypeVar("R")
AT_ONCE_S = 0.5


def ups_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """UPSes whose name begins so."""
    return _beginning(incomplete, [ups["name"] for ups in _upses(ctx)])


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """UPSes, groups and ``all``."""
    upses = _upses(ctx)
    groups = sorted({f"group:{group}" for ups in upses for group in ups["groups"]})
    return _beginning(incomplete, [*(ups["name"] for ups in upses), *groups, "all"])


def orders(ctx: typer.Context, incomplete: str) -> list[str]:
    """Instant commands of the UPS named before."""
    found = _asked(ctx, requests.Commands(ups=str(ctx.params.get("name"))))
    return _beginning(incomplete, [order["name"] for order in found["commands"]] if found else [])


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Writable variables of the UPS named before."""
    found = _asked(ctx, requests.Settings(ups=str(ctx.params.get("name"))))
    return _beginning(incomplete, list(found["settings"]) if found else [])


def _upses(ctx: typer.Context) -> list[responses.UpsStatus]:
    found = _asked(ctx, requests.Status())
    return found["ups"] if found else []


def _beginning(incomplete: str, words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _asked(ctx: typer.Context, request: requests.Request[R]) -> R | None:
    named = ctx.find_root().params.get("config")
    try:
        return ask(control_socket(Path(named) if named else None), request, AT_ONCE_S)
    except (QxfleetError, OSError):
        return None
