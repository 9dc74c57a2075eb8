"""``battery``: what batteries are worth and until when, one of them in detail, and the register."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from qxfleet.api import requests
from qxfleet.interfaces.cli.client import ask, control_socket
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, emit, print_table, printable
from qxfleet.interfaces.cli.recorded import chosen, recorded

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from qxfleet.battery.health import Health
    from qxfleet.config.load import Config

COLOURS = {
    "good": "green", "watch": "cyan", "test due": "yellow", "replace soon": "yellow", "replace now": "red", "unknown": "dim",
}  # fmt: skip
PICTURES = (".png", ".svg")
INSUFFICIENT = "insufficient"


class ShowsByDefault(TyperGroup):
    """``battery NAME`` is ``battery show NAME``; UPSes called as a command are reached that long way."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        helping = any(arg in ctx.help_option_names for arg in args[:1])
        if not helping and (not args or args[0] not in self.commands):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ShowsByDefault,
    help="What batteries are worth and until when, and the register of which is where. Without a command: show.",
)

Plot = Annotated[Path | None, typer.Option("--plot", metavar="FILE.png|.svg", help="Write a picture.", dir_okay=False)]


@app.command("show")
def show(context: typer.Context, targets: Targets = None, plot: Plot = None, json: Json = False) -> None:
    """Show health now, trend, and when to replace with its bounds; one UPS in detail.

    What the data can't carry is "insufficient". Confidence: A measured capacity, B partial discharge, C indicators, D age only.
    """
    from qxfleet.api.battery_shapes import battery_document
    from qxfleet.model.clock import Clock

    check_picture(plot)
    now_us = Clock().wall_us()
    with recorded(context) as (config, connection):
        found = judged(connection, config, targets, now_us) if connection is not None else []
        if plot is not None and connection is not None and found:
            _draw(plot, connection, found, now_us)
        if json:
            emit({"batteries": [battery_document(each) for each in found]})
        elif len(found) == 1 and targets and connection is not None:
            _detail(connection, found[0], now_us)
        elif found:
            _table(found)
        else:
            typer.echo("no battery is registered yet: the agent does so when it first sees a UPS")


def judged(connection: Connection, config: Config, targets: list[str] | None, now_us: int) -> list[Health]:
    """The judgement of the batteries that are in these UPSes; compared with the whole fleet whoever is meant."""
    from qxfleet.battery.health import fleet_health
    from qxfleet.battery.survey import evidence
    from qxfleet.store import history

    names = chosen(targets, config, history.upses(connection))
    whole = fleet_health(evidence(connection, config.batteries, now_us), now_us)
    order = {name: number for number, name in enumerate(names)} if names is not None else None
    if order is None:
        return whole
    return sorted((each for each in whole if each.evidence.ups in order), key=lambda each: order[each.evidence.ups])


def check_picture(plot: Path | None) -> None:
    """BadParameter for a file that is no picture."""
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise typer.BadParameter(f"expected a file ending in {' or '.join(PICTURES)}, found {plot.name}", param_hint="'--plot'")


def _table(found: list[Health]) -> None:
    from qxfleet.api.battery_shapes import day, figure

    headings = [
        ("UPS", "left"), ("VERDICT", "left"), ("HEALTH", "right"), ("PER YEAR", "right"), ("REPLACE BY", "left"),
        ("BETWEEN", "left"), ("GRADE", "left"), ("WHY", "left"),
    ]  # fmt: skip
    rows: list[list[tuple[str, str | None]]] = []
    for each in found:
        low, high = day(each.low_us), day(each.high_us)
        health = INSUFFICIENT if each.percent is None else f"{each.percent:.0f} %"
        rows.append([
            (each.evidence.ups, "bold"), (each.verdict.value, COLOURS[each.verdict.value]), (health, None),
            (figure(each.per_year, "%", 1), None), (day(each.by_us), None), (f"{low} … {high}" if each.by_us else "-", None),
            (each.confidence or "-", None), ((*each.reasons, *each.data, "")[0], None),
        ])  # fmt: skip
    print_table(headings, rows)


