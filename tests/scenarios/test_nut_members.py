"""Twenty UPSes in one fleet: on serial lines, behind Debian's upsd (dummy-ups, snmp-ups before a simulated SNMP agent, nutdrv_qx)
and behind the NUT port of another agent. An outage, a wave of tests and a plan over all kinds; upsd killed, hung, started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Source
from qxfleet.testing.unit import Unit
from tests.compat.incumbent import DRIVERS, Incumbent, missing
from tests.parts import absent
from tests.scenarios.play import Follower, Play, measured, until
from tests.selftest.ground import a_unit

SERIAL = [f"serial-{n}" for n in range(6)]
DUMMY = [f"dummy-{n}" for n in range(4)]
SNMP = ["snmp-0", "snmp-1"]
QX = [f"qx-{n}" for n in range(4)]
OWN = [f"own-{n}" for n in range(4)]
UPSD = [*DUMMY, *SNMP, *QX]
ALL = [*SERIAL, *UPSD, *OWN]
TESTABLE = [*SERIAL, *QX, *OWN]

DUMMY_FILE = """device.serial: {serial}
ups.status: OL
battery.charge: 100
battery.runtime: 1800
battery.voltage: 27.1
battery.voltage.nominal: 24
input.voltage: 230.1
input.voltage.nominal: 230
ups.load: 23
"""

MIB = ".1.3.6.1.2.1.33.1"
AGENT: tuple[tuple[str, str, object], ...] = (
    ("1.1.0", "octet_str", '"Eaton"'), ("1.2.0", "octet_str", '"9PX 3000"'), ("1.5.0", "octet_str", '"card"'),
    ("2.1.0", "integer", 2), ("2.2.0", "integer", 0), ("2.3.0", "integer", 30), ("2.4.0", "integer", 98),
    ("2.5.0", "integer", 542),
    ("3.2.0", "integer", 1), ("3.3.1.2.1", "integer", 500), ("3.3.1.3.1", "integer", 230), ("4.1.0", "integer", 3),
    ("4.2.0", "integer", 500), ("4.3.0", "integer", 1), ("4.4.1.2.1", "integer", 230), ("4.4.1.3.1", "integer", 30),
    ("4.4.1.4.1", "integer", 700), ("4.4.1.5.1", "integer", 24), ("7.3.0", "integer", 6), ("9.1.0", "integer", 230),
    ("9.3.0", "integer", 230), ("9.5.0", "integer", 3000), ("9.6.0", "integer", 2700),
)  # fmt: skip
"""A card by RFC 1628: battery normal, 30 min, 98 %, 54.2 V; 230 V in; the output from mains (3), 700 W, 24 %."""

TESTS = """
[tests]
mains_stable = "3s"
charged = "0s"
load_steady = "0s"
load_change = 40
recharge = "1s"
max_parallel = 20
"""


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@asynccontextmanager
async def snmp_agent(folder: Path) -> AsyncIterator[int]:
    """Debian's snmpd as the card of a UPS; its port."""
    port = free_port(socket.SOCK_DGRAM)
    lines = [f"agentaddress udp:127.0.0.1:{port}", "rwcommunity private 127.0.0.1"]
    lines += [f"override -rw {MIB}.{oid} {kind} {value}" for oid, kind, value in AGENT]
    folder.mkdir()
    (folder / "snmpd.conf").write_text("\n".join(lines) + "\n")
    process = await asyncio.create_subprocess_exec(
        "/usr/sbin/snmpd", "-f", "-Ln", "-C", "-c", str(folder / "snmpd.conf"), "-p", str(folder / "pid"),
        stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env={**os.environ, "SNMP_PERSISTENT_DIR": str(folder)},
    )  # fmt: skip
    try:
        await until(lambda: snmp_set(port, "4.1.0", 3), 20, "snmpd answers")
        yield port
    finally:
        process.terminate()
        await process.wait()


