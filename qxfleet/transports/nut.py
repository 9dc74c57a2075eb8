"""``nut://host:port/name``: a UPS that a NUT server tells of, with the table ``nut``.

What the table asks is the protocol's own words without the UPS's name, which stands here; a reply is lines without what every
line of it begins with. FACTS is LIST VAR once more, FORMS asks of each writable variable what it takes. Source: RFC 9271
(LIST, GET, SET, INSTCMD, TRACKING).
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Final

from qxfleet.errors import LinkError, LinkLost, LinkUnavailable, ReplyMalformed, ReplyTimeout
from qxfleet.model.nut_port import UPS_NAME
from qxfleet.model.options import UpsdAccess
from qxfleet.model.wire import QUIET_S, Ask
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.upsd import Upsd, server_of

TRACK_S: Final = 3.0
"""How long the server's word on an order is waited for; after that readings tell what became of it. A driver takes a poll of
its own to carry one out, 2 s by default."""

ASK_TRACKING_S: Final = 0.2

MOST_SETTINGS: Final = 100
"""Writable variables that are looked into."""

HERE: Final = secrets.token_hex(6)
"""This agent, among those whose NUT ports name each other's UPSes."""

_LISTED = re.compile(rf'UPS ({UPS_NAME}) "(.*)"')

PATH: Final = "qx.nut.path"
MOST_HOPS: Final = 8

GONE = {
    "DATA-STALE": "the NUT server has heard nothing new of this UPS for too long (DATA-STALE)",
    "DRIVER-NOT-CONNECTED": "the NUT server's driver for this UPS does not run (DRIVER-NOT-CONNECTED)",
}
"""Refusals that say that there is no contact with the UPS, behind a server that there is contact with."""


