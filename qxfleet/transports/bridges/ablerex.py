"""ablerex: one feature report of 47 bytes each way, half a second apart (usb.md section 3.7)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice, pause_ms, whatever_comes

REPORT = 0x0305
SIZE = 47
ATTEMPTS = 3
WAIT_MS = 500
LENGTHS = {b"Q1": 47, b"I": 39, b"F": 22, b"Q5": 22}
"""Length of a reply with its CR, where it is known."""

NO_Q5 = b"(".ljust(22, b"\0")
"""What stands for a reply to Q5 that has another length."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The text of the report; empty where three attempts brought none of the right length."""
    command = ask.request.rstrip(CR)
    if len(ask.request) > SIZE - 3:
        return ask.request
    report = bytes((5, 0, 1 + len(command))) + command + CR
    for _ in range(ATTEMPTS):
        with whatever_comes():
            device.set_report(REPORT, report.ljust(SIZE, b"\0"), 1000)
        pause_ms(WAIT_MS)
        found = device.get_report(REPORT, SIZE, device.patience_ms)
        text, end, _ = found.partition(CR)
        if ask.binary_len and found[ask.binary_len : ask.binary_len + 1] == CR:
            return found[: ask.binary_len + 1]
        if command not in LENGTHS or len(text + end) == LENGTHS[command]:
            return text + end
        if command == b"Q5":
            return NO_Q5
    return b""
