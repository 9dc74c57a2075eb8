"""sgs (TS Shara): 8-byte reports whose first byte counts the others (usb.md section 3.6)."""

from __future__ import annotations

import usb.core

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges.cypress import ROOM
from qxfleet.transports.usb_device import CR, UsbDevice, with_cr

MOST = 7


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply with its CR. It ends at CR, and where none comes, by the bridge falling silent."""
    for at in range(0, len(ask.request), MOST):
        part = ask.request[at : at + MOST]
        device.set_report(0x0200, bytes((len(part),)) + part.ljust(MOST, b"\0"), 5000)
    reply = b""
    while CR not in reply and len(reply) < ROOM:
        try:
            packet = device.read(0x81, device.patience_ms)
        except usb.core.USBTimeoutError:
            break
        if packet:
            reply += packet[1 : 1 + min(packet[0], MOST)]
    return with_cr(reply) if reply else b""
