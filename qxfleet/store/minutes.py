"""Minutes packed: a row for each UPS and hour, in it a body of bits for each variable, about 15 bytes a minute.

``reading_minute`` holds the minutes of hours that are open: as they are rolled up, loaded or shipped. Once an hour is over and
rolled up it is packed; whoever writes minutes of a packed hour opens it first (:func:`reopen`), so a minute is in one of the two
only. Packing goes on where it was: the rows of former versions, and hours that were open twice, are packed and merged on the way.

A body holds parts of 60 numbers each, one for each minute, in as many bits as the largest of them needs: for each part a byte
(the bits a minute that it and those before it take), four bytes (the least number of the first part, from which it is counted,
plus 2**31), then the bits, the highest of each byte first. The parts of a variable are its mean, mean - min, max - mean,
last - min, and how many of the minute's rows lacked it; ``rows`` has one part, and ``status`` has the flags seen and those that
were down at the end. A minute without rows does not exist. Views read bodies by SQL: see revision 0007.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, text, tuple_

from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.tables import meta, packed_minutes, reading_minute

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 60 * MINUTE_US

BUDGET_S: Final = 0.1
"""A step ends with the chunk in which it has taken so long: the writer, and whoever waits for a row, wait a little more."""

ROWS: Final = 600
"""Minutes of one chunk."""

PACKED: Final = "minutes-packed-until"
PACKING: Final = "minutes-being-packed"
"""Keys in ``meta``: until when every hour is packed, and the device at which the pass that is under way goes on."""

ADVISORY_LOCK: Final = 0x71786672
"""PostgreSQL's key for "one writes tiers at a time"."""

Row = tuple[Any, ...]
"""A row of ``reading_minute``, in the order of its table."""

_SIGN: Final = 1 << 31
_ZEROS: Final = bytes(64)
_FIRST: Final = 6
"""Where the values of a row of ``reading_minute`` begin, five for each variable."""


# Bodies


def pack(parts: Sequence[Sequence[int]]) -> bytes:
    """A body of parts of 60 numbers each; those of the first may be negative."""
    base = min(parts[0])
    bits, ends, end = 0, bytearray(), 0
    for part in ([value - base for value in parts[0]], *parts[1:]):
        width = max(part).bit_length()
        end += width
        ends.append(end)
        packed = 0
        if width:
            for value in part:
                packed = packed << width | value
        bits = bits << 60 * width | packed
    size = (60 * end + 7) // 8
    return bytes(ends) + (base + _SIGN).to_bytes(4) + (bits << 8 * size - 60 * end).to_bytes(size)


def unpack(body: bytes, count: int) -> tuple[int, list[Sequence[int]]]:
    """What is to be added to the first part of a body of ``count`` parts, and its parts; behind the 60th are zeros."""
    bits = int.from_bytes(body[count + 4 :]) >> -60 * body[count - 1] % 8
    parts: list[Sequence[int]] = []
    for place in range(count - 1, -1, -1):
        width = body[place] - (body[place - 1] if place else 0)
        parts.append(_values(bits & (1 << 60 * width) - 1, width) if width else _ZEROS)
        bits >>= 60 * width
    return int.from_bytes(body[count : count + 4]) - _SIGN, parts[::-1]


def _values(bits: int, width: int) -> Sequence[int]:
    """60 numbers of some bits each, spread to whole bytes: halves, then quarters and so on: six steps and not sixty."""
    lane = 8 if width <= 8 else 16 if width <= 16 else 32
    bits <<= 4 * width
    for low, high, shift in _spread(width, lane):
        bits = (bits & high) << shift | bits & low
    spread = bits.to_bytes(8 * lane)
    return spread if lane == 8 else struct.unpack(">64H" if lane == 16 else ">64I", spread)


