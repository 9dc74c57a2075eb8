"""An HTTP server inside the agent's loop: uvicorn, with the signals left to the agent and an end in time.

uvicorn is loaded when the first server starts, so that an agent without one stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, MutableMapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qxfleet.config.faces import Face
from qxfleet.errors import CannotListen, QxfleetError
from qxfleet.interfaces.listening import bound_sockets

if TYPE_CHECKING:
    import uvicorn

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""An ASGI application."""

MOST_CONNECTIONS = 500
"""Connections at the same time; one more is answered 503. A page holds two."""

BACKLOG = 128
IDLE_S = 15
"""A kept connection that asks nothing for this long is closed: Prometheus asks every 15 s as a rule, and opens another."""

FINISH_S = 1
"""Answers under way when the agent stops have this long; streams are told to end before."""

RETRY_S = 5.0


async def load(module: str) -> Any:
    """A module that is heavy, on a thread, so that UPSes are polled meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(None, importlib.import_module, module)


class HttpServer:
    """Serves one application at the addresses of a face, until :meth:`stop`.

    It listens at once and answers when uvicorn and the application are loaded, which takes a second; the agent does not wait.
    ``make`` gives the application, ``packages`` are those it needs.
    """

    def __init__(self, name: str, make: Callable[[], Awaitable[App]], packages: Collection[str]) -> None:
        self._name = name
        self._make = make
        self._packages = packages
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._sockets: list[socket.socket] = []
        self.face: Face | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it is to be found; none while it is off."""
        if self.face is None:
            return ()
        scheme = "https" if self.face.tls else "http"
        return tuple(f"{scheme}://{listen}/" for listen in self.face.listen)

    async def start(self, face: Face) -> None:
        """Listen. Raises CannotListen with address and remedy, QxfleetError where a package is missing; then nothing listens."""
        for package in ("uvicorn", *self._packages):
            if find_spec(package) is None:
                raise QxfleetError(f"[{self._name}] needs {package}, which is not installed: pip install 'qxfleet[web]'")
        try:
            for listen in face.listen:
                for each in await bound_sockets(self._name, listen):
                    each.listen(BACKLOG)
                    self._sockets.append(each)
        except CannotListen:
            self._let_go()
            raise
        self.face = face
        self._serving = asyncio.create_task(self._serve(face), name=f"{self._name} server")
        log.info("%s: listening on %s", self._name, ", ".join(map(str, face.listen)))

    async def _serve(self, face: Face) -> None:
        try:
            uvicorn, app = await load("uvicorn"), await self._make()
            config = uvicorn.Config(
                app, interface="asgi3", loop="none", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
                proxy_headers=False, server_header=False, limit_concurrency=MOST_CONNECTIONS, backlog=BACKLOG,
                timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=FINISH_S,
                ssl_certfile=face.tls and str(face.tls.cert), ssl_keyfile=face.tls and str(face.tls.key),
            )  # fmt: skip
            for chatty in ("uvicorn.error", "uvicorn.access"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            self._server = _without_signals(uvicorn)(config)
            await self._server.serve(self._sockets)
        except OSError as error:
            log.error("%s: stopped listening: %s", self._name, error)
        finally:
            self._let_go()

    async def stop(self) -> None:
        """Accept nothing more, finish the answers under way, hang up; about a second at most."""
        if self._serving is None:
            return
        if self._server is None:
            self._serving.cancel()
        else:
            self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=FINISH_S + 0.7)
        if not self._serving.done():
            self._serving.cancel()
            await asyncio.wait({self._serving})
        for connection in list(self._server.server_state.connections) if self._server else ():
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        self._server = self._serving = self.face = None

    async def move(self, face: Face | None) -> None:
        """Serve at another face's addresses, or nowhere. An address that is taken is tried again until it is free."""
        await self.stop()
        while face is not None:
            try:
                return await self.start(face)
            except CannotListen as error:
                log.error("%s; trying again in %g s", error, RETRY_S)
                await asyncio.sleep(RETRY_S)
            except QxfleetError as error:
                log.error("%s; it stays off", error)
                return

    def _let_go(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets = []


def _without_signals(uvicorn: Any) -> Any:
    """uvicorn's server, but SIGTERM and SIGINT stay with the agent."""

    class Server(uvicorn.Server):  # type: ignore[misc]
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server
