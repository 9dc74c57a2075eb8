"""What the batteries are worth."""

from __future__ import annotations

from fastapi import Request

from qxfleet.api import responses
from qxfleet.api.battery_shapes import battery_document
from qxfleet.interfaces.judgements import Judgements
from qxfleet.interfaces.web.access import Reader
from qxfleet.interfaces.web.api.common import ThisAgent, UpsPath, routes
from qxfleet.interfaces.web.api.fleet import Targets, chosen_names
from qxfleet.interfaces.web.problems import Problem, documented

router = routes("batteries")


@router.get("/batteries", response_model=responses.Batteries, operation_id="batteries", responses=documented(404, 503))
async def batteries(request: Request, agent: ThisAgent, visitor: Reader, targets: Targets = None) -> responses.Batteries:
    """Health now, trend, and when to replace with its bounds; judged anew every five minutes."""
    chosen = chosen_names(agent, targets)
    found = {each.evidence.ups: each for each in await judgements_of(request).all()}
    return {"batteries": [battery_document(found[name]) for name in chosen if name in found]}


@router.get("/ups/{name}/battery", response_model=responses.Battery, operation_id="battery", responses=documented(404, 503))
async def battery(request: Request, visitor: Reader, name: UpsPath) -> responses.Battery:
    """The battery that is in one UPS."""
    for each in await judgements_of(request).all():
        if each.evidence.ups == name:
            return battery_document(each)
    raise Problem(404, "unknown-battery", f"no battery of {name} is registered yet: the agent does so when it first sees the UPS")


def judgements_of(request: Request) -> Judgements:
    """The application's judgements."""
    found = request.app.state.judgements
    assert isinstance(found, Judgements)
    return found
