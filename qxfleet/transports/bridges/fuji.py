"""fuji: one 8-byte interrupt frame that imitates a GET_DESCRIPTOR request (usb.md section 3.4)."""

from __future__ import annotations

import re

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges.cypress import ROOM
from qxfleet.transports.usb_device import CR, UsbDevice

EXPECTED = {b"Q1": 47, b"F": 22, b"I": 39}

SHUTDOWN_RETURN = re.compile(rb"(S(?:\.\d|\d\d))R(?!0+$)\d+")
"""Three characters fit into a frame: of a shutdown with return only the time until it goes off is carried."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply without its NUL padding; the echo of a command that does not fit into a frame."""
    command = ask.request.rstrip(CR)
    if cut := SHUTDOWN_RETURN.fullmatch(command):
        command = cut[1]
    if not command or len(command) > 3:
        return ask.request
    frame = bytes((0x80, 6, len(command) + 1, 3)) + command.ljust(3, b"\0") + bytes((EXPECTED.get(command, 0),))
    device.write(0x02, frame, 5000)
    return device.read_to_cr(0x81, ROOM).partition(b"\0")[0]
