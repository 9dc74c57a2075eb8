"""``fleet``: several agents as one; and the views of all of them that other commands show with ``--fleet``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.api.responses import AgentItem, Shipping
from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table, printable

if TYPE_CHECKING:
    from qxfleet.config.stores import FleetSettings

Fleet = Annotated[bool, typer.Option("--fleet", help="All agents, from the fleet store.")]

app = typer.Typer(no_args_is_help=True, help="Several agents as one: the fleet store and who ships to it.")


@app.command()
def status(context: typer.Context, json: Json = False) -> None:
    """Show every agent: when it was in touch, how many UPSes it has, whether its plan is armed."""
    from qxfleet.api.fleet_shapes import registry_document, retention_line
    from qxfleet.interfaces.cli.recorded import recorded_fleet
    from qxfleet.model.clock import Clock
    from qxfleet.store.fleet_upkeep import kept
    from qxfleet.store.fleet_view import agents

    with recorded_fleet(context) as (_, connection):
        rules = kept(connection)
        document = registry_document(Clock().wall_us(), agents(connection), rules)
    if json:
        emit(document)
        return
    headings = [(text, "left") for text in ("AGENT", "SITE", "VERSION", "PLAN")]
    print_table([*headings, ("UPS", "right"), ("LAST CONTACT", "right")], [_agent_row(each) for each in document["agents"]])
    if rules is not None:
        typer.echo(f"the fleet store keeps {retention_line(rules)} (qxfleet fleet retention)")


Kept = Annotated[str | None, typer.Option(metavar="D", help='A duration of a day or more (90d), or "forever".')]


@app.command()
def retention(
    context: typer.Context, raw: Kept = None, minutes: Kept = None, quarter_hours: Kept = None, days: Kept = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Show how long the fleet store keeps readings and each of their roll-ups, or set it for the whole fleet.

    What is set lies in the fleet store itself; any agent's machine may set it. Each agent's own state has [retention].
    """
    from dataclasses import astuple

    from qxfleet.api.fleet_shapes import retention_document, retention_line
    from qxfleet.config.forms import Keep
    from qxfleet.model.retention import KEPT, Retention
    from qxfleet.store.fleet import bounded, require_current
    from qxfleet.store.fleet_upkeep import keep, kept

    wanted = {"raw": raw, "minutes": minutes, "quarter-hours": quarter_hours, "days": days}
    with bounded(_fleet(context).database, 30.0, writing=True) as connection, connection.begin():
        require_current(connection)
        rules = kept(connection) or KEPT
        if any(each is not None for each in wanted.values()):
            seconds = list(astuple(rules))
            for place, (name, value) in enumerate(wanted.items()):
                try:
                    seconds[place] = seconds[place] if value is None else Keep().read(value)
                except ValueError as error:
                    raise typer.BadParameter(str(error), param_hint=f"'--{name}'") from None
            rules = Retention(*seconds)
            if (coarser := rules.upside_down()) is not None:
                why = "a coarser tier must be kept as long as the finer one at least"
                raise typer.BadParameter(why, param_hint=f"'--{coarser}'")
            keep(connection, rules)
    if json:
        emit(retention_document(rules))
    else:
        typer.echo(f"the fleet store keeps {retention_line(rules)}")


@app.command()
def upgrade(context: typer.Context, json: Json = False) -> None:
    """Bring the fleet store to this version's schema.

    Agents of this version and of the one before work with it then. An empty fleet store is set up by its first agent.
    """
    from sqlalchemy import text

    from qxfleet.store.engine import explained
    from qxfleet.store.fleet import open_fleet
    from qxfleet.store.migrate import Standing, upgrade_on

    engine = open_fleet(_fleet(context).database)
    try:
        with explained(engine), engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            before = upgrade_on(connection)
    finally:
        engine.dispose()
    if json:
        emit({"from": before.revision, "to": before.ours, "changed": before.standing is not Standing.CURRENT})
    elif before.standing is Standing.CURRENT:
        typer.echo(f"schema {before.ours}: nothing to do")
    else:
        typer.echo(f"schema {before.revision or 'none'} upgraded to {before.ours}")


