"""The NUT server: every command, every error, rights, limits and TLS, over real connections to a real agent."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import subprocess
import uuid
from pathlib import Path

import pytest
from sqlalchemy import Connection

from qxfleet.api import requests
from qxfleet.api.door import Door
from qxfleet.dialects.registry import dialect_named
from qxfleet.interfaces import listener
from qxfleet.interfaces.upsd import connection, server
from qxfleet.model.events import Event, Link, Phase
from qxfleet.session import errands
from qxfleet.store import history
from qxfleet.store.audit import trail
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.population import fleet
from qxfleet.testing.simulator import SimulatedUps
from tests.interfaces.nut_stage import Caller, Stage, free_port, stage

OK = "OK"


def plain(name: str = "u", description: str = "") -> SimulatedUps:
    dialect = dialect_named("megatec")
    assert dialect is not None
    return SimulatedUps(dialect, name=name, machine=Machine(Ratings(), load_percent=30, noise=0), description=description)


async def until_link(play: Stage, link: Link) -> None:
    async with asyncio.timeout(30):
        while play.agent.fleet.snapshot()["u"].link is not link:
            await asyncio.sleep(0.02)


async def expect(caller: Caller, *pairs: tuple[str, str]) -> None:
    for request, answer in pairs:
        assert (request, await caller.ask(request)) == (request, answer)


async def test_reading_needs_nobody_to_log_in() -> None:
    async with stage([plain(description='The "red" one'), plain("Other.Ups")]) as play:
        caller = await play.caller()
        await expect(
            caller,
            ("NETVER", "1.3"), ("PROTVER", "1.3"), ("netver", "1.3"),
            ("LIST UPS", 'BEGIN LIST UPS\nUPS u "The \\"red\\" one"\nUPS Other.Ups "Description unavailable"\nEND LIST UPS'),
            ("GET UPSDESC u", 'UPSDESC u "The \\"red\\" one"'), ("GET UPSDESC other.ups", 'UPSDESC other.ups "Unavailable"'),
            ("GET VAR u ups.status", 'VAR u ups.status "OL"'), ("GET VAR U UPS.Status", 'VAR U UPS.Status "OL"'),
            ("GET VAR u nope", "ERR VAR-NOT-SUPPORTED"), ("GET VAR x ups.status", "ERR UNKNOWN-UPS"),
            ("GET VAR u", "ERR INVALID-ARGUMENT"), ("GET", "ERR INVALID-ARGUMENT"), ("GET NOTHING u", "ERR INVALID-ARGUMENT"),
            ("GET TYPE u input.voltage", "TYPE u input.voltage NUMBER"),
            ("GET TYPE u ups.status", "TYPE u ups.status STRING:255"),
            ("GET TYPE u ups.delay.start", "TYPE u ups.delay.start RW RANGE NUMBER"),
            ("GET DESC u input.voltage", 'DESC u input.voltage "Input voltage"'),
            ("GET DESC u nope", 'DESC u nope "Description unavailable"'),
            ("GET CMDDESC u nope", 'CMDDESC u nope "Description unavailable"'),
            ("GET NUMLOGINS u", "NUMLOGINS u 0"), ("GET NUMLOGINS x", "ERR UNKNOWN-UPS"),
            ("GET TRACKING", "OFF"), ("GET TRACKING abc", "ERR FEATURE-NOT-CONFIGURED"),
            ("LIST", "ERR INVALID-ARGUMENT"), ("LIST NOTHING", "ERR INVALID-ARGUMENT"), ("LIST VAR", "ERR INVALID-ARGUMENT"),
            ("LIST VAR x", "ERR UNKNOWN-UPS"),
            ("LIST RW u", 'BEGIN LIST RW u\nRW u ups.delay.shutdown "30"\nRW u ups.delay.start "180"\nEND LIST RW u'),
            ("LIST RANGE u ups.delay.start",
             'BEGIN LIST RANGE u ups.delay.start\nRANGE u ups.delay.start "0" "599940"\nEND LIST RANGE u ups.delay.start'),
            ("LIST RANGE u ups.status", "BEGIN LIST RANGE u ups.status\nEND LIST RANGE u ups.status"),
            ("LIST ENUM u ups.status", "BEGIN LIST ENUM u ups.status\nEND LIST ENUM u ups.status"),
            ("LIST ENUM u nope", "ERR VAR-NOT-SUPPORTED"),
            ("LIST CLIENT u", "BEGIN LIST CLIENT u\nEND LIST CLIENT u"), ("LIST CLIENT x", "ERR UNKNOWN-UPS"),
            ("", "ERR UNKNOWN-COMMAND"), ("NONSENSE", "ERR UNKNOWN-COMMAND"), ("VER 1", "ERR INVALID-ARGUMENT"),
            ("STARTTLS", "ERR FEATURE-NOT-CONFIGURED"),
        )  # fmt: skip
        assert (await caller.ask("VER")).startswith("qxfleet ")
        listed = await caller.ask("LIST VAR u")
        shown = dict(re.findall(r'^VAR u (\S+) "(.*)"$', listed, re.MULTILINE))
        assert shown["ups.status"] == "OL"
        assert shown["input.voltage"] == "230.0"
        assert list(shown) == sorted(shown)
        for name, value in shown.items():
            assert await caller.ask(f"GET VAR u {name}") == f'VAR u {name} "{value}"'
        commands = re.findall(r"^CMD u (\S+)$", await caller.ask("LIST CMD u"), re.MULTILINE)
        assert {"test.battery.start.quick", "shutdown.return", "beeper.toggle"} <= set(commands)
        for command in commands:
            assert "unavailable" not in await caller.ask(f"GET CMDDESC u {command}")
        assert await caller.ask("LOGOUT") == "OK Goodbye"
        assert await caller.reader.read() == b""
        caller.close()


async def test_settings_tell_their_choices() -> None:
    unit = fleet(7)[6]
    async with stage([unit]) as play:
        caller = await play.caller("op")
        name = unit.name
        assert await caller.ask(f"GET TYPE {name} battery.energysave") == f"TYPE {name} battery.energysave RW ENUM STRING:255"
        listed = await caller.ask(f"LIST ENUM {name} battery.energysave")
        assert set(re.findall(r'"(.*)"', listed)) == {"yes", "no"}
        assert await caller.ask(f"SET VAR {name} battery.energysave maybe") == "ERR INVALID-VALUE"
        assert await caller.ask(f'SET VAR {name} battery.energysave "{"x" * 300}"') == "ERR TOO-LONG"
        assert await caller.ask(f"SET VAR {name} battery.energysave yes") == OK
        assert await caller.ask(f"GET VAR {name} battery.energysave") == f'VAR {name} battery.energysave "yes"'
        caller.close()


async def test_who_may_do_what() -> None:
    async with stage([plain()]) as play:
        nobody = await play.caller()
        await expect(nobody, *((request, "ERR USERNAME-REQUIRED") for request in (
            "SET VAR u ups.delay.start 60", "INSTCMD u beeper.toggle", "LOGIN u", "PRIMARY u", "MASTER u", "FSD u", "SET",
        )))  # fmt: skip
        await expect(
            nobody, ("USERNAME", "ERR INVALID-ARGUMENT"), ('USERNAME ""', "ERR INVALID-USERNAME"), ("USERNAME nobody", OK),
            ("USERNAME nobody", "ERR ALREADY-SET-USERNAME"), ("FSD u", "ERR PASSWORD-REQUIRED"),
            ('PASSWORD ""', "ERR INVALID-PASSWORD"), ("PASSWORD secret", OK), ("PASSWORD secret", "ERR ALREADY-SET-PASSWORD"),
            ("LOGIN u", "ERR ACCESS-DENIED"), ("FSD u", "ERR ACCESS-DENIED"), ("PRIMARY u", "ERR ACCESS-DENIED"),
            ("PRIMARY x", "ERR UNKNOWN-UPS"), ("FSD x", "ERR UNKNOWN-UPS"), ("LOGIN x", "ERR UNKNOWN-UPS"),
            ("INSTCMD u nope", "ERR CMD-NOT-SUPPORTED"), ("INSTCMD u load.off", "ERR ACCESS-DENIED"),
            ("SET VAR u nope 1", "ERR ACCESS-DENIED"), ("INSTCMD u", "ERR INVALID-ARGUMENT"),
        )  # fmt: skip
        beep, tester, op = await play.caller("beep"), await play.caller("tester"), await play.caller("op")
        await expect(beep, ("INSTCMD u load.off", "ERR ACCESS-DENIED"), ("INSTCMD u beeper.toggle", OK))
        await expect(tester, ("INSTCMD u beeper.toggle", "ERR ACCESS-DENIED"), ("INSTCMD u test.battery.start.quick", OK))
        await expect(
            op, ("SET VAR u ups.delay.start 240", OK), ("GET VAR u ups.delay.start", 'VAR u ups.delay.start "240"'),
            ("SET VAR u ups.delay.start abc", "ERR INVALID-VALUE"), ("SET VAR u ups.delay.start 99999999", "ERR INVALID-VALUE"),
            ("SET VAR u ups.delay.start 1e3", "ERR INVALID-VALUE"), ('SET VAR u ups.delay.start ""', "ERR INVALID-VALUE"),
            ("SET VAR u ups.status OB", "ERR READONLY"), ("SET VAR u nope 1", "ERR VAR-NOT-SUPPORTED"),
            ("SET VAR x ups.delay.start 1", "ERR UNKNOWN-UPS"), ("SET VAR u ups.delay.start", "ERR INVALID-ARGUMENT"),
            ("SET NOTHING u", "ERR INVALID-ARGUMENT"), ("INSTCMD u beeper.toggle 5", "ERR INVALID-ARGUMENT"),
            ("INSTCMD u test.battery.start abc", "ERR INVALID-ARGUMENT"), ("INSTCMD x load.off", "ERR UNKNOWN-UPS"),
            ("FSD u", "ERR ACCESS-DENIED"), ("LOGIN u", "ERR ACCESS-DENIED"),
        )  # fmt: skip

        def of_audit(database: Connection) -> list[tuple[str, str, str | None]]:
            return [(entry.actor, entry.name, entry.outcome) for entry in trail(database)]

        async with asyncio.timeout(20):
            while ("nut:op@127.0.0.1", "login", "forbidden") not in (written := await play.agent.store.read(of_audit)):
                await asyncio.sleep(0.05)
        assert ("nut:nobody@127.0.0.1", "load.off", "forbidden") in written
        assert ("nut:beep@127.0.0.1", "beeper.toggle", "accepted") in written
        assert ("nut:op@127.0.0.1", "ups.delay.start", "accepted") in written
        for caller in (nobody, beep, tester, op):
            caller.close()


async def test_an_order_is_tracked_by_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "CONFIRM_S", 1.5)
    async with stage([plain()]) as play:
        op = await play.caller("op", tracking=True)
        assert await op.ask("GET TRACKING") == "ON"
        assert await op.ask("GET TRACKING nonsense") == "ERR UNKNOWN"
        assert await op.ask("SET VAR u ups.delay.start 99999999") == "ERR INVALID-VALUE"

        async def end(request: str) -> str:
            answer = await op.ask(request)
            assert answer.startswith("OK TRACKING "), answer
            key = answer.rpartition(" ")[2]
            assert uuid.UUID(key).version == 4
            async with asyncio.timeout(20):
                while (status := await op.ask(f"GET TRACKING {key}")) == "PENDING":
                    await asyncio.sleep(0.05)
            return status

        assert await end("INSTCMD u beeper.toggle") == "SUCCESS"
        assert await end("SET VAR u ups.delay.start 120") == "SUCCESS"
        assert await end("INSTCMD u test.battery.start 5940") == "SUCCESS"
        assert await end("INSTCMD u test.battery.start.quick") == "ERR FAILED", "a test ran before: nobody can have seen it begin"
        assert await end("INSTCMD u load.on") == "SUCCESS", "it was on and is on: there is nothing left to do"
        assert await op.ask("SET TRACKING OFF") == OK
        assert await op.ask("SET TRACKING MAYBE") == "ERR INVALID-ARGUMENT"
        op.close()


async def test_without_contact_there_is_nothing_to_read() -> None:
    async with stage([plain()]) as play:
        caller, op, pri = await play.caller(), await play.caller("op"), await play.caller("pri")
        play.farm.unplug("u")
        await until_link(play, Link.LOST)
        for request in (
            "GET VAR u ups.status", "LIST VAR u", "LIST RW u", "LIST CMD u", "LIST RANGE u ups.delay.start",
            "GET TYPE u ups.status", "LIST ENUM u ups.status", "GET DESC u ups.status", "GET CMDDESC u load.off",
            "GET NUMLOGINS u",
        ):  # fmt: skip
            assert (request, await caller.ask(request)) == (request, "ERR DATA-STALE")
        assert await op.ask("INSTCMD u beeper.toggle") == "ERR DATA-STALE"
        assert await op.ask("SET VAR u ups.delay.start 60") == "ERR DATA-STALE"
        assert await caller.ask("GET UPSDESC u") == 'UPSDESC u "Unavailable"'
        await expect(pri, ("LOGIN u", OK), ("PRIMARY u", "OK PRIMARY-GRANTED"), ("MASTER u", "OK MASTER-GRANTED"))
        for each in (caller, op, pri):
            each.close()


async def test_a_ups_never_heard_of_has_no_driver(tmp_path: Path) -> None:
    async with stage([plain()]) as play:
        config = play.folder / "qxfleet.toml"
        config.write_text(config.read_text() + f'\n[[ups]]\nname = "away"\nport = "{tmp_path}/nothing"\ndialect = "megatec"\n')
        caller = await play.caller()
        assert await caller.ask("GET VAR away ups.status") == "ERR UNKNOWN-UPS"
        assert "away: added" in play.agent.reload(config)
        assert 'UPS away "Description unavailable"' in await caller.ask("LIST UPS")
        assert await caller.ask("GET VAR away ups.status") == "ERR DRIVER-NOT-CONNECTED"
        assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        caller.close()


async def test_upsmons_log_in_and_a_forced_shutdown_reaches_them() -> None:
    async with stage([plain(), plain("v")]) as play:
        told: list[Event] = []
        play.agent.bus.attach(Event, told.append)
        sec, pri, other = await play.caller("sec"), await play.caller("pri"), await play.caller()
        await expect(sec, ("LOGIN u", OK), ("LOGIN u", "ERR ALREADY-LOGGED-IN"), ("LOGIN v", "ERR ALREADY-LOGGED-IN"))
        await expect(sec, ("PRIMARY u", "ERR ACCESS-DENIED"), ("FSD u", "ERR ACCESS-DENIED"))
        await expect(pri, ("LOGIN u", OK), ("PRIMARY u", "OK PRIMARY-GRANTED"), ("GET NUMLOGINS u", "NUMLOGINS u 2"))
        assert await other.ask("LIST CLIENT u") == (
            "BEGIN LIST CLIENT u\nCLIENT u 127.0.0.1\nCLIENT u 127.0.0.1\nEND LIST CLIENT u"
        )
        await expect(pri, ("FSD u", "OK FSD-SET"), ("FSD u", "OK FSD-SET"))
        assert await other.ask("GET VAR u ups.status") == 'VAR u ups.status "FSD OL"'
        assert 'VAR u ups.status "FSD OL"' in await other.ask("LIST VAR u")
        assert await other.ask("GET VAR v ups.status") == 'VAR v ups.status "OL"'
        door = Door(play.agent)
        assert (await door.do(requests.Vars(ups="u"), "test"))["variables"]["ups.status"] == "FSD OL"
        assert [each["status"] for each in (await door.do(requests.Status(), "test"))["ups"]] == ["FSD OL", "OL"]
        assert [(event.ups, event.value) for event in told if event.name == "forced-shutdown"] == [("u", "begin")]
        sec.close()
        async with asyncio.timeout(20):
            while await other.ask("GET NUMLOGINS u") != "NUMLOGINS u 1":
                await asyncio.sleep(0.01)
        play.agent.forced.clear("u", "test")
        assert await other.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        pri.close()
        other.close()


async def test_guessing_is_slowed_down_and_written_down() -> None:
    async with stage([plain()]) as play:
        for guess in range(7):
            caller = await play.caller()
            await expect(caller, ("USERNAME op", OK), (f"PASSWORD guess{guess}", OK))
            assert await caller.ask("INSTCMD u beeper.toggle") == "ERR ACCESS-DENIED"
            caller.close()
        caller = await play.caller("op")
        assert await caller.ask("INSTCMD u beeper.toggle") == "ERR ACCESS-DENIED", "the right one is not looked at either"
        assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        caller.close()
        texts = await play.agent.store.read(lambda database: [entry.text for entry in trail(database) if entry.name == "login"])
        assert texts[:5] == ["wrong name or password"] * 5
        assert len(texts) == 6, "refusals unheard are told once"
        assert "too many wrong passwords" in texts[5]
        assert not any("guess" in text for text in texts)


def certificate(folder: Path) -> dict[str, bytes]:
    """A certificate of its own signature for localhost, as ``cert.pem`` and ``key.pem``."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return {name: (folder / name).read_bytes() for name in ("cert.pem", "key.pem")}


