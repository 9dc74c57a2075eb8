"""What may stand in ``port``: a path, ``socket://host:port``, ``rfc2217://host:port``, or ``auto``."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from qxfleet.transports.base import Transport
from qxfleet.transports.rfc2217 import Rfc2217Transport
from qxfleet.transports.serial_port import SerialTransport
from qxfleet.transports.tcp import TcpTransport

FORMS: Final = "a path such as /dev/ttyS0 or /dev/serial/by-id/…, socket://host:port, rfc2217://host:port, or auto"


class Scheme(enum.Enum):
    """The kind of link."""

    SERIAL = "serial"
    SOCKET = "socket"
    RFC2217 = "rfc2217"
    USB = "auto"


@dataclass(frozen=True, slots=True)
class Address:
    """A port taken apart: ``path`` for SERIAL, ``host`` and ``tcp_port`` for SOCKET and RFC2217, nothing for USB."""

    scheme: Scheme
    path: str = ""
    host: str = ""
    tcp_port: int = 0

    def __str__(self) -> str:
        if self.scheme is Scheme.SERIAL:
            return self.path
        if self.scheme is Scheme.USB:
            return "auto"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme.value}://{host}:{self.tcp_port}"


def parse(port: str) -> Address:
    """Read a ``port`` setting. Raises ValueError that says what is wrong and what to write."""
    if port == "auto":
        return Address(Scheme.USB)
    if "://" in port:
        return _network(port)
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


def transport_for(port: str, *, cablepower: str = "normal") -> Transport:
    """The closed link to ``port``, labelled with it. Raises ValueError for a port or cablepower that can't be."""
    address = parse(port)
    match address.scheme:
        case Scheme.SERIAL:
            return SerialTransport(port, cablepower)
        case Scheme.SOCKET:
            return TcpTransport(port, address.host, address.tcp_port)
        case Scheme.RFC2217:
            return Rfc2217Transport(port, address.host, address.tcp_port, cablepower)
        case Scheme.USB:
            raise ValueError(f"{port!r}: USB links are not supported yet; expected {FORMS.removesuffix(', or auto')}")


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
