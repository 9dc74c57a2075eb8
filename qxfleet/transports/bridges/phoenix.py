"""phoenix: as cypress, but its output buffer is unreliable and emptied before each command (usb.md section 2.2)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges.cypress import ROOM
from qxfleet.transports.usb_device import STALE_MS, UsbDevice

FLUSH_MS = 1000
READS = 8
CLEAN = 1
"""``turn`` after an exchange that ended well: then a short wait shows that the buffer is empty (usb.md section 11 rule 3)."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to its CR, with the padding of its last packet."""
    device.throw_away(0x81, STALE_MS if device.turn == CLEAN else FLUSH_MS, READS)
    device.turn = 0
    device.send_reports(0x0200, ask.request, 8, 1000)
    reply = device.read_to_cr(0x81, ROOM)
    device.turn = CLEAN
    return reply
