"""The loop that carries battery tests out: it commits what it is about to do, then does it; it decides nothing.

What is to be done says :mod:`.plan`, what was seen means :mod:`.course`. A restarted agent takes up what the store holds open: a
test that runs is found again by its UPS's own word, one whose order left is never ordered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qxfleet.agent.maintenance import Maintenance
from qxfleet.dialects.battery_order import STOP, Form, form
from qxfleet.errors import OrderError, QxfleetError, StoreError
from qxfleet.model.clock import from_us
from qxfleet.model.events import Event, EventKind, LinkChange, Outcome, Phase, Severity
from qxfleet.model.reading import Reading
from qxfleet.model.selftest import GRACE_S, IN_PROGRESS, RESULT_TEXTS, Asked, Rules, Verdict
from qxfleet.model.status import Status
from qxfleet.selftest import plan
from qxfleet.selftest.course import Course, Point
from qxfleet.selftest.standing import Standing
from qxfleet.selftest.watch import LONGEST_RECHARGE_S, RECHARGE_FACTOR, STALE_S
from qxfleet.store import tests as stored
from qxfleet.store.tests import StoredMember, StoredTest, StoredWave

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.agent.bus import Bus
    from qxfleet.agent.fleet import Fleet
    from qxfleet.config.load import Config
    from qxfleet.model.clock import Clock
    from qxfleet.store.store import Store

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often a running test is looked at; it is also looked at with every reading."""

WAVE_LOOK_S = 10.0
"""How often a wave looks whether somebody's turn has come, beside every end of a test."""

SAVE_S = 5.0
"""How often the curve of a running test is committed."""

STOP_AGAIN_S, MOST_STOPS = 15.0, 4
"""A UPS that goes on testing so long after it was told to stop is told again, this often in all."""

RECORD_S = 5.0
"""What the database has not taken after this long is not waited for where a test is to be ended."""

RESUME_GAP_US = 10 * 60 * 1_000_000
"""An agent that was away for no longer believes what held before; what happened meanwhile, its first readings still show."""

REMEMBERED_US = 86_400_000_000
"""How far back a restarted agent looks: twice the longest recharge."""

SETTLE_S = 8.0
"""What passes beside a test itself: the order's exchange, the seconds after which it counts as over, the way back to mains."""

SEVERITIES = {Verdict.PASSED: Severity.INFO, Verdict.FAILED: Severity.CRITICAL}


