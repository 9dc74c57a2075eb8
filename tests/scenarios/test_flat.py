"""250 UPSes with every interface and clients at all of them: the memory of both processes stays what it is after a while."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import random
import ssl
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.hunt import descriptors, resident_kib
from tests.interfaces.nut_stage import free_port
from tests.interfaces.test_upsd import certificate
from tests.scenarios.play import SOAK, Play, family, measured, until

MINUTES, WARM_MINUTES = (120.0, 10.0) if SOAK else (3.0, 1.0)
MEASURED_EVERY_S = 10.0
GROWTH_KIB = (4096, 4096) if SOAK else (16384, 16384)
"""What core and interfaces may grow by from the first to the last tenth of what comes after warming up. In the first minutes
caches, the register of batteries and the allocator's pools fill: the short form finds a leak of megabytes a minute, no more."""

UPSES = 250
RETURNING = 20
"""NUT clients that stay, event streams and monitors of each kind."""

USERS = """
[[user]]
name = "op"
password_file = "secret"
allow = ["read", "command", "set", "test"]
[[user]]
name = "mon"
password_file = "secret"
upsmon = "secondary"
"""
PLAN = """
[shutdown]
armed = false
start_when = { on_battery_for = "15s" }
[[load]]
name = "host-%(number)d"
fed_by = ["%(ups)s"]
stop = { command = ["/bin/true"] }
down_when = { exit = ["/bin/true"] }
"""
PAGES = ("/", "/batteries", "/tests", "/shutdown", "/events", "/audit", "/ups/ups-001")
CALLS = ("/fleet", "/events?limit=100", "/ups/ups-002", "/ups/ups-003/variables", "/batteries?target=group:rack2", "/audit",
         "/ups/ups-004/history/input.voltage?since=1h", "/shutdown", "/tests", "/openapi.json")  # fmt: skip


class Clients:
    """Everybody who wants something, each in a loop of their own. ``done`` counts what was answered, by kind."""

    def __init__(self, play: Play, nut: int, http: int, metrics: int, trusting: ssl.SSLContext) -> None:
        self.play, self.nut, self.http, self.metrics, self.trusting = play, nut, http, metrics, trusting
        self.done: Counter[str] = Counter()
        self.names = list(play.farm.upses)
        self.rng = random.Random(14)
        self._login = "Authorization: Basic " + base64.b64encode(b"op:secret").decode()

    def all(self) -> list[asyncio.Task[None]]:
        """Begin."""
        kinds: list[tuple[Callable[[], Awaitable[None]], float, int]] = [
            (self.nut_monitor, 0.0, RETURNING), (self.nut_visit, 1.0, 1), (self.nut_tls_visit, 2.0, 1), (self.page, 5.0, 1),
            (self.api, 1.0, 1), (self.scrape, 5.0, 1), (self.stream, 0.0, RETURNING), (self.command_line, 1.0, 1),
            (self.follow, 0.0, 3), (self.order, 20.0, 1), (self.outage, 120.0, 1), (self.half_a_request, 3.0, 1),
        ]  # fmt: skip
        return [asyncio.create_task(self._again(do, every_s)) for do, every_s, count in kinds for _ in range(count)]

    async def _again(self, do: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            try:
                async with asyncio.timeout(300):
                    await do()
                self.done[do.__name__] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.done[f"{do.__name__}: {type(error).__name__}"] += 1
                await asyncio.sleep(1)
            await asyncio.sleep(every_s * self.rng.uniform(0.5, 1.5))

    # -- NUT

    async def _nut(self, lines: list[str], *, tls: bool = False, stay_s: float = 0.0) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.nut)
        try:
            if tls:
                writer.write(b"STARTTLS\n")
                assert await reader.readline() == b"OK STARTTLS\n"
                await writer.start_tls(self.trusting, server_hostname="localhost")
            for line in lines:
                writer.write(line.encode() + b"\n")
                answer = await reader.readline()
                if answer.startswith(b"BEGIN"):
                    await reader.readuntil(b"\nEND" + answer[5:])
                assert not answer.startswith(b"ERR") or line.startswith("INSTCMD"), (line, answer)  # a UPS may refuse
            end_s = asyncio.get_running_loop().time() + stay_s
            while asyncio.get_running_loop().time() < end_s:
                await asyncio.sleep(2.0)
                writer.write(f"GET VAR {lines[-1].split()[-1]} ups.status\n".encode())
                assert (await reader.readline()).startswith(b"VAR ")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def nut_monitor(self) -> None:
        """Logged in as an upsmon is, for a minute or two."""
        lines = ["USERNAME mon", "PASSWORD secret", f"LOGIN {self.rng.choice(self.names)}"]
        await self._nut(lines, stay_s=self.rng.uniform(60, 180))

    async def nut_visit(self) -> None:
        await self._nut([f"LIST VAR {self.rng.choice(self.names)}", "LIST UPS", "LOGOUT"])

    async def nut_tls_visit(self) -> None:
        await self._nut([f"LIST VAR {self.rng.choice(self.names)}", "LOGOUT"], tls=True)

    async def order(self) -> None:
        await self._nut(["USERNAME op", "PASSWORD secret", f"INSTCMD {self.rng.choice(self.names)} beeper.toggle"])

    # -- HTTP

    async def _get(self, port: int, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{self._login}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
            assert answer.split(None, 2)[1] in (b"200", b"303"), (path, answer[:300])
            return answer
        finally:
            writer.close()

    async def page(self) -> None:
        await self._get(self.http, self.rng.choice(PAGES))

    async def api(self) -> None:
        await self._get(self.http, "/api/v1" + self.rng.choice(CALLS))

    async def scrape(self) -> None:
        assert b"qxfleet_" in await self._get(self.metrics, "/metrics")

    async def half_a_request(self) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.http)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost:")
            await asyncio.sleep(1)
        finally:
            writer.close()

    async def stream(self) -> None:
        """A page's event stream for a minute or two."""
        path = self.rng.choice(("/events/stream", "/fleet/stream"))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.http)
        try:
            writer.write(f"GET /api/v1{path} HTTP/1.1\r\nHost: x\r\n{self._login}\r\n\r\n".encode())
            assert b"200" in await reader.readline()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.rng.uniform(60, 180)):
                    while await reader.read(1 << 16):
                        pass
        finally:
            writer.close()

    # -- here

    async def command_line(self) -> None:
        do, args = self.rng.choice(
            (("status", {}), ("about", {}), ("shutdown-status", {}), ("vars", {"ups": self.rng.choice(self.names)}))
        )
        assert (await self.play.ask(do, **args))["ok"]

    async def follow(self) -> None:
        follower = await self.play.follow()
        try:
            await asyncio.sleep(self.rng.uniform(30, 90))
        finally:
            self.play._followers.remove(follower)
            await follower.close()

    async def outage(self) -> None:
        """Mains of a rack, for half a minute."""
        rack = f"group:rack{self.rng.randrange(1, 100)}"
        self.play.tell(f"mains off {rack}")
        await asyncio.sleep(30)
        self.play.tell(f"mains on {rack}")


