"""``late-cut``: what the machine's last hook calls when everything else has stopped."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from qxfleet.interfaces.cli.output import complain

NOTE = "/run/qxfleet/late-cut.json"


def late_cut(
    context: typer.Context,
    note: Annotated[Path, typer.Argument(metavar="[FILE]", help="The note that the agent left.")] = Path(NOTE),
) -> None:
    """Tell the agent's own UPSes to cut, where the agent could not. For the hook in /usr/lib/systemd/system-shutdown only.

    Does nothing without a note of the last ten minutes. Exit code 1 if a UPS could not be told.
    """
    import asyncio

    from qxfleet.agent.agent import open_transport
    from qxfleet.config.load import load
    from qxfleet.errors import LinkError
    from qxfleet.shutdown.late import read_note, send

    try:
        cuts = read_note(note, time.monotonic())
    except ValueError as error:
        complain(str(error))
        raise typer.Exit(1) from None
    if not cuts:
        return
    known = {options.name: options for options in load(context.obj).ups}
    failed = False
    for cut in cuts:
        if cut.ups not in known:
            complain(f"{cut.ups}: not in the configuration")
            failed = True
            continue
        try:
            complain(f"{cut.ups}: {asyncio.run(send(cut, known[cut.ups], open_transport))}")
        except LinkError as error:
            complain(str(error))
            failed = True
    if failed:
        raise typer.Exit(1)
