"""What a transport is asked to carry: the one noun that dialects and transports share."""

from __future__ import annotations

import enum
from binascii import crc_hqx
from dataclasses import dataclass

CR = 13

FIRST_REPLY_S = 3.0
"""Deadline of the very first reply after opening; slow units need it (NUT issue 3282)."""

REPLY_S = 1.0
"""Deadline of any other reply, from the end of the request: the incumbent's own figure (megatec-family.md, Link)."""

QUIET_S = 0.1
"""A line that has said nothing for this long has finished: 24 characters at 2400 baud."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request and the limits of its reply.

    ``request`` is the bytes to send, end byte included; ``end`` the byte that ends a reply; ``max_len`` the most bytes a
    reply may have; ``deadline_s`` seconds from the end of the request until :class:`~qxfleet.errors.ReplyTimeout`.
    ``binary_len``: the reply has so many bytes, and an end byte before that may be one of them.
    """

    request: bytes
    deadline_s: float = REPLY_S
    end: int = CR
    max_len: int = 512
    binary_len: int = 0


class Answer(enum.Enum):
    """What kind of thing came back, before any table looks at it."""

    VALUE = "value"
    ECHO = "echo"
    REFUSED = "refused"
    ACCEPTED = "accepted"
    SILENCE = "silence"
    GARBAGE = "garbage"


REFUSALS = frozenset({b"NAK", b"(NAK", b"N", b"UPS No Ack"})
"""Replies that mean "I do not know that" (quirks.md; megatec-family.md section 8)."""

ACCEPTANCES = frozenset({b"ACK", b"(ACK", b"OK"})
"""Replies that mean "done" (quirks.md, success replies)."""


def sort_answer(request: bytes, frame: bytes) -> Answer:
    """Name the kind of a frame (end byte already cut) that answered ``request``.

    Sources: megatec-family.md sections 8 and 10.6, voltronic.md section 1.3, quirks.md '"I do not know that command"'.
    """
    body = frame.strip(b"\0\n ")
    if not body:
        return Answer.SILENCE
    if body == request.rstrip(b"\r"):
        return Answer.ECHO
    if body in REFUSALS or body.startswith(b"UPS No Ack"):
        return Answer.REFUSED
    if body in ACCEPTANCES:
        return Answer.ACCEPTED
    head = body[:4].upper()
    if head == b"(ACK":
        return Answer.ACCEPTED
    if head == b"(NAK" and (len(body) == 4 or sealed(body)):
        return Answer.REFUSED
    return Answer.VALUE


_NEVER_IN_A_CRC = frozenset(b"\n\r(")


def crc_of(text: bytes) -> bytes:
    """The two bytes that close a frame: CRC-16/XMODEM, high byte first, LF, CR and ``(`` sent plus one (voltronic.md 1.5)."""
    return bytes(byte + 1 if byte in _NEVER_IN_A_CRC else byte for byte in crc_hqx(text, 0).to_bytes(2, "big"))


def sealing(text: bytes) -> bytes:
    """A request as devices with a CRC want it: text, CRC, CR."""
    return text + crc_of(text) + b"\r"


def shown(request: bytes) -> str:
    """A request as people read it, without its end byte and CRC."""
    body = request.rstrip(b"\r")
    return (body[:-2] if len(body) > 3 and sealed(body) else body).decode("latin-1").strip()


def sealed(frame: bytes) -> bool:
    """Whether the last two bytes are the CRC of the rest: XMODEM, high byte first, LF, CR and ``(`` sent plus one.

    Source: voltronic.md section 1.5; quirks.md "Inverter cousins". One frame in 65536 passes by chance.
    """
    return len(frame) > 2 and frame[-2:] == crc_of(frame[:-2])
