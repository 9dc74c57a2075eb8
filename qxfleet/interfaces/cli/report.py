"""``report``: the fleet's batteries as one page, for whoever buys and whoever tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.battery import judged
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, complain, emit
from qxfleet.interfaces.cli.recorded import chosen, recorded, span_us

DEFAULT_FILE = Path("qxfleet-report.html")
DEFAULT_SINCE = "730d"


def report(
    context: typer.Context,
    targets: Targets = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.html", help="Where it is written; - is stdout.", dir_okay=False)
    ] = DEFAULT_FILE,
    since: Annotated[
        str, typer.Option("--since", metavar="T", help="Outages since then: 90d, ISO 8601, or always.")
    ] = DEFAULT_SINCE,
    json: Json = False,
) -> None:
    """Write the fleet report: what to buy, what to test, what is wrong with the data.

    One HTML file with its charts inside; it needs no network and prints well.
    """
    from qxfleet.interfaces.fleet_report import page
    from qxfleet.model.clock import Clock
    from qxfleet.model.discharge import Cause
    from qxfleet.store import batteries, history

    now_us = Clock().wall_us()
    begin_us, _ = span_us(since, None, now_us)
    with recorded(context) as (config, connection):
        if connection is None:
            raise StoreError("the database is empty: `qxfleet run` fills it")
        found = judged(connection, config, targets, now_us)
        names = chosen(targets, config, history.upses(connection))
        discharges = batteries.discharges(connection, names, begin_us, now_us, (Cause.MAINS, Cause.UNKNOWN))
    if begin_us is None:
        begin_us = min((each.began_us for each in discharges), default=now_us)
    text = page(config.agent.name, found, discharges, now_us, begin_us)
    if str(output) == "-":
        typer.echo(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{output} could not be written: {error.strerror or error}") from error
    if json:
        emit({"file": str(output.absolute()), "batteries": len(found), "bytes": len(text.encode())})
    else:
        complain(f"{output}: {len(found)} batteries, {len(text.encode()) / 1e6:.1f} MB")
