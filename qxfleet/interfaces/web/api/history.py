"""What a variable was."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from qxfleet.errors import StoreError
from qxfleet.interfaces.shapes import Document
from qxfleet.interfaces.web import models
from qxfleet.interfaces.web.access import Reader
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, UpsPath, routes
from qxfleet.interfaces.web.moments import length_s, moment_us
from qxfleet.interfaces.web.problems import Problem, documented
from qxfleet.model.clock import iso
from qxfleet.store.series import Series, numeric, series

router = routes("history")

MOST_POINTS = 20_000

Moment = Annotated[str | None, Query(max_length=64, description="ISO 8601, or how long ago: `30d`, `12h`.", examples=["24h"])]


@router.get(
    "/ups/{name}/history/{variable}", response_model=models.History, operation_id="history", responses=documented(404, 503)
)
async def history(
    agent: ThisAgent, visitor: Reader, name: UpsPath,
    variable: Annotated[str, Path(pattern=NAME, max_length=64, description="NUT's name.", examples=["input.voltage"])],
    since: Moment = "24h", until: Moment = None,
    every: Annotated[str | None, Query(max_length=32, description="Width; none: as suits.", examples=["15m"])] = None,
) -> Document:  # fmt: skip
    """One numeric variable of one UPS, from the database: the lowest, mean and highest value of every interval."""
    now_us = agent.clock.wall_us()
    since_us, until_us = moment_us(since, "since", now_us), moment_us(until, "until", now_us) or now_us
    width_s = length_s(every, "every")
    if since_us is not None and since_us >= until_us:
        raise Problem(422, "unreadable", "query.since: expected a time before until")
    if width_s is not None and (width_s != int(width_s) or (since_us or 0) + width_s * MOST_POINTS * 1e6 < until_us):
        raise Problem(422, "unreadable", f"query.every: expected whole seconds, and {MOST_POINTS} intervals at most")
    try:
        numeric(variable)
    except StoreError as error:
        raise Problem(404, "unknown-variable", str(error)) from error
    every_s = None if width_s is None else int(width_s)

    found = await agent.store.read(lambda connection: series(connection, name, variable, since_us, until_us, every_s))
    return history_document(found)


def history_document(found: Series) -> Document:
    """The outside face's shape of a history."""
    points = [
        {"time": iso(point.at_us), "min": point.min, "mean": point.mean, "max": point.max, "count": point.readings}
        for point in found.points
    ]
    return {"ups": found.ups, "variable": found.variable, "unit": found.unit, "every_s": found.every_s, "points": points}
