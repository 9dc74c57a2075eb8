"""Commands that read the database themselves, with or without an agent."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from qxfleet.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from qxfleet.config.load import Config


@contextmanager
def recorded(context: typer.Context) -> Iterator[tuple[Config, Connection | None]]:
    """The configuration, and a connection that can only read; None for a database without tables.

    :class:`StoreError` for one that is out of reach, or of another schema than ours.
    """
    from qxfleet.config.load import load
    from qxfleet.store.engine import explained, open_engine, shown
    from qxfleet.store.migrate import Standing, refuse_unknown, state

    config = load(context.obj)
    found = state(config.agent.database)
    engine = open_engine(config.agent.database, writing=False)
    where = shown(engine.url)
    try:
        refuse_unknown(found, where)
        if found.standing is Standing.OLDER:
            raise StoreError(f"database {where} has the older schema {found.revision}: run `qxfleet db upgrade`")
        if found.standing is Standing.EMPTY:
            yield config, None
            return
        with explained(engine), engine.connect() as connection:
            yield config, connection
    finally:
        engine.dispose()


@contextmanager
def recorded_fleet(context: typer.Context) -> Iterator[tuple[Config, Connection]]:
    """The configuration, and a connection to the fleet store that can only read.

    :class:`StoreError`: no fleet is configured, or its store is away, hangs, or is none yet.
    """
    from qxfleet.config.load import load
    from qxfleet.store.fleet_view import reading_fleet

    config = load(context.obj)
    if config.fleet is None:
        raise StoreError("no [fleet] is configured: this agent stands alone")
    with reading_fleet(config.fleet.database) as connection:
        yield config, connection


def chosen(targets: Collection[str] | None, config: Config, known: Collection[str]) -> list[str] | None:
    """UPS names meant by targets, None for all; a UPS that is no longer configured may be named if the database knows it."""
    if not targets or "all" in targets:
        return None
    names: list[str] = []
    for target in targets:
        group = target.removeprefix("group:") if target.startswith("group:") else None
        if group is not None:
            members = [ups.name for ups in config.ups if group in ups.groups]
        else:
            members = [name for name in (*known, *(ups.name for ups in config.ups)) if name == target][:1]
        if not members:
            what = f"no UPS is in group {group!r}" if group is not None else f"no UPS is named {target!r}"
            raise typer.BadParameter(f"{what}; `qxfleet check` lists what is configured", param_hint="TARGET")
        names += members
    return names


def span_us(since: str | None, until: str | None, now_us: int) -> tuple[int | None, int]:
    """``--since`` and ``--until`` as wall times; no ``--until`` is now. BadParameter if they are the wrong way round."""
    from qxfleet.interfaces.cli.when import since_us

    end_us = now_us if until is None else since_us(until, now_us, "--until")
    begin_us = None if since is None or since == "always" else since_us(since, now_us)
    if until is not None and begin_us is not None and begin_us >= end_us:
        raise typer.BadParameter("expected a time before --until", param_hint="'--since'")
    return begin_us, end_us
