"""What a shell offers after TAB: names of the running fleet. Where the agent does not answer at once, nothing is offered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from qxfleet.api import requests
from qxfleet.errors import QxfleetError
from qxfleet.interfaces.cli.client import ask, control_socket

AT_ONCE_S = 0.5


def ups_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """UPSes whose name begins so."""
    return _beginning(incomplete, [ups["name"] for ups in _asked(ctx, requests.Status()).get("ups", ())])


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """UPSes, groups and ``all``."""
    upses = _asked(ctx, requests.Status()).get("ups", ())
    groups = sorted({f"group:{group}" for ups in upses for group in ups["groups"]})
    return _beginning(incomplete, [*(ups["name"] for ups in upses), *groups, "all"])


def orders(ctx: typer.Context, incomplete: str) -> list[str]:
    """Instant commands of the UPS named before."""
    found = _asked(ctx, requests.Commands(ups=str(ctx.params.get("name"))))
    return _beginning(incomplete, [order["name"] for order in found.get("commands", ())])


def settings(ctx: typer.Context, incomplete: str) -> list[str]:
    """Writable variables of the UPS named before."""
    found = _asked(ctx, requests.Settings(ups=str(ctx.params.get("name"))))
    return _beginning(incomplete, list(found.get("settings", ())))


def _beginning(incomplete: str, words: list[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _asked(ctx: typer.Context, request: requests.Request) -> dict[str, Any]:
    named = ctx.find_root().params.get("config")
    try:
        return ask(control_socket(Path(named) if named else None), request, AT_ONCE_S)
    except (QxfleetError, OSError):
        return {}
