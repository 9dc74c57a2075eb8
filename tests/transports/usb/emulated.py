"""UPSes behind every USB bridge of the reference, as the host sees them: descriptors, control requests, packets. No I/O.

Standard library only: the bus that serves real libusb runs on the distribution's Python. Built after usb.md sections 2, 3 and 8;
the descriptors of 0665:5161 after usb-testing.md. ``log`` holds every transfer of the host in the reference's short forms.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable

Q1 = b"(230.1 229.8 230.0 027 50.0 13.6 31.0 00001001\r"
"""The reply of the reference's test vectors, 47 bytes."""


class Stall(Exception):
    """The device refuses a request: the host sees EPIPE."""


class Overflow(Exception):
    """A packet is larger than the room the host left: the host sees EOVERFLOW."""


class TextUps:
    """A Megatec unit on the far side of a bridge: commands in, replies out, each with its CR."""

    def __init__(self, name: str = "UPS0") -> None:
        self.name = name
        self.load = 27
        self.mute = False
        self.zeros = False
        self.garbage = False
        self.on_battery = False
        self.testing = False
        self.shutting_down = False
        self.beeper = True
        self.heard: list[bytes] = []

    def answer(self, command: bytes) -> bytes | None:
        """The reply to a command without CR; None where there is none."""
        self.heard.append(command)
        if self.mute:
            return None
        if self.garbage:
            return b"\x91\xfe(2\xb1\xb2\r"
        if command == b"Q1":
            if self.zeros:
                return b"(000.0 000.0 000.0 000 00.0 0.00 00.0 00000000\r"
            bits = (self.on_battery, False, False, False, True, self.testing, self.shutting_down, self.beeper)
            volts = b"000.0" if self.on_battery else b"230.1"
            return b"(%b 229.8 230.0 %03d 50.0 13.6 31.0 %b\r" % (volts, self.load, b"".join(b"01"[b : b + 1] for b in bits))
        if command == b"F":
            return b"#230.0 004 12.00 50.0\r"
        if command == b"I":
            return f"#{'ACME':<15} {self.name:<10} {'V1.00':<10}\r".encode()
        if command == b"Q":
            self.beeper = not self.beeper
        elif command == b"CT":
            self.testing = False
        elif command[:1] == b"T":
            self.testing = True
        elif command == b"C":
            self.shutting_down = False
        elif command[:1] == b"S" and len(command) > 1:
            self.shutting_down = True
        elif command:
            return command + b"\r"
        return None