@cache
def _spread(width: int, lane: int) -> list[tuple[int, int, int]]:
    """For each step the masks of what stays and of what moves, and how far."""
    steps = []
    for half in (32, 16, 8, 4, 2, 1):
        low = ((1 << half * width) - 1) * sum(1 << 2 * half * lane * place for place in range(32 // half))
        steps.append((low, low << half * width, half * (lane - width)))
    return steps


def pack_hour(minutes: Mapping[int, Row]) -> list[bytes | None]:
    """The bodies of an hour from its minutes by their place in it, in the order of the table: rows, status, each variable."""
    nothing = [0] * 60
    rows, missing = nothing.copy(), nothing.copy()
    least = min(row[4] for row in minutes.values())
    seen, down = [least] * 60, nothing.copy()
    for place, row in minutes.items():
        rows[place], seen[place], down[place] = row[2], row[4], row[4] & ~row[5]
    bodies: list[bytes | None] = [pack([rows]), pack([seen, down])]
    for first in range(_FIRST, _FIRST + 5 * len(READING_COLUMNS), 5):
        known = {place: row[first : first + 5] for place, row in minutes.items() if row[first + 1] is not None}
        if not known:
            bodies.append(None)
            continue
        least = min(five[1] for five in known.values())
        mean, low, high, last, missing = [least] * 60, nothing.copy(), nothing.copy(), nothing.copy(), rows.copy()
        for place, five in known.items():
            lowest, middle, highest, final, count = five
            final = middle if final is None else final
            lowest = min(middle, final, middle if lowest is None else lowest)
            highest = max(middle, final, middle if highest is None else highest)
            mean[place], low[place], high[place], last[place] = middle, middle - lowest, highest - middle, final - lowest
            missing[place] = 0 if count is None else max(0, rows[place] - count)
        bodies.append(pack([mean, low, high, last, missing]))
    return bodies


def unpack_hour(device: int, at_us: int, bodies: Sequence[bytes | None]) -> list[Row]:
    """The minutes of a packed hour as rows of ``reading_minute``."""
    assert bodies[0] is not None and bodies[1] is not None
    least, [rows] = unpack(bodies[0], 1)
    flags, (seen, down) = unpack(bodies[1], 2)
    variables = [None if body is None else unpack(body, 5) for body in bodies[2:]]
    made = []
    for place in range(60):
        count = least + rows[place]
        if not count:
            continue
        status = flags + seen[place]
        row: list[int | None] = [device, at_us + place * MINUTE_US, count, 1, status, status & ~down[place]]
        for found in variables:
            base, (mean, low, high, last, missing) = found or (0, [_ZEROS] * 5)
            if found is None or missing[place] >= count:
                row += _UNKNOWN
                continue
            middle, below, final = base + mean[place], low[place], last[place]
            row += (
                middle - below if below else None, middle, middle + high[place] if high[place] else None,
                middle - below + final if final != below else None, count - missing[place] if missing[place] else None,
            )  # fmt: skip
        made.append(tuple(row))
    return made


_UNKNOWN: Final[tuple[Any, ...]] = (None, None, None, None, 0)


# In the database


def reopen(connection: Connection, begin_us: int, end_us: int, first: int, last: int) -> None:
    """Open the packed hours of devices ``first`` to ``last`` in ``[begin, end)``, before minutes of theirs are written."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
    table = packed_minutes.c
    these = (table.device_id.between(first, last), table.at > begin_us - HOUR_US, table.at < end_us)
    for device, at_us, *bodies in connection.execute(select(packed_minutes).where(*these)).all():
        _put(connection, reading_minute, unpack_hour(device, at_us, bodies))
        _drop(connection, [(device, at_us)])
        connection.execute(delete(meta).where(meta.c.key == PACKED))


def pack_step(connection: Connection, until_us: int) -> bool:
    """Pack some of the hours that end until then and are open; whether there are more."""
    found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.in_((PACKED, PACKING)))).all()
    marks = {key: int(value) for key, value in found}
    if marks.get(PACKED, 0) >= until_us:
        return False
    deadline_s = time.monotonic() + BUDGET_S
    device = _pack_chunk(connection, marks.get(PACKING, 0), until_us)
    while device is not None and time.monotonic() < deadline_s:
        device = _pack_chunk(connection, device, until_us)
    connection.execute(delete(meta).where(meta.c.key.in_((PACKED, PACKING))))
    done = (PACKED, until_us) if device is None else (PACKING, device)
    connection.execute(insert(meta), {"key": done[0], "value": str(done[1])})
    return device is not None


def _pack_chunk(connection: Connection, device: int, until_us: int) -> int | None:
    """Pack open hours from a device on; the device at which to go on, None: that was all."""
    table = reading_minute.c
    these = (table.device_id >= device, table.at < until_us)
    found = connection.execute(select(reading_minute).where(*these).order_by(table.device_id, table.at).limit(ROWS)).all()
    hours = [(key, list(map(tuple, rows))) for key, rows in groupby(found, lambda row: (row[0], row[1] // HOUR_US * HOUR_US))]
    if len(found) == ROWS:
        hours.pop()  # it may go on
    if not hours:
        return None
    keys = [key for key, _ in hours]
    packed = packed_minutes.c
    twice = connection.execute(select(packed_minutes).where(tuple_(packed.device_id, packed.at).in_(keys))).all()
    before = {(row[0], row[1]): unpack_hour(row[0], row[1], row[2:]) for row in twice}
    if before:
        _drop(connection, list(before))
    made = []
    for (number, at_us), rows in hours:
        minutes: dict[int, Row] = {}
        for row in (*before.get((number, at_us), ()), *rows):  # of two the one of as many readings at least, as everywhere
            place = (row[1] - at_us) // MINUTE_US
            if place not in minutes or row[2] >= minutes[place][2]:
                minutes[place] = row
        made.append((number, at_us, *pack_hour(minutes)))
    _put(connection, packed_minutes, made)
    connection.execute(_GONE, [{"device": number, "begin": at_us, "end": at_us + HOUR_US} for number, at_us in keys])
    return keys[-1][0] if len(found) == ROWS else None


_GONE: Final = (
    delete(reading_minute).where(reading_minute.c.device_id == bindparam("device"))
    .where(reading_minute.c.at >= bindparam("begin"), reading_minute.c.at < bindparam("end"))
)  # fmt: skip


def _put(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    names = [column.name for column in table.columns]
    connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])


def _drop(connection: Connection, keys: Sequence[tuple[int, int]]) -> None:
    table = packed_minutes.c
    connection.execute(delete(packed_minutes).where(tuple_(table.device_id, table.at).in_(keys)))
