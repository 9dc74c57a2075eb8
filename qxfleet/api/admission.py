"""Whether somebody of the network may make a request: decided here, in the core, by the configuration as it is now.

Who it is was proven to the interfaces; what they may is not theirs to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qxfleet.api import requests
from qxfleet.api.requests import Request
from qxfleet.errors import Forbidden
from qxfleet.store.tokens import tokens

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.access import User


async def admit(agent: Agent, request: Request[Any], actor: str) -> None:
    """Let a request of an actor (``http:operator/token@192.0.2.7``) pass. Raises Forbidden."""
    user, token = _party(agent, actor)
    if user is None:
        if request.right == "read" and not agent.config.faces.users and actor.startswith("http:anonymous@"):
            return
        raise Forbidden(f"{actor} is no user of this agent")
    allowed = await _allowed(agent, token, user) if token else None
    if not _may(user, allowed, request):
        raise Forbidden(f"{user.name} may not do that: it needs the right {request.right!r}")


def _party(agent: Agent, actor: str) -> tuple[User | None, str]:
    """The user an actor names, and the token behind a slash. No user's name is taken for the beginning of another's."""
    _, _, rest = actor.partition(":")
    who, at, _ = rest.rpartition("@")
    who = who if at else rest
    for user in agent.config.faces.users:
        if who == user.name:
            return user, ""
        if who.startswith(f"{user.name}/"):
            return user, who.removeprefix(f"{user.name}/")
    return None, ""


async def _allowed(agent: Agent, token: str, user: User) -> frozenset[str]:
    """What a token leaves of its user's rights; nothing where there is no such token any more."""
    found = await agent.store.read(lambda connection: tokens(connection, user.name))
    for each in found:
        if each.name == token and each.valid(agent.clock.wall_us()):
            return user.rights if each.allow is None else frozenset(each.allow)
    return frozenset()


def _may(user: User, allowed: frozenset[str] | None, request: Request[Any]) -> bool:
    if request.right is None:
        return False
    if request.right == "self":
        theirs = getattr(request, "user", None) == user.name
        return theirs and (allowed is None or isinstance(request, requests.TokenList))
    if isinstance(request, requests.Command):
        name = request.name.lower()
        right = "command" if allowed is None or "command" in allowed else "test"
        return user.may_command(name) and (allowed is None or right in allowed) and (
            allowed is None or "command" in allowed or name.startswith("test.battery.")
        )
    if request.right == "test":
        able = user.may_command("test.battery.start")
        return able and (allowed is None or bool({"test", "command"} & allowed))
    return user.may(request.right) and (allowed is None or request.right in allowed)  # type: ignore[arg-type]
