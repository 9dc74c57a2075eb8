"""``db``: migrations, integrity, retention."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, complain, console, emit


class Form(Enum):
    """Of exported files."""

    CSV = "csv"
    PARQUET = "parquet"


app = typer.Typer(no_args_is_help=True, help="The database: migrations, integrity, retention.")


def _database(context: typer.Context) -> str:
    from qxfleet.config.load import load

    return load(context.obj).agent.database


@app.command()
def upgrade(context: typer.Context, json: Json = False) -> None:
    """Bring the database to this version's schema.

    An SQLite file with data is copied aside first. The agent does the same by itself when it starts.
    """
    from qxfleet.store.migrate import Standing, upgrade

    before = upgrade(_database(context))
    if json:
        emit({"from": before.revision, "to": before.ours, "changed": before.standing is not Standing.CURRENT})
    elif before.standing is Standing.CURRENT:
        typer.echo(f"schema {before.ours}: nothing to do")
    else:
        typer.echo(f"schema {before.revision or 'none'} upgraded to {before.ours}")


@app.command()
def check(context: typer.Context, json: Json = False) -> None:
    """Look the database over from end to end, changing nothing.

    Exit code 1 if anything is wrong with it.
    """
    from qxfleet.store.migrate import Standing, state
    from qxfleet.store.upkeep import check

    url = _database(context)
    if state(url).standing is Standing.EMPTY:
        raise StoreError("the database is empty: `qxfleet run` or `qxfleet db upgrade` makes its tables")
    report = check(url)
    if json:
        emit({"schema": report.schema.revision, "rows": report.rows, "problems": list(report.problems)})
    else:
        typer.echo(f"schema {report.schema.revision}")
        for table, rows in sorted(report.rows.items()):
            typer.echo(f"{table}: {rows} rows")
    for problem in report.problems:
        complain(problem)
    if report.problems:
        raise typer.Exit(1)
    if not json:
        typer.echo("sound")


@app.command()
def prune(
    context: typer.Context,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="D", help="Delete readings older than this (90d, 12h) instead."),
    ] = None,
    json: Json = False,
) -> None:
    """Delete what [retention] keeps no longer, and give its space back.

    What is deleted is rolled up before; events, orders, tests and discharges stay. Safe beside a running agent.
    """
    from qxfleet.config.durations import parse_duration
    from qxfleet.config.load import load
    from qxfleet.model.clock import Clock
    from qxfleet.model.retention import Retention
    from qxfleet.store.upkeep import prune

    config = load(context.obj)
    retention = config.retention
    if older_than is not None:
        try:
            retention = Retention(parse_duration(older_than), None, None, None)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="'--older-than'") from None
    with console(stderr=True).status("rolling up") as progress:
        count = prune(config.agent.database, retention, Clock().wall_us(), lambda gone: progress.update(f"deleted {gone} rows"))
    if json:
        emit({"deleted": count})
    else:
        typer.echo(f"deleted {count} rows that are kept no longer")


@app.command()
def salvage(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The damaged file, as the agent put it aside.")],
    json: Json = False,
) -> None:
    """Bring what can be read of a damaged state into the one in use.

    FILE is not changed. What is in the state already stays as it is. Safe beside a running agent, which takes up what was
    salvaged of arming, maintenance and tests at its next start. Exit code 1 if not all of FILE could be read.
    """
    from qxfleet.store.salvage import salvage

    with console(stderr=True).status("reading") as progress:
        found = salvage(file, _database(context), progress.update)
    if json:
        emit({"rows": found.rows, "problems": found.problems})
    else:
        for table, rows in sorted(found.rows.items()):
            typer.echo(f"{table}: {rows} rows")
    for problem in found.problems:
        complain(problem)
    if found.problems:
        raise typer.Exit(1)


@app.command("rebuild-discharges")
def rebuild_discharges(context: typer.Context, targets: Targets = None, json: Json = False) -> None:
    """Cut all discharges out of the history again, and judge them anew.

    For a configuration that became better: cells, rated power, the maker's runtimes. What was right stays as it is.
    """
    from qxfleet.battery import chronicle, register
    from qxfleet.config.load import load
    from qxfleet.interfaces.cli.recorded import chosen
    from qxfleet.model.battery_facts import BatteryFacts
    from qxfleet.model.clock import Clock
    from qxfleet.store import batteries, history
    from qxfleet.store.engine import explained, open_engine
    from qxfleet.store.migrate import Standing, state

    config = load(context.obj)
    if state(config.agent.database).standing is not Standing.CURRENT:
        raise StoreError("the database has not this version's schema: run `qxfleet db upgrade`")
    engine = open_engine(config.agent.database, writing=True)
    counts: dict[str, tuple[int, int]] = {}
    try:
        with explained(engine):
            with engine.connect() as connection:
                known = history.upses(connection)
                names = chosen(targets, config, known) or known
            with console(stderr=True).status("cutting") as progress:
                for number, name in enumerate(names):
                    progress.update(f"{name} ({number + 1} of {len(names)})")
                    facts = config.batteries.get(name, BatteryFacts())
                    with engine.begin() as connection:
                        device_id = batteries.device_id(connection, name)
                        register.settle(connection, device_id, name, facts, Clock().wall_us())
                        rating = chronicle.rating_of(facts, chronicle.identity(connection, name))
                        counts[name] = chronicle.rebuild(connection, name, rating, facts, Clock().wall_us())
    finally:
        engine.dispose()
    if json:
        emit({"ups": [{"name": name, "discharges": all_, "changed": changed} for name, (all_, changed) in counts.items()]})
    else:
        everything, changed = (sum(count[place] for count in counts.values()) for place in (0, 1))
        typer.echo(f"{everything} discharges of {len(counts)} UPSes, {changed} of them changed")


@app.command()
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; made if it is not there.")],
    tables: Annotated[
        list[str] | None, typer.Option("--table", help="Only this; may be given again. docs/sql-views.md lists them.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="Of the files.")] = Form.CSV,
    since: Annotated[str, typer.Option("--since", metavar="T", help="30d, 12h, ISO 8601, or always.")] = "always",
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Up to then.", show_default="now")] = None,
    json: Json = False,
) -> None:
    """Write the history to files, one for each table: readings, roll-ups, events, orders, discharges.

    Values are in volts, percent and so on, under the variables' names. No file is overwritten. Safe beside a running agent.
    """
    from qxfleet.interfaces.cli.recorded import recorded, span_us
    from qxfleet.interfaces.export import export as write
    from qxfleet.interfaces.export import views
    from qxfleet.model.clock import Clock

    begin_us, end_us = span_us(since, until, Clock().wall_us())
    with recorded(context) as (_, connection):
        if connection is None:
            raise StoreError("the database is empty: nothing is recorded yet")
        known = views(connection)
        if unknown := [name for name in tables or () if name not in known]:
            raise typer.BadParameter(f"there is no table {unknown[0]!r}; there are {', '.join(known)}", param_hint="'--table'")
        with console(stderr=True).status("exporting") as progress:
            written = write(
                connection, folder, form.value, tables or known, begin_us, end_us,
                lambda name, rows: progress.update(f"{name}: {rows:,} rows"),
            )  # fmt: skip
    if json:
        emit({"files": [{"file": str(path), "rows": rows} for path, rows in written]})
    else:
        for path, rows in written:
            typer.echo(f"{path}: {rows} rows")
