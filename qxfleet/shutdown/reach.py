"""Whether an address answers at all: ICMP echo (RFC 792, RFC 4443), and what the kernel's ARP table says of it.

A host that refuses a connection is up: its kernel said so. One that is off answers neither an echo nor, on the same network, ARP.
Echoes go through a ping socket, which most systems grant to everybody (``net.ipv4.ping_group_range``), or a raw one where the
agent may open it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from pathlib import Path

ARP_TABLE = Path("/proc/net/arp")
COMPLETE = 0x2
"""The flag of an entry whose hardware address is known (Linux: include/uapi/linux/if_arp.h, ATF_COM)."""

ECHO = {socket.AF_INET: (8, 0, socket.IPPROTO_ICMP), socket.AF_INET6: (128, 129, socket.getprotobyname("ipv6-icmp"))}
"""Type of the request, of its reply, and the protocol."""


async def answers(host: str, within_s: float) -> bool | None:
    """True: it answers an echo, or ARP. False: it was asked and does not. None: it can't be asked from here."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(within_s):
            found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except (OSError, TimeoutError):
        return None
    asked = False
    for family, _, _, _, address in found:
        if family not in ECHO:
            continue
        echo = await _echo(socket.AddressFamily(family), str(address[0]), within_s)
        if echo or _answers_arp(str(address[0])):
            return True
        asked = asked or echo is False
    return False if asked else None


async def _echo(family: socket.AddressFamily, address: str, within_s: float) -> bool | None:
    request, reply, protocol = ECHO[family]
    sender, raw = _socket(family, protocol)
    if sender is None:
        return None
    loop, token = asyncio.get_running_loop(), os.urandom(16)
    number = int.from_bytes(token[:2], "big")
    packet = struct.pack("!BBHHH", request, 0, 0, number, 1) + token
    if family == socket.AF_INET:
        packet = struct.pack("!BBHHH", request, 0, _checksum(packet), number, 1) + token
    try:
        async with asyncio.timeout(within_s):
            sender.connect((address, 0))
            await loop.sock_sendall(sender, packet)
            while True:
                said = await loop.sock_recv(sender, 2048)
                if raw and family == socket.AF_INET:
                    said = said[(said[0] & 0x0F) * 4 :]
                if said[:1] == bytes((reply,)) and token in said:
                    return True
    except TimeoutError:
        return False
    except OSError as error:
        return False if error.errno in (errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ECONNREFUSED) else None
    finally:
        sender.close()


def _socket(family: socket.AddressFamily, protocol: int) -> tuple[socket.socket | None, bool]:
    """A socket for echoes, and whether it is a raw one."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        with contextlib.suppress(OSError):
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            return made, kind == socket.SOCK_RAW
    return None, False


def _answers_arp(address: str) -> bool:
    """Whether the kernel knows the hardware address; it forgets one that stays silent while it is asked, in some ten seconds."""
    try:
        lines = ARP_TABLE.read_text().splitlines()[1:]
    except OSError:
        return False
    rows = (line.split() for line in lines)
    return any(row[0] == address and int(row[2], 16) & COMPLETE for row in rows if len(row) > 2)


def _checksum(packet: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
