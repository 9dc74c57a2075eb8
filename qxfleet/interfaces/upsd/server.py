"""The NUT server as a part of the agent: listening, turns, idle drop, and an end in time."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import TYPE_CHECKING

from qxfleet.agent.forced import Client
from qxfleet.config.faces import Face
from qxfleet.errors import CannotListen
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.listener import Listener
from qxfleet.interfaces.listening import Stamp, certified, changed, stamp, trouble_of
from qxfleet.interfaces.upsd.board import Board
from qxfleet.interfaces.upsd.commands import Commands
from qxfleet.interfaces.upsd.connection import Connection
from qxfleet.interfaces.upsd.orders import Orders, Peer

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

log = logging.getLogger(__name__)

MOST_CLIENTS = 4096
"""Connections at the same time; for one more, the one that is silent longest and not logged in makes room."""

MOST_OF_ADDRESS = 2560
"""Of them from one address: a monitoring host, or the fleet behind one router, and not all there are."""

IDLE_S = 60.0
"""A client that asks nothing for this long is dropped, as upsd does."""

SWEEP_S = 5.0
SLICE_S = 0.002
"""Requests are answered for so long, then timers and ports have their turn: polls must not wait for clients."""

READ_BYTES = 16 * 1024


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
        self._stamp: Stamp = ()
        self._listener = Listener(
            "nut", lambda: Connection(self), most=MOST_CLIENTS, most_of_address=MOST_OF_ADDRESS,
            trouble=trouble_of(agent, "nut"),
        )  # fmt: skip
        self._ready: deque[Connection] = deque()
        self._draining = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._moving: asyncio.Task[None] | None = None

    # -- a part of the agent

    async def start(self) -> None:
        """Listen, if ``[nut]`` is there."""
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
        for connection in self._connections():
            connection.hang_up()
        await self._orders.end()
        await asyncio.sleep(0)
        await self._listener.clear()

    def apply(self, config: Config) -> list[str]:
        """Listen where the new configuration says, with its certificate; clients of an address that stays are kept."""
        self._board.renew()
        for connection in self._connections():
            if connection.peer.login not in self._agent.fleet.snapshot():
                connection.peer.login = ""
            proven = connection.peer.proven
            user = self._accounts.user(proven.name) if proven is not None else None
            if proven is not None and (user is None or (user.kept, user.upsmon) != (proven.kept, proven.upsmon)):
                connection.hang_up()
        face = config.faces.nut
        if face is not None and face == self._face:
            self._take_certificate(face)  # the files may be new though their names are not
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
        self._face = face
        await self._listener.open(face.listen)
        self._agent.forced.serve(self._clients_of)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _close(self) -> None:
        self._listener.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._face is not None:
            self._agent.forced.serve(None)
        self._face = None

    async def _move(self, face: Face) -> None:
        """Listen elsewhere."""
        for connection in self._connections():
            connection.hang_up()
        await self._listen(face)

    def _take_certificate(self, face: Face) -> None:
        """Use the certificate as its files have it now; one that can't be used leaves the one of before."""
        self._stamp = stamp(face.tls)
        try:
            self.tls_context = certified(face.tls) if face.tls else None
        except CannotListen as error:
            log.error("nut: %s; %s", error, "the certificate of before stays in use" if self.tls_context else "STARTTLS is off")
        self.commands.tls = self.tls_context is not None

    # -- clients

    def _connections(self) -> list[Connection]:
        """Everyone, the one idle longest first."""
        return [guest for guest in self._listener.guests() if isinstance(guest, Connection)]

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
        if self._face is not None and changed(self._face.tls, self._stamp):
            self._take_certificate(self._face)
        now_s = loop.time()
        for connection in self._connections():
            if connection.active_s > now_s - IDLE_S:
                return
            if connection.idle:
                connection.abort()

    def _logged_in(self, ups: str) -> list[Peer]:
        return [connection.peer for connection in self._connections() if connection.peer.login == ups]

    def _clients_of(self, ups: str) -> list[Client]:
        return [peer.client for peer in self._logged_in(ups)]
