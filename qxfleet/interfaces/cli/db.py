"""``db``: migrations, integrity, retention."""

from __future__ import annotations

from typing import Annotated

import typer

from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.output import Json, complain, console, emit

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
    older_than: Annotated[str, typer.Option("--older-than", metavar="D", help="Delete readings older than this: 90d, 12h.")],
    json: Json = False,
) -> None:
    """Delete old readings and give their space back; events and orders stay.

    Safe beside a running agent.
    """
    from qxfleet.config.durations import parse_duration
    from qxfleet.model.clock import Clock, iso
    from qxfleet.store.upkeep import prune

    try:
        before_us = Clock().wall_us() - round(parse_duration(older_than) * 1_000_000)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="'--older-than'") from None
    url = _database(context)
    with console(stderr=True).status("deleting") as progress:
        count = prune(url, before_us, lambda deleted: progress.update(f"deleted {deleted} readings"))
    if json:
        emit({"before": iso(before_us), "deleted": count})
    else:
        typer.echo(f"deleted {count} readings before {iso(before_us)}")
