"""What a verb and a stream of the control socket are, and what their targets mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from qxfleet.agent.agent import Agent
from qxfleet.errors import OrderNotSupported, QxfleetError

Verb = Callable[[Any, str], Awaitable[Any]]
"""(request of its type, actor) → the answer it promises. A QxfleetError becomes the answer; anything else is our own fault."""

T = TypeVar("T")
Say = Callable[[T], Awaitable[None]]
"""Hands one item to the client and waits until it is taken."""

Stream = Callable[[Any, str, Say[Any]], Awaitable[None]]
"""(request of its type, actor, say) → items until it returns; cancelled when the client hangs up or says anything."""

Verbs = Mapping[type[Any], Verb]
Streams = Mapping[type[Any], Stream]
"""By the type of request."""


class UnknownTarget(OrderNotSupported):
    """A target that names no UPS and no group."""


class TooSlow(QxfleetError):
    """A client that takes items more slowly than they come."""


def names(agent: Agent, targets: Sequence[str] | None) -> tuple[str, ...]:
    """Names meant by targets, each once, in the fleet's order; all of them where none is given. Raises UnknownTarget."""
    fleet = agent.fleet
    if not targets:
        return fleet.select("all")
    chosen: set[str] = set()
    for target in targets:
        try:
            chosen.update(fleet.select(str(target)))
        except OrderNotSupported as error:
            raise UnknownTarget(str(error)) from error
    return tuple(name for name in fleet.snapshot() if name in chosen)


def one(agent: Agent, target: object) -> str:
    """The one UPS a target means. Raises UnknownTarget."""
    meant = names(agent, [str(target)])
    if len(meant) != 1:
        raise UnknownTarget(f"{target!r} means {len(meant)} UPSes: name one UPS")
    return meant[0]
