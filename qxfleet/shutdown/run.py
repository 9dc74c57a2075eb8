"""The staged shutdown as a part of the agent: when its loop looks, what operators want, and what outlives the agent.

The loop itself is :mod:`~qxfleet.shutdown.loop`. A run keeps the plan it began with. Killed at any moment, it is taken up again
from its record.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qxfleet.agent.agent import AWAY_S, Agent
from qxfleet.agent.maintenance import Maintenance
from qxfleet.config.load import Config
from qxfleet.errors import PlanError, StoreError
from qxfleet.model.events import Event, EventKind, LinkChange, Phase, Severity
from qxfleet.model.loads import Plan
from qxfleet.model.reading import Reading
from qxfleet.shutdown import telling
from qxfleet.shutdown.act import Doors
from qxfleet.shutdown.effects import Effects, RealEffects
from qxfleet.shutdown.ending import names, sentence
from qxfleet.shutdown.forecast import Forecast
from qxfleet.shutdown.journal import Journal, interrupted
from qxfleet.shutdown.looks import Looks
from qxfleet.shutdown.loop import Loop
from qxfleet.shutdown.model import ACTOR, Act, Answer, Decision, Mains, Ordered, Record, Taken, World
from qxfleet.shutdown.observe import Observer
from qxfleet.shutdown.record import Scale, plan_of, record_of, with_learned
from qxfleet.shutdown.reserve import Reserve
from qxfleet.shutdown.returning import by_hand
from qxfleet.shutdown.scene import Scene
from qxfleet.store import history
from qxfleet.store import shutdown as stored

log = logging.getLogger(__name__)

BUSY_S, IDLE_S = 1.0, 5.0
"""Longest time between two looks while anything is on battery or a run is under way, and else."""

PAUSE_S = 0.1
"""Shortest time between two looks, and never less than the last one took: what changes meanwhile is seen together."""

CONTACT_S = 15.0
"""What the sessions are given to be in contact when the agent starts; then a UPS that is not counts as lost."""

READ_S = 1.0
"""How long the record may take to be read: nothing that acts waits for a disk that hangs."""

PARTING_S = 1.5
"""Acts under way when the agent stops may end within this; then they are left to the record."""


class StagedShutdown:
    """Runs the plan of the configuration. ``effects`` are the doors to the outside, ``forecast`` how long batteries last."""

    def __init__(self, agent: Agent, effects: Effects | None = None, forecast: Forecast | None = None) -> None:
        self._agent = agent
        self._clock = agent.clock
        self._bus = agent.bus
        self._journal = Journal(agent.store, agent.clock, self._unrecorded, _copy_beside(agent.store.side))
        self._reserve = Reserve()
        effects = effects or RealEffects(self._reserve)
        self._doors = Doors(agent.fleet, agent.forced, effects)
        self._news = asyncio.Event()
        self._changed: Callable[[], None] = self._news.set
        self._forecast = forecast or Forecast()
        self._observer = Observer(self._forecast, self._rated_w)
        self._looks = Looks(effects, agent.forced, agent.clock, self._changed)
        self._configured = agent.config.shutdown
        self._times: dict[str, list[float]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._acts: set[asyncio.Task[None]] = set()
        self._records: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._drawn_s = 0.0
        self._blind_until_s = 0.0
        self.unread = False
        """What an earlier agent left can't be read yet."""
        self.arming: stored.Arming | None = None
        """Who armed or disarmed it last; None: as configured."""
        self._run = Loop(self._configured, agent.clock, self._journal, self)

    # -- a part of the agent

    async def start(self) -> None:
        """Take up the run that was under way, if there was one, and begin to look."""
        self._reserve.fill()
        loop = asyncio.get_running_loop()
        self._agent.store.on_anew.append(lambda: loop.call_soon_threadsafe(self._written_anew))
        await self._draw_up()
        try:
            await self._remember()
        except StoreError as error:
            self._tell("shutdown-record", "unread", f"what was under way can't be read: {error}; the plan is followed as it is "
                       f"configured, {'armed' if self.armed else 'not armed'}, until it can", Severity.CRITICAL)  # fmt: skip
            self.unread = True
            self._spawn(self._remember_later(), "staged shutdown reads its record")
        self._blind_until_s = self._clock.monotonic() + CONTACT_S
        self._see_all()
        self._bus.attach(Reading, self._observed)
        self._bus.attach(LinkChange, self._observed)
        self._loop = asyncio.create_task(self._supervise(), name="staged shutdown")

    async def stop(self) -> None:
        """Park the run: acts under way may end in a moment, else they are checked when it is taken up again."""
        self._bus.detach(Reading, self._observed)
        self._bus.detach(LinkChange, self._observed)
        for task in filter(None, (self._loop, *self._records)):
            task.cancel()
            await asyncio.wait({task})
        if self._acts:
            await asyncio.wait(self._acts, timeout=PARTING_S)
        for act in tuple(self._acts):
            act.cancel()
        if self._acts:
            await asyncio.wait(tuple(self._acts), timeout=0.3)
        await self._looks.stop()
        self._journal.close()
        self._reserve.close()

    def apply(self, config: Config) -> list[str]:
        """Take a new plan; a run under way keeps the one it began with."""
        self._observer.keep(frozenset(ups.name for ups in config.ups))
        if config.shutdown == self._configured:
            return []
        self._configured = config.shutdown
        if self.run_id is None:
            self._run.plan = self._new_plan()
            self._run.record = Record(self.plan.armed)
            self._see_all()
        self._changed()
        return ["[shutdown]: changed" + (", from the next run on: one is under way" if self.run_id is not None else "")]

    @property
    def armed(self) -> bool:
        """Whether a run that began now would touch anything."""
        return self._configured.armed if self.arming is None else self.arming.armed

    @property
    def plan(self) -> Plan:
        """The plan in force: the run's, while there is one."""
        return self._run.plan

    @property
    def record(self) -> Record:
        """The run under way, as far as it has come."""
        return self._run.record

    @property
    def decision(self) -> Decision:
        """What was decided last."""
        return self._run.decision

    @property
    def run_id(self) -> int | None:
        """The number of the run under way; None without one."""
        return self._run.run_id

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self.run_id is not None

    @property
    def world(self) -> World:
        """All that is seen now."""
        return World(self._observer.upses, self._looks.loads, self._clock.booted_s(), self._looks.going_on)

    def forecast(self, ups: str) -> tuple[float | None, float | None]:
        """Seconds that the battery of a UPS would last from now: likely, and at worst; as the plan takes it, on mains too."""
        seen = self._observer.upses.get(ups)
        if seen is None:
            return None, None
        likely_s, low_s = self._forecast(ups, seen.load_percent, seen.charge)
        return (seen.runtime_s, seen.runtime_low_s) if likely_s is None else (likely_s, low_s)

    # -- what operators want

    async def arm(self, armed: bool, actor: str, reason: str) -> bool:
        """Arm or disarm, at once; False if no record of it is kept yet, so that a restart forgets it.

        An unarmed run under way ends with arming, so that an armed one can begin. Raises PlanError.
        """
        async with self._turn:
            if not self._configured.loads:
                raise PlanError("no [[load]] is configured: there is nothing to arm")
            self.arming, kept = await self._journal.arm(armed, actor, reason)
            word = "armed" if armed else "disarmed"
            lost = "" if kept else "; no record of it is kept yet: an agent that starts again before is as it was"
            self._tell(f"shutdown-{word}", word, f"the shutdown plan was {word} by {actor}{': ' if reason else ''}{reason}{lost}",
                       Severity.NOTICE if kept else Severity.WARNING)  # fmt: skip
            if self.run_id is None:
                self._run.plan = replace(self.plan, armed=armed)
                self._run.record = Record(armed, memory=self.record.memory)
            elif armed and not self.record.armed:
                await self._run.finish("superseded", "armed by an operator: a run that acts may begin")
            self._changed()
            return kept

    async def order(self, wish: Ordered) -> None:
        """Stop loads because an operator says so. Raises PlanError."""
        async with self._turn:
            if unknown := sorted(wish.loads - self.plan.named.keys()):
                raise PlanError(f"no load is named {', '.join(unknown)}")
            if not wish.loads:
                raise PlanError("no load hangs on these: there is nothing to stop")
            if self.record.ordered is not None and not self.record.ordered.released:
                raise PlanError("a shutdown was ordered already: `qxfleet shutdown status` shows it, `cancel` ends it")
            await self._run.order(wish)
            what = "a drill of" if wish.drill else "the shutdown of"
            self._tell("shutdown-ordered", "drill" if wish.drill else "start",
                       f"{wish.actor} ordered {what} {', '.join(sorted(wish.loads))}", Severity.WARNING)  # fmt: skip
            self._changed()

    async def cancel(self, actor: str) -> str:
        """Stop nothing more, and bring back what was stopped; what that means, in one sentence. Raises PlanError.

        A forced shutdown that a NUT client set ends with it.
        """
        async with self._turn:
            clients = [flag for flag in self._agent.forced.all() if not flag.load]
            for flag in clients:
                self._agent.forced.clear(flag.ups, actor, flag.meant)
            if self.run_id is None and clients:
                return f"NUT clients of {', '.join(sorted({flag.ups for flag in clients}))} are no longer told to shut down"
            if self.run_id is None:
                raise PlanError("nothing is under way: there is nothing to cancel")
            await self._run.cancel()
            text = telling.cancelled(self.record)
            self._tell("shutdown-cancelled", "cancelled", f"cancelled by {actor}: {text}", Severity.WARNING)
            self._changed()
            return text

    async def end(self, run_id: int, actor: str, reason: str = "") -> str:
        """End the run under way, which people have settled by hand; how it ended, in one sentence. Raises PlanError.

        Nothing is stopped, started or cut by it, and its NUT clients are no longer told to shut down.
        """
        async with self._turn:
            if self.run_id is None:
                raise PlanError("no run is under way: there is nothing to end")
            if run_id != self.run_id:
                raise PlanError(f"run {run_id} is not under way: run {self.run_id} is")
            scene = Scene(self.plan, self.record, self.world, self._clock.monotonic())
            if on_battery := [name for name, feed in scene.feeds.items() if feed.on_battery]:
                raise PlanError(
                    f"on battery as far as is known: {names(on_battery)}; another run would begin at once. `qxfleet shutdown "
                    "cancel` stops nothing more until mains are back; a UPS that is out of reach is taken out by `qxfleet "
                    "maintenance start`"
                )
            text = f"ended by {actor}{': ' if reason else ''}{reason}; {sentence(scene, by_hand(scene))}"
            await self._run.finish("ended", text)
            self._changed()
            return text

    # -- the loop

    async def _supervise(self) -> None:
        """A mistake of ours in one look must not end a shutdown: it is told, and the next look comes."""
        while True:
            began_s = self._clock.monotonic()
            try:
                await self._look()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.exception("a look of the staged shutdown failed; the next one comes")
                self._tell("shutdown-trouble", type(error).__name__, f"a look failed by an error of ours: {error}",
                           Severity.CRITICAL)  # fmt: skip
            await asyncio.sleep(max(PAUSE_S, self._clock.monotonic() - began_s))
            await self._wait()

    async def _wait(self) -> None:
        now_s = self._clock.monotonic()
        wait_s = BUSY_S if self._busy() else IDLE_S
        if self.decision.look_s is not None:
            wait_s = min(wait_s, max(0.0, self.decision.look_s - now_s))
        try:
            async with asyncio.timeout(wait_s if self.plan.loads else None):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()

    def _busy(self) -> bool:
        """A run is under way, or may begin soon."""
        return self.run_id is not None or any(ups.mains is Mains.OFF for ups in self._observer.upses.values())

    async def _look(self) -> None:
        """One turn: see, decide, write down, act."""
        async with self._turn:
            if not self.plan.loads or self._blind():
                return
            if self.run_id is None and self._clock.monotonic() - self._drawn_s > 3600:
                await self._draw_up()
            if self.record.armed and self._busy():
                self._looks.look(self.plan.loads, self.record, self._observer.upses)
            elif self._looks.loads:
                self._looks.forget()
            await self._run.turn()

    def _blind(self) -> bool:
        """Just started, and not in contact with everybody yet: nothing is concluded from what was never seen."""
        if self._clock.monotonic() >= self._blind_until_s:
            return False
        return not self._observer.knows(self.plan.fed)

    def act(self, taken: Taken) -> None:
        """Begin a step."""
        task = asyncio.create_task(self._carry_out(taken, self.run_id), name=f"{taken.step.act.value} {taken.step.target}")
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)

    async def _carry_out(self, taken: Taken, run_id: int | None) -> None:
        """One act, isolated from all others; its answer is committed before anything is concluded from it."""
        try:
            answer, text = await self._doors.act(taken.step, self.plan, armed=self.record.armed)
        except Exception as error:
            log.exception("step %d, %s %s, failed by an error of ours", taken.number, taken.step.act.value, taken.step.target)
            answer, text = Answer.UNCONFIRMED, f"an error of ours: {error}"
        await self._run.answer(run_id, taken.number, answer, text)
        self._changed()

    def hold(self, plan: Plan, forced: Mapping[str, frozenset[str]]) -> None:
        """Tell the NUT clients of these loads to shut down."""
        self._doors.hold(plan, forced)

    def tell(self, event: Event) -> None:
        """Say what happens."""
        self._bus.publish(event)

    async def next_plan(self) -> Plan:
        """The plan that the next run is to follow, with what earlier ones have taught."""
        self._looks.forget()
        await self._learn()
        return self._new_plan()

    # -- runs

    async def _take_up(self, run: stored.StoredRun) -> None:
        """Go on with a run that an earlier agent left."""
        self._run.run_id = run.id
        try:
            self._run.plan = plan_of(run.plan)
        except ValueError as error:
            log.error("%s: run %d goes on with the plan that is configured", error, run.id)
        scale = Scale.of(self._clock)
        self._run.record = record_of(run, scale)
        for number in interrupted(self.record.taken):
            await self._journal.answer(run.id, number, Answer.INTERRUPTED, "the agent ended before it was answered")
        self._tell("shutdown-run", "taken up", f"the shutdown that was under way is taken up again behind step {len(run.steps)}",
                   Severity.CRITICAL if run.armed else Severity.WARNING)  # fmt: skip

    async def _remember(self) -> None:
        """Who armed it, what was on battery, and the run that an earlier agent left. Raises StoreError, nothing changed."""
        store = self._agent.store
        async with _bounded():
            left = await self._journal.left() if self.run_id is None else None
        try:
            async with _bounded():
                arming, run = await store.read(stored.arming), await store.read(stored.open_run)
                known = left and await store.read(lambda connection: stored.run(connection, left.id))
                await self._recall()
        except StoreError:
            if left is not None:
                await self._take_up(left)
            raise
        if left is not None and run is None and known is None:
            await self._take_up(left)  # the state that had it was lost
            await self._rewrite_run()
            run = left
        elif run is None and self.run_id is not None:
            await self._rewrite_run()  # taken up, or begun, while the state could not be read
        if self.arming is None and arming is not None:
            self.arming = arming
            if self.run_id is None:
                self._run.plan = self._new_plan()
                self._run.record = Record(self.plan.armed, memory=self.record.memory)
        if run is None or run.id == self.run_id:
            return
        if self.run_id is None:
            await self._take_up(run)
        else:
            text = f"run {self.run_id} was begun while this one could not be read"
            await self._journal.end(run.id, "superseded", text)
            self._tell("shutdown-run", "superseded", f"run {run.id} of an earlier agent is over: {text}", Severity.WARNING)

    async def _remember_later(self) -> None:
        while True:
            await asyncio.sleep(IDLE_S / 5)
            async with self._turn:
                try:
                    await self._remember()
                except StoreError:
                    continue
                self.unread = False
            self._tell("shutdown-record", "read", "what was under way is known now: the plan is "
                       f"{'armed' if self.armed else 'not armed'}", Severity.NOTICE)  # fmt: skip
            self._changed()
            return

    def _written_anew(self) -> None:
        """The state is a new one, which knows nothing of what is under way."""
        self._spawn(self._rewrite(), "staged shutdown writes its record anew")

    async def _rewrite(self) -> None:
        async with self._turn:
            if self.arming is not None:
                await self._journal.arm(self.arming.armed, self.arming.actor, self.arming.reason)
            await self._rewrite_run()

    async def _rewrite_run(self) -> None:
        if self.run_id is not None:
            await self._journal.rewrite(self.run_id, ACTOR, self.plan, self.record)

    def _unrecorded(self, text: str) -> None:
        log.error("%s", text)
        self._tell("shutdown-record", "in memory", text, Severity.CRITICAL)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._records.add(task)
        task.add_done_callback(self._records.discard)

    async def _recall(self) -> None:
        """What was on battery when the agent went away, not long ago, is so since then and not since now."""
        scale, upses = Scale.of(self._clock), self._configured.fed
        since_us = scale.now_us - round(AWAY_S * 1e6)
        outages = await self._agent.store.read(lambda connection: history.outages(connection, upses, since_us))
        for ups, (began_us, last_us) in outages.items():
            self._observer.remember(ups, scale.seconds(began_us), scale.seconds(last_us))

    async def _draw_up(self) -> None:
        """Take the plan anew, with what was learned meanwhile; there is no run."""
        await self._learn()
        self._run.plan = self._new_plan()
        self._run.record = replace(self.record, armed=self.plan.armed)

    async def _learn(self) -> None:
        """What earlier runs and discharges have taught."""
        self._drawn_s = self._clock.monotonic()
        try:
            async with _bounded():
                self._times = await self._agent.store.read(lambda connection: stored.times_taken(connection, Act.STOP.value))
                await self._forecast.refresh(self._agent.store, self._configured.fed)
        except StoreError as error:
            log.warning("what earlier runs and discharges have taught can't be read now, the plan goes on without: %s", error)

    def _new_plan(self) -> Plan:
        return replace(with_learned(self._configured, self._times), armed=self.armed)

    # -- seeing and telling

    def _see_all(self) -> None:
        for state in self._agent.fleet.snapshot().values():
            self._observer.look(state, self._clock.monotonic())

    def _observed(self, seen: Any) -> None:
        forced = self._agent.forced
        state = self._agent.fleet.snapshot().get(seen.device) if self.plan.loads or forced.all() else None
        if state is None:
            return
        maintenance = self._agent.part(Maintenance)
        under = maintenance is not None and maintenance.of(seen.device) is not None
        if self._observer.look(state, self._clock.monotonic(), maintenance=under):
            self._changed()
        ups = self._observer.upses[seen.device]
        if forced.all() and ups.contact:
            good = ups.mains is Mains.ON and not ups.counting_down
            forced.seen(seen.device, mains_since_s=ups.since_s if good else None, output_on=ups.output_since_s is not None,
                        stable_s=self._configured.coming_back.mains_stable_s)  # fmt: skip

    def _rated_w(self, ups: str) -> float | None:
        facts = self._agent.config.batteries.get(ups)
        return None if facts is None else facts.rated_w

    def _tell(self, name: str, value: str, text: str, severity: Severity, phase: Phase = Phase.POINT) -> None:
        self._bus.publish(Event(self._clock.wall_us(), None, EventKind.SHUTDOWN, name, value, text, severity, phase))


def _copy_beside(side: Path | None) -> Path | None:
    return None if side is None else side.with_suffix(".run")


@asynccontextmanager
async def _bounded() -> AsyncIterator[None]:
    """StoreError where what is read inside takes longer than :data:`READ_S`."""
    try:
        async with asyncio.timeout(READ_S):
            yield
    except TimeoutError:
        raise StoreError(f"the state did not answer within {READ_S:g} s") from None