def growth(samples: list[int]) -> int:
    """From the middle of the first tenth to that of the last, in KiB."""
    tenth = max(1, len(samples) // 10)
    return round(statistics.median(samples[-tenth:]) - statistics.median(samples[:tenth]))


@pytest.mark.timeout(9000)
async def test_memory_is_flat_with_every_interface_and_clients_at_all(tmp_path: Path) -> None:
    now = asyncio.get_running_loop().time
    nut, http, metrics = (free_port() for _ in range(3))
    async with Play(family(UPSES)) as play:
        certificate(play.folder)
        trusting = ssl.create_default_context(cafile=str(play.folder / "cert.pem"))
        (play.folder / "secret").write_text("secret\n")
        (play.folder / "secret").chmod(0o600)
        plans = [PLAN % {"number": number, "ups": ups} for number, ups in enumerate(itertools.islice(play.farm.upses, 0, 250, 5))]
        plans[1:] = ["[[load]]" + plan.partition("[[load]]")[2] for plan in plans[1:]]
        with play.config.open("a") as config:
            config.write(
                f'\n[nut]\nlisten = ["127.0.0.1:{nut}"]\ncert = "cert.pem"\nkey = "key.pem"\n[http]\nlisten = '
                f'["127.0.0.1:{http}"]\n[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n{USERS}{"".join(plans)}'
            )
        await play.start()
        await play.all_online(180)
        assert play.process is not None
        pids = {"core": play.process.pid, "interfaces": await play.interfaces()}
        clients = Clients(play, nut, http, metrics, trusting)

        async def served() -> bool:
            try:
                await clients._get(http, "/api/v1/about")
            except OSError:
                return False
            return True

        await until(served, 60, "the page")
        tasks, began_s = clients.all(), now()
        memory: dict[str, list[int]] = {name: [] for name in pids}
        files: dict[str, list[int]] = {name: [] for name in pids}
        told_s = 0.0
        while (spent_s := now() - began_s) < MINUTES * 60:
            await asyncio.sleep(MEASURED_EVERY_S)
            assert play.process.returncode is None
            assert [task.exception() for task in tasks if task.done()] == []
            if spent_s < WARM_MINUTES * 60:
                continue
            for name, pid in pids.items():
                memory[name].append(resident_kib(pid))
                files[name].append(descriptors(pid))
            if spent_s - told_s >= 300:
                told_s = spent_s
                here = {name: f"{each[-1] / 1024:.1f} MiB, {files[name][-1]} descriptors" for name, each in memory.items()}
                measured(f"{spent_s / 60:.0f} min: {here}")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert await play.interfaces() == pids["interfaces"], "no interface process was started anew"
        grown = {name: growth(each) for name, each in memory.items()}
        measured(
            f"{UPSES} UPSes, {MINUTES:g} min: growth after {WARM_MINUTES:g} min "
            + ", ".join(f"{name} {each[0] / 1024:.1f} to {each[-1] / 1024:.1f} MiB ({grown[name]:+d} KiB by medians), files "
                        f"{min(files[name])} to {max(files[name])}" for name, each in memory.items())
            + f"; clients {dict(clients.done.most_common())}"
        )  # fmt: skip
        assert "Traceback" not in play.log()
        assert all(grown[name] <= most for name, most in zip(("core", "interfaces"), GROWTH_KIB, strict=True)), grown
