"""The same requests to Debian's upsd, over nutdrv_qx, and to ours, on one simulated UPS in turn: the same answers, line by line.

Where the two differ, the difference stands in :data:`BY_DESIGN` with its reason, which docs/nut.md
repeats; anything else fails.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.compat.incumbent import Incumbent
from tests.interfaces.nut_stage import Caller, stage

READING = (
    "VER", "NETVER", "PROTVER", "HELP", "netver", "", "NONSENSE", "VER 1",
    "LIST UPS", "LIST", "LIST NOTHING", "LIST VAR", "LIST VAR x", "LIST VAR u", "LIST RW u", "LIST CMD u", "LIST CLIENT u",
    "LIST RANGE u ups.delay.start", "LIST RANGE u ups.status", "LIST ENUM u ups.delay.start", "LIST ENUM u no.such",
    "LIST ENUM u", "GET", "GET NOTHING u", "GET VAR u", "GET VAR u ups.status", "GET VAR U UPS.STATUS",
    'GET VAR "u" "ups.status"', "GET VAR u no.such", "GET VAR x ups.status", "GET VAR u server.version", "GET VAR u server.info",
    "GET TYPE u ups.delay.start", "GET TYPE u input.voltage", "GET TYPE u ups.status", "GET TYPE u no.such",
    "GET DESC u ups.status", "GET DESC u input.voltage", "GET DESC u no.such",
    "GET CMDDESC u load.off", "GET CMDDESC u no.such", "GET UPSDESC u", "GET UPSDESC x", "GET NUMLOGINS u",
    "GET TRACKING", "GET TRACKING abc", "STARTTLS",
)  # fmt: skip
"""Of somebody who is not logged in."""

OPERATING = (
    "INSTCMD u beeper.toggle", "SET VAR u ups.delay.start 60", "LOGIN u", "USERNAME", "USERNAME op", "USERNAME op",
    "INSTCMD u beeper.toggle", "PASSWORD secret", "PASSWORD secret", "SET", "SET NOTHING u", "SET VAR u ups.delay.start",
    "SET VAR u ups.delay.start 240", 'SET VAR u ups.delay.start "180"', "SET VAR u ups.delay.start 99999999",
    "SET VAR u ups.delay.start abc", "SET VAR u ups.status OB", "SET VAR u no.such 1", "SET VAR x ups.delay.start 1",
    "INSTCMD", "INSTCMD u", "INSTCMD u no.such", "INSTCMD x load.off", "INSTCMD u beeper.toggle", "INSTCMD u BEEPER.TOGGLE",
    "INSTCMD u beeper.toggle 5", "INSTCMD u test.battery.start 60",
    "LOGIN u", "PRIMARY u", "FSD u", "SET TRACKING", "SET TRACKING MAYBE", "SET TRACKING ON", "GET TRACKING",
    "GET TRACKING abc", "SET VAR u ups.delay.shutdown 60", "INSTCMD u load.off.delay", "SET TRACKING OFF",
)  # fmt: skip
"""Of an operator."""

MONITORING = (
    "USERNAME pri", "PASSWORD secret", "LOGIN", "LOGIN x", "LOGIN u", "LOGIN u", "GET NUMLOGINS u", "LIST CLIENT u",
    "PRIMARY x", "PRIMARY u", "MASTER u", "INSTCMD u load.off", "FSD x", "FSD u", "FSD u", "GET VAR u ups.status", "LOGOUT now",
    "LOGOUT",
)  # fmt: skip
"""Of an upsmon primary."""

COMMANDS = "".join(
    f"CMD u {name}\n"
    for name in (
        "beeper.toggle", "load.off", "load.on", "shutdown.default", "shutdown.return", "shutdown.stayoff", "shutdown.stop",
        "test.battery.start", "test.battery.start.deep", "test.battery.start.quick", "test.battery.stop",
    )
)  # fmt: skip
LISTED = f"BEGIN LIST CMD u\n{COMMANDS}END LIST CMD u"

BY_DESIGN: dict[str, tuple[str, str, str]] = {
    "VER": (
        "Network UPS Tools upsd <version> - http://www.networkupstools.org/", "qxfleet <version> - https://qxfleet.readthedocs.io/",
        "the line is for people and names the program",
    ),
    "GET VAR u server.info": (
        'VAR u server.info "Network UPS Tools upsd <version> - http://www.networkupstools.org/"',
        'VAR u server.info "qxfleet <version> - https://qxfleet.readthedocs.io/"', "as VER",
    ),
    "HELP": (
        "Commands: HELP VER GET LIST SET INSTCMD LOGIN LOGOUT USERNAME PASSWORD STARTTLS",
        "Commands: HELP VER PROTVER GET LIST SET INSTCMD LOGIN LOGOUT USERNAME PASSWORD STARTTLS",
        "NUT after 2.8.0 lists PROTVER too",
    ),
    "GET TYPE u ups.status": (
        "TYPE u ups.status NUMBER", "TYPE u ups.status STRING:255", "a text is called a text, as RFC 9271 has it",
    ),
    "GET DESC u input.voltage": (
        'DESC u input.voltage "Input voltage (V)"', 'DESC u input.voltage "Input voltage"', "descriptions are our own words",
    ),
    "GET CMDDESC u load.off": (
        'CMDDESC u load.off "Turn off the load immediately"',
        'CMDDESC u load.off "switch the load off at once; some units come back when mains return"',
        "as DESC",
    ),
    "LIST CMD u": (
        LISTED.replace("CMD u shutdown.default\n", ""), LISTED, "NUT after 2.8.0 lists shutdown.default too",
    ),
    "SET VAR u ups.delay.start abc": ("OK", "ERR INVALID-VALUE", "what is no number is refused before it reaches a driver"),
    "INSTCMD u beeper.toggle 5": ("OK", "ERR INVALID-ARGUMENT", "a value for a command that takes none is refused, not ignored"),
}  # fmt: skip
"""Request → upsd's answer, ours, and why they differ."""

