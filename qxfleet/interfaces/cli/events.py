"""``events``: what happened, from the database, and what happens, from the agent."""

from __future__ import annotations

import json as json_text
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qxfleet.errors import StoreError
from qxfleet.interfaces.cli.client import control_socket, follow
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, coloured, emit, printable

if TYPE_CHECKING:
    from qxfleet.config.load import Config

DEFAULT_SINCE = "24h"
COLOURS = (None, "cyan", "yellow", "red")
"""By severity."""


def events(
    context: typer.Context,
    targets: Targets = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="30d, 12h, 5m, or ISO 8601.", show_default=DEFAULT_SINCE)
    ] = None,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones as they come, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show status changes, warnings, tests, commands.

    With --follow, --json prints one event a line, and only new events are shown unless --since is given.
    """
    if not following:
        found = list(_recorded(context, targets, since or DEFAULT_SINCE))
        if json:
            emit({"events": [item["event"] for item in found]})
        else:
            for item in found:
                typer.echo(event_line(item))
        return
    stream = follow(control_socket(context.obj), "follow", targets=targets or [])
    next(stream)  # from here on nothing is missed; what the database holds comes first
    shown = list(_recorded(context, targets, since)) if since else []
    before = {json_text.dumps(item["event"]) for item in shown}
    try:
        for item in shown:
            _print(item, json)
        for item in stream:
            if json_text.dumps(item["event"]) not in before:
                _print(item, json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _print(item: dict[str, Any], json: bool) -> None:
    typer.echo(json_text.dumps(item["event"], ensure_ascii=False) if json else event_line(item))


def event_line(item: dict[str, Any]) -> str:
    """One event as people read it: time, UPS, what, value, text."""
    event = item["event"]
    name = coloured(f"{event['name']:<24}", COLOURS[item["severity"]])
    text = event["text"] if item["stored"] else f"{event['text']} (not stored yet)"
    return printable(f"{event['time']}  {event['ups'] or '-':<14} ") + name + printable(f" {event['value']:<12} {text}")


def _recorded(context: typer.Context, targets: list[str] | None, since: str) -> Iterator[dict[str, Any]]:
    from qxfleet.config.load import load
    from qxfleet.interfaces.cli.when import since_us
    from qxfleet.interfaces.shapes import event_item
    from qxfleet.model.clock import Clock
    from qxfleet.store import history
    from qxfleet.store.engine import explained, open_engine, shown
    from qxfleet.store.migrate import Standing, refuse_unknown, state

    start_us = since_us(since, Clock().wall_us())
    config = load(context.obj)
    found = state(config.agent.database)
    engine = open_engine(config.agent.database, writing=False)
    where = shown(engine.url)
    refuse_unknown(found, where)
    if found.standing is Standing.OLDER:
        raise StoreError(f"database {where} has the older schema {found.revision}: run `qxfleet db upgrade`")
    try:
        with explained(engine), engine.connect() as connection:
            empty = found.standing is Standing.EMPTY
            names = _names(targets, config, () if empty else history.upses(connection))
            if not empty:
                yield from (event_item(stored.event) for stored in history.events(connection, names, start_us))
    finally:
        engine.dispose()


def _names(targets: list[str] | None, config: Config, recorded: Collection[str]) -> list[str] | None:
    """UPS names meant by targets; a UPS that is no longer configured may be named if the database knows it."""
    if not targets or "all" in targets:
        return None
    names: list[str] = []
    for target in targets:
        group = target.removeprefix("group:") if target.startswith("group:") else None
        if group is not None:
            members = [ups.name for ups in config.ups if group in ups.groups]
        else:
            members = [name for name in (*recorded, *(ups.name for ups in config.ups)) if name == target][:1]
        if not members:
            what = f"no UPS is in group {group!r}" if group is not None else f"no UPS is named {target!r}"
            raise typer.BadParameter(f"{what}; `qxfleet check` lists what is configured", param_hint="TARGET")
        names += members
    return names
