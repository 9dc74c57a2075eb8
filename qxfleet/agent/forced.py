"""Forced shutdown: the word by which NUT clients (``upsmon`` secondaries) are told to stop their hosts, and their goodbyes.

The flag belongs to the fleet; a staged shutdown and clients with the right to it set it, the NUT server publishes it. As long
as it is set for a UPS that server puts ``FSD`` into its ``ups.status``, to which every upsmon logged in answers by stopping its
host and logging out. How many have not yet is what :meth:`ForcedShutdown.logins` tells.

The flag lives as long as the agent. A run of a staged shutdown that is taken up again after a restart sets it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from qxfleet.agent.bus import Bus
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Phase, Severity

Logins = Callable[[str], Collection[str]]
"""UPS → the clients that are logged in to it now, one entry for each connection, by address."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Who set the flag of a UPS, and when."""

    actor: str
    since_us: int


class ForcedShutdown:
    """The forced-shutdown flag of every UPS. Call on the loop."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._set: dict[str, Forced] = {}
        self._logins: Logins | None = None

    def all(self) -> Mapping[str, Forced]:
        """The UPSes whose flag is set."""
        return self._set

    def is_set(self, ups: str) -> bool:
        """Whether clients of this UPS are to shut down."""
        return ups in self._set

    def set(self, ups: str, actor: str) -> None:
        """Tell the clients of a UPS to shut down; nothing new where they were told."""
        if ups not in self._set:
            self._set[ups] = Forced(actor, self._clock.wall_us())
            self._tell(ups, Phase.BEGIN, f"by {actor}: its NUT clients are told to shut down", Severity.CRITICAL)

    def clear(self, ups: str, actor: str) -> None:
        """Tell them no longer. A client that has seen the flag goes down all the same."""
        if self._set.pop(ups, None) is not None:
            self._tell(ups, Phase.END, f"by {actor}: its NUT clients are no longer told to shut down", Severity.NOTICE)

    def serve(self, logins: Logins | None) -> None:
        """The NUT server says who is logged in; None when it ends."""
        self._logins = logins

    def logins(self, ups: str) -> tuple[str, ...] | None:
        """Clients logged in to a UPS; None if no NUT server runs, so that nobody can know."""
        return None if self._logins is None else tuple(self._logins(ups))

    def _tell(self, ups: str, phase: Phase, text: str, severity: Severity) -> None:
        event = Event(
            self._clock.wall_us(), ups, EventKind.SHUTDOWN, "forced-shutdown", phase.value, text, severity, phase
        )  # fmt: skip
        self._bus.publish(event)
