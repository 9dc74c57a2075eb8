"""Bounded fan-out of what was seen and what happened."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

Sink = Callable[[Any], None]


class Subscription:
    """What one slow listener has not taken yet; at most ``limit`` items, then the oldest go and ``dropped`` counts them."""

    def __init__(self, limit: int) -> None:
        self.dropped = 0
        self._items: deque[Any] = deque(maxlen=limit)
        self._ready = asyncio.Event()

    def put(self, item: Any) -> None:
        """Add an item; never blocks."""
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._ready.set()

    def take(self) -> list[Any]:
        """Everything that waits now."""
        items = list(self._items)
        self._items.clear()
        return items

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            await self._ready.wait()
            while self._items:
                yield self._items.popleft()
            self._ready.clear()


class Bus:
    """Hands every published item to the sinks of its type, in order of attachment."""

    def __init__(self) -> None:
        self._sinks: dict[type, tuple[Sink, ...]] = {}

    def attach(self, kind: type, sink: Sink) -> None:
        """Call ``sink`` with every item of exactly this type; a sink must be quick and must not raise."""
        self._sinks[kind] = (*self._sinks.get(kind, ()), sink)

    def detach(self, kind: type, sink: Sink) -> None:
        """Stop calling ``sink``; no error if it was not attached."""
        self._sinks[kind] = tuple(each for each in self._sinks.get(kind, ()) if each != sink)

    def publish(self, item: Any) -> None:
        """Hand an item out; never blocks."""
        for sink in self._sinks.get(type(item), ()):
            sink(item)

    def subscribe(self, *kinds: type, limit: int) -> Subscription:
        """A queue of the items of these types, for a listener with its own pace."""
        subscription = Subscription(limit)
        for kind in kinds:
            self.attach(kind, subscription.put)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription."""
        for kind in self._sinks:
            self.detach(kind, subscription.put)
