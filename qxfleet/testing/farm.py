"""Many simulated UPSes on real pseudo-terminals, in one process, on one event loop.

Every line behaves like a serial line: requests may come in pieces, replies leave byte by byte if paced, one after the
other, and whatever nobody reads is lost once the terminal's buffer is full.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import math
import os
import resource
import tty
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from qxfleet.errors import LinkUnavailable
from qxfleet.model.wire import CR
from qxfleet.testing.unit import Unit

BITS_PER_BYTE = 10
"""Start bit, eight data bits, stop bit (megatec-family.md section 2)."""

LONGEST_REQUEST = 128
"""A device's input buffer; what does not end within it is thrown away."""

LOG_LENGTH = 2000
"""Requests remembered per UPS."""

FLEET_HEADER = "# Written by 'qxfleet simulate'; replaced each time it starts.\n"

Pace = Literal["bytes", "frame"]


class Line:
    """One UPS on one pseudo-terminal, from plugging in to unplugging.

    ``byte_s`` is the wire time of a byte; ``log`` gets (event loop's time, bytes) of each request as it arrives.
    """

    def __init__(self, ups: Unit, byte_s: float, pace: Pace | None, log: deque[tuple[float, bytes]]) -> None:
        self.ups = ups
        self.waiting = False
        """Whether the farm will call :meth:`send_due` by itself."""
        self._byte_s = byte_s if pace else 0.0
        self._by_frame = pace == "frame"
        self._log = log
        self._incoming = b""
        self._heard_until_s = 0.0
        self._busy_until_s = 0.0
        self._outgoing: deque[tuple[float, bytes]] = deque()
        self._sent = 0
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self._slave)
        ups.plugged_in()

    def close(self) -> None:
        """Pull the plug: readers see a hang-up. Until now the far end was held open, so readers could come and go."""
        os.close(self.master)
        os.close(self._slave)
        self._outgoing.clear()

    def receive(self, now_s: float, physics_s: float) -> None:
        """Take what has arrived, let the UPS answer each whole request, and queue its replies."""
        chunk = os.read(self.master, 4096)
        self._heard_until_s = max(now_s, self._heard_until_s) + len(chunk) * self._byte_s
        *requests, rest = (self._incoming + chunk).split(bytes((CR,)))
        if len(rest) > LONGEST_REQUEST:
            self._log.append((now_s, rest))
            rest = b""
        self._incoming = rest
        for body in requests:
            request = body + bytes((CR,))
            self._log.append((now_s, request))
            reply = self.ups.answer(request, physics_s)
            if reply:
                begin_s = max(self._heard_until_s + self.ups.delay_s, self._busy_until_s)
                self._busy_until_s = begin_s + len(reply) * self._byte_s
                self._outgoing.append((begin_s, reply))

    def send_due(self, now_s: float) -> float | None:
        """Write every byte whose time has come; the time of the next one, None if there is none."""
        byte_s = self._byte_s
        while self._outgoing:
            begin_s, reply = self._outgoing[0]
            if self._by_frame:
                begin_s += len(reply) * byte_s
            if begin_s > now_s:
                return begin_s
            stepwise = byte_s and not self._by_frame
            due = min(len(reply), int((now_s - begin_s) / byte_s + 1e-6)) if stepwise else len(reply)
            if due > self._sent:
                self._write(reply[self._sent : due])
                self._sent = due
            if due < len(reply):
                return begin_s + (due + 1) * byte_s
            self._outgoing.popleft()
            self._sent = 0
        return None

    def _write(self, data: bytes) -> None:
        try:
            os.write(self.master, data)
        except BlockingIOError:  # the buffer is full because nobody reads: a wire would lose the bytes, too
            return


