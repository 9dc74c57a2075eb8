"""``outages``: every time a battery carried the load, as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.interfaces.cli.battery import discharge_table
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, emit
from qxfleet.interfaces.cli.recorded import chosen, recorded, span_us

if TYPE_CHECKING:
    from qxfleet.model.discharge import Discharge, Sample

DEFAULT_SINCE = "365d"


def outages(
    context: typer.Context,
    targets: Targets = None,
    since: Annotated[
        str, typer.Option("--since", metavar="T", help="30d, 12h, ISO 8601, or always.")
    ] = DEFAULT_SINCE,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="As --since.", show_default="now")] = None,
    tests: Annotated[bool, typer.Option("--tests", help="Battery tests as well.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="With --json: the curve of each, as it was read.")] = False,
    json: Json = False,
) -> None:
    """Show outages: when, how long, how deep, the lowest voltage, energy, time of recharge.

    A battery test is none and shows only with --tests; cause "unknown" is a discharge with a good input and no test announced.
    """
    from qxfleet.api.battery_shapes import discharge_document, sample_document
    from qxfleet.model.clock import Clock
    from qxfleet.model.discharge import Cause
    from qxfleet.store import batteries, history

    if curves and not json:
        raise typer.BadParameter("goes with --json only; `qxfleet battery NAME --plot FILE` draws them", param_hint="'--curves'")
    begin_us, end_us = span_us(since, until, Clock().wall_us())
    causes = None if tests else (Cause.MAINS, Cause.UNKNOWN)
    found: list[Discharge] = []
    points: dict[int | None, list[Sample]] = {}
    with recorded(context) as (config, connection):
        if connection is not None:
            names = chosen(targets, config, history.upses(connection))
            found = batteries.discharges(connection, names, begin_us, end_us, causes)
            points = {each.id: batteries.curve(connection, each.id) for each in found if curves and each.id is not None}
    if json:
        documents = [
            discharge_document(each) | ({"curve": [sample_document(point) for point in points[each.id]]} if curves else {})
            for each in found
        ]
        emit({"outages": documents})
    elif found:
        discharge_table(found)
    else:
        typer.echo("none in that time")
