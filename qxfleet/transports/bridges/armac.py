"""armac: Richcomm bridges with a counting header before every packet, in two kinds (usb.md section 3.10)."""

from __future__ import annotations

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges.cypress import ROOM
from qxfleet.transports.usb_device import CR, UsbDevice, pause_ms

IGNORED = frozenset({b"QGS", b"QS", b"QPI", b"M", b"D"})
"""Commands that the bridge drops: each would cost a timeout."""

FLUSH_MS = 100
FLUSH_READS = 10
BITS_AT = 38
"""From here on in a status reply, a NUL is a bit that is 0."""


def by_interrupt(device: UsbDevice) -> bool:
    """Whether the device has the layout that takes commands on an interrupt endpoint: 0x82 with 64 bytes, and 0x02."""
    return device.alone and set(device.packet_sizes) == {0x82, 0x02} and device.packet_sizes[0x82] == 64


def exchange(device: UsbDevice, ask: Ask) -> bytes:
    """The reply with its CR; the echo of commands that the bridge ignores; empty where the UPS is switched off."""
    if ask.request.rstrip(CR) in IGNORED:
        return ask.request
    if by_interrupt(device):
        device.write(0x02, bytes((0xA0 + len(ask.request),)) + ask.request, 5000)
        endpoint = 0x82
    else:
        device.throw_away(0x81, FLUSH_MS, FLUSH_READS)
        for at in range(0, len(ask.request), 3):
            part = ask.request[at : at + 3]
            device.set_report(0x0200, bytes((0xA0 + len(part),)) + part.ljust(3, b"\0"), 5000)
        endpoint = 0x81
    pause_ms(2)
    reply = bytearray()
    while len(reply) < ROOM:
        packet = device.read(endpoint, device.patience_ms)
        payload = packet[1 : 1 + (packet[0] & 0x3F)] if packet else b""
        if not payload or (not reply and payload[0] == 0):
            break
        for byte in payload:
            if byte == 0 and len(reply) < BITS_AT:
                return bytes(reply)
            reply.append(byte or 0x30)
            if byte == CR[0]:
                return bytes(reply)
        if len(payload) <= 2:
            pause_ms(10)
    return bytes(reply)