async def test_tls(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    async with stage([plain()], 'cert = "cert.pem"\nkey = "key.pem"', files=files) as play:
        caller = await play.caller()
        assert await caller.ask("USERNAME nobody") == OK
        await caller.secure(trusting)
        assert caller.writer.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
        await expect(caller, ("USERNAME sec", OK), ("PASSWORD secret", OK), ("LOGIN u", OK), ("STARTTLS", "ERR ALREADY-SSL-MODE"))
        assert 'VAR u ups.status "OL"' in await caller.ask("LIST VAR u")
        injected = await play.caller()
        injected.writer.write(b"STARTTLS\nUSERNAME pri\nPASSWORD secret\n")
        assert await injected.take() == "OK STARTTLS"
        await injected.writer.start_tls(trusting, server_hostname="localhost")
        assert await injected.ask("FSD u") == "ERR USERNAME-REQUIRED", "what came in clear text behind STARTTLS is nobody's word"
        old = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        outdated = await play.caller()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await outdated.secure(old)
        nonsense = await play.caller()
        assert await nonsense.ask("STARTTLS") == "OK STARTTLS"
        nonsense.writer.write(b"GET VAR u ups.status\n" * 3)
        assert b"OL" not in await nonsense.reader.read()
        assert await caller.ask("NETVER") == "1.3"
        for each in (caller, injected, outdated, nonsense):
            each.close()


async def test_lines_and_answers_are_bounded() -> None:
    async with stage([plain()]) as play:
        caller = await play.caller()
        assert await caller.ask(b"A" * 1025 + b"\n") == "ERR TOO-LONG"
        assert await caller.ask(b"A" * 300_000 + b"\nNETVER\n") == "ERR TOO-LONG"
        assert await caller.take() == "1.3"
        caller.writer.write(b"NETVER\r\n" * 200 + b"NETV")
        assert [await caller.take() for _ in range(200)] == ["1.3"] * 200
        assert await caller.ask(b"ER\n") == "1.3", "a request may come in pieces"
        caller.writer.write(b"NETVER\nGET VAR u ups.status\n")
        caller.writer.write_eof()
        assert await caller.reader.read() == b'1.3\nVAR u ups.status "OL"\n', "what was asked before the end is answered"
        caller.close()

        greedy = await play.caller()
        greedy.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2000):
            greedy.writer.write(b"LIST VAR u\n" * 20)
        await asyncio.sleep(0.5)
        (held,) = play.server._connections()
        assert held._transport is not None
        assert held._transport.get_write_buffer_size() < connection.MOST_UNTAKEN + 64 * 1024
        assert len(held._incoming) < connection.MOST_WAITING + server.READ_BYTES
        other = await play.caller()
        assert await other.ask("NETVER") == "1.3"
        greedy.writer.transport.abort()
        other.close()


