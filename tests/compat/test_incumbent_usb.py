"""Debian's nutdrv_qx and ours on the same emulated USB devices, both through the real libusb: the same variables.

Each has a bus of its own: two programs on one would take each other's events (usb-testing.md, layer 2). ippon is left out:
below umockdev some of nutdrv_qx's 64-byte reads come back with its buffer as it was, while ours are whole.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.compat.incumbent import DRIVER
from tests.transports.usb.live import OnBus

HOME = {"PYTHONPATH": str(Path(__file__).parents[2])}

BRIDGES = {
    # kind: ids, subdriver, further options of nutdrv_qx
    "Cypress": ("0665", "5161", "cypress", {}),
    "Phoenix": ("06da", "0601", "phoenix", {}),
    "Krauler": ("0001", "0000", "krauler", {"langid_fix": "0x409", "noscanlangid": ""}),
}


@pytest.mark.usefixtures("incumbent_installed")
@pytest.mark.parametrize("kind", BRIDGES)
async def test_the_incumbent_and_ours_publish_the_same(kind: str, tmp_path: Path) -> None:
    vendorid, productid, subdriver, more = BRIDGES[kind]
    options = {"port": "auto", "vendorid": vendorid, "productid": productid, "subdriver": subdriver, "protocol": "megatec"}
    words = [word for key, value in {**options, **more}.items() for word in ("-x", f"{key}={value}" if value else key)]
    theirs_run = [DRIVER, "-s", "t", *words, "-u", "root", "-d", "2"]
    states = {name: str(tmp_path) for name in ("NUT_STATEPATH", "NUT_CONFPATH", "NUT_ALTPIDPATH")}
    ours_run = [sys.executable, "-m", "qxfleet", "probe", "usb:1-1", "--json"]
    async with OnBus([f"{kind}@1-1"], theirs_run, states) as their_bus, OnBus([f"{kind}@1-1"], ours_run, HOME) as our_bus:
        printed, probed = await asyncio.gather(their_bus.output(), our_bus.output())
    pairs = (line.partition(": ") for line in printed.splitlines())
    theirs = {name: value for name, colon, value in pairs if colon and not name.startswith("driver.") and "." in name}
    ours = json.loads(probed)["variables"]
    assert json.loads(probed)["dialect"] == "megatec"
    assert theirs["ups.status"] == "OL" and len(theirs) >= 24
    assert {name: ours.get(name) for name in theirs} == theirs
