"""An HTTP server inside the agent's loop: uvicorn's protocol behind a listener with limits, and an end in time.

uvicorn is loaded when the first server starts, so that an agent without one stays small.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from email.utils import formatdate
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qxfleet.config.faces import Face
from qxfleet.errors import CannotListen
from qxfleet.interfaces.listener import Guest, Listener, Place
from qxfleet.interfaces.listening import Stamp, certified, changed, stamp, trouble_of

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""An ASGI application."""

MOST_CONNECTIONS = 500
"""Connections at the same time; for one more, the one that is silent longest makes room. A page holds two."""

MOST_OF_ADDRESS = 300
"""Of them from one address: one behind which many sit has room, and leaves some."""

IDLE_S = 15
"""A kept connection that asks nothing for this long is closed: Prometheus asks every 15 s as a rule, and opens another."""

HEADERS_S = 10.0
"""From the connection, or the first byte behind an answer, to the end of a request's headers."""

BODY_S = 20.0
"""From there to the end of its body: 64 KiB at most."""

UNTAKEN_S = 20.0
"""A client that takes nothing of an answer for this long is hung up on."""

SWEEP_S = 1.0
FINISH_S = 1
"""Answers under way when the agent stops have this long; streams are told to end before."""


async def load(module: str) -> Any:
    """A module that is heavy, on a thread, so that UPSes are polled meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, importlib.import_module, module)


class HttpServer:
    """Serves one application at the addresses of a face, until :meth:`stop`.

    It listens at once and answers when uvicorn and the application are loaded, which takes a second; the agent does not wait.
    ``make`` gives the application, ``packages`` are those it needs.
    """

    def __init__(self, agent: Agent, name: str, make: Callable[[], Awaitable[App]], packages: Collection[str]) -> None:
        self._name = name
        self._make = make
        self._packages = packages
        self._listener = Listener(
            name, self._guest, most=MOST_CONNECTIONS, most_of_address=MOST_OF_ADDRESS, trouble=trouble_of(agent, name)
        )
        self._connect: Callable[[], Guest] | None = None
        self._state: Any = None
        self._starting: asyncio.Task[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._stamp: Stamp = ()
        self.face: Face | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        if self.face is None:
            return ()
        scheme = "https" if self.face.tls else "http"
        return tuple(f"{scheme}://{listen}/" for listen in self.face.listen)

    async def start(self, face: Face) -> None:
        """Begin to listen. An address that can't be had is tried again; what else is missing keeps it off, and is told."""
        for package in ("uvicorn", *self._packages):
            if find_spec(package) is None:
                log.error("[%s] needs %s, which is not installed: pip install 'qxfleet[web]'; it stays off", self._name, package)
                return
        self.face = face
        if not self.take_certificate():
            log.error("[%s] stays off until its certificate can be used: correct it and reload", self._name)
            return
        await self._listener.open(face.listen, accept=False)
        self._starting = asyncio.create_task(self._serve(), name=f"{self._name} server")

    def take_certificate(self) -> bool:
        """Use the certificate as its files have it now; whether one can be used, where one is wanted."""
        if self.face is None or self.face.tls is None:
            return True
        self._stamp = stamp(self.face.tls)
        try:
            self._listener.tls = certified(self.face.tls)
        except CannotListen as error:
            log.error("%s: %s%s", self._name, error, "; the certificate of before stays in use" if self._listener.tls else "")
        return self._listener.tls is not None

    async def _serve(self) -> None:
        uvicorn, app = await load("uvicorn"), await self._make()
        config = uvicorn.Config(
            app, interface="asgi3", loop="none", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=IDLE_S,
        )  # fmt: skip
        for chatty in ("uvicorn.error", "uvicorn.access"):
            logging.getLogger(chatty).setLevel(logging.ERROR)
        config.load()
        state = self._state = (await load("uvicorn.server")).ServerState()
        connection = _bounded((await load("uvicorn.protocols.http.h11_impl")).H11Protocol)
        self._connect = lambda: connection(config, state, {})
        self._sweep()
        self._listener.accept()

    def _guest(self) -> Guest:
        assert self._connect is not None, "it listens when there is something to serve"
        return self._connect()

    def _sweep(self) -> None:
        """Hang up on who takes too long."""
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        if self.face is not None and changed(self.face.tls, self._stamp):
            self.take_certificate()
        now_s = loop.time()
        for guest in list(self._listener.guests()):
            if guest.late(now_s):  # type: ignore[attr-defined]
                guest.abort()

    async def stop(self) -> None:
        """Accept nothing more, finish the answers under way, hang up; about a second at most."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._listener.close()
        for guest in list(self._listener.guests()):
            guest.shutdown()  # type: ignore[attr-defined]
        tasks = set(self._state.tasks) if self._state is not None else set()
        if tasks:
            await asyncio.wait(tasks, timeout=FINISH_S)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)
        await self._listener.clear()
        self._listener.tls = None
        self._starting = self._state = self.face = None

    async def move(self, face: Face | None) -> None:
        """Serve at another face's addresses, or nowhere."""
        await self.stop()
        if face is not None:
            await self.start(face)


def _bounded(h11_protocol: Any) -> Any:
    """uvicorn's protocol, with limits of time for what a client sends and takes."""
    import h11

    class Bounded(h11_protocol):  # type: ignore[misc]
        """Also a guest of a listener. ``_due_s``: when what the client is sending has to be complete; None: it need not send."""

        place: Place
        _due_s: float | None = None
        _untaken_s: float | None = None
        _part: Any = h11.IDLE

        def connection_made(self, transport: asyncio.Transport) -> None:
            self._due_s = self.loop.time() + HEADERS_S
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self.place.left()

        def data_received(self, data: bytes) -> None:
            self.place.touch()
            super().data_received(data)
            self._see()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._see()

        def _see(self) -> None:
            """Which part of a request the client has to send next, and by when."""
            part, now_s = self.conn.their_state, self.loop.time()
            if part is h11.SEND_BODY:
                if self._part is not part:
                    self._due_s = now_s + BODY_S
            elif part is h11.IDLE:
                begun = bool(self.conn.trailing_data[0])
                if not begun:
                    self._due_s = None  # uvicorn's own limit for kept connections
                elif self._part is not part or self._due_s is None:
                    self._due_s = now_s + HEADERS_S
            else:
                self._due_s = None
            self._part = part

        def pause_writing(self) -> None:
            self._untaken_s = self.loop.time()
            super().pause_writing()

        def resume_writing(self) -> None:
            self._untaken_s = None
            super().resume_writing()

        def late(self, now_s: float) -> bool:
            """Whether the client takes longer than it may."""
            if self._untaken_s is not None and now_s > self._untaken_s + UNTAKEN_S:
                return True
            return self._due_s is not None and now_s > self._due_s

        @property
        def silent(self) -> bool:
            """Whether it is being asked for nothing."""
            return self.cycle is None or self.cycle.response_complete

        def abort(self) -> None:
            """Hang up now."""
            if self.transport is not None:
                self.transport.abort()

    return Bounded
