"""A scripted device and a session on virtual time, for stories about one link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from qxfleet.errors import LinkLost, LinkUnavailable
from qxfleet.model.events import LinkChange, Observation, Trouble
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Identity, Reading
from qxfleet.session.session import Session
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import VirtualClock

STATUS = "(230.0 230.0 230.0 040 50.0 27.1 25.0 00001000\r"
RATING = "#230.0 004 024.0 50.0\r"
VENDOR = "#ACME UPS CO     RT-3000    VT12046Q  \r"


class Device:
    """Answers from a table; ``hook`` may answer first (None: silence is not decided, "" : silence)."""

    def __init__(self, **replies: str) -> None:
        self.replies: dict[str, str] = {"Q1": STATUS, "F": RATING, "I": VENDOR, **replies}
        self.hook: Callable[[str], str | None] = lambda request: None
        self.log: list[tuple[float, str]] = []
        self.plugged = True
        self.opened = 0

    def __call__(self, request: bytes) -> bytes | None:
        if not self.plugged:
            raise LinkLost("u", "gone")
        text = request.decode("latin-1").rstrip("\r")
        self.log.append((asyncio.get_running_loop().time(), text))
        reply = self.hook(text)
        if reply is None:
            reply = self.replies.get(text, text + "\r")
        return reply.encode("latin-1") or None

    def asked(self, text: str | None = None) -> list[str]:
        return [what for _, what in self.log if text is None or what == text]


class Link(InProcTransport):
    """The way to a scripted device, which may be unplugged."""

    def __init__(self, device: Device) -> None:
        super().__init__("u", device)
        self.device = device

    async def open(self) -> LinkInfo:
        self.device.opened += 1
        if not self.device.plugged:
            raise LinkUnavailable("u", "no such port")
        return await super().open()


class Contact:
    """A session being run, with ticks each quarter of a second."""

    def __init__(self, device: Device, identity: Identity | None = None, **options: object) -> None:
        self.device = device
        self.seen: list[Observation] = []
        loop = asyncio.get_running_loop()
        self.clock = VirtualClock(loop)
        given = {"dialect": "megatec", **options}
        self.session = Session(
            UpsOptions("u", "/dev/x", **given), Link(device), self.seen.append, self.clock,  # type: ignore[arg-type]
            identity=identity, phase_s=loop.time(),
        )  # fmt: skip

    async def __aenter__(self) -> Contact:
        self.tasks = [asyncio.create_task(self.session.run()), asyncio.create_task(self._tick())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self.session.wake(self.clock.monotonic())
            await asyncio.sleep(0.25)

    def links(self) -> list[str]:
        return [item.link.value for item in self.seen if isinstance(item, LinkChange)]

    def readings(self) -> list[Reading]:
        return [item for item in self.seen if isinstance(item, Reading)]

    def troubles(self) -> list[str]:
        return [item.reason for item in self.seen if isinstance(item, Trouble)]
