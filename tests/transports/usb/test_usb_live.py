"""The bridges through the real libusb, on a bus that umockdev makes.

Way and limits: usb-testing.md, layer 2. One process a bus, because two would take each other's events.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from tests.transports.usb.emulated import Q1
from tests.transports.usb.live import OnBus

ROOT = Path(__file__).parents[3]
ASK_ALL = Path(__file__).parent / "ask_all.py"
HOME = {"PYTHONPATH": str(ROOT)}

STATUS, QUIET = Q1.decode().rstrip("\r"), Q1.decode().rstrip("\r")[:-1] + "0"
RATING = "#230.0 004 12.00 50.0"

SEEDS = (("Cypress", "1-1", ""), ("Phoenix", "1-2", ""), ("Ippon", "1-3", ""), ("Krauler", "2-1.4", ""))
OTHERS = (
    ("Sgs", "1-1", ""), ("Fabula", "1-2", "fabula"), ("Hunnox", "1-3", "hunnox"), ("Fuji", "1-4", "fuji"),
    ("Phoenixtec", "1-5", "phoenixtec"), ("Snr", "1-6", "snr"), ("Ablerex", "1-7", ""), ("Gtec", "1-8", "gtec"),
    ("Omron", "1-9", ""), ("ArmacControl", "1-10", ""), ("ArmacInterrupt", "1-11", ""),
)  # fmt: skip


@pytest.mark.parametrize("devices", [SEEDS, OTHERS], ids=["seeds", "others"])
async def test_each_bridge_carries_queries_and_an_order(devices: tuple[tuple[str, str, str], ...]) -> None:
    places = [f"{path}:{bridge}" if bridge else path for _, path, bridge in devices]
    async with OnBus([f"{kind}@{path}" for kind, path, _ in devices], [sys.executable, ASK_ALL, *places], HOME) as bus:
        told = json.loads(await bus.output())
    for (kind, path, _), place in zip(devices, places, strict=True):
        replies = told[place]
        number = next(n for n, (_, other, _) in enumerate(devices) if other == path)
        assert replies["F"] == RATING, kind
        assert replies["I"].split() == ["#ACME", f"UPS{number}", "V1.00"], kind
        orders = {"Krauler": "ACK", "Snr": "Q"}
        assert replies["Q"] == orders.get(kind), kind
        assert replies["Q1"] == (STATUS if kind == "Snr" else QUIET), f"{kind}: the beeper was switched off, once"


async def test_discover_lists_what_is_plugged_in() -> None:
    devices = ["Cypress@1-1", "Phoenix@3-1.2=P77", "Krauler@2-1.4"]
    async with OnBus(devices, [sys.executable, "-m", "qxfleet", "discover", "auto", "--json"], HOME) as bus:
        found = {each["port"]: each for each in json.loads(await bus.output())["ports"]}
    told = {port: (each["dialect"], *(each["usb"][key] for key in ("bridge", "ids", "bus"))) for port, each in found.items()}
    assert told == {
        "usb:1-1": ("megatec", "cypress", "0665:5161", "001"),
        "usb:3-1.2": ("megatec", "phoenix", "06da:0601", "003"),
        "usb:2-1.4": ("megatec", "krauler", "0001:0000", "002"),
    }
    assert found["usb:3-1.2"]["usb"]["serial"] == "P77"
    assert found["usb:2-1.4"]["usb"]["product"] == ""


async def test_discover_prints_a_block_to_paste() -> None:
    async with OnBus(["Cypress@1-1"], [sys.executable, "-m", "qxfleet", "discover", "auto"], HOME) as bus:
        said = await bus.output()
    assert said.splitlines() == [
        "# bus 001, 1-1 (0665:5161 ACME USB to Serial), bridge cypress", "[[ups]]", 'name = "ups-usb-1-1"', 'port = "auto"',
        'usb_path = "1-1"', 'dialect = "megatec"', 'description = "ACME UPS0 V1.00"', "",
    ]  # fmt: skip


async def test_an_agent_on_eight_devices_through_unplug_replug_and_sigint(tmp_path: Path) -> None:
    places = [*(f"1-{n}" for n in range(1, 6)), "2-1.1", "2-1.2", "2-1.3"]
    blocks = [f'[[ups]]\nname = "u{n}"\nport = "auto"\ndialect = "megatec"\nusb_path = "{p}"\n' for n, p in enumerate(places)]
    head = f'[agent]\ndatabase = "sqlite:///{tmp_path}/fleet.db"\ncontrol = "{tmp_path}/agent.sock"\npoll_interval = "1s"\n'
    config = tmp_path / "qxfleet.toml"
    config.write_text("\n".join([head, *blocks]))
    run = [sys.executable, "-m", "qxfleet", "--config", config, "run", "--log-level", "warning"]

    async def states() -> dict[str, str]:
        try:
            reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock", limit=1 << 20)
        except OSError:
            return {}
        writer.write(b'{"id": 1, "do": "status", "args": {}}\n')
        answer = json.loads(await reader.readline())
        writer.close()
        await writer.wait_closed()
        return {ups["name"]: ups["state"] for ups in answer["result"]["ups"]}

    async def until(wanted: dict[str, str], limit_s: float) -> float:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while (found := await states()) != wanted:
            assert loop.time() - began_s < limit_s, found
            await asyncio.sleep(0.05)
        return loop.time() - began_s

    fine = {f"u{n}": "online" for n in range(len(places))}
    async with OnBus([f"Cypress@{place}" for place in places], run, HOME) as bus:
        await until(fine, 30)
        for place, name in (("1-2", "u1"), ("2-1.2", "u6")):
            await bus.tell("unplug", place)
            assert await until({**fine, name: "lost"}, 3) < 2
            await bus.tell("plug", place)
            assert await until(fine, 6) < 5
        bus.signal(signal.SIGINT)
        said, complained = await asyncio.wait_for(bus.process.communicate(), 20)
        assert bus.process.returncode == 0, (said, complained)


async def test_probe_takes_the_bridge_it_is_told() -> None:
    """A device whose ids no table knows is found by its place, and asked by the bridge that is named."""
    command = [sys.executable, "-m", "qxfleet", "probe", "usb:1-1", "--subdriver", "gtec", "--json"]
    async with OnBus(["Gtec@1-1"], command, HOME) as bus:
        document = json.loads(await bus.output())
    assert (document["port"], document["dialect"]) == ("usb:1-1", "megatec")


async def test_discover_asks_by_another_bridge_of_the_same_ids() -> None:
    """``0001:0000`` without texts is taken for krauler; a fuji unit does not answer that, and is asked by the others in turn."""
    async with OnBus(["Fuji@1-1"], [sys.executable, "-m", "qxfleet", "discover", "auto"], HOME) as bus:
        said = await bus.output()
    assert "bridge fuji" in said
    assert 'subdriver = "fuji"' in said and 'vendorid = "0001"' in said
