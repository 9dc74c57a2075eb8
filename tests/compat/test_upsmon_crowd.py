"""Many of Debian's upsmon over TLS, each a load of an armed plan: they log out in its order, and each host goes down once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.testing.machine import Machine, Ratings, Source
from qxfleet.testing.simulator import SimulatedUps
from tests.compat.upsmon import Upsmon
from tests.interfaces.nut_stage import free_port
from tests.interfaces.test_upsd import certificate
from tests.scenarios.play import SOAK, Play, measured, until

HOSTS, AT_A_TIME = (40, 8) if SOAK else (8, 4)
"""Hosts, and how many of them go together where they go one after the other."""

TLS = "FORCESSL 1\nCERTVERIFY 0\nFINALDELAY 0"
ANSWER_S = 0.5 if SOAK else 5.0


def plan(names: list[str], groups: list[list[str]], folder: Path, port: int) -> str:
    """Every host is a load of its own; each group waits for the one before it."""
    blocks = [f"""
[nut]
listen = ["127.0.0.1:{port}"]
cert = "cert.pem"
key = "key.pem"
[shutdown]
armed = true
start_when = {{ on_battery_for = "1s" }}
hold = "0s"
ups_off = {{ offdelay = "12s", ondelay = "60s" }}
"""]  # fmt: skip
    before: list[str] = []
    for group in groups:
        for name in group:
            after = ", ".join(f'"{each}"' for each in before)
            down = f'{{ nut_logged_out = true, exit = ["/usr/bin/test", "-e", "{folder / name}/down"] }}'
            blocks.append(
                f'[[user]]\nname = "{name}"\npassword_file = "secret"\nupsmon = "secondary"\n'
                f'[[load]]\nname = "{name}"\nfed_by = ["u"]\nafter = [{after}]\nstop = {{ nut = true, user = "{name}" }}\n'
                f'stop_time = "90s"\ndown_when = {down}\n'
            )
        before = group
    assert sorted(name for group in groups for name in group) == sorted(names)
    return "\n".join(blocks)


def in_groups(names: list[str]) -> list[list[str]]:
    return [names[first : first + AT_A_TIME] for first in range(0, len(names), AT_A_TIME)]


@pytest.mark.more
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("incumbent_installed")
@pytest.mark.parametrize("order", ["together", "forwards", "backwards", "shuffled"] if SOAK else ["together", "backwards"])
async def test_many_upsmon_over_tls_go_down_in_order_and_once(order: str) -> None:
    names = [f"host-{number:02d}" for number in range(HOSTS)]
    chosen = {"backwards": names[::-1], "shuffled": random.Random(14).sample(names, HOSTS)}.get(order, names)
    groups = [chosen] if order == "together" else in_groups(chosen)
    dialect = dialect_named("megatec")
    assert dialect is not None
    unit = SimulatedUps(dialect, name="u", machine=Machine(Ratings(battery_ah=100), noise=0.0))
    port, now = free_port(), asyncio.get_running_loop().time
    async with Play([unit]) as play:
        certificate(play.folder)
        (play.folder / "secret").write_text("secret\n")
        (play.folder / "secret").chmod(0o600)
        with play.config.open("a") as config:
            config.write(plan(names, groups, play.folder, port))
        await play.start()
        await play.all_online()
        async with contextlib.AsyncExitStack() as stack:
            hosts = {
                name: Upsmon(play.folder / name, f"u@127.0.0.1:{port}", name, "secondary", TLS) for name in names
            }
            for host in hosts.values():
                await stack.enter_async_context(host)

            async def logged_in() -> bool:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                except ConnectionRefusedError:
                    return False
                writer.write(b"GET NUMLOGINS u\n")
                answer = await reader.readline()
                writer.close()
                return answer == b"NUMLOGINS u %d\n" % HOSTS

            await until(logged_in, 120, f"every upsmon is logged in; {hosts[names[0]].log}")
            play.tell("mains off all")
            failed_s, slowest_s = now(), 0.0
            while unit.machine.source is not Source.OFF:
                asked_s = now()
                assert (await play.ask("status"))["ok"]
                slowest_s = max(slowest_s, now() - asked_s)
                assert now() - failed_s < 400, (await play.ask("shutdown-status"))["result"]
                await asyncio.sleep(0.1)
            downs = {name: [float(line) for line in (play.folder / name / "down").read_text().split()] for name in names}
            assert {name: len(times) for name, times in downs.items()} == dict.fromkeys(names, 1), "each once"
            for earlier, later in itertools.pairwise(groups):
                assert max(downs[name][0] for name in earlier) < min(downs[name][0] for name in later), (order, downs)
            run = (await play.ask("shutdown-history"))["result"]["runs"][0]
            stops = {step["target"]: step["result"] for step in run["steps"] if step["act"] == "stop"}
            assert stops == dict.fromkeys(names, "done"), run
            measured(f"{HOSTS} upsmon over TLS, {order}: all down and cut {now() - failed_s:.1f} s after mains failed, "
                     f"slowest status {slowest_s:.3f} s")  # fmt: skip
            assert slowest_s < ANSWER_S
            assert "Traceback" not in play.log()
