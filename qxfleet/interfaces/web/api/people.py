"""Users and tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request

from qxfleet.api import requests, responses
from qxfleet.api.asking import UnknownTarget
from qxfleet.errors import OrderInvalid, StoreError
from qxfleet.interfaces.web import bodies
from qxfleet.interfaces.web.access import Reader, Somebody, Visitor
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, ask, routes
from qxfleet.interfaces.web.problems import Problem, documented

router = routes("users and tokens")


@router.get("/users", response_model=responses.Users, operation_id="users")
async def users(agent: ThisAgent, visitor: Reader) -> responses.Users:
    """The users of the configuration and what they may do."""
    return {
        "users": [
            {"name": user.name, "rights": sorted(user.rights), "instcmds": list(user.instcmds)}
            for user in agent.config.faces.users
        ]
    }


@router.get("/tokens", response_model=responses.Tokens, operation_id="tokens")
async def tokens(request: Request, visitor: Somebody) -> responses.Tokens:
    """Your tokens."""
    if visitor.user is None:
        return {"tokens": []}
    return await ask(request, requests.TokenList(user=visitor.user.name), visitor)


@router.post(
    "/tokens", response_model=responses.NewToken, status_code=201, operation_id="token-create",
    responses=documented(400, 409, 413),
)  # fmt: skip
async def create(request: Request, visitor: Somebody, wanted: bodies.WantedToken) -> responses.NewToken:
    """Make a token that acts as you. Only with a password or a session: a token makes no tokens."""
    user = _person(visitor)
    allow = None if wanted.allow is None else tuple(wanted.allow)
    try:
        return await ask(request, requests.TokenCreate(wanted.name, user, allow, wanted.expires_s), visitor)
    except (OrderInvalid, StoreError) as error:
        raise Problem(409, "token", str(error)) from error


@router.delete("/tokens/{name}", status_code=204, operation_id="token-revoke", responses=documented(404))
async def revoke(
    request: Request, visitor: Somebody,
    name: Annotated[str, Path(pattern=NAME, max_length=64, description="One of your tokens.", examples=["grafana"])],
) -> None:  # fmt: skip
    """End one of your tokens at once."""
    try:
        await ask(request, requests.TokenRevoke(name, _person(visitor)), visitor)
    except UnknownTarget:
        raise Problem(404, "unknown-token", f"you have no token named {name!r}; /api/v1/tokens lists yours") from None


def _person(visitor: Visitor) -> str:
    """The user behind a password or a session. Raises Problem 403."""
    if visitor.user is None or visitor.token is not None:
        raise Problem(403, "forbidden", "tokens are made and ended by their user, with a password or a session")
    return visitor.user.name
