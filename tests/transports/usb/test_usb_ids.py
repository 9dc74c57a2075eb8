"""The device table is the reference's, and everything that repeats it says the same."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from qxfleet.config.forms import BRIDGES as NAMES
from qxfleet.transports.bridges import BRIDGES
from qxfleet.transports.usb_ids import DEVICES, RULES_FILE, SEED_BRIDGES, bridge_for, udev_rules

ROOT = Path(__file__).parents[3]


def test_the_rules_file_is_made_from_the_table() -> None:
    assert (ROOT / "contrib" / "udev" / RULES_FILE).read_text() == udev_rules()
    assert "1a86" not in udev_rules(), "a serial chip that many other devices have (landscape 4.5)"
    rules = [line for line in udev_rules().splitlines() if line.startswith("ACTION")]
    assert len(rules) == len(set(rules)) == 16


def test_every_bridge_is_named_everywhere() -> None:
    assert set(NAMES) == set(BRIDGES) and len(BRIDGES) == 14
    assert NAMES[:4] == SEED_BRIDGES
    assert {row.bridge for row in DEVICES} - {None} <= set(BRIDGES)
    for bridge in BRIDGES.values():
        assert list(inspect.signature(bridge.exchange).parameters) == ["device", "ask"]


@pytest.mark.parametrize(("ids", "vendor", "product", "bridge"), [
    # usb-devices.csv, the rows whose order decides
    ((0x0665, 0x5161), "INNO TECH", "USB to Serial", "cypress"),
    ((0x06DA, 0x0002), "Phoenixtec Power", "USB Cable (V2.00)", "phoenixtec"),
    ((0x06DA, 0x0002), "phoenixtec power", "usb cable (v2.00)", "phoenixtec"),
    ((0x06DA, 0x0002), "ONEAC", "USB Cable (V2.00)", "cypress"),
    ((0x06DA, 0x0003), "", "", "ippon"),
    ((0x06DA, 0x0601), "", "", "phoenix"),
    ((0x0001, 0x0000), "MEC", "MEC0003", "fabula"),
    ((0x0001, 0x0000), "", "MEC0003", "hunnox"),
    ((0x0001, 0x0000), " MEC", "MEC0003", "hunnox"),
    ((0x0001, 0x0000), "ATCL FOR UPS", "ATCL FOR UPS", "fuji"),
    ((0x0001, 0x0000), "", "", "krauler"),
    ((0xFFFF, 0x0000), "", "", "ablerex"),
    ((0x0925, 0x1234), "RICHCOMM", "UPS USB Mon V2.0", "armac"),
    ((0x1A86, 0x7523), "", "USB Serial", None),
    ((0x051D, 0x0002), "APC", "Back-UPS", None),
])  # fmt: skip
def test_the_first_row_that_fits_counts(ids: tuple[int, int], vendor: str, product: str, bridge: str | None) -> None:
    assert bridge_for(*ids, vendor, product) == bridge
