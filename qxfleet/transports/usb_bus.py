"""Which USB devices there are, where, and which of them a configuration means. Opens nothing, reads no string off a device.

Strings come from the kernel's own copies: on many of these bridges reading a string is a command (usb.md section 1.3).
A device's place is its bus and chain of ports, ``1-1.4``, the kernel's own name for it: it survives replug and reboot, the
address does not (usb.md sections 9.7 and 11 rule 7).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import usb.backend.libusb1
import usb.core

from qxfleet.errors import LinkUnavailable
from qxfleet.transports.usb_ids import bridge_for

SYSFS: Final = Path("/sys/bus/usb/devices")
NODES: Final = Path("/dev/bus/usb")

HUB: Final = 9
FRESH_S: Final = 0.5
"""How long one look at the buses serves all who ask."""


@dataclass(frozen=True, slots=True)
class UsbDescription:
    """A device on a bus. ``path`` is its place; strings are empty where the device has none or the kernel has no copy."""

    path: str
    bus: int
    address: int
    vendor_id: int
    product_id: int
    vendor: str = ""
    product: str = ""
    serial: str = ""
    raw: Any = field(default=None, compare=False, repr=False)
    hid: bool = False
    """It has a HID interface that is neither keyboard nor mouse: it may be a UPS that no table knows."""

    @property
    def ids(self) -> str:
        """``0665:5161``."""
        return f"{self.vendor_id:04x}:{self.product_id:04x}"

    @property
    def bridge(self) -> str | None:
        """What the table says."""
        return bridge_for(self.vendor_id, self.product_id, self.vendor, self.product)

    @property
    def node(self) -> Path:
        """The file that must be writable."""
        return NODES / f"{self.bus:03d}" / f"{self.address:03d}"

    def bare(self) -> UsbDescription:
        """The same without the device itself, which keeps libusb's descriptors open."""
        return replace(self, raw=None)

    def __str__(self) -> str:
        words = " ".join(filter(None, (self.vendor.strip(), self.product.strip())))
        serial = f" serial {self.serial.strip()}" if self.serial.strip() else ""
        return f"{self.path} ({self.ids}{' ' + words if words else ''}{serial})"


@dataclass(frozen=True, slots=True)
class Selection:
    """What picks a device: regular expressions under the seeds' names, a place, a bridge, a language id (usb.md section 4)."""

    patterns: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    bridge: str = ""
    langid: int | None = None

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Selection:
        """From the USB options of a ``[[ups]]`` block. Raises ValueError for a bridge without ids or a place."""
        patterns = {key: options[key] for key in PATTERNS if key in options}
        bridge = options.get("subdriver", "")
        if bridge and "usb_path" not in options and not {"vendorid", "productid"} <= patterns.keys():
            raise ValueError(f"subdriver {bridge} needs vendorid and productid as well")
        langid = options.get("langid_fix")
        return cls(patterns, options.get("usb_path", ""), bridge, int(langid, 16) if langid else None)

    def __str__(self) -> str:
        words = [f"{key} = {pattern}" for key, pattern in self.patterns.items()]
        return ", ".join([*words, f"usb_path = {self.path}"] if self.path else words)

    def bridge_of(self, device: UsbDescription) -> str | None:
        """The bridge by which a device would be talked to: the chosen one, else the table's; None if it is not meant."""
        if self.path and device.path != self.path:
            return None
        fits = all(
            re.fullmatch(pattern, PATTERNS[key](device).strip(" \t\n"), re.IGNORECASE) for key, pattern in self.patterns.items()
        )
        return (self.bridge or device.bridge) if fits else None

    def among(self, devices: Iterable[UsbDescription]) -> tuple[UsbDescription, ...]:
        """The devices it fits."""
        return tuple(device for device in devices if self.bridge_of(device) is not None)

    def pick(self, devices: Iterable[UsbDescription], label: str, last: str = "") -> UsbDescription:
        """The one device meant; of several, the one at the place ``last``. Raises LinkUnavailable that lists the candidates."""
        found = self.among(devices)
        if len(found) > 1 and (same := [device for device in found if device.path == last]):
            found = tuple(same)
        if len(found) == 1:
            return found[0]
        if not found:
            raise LinkUnavailable(
                label, "no such USB device", "is it plugged in? `lsusb` and `qxfleet discover` list what there is"
            )
        listed = "; ".join(str(device) for device in found)
        raise LinkUnavailable(
            label, f"{len(found)} USB devices fit: {listed}", f'tell them apart, as in usb_path = "{found[0].path}"'
        )


