"""Whether loads are up: what of it can be seen in passing, and questions asked at the pace that the moment wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from qxfleet.agent.forced import RECONNECT_S, ForcedShutdown
from qxfleet.model.clock import Clock
from qxfleet.model.loads import CommandSays, Load, NutClients, NutLoggedOut, TcpClosed, UpsLoadBelow
from qxfleet.shutdown.act import meant
from qxfleet.shutdown.effects import Effects, Port
from qxfleet.shutdown.model import Act, Answer, LoadSeen, Record, Taken, UpsSeen

HOT_S, COLD_S = 2.0, 15.0
"""Between two questions about a load that is to go down or come up now, and about any other while a run is under way."""

CONNECT_S, ECHO_S, PROGRAM_S = 2.0, 1.0, 10.0
"""A port, an address or a program that says nothing for so long tells nothing."""

SILENT_S = 10.0
"""How long an address must answer nothing at all before its host counts as off: longer than a switch's port takes to come back,
and than Linux keeps a silent neighbour's hardware address while it is asked for."""

FIRST_S = HOT_S + CONNECT_S + ECHO_S + SILENT_S
"""What a first look takes at most, a host that is off being the longest: its silence must last. Who waits for NUT clients that
may be logging in again, or for one of a room's programs, waits longer."""

