"""The thread of one opened USB device: everything that touches it happens here, one thing after another.

What goes wrong on the bus climbs the ladder of usb.md sections 6, 9.1 and 11, see :data:`~qxfleet.transports.usb_care.REMEDIES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import queue
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import usb.core

from qxfleet.errors import (
    LinkError,
    LinkLost,
    LinkUnavailable,
    QxfleetError,
    ReplyMalformed,
    ReplyRefused,
    ReplyTimeout,
)  # fmt: skip
from qxfleet.model.wire import Ask
from qxfleet.transports.bridges import BRIDGES, Bridge
from qxfleet.transports.usb_bus import Selection, UsbBuses, UsbDescription, holders
from qxfleet.transports.usb_care import RESETS_PER_HOUR, Care
from qxfleet.transports.usb_device import STALE_MS, STALE_READS, Stopped, UsbDevice
from qxfleet.transports.usb_ids import RULES_FILE, udev_rule

WATCH_S: Final = 0.5
"""How often an idle link looks whether its device is still there."""

OVERFLOWS: Final = 3
"""So many in a row are a wedge that only a reset ends (usb.md section 9.1)."""

LONGEST_S: Final = 10.0
"""What an exchange may take beyond its deadline: phoenix flushes for 8 s at worst."""

UNPLUGGED: Final = "is the cable out, or the UPS's interface off?"

T = TypeVar("T")


class UsbThread:
    """Made by and for one event loop. ``vanished`` is called on it when the device goes away while nothing is asked."""

    def __init__(
        self, label: str, selection: Selection, buses: UsbBuses, care: Care, *, novendor: bool, vanished: Callable[[], None]
    ) -> None:
        self.label = label
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self.lost = ""
        self.bridge: Bridge
        self._selection = selection
        self._buses = buses
        self._care = care
        self._novendor = novendor
        self._vanished = vanished
        self._found: UsbDescription | None = None
        self._device: UsbDevice | None = None
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._stale = False
        self._failed = b""
        self._faults = 0
        self._overflows = 0
        threading.Thread(target=self._run, name=f"qxfleet {label}", daemon=True).start()

    async def do(self, work: Callable[[], T]) -> T:
        """Have the thread do something; its result or error."""
        done: asyncio.Future[T] = self.loop.create_future()

        def job() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
                self._tell(_fail, done, error)
            else:
                self._tell(_succeed, done, result)

        self._jobs.put(job)
        return await done

    def stop(self) -> None:
        """End after the transfer under way."""
        self._stopping.set()
        self._jobs.put(None)

    def _run(self) -> None:
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=WATCH_S)
                except queue.Empty:
                    self._watch()
                    continue
                if job is None:
                    break
                job()
        finally:
            if self._device is not None:
                self._device.close()
                self._device = None
            self._found = None
            self._tell(_succeed, self.ended, None)

    def _tell(self, what: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self.loop.call_soon_threadsafe(what, *args)

    def _watch(self) -> None:
        if self._device is not None and self._found is not None and not self.lost and not self._buses.present(self._found):
            self.lost = "unplugged"
            self._tell(self._vanished)

    # -- opening

    def open(self, last_path: str) -> UsbDescription:
        """Find the device and claim it; of several, the one at ``last_path``. Raises LinkUnavailable."""
        found = self._selection.pick(self._buses.devices(fresh=True), self.label, last_path)
        self.bridge = BRIDGES[self._selection.bridge_of(found) or ""]
        device = UsbDevice(found.raw, langid=self._selection.langid, novendor=self._novendor)
        device.stopping = self._stopping.is_set
        try:
            if self._care.reset_at_opening():
                self._reset_now(device, f"{found.path} gave no answer after it was opened again")
                raise LinkUnavailable(self.label, "was reset, and is looked for again")
            with self._buses.lock:
                device.open()
        except usb.core.USBError as error:
            device.close()
            raise self._unavailable(found, error) from error
        except BaseException:
            device.close()
            raise
        self._device, self._found = device, found
        return found

    def _unavailable(self, found: UsbDescription, error: usb.core.USBError) -> LinkUnavailable:
        label = self.label
        match error.errno:
            case errno.EACCES | errno.EPERM:
                rule = udev_rule(found.vendor_id, found.product_id)
                remedy = (
                    f"put this line into /etc/udev/rules.d/{RULES_FILE}, then "
                    f"`udevadm control --reload && udevadm trigger --subsystem-match=usb`: {rule}"
                )
                return LinkUnavailable(label, f"no permission for {found.node}", remedy, hopeless=True)
            case errno.EBUSY:
                who = ", ".join(holders(found.node)) or "another program"
                return LinkUnavailable(label, f"{found} is held by {who}", "is a NUT driver running?", hopeless=True)
            case errno.ENODEV | errno.ENOENT:
                return LinkUnavailable(label, f"{found.path} went away while it was opened", UNPLUGGED)
        return LinkUnavailable(label, f"{found} can't be opened: {_words(error)}")

    # -- asking

    def exchange(self, ask: Ask) -> bytes:
        """One reply, cut at its end. Raises ReplyError or LinkLost."""
        device = self._claimed()
        if self._failed:
            if self._failed == ask.request:
                self._used("repeats", f"{ask.request!r} asked again")
            self._failed = b""
        device.patience_ms = round(ask.deadline_s * 1000)
        device.until_s = time.monotonic() + ask.deadline_s + LONGEST_S
        try:
            if self._stale:
                self._empty(device, STALE_MS)
            reply = self.bridge.exchange(device, ask)
        except (usb.core.USBError, NotImplementedError) as error:
            self._failed, self._stale = ask.request, True
            raise self._mend(device, error) from error
        except Stopped:
            raise LinkLost(self.label, "closed during an exchange") from None
        self._faults = self._overflows = 0
        frame, end, _ = reply.partition(bytes((ask.end,)))
        if ask.binary_len and reply[ask.binary_len : ask.binary_len + 1] == bytes((ask.end,)):
            frame, end = reply[: ask.binary_len], bytes((ask.end,))
        if not end:
            frame = frame.rstrip(b"\0")
        if not frame.strip(b"\0"):
            self._failed, self._stale = ask.request, True
            raise ReplyTimeout()
        if len(frame) > ask.max_len:
            self._stale = True
            raise ReplyMalformed("long", frame)
        self._tell(self._care.well)
        return frame

    def drain(self, listen_ms: int) -> int:
        """Empty the bridge; the number of bytes. Raises LinkLost."""
        device = self._claimed()
        device.until_s = time.monotonic() + LONGEST_S
        try:
            return self._empty(device, max(STALE_MS, listen_ms))
        except usb.core.USBError as error:
            raise self._gone(error) from error
        except Stopped:
            raise LinkLost(self.label, "closed during a drain") from None

    def _claimed(self) -> UsbDevice:
        if self._device is None or self.lost:
            raise LinkLost(self.label, self.lost or "not open", UNPLUGGED)
        return self._device

    def _empty(self, device: UsbDevice, listen_ms: int) -> int:
        """Throw away what waits in the bridge: ``listen_ms`` for the first packet, STALE_MS for each further one."""
        self._stale = False
        inbox = device.inbox
        if not self.bridge.queued or inbox is None:
            return 0
        thrown = device.throw_away(inbox, listen_ms, 1)
        if thrown:
            thrown += device.throw_away(inbox, STALE_MS, STALE_READS)
        self._used("drains", f"{thrown} bytes of an earlier reply thrown away" if thrown else "")
        return thrown

    # -- mending

    def _mend(self, device: UsbDevice, error: usb.core.USBError | NotImplementedError) -> QxfleetError:
        """Climb the ladder by one step; the error that is left for the session."""
        number = getattr(error, "errno", None)
        if isinstance(error, usb.core.USBTimeoutError) or number == errno.ETIMEDOUT:
            return ReplyTimeout()
        if number in (errno.ENODEV, errno.ENOENT):
            return self._gone(error)
        if number == errno.EPIPE:
            if device.endpoint == 0:
                return ReplyRefused("stall")
            if not self._clear_halt(device):
                return self._reset(device, f"endpoint {device.endpoint:#04x} stalled and stays so")
            return ReplyTimeout("stall")
        if number == errno.EOVERFLOW:
            self._overflows += 1
            if self._overflows >= OVERFLOWS:
                return self._reset(device, f"{self._overflows} overflows in a row")
            if self._overflows > 1:
                self._clear_halt(device)
            return ReplyTimeout("overflow")
        self._faults += 1
        if self._faults < 2:
            return ReplyTimeout(_words(error))
        if self._care.openings_in_vain:
            return self._reset(device, f"{_words(error)}, again after it was opened anew")
        return self._lose(f"{_words(error)}, twice in a row")

    def _used(self, remedy: str, text: str) -> None:
        self._tell(self._care.used, remedy, text)

    def _clear_halt(self, device: UsbDevice) -> bool:
        try:
            device.raw.clear_halt(device.endpoint)
        except usb.core.USBError:
            return False
        self._used("halts-cleared", f"endpoint {device.endpoint:#04x} was made to start afresh")
        return True

    def _reset(self, device: UsbDevice, why: str) -> LinkError:
        """Reset the device if that may be done; either way the handle is done with."""
        if not self._care.may_reset():
            return self._lose(f"{why}; it was reset {RESETS_PER_HOUR} times in the last hour and is left alone")
        self._reset_now(device, why)
        return self._lose(f"{why}: the device was reset")

    def _reset_now(self, device: UsbDevice, why: str) -> None:
        with self._buses.lock, contextlib.suppress(usb.core.USBError, NotImplementedError):
            device.raw.reset()
        self._used("resets", why)

    def _gone(self, error: Exception) -> LinkLost:
        number = getattr(error, "errno", None)
        return self._lose("unplugged" if number in (errno.ENODEV, errno.ENOENT) else _words(error))

    def _lose(self, why: str) -> LinkLost:
        self.lost = self.lost or why
        return LinkLost(self.label, self.lost, UNPLUGGED if self.lost == "unplugged" else "")


def _words(error: Exception) -> str:
    """libusb's own words for an error, with its number where there is one."""
    code = getattr(error, "backend_error_code", None)
    text = (getattr(error, "strerror", None) or str(error)).lower()
    return f"{text} (libusb {code})" if code is not None else text


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
