"""The one shape of every link: serial, TCP, USB, in-process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from qxfleet.errors import LinkLost
from qxfleet.model.wire import QUIET_S, Ask


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """What an open link knows of itself. ``path`` is the real device behind a link or name, for messages and fingerprints.

    ``facts`` are variables it can tell by itself: the ids of a USB device.
    """

    path: str
    detail: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


class Transport(Protocol):
    """A link to one device, owned by one coroutine. Made closed; may be opened again after it was closed."""

    label: str
    """The port as configured, for messages."""

    on_lost: Callable[[LinkLost], None] | None = None
    """Called, at most once per opening, when the link goes away while nothing is under way on it; otherwise that raises."""

    on_healed: Callable[[str, int, str], None] | None = None
    """Called with (remedy, how often it was used, what happened) when the link mended itself; a link that can't never calls."""

    async def open(self) -> LinkInfo:
        """Open the link. Raises LinkUnavailable or LinkTimeout."""
        ...

    async def exchange(self, ask: Ask) -> bytes:
        """Throw away what is waiting, send ``ask.request``, return one reply without its end byte.

        Raises ReplyTimeout (``frame`` holds bytes that came without an end byte), ReplyMalformed (``long``), LinkLost; a USB
        bridge that will not even take the request raises ReplyRefused (``stall``).
        """
        ...

    def start(self, ask: Ask, then: Callable[[bytes | BaseException], None], *, calm: bool = False) -> bool:
        """An exchange without a coroutine: ``then`` is called with what :meth:`exchange` would return or raise.

        ``calm``: nobody is in a hurry, so on a slow line the reply may be taken together with those of others.
        False, and nothing was sent, where more is needed first than to send and to wait, or where the link has no such way.
        """
        return False

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Read and throw away until the line was quiet for QUIET_S; returns the number of bytes thrown away.

        ``listen_s``: how long to wait for the first byte, at most about two seconds. Raises LinkLost.
        """
        ...

    async def close(self) -> None:
        """Close the link; never raises, takes at most two seconds, may be called twice."""
        ...
