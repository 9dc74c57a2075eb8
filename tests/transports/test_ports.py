"""The list of serial ports, and the names that stay."""

from __future__ import annotations

import stat
from pathlib import Path

from qxfleet.transports.ports import has_hardware, serial_ports, stable_names


def test_by_id_names_lead_to_their_devices(tmp_path: Path) -> None:
    devices, by_id = tmp_path / "dev", tmp_path / "by-id"
    devices.mkdir()
    by_id.mkdir()
    for name in ("ttyUSB0", "ttyUSB1"):
        (devices / name).touch()
    (by_id / "usb-Prolific_2303-if00-port0").symlink_to("../dev/ttyUSB1")
    (by_id / "usb-FTDI_FT232R_A50285BI-if00-port0").symlink_to("../dev/ttyUSB0")
    (by_id / "usb-FTDI_A50285BI").symlink_to("../dev/ttyUSB0")
    real = devices.resolve()
    assert stable_names(by_id) == {
        str(real / "ttyUSB0"): str(by_id / "usb-FTDI_A50285BI"),
        str(real / "ttyUSB1"): str(by_id / "usb-Prolific_2303-if00-port0"),
    }
    assert stable_names(tmp_path / "none") == {}


def test_placeholders_are_no_ports(tmp_path: Path) -> None:
    for name, kind in (("ttyS0", "4\n"), ("ttyS7", "0\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(kind)
    assert has_hardware(tmp_path / "ttyS0")
    assert not has_hardware(tmp_path / "ttyS7")
    assert has_hardware(tmp_path / "ttyUSB0")


def test_what_is_listed_is_there() -> None:
    ports = serial_ports()
    assert len({port.name for port in ports}) == len(ports)
    for port in ports:
        assert stat.S_ISCHR(Path(port.device).stat().st_mode)
        assert Path(port.name).resolve() == Path(port.device).resolve()
