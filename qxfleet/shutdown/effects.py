"""What a step may do to the world outside the fleet: commands, webhooks, magic packets; and what may be looked at.

Everything has an end: a time limit, and a bound on what is kept of its output. Nothing goes through a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from qxfleet.model.events import Outcome
from qxfleet.shutdown import reach
from qxfleet.shutdown.reserve import Reserve

KEPT_CHARACTERS = 600
"""Of what a command or a server says, its last words are kept: that is where it says what went wrong."""

TAKEN_AT_ONCE = 16
"""Chunks of output read in one go: one that talks without end holds up nobody."""

MAGIC_PORT = 9

KILL_S = 2.0
"""What a killed program is given to be gone."""

WITHOUT_PIDFD_S = 0.05
"""How often a program's end is looked for where the kernel can't tell it."""


@dataclass(frozen=True, slots=True)
class Done:
    """How something ended: ``accepted`` with evidence, else why not. ``text`` is for people, ``code`` a program's own."""

    outcome: Outcome
    text: str = ""
    code: int | None = None


class Port(enum.Enum):
    """What a TCP port looks like from here."""

    OPEN = "open"
    REFUSED = "refused"
    """The host is up and says that nobody listens."""
    SILENT = "silent"
    """Nobody answers: the host is off, or the way to it is."""
    UNKNOWN = "unknown"
    """It could not be asked: no such name, no network on this side."""


class Effects(Protocol):
    """The doors to the outside. None raises for trouble on the other side."""

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        """Run a program: accepted is exit code 0."""

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        """POST JSON: accepted is an answer of 2xx."""

    async def wake(self, mac: str, to: str) -> Done:
        """Send a magic packet; unconfirmed by nature."""

    async def port(self, host: str, port: int, within_s: float) -> Port:
        """Try to connect."""

    async def answers(self, host: str, within_s: float) -> bool | None:
        """Whether an address answers at all; None where it can't be asked."""