@dataclass(slots=True)
class Running:
    """One test that is not over."""

    test: StoredTest
    course: Course
    form: Form
    unsaved: list[Reading] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    saved_s: float = 0.0
    stops: int = 0
    stop_due_s: float = 0.0
    saving: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Wave:
    """One wave that is open. ``reasons``: what each waiting UPS waits for."""

    stored: StoredWave
    members: dict[str, StoredMember]
    closes_s: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def as_planned(self) -> plan.Wave:
        """The wave as the planner takes it."""
        members = tuple(plan.Member(each.ups, each.state, each.verdict) for each in self.members.values())
        return plan.Wave(self.stored.asked, self.stored.rules, members, self.closes_s, self.stored.patient)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a wave would do with one UPS if it began now: test it, or not and why.

    ``after``: the UPS whose end it would wait for, because both feed the same load. ``in_s``: when its test would begin and
    ``over_s`` when it would be over, in seconds from now.
    """

    ups: str
    reasons: tuple[str, ...]
    after: str = ""
    in_s: float | None = None
    over_s: float | None = None


class BatteryTests:
    """Battery tests of the whole fleet; a part of the agent."""

    def __init__(
        self, fleet: Fleet, store: Store, bus: Bus, clock: Clock, maintenance: Maintenance, rules: Rules,
        feeds: Sequence[Collection[str]] = (),
    ) -> None:  # fmt: skip
        self.rules = rules
        self._fleet = fleet
        self._store = store
        self._bus = bus
        self._clock = clock
        self._maintenance = maintenance
        self.standing = Standing(fleet, clock, maintenance, rules)
        self._mates = plan.partners(feeds)
        self._running: dict[str, Running] = {}
        self._waves: dict[int, Wave] = {}
        self._busy: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # -- a part of the agent

    async def start(self) -> None:
        """Take up what an earlier run of the agent left open."""
        await self._remember()
        self._bus.attach(Reading, self.standing.see)
        self._bus.attach(LinkChange, self.standing.link_changed)
        self._bus.attach(Event, self._told)
        await self._take_up()

    async def stop(self) -> None:
        """Leave; tests that their devices end by themselves go on, others are ended."""
        self._bus.detach(Reading, self.standing.see)
        self._bus.detach(Reading, self._seen)
        self._bus.detach(LinkChange, self.standing.link_changed)
        self._bus.detach(Event, self._told)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        endless = [run for run in self._running.values() if not run.form.by_itself and run.course.running]
        if endless:
            ends = [self._fleet.perform(run.test.ups, STOP, None, actor=self._order_actor(run.test)) for run in endless]
            await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=1.0)

    def apply(self, config: Config) -> list[str]:
        """New rules and loads hold for waves that begin from now on."""
        changed = self.rules != config.tests
        self.rules = self.standing.rules = config.tests
        self._mates = plan.partners(feeds_of(config))
        self.standing.keep([ups.name for ups in config.ups])
        return ["battery tests: their rules changed"] if changed else []

    # -- what may be asked

    def waves(self) -> Mapping[int, Wave]:
        """The waves that are open, by number."""
        return self._waves

    def running(self) -> Mapping[str, Running]:
        """The tests that run, by UPS."""
        return self._running

    def foresee(self, upses: Sequence[str], asked: Asked, rules: Rules) -> tuple[Foreseen, ...]:
        """What a wave over these UPSes would do if it began now, in its order."""
        units = self._units(upses, asked, rules)
        found, before = [], set[str]()
        for ups in upses:
            mates = sorted(self._mates.get(ups, ()))
            against = plan.objections(units[ups], [units[mate] for mate in mates if mate in units], asked, rules)
            after = next((mate for mate in mates if mate in before), "")
            found.append(Foreseen(ups, tuple(each.text for each in against), after))
            if not against:
                before.add(ups)
        going = [each.ups for each in found if not each.reasons]
        lasts_s = {ups: self._lasts_s(ups, asked, rules) for ups in going}
        held_s = {ups: self._held_s(ups, lasts_s[ups], rules) for ups in going}
        begins = plan.timetable(going, self._mates, lasts_s, held_s, rules.places(len(upses)))
        return tuple(
            each if each.reasons else replace(each, in_s=begins[each.ups], over_s=begins[each.ups] + lasts_s[each.ups])
            for each in found
        )

    def _lasts_s(self, ups: str, asked: Asked, rules: Rules) -> float:
        """From the order of a test to its verdict, most likely: also the UPS's own word and a look take their time."""
        runtime_s = self.standing.number(ups, "battery.runtime")
        test_s = plan.needed_s(asked, runtime_s)
        if test_s is None:
            test_s = min(runtime_s or rules.longest_s, rules.longest_s)
        return test_s + SETTLE_S

    def _held_s(self, ups: str, lasts_s: float, rules: Rules) -> float:
        """From the order to the moment when the place, and the partners, are free again."""
        work_s = lasts_s - SETTLE_S
        full_s = STALE_S if self.standing.tells_charge(ups) else min(LONGEST_RECHARGE_S, RECHARGE_FACTOR * work_s)
        return lasts_s + max(rules.recharge_s, full_s if rules.partner_healthy else 0.0)

    # -- what may be done

    async def begin_wave(
        self, upses: Sequence[str], asked: Asked, rules: Rules, actor: str, *, schedule: str = "", closes_us: int | None = None
    ) -> Wave:
        """Begin a wave; it is committed when this returns. One of a schedule is patient, one by hand is not.

        Raises StoreError.
        """
        row = StoredWave(0, schedule, actor, asked, rules, bool(schedule), self._clock.wall_us(), closes_us)
        number = await self._store.commit(stored.insert_wave(row), *upses)
        members = {ups: StoredMember(ups, "waiting") for ups in upses}
        wave = self._open(replace(row, id=number, members=tuple(members.values())))
        text = f"{self._title(row)} of {len(upses)} UPSes begins, by {actor}"
        self._tell(None, "test-wave", Phase.BEGIN.value, text, Severity.INFO)
        return wave

    async def stop_tests(self, upses: Collection[str], actor: str) -> tuple[str, ...]:
        """End running tests of these UPSes and take them out of every wave; the names of those it concerned."""
        concerned: list[str] = []
        for wave in list(self._waves.values()):  # others begin and end while a refusal is written
            for ups in upses:
                if wave.members.get(ups, StoredMember(ups, "")).state == "waiting":
                    await self._refuse(wave, ups, f"stopped by {actor}")
                    concerned.append(ups)
            wave.news.set()
        for ups in upses:
            if (run := self._running.get(ups)) is not None:
                await self._intend_stop(run, "hand", f"stopped by {actor}")
                run.news.set()
                concerned.append(ups)
        return tuple(dict.fromkeys(concerned))

    # -- taking up

    async def _remember(self) -> None:
        """What the store knows of each UPS: its last result, whether its battery failed, since when it is undisturbed."""
        self.standing.failed = await self._store.read(stored.failed_batteries)
        now_us, now_s = self._clock.wall_us(), self._clock.monotonic()
        for ups, test in (await self._store.read(stored.latest_tests)).items():
            self._publish_result(test)
            if test.ended_us is not None:
                self._busy[ups] = now_s + (test.ended_us - now_us) / 1e6 + self.rules.recharge_s
        query = partial(
            stored.calm_since, since_us=now_us - REMEMBERED_US, disturbed=plan.DISTURBED, carried=int(Status.OB | Status.CAL)
        )
        for ups, calm in (await self._store.read(query)).items():
            if now_us - calm.last_us > RESUME_GAP_US:
                continue
            stable_us = calm.disturbed_us or calm.first_us
            worked = None
            if calm.carried_from_us is not None and calm.carried_to_us is not None:
                worked = now_s - (now_us - calm.carried_from_us) / 1e6, now_s - (now_us - calm.carried_to_us) / 1e6
            self.standing.watch(ups).resume(now_s - (now_us - stable_us) / 1e6, worked, now_s)

    async def _take_up(self) -> None:
        """Waves and tests without an end: go on where the last commit was."""
        known = set(self._fleet.snapshot())
        waves = await self._store.read(partial(stored.waves, open_only=True))
        tests = await self._store.read(partial(stored.tests, ups=tuple(known), open_only=True))
        opened = {each.id: self._prepare(each) for each in waves if known.intersection(member.ups for member in each.members)}
        for test in tests:
            order = await self._store.read(partial(stored.order_of, ups=test.ups, order_actor=self._order_actor(test)))
            if order is None and test.sent is None:
                await self._never_sent(test, opened.get(test.wave_id or 0))
                continue
            points = await self._store.read(partial(stored.points, test_id=test.id))
            run = self._resume(test, order, points)
            self._spawn(self._conduct(run, fresh=False), f"battery test {test.ups}")
        for wave in opened.values():
            self._spawn(self._run_wave(wave), f"wave {wave.stored.id}")

    def _resume(self, test: StoredTest, order: str | None, points: Sequence[stored.StoredPoint]) -> Running:
        """A test of an earlier run of the agent, as far as it was recorded."""
        now_s, now_us = self._clock.monotonic(), self._clock.wall_us()

        def mono_s(at_us: int) -> float:
            return now_s - (now_us - at_us) / 1e6

        bound_us = test.bound_us if test.bound_us is not None else now_us
        wave = self._waves.get(test.wave_id or 0)
        rules = wave.stored.rules if wave is not None else self.rules
        course = Course(test.asked, rules, mono_s(test.started_us), mono_s(bound_us))
        nominal_v = self.standing.number(test.ups, "battery.voltage.nominal")
        told = [(each.at_us, _old_point(each, mono_s(each.at_us), nominal_v)) for each in points]
        course.before = [point for at_us, point in told if at_us <= test.started_us]
        for at_us, point in told:
            if at_us > test.started_us:
                course.see(point)
        outcome = test.sent or order
        course.watched_s = now_s
        course.sent = Outcome(outcome) if outcome else Outcome.UNCONFIRMED
        course.unsure = test.sent is None and course.sent is Outcome.UNCONFIRMED
        if test.stop_reason is not None:
            kind, _, reason = test.stop_reason.partition(": ")
            course.stop_kind, course.stopped = kind, reason
        bounded = Form("", None, (bound_us - test.started_us) / 1e6)
        run = Running(test, course, bounded, saved_s=now_s)
        self._follow(run)
        self._busy[test.ups] = float("inf")
        return run

    async def _never_sent(self, test: StoredTest, wave: Wave | None) -> None:
        """A test that was written down and, by the order log, never ordered: its UPS has its turn still to come."""
        text = "the agent stopped before it was sent"
        write = stored.end_test(
            test.id, self._clock.wall_us(), Verdict.ABORTED, text, {}, wave_id=test.wave_id, again=wave is not None
        )
        await self._store.commit(write, test.ups)
        if wave is not None:
            wave.members[test.ups] = StoredMember(test.ups, "waiting", text)

    # -- waves

    def _open(self, row: StoredWave) -> Wave:
        wave = self._prepare(row)
        self._spawn(self._run_wave(wave), f"wave {row.id}")
        return wave

    def _prepare(self, row: StoredWave) -> Wave:
        closes_s = None
        if row.closes_us is not None:
            closes_s = self._clock.monotonic() + (row.closes_us - self._clock.wall_us()) / 1e6
        wave = Wave(row, {member.ups: member for member in row.members}, closes_s)
        self._waves[row.id] = wave
        return wave

    async def _run_wave(self, wave: Wave) -> None:
        asked, rules = wave.stored.asked, wave.stored.rules
        while True:
            wave.news.clear()
            waiting = [member.ups for member in wave.members.values() if member.state == "waiting"]
            now_s = self._clock.monotonic()
            step = plan.next_step(
                wave.as_planned(), self._units(waiting, asked, rules), self._mates, self._busy, tuple(self._running), now_s
            )
            match step:
                case plan.Begin(ups):
                    await self._begin_test(wave, ups)
                case plan.Refuse(ups, text):
                    await self._refuse(wave, ups, text)
                case plan.Wait(reasons):
                    wave.reasons = reasons
                    await self._pause(wave, now_s)
                case plan.Close():
                    await self._close(wave)
                    return

    async def _pause(self, wave: Wave, now_s: float) -> None:
        """Until a test ends, a UPS is recharged, the window closes, or some time has passed."""
        moments = [free_s for free_s in self._busy.values() if free_s > now_s]
        if wave.closes_s is not None:
            moments.append(max(wave.closes_s, now_s))
        pause_s = min([WAVE_LOOK_S, *(moment - now_s for moment in moments)])
        try:
            async with asyncio.timeout(max(pause_s, 0.05)):
                await wave.news.wait()
        except TimeoutError:
            return

    async def _refuse(self, wave: Wave, ups: str, text: str) -> None:
        wave.members[ups] = StoredMember(ups, "refused", text)
        await self._store.commit(stored.refuse_member(wave.stored.id, text), ups)
        self._tell(ups, "battery-test-refused", "refused", f"not tested: {text}", Severity.NOTICE)

    async def _close(self, wave: Wave) -> None:
        members = wave.members.values()
        counts = {verdict: sum(each.verdict is verdict for each in members) for verdict in Verdict}
        refused = sum(each.state == "refused" for each in members)
        parts = [f"{count} {verdict.value}" for verdict, count in counts.items() if count]
        parts += [f"{refused} not tested"] if refused else []
        text = ", ".join(parts) or "nobody was to be tested"
        good = counts[Verdict.PASSED] == len(members)
        outcome = "passed" if good else "failed" if counts[Verdict.FAILED] else "incomplete"
        await self._store.commit(stored.end_wave(wave.stored.id, self._clock.wall_us(), outcome, text))
        self._waves.pop(wave.stored.id, None)
        wave.stored = replace(wave.stored, outcome=outcome, text=text)
        wave.done.set()
        severity = Severity.INFO if good else Severity.WARNING if counts[Verdict.FAILED] else Severity.NOTICE
        self._tell(None, "test-wave", Phase.END.value, f"{self._title(wave.stored)} is over: {text}", severity)

    @staticmethod
    def _title(row: StoredWave) -> str:
        return f"{row.schedule or 'a wave'}: {row.asked}" if row.schedule else f"{row.asked}"

    # -- one test

    async def _begin_test(self, wave: Wave, ups: str) -> None:
        """Write the test down; from then on it has an end, whatever happens."""
        rules, now_s, now_us = wave.stored.rules, self._clock.monotonic(), self._clock.wall_us()
        try:
            ordered = form(wave.stored.asked, rules, self._fleet.orders(ups))
        except OrderError as error:
            await self._refuse(wave, ups, str(error))
            return
        asked = wave.stored.asked
        if asked.kind == "timed" and ordered.value is not None:
            asked = replace(asked, for_s=float(ordered.value))
        self._busy[ups] = float("inf")
        test = StoredTest(
            0, ups, asked, wave.stored.actor, now_us, now_us + round(ordered.bound_s * 1e6), None, None, None, None, "", {},
            wave.stored.id, wave.stored.schedule,
        )  # fmt: skip
        try:
            number = await self._store.commit(stored.begin_test(test), ups)
        except BaseException:
            self._busy.pop(ups, None)
            raise
        course = Course(asked, rules, now_s, now_s + ordered.bound_s)
        before = list(self.standing.watch(ups).latest)
        course.before = [self.standing.point(reading) for reading in before]
        course.runtime_s = self.standing.number(ups, "battery.runtime")
        run = Running(replace(test, id=number), course, ordered, unsaved=before, saved_s=now_s)
        self._follow(run)
        wave.members[ups] = StoredMember(ups, "testing", test_id=number)
        self._spawn(self._conduct(run, fresh=True), f"battery test {ups}")

    async def _conduct(self, run: Running, *, fresh: bool) -> None:
        """A test from its order to its verdict."""
        ups, course = run.test.ups, run.course
        self._fleet.tell(ups, {"ups.test.result": IN_PROGRESS, "ups.test.date": _date(run.test.started_us)})
        left_s = max(0.0, course.bound_s - self._clock.monotonic())
        self._fleet.expect_test(ups, left_s + GRACE_S)
        if fresh:
            await self._order(run)
        while not course.over(self._clock.monotonic(), contact=self.standing.contact(ups)):
            run.news.clear()
            if not course.stopped:
                await self._look(run)
            if course.stopped and course.running:
                await self._stop_device(run)
            self._save(run)
            try:
                async with asyncio.timeout(LOOK_S):
                    await run.news.wait()
            except TimeoutError:
                continue
        await self._finish(run)

    async def _order(self, run: Running) -> None:
        """Give the order, once; what became of it is committed."""
        ups, course = run.test.ups, run.course
        if self.standing.outage(ups):
            course.unsent = "mains failed before it was sent"
            return
        try:
            actor = self._order_actor(run.test)
            result = await self._fleet.perform(ups, run.form.name, run.form.value, actor=actor)
        except OrderError as error:
            course.unsent = str(error)
            return
        course.sent, course.reply = result.outcome, result.reply or ""
        if not result.sent:
            course.unsent = result.text or f"{result.outcome.value}: nothing was sent"
        await self._store.commit(stored.sent_test(run.test.id, result.outcome.value, actor), ups)

    async def _look(self, run: Running) -> None:
        """See whether the test is to be ended, and write that down before its UPS is told."""
        window = self._maintenance.of(run.test.ups)
        found = run.course.reason_to_stop(self._clock.monotonic())
        if found is None and window is not None:
            found = "maintenance", f"maintenance began, by {window.actor}"
        if found is not None:
            await self._intend_stop(run, *found)

    async def _intend_stop(self, run: Running, kind: str, reason: str) -> None:
        if run.course.stopped:
            return
        run.course.stop_kind, run.course.stopped = kind, reason
        writing = asyncio.ensure_future(self._store.commit(stored.stop_intent(run.test.id, f"{kind}: {reason}")))
        await asyncio.wait({writing}, timeout=RECORD_S)

    async def _stop_device(self, run: Running) -> None:
        """Tell a UPS that says it tests to stop; again, if it still says so a while later."""
        now_s = self._clock.monotonic()
        if now_s < run.stop_due_s or run.stops >= MOST_STOPS:
            return
        run.stops += 1
        run.stop_due_s = now_s + STOP_AGAIN_S
        try:
            await self._fleet.perform(run.test.ups, STOP, None, actor=self._order_actor(run.test))
        except OrderError as error:
            log.warning("%s: its test can't be stopped: %s", run.test.ups, error)

    def _save(self, run: Running, *, now: bool = False) -> None:
        """Commit the curve so far, without waiting: a database that is away must not hold up the end of a test."""
        now_s = self._clock.monotonic()
        if not run.unsaved or (not now and now_s - run.saved_s < SAVE_S) or (run.saving is not None and not run.saving.done()):
            return
        readings, run.unsaved, run.saved_s = run.unsaved, [], now_s
        run.saving = self._spawn(self._store.commit(stored.add_points(run.test.id, readings)), f"curve {run.test.ups}")

    async def _finish(self, run: Running) -> None:
        """The verdict: committed, told, published, and what it means for the rest of the wave."""
        test, course = run.test, run.course
        if run.saving is not None:
            await asyncio.wait({run.saving})
        self._save(run, now=True)
        if run.saving is not None:
            await asyncio.wait({run.saving})
        ended_us, now_s = self._clock.wall_us(), self._clock.monotonic()
        verdict, text = course.judge(now_s)
        evidence = {**course.evidence(), "stops_sent": run.stops}
        write = stored.end_test(test.id, ended_us, verdict, text, evidence, wave_id=test.wave_id)
        await self._store.commit(write, test.ups)
        self._fleet_forget(test.ups)
        self._leave(test.ups)
        self._busy[test.ups] = now_s + (course.rules.recharge_s if course.first_s is not None else 0.0)
        self._note_battery(test.ups, verdict, text)
        self._publish_result(replace(test, verdict=verdict, ended_us=ended_us))
        title = f"{test.schedule}: {test.asked}" if test.schedule else str(test.asked)
        self._tell(test.ups, "battery-test-result", verdict.value, f"{title} {verdict.value}: {text}",
                   SEVERITIES.get(verdict, Severity.NOTICE))  # fmt: skip
        wave = self._waves.get(test.wave_id or 0)
        if wave is not None:
            wave.members[test.ups] = StoredMember(test.ups, "tested", text, test.id, verdict)
        for each in self._waves.values():
            each.news.set()

    def _fleet_forget(self, ups: str) -> None:
        if ups in self._fleet.snapshot():
            self._fleet.expect_test(ups, 0.0)

    def _note_battery(self, ups: str, verdict: Verdict, text: str) -> None:
        if verdict is Verdict.FAILED:
            self.standing.failed[ups] = text
        elif verdict is Verdict.PASSED:
            self.standing.failed.pop(ups, None)

    def _publish_result(self, test: StoredTest) -> None:
        if test.verdict is not None:
            self._fleet.tell(
                test.ups, {"ups.test.result": RESULT_TEXTS[test.verdict], "ups.test.date": _date(test.started_us)}
            )

    @staticmethod
    def _order_actor(test: StoredTest) -> str:
        """Who gives the orders of a test, in the order log; by it a restarted agent knows whether one was given."""
        return f"{test.actor} test {test.id}"

    # -- what is seen

    def _follow(self, run: Running) -> None:
        if not self._running:
            self._bus.attach(Reading, self._seen)
        self._running[run.test.ups] = run

    def _leave(self, ups: str) -> None:
        self._running.pop(ups, None)
        if not self._running:
            self._bus.detach(Reading, self._seen)

    def _seen(self, reading: Reading) -> None:
        run = self._running.get(reading.device)
        if run is not None:
            run.course.see(self.standing.point(reading))
            run.unsaved.append(reading)
            run.news.set()

    def _told(self, event: Event) -> None:
        if event.ups is None:
            return
        run = self._running.get(event.ups)
        if event.name == "battery-replaced":
            self.standing.failed.pop(event.ups, None)
        elif event.name == STOP and run is not None and not run.course.stopped and event.value != Outcome.REJECTED.value:
            run.course.stop_kind, run.course.stopped = "hand", f"it was told to stop {event.text.partition(',')[0]}"

    def _units(self, upses: Collection[str], asked: Asked, rules: Rules) -> dict[str, plan.Unit]:
        """These UPSes and their partners as they stand now."""
        wanted = dict.fromkeys(upses)
        for ups in upses:
            wanted.update(dict.fromkeys(self._mates.get(ups, ())))
        return {ups: self.standing.unit(ups, asked, rules) for ups in wanted}

    def _tell(self, ups: str | None, name: str, value: str, text: str, severity: Severity) -> None:
        self._bus.publish(Event(self._clock.wall_us(), ups, EventKind.TEST, name, value, text, severity))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, (StoreError, QxfleetError)):
            log.error("%s: %s", task.get_name(), error)
        else:
            log.error("%s ended by an error that is ours", task.get_name(), exc_info=error)


def feeds_of(config: Config) -> tuple[tuple[str, ...], ...]:
    """The feeds of each load of the configuration."""
    return tuple(load.fed_by for load in config.shutdown.loads)


def battery_tests(agent: Agent) -> BatteryTests:
    """The part, for an agent that has :class:`Maintenance`."""
    maintenance = agent.part(Maintenance)
    assert maintenance is not None, "battery tests need the part that keeps maintenance windows, ahead of them"
    return BatteryTests(
        agent.fleet, agent.store, agent.bus, agent.clock, maintenance, agent.config.tests, feeds_of(agent.config)
    )  # fmt: skip


def _old_point(point: stored.StoredPoint, mono_s: float, nominal_v: float | None) -> Point:
    get = point.values.get
    return Point(mono_s, point.status, get("battery.voltage"), nominal_v, get("ups.load"), get("battery.charge"))


def _date(at_us: int) -> str:
    return from_us(at_us).strftime("%Y-%m-%d")
