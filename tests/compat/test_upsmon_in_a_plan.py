"""Debian's upsmon as the load of a staged shutdown: told FSD when its turn comes and not before, and waited for."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest

from qxfleet.agent import forced
from qxfleet.dialects.registry import dialect_named
from qxfleet.shutdown.model import Result
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.compat.upsmon import Upsmon
from tests.interfaces.nut_stage import stage
from tests.scenarios.play import measured
from tests.shutdown.test_reach import Host, host

__all__ = ["host"]

NOTE = "import sys, time; open(sys.argv[1], 'w').write(str(time.time()))"


def plan(folder: Path) -> str:
    """First a command, then the host that upsmon looks after, then a command again."""
    def note(name: str) -> str:
        return json.dumps([sys.executable, "-S", "-c", NOTE, str(folder / name)])

    return f"""
[shutdown]
armed = true
start_when = {{ on_battery_for = "1s" }}
hold = "0s"
ups_off = {{ offdelay = "60s", ondelay = "60s" }}

[[load]]
name = "first"
fed_by = ["u"]
stop = {{ command = {note("first")} }}
down_when = {{ exit = ["/usr/bin/test", "-e", "{folder}/first"] }}

[[load]]
name = "host"
fed_by = ["u"]
after = ["first"]
stop = {{ nut = true, user = "sec" }}
stop_time = "12s"

[[load]]
name = "last"
fed_by = ["u"]
after = ["host"]
stop = {{ command = {note("last")} }}
down_when = {{ exit = ["/usr/bin/test", "-e", "{folder}/last"] }}
"""


@pytest.mark.usefixtures("incumbent_installed")
async def test_a_secondary_is_told_in_its_turn_and_the_plan_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "RECONNECT_S", 2.0)
    dialect = dialect_named("megatec")
    assert dialect is not None
    unit = SimulatedUps(dialect, name="u", machine=Machine(Ratings(), noise=0.0))
    async with stage([unit], plan(tmp_path), parts=(StagedShutdown,)) as play:
        at = f"u@localhost:{play.port}"
        other = Upsmon(tmp_path / "other", at, "pri", "primary")
        secondary = Upsmon(tmp_path / "secondary", at, "sec", "secondary")
        async with secondary, other:
            async with asyncio.timeout(20):
                while {peer.username for peer in play.server._logged_in("u")} != {"pri", "sec"}:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(2.0)
            assert secondary.down is None
            failed = time.time()
            unit.machine.set_mains(0)
            async with asyncio.timeout(40):
                while not (tmp_path / "last").exists():
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)
            first, last = (float((tmp_path / name).read_text()) for name in ("first", "last"))
            assert secondary.down is not None, secondary.log
            assert first < secondary.down < last
            assert other.down is None  # it logged in as another user, and is not meant
            part = play.agent.part(StagedShutdown)
            assert part is not None
            took = {taken.step.target: taken for taken in part.record.taken}
            assert took["host"].result is Result.NOT_SEEN, took["host"]
            assert took["host"].text.startswith("not seen off after 12 s: its NUT clients are logged out, and nothing")
            measured(f"upsmon: mains failed, first load {first - failed:.1f} s, SHUTDOWNCMD {secondary.down - failed:.1f} s, "
                     f"next load {last - failed:.1f} s")  # fmt: skip


IN_ITS_NETWORK = """
[shutdown]
armed = true
start_when = {{ on_battery_for = "1s" }}
hold = "0s"
ups_off = {{ then = "leave" }}

[[load]]
name = "host"
fed_by = ["u"]
stop = {{ nut = true, user = "sec" }}
stop_time = "90s"
"""


@pytest.mark.more
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("incumbent_installed")
async def test_a_host_whose_upsmon_logged_out_is_down_once_its_address_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    """A real upsmon in a network of its own. It logs out and runs its SHUTDOWNCMD; its host answers on, and is not down. Then its
    link goes, as a host's does that is off: ten seconds of silence are the second sign."""
    monkeypatch.setattr(forced, "RECONNECT_S", 2.0)
    dialect = dialect_named("megatec")
    assert dialect is not None
    unit = SimulatedUps(dialect, name="u", machine=Machine(Ratings(), noise=0.0))
    here = host.address.rpartition(".")[0] + ".1"
    async with stage([unit], IN_ITS_NETWORK.format(), parts=(StagedShutdown,), listen=here) as play:
        part = play.agent.part(StagedShutdown)
        assert part is not None
        inside = ["ip", "netns", "exec", host.name]
        async with Upsmon(tmp_path / "upsmon", f"u@{here}:{play.port}", "sec", "secondary", inside=inside) as upsmon:
            async with asyncio.timeout(60):
                while {peer.username for peer in play.server._logged_in("u")} != {"sec"}:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(3.0)
            unit.machine.set_mains(0)
            async with asyncio.timeout(60):
                while not (upsmon.down and upsmon.ended):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(13.0)  # longer than silence must last
            (stop,) = part.record.taken
            assert stop.result is None, stop  # logged out, and its host answers: nothing says that it is down
            host.link("down")
            async with asyncio.timeout(90):
                while (stop := part.record.taken[0]).result is None:
                    await asyncio.sleep(0.1)
            assert stop.result is Result.DONE, stop
