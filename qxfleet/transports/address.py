"""What may stand in ``port``: a path, ``socket://host:port``, ``rfc2217://host:port``, ``auto``, or ``nut://host:port/name``.

On the command line a USB device may also be named by its place: ``usb:1-1.4``.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from qxfleet.model.nut_port import SCHEME, nut_port
from qxfleet.model.options import UpsdAccess
from qxfleet.transports.base import Transport
from qxfleet.transports.nut import NutTransport
from qxfleet.transports.rfc2217 import Rfc2217Transport
from qxfleet.transports.serial_port import SerialTransport
from qxfleet.transports.tcp import TcpTransport
from qxfleet.transports.usb import UsbTransport
from qxfleet.transports.usb_bus import Selection

FORMS: Final = "a path such as /dev/ttyS0 or /dev/serial/by-id/…, socket://host:port, rfc2217://host:port, auto, or nut://host/name"


class Scheme(enum.Enum):
    """The kind of link."""

    SERIAL = "serial"
    SOCKET = "socket"
    RFC2217 = "rfc2217"
    USB = "auto"
    NUT = "nut"


@dataclass(frozen=True, slots=True)
class Address:
    """A port taken apart: ``path`` for SERIAL, and for USB where it names a place; ``host`` and ``tcp_port`` for the
    others, and ``ups`` for the one of a NUT server."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    tcp_port: int = 0
    ups: str = ""

    def __str__(self) -> str:
        if self.scheme is Scheme.SERIAL:
            return self.path
        if self.scheme is Scheme.USB:
            return f"usb:{self.path}" if self.path else "auto"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme.value}://{host}:{self.tcp_port}" + (f"/{self.ups}" if self.ups else "")


def parse(port: str) -> Address:
    """Read a ``port`` setting. Raises ValueError that says what is wrong and what to write."""
    if port == "auto":
        return Address(Scheme.USB)
    if port.startswith(SCHEME):
        there = nut_port(port)
        return Address(Scheme.NUT, host=there.host, tcp_port=there.port, ups=there.ups)
    if "://" in port:
        return _network(port)
    if port.startswith("usb:"):
        if not re.fullmatch(r"\d+-\d+(\.\d+)*", port[4:]):
            raise ValueError(f"{port!r}: expected usb:BUS-PORTS, as in usb:1-1.4; `qxfleet discover` lists them")
        return Address(Scheme.USB, path=port[4:])
    if port.startswith("/"):
        if port.endswith("/"):
            raise ValueError(f"{port!r} is a folder; name the port in it")
        return Address(Scheme.SERIAL, path=port)
    if port.lower() == "auto":
        raise ValueError(f"{port!r}: write auto")
    if port.startswith("tty"):
        raise ValueError(f"{port!r} is not a full path; write /dev/{port}")
    if port.count(":") == 1:
        raise ValueError(f"{port!r}: for a device server write socket://{port} (raw TCP) or rfc2217://{port}")
    raise ValueError(f"{port!r} is not a port; expected {FORMS}")


def transport_for(
    port: str, *, cablepower: str = "normal", usb: Mapping[str, str] = {}, novendor: bool = False,
    upsd: UpsdAccess | None = None,
) -> Transport:
    """The closed link to ``port``, labelled with it. Raises ValueError for a port or option that can't be.

    ``usb`` picks the device of ``auto``, under the seeds' names; ``novendor`` keeps a bridge from reading vendor texts by itself;
    ``upsd``: how the NUT server of the port is reached.
    """
    address = parse(port)
    match address.scheme:
        case Scheme.SERIAL:
            return SerialTransport(port, cablepower)
        case Scheme.SOCKET:
            return TcpTransport(port, address.host, address.tcp_port)
        case Scheme.RFC2217:
            return Rfc2217Transport(port, address.host, address.tcp_port, cablepower)
        case Scheme.NUT:
            return NutTransport(port, upsd or UpsdAccess(address.host, address.tcp_port), address.ups)
        case Scheme.USB:
            options = {**usb, "usb_path": address.path} if address.path else usb
            return UsbTransport("auto", Selection.of(options), novendor=novendor)


def _network(port: str) -> Address:
    name, _, place = port.partition("://")
    try:
        scheme = {"socket": Scheme.SOCKET, "rfc2217": Scheme.RFC2217}[name]
    except KeyError:
        hint = f"; did you mean socket://{place}?" if name in ("tcp", "raw", "telnet") else ""
        raise ValueError(f"{port!r}: unknown kind of link {name + '://'!r}{hint or f'; expected {FORMS}'}") from None
    try:
        parts = urlsplit(port)
        host, number = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{port!r}: {str(error).lower()}; expected {name}://host:port") from None
    if not host:
        raise ValueError(f"{port!r}: the host is missing; expected {name}://host:port")
    if not number:
        raise ValueError(f"{port!r}: the TCP port is missing or 0; expected {name}://{host}:port, port 1 to 65535")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{port!r}: nothing but host and port belongs here; expected {name}://{host}:{number}")
    return Address(scheme, host=host, tcp_port=number)
