"""snr: krauler's queries only, after a read that wakes the bridge up (usb.md section 3.3)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges.krauler import ATTEMPTS, QUERIES
from qxfleet.transports.usb_device import CR, ENGLISH, UsbDevice, is_no_ack, units_of, whatever_comes

SIZE = 102


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The string with its lead character, no CR added; the echo of everything but queries; empty without an answer."""
    with whatever_comes():
        device.read(0x81, 1000, SIZE)
    command = ask.request.rstrip(CR)
    if command not in QUERIES:
        return ask.request
    index, lead = QUERIES[command]
    for _ in range(ATTEMPTS):
        text = units_of(device.descriptor(index, ENGLISH if device.langid is None else device.langid, SIZE))
        if text is not None and not is_no_ack(text):
            return lead + text[1:] if text else b""
    return b""
