"""Simulated UPSes in pairs in this process, on virtual time, below a real fleet, database and runner of battery tests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qxfleet.agent.fleet import SLOT_S
from qxfleet.agent.maintenance import Maintenance
from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.model.options import UpsOptions
from qxfleet.model.selftest import Asked, Rules
from qxfleet.selftest.run import BatteryTests, Wave
from qxfleet.store import tests as stored
from qxfleet.store.tests import StoredTest
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.testing.unit import Unit
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport
from tests.agent.ground import Ground
from tests.virtual import VirtualClock

QUICK = Asked("quick")

SOON = Rules(mains_stable_s=20.0, charged_s=20.0, load_steady_s=20.0, recharge_s=30.0)
"""The usual rules with waits short enough for a test."""

START = b"T"
"""How every order begins that starts a test (megatec-family.md section 10)."""


def a_unit(
    name: str, *, dialect: str = "megatec", load: float = 40.0, noise: float = 0.0, age: float = 1.0, seed: int = 0
) -> Unit:
    """A healthy unit of 1 kVA; voltronic ones are of protocol P01."""
    if dialect == "voltronic":
        product = model("P01")
        machine = Machine(product.ratings, noise=noise, load_percent=load, age_years=age, seed=seed)
        return VoltronicUps(VOLTRONIC, product, name=name, machine=machine)
    machine = Machine(Ratings(), noise=noise, load_percent=load, age_years=age, seed=seed)
    spoken = dialect_named(dialect)
    assert spoken is not None
    return SimulatedUps(spoken, name=name, machine=machine)


class TestGround(Ground):
    """Units of :func:`a_unit`'s kind; neighbours in ``pairs`` feed one load. ``heard`` has every order that reached a unit."""

    __test__ = False

    def __init__(
        self, database: Path, units: Iterable[Unit], *, rules: Rules = SOON, pairs: Sequence[Sequence[str]] = (),
        poll_s: float = 2.0, clock: VirtualClock | None = None,
    ) -> None:  # fmt: skip
        self.units = {unit.name: unit for unit in units}
        self.pairs = pairs
        self.rules = rules
        self.heard: dict[str, list[tuple[float, bytes]]] = {name: [] for name in self.units}
        self.dead: set[str] = set()
        options = [
            UpsOptions(
                name, f"/dev/{name}", dialect=unit.dialect.name, poll_interval_s=poll_s,
                full_interval_s=30.0 if poll_s < 10 else 7200.0,
            )
            for name, unit in self.units.items()
        ]
        super().__init__(database, options, self._transport, clock)
        self.maintenance = Maintenance(self.store, self.bus, self.clock)
        self.tests = BatteryTests(self.fleet, self.store, self.bus, self.clock, self.maintenance, rules, pairs)

    async def __aenter__(self) -> Any:
        await super().__aenter__()
        await self.maintenance.start()
        await self.tests.start()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.tests.stop()
        await self.maintenance.stop()
        await super().__aexit__(*failure)

    async def _tick(self) -> None:
        """Where nobody is polled more often than every ten seconds, one tick a second does, but for tests."""
        if self.upses[0].poll_interval_s < 10:
            await super()._tick()
        while True:
            now_s = self.clock.monotonic()
            racing = any(self.fleet.session(name).racing_until_s > now_s for name in self.units)
            self.fleet.tick(0, 1)
            await asyncio.sleep(SLOT_S if racing else 1.0)

    def _transport(self, options: UpsOptions) -> InProcTransport:
        unit, heard = self.units[options.name], self.heard[options.name]
        queries = {query.command for query in unit.dialect.queries}

        def answer(request: bytes) -> bytes | None:
            now_s = asyncio.get_running_loop().time()
            if request not in queries:
                heard.append((now_s, request))
            return None if options.name in self.dead else unit.answer(request, now_s)

        return InProcTransport(options.name, answer)

    def starts(self, ups: str) -> list[bytes]:
        """Orders to start a test that a unit got."""
        return [request for _, request in self.heard[ups] if request.startswith(START)]

    def stops(self, ups: str) -> list[bytes]:
        """Orders to end a test that a unit got."""
        return [request for _, request in self.heard[ups] if request == b"CT\r"]

    def advance(self, *names: str) -> None:
        """Bring units up to now, before their machine is touched."""
        now_s = asyncio.get_running_loop().time()
        for name in names or self.units:
            self.units[name].machine.advance(now_s)

    def mains(self, volts: float, *names: str) -> None:
        """Mains of so many volts, from now on."""
        self.advance(*names)
        for name in names or self.units:
            self.units[name].machine.set_mains(volts)

    async def settled(self, seconds: float = 60.0) -> None:
        """Let preconditions come true."""
        await asyncio.sleep(seconds)

    async def wave(self, *upses: str, asked: Asked = QUICK, schedule: str = "", rules: Rules | None = None, **more: Any) -> Wave:
        """Begin a wave and wait for its end."""
        wave = await self.begin(*upses, asked=asked, schedule=schedule, rules=rules, **more)
        await wave.done.wait()
        return wave

    async def begin(self, *upses: str, asked: Asked = QUICK, schedule: str = "", rules: Rules | None = None, **more: Any) -> Wave:
        """Begin a wave."""
        return await self.tests.begin_wave(
            upses or tuple(self.units), asked, rules or self.rules, "test:me", schedule=schedule, **more
        )

    async def results(self) -> dict[str, StoredTest]:
        """The last recorded test of each UPS."""
        return {test.ups: test for test in await self.store.read(stored.tests)}


def verdicts(wave: Wave) -> dict[str, str]:
    """Verdict, or state with its reason, of each member."""
    return {
        ups: member.verdict.value if member.verdict else f"{member.state}: {member.text}" for ups, member in wave.members.items()
    }


def counted(wave: Wave) -> Counter[str]:
    """How many members have each verdict or state."""
    return Counter(member.verdict.value if member.verdict else member.state for member in wave.members.values())

