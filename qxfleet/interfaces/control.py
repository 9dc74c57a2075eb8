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
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import qxfleet
from qxfleet.agent import profiles
from qxfleet.agent.agent import Agent
from qxfleet.agent.bus import Subscription
from qxfleet.config.profile import Profile
from qxfleet.errors import AgentRunning, ConfigError, OrderError, OrderNotSupported, QxfleetError
from qxfleet.interfaces import shapes
from qxfleet.interfaces.shapes import Document
from qxfleet.model.events import Event

log = logging.getLogger(__name__)

LONGEST_REQUEST = 64 * 1024
MOST_CLIENTS = 64
"""Connections at the same time; one more is told so and closed."""

BACKLOG_EVENTS = 1000
"""Events kept for a follower that is slower than they come; beyond it the follower is dropped."""

STORED_WITHIN_S = 1.0
"""How long an event is held back for its commit, which takes milliseconds as a rule; then being told is worth more."""

SLOWEST_S = 30.0
"""A client that takes nothing for this long is dropped."""

GOODBYE_S = 1.0
"""Time for the last answers when the agent stops."""

MODE = 0o660


class ControlServer:
    """Serves one agent on a unix socket of mode 0660."""

    def __init__(self, agent: Agent, path: Path) -> None:
        self.path = path
        self._agent = agent
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._inode = 0
        self._verbs: dict[str, Callable[[Document, str], Awaitable[Document]]] = {
            "about": self._about,
            "status": self._status,
            "vars": self._vars,
            "commands": self._commands,
            "settings": self._settings,
            "command": self._command,
            "set": self._set,
            "profile-check": self._profile_check,
        }
        self._streams: dict[str, Callable[[object, Document, asyncio.StreamWriter, str], Coroutine[Any, Any, None]]] = {
            "follow": self._follow,
            "watch": self._watch,
            "profile-apply": self._profile_apply,
        }

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
            if len(self._clients) > MOST_CLIENTS:
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
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            else:
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, actor: str) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                _say(writer, None, error=("bad-request", f"a request is one line of at most {LONGEST_REQUEST} bytes"))
                await _flushed(writer)
                return
            if not line:
                return
            try:
                request = json.loads(line)
                key, do, args = request.get("id"), request["do"], request.get("args") or {}
                stream = self._streams.get(do)
                if not isinstance(args, dict) or (stream is None and do not in self._verbs):
                    raise KeyError(do)
            except (ValueError, KeyError, AttributeError, TypeError):
                known = ", ".join([*self._verbs, *self._streams])
                _say(writer, None, error=("bad-request", f'expected {{"id", "do", "args"}} with "do" one of {known}'))
                await _flushed(writer)
                continue
            try:
                if stream is not None:
                    await self._stream(stream(key, args, writer, actor), reader)
                    return
                _say(writer, key, result=await self._verbs[do](args, actor))
            except (QxfleetError, KeyError, TypeError) as error:
                _say(writer, key, error=_named(error))
            await _flushed(writer)

    @staticmethod
    async def _stream(pump: Coroutine[Any, Any, None], reader: asyncio.StreamReader) -> None:
        """Run a stream until it ends or the client hangs up or says anything."""
        pumping = asyncio.create_task(pump)
        hung_up = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({pumping, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if pumping.done():
                pumping.result()
        finally:
            for task in (pumping, hung_up):
                task.cancel()
            await asyncio.wait({pumping, hung_up})
            for task in (pumping, hung_up):
                if not task.cancelled():
                    task.exception()

    # -- requests

    async def _about(self, args: Document, actor: str) -> Document:
        return {"agent": self._agent.config.agent.name, "version": qxfleet.__version__, "pid": os.getpid(), "you": actor}

    async def _status(self, args: Document, actor: str) -> Document:
        names = self._names(args.get("targets"))
        if not args.get("remedies"):
            return self._fleet(names)
        states = self._agent.fleet.snapshot()
        return {**self._fleet(names), "remedies": {name: dict(states[name].remedies) for name in names if states[name].remedies}}

    async def _vars(self, args: Document, actor: str) -> Document:
        name = self._one(args["ups"])
        state = self._agent.fleet.snapshot()[name]
        age_s = None if state.reading is None else self._agent.clock.monotonic() - state.reading.mono_s
        return {
            **shapes.vars_document(state), "state": state.link.value, "reason": state.link_reason, "age_s": age_s,
        }  # fmt: skip

    async def _commands(self, args: Document, actor: str) -> Document:
        name = self._one(args["ups"])
        return shapes.orders_document(name, self._agent.fleet.orders(name))

    async def _settings(self, args: Document, actor: str) -> Document:
        name = self._one(args["ups"])
        return shapes.settings_document(name, self._agent.fleet.settings(name))

    async def _command(self, args: Document, actor: str) -> Document:
        name = self._one(args["ups"])
        value = args.get("value")
        result = await self._agent.fleet.perform(name, str(args["name"]), None if value is None else str(value), actor=actor)
        return {**result.as_json(), "sent": result.sent, "text": result.text}

    async def _set(self, args: Document, actor: str) -> Document:
        name = self._one(args["ups"])
        result = await self._agent.fleet.set(name, str(args["name"]), str(args["value"]), actor=actor)
        return {**result.as_json(), "sent": result.sent, "text": result.text}

    async def _profile_check(self, args: Document, actor: str) -> Document:
        """How far devices are from the profiles named, or from all."""
        chosen = [self._profile(name) for name in args.get("names") or ()] or self._agent.config.profiles
        return {"profiles": [shapes.profile_document(each, profiles.check(self._agent.fleet, each)) for each in chosen]}

    # -- streams

    async def _follow(self, key: object, args: Document, writer: asyncio.StreamWriter, actor: str) -> None:
        """Events from now on; those of the agent itself too unless targets are named."""
        try:
            wanted = set(self._names(args["targets"])) if args.get("targets") else None
        except OrderNotSupported as error:
            _say(writer, key, error=_named(error))
            return await _flushed(writer)
        subscription = self._agent.bus.subscribe(Event, limit=BACKLOG_EVENTS)
        try:
            _say(writer, key, item={"following": self._agent.config.agent.name})
            await _flushed(writer)
            await self._pass_on(key, subscription, wanted, writer)
        finally:
            self._agent.bus.unsubscribe(subscription)

    async def _pass_on(
        self, key: object, subscription: Subscription, wanted: set[str] | None, writer: asyncio.StreamWriter
    ) -> None:
        """What is shown is stored. An event that the database does not take in time is shown as not stored rather than late."""
        async for event in subscription:
            if subscription.dropped:
                text = f"too slow: more than {BACKLOG_EVENTS} events were waiting, {subscription.dropped} are lost"
                _say(writer, key, error=("too-slow", f"{text}; `qxfleet events --since` has them all"))
                return await _flushed(writer)
            events = [event, *subscription.take()]
            stored = await self._agent.store.settled(STORED_WITHIN_S)
            if not stored and not subscription.dropped:
                events += subscription.take()  # came while we waited, and shall not wait as long again
            for event in events:
                if wanted is None or event.ups in wanted:
                    _say(writer, key, item=shapes.event_item(event, stored=stored))
            await _flushed(writer)

    async def _watch(self, key: object, args: Document, writer: asyncio.StreamWriter, actor: str) -> None:
        """The fleet's status again and again, every ``every_s`` seconds (1 by default, at least 0.2)."""
        every_s = max(0.2, float(args.get("every_s", 1.0)))
        try:
            while True:
                _say(writer, key, item=self._fleet(self._names(args.get("targets"))))
                await _flushed(writer)
                await asyncio.sleep(every_s)
        except OrderNotSupported as error:
            _say(writer, key, error=_named(error))
            await _flushed(writer)

    async def _profile_apply(self, key: object, args: Document, writer: asyncio.StreamWriter, actor: str) -> None:
        """Each setting as it ends, then how it ended; anything said meanwhile ends it behind the setting under way."""
        stop = asyncio.Event()
        work = asyncio.create_task(self._apply(key, args, writer, actor, stop))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            await work

    async def _apply(
        self, key: object, args: Document, writer: asyncio.StreamWriter, actor: str, stop: asyncio.Event
    ) -> None:
        profile = self._profile(args["name"])
        go_on, refused = bool(args.get("go_on")) or profile.go_on, 0
        _say(writer, key, item={"profile": profile.name, "ups": list(profile.upses), "settings": dict(profile.settings)})
        await _flushed(writer)
        async for step in profiles.applying(self._agent.fleet, profile, actor=actor, go_on=go_on, stop=stop):
            refused += step.refused
            _say(writer, key, item={"step": shapes.step_document(step)})
            await _flushed(writer)
        ended = "stopped" if stop.is_set() else "refused" if refused and not go_on else "complete"
        _say(writer, key, item={"ended": ended, "refused": refused})
        await _flushed(writer)

    def _profile(self, name: object) -> Profile:
        """The profile of that name. Raises UnknownTarget."""
        for each in self._agent.config.profiles:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self._agent.config.profiles)
        raise UnknownTarget(f"no profile is named {name!r}; {f'there are {known}' if known else 'none is configured'}")

    def _names(self, targets: Sequence[str] | None) -> tuple[str, ...]:
        """Names meant by targets, each once, in the fleet's order; all of them where none is given."""
        fleet = self._agent.fleet
        if not targets:
            return fleet.select("all")
        chosen: set[str] = set()
        for target in targets:
            try:
                chosen.update(fleet.select(str(target)))
            except OrderNotSupported as error:
                raise UnknownTarget(str(error)) from error
        return tuple(name for name in fleet.snapshot() if name in chosen)

    def _one(self, target: object) -> str:
        """The one UPS a target means."""
        names = self._names([str(target)])
        if len(names) != 1:
            raise UnknownTarget(f"{target!r} means {len(names)} UPSes: name one UPS")
        return names[0]

    def _fleet(self, names: Sequence[str]) -> Document:
        agent, states, now_s = self._agent, self._agent.fleet.snapshot(), self._agent.clock.monotonic()
        return shapes.fleet_document(
            agent.config.agent.name, agent.clock.wall_us(),
            (shapes.ups_document(agent.fleet.options(name), states[name], now_s) for name in names),
        )  # fmt: skip


class UnknownTarget(OrderNotSupported):
    """A target that names no UPS and no group."""


def _named(error: Exception) -> tuple[str, str]:
    """Code and text of an error as the protocol tells it."""
    if isinstance(error, UnknownTarget):
        return "unknown-target", str(error)
    if isinstance(error, OrderError):
        return "not-possible", str(error)
    if isinstance(error, QxfleetError):
        return "failed", str(error)
    return "bad-request", f"an argument is missing or of the wrong type: {error}"


def _say(
    writer: asyncio.StreamWriter,
    key: object,
    *,
    result: Document | None = None,
    item: Document | None = None,
    error: tuple[str, str] | None = None,
) -> None:
    if error is not None:
        line: Document = {"id": key, "ok": False, "error": {"code": error[0], "text": error[1]}}
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