DRIVER_ONLY = re.compile(r'^VAR u driver\..*\n', re.MULTILINE)
"""Variables that speak of the driver process: there is none."""


async def transcript(port: int, requests: Iterable[str]) -> list[tuple[str, str]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    caller = Caller(reader, writer)
    told = [(request, await caller.ask(request)) for request in requests]
    if "INSTCMD u test.battery.start 60" in requests:
        async with asyncio.timeout(20):
            while await caller.ask("GET VAR u ups.status") != 'VAR u ups.status "OL CAL"':
                await asyncio.sleep(0.1)
    caller.close()
    return told


def comparable(answer: str) -> str:
    """An answer without what can't be the same twice: ids, versions, and what concerns the driver process."""
    answer = re.sub(r"\b[0-9]+\.[0-9]+\.[0-9]+\b", "<version>", answer)
    answer = re.sub(r"TRACKING [0-9A-Fa-f-]{36}", "TRACKING <id>", answer)
    return DRIVER_ONLY.sub("", answer)


def unit() -> SimulatedUps:
    dialect = dialect_named("megatec")
    assert dialect is not None
    return SimulatedUps(dialect, name="u", machine=Machine(Ratings(), load_percent=30, noise=0), description="Rack 1, feed A")


USERS = """[op]
 password = secret
 actions = SET
 instcmds = ALL
[pri]
 password = secret
 upsmon primary
"""


@pytest.mark.usefixtures("incumbent_installed")
async def test_the_same_requests_get_the_same_answers() -> None:
    parts = (READING, OPERATING, MONITORING)
    assert sum(map(len, parts)) >= 60
    theirs: list[tuple[str, str]] = []
    ours: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="qxnut", dir="/tmp") as folder:
        async with Farm(Path(folder), [unit()]) as farm:
            section = {"port": farm.link("u"), "desc": "Rack 1, feed A", "pollfreq": 1, "protocol": "megatec"}
            async with Incumbent({"u": section}, users=USERS) as incumbent:
                for part in parts:
                    theirs += await transcript(incumbent.port, part)
    async with stage([unit()]) as play:
        for part in parts:
            ours += await transcript(play.port, part)
    differ = {
        request: (comparable(their), comparable(our))
        for (request, their), (again, our) in zip(theirs, ours, strict=True)
        if comparable(their) != comparable(our) and request == again
    }
    assert differ == {request: (their, our) for request, (their, our, _) in BY_DESIGN.items()}


def test_every_difference_is_told_to_users() -> None:
    page = (Path(__file__).parents[2] / "docs" / "nut.md").read_text()
    for request, (_, _, why) in BY_DESIGN.items():
        assert f"`{request}`" in page, request
        assert why in page, why
