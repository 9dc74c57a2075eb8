"""A pyusb backend over emulated devices, and the buses that a transport looks at; in process, no libusb.

What a backend must do: usb.md section 10.2. Errors carry libusb's numbers (section 6).
"""

from __future__ import annotations

import errno
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import usb.backend
import usb.core

from qxfleet.transports.usb_bus import UsbBuses
from tests.transports.usb.emulated import Emulated, Overflow, Stall


def timed_out() -> usb.core.USBTimeoutError:
    """libusb's timeout."""
    return usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)


def failure(code: int, number: int, text: str) -> usb.core.USBError:
    """Any other failure of libusb."""
    return usb.core.USBError(text, code, number)


class Plugged:
    """A device in a port. Every plugging in makes a new one, with an address of its own."""

    def __init__(self, device: Emulated, bus: int, ports: tuple[int, ...], address: int) -> None:
        self.device = device
        self.bus, self.ports, self.address = bus, ports, address
        self.there = True
        self.denied = False
        self.claimed_by: object | None = None
        self.kernel_driver = True


class FakeUsb(usb.backend.IBackend):  # type: ignore[misc]
    """Devices by place, ``{"1-1.4": device}``. ``real_time``: silence takes as long as the host waits, packets their pace.

    ``buses`` is what transports are given; ``sysfs`` the kernel's copies of the strings.
    """

    def __init__(self, folder: Path, *, real_time: bool = False) -> None:
        self.sysfs = folder / "devices"
        self.sysfs.mkdir()
        self.real_time = real_time
        self.plugged: dict[str, Plugged] = {}
        self.handles = 0
        self.lock = threading.Lock()
        self.addresses = 1
        self.buses = UsbBuses(lambda: self, self.sysfs)
        self.fail_next: dict[str, list[usb.core.USBError]] = {}

    # -- the hand that plugs

    def plug(self, path: str, device: Emulated) -> Plugged:
        """Put a device into a port."""
        bus, _, ports = path.partition("-")
        self.addresses += 1
        found = Plugged(device, int(bus), tuple(map(int, ports.split("."))), self.addresses)
        folder = self.sysfs / path
        folder.mkdir()
        for name, text in (
            ("manufacturer", device.strings.get(3)), ("product", device.strings.get(1)), ("serial", device.serial),
            ("devnum", str(found.address)),
        ):  # fmt: skip
            if text:
                (folder / name).write_text(f"{text}\n")
        self.plugged[path] = found
        return found

    def unplug(self, path: str) -> Emulated:
        """Pull a device out; transfers under way end at once."""
        found = self.plugged.pop(path)
        found.there = False
        folder = self.sysfs / path
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        return found.device

    # -- enumeration and descriptors

    def enumerate_devices(self) -> Any:
        return iter(list(self.plugged.values()))

    def get_parent(self, dev: Plugged) -> None:
        return None

    def get_device_descriptor(self, dev: Plugged) -> SimpleNamespace:
        names = (
            "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0 idVendor idProduct "
            "bcdDevice iManufacturer iProduct iSerialNumber bNumConfigurations"
        )
        return _fields(
            "<BBHBBBBHHHBBBB", names, dev.device.device_descriptor, address=dev.address, bus=dev.bus,
            port_number=dev.ports[-1], port_numbers=dev.ports, speed=1,
        )  # fmt: skip

    def get_configuration_descriptor(self, dev: Plugged, config: int) -> SimpleNamespace:
        if config:
            raise IndexError(config)
        names = (
            "bLength bDescriptorType wTotalLength bNumInterfaces bConfigurationValue iConfiguration bmAttributes bMaxPower"
        )
        return _fields("<BBHBBBBB", names, dev.device.config_descriptor[:9], extra_descriptors=[])

    def get_interface_descriptor(self, dev: Plugged, intf: int, alt: int, config: int) -> SimpleNamespace:
        if intf or alt or config:
            raise IndexError(intf)
        names = (
            "bLength bDescriptorType bInterfaceNumber bAlternateSetting bNumEndpoints bInterfaceClass bInterfaceSubClass "
            "bInterfaceProtocol iInterface"
        )
        return _fields("<9B", names, dev.device.config_descriptor[9:18], extra_descriptors=[])

    def get_endpoint_descriptor(self, dev: Plugged, ep: int, intf: int, alt: int, config: int) -> SimpleNamespace:
        at = 27 + 7 * ep
        if ep >= len(dev.device.endpoints):
            raise IndexError(ep)
        names = "bLength bDescriptorType bEndpointAddress bmAttributes wMaxPacketSize bInterval"
        found = dev.device.config_descriptor[at : at + 7]
        return _fields("<BBBBHB", names, found, bRefresh=0, bSynchAddress=0, extra_descriptors=[])

    # -- handles

    def open_device(self, dev: Plugged) -> Plugged:
        self._check(dev)
        if dev.denied:
            raise failure(-3, errno.EACCES, "Access denied (insufficient permissions)")
        with self.lock:
            self.handles += 1
        return dev

    def close_device(self, handle: Plugged) -> None:
        with self.lock:
            self.handles -= 1

    def get_configuration(self, handle: Plugged) -> int:
        self._check(handle)
        return 1

    def claim_interface(self, handle: Plugged, intf: int) -> None:
        self._check(handle)
        if handle.kernel_driver or handle.claimed_by not in (None, self):
            raise failure(-6, errno.EBUSY, "Resource busy")
        handle.claimed_by = self

    def release_interface(self, handle: Plugged, intf: int) -> None:
        self._check(handle)
        handle.claimed_by = None

    def is_kernel_driver_active(self, handle: Plugged, intf: int) -> bool:
        self._check(handle)
        return handle.kernel_driver

    def detach_kernel_driver(self, handle: Plugged, intf: int) -> None:
        if not handle.kernel_driver:
            raise failure(-5, errno.ENOENT, "Entity not found")
        handle.kernel_driver = False

    def clear_halt(self, handle: Plugged, ep: int) -> None:
        self._check(handle)
        handle.device.clear_halt()

    def reset_device(self, handle: Plugged) -> None:
        self._check(handle)
        handle.device.reset()

    # -- transfers

    def ctrl_transfer(
        self, handle: Plugged, bmRequestType: int, bRequest: int, wValue: int, wIndex: int, data: Any, timeout: int
    ) -> int:
        self._begin(handle)
        incoming = bool(bmRequestType & 0x80)
        setup = struct.pack("<BBHHH", bmRequestType, bRequest, wValue, wIndex, len(data))
        try:
            answer = handle.device.control(setup, b"" if incoming else data.tobytes())
        except Stall:
            raise failure(-9, errno.EPIPE, "Pipe error") from None
        if not incoming:
            return len(data)
        memoryview(data)[: len(answer)] = answer
        return len(answer)

    def intr_read(self, handle: Plugged, ep: int, intf: int, buff: Any, timeout: int) -> int:
        self._begin(handle)
        device = handle.device
        device.log.append(("IR", ep, len(buff), timeout))
        end_s = time.monotonic() + timeout / 1000
        while True:
            try:
                got = device.interrupt_in(ep, len(buff))
            except Stall:
                raise failure(-9, errno.EPIPE, "Pipe error") from None
            except Overflow:
                raise failure(-8, errno.EOVERFLOW, "Overflow") from None
            if got is not None:
                if self.real_time:
                    time.sleep(device.pace_s * -(-len(got) // 8))
                memoryview(buff)[: len(got)] = got
                return len(got)
            if not self.real_time or time.monotonic() >= end_s:
                raise timed_out()
            time.sleep(0.005)
            self._check(handle)

    def intr_write(self, handle: Plugged, ep: int, intf: int, data: Any, timeout: int) -> int:
        self._begin(handle)
        handle.device.interrupt_out(ep, data.tobytes())
        return len(data)

    def _begin(self, dev: Plugged) -> None:
        self._check(dev)
        path = f"{dev.bus}-{'.'.join(map(str, dev.ports))}"
        if waiting := self.fail_next.get(path):
            raise waiting.pop(0)

    def _check(self, dev: Plugged) -> None:
        if not dev.there:
            raise failure(-4, errno.ENODEV, "No such device (it may have been disconnected)")


def _fields(layout: str, names: str, data: bytes, **extra: object) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(names.split(), struct.unpack(layout, data), strict=True)), **extra)
