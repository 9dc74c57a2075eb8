"""cypress: a HID bridge that takes 8-byte output reports and hands the reply out in packets (usb.md section 2.1)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import UsbDevice

ROOM = 504
"""Reading stops when less than a packet fits into the reply's 511 bytes."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to its CR, with the padding of its last packet."""
    device.send_reports(0x0200, ask.request, 8, 5000)
    return device.read_to_cr(0x81, ROOM)
