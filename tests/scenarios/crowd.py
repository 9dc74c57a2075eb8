"""Clients in a process of their own, who only hold on: ``python -m tests.scenarios.crowd KIND PORT COUNT [CERTIFICATE]``.

``idle``: connections that say nothing; ``half``: half an HTTP request each; or a goodbye of ``test_upsd_tls``: TLS, a question,
and then all say goodbye in that way at the same time. One line on stdout when all is done; what is left is held until stdin ends.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import ssl
import sys
import time

AT_ONCE = 200
EACH_ADDRESS = 2000
"""Connections of one source address; then comes the next of 127.0.0.0/8."""


def hold(port: int, count: int, said: bytes) -> int:
    """Connect and say that, on many connections; how many were let in, if only for a while."""
    links: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    begun = made = 0
    give_up_s = time.monotonic() + 120
    while made < count and time.monotonic() < give_up_s:
        while begun < count and len(waiting.get_map()) < AT_ONCE:
            link = socket.socket()
            link.setblocking(False)
            link.bind((f"127.1.{(port + begun) % 250}.{1 + begun // EACH_ADDRESS}", 0))
            link.connect_ex(("127.0.0.1", port))
            waiting.register(link, selectors.EVENT_WRITE)
            links.append(link)
            begun += 1
        for key, _ in waiting.select(1.0):
            link = key.fileobj  # type: ignore[assignment]
            waiting.unregister(link)
            with contextlib.suppress(OSError):
                if said:
                    link.send(said)
                made += 1
    sys.stdout.write(f"{made} connected\n")
    sys.stdout.flush()
    sys.stdin.read()
    return made


def goodbyes(port: int, count: int, farewell: str, certificate: str) -> None:
    """All say goodbye when all are connected."""
    from tests.interfaces import test_upsd_tls

    trusting = ssl.create_default_context(cafile=certificate)
    clients = [test_upsd_tls.secured(port, trusting) for _ in range(count)]
    say = getattr(test_upsd_tls, farewell)
    for client in clients:
        client.settimeout(5)
        with contextlib.suppress(OSError):
            say(client)
    sys.stdout.write(f"{count} said goodbye\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if kind in ("idle", "half"):
        hold(port, count, b"" if kind == "idle" else b"GET / HTTP/1.1\r\nHost:")
    else:
        goodbyes(port, count, kind, sys.argv[4])
