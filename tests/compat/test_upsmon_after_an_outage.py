"""Debian's upsmon on hosts that come back: told to shut down for one outage, and never for one that is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from qxfleet.agent import forced
from qxfleet.dialects.registry import dialect_named
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from tests.compat.upsmon import Upsmon
from tests.interfaces.nut_stage import Stage, stage

pytestmark = pytest.mark.usefixtures("incumbent_installed")

HOSTS = ("soon", "late", "hand")


def plan() -> str:
    """Three hosts that nothing but their power starts, each with a user of its own, and gone from this machine 10 s after FSD."""
    hosts = "".join(
        f'\n[[user]]\nname = "{name}"\npassword_file = "secret"\nupsmon = "secondary"\n'
        f'\n[[load]]\nname = "{name}"\nfed_by = ["u"]\nstop = {{ nut = true, user = "{name}" }}\nstop_time = "10s"\n'
        for name in HOSTS
    )
    return f"""
[shutdown]
armed = true
start_when = {{ on_battery_for = "1s" }}
hold = "0s"
ups_off = {{ offdelay = "12s", ondelay = "0s", stagger = "0s" }}
return = {{ mains_stable_for = "60s" }}
{hosts}"""


def unit() -> SimulatedUps:
    dialect = dialect_named("megatec")
    assert dialect is not None
    return SimulatedUps(dialect, name="u", machine=Machine(Ratings(), noise=0.0))


async def until(holds: Callable[[], object], within_s: float, what: str) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not holds():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(what) from None


def logged_in(play: Stage) -> set[str]:
    return {peer.username for peer in play.server._logged_in("u")}


async def stays_up(hosts: list[Upsmon]) -> None:
    """Five polls of upsmon long."""
    for _ in range(50):
        assert [host.log for host in hosts if host.down is not None] == []
        await asyncio.sleep(0.1)


@pytest.mark.more
async def test_hosts_that_boot_after_the_cut_at_different_times_stay_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "RECONNECT_S", 2.0)
    ups = unit()
    async with stage([ups], plan(), parts=(StagedShutdown,)) as play:
        at, part = f"u@localhost:{play.port}", play.agent.part(StagedShutdown)
        assert part is not None
        hosts = [Upsmon(tmp_path / name, at, name, "secondary") for name in HOSTS]
        async with hosts[0], hosts[1], hosts[2]:
            await until(lambda: logged_in(play) == set(HOSTS), 20, "all log in")
            await asyncio.sleep(2.0)
            ups.machine.set_mains(0)
            await until(lambda: all(host.ended for host in hosts), 30, "all shut down")
        await until(lambda: part.world.upses["u"].output_since_s is None, 40, "the UPS cuts")
        ups.machine.set_mains(230)
        await until(lambda: part.world.upses["u"].output_since_s is not None, 90, "the UPS is back")
        again = [Upsmon(tmp_path / f"{name}-again", at, name, "secondary") for name in HOSTS]
        async with again[0]:
            await until(lambda: logged_in(play) == {"soon"}, 20, "the first is back")
            await stays_up(again[:1])
            async with again[1]:
                await until(lambda: logged_in(play) == {"soon", "late"}, 20, "the second is back")
                await stays_up(again[:2])
                async with again[2]:
                    await until(lambda: logged_in(play) == set(HOSTS), 20, "the one started by hand is back")
                    await stays_up(again)
                    await until(lambda: not part.running, 120, "the run ends")
                    await stays_up(again)


async def test_cancelled_a_host_that_is_started_by_hand_stays_up_on_battery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forced, "RECONNECT_S", 2.0)
    ups = unit()
    later = plan().replace('offdelay = "12s"', 'offdelay = "600s"')
    async with stage([ups], later, parts=(StagedShutdown,)) as play:
        at, part = f"u@localhost:{play.port}", play.agent.part(StagedShutdown)
        assert part is not None
        host, again = Upsmon(tmp_path / "hand", at, "hand", "secondary"), Upsmon(tmp_path / "again", at, "hand", "secondary")
        async with host:
            await until(lambda: logged_in(play) == {"hand"}, 20, "it logs in")
            await asyncio.sleep(2.0)
            ups.machine.set_mains(0)
            await until(lambda: host.ended, 30, "it shuts down")
        await part.cancel("ann")
        async with again:
            await until(lambda: logged_in(play) == {"hand"}, 20, "it is back")
            await stays_up([again])