async def test_fast_clients_wait_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BURST", 50.0)
    monkeypatch.setattr(connection, "RATE_PER_S", 20.0)
    async with stage([plain()]) as play:
        fast, slow = await play.caller(), await play.caller()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        fast.writer.write(b"NETVER\n" * 100)
        assert await slow.ask("NETVER") == "1.3"
        assert loop.time() - began_s < 2.0
        assert [await fast.take() for _ in range(100)] == ["1.3"] * 100
        assert loop.time() - began_s > 2.0, "100 requests, 50 of them at 20 a second"
        fast.close()
        slow.close()


async def test_idle_clients_go_and_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CLIENTS", 3)
    monkeypatch.setattr(server, "IDLE_S", 0.6)
    monkeypatch.setattr(server, "SWEEP_S", 0.1)
    async with stage([plain()]) as play:
        monitor = await play.caller("sec")
        assert await monitor.ask("LOGIN u") == OK
        first, second, third = [await play.caller() for _ in range(3)]
        assert await first.reader.read() == b"", "the one idle longest makes room, unless it is logged in"
        assert await second.ask("NETVER") == "1.3"
        assert await third.ask("NETVER") == "1.3"
        async with asyncio.timeout(20):
            while await third.ask("NETVER") == "1.3" and not second.reader.at_eof():
                await asyncio.sleep(0.05)
                if not second.reader._buffer:  # type: ignore[attr-defined]
                    continue
            assert await second.reader.read() == b"", "asked nothing for too long"
            assert await monitor.reader.read() == b""
        assert await third.ask("GET NUMLOGINS u") == "NUMLOGINS u 0"
        for each in (monitor, first, second, third):
            each.close()


