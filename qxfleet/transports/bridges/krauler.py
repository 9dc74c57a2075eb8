"""krauler: queries and orders are string descriptor numbers, replies are the strings (usb.md sections 1.3 and 2.4)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice, is_no_ack, units_of, with_cr

QUERIES = {b"Q1": (0x03, b"("), b"F": (0x0D, b"#"), b"I": (0x0C, b"#")}
"""Query → string index and the first byte its reply must have, whatever stands there."""

ORDERS = {b"T": 0x04, b"TL": 0x05, b"Q": 0x07, b"C": 0x0B, b"CT": 0x0B}

ATTEMPTS = 10
SIZE = 255
"""Length asked for with a forced language id: the incumbent asks for 511, on which some devices choke."""

TAKEN = b"ACK\r"


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The string with its CR; the echo of a command that has no number; empty where the UPS does not answer the bridge.

    ``UPS No Ack`` means busy or absent: a query is repeated at once, an order never is. Any other string is this bridge's
    way to say that an order was taken.
    """
    command = ask.request.rstrip(CR)
    if command in ORDERS:
        text = _string(device, ORDERS[command])
        return b"" if text is None or is_no_ack(text) else TAKEN
    if command not in QUERIES:
        return ask.request
    index, lead = QUERIES[command]
    for _ in range(ATTEMPTS):
        text = _string(device, index)
        if text is not None and not is_no_ack(text):
            return lead + with_cr(text)[1:] if text else b""
    return b""


def _string(device: UsbDevice, index: int) -> bytes | None:
    if device.langid is None:
        return device.text(index)
    return units_of(device.descriptor(index, device.langid, SIZE))
