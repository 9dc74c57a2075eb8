"""Asks every USB UPS given as ``PATH`` or ``PATH:BRIDGE`` the commands of standard input, and prints replies as JSON.

Runs in a process of its own, below ``umockdev_bus.py``.
"""

from __future__ import annotations

import asyncio
import json
import sys

from qxfleet.errors import ReplyError
from qxfleet.model.wire import Ask
from qxfleet.transports.usb import UsbTransport
from qxfleet.transports.usb_bus import Selection


async def ask_one(place: str, commands: list[str]) -> dict[str, str | None]:
    path, _, bridge = place.partition(":")
    options = {"usb_path": path}
    if bridge:
        options |= {"vendorid": ".*", "productid": ".*", "subdriver": bridge}
    transport = UsbTransport("auto", Selection.of(options))
    replies: dict[str, str | None] = {}
    info = await transport.open()
    replies["info"] = info.detail
    for command in commands:
        try:
            replies[command] = (await transport.exchange(Ask(command.encode() + b"\r"))).decode("latin-1")
        except ReplyError:
            replies[command] = None
    await transport.close()
    return replies


async def main() -> None:
    commands = sys.stdin.read().split() or ["Q1", "F", "I", "Q", "Q1"]
    places = sys.argv[1:]
    found = await asyncio.gather(*(ask_one(place, commands) for place in places))
    print(json.dumps(dict(zip(places, found, strict=True))))  # noqa: T201 - what it is for


asyncio.run(main())
