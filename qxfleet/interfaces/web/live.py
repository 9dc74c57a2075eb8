"""What pages and programs are told as it happens, by server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from starlette.responses import StreamingResponse

from qxfleet.agent.agent import Agent
from qxfleet.api.responses import EventItem
from qxfleet.api.shapes import event_shape
from qxfleet.interfaces.turns import in_turns
from qxfleet.interfaces.web.problems import Problem
from qxfleet.interfaces.web.words import tone, words
from qxfleet.model.clock import iso
from qxfleet.model.events import Event
from qxfleet.model.state import DeviceState
from qxfleet.model.status import status_text
from qxfleet.store import history

MOST_STREAMS = 100
"""Streams at the same time; a page holds one."""

MOST_OF_ONE = 20
"""Of them for one user; for one address where nobody logs in."""
EVERY_S = 1.0
"""How often changes of the fleet are looked for, while somebody listens."""

QUIET_S = 5.0
"""A stream that has nothing to say shows after so long that it lives; and it is looked whether who listens still may."""

Still = Callable[[], Awaitable[bool]]
"""Whether a listener may go on listening."""

STORED_WITHIN_S = 1.0
"""How long an event waits for its commit before it is told without a number."""

LONGEST_WAIT = 30
"""Messages of the fleet that a slow listener may leave waiting."""

BACKLOG = 1000
NOTHING = b": nothing new\n\n"
SUMMARY = (
    "input.voltage", "output.voltage", "ups.load", "battery.charge", "battery.runtime", "battery.voltage", "ups.temperature",
)  # fmt: skip
"""Variables of the overview."""


def summary(name: str, state: DeviceState) -> dict[str, Any]:
    """One UPS as the overview shows it."""
    reading = state.reading
    return {
        "name": name,
        "state": state.link.value,
        "reason": state.link_reason,
        "status": status_text(state.status) if reading else "",
        "words": words(state),
        "tone": tone(state),
        "alarms": list(state.alarms),
        "at": iso(reading.wall_us) if reading else None,
        "values": {each: reading.values[each] for each in SUMMARY if each in reading.values} if reading else {},
    }


class Live:
    """Hands changes out to whoever listens; looks at nothing while nobody does."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._listeners: dict[asyncio.Event, str] = {}
        self._waiting: dict[asyncio.Event, deque[bytes]] = {}
        self._ticking: asyncio.Task[None] | None = None
        self._closing = False

    def close(self) -> None:
        """End every stream."""
        self._closing = True
        if self._ticking is not None:
            self._ticking.cancel()
        for woken in self._listeners:
            woken.set()

    def check_room(self, who: str) -> None:
        """Raises Problem 503 where there is no place for another stream of this listener."""
        theirs = sum(each == who for each in self._listeners.values())
        if len(self._listeners) >= MOST_STREAMS or theirs >= MOST_OF_ONE:
            most = f"{MOST_OF_ONE} of yours" if theirs >= MOST_OF_ONE else str(MOST_STREAMS)
            raise Problem(503, "busy", f"{most} streams are open already: close one", headers={"Retry-After": "10"})

    async def fleet(self, who: str) -> AsyncIterator[bytes]:
        """``ups`` messages: a summary of every UPS, then of those whose state is new, at most once a second.

        However many listen, the work is done once.
        """
        with self._listening(who) as woken:
            waiting: deque[bytes] = deque([await self._summaries(self._agent.shown())], maxlen=LONGEST_WAIT)
            self._waiting[woken] = waiting
            if self._ticking is None:
                self._ticking = asyncio.create_task(self._tick(), name="fleet stream")
            try:
                while not self._closing:
                    woken.clear()
                    if len(waiting) == LONGEST_WAIT:
                        return  # too slow: it comes back, and begins with everything
                    while waiting:
                        yield waiting.popleft()
                    if not await _wait(woken, QUIET_S):
                        yield NOTHING
            finally:
                del self._waiting[woken]

    async def _tick(self) -> None:
        """Hand changes to everybody who listens, until nobody does."""
        before = dict(self._agent.shown())
        while self._waiting and not self._closing:
            await asyncio.sleep(EVERY_S)
            states = dict(self._agent.shown())
            news = {name: state for name, state in states.items() if before.get(name) is not state}
            gone = [name for name in before if name not in states]
            before = states
            if news or gone:
                told = await self._summaries(news, gone)
                for woken, waiting in self._waiting.items():
                    waiting.append(told)
                    woken.set()
        self._ticking = None

    async def _summaries(self, states: Mapping[str, DeviceState], gone: Collection[str] = ()) -> bytes:
        time, shown = iso(self._agent.clock.wall_us()), dict(states)
        upses = await in_turns(_compact(summary(name, state)) for name, state in shown.items())
        data = f'{{"time":{_compact(time)},"gone":{_compact(list(gone))},"ups":[{",".join(upses)}]}}'
        return f"event: ups\ndata: {data}\n\n".encode()

    async def events(self, after_id: int | None, names: Collection[str] | None, who: str) -> AsyncIterator[bytes]:
        """``event`` messages with the event's number as their id: those recorded after ``after_id`` (None: from now on).

        An event that the database does not take in time is told without a number rather than late.
        """
        heard: deque[Event] = deque(maxlen=BACKLOG)
        with self._listening(who) as woken:

            def hear(event: Event) -> None:
                heard.append(event)
                woken.set()

            self._agent.bus.attach(Event, hear)
            try:
                if after_id is None:
                    last = await self._agent.store.read(lambda connection: history.events(connection, limit=1))
                    after_id = last[0].id if last else 0
                yield b": following\n\n"
                while not self._closing:
                    woken.clear()
                    if heard and not await self._agent.store.settled(STORED_WITHIN_S):
                        for event in heard:
                            if names is None or event.ups in names:
                                yield message("event", event_document(None, event))
                    heard.clear()
                    found = await self._recorded(after_id, names)
                    for stored in found:
                        yield message("event", event_document(stored.id, stored.event), stored.id)
                        after_id = stored.id
                    if len(found) < BACKLOG and not await _wait(woken, QUIET_S):
                        yield NOTHING
            finally:
                self._agent.bus.detach(Event, hear)

    async def _recorded(self, after_id: int, names: Collection[str] | None) -> list[history.StoredEvent]:
        return await self._agent.store.read(
            lambda connection: history.events(connection, names, limit=BACKLOG, after_id=after_id)
        )

    @contextmanager
    def _listening(self, who: str) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        self._listeners[woken] = who
        try:
            yield woken
        finally:
            del self._listeners[woken]


async def _wait(woken: asyncio.Event, seconds: float) -> bool:
    """Wait until woken, at most so long; whether it was."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return False
    return True


async def _reviewed(items: AsyncIterator[bytes], still: Still) -> AsyncIterator[bytes]:
    reviewed_s = time.monotonic()
    async for item in items:
        if time.monotonic() - reviewed_s >= QUIET_S - 1.0:
            if not await still():
                return
            reviewed_s = time.monotonic()
        yield item


def event_document(number: int | None, event: Event) -> EventItem:
    """One event of the API."""
    return {"id": number, **event_shape(event), "severity": int(event.severity), "phase": event.phase.value}


def message(kind: str, document: object, number: int | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {kind}\n" if number is None else f"event: {kind}\nid: {number}\n"
    return f"{head}data: {_compact(document)}\n\n".encode()


def _compact(document: object) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def stream(items: AsyncIterator[bytes], still: Still) -> StreamingResponse:
    """The response of a stream, for as long as its listener may listen; proxies are told to pass it on as it comes."""
    return StreamingResponse(_reviewed(items, still), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
