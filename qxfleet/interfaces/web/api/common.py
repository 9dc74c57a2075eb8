"""What every operation of the API shares: its agent, the names in its path, and the verbs of the control socket."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request

from qxfleet.agent.agent import Agent
from qxfleet.interfaces.control.asking import Verb
from qxfleet.interfaces.shapes import Document
from qxfleet.interfaces.web.access import Visitor
from qxfleet.interfaces.web.live import Live
from qxfleet.interfaces.web.problems import Problem, documented

NAME = r"^[A-Za-z0-9._-]+$"


def routes(tag: str) -> APIRouter:
    """A router whose operations need a login and may be asked the wrong way."""
    return APIRouter(prefix="/api/v1", tags=[tag], responses=documented(401, 403, 422))


def agent_of(request: Request) -> Agent:
    """The agent that is asked."""
    found = request.app.state.agent
    assert isinstance(found, Agent)
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


async def ask(request: Request, verb: str, visitor: Visitor, **args: Any) -> Document:
    """The answer of one verb of the control socket: every face says the same. Raises Problem, and the errors of the verb."""
    verbs: dict[str, Verb] = request.app.state.verbs
    return await verbs[verb](args, visitor.actor)