class NutTransport:
    """One UPS of a NUT server; the connection is shared by all its UPSes."""

    on_lost: Callable[[LinkLost], None] | None = None
    on_healed: Callable[[str, int, str], None] | None = None

    def __init__(self, label: str, access: UpsdAccess, ups: str) -> None:
        self.label = label
        self.access = access
        self.ups = ups
        self._upsd: Upsd | None = None
        self._last: Upsd | None = None
        self._busy = False

    async def open(self) -> LinkInfo:
        """Join the server's connection; see ``transports.base.Transport``. Whether it knows the UPS, the first question
        shows."""
        if self._upsd is not None:
            raise RuntimeError(f"{self.label}: is open already")
        self._last = upsd = server_of(self.access)
        try:
            await upsd.join(self._lost)
        except LinkError as error:
            raise self._own(error) from error
        self._upsd = upsd
        how = "TLS" if self.access.tls else "clear text"
        return LinkInfo(f"{upsd.peer}:{self.access.port}/{self.ups}", f"{upsd.about}, {how}")

    async def close(self) -> None:
        """Leave; see ``transports.base.Transport``."""
        upsd, self._upsd = self._upsd, None
        if upsd is not None:
            upsd.leave(self._lost)

    async def wait_back(self, limit_s: float) -> None:
        """Wait as long as told before opening again; where the server is away, until it is back."""
        if self._last is None or self._last.up.is_set():
            await asyncio.sleep(limit_s)
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._last.up.wait()
        except TimeoutError:
            return

    async def drain(self, listen_s: float = QUIET_S) -> int:
        """Nothing is ever left over: an answer is whole, or the connection has ended."""
        return 0

    def start(self, ask: Ask, then: Callable[[bytes | BaseException], None], *, calm: bool = False) -> bool:
        """Only by :meth:`exchange`."""
        return False

    async def exchange(self, ask: Ask) -> bytes:
        """One question or order; see ``transports.base.Transport``. It takes as long as servers are given, whatever ``ask`` says.

        A server's word that there is no contact with the UPS is a LinkLost.
        """
        self._busy = True
        try:
            return await self._exchange(ask.request.decode().rstrip("\r"))
        except LinkError as error:
            raise self._own(error) from error
        finally:
            self._busy = False

    async def _exchange(self, text: str) -> bytes:
        match text.split(" ", 2):
            case ["LIST", "VAR"]:
                return _joined(self._through(await self._list("VAR", "VAR")))
            case ["LIST", "FACTS"]:
                return _joined(await self._list("VAR", "VAR"))
            case ["LIST", "RW"]:
                return _joined(await self._list("RW", "RW"))
            case ["LIST", "CMD"]:
                return _joined(await self._list("CMD", "CMD") if self.access.user_file else [])
            case ["LIST", "FORMS"]:
                return _joined(await self._forms() if self.access.user_file else [])
            case ["INSTCMD", *rest]:
                return await self._order(" ".join(["INSTCMD", self.ups, *rest]))
            case ["SET", "VAR", rest]:
                return await self._order(f"SET VAR {self.ups} {rest}")
            case _:
                raise ReplyMalformed("text")

    async def _ask(self, text: str, *, first: bool = False) -> list[str]:
        if self._upsd is None:
            raise LinkLost(self.label, "not open")
        lines = await self._upsd.ask(text, first=first)
        if lines and lines[0].startswith("ERR "):
            await self._refused(lines[0].removeprefix("ERR ").strip(), text)
        return lines

    async def _refused(self, code: str, text: str) -> None:
        """What ends the contact; anything else is an answer."""
        if code in GONE:
            raise LinkLost(self.label, GONE[code])
        if code == "UNKNOWN-UPS" and self._upsd is not None:
            names = sorted(name for name, _ in _upses(await self._upsd.ask("LIST UPS")))
            listed = f"it has {', '.join(names[:20])}{' and more' if len(names) > 20 else ''}" if names else "it has none"
            raise LinkUnavailable(self.label, f"the NUT server knows no UPS named {self.ups}", listed, hopeless=True)
        if text.startswith("LIST"):
            raise LinkUnavailable(self.label, f"the NUT server does not answer {text}: {code}", hopeless=code == "ACCESS-DENIED")

    async def _list(self, what: str, begins: str, *more: str) -> list[str]:
        """The lines of a list without what each begins with."""
        asked = " ".join((what, self.ups, *more))
        head = " ".join((begins, self.ups, ""))
        lines = await self._ask(f"LIST {asked}")
        if wrong := next((line for line in lines if not line.startswith(head)), None):
            raise ReplyMalformed("lead", wrong.encode())
        return [line.removeprefix(head) for line in lines]

    def _through(self, lines: list[str]) -> list[str]:
        """The values with the agents they came through. Raises LinkUnavailable for those that come from here."""
        head = f"{PATH} "
        path = next((line.removeprefix(head).strip('"').split() for line in lines if line.startswith(head)), [])
        if HERE in path or len(path) >= MOST_HOPS:
            raise LinkUnavailable(
                self.label, "what the NUT server tells of this UPS comes from this agent itself, in a circle"
                if HERE in path else f"what the NUT server tells of this UPS went through {len(path)} agents already",
                "name the NUT server of the machine that the UPS hangs on", hopeless=True,
            )  # fmt: skip
        return [*(line for line in lines if not line.startswith(head)), f'{head}"{" ".join((*path, HERE))}"']

    async def _forms(self) -> list[str]:
        """What each writable variable takes: its type, and where that says so its choices or its range."""
        found: list[str] = []
        for line in (await self._list("RW", "RW"))[:MOST_SETTINGS]:
            name = line.partition(" ")[0]
            if name.startswith(("driver.", "server.")):
                continue
            kind = (await self._ask(f"GET TYPE {self.ups} {name}"))[0]
            head = f"TYPE {self.ups} {name} "
            if not kind.startswith(head):
                continue
            words = kind.removeprefix(head)
            found.append(f"TYPE {name} {words}")
            for what in ("ENUM", "RANGE"):
                if what in words.split():
                    lines = await self._list(what, what, name)
                    found += [f"{what} {name} {each.removeprefix(name).strip()}" for each in lines]
        return found

    async def _order(self, text: str) -> bytes:
        """The server's last word on an order, ``SUCCESS`` where the UPS's driver has carried it out.

        "OK" alone says that the driver was told, and no more: that is silence, and readings must tell. Sent once.
        """
        answer = (await self._ask(text, first=True))[0]
        words = answer.split(" ")
        if words[:2] == ["OK", "TRACKING"] and len(words) == 3:
            answer = await self._tracked(words[2])
        if answer.startswith("OK") or answer == "PENDING":
            raise ReplyTimeout("silence")
        return answer.encode()

    async def _tracked(self, key: str) -> str:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + TRACK_S
        while True:
            answer = (await self._ask(f"GET TRACKING {key}", first=True))[0]
            if answer != "PENDING" or loop.time() >= until_s:
                return answer
            await asyncio.sleep(ASK_TRACKING_S)

    # -- the end of a connection

    def _lost(self, error: LinkLost) -> None:
        upsd, self._upsd = self._upsd, None
        if upsd is not None and not self._busy and self.on_lost is not None:
            self.on_lost(LinkLost(self.label, error.reason, error.remedy))

    def _own(self, error: LinkError) -> LinkError:
        """The server's error as this UPS's own."""
        if error.port == self.label:
            return error
        if isinstance(error, LinkUnavailable):
            return LinkUnavailable(self.label, error.reason, error.remedy, hopeless=error.hopeless)
        return type(error)(self.label, error.reason, error.remedy)


def _joined(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


async def upses_of(access: UpsdAccess) -> list[tuple[str, str]]:
    """Names and descriptions of the UPSes of a NUT server. Raises LinkError."""
    upsd = server_of(access)

    def lost(error: LinkLost) -> None:
        """The question raises it."""

    await upsd.join(lost)
    try:
        lines = await upsd.ask("LIST UPS")
    finally:
        upsd.leave(lost)
    return _upses(lines)


def _upses(lines: list[str]) -> list[tuple[str, str]]:
    """Names and descriptions from LIST UPS; a name that no port can have is passed over."""
    found: list[tuple[str, str]] = []
    for line in lines:
        if match := _LISTED.fullmatch(line):
            text = match[2].replace('\\"', '"').replace("\\\\", "\\")
            found.append((match[1], "" if text in ("Unavailable", "Description unavailable") else text))
    return found
