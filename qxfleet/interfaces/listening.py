"""Sockets for the network faces, or a sentence why an address can't be had."""

from __future__ import annotations

import asyncio
import errno
import socket

from qxfleet.config.access import Listen
from qxfleet.errors import CannotListen


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