class Farm:
    """Simulated UPSes, each behind a symbolic link with its name in ``directory``, served while the farm is open.

    ``pace`` with ``baud``: ``"bytes"`` lets every byte leave at its own time (those due within one byte's time of each
    other, on all lines, in one go), ``"frame"`` a whole reply at the time of its last byte, None everything at once.
    :attr:`speed` is how many seconds pass for the UPSes in one second of the wire. :attr:`logs` holds the last requests
    of each UPS with the event loop's time of arrival, across unplugging. Use as ``async with``, on one loop.
    """

    def __init__(
        self, directory: Path, upses: Sequence[Unit], *, baud: int = 2400, pace: Pace | None = None
    ) -> None:
        self.directory = directory.absolute()
        self.upses = {ups.name: ups for ups in upses}
        self.lines: dict[str, Line] = {}
        self.logs = {name: deque[tuple[float, bytes]](maxlen=LOG_LENGTH) for name in self.upses}
        self._byte_s = BITS_PER_BYTE / baud
        self._pace = pace
        self._speed = 1.0
        self._speed_since = (0.0, 0.0)
        self._due: list[tuple[float, int, Line]] = []
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        now_s = self._loop.time()
        self._speed_since = (now_s, now_s)
        self._make_room()
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            for name in self.upses:
                self.plug(name)
            self._write_fleet_file()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in tuple(self.lines):
            self.unplug(name)
        if self._timer:
            self._timer.cancel()
            self._timer = None

    @property
    def now_s(self) -> float:
        """The UPSes' own time."""
        real_s, ups_s = self._speed_since
        return ups_s + (self._loop.time() - real_s) * self._speed

    @property
    def speed(self) -> float:
        """Seconds that pass for the UPSes in one second."""
        return self._speed

    @speed.setter
    def speed(self, factor: float) -> None:
        self._speed_since = (self._loop.time(), self.now_s)
        self._speed = factor

    def select(self, target: str) -> list[Unit]:
        """What ``NAME``, ``group:NAME`` or ``all`` stands for, each UPS brought up to now. ``LookupError`` if none."""
        if target == "all":
            chosen = list(self.upses.values())
        elif target.startswith("group:"):
            chosen = [ups for ups in self.upses.values() if target.removeprefix("group:") in ups.groups]
        else:
            chosen = [self.upses[target]] if target in self.upses else []
        if not chosen:
            groups = sorted({group for ups in self.upses.values() for group in ups.groups})
            raise LookupError(
                f"no UPS is called {target!r}; expected one of {_some(list(self.upses))}, all, "
                f"or group: with one of {_some(groups)}"
            )
        now_s = self.now_s
        for ups in chosen:
            ups.machine.advance(now_s)
        return chosen

    def link(self, name: str) -> Path:
        """Where the UPS of that name is found."""
        return self.directory / name

    def plug(self, name: str) -> None:
        """Give a UPS a new pseudo-terminal behind its old link; nothing if it has one."""
        if name in self.lines:
            return
        link = self.link(name)
        if link.exists() and not link.is_symlink():
            raise LinkUnavailable(str(link), "is in the way of a simulated UPS", "remove it or take another directory")
        line = Line(self.upses[name], self._byte_s, self._pace, self.logs[name])
        fresh = link.with_name(f".{name}.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(line.path)
        fresh.replace(link)
        self.lines[name] = line
        self._loop.add_reader(line.master, self._receive, line)

    def unplug(self, name: str) -> None:
        """Close a UPS's pseudo-terminal and remove its link; nothing if that is done already."""
        line = self.lines.pop(name, None)
        if line is None:
            return
        self._loop.remove_reader(line.master)
        link = self.link(name)
        if link.is_symlink() and str(link.readlink()) == line.path:
            link.unlink()
        line.close()

    # -- the one timer for all lines ---------------------------------------------------------------------------------

    def _receive(self, line: Line) -> None:
        now_s = self._loop.time()
        line.receive(now_s, self.now_s)
        if not line.waiting:
            self._queue(line, line.send_due(now_s))
            self._set_timer()

    def _queue(self, line: Line, due_s: float | None) -> None:
        line.waiting = due_s is not None
        if due_s is None:
            return
        if self._pace == "bytes":
            due_s = math.ceil(due_s / self._byte_s) * self._byte_s
        self._queued += 1
        heapq.heappush(self._due, (due_s, self._queued, line))

    def _send_due(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._due and self._due[0][0] <= now_s:
            line = heapq.heappop(self._due)[2]
            self._queue(line, line.send_due(now_s))
        self._set_timer()

    def _set_timer(self) -> None:
        if not self._due:
            return
        due_s = self._due[0][0]
        if self._timer:
            if self._timer.when() <= due_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due_s, self._send_due)

    # -- files -------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Two descriptors a line; the usual soft limit of 1024 would end at 500 UPSes."""
        wanted = 2 * len(self.upses) + 64
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            if hard != resource.RLIM_INFINITY and hard < wanted:
                raise LinkUnavailable(
                    str(self.directory), f"{len(self.upses)} UPSes need {wanted} open files, {hard} are allowed",
                    "simulate fewer or raise the limit with ulimit -n",
                )  # fmt: skip
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    def _write_fleet_file(self) -> None:
        """``fleet.toml``: one ``[[ups]]`` block per UPS, to be named in a configuration's ``include``."""
        path = self.directory / "fleet.toml"
        if path.exists() and not path.read_text().startswith(FLEET_HEADER):
            raise LinkUnavailable(str(path), "was not written by the simulator", "move it or take another directory")
        blocks = [
            f"\n[[ups]]\nname = {_toml(ups.name)}\nport = {_toml(str(self.link(ups.name)))}\n"
            f"groups = {_toml(list(ups.groups))}\ndescription = {_toml(ups.description)}\n"
            for ups in self.upses.values()
        ]
        path.write_text(FLEET_HEADER + "".join(blocks))


def _toml(value: str | list[str]) -> str:
    """A TOML string or array; JSON's way of writing them is one of TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown}, … {names[-1]}"
