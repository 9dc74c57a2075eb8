"""Forced shutdown: the word by which NUT clients (``upsmon`` secondaries) are told to stop their hosts, and their goodbyes.

The flag belongs to the fleet; a staged shutdown and clients with the right to it set it, the NUT server publishes it. As long
as it is set for a UPS that server puts ``FSD`` into its ``ups.status``, to which every upsmon logged in answers by stopping its
host and logging out. How many have not yet is what :meth:`ForcedShutdown.logins` tells.

The flag lives as long as the agent. A run of a staged shutdown that is taken up again after a restart sets it anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from qxfleet.agent.bus import Bus
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind, Phase, Severity

RECONNECT_S = 30.0
"""upsmon polls every 5 s and calls a UPS dead after 15 s without contact (its defaults): by then it is back, if it lives."""


@dataclass(frozen=True, slots=True, order=True)
class Client:
    """Who a NUT client is: the user it logged in as, and the address it comes from. As what is wanted of one, empty means any."""

    user: str = ""
    address: str = ""

    def means(self, client: Client) -> bool:
        """Whether ``client`` is one of those meant."""
        return self.user in ("", client.user) and self.address in ("", client.address)


ANYONE = Client()

Logins = Callable[[str], Iterable[Client]]
"""UPS → the clients that are logged in to it now, one entry for each connection."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Who set the flag of a UPS, and when."""

    actor: str
    since_us: int


class ForcedShutdown:
    """The forced-shutdown flag of every UPS, for all its clients or for some of them. Call on the loop."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._set: dict[tuple[str, Client], Forced] = {}
        self._logins: Logins | None = None
        self._served_s = 0.0

    def all(self) -> Mapping[tuple[str, Client], Forced]:
        """Every flag that is set, by UPS and whom it means."""
        return self._set

    def is_set(self, ups: str, client: Client) -> bool:
        """Whether this client of this UPS is to shut down."""
        return any(name == ups and meant.means(client) for name, meant in self._set)

    def set(self, ups: str, actor: str, meant: Client = ANYONE) -> None:
        """Tell clients of a UPS to shut down; nothing new where they were told."""
        if (ups, meant) not in self._set:
            self._set[ups, meant] = Forced(actor, self._clock.wall_us())
            self._tell(ups, Phase.BEGIN, f"{_words(meant)} told to shut down, by {actor}", Severity.CRITICAL)

    def clear(self, ups: str, actor: str, meant: Client = ANYONE) -> None:
        """Tell them no longer. A client that has seen the flag goes down all the same."""
        if self._set.pop((ups, meant), None) is not None:
            self._tell(ups, Phase.END, f"{_words(meant)} no longer told to shut down, by {actor}", Severity.NOTICE)

    def serve(self, logins: Logins | None) -> None:
        """The NUT server says who is logged in; None when it ends."""
        self._logins = logins
        self._served_s = self._clock.monotonic()

    def logins(self, ups: str, meant: Client = ANYONE) -> tuple[Client, ...] | None:
        """Those of the clients meant that are logged in to a UPS; None while nobody can know.

        That is: no NUT server runs, or not for long enough that a client which lost an earlier one would be back.
        """
        if self._logins is None or self._clock.monotonic() - self._served_s < RECONNECT_S:
            return None
        return tuple(client for client in self._logins(ups) if meant.means(client))

    def _tell(self, ups: str, phase: Phase, text: str, severity: Severity) -> None:
        event = Event(
            self._clock.wall_us(), ups, EventKind.SHUTDOWN, "forced-shutdown", phase.value, text, severity, phase
        )  # fmt: skip
        self._bus.publish(event)


def _words(meant: Client) -> str:
    user = f" logged in as {meant.user}" if meant.user else ""
    address = f" at {meant.address}" if meant.address else ""
    return f"NUT clients{user}{address} are" if user or address else "all its NUT clients are"
