"""Connections to NUT servers, one for all the UPSes of each (RFC 9271).

Requests go out as they come, a few ahead of their answers, and are answered in order. Whatever is out of order ends the
connection: an answer to something else, a line or a list without an end, one that takes too long, words nobody asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import re
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from qxfleet.errors import LinkError, LinkLost, LinkTimeout, LinkUnavailable
from qxfleet.model.options import UpsdAccess
from qxfleet.transports.tcp import connect_to, keep_alive, unavailable

CONNECT_S: Final = 5.0
ANSWER_S: Final = 5.0
"""For a whole answer, from the request. NUT's own clients hang up as soon."""

WAIT_S: Final = 10.0
"""For a whole answer, from the moment somebody wanted it: many that are each in time may together be too slow to be of use."""

LOOK_S: Final = 0.5
"""How often it is looked whether an answer is late."""

AHEAD: Final = 8
"""Requests that may be under way at the same time: a server far away answers many UPSes a second, and no buffer is filled."""

LONGEST_LINE: Final = 4096
LONGEST_ANSWER: Final = 256 * 1024
"""Bytes. Lines of servers are at most 1 KiB, the longest lists some 20 KiB."""

BACK_OFF_S: Final = (1.0, 2.0, 5.0, 10.0)
"""Between two attempts to connect, whoever of its UPSes wants to."""

_LIST = re.compile(r"BEGIN (LIST .*)")


