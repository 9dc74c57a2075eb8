"""Everything a device says, asked once: what a report of an unknown one is made of. Sends queries only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qxfleet.dialects.registry import DIALECTS, STATUS_PROBES
from qxfleet.dialects.spec import Dialect, Query, Topic, acts
from qxfleet.errors import DialectUnknown, ReplyError
from qxfleet.model.wire import REPLY_S, crc_of, sealed
from qxfleet.session.detect import detect
from qxfleet.session.plans import ask_of, filled, read
from qxfleet.transports.base import Transport

SECRET = frozenset({"ups.serial", "device.serial", "device.part"})
"""What tells one unit from all others of its kind."""

STATUS_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Report:
    """What a look at everything brought: the dialect, or None where none fits."""

    link: str
    dialect: Dialect | None


async def ask_everything(transport: Transport, port: str) -> Report:
    """Open the link, find out the dialect, ask all that it has, or every question of every dialect, and close the link.

    Raises LinkError. What was said is for a recording transport to keep.
    """
    try:
        link = await transport.open()
        known: dict[str, float | str | bool] = {}
        try:
            dialect, evidence = await detect(transport.exchange, port, facts=link.facts)
        except DialectUnknown:
            dialect = None
        else:
            for values in evidence.values.values():
                known.update(values)
        for query in _questions(dialect):
            request = filled(query.command, known)
            if request is None or acts(request):
                continue
            try:
                frame = await transport.exchange(ask_of(query, request))
                known.update(read(query, frame))
            except ReplyError:
                await transport.drain()
        for _ in range(STATUS_ROUNDS):
            for query in _statuses(dialect):
                try:
                    await transport.exchange(ask_of(query, deadline_s=REPLY_S))
                except ReplyError:
                    await transport.drain()
        return Report(link.detail, dialect)
    finally:
        await transport.close()


def _questions(dialect: Dialect | None) -> Iterator[Query]:
    """Each question once: those of the dialect, or of all."""
    asked: set[bytes] = set()
    for each in DIALECTS if dialect is None else (dialect,):
        for query in each.queries:
            if query.command not in asked and query.topic is not Topic.TESTING:
                asked.add(query.command)
                yield query


def _statuses(dialect: Dialect | None) -> Iterator[Query]:
    for each in DIALECTS if dialect is None else (dialect,):
        query = each.query(each.claim.status)
        if query is not None and (dialect is not None or query.command in STATUS_PROBES[:2]):
            yield query
            if dialect is None and query.command == STATUS_PROBES[0]:
                return


def masked(request: bytes, frame: bytes) -> bytes:
    """A reply in which every value that could name one unit is replaced by as many noughts and Xs, its CRC made anew.

    Where no table knows where such a value stands, whatever looks like a serial number is: eight letters and digits in a row and
    more, six of them digits, and not all of them status bits.
    """
    crc = sealed(frame)
    body = frame[:-2] if crc else frame
    secrets: set[bytes] = set()
    known = False
    for dialect in DIALECTS:
        for query in dialect.queries:
            if filled(query.command, {"ups.id": request[-3:-1].decode("latin-1")}) != request:
                continue
            try:
                values = read(query, frame)
            except ReplyError:
                continue
            known = True
            secrets |= {str(value).encode() for name, value in values.items() if name in SECRET}
    for secret in sorted(secrets if known else _suspects(body), key=len, reverse=True):
        body = body.replace(secret, _blank(secret))
    return body + crc_of(body) if crc else body


def _suspects(body: bytes) -> Iterator[bytes]:
    run = bytearray()
    for byte in (*body, 0):
        if chr(byte).isalnum() and byte < 128:
            run.append(byte)
            continue
        if len(run) >= 8 and sum(chr(each).isdigit() for each in run) >= 6 and set(run) - set(b"01"):
            yield bytes(run)
        run.clear()


def _blank(secret: bytes) -> bytes:
    return bytes(48 if chr(byte).isdigit() else 88 if chr(byte).isalpha() else byte for byte in secret)