class Emulated:
    """A device on the bus. Subclasses are bridges; ``endpoints`` maps address to packet size."""

    vendor_id, product_id = 0x0665, 0x5161
    strings: dict[int, str] = {1: "USB to Serial", 3: "ACME"}  # noqa: RUF012 - a table
    endpoints: dict[int, int] = {0x81: 8}  # noqa: RUF012 - a table
    pace_s = 0.012
    """Between two packets of an interrupt endpoint (bInterval)."""
    reads_strings = True

    def __init__(self, answer: Callable[[bytes], bytes | None] | TextUps) -> None:
        self.answer = answer.answer if isinstance(answer, TextUps) else answer
        self.log: list[tuple[object, ...]] = []
        self.packets: deque[bytes] = deque()
        self.wedged = False
        self.stalled = False
        self.refuses = False
        self.resets = 0
        self.halts_cleared = 0
        self.serial = ""
        self.on_data: Callable[[], None] = lambda: None
        self._heard = bytearray()

    # -- descriptors

    @property
    def device_descriptor(self) -> bytes:
        """18 bytes."""
        vendor = 3 if 3 in self.strings else 0
        product = 1 if 1 in self.strings else 0
        return struct.pack(
            "<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0, 0, 0, 8, self.vendor_id, self.product_id, 0x0002, vendor, product,
            4 if self.serial else 0, 1,
        )  # fmt: skip

    @property
    def config_descriptor(self) -> bytes:
        """One configuration with one HID interface and its endpoints."""
        ends = b"".join(struct.pack("<BBBBHB", 7, 5, end, 3, size, 12) for end, size in self.endpoints.items())
        interface = struct.pack("<9B", 9, 4, 0, 0, len(self.endpoints), 3, 0, 0, 0)
        hid = bytes.fromhex("092111010001221b00")
        total = 9 + len(interface) + len(hid) + len(ends)
        return struct.pack("<BBHBBBBB", 9, 2, total, 1, 1, 0, 0xA0, 0x32) + interface + hid + ends

    # -- endpoint 0

    def control(self, setup: bytes, data: bytes = b"") -> bytes:
        """One control request; what the host gets of an IN request."""
        kind, request, value, index, length = struct.unpack("<BBHHH", setup)
        if (kind, request) == (0x21, 0x09):
            self.log.append(("SR", value, data))
            if self.refuses:
                raise Stall
            self.report(value, data)
            return b""
        if (kind, request) == (0xA1, 0x01):
            self.log.append(("GR", value, length))
            return self.feature(value)[:length]
        if (kind, request) == (0x80, 0x06) and value >> 8 == 3:
            self.log.append(("SD", value & 0xFF, index, length))
            return self.string(value & 0xFF, index)[:length]
        if (kind, request) == (0x80, 0x06) and value >> 8 in (1, 2):
            return (self.device_descriptor if value >> 8 == 1 else self.config_descriptor)[:length]
        if (kind, request) == (0x80, 0x08):
            return b"\1"
        if kind & 0x60 == 0x40:
            self.log.append(("CTRL", kind, request, data))
            self.vendor_request(kind, request, data)
            return b""
        if (kind, request) in ((0x00, 9), (0x01, 11), (0x02, 1), (0x21, 0x0A)):
            return b""
        raise Stall

    def report(self, value: int, data: bytes) -> None:
        """An output or feature report arrived."""
        raise Stall

    def feature(self, value: int) -> bytes:
        """The feature report the host asks for."""
        raise Stall

    def vendor_request(self, kind: int, request: int, data: bytes) -> None:
        """A request of the vendor's kind arrived."""
        raise Stall

    def string(self, number: int, langid: int) -> bytes:
        """A string descriptor, whole."""
        if number == 0:
            return bytes((4, 3, 9, 4))
        words = {**self.strings, **({4: self.serial} if self.serial else {})}
        if number not in words:
            raise Stall
        return as_descriptor(words[number].encode())

    # -- interrupt endpoints

    def interrupt_out(self, endpoint: int, data: bytes) -> None:
        """A packet from the host."""
        self.log.append(("IW", endpoint, data))
        self.frame(data)

    def frame(self, data: bytes) -> None:
        """A packet from the host, for the bridges that take commands so."""
        raise Stall

    def interrupt_in(self, endpoint: int, length: int) -> bytes | None:
        """What one transfer of ``length`` bytes brings, or None: nothing yet. Packets are put together as USB does."""
        if endpoint not in self.endpoints:
            raise Stall
        if self.stalled:
            raise Stall
        if self.wedged:
            raise Overflow
        size = self.endpoints[endpoint]
        got = b""
        while self.packets:
            if len(self.packets[0]) > length - len(got):
                if not got or len(got) % size:
                    raise Overflow
                break
            packet = self.packets.popleft()
            got += packet
            if len(packet) < size or len(got) == length:
                break
        else:
            return got or None
        return got

    def reset(self) -> None:
        """A bus reset: everything in flight is gone."""
        self.resets += 1
        self.wedged = self.stalled = False
        self.packets.clear()
        self._heard.clear()

    def clear_halt(self) -> None:
        """CLEAR_FEATURE(ENDPOINT_HALT)."""
        self.halts_cleared += 1
        self.stalled = False

    # -- for subclasses

    def hear(self, data: bytes) -> None:
        """Bytes of commands; replies are queued as packets."""
        self._heard += data
        while b"\r" in self._heard:
            line, _, rest = bytes(self._heard).partition(b"\r")
            self._heard[:] = rest
            reply = self.answer(line)
            if reply is not None:
                self.packets.extend(self.packed(reply))
                self.on_data()

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """A reply in packets: of 8 bytes, the last one padded."""
        return [reply[at : at + 8].ljust(8, b"\0") for at in range(0, len(reply), 8)]


