"""A host whose port closes long before its link, in a network of its own: real ARP, real ICMP, a real listener."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
from collections.abc import Iterator

import pytest

from qxfleet.shutdown.effects import Port, RealEffects
from qxfleet.shutdown.reach import answers
from tests.parts import absent

NUMBERS = itertools.count(os.getpid() % 200)
LISTEN = "import socket, time; s = socket.create_server(('', 22)); time.sleep(600)"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Host:
    """A network namespace behind a pair of virtual links, and what listens in it."""

    def __init__(self) -> None:
        number = next(NUMBERS) % 250
        self.name, self.here, self.there = f"qxt{os.getpid()}", f"qxa{number}", f"qxb{number}"
        self.address = f"10.213.{number}.2"
        ip("netns", "add", self.name)
        ip("link", "add", self.here, "type", "veth", "peer", "name", self.there, "netns", self.name)
        ip("addr", "add", f"10.213.{number}.1/24", "dev", self.here)
        ip("link", "set", self.here, "up")
        self.inside("ip", "addr", "add", f"{self.address}/24", "dev", self.there)
        self.link("up")
        self.listener = subprocess.Popen(["ip", "netns", "exec", self.name, "python3", "-S", "-c", LISTEN])

    def inside(self, *words: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, *words], check=True, capture_output=True)

    def link(self, state: str) -> None:
        self.inside("ip", "link", "set", self.there, state)

    def close(self) -> None:
        self.listener.kill()
        self.listener.wait()

    def gone(self) -> None:
        self.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.name)


@pytest.fixture
def host() -> Iterator[Host]:
    try:
        made = Host()
    except (OSError, subprocess.CalledProcessError) as error:
        absent(f"no network namespace can be made here (as root: apt-get install -y iproute2): {error}")
    yield made
    made.gone()


async def test_a_port_that_closes_and_a_link_that_goes(host: Host) -> None:
    effects = RealEffects()
    async with asyncio.timeout(15):
        while await effects.port(host.address, 22, 1.0) is not Port.OPEN:
            await asyncio.sleep(0.1)
    assert await answers(host.address, 1.0) is True
    host.close()
    assert await effects.port(host.address, 22, 1.0) is Port.REFUSED
    assert await answers(host.address, 1.0) is True
    host.link("down")
    async with asyncio.timeout(30):
        while await answers(host.address, 0.5):
            assert await effects.port(host.address, 22, 0.5) is Port.SILENT
    assert await effects.port(host.address, 22, 1.0) is Port.SILENT
    assert await answers(host.address, 0.5) is False


async def test_this_machine_answers_and_a_name_that_is_none_says_nothing() -> None:
    assert await answers("127.0.0.1", 1.0) is True
    assert await answers("no-such-host.invalid", 2.0) is None
