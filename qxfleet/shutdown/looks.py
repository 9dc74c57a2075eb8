"""Whether loads are up: what of it can be seen in passing, and questions asked at the pace that the moment wants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from qxfleet.agent.forced import ForcedShutdown
from qxfleet.model.clock import Clock
from qxfleet.model.loads import CommandSays, Load, NutClients, NutLoggedOut, TcpClosed, UpsLoadBelow
from qxfleet.shutdown.act import meant
from qxfleet.shutdown.effects import Effects, Port
from qxfleet.shutdown.model import Act, Answer, LoadSeen, Record, UpsSeen

HOT_S, COLD_S = 2.0, 15.0
"""Between two questions about a load that is to go down or come up now, and about any other while a run is under way."""

CONNECT_S, PROGRAM_S = 2.0, 10.0
"""A port or a program that says nothing for so long tells nothing."""


class Looks:
    """Keeps :class:`LoadSeen` of every load that can be looked at; ``changed`` is called when one turns out to be different."""

    def __init__(self, effects: Effects, forced: ForcedShutdown, clock: Clock, changed: Callable[[], None]) -> None:
        self._effects = effects
        self._forced = forced
        self._clock = clock
        self._changed = changed
        self._seen: dict[str, LoadSeen] = {}
        self._asked_s: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    @property
    def loads(self) -> Mapping[str, LoadSeen]:
        """Every load that was looked at."""
        return MappingProxyType(self._seen)

    def look(self, loads: tuple[Load, ...], record: Record, upses: Mapping[str, UpsSeen]) -> None:
        """See what can be seen at once, and ask what is due to be asked."""
        now_s = self._clock.monotonic()
        open_steps = {taken.step.target for taken in record.taken if taken.result is None}
        for load in loads:
            match load.down_when:
                case UpsLoadBelow(percent):
                    self._note(load.name, _carries(load, upses, percent))
                case NutLoggedOut():
                    told = _last_stop(record, load.name) in (Answer.ACCEPTED, Answer.UNCONFIRMED)
                    self._note(load.name, self._logged_in(load, told))
                case TcpClosed() | CommandSays() if load.name not in self._asking:
                    pace_s = HOT_S if load.name in open_steps else COLD_S
                    if now_s - self._asked_s.get(load.name, float("-inf")) >= pace_s:
                        self._ask(load, _last_stop(record, load.name) is Answer.ACCEPTED)

    def forget(self) -> None:
        """Nothing is under way: what was seen grows old."""
        self._seen.clear()
        self._asked_s.clear()

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=1.0)

    def _note(self, name: str, up: bool | None) -> None:
        was = self._seen.get(name)
        if was is None or was.up is not up:
            self._seen[name] = LoadSeen(up, self._clock.monotonic())
            self._changed()

    def _logged_in(self, load: Load, told: bool) -> bool | None:
        """That nobody is logged in says that it is down only of clients that were, or were told: upsmon may not run on a host
        that does."""
        who = meant(load.stop if isinstance(load.stop, NutClients) else NutClients())
        known = [self._forced.logins(ups, who) for ups in load.fed_by]
        if any(known):
            return True
        was = self._seen.get(load.name)
        met = told or (was is not None and was.up is not None)
        return False if met and all(clients is not None for clients in known) else None

    def _ask(self, load: Load, stop_was_heard: bool) -> None:
        self._asked_s[load.name] = self._clock.monotonic()
        task = asyncio.create_task(self._answer(load, stop_was_heard), name=f"look at {load.name}")
        self._asking[load.name] = task
        task.add_done_callback(lambda _: self._asking.pop(load.name, None))

    async def _answer(self, load: Load, stop_was_heard: bool) -> None:
        if isinstance(load.down_when, TcpClosed):
            port = await self._effects.port(load.down_when.host, load.down_when.port, CONNECT_S)
            self._note(load.name, self._port_says(load.name, port, stop_was_heard))
        elif isinstance(load.down_when, CommandSays):
            done = await self._effects.command(load.down_when.argv, PROGRAM_S)
            self._note(load.name, {0: False, 1: True}.get(-1 if done.code is None else done.code))

    def _port_says(self, name: str, port: Port, stop_was_heard: bool) -> bool | None:
        """Silence is what a host that is off and a network that is broken have in common: it counts as down only of a load that
        took the order to stop, or was known to be down."""
        if port is Port.SILENT:
            was = self._seen.get(name)
            return False if stop_was_heard or (was is not None and was.up is False) else None
        return {Port.OPEN: True, Port.REFUSED: False, Port.UNKNOWN: None}[port]


def _last_stop(record: Record, name: str) -> Answer | None:
    """What came of a load's stop, if that was the last thing done to it."""
    for taken in reversed(record.taken):
        if taken.step.target == name:
            return taken.answer if taken.step.act is Act.STOP else None
    return None


def _carries(load: Load, upses: Mapping[str, UpsSeen], percent: float) -> bool | None:
    """Whether any UPS that feeds it carries that much; None if none does as far as is known, but not all are seen."""
    seen = [upses.get(name) for name in load.fed_by]
    if any(ups is not None and ups.contact and ups.load_percent is not None and ups.load_percent >= percent for ups in seen):
        return True
    known = all(ups is not None and ups.contact and ups.load_percent is not None for ups in seen)
    return False if known else None