def as_descriptor(text: bytes) -> bytes:
    """A string descriptor of these characters."""
    return bytes((2 * len(text) + 2, 3)) + b"".join(bytes((each, 0)) for each in text)


class Cypress(Emulated):
    """0665:5161."""

    value = 0x0200

    def report(self, value: int, data: bytes) -> None:
        """A command in 8-byte pieces, padded with NUL."""
        if value != self.value:
            raise Stall
        self.hear(data.replace(b"\0", b""))


class Phoenix(Cypress):
    """06da:0601: keeps handing out what nobody took."""

    vendor_id, product_id = 0x06DA, 0x0601


class Ippon(Cypress):
    """06da:0003: always 64 bytes."""

    vendor_id, product_id, value = 0x06DA, 0x0003, 0x0002
    keeps_cr = False

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """64 bytes without the CR, as in the reference's vector."""
        whole = (reply if self.keeps_cr else reply.rstrip(b"\r")).ljust(64, b"\0")
        return [whole[at : at + 8] for at in range(0, 64, 8)]


class Gtec(Cypress):
    """Never found by itself: the ids stand for a made-up unit. Drops off where its reply is fetched in short reads."""

    vendor_id, product_id, value = 0x0665, 0x5161, 0x0002
    endpoints = {0x81: 64}  # noqa: RUF012 - a table

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """One packet."""
        return [reply]


class Omron(Gtec):
    """0590:00b7."""

    vendor_id, product_id = 0x0590, 0x00B7


class Strings(Emulated):
    """0001:0000 and kin: string numbers are commands."""

    vendor_id, product_id = 0x0001, 0x0000
    strings: dict[int, str] = {}  # noqa: RUF012 - a table
    queries = {0x03: b"Q1", 0x0D: b"F", 0x0C: b"I"}  # noqa: RUF012 - a table
    orders: dict[int, bytes] = {}  # noqa: RUF012 - a table
    first_byte = b""
    """What stands in place of a reply's first byte; the reply's own if empty."""
    reads_strings = False
    no_acks = 0
    """So many times the bridge has nothing from the UPS."""
    with_cr = True

    def string(self, number: int, langid: int) -> bytes:
        """Descriptor 0, a reply, or ``UPS No Ack``."""
        if number == 0:
            return bytes((4, 3, 9, 4))
        if number == 1:
            return as_descriptor(b"MEC0003")
        command = self.queries.get(number) or self.orders.get(number)
        if command is None:
            raise Stall
        if self.no_acks:
            self.no_acks -= 1
            return as_descriptor(b"UPS No Ack")
        reply = self.answer(command)
        if number in self.orders:
            return as_descriptor(self.order_word())
        if reply is None:
            return as_descriptor(b"UPS No Ack")
        text = (self.first_byte or reply[:1]) + reply[1:]
        return as_descriptor(text if self.with_cr else text.rstrip(b"\r"))

    def order_word(self) -> bytes:
        """What an order is answered with."""
        return b"(OK\r"


class Krauler(Strings):
    """0001:0000 without strings that tell it apart."""

    orders = {0x04: b"T", 0x05: b"TL", 0x07: b"Q", 0x0B: b"C"}  # noqa: RUF012 - a table


class Fabula(Strings):
    """0001:0000 ``MEC``/``MEC0003``."""

    orders = {  # noqa: RUF012 - a table
        0x07: b"Q", 0x0A: b"C", 0x10: b"S.5R0000", 0x18: b"S.5R0003", 0x58: b"S.9", 0x68: b"S01R0001", 0xF0: b"S10R0000",
        0xF8: b"S10R9999",
    }  # fmt: skip

    def order_word(self) -> bytes:
        """Successful or not."""
        return b"UPS No Ack"


class Hunnox(Fabula):
    """0001:0000 ``MEC0003``: out of step its status stays as it was."""

    queries = {**Strings.queries, 0xF3: b"BL"}  # noqa: RUF012 - a table


