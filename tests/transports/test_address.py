"""What may stand in ``port``, and what is said about everything else."""

from __future__ import annotations

import pytest

from qxfleet.transports.address import Address, Scheme, parse, transport_for
from qxfleet.transports.rfc2217 import Rfc2217Transport
from qxfleet.transports.serial_port import SerialTransport
from qxfleet.transports.tcp import TcpTransport
from qxfleet.transports.usb import UsbTransport


@pytest.mark.parametrize(
    ("port", "address"),
    [
        ("/dev/ttyS0", Address(Scheme.SERIAL, path="/dev/ttyS0")),
        ("/dev/serial/by-id/usb-FTDI_A1-if00", Address(Scheme.SERIAL, path="/dev/serial/by-id/usb-FTDI_A1-if00")),
        ("/dev/serial/by-path/pci-0000:00:14.0-usb", Address(Scheme.SERIAL, path="/dev/serial/by-path/pci-0000:00:14.0-usb")),
        ("socket://10.0.0.5:4001", Address(Scheme.SOCKET, host="10.0.0.5", tcp_port=4001)),
        ("socket://[fe80::1]:4001", Address(Scheme.SOCKET, host="fe80::1", tcp_port=4001)),
        ("rfc2217://rack1.example:7000", Address(Scheme.RFC2217, host="rack1.example", tcp_port=7000)),
        ("auto", Address(Scheme.USB)),
        ("usb:1-1.4", Address(Scheme.USB, path="1-1.4")),
    ],
)
def test_every_form(port: str, address: Address) -> None:
    assert parse(port) == address
    assert str(address) == port


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ("", "is not a port; expected a path"),
        ("ttyUSB0", "write /dev/ttyUSB0"),
        ("COM3", "is not a port; expected a path"),
        ("AUTO", "write auto"),
        ("usb:0665:5161", "expected usb:BUS-PORTS"),
        ("/dev/", "is a folder"),
        ("10.0.0.5:4001", "socket://10.0.0.5:4001"),
        ("tcp://10.0.0.5:4001", "did you mean socket://10.0.0.5:4001"),
        ("http://10.0.0.5:4001", "unknown kind of link 'http://'"),
        ("socket://10.0.0.5", "the TCP port is missing"),
        ("socket://10.0.0.5:0", "the TCP port is missing or 0"),
        ("socket://10.0.0.5:65536", "port out of range"),
        ("socket://10.0.0.5:ups", "expected socket://host:port"),
        ("socket://:4001", "the host is missing"),
        ("socket://[fe80::1:4001", "expected socket://host:port"),
        ("rfc2217://h:4001?logging=debug", "nothing but host and port"),
        ("rfc2217://h:4001/ups", "nothing but host and port"),
        ("socket://me@h:4001", "nothing but host and port"),
    ],
)
def test_every_mistake_names_the_remedy(port: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(port)
    assert said in str(caught.value)
    assert repr(port) in str(caught.value)


def test_the_link_for_each() -> None:
    serial = transport_for("/dev/ttyS0", cablepower="both")
    assert isinstance(serial, SerialTransport) and serial.cablepower == "both"
    raw = transport_for("socket://h:1")
    assert isinstance(raw, TcpTransport) and (raw.host, raw.port) == ("h", 1)
    far = transport_for("rfc2217://h:1", cablepower="none")
    assert isinstance(far, Rfc2217Transport) and far.cablepower == "none"
    assert [link.label for link in (serial, raw, far)] == ["/dev/ttyS0", "socket://h:1", "rfc2217://h:1"]
    usb = transport_for("auto", usb={"vendorid": "0665", "serial": "A.*"})
    assert isinstance(usb, UsbTransport) and usb.label == "auto (vendorid = 0665, serial = A.*)"
    placed = transport_for("usb:1-1.4")
    assert isinstance(placed, UsbTransport) and placed.selection.path == "1-1.4"
    with pytest.raises(ValueError, match="subdriver krauler needs vendorid and productid"):
        transport_for("auto", usb={"subdriver": "krauler", "vendorid": "0001"})
    with pytest.raises(ValueError, match="cablepower 'dtr'"):
        transport_for("/dev/ttyS0", cablepower="dtr")
