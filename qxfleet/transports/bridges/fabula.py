"""fabula: string descriptor numbers like krauler, with shutdown times in the number itself (usb.md section 3.1)."""

from __future__ import annotations

import re

from qxfleet.model.wire import Ask
from qxfleet.transports.usb_device import CR, UsbDevice, is_no_ack, with_cr

INDEXES = {b"Q1": 0x03, b"F": 0x0D, b"I": 0x0C, b"Q": 0x07, b"C": 0x0A}

SHUTDOWN = re.compile(rb"S(\.\d|\d+)(?:R(\d+))?")

RETURNS = 8


def shutdown_index(command: bytes) -> int | None:
    """``S<n>`` and ``S<n>R<m>`` as a string index; None for anything else.

    The time is cut to 0.5 to 10 minutes. The time until return is not carried: the device's own is about 10 s. Staying off
    is ``R`` with 0; everything else returns with mains.
    """
    found = SHUTDOWN.fullmatch(command)
    if found is None:
        return None
    tenths = min(100, max(5, int(found[1][1:]) if found[1][:1] == b"." else int(found[1]) * 10))
    index = 0x10 + (tenths - 5) * 0x10 if tenths < 10 else 0x60 + (tenths - 10) * 0x10 // 10
    stays_off = found[2] is not None and int(found[2]) == 0
    return index + (0 if stays_off else RETURNS)


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The string with its CR; the echo of a command that has no number; empty for ``UPS No Ack``.

    The bridge says ``UPS No Ack`` to every order, whether it worked or not: an order has no answer here.
    """
    command = ask.request.rstrip(CR)
    index = INDEXES.get(command, shutdown_index(command))
    if index is None:
        return ask.request
    text = device.text(index)
    return b"" if not text or is_no_ack(text) else with_cr(text)
