"""What pages and programs are told as it happens, by server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager

from starlette.responses import StreamingResponse

from qxfleet.agent.agent import Agent
from qxfleet.interfaces.shapes import Document
from qxfleet.interfaces.web.problems import Problem
from qxfleet.interfaces.web.words import tone, words
from qxfleet.model.clock import iso
from qxfleet.model.events import Event
from qxfleet.model.state import DeviceState
from qxfleet.model.status import status_text
from qxfleet.store import history

MOST_STREAMS = 100
"""Streams at the same time; a page holds one."""

EVERY_S = 1.0
"""How often changes of the fleet are looked for, while somebody listens."""

QUIET_S = 15.0
"""A stream that has nothing to say shows after so long that it lives."""

STORED_WITHIN_S = 1.0
"""How long an event waits for its commit before it is told without a number."""

BACKLOG = 1000
NOTHING = b": nothing new\n\n"
SUMMARY = (
    "input.voltage", "output.voltage", "ups.load", "battery.charge", "battery.runtime", "battery.voltage", "ups.temperature",
)  # fmt: skip
"""Variables of the overview."""


def summary(name: str, state: DeviceState) -> Document:
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
        self._listeners: set[asyncio.Event] = set()
        self._closing = False

    def close(self) -> None:
        """End every stream."""
        self._closing = True
        for woken in self._listeners:
            woken.set()

    def check_room(self) -> None:
        """Raises Problem 503 where there is no place for another stream."""
        if len(self._listeners) >= MOST_STREAMS:
            raise Problem(503, "busy", f"{MOST_STREAMS} streams are open already: close one", headers={"Retry-After": "10"})

    async def fleet(self) -> AsyncIterator[bytes]:
        """``ups`` messages: the summaries of those UPSes whose state is new, at most once a second; first of all."""
        sent: dict[str, DeviceState] = {}
        quiet_s = 0.0
        with self._listening() as woken:
            while not self._closing:
                states = self._agent.fleet.snapshot()
                news = [summary(name, state) for name, state in states.items() if sent.get(name) is not state]
                gone = [name for name in sent if name not in states]
                sent = dict(states)
                quiet_s += EVERY_S
                if news or gone:
                    yield message("ups", {"time": iso(self._agent.clock.wall_us()), "ups": news, "gone": gone})
                    quiet_s = 0.0
                elif quiet_s >= QUIET_S:
                    yield NOTHING
                    quiet_s = 0.0
                await _wait(woken, EVERY_S)

    async def events(self, after_id: int | None, names: Collection[str] | None) -> AsyncIterator[bytes]:
        """``event`` messages with the event's number as their id: those recorded after ``after_id`` (None: from now on).

        An event that the database does not take in time is told without a number rather than late.
        """
        heard: deque[Event] = deque(maxlen=BACKLOG)
        with self._listening() as woken:

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
    def _listening(self) -> Iterator[asyncio.Event]:
        woken = asyncio.Event()
        self._listeners.add(woken)
        try:
            yield woken
        finally:
            self._listeners.discard(woken)


async def _wait(woken: asyncio.Event, seconds: float) -> bool:
    """Wait until woken, at most so long; whether it was."""
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return False
    return True


def event_document(number: int | None, event: Event) -> Document:
    """One event of the API."""
    return {"id": number, **event.as_json(), "severity": int(event.severity), "phase": event.phase.value}


def message(kind: str, document: Document, number: int | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {kind}\n" if number is None else f"event: {kind}\nid: {number}\n"
    return f"{head}data: {json.dumps(document, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()


def stream(items: AsyncIterator[bytes]) -> StreamingResponse:
    """The response of a stream; proxies are told to pass it on as it comes."""
    return StreamingResponse(items, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
