"""One opened USB device as bridges see it: the transfers of the reference and nothing else. Blocking; one thread only.

Source: usb.md sections 1.2 to 1.4 (transfers, string decoding, sizes of interrupt reads) and 10.5 (how to open with pyusb).
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import usb.core
import usb.util

CR: Final = b"\r"

IN: Final = 0x80

STRING_MS: Final = 1000
"""Time limit of a string request; libusb fixes it."""

STALE_MS: Final = 50
"""A bridge that has nothing more to hand out says so by this much silence (usb.md section 9.2: 20 to 50 ms)."""

STALE_READS: Final = 16
"""Most packets thrown away in one drain: a bridge that goes on for ever is not drained but reset."""

ENGLISH: Final = 0x0409

NO_ACK: Final = b"ups no ack"


class Stopped(Exception):
    """The link is being closed in the middle of an exchange."""


class UsbDevice:
    """A claimed device. ``langid`` is the configured language id or None, ``patience_ms`` how long a reply may take to begin,
    ``until_s`` (monotonic) how long a whole exchange may.

    ``endpoint`` is the one of the latest transfer (0 for control), so that a failure can be told by where it happened;
    ``turn`` is for bridges whose requests go round, and begins at 0 with each opening.
    """

    def __init__(self, raw: Any, *, langid: int | None = None, novendor: bool = False) -> None:
        self.raw = raw
        self.langid = langid
        self.novendor = novendor
        self.patience_ms = 1000
        self.until_s = float("inf")
        self.endpoint = 0
        self.turn = 0
        self.stopping: Callable[[], bool] = lambda: False
        self.packet_sizes: dict[int, int] = {}
        self.alone = False

    def open(self) -> None:
        """Take the interface from the kernel and claim it; may raise USBError. Nothing is configured, no string read.

        The kernel configured the device already, and doing it again upsets some bridges (usb.md section 10.5).
        """
        try:
            if self.raw.is_kernel_driver_active(0):
                self.raw.detach_kernel_driver(0)
        except NotImplementedError:
            pass
        except usb.core.USBError as error:
            if error.errno != errno.ENOENT:
                raise
        usb.util.claim_interface(self.raw, 0)
        configuration = self.raw.get_active_configuration()
        self.packet_sizes = {end.bEndpointAddress: end.wMaxPacketSize for end in configuration[(0, 0)]}
        self.alone = len(list(configuration)) == 1

    def close(self) -> None:
        """Give the interface back and close the handle."""
        with contextlib.suppress(usb.core.USBError, NotImplementedError):
            usb.util.dispose_resources(self.raw)

    @property
    def inbox(self) -> int | None:
        """The interrupt endpoint on which replies wait."""
        return next((address for address in sorted(self.packet_sizes) if address & IN), None)

    # -- reports

    def set_report(self, value: int, data: bytes, timeout_ms: int) -> int:
        """``SR``: HID SET_REPORT; the number of bytes taken."""
        return self._control(0x21, 0x09, value, data, timeout_ms)

    def get_report(self, value: int, size: int, timeout_ms: int) -> bytes:
        """``GR``: HID GET_REPORT."""
        return self._fetch(0xA1, 0x01, value, 0, size, timeout_ms)

    def vendor_out(self, request_type: int, request: int, data: bytes, timeout_ms: int) -> int:
        """A control OUT of the bridge's own kind; the number of bytes taken."""
        return self._control(request_type, request, 0, data, timeout_ms)

    def send_reports(self, value: int, command: bytes, size: int, timeout_ms: int) -> None:
        """A command in reports of ``size`` bytes, the last one filled up with zeros."""
        for at in range(0, len(command), size):
            self.set_report(value, command[at : at + size].ljust(size, b"\0"), timeout_ms)

    # -- interrupt endpoints

    def read(self, endpoint: int, timeout_ms: int, size: int = 0) -> bytes:
        """``IR``: one packet, or one transfer of ``size`` bytes. The buffer is whole packets, so that none can overflow it."""
        packet = self.packet_sizes.get(endpoint) or 8
        self._go(endpoint)
        return bytes(self.raw.read(endpoint, max(1, -(-size // packet)) * packet, timeout_ms))

    def write(self, endpoint: int, data: bytes, timeout_ms: int) -> int:
        """``IW``: the number of bytes taken."""
        self._go(endpoint)
        return int(self.raw.write(endpoint, data, timeout_ms))

    def read_to_cr(self, endpoint: int, room: int, size: int = 0) -> bytes:
        """Packets until one brought CR or ``room`` is used up; padding after the CR is left on."""
        reply = bytearray()
        while CR not in reply and len(reply) < room:
            reply += self.read(endpoint, self.patience_ms, size)
        return bytes(reply)

    def throw_away(self, endpoint: int, timeout_ms: int, reads: int) -> int:
        """Read up to ``reads`` packets until a read fails; the number of bytes. A stalled endpoint is cleared."""
        thrown = 0
        for _ in range(reads):
            try:
                thrown += len(self.read(endpoint, timeout_ms))
            except usb.core.USBError as error:
                if error.errno == errno.ENODEV:
                    raise
                if error.errno == errno.EPIPE:
                    self.raw.clear_halt(endpoint)
                break
        return thrown

    # -- string descriptors as a data channel

    def descriptor(self, index: int, langid: int, size: int) -> bytes:
        """``SD``: a string descriptor as it comes. On many of these devices the index is a command, see usb.md section 1.3."""
        return self._fetch(0x80, 0x06, 0x0300 + index, langid, size, STRING_MS)

    def text(self, index: int) -> bytes:
        """``SA``: descriptor 0, then the string in the first language it names. Raises USBError EIO for a malformed one."""
        languages = self.descriptor(0, 0, 4)
        if len(languages) != 4 or languages[0] < 4 or languages[1] != 3:
            raise usb.core.USBError("malformed language table", -1, errno.EIO)
        found = self.descriptor(index, int.from_bytes(languages[2:4], "little"), 255)
        if len(found) < 2 or found[0] > len(found) or found[1] != 3:
            raise usb.core.USBError("malformed string descriptor", -1, errno.EIO)
        units = found[2 : found[0]]
        return bytes(low if not high and low < 0x80 else 0x3F for low, high in zip(units[::2], units[1::2], strict=False))

    # -- inside

    def _control(self, request_type: int, request: int, value: int, data: bytes, timeout_ms: int) -> int:
        self._go(0)
        sent = int(self.raw.ctrl_transfer(request_type, request, value, 0, data, timeout_ms))
        if sent < len(data):
            raise usb.core.USBError(f"the device took {sent} of {len(data)} bytes", -1, errno.EIO)
        return sent

    def _fetch(self, request_type: int, request: int, value: int, index: int, size: int, timeout_ms: int) -> bytes:
        self._go(0)
        return bytes(self.raw.ctrl_transfer(request_type, request, value, index, size, timeout_ms))

    def _go(self, endpoint: int) -> None:
        if self.stopping():
            raise Stopped
        if time.monotonic() > self.until_s:
            raise usb.core.USBTimeoutError("the exchange takes too long", -7, errno.ETIMEDOUT)
        self.endpoint = endpoint


def units_of(found: bytes) -> bytes | None:
    """A string descriptor by the decoder for a forced language id: low bytes as they are, ``?`` where the high byte is set.

    None where the length that came is not the length it names (usb.md section 1.3).
    """
    if not found or len(found) != found[0]:
        return None
    units = found[2:]
    return bytes(0x3F if high else low for low, high in zip(units[::2], units[1::2], strict=False))


def is_no_ack(text: bytes) -> bool:
    """Whether a bridge said ``UPS No Ack``: it has no answer from the UPS."""
    return text.partition(CR)[0].rstrip(b"\0").lower() == NO_ACK


def with_cr(text: bytes) -> bytes:
    """The reply with a CR at its end, if there is none in it."""
    return text if CR in text else text + CR


@contextlib.contextmanager
def whatever_comes() -> Iterator[None]:
    """Ignore how a transfer ends, except that the device is gone: some bridges want requests whose result means nothing."""
    try:
        yield
    except usb.core.USBError as error:
        if error.errno == errno.ENODEV:
            raise


def pause_ms(milliseconds: int) -> None:
    """Wait, as some bridges want it."""
    time.sleep(milliseconds / 1000)
