"""A whole outage on a desk: mains go and come, a real agent acts on simulated UPSes and hosts, and what came of it is judged.

The agent's session, fleet, store, planner and loop are those of every day. It stops and starts again with its own host.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qxfleet.agent.agent import Agent
from qxfleet.config.load import Config
from qxfleet.model.events import Event, EventKind, Severity
from qxfleet.model.loads import NutClients
from qxfleet.model.reading import Reading
from qxfleet.shutdown.model import Act
from qxfleet.shutdown.run import CONTACT_S, StagedShutdown
from qxfleet.shutdown.triggers import spell_s
from qxfleet.store import shutdown as stored
from qxfleet.store.migrate import upgrade
from qxfleet.testing.desk import UP, Desk, DeskFleet
from qxfleet.testing.loads import RUNNING, HostState
from qxfleet.testing.machine import Source
from qxfleet.testing.virtual import TimelessStore, VirtualClock, VirtualLoop

TICK_S = 0.5
CONTACT_LONGEST_S = 60.0
LOGGED_IN_S = 35.0
"""Until what NUT clients say by being logged in counts."""

BACK_AFTER_S = 60.0
"""Mains come back by themselves this long after nothing is left that could change without them."""

CALM_S, SETTLED_S = 300.0, 15.0
"""Nothing changes for this long: without mains nothing more will; with everything up again, it is over."""

STALLED_S = 3600.0
"""With mains back, and with something still down, this much time without a change ends a rehearsal."""

LONGEST_S = 48 * 3600.0

Severe = Literal["problem", "risk", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that came out. ``problem``: the plan does not hold."""

    severity: Severe
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that was told, or done to mains, seconds since mains failed."""

    at_s: float
    name: str
    text: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Span:
    """What a load or a UPS was doing, from when to when; of a UPS ``mains``, ``battery``, ``off``."""

    from_s: float
    to_s: float
    state: str


@dataclass(slots=True)
class Outcome:
    """What came of a rehearsal. Times are seconds since mains failed.

    ``loads``, ``upses``: what each did. ``ended``: how each run ended, in its own words. ``standing``: what was not as before at
    the end, by load or UPS, in words. ``broken_off``: it was ended before its time.
    """

    failing: tuple[str, ...]
    back_s: float | None = None
    took_s: float = 0.0
    said: list[Said] = field(default_factory=list)
    loads: dict[str, list[Span]] = field(default_factory=dict)
    upses: dict[str, list[Span]] = field(default_factory=dict)
    charges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    steps: list[stored.StoredStep] = field(default_factory=list)
    began_us: int = 0
    """Wall time of the moment mains failed, for the times of ``steps``."""
    standing: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    broken_off: bool = False

    @property
    def holds(self) -> bool:
        """The plan did what it is for, as far as it was tried."""
        return not self.broken_off and not any(each.severity == "problem" for each in self.findings)


class DeskAgent(Agent):
    """An agent on a desk: no schedule and no interface, on the virtual loop's time. Use as ``async with``."""

    make_store = TimelessStore
    make_fleet = DeskFleet

    def __init__(self, desk: Desk, config: Config, clock: VirtualClock) -> None:
        self.shutdown: StagedShutdown
        super().__init__(config, clock=clock, transport=desk.wire, parts=(lambda agent: self._part(desk, agent),))
        assert isinstance(self.fleet, DeskFleet)
        self.fleet.desk = desk
        self._desk = desk

    def _part(self, desk: Desk, agent: Agent) -> StagedShutdown:
        self.shutdown = StagedShutdown(agent, desk.effects, desk.forecast)
        return self.shutdown

    @contextlib.asynccontextmanager
    async def alive(self) -> AsyncIterator[DeskAgent]:
        """From its start to its end."""
        self._loop = asyncio.get_running_loop()
        self.store.open()
        self.bus.attach(Reading, self.store.record)
        self.bus.attach(Event, self.store.record_event)
        self.forced.serve(self._desk.logins)
        identities = {name: identity for name, (_, identity) in self.store.identities().items()}
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        with loop.hold():
            self.fleet.apply(self.config.ups, identities, await self._open_outages())
            await self.shutdown.start()
        ticking = asyncio.create_task(self._keep_ticking())
        try:
            yield self
        finally:
            ticking.cancel()
            await asyncio.wait({ticking})
            await self.shutdown.stop()
            await self.fleet.stop()
            await self.store.close()

    async def _keep_ticking(self) -> None:
        number = 0
        while True:
            self._tick(number)
            number += 1
            await asyncio.sleep(max(0.0, self.fleet.phase_s(number) - self.clock.monotonic()))


