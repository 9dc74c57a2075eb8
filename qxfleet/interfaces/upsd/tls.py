"""TLS on a connection that began in clear text, between the bytes of the wire and those of the protocol. No I/O.

asyncio's own ``start_tls`` keeps a quarter of a MiB for each connection; thousands of clients are let in here.
"""

from __future__ import annotations

import ssl

RECORD = 16 * 1024
"""Bytes of plain text in one record at most (RFC 8446 section 5.1)."""


class Tls:
    """The server's side of one session. ``ended``: the client has said that it sends no more."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.ended = False
        self._from_wire, self._to_wire = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._from_wire, self._to_wire, server_side=True)
        self._shaken = False

    def receive(self, sealed: bytes | memoryview) -> bytes:
        """What was in the bytes of the wire; nothing during the handshake. Raises SSLError."""
        self._from_wire.write(sealed)
        plain = b""
        try:
            if not self._shaken:
                self._session.do_handshake()
                self._shaken = True
            while chunk := self._session.read(RECORD):
                plain += chunk
            self.ended = True  # the peer's close_notify reads as nothing, and does so for ever
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # both sides have said it
            self.ended = True
        return plain

    def seal(self, plain: bytes) -> None:
        """Put an answer behind what :meth:`due` gives."""
        at = 0
        while at < len(plain):
            at += self._session.write(memoryview(plain)[at : at + RECORD])

    def close(self) -> None:
        """Say that nothing more comes."""
        if self._shaken:
            try:
                self._session.unwrap()
            except ssl.SSLError:
                return  # the other side has yet to say so too, and nobody waits for that

    def due(self) -> bytes:
        """What has to go over the wire now."""
        return self._to_wire.read()
