"""Forced shutdown: the word by which NUT clients (``upsmon`` secondaries) are told to stop their hosts, and their goodbyes.

A flag belongs to one load of the plan, or to the NUT client that set it. While any is set for a UPS, the NUT server puts ``FSD``
into the ``ups.status`` that the clients meant are shown; every upsmon among them stops its host and logs out. How many have not
yet is what :meth:`ForcedShutdown.logins` tells.

Nothing is remembered here over a restart: the staged shutdown works out at every look which of its loads are told, and sets and
clears their flags to match. A flag that a NUT client set is cleared by :meth:`ForcedShutdown.seen`.
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
class Flag:
    """One reason for which clients of a UPS are told to shut down: ``load`` of the plan, or "" where a NUT client set it."""

    ups: str
    meant: Client = ANYONE
    load: str = ""


@dataclass(frozen=True, slots=True)
class Forced:
    """Who set a flag, and when: wall time to show, monotonic time to decide by."""

    actor: str
    since_us: int
    since_s: float


class ForcedShutdown:
    """The forced-shutdown flags of every UPS, for all its clients or for some of them. Call on the loop."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._set: dict[Flag, Forced] = {}
        self._dark: set[str] = set()
        self._logins: Logins | None = None
        self._served_s = 0.0

    def all(self) -> Mapping[Flag, Forced]:
        """Every flag that is set."""
        return self._set

    def is_set(self, ups: str, client: Client) -> bool:
        """Whether this client of this UPS is to shut down."""
        return any(flag.ups == ups and flag.meant.means(client) for flag in self._set)

    def set(self, ups: str, actor: str, meant: Client = ANYONE, load: str = "") -> None:
        """Tell clients of a UPS to shut down; nothing new where they were told for the same reason."""
        flag = Flag(ups, meant, load)
        if flag not in self._set:
            self._set[flag] = Forced(actor, self._clock.wall_us(), self._clock.monotonic())
            self._tell(ups, Phase.BEGIN, f"{_words(flag)} told to shut down, by {actor}", Severity.CRITICAL)

    def clear(self, ups: str, actor: str, meant: Client = ANYONE, load: str = "", why: str = "") -> None:
        """Tell them no longer for this reason. A client that has seen the flag goes down all the same."""
        flag = Flag(ups, meant, load)
        if self._set.pop(flag, None) is not None:
            because = f": {why}" if why else f", by {actor}"
            self._tell(ups, Phase.END, f"{_words(flag)} no longer told to shut down{because}", Severity.NOTICE)

    def seen(self, ups: str, *, mains_since_s: float | None, output_on: bool, stable_s: float) -> None:
        """What a UPS is doing now: ends a flag that a NUT client set once it has done its work.

        That is when the output was off and is on again with mains, or when mains have been there for ``stable_s`` without a gap,
        ever since the flag was set. ``mains_since_s``: since when mains are there (monotonic); None while they are not.
        """
        flags = [flag for flag in self._set if flag.ups == ups and not flag.load]
        if not flags:
            self._dark.discard(ups)
            return
        if not output_on:
            self._dark.add(ups)
        if mains_since_s is None or not output_on:
            return
        for flag in flags:
            if ups in self._dark:
                self.clear(ups, self._set[flag].actor, flag.meant, why="its output was off and is on again")
            elif self._clock.monotonic() - max(mains_since_s, self._set[flag].since_s) >= stable_s:
                self.clear(ups, self._set[flag].actor, flag.meant, why="mains are stable")
        self._dark.discard(ups)

    @property
    def serving(self) -> Logins | None:
        """What says who is logged in."""
        return self._logins

    def mirror(self, flags: Mapping[Flag, Forced]) -> None:
        """Take over the flags as they stand elsewhere; nothing is told."""
        self._set = dict(flags)

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


def _words(flag: Flag) -> str:
    user = f" logged in as {flag.meant.user}" if flag.meant.user else ""
    address = f" at {flag.meant.address}" if flag.meant.address else ""
    who = f"NUT clients{user}{address} are" if user or address else "all its NUT clients are"
    return f"{flag.load}: {who}" if flag.load else who
