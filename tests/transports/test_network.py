"""Device servers that refuse, hang, are something else; and what they are told about lines and speed."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from qxfleet.errors import LinkTimeout, LinkUnavailable
from qxfleet.model.wire import Ask
from qxfleet.transports import rfc2217, tcp
from qxfleet.transports.rfc2217 import Rfc2217Transport
from qxfleet.transports.tcp import TcpTransport
from tests.transports.rigs import STATUS, Rfc2217Rig, TcpRig

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial 3.5's RFC 2217 client

Link = type[TcpTransport] | type[Rfc2217Transport]
KINDS = [TcpTransport, Rfc2217Transport]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.mark.parametrize("kind", KINDS)
async def test_refused(kind: Link) -> None:
    with pytest.raises(LinkUnavailable, match=r"connection refused .*is the port right"):
        await kind("label", "127.0.0.1", free_port()).open()


@pytest.mark.parametrize("kind", KINDS)
async def test_unknown_name(kind: Link) -> None:
    with pytest.raises(LinkUnavailable, match=r"unknown host name 'ups.invalid' .*IP address"):
        await kind("label", "ups.invalid", 4001).open()


async def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full drops further connections without a word."""
    monkeypatch.setattr(tcp, "CONNECT_S", 0.3)
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        link = TcpTransport("label", *listener.getsockname())
        with pytest.raises(LinkTimeout, match=r"no answer within 0\.3 s"):
            await link.open()
        await link.close()


async def test_a_vanished_server_will_be_noticed(tmp_path: Path) -> None:
    rig = TcpRig(tmp_path)
    await rig.start()
    await rig.link.open()
    assert isinstance(rig.link, TcpTransport) and rig.link._socket is not None
    assert rig.link._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert rig.link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert rig.link._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    await rig.stop()


async def test_a_raw_server_is_not_an_rfc2217_one(tmp_path: Path) -> None:
    rig = TcpRig(tmp_path)
    await rig.start()
    link = Rfc2217Transport("label", "127.0.0.1", rig.port)
    with pytest.raises(LinkUnavailable, match=r"does not seem to support RFC2217.*use socket://"):
        await link.open()
    await link.close()
    await rig.stop()


async def test_a_session_that_takes_too_long_ends_its_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rfc2217, "OPEN_S", 0.1)
    rig = TcpRig(tmp_path)
    await rig.start()
    link = Rfc2217Transport("label", "127.0.0.1", rig.port)
    with pytest.raises(LinkTimeout, match="no RFC 2217 session"):
        await link.open()
    await link.close()
    for thread in threading.enumerate():
        if thread.name == "qxfleet label":
            await asyncio.to_thread(thread.join)
    await rig.unplug()


@pytest.mark.parametrize(
    ("cablepower", "dtr", "rts"),
    [("normal", True, False), ("reverse", False, True), ("both", True, True), ("none", False, False)],
)
async def test_the_far_port_is_set_as_a_near_one(tmp_path: Path, cablepower: str, dtr: bool, rts: bool) -> None:
    """engine.md section 3."""
    rig = Rfc2217Rig(tmp_path)
    rig.cablepower = cablepower
    await rig.start()
    info = await rig.link.open()
    assert info.detail == f"RFC 2217 2400 8N1, cablepower {cablepower}"
    port = rig.served
    assert (port.baudrate, port.bytesize, port.parity, port.stopbits) == (2400, 8, "N", 1)
    assert (port.dtr, port.rts) == (dtr, rts)
    assert not (port.xonxoff or port.rtscts or port.dsrdtr)
    assert await rig.link.exchange(Ask(b"Q1\r")) == STATUS
    await rig.stop()


async def test_an_unknown_cablepower_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'dtr' is none of"):
        Rfc2217Transport("label", "h", 1, "dtr")


async def test_telnet_escapes_are_not_data(tmp_path: Path) -> None:
    rig = Rfc2217Rig(tmp_path)
    rig.line.device = lambda request: b"(\xff\xff \xff\r"
    await rig.start()
    await rig.link.open()
    assert await rig.link.exchange(Ask(b"Q1\xff\r")) == b"(\xff\xff \xff"
    assert rig.line.requests == [b"Q1\xff\r"]
    await rig.stop()


async def test_both_address_families() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r")
        writer.write(STATUS + b"\r")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    try:
        server = await asyncio.start_server(serve, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    link = TcpTransport("label", "::1", server.sockets[0].getsockname()[1])
    await link.open()
    assert await link.exchange(Ask(b"Q1\r")) == STATUS
    await link.close()
    await gone.wait()
    server.close()
    await server.wait_closed()
