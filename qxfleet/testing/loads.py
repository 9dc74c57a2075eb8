"""Simulated hosts on simulated UPSes: they take time to stop and to start, hang, refuse, and crash where their power goes.

A UPS carries what is really on: a host that is down draws nothing, one with two feeds draws half from each that lives. Time is
whatever the caller passes, as for :class:`~qxfleet.testing.machine.Machine`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qxfleet.testing.machine import Machine, Source


class HostState(enum.Enum):
    """What a host is doing. CRASHED: it lost its power while it ran."""

    UP = "up"
    STOPPING = "stopping"
    DOWN = "down"
    STARTING = "starting"
    CRASHED = "crashed"


class Trouble(enum.Enum):
    """What can be wrong with a host."""

    HANGS = "hangs"
    """It takes the order to stop and never gets there."""
    REFUSES = "refuses"
    """It lets nobody in."""
    SLEEPS = "sleeps"
    """It does not wake up."""


RUNNING = (HostState.UP, HostState.STOPPING, HostState.STARTING)


class Host:
    """One load. ``feeds`` are the UPSes it hangs on, ``lives_on`` how many of them it needs; ``boots``: it starts by itself when
    its power returns."""

    def __init__(
        self,
        name: str,
        feeds: Sequence[Machine],
        *,
        watts: float = 150.0,
        stops_in_s: float = 30.0,
        starts_in_s: float = 60.0,
        lives_on: int = 1,
        boots: bool = False,
        shares: Sequence[float | None] = (),
    ) -> None:
        self.name = name
        self.feeds = tuple(feeds)
        self.watts = watts
        even_w = watts / len(self.feeds)
        known = [even_w if share is None else share for share in shares]
        self.shares_w = known or [even_w] * len(self.feeds)
        """What it draws from each feed while all are live."""
        self.stops_in_s = stops_in_s
        self.starts_in_s = starts_in_s
        self.lives_on = lives_on
        self.boots = boots
        self.state = HostState.UP
        self.trouble: Trouble | None = None
        self.changes: list[tuple[float, HostState]] = []
        """Every change of state, with its time."""
        self.asked_to_stop: list[float] = []
        self.closes_early_s = 0.0
        """How long before it is off its ports refuse connections."""
        self._until_s: float | None = None
        self._was_powered = True

    @property
    def powered(self) -> bool:
        """Whether enough of its feeds are live."""
        return sum(feed.source is not Source.OFF for feed in self.feeds) >= self.lives_on

    @property
    def draws(self) -> bool:
        """Whether it draws anything."""
        return self.state in RUNNING

    def listens(self, now_s: float) -> bool:
        """Whether its ports take connections."""
        if self.state is HostState.STOPPING and self._until_s is not None:
            return now_s < self._until_s - self.closes_early_s
        return self.state in (HostState.UP, HostState.STOPPING)

    def stop(self, now_s: float) -> bool:
        """Ask it to stop; whether it took the order."""
        self.asked_to_stop.append(now_s)
        if self.trouble is Trouble.REFUSES or self.state not in (HostState.UP, HostState.STOPPING) or not self.powered:
            return False
        if self.state is HostState.UP:
            self._become(HostState.STOPPING, now_s, None if self.trouble is Trouble.HANGS else now_s + self.stops_in_s)
        return True

    def start(self, now_s: float) -> bool:
        """Wake it; whether it begins to start."""
        if self.trouble is Trouble.SLEEPS or not self.powered or self.state not in (HostState.DOWN, HostState.CRASHED):
            return False
        self._become(HostState.STARTING, now_s, now_s + self.starts_in_s)
        return True

    def switch_off(self, now_s: float) -> None:
        """Take its power away at an outlet, as it is meant to be."""
        if self.state is not HostState.DOWN:
            self._become(HostState.DOWN, now_s, None)

    def drawn_w(self) -> Iterator[tuple[Machine, float]]:
        """What it draws from each live feed now: its share, and in equal parts those of the feeds that are off."""
        live = [feed.source is not Source.OFF for feed in self.feeds]
        if not self.draws or not any(live):
            return
        more_w = sum(watts for watts, on in zip(self.shares_w, live, strict=True) if not on) / sum(live)
        for feed, watts, on in zip(self.feeds, self.shares_w, live, strict=True):
            if on:
                yield feed, watts + more_w

    def advance(self, now_s: float) -> None:
        """Let happen what is due; its feeds have been advanced to the same moment."""
        if not self.powered:
            if self.draws:
                self._become(HostState.CRASHED, now_s, None)
        elif not self._was_powered and self.boots:
            self.start(now_s)
        self._was_powered = self.powered
        if self._until_s is not None and now_s >= self._until_s:
            self._become(HostState.DOWN if self.state is HostState.STOPPING else HostState.UP, self._until_s, None)

    def _become(self, state: HostState, now_s: float, until_s: float | None) -> None:
        self.state = state
        self._until_s = until_s
        self.changes.append((now_s, state))


class Room:
    """Hosts and the UPSes that feed them. ``base_percent`` is what a UPS carries beside them, or ``base_w``, one for each."""

    def __init__(
        self, machines: Iterable[Machine], hosts: Iterable[Host], *, base_percent: float = 2.0, base_w: Sequence[float] = ()
    ) -> None:
        self.machines = tuple(machines)
        self._base_w = base_w or [machine.ratings.watts * base_percent / 100 for machine in self.machines]
        self.hosts: Mapping[str, Host] = {host.name: host for host in hosts}

    def advance(self, now_s: float) -> None:
        """Let everything happen up to ``now_s``; steps of a second or two are fine enough."""
        for machine in self.machines:
            machine.advance(now_s)
        drawn = dict(zip(map(id, self.machines), self._base_w, strict=True))
        for host in self.hosts.values():
            host.advance(now_s)
            for feed, watts in host.drawn_w():
                drawn[id(feed)] += watts
        for machine in self.machines:
            machine.load_percent = 100 * drawn[id(machine)] / machine.ratings.watts

    @property
    def crashed(self) -> list[str]:
        """Hosts that lost their power while they ran, at any time."""
        return [name for name, host in self.hosts.items() if any(state is HostState.CRASHED for _, state in host.changes)]
