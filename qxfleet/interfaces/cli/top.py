"""``top``: the fleet live on the whole screen."""

from __future__ import annotations

import typer

from qxfleet.api import requests
from qxfleet.errors import QxfleetError
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.fleet import Targets


def top(context: typer.Context, targets: Targets = None) -> None:
    """Show the fleet live on the whole screen; q ends it."""
    path = control_socket(context.obj)
    ask(path, requests.Status(targets=tuple(targets or ())))
    try:
        from qxfleet.interfaces.cli.screen import Screen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "textual":
            raise
        raise QxfleetError("`qxfleet top` needs one more package: pip install 'qxfleet[tui]'") from None
    screen = Screen(path, targets or [])
    screen.run()
    if screen.failure is not None:
        raise screen.failure
