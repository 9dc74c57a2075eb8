"""The fleet as the interfaces' process sees it: a mirror kept up by the core's stream, with the core's one door behind it.

It offers what an agent offers to whoever only looks: states, settings, events, history by connections of its own. Orders, and
whatever else changes something, go up as requests with the name of who gives them, and the core decides.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from sqlalchemy import Connection

from qxfleet.agent.agent import Health, shown
from qxfleet.agent.audit import Act
from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import Pace, select
from qxfleet.agent.forced import ForcedShutdown
from qxfleet.agent.part import Part
from qxfleet.agent.shipping import QUERIES, Shipping
from qxfleet.api import requests
from qxfleet.api.requests import Request
from qxfleet.api.responses import OrderTold
from qxfleet.config.load import Config
from qxfleet.dialects.spec import Order
from qxfleet.errors import OrderNotSupported, QxfleetError, StoreError
from qxfleet.interfaces.link import next_down, up
from qxfleet.interfaces.stream import Ability, News, Pulse, with_quick
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, Link, OrderResult, Outcome, SettingInfo
from qxfleet.model.options import UpsOptions
from qxfleet.model.state import DeviceState
from qxfleet.store.engine import explained, open_engine
from qxfleet.store.fleet_view import reading_fleet
from qxfleet.store.shipper import ShipperHealth
from qxfleet.store.writer import StoreHealth

log = logging.getLogger(__name__)

P = TypeVar("P")

READERS = 3
CORE_SILENT_S, DOUBT_S = 9.0, 1.0
"""A core that says nothing for both together hangs: it gives a pulse a second. The second part is there because a process that
was stopped itself finds its timers over before it has read what came meanwhile."""

ANSWER_S = 90.0
"""The core answers every order, if only with what it does not know, long before."""


@dataclass(frozen=True, slots=True)
class Polls:
    """How often a UPS was polled."""

    polls: int = 0
    missed_polls: int = 0


class Readers:
    """Connections that only read, on threads of their own."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, writing=False, connections=READERS)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")

    async def read(self, query: Callable[[Connection], P]) -> P:
        """Run a query. Raises StoreError."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._query, query)

    def _query(self, query: Callable[[Connection], P]) -> P:
        with explained(self._engine), self._engine.connect() as connection:
            return query(connection)

    async def close(self) -> None:
        """Let go of the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


class MirrorFleet:
    """The part of :class:`qxfleet.agent.fleet.Fleet` that interfaces use."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.states: dict[str, DeviceState] = {}
        self.stale: Mapping[str, DeviceState] | None = None
        self.by_name: dict[str, UpsOptions] = {}
        self.abilities: dict[str, Ability] = {}
        self.counts: Mapping[str, tuple[int, int]] = {}
        self.pace = Pace()

    def snapshot(self) -> Mapping[str, DeviceState]:
        """The state of every device by name, in configured order; while the core says nothing, none of them is fresh."""
        return self.states if self.stale is None else self.stale

    def doubt(self, reason: str) -> None:
        """Call everything stale that is shown as fresh, until the core speaks again."""
        self.stale = {
            name: replace(state, link=Link.STALE, link_reason=reason) if state.link is Link.ONLINE else state
            for name, state in self.states.items()
        }

    def options(self, ups: str) -> UpsOptions:
        """The options of one device. Raises OrderNotSupported."""
        if ups not in self.by_name:
            raise OrderNotSupported(f"no UPS is named {ups!r}")
        return self.by_name[ups]

    def select(self, target: str) -> tuple[str, ...]:
        """Names meant by a target. Raises OrderNotSupported."""
        return select(target, self.by_name)

    def session(self, ups: str) -> Polls:
        """How often it was polled."""
        return Polls(*self.counts.get(ups, (0, 0)))

    def orders(self, ups: str) -> tuple[Order, ...]:
        """Instant commands of one device. Raises OrderNotSupported."""
        return self._ability(ups).orders

    def settings(self, ups: str) -> tuple[SettingInfo, ...]:
        """Writable variables of one device. Raises OrderNotSupported."""
        return self._ability(ups).settings

    def _ability(self, ups: str) -> Ability:
        found = self.abilities.get(ups, Ability(unknown=f"no UPS is named {ups!r}"))
        if found.unknown:
            raise OrderNotSupported(found.unknown)
        return found

    async def perform(self, ups: str, name: str, value: str | None, *, actor: str) -> OrderResult:
        """Carry out an instant command, in the core."""
        return _result(await self._mirror.do(requests.Command(ups, name, value), actor))

    async def set(self, ups: str, name: str, value: str, *, actor: str) -> OrderResult:
        """Change a setting, in the core."""
        return _result(await self._mirror.do(requests.Set(ups, name, value), actor))


class MirrorStore:
    """History, by read-only connections of the interfaces' own; and how the core's storing goes."""

    def __init__(self, mirror: Mirror, url: str) -> None:
        self._mirror = mirror
        self._readers = Readers(url)
        self.last: StoreHealth | None = None

    async def read(self, query: Callable[[Any], P]) -> P:
        """Run a query; it can't write. Raises StoreError."""
        return await self._readers.read(query)

    async def commit(self, write: Callable[..., P], *ups: str) -> P:
        """Nothing is written here."""
        raise StoreError("the interfaces write nothing")

    async def settled(self, within_s: float) -> bool:
        """Whether everything that happened is stored; the core says so."""
        return bool((await self._mirror.call("settled", within_s=within_s)).get("settled"))

    def health(self) -> StoreHealth:
        """As the core last told it."""
        assert self.last is not None, "the core's first pulse comes before anybody asks"
        return self.last

    async def close(self) -> None:
        """Let go of the database."""
        await self._readers.close()


