"""phoenixtec (Masterguard): the whole command in one control transfer of the vendor's kind (usb.md section 3.5)."""

from __future__ import annotations

import re

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice

UNANSWERED = re.compile(rb"(?:TL|TUD|T|SSN|SRC|SS|S|CT|C|M|N|O|FCLR)(?![A-Z])")
"""Orders that have no reply: one of these, and no further upper-case letter."""

ROOM = 511


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to its CR; empty for an order, which this bridge never answers, and for a reply without end."""
    device.vendor_out(0x42, 0x0D, ask.request, 1000)
    if UNANSWERED.match(ask.request):
        return b""
    text, end, _ = device.read_to_cr(0x81, ROOM).partition(CR)
    return text + end if end else b""