async def test_a_new_configuration_moves_the_server_and_its_users() -> None:
    async with stage([plain()]) as play:
        config = play.folder / "qxfleet.toml"
        caller = await play.caller("op")
        assert await caller.ask("SET VAR u ups.delay.start 240") == OK
        text = config.read_text()
        config.write_text(text.replace('allow = ["read", "command", "set"]', 'allow = ["read"]'))
        assert play.agent.reload(config) == ["user op: changed"]
        assert await caller.ask("SET VAR u ups.delay.start 180") == "ERR ACCESS-DENIED", "rights are those of now"
        port = free_port()
        config.write_text(text.replace(f":{play.port}", f":{port}"))
        assert f"[nut]: listens on 127.0.0.1:{port}" in play.agent.reload(config)
        assert await caller.reader.read() == b""
        async with asyncio.timeout(20):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        moved = Caller(reader, writer)
        assert await moved.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        config.write_text(re.sub(r"\[nut\]\nlisten.*\n", "", text))
        assert "[nut]: off" in play.agent.reload(config)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        moved.close()
        caller.close()
        assert play.agent.forced.logins("u") is None


async def test_a_taken_port_is_told_and_taken_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start as after it: nobody who holds a port keeps UPSes from being watched."""
    monkeypatch.setattr(listener, "RETRY_S", 0.2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = int(other.getsockname()[1])
        async with stage([plain()], port=port) as play:
            await play.agent.store.settled(10)
            told = await play.agent.store.read(lambda database: history.events(database))
            taken = [each.event for each in told if each.event.name == "cannot-listen"]
            assert [(each.phase, each.value) for each in taken] == [(Phase.BEGIN, f"127.0.0.1:{port}")]
            assert "another program has it: stop that, or choose another port" in taken[0].text
            other.close()
            async with asyncio.timeout(20):
                while True:
                    try:
                        caller = await play.caller()
                        break
                    except ConnectionRefusedError:
                        await asyncio.sleep(0.05)
            assert await caller.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
            caller.close()


async def test_an_error_of_ours_ends_one_connection(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async with stage([plain()]) as play:
        unlucky, other = await play.caller(), await play.caller("op")

        def broken(*_: object) -> bytes:
            raise ZeroDivisionError

        monkeypatch.setattr(play.server._board, "upses", broken)
        assert await unlucky.ask("LIST UPS") == ""
        monkeypatch.setattr(play.agent.fleet, "perform", broken)
        assert await other.ask("INSTCMD u beeper.toggle") == ""
        assert caplog.text.count("an error that is ours") == 2
        third = await play.caller()
        assert await third.ask("GET VAR u ups.status") == 'VAR u ups.status "OL"'
        for each in (unlucky, other, third):
            each.close()
