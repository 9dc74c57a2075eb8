"""Battery tests of twenty UPSes on pseudo-terminals, by a real agent in real time, driven from the command line.

In CI the UPSes live four times as fast as the agent; ``QXFLEET_SOAK=1`` plays it at their own pace.
"""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from qxfleet.testing.simulator import SimulatedUps, Unknown
from qxfleet.testing.unit import Fault
from tests.scenarios.play import SOAK, Play, measured
from tests.selftest.ground import a_unit

COUNT = 20
SPEED = 1.0 if SOAK else 4.0
DIALECTS = ("megatec", "mecer", "voltronic", "zinto", "mustek")
DEAD, LAZY, NAKS, STRUCK = ("ups-02",), ("ups-05",), ("ups-08",), "ups-15"
"""Of different pairs: the odd one and the even one behind it feed one load."""

CONFIG = """
[tests]
mains_stable = "3s"
charged = "0s"
load_steady = "0s"
load_change = 40
recharge = "1s"
max_parallel = 10

[[schedule]]
name = "weekly-quick"
do = "test"
cron = "0 3 * * sun"
window = "10m"
targets = ["all"]
"""

NAMES = [f"ups-{number:02d}" for number in range(1, COUNT + 1)]
PAIRS = list(zip(NAMES[::2], NAMES[1::2], strict=True))


@asynccontextmanager
async def stage() -> AsyncIterator[Play]:
    """The farm with its bad units, and an agent on it that knows its pairs."""
    spoken = [DIALECTS[number % len(DIALECTS)] for number in range(COUNT)]
    units = [a_unit(name, dialect=dialect, noise=0.3) for name, dialect in zip(NAMES, spoken, strict=True)]
    by_name = {unit.name: unit for unit in units}
    for name in DEAD:
        by_name[name].set_fault(Fault.DEAD_BATTERY, "3")
    for name in LAZY:
        by_name[name].set_fault(Fault.ACK_BUT_IGNORE)
    for name in NAKS:
        unit = by_name[name]
        unit.set_fault(Fault.REFUSE, "T*")
        if isinstance(unit, SimulatedUps):
            unit.unknown = Unknown.NAK
    async with Play(units, agent={"include": '["tests.toml"]', "poll_interval": '"1s"'}) as play:
        loads = "".join(f'[[load]]\nname = "{a}{b}"\nfed_by = ["{a}", "{b}"]\nstop = {{ nut = true }}\n' for a, b in PAIRS)
        (play.folder / "tests.toml").write_text(CONFIG + loads)
        play.farm.speed = SPEED
        await play.start()
        await play.all_online()
        yield play


async def told(play: Play, *arguments: str) -> Any:
    """The document of a command."""
    async with play.command_line(*arguments, "--json") as lines:
        return json.loads(await lines.read())


async def watch(play: Play, together: set[str], ended: asyncio.Event) -> None:
    """Look for pairs under test, and let mains fail under one test."""
    struck = False
    while not ended.is_set():
        testing = {name for name in NAMES if play.farm.select(name)[0].machine.testing}
        together.update(f"{a}+{b}" for a, b in PAIRS if {a, b} <= testing)
        if STRUCK in testing and not struck:
            struck = True
            play.tell(f"mains off {STRUCK}")
            await asyncio.sleep(4)
            play.tell(f"mains on {STRUCK}")
        await asyncio.sleep(0.1)
    assert struck


async def test_a_wave_over_twenty_ups_in_real_time() -> None:
    loop = asyncio.get_running_loop()
    async with stage() as play:
        follower = await play.follow()
        await asyncio.sleep(4)
        foreseen = await told(play, "schedule", "run", "weekly-quick", "--dry-run")
        assert (foreseen["tested"], foreseen["not_tested"]) == (20, 0), foreseen
        assert [each["after"] for each in foreseen["ups"][:2]] == [None, "ups-01"]
        together, ended, began_s = set[str](), asyncio.Event(), loop.time()
        watching = asyncio.create_task(watch(play, together, ended))
        run = await asyncio.create_subprocess_exec(
            *play.command("schedule", "run", "weekly-quick", "--json"), stdout=PIPE, stderr=PIPE
        )
        out, said = await run.communicate()
        ended.set()
        await watching
        took_s = loop.time() - began_s
        assert run.returncode == 1, said.decode()
        wave = json.loads(out)["wave"]
        verdicts = {each["ups"]: each["verdict"] or each["state"] for each in wave["ups"]}
        wanted = dict.fromkeys(NAMES, "passed") | dict.fromkeys(DEAD, "failed") | dict.fromkeys(LAZY, "no-effect")
        wanted |= dict.fromkeys(NAKS, "aborted") | {STRUCK: "aborted"}
        assert verdicts == wanted, said.decode()
        assert together == set()
        assert all(sum(request.startswith(b"T") for _, request in play.asked(name)) == 1 for name in NAMES)
        assert {ups for ups, _, _ in follower.told("on-battery")} == {STRUCK}
        results = await told(play, "test", "results")
        assert {each["ups"]: each["verdict"] for each in results["tests"]} == wanted
        assert "mains failed" in next(each["text"] for each in results["tests"] if each["ups"] == STRUCK)
        vars_ = (await play.ask("vars", ups="ups-02"))["result"]["variables"]
        assert vars_["ups.test.result"] == "Done and error"
        lasted = [each["evidence"]["readings"] for each in results["tests"] if each["verdict"] == "passed"]
        measured(f"a wave over 20 UPSes on pseudo-terminals in {took_s:.0f} s: {len(lasted)} passed, "
              f"{min(lasted)} to {max(lasted)} readings each; no pair together")  # fmt: skip
