"""How UPSes stand: all of them, one, its variables, and changes as they come."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from fastapi import Path, Query, Request
from starlette.responses import Response, StreamingResponse

import qxfleet
from qxfleet.agent.agent import Agent
from qxfleet.api import responses, shapes
from qxfleet.errors import OrderNotSupported
from qxfleet.interfaces.turns import in_turns
from qxfleet.interfaces.web.access import Reader, access_of
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, ThisLive, UpsPath, routes
from qxfleet.interfaces.web.live import stream
from qxfleet.interfaces.web.problems import Problem, documented
from qxfleet.model.clock import iso
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Origin
from qxfleet.model.state import DeviceState
from qxfleet.model.variables import VARIABLES, value_text

router = routes("fleet")

Targets = Annotated[
    list[str] | None,
    Query(alias="target", max_length=100, description="UPS names, `group:NAME`, `all`; none: all.", examples=[["group:feed-a"]]),
]


@router.get("/about", response_model=responses.About, operation_id="about")
async def about(agent: ThisAgent, visitor: Reader) -> responses.About:
    """Which agent this is, and who you are to it."""
    return {
        "agent": agent.config.agent.name, "version": qxfleet.__version__, "time": iso(agent.clock.wall_us()),
        "you": visitor.name, "rights": list(visitor.rights),
    }  # fmt: skip


@router.get("/fleet", response_model=responses.Fleet, operation_id="fleet", responses=documented(404))
async def fleet(agent: ThisAgent, visitor: Reader, targets: Targets = None) -> Any:
    """Every UPS, or those of the targets, with everything it last told."""
    states, now_s, time = agent.shown(), agent.clock.monotonic(), iso(agent.clock.wall_us())
    chosen = [(agent.fleet.options(name), states[name]) for name in chosen_names(agent, targets)]
    upses = await in_turns(json.dumps(ups_shape(options, state, now_s), ensure_ascii=False) for options, state in chosen)
    head = json.dumps({"agent": agent.config.agent.name, "time": time}, ensure_ascii=False)
    return Response(f'{head[:-1]}, "ups": [{", ".join(upses)}]}}', media_type="application/json")


@router.get(
    "/fleet/stream", operation_id="fleet-stream", response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events"},
               **documented(503)},
)  # fmt: skip
async def fleet_stream(request: Request, live: ThisLive, visitor: Reader) -> Any:
    """Changes as they come, at most once a second: messages `ups` with a summary of every UPS that has news; first of all UPSes.

    The data of a message is `{"time", "ups": [{"name", "state", "reason", "status", "words", "tone", "alarms", "at",
    "values"}], "gone": [name]}`.
    """
    live.check_room(visitor.listener)
    return stream(live.fleet(visitor.listener), access_of(request).still(request, visitor))


@router.get("/ups/{name}", response_model=responses.Ups, operation_id="ups", responses=documented(404))
async def ups(agent: ThisAgent, visitor: Reader, name: UpsPath) -> responses.Ups:
    """One UPS."""
    return ups_document(agent, name)


@router.get("/ups/{name}/variables", response_model=responses.Variables, operation_id="variables", responses=documented(404))
async def variables(agent: ThisAgent, visitor: Reader, name: UpsPath) -> responses.Variables:
    """Every variable of one UPS with its unit and where its value comes from."""
    return variables_document(agent, name)


@router.get(
    "/ups/{name}/variables/{variable}", response_model=responses.Variable, operation_id="variable", responses=documented(404)
)
async def variable(
    agent: ThisAgent, visitor: Reader, name: UpsPath,
    variable: Annotated[str, Path(pattern=NAME, max_length=64, description="NUT's name.", examples=["input.voltage"])],
) -> Any:  # fmt: skip
    """One variable of one UPS."""
    found = variables_document(agent, name)["variables"].get(variable)
    if found is None:
        raise Problem(404, "unknown-variable", f"{name} told no {variable}; /api/v1/ups/{name}/variables lists what it did tell")
    return found


def chosen_names(agent: Agent, targets: list[str] | None) -> tuple[str, ...]:
    """Names meant by targets, each once, in the fleet's order. Raises Problem 404."""
    meant: set[str] = set()
    try:
        for target in targets or ("all",):
            meant.update(agent.fleet.select(target))
    except OrderNotSupported as error:
        raise Problem(404, "unknown-target", str(error)) from error
    return tuple(name for name in agent.shown() if name in meant)


def ups_document(agent: Agent, name: str) -> responses.Ups:
    """One UPS as it is now."""
    return ups_shape(agent.fleet.options(name), agent.shown()[name], agent.clock.monotonic())


def ups_shape(options: UpsOptions, state: DeviceState, mono_s: float) -> responses.Ups:
    """One UPS as the API has it: numbers where the command line has texts."""
    facts = shapes.ups_facts(options, state, mono_s)
    values = state.reading.values if state.reading else {}
    texts = shapes.variable_texts(state)
    numbers = {each: values.get(each, text) if each != "ups.alarm" else text for each, text in texts.items()}
    since = iso(state.link_since_us) if state.link_since_us else None
    return {**facts, "reason": state.link_reason, "since": since, "variables": numbers}


def variables_document(agent: Agent, name: str) -> responses.Variables:
    """The variables of one UPS."""
    state = agent.shown()[name]
    reading = state.reading
    age_s = None if reading is None else max(0.0, agent.clock.monotonic() - reading.mono_s)
    found: dict[str, responses.Variable] = {}
    for each, value in ups_document(agent, name)["variables"].items():
        listed = VARIABLES.get(each)
        origin = reading.origins.get(each, Origin.MEASURED) if reading else Origin.MEASURED
        found[each] = {
            "value": value, "text": value_text(each, value), "unit": listed.unit if listed else "",
            "origin": cast(responses.OriginName, origin.value),
            "description": listed.description if listed else "",
        }  # fmt: skip
    return {"ups": name, "state": state.link.value, "age_s": age_s, "variables": found}
