"""The NUT server as a part of the agent: listening, turns, idle drop, and an end in time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qxfleet.agent.forced import Client
from qxfleet.config.faces import Face, Tls
from qxfleet.errors import CannotListen
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.listening import bound_sockets
from qxfleet.interfaces.upsd.board import Board
from qxfleet.interfaces.upsd.commands import Commands
from qxfleet.interfaces.upsd.connection import Connection
from qxfleet.interfaces.upsd.orders import Orders, Peer

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

log = logging.getLogger(__name__)

MOST_CLIENTS = 4096
"""Connections at the same time; for one more, the one that is idle longest and not logged in makes room."""

IDLE_S = 60.0
"""A client that asks nothing for this long is dropped, as upsd does."""

SWEEP_S = 5.0
SLICE_S = 0.002
"""Requests are answered for so long, then timers and ports have their turn: polls must not wait for clients."""

BACKLOG = 1024
READ_BYTES = 16 * 1024
RETRY_S = 5.0


class NutServer:
    """Serves the fleet at the addresses of ``[nut]``; a part of the agent. Off where the table is absent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        accounts = agent.part(Accounts)
        assert accounts is not None, "Accounts is a part that comes before"
        self._accounts = accounts
        self.tls_context: ssl.SSLContext | None = None
        self.buffer = memoryview(bytearray(READ_BYTES))
        self._face: Face | None = None
        self._servers: list[asyncio.Server] = []
        self._connections: OrderedDict[Connection, None] = OrderedDict()
        self._ready: deque[Connection] = deque()
        self._draining = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._moving: asyncio.Task[None] | None = None

    # -- a part of the agent

    async def start(self) -> None:
        """Listen, if ``[nut]`` is there. Raises CannotListen."""
        self._board = Board(self._agent.fleet, self._agent.forced)
        self._orders = Orders(self._agent, self._accounts, self._board)
        self.commands = Commands(self._board, self._orders, self._logged_in)
        face = self._agent.config.faces.nut
        if face is not None:
            await self._listen(face)

    async def stop(self) -> None:
        """Hang up on everyone; what was begun for them is written down."""
        if self._moving is not None:
            self._moving.cancel()
        self._close()
        for connection in list(self._connections):
            connection.hang_up()
        await self._orders.end()
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.abort()

    def apply(self, config: Config) -> list[str]:
        """Listen where the new configuration says, with its certificate; clients of an address that stays are kept."""
        self._board.renew()
        for connection in self._connections:
            if connection.peer.login not in self._agent.fleet.snapshot():
                connection.peer.login = ""
        face = config.faces.nut
        if face is not None and face == self._face:
            try:
                self._take_certificate(face)  # the files may be new though their names are not
            except CannotListen as error:
                log.error("%s; the certificate of before stays in use", error)
        if face == self._face:
            return []
        if self._moving is not None:
            self._moving.cancel()
        self._close()
        self._moving = asyncio.get_running_loop().create_task(self._move(face)) if face else None
        return [f"[nut]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}"]

    # -- listening

    async def _listen(self, face: Face) -> None:
        self._take_certificate(face)
        sockets = []
        try:
            for listen in face.listen:
                sockets += await bound_sockets("nut", listen)
        except CannotListen:
            for each in sockets:
                each.close()
            raise
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._servers.append(await loop.create_server(lambda: Connection(self), sock=each, backlog=BACKLOG))
        self._face = face
        self._agent.forced.serve(self._clients_of)
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        log.info("nut: listening on %s", ", ".join(map(str, face.listen)))

    def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._face is not None:
            self._agent.forced.serve(None)
        self._face = None

    async def _move(self, face: Face) -> None:
        """Listen elsewhere; an address that is taken is tried again until it is free."""
        for connection in list(self._connections):
            connection.hang_up()
        while True:
            try:
                return await self._listen(face)
            except CannotListen as error:
                log.error("%s; trying again in %g s", error, RETRY_S)
                await asyncio.sleep(RETRY_S)

    def _take_certificate(self, face: Face) -> None:
        self.tls_context = _context(face.tls) if face.tls else None
        self.commands.tls = self.tls_context is not None

    # -- clients

    def welcome(self, connection: Connection) -> None:
        """A new connection; another one, or itself, goes where there are too many."""
        self._connections[connection] = None
        if len(self._connections) > MOST_CLIENTS:
            idle = (each for each in self._connections if each.idle and not each.peer.login)
            next(idle, connection).abort()

    def forget(self, connection: Connection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)

    def touched(self, connection: Connection) -> None:
        """A connection asked something: it is the last to be called idle."""
        if connection in self._connections:
            self._connections.move_to_end(connection)

    def queue(self, connection: Connection) -> None:
        """Give a connection its turn when it comes."""
        if not connection.queued:
            connection.queued = True
            self._ready.append(connection)
            if not self._draining:
                self._draining = True
                asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Turns in order of arrival, for one slice of time."""
        clock = asyncio.get_running_loop().time
        now_s = clock()
        until_s = now_s + SLICE_S
        ready = self._ready
        while ready:
            connection = ready.popleft()
            connection.queued = False
            try:
                more = connection.turn(now_s)
            except Exception:  # a bug of ours ends this connection, never the server
                log.exception("a request of %s ended by an error that is ours", connection.peer.address)
                connection.abort()
                more = False
            if more:
                connection.queued = True
                ready.append(connection)
            now_s = clock()
            if now_s > until_s:
                break
        self._draining = bool(ready)
        if ready:
            asyncio.get_running_loop().call_soon(self._drain)

    def _sweep(self) -> None:
        """Drop who asked nothing for too long; the longest idle come first."""
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        now_s = loop.time()
        for connection in list(self._idle_since(now_s - IDLE_S)):
            connection.abort()

    def _idle_since(self, before_s: float) -> Iterator[Connection]:
        for connection in self._connections:
            if connection.active_s > before_s:
                return
            if connection.idle:
                yield connection

    def _logged_in(self, ups: str) -> list[Peer]:
        return [connection.peer for connection in self._connections if connection.peer.login == ups]

    def _clients_of(self, ups: str) -> list[Client]:
        return [peer.client for peer in self._logged_in(ups)]


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise CannotListen("nut", "with TLS", f"{tls.cert} and {tls.key}: {reason}", "correct cert and key") from None
    return context
