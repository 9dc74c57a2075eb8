"""Exchanges with a UPS as plain text: to record, to share, to replay.

One line per event behind a head of ``#`` lines: seconds since the start, then ``>`` and what was sent, ``<`` and what
came, or ``!`` and what went wrong. Bytes that are not printable are written ``\\r`` ``\\n`` ``\\t`` ``\\xHH``, a
backslash twice.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from qxfleet.errors import LinkLost, ReplyError, ReplyMalformed, ReplyTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.wire import QUIET_S, Ask
from qxfleet.transports.base import LinkInfo, Transport

HEAD = """\
# qxfleet transcript 1
# It holds, for each exchange: seconds since the start, the bytes sent to the UPS, the bytes it answered, and failures.
# It does not hold the name of this machine, the port, the user, or the time of day.
# What the UPS says of itself (maker, model, perhaps a serial number) stands in its answers: look before sharing.
"""

TIMEOUT, LOST = "timeout", "link lost"
"""Troubles that every replay knows; any other one is the reason of a malformed reply."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what became of it. ``reply`` includes the end byte if one came; ``trouble`` is empty if all was well.

    ``at_s`` and ``done_s`` count from the start of the record, to the millisecond.
    """

    at_s: float
    request: bytes
    done_s: float
    reply: bytes = b""
    trouble: str = ""

    def text(self) -> str:
        """The lines of this exchange."""
        lines = [f"{self.at_s:.3f} > {escape(self.request)}"]
        if self.reply:
            lines.append(f"{self.done_s:.3f} < {escape(self.reply)}")
        if self.trouble:
            lines.append(f"{self.done_s:.3f} ! {self.trouble}")
        return "".join(f"{line}\n" for line in lines)


def escape(data: bytes) -> str:
    """Bytes as printable ASCII on one line, without blanks at its ends that an editor would cut."""
    named = {92: "\\\\", 13: "\\r", 10: "\\n", 9: "\\t"}
    text = "".join(named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}") for byte in data)
    if text.startswith(" "):
        text = "\\x20" + text[1:]
    return text[:-1] + "\\x20" if text.endswith(" ") else text


_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([rnt\\]))")
_PLAIN = re.compile(r"(?:[ -\[\]-~]|\\x[0-9a-fA-F]{2}|\\[rnt\\])*")


def unescape(text: str) -> bytes:
    """The bytes that :func:`escape` wrote. ``ValueError`` if the text is not of its making."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"not an escaped line of bytes: {text!r}")
    named = {"r": "\r", "n": "\n", "t": "\t", "\\": "\\"}
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else named[m[2]], text).encode("latin-1")


def read_transcript(lines: Iterable[str]) -> list[Exchange]:
    """The exchanges of a transcript, comments and blank lines skipped; ``ValueError`` names the line that is wrong."""
    exchanges: list[Exchange] = []
    opened = False
    for number, raw in enumerate(lines, 1):
        line = raw.rstrip("\r\n")
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?) ([<>!])(?: (.*?))?\s*", line)
        if not match:
            raise ValueError(f"line {number}: expected seconds, then >, < or !, then text, not {line!r}")
        at_s, mark, text = float(match[1]), match[2], match[3] or ""
        try:
            if mark == ">":
                exchanges.append(Exchange(at_s, unescape(text), at_s))
                opened = True
                continue
            if not opened:
                raise ValueError("an answer without a request before it")
            last = exchanges[-1]
            if mark == "<":
                exchanges[-1] = Exchange(last.at_s, last.request, at_s, last.reply + unescape(text))
            else:
                exchanges[-1] = Exchange(last.at_s, last.request, at_s, last.reply, text)
                opened = False
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return exchanges


class RecordingTransport(Transport):
    """A transport that writes every exchange of another one to ``stream`` as it happens, head first."""

    def __init__(self, inner: Transport, stream: TextIO, clock: Clock | None = None) -> None:
        self.label = inner.label
        self._inner = inner
        self._stream = stream
        self._clock = clock or Clock()
        self._began_s = self._clock.monotonic()
        stream.write(HEAD)

    async def open(self) -> LinkInfo:
        """Open the link underneath."""
        return await self._inner.open()

    async def exchange(self, ask: Ask) -> bytes:
        """Exchange over the link underneath; the record is written before this returns or raises."""
        at_s = self._clock.monotonic() - self._began_s
        reply, trouble = b"", ""
        try:
            frame = await self._inner.exchange(ask)
            reply = frame + bytes((ask.end,))
            return frame
        except ReplyTimeout as error:
            reply, trouble = error.frame, TIMEOUT
            raise
        except ReplyError as error:
            reply, trouble = error.frame, error.reason
            raise
        except LinkLost:
            trouble = LOST
            raise
        finally:
            done_s = self._clock.monotonic() - self._began_s
            self._stream.write(Exchange(at_s, ask.request, done_s, reply, trouble).text())
            self._stream.flush()

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Drain the link underneath."""
        return await self._inner.drain(listen_s)

    async def close(self) -> None:
        """Close the link underneath; the stream stays open."""
        await self._inner.close()


class ReplayTransport(Transport):
    """A link to a UPS that is only on record: each request gets its recorded answers, in their order, at once.

    A request that was never recorded is answered with silence. When its answers are used up, ``repeat`` gives the last
    one again; otherwise silence.
    """

    def __init__(self, exchanges: Iterable[Exchange], *, repeat: bool = False, label: str = "transcript") -> None:
        self.label = label
        self._repeat = repeat
        self._answers: dict[bytes, deque[Exchange]] = defaultdict(deque)
        for exchange in exchanges:
            self._answers[exchange.request].append(exchange)

    async def open(self) -> LinkInfo:
        """Nothing to open."""
        return LinkInfo(self.label, "recorded")

    async def exchange(self, ask: Ask) -> bytes:
        """The recorded answer to ``ask.request``; the recorded trouble is raised as the link raised it."""
        answers = self._answers.get(ask.request)
        if not answers:
            raise ReplyTimeout
        exchange = answers[0] if self._repeat and len(answers) == 1 else answers.popleft()
        end = bytes((ask.end,))
        match exchange.trouble:
            case "" if exchange.reply.endswith(end):
                return exchange.reply[: -len(end)]
            case "" | "timeout":
                raise ReplyTimeout(frame=exchange.reply) if exchange.reply else ReplyTimeout
            case "link lost":
                raise LinkLost(self.label, "lost, as recorded")
            case reason:
                raise ReplyMalformed(reason, exchange.reply)

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Nothing is ever waiting."""
        return 0

    async def close(self) -> None:
        """Nothing to close."""