Watch = Callable[["Play"], None]


class Play:
    """One rehearsal under way. ``watch`` is called at every tick of it."""

    def __init__(
        self, desk: Desk, config: Config, folder: Path, failing: Sequence[str], *, back_s: float | None = None,
        back: Collection[str] = (), watch: Watch = lambda play: None,
    ) -> None:  # fmt: skip
        self.desk = desk
        self.agent: DeskAgent | None = None
        self.outcome = Outcome(tuple(failing), back_s)
        self._config = desk.config(config, folder)
        self._database = self._config.agent.database
        self._back, self._watch = tuple(back) or tuple(failing), watch
        self._began_s = 0.0
        self._changed_s = 0.0
        self._state: dict[str, tuple[float, str]] = {}
        self._by_hand: dict[str, str] = {}
        """What only a person could do, at any time of it."""

    @property
    def now_s(self) -> float:
        """Seconds since mains failed; below 0 before."""
        return asyncio.get_running_loop().time() - self._began_s

    @property
    def status(self) -> StagedShutdown | None:
        """The shutdown of the agent, while it is alive."""
        return None if self.agent is None else self.agent.shutdown

    async def run(self) -> Outcome:
        """From contact to the end of it. Cancelled, it stops at once; :meth:`close` still judges what was."""
        loop = asyncio.get_running_loop()
        clock = VirtualClock(loop)
        upgrade(self._database)
        self._began_s = loop.time() + 1e9
        physics = asyncio.create_task(self._physics())
        script = asyncio.create_task(self._script(clock))
        host = self.desk.room.hosts.get(self.desk.plan.host or "")
        try:
            while not script.done() and not physics.done():
                agent = DeskAgent(self.desk, self._config, clock)
                agent.bus.attach(Event, self._heard)
                async with agent.alive() as self.agent:
                    await self._while(script, physics, lambda: host is None or host.state in UP)
                self.agent = None
                await self._while(script, physics, lambda: host is not None and host.state is not HostState.UP)
                clock.up_since_s = clock.monotonic()
            if physics.done():
                physics.result()
            await script
        finally:
            for task in (script, physics):
                task.cancel()
            await asyncio.wait({script, physics})
            self.outcome.broken_off = script.cancelled()
            self._close(clock)
        return self.outcome

    async def _while(self, script: asyncio.Task[None], physics: asyncio.Task[None], holds: Callable[[], bool]) -> None:
        """Let time pass while something holds and the rehearsal goes on."""
        while holds() and not (script.done() or physics.done()):
            await asyncio.wait({script, physics}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)

    async def _script(self, clock: VirtualClock) -> None:
        await self._contact()
        loop, outcome = asyncio.get_running_loop(), self.outcome
        self._began_s, outcome.began_us = loop.time(), clock.wall_us()
        self._state = {}
        self._say("mains-off", f"mains fail: {_all(outcome.failing)}")
        self.desk.mains(False, outcome.failing)
        self._changed_s = 0.0
        if outcome.back_s is None:
            await self._calm()
            await asyncio.sleep(BACK_AFTER_S)
            outcome.back_s = self.now_s
        else:
            await asyncio.sleep(outcome.back_s)
        self.desk.mains(True, self._back)
        self._say("mains-on", f"mains are back: {_all(self._back)}")
        rest = [ups for ups in outcome.failing if ups not in self._back]
        if rest:
            await self._calm()
            self.desk.mains(True, rest)
            self._say("mains-on", f"mains are back: {_all(rest)}")
        self._changed_s = self.now_s
        while not (self._all_up() and self._idle() and self.now_s - self._changed_s > SETTLED_S):
            if self.now_s - self._changed_s > STALLED_S or self.now_s > LONGEST_S:
                break
            if self._nothing_left() and self.now_s - self._changed_s > CALM_S:
                break
            await asyncio.sleep(TICK_S)

    async def _contact(self) -> None:
        """Until the agent has seen every UPS, and NUT clients count."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        wait_s = LOGGED_IN_S if any(isinstance(load.stop, NutClients) for load in self.desk.plan.loads) else CONTACT_S / 3
        while loop.time() - began_s < CONTACT_LONGEST_S:
            seen = {} if self.status is None else self.status.world.upses
            there = all(name in seen and seen[name].contact for name in self.desk.upses)
            if there and loop.time() - began_s >= wait_s:
                return
            await asyncio.sleep(TICK_S)

    async def _calm(self) -> None:
        """Until nothing more changes, with nothing under way that still could."""
        while self.now_s < LONGEST_S:
            if not any(unit.machine.source is Source.BATTERY for unit in self.desk.upses.values()):
                return
            await asyncio.sleep(TICK_S)

    def _idle(self) -> bool:
        """The agent is there, and no run is under way."""
        return self.status is not None and not self.status.running

    def _all_up(self) -> bool:
        live = all(unit.machine.source is not Source.OFF for unit in self.desk.upses.values())
        return live and all(host.state is HostState.UP for host in self.desk.room.hosts.values())

    def _nothing_left(self) -> bool:
        """No run is under way, or only what a person must do keeps it so; and nothing starts or stops."""
        part = self.status
        if part is None:
            return False
        moving = any(host.state in (HostState.STOPPING, HostState.STARTING) and host.trouble is None
                     for host in self.desk.room.hosts.values())  # fmt: skip
        open_steps = any(taken.result is None for taken in part.record.taken)
        return not moving and not open_steps and (not part.running or bool(part.decision.by_hand))

    async def _physics(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self.agent is not None:
                self.desk.advance(loop.time(), self.agent.forced)
            else:
                self.desk.room.advance(loop.time())
            self._note()
            self._watch(self)
            await asyncio.sleep(TICK_S)

    def _note(self) -> None:
        """What changed in the room."""
        now_s = self.now_s
        if now_s < 0:
            return
        if self.status is not None:
            self._by_hand |= self.status.decision.by_hand
        states = {f"load {name}": host.state.value for name, host in self.desk.room.hosts.items()}
        sources = {Source.BATTERY: "battery", Source.OFF: "off"}
        states |= {f"ups {name}": sources.get(unit.machine.source, "mains") for name, unit in self.desk.upses.items()}
        for key, state in states.items():
            since_s, was = self._state.get(key, (0.0, state))
            if was != state:
                self._span(key, Span(since_s, now_s, was))
                since_s, self._changed_s = now_s, now_s
                if state == HostState.CRASHED.value:
                    self._say("lost", f"{key.split()[1]} LOST ITS POWER WHILE IT RAN", Severity.CRITICAL)
            self._state[key] = since_s, state
        for name in self.outcome.failing:
            points = self.outcome.charges.setdefault(name, [])
            charge = 100 * self.desk.upses[name].machine.battery.charge
            if not points or abs(points[-1][1] - charge) >= 0.5 or now_s - points[-1][0] > 300:
                points.append((now_s, charge))

    def _span(self, key: str, span: Span) -> None:
        what, name = key.split(" ", 1)
        (self.outcome.loads if what == "load" else self.outcome.upses).setdefault(name, []).append(span)

    def _heard(self, event: Event) -> None:
        if self.now_s >= 0 and (event.kind is EventKind.SHUTDOWN or event.name in ("on-battery", "low-battery")):
            self._changed_s = self.now_s
            named = event.ups is None or re.search(rf"(?<![\w.-]){re.escape(event.ups)}(?![\w.-])", event.text)
            self._say(event.name, event.text if named else f"{event.ups}: {event.text}", event.severity)

    def _say(self, name: str, text: str, severity: Severity = Severity.NOTICE) -> None:
        self.outcome.said.append(Said(max(self.now_s, 0.0), name, text, severity))

    # -- afterwards

    def _close(self, clock: VirtualClock) -> None:
        outcome = self.outcome
        outcome.took_s = max(self.now_s, 0.0)
        for key, (since_s, state) in self._state.items():
            self._span(key, Span(since_s, outcome.took_s, state))
        runs = _runs(self._database)
        outcome.ended = [run.text for run in runs if run.text]
        outcome.steps = [step for run in runs for step in run.steps]
        if outcome.began_us:
            outcome.findings = list(self._findings(runs))

    def _findings(self, runs: Sequence[stored.StoredRun]) -> list[Finding]:
        """What came out, by the room as it really was, the worst first."""
        outcome, found = self.outcome, list[Finding]()
        open_runs = [run for run in runs if run.ended_us is None]
        lost = {name: next(span.from_s for span in spans if span.state == HostState.CRASHED.value)
                for name, spans in outcome.loads.items() if any(span.state == HostState.CRASHED.value for span in spans)}
        for name, at_s in lost.items():
            found.append(Finding("problem", name, f"lost its power while it ran, {spell_s(at_s)} after mains failed"))
        for name, host in self.desk.room.hosts.items():
            stops = sum(state is HostState.STOPPING for _, state in host.changes)
            failures = 1 + sum(said.name == "mains-on" for said in outcome.said) // 2
            if stops > failures:
                found.append(Finding("problem", name, f"was stopped {stops} times in one outage"))
            if host.state not in RUNNING:
                state = "down" if host.state is HostState.DOWN else "off"
                outcome.standing[name] = self._by_hand.get(name) or f"{name} is {state}"
        for name, unit in self.desk.upses.items():
            if unit.machine.source is Source.OFF:
                outcome.standing[name] = self._by_hand.get(name) or f"{name} is off"
        for name, text in outcome.standing.items():
            if not outcome.broken_off and name not in lost:
                found.append(Finding("problem", name, f"at the end, with mains back: {text}"))
        stuck = {step.target for step in outcome.steps if step.act == Act.STOP.value and step.result == "failed"}
        unseen = {step.target for step in outcome.steps if step.act == Act.STOP.value and step.result == "not-seen-off"}
        last = {step.target: step for step in outcome.steps if step.act == Act.STOP.value}
        for name in stuck:
            if last[name].result == "failed":
                found.append(Finding("problem", name, f"would not stop: {last[name].text}"))
        for name in unseen:
            text = "nothing showed it off when its UPS might be cut: write down_when, or a longer stop_time"
            found.append(Finding("risk", name, text))
        for run in open_runs if not outcome.broken_off else ():
            found.append(Finding("problem", "[shutdown]", f"run {run.id} is still under way at the end"))
        for name, spans in outcome.upses.items():
            empty = self.desk.upses[name].machine.battery.empty and any(span.state == "off" for span in spans)
            if empty and name not in lost:
                found.append(Finding("risk", name, "its battery ran empty: it was not told to cut in time, or at all"))
        for name in self.desk.assumed:
            found.append(Finding("note", name, "how long its battery lasts is not known; 15 min at the present load were taken"))
        if not outcome.steps:
            text = "nothing had to be stopped: enough good feeds remained, or mains were back in time"
            found.append(Finding("note", "[shutdown]", text))
        if not self.desk.plan.host:
            found.append(Finding("note", "[shutdown]", "no host is named: the agent was taken to outlast everything"))
        order = {"problem": 0, "risk": 1, "note": 2}
        return sorted(found, key=lambda each: order[each.severity])


def _runs(database: str) -> list[stored.StoredRun]:
    """Every run of the agents of a rehearsal, the first one first."""
    from sqlalchemy import create_engine

    engine = create_engine(database)
    try:
        with engine.connect() as connection:
            return list(reversed(stored.runs(connection, 100)))
    finally:
        engine.dispose()


def _all(names: Collection[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