def snmp_set(port: int, oid: str, value: int) -> bool:
    line = ["snmpset", "-v1", "-c", "private", "-t", "2", "-r", "2", f"127.0.0.1:{port}", f"{MIB}.{oid}", "i", str(value)]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def certify(folder: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
         "-subj", "/CN=nut", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip


@dataclass
class Stage:
    play: Play
    nut: Incumbent
    behind: Farm
    """The units that Debian's nutdrv_qx talks to."""
    other: Play
    """The agent whose NUT port has members of ours."""
    cards: dict[str, int]

    @property
    def units(self) -> dict[str, Unit]:
        return {**self.play.farm.upses, **self.behind.upses, **self.other.farm.upses}

    async def mains(self, on: bool) -> None:
        """All of them at once."""
        for unit in self.units.values():
            unit.machine.set_mains(230.0 if on else 0.0)
        for port in self.cards.values():
            for oid, value in (("3.3.1.3.1", 230 if on else 0), ("4.1.0", 3 if on else 5)):
                await until(partial(snmp_set, port, oid, value), 60, f"the card takes {oid} {value}")
        for name in DUMMY:
            for variable, text in (("input.voltage", "230.1" if on else "0"), ("ups.status", "OL" if on else "OB")):
                await until(partial(self._set, name, variable, text), 60, f"{name} takes {variable} {text}")

    async def _set(self, name: str, variable: str, text: str) -> bool:
        """Set it, and see that upsd says so: a driver that has lost its server may not have heard."""
        if not self.nut.running(name):  # 2.8.0's dummy-ups may die of a server that went away
            await self.nut.start_driver(name)
        await self.nut.set(name, variable, text)
        await asyncio.sleep(0.2)
        return (await self.nut.variables(name)).get(variable) == text

    async def links(self, names: list[str]) -> dict[str, str]:
        states = await self.play.states()
        return {name: states[name] for name in names}

    async def server(self, what: signal.Signals) -> None:
        assert self.nut.server is not None
        self.nut.server.send_signal(what)
        if what is signal.SIGKILL:
            await self.nut.server.wait()


async def started(play: Play) -> None:
    """With time for a machine that has much else to do."""
    await play.start(wait=False)
    await until(play._answers, 90, f"the agent answers; its log: {play.log()}")
    await play.all_online(120)


def members(nut_port: int, other_port: int, folder: Path) -> str:
    text = TESTS
    for server, ca in ((nut_port, ""), (other_port, f'ca_file = "{folder / "cert.pem"}"\n')):
        text += f'[[upsd]]\nserver = "127.0.0.1:{server}"\nuser_file = "user"\npassword_file = "password"\n{ca}\n'
    for names, server in ((UPSD, nut_port), (OWN, other_port)):
        text += "".join(f'[[ups]]\nname = "{name}"\nport = "nut://127.0.0.1:{server}/{name}"\n' for name in names)
    return text


def plan(folder: Path) -> str:
    """One load on a line and a member, one on the other agent's."""
    text = '[shutdown]\narmed = true\nstart_when = { on_battery_for = "2s" }\nhold = "0s"\n'
    text += 'ups_off = { offdelay = "12s", ondelay = "60s" }\n'
    for name, feeds in (("both", [SERIAL[0], QX[0]]), ("far", [OWN[0]])):
        off = json.dumps(["/usr/bin/touch", str(folder / f"{name}.off")])
        text += (f'[[load]]\nname = "{name}"\nfed_by = {json.dumps(feeds)}\nneeds_feeds = 1\nstop = {{ command = {off} }}\n'
                 f'down_when = {{ exit = ["/usr/bin/test", "-e", "{folder}/{name}.off"] }}\nstop_time = "20s"\n')  # fmt: skip
    return text


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with contextlib.AsyncExitStack() as stack:
        other = Play([a_unit(name, dialect="megatec", noise=0.3) for name in OWN],
                     agent={"include": '["nut.toml"]', "poll_interval": '"0.5s"', "name": '"other"'})  # fmt: skip
        await stack.enter_async_context(other)
        certify(other.folder)
        own_port = free_port()
        (other.folder / "secret").write_text("secret\n")
        (other.folder / "nut.toml").write_text(
            f'[nut]\nlisten = ["127.0.0.1:{own_port}"]\ncert = "cert.pem"\nkey = "key.pem"\n'
            '[[user]]\nname = "op"\npassword_file = "secret"\nallow = ["read", "command", "set"]\n'
        )
        await started(other)
        behind = Farm(other.folder / "behind", [a_unit(name, dialect="megatec", noise=0.3) for name in QX])
        await stack.enter_async_context(behind)
        cards = {name: await stack.enter_async_context(snmp_agent(other.folder / name)) for name in SNMP}
        upses: dict[str, dict[str, object]] = {
            name: {"driver": "dummy-ups", "port": f"{name}.dev", "mode": "dummy-once"} for name in DUMMY
        }
        upses |= {name: {"driver": "snmp-ups", "port": f"127.0.0.1:{port}", "mibs": "ietf", "community": "private",
                         "snmp_version": "v1", "pollfreq": 2} for name, port in cards.items()}  # fmt: skip
        upses |= {name: {"port": str(behind.link(name)), "protocol": "megatec", "pollinterval": 1, "pollfreq": 3} for name in QX}
        files = {f"{name}.dev": DUMMY_FILE.format(serial=f"D-{name}") for name in DUMMY}
        nut = await stack.enter_async_context(Incumbent(upses, files=files))
        play = Play([a_unit(name, dialect="megatec", noise=0.3) for name in SERIAL],
                    agent={"include": '["members.toml", "plan*.toml"]', "poll_interval": '"1s"'})  # fmt: skip
        await stack.enter_async_context(play)
        (play.folder / "user").write_text("op\n")
        (play.folder / "password").write_text("secret\n")
        shutil.copy(other.folder / "cert.pem", play.folder)
        (play.folder / "members.toml").write_text(members(nut.port, own_port, play.folder))
        await started(play)
        yield Stage(play, nut, behind, other, cards)


def outages(follower: Follower, phase: str) -> list[str]:
    return sorted(ups or "" for ups, _, value in follower.told("on-battery") if value == phase)


def lost_to(follower: Follower) -> list[str]:
    return [event["text"] for event in follower.events if event["name"] == "contact-lost" and event["value"] == "begin"]


async def values(play: Play, name: str) -> dict[str, str]:
    answer = await play.ask("vars", ups=name)
    return dict(answer["result"]["variables"])


@pytest.fixture(scope="module")
def parts() -> None:
    if complaint := missing():
        absent(complaint)
    if not ((DRIVERS / "snmp-ups").exists() and Path("/usr/sbin/snmpd").exists() and shutil.which("snmpset")):
        absent("no snmp-ups, snmpd, snmpset here: apt-get install -y nut-snmp snmpd snmp")


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("parts")
async def test_twenty_of_four_kinds() -> None:
    async with stage() as on:
        play = on.play
        follower = await play.follow()

        # what they say
        assert len(await play.states()) == 20
        assert (await values(play, DUMMY[1]))["device.serial"] == f"D-{DUMMY[1]}"
        card = await values(play, SNMP[0])
        assert (card["device.model"], card["battery.charge"], card["ups.status"]) == ("9PX 3000", "98", "OL")
        assert (await values(play, QX[0]))["input.voltage.nominal"] == "230"
        path = (await values(play, OWN[0]))["qx.nut.path"]
        assert len(path.split()) == 1  # from there to here, and from here on

        # an outage of all, in the midst of which upsd is killed
        await on.mains(False)
        await until(lambda: outages(follower, "begin") == sorted(ALL), 60, "an outage of each, told once")
        await on.server(signal.SIGKILL)

        async def lost() -> bool:
            return set((await on.links(UPSD)).values()) == {"lost"}

        await until(lost, 20, "upsd is gone: contact lost with its ten")
        assert set((await on.links([*SERIAL, *OWN])).values()) == {"online"}
        await until(lambda: len(lost_to(follower)) == 10, 20, "ten losses are told")
        assert all("while ON BATTERY" in text and "the NUT server" in text for text in lost_to(follower)), lost_to(follower)
        assert not outages(follower, "end")
        await on.nut.start_server()
        await play.all_online(90)
        assert outages(follower, "begin") == sorted(ALL)  # the same outage still
        await on.mains(True)
        with contextlib.suppress(AssertionError):
            await until(lambda: outages(follower, "end") == sorted(ALL), 90, "")
        ended = outages(follower, "end")
        left = {name: (await values(play, name))["ups.status"] for name in ALL if ended.count(name) != 1}
        assert not left, (left, ended, [event for event in follower.events if event["ups"] in left][-20:])
        assert outages(follower, "begin") == sorted(ALL)

        # upsd hangs: lost contact, no outage, and nothing else is held up by it
        before = len(follower.events)
        await on.server(signal.SIGSTOP)
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        await until(lost, 60, "upsd hangs: contact lost with its ten")
        await asyncio.sleep(2)  # events let each other come
        measured(f"hung upsd: contact lost with all ten {loop.time() - since_s:.1f} s after SIGSTOP")
        news = follower.events[before:]
        told = {event["ups"] for event in news if event["name"] == "contact-lost"}
        assert told == set(UPSD), (told, [event["text"] for event in news])
        assert any("it hangs, or its network does" in event["text"] for event in news), [event["text"] for event in news]
        assert not [event for event in follower.events[before:] if event["name"] == "on-battery"]
        assert set((await on.links([*SERIAL, *OWN])).values()) == {"online"}
        await on.server(signal.SIGCONT)
        await play.all_online(90)

        # a wave of tests over both kinds, once mains are known to be stable
        await asyncio.sleep(15)
        ended = await asyncio.wait_for(_tests(play), 400)
        passed = sorted(name for name, verdict in ended.items() if verdict == "passed")
        measured(f"tests: {len(passed)} passed, others {({n: v for n, v in ended.items() if v != 'passed'})}")
        assert passed == sorted(TESTABLE)

        # a plan over both kinds
        (play.folder / "plan.toml").write_text(plan(play.folder))
        play.hang_up()
        await until(lambda: bool(follower.told("configuration-reloaded")), 20, "the plan is read")
        await asyncio.sleep(12)  # the tests' discharges are over: no outage is older than this
        for name in (SERIAL[0], QX[0], OWN[0]):
            on.units[name].machine.set_mains(0.0)
        stopped = [play.folder / f"{name}.off" for name in ("both", "far")]
        await until(lambda: all(file.exists() for file in stopped), 90, "both loads are stopped")

        def cut() -> bool:
            return all(on.units[name].machine.source is Source.OFF for name in (SERIAL[0], QX[0], OWN[0]))

        with contextlib.suppress(AssertionError):
            await until(cut, 120, "")
        orders = [(event["ups"], event["name"], event["value"], event["text"]) for event in follower.events
                  if event["kind"] == "command" and event["name"].startswith("shutdown")]  # fmt: skip
        assert cut(), ([(n, on.units[n].machine.source) for n in (SERIAL[0], QX[0], OWN[0])], orders, play.log()[-3000:])
        assert sorted(ups for ups, *_ in orders) == sorted((SERIAL[0], QX[0], OWN[0])), orders
        assert "Traceback" not in play.log(), play.log()


async def _tests(play: Play) -> dict[str, Any]:
    """``qxfleet test start all``, to its end; the verdict of each."""
    process = await asyncio.create_subprocess_exec(
        *play.command("test", "start", "all", "--quick", "--json"), stdin=DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    said, trouble = await process.communicate()
    assert said, trouble
    measured(trouble.decode())
    return {each["ups"]: each["verdict"] or each["state"] for each in json.loads(said)["wave"]["ups"]}


def serving(port: int) -> str:
    return (f'[nut]\nlisten = ["127.0.0.1:{port}"]\n[[user]]\nname = "op"\npassword_file = "password"\n'
            'allow = ["read", "command", "set"]\n')  # fmt: skip


def member(name: str, port: int, ups: str) -> str:
    return f'[[ups]]\nname = "{name}"\nport = "nut://127.0.0.1:{port}/{ups}"\n'


def reached(port: int) -> str:
    return f'[[upsd]]\nserver = "127.0.0.1:{port}"\nuser_file = "user"\npassword_file = "password"\n'


@pytest.mark.timeout(600)
async def test_two_fleets_in_a_circle() -> None:
    """What goes round between two agents is nobody's UPS: no reading of it lives on, and no order runs in it."""
    ports = free_port(), free_port()
    async with contextlib.AsyncExitStack() as stack:
        plays = []
        for name in ("one", "two"):
            keys = {"include": '["more.toml"]', "poll_interval": '"0.5s"', "name": f'"{name}"'}
            play = Play([a_unit(f"real-{name}")], agent=keys)
            plays.append(await stack.enter_async_context(play))
            (play.folder / "user").write_text("op\n")
            (play.folder / "password").write_text("secret\n")
        one, two = plays
        (one.folder / "more.toml").write_text(serving(ports[0]) + reached(ports[1]) + member("round", ports[1], "round"))
        (two.folder / "more.toml").write_text(
            serving(ports[1]) + reached(ports[0]) + member("round", ports[0], "round") + member("x", ports[0], "real-one")
        )
        for play in plays:
            await play.start(wait=False)
            await until(play._answers, 90, f"the agent answers; its log: {play.log()}")

        async def settled() -> bool:
            return (await two.states())["x"] == "online" and (await one.states())["real-one"] == "online"

        await until(settled, 60, "what is real is online")
        assert (await values(two, "x"))["qx.nut.path"]
        for play in plays:
            assert (await play.states())["round"] in ("lost", "detecting")

        # a UPS that was real is made a member of who reads it: its last values must not go round for ever
        text = one.config.read_text()
        link = str(one.farm.link("real-one"))
        assert link in text
        one.config.write_text(text.replace(link, f"nut://127.0.0.1:{ports[1]}/x").replace('dialect = "megatec"', ""))
        one.hang_up()

        async def given_up() -> bool:
            return (await one.states())["real-one"] == "lost" and (await two.states())["x"] == "lost"

        await until(given_up, 60, "both have lost contact")
        await asyncio.sleep(10)
        assert await given_up()
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        answer = await one.ask("command", ups="real-one", name="beeper.toggle", value=None)
        assert loop.time() - since_s < 20 and "accepted" not in json.dumps(answer)