def _detail(connection: Connection, health: Health, now_us: int) -> None:
    from qxfleet.api.battery_shapes import day, figure, span
    from qxfleet.battery.runtime import predicted_runtime
    from qxfleet.store import batteries

    known, facts = health.evidence, health.evidence.facts
    lines = [
        ("UPS", f"{known.ups}{' (' + known.model + ')' if known.model else ''}"),
        ("verdict", f"{health.verdict.value}{', confidence ' + health.confidence if health.confidence else ''}"),
        ("health", INSUFFICIENT if health.percent is None else f"{health.percent:.0f} % ± {health.error:.0f} (one sigma)"),
        ("trend", INSUFFICIENT if health.per_year is None else f"{health.per_year:+.1f} % per year"),
        ("replace by", f"{day(health.by_us)}, between {day(health.low_us)} and {day(health.high_us)} (by {health.basis})"
         if health.by_us else INSUFFICIENT),
        ("next step", health.next_step),
        *(("because", text) for text in health.reasons),
        *(("data", text) for text in health.data),
        ("battery", f"{known.battery}{', ' + facts.type if facts.type else ''}, {facts.chemistry}, "
         f"{known.cells or 'unknown number of'} cells, since {day(facts.installed_us)}"),
    ]  # fmt: skip
    discharges = batteries.discharges_of_battery(connection, known.battery_id)
    load = known.lately.load_percent if known.lately else None
    band = predicted_runtime(discharges, load, 100.0, now_us=now_us) if load else None
    if band is not None:
        text = f"{span(band.likely_s)} at {load:.0f} % load, between {span(band.low_s)} and {span(band.high_s)}, learned"
        lines.append(("runtime", text))
    if known.rest is not None and known.rest.ageing is not None:
        warm = f"{figure(known.rest.temperature_c, '°C', 1)} on average, ages {known.rest.ageing:.2f} times as fast as at 25 °C"
        lines.append(("warmth", warm))
    for label, text in lines:
        typer.echo(printable(f"{label:<11} {text}"))
    shown = [each for each in discharges if each.lasted_s is None or each.lasted_s >= 30][-12:]
    if shown:
        typer.echo("")
        discharge_table(shown, name=False)


def discharge_table(found: list[Any], *, name: bool = True) -> None:
    """Discharges, a row each."""
    from qxfleet.api.battery_shapes import figure, span
    from qxfleet.model.clock import from_us

    headings = [("BEGIN (UTC)", "left"), *([("UPS", "left")] if name else []), ("CAUSE", "left"), ("LASTED", "right"),
                ("LOAD", "right"), ("LOWEST", "right"), ("USED", "right"), ("ENERGY", "right"), ("LOW AFTER", "right"),
                ("RECHARGED IN", "right"), ("CAPACITY", "right")]  # fmt: skip
    rows: list[list[tuple[str, str | None]]] = []
    for each in found:
        used = each.score.used_percent if each.score.used_percent is not None else each.depth_percent
        capacity = each.score.capacity_percent
        rows.append([
            (from_us(each.began_us).strftime("%Y-%m-%d %H:%M:%S"), None), *([(each.ups, "bold")] if name else []),
            (each.cause.value, {"mains": "red", "unknown": "yellow"}.get(each.cause.value)),
            (span(each.lasted_s) if each.ended_us else "goes on", None), (figure(each.load_percent, "%"), None),
            (figure(each.lowest_v, "V", 2), None), (figure(used, "%"), None), (figure(each.energy_wh, "Wh", 1), None),
            (span(each.low_after_s), None), (span(each.recharge_s), None),
            ("-" if capacity is None else f"{capacity:.0f} ± {each.score.capacity_error:.0f} %", None),
        ])  # fmt: skip
    print_table(headings, rows)


