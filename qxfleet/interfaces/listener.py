"""Listening with limits: how many may be connected, how many from one address, and who goes when it is full.

Places are counted at ``accept``. Where all are taken the client that has been silent longest makes room; where nobody is silent
the new one is hung up on. So a flood costs the flooder its own connections first, and never the descriptors of anybody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from qxfleet.config.access import Listen
from qxfleet.errors import CannotListen
from qxfleet.interfaces.listening import bound_sockets

log = logging.getLogger(__name__)
service = logging.getLogger("qxfleet")

BACKLOG = 256
ACCEPTED_AT_ONCE = 64
"""Connections taken in one go; then others have their turn."""

HANDSHAKE_S = 10.0
"""For TLS from the first byte."""

RETRY_S = 5.0
"""Between two tries of an address that somebody else has."""

BREATH_S = 0.5
"""No accept for so long where the process has no descriptor left."""

KEPT_FREE = 128
"""Descriptors that connections leave to everything else of the process."""


class Guest(Protocol):
    """One client's protocol, also one of asyncio's. The listener sets its ``place`` before the connection is made; the guest
    calls :meth:`Place.touch` for every request, and :meth:`Place.left` when the connection is lost."""

    place: Place

    @property
    def silent(self) -> bool:
        """Whether it may be hung up on to make room: nothing of it is under way, and it is not logged in."""

    def abort(self) -> None:
        """Hang up now."""


class Place:
    """One of the connections that a listener has."""

    __slots__ = ("_listener", "address", "guest", "opening")

    def __init__(self, listener: Listener, address: str) -> None:
        self._listener = listener
        self.address = address
        self.guest: Guest | None = None
        self.opening: asyncio.Task[None] | None = None

    @property
    def silent(self) -> bool:
        """A handshake counts as silence."""
        return self.guest is None or self.guest.silent

    def touch(self) -> None:
        """The client asked something: it is the last to be called silent."""
        self._listener.touch(self)

    def left(self) -> None:
        """Its connection is lost; no error to say so twice."""
        self._listener.leave(self)

    def clear(self) -> None:
        """Hang up; the place is free when the connection is gone."""
        if self.guest is not None:
            self.guest.abort()
        elif self.opening is not None:
            self.opening.cancel()


class Listener:
    """Lets clients in at some addresses, each with a protocol from ``make``: one of asyncio's, and a :class:`Guest`.

    ``most`` connections, ``most_of_address`` of them from one address. An address that can't be had is tried again and told by
    ``trouble``, with None when it is mended.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Guest],
        *,
        most: int,
        most_of_address: int,
        trouble: Callable[[Listen, CannotListen | None], None] = lambda listen, error: None,
    ) -> None:
        self._name = name
        self._make = make
        self._most, self._most_of_address = most, most_of_address
        self._trouble = trouble
        self._sockets: list[socket.socket] = []
        self._trying: set[asyncio.Task[None]] = set()
        self._places: OrderedDict[Place, None] = OrderedDict()
        self._by_address: dict[str, OrderedDict[Place, None]] = {}
        self._leaving: set[Place] = set()
        self._accepting = False
        self._holding: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.tls: ssl.SSLContext | None = None
        """TLS from the first byte, for connections from now on."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def room(self) -> int:
        """Connections at the same time: what is wanted, or what the process's descriptors allow."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return max(1, min(self._most, (soft - KEPT_FREE) // 2))

    # -- addresses

    async def open(self, addresses: Sequence[Listen], *, accept: bool = True) -> None:
        """Listen at every address that can be had; the others come when they can be. Without ``accept``, clients wait for
        :meth:`accept`."""
        self._accepting = accept
        for listen in addresses:
            try:
                await self._open(listen)
            except CannotListen as error:
                log.error("%s; trying again every %g s", error, RETRY_S)
                self._trouble(listen, error)
                task = asyncio.get_running_loop().create_task(self._open_later(listen), name=f"{self._name} {listen}")
                self._trying.add(task)
                task.add_done_callback(self._trying.discard)

    def accept(self) -> None:
        """Let clients in from now on."""
        if not self._accepting:
            self._accepting = True
            self._resume()

    def close(self) -> None:
        """Listen no more; who is connected stays."""
        self._accepting = False
        for task in self._trying:
            task.cancel()
        self._pause()
        for each in self._sockets:
            each.close()
        self._sockets.clear()

    async def clear(self, within_s: float = 0.5) -> None:
        """Hang up on everyone."""
        for place in list(self._places):
            place.clear()
        opening = [place.opening for place in self._places if place.opening is not None]
        if opening:
            await asyncio.wait(opening, timeout=within_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._empty.wait()

    async def _open(self, listen: Listen) -> None:
        for each in await bound_sockets(self._name, listen):
            try:
                each.listen(BACKLOG)
            except OSError as error:  # another one was faster between bind and listen
                each.close()
                raise CannotListen(self._name, str(listen), error.strerror or str(error), "stop who listens there") from None
            self._sockets.append(each)
            if self._accepting:
                asyncio.get_running_loop().add_reader(each, self._accept, each)
        service.info("%s: listening on %s", self._name, listen)

    async def _open_later(self, listen: Listen) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(CannotListen):
                await self._open(listen)
                self._trouble(listen, None)
                return

    def _pause(self, seconds: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        for each in self._sockets:
            loop.remove_reader(each)
        if self._holding is not None:
            self._holding.cancel()
        self._holding = None if seconds is None else loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._holding = None
        for each in self._sockets:
            asyncio.get_running_loop().add_reader(each, self._accept, each)

    # -- connections

    def touch(self, place: Place) -> None:
        """Put a place last among the silent ones."""
        if place in self._places:
            self._places.move_to_end(place)
            self._by_address[place.address].move_to_end(place)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if len(self._leaving) >= ACCEPTED_AT_ONCE:
                return self._pause(0.0)  # those who make room have to be gone first
            try:
                link, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("%s: no connection can be taken: %s", self._name, error.strerror)
                return self._pause(BREATH_S)
            link.setblocking(False)
            self._welcome(link, str(peer[0]).partition("%")[0].removeprefix("::ffff:"))

    def _welcome(self, link: socket.socket, address: str) -> None:
        of_address = self._by_address.get(address, OrderedDict())
        crowd: OrderedDict[Place, None] | None = None
        if len(of_address) >= min(self._most_of_address, self.room):
            crowd = of_address
        elif len(self._places) - len(self._leaving) >= self.room:
            crowd = self._places
        if crowd is not None and not self._make_room(crowd):
            link.close()
            log.warning("%s: a connection from %s was refused: nobody is silent", self._name, address)
            return
        place = Place(self, address)
        self._places[place] = None
        self._empty.clear()
        self._by_address.setdefault(address, OrderedDict())[place] = None
        place.opening = asyncio.get_running_loop().create_task(self._connect(link, place))
        place.opening.add_done_callback(lambda opening: self._opened(opening, link, place))

    def _make_room(self, among: OrderedDict[Place, None]) -> bool:
        """Hang up on who has been silent longest; False if nobody is."""
        leaving = self._leaving
        place = next((each for each in among if each.silent and each not in leaving), None)
        if place is None:
            return False
        leaving.add(place)
        place.clear()
        log.warning("%s: all places are taken: the connection silent longest, of %s, makes room", self._name, place.address)
        return True

    async def _connect(self, link: socket.socket, place: Place) -> None:
        loop, tls = asyncio.get_running_loop(), self.tls

        def made() -> asyncio.BaseProtocol:
            guest = self._make()
            guest.place = place
            place.guest = guest
            assert isinstance(guest, asyncio.BaseProtocol)
            return guest

        limit_s = None if tls is None else HANDSHAKE_S
        await loop.connect_accepted_socket(made, link, ssl=tls, ssl_handshake_timeout=limit_s)

    def _opened(self, opening: asyncio.Task[None], link: socket.socket, place: Place) -> None:
        """A connection is made; or there was no handshake, or it had to make room before."""
        place.opening = None
        error = None if opening.cancelled() else opening.exception()
        if isinstance(error, ssl.SSLError):
            log.info("%s: no TLS with %s: %s", self._name, place.address, error.reason or error)
        elif error is not None and not isinstance(error, OSError):
            log.error("%s: a connection ended by an error of ours", self._name, exc_info=error)
        if opening.cancelled() or error is not None:
            link.close()
            self.leave(place)

    def leave(self, place: Place) -> None:
        """A place is free."""
        self._leaving.discard(place)
        if place not in self._places:
            return
        del self._places[place]
        of_address = self._by_address[place.address]
        del of_address[place]
        if not of_address:
            del self._by_address[place.address]
        if not self._places:
            self._empty.set()

    def guests(self) -> Iterator[Guest]:
        """Who is connected, the one silent longest first."""
        return (place.guest for place in self._places if place.guest is not None)
