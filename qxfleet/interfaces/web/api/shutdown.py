"""The staged shutdown, by the same verbs as the command line's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request

from qxfleet.agent.audit import Act
from qxfleet.api import requests, responses
from qxfleet.interfaces.web import bodies
from qxfleet.interfaces.web.access import Reader, Somebody, Visitor, access_of
from qxfleet.interfaces.web.api.common import ask, routes, values
from qxfleet.interfaces.web.problems import documented

router = routes("shutdown")

DONE = documented(400, 404, 409, 413)


@router.get("/shutdown", response_model=responses.Shutdown, operation_id="shutdown", responses=documented(409))
async def status(request: Request, visitor: Reader) -> responses.Shutdown:
    """How the staged shutdown stands now: in one sentence, each load, each UPS, and what only a person can do."""
    return await ask(request, requests.ShutdownStatus(), visitor)


@router.get("/shutdown/runs", response_model=responses.Runs, operation_id="shutdown-runs", responses=documented(409))
async def runs(
    request: Request, visitor: Reader, limit: Annotated[int, Query(ge=1, le=1000, description="The last so many.")] = 20
) -> responses.Runs:
    """What was, with every step and what it took."""
    return await ask(request, requests.ShutdownHistory(most=limit), visitor)


@router.get("/shutdown/runs/{run}", response_model=responses.Runs, operation_id="shutdown-run", responses=documented(404, 409))
async def run(
    request: Request, visitor: Reader, run: Annotated[int, Path(ge=1, le=2**53, description="Its number.", examples=[7])]
) -> responses.Runs:
    """One run."""
    return await ask(request, requests.ShutdownHistory(run=run), visitor)


@router.post("/shutdown/preview", response_model=responses.Preview, operation_id="shutdown-preview", responses=DONE)
async def preview(request: Request, visitor: Reader, wanted: bodies.WantedTargets) -> responses.Preview:
    """What a start with these targets would stop. Changes nothing."""
    return await ask(request, requests.ShutdownPreview(targets=tuple(wanted.targets)), visitor)


@router.post(
    "/shutdown/start", response_model=responses.ShutdownStarted, status_code=202, operation_id="shutdown-start", responses=DONE
)
async def start(request: Request, visitor: Somebody, wanted: bodies.WantedShutdown) -> responses.ShutdownStarted:
    """Begin a staged shutdown now. Needs the right `shutdown`."""
    await _may(request, visitor, "shutdown.start", Act.SHUTDOWN)
    return await ask(request, requests.ShutdownStart(**values(wanted)), visitor)


@router.post("/shutdown/cancel", response_model=responses.Cancelled, operation_id="shutdown-cancel", responses=documented(409))
async def cancel(request: Request, visitor: Somebody) -> responses.Cancelled:
    """Stop nothing more, and bring back what can be brought back. Needs the right `shutdown`."""
    await _may(request, visitor, "shutdown.cancel", Act.SHUTDOWN)
    return await ask(request, requests.ShutdownCancel(), visitor)


@router.post(
    "/shutdown/runs/{run}/end", response_model=responses.ShutdownEnded, operation_id="shutdown-end",
    responses=documented(400, 404, 409),
)  # fmt: skip
async def end(
    request: Request, visitor: Somebody, wanted: bodies.WantedEnd,
    run: Annotated[int, Path(ge=1, le=2**53, description="Its number.", examples=[7])],
) -> responses.ShutdownEnded:  # fmt: skip
    """End a run that people have settled by hand: nothing is stopped, started or cut. Not while a UPS of the plan is on battery.

    Needs the right `shutdown`.
    """
    await _may(request, visitor, "shutdown.end", Act.SHUTDOWN)
    return await ask(request, requests.ShutdownEnd(run=run, **values(wanted)), visitor)


@router.put("/shutdown/arming", response_model=responses.Armed, operation_id="shutdown-arm", responses=DONE)
async def arm(request: Request, visitor: Somebody, wanted: bodies.WantedArming) -> responses.Armed:
    """Arm or disarm. Needs the right `shutdown`."""
    await _may(request, visitor, "shutdown.arm" if wanted.armed else "shutdown.disarm", Act.ARM)
    return await ask(request, requests.ShutdownArm(**values(wanted)), visitor)


async def _may(request: Request, visitor: Visitor, name: str, act: Act) -> None:
    if not visitor.may("shutdown"):
        raise await access_of(request).refuse(visitor, act, "", name, None, "shutdown")
