"""``events``: what happened, from the database, and what happens, from the agent."""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.api import requests
from qxfleet.api.responses import EventFollowed, FollowItem
from qxfleet.errors import AgentUnreachable, StoreError
from qxfleet.interfaces.cli.agents import Fleet
from qxfleet.interfaces.cli.client import AgentRefused, ask, control_socket, follow
from qxfleet.interfaces.cli.fleet import Targets
from qxfleet.interfaces.cli.output import Json, coloured, complain, emit, printable
from qxfleet.model.events import EventKind

if TYPE_CHECKING:
    from qxfleet.store.history import StoredEvent

DEFAULT_SINCE = "24h"
COLOURS = (None, "cyan", "yellow", "red")
"""By severity."""


def events(
    context: typer.Context,
    targets: Targets = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="30d, 12h, 5m, or ISO 8601.", show_default=DEFAULT_SINCE)
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="T", help="Up to then.", show_default="now")] = None,
    kinds: Annotated[list[EventKind] | None, typer.Option("--kind", help="Only of this kind; may be given again.")] = None,
    fleet: Fleet = False,
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones as they come, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show status changes, warnings, tests, commands.

    With --follow, --json prints one event a line, and only new events are shown unless --since is given.
    """
    if fleet:
        if following:
            if until is not None:
                raise typer.BadParameter("--follow shows what comes, and has no end", param_hint="'--until'")
            _follow_fleet(context, targets, since, kinds, json)
        else:
            _show_fleet(context, targets, since or DEFAULT_SINCE, until, kinds, json)
        return
    _complain_of_state(context)
    if not following:
        found = list(_recorded(context, targets, since or DEFAULT_SINCE, until, kinds))
        if json:
            emit({"events": [item["event"] for item in found]})
        else:
            for item in found:
                typer.echo(event_line(item))
        return
    if until is not None:
        raise typer.BadParameter("--follow shows what comes, and has no end", param_hint="'--until'")
    stream = follow(control_socket(context.obj), requests.Follow(targets=tuple(targets or ())))
    next(stream)  # from here on nothing is missed; what the database holds comes first
    shown = list(_recorded(context, targets, since, None, kinds)) if since else []
    wanted = {kind.value for kind in kinds or EventKind}
    before = {json_text.dumps(item["event"]) for item in shown}
    try:
        for stored in shown:
            _print(stored, json)
        for news in stream:
            if news["event"]["kind"] in wanted and json_text.dumps(news["event"]) not in before:
                _print(news, json)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _complain_of_state(context: typer.Context) -> None:
    """What happened lately is missing where the running agent's state takes no records: said, and where it is."""
    with suppress(AgentUnreachable, AgentRefused, PermissionError):
        if trouble := ask(control_socket(context.obj), requests.About()).get("state_trouble"):
            complain(f"{trouble}, and is not shown here")


def _print(item: EventFollowed | FollowItem, json: bool) -> None:
    typer.echo(json_text.dumps(item["event"], ensure_ascii=False) if json else event_line(item))


def _show_fleet(
    context: typer.Context, targets: list[str] | None, since: str, until: str | None, kinds: list[EventKind] | None, json: bool
) -> None:
    """Events of all agents, each with its agent."""
    from qxfleet.api.fleet_shapes import fleet_events
    from qxfleet.interfaces.cli.recorded import chosen, recorded_fleet, span_us
    from qxfleet.model.clock import Clock
    from qxfleet.store import fleet_view, history

    begin_us, end_us = span_us(since, until, Clock().wall_us())
    with recorded_fleet(context) as (config, connection):
        names = chosen(targets, config, history.upses(connection))
        found = fleet_view.events(connection, names, begin_us, until_us=end_us if until else None, kinds=kinds)
    if json:
        emit({"events": fleet_events(found)})
    else:
        _print_fleet(found, json=False)


def _print_fleet(found: Iterable[tuple[str, StoredEvent]], *, json: bool) -> None:
    from qxfleet.api.fleet_shapes import fleet_events
    from qxfleet.api.shapes import event_item

    for agent, stored in found:
        if json:
            typer.echo(json_text.dumps(fleet_events([(agent, stored)])[0], ensure_ascii=False))
        else:
            typer.echo(printable(f"{agent:<14} ") + event_line(event_item(stored.event)))


def _follow_fleet(
    context: typer.Context, targets: list[str] | None, since: str | None, kinds: list[EventKind] | None, json: bool
) -> None:
    """Events of all agents as they are shipped; over a store that was away they go on where they were."""
    from qxfleet.config.load import load
    from qxfleet.interfaces.cli.recorded import chosen, span_us
    from qxfleet.model.clock import Clock
    from qxfleet.store import fleet_view, history

    config = load(context.obj)
    if config.fleet is None:
        raise StoreError("no [fleet] is configured: this agent stands alone")
    follower: fleet_view.Follower | None = None
    away = ""
    try:
        while True:
            try:
                with fleet_view.listening(config.fleet.database) as (connection, wait):
                    names = chosen(targets, config, history.upses(connection))
                    if follower is None:
                        follower = fleet_view.Follower(connection)
                        if since:
                            begin_us, _ = span_us(since, None, Clock().wall_us())
                            _print_fleet(fleet_view.events(connection, names, begin_us, kinds=kinds), json=json)
                    while True:
                        if away:
                            complain("the fleet store is there again")
                            away = ""
                        _print_fleet(follower.news(connection, names, kinds), json=json)
                        wait()
            except StoreError as error:
                if follower is None:
                    raise
                if not away:
                    complain(f"{error}; trying again")
                away = str(error)
                time.sleep(fleet_view.POLL_S)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def event_line(item: EventFollowed | FollowItem) -> str:
    """One event as people read it: time, UPS, what, value, text."""
    event = item["event"]
    name = coloured(printable(f"{event['name']:<24}"), COLOURS[item["severity"]])
    text = event["text"] if item["stored"] else f"{event['text']} (not stored yet)"
    return printable(f"{event['time']}  {event['ups'] or '-':<14} ") + name + printable(f" {event['value']:<12} {text}")


def _recorded(
    context: typer.Context, targets: list[str] | None, since: str, until: str | None, kinds: list[EventKind] | None
) -> Iterator[EventFollowed]:
    from qxfleet.api.shapes import event_item
    from qxfleet.interfaces.cli.recorded import chosen, recorded, span_us
    from qxfleet.model.clock import Clock
    from qxfleet.store import history

    begin_us, end_us = span_us(since, until, Clock().wall_us())
    with recorded(context) as (config, connection):
        names = chosen(targets, config, () if connection is None else history.upses(connection))
        if connection is not None:
            found = history.events(connection, names, begin_us, until_us=end_us if until else None, kinds=kinds)
            for event in sorted((stored.event for stored in found), key=lambda event: event.wall_us):
                yield event_item(event)
