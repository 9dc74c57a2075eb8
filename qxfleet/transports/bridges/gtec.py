"""gtec: as cypress with an odd report number, and long reads: short ones make it drop off the bus (usb.md section 3.8)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import UsbDevice

ROOM = 511


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to its CR, with padding."""
    device.send_reports(0x0002, ask.request, 8, 5000)
    return device.read_to_cr(0x81, ROOM, 128)
