"""The interfaces' process: what listens on the network, on a mirror of the fleet. Started by the core, which ends it, too."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import resource
import signal
import socket
import sys
from typing import cast

from qxfleet.agent.agent import Agent
from qxfleet.config.load import Config
from qxfleet.interfaces.link import next_down
from qxfleet.interfaces.logs import set_up
from qxfleet.interfaces.mirror import Mirror
from qxfleet.interfaces.network import PARTS

log = logging.getLogger("qxfleet")

PR_SET_PDEATHSIG = 1
STOP_S = 3.0


async def serve(link: socket.socket) -> None:
    """Keep up the mirror and serve it, until the core ends it or is gone."""
    link.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=link)
    try:
        config = await next_down(reader)
    except (asyncio.IncompleteReadError, ConnectionError):
        return  # the core went away while this started
    assert isinstance(config, Config)
    mirror = Mirror(config, reader, writer)
    for make in PARTS:
        mirror.parts = (*mirror.parts, make(cast(Agent, mirror)))

    def apply(config: Config) -> None:
        for part in mirror.parts:
            part.apply(config)

    keeping_up = asyncio.create_task(mirror.keep_up(apply), name="mirror")
    begun = asyncio.create_task(mirror.begun.wait())
    await asyncio.wait({begun, keeping_up}, return_when=asyncio.FIRST_COMPLETED)
    if keeping_up.done():
        begun.cancel()
        return await mirror.store.close()
    for part in mirror.parts:
        await part.start()
    gc.collect()
    gc.freeze()
    mirror.say("alive", number=0)
    await keeping_up
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            for part in reversed(mirror.parts):
                await part.stop()
    await mirror.store.close()


def main() -> None:
    """Run on the socket whose descriptor is the first argument; the second is the level of the log."""
    link = socket.socket(fileno=int(sys.argv[1]))
    set_up(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(serve(link))


if __name__ == "__main__":
    main()
