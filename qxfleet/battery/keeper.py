"""Keeps discharges, the register and learned runtimes up to date while the agent runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, insert, select

from qxfleet.agent import audit
from qxfleet.battery import chronicle, register
from qxfleet.battery.discharge import CAL, LEAD_S, OB, RECHARGE_LIMIT_S, RETURN_S, SILENCE_S, cut
from qxfleet.battery.health import Health, Verdict, fleet_health
from qxfleet.battery.register import Replacement
from qxfleet.battery.runtime import predicted_runtime
from qxfleet.battery.survey import evidence, roll_months
from qxfleet.errors import StoreError
from qxfleet.model.battery import RuntimeTable
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Sample
from qxfleet.model.events import Event, EventKind, Severity
from qxfleet.model.reading import Reading
from qxfleet.store import batteries, history
from qxfleet.store.tables import meta

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.config.load import Config

log = logging.getLogger(__name__)

WORKING = OB | CAL
HOUR_S = 3600.0
SETTLE_S = RETURN_S + 2.0
"""A discharge is cut this long after mains came back: what still belongs to it has been read by then."""

WRITTEN_S = 20.0
"""How long to wait for readings that are on their way into the database."""

MARK = "discharges-cut-until"
"""Key in ``meta``: before this time every discharge of every UPS is cut."""

VERDICT = "battery-verdict"
"""The event that tells that somebody should do something about a battery."""

LOUDNESS = {
    Verdict.TEST_DUE: Severity.NOTICE, Verdict.REPLACE_SOON: Severity.NOTICE, Verdict.REPLACE_NOW: Severity.WARNING,
}  # fmt: skip
"""The verdicts that are told, the worst last."""

MONTHS_US = 40 * 86_400_000_000
LOADS = (10.0, 20.0, 30.0, 45.0, 65.0, 100.0, 130.0)
"""Where the learned table has its points, as far as the runs reach."""


class Batteries:
    """A part of the agent: begins a row when a battery begins to work, and cuts it from the stored readings when it rests."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._store = agent.store
        self._fleet = agent.fleet
        self._clock = agent.clock
        self._facts: Mapping[str, BatteryFacts] = agent.config.batteries
        self._working: dict[str, int] = {}
        """When the readings began in which a battery works."""
        self._resting_s: dict[str, float] = {}
        """Since when one of them is at rest again; monotonic."""
        self._due: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[str, Reading] = {}
        self._reached: set[str] = set()
        """UPSes of which a reading came: until then nobody knows whether there is one, and no battery of it is registered."""

    async def start(self) -> None:
        """Take up what happened while no agent ran, and watch from now on."""
        self._agent.bus.attach(Reading, self._see)
        self._spawn(self._begin(), "batteries begin")
        self._spawn(self._settle_all(), "discharges")
        self._agent.schedule.every(HOUR_S, self._clock.monotonic() + HOUR_S, self._hourly)

    async def stop(self) -> None:
        """End; a discharge that goes on is cut when the agent runs again."""
        self._agent.bus.detach(Reading, self._see)
        for task in list(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def apply(self, config: Config) -> list[str]:
        """Take new facts; the register follows."""
        if config.batteries == self._facts:
            return []
        self._facts = config.batteries
        self._spawn(self._register(*(name for name in self._fleet.snapshot() if name in self._reached)), "battery register")
        return ["[[battery]] changed"]

    async def replaced(
        self, ups: str, since_us: int, battery: str | None, facts: Mapping[str, Any], *, actor: str
    ) -> Replacement:
        """Write down that a UPS has another battery since then, with who said so. StoreError if the register disagrees."""

        def write(connection: Connection, device_id: int) -> Replacement:
            made = register.replaced(connection, device_id, ups, since_us, battery, facts)
            self._rescore(connection, ups)
            return made

        try:
            made = await self._store.commit(write, ups)
        except StoreError as error:
            await audit.record(self._agent, actor, audit.Act.BATTERY, ups, "battery-replaced", audit.REJECTED, text=str(error))
            raise
        text = f"battery {made.battery}" + (f" instead of {made.before}" if made.before else "")
        await audit.record(self._agent, actor, audit.Act.BATTERY, ups, "battery-replaced", audit.ACCEPTED, value=made.battery,
                           text=text)  # fmt: skip
        self._tell(ups, "battery-replaced", made.battery, f"{text}, told by {actor}")
        self._spawn(self._learn(ups), f"runtimes {ups}")
        return made

    # -- the stream

    def _see(self, reading: Reading) -> None:
        name = reading.device
        if name not in self._reached:
            self._reached.add(name)
            self._spawn(self._register(name), f"battery register {name}")
        if not reading.status & WORKING and name not in self._working:
            self._last[name] = reading
            return
        if reading.status & WORKING:
            self._resting_s.pop(name, None)
            if name not in self._working:
                self._working[name] = reading.wall_us
                self._spawn(self._open(name, _sample(reading)), f"discharge {name}")
            return
        since_s = self._resting_s.setdefault(name, reading.mono_s)
        if reading.mono_s - since_s >= SETTLE_S:
            del self._resting_s[name]
            self._due.put_nowait((name, self._working.pop(name)))

    async def _open(self, name: str, first: Sample) -> None:
        """Commit that a discharge began, before it is known how it ends."""
        lead = self._last.get(name)

        def write(connection: Connection, device_id: int) -> None:
            open_ = batteries.last_discharge(connection, name, first.at_us)
            stored = history.last_reading(connection, name)
            going = open_ is not None and open_.ended_us is None and stored is not None and stored.status & WORKING
            if going and stored is not None and (first.at_us - stored.at_us) / 1e6 < SILENCE_S:
                return  # an earlier agent began it, and it goes on
            samples = (_sample(lead), first) if lead is not None else (first,)
            for each in cut(name, samples, self._rating(connection, name)):
                batteries.put_discharge(connection, device_id, each.discharge, None)

        await self._quietly(self._store.commit(write, name, hurry=False), name)

    async def _settle_all(self) -> None:
        while True:
            name, began_us = await self._due.get()
            await self._store.settled(WRITTEN_S)
            await self._quietly(self._store.commit(partial(self._settle, name, began_us), name), name)
            await self._learn(name)

    def _settle(self, name: str, began_us: int, connection: Connection, device_id: int) -> None:
        """Cut from the last reading before a moment on; the same whenever it is done again."""
        since_us = batteries.last_rest_before_us(connection, name, began_us) or began_us
        rating, facts = self._rating(connection, name), self._facts_of(name)
        chronicle.update_span(connection, device_id, name, since_us, self._clock.wall_us(), rating, facts)

    # -- what is done now and then

    async def _begin(self) -> None:
        mark_us = await self._quietly(self._store.read(_mark))
        for name in self._fleet.snapshot():
            await self._quietly(self._store.commit(self._catching_up(name, mark_us), name), name)
            await self._learn(name)
        await self._hourly()

    def _catching_up(self, name: str, mark_us: int | None) -> Any:
        def write(connection: Connection, device_id: int) -> None:
            first_us = batteries.first_reading_us(connection, name)
            if first_us is None:
                return
            open_us = batteries.open_since_us(connection, device_id)
            since_us = min(us for us in (mark_us, open_us, self._clock.wall_us()) if us is not None) if mark_us else first_us
            if name not in self._working:
                self._settle(name, max(since_us, first_us), connection, device_id)

        return write

    async def _hourly(self) -> None:
        """Recharge times that have shown by now, months at rest, how far all this has got, and what it says of the batteries."""
        now_us = self._clock.wall_us()
        for name in self._fleet.snapshot():
            if name in self._working:
                continue
            await self._quietly(self._store.commit(self._recharged(name, now_us), name), name)
        mark_us = min([now_us - round(LEAD_S * 1e6), *self._working.values()])
        await self._quietly(self._store.commit(lambda connection: _put_mark(connection, mark_us)))
        for worn in await self._quietly(self._store.read(self._worsened)) or []:
            text = "; ".join((f"{worn.evidence.battery}: {worn.verdict.value}", *worn.reasons, worn.next_step))
            self._publish(worn.evidence.ups, EventKind.WARNING, VERDICT, worn.verdict.value, text, LOUDNESS[worn.verdict])

    def _worsened(self, connection: Connection) -> list[Health]:
        """The batteries of which worse is to be told than ever was: a verdict on the edge is told once."""
        now_us, order = self._clock.wall_us(), [verdict.value for verdict in LOUDNESS]
        found = []
        for judged in fleet_health(evidence(connection, self._facts, now_us, self._fleet.snapshot().keys()), now_us):
            if judged.verdict in LOUDNESS:
                told = batteries.told(connection, judged.evidence.ups, VERDICT, f"{judged.evidence.battery}: ")
                if order.index(judged.verdict.value) > max(map(order.index, told), default=-1):
                    found.append(judged)
        return found

    def _recharged(self, name: str, now_us: int) -> Any:
        def write(connection: Connection, device_id: int) -> None:
            waiting = batteries.recharging_since_us(connection, device_id, now_us - round(RECHARGE_LIMIT_S * 1e6))
            if waiting is not None:
                self._settle(name, waiting, connection, device_id)
            roll_months(connection, device_id, now_us - MONTHS_US, now_us, self._facts_of(name).ageing_doubles_k)

        return write

    async def _register(self, *names: str) -> None:
        for name in names:
            for text in await self._quietly(self._store.commit(self._registering(name), name), name) or []:
                self._tell(name, "battery-registered", "", text)

    def _registering(self, name: str) -> Any:
        def write(connection: Connection, device_id: int) -> list[str]:
            changes = register.settle(connection, device_id, name, self._facts_of(name), self._clock.wall_us())
            if changes:
                self._rescore(connection, name)
            return changes

        return write

    async def _learn(self, name: str) -> None:
        """Give a UPS that tells no runtime what its discharges taught, if it is configured so."""
        wanted = self._facts_of(name).learned_runtime
        if name not in self._fleet.snapshot() or not wanted:
            return
        found = await self._quietly(self._store.read(lambda connection: batteries.of_current_battery(connection, name)), name)
        if found is not None and name in self._fleet.snapshot():
            self._fleet.session(name).learn_runtimes(runtime_table(found))

    # -- what all of it needs

    def _facts_of(self, name: str) -> BatteryFacts:
        return self._facts.get(name, BatteryFacts())

    def _rating(self, connection: Connection, name: str) -> Any:
        return chronicle.rating_of(self._facts_of(name), chronicle.identity(connection, name))

    def _rescore(self, connection: Connection, name: str) -> None:
        owners: set[int | None] = {place.battery.id for place in batteries.placements(connection, name)}
        chronicle.rescore(connection, owners, self._facts_of(name), self._rating(connection, name))

    async def _quietly(self, work: Any, name: str = "") -> Any:
        """The result of a write or query; None where the database refused, which is told and tried again later."""
        try:
            return await work
        except StoreError as error:
            log.warning("%s: the battery's record was not brought up to date: %s", name or "fleet", error)
            return None

    def _tell(self, ups: str, name: str, value: str, text: str) -> None:
        self._publish(ups, EventKind.SETTING, name, value, text, Severity.INFO)

    def _publish(self, ups: str, kind: EventKind, name: str, value: str, text: str, severity: Severity) -> None:
        self._agent.bus.publish(Event(self._clock.wall_us(), ups, kind, name, value, text, severity))

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def runtime_table(discharges: list[Any]) -> RuntimeTable | None:
    """Runtimes by load from a battery's own full runs; None where there are none."""
    points = [
        (load, band.likely_s) for load in LOADS if (band := predicted_runtime(discharges, load, 100.0)) is not None
    ]  # fmt: skip
    return RuntimeTable(tuple(points)) if len(points) >= 2 else None


def _sample(reading: Reading) -> Sample:
    def number(name: str) -> float | None:
        value = reading.values.get(name)
        return value if isinstance(value, float) else None

    return Sample(
        reading.wall_us, int(reading.status), number("battery.voltage"), number("ups.load"), number("battery.charge"),
        number("input.voltage"), number("ups.temperature"),
    )  # fmt: skip


def _mark(connection: Connection) -> int | None:
    value = connection.scalar(select(meta.c.value).where(meta.c.key == MARK))
    return None if value is None else int(value)


def _put_mark(connection: Connection, mark_us: int) -> None:
    connection.execute(delete(meta).where(meta.c.key == MARK))
    connection.execute(insert(meta).values(key=MARK, value=str(mark_us)))
