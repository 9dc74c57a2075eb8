"""The wire between the core and the interfaces' process: whole messages over a socket pair.

Down, from the core, go pickled values: the interfaces trust it. Up goes JSON only, because the core trusts nothing of what comes
from a process that strangers talk to.
"""

from __future__ import annotations

import asyncio
import copyreg
import json
import pickle
import struct
from types import MappingProxyType
from typing import Any

HEAD = struct.Struct("!I")
LONGEST_UP = 256 * 1024
"""Bytes of a message from the interfaces; a longer one ends them."""

copyreg.pickle(MappingProxyType, lambda proxy: (MappingProxyType, (dict(proxy),)))


class Garbled(Exception):
    """The interfaces sent what is no message."""


def down(message: object) -> bytes:
    """A message of the core."""
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(body)) + body


def up(message: dict[str, Any]) -> bytes:
    """A message of the interfaces."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEAD.pack(len(body)) + body


async def next_down(reader: asyncio.StreamReader) -> Any:
    """The core's next message. Raises IncompleteReadError when it is gone."""
    (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
    return pickle.loads(await reader.readexactly(size))


async def next_up(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The interfaces' next message. Raises IncompleteReadError when they are gone, Garbled."""
    (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
    if size > LONGEST_UP:
        raise Garbled(f"a message of {size} bytes")
    try:
        message = json.loads(await reader.readexactly(size))
    except (ValueError, RecursionError) as error:
        raise Garbled(f"a message that is no JSON: {error}") from None
    if not isinstance(message, dict):
        raise Garbled("a message that is no object")
    return message
