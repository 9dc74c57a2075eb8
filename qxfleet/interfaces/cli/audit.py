"""``audit``: who did what, from where, with what outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qxfleet.api import responses
from qxfleet.interfaces.cli.agents import Fleet
from qxfleet.interfaces.cli.output import Json, complain, emit, print_table

if TYPE_CHECKING:
    from qxfleet.store.audit import Entry

DEFAULT_SINCE = "30d"

STYLES = {"accepted": "green", "unconfirmed": "yellow"}
"""Everything else did not come about."""


def audit(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T", help="30d, 12h, 5m, or ISO 8601.", show_default=DEFAULT_SINCE)
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the last so many.", show_default="all")] = None,
    fleet: Fleet = False,
    json: Json = False,
) -> None:
    """Show every command, setting, test, arming, token and refused login: who, from where, what, and what became of it.

    Reads the database, so it works without a running agent too.
    """
    from qxfleet.api.shapes import audit_document

    if fleet:
        found = _of_the_fleet(context, since or DEFAULT_SINCE, limit)
        documents, agents = list[responses.Act](found), [[each["agent"]] for each in found]
    else:
        documents = [audit_document(entry) for entry in _recorded(context, since or DEFAULT_SINCE, limit)]
        agents = [[] for _ in documents]
    if json:
        emit({"audit": documents})
        return
    if not documents:
        complain(f"nothing was done or refused since {since or DEFAULT_SINCE}")
        return
    agent = ("agent",) if fleet else ()
    headings = [(name, "left") for name in ("time", *agent, "who", "from", "what", "to", "outcome", "more")]
    print_table(headings, map(_row, documents, agents))


def _row(document: responses.Act, agent: list[str]) -> list[tuple[str, str | None]]:
    what = " ".join(filter(None, (document["name"], document["value"])))
    outcome = document["outcome"] or "not known"
    style = STYLES.get(outcome, "red")
    plain = [document["time"], *agent, document["who"], document["where"], what, document["target"]]
    return [*((text or "", None) for text in plain), (outcome, style), (document["text"] or "", None)]


def _of_the_fleet(context: typer.Context, since: str, limit: int | None) -> list[responses.FleetAct]:
    from qxfleet.api.fleet_shapes import fleet_audit
    from qxfleet.interfaces.cli.recorded import recorded_fleet
    from qxfleet.interfaces.cli.when import since_us
    from qxfleet.model.clock import Clock
    from qxfleet.store.fleet_view import trail

    with recorded_fleet(context) as (_, connection):
        return fleet_audit(trail(connection, since_us(since, Clock().wall_us()), limit))


def _recorded(context: typer.Context, since: str, limit: int | None) -> list[Entry]:
    from qxfleet.config.load import load
    from qxfleet.errors import StoreError
    from qxfleet.interfaces.cli.when import since_us
    from qxfleet.model.clock import Clock
    from qxfleet.store.audit import trail
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
            return [] if found.standing is Standing.EMPTY else trail(connection, start_us, limit)
    finally:
        engine.dispose()