PROGRAMS, COLD_PROGRAMS = 8, 2
"""Programs that look at loads, at once: in all, and of those about loads that nothing is being done to. A room of hundreds must
not bring down the machine that is to save it."""


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
        self._silent_s: dict[str, float] = {}
        self._first_until_s: dict[str, float] = {}
        self._closing: set[str] = set()
        """Loads whose port was seen to close, or whose NUT clients to log out, behind their stop."""
        self._addresses: dict[str, set[str]] = {}
        self._answering: dict[str, set[str]] = {}
        """Where a load's NUT clients were logged in from, and which of these addresses have answered since."""
        self._programs, self._cold_programs = asyncio.Semaphore(PROGRAMS), asyncio.Semaphore(COLD_PROGRAMS)

    @property
    def loads(self) -> Mapping[str, LoadSeen]:
        """Every load that was looked at."""
        return MappingProxyType(self._seen)

    @property
    def going_on(self) -> frozenset[str]:
        """Loads whose first look is not over: none of its signs was seen, and its time is not over either."""
        now_s = self._clock.monotonic()
        return frozenset(name for name, until_s in self._first_until_s.items() if now_s < until_s)

    def look(self, loads: tuple[Load, ...], record: Record, upses: Mapping[str, UpsSeen]) -> None:
        """See what can be seen at once, and ask what is due to be asked."""
        now_s = self._clock.monotonic()
        open_steps = {taken.step.target for taken in record.taken if taken.result is None}
        for load in loads:
            if load.down_when is not None:
                self._first_until_s.setdefault(load.name, now_s + _first_s(load))
            match load.down_when:
                case UpsLoadBelow(percent):
                    self._note(load.name, _carries(load, upses, percent))
                case TcpClosed() | CommandSays() | NutLoggedOut() if load.name not in self._asking:
                    hot = load.name in open_steps
                    if now_s - self._asked_s.get(load.name, float("-inf")) >= (HOT_S if hot else COLD_S):
                        self._ask(load, upses, _last_act(record, load.name), hot=hot)

    def forget(self) -> None:
        """Nothing is under way: what was seen grows old."""
        self._seen.clear()
        self._first_until_s.clear()
        self._asked_s.clear()
        self._silent_s.clear()
        self._closing.clear()
        self._addresses.clear()
        self._answering.clear()

    async def stop(self) -> None:
        """Ask no more."""
        for task in self._asking.values():
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=1.0)

    def _note(self, name: str, up: bool | None, *, closed: bool = False) -> None:
        was = self._seen.get(name)
        if up is not None:
            self._first_until_s[name] = self._clock.monotonic()
        if was is None or was.up is not up or was.closed is not closed:
            self._seen[name] = LoadSeen(up, self._clock.monotonic(), closed)
            self._changed()

    def _logins(self, load: Load) -> Port:
        """Who is logged in, as one asks of a port: open while a client of it is, unknown while nobody can tell."""
        who = meant(load.stop if isinstance(load.stop, NutClients) else NutClients())
        known = [self._forced.logins(ups, who) for ups in load.fed_by]
        here = {client.address for clients in known for client in clients or ()}
        if here:
            self._addresses.setdefault(load.name, set()).update(here)
            return Port.OPEN
        return Port.SILENT if all(clients is not None for clients in known) else Port.UNKNOWN

    def _ask(self, load: Load, upses: Mapping[str, UpsSeen], last: Taken | None, *, hot: bool) -> None:
        self._asked_s[load.name] = self._clock.monotonic()
        task = asyncio.create_task(self._answer(load, upses, last, hot=hot), name=f"look at {load.name}")
        self._asking[load.name] = task
        task.add_done_callback(lambda _: self._asking.pop(load.name, None))

    async def _answer(self, load: Load, upses: Mapping[str, UpsSeen], last: Taken | None, *, hot: bool) -> None:
        if isinstance(load.down_when, TcpClosed | NutLoggedOut):
            await self._knock(load, load.down_when, upses, last, hot=hot)
        elif isinstance(load.down_when, CommandSays):
            self._note(load.name, await self._program(load.down_when.argv, hot=hot))
            self._first_until_s[load.name] = self._clock.monotonic()

    async def _program(self, argv: tuple[str, ...], *, hot: bool) -> bool | None:
        """Exit code 0 says down, 1 up."""
        async with contextlib.AsyncExitStack() as stack:
            if not hot:
                await stack.enter_async_context(self._cold_programs)
            await stack.enter_async_context(self._programs)
            done = await self._effects.command(argv, PROGRAM_S)
        return {0: False, 1: True}.get(-1 if done.code is None else done.code)

    async def _answers(self, load: Load, at: TcpClosed | NutLoggedOut) -> bool:
        """Whether its host answers at all. Of NUT clients silence counts only where each address answered before: one behind a
        firewall never does."""
        if isinstance(at, TcpClosed):
            return bool(await self._effects.answers(at.host, ECHO_S))
        addresses, answering = self._addresses.get(load.name, set()), self._answering.setdefault(load.name, set())
        asked = tuple(addresses)
        heard = await asyncio.gather(*(self._effects.answers(address, ECHO_S) for address in asked))
        answering.update(address for address, answered in zip(asked, heard, strict=True) if answered)
        return any(heard) or not addresses or answering != addresses

    async def _knock(
        self, load: Load, at: TcpClosed | NutLoggedOut, upses: Mapping[str, UpsSeen], last: Taken | None, *, hot: bool
    ) -> None:
        """A port that takes no connections says nothing alone, nor do clients that logged out: upsmon does so before it stops its
        host. A refusal comes from a host that is up. Silence is what a host
        that is off and a network that is broken have in common: it counts only of a load that took the order to stop (its
        answer says so, or its port was seen to close since), or was known to be off, and only once it has lasted."""
        name, was = load.name, self._seen.get(load.name)
        stop_was_sent = last is not None and last.step.act is Act.STOP
        stop_was_heard = stop_was_sent and last is not None and last.answer is Answer.ACCEPTED
        asked_s = self._clock.monotonic()
        nut = isinstance(at, NutLoggedOut)
        port = self._logins(load) if isinstance(at, NutLoggedOut) else await self._effects.port(at.host, at.port, CONNECT_S)
        if port in (Port.OPEN, Port.UNKNOWN):
            self._silent_s.pop(name, None)
            self._closing.discard(name)
            self._note(name, True if port is Port.OPEN else None)
            if nut and port is Port.OPEN:
                await self._answers(load, at)
            return
        match at.also:
            case CommandSays(argv):
                agrees = await self._program(argv, hot=hot)
            case UpsLoadBelow(percent):
                agrees = _carries(load, upses, percent)
            case None:
                agrees = None
        if agrees is False:
            self._note(name, False)
            return
        if (port is Port.REFUSED or (nut and was is not None and was.up)) and stop_was_sent:
            self._closing.add(name)
        if port is Port.REFUSED or agrees or await self._answers(load, at):
            self._silent_s.pop(name, None)
            self._note(name, None, closed=True)
            return
        stop_was_heard = stop_was_heard or name in self._closing
        known_off = was is not None and was.up is False
        silent_for_s = self._clock.monotonic() - self._silent_s.setdefault(name, asked_s)
        off = known_off or (stop_was_heard and silent_for_s >= SILENT_S)
        self._note(name, False if off else None, closed=(nut or stop_was_heard) and not off)


def _first_s(load: Load) -> float:
    """What its first look takes at most."""
    also = load.down_when.also if isinstance(load.down_when, TcpClosed | NutLoggedOut) else load.down_when
    programs_s = 2 * PROGRAM_S if isinstance(also, CommandSays) else 0.0
    return FIRST_S + programs_s + (RECONNECT_S if isinstance(load.down_when, NutLoggedOut) else 0.0)


def _last_act(record: Record, name: str) -> Taken | None:
    """The last thing done to a load."""
    return next((taken for taken in reversed(record.taken) if taken.step.target == name), None)


def _carries(load: Load, upses: Mapping[str, UpsSeen], percent: float) -> bool | None:
    """Whether any UPS that feeds it carries that much; None if none does as far as is known, but not all are seen."""
    seen = [upses.get(name) for name in load.fed_by]
    if any(ups is not None and ups.contact and ups.load_percent is not None and ups.load_percent >= percent for ups in seen):
        return True
    known = all(ups is not None and ups.contact and ups.load_percent is not None for ups in seen)
    return False if known else None
