"""The local control socket: the command line's way to a running agent.

JSON lines. A request is ``{"id", "do", "args"}``; its answer ``{"id", "ok": true, "result"}`` or
``{"id", "ok": false, "error": {"code", "text"}}``. A stream gives ``{"id", "item"}`` lines until either side hangs up, or an
error. Who may speak is decided by the socket's file permissions; who spoke is asked of the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import math
import os
import pwd
import socket
import struct
from collections import Counter
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NoReturn

from qxfleet.agent.agent import Agent
from qxfleet.api.asking import TooSlow, UnknownTarget
from qxfleet.api.door import Door
from qxfleet.api.reading import read_request
from qxfleet.api.requests import Request
from qxfleet.errors import AgentRunning, BadRequest, ConfigError, InternalError, OrderError, QxfleetError
from qxfleet.model.printable import printable

log = logging.getLogger(__name__)

LONGEST_REQUEST = 64 * 1024
MOST_CLIENTS = 64
"""Connections at the same time. For one more the one goes that owed a request for the longest; where none does, it is told so."""

SLOWEST_S = 30.0
"""A client that takes nothing for this long is dropped."""

GOODBYE_S = 1.0
"""Time for the last answers when the agent stops."""

MODE = 0o660


class ControlServer:
    """Serves one agent on a unix socket of mode 0660."""

    def __init__(self, agent: Agent, path: Path) -> None:
        self.path = path
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._gone: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}
        """Those who owe a request, or the rest of one; the oldest first."""
        self._inode = 0
        self._door = Door(agent)

    @property
    def failures(self) -> Counter[str]:
        """Requests that ended by an error of our own."""
        return self._door.failures

    async def claim(self) -> None:
        """Take the socket; connections wait until :meth:`start`.

        Raises AgentRunning, PermissionError, and ConfigError for a path where no socket can be.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(self.path.parent):
                if _answers(self.path):
                    raise AgentRunning(f"another agent is running: {self.path} answers (stop it, or set [agent] control)")
                self.path.unlink(missing_ok=True)
                listener = _listen(self.path)
        except PermissionError as error:
            raise PermissionError(f"{error.filename or self.path}: {error.strerror} (it is to hold the control socket)") from None
        except OSError as error:
            raise ConfigError([f"agent.control: {self.path}: {error.strerror or error}: name another path"]) from None
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(
            self._welcome, sock=listener, limit=LONGEST_REQUEST, start_serving=False
        )

    async def start(self) -> None:
        """Begin to answer."""
        assert self._server is not None
        await self._server.start_serving()

    def stop_accepting(self) -> None:
        """Let no new client in; those connected stay."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(OSError):
                if self.path.stat().st_ino == self._inode:
                    self.path.unlink()

    async def close(self) -> None:
        """Say the last answers and hang up on everyone."""
        self.stop_accepting()
        if self._clients:
            await asyncio.wait(self._clients, timeout=GOODBYE_S / 2)
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=GOODBYE_S / 2)

    # -- one connection

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            if len(self._clients) - len(self._gone) > MOST_CLIENTS and not self._drop_silent():
                _say(writer, None, error=("busy", f"{MOST_CLIENTS} clients are connected already"))
                await _flushed(writer)
                return
            await self._converse(reader, writer, _actor(writer))
        except (ConnectionError, TimeoutError):
            pass  # the other side left, or takes nothing: nothing to tell it
        except asyncio.CancelledError:
            pass  # the agent stops; the end of this task is all that was asked for
        finally:
            self._clients.discard(task)
            self._gone.discard(task)
            self._silent.pop(task, None)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            else:
                writer.close()

    def _drop_silent(self) -> bool:
        """Make a place; False if everybody waits for an answer."""
        oldest = next(iter(self._silent), None)
        if oldest is None:
            return False
        del self._silent[oldest]
        self._gone.add(oldest)
        oldest.cancel()
        return True

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, actor: str) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            self._silent[task] = None
            try:
                line = await reader.readline()
            except ValueError:
                _say(writer, None, error=("bad-request", f"a request is one line of at most {LONGEST_REQUEST} bytes"))
                await _flushed(writer)
                return
            if not line:
                return
            self._silent.pop(task, None)
            key: object = None
            try:
                said = _read(line)
                key = said.get("id")
                request = read_request(said.get("do"), said.get("args", {}))
                if request.stream:
                    await self._stream(self._pump(request, key, writer, actor), reader)
                    return
                _say(writer, key, result=await self._door.do(request, actor))
            except QxfleetError as error:
                _say(writer, key, error=_named(error))
            await _flushed(writer)

    async def _pump(self, request: Request[Any], key: object, writer: asyncio.StreamWriter, actor: str) -> None:
        """Pass on what a stream says, as fast as the client takes it; an error is its last word."""

        async def say(item: object) -> None:
            _say(writer, key, item=item)
            await _flushed(writer)

        try:
            await self._door.follow(request, actor, say)
        except QxfleetError as error:
            _say(writer, key, error=_named(error))
            await _flushed(writer)

    async def _stream(self, pump: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
        """Run a stream until it ends or the client hangs up or says anything. What has to come to an end first takes no place."""
        pumping = asyncio.create_task(pump)
        hung_up = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({pumping, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if pumping.done():
                pumping.result()
            elif hung_up.exception() is not None or not hung_up.result():
                self._gone |= {task for task in self._clients if task is asyncio.current_task()}
        finally:
            for task in (pumping, hung_up):
                task.cancel()
            await asyncio.wait({pumping, hung_up})
            for task in (pumping, hung_up):
                if not task.cancelled():
                    task.exception()


def _read(line: bytes) -> dict[str, Any]:
    """The object of one line; its "id" can be said again. Raises BadRequest."""
    try:
        said = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"a request is one line of JSON: {printable(str(error))}") from None
    if not isinstance(said, dict):
        raise BadRequest('a request is an object, {"id", "do", "args"}')
    key = said.get("id")
    if not isinstance(key, (str, int, float, type(None))) or (isinstance(key, float) and not math.isfinite(key)):
        raise BadRequest('"id" is a number or a text')
    return said


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _named(error: Exception) -> tuple[str, str]:
    """Code and text of an error as the protocol tells it."""
    if isinstance(error, UnknownTarget):
        return "unknown-target", str(error)
    if isinstance(error, TooSlow):
        return "too-slow", str(error)
    if isinstance(error, OrderError):
        return "not-possible", str(error)
    if isinstance(error, BadRequest):
        return "bad-request", str(error)
    if isinstance(error, InternalError):
        return "internal", str(error)
    return "failed", str(error)


def _say(
    writer: asyncio.StreamWriter,
    key: object,
    *,
    result: object = None,
    item: object = None,
    error: tuple[str, str] | None = None,
) -> None:
    if error is not None:
        line: dict[str, object] = {"id": key, "ok": False, "error": {"code": error[0], "text": error[1]}}
    elif item is not None:
        line = {"id": key, "item": item}
    else:
        line = {"id": key, "ok": True, "result": result}
    writer.write(json.dumps(line).encode() + b"\n")


async def _flushed(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(SLOWEST_S):
        await writer.drain()


def _actor(writer: asyncio.StreamWriter) -> str:
    """Who is on the other end, by the kernel's word."""
    credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", credentials)
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "?"
    return f"cli:{name}(uid {uid})"


def _listen(path: Path) -> socket.socket:
    """A listening socket of mode 0660 from its first moment."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o777 & ~MODE)
    try:
        listener.bind(str(path))
        listener.listen(MOST_CLIENTS)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _answers(path: Path) -> bool:
    """Whether somebody listens on a socket; a file left behind by a killed agent does not."""
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(2.0)
        try:
            knock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except TimeoutError:
            return True
        return True


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two agents that start together look at the socket one after the other."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

