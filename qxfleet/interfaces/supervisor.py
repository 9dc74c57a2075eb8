"""The core's side of the interfaces' process: starts it, feeds it, answers it, and ends it when it hangs.

The core waits for it nowhere. What it sends down goes out when the last of it was taken, so a process that takes nothing costs
one message; what comes up is a request like any other, checked here. Silent for too long or dead, it is started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from qxfleet.agent.agent import Agent
from qxfleet.agent.audit import Act
from qxfleet.agent.forced import Client
from qxfleet.agent.shipping import Shipping
from qxfleet.api.admission import admit
from qxfleet.api.door import Door
from qxfleet.api.reading import read_request
from qxfleet.config.load import NO_PLAN, Config
from qxfleet.errors import BadRequest, QxfleetError
from qxfleet.interfaces.link import Garbled, down, next_up
from qxfleet.interfaces.stream import Changes, Pulse, plan_figures
from qxfleet.model.events import Event, EventKind, Phase, Severity
from qxfleet.model.reading import Reading

log = logging.getLogger("qxfleet")

FLUSH_S = 0.5
"""How often what is new goes down; what changes a status goes at once."""

URGENT_S = 0.01
"""What changes together goes together."""

ABILITIES_S = 5.0
"""How often it is looked whether a UPS can do other things than before; and behind every order."""

PULSE_S = 1.0
READABLE_S = 2.0
"""How often it is looked whether the state is still to be read by the interfaces' user."""
SILENT_S = 10.0
"""An interface process that says nothing for so long hangs: it answers every pulse."""

START_S = 60.0
"""What it is given to come up."""

BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between its end and its next start; the first again once it ran for :data:`STEADY_S`."""

STEADY_S = 60.0
MOST_EVENTS = 10_000
"""Events kept for one that takes nothing; beyond it the oldest are left out, which the database has."""

MOST_UNTAKEN = 32 * 1024 * 1024
"""Bytes of answers it may leave untaken."""

MOST_ASKED = 256
"""Requests under way at the same time; the next waits where it is."""

END_S = 1.5
"""What it is given to say goodbye to its clients when the agent stops; one that is not up yet has nobody to say it to."""


class Ended(NamedTuple):
    """How a process ended: in a word or two, what else is known, and what comes next."""

    how: str
    more: str = ""
    then: str = "it starts again"


class Interfaces:
    """The network interfaces as a part of the agent: a process of their own. None runs where no table asks for one."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._door = Door(agent)
        self._running: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changes = Changes(agent)
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._logins: dict[str, tuple[Client, ...]] | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._able_s = 0.0
        self._heard_s = 0.0
        self._pulses = 0
        self._ending = asyncio.Event()
        self._config = agent.config
        self._asked: set[asyncio.Task[None]] = set()
        self.up = asyncio.Event()
        """Set while a process serves."""

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return None if self._process is None else self._process.pid

    # -- a part of the agent

    async def start(self) -> None:
        """Have the process started, if there is something to serve; nobody waits for it."""
        if _wanted(self._agent.config):
            self._begin()

    async def stop(self) -> None:
        """Tell it to end, then end it."""
        self._ending.set()
        if self._running is None:
            return
        if self._writer is not None and self.up.is_set():
            self._writer.write(down("end"))
            await asyncio.wait({self._running}, timeout=END_S)
        self._running.cancel()
        await asyncio.wait({self._running})
        self._running = None

    def apply(self, config: Config) -> list[str]:
        """Hand a new configuration on."""
        before, changes = self._config, face_changes(self._config, config)
        self._config = config
        if self._running is None and _wanted(config):
            self._begin()
        elif self._writer is not None and _shared(before) != _shared(config):
            self._writer.write(down(_shared(config)))
            self._soon(0.0)
        return changes

    def _begin(self) -> None:
        self._running = asyncio.create_task(self._supervise(), name="interfaces")

    # -- the process

    async def _supervise(self) -> None:
        """Start it again and again."""
        clock, failures = self._agent.clock, 0
        while not self._ending.is_set():
            began_s = clock.monotonic()
            end = await self._live()
            if self._ending.is_set():
                return
            failures = 1 if clock.monotonic() - began_s > STEADY_S else failures + 1
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1]
            text = f"the interfaces' process {end.how}{end.more}; {end.then} in {pause_s:g} s"
            self._tell("interfaces-ended", end.how, text,
                       Severity.WARNING if failures < 3 else Severity.CRITICAL, Phase.BEGIN)  # fmt: skip
            await asyncio.sleep(pause_s)

    async def _live(self) -> Ended:
        """One process from its start to its end."""
        ours, theirs = socket.socketpair()
        try:
            self._process = process = _spawn(theirs, self._config)
        except OSError as error:
            ours.close()
            return _not_started(error, self._config)
        finally:
            theirs.close()
        ours.setblocking(False)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        self._writer, self._heard_s = writer, self._agent.clock.monotonic() + START_S - SILENT_S
        self._changes = Changes(self._agent)
        self._events.clear()
        writer.write(down(_shared(self._config)))
        bus = self._agent.bus
        bus.attach(Event, self._event)
        bus.attach(Reading, self._reading)
        listening, pulsing = asyncio.create_task(self._listen(reader)), asyncio.create_task(self._pulse())
        letting_read = asyncio.create_task(self._let_read(), name="the interfaces' right to read")
        try:
            done, _ = await asyncio.wait({listening, pulsing}, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result() or await _how_it_ended(process)
        finally:
            bus.detach(Event, self._event)
            bus.detach(Reading, self._reading)
            for task in (listening, pulsing, letting_read, *self._asked):
                task.cancel()
            if self._flush is not None:
                self._flush.cancel()
                self._flush = None
            writer.transport.abort()
            self._writer = None
            self.up.clear()
            self._agent.forced.serve(None)
            self._logins = None
            await _ended(process)
            self._process = None

    async def _listen(self, reader: asyncio.StreamReader) -> Ended | None:
        """Take what comes up until nothing can come any more; None: the line is closed."""
        first = True
        try:
            while True:
                message = await next_up(reader)
                self._heard_s = self._agent.clock.monotonic()
                if first:
                    first = False
                    self.up.set()
                    self._tell("interfaces-ended", "started", "the interfaces' process is up", Severity.INFO, Phase.END)
                await self._take(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except (Garbled, KeyError, TypeError, ValueError) as error:
            log.error("the interfaces' process said what can't be read: %s", error)
            return Ended("said what can't be read")

    async def _pulse(self) -> Ended:
        """A sign of life every second; why it was given up, when it was."""
        agent = self._agent
        last_s = agent.clock.monotonic()
        while True:
            now_s = agent.clock.monotonic()
            if now_s - last_s > 2 * PULSE_S:
                self._heard_s += now_s - last_s  # we stood still ourselves: what they said meanwhile is not read yet
            last_s = now_s
            if now_s - self._heard_s > SILENT_S:
                if not self.up.is_set():
                    return Ended("hung", f": it was not up within {START_S:g} s of its start")
                return Ended("hung", f": it said nothing for {SILENT_S:g} s")
            if self._writer is not None and self._writer.transport.get_write_buffer_size() > MOST_UNTAKEN:
                return Ended("hung", ": it takes nothing")
            self._pulses += 1
            sessions = {name: agent.fleet.session(name) for name in agent.fleet.snapshot()}
            polls = {name: (session.polls, session.missed_polls) for name, session in sessions.items()}
            shipping = agent.part(Shipping)
            self._send(Pulse(
                self._pulses, agent.health(), agent.store.health(), agent.fleet.pace, polls, plan_figures(agent),
                None if shipping is None else shipping.health(),
            ))  # fmt: skip
            self._soon(0.0)
            await asyncio.sleep(PULSE_S)

    async def _let_read(self) -> None:
        """Give the interfaces' user the right to read the state, and again where the state was made anew."""
        while (user := _other_user(self._config)) is not None:
            await asyncio.to_thread(_give_to, user.pw_gid, self._config.agent.state)
            await asyncio.sleep(READABLE_S)

    # -- down

    def _event(self, event: Event) -> None:
        self._events.append(event)
        self._soon(URGENT_S)

    def _reading(self, reading: Reading) -> None:
        if self._flush is None:
            self._soon(FLUSH_S)

    def _soon(self, seconds: float) -> None:
        """Send what is new in a moment, or sooner if that is due already."""
        loop = asyncio.get_running_loop()
        if self._flush is not None:
            if self._flush.when() <= loop.time() + seconds:
                return
            self._flush.cancel()
        self._flush = loop.call_later(seconds, self._send_news)

    def _send_news(self) -> None:
        self._flush = None
        if self._writer is None or self._writer.transport.get_write_buffer_size():
            return  # it has not taken the last of it: the next pulse tries again
        now_s = self._agent.clock.monotonic()
        able = now_s - self._able_s >= ABILITIES_S
        if able:
            self._able_s = now_s
        news = self._changes.news(abilities=able)
        if news is not None:
            self._writer.write(down(news))
        if self._events:
            self._writer.write(down(("events", list(self._events))))
            self._events.clear()

    def _send(self, message: object) -> None:
        if self._writer is not None and not self._writer.transport.get_write_buffer_size():
            self._writer.write(down(message))

    # -- up

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "alive":
            return
        if kind == "logins":
            return self._note_logins(message["logins"])
        if kind == "event":
            return self._note_event(message)
        while len(self._asked) >= MOST_ASKED:
            await asyncio.wait(self._asked, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._answer(kind, message), name=f"{kind} for the interfaces")
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _answer(self, kind: str, message: Mapping[str, Any]) -> None:
        key = int(message["key"])
        try:
            result, error = await self._carry_out(kind, message), None
        except QxfleetError as refused:
            result, error = None, refused
        except Exception as fault:
            log.exception("%s of the interfaces failed by an error that is ours", kind)
            result, error = None, QxfleetError(f"an error of qxfleet's own ({type(fault).__name__}); the agent's log has more")
        if self._writer is None:
            return
        if kind in ("do", "begin"):
            self._able_s = 0.0  # what an order changed is there before its answer
            news = self._changes.news()
            if news is not None:
                self._writer.write(down(news))
        told = None if error is None else (type(error), str(error))
        self._writer.write(down(("answer", key, result, told)))

    async def _carry_out(self, kind: str, message: Mapping[str, Any]) -> dict[str, Any]:
        agent = self._agent
        if kind in ("do", "begin"):
            request, actor = read_request(message["do"], message["args"]), str(message["actor"])
            await admit(agent, request, actor)
            if kind == "do":
                return await self._door.do(request, actor)
            return await self._door.begin(request, actor)
        if kind == "settled":
            return {"settled": await agent.store.settled(min(5.0, float(message["within_s"])))}
        if kind == "token-used":
            await agent.token_used(str(message["name"]))
            return {}
        if kind == "record":
            stored = await agent.record(
                str(message["actor"]), Act(message["act"]), str(message["target"]), str(message["name"]), str(message["outcome"]),
                value=None if message["value"] is None else str(message["value"]), text=str(message["text"]),
            )  # fmt: skip
            return {"stored": stored}
        raise BadRequest(f"no such message: {kind!r}")

    def _note_logins(self, logins: Mapping[str, Any] | None) -> None:
        forced = self._agent.forced
        if logins is None:
            self._logins = None
            return forced.serve(None)
        first = self._logins is None
        self._logins = {ups: tuple(Client(str(user), str(address)) for user, address in each) for ups, each in logins.items()}
        if first:
            forced.serve(lambda ups: (self._logins or {}).get(ups, ()))

    def _note_event(self, message: Mapping[str, Any]) -> None:
        if message["name"] != "cannot-listen":
            raise ValueError("an event that is none of the interfaces")
        severity, phase = Severity(message["severity"]), Phase(message["phase"])
        self._tell("cannot-listen", str(message["value"]), str(message["text"]), severity, phase)

    def _tell(self, name: str, value: str, text: str, severity: Severity, phase: Phase) -> None:
        self._agent.bus.publish(Event(self._agent.clock.wall_us(), None, EventKind.AGENT, name, value, text, severity, phase))


def _wanted(config: Config) -> bool:
    faces = config.faces
    return any((faces.nut, faces.http, faces.metrics))


def _shared(config: Config) -> Config:
    """What the interfaces need of a configuration: not how loads are stopped."""
    return replace(config, shutdown=NO_PLAN, schedules=())


def face_changes(before: Config, after: Config) -> list[str]:
    """One line per change of what the network sees."""
    old, new = before.faces, after.faces
    users, known = {user.name: user for user in new.users}, {user.name: user for user in old.users}
    changes = [f"user {name}: removed" for name in known if name not in users]
    changes += [f"user {name}: {'changed' if name in known else 'added'}" for name in users if users[name] != known.get(name)]
    for name in ("metrics", "nut", "http"):
        face = getattr(new, name)
        if face != getattr(old, name):
            changes.append(f"[{name}]: {'listens on ' + ', '.join(map(str, face.listen)) if face else 'off'}")
    return changes


def _spawn(link: socket.socket, config: Config) -> subprocess.Popen[bytes]:
    """The process, in a session of its own: Ctrl-C is the core's, which ends it in order."""
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
    command = [sys.executable, "-m", "qxfleet.interfaces.process", str(link.fileno()), level]
    options: dict[str, Any] = {}
    if (user := _other_user(config)) is not None:
        options = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": os.getgrouplist(user.pw_name, user.pw_gid)}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[link.fileno()], start_new_session=True, **options)


def _other_user(config: Config) -> pwd.struct_passwd | None:
    """As whom the interfaces run, if not as whoever the agent is."""
    return pwd.getpwnam(config.agent.interfaces_user) if config.agent.interfaces_user and os.geteuid() == 0 else None


def _give_to(group: int, state: Path) -> None:
    """Give a group the right to read the state, and with it history; to nothing else that lies beside it."""
    for end in ("", "-wal", "-shm"):
        file = state.with_name(state.name + end)
        try:
            now = file.stat()
            if now.st_gid != group or now.st_mode & 0o047 != 0o040:
                os.chown(file, -1, group)
                file.chmod(now.st_mode & 0o7770 | 0o040)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s: its group can't be set, so that the interfaces may not read history: %s", file, error.strerror)


def _not_started(error: OSError, config: Config) -> Ended:
    user = _other_user(config)
    who = "" if user is None else f" as user {user.pw_name}"
    which = error.filename or sys.executable
    return Ended("could not be started", f"{who}: {which}: {error.strerror or error}", "the next try is")


async def _how_it_ended(process: subprocess.Popen[bytes]) -> Ended:
    """What the kernel says of a process that closed its line; that is a moment before it can be asked."""
    for _ in range(40):
        if (code := process.poll()) is not None:
            return Ended(f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}", _meaning(-code))
        await asyncio.sleep(0.02)
    return Ended("closed its line to the agent")


def _meaning(number: int) -> str:
    if number == signal.SIGKILL:
        return " (SIGKILL, which the kernel sends too where memory runs out)"
    named = number in set(signal.Signals)
    return f" ({signal.Signals(number).name})" if named else ""


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Have a process gone, with what it started; one that not even SIGKILL ends waits in the kernel, and is left there."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for _ in range(40):
        if process.poll() is not None:
            return
        await asyncio.sleep(0.02)

