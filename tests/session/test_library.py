"""``from qxfleet import connect``: one UPS in a script, with and without asyncio, over a real pseudo-terminal."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import qxfleet
from qxfleet import connect
from qxfleet.dialects.registry import dialect_named
from qxfleet.errors import LinkError, LinkLost, OrderInvalid, OrderNotSupported
from qxfleet.model.events import Link, Outcome
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps


def unit(dialect: str = "megatec") -> SimulatedUps:
    found = dialect_named(dialect)
    assert found is not None
    return SimulatedUps(found, name="u", machine=Machine(Ratings(), noise=0))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Farm]]:
    """A farm that lives in a thread, for scripts that block."""
    farm = Farm(tmp_path, [unit()])
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with farm:
            ready.set()
            while not stop.is_set():
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    yield farm.link("u"), farm
    stop.set()
    thread.join()


def test_a_script_without_asyncio(served: tuple[Path, Farm]) -> None:
    port, farm = served
    with connect(str(port), poll_interval_s=0.2, offdelay_s=60) as ups:
        assert (ups.dialect, ups.link, ups.port) == ("megatec", Link.ONLINE, str(port))
        values = ups.read()
        assert (values["ups.status"], values["input.voltage"]) == ("OL", "230.0")
        assert values.number("battery.voltage") == float(values["battery.voltage"])
        with pytest.raises(KeyError):
            values.number("ups.status")
        assert "beeper.toggle" in ups.commands()
        assert ups.settings()["ups.delay.shutdown"] == "60"
        beeper = values["ups.beeper.status"]
        assert ups.command("beeper.toggle").outcome is Outcome.ACCEPTED
        assert ups.read()["ups.beeper.status"] != beeper
        assert ups.set("ups.delay.start", "120").outcome is Outcome.ACCEPTED
        with pytest.raises(OrderInvalid):
            ups.set("ups.delay.start", "soon")
        with pytest.raises(OrderNotSupported):
            ups.command("make.coffee")
        farm.upses["u"].machine.set_mains(0)
        assert next(each for each in ups.watch() if each["ups.status"].startswith("OB"))
    assert threading.active_count() < 10


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no such port"), connect(str(tmp_path / "nothing")):
        pass
    with pytest.raises(ValueError, match="not a full path"):
        connect("ttyS0")


async def test_a_script_with_asyncio(tmp_path: Path) -> None:
    async with Farm(tmp_path, [unit("gtec")]) as farm, connect(str(farm.link("u")), poll_interval_s=0.2) as ups:
        assert ups.dialect == "gtec"
        seen = []
        async for values in ups.watch():
            seen.append(values["ups.status"])
            if len(seen) == 2:
                farm.upses["u"].machine.set_mains(0)
            if seen[-1].startswith("OB"):
                break
        assert seen[:2] == ["OL", "OL"]
        assert (await ups.command("shutdown.stop")).outcome in (Outcome.UNCONFIRMED, Outcome.ACCEPTED)
        farm.unplug("u")
        with pytest.raises(LinkError):
            while True:
                await ups.read()


@pytest.mark.timeout(30)
async def test_after_its_block_everything_is_refused_at_once(tmp_path: Path) -> None:
    async with Farm(tmp_path, [unit("gtec")]) as farm:
        async with connect(str(farm.link("u")), poll_interval_s=0.2) as ups:
            await ups.read()
        for late in (ups.read(), anext(ups.watch()), ups.command("shutdown.stop"), ups.set("ups.delay.start", "60")):
            with pytest.raises(LinkLost, match="closed"):
                await late
        await ups.close()


def test_it_costs_nothing_who_does_not_want_it() -> None:
    code = "import sys, qxfleet; assert 'qxfleet.library' not in sys.modules"
    code += "\nfrom qxfleet import connect; print(connect.__name__)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "connect\n"
    with pytest.raises(AttributeError):
        _ = qxfleet.nothing_of_that_name  # type: ignore[attr-defined]
