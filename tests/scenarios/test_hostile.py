"""A day in which everything goes wrong at random, for a whole fleet, on virtual time; then it ends, and so must every trouble."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qxfleet.errors import LinkUnavailable, OrderNotSupported
from qxfleet.model.events import Trouble
from qxfleet.model.options import UpsOptions
from qxfleet.testing.population import fleet
from qxfleet.testing.unit import Fault, Unit
from qxfleet.transports.base import LinkInfo
from qxfleet.transports.inproc import InProcTransport
from tests.agent.ground import Ground
from tests.scenarios.play import SOAK, measured
from tests.virtual import run_virtual

SESSIONS, HOURS, INTERVAL_S = (200, 24.0, 5.0) if SOAK else (16, 1.0, 2.0)
SEED = 7
WIRE_S = 0.25
"""A request of three characters and a reply of 47 at 2400 baud."""

CALM_S = 420.0
"""After the last trouble: a minute's back-off, detection, and the ends of all conditions; longest the pause after a crash."""

VALUES = {
    Fault.LATE: ("0.3", "0.9", "1.5", "4", "20"),
    Fault.NUL_BIT: tuple("01234567"),
    Fault.DEAD_BATTERY: ("5", "60"),
    Fault.SLOW_FIRST: ("2.5", "5"),
    Fault.REFUSE: ("T", "S*", "F", "I", "Q*"),
    Fault.REFUSE_ONCE: ("T", "F", "I", "Q1", "*"),
}
ORDERS = ("test.battery.start.quick", "beeper.toggle", "shutdown.return", "shutdown.stop", "load.on", "no.such.thing")


class Wire(InProcTransport):
    """The line of one simulated UPS, which can be pulled out."""

    def __init__(self, ups: Unit) -> None:
        super().__init__(ups.name, self._carry)
        self.ups = ups
        self.plugged = True

    async def open(self) -> LinkInfo:
        await asyncio.sleep(0.01)
        if not self.plugged:
            raise LinkUnavailable(self.label, "no such port")
        self.ups.plugged_in()
        return await super().open()

    async def _carry(self, request: bytes) -> bytes | None:
        reply = None
        if self.plugged:
            reply = self.ups.answer(request, asyncio.get_running_loop().time())
            await asyncio.sleep(WIRE_S + self.ups.delay_s)
        if not self.plugged:
            self._gone("hung up")
        return reply


class Chaos:
    """Breaks one UPS after the other, in every way there is."""

    def __init__(self, wires: dict[str, Wire], ground: Ground, chance: random.Random) -> None:
        self._wires, self._ground, self._chance = wires, ground, chance
        self.done: Counter[str] = Counter()

    async def rage(self, until_s: float) -> None:
        """A trouble for somebody about once a minute and UPS, until then."""
        orders: set[asyncio.Task[Any]] = set()
        while asyncio.get_running_loop().time() < until_s:
            wire = self._chance.choice(list(self._wires.values()))
            what = self._chance.choice(("fault", "fault", "repair", "plug", "mains", "mains", "load", "charge", "order"))
            self.done[what] += 1
            if what == "order":
                orders.add(asyncio.create_task(self._order(wire.label)))
            else:
                getattr(self, "_" + what)(wire)
            await asyncio.sleep(self._chance.expovariate(len(self._wires) / 60))
        await asyncio.gather(*orders)

    def _fault(self, wire: Wire) -> None:
        fault = self._chance.choice(list(Fault))
        wire.ups.set_fault(fault, self._chance.choice(VALUES.get(fault, ("",))))
        self.done[f"fault {fault.value}"] += 1

    def _repair(self, wire: Wire) -> None:
        wire.ups.clear_fault()

    def _plug(self, wire: Wire) -> None:
        wire.plugged = not wire.plugged
        if not wire.plugged and self._chance.random() < 0.5:
            wire._gone("hung up")

    def _mains(self, wire: Wire) -> None:
        nominal = wire.ups.machine.ratings.volts
        volts = self._chance.choice((0.0, 0.0, nominal, nominal, nominal, 0.8 * nominal, 1.15 * nominal))
        for other in self._wires.values() if self._chance.random() < 0.05 else (wire,):
            other.ups.machine.set_mains(volts)

    def _load(self, wire: Wire) -> None:
        wire.ups.machine.load_percent = self._chance.uniform(0, 130)

    def _charge(self, wire: Wire) -> None:
        wire.ups.machine.battery.set_charge(self._chance.random())

    async def _order(self, ups: str) -> None:
        try:
            result = await self._ground.fleet.perform(ups, self._chance.choice(ORDERS), None, actor="chaos")
        except OrderNotSupported:
            return
        self.done[result.outcome.value] += 1

    def make_peace(self) -> None:
        """Repair everything."""
        for wire in self._wires.values():
            wire.plugged = True
            wire.ups.clear_fault()
            machine = wire.ups.machine
            machine.load_percent = 40
            machine.failed = False
            machine.set_mains(machine.ratings.volts)
            machine.battery.set_charge(1.0)
            machine.cancel()


def test_a_hostile_day_ends_well(sqlite_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    began_s = time.process_time()
    run_virtual(story(sqlite_path, caplog))
    measured(f"{time.process_time() - began_s:.1f} s of processor")


async def story(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop, chance = asyncio.get_running_loop(), random.Random(SEED)
    surprises: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: surprises.append(context))
    wires = {ups.name: Wire(ups) for ups in fleet(SESSIONS, seed=SEED)}
    upses = [
        UpsOptions(
            name, f"/dev/{name}", dialect="auto" if chance.random() < 0.5 else wire.ups.dialect.name, poll_interval_s=INTERVAL_S
        )
        for name, wire in wires.items()
    ]
    ground = Ground(database, upses, lambda options: wires[options.name])
    troubles: Counter[str] = Counter()
    ground.bus.attach(Trouble, lambda trouble: troubles.update([trouble.reason.partition(":")[0]]))
    async with ground:
        chaos = Chaos(wires, ground, chance)
        await chaos.rage(loop.time() + HOURS * 3600)
        chaos.make_peace()
        await asyncio.sleep(CALM_S)

        away = {name: state.link_reason for name, state in ground.fleet.snapshot().items() if state.link.value != "online"}
        assert away == {}
        open_still = {name for state in ground.fleet.snapshot().values() for name in state.conditions}
        assert {name for name in open_still if not name.startswith("warning.")} <= {"replace-battery"}, open_still
        assert ground.told("session-crashed", "assess-failed") == []
        assert not ground.store.open_orders()
        told = Counter(event.name for event in ground.events)
        for condition in ("on-battery", "contact-lost", "low-battery"):
            values = Counter(value for _, _, value in ground.told(condition))
            assert values["begin"] == values["end"] > 0, (condition, values)
        measured(
            f"{SESSIONS} sessions for {HOURS:g} h: {ground.fleet.polls()} polls, {dict(troubles)} troubles, "
            f"{len(ground.events)} events ({dict(told.most_common(6))}), chaos: {dict(chaos.done.most_common(8))}"
        )
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert surprises == []
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