@app.command()
def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="AGENT", help="Its name, as `qxfleet fleet status` shows it.")],
    json: Json = False,
) -> None:
    """Free the name and the UPSes of an agent that is gone for good; its history stays.

    An agent that was in touch within five minutes is not gone, and is not forgotten.
    """
    from qxfleet.store.fleet import bounded, forget_agent

    with bounded(_fleet(context).database, 30.0, writing=True) as connection, connection.begin():
        done = forget_agent(connection, name)
    if json:
        emit({"agent": name, "forgotten": True})
    else:
        typer.echo(done)


def _fleet(context: typer.Context) -> FleetSettings:
    from qxfleet.config.load import load

    fleet = load(context.obj).fleet
    if fleet is None:
        raise StoreError("no [fleet] is configured: this agent stands alone")
    return fleet


def _agent_row(each: AgentItem) -> list[tuple[str, str | None]]:
    from qxfleet.api.fleet_shapes import SILENT_S
    from qxfleet.interfaces.cli.fleet import age

    words: dict[bool | None, tuple[str, str | None]] = {True: ("armed", "green"), False: ("not armed", None), None: ("-", None)}
    silent = each["age_s"] > SILENT_S
    return [
        (each["name"], "bold"), (each["site"] or "-", None), (each["version"] or "-", None), words[each["armed"]],
        (str(each["ups"]), None),
        (age(each["age_s"]), "red" if silent else None),
    ]  # fmt: skip


def show_fleet(context: typer.Context, targets: list[str] | None, json: bool) -> None:
    """``status --fleet``: every UPS of every agent with its newest shipped reading and how old that is."""
    from qxfleet.api.fleet_shapes import SILENT_S, fleet_document
    from qxfleet.interfaces.cli.recorded import recorded_fleet
    from qxfleet.model.clock import Clock
    from qxfleet.store import fleet_view

    with recorded_fleet(context) as (_, connection):
        agents, upses = fleet_view.agents(connection), fleet_view.upses(connection)
    if targets and "all" not in targets:
        known = {each.name for each in upses}
        if strangers := [target for target in targets if target not in known]:
            hint = "groups are known to their own agent only; `qxfleet status --fleet` lists every UPS"
            raise typer.BadParameter(f"no UPS of the fleet is named {strangers[0]!r}; {hint}", param_hint="TARGET")
        upses = [each for each in upses if each.name in targets]
    document = fleet_document(Clock().wall_us(), agents, upses)
    if json:
        emit(document)
        return
    from qxfleet.interfaces.cli.fleet import COLUMNS, age, duration, status_colour

    numbers = [(text.upper(), "right") for text in (*(heading for heading, _ in COLUMNS), "runtime", "age")]
    print_table(
        [("NAME", "left"), ("AGENT", "left"), ("STATUS", "left"), *numbers],
        [
            [
                (ups["name"], "bold"), (ups["agent"], "red" if ups["agent_age_s"] > SILENT_S else None),
                (ups["status"] or "-", status_colour(ups["status"])),
                *((ups["variables"].get(name, "-"), None) for _, name in COLUMNS),
                (duration(ups["variables"].get("battery.runtime")), None), (age(ups["age_s"]), None),
            ]
            for ups in document["ups"]
        ],
    )  # fmt: skip
    for each in document["agents"]:
        if each["age_s"] > SILENT_S:
            complain(f"agent {each['name']} was not in touch for {age(each['age_s'])}: what is shown of its UPSes is that old")


def shipping_line(shipping: Shipping) -> str | None:
    """What is to be said of shipping below the table of ``status``; None while all goes well."""
    from qxfleet.interfaces.cli.fleet import age

    if shipping["trouble"] is None:
        return None
    waits = ""
    if shipping["records"] or shipping["readings"]:
        oldest = "" if shipping["oldest_s"] is None else f", the oldest for {age(shipping['oldest_s'])}"
        waits = f"; {shipping['records']} records and {shipping['readings']} readings wait{oldest}"
    return printable(f"fleet store, since {shipping['since']}: {shipping['trouble']}{waits}")
