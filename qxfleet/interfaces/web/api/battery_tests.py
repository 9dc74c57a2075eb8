"""Battery tests, schedules and maintenance, by the same verbs as the command line's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request

from qxfleet.agent.audit import Act
from qxfleet.api import requests, responses
from qxfleet.interfaces.web import bodies
from qxfleet.interfaces.web.access import Reader, Somebody, Visitor, access_of
from qxfleet.interfaces.web.api.common import ThisAgent, ask, door_of, routes, values
from qxfleet.interfaces.web.api.events import Since
from qxfleet.interfaces.web.api.fleet import Targets, chosen_names
from qxfleet.interfaces.web.moments import moment_us
from qxfleet.interfaces.web.problems import documented

router = routes("battery tests")

DONE = documented(400, 404, 409, 413)


@router.get("/tests", response_model=responses.Tests, operation_id="tests", responses=documented(404, 409))
async def tests(
    request: Request, agent: ThisAgent, visitor: Reader, targets: Targets = None, since: Since = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="The last so many.")] = 100,
    curve: Annotated[bool, Query(description="With the readings of each test.")] = False,
) -> responses.Tests:  # fmt: skip
    """Results of battery tests, and the waves that are under way."""
    since_us = None if since is None else moment_us(since, agent.clock.wall_us())
    chosen = chosen_names(agent, targets) if targets else ()
    return await ask(request, requests.TestResults(targets=chosen, since_us=since_us, limit=limit, curve=curve), visitor)


@router.post("/tests", response_model=responses.Started, status_code=202, operation_id="test-start", responses=DONE)
async def start(request: Request, visitor: Somebody, wanted: bodies.WantedTests) -> responses.Started:
    """Begin a wave of battery tests, under the rules of the configuration. Needs the right `test` or `command`.

    The answer comes when the wave has begun; `/tests` shows how it goes on.
    """
    await _may_test(request, visitor, "test-start", ",".join(wanted.targets))
    begun = await door_of(request).begin(requests.TestStart(**values(wanted)), visitor.actor)
    return {"wave": begun["wave"]}


@router.post("/tests/stop", response_model=responses.Stopped, operation_id="test-stop", responses=DONE)
async def stop(request: Request, visitor: Somebody, wanted: bodies.WantedTargets) -> responses.Stopped:
    """End the tests of these UPSes. Needs the right `test` or `command`."""
    await _may_test(request, visitor, "test-stop", ",".join(wanted.targets))
    return await ask(request, requests.TestStop(targets=tuple(wanted.targets)), visitor)


@router.get("/schedules", response_model=responses.Schedules, operation_id="schedules", responses=documented(409))
async def schedules(request: Request, visitor: Reader) -> responses.Schedules:
    """What is done by the calendar, and when it comes next."""
    return await ask(request, requests.Schedules(), visitor)


@router.get("/maintenance", response_model=responses.Maintenance, operation_id="maintenance", responses=documented(409))
async def maintenance(request: Request, visitor: Reader) -> responses.Maintenance:
    """UPSes that are in maintenance."""
    return await ask(request, requests.Maintenance(), visitor)


@router.post("/maintenance", response_model=responses.Begun, operation_id="maintenance-start", responses=DONE)
async def maintenance_start(request: Request, visitor: Somebody, wanted: bodies.WantedMaintenance) -> responses.Begun:
    """Put UPSes into maintenance. Needs the right `set`."""
    await _may_maintain(request, visitor, "maintenance-start", ",".join(wanted.targets))
    return await ask(request, requests.MaintenanceStart(**values(wanted)), visitor)


@router.post("/maintenance/stop", response_model=responses.Stopped, operation_id="maintenance-stop", responses=DONE)
async def maintenance_stop(request: Request, visitor: Somebody, wanted: bodies.WantedTargets) -> responses.Stopped:
    """End the maintenance of UPSes. Needs the right `set`."""
    await _may_maintain(request, visitor, "maintenance-stop", ",".join(wanted.targets))
    return await ask(request, requests.MaintenanceStop(targets=tuple(wanted.targets)), visitor)


async def _may_test(request: Request, visitor: Visitor, name: str, target: str) -> None:
    if not visitor.may_command("test.battery.start"):
        raise await access_of(request).refuse(visitor, Act.TEST, target, name, None, "test")


async def _may_maintain(request: Request, visitor: Visitor, name: str, target: str) -> None:
    if not visitor.may("set"):
        raise await access_of(request).refuse(visitor, Act.MAINTENANCE, target, name, None, "set")