PATTERNS: Final[Mapping[str, Callable[[UsbDescription], str]]] = {
    "vendorid": lambda device: f"{device.vendor_id:04x}",
    "productid": lambda device: f"{device.product_id:04x}",
    "vendor": lambda device: device.vendor,
    "product": lambda device: device.product,
    "serial": lambda device: device.serial,
    "bus": lambda device: f"{device.bus:03d}",
}
"""Option → the text it must match whole, without regard to case."""


class Libusb(usb.backend.libusb1._LibUSB):  # type: ignore[misc]
    """A libusb context whose devices keep it alive: libusb can't stand a context that ends before its devices do."""

    def enumerate_devices(self) -> Iterator[Any]:
        """The devices; see pyusb's ``IBackend``."""
        for device in super().enumerate_devices():
            device.context = self
            yield device


@cache
def _library() -> Any:
    """libusb loaded; None where it can't be. pyusb's own context is ended again: it would stay open for ever."""
    module = usb.backend.libusb1
    if module.get_backend() is None:
        return None
    module._lib_object.finalize()
    module._lib_object = None
    return module._lib


def fresh_libusb() -> Any:
    """A libusb context of its own; None where libusb can't be loaded.

    One that lives on learns of plugging from udev alone, and where none runs it lists what is long gone (usb-testing.md,
    "What this taught about the product").
    """
    library = _library()
    return None if library is None else Libusb(library)


class UsbBuses:
    """All buses of this machine, looked at through one lock, which also covers resets."""

    def __init__(self, backend: Callable[[], Any] = fresh_libusb, sysfs: Path = SYSFS) -> None:
        self.lock = threading.Lock()
        self._backend = backend
        self._sysfs = sysfs
        self._looked_s = float("-inf")
        self._seen: tuple[UsbDescription, ...] = ()

    def devices(self, *, fresh: bool = False) -> tuple[UsbDescription, ...]:
        """What is plugged in, hubs left out, by place. Blocking. Raises LinkUnavailable where libusb is missing.

        ``fresh``: look now, and hand out devices that may be opened; else a look of the last FRESH_S will do.
        """
        with self.lock:
            if fresh:
                return self._look()
            if time.monotonic() - self._looked_s > FRESH_S:
                self._seen = tuple(device.bare() for device in self._look())
                self._looked_s = time.monotonic()
            return self._seen

    def present(self, device: UsbDescription) -> bool:
        """Whether a device is still where it was, under the same address."""
        if self._sysfs.is_dir():
            return _attribute(self._sysfs / device.path, "devnum") == str(device.address)
        return any(found == device for found in self.devices())

    def _look(self) -> tuple[UsbDescription, ...]:
        try:
            backend = self._backend()
        except usb.core.USBError as error:
            raise LinkUnavailable("USB", f"libusb does not start: {error}", "try again") from error
        if backend is None:
            raise LinkUnavailable("USB", "libusb-1.0 is not installed", "apt-get install -y libusb-1.0-0", hopeless=True)
        found = []
        for raw in usb.core.find(find_all=True, backend=backend):
            if raw.bDeviceClass == HUB:
                continue
            ports = ".".join(str(port) for port in raw.port_numbers or ())
            path = f"{raw.bus}-{ports or f'@{raw.address}'}"
            vendor, product, serial = (_attribute(self._sysfs / path, name) for name in ("manufacturer", "product", "serial"))
            found.append(
                UsbDescription(
                    path, raw.bus, raw.address, raw.idVendor, raw.idProduct, vendor, product, serial, raw, self._is_hid(path)
                )
            )
        return tuple(sorted(found, key=lambda device: [int(n) for n in re.findall(r"\d+", device.path)]))


    def _is_hid(self, path: str) -> bool:
        """By the kernel's list of its interfaces: class 03, and no boot protocol (HID 1.11, section 4.3)."""
        return any(
            _attribute(interface, "bInterfaceClass") == "03" and _attribute(interface, "bInterfaceProtocol") == "00"
            for interface in self._sysfs.glob(f"{path}/{path}:*")
        )


def _attribute(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode("utf-8", "replace").rstrip("\n")
    except OSError:
        return ""


def holders(node: Path) -> list[str]:
    """Programs that have a device's file open, as ``name (pid 123)``, as far as we may see."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            if any(link.readlink() == node for link in (process / "fd").iterdir()):
                found.append(f"{(process / 'comm').read_text().strip()} (pid {process.name})")
    return found


BUSES: Final = UsbBuses()
