"""``nut://host:port/name``: a UPS of a NUT server, as it is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

SCHEME = "nut://"
PORT = 3493
"""Of the protocol (RFC 9271)."""

_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^][:/?#@\s]+)(?::([0-9]{1,5}))?"
_SERVER = re.compile(_HOST)
UPS_NAME = r"[A-Za-z0-9._-]{1,64}"
_UPS = re.compile(rf"{_HOST}/({UPS_NAME})")


@dataclass(frozen=True, slots=True)
class NutPort:
    """A port taken apart; ``ups`` is empty where only the server is named."""

    host: str
    port: int = PORT
    ups: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{SCHEME}{host}:{self.port}" + (f"/{self.ups}" if self.ups else "")


def nut_port(text: str) -> NutPort:
    """A port of a UPS. Raises ValueError that says what is wrong and what to write."""
    rest = text.removeprefix(SCHEME)
    match = _UPS.fullmatch(rest)
    if match is None:
        host = _SERVER.fullmatch(rest.rstrip("/"))
        if host is not None:
            there = f"{SCHEME}{rest.rstrip('/')}"
            raise ValueError(f"the name of the UPS is missing, as in {there}/ups; `qxfleet discover {there}` lists them")
        raise ValueError(f"expected {SCHEME}host/name or {SCHEME}host:port/name; user and password belong into [[upsd]]")
    return NutPort(match[1].strip("[]"), _number(match[2]), match[3])


def nut_server(text: str) -> NutPort:
    """A server. Raises ValueError."""
    match = _SERVER.fullmatch(text.removeprefix(SCHEME).rstrip("/"))
    if match is None:
        raise ValueError('expected "host" or "host:port"')
    return NutPort(match[1].strip("[]"), _number(match[2]))


def _number(text: str | None) -> int:
    port = PORT if text is None else int(text)
    if not 1 <= port <= 65535:
        raise ValueError(f"expected a TCP port from 1 to 65535, found {port}")
    return port
