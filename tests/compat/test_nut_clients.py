"""Clients that others wrote, against a running agent: Debian's, and the Python libraries that Home Assistant and others use."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path

import pytest

from qxfleet.api.shapes import variable_texts
from qxfleet.testing.population import fleet
from tests.compat.upsmon import Upsmon
from tests.interfaces.nut_stage import Stage, stage
from tests.interfaces.test_upsd import certificate, plain

OP = ("-u", "op", "-p", "secret")


async def run(program: str, *arguments: str) -> tuple[int, str]:
    """Exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env={**os.environ, "NUT_QUIET_INIT_SSL": "true"}
    )
    said, _ = await process.communicate()
    text = said.decode()
    return process.returncode or 0, "\n".join(line for line in text.splitlines() if not line.startswith("Init SSL"))


@pytest.mark.usefixtures("incumbent_installed")
async def test_debians_commands(tmp_path: Path) -> None:
    voltronic = fleet(7)[6]
    async with stage([plain(description="Rack 1"), voltronic]) as play:
        host = f"localhost:{play.port}"
        at = f"u@{host}"
        assert await run("upsc", "-l", host) == (0, f"u\n{voltronic.name}")
        assert await run("upsc", "-L", host) == (0, f"u: Rack 1\n{voltronic.name}: {voltronic.description}")
        code, said = await run("upsc", at)
        assert code == 0
        assert dict(line.split(": ", 1) for line in said.splitlines()) == variable_texts(play.agent.fleet.snapshot()["u"])
        assert await run("upsc", at, "ups.status") == (0, "OL")
        assert await run("upsc", at, "no.such") == (1, "Error: Variable not supported by UPS")
        assert await run("upsc", f"x@{host}") == (1, "Error: Unknown UPS")

        code, said = await run("upscmd", "-l", at)
        assert code == 0
        described = dict(line.split(" - ", 1) for line in said.splitlines() if " - " in line)
        assert set(described) == {order.name for order in play.agent.fleet.orders("u")}
        assert "unavailable" not in said
        assert await run("upscmd", *OP, at, "beeper.toggle") == (0, "OK")
        assert await run("upscmd", *OP, "-w", at, "beeper.toggle") == (0, "SUCCESS")
        assert await run("upscmd", *OP, "-w", at, "test.battery.start", "60") == (0, "SUCCESS")
        assert await run("upscmd", *OP, "-w", at, "test.battery.stop") == (0, "SUCCESS")
        for order in ("test.battery.stop", "shutdown.stop", "load.on"):  # nothing is left for them to do
            asked = asyncio.get_running_loop().time()
            assert await run("upscmd", *OP, "-w", at, order) == (0, "SUCCESS")
            assert asyncio.get_running_loop().time() - asked < 4, "a poll, not the wait for an effect"
        assert described["shutdown.default"].startswith("what a shutdown of this UPS is by its options")
        assert await run("upscmd", *OP, "-w", at, "shutdown.default") == (0, "SUCCESS")
        assert await run("upscmd", *OP, "-w", at, "shutdown.stop") == (0, "SUCCESS")
        code, said = await run("upscmd", "-u", "op", "-p", "wrong", at, "beeper.toggle")
        assert (code, "ACCESS-DENIED" in said) == (1, True)
        code, said = await run("upscmd", *OP, at, "no.such.thing")
        assert (code, "CMD-NOT-SUPPORTED" in said) == (1, True)

        code, said = await run("upsrw", at)
        assert code == 0
        assert re.findall(r"^\[(.*)\]$", said, re.MULTILINE) == ["ups.delay.shutdown", "ups.delay.start"]
        assert "Type: RANGE NUMBER" in said or ("Type: RANGE" in said and "0..599940" in said)
        code, said = await run("upsrw", f"{voltronic.name}@{host}")
        assert 'Option: "yes"' in said or "yes" in said
        assert await run("upsrw", *OP, "-s", "ups.delay.start=240", at) == (0, "OK")
        assert await run("upsrw", *OP, "-w", "-s", "ups.delay.shutdown=60", at) == (0, "SUCCESS")
        stand = {each.name: each.value for each in play.agent.fleet.settings("u")}
        assert stand == {"ups.delay.shutdown": 60, "ups.delay.start": 240}
        code, said = await run("upsrw", *OP, "-s", "ups.delay.start=9999999", at)
        assert (code, "INVALID-VALUE" in said) == (1, True)
        code, said = await run("upsrw", *OP, "-s", "ups.status=OB", at)
        assert (code, "READONLY" in said) == (1, True)

        log = tmp_path / "upslog"
        logging = await asyncio.create_subprocess_exec(
            "upslog", "-F", "-i", "1", "-l", str(log), "-s", at, "-p", str(tmp_path / "pid"), "-u", "root",
            "-f", "%VAR ups.status% %VAR input.voltage% %VAR ups.load%", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(15):
            while not log.exists() or log.read_text().count("\n") < 2:
                await asyncio.sleep(0.1)
        logging.terminate()
        await logging.wait()
        status, volts, load = log.read_text().splitlines()[0].split(" 2", 1)[0], "230.0", "30"
        assert status.split()[0] == "OL"
        assert {volts, load} <= set(log.read_text().split())

        play.farm.unplug("u")
        async with asyncio.timeout(20):
            while await run("upsc", at, "ups.status") != (1, "Error: Data stale"):
                await asyncio.sleep(0.2)


@pytest.mark.usefixtures("incumbent_installed")
async def test_upsmon_primary_and_secondary_through_a_forced_shutdown(tmp_path: Path) -> None:
    """The whole cycle: outage, low battery; the primary forces the shutdown, the secondary goes down and logs out, then the
    primary goes. One of them over TLS."""
    unit = plain()
    files = certificate(tmp_path)
    async with stage([unit], 'cert = "cert.pem"\nkey = "key.pem"', files=files) as play:
        at = f"u@localhost:{play.port}"
        primary = Upsmon(tmp_path / "primary", at, "pri", "primary", "FORCESSL 1")
        secondary = Upsmon(tmp_path / "secondary", at, "sec", "secondary", "FORCESSL 0")
        async with primary, secondary:
            await logged_in(play, {"pri", "sec"}, primary, secondary)
            assert {each.peer.username: each.secure for each in play.server._connections()}["pri"], "TLS was forced"
            assert not play.agent.forced.all()
            unit.machine.set_mains(0)
            await shows(play, r"OB\b.*")  # no alarm, no LB
            await asyncio.sleep(2)
            assert (primary.down, secondary.down) == (None, None), "on battery is no reason yet"
            unit.machine.battery.set_charge(0.085)
            await shows(play, r"FSD .*\bOB\b.*\bLB\b.*")
            assert [flag.ups for flag in play.agent.forced.all()] == ["u"]
            async with asyncio.timeout(25):
                while not (primary.down and secondary.down):
                    await asyncio.sleep(0.1)
            assert secondary.down < primary.down, "the primary goes last"
            assert (tmp_path / "primary" / "killpower").exists()
        async with asyncio.timeout(20):
            while play.server._logged_in("u"):
                await asyncio.sleep(0.05)


async def logged_in(play: Stage, users: set[str], *hosts: Upsmon) -> None:
    """Wait until these users are logged in to u."""
    try:
        async with asyncio.timeout(20):
            while {peer.username for peer in play.server._logged_in("u")} != users:
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail("\n".join(host.log for host in hosts))


async def shows(play: Stage, status: str) -> None:
    """Wait until a client that is not logged in reads such a status."""
    caller = await play.caller()
    async with asyncio.timeout(20):
        while not re.fullmatch(f'VAR u ups.status "{status}"', await caller.ask("GET VAR u ups.status")):
            await asyncio.sleep(0.1)
    caller.close()


async def test_pynutclient(tmp_path: Path) -> None:
    from PyNUTClient.PyNUT import PyNUTClient, PyNUTError

    async with stage([plain(description="Rack 1")], 'cert = "cert.pem"\nkey = "key.pem"', files=certificate(tmp_path)) as play:

        def talk(**tls: object) -> None:
            texts = variable_texts(play.agent.fleet.snapshot()["u"])
            client = PyNUTClient(host="localhost", port=play.port, login="op", password="secret", **tls)
            assert client.ver().startswith(b"qxfleet")
            assert client.GetUPSList() == {b"u": b"Rack 1"}
            assert list(client.GetUPSNames()) == ["u"]
            assert client.CheckUPSAvailable("u")
            assert {key.decode(): value.decode() for key, value in client.GetUPSVars("u").items()} == texts
            assert b"beeper.toggle" in client.GetUPSCommands("u")
            assert client.GetRWVars("u")[b"ups.delay.start"] == texts["ups.delay.start"].encode()
            assert client.RunUPSCommand("u", "beeper.toggle") == "OK"
            assert client.SetRWVar("u", "ups.delay.start", texts["ups.delay.start"]) == "OK"
            assert client.ListClients("u") == {}
            with pytest.raises(PyNUTError):
                client.RunUPSCommand("u", "no.such.thing")
            with pytest.raises(PyNUTError):
                client.FSD("u")
            client._PyNUTClient__srv_handler.close()  # it has no way to say so, and leaves its socket to the garbage

        await asyncio.to_thread(talk)
        await asyncio.to_thread(talk, use_ssl=True, ca_file=str(tmp_path / "cert.pem"), force_ssl=True)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="nut2 needs telnetlib, which Python 3.13 has no more")