class MirrorShipping:
    """How shipping to the fleet store goes, and questions to that store on threads of the interfaces' own."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._threads = ThreadPoolExecutor(QUERIES, thread_name_prefix="fleet-reader")

    def health(self) -> ShipperHealth | None:
        """As the core last told it; None without a fleet."""
        return self._mirror.pulse.shipping if self._mirror.pulse else None

    async def read(self, query: Callable[[Connection], P]) -> P:
        """Run a query on the fleet store. Raises StoreError."""
        fleet = self._mirror.config.fleet
        if fleet is None:
            raise StoreError("no [fleet] is configured: this agent stands alone")
        url = fleet.database

        def run() -> P:
            with reading_fleet(url) as connection:
                return query(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)


class MirrorBus(Bus):
    """What the core's bus carries of events; what is published here goes to the core's instead, and comes back from there."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__()
        self._mirror = mirror

    def publish(self, item: Any) -> None:
        """Hand an event up."""
        self._mirror.tell(item)

    def hand_out(self, item: Any) -> None:
        """What came from the core."""
        super().publish(item)


class Mirror:
    """One agent, seen from beside it. ``part`` finds the interfaces, as an agent finds its parts."""

    def __init__(self, config: Config, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.config = config
        self.clock = Clock()
        self.bus = MirrorBus(self)
        self.store = MirrorStore(self, config.agent.database)
        self.fleet = MirrorFleet(self)
        self.forced = ForcedShutdown(self.bus, self.clock)
        self.shipping = MirrorShipping(self)
        self.parts: tuple[Part, ...] = ()
        self.plan: tuple[bool, bool, Mapping[str, int]] = (False, False, {})
        self.pulse: Pulse | None = None
        self.begun = asyncio.Event()
        """Set when everything there is to know has come once."""
        self._reader, self._writer = reader, writer
        self._keys = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._told_logins: dict[str, list[list[str]]] | None = None
        self._silent: asyncio.TimerHandle | None = None
        self._use(config)

    def part(self, kind: type[P]) -> P | None:
        """The interface of that kind, or what stands here for a part of the core."""
        if kind is Shipping:
            return cast(P, self.shipping)
        return next((part for part in self.parts if isinstance(part, kind)), None)

    def shown(self) -> Mapping[str, DeviceState]:
        """The state of every device as interfaces show it."""
        return shown(self.fleet.snapshot(), self.forced)

    def health(self) -> Health:
        """Figures about the core."""
        assert self.pulse is not None, "the core's first pulse comes before anybody asks"
        return self.pulse.health

    # -- up

    async def do(self, request: Request[P], actor: str) -> P:
        """The core's answer; it decides whether this actor may. Raises QxfleetError."""
        return cast(P, await self.call("do", do=request.do, args=request.arguments(), actor=actor))

    async def begin(self, request: Request[P], actor: str) -> P:
        """The first item of a stream; what it began goes on without us. Raises QxfleetError."""
        return cast(P, await self.call("begin", do=request.do, args=request.arguments(), actor=actor))

    async def record(
        self, actor: str, act: Act, target: str, name: str, outcome: str, *, value: str | None = None, text: str = ""
    ) -> bool:
        """Write down what somebody was refused or granted here."""
        entry = {"act": act.value, "target": target, "name": name, "outcome": outcome, "value": value, "text": text}
        return bool((await self.call("record", actor=actor, **entry)).get("stored"))

    async def token_used(self, name: str) -> None:
        """Have it noted when a token was used last."""
        await self.call("token-used", name=name)

    async def force(self, ups: str, actor: str) -> None:
        """Tell every NUT client of a UPS to shut down."""
        await self.do(requests.Force(ups), actor)

    async def call(self, kind: str, **message: Any) -> dict[str, Any]:
        """One message up that is answered. Raises QxfleetError."""
        key = next(self._keys)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            self.say(kind, key=key, **message)
            async with asyncio.timeout(ANSWER_S):
                return await future
        except TimeoutError:
            raise QxfleetError(f"no answer from the core within {ANSWER_S:g} s") from None
        finally:
            del self._waiting[key]

    def say(self, kind: str, **message: Any) -> None:
        """One message up."""
        self._writer.write(up({"kind": kind, **message}))

    def tell(self, event: Event) -> None:
        """Have the core publish an event of ours."""
        severity, phase = int(event.severity), event.phase.value
        self.say("event", name=event.name, value=event.value, text=event.text, severity=severity, phase=phase)

    def tell_logins(self, upses: Sequence[str]) -> None:
        """Who is logged in to the NUT server, if that is other than before."""
        serving = self.forced.serving
        found = None if serving is None else {
            ups: [[client.user, client.address] for client in clients] for ups in upses if (clients := list(serving(ups)))
        }  # fmt: skip
        if found != self._told_logins:
            self._told_logins = found
            self.say("logins", logins=found)

    # -- down

    async def keep_up(self, apply: Callable[[Config], None]) -> None:
        """Take what comes until the core is gone or says to end. ``apply`` is called with a new configuration."""
        while True:
            try:
                message = await next_down(self._reader)
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            match message:
                case News():
                    self._take(message)
                case Pulse():
                    self._beat(message)
                case ("events", events):
                    for event in events:
                        self.bus.hand_out(event)
                case ("answer", key, result, refused):
                    self._answer(key, result, refused)
                case Config():
                    self._use(message)
                    apply(message)
                case "end":
                    return

    def _use(self, config: Config) -> None:
        self.config = config
        self.fleet.by_name = {options.name: options for options in config.ups}

    def _take(self, news: News) -> None:
        states = self.fleet.states
        for state in news.states:
            states[state.name] = state
        for each in news.quick:
            states[each[0]] = with_quick(states[each[0]], each)
        if news.order is not None:
            kept = {name: states[name] for name in news.order}
            states.clear()
            states.update(kept)
        if news.abilities is not None:
            self.fleet.abilities.update(news.abilities)
        if news.forced is not None:
            self.forced.mirror(news.forced)
        self._see_whether_begun()

    def _see_whether_begun(self) -> None:
        if self.pulse is not None and self.fleet.states.keys() >= self.fleet.by_name.keys():
            self.begun.set()

    def _await_pulse(self) -> None:
        """Begin to wait for the next pulse; until it comes everything is as fresh as it was told."""
        if self._silent is not None:
            self._silent.cancel()
        if self.fleet.stale is not None:
            self.fleet.stale = None
            log.warning("the core speaks again: states are as it tells them")
        loop = asyncio.get_running_loop()
        self._silent = loop.call_later(CORE_SILENT_S, lambda: setattr(self, "_silent", loop.call_later(DOUBT_S, self._doubt)))

    def _doubt(self) -> None:
        reason = f"the agent's core says nothing for {CORE_SILENT_S + DOUBT_S:g} s"
        log.error("%s: it hangs, every UPS is shown as stale, and nothing is acted on until it speaks again", reason)
        self.fleet.doubt(reason)

    def _beat(self, pulse: Pulse) -> None:
        self._await_pulse()
        self.pulse, self.plan = pulse, pulse.plan
        self.store.last = pulse.store
        self.fleet.pace, self.fleet.counts = pulse.pace, pulse.polls
        self.say("alive", number=pulse.number)
        self._see_whether_begun()
        self.tell_logins(tuple(self.fleet.states))

    def _answer(self, key: int, result: dict[str, Any] | None, refused: tuple[type[QxfleetError], str] | None) -> None:
        future = self._waiting.get(key)
        if future is None or future.done():
            return
        if refused is None:
            future.set_result(result or {})
            return
        kind, text = refused
        try:
            future.set_exception(kind(text))
        except TypeError:  # one that is made of more than its text
            future.set_exception(QxfleetError(text))


def _result(document: OrderTold) -> OrderResult:
    return OrderResult(
        document["ups"], document["name"], document["value"], Outcome(document["outcome"]), document["reply"],
        sent=document["sent"], text=document["text"],
    )  # fmt: skip

