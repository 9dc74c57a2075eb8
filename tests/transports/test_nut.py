"""The link to a NUT server: one connection, answers in order, and whatever a server may do wrong."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from qxfleet.errors import LinkError, LinkLost, LinkTimeout, LinkUnavailable, ReplyMalformed, ReplyTimeout
from qxfleet.model.options import UpsdAccess
from qxfleet.model.wire import Ask
from qxfleet.transports import nut, upsd
from qxfleet.transports.nut import NutTransport, upses_of
from tests.nut_server import NutServer, Ups, running

LIST, FACTS = Ask(b"LIST VAR\r"), Ask(b"LIST FACTS\r")


@pytest.fixture
def secrets(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "user").write_text("op\n")
    (tmp_path / "password").write_text('se"cr\\et\n')
    return str(tmp_path / "user"), str(tmp_path / "password")


def link(server: NutServer, ups: str = "a", **access: Any) -> NutTransport:
    return NutTransport(f"nut://127.0.0.1:{server.port}/{ups}", UpsdAccess("127.0.0.1", server.port, **access), ups)


@pytest.fixture
async def server() -> AsyncIterator[NutServer]:
    async with running(NutServer({name: Ups() for name in "abc"})) as found:
        yield found


async def test_one_connection_for_all_upses(server: NutServer) -> None:
    links = [link(server, name) for name in "abc"]
    await asyncio.gather(*(each.open() for each in links))
    frames = await asyncio.gather(*(each.exchange(LIST) for each in links for _ in range(5)))
    assert server.connections == 1
    assert all(b'battery.charge "100"' in frame for frame in frames)
    for each in links[:2]:
        await each.close()
    assert b"ups.load" in await links[2].exchange(LIST)
    await links[2].close()
    await asyncio.sleep(0.05)
    assert not server.writers  # the last one hangs up


async def test_every_loop_has_its_own_connection(server: NutServer) -> None:
    async def look() -> bytes:
        here = link(server)
        await here.open()
        frame = await here.exchange(LIST)
        await here.close()
        return frame

    there = asyncio.to_thread(lambda: asyncio.run(look()))
    assert [b"ups.load" in frame for frame in await asyncio.gather(look(), there)] == [True, True]
    assert server.connections == 2


async def test_many_upses_are_asked_a_few_ahead() -> None:
    async with running(NutServer({f"u{n}": Ups() for n in range(300)})) as server:
        links = [link(server, f"u{n}") for n in range(300)]
        await asyncio.gather(*(each.open() for each in links))
        frames = await asyncio.gather(*(each.exchange(LIST) for each in links))
        assert len(frames) == 300 and server.connections == 1
        await asyncio.gather(*(each.close() for each in links))


async def test_an_order_goes_before_what_waits(server: NutServer, secrets: tuple[str, str]) -> None:
    links = [link(server, name, user_file=secrets[0], password_file=secrets[1]) for name in "ab"]
    await asyncio.gather(*(each.open() for each in links))
    server.heard.clear()
    polls = [asyncio.ensure_future(links[0].exchange(LIST)) for _ in range(40)]
    await asyncio.sleep(0)
    assert await links[1].exchange(Ask(b"INSTCMD load.off\r")) == b"SUCCESS"
    await asyncio.gather(*polls)
    assert server.heard.index("INSTCMD b load.off") <= upsd.AHEAD + 1
    for each in links:
        await each.close()


async def test_names_and_quotes(server: NutServer, secrets: tuple[str, str]) -> None:
    here = link(server, user_file=secrets[0], password_file=secrets[1])
    info = await here.open()
    assert (info.path, info.detail) == (f"127.0.0.1:{server.port}/a", "Test upsd, clear text")
    assert server.heard[:4] == ["VER", 'USERNAME "op"', 'PASSWORD "se\\"cr\\\\et"', "SET TRACKING ON"]
    server.upses["a"].variables = {"ups.id": 'hall "2"', "ups.status": "OL"}
    assert await here.exchange(FACTS) == b'ups.id "hall \\"2\\""\nups.status "OL"'
    assert (await here.exchange(Ask(b"LIST CMD\r"))).split(b"\n")[:2] == [b"load.off", b"shutdown.return"]
    server.upses["a"].variables |= {"ups.delay.shutdown": "20", "ups.delay.start": "30", "input.sensitivity": "high"}
    assert (await here.exchange(Ask(b"LIST FORMS\r"))).decode().split("\n") == [
        "TYPE ups.delay.shutdown RW NUMBER", "TYPE ups.delay.start RW RANGE NUMBER", 'RANGE ups.delay.start "0" "600"',
        "TYPE input.sensitivity RW ENUM STRING:8", 'ENUM input.sensitivity "low"', 'ENUM input.sensitivity "high"',
        "TYPE ups.id RW STRING:8",
    ]  # fmt: skip
    await here.close()


async def test_without_a_user_nothing_is_offered(server: NutServer) -> None:
    here = link(server)
    await here.open()
    assert await here.exchange(Ask(b"LIST CMD\r")) == await here.exchange(Ask(b"LIST FORMS\r")) == b""
    await here.close()


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [
        (("SUCCESS",), b"SUCCESS"), (("PENDING", "PENDING", "SUCCESS"), b"SUCCESS"), (("PENDING", "ERR FAILED"), b"ERR FAILED"),
        (("ERR UNKNOWN",), b"ERR UNKNOWN"), (("ERR INVALID-ARGUMENT",), b"ERR INVALID-ARGUMENT"), (("PENDING",), None),
        (None, None),
    ],
)  # fmt: skip
async def test_the_last_word_on_an_order(
    server: NutServer, secrets: tuple[str, str], tracking: tuple[str, ...] | None, expected: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(nut, "TRACK_S", 0.5)
    monkeypatch.setattr(nut, "ASK_TRACKING_S", 0.01)
    server.tracking = tracking
    here = link(server, user_file=secrets[0], password_file=secrets[1])
    await here.open()
    if expected is None:  # the server took it, and that is no evidence
        with pytest.raises(ReplyTimeout):
            await here.exchange(Ask(b"INSTCMD load.off\r"))
    else:
        assert await here.exchange(Ask(b"INSTCMD load.off\r")) == expected
    assert await here.exchange(Ask(b"INSTCMD load.onn\r")) == b"ERR CMD-NOT-SUPPORTED"
    assert server.orders() == ["INSTCMD a load.off", "INSTCMD a load.onn"]
    await here.close()


GONE: dict[str, tuple[type[LinkError], str]] = {
    "DATA-STALE": (LinkLost, "heard nothing new of this UPS"),
    "DRIVER-NOT-CONNECTED": (LinkLost, "driver for this UPS does not run"),
    "ACCESS-DENIED": (LinkUnavailable, "does not answer LIST VAR a: ACCESS-DENIED"),
}


@pytest.mark.parametrize("code", GONE)
async def test_no_contact_behind_a_server(server: NutServer, code: str) -> None:
    server.upses["a"].gone = code
    here, other = link(server), link(server, "b")
    await here.open()
    await other.open()
    kind, text = GONE[code]
    with pytest.raises(kind, match=text) as raised:
        await here.exchange(LIST)
    assert raised.value.port == here.label
    assert b"ups.load" in await other.exchange(LIST)  # the others are none the worse
    await here.close()
    await other.close()


async def test_an_unknown_ups_says_which_there_are(server: NutServer) -> None:
    here = link(server, "d")
    await here.open()
    with pytest.raises(LinkUnavailable, match=r"knows no UPS named d \(it has a, b, c\)") as raised:
        await here.exchange(LIST)
    assert raised.value.hopeless
    await here.close()


async def test_what_comes_from_here_is_refused(server: NutServer) -> None:
    here = link(server)
    await here.open()
    assert f'qx.nut.path "{nut.HERE}"'.encode() in await here.exchange(LIST)
    server.upses["a"].variables["qx.nut.path"] = "fe01 fe02"
    assert f'qx.nut.path "fe01 fe02 {nut.HERE}"'.encode() in await here.exchange(LIST)
    server.upses["a"].variables["qx.nut.path"] = f"fe01 {nut.HERE} fe02"
    with pytest.raises(LinkUnavailable, match="in a circle"):
        await here.exchange(LIST)
    server.upses["a"].variables["qx.nut.path"] = " ".join(f"fe{n:02}" for n in range(8))
    with pytest.raises(LinkUnavailable, match="went through 8 agents already"):
        await here.exchange(LIST)
    await here.close()


def _endless(request: str) -> bytes:
    return b"BEGIN LIST VAR a\n" + b'VAR a x "1"\n' * 40_000


HOSTILE: dict[str, tuple[Callable[[str], bytes | str | None], str]] = {
    "garbage": (lambda request: bytes(range(256)), "answered LIST VAR a with"),
    "a line without an end": (lambda request: b"x" * 5000, "a line of more than 4096 bytes"),
    "a list without an end": (_endless, "has no end"),
    "a list of another": (lambda request: b"BEGIN LIST VAR b\nEND LIST VAR b\n", "answered LIST VAR a with 'BEGIN LIST VAR b'"),
    "a list in a list": (lambda request: b"BEGIN LIST VAR a\nBEGIN LIST VAR a\n", "in the midst of a list"),
    "another end": (lambda request: b"BEGIN LIST VAR a\nEND LIST VAR b\n", "in the midst of a list"),
    "no list": (lambda request: b"OK\n", "answered LIST VAR a with 'OK'"),
    "two answers": (lambda request: b"ERR DATA-STALE\nERR DATA-STALE\n", "nobody asked for"),
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_server_is_a_lost_link(server: NutServer, what: str) -> None:
    answer, text = HOSTILE[what]
    here, idle = link(server), link(server, "b")
    lost: list[LinkLost] = []
    idle.on_lost = lost.append
    await here.open()
    await idle.open()
    server.instead = lambda request: answer(request) if request.startswith("LIST") else ""
    with pytest.raises(LinkLost) as raised:
        await here.exchange(LIST)
    if what != "two answers":  # there the first one was an answer
        assert text in str(raised.value)
    for _ in range(100):
        if lost:
            break
        await asyncio.sleep(0.02)
    assert [error.port for error in lost] == [idle.label] and text in str(lost[0])
    server.instead = lambda request: ""
    await asyncio.gather(here.close(), idle.close())
    await here.open()  # and it may be well again
    assert b"ups.load" in await here.exchange(LIST)
    await here.close()


async def test_lines_of_another_ups_in_the_list(server: NutServer) -> None:
    server.instead = lambda request: b'BEGIN LIST VAR a\nVAR b ups.status "OB"\nEND LIST VAR a\n' if "VAR" in request else ""
    here = link(server)
    await here.open()
    with pytest.raises(ReplyMalformed):
        await here.exchange(LIST)
    await here.close()


@pytest.mark.parametrize("how", ["silent", "slow", "never to its end"])
async def test_a_server_that_hangs(server: NutServer, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsd, "ANSWER_S", 0.6)
    monkeypatch.setattr(upsd, "LOOK_S", 0.05)
    here = link(server)
    await here.open()
    begins = {"silent": None, "slow": b"BEGIN LI", "never to its end": b'BEGIN LIST VAR a\nVAR a x "1"\n'}
    server.instead = lambda request: begins[how]

    async def drip() -> None:
        while how != "silent":
            await asyncio.sleep(0.05)
            for writer in tuple(server.writers):
                writer.write(b"x" if how == "slow" else b'VAR a y "2"\n')

    dripping = asyncio.create_task(drip())
    with pytest.raises(LinkLost, match=r"does not (finish its answer|answer) to LIST VAR a within 0.6 s: it hangs"):
        async with asyncio.timeout(10):
            await here.exchange(LIST)
    dripping.cancel()
    await here.close()


async def test_many_slow_answers_are_too_slow_together(server: NutServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsd, "WAIT_S", 1.0)
    monkeypatch.setattr(upsd, "LOOK_S", 0.05)
    links = [link(server, "abc"[n % 3]) for n in range(60)]
    await asyncio.gather(*(each.open() for each in links))
    answered = 0

    def slowly(request: str) -> bytes | str | None:
        nonlocal answered
        answered += 1
        return server.answer(request) if answered < 20 else None

    server.instead = slowly
    results = await asyncio.gather(*(each.exchange(LIST) for each in links), return_exceptions=True)
    assert sum(isinstance(result, bytes) for result in results) == 19
    assert all(isinstance(result, (bytes, LinkLost)) for result in results)
    await asyncio.gather(*(each.close() for each in links))


async def test_hung_up_in_the_middle(server: NutServer) -> None:
    here = link(server)
    await here.open()
    server.instead = lambda request: b"BEGIN LIST VAR a\nVAR a x "
    asking = asyncio.create_task(here.exchange(LIST))
    await asyncio.sleep(0.05)
    await server.hang_up()
    with pytest.raises(LinkLost, match="the NUT server hung up"):
        await asking
    await here.close()


async def test_all_share_one_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(NutServer({f"u{n}": Ups() for n in range(50)})) as server:
        port = server.port
    links = [link(server, f"u{n}") for n in range(50)]
    attempts = 0
    connect = upsd.connect_to

    async def counted(*arguments: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return await connect(*arguments)

    monkeypatch.setattr(upsd, "connect_to", counted)
    for _ in range(3):
        for each in await asyncio.gather(*(each.open() for each in links), return_exceptions=True):
            assert isinstance(each, LinkUnavailable) and "connection refused (does upsd run there" in str(each)
    assert attempts == 1
    waiting = [asyncio.create_task(each.wait_back(30)) for each in links]
    async with running(server, port):
        await asyncio.sleep(1.1)
        await links[0].open()
        async with asyncio.timeout(5):  # all of them hear at once that it is back
            await asyncio.gather(*waiting)
        await links[0].close()


async def test_whoever_wanted_the_connection_may_go(server: NutServer) -> None:
    here = link(server)
    opening = asyncio.create_task(here.open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for _ in range(100):
        if server.connections and not server.writers:
            break
        await asyncio.sleep(0.02)
    assert not server.writers


async def test_a_refused_user_and_missing_files(server: NutServer, tmp_path: Path, secrets: tuple[str, str]) -> None:
    server.instead = lambda request: b"ERR INVALID-PASSWORD\n" if request.startswith("PASSWORD") else ""
    with pytest.raises(LinkUnavailable, match=r"does not take the password \(ERR INVALID-PASSWORD\)") as raised:
        await link(server, user_file=secrets[0], password_file=secrets[1]).open()
    assert raised.value.hopeless and "cr" not in str(raised.value)
    with pytest.raises(LinkUnavailable, match="none: No such file"):
        await link(server, user_file=str(tmp_path / "none"), password_file=secrets[1]).open()


async def test_lists_the_upses(server: NutServer) -> None:
    listed = b'BEGIN LIST UPS\nUPS a "rack \\"1\\"\x1b[2J"\nUPS b "Unavailable"\nUPS ../c "x"\nUPS d\nEND LIST UPS\n'
    server.instead = lambda request: listed if request == "LIST UPS" else ""
    assert await upses_of(UpsdAccess("127.0.0.1", server.port)) == [("a", 'rack "1"[2J'), ("b", "")]


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=nut", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


@pytest.fixture
async def secure(certificate: tuple[Path, Path]) -> AsyncIterator[NutServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with running(NutServer(context=context)) as server:
        yield server


def fingerprint(cert: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).hexdigest()


async def test_tls_by_authority_and_by_pin(secure: NutServer, certificate: tuple[Path, Path]) -> None:
    for access in ({"ca_file": str(certificate[0])}, {"pin": fingerprint(certificate[0])}):
        here = link(secure, tls=True, **access)
        assert (await here.open()).detail == "Test upsd, TLS"
        assert b"ups.load" in await here.exchange(LIST)
        lost: list[LinkLost] = []
        here.on_lost = lost.append
        for writer in tuple(secure.writers):
            writer.close()  # a goodbye in TLS
        for _ in range(200):
            if lost:
                break
            await asyncio.sleep(0.02)
        assert lost and "hung up" in str(lost[0])
        await here.close()
    assert secure.heard[0] == "STARTTLS"


async def test_tls_that_is_not_to_be_trusted(secure: NutServer, certificate: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(LinkUnavailable, match="can't be trusted: self-signed certificate") as raised:
        await link(secure, tls=True).open()
    assert raised.value.hopeless
    found = fingerprint(certificate[0])
    with pytest.raises(LinkUnavailable, match=f"another than the pinned one: its SHA-256 is {found}"):
        await link(secure, tls=True, pin="0" * 64).open()
    with pytest.raises(LinkUnavailable, match=r"can't be trusted.*(mismatch|not valid for)"):
        await NutTransport("x", UpsdAccess("localhost", secure.port, tls=True, ca_file=str(certificate[0])), "a").open()
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(LinkUnavailable, match="ca_file of"):
        await link(secure, tls=True, ca_file=str(tmp_path / "ca")).open()
    assert not [request for request in secure.heard if request != "STARTTLS"]  # nothing was told to it


async def test_no_tls_is_no_reason_to_go_on_in_clear(server: NutServer, secrets: tuple[str, str]) -> None:
    with pytest.raises(LinkUnavailable, match=r"offers no TLS \(ERR FEATURE-NOT-CONFIGURED\)"):
        await link(server, tls=True, user_file=secrets[0], password_file=secrets[1]).open()
    server.instead = lambda request: b"OK STARTTLS\nOK\n" if request == "STARTTLS" else ""
    with pytest.raises(LinkError):  # words in clear behind the last one in clear
        await link(server, tls=True, pin="0" * 64, user_file=secrets[0], password_file=secrets[1]).open()
    server.instead = lambda request: b"OK STARTTLS\nO" if request == "STARTTLS" else ""
    with pytest.raises(LinkError, match=r"more in clear text|back-off"):
        await link(server, "b", tls=True, pin="1" * 64).open()
    assert not any("op" in request for request in server.heard)


async def test_a_dead_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upsd, "CONNECT_S", 0.2)

    async def never(*_: Any) -> Any:
        await asyncio.sleep(60)

    monkeypatch.setattr(upsd, "connect_to", never)
    with pytest.raises(LinkTimeout, match=r"does not accept within 0.2 s"):
        await NutTransport("x", UpsdAccess("192.0.2.1"), "a").open()