class RealEffects:
    """The doors of this host. ``reserve`` holds what their use takes; its owner fills and closes it."""

    def __init__(self, reserve: Reserve | None = None) -> None:
        self._reserve = reserve or Reserve()

    async def command(self, argv: Sequence[str], within_s: float) -> Done:
        """Run a program in a session of its own; one that takes too long is killed with all it started.

        Its output is a pipe of ours: asyncio's own would wait for every child it leaves behind. Its end is told by a descriptor:
        asyncio would start a thread for it.
        """
        with self._reserve.lent():
            try:
                program = Program(argv)
            except (OSError, ValueError) as error:
                return Done(Outcome.REJECTED, f"{argv[0]} can't be started: {getattr(error, 'strerror', None) or error}")
            code = await program.end(within_s)
        said = program.said
        if code is None:
            return Done(Outcome.UNCONFIRMED, said.behind(f"{argv[0]} did not end within {within_s:.3g} s and was killed"))
        if code == 0:
            return Done(Outcome.ACCEPTED, said.text, 0)
        ended = f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
        return Done(Outcome.REJECTED, said.behind(f"{argv[0]}: {ended}"), code)

    async def webhook(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
        """POST JSON on a thread of its own, so that servers that hang hold up nobody else."""
        try:
            async with asyncio.timeout(within_s + 1.0):
                with self._reserve.lent():
                    return await self._reserve.in_thread(lambda: _post(url, headers, body, within_s))
        except TimeoutError:
            return Done(Outcome.UNCONFIRMED, f"no answer within {within_s:.3g} s; it may have been received")
        except RuntimeError as error:
            return Done(Outcome.REJECTED, f"nothing was sent: {error}")

    async def wake(self, mac: str, to: str) -> Done:
        """Send a magic packet to a broadcast address, or to a host that passes it on."""
        try:
            packet = magic_packet(mac)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sender.setblocking(False)
                sender.sendto(packet, (to, MAGIC_PORT))
        except (OSError, ValueError) as error:
            return Done(Outcome.REJECTED, f"the magic packet for {mac} could not be sent: {error}")
        return Done(Outcome.UNCONFIRMED, f"magic packet for {mac} sent to {to}")

    async def port(self, host: str, port: int, within_s: float) -> Port:
        """Try to connect; nothing is said, and what answers is hung up on."""
        try:
            async with asyncio.timeout(within_s):
                _, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            return Port.REFUSED
        except TimeoutError:
            return Port.SILENT
        except OSError as error:
            away = (errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNABORTED)
            return Port.SILENT if error.errno in away else Port.UNKNOWN
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return Port.OPEN


    async def answers(self, host: str, within_s: float) -> bool | None:
        """An echo, or ARP."""
        return await reach.answers(host, within_s)


class Tail:
    """The last words of something that may talk without end."""

    def __init__(self) -> None:
        self._bytes = b""
        self._cut = False

    def add(self, chunk: bytes) -> None:
        """Keep the end."""
        whole = self._bytes + chunk
        self._cut = self._cut or len(whole) > KEPT_CHARACTERS
        self._bytes = whole[-KEPT_CHARACTERS:]

    def take(self, pipe: int) -> bool:
        """Keep the end of what a pipe holds now; False at its end."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(TAKEN_AT_ONCE):
                chunk = os.read(pipe, 65536)
                if not chunk:
                    return False
                self.add(chunk)
        return True

    @property
    def text(self) -> str:
        """On one line, without control characters."""
        words = " ".join(self._bytes.decode(errors="replace").split())
        clean = "".join(c if c.isprintable() else "?" for c in words)
        return f"…{clean}" if self._cut else clean

    def behind(self, text: str) -> str:
        """``text``, and what was said."""
        return f"{text}: {self.text}" if self.text else text


def magic_packet(mac: str) -> bytes:
    """Six bytes of 0xFF and sixteen times the address. Raises ValueError for one that is none."""
    digits = re.sub(r"[:.-]", "", mac)
    if not re.fullmatch(r"[0-9A-Fa-f]{12}", digits):
        raise ValueError(f"{mac!r} is no hardware address")
    return b"\xff" * 6 + bytes.fromhex(digits) * 16


class Program:
    """One running program and the end of what it says. Raises OSError and ValueError where none can be started."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.said = Tail()
        self._out, writing = os.pipe()
        os.set_blocking(self._out, False)
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=writing, stderr=writing, start_new_session=True
            )
        except BaseException:
            os.close(self._out)
            raise
        finally:
            os.close(writing)

    async def end(self, within_s: float) -> int | None:
        """Its exit code, negative for a signal's number; None if it had to be killed."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        gone = self._watch(loop, ended)
        loop.add_reader(self._out, lambda: self.said.take(self._out) or loop.remove_reader(self._out))
        try:
            async with asyncio.timeout(within_s):
                while self._process.poll() is None:
                    await _wait(ended, None if gone is not None else WITHOUT_PIDFD_S)
            return self._process.returncode
        except TimeoutError:
            return None
        finally:
            loop.remove_reader(self._out)
            self._kill()
            with contextlib.suppress(TimeoutError):  # one that not even SIGKILL ends waits in a driver: it is left there
                async with asyncio.timeout(KILL_S):
                    while self._process.poll() is None:
                        await _wait(ended, WITHOUT_PIDFD_S)
            if gone is not None:
                loop.remove_reader(gone)
                os.close(gone)
            self.said.take(self._out)
            os.close(self._out)

    def _watch(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> int | None:
        """Have ``ended`` set by the kernel; None where it can't say so."""
        try:
            gone = os.pidfd_open(self._process.pid)
        except OSError:
            return None
        loop.add_reader(gone, ended.set)
        return gone

    def _kill(self) -> None:
        """Kill it if it still runs, with its children."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


async def _wait(ended: asyncio.Event, longest_s: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(longest_s):
            await ended.wait()


def _post(url: str, headers: Mapping[str, str], body: Mapping[str, Any], within_s: float) -> Done:
    from urllib.error import HTTPError, URLError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    class Stay(HTTPRedirectHandler):
        """A POST that is sent elsewhere would become a GET: it is told instead."""

        def redirect_request(self, *args: Any) -> None:
            return None

    said = Tail()
    request = Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "qxfleet", **headers}, method="POST"
    )
    try:
        with build_opener(Stay).open(request, timeout=within_s) as answer:
            said.add(answer.read(KEPT_CHARACTERS))
            return Done(Outcome.ACCEPTED, said.behind(f"HTTP {answer.status}"))
    except HTTPError as error:
        with error:
            said.add(error.read(KEPT_CHARACTERS))
        return Done(Outcome.REJECTED, said.behind(f"HTTP {error.code} {error.reason}"))
    except TimeoutError:
        return Done(Outcome.UNCONFIRMED, f"no answer within {within_s:.3g} s; it may have been received")
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            return Done(Outcome.UNCONFIRMED, f"no answer within {within_s:.3g} s; it may have been received")
        return Done(Outcome.REJECTED, f"{url} can't be reached: {error.reason}")
    except (OSError, ValueError) as error:
        return Done(Outcome.REJECTED, f"{url}: {error}")
