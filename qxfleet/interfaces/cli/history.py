"""``history``: what a variable was, from the database."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.fleet import Name
from qxfleet.interfaces.cli.output import Json, complain, emit, printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from qxfleet.config.load import Config
    from qxfleet.store.series import Series

DEFAULT_SINCE = "24h"
PICTURES = (".png", ".svg")

Since = Annotated[str | None, typer.Option("--since", metavar="T", help="30d, 12h, ISO 8601, or always.")]
Until = Annotated[str | None, typer.Option("--until", metavar="T", help="Up to then.", show_default="now")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated values on stdout.")]


def history(
    context: typer.Context,
    name: Name,
    variable: Annotated[str, typer.Argument(metavar="VAR", help="A numeric variable, or ups.status.")],
    since: Since = DEFAULT_SINCE,
    until: Until = None,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="D", help="One point for each 5m, 1h, 1d; 0s: each reading.", show_default="as suits"),
    ] = None,
    as_csv: Csv = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw it: FILE.png or FILE.svg.")] = None,
    json: Json = False,
) -> None:
    """Show what a variable was, from the database.

    Readings are kept for days, minutes and quarters of an hour for years, days for ever: the range decides which are shown
    unless --every does. Where nothing was recorded there is no point.
    """
    from qxfleet.interfaces.cli.recorded import recorded, span_us
    from qxfleet.model.clock import Clock
    from qxfleet.store import series as stored

    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"expected a name that ends in {' or '.join(PICTURES)}", param_hint="'--plot'")
    every_s = None if every is None else _every_s(every)
    begin_us, end_us = span_us(since, until, Clock().wall_us())
    with recorded(context) as (config, connection):
        if connection is None:
            raise StoreError(f"{name}: nothing is recorded yet")
        if variable == stored.STATUS:
            if plot or parquet or every:
                raise typer.BadParameter("ups.status is shown as a list, CSV or JSON only", param_hint="VAR")
            _show_status(name, stored.status_spans(connection, name, begin_us, end_us), as_csv=as_csv, json=json)
            return
        _check(variable)
        found = _series(config, connection, name, variable, begin_us, end_us, every_s)
        if plot is not None:
            from qxfleet.interfaces.history_plot import draw
            from qxfleet.store.batteries import discharges

            draw(found, discharges(connection, [name], begin_us, end_us), plot)
            complain(f"drawn to {plot}")
    if found.finer_since_us is not None:
        from qxfleet.model.clock import iso

        complain(f"this fine, {variable} is kept since {iso(found.finer_since_us)}; for what was before ask for a wider --every")
    if parquet is not None:
        from qxfleet.interfaces.parquet import write_series

        write_series(found, parquet)
        complain(f"{len(found.points)} points written to {parquet}")
    if json:
        emit(series_document(found))
    elif as_csv:
        points = series_document(found)["points"]
        write_csv(("time", "min", "mean", "max", "count"), (point.values() for point in points))
    elif plot is None and parquet is None:
        _show(found)


def _series(
    config: Config, connection: Connection, name: str, variable: str, begin_us: int | None, end_us: int, every_s: int | None
) -> Series:
    """From the state, and what is older, or another agent's, from the fleet store; a sentence where that can't be read."""
    from qxfleet.model.clock import iso
    from qxfleet.store.fleet_view import reading_fleet
    from qxfleet.store.series import begins, joined, series

    first_us = begins(connection, name)
    if config.fleet is None or (first_us is not None and begin_us is not None and begin_us >= first_us):
        return series(connection, name, variable, begin_us, end_us, every_s)
    try:
        with reading_fleet(config.fleet.database) as store:
            older = None if begins(store, name) is None else series(store, name, variable, begin_us, end_us, every_s)
    except StoreError as error:
        if first_us is None:
            raise
        complain(f"what was before {iso(first_us)} is in the fleet store, which can't be read now: {error}")
        older = None
    if first_us is None and older is not None:
        return older
    if older is None:
        return series(connection, name, variable, begin_us, end_us, every_s)
    return joined(older, series(connection, name, variable, first_us, end_us, older.every_s))


def _every_s(text: str) -> int:
    from qxfleet.config.durations import parse_duration

    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--every'") from None
    if seconds != int(seconds):
        raise typer.BadParameter("expected whole seconds", param_hint="'--every'")
    return int(seconds)


def _check(variable: str) -> None:
    """A name nobody knows is bad usage, with the nearest one that is known."""
    from qxfleet.config.findings import did_you_mean
    from qxfleet.model.variables import VARIABLES

    if variable not in VARIABLES:
        guess = did_you_mean(variable, VARIABLES)
        raise typer.BadParameter(f"there is no variable {variable!r}{guess}; `qxfleet vars NAME` lists them", param_hint="VAR")


def series_document(found: Series) -> dict[str, Any]:
    """``history --json``; ``every_s`` 0: each point is one reading."""
    from qxfleet.model.clock import iso
    from qxfleet.model.variables import VARIABLES

    digits = VARIABLES[found.variable].decimals + 2
    return {
        "ups": found.ups,
        "variable": found.variable,
        "unit": found.unit,
        "every_s": found.every_s,
        "points": [
            {
                "time": iso(point.at_us), "min": round(point.min, digits), "mean": round(point.mean, digits),
                "max": round(point.max, digits), "count": point.readings,
            }
            for point in found.points
        ],
    }  # fmt: skip


def _show(found: Series) -> None:
    from qxfleet.config.durations import duration_text
    from qxfleet.model.clock import iso
    from qxfleet.model.variables import value_text

    if not found.points:
        complain(f"{found.ups}: no {found.variable} was recorded in this time")
        return
    width = f"by {duration_text(found.every_s)}" if found.every_s else "each reading"
    typer.echo(f"{found.ups}  {found.variable}{f' in {found.unit}' if found.unit else ''}, {width}, UTC")
    if found.every_s:
        typer.echo(f"{'time':<24}  {'mean':>9}  {'min':>9}  {'max':>9}  {'readings':>8}")
    for index, point in enumerate(found.points):
        if index and point.at_us - found.points[index - 1].at_us > found.gap_us:
            typer.echo("…")
        low, mean, high = (value_text(found.variable, value) for value in (point.min, point.mean, point.max))
        line = f"{iso(point.at_us)}  {mean:>9}"
        typer.echo(f"{line}  {low:>9}  {high:>9}  {point.readings:>8}" if found.every_s else line)


def _show_status(name: str, spans: Sequence[Any], *, as_csv: bool, json: bool) -> None:
    from qxfleet.model.clock import iso
    from qxfleet.model.status import status_text

    rows = [(iso(span.at_us), iso(span.until_us), status_text(span.status)) for span in spans]
    if json:
        points = [{"time": begin, "until": end, "value": text} for begin, end, text in rows]
        emit({"ups": name, "variable": "ups.status", "unit": "", "every_s": 0, "points": points})
    elif as_csv:
        write_csv(("time", "until", "ups.status"), rows)
    else:
        for begin, end, text in rows:
            typer.echo(printable(f"{begin}  {end}  {text}"))


def write_csv(heading: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Comma-separated values on stdout, with the heading first (RFC 4180)."""
    writer = csv.writer(sys.stdout, lineterminator="\r\n" if sys.platform == "win32" else "\n")
    writer.writerow(heading)
    writer.writerows(rows)
