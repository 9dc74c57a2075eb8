"""omron (BN150T): 16-byte reports out, one transfer of 64 bytes in (usb.md section 3.9)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply up to CR, else up to NUL, else all of it; always with a CR."""
    device.send_reports(0x0002, ask.request, 16, 1000)
    found = device.read(0x81, device.patience_ms, 64)
    text, end, _ = found.partition(CR)
    if not end:
        text = found.partition(b"\0")[0]
    return text + CR if text else b""