def _draw(plot: Path, connection: Connection, found: list[Health], now_us: int) -> None:
    from qxfleet.interfaces import battery_plots
    from qxfleet.store import batteries

    if len(found) > 1:
        battery_plots.save(battery_plots.replacements(found, now_us), plot)
        return
    runs = battery_plots.telling_runs(batteries.discharges_of_battery(connection, found[0].evidence.battery_id))
    curves = [(each, batteries.curve(connection, each.id)) for each in runs if each.id is not None]
    battery_plots.save(battery_plots.one_battery(found[0], curves, now_us), plot)


@app.command("list")
def list_(context: typer.Context, targets: Targets = None, json: Json = False) -> None:
    """Show the register: which battery was in which UPS since when."""
    from qxfleet.api.battery_shapes import day, figure, placement_document
    from qxfleet.store import batteries, history

    with recorded(context) as (config, connection):
        names = chosen(targets, config, history.upses(connection) if connection is not None else ())
        places = batteries.placements(connection) if connection is not None else []
    places = [place for place in places if names is None or place.ups in names]
    if json:
        emit({"batteries": [placement_document(place) for place in places]})
        return
    how = {"told": "", "configured": "configured", "first-seen": "or before: first seen then"}
    headings = [("UPS", "left"), ("BATTERY", "left"), ("SINCE", "left"), ("UNTIL", "left"), ("TYPE", "left"), ("CELLS", "right"),
                ("CAPACITY", "right"), ("MADE", "left"), ("REMARK", "left")]  # fmt: skip
    print_table(headings, [
        [(place.ups, "bold"), (place.battery.name, None), (day(place.since_us), None), (day(place.until_us), None),
         (place.battery.type or "-", None), (figure(place.battery.cells), None),
         (figure(place.battery.capacity_ah, "Ah", 1), None),
         (day(place.battery.made_us), None), (place.battery.note or how[place.known], None)]
        for place in places
    ])  # fmt: skip


@app.command("replaced")
def replaced(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The UPS.")],
    date: Annotated[str, typer.Option("--date", metavar="T", help="When: 2026-05-01, ISO 8601, or how long ago (2h).")] = "0s",
    battery: Annotated[
        str | None, typer.Option("--with", metavar="BATTERY", help="A battery that was moved here, or a name for the new one.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Maker and type.")] = None,
    cells: Annotated[int | None, typer.Option("--cells", min=1, max=400, help="Cells in series.")] = None,
    capacity: Annotated[float | None, typer.Option("--capacity", min=0.1, max=10_000, help="Ampere-hours.")] = None,
    chemistry: Annotated[
        str | None, typer.Option("--chemistry", metavar="lead-acid|lifepo4|li-ion|nicd", help="Lead-acid unless it is given.")
    ] = None,
    made: Annotated[str | None, typer.Option("--made", metavar="DATE", help="Date of manufacture.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Anything worth knowing.")] = None,
    json: Json = False,
) -> None:
    """Write down that a UPS has another battery, since a date.

    Its history starts anew; a battery that moved takes its own along.
    """
    from qxfleet.interfaces.cli.when import since_us
    from qxfleet.model.clock import Clock

    if chemistry not in (None, "lead-acid", "lifepo4", "li-ion", "nicd"):
        expected = "expected lead-acid, lifepo4, li-ion or nicd"
        raise typer.BadParameter(f"{expected}, found {chemistry}", param_hint="'--chemistry'")
    now_us = Clock().wall_us()
    replaced = requests.BatteryReplaced(
        ups=name, since_us=since_us(date, now_us, "--date"), battery=battery, type=kind, cells=cells, capacity_ah=capacity,
        chemistry=chemistry, note=note, made=None if made is None else since_us(made, now_us, "--made"),
    )  # fmt: skip
    document = ask(control_socket(context.obj), replaced)
    if json:
        emit(document)
    else:
        instead = f" instead of {document['before']}" if document["before"] else ""
        typer.echo(printable(f"{document['ups']}: battery {document['battery']}{instead} since {document['since']}"))
