"""What every operation of the API shares: its agent, the names in its path, and the agent's door."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel

from qxfleet.agent.agent import Agent
from qxfleet.api.door import Door
from qxfleet.api.requests import Request as Wanted
from qxfleet.interfaces.web.access import Visitor
from qxfleet.interfaces.web.live import Live
from qxfleet.interfaces.web.problems import Problem, documented

R = TypeVar("R")
NAME = r"^[A-Za-z0-9._-]+$"


def routes(tag: str) -> APIRouter:
    """A router whose operations need a login and may be asked the wrong way."""
    return APIRouter(prefix="/api/v1", tags=[tag], responses=documented(401, 403, 422))


def agent_of(request: Request) -> Agent:
    """The agent that is asked."""
    found: Agent = request.app.state.agent
    return found


def live_of(request: Request) -> Live:
    """Its streams."""
    found = request.app.state.live
    assert isinstance(found, Live)
    return found


ThisAgent = Annotated[Agent, Depends(agent_of)]
ThisLive = Annotated[Live, Depends(live_of)]


def known_ups(
    agent: ThisAgent, name: Annotated[str, Path(pattern=NAME, max_length=64, description="A UPS.", examples=["rack1-a"])]
) -> str:
    """A configured UPS of a path. Raises Problem 404."""
    if name not in agent.fleet.snapshot():
        raise Problem(404, "unknown-ups", f"no UPS is named {name!r}; /api/v1/fleet lists them")
    return name


UpsPath = Annotated[str, Depends(known_ups)]


def door_of(request: Request) -> Door:
    """The agent's door."""
    found: Door = request.app.state.door
    return found


async def ask(request: Request, wanted: Wanted[R], visitor: Visitor) -> R:
    """The answer to one request of the API: every interface says the same. Raises Problem, and the door's errors."""
    return await door_of(request).do(wanted, visitor.actor)


def values(body: BaseModel) -> dict[str, Any]:
    """The fields of a request's body, as a request of the API takes them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in body.model_dump().items()}
