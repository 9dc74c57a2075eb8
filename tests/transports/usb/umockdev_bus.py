#!/usr/bin/python3
"""Emulated UPSes on a /dev/bus/usb of their own for one process tree, through umockdev: the libusb in it is the real one.

    /usr/bin/python3 umockdev_bus.py --device Cypress@1-1 --device Krauler@1-2 --control bus.sock -- COMMAND…

Runs on the distribution's Python (PyGObject); COMMAND gets LD_PRELOAD and UMOCKDEV_DIR, and QXFLEET_USB_CONTROL, a socket
that takes ``{"do": "plug" | "unplug" | "set" | "heard", "path": …}`` as JSON lines. The approach and its pitfalls are those
of usb-testing.md, layer 2: a node is a FIFO that is full until a transfer is done, because libusb sleeps until it is
writable; a node that was unplugged goes on answering ENODEV; only one process may use libusb on one bus.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import GLib, UMockdev  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import emulated  # noqa: E402

PRELOAD = "libumockdev-preload.so.0"

INTERRUPT, CONTROL, BULK = 1, 2, 3
CAPABILITIES = 0x01 | 0x04 | 0x10
RESETEP, SETINTERFACE, SETCONFIGURATION, GETDRIVER = 3, 4, 5, 8
SUBMITURB, DISCARDURB, REAPURBNDELAY = 10, 11, 13
CLAIM, RELEASE, IOCTL, RESET, CLEAR_HALT = 15, 16, 18, 20, 21
GET_CAPABILITIES, DISCONNECT_CLAIM, GET_SPEED = 26, 27, 31
"""Numbers of usbdevfs, type ``U``."""

LOW_SPEED = 1
HUB = bytes.fromhex(
    "12010002090000406b1d020001060302010109021900010100e0000904000001090000000705810304000c"
)
"""Descriptors of a root hub: without one that opens, some programs crash at their end."""


class Urb:
    """A submitted transfer: ``struct usbdevfs_urb`` of 64-bit Linux."""

    def __init__(self, data: object) -> None:
        self.data = data
        raw = bytes(data.retrieve())  # type: ignore[attr-defined]
        self.type, self.endpoint = raw[0], raw[1]
        (self.length,) = struct.unpack_from("=i", raw, 24)
        self.buffer = data.resolve(16, self.length) if self.length else None  # type: ignore[attr-defined]
        self.address = data.client_addr  # type: ignore[attr-defined]

    def finish(self, status: int, actual: int = 0) -> None:
        """Write its result."""
        self.data.update(4, struct.pack("=i", status))  # type: ignore[attr-defined]
        self.data.update(28, struct.pack("=i", actual))  # type: ignore[attr-defined]


class Session:
    """What the kernel keeps of an open file."""

    def __init__(self) -> None:
        self.claimed = False
        self.pending: deque[Urb] = deque()
        self.done: deque[Urb] = deque()


class Node:
    """One file under /dev/bus/usb."""

    def __init__(self, device: emulated.Emulated, syspath: str, file: str) -> None:
        self.device, self.syspath, self.file = device, syspath, file
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(file, 0o666)
        self.gate = os.open(file, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.room = fcntl.fcntl(self.gate, fcntl.F_SETPIPE_SZ, 4096)
        self.open = True
        self.present = True
        self.lock = threading.RLock()
        self.sessions: dict[object, Session] = {}
        self.next_s = 0.0
        self.timer: object | None = None
        self.context = None
        self.handler = UMockdev.IoctlBase()
        self.handler.connect("handle-ioctl", self._ioctl)
        self.handler.connect("client-vanished", self._closed)
        self._settle()

    def vanish(self) -> None:
        """The plug is pulled."""
        with self.lock:
            self.present = False
            for session in self.sessions.values():
                while session.pending:
                    urb = session.pending.popleft()
                    urb.finish(-errno.ESHUTDOWN)
                    session.done.append(urb)
            self._settle()

    def _settle(self) -> None:
        """Wake whoever sleeps on the file if a transfer is done."""
        wanted = any(session.done for session in self.sessions.values())
        if wanted and not self.open:
            os.read(self.gate, self.room)
        elif self.open and not wanted:
            os.write(self.gate, bytes(self.room))
        self.open = wanted

    def _closed(self, _handler: object, client: object) -> None:
        with self.lock:
            self.sessions.pop(client, None)
            self._settle()

    def _ioctl(self, _handler: object, client: object) -> bool:
        request = client.get_request()  # type: ignore[attr-defined]
        if (request >> 8) & 0xFF != ord("U"):
            return False
        self.context = self.context or GLib.MainContext.get_thread_default()
        with self.lock:
            session = self.sessions.setdefault(client, Session())
            number, size = request & 0xFF, (request >> 16) & 0x3FFF
            try:
                self._serve(session, client.get_arg(), number, size)  # type: ignore[attr-defined]
            except OSError as error:
                client.complete(-1, error.errno)  # type: ignore[attr-defined]
            else:
                client.complete(LOW_SPEED if number == GET_SPEED else 0, 0)  # type: ignore[attr-defined]
            self._pump()
        return True

    def _serve(self, session: Session, arg: object, number: int, size: int) -> None:
        if number == REAPURBNDELAY:
            if not session.done:
                raise OSError(errno.EAGAIN if self.present else errno.ENODEV, "nothing to reap")
            arg.resolve(0, 8).set_ptr(0, session.done.popleft().data)  # type: ignore[attr-defined]
            return
        if not self.present:
            raise OSError(errno.ENODEV, "unplugged")
        if number == DISCARDURB:
            (address,) = struct.unpack("=Q", bytes(arg.retrieve()))  # type: ignore[attr-defined]
            urb = next((each for each in session.pending if each.address == address), None)
            if urb is None:
                raise OSError(errno.EINVAL, "no such transfer")
            session.pending.remove(urb)
            urb.finish(-errno.ENOENT)
            session.done.append(urb)
            return
        if number == GET_SPEED:
            return
        if number == RESET:
            self.device.reset()
            return
        data = arg.resolve(0, size)  # type: ignore[attr-defined]
        if number == SUBMITURB:
            self._submit(session, Urb(data))
        elif number == GET_CAPABILITIES:
            data.update(0, struct.pack("=I", CAPABILITIES))
        elif number in (CLAIM, DISCONNECT_CLAIM):
            self._claim(session)
        elif number == RELEASE:
            session.claimed = False
        elif number == CLEAR_HALT:
            self.device.clear_halt()
        elif number in (GETDRIVER, IOCTL):
            raise OSError(errno.ENODATA, "no driver is bound")
        elif number not in (SETCONFIGURATION, SETINTERFACE, RESETEP):
            raise OSError(errno.ENOTTY, "not emulated")

    def _claim(self, session: Session) -> None:
        if any(each.claimed for each in self.sessions.values() if each is not session):
            raise OSError(errno.EBUSY, "claimed by another")
        session.claimed = True

    def _submit(self, session: Session, urb: Urb) -> None:
        if urb.type == CONTROL:
            raw = bytes(urb.buffer.retrieve())  # type: ignore[union-attr]
            setup, out = raw[:8], raw[8:]
            incoming = bool(setup[0] & 0x80)
            if setup[0] & 0x1F == 1:
                self._claim(session)
            try:
                answer = self.device.control(setup, b"" if incoming else out)
            except emulated.Stall:
                urb.finish(-errno.EPIPE)
            else:
                if incoming:
                    urb.buffer.update(8, answer)  # type: ignore[union-attr]
                urb.finish(0, len(answer) if incoming else len(out))
            session.done.append(urb)
        elif urb.type in (INTERRUPT, BULK) and urb.endpoint in self.device.endpoints:
            self._claim(session)
            if urb.endpoint & 0x80:
                session.pending.append(urb)
                return
            try:
                self.device.interrupt_out(urb.endpoint, bytes(urb.buffer.retrieve()))  # type: ignore[union-attr]
                urb.finish(0, urb.length)
            except emulated.Stall:
                urb.finish(-errno.EPIPE)
            session.done.append(urb)
        else:
            raise OSError(errno.ENOENT, "no such endpoint")

    def _pump(self) -> None:
        """Move packets into waiting transfers, at the endpoint's pace."""
        for session in self.sessions.values():
            while session.pending and self.present:
                if (wait_s := self.next_s - time.monotonic()) > 0:
                    self._pump_in(wait_s)
                    break
                urb = session.pending[0]
                try:
                    got = self.device.interrupt_in(urb.endpoint, urb.length)
                except (emulated.Stall, emulated.Overflow) as fault:
                    session.pending.popleft()
                    urb.finish(-errno.EPIPE if isinstance(fault, emulated.Stall) else -errno.EOVERFLOW)
                    session.done.append(urb)
                    continue
                if got is None:
                    break
                session.pending.popleft()
                urb.buffer.update(0, got)  # type: ignore[union-attr]
                urb.finish(0, len(got))
                session.done.append(urb)
                self.next_s = time.monotonic() + self.device.pace_s * -(-len(got) // 8)
        self._settle()

    def _pump_in(self, wait_s: float) -> None:
        if self.timer is not None:
            return

        def due(*_: object) -> bool:
            with self.lock:
                self.timer = None
                self._pump()
            return False

        self.timer = GLib.timeout_source_new(int(wait_s * 1000) + 1)
        self.timer.set_callback(due)
        self.timer.attach(self.context)


class Bus:
    """All plugged devices."""

    def __init__(self) -> None:
        self.testbed = UMockdev.Testbed.new()
        self.root = self.testbed.get_root_dir()
        self.upses: dict[str, emulated.TextUps] = {}
        self.devices: dict[str, emulated.Emulated] = {}
        self.nodes: dict[str, Node] = {}
        self.pulled: list[Node] = []
        self.addresses: dict[int, int] = {}
        self.hubs: set[str] = set()

    def make(self, kind: str, path: str, serial: str) -> None:
        """A device of a kind, plugged in."""
        ups = emulated.TextUps(serial or f"UPS{len(self.upses)}")
        device = getattr(emulated, kind)(ups)
        device.serial = serial
        self.upses[path] = ups
        self.plug(path, device)

    def plug(self, path: str, device: emulated.Emulated) -> None:
        """Put a device into a port; it is announced as udev would."""
        bus, _, ports = path.partition("-")
        number = int(bus)
        if number not in self.addresses:
            self.addresses[number] = 1
            self._announce(number, 1, f"usb{number}", HUB, "480", "", node=f"N: bus/usb/{number:03d}/001\n")
        tail = f"usb{number}"
        chain = ports.split(".")
        for depth in range(1, len(chain)):
            tail += f"/{number}-{'.'.join(chain[:depth])}"
            if tail not in self.hubs:
                self.hubs.add(tail)
                self.addresses[number] += 1
                at = self.addresses[number]
                self._announce(number, at, tail, HUB, "12", f"A: devpath={'.'.join(chain[:depth])}\n",
                               node=f"N: bus/usb/{number:03d}/{at:03d}\n")  # fmt: skip
        self.addresses[number] += 1
        address = self.addresses[number]
        file = f"/dev/bus/usb/{number:03d}/{address:03d}"
        tail += f"/{path}"
        node = Node(device, f"/sys{self._place(number)}/{tail}", self.root + file)
        self.testbed.attach_ioctl(file, node.handler)
        self.nodes[path], self.devices[path] = node, device
        strings = "".join(
            f"A: {name}={text}\n"
            for name, text in (
                ("manufacturer", device.strings.get(3)), ("product", device.strings.get(1)), ("serial", device.serial),
            )
            if text
        )  # fmt: skip
        descriptors = device.device_descriptor + device.config_descriptor
        self._announce(number, address, tail, descriptors, "1.5", f"A: devpath={ports}\n{strings}")

    def unplug(self, path: str) -> emulated.Emulated:
        """Pull a device out."""
        node = self.nodes.pop(path)
        node.vanish()
        self.pulled.append(node)
        Path(node.file).unlink()
        self.testbed.uevent(node.syspath, "remove")
        self.testbed.remove_device(node.syspath)
        return self.devices.pop(path)

    def _place(self, bus: int) -> str:
        return f"/devices/pci0000:00/0000:00:{bus:02x}.0"

    def _announce(self, bus: int, address: int, tail: str, descriptors: bytes, speed: str, more: str, node: str = "") -> None:
        vendor, product = struct.unpack_from("<HH", descriptors, 8)
        self.testbed.add_from_string(
            f"P: {self._place(bus)}/{tail}\n{node}E: DEVTYPE=usb_device\nE: SUBSYSTEM=usb\n"
            f"E: DEVNAME=/dev/bus/usb/{bus:03d}/{address:03d}\nE: BUSNUM={bus:03d}\nE: DEVNUM={address:03d}\n"
            f"E: MAJOR=189\nE: MINOR={(bus - 1) * 128 + address - 1}\n"
            f"A: busnum={bus}\nA: devnum={address}\nA: speed={speed}\nA: bConfigurationValue=1\n"
            f"A: idVendor={vendor:04x}\nA: idProduct={product:04x}\n{more}H: descriptors={descriptors.hex()}\n"
        )

    def perform(self, wish: dict[str, object]) -> object:
        """One line of the control socket."""
        path = str(wish["path"])
        match wish["do"]:
            case "unplug":
                self.unplugged = self.unplug(path)
                return None
            case "plug":
                self.plug(path, self.unplugged)
                return None
            case "set":
                target = self.upses[path] if hasattr(self.upses[path], str(wish["key"])) else self.devices[path]
                setattr(target, str(wish["key"]), wish["value"])
                return None
            case "heard":
                return [command.decode("latin-1") for command in self.upses[path].heard]
            case "log":
                return [
                    [each.hex() if isinstance(each, bytes) else each for each in entry] for entry in self.devices[path].log
                ]
        raise ValueError(f"can't {wish['do']}")


def serve(bus: Bus, path: str) -> None:
    """Take wishes on a unix socket, for as long as this process lives."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def talk(connection: socket.socket) -> None:
        with connection, connection.makefile("rw") as stream:
            for line in stream:
                answer: dict[str, object]
                try:
                    answer = {"ok": bus.perform(json.loads(line))}
                except (KeyError, ValueError, OSError, GLib.Error) as error:
                    answer = {"error": repr(error)}
                stream.write(json.dumps(answer) + "\n")
                stream.flush()

    def accept() -> None:
        while True:
            threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main() -> int:
    """Build the bus, run the command on it, end with its exit code."""
    if PRELOAD not in os.environ.get("LD_PRELOAD", ""):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "LD_PRELOAD": PRELOAD})
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", action="append", required=True, metavar="KIND@PATH[=SERIAL]")
    parser.add_argument("--control", required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    bus = Bus()
    for device in given.device:
        kind, _, rest = device.partition("@")
        path, _, serial = rest.partition("=")
        bus.make(kind, path, serial)
    serve(bus, given.control)
    environment = {**os.environ, "UMOCKDEV_DIR": bus.root, "QXFLEET_USB_CONTROL": given.control}
    child = subprocess.Popen([each for each in given.command if each != "--"], env=environment)
    with contextlib.suppress(KeyboardInterrupt):
        child.wait()
    shutil.rmtree(bus.root, ignore_errors=True)
    Path(given.control).unlink(missing_ok=True)
    sys.stdout.flush()
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
