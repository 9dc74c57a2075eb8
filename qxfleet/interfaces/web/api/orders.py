"""Commands and settings: what a UPS can do, and having it do so through the fleet's one door."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Body, Path, Request, Response

from qxfleet.agent.audit import Act
from qxfleet.api import responses, shapes
from qxfleet.interfaces.web import bodies
from qxfleet.interfaces.web.access import Reader, Somebody, access_of
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, UpsPath, routes
from qxfleet.interfaces.web.problems import Problem, documented
from qxfleet.model.events import OrderResult, Outcome

router = routes("commands and settings")

STATUSES = {
    Outcome.ACCEPTED: 200, Outcome.UNCONFIRMED: 202, Outcome.REJECTED: 409, Outcome.UNSUPPORTED: 404, Outcome.NO_ANSWER: 504,
}  # fmt: skip
"""So that nobody takes a refusal for success who looks at the status alone."""

Named = Annotated[str, Path(pattern=NAME, max_length=64, description="NUT's name.")]

TRIED: dict[int | str, dict[str, Any]] = {
    202: {"model": responses.Outcome, "description": "Sent, but nothing shows that the UPS acted"},
    **documented(400, 404, 409, 413, 504),
}


@router.get("/ups/{name}/commands", response_model=responses.Commands, operation_id="commands", responses=documented(404))
async def commands(agent: ThisAgent, visitor: Reader, name: UpsPath) -> responses.Commands:
    """The instant commands of one UPS, and what each may cost."""
    return shapes.orders_document(name, agent.fleet.orders(name))


@router.post("/ups/{name}/commands/{command}", response_model=responses.Outcome, operation_id="command", responses=TRIED)
async def command(
    request: Request, response: Response, agent: ThisAgent, visitor: Somebody, name: UpsPath, command: Named,
    body: Annotated[bodies.Order | None, Body()] = None,
) -> responses.Outcome:  # fmt: skip
    """Have a UPS do something, and wait for what becomes of it. Needs the right `command`, or `test` for battery tests."""
    value = _text(body.value if body else None)
    if not visitor.may_command(command):
        raise await access_of(request).refuse(visitor, Act.COMMAND, name, command, value, "command")
    return _ended(response, await agent.fleet.perform(name, command, value, actor=visitor.actor))


@router.get("/ups/{name}/settings", response_model=responses.Settings, operation_id="settings", responses=documented(404))
async def settings(agent: ThisAgent, visitor: Reader, name: UpsPath) -> responses.Settings:
    """The writable variables of one UPS with their bounds."""
    return shapes.settings_document(name, agent.fleet.settings(name))


@router.put("/ups/{name}/settings/{variable}", response_model=responses.Outcome, operation_id="set", responses=TRIED)
async def set_(
    request: Request, response: Response, agent: ThisAgent, visitor: Somebody, name: UpsPath, variable: Named, body: bodies.Change
) -> responses.Outcome:
    """Change a setting, and wait for what becomes of it. Needs the right `set`."""
    value = _text(body.value) or ""
    if not visitor.may("set"):
        raise await access_of(request).refuse(visitor, Act.SETTING, name, variable, value, "set")
    return _ended(response, await agent.fleet.set(name, variable, value, actor=visitor.actor))


def _text(value: float | str | None) -> str | None:
    return value if value is None or isinstance(value, str) else f"{value:g}"


def _ended(response: Response, result: OrderResult) -> responses.Outcome:
    """The document of an outcome that may count as success; any other is a problem that holds the same members."""
    response.status_code = STATUSES[result.outcome]
    document = {**result.as_json(), "text": result.text}
    if result.outcome in (Outcome.ACCEPTED, Outcome.UNCONFIRMED):
        return cast(responses.Outcome, document)
    said = f"the UPS answered {result.reply!r}" if result.reply is not None else "the UPS gave no answer"
    raise Problem(STATUSES[result.outcome], f"order-{result.outcome.value}", result.text or said, document)