@dataclass(slots=True, eq=False)
class _Request:
    text: str
    done: asyncio.Future[list[str]]
    asked_s: float
    shown: str
    sent_s: float = 0.0
    lines: list[str] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection from its first word to its end. ``on_end`` is called once with why; what is under way raises that."""

    def __init__(self, label: str, on_end: Callable[[LinkLost], None]) -> None:
        self.label = label
        self.peer = "?"
        self.lost: LinkLost | None = None
        self._on_end = on_end
        self._wire: asyncio.Transport | None = None
        self._sent: deque[_Request] = deque()
        self._queue: deque[_Request] = deque()
        self._buffer = bytearray()
        self._listing = ""
        self._size = 0
        self._look: asyncio.TimerHandle | None = None

    # -- asking

    def ask(self, text: str, *, first: bool = False, shown: str = "") -> asyncio.Future[list[str]]:
        """The lines of one answer, without BEGIN and END of a list. ``first``: before what waits; ``shown``: what may be said of
        a request that holds a secret. Raises LinkLost."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[list[str]] = loop.create_future()
        if self.lost is not None:
            done.set_exception(self.lost)
            return done
        (self._queue.appendleft if first else self._queue.append)(_Request(text, done, loop.time(), shown or text))
        self._send()
        return done

    def _send(self) -> None:
        loop = asyncio.get_running_loop()
        while self._wire is not None and self._queue and len(self._sent) < AHEAD:
            request = self._queue.popleft()
            if request.done.done():
                continue  # whoever asked has gone
            request.sent_s = loop.time()
            self._sent.append(request)
            self._wire.write(f"{request.text}\n".encode())
        if self._look is None and self._sent:
            self._look = loop.call_later(LOOK_S, self._in_time)

    def _in_time(self) -> None:
        """A late answer: the server hangs, or whatever comes is too slow to be of use."""
        self._look = None
        if not self._sent:
            return
        now_s, head = asyncio.get_running_loop().time(), self._sent[0]
        asked_s = min(request.asked_s for request in (*self._sent, *self._queue))
        if now_s - head.sent_s < ANSWER_S and now_s - asked_s < WAIT_S:
            self._send()
            return
        begun = head.lines or self._listing or self._buffer
        limit_s = ANSWER_S if now_s - head.sent_s >= ANSWER_S else WAIT_S
        self.fail(f"the NUT server does not {'finish its answer' if begun else 'answer'} to {head.shown} within {limit_s:g} s: "
                  "it hangs, or its network does")  # fmt: skip

    # -- TLS

    async def secure(self, context: ssl.SSLContext, host: str) -> bytes:
        """The handshake; the server's certificate in DER. Raises what asyncio and ssl raise, and LinkUnavailable."""
        if self.lost is not None or self._wire is None:
            raise self.lost or LinkLost(self.label, "the NUT server hung up before TLS began")
        if self._buffer:
            raise LinkUnavailable(self.label, "the NUT server said more in clear text before TLS began", hopeless=True)
        secured = await asyncio.get_running_loop().start_tls(self._wire, self, context, server_hostname=host)
        if secured is None or self.lost is not None:
            raise self.lost or LinkLost(self.label, "the NUT server hung up during the TLS handshake")
        self._wire = secured
        return secured.get_extra_info("ssl_object").getpeercert(binary_form=True) or b""

    # -- what comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._wire = transport
        self.peer = str((transport.get_extra_info("peername") or ("?",))[0])
        with contextlib.suppress(OSError):
            keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        """Lines, as they get whole."""
        buffer = self._buffer
        buffer += data
        at = 0
        while self.lost is None and (end := buffer.find(b"\n", at)) >= 0:
            self._line(_printable(buffer[at:end].decode("utf-8", "replace").rstrip("\r")))
            at = end + 1
        del buffer[:at]
        if len(buffer) > LONGEST_LINE:
            self.fail(f"the NUT server sent a line of more than {LONGEST_LINE} bytes")

    def _line(self, line: str) -> None:
        if not self._sent:
            self.fail(f"the NUT server said what nobody asked for: {line[:60]!r}")
            return
        request = self._sent[0]
        self._size += len(line)
        wrong = f"the NUT server answered {request.shown} with {line[:60]!r}"
        if self._size > LONGEST_ANSWER:
            self.fail(f"the NUT server's answer to {request.shown} has no end")
        elif self._listing:
            if line == f"END {self._listing}":
                self._answered(request)
            elif line.startswith(("BEGIN ", "END ", "ERR ")):
                self.fail(f"{wrong} in the midst of a list")
            else:
                request.lines.append(line)
        elif begin := _LIST.fullmatch(line):
            self._listing = begin[1].rstrip()
            if self._listing.lower() != request.text.lower():
                self.fail(wrong)
        elif request.text.startswith("LIST ") and not line.startswith("ERR "):
            self.fail(wrong)
        else:
            request.lines.append(line)
            self._answered(request)

    def _answered(self, request: _Request) -> None:
        self._sent.popleft()
        self._listing, self._size = "", 0
        if not request.done.done():
            request.done.set_result(request.lines)
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone, in the midst of something or not."""
        self._wire = None
        why = "" if error is None else f": {getattr(error, 'strerror', None) or error}"
        self.fail(f"the NUT server hung up{why}")

    def fail(self, reason: str) -> None:
        """Hang up, once; everybody hears why."""
        if self.lost is not None:
            return
        self.lost = error = LinkLost(self.label, reason)
        if self._wire is not None:
            self._wire.abort()
            self._wire = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        waiting = (*self._sent, *self._queue)
        self._sent.clear()
        self._queue.clear()
        for request in waiting:
            if not request.done.done():
                request.done.set_exception(error)
        self._on_end(error)


class Upsd:
    """A NUT server as its UPSes here share it: one connection while anybody wants it, and one back-off for all.

    ``up`` is set while there is a connection; ``tracks``: the server tells what becomes of an order.
    """

    def __init__(self, access: UpsdAccess) -> None:
        self.access = access
        self.up = asyncio.Event()
        self.tracks = False
        self.about = ""
        self._label = f"nut://{access.host}:{access.port}"
        self._connection: Connection | None = None
        self._members: set[Callable[[LinkLost], None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._failure: LinkError | None = None
        self._failures = 0
        self._not_before_s = 0.0

    async def join(self, on_lost: Callable[[LinkLost], None]) -> None:
        """Be connected, and hear when that ends. Raises LinkError; until the back-off is over that of the last attempt."""
        self._members.add(on_lost)
        try:
            await self._be_up()
        except BaseException:
            self.leave(on_lost)
            raise

    async def _be_up(self) -> None:
        if not self.up.is_set():
            if self._connecting is None:
                if self._failure is not None and asyncio.get_running_loop().time() < self._not_before_s:
                    raise self._failure.with_traceback(None)
                self._connecting = asyncio.create_task(self._connect(), name=f"connect {self._label}")
                self._connecting.add_done_callback(self._connected)
            await asyncio.shield(self._connecting)

    def leave(self, on_lost: Callable[[LinkLost], None]) -> None:
        """The last to leave hangs up."""
        self._members.discard(on_lost)
        self._close_unwanted()

    def ask(self, text: str, *, first: bool = False) -> asyncio.Future[list[str]]:
        """See :meth:`Connection.ask`."""
        if self._connection is None:
            raise LinkLost(self._label, "not connected")
        return self._connection.ask(text, first=first)

    @property
    def peer(self) -> str:
        """Its address."""
        return self._connection.peer if self._connection is not None else "?"

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        error = None if task.cancelled() else task.exception()
        loop = asyncio.get_running_loop()
        if isinstance(error, LinkError):
            self._failure = error
            self._not_before_s = loop.time() + BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
            self._failures += 1
        elif error is None and not task.cancelled():
            self._failure, self._failures = None, 0
            self._close_unwanted()  # whoever wanted it may have gone meanwhile

    def _close_unwanted(self) -> None:
        if not self._members and self._connecting is None and self._connection is not None:
            self._connection.fail("closed")

    def _ended(self, error: LinkLost) -> None:
        self._connection = None
        self.up.clear()
        for member in tuple(self._members):
            member(error)

    # -- connecting

    async def _connect(self) -> None:
        access, loop = self.access, asyncio.get_running_loop()
        connection = Connection(self._label, self._ended)
        try:
            async with asyncio.timeout(CONNECT_S):
                link, _ = await connect_to(loop, access.host, access.port)
                await loop.create_connection(lambda: connection, sock=link)
        except TimeoutError:
            remedy = "is the machine up, and no firewall in between?"
            raise LinkTimeout(self._label, f"the NUT server does not accept within {CONNECT_S:g} s", remedy) from None
        except OSError as error:
            found = unavailable(self._label, access.host, error)
            remedy = "does upsd run there, and LISTEN on this address?" if found.reason == "connection refused" else found.remedy
            raise LinkUnavailable(self._label, found.reason, remedy) from error
        try:
            await self._greet(connection)
        except BaseException:
            connection.fail("the greeting failed")
            raise
        self._connection = connection
        self.up.set()

    async def _greet(self, connection: Connection) -> None:
        """TLS, who we are, and whether orders can be followed; a word in any case, by which one that hangs is found out."""
        access = self.access
        if access.tls:
            answer = (await connection.ask("STARTTLS"))[0]
            if not answer.startswith("OK STARTTLS"):
                raise LinkUnavailable(self._label, f"the NUT server offers no TLS ({answer})",
                                      "give upsd a certificate, or take tls out of [[upsd]]", hopeless=True)  # fmt: skip
            await self._secure(connection)
        self.about = (await connection.ask("VER"))[0][:80]
        self.tracks = False
        if not access.user_file:
            return
        for word, file in (("USERNAME", access.user_file), ("PASSWORD", access.password_file)):
            value = await asyncio.to_thread(_only_line, self._label, file)
            answer = (await connection.ask(f"{word} {quoted(value)}", shown=word))[0]
            if not answer.startswith("OK"):
                raise LinkUnavailable(
                    self._label, f"the NUT server does not take the {word.lower()} ({answer})",
                    "correct the files named in [[upsd]], or the user in upsd.users", hopeless=True,
                )  # fmt: skip
        self.tracks = (await connection.ask("SET TRACKING ON"))[0].startswith("OK")

    async def _secure(self, connection: Connection) -> None:
        access = self.access
        try:
            context = await asyncio.to_thread(_context, access)
        except (OSError, ssl.SSLError) as error:
            raise LinkUnavailable(
                self._label, f"{access.ca_file}: {getattr(error, 'strerror', None) or error}",
                "ca_file of [[upsd]] is a PEM file with the certificate authority", hopeless=True,
            ) from None  # fmt: skip
        try:
            async with asyncio.timeout(CONNECT_S):
                certificate = await connection.secure(context, access.host)
        except TimeoutError:
            raise LinkTimeout(self._label, f"no TLS within {CONNECT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise LinkUnavailable(
                self._label, f"the NUT server's certificate can't be trusted: {error.verify_message}",
                "ca_file of [[upsd]] names who signed it, and it must be for this host; or pin it", hopeless=True,
            ) from None  # fmt: skip
        except (LinkError, ssl.SSLError, OSError) as error:
            if isinstance(error, LinkError):
                raise
            raise LinkUnavailable(self._label, f"no TLS with the NUT server: {error}") from None
        found = hashlib.sha256(certificate).hexdigest()
        if access.pin and not hmac.compare_digest(found, access.pin):
            raise LinkUnavailable(
                self._label, f"the NUT server's certificate is another than the pinned one: its SHA-256 is {found}",
                "if it was renewed on purpose correct pin of [[upsd]]", hopeless=True,
            )  # fmt: skip


_SERVERS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[UpsdAccess, Upsd]] = WeakKeyDictionary()


def server_of(access: UpsdAccess) -> Upsd:
    """The one connection of this loop to that server as that user."""
    servers = _SERVERS.setdefault(asyncio.get_running_loop(), {})
    return servers.setdefault(access, Upsd(access))


def quoted(text: str) -> str:
    """A word as the protocol takes any text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _printable(line: str) -> str:
    """A line without what could do something to a terminal or a log."""
    return line if line.isprintable() else "".join(char for char in line if char.isprintable())


def _only_line(label: str, file: str) -> str:
    try:
        lines = Path(file).read_text("utf-8").strip("\r\n").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise LinkUnavailable(label, f"{file}: {why}", "correct the files named in [[upsd]]", hopeless=True) from None
    if len(lines) != 1 or not lines[0].strip() or not lines[0].isprintable():
        raise LinkUnavailable(label, f"{file}: expected one line of text, found {len(lines) or 'none'}", hopeless=True)
    return lines[0].strip()


def _context(access: UpsdAccess) -> ssl.SSLContext:
    """Verified by a certificate authority, the machine's own by default; or, with a pin, by the pin alone."""
    context = ssl.create_default_context(cafile=access.ca_file or None)
    if access.pin:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
