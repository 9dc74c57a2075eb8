"""What lives as long as the agent: the runners of plans, and the faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config


class Part(Protocol):
    """Something that starts after the fleet and stops before it.

    Parts start in the order in which they were handed to the agent and stop in the opposite one, each on the loop. A part that
    can't start raises a QxfleetError and so ends the agent; trouble later is its own to mend.
    """

    async def start(self) -> None:
        """Begin; the fleet's sessions run already, the store is open."""

    async def stop(self) -> None:
        """End within two seconds; what must survive is in the store."""

    def apply(self, config: Config) -> list[str]:
        """Take a new configuration; one line per change, none where nothing of this part's changed."""


MakePart: TypeAlias = "Callable[[Agent], Part]"
"""A part comes into being with the agent, so that it finds fleet, store, bus and schedule there."""
