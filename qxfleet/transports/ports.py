"""Which serial ports this machine has, under names that stay when adapters are plugged in another order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serial.tools import list_ports

BY_ID: Final = Path("/dev/serial/by-id")


@dataclass(frozen=True, slots=True)
class SerialPort:
    """One port. ``name`` is what to write in a configuration: the by-id name where there is one, else ``device``.

    ``vendor_id`` and ``product_id`` are the adapter's four hexadecimal digits, empty for ports that are not on USB.
    """

    name: str
    device: str
    description: str = ""
    vendor_id: str = ""
    product_id: str = ""


def serial_ports() -> tuple[SerialPort, ...]:
    """The ports whose hardware exists, by device name. Reads sysfs only; opens nothing."""
    stable = stable_names(BY_ID)
    return tuple(
        SerialPort(
            name=stable.get(os.path.realpath(port.device), port.device),
            device=port.device,
            description=port.description if port.description != "n/a" else "",
            vendor_id="" if port.vid is None else f"{port.vid:04x}",
            product_id="" if port.pid is None else f"{port.pid:04x}",
        )
        for port in sorted(list_ports.comports(), key=lambda port: (len(port.device), port.device))
        if has_hardware(Path("/sys/class/tty") / Path(port.device).name)
    )


def stable_names(folder: Path) -> dict[str, str]:
    """Real device → its name in ``folder``; the shortest where it has several, none where the folder does not exist."""
    names: dict[str, str] = {}
    if folder.is_dir():
        for link in sorted(folder.iterdir(), key=lambda link: (len(link.name), link.name)):
            names.setdefault(os.path.realpath(link), str(link))
    return names


def has_hardware(sysfs: Path) -> bool:
    """False for the placeholders ``/dev/ttyS1`` … that Linux makes for UARTs which may be found later (type 0)."""
    try:
        return (sysfs / "type").read_text().strip() != "0"
    except OSError:
        return True
