"""Maintenance: somebody is at work on a UPS, so nothing is started on it by itself. Windows outlive the agent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.store import maintenance as stored
from qxfleet.store.maintenance import StoredWindow

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.agent.bus import Bus
    from qxfleet.config.load import Config
    from qxfleet.model.clock import Clock
    from qxfleet.store.store import Store


@dataclass(frozen=True, slots=True)
class Window:
    """One UPS under maintenance. ``until_us`` None: until somebody ends it."""

    ups: str
    since_us: int
    until_us: int | None
    actor: str
    reason: str


class Maintenance:
    """Which UPSes are under maintenance now; a part of the agent."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._windows: dict[str, Window] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        """One at a time: a window whose time ends while it is replaced must not take the new one with it."""

    # -- what may be asked

    def all(self) -> Mapping[str, Window]:
        """Every window that is open, by UPS."""
        return self._windows

    def of(self, ups: str) -> Window | None:
        """The window of a UPS; None if it is not under maintenance."""
        return self._windows.get(ups)

    # -- what may be done

    async def begin(self, upses: Collection[str], for_s: float | None, reason: str, actor: str) -> None:
        """Put UPSes under maintenance, for ``for_s`` or until somebody ends it; committed when this returns.

        A window that is open already is replaced. Raises StoreError.
        """
        now_us = self._clock.wall_us()
        until_us = None if for_s is None else now_us + round(for_s * 1e6)
        how = f"for {for_s:.0f} s" if for_s is not None else "until it is ended"
        async with self._turn:
            for ups in upses:
                row = StoredWindow(ups, now_us, until_us, actor, reason)
                await self._store.commit(stored.begin_window(row), ups)
                self._open(row)
                self._tell(ups, Phase.BEGIN, f"by {actor}, {how}{': ' if reason else ''}{reason}")

    async def end(self, upses: Collection[str], actor: str) -> tuple[str, ...]:
        """End the maintenance of UPSes; the names of those that were under it. Raises StoreError."""
        async with self._turn:
            return await self._end(upses, actor)

    async def _end(self, upses: Collection[str], actor: str) -> tuple[str, ...]:
        ended = tuple(ups for ups in upses if ups in self._windows)
        if ended:
            await self._store.commit(stored.end_windows(self._clock.wall_us()), *ended)
        for ups in ended:
            self._close(ups)
            self._tell(ups, Phase.END, f"by {actor}")
        return ended

    # -- a part of the agent

    async def start(self) -> None:
        """Take up the windows that were open when the agent stopped."""
        for row in await self._store.read(stored.open_windows):
            self._open(row)

    async def stop(self) -> None:
        """Forget the timers; the windows stay in the store."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._ending:
            await asyncio.wait(self._ending, timeout=1.0)

    def apply(self, config: Config) -> list[str]:
        """Nothing of this is configured."""
        return []

    def _open(self, row: StoredWindow) -> None:
        self._close(row.ups)
        self._windows[row.ups] = Window(row.ups, row.started_us, row.until_us, row.actor, row.reason)
        if row.until_us is not None:
            left_s = max(0.0, (row.until_us - self._clock.wall_us()) / 1e6)
            self._timers[row.ups] = asyncio.get_running_loop().call_later(left_s, self._expire, self._windows[row.ups])

    def _close(self, ups: str) -> None:
        self._windows.pop(ups, None)
        timer = self._timers.pop(ups, None)
        if timer is not None:
            timer.cancel()

    def _expire(self, window: Window) -> None:
        task = asyncio.create_task(self._end_by_itself(window), name=f"end of maintenance {window.ups}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end_by_itself(self, window: Window) -> None:
        async with self._turn:
            if self._windows.get(window.ups) is window:
                await self._end((window.ups,), "its time")

    def _tell(self, ups: str, phase: Phase, text: str) -> None:
        what = "under maintenance" if phase is Phase.BEGIN else "maintenance ended"
        self._bus.publish(Event(
            self._clock.wall_us(), ups, EventKind.MAINTENANCE, "maintenance", phase.value, f"{what} {text}", Severity.NOTICE,
            phase,
        ))  # fmt: skip


def maintenance(agent: Agent) -> Maintenance:
    """The part, for an agent."""
    return Maintenance(agent.store, agent.bus, agent.clock)
