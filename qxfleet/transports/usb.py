"""``auto``: a UPS behind a USB bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from qxfleet.errors import LinkLost, LinkTimeout, LinkUnavailable, QxfleetError
from qxfleet.model.wire import QUIET_S, Ask
from qxfleet.transports.base import LinkInfo, Transport
from qxfleet.transports.usb_bus import BUSES, Selection, UsbBuses, UsbDescription
from qxfleet.transports.usb_care import Care
from qxfleet.transports.usb_thread import UNPLUGGED, UsbThread

CLOSE_S: Final = 2.0

OPEN_S: Final = 10.0
"""An earlier opening may still be in its last transfer, which takes 5 s at most; opening itself takes milliseconds."""

SEEK_S: Final = 1.0
"""How often the buses are looked through for a device that is missing."""


class UsbTransport(Transport):
    """One UPS on USB; see ``transports.base.Transport``.

    The device is found anew at every opening, by what the selection says and never by its address. ``on_lost`` is called when
    it goes away while nothing is asked; ``on_healed`` with a remedy's name, its count and a sentence, when one was used.
    """

    def __init__(self, label: str, selection: Selection, *, novendor: bool = False, buses: UsbBuses = BUSES) -> None:
        self.label = f"{label} ({selection})" if str(selection) else label
        self.selection = selection
        self.care = Care()
        self.on_lost: Callable[[LinkLost], None] | None = None
        self._novendor = novendor
        self._buses = buses
        self._thread: UsbThread | None = None
        self._ending: UsbThread | None = None
        self._last: UsbDescription | None = None

    @property
    def on_healed(self) -> Callable[[str, int, str], None] | None:
        """Who is told of remedies."""
        return self.care.told

    @on_healed.setter
    def on_healed(self, told: Callable[[str, int, str], None] | None) -> None:
        self.care.told = told

    async def open(self) -> LinkInfo:
        """Find, open and claim the device. Raises LinkUnavailable or LinkTimeout."""
        if self._thread is not None:
            raise RuntimeError(f"{self.label}: is open already")
        if self._ending is not None:
            await asyncio.wait({self._ending.ended}, timeout=OPEN_S)
            if not self._ending.ended.done():
                raise LinkTimeout(self.label, "still busy with the last transfer of an earlier opening")
        thread = self._ending = UsbThread(
            self.label, self.selection, self._buses, self.care, novendor=self._novendor, vanished=self._vanished
        )
        last = self._last
        try:
            async with asyncio.timeout(OPEN_S):
                found = await thread.do(lambda: thread.open(last.path if last is not None else ""))
        except BaseException as error:
            thread.stop()
            if isinstance(error, TimeoutError) and not isinstance(error, QxfleetError):
                raise LinkTimeout(self.label, f"the device was not open within {OPEN_S:g} s") from None
            raise
        if last == found:
            self.care.openings_in_vain += 1
            self.care.used("reopens", f"{found.path} was opened again")
        self._last = found.bare()
        self._thread = thread
        healed = f", {self.care}" if str(self.care) else ""
        facts = {"ups.vendorid": f"{found.vendor_id:04x}", "ups.productid": f"{found.product_id:04x}"}
        return LinkInfo(f"usb:{found.path}", f"{found.ids} {thread.bridge.name}{healed}", facts)

    async def exchange(self, ask: Ask) -> bytes:
        """One command and its reply; see ``transports.base.Transport``."""
        thread = self._opened()
        return await thread.do(lambda: thread.exchange(ask))

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Throw away replies that wait in the bridge; see ``transports.base.Transport``."""
        thread = self._opened()
        return await thread.do(lambda: thread.drain(round(listen_s * 1000)))

    async def close(self) -> None:
        """Give the device back; a transfer under way ends by itself, in 5 s at most, and is not waited for that long."""
        self._thread = None
        if self._ending is not None:
            self._ending.stop()
            await asyncio.wait({self._ending.ended}, timeout=CLOSE_S)
            if self._ending.ended.done():
                self._ending = None

    async def wait_back(self, limit_s: float) -> None:
        """Wait as long as told before opening again; a device that is missing is watched for, and ends the wait by coming."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + limit_s
        missing = False
        while (left_s := end_s - loop.time()) > 0:
            try:
                there = bool(self.selection.among(await loop.run_in_executor(None, self._buses.devices)))
            except LinkUnavailable:
                there = True
            if there and missing:
                return
            missing = missing or not there
            await asyncio.sleep(min(left_s, SEEK_S) if missing else left_s)

    def _opened(self) -> UsbThread:
        if self._thread is None or self._thread.lost:
            raise LinkLost(self.label, self._thread.lost if self._thread is not None else "not open", UNPLUGGED)
        return self._thread

    def _vanished(self) -> None:
        if self._thread is not None and self._thread.lost and self.on_lost is not None:
            self.on_lost(LinkLost(self.label, self._thread.lost, UNPLUGGED))