class Snr(Strings):
    """0001:0000: answers with zeros until it was woken by an interrupt read."""

    endpoints = {0x81: 8}  # noqa: RUF012 - a table

    def __init__(self, answer: Callable[[bytes], bytes | None] | TextUps) -> None:
        super().__init__(answer)
        self.awake = False

    def interrupt_in(self, endpoint: int, length: int) -> bytes | None:
        """Wakes it."""
        self.awake = True
        return None

    def string(self, number: int, langid: int) -> bytes:
        """Zeros as long as it sleeps."""
        return super().string(number, langid) if self.awake or number == 0 else as_descriptor(b"(" + bytes(46))


class Fuji(Emulated):
    """0001:0000 ``ATCL FOR UPS``: commands in interrupt frames."""

    vendor_id, product_id = 0x0001, 0x0000
    endpoints = {0x81: 8, 0x02: 8}  # noqa: RUF012 - a table

    def frame(self, data: bytes) -> None:
        """``80 06 len 03 <3 characters> <expected>``."""
        if data[:2] != b"\x80\x06" or data[3] != 3 or len(data) != 8:
            raise Stall
        self.hear(data[4 : 4 + data[2] - 1] + b"\r")


class Phoenixtec(Emulated):
    """06da:0002 ``Phoenixtec Power``."""

    vendor_id, product_id = 0x06DA, 0x0002

    def vendor_request(self, kind: int, request: int, data: bytes) -> None:
        """The whole command."""
        if (kind, request) != (0x42, 0x0D):
            raise Stall
        self.hear(data)


class Sgs(Emulated):
    """0483:0035."""

    vendor_id, product_id = 0x0483, 0x0035

    def report(self, value: int, data: bytes) -> None:
        """A count, and so many bytes."""
        if value != 0x0200 or len(data) != 8:
            raise Stall
        self.hear(data[1 : 1 + data[0]])

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """A count, and up to 7 bytes."""
        parts = [reply[at : at + 7] for at in range(0, len(reply), 7)]
        return [bytes((len(part),)) + part.ljust(7, b"\0") for part in parts]


class Ablerex(Emulated):
    """ffff:0000: feature reports of 47 bytes."""

    vendor_id, product_id = 0xFFFF, 0x0000

    def report(self, value: int, data: bytes) -> None:
        """``05 00 len command CR``."""
        if value != 0x0305 or len(data) != 47 or data[:2] != b"\x05\x00":
            raise Stall
        self._reply = self.answer(data[3 : 3 + data[2] - 1]) or b""

    def feature(self, value: int) -> bytes:
        """The text from byte 0."""
        return self._reply.ljust(47, b"\0")


class ArmacControl(Emulated):
    """0925:1234, the older kind."""

    vendor_id, product_id = 0x0925, 0x1234

    def report(self, value: int, data: bytes) -> None:
        """A header with a count, and up to 3 bytes."""
        if value != 0x0200 or len(data) != 4:
            raise Stall
        self.hear(data[1 : 1 + (data[0] & 0x0F)])

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """A header and up to 5 bytes, stale filler behind."""
        parts = [reply[at : at + 5] for at in range(0, len(reply), 5)]
        return [bytes((0xA0 + len(part),)) + part.ljust(5, b"\0") for part in parts]


class ArmacSeven(ArmacControl):
    """A newer one that fills its packets: seven bytes of reply each (NUT pull request 3485)."""

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """A header and up to 7 bytes."""
        parts = [reply[at : at + 7] for at in range(0, len(reply), 7)]
        return [bytes((0xA0 + len(part),)) + part.ljust(7, b"\0") for part in parts]


class ArmacInterrupt(Emulated):
    """0925:1234, the kind with an OUT endpoint."""

    vendor_id, product_id = 0x0925, 0x1234
    endpoints = {0x82: 64, 0x02: 8}  # noqa: RUF012 - a table

    def frame(self, data: bytes) -> None:
        """A header with a count, and the whole command."""
        self.hear(data[1 : 1 + (data[0] & 0x1F)])

    def packed(self, reply: bytes) -> Iterable[bytes]:
        """Everything in one packet of 64."""
        return [(bytes((0x80 + len(reply),)) + reply).ljust(64, b"\0")]
