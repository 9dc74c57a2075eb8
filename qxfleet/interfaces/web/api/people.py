"""Users and tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path

from qxfleet.errors import OrderInvalid, StoreError
from qxfleet.interfaces import shapes
from qxfleet.interfaces.shapes import Document
from qxfleet.interfaces.tokens import Tokens
from qxfleet.interfaces.web import models
from qxfleet.interfaces.web.access import Reader, Somebody, Visitor
from qxfleet.interfaces.web.api.common import NAME, ThisAgent, routes
from qxfleet.interfaces.web.problems import Problem, documented

router = routes("users and tokens")


@router.get("/users", response_model=models.Users, operation_id="users")
async def users(agent: ThisAgent, visitor: Reader) -> Document:
    """The users of the configuration and what they may do."""
    return {
        "users": [
            {"name": user.name, "rights": sorted(user.rights), "instcmds": list(user.instcmds)}
            for user in agent.config.faces.users
        ]
    }


@router.get("/tokens", response_model=models.Tokens, operation_id="tokens")
async def tokens(agent: ThisAgent, visitor: Somebody) -> Document:
    """Your tokens."""
    found = await _tokens(agent).all(visitor.user.name) if visitor.user else []
    return {"tokens": [shapes.token_document(each) for each in found]}


@router.post(
    "/tokens", response_model=models.NewToken, status_code=201, operation_id="token-create", responses=documented(400, 409, 413)
)
async def create(agent: ThisAgent, visitor: Somebody, wanted: models.WantedToken) -> Document:
    """Make a token that acts as you. Only with a password or a session: a token makes no tokens."""
    user = _person(visitor)
    expires_us = None if wanted.expires_s is None else agent.clock.wall_us() + round(wanted.expires_s * 1e6)
    try:
        secret, made = await _tokens(agent).create(wanted.name, user, wanted.allow, expires_us, actor=visitor.actor)
    except (OrderInvalid, StoreError) as error:
        raise Problem(409, "token", str(error)) from error
    return {**shapes.token_document(made), "token": secret}


@router.delete("/tokens/{name}", status_code=204, operation_id="token-revoke", responses=documented(404))
async def revoke(
    agent: ThisAgent, visitor: Somebody,
    name: Annotated[str, Path(pattern=NAME, max_length=64, description="One of your tokens.", examples=["grafana"])],
) -> None:  # fmt: skip
    """End one of your tokens at once."""
    if not await _tokens(agent).revoke(name, actor=visitor.actor, user=_person(visitor)):
        raise Problem(404, "unknown-token", f"you have no token named {name!r}; /api/v1/tokens lists yours")


def _person(visitor: Visitor) -> str:
    """The user behind a password or a session. Raises Problem 403."""
    if visitor.user is None or visitor.token is not None:
        raise Problem(403, "forbidden", "tokens are made and ended by their user, with a password or a session")
    return visitor.user.name


def _tokens(agent: ThisAgent) -> Tokens:
    part = agent.part(Tokens)
    assert part is not None, "an agent with a web face has tokens"
    return part
