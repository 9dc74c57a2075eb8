"""ippon: 8-byte reports with an odd report number out, one transfer of 64 bytes in (usb.md section 2.3)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice

LONGEST = 64
EMPTY = b"\0\r"
"""The bridge's word for "no answer"."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to CR or NUL, with a CR; empty where the bridge has no answer. All 64 bytes are taken off the device."""
    if len(ask.request) > LONGEST:
        return ask.request
    device.send_reports(0x0002, ask.request, 8, 1000)
    found = device.read(0x81, device.patience_ms, 64)
    if found.startswith(EMPTY):
        return b""
    text, end, _ = found.partition(CR)
    if not end:
        text = found.partition(b"\0")[0]
    return text + CR if text or end else b""
