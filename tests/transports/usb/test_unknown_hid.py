"""HID devices that no table knows are told from keyboards and mice by what the kernel lists of their interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxfleet.transports.usb_bus import Selection
from qxfleet.transports.usb_ids import bridges_of
from tests.transports.usb.emulated import Cypress, TextUps
from tests.transports.usb.fake_usb import FakeUsb


@pytest.mark.parametrize(
    ("kind", "protocol", "hid"), [("03", "00", True), ("03", "01", False), ("03", "02", False), ("08", "00", False)]
)
def test_what_may_be_a_ups(tmp_path: Path, kind: str, protocol: str, hid: bool) -> None:
    bus = FakeUsb(tmp_path)
    bus.plug("1-1", Cypress(TextUps()))
    interface = bus.sysfs / "1-1" / "1-1:1.0"
    interface.mkdir()
    (interface / "bInterfaceClass").write_text(f"{kind}\n")
    (interface / "bInterfaceProtocol").write_text(f"{protocol}\n")
    [device] = bus.buses.devices()
    assert device.hid is hid


def test_a_bridge_may_be_named_for_a_place_or_for_ids() -> None:
    assert Selection.of({"subdriver": "gtec", "usb_path": "1-1"}).bridge == "gtec"
    assert Selection.of({"subdriver": "gtec", "vendorid": "0665", "productid": "5161"}).bridge == "gtec"
    with pytest.raises(ValueError, match="needs vendorid and productid"):
        Selection.of({"subdriver": "gtec", "vendorid": "0665"})


def test_all_bridges_of_ids_in_the_order_of_the_table() -> None:
    assert bridges_of(0x0001, 0x0000) == ("fabula", "hunnox", "fuji", "krauler", "snr")
    assert bridges_of(0x0665, 0x5161) == ("cypress",)
    assert bridges_of(0x1A86, 0x7523) == ()