async def test_nut2() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from nut2 import PyNUTClient, PyNUTError

    async with stage([plain(description="Rack 1")]) as play:
        texts = variable_texts(play.agent.fleet.snapshot()["u"])

        def talk() -> None:
            with PyNUTClient(port=play.port, login="op", password="secret") as client:
                assert client.ver().startswith("qxfleet")
                assert client.list_ups() == {"u": "Rack 1"}
                assert client.description("u") == "Rack 1"
                assert client.list_vars("u") == texts
                assert client.get_var("u", "ups.status") == "OL"
                assert client.var_type("u", "ups.delay.start") == "RW RANGE NUMBER"
                assert client.var_description("u", "input.voltage") == "Input voltage"
                assert client.list_range("u", "ups.delay.start") == ["0"], "it keeps the first word only, of upsd's answer too"
                assert client.num_logins("u") == 0
                assert "beeper.toggle" in client.list_commands("u")
                assert client.command_description("u", "beeper.toggle")
                client.run_command("u", "beeper.toggle")
                client.set_var("u", "ups.delay.start", "240")
                assert client.list_rw_vars("u") == {"ups.delay.shutdown": "30", "ups.delay.start": "240"}
                with pytest.raises(PyNUTError):
                    client.get_var("u", "nope")

        await asyncio.to_thread(talk)


async def test_aionut() -> None:
    import aionut

    async with stage([plain(description="Rack 1")]) as play:
        client = aionut.AIONUTClient(host="127.0.0.1", port=play.port, username="op", password="secret")
        assert await client.list_ups() == {"u": "Rack 1"}
        assert await client.description("u") == "Rack 1"
        assert await client.list_vars("u") == variable_texts(play.agent.fleet.snapshot()["u"])
        assert "beeper.toggle" in await client.list_commands("u")
        await client.run_command("u", "beeper.toggle")
        with pytest.raises(aionut.NUTError):
            await client.run_command("u", "no.such.thing")
        client.shutdown()


