"""Sockets and certificates for the network interfaces, or a sentence why one can't be had."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from qxfleet.config.access import Listen
from qxfleet.config.faces import Tls
from qxfleet.errors import CannotListen
from qxfleet.model.events import Event, EventKind, Phase, Severity

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent


async def bound_sockets(name: str, listen: Listen) -> list[socket.socket]:
    """One bound socket for every address the host has. Raises CannotListen with address and remedy; then none is open."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(name, str(listen), error.strerror or str(error), "no such host here: correct the address") from None
    bound: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        each = socket.socket(family, kind, protocol)
        each.setblocking(False)
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind(address)
        except OSError as error:
            for open_one in (*bound, each):
                open_one.close()
            raise CannotListen(name, str(listen), error.strerror or str(error), _remedy(error)) from None
        bound.append(each)
    return bound


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program has it: stop that, or choose another port"
        case errno.EACCES:
            return "ports below 1024 are root's: choose another"
        case _:
            return "no such address on this machine: correct it"


def trouble_of(agent: Agent, name: str) -> Callable[[Listen, CannotListen | None], None]:
    """Tells as an event ``cannot-listen`` that an address can't be had, and when it can."""

    def tell(listen: Listen, error: CannotListen | None) -> None:
        text = f"[{name}] listens on {listen} again" if error is None else str(error)
        phase, severity = (Phase.END, Severity.NOTICE) if error is None else (Phase.BEGIN, Severity.WARNING)
        now_us = agent.clock.wall_us()
        agent.bus.publish(Event(now_us, None, EventKind.AGENT, "cannot-listen", str(listen), text, severity, phase))

    return tell


def certified(tls: Tls) -> ssl.SSLContext:
    """A server's context with a certificate as its files have it now. Raises CannotListen."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise CannotListen("tls", f"{tls.cert} and {tls.key}", reason, "correct cert and key") from None
    return context


def unusable(tls: Tls) -> str | None:
    """Why a certificate and its key can't be served with; None: they can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except ssl.SSLError as error:
        mismatch = error.reason == "KEY_VALUES_MISMATCH"
        return "the key is that of another certificate" if mismatch else "they hold no certificate and key in PEM"
    except OSError as error:
        return error.strerror or str(error)
    return None


Stamp = tuple[tuple[int, int, int], ...]
"""What tells that files are others than before: inode, size and time of each."""


def stamp(tls: Tls | None) -> Stamp:
    """The files of a certificate as they are now; empty where one is missing."""
    try:
        found = [file.stat() for file in (tls.cert, tls.key)] if tls else []
    except OSError:
        return ()
    return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in found)


def changed(tls: Tls | None, before: Stamp) -> bool:
    """Whether a certificate's files are all there, and not those of before."""
    return stamp(tls) not in ((), before)
