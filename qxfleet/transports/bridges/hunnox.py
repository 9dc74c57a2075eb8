"""hunnox: fabula's numbers on a firmware that freezes unless it is asked in its own order (usb.md section 3.2)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges import fabula
from qxfleet.transports.usb_device import CR, ENGLISH, UsbDevice, is_no_ack, pause_ms, units_of, whatever_comes

INDEXES = {**fabula.INDEXES, b"BL": 0xF3}

SIZE = 102
"""What the vendor's program asks for; more can lock the device."""

FIRST_SIZE = 1026

ROUND = ((0x0D, 2), (0x03, 3), (0x0C, 1))
"""What is read beside the command in turns 1, 2 and 3, and the turn after it."""


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The string as it is, no CR added; the echo of a command that has no number; empty without an answer."""
    command = ask.request.rstrip(CR)
    index = INDEXES.get(command, fabula.shutdown_index(command))
    if index is None:
        return ask.request
    langid = ENGLISH if device.langid is None else device.langid
    _keep_in_step(device, index, langid)
    text = units_of(device.descriptor(index, langid, SIZE))
    return b"" if not text or is_no_ack(text) else text


def _keep_in_step(device: UsbDevice, index: int, langid: int) -> None:
    """The reads the firmware expects before each command; what they bring does not matter."""
    if device.turn == 0:
        for first in (0, 0, 1):
            with whatever_comes():
                device.descriptor(first, langid, FIRST_SIZE)
        pause_ms(10)
        device.turn = 1
        return
    beside, following = ROUND[device.turn - 1]
    if beside != index and not (beside == 0x0C and device.novendor):
        with whatever_comes():
            device.descriptor(beside, langid, SIZE)
    device.turn = following
