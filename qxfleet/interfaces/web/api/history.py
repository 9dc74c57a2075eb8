"""What a variable was."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from qxfleet.api import responses
from qxfleet.errors import StoreError
from qxfleet.interfaces.web.access import Reader
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, UpsPath, routes
from qxfleet.interfaces.web.moments import Length, Moment, length_s, moment_us
from qxfleet.interfaces.web.problems import Problem, documented
from qxfleet.model.clock import iso
from qxfleet.store.series import Series, numeric, series

router = routes("history")

MOST_POINTS = 20_000

When = Annotated[Moment | None, Query(description="ISO 8601, or how long ago: `30d`, `12h`.", examples=["24h"])]


@router.get(
    "/ups/{name}/history/{variable}", response_model=responses.History, operation_id="history",
    responses=documented(404, 409, 503),
)  # fmt: skip
async def history(
    agent: ThisAgent, visitor: Reader, name: UpsPath,
    variable: Annotated[str, Path(pattern=NAME, max_length=64, description="NUT's name.", examples=["input.voltage"])],
    since: When = "24h", until: When = None,
    every: Annotated[Length | None, Query(description="Width of intervals; without: as suits.", examples=["15m"])] = None,
) -> responses.History:  # fmt: skip
    """One numeric variable of one UPS, from the database: the lowest, mean and highest value of every interval.

    `every_s` 0: every reading is a point of its own. Where nothing was recorded there is no point.
    """
    now_us = agent.clock.wall_us()
    since_us = None if since is None else moment_us(since, now_us)
    until_us = now_us if until is None else moment_us(until, now_us)
    every_s = None if every is None else length_s(every)
    if every_s is not None and (until_us - (since_us or 0)) / 1e6 / every_s > MOST_POINTS:
        raise Problem(409, "too-many-points", f"that is more than {MOST_POINTS} intervals: write a longer every or a later since")
    try:
        numeric(variable)
    except StoreError as error:
        raise Problem(404, "unknown-variable", str(error)) from error
    found = await agent.store.read(lambda connection: series(connection, name, variable, since_us, until_us, every_s))
    return history_document(found)


def history_document(found: Series) -> responses.History:
    """The outside face's shape of a history."""
    points: list[responses.Point] = [
        {"time": iso(point.at_us), "min": point.min, "mean": point.mean, "max": point.max, "count": point.readings}
        for point in found.points
    ]
    return {"ups": found.ups, "variable": found.variable, "unit": found.unit, "every_s": found.every_s, "points": points}
