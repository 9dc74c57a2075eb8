"""Everything the planner looks at in one moment, worked out once: feeds, triggers, where loads and UPSes stand, who must go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from qxfleet.model.loads import Load, Plan
from qxfleet.shutdown.durations import down_in_s
from qxfleet.shutdown.feeds import Feed, feeds_of, runtime_alone_s
from qxfleet.shutdown.model import Answer, End, Mains, Record, Result, Taken, World
from qxfleet.shutdown.progress import LoadRun, Progress, Standing, UpsRun, ends, left_s, progress, standing, up_seen
from qxfleet.shutdown.triggers import NOTHING, remember

GONE = (Standing.DOWN, Standing.ABSENT)
SETTLED = (Standing.DOWN, Standing.ABSENT, Standing.STUCK)
"""What nobody waits for any more."""

ALWAYS_S = float("-inf")


@dataclass(frozen=True, slots=True)
class Must:
    """Why a load must go, as a sentence, and for which UPSes' sake."""

    why: str
    due_to: tuple[str, ...]


class Scene:
    """One moment. ``ended`` are the steps that came to their end; everything else is as after them."""

    def __init__(self, plan: Plan, record: Record, world: World, now_s: float) -> None:
        self.plan, self.world, self.now_s = plan, world, now_s
        self.feeds = feeds_of(plan, world, now_s)
        found = progress(record)
        self.up = up_seen(plan, record, world)
        self.ended = tuple(ends(plan, record, world, found, self.up, now_s))
        self.record = _with_ends(record, self.ended, now_s)
        self.found: Progress = progress(self.record) if self.ended else found
        self.told = {name for name, run in self.found.upses.items() if run.told}
        self.kept_off = {name for name, run in self.found.upses.items() if run.kept_off}
        self.finishing: set[str] = set()
        self.spared = self._spared()
        self.memory = record.memory
        self.at = {load.name: self._standing(load) for load in plan.loads}
        self.need_s = self._need_s()
        finish = plan.on_power_return == "finish" and bool(record.taken) and not record.cancelled
        memory = remember(plan, record.memory, self.feeds, self.need_s, now_s, finish=finish)
        self.memory = replace(memory, spared=self.spared)
        if finish:
            self.finishing = {name for name in memory.upses if self._sees_through(name)}
        self.must = self._must_go()
        if self.finishing and not self.must and not self._to_finish():
            upses = {name: each for name, each in memory.upses.items() if name not in self.finishing}
            self.memory = replace(self.memory, upses=upses)
            self.finishing = set()

    # -- feeds

    def good(self, ups: str) -> bool:
        """On mains, and to stay so as far as is known."""
        return self.feeds[ups].good and ups not in self.told and ups not in self.kept_off and ups not in self.finishing

    def _fired(self) -> dict[str, tuple[str | None, ...]]:
        """UPSes that are as good as gone, for loads of each trigger in the plan's order: why, None where one has not fired."""
        triggers = self.plan.triggers
        fired = {
            ups: tuple(was.fired.get(trigger) for trigger in triggers) for ups, was in self.memory.upses.items()
            if was.fired and not (self.spared is not None and ups in self.spared)
        }  # fmt: skip
        return fired | {ups: ("it was told to cut",) * len(triggers) for ups in self.told}

    def triggered(self, ups: str) -> bool:
        """Any trigger has fired on it."""
        return bool(self.memory.upses.get(ups, NOTHING).fired)

    @cached_property
    def live(self) -> frozenset[str]:
        """UPSes whose power is good enough to start on."""
        return frozenset(ups for ups in self.feeds if self._enough(ups))

    def _enough(self, ups: str) -> bool:
        feed, back = self.feeds[ups], self.plan.coming_back
        if not self.good(ups) or not feed.seen.contact or self.triggered(ups):
            return False
        stable_s = self.now_s - feed.seen.since_s
        if feed.charge is None:
            return stable_s >= max(back.mains_stable_s, back.unknown_charge_s)
        return stable_s >= back.mains_stable_s and feed.charge >= back.charge_above

    def powered(self, load: Load) -> bool:
        """Enough of its feeds are good enough to start it."""
        return len(self.live.intersection(load.fed_by)) >= load.needs_feeds

    def _sees_through(self, ups: str) -> bool:
        """Its trigger fired, mains are back, and what was begun for it is to be finished all the same."""
        remembered, feed = self.memory.upses[ups], self.feeds[ups]
        hot = any(condition.kind == "temperature-above" for condition in remembered.holds_since_s)
        return bool(remembered.fired) and feed.seen.mains is Mains.ON and not hot

    def _to_finish(self) -> bool:
        """Whether a UPS that is to be seen through can still be cut."""
        return self.plan.ups_off.then != "leave" and any(self.empty(ups) and self.may_try(ups) for ups in self.finishing)

    def may_try(self, ups: str) -> bool:
        """Whether a UPS may be told to cut: in contact, with its output on, not told yet, and not in vain too often."""
        seen, run = self.feeds[ups].seen, self.found.upses.get(ups)
        if not seen.contact or seen.maintenance or seen.output_since_s is None or ups in self.told or ups in self.kept_off:
            return False
        if run is None or run.cut.result is Result.UNDONE or self.new_outage(ups):
            return True
        if run.cut.result is Result.DONE:
            return any(
                stopped is not None and stopped.first.begun_s > run.cut.begun_s
                for stopped in (self.found.loads.get(load.name) for load in self.plan.fed[ups])
            )
        return run.cut.step.attempt < MOST_CUTS[run.cut.result or Result.FAILED] and not _never(run.cut)

    def new_outage(self, ups: str) -> bool:
        """Mains failed again since it was last told to cut, and a trigger has fired again."""
        run, feed = self.found.upses.get(ups), self.feeds[ups]
        return run is not None and feed.on_battery and self.triggered(ups) and run.cut.begun_s < feed.seen.since_s

    def empty(self, ups: str) -> bool:
        """Nothing on a UPS runs any more, or is about to; the agent's own host is not asked."""
        return all(
            self.at[load.name] in GONE and not self._may_boot(load) and not self._stirs(load)
            for load in self.plan.fed[ups] if load.name != self.plan.host
        )  # fmt: skip

    # -- loads

    def _standing(self, load: Load) -> Standing:
        run, up = self.found.loads.get(load.name), self.up[load.name]
        if run is None:
            return Standing.ABSENT if up is False else Standing.UP
        at = standing(load, run, up, self._trouble_since, self.now_s)
        if at is Standing.DOWN and self._may_have_woken(load, run):
            return Standing.UP
        return at

    def _may_have_woken(self, load: Load, run: LoadRun) -> bool:
        """Its power came back since it was stopped, and nothing tells: with mains gone again, for it or for what goes after it,
        it is taken to be up."""
        if load.down_when is not None or load.start is not None or load.name == self.plan.host or not self.record.armed:
            return False
        return any(self.power_came(ups, run.stop) for ups in load.fed_by) and self._threatened(load)

    def _may_boot(self, load: Load) -> bool:
        """Its power came back since it was stopped, a moment ago: it may be starting by that, and is not seen to be up yet."""
        run = self.found.loads.get(load.name)
        if run is None or load.start is not None or load.down_when is None or not self.record.armed:
            return False
        return any(
            self.now_s - since_s < load.start_time_s and self.power_came(ups, run.stop)
            for ups in load.fed_by if (since_s := self.feeds[ups].seen.output_since_s) is not None
        )  # fmt: skip

    def _stirs(self, load: Load) -> bool:
        """It was seen off by this run, and its address answers again though its port does not: it is starting."""
        run, seen = self.found.loads.get(load.name), self.world.loads.get(load.name)
        return run is not None and run.stop.result is Result.DONE and seen is not None and seen.closed and seen.up is None

    def _threatened(self, load: Load) -> bool:
        """A UPS that feeds it, or something that goes after it, is on battery."""
        named = self.plan.named
        return any(
            self.feeds[ups].on_battery for name in (load.name, *self.plan.later[load.name]) for ups in named[name].fed_by
        )

    def power_came(self, ups: str, stop: Taken) -> bool:
        """Since a stop, its output was off and mains brought it back."""
        cut, seen, ended_s = self.found.upses.get(ups), self.feeds[ups].seen, stop.ended_s
        if cut is not None and cut.cut.result is Result.DONE and cut.cut.begun_s >= stop.begun_s:
            return ups not in self.kept_off
        if ended_s is None or seen.output_since_s is None:
            return False
        return seen.output_since_s > ended_s and seen.since_s > ended_s

    def _trouble_since(self, load: Load) -> float | None:
        """Since when it must go, for its own sake or for that of anything that goes after it; None: it need not."""
        wish, since = self.record.ordered, list[float]()
        for name in (load.name, *self.plan.later[load.name]):
            if wish is not None and not wish.released and name in wish.loads:
                return ALWAYS_S
            for ups in self.plan.named[name].fed_by:
                feed = self.feeds[ups]
                if feed.on_battery:
                    since.append(feed.seen.since_s)
                elif ups in self.told or ups in self.finishing or self.triggered(ups):
                    since.append(ALWAYS_S)
        return min(since, default=None)

    def unseen(self, load: str) -> bool:
        """It was told to stop, the plan goes on as if it were down, and nothing shows it off."""
        run = self.found.loads.get(load)
        return run is not None and run.stop.result is Result.NOT_SEEN and self.at[load] is Standing.DOWN and self.up[load] is None

    def run(self, load: str) -> LoadRun | None:
        """The steps of a load."""
        return self.found.loads.get(load)

    def ups_run(self, ups: str) -> UpsRun | None:
        """The cut of a UPS."""
        return self.found.upses.get(ups)

    def _at_risk(self) -> list[Load]:
        """Loads that run on too few good feeds, and that battery is what keeps going."""
        good = {ups for ups in self.feeds if self.good(ups)}
        going = {ups for ups, feed in self.feeds.items() if feed.on_battery or ups in self.told or ups in self.finishing} - good
        if not going:
            return []
        return [
            load for load in self.plan.loads
            if load.stop is not None and self.at[load.name] not in SETTLED and not going.isdisjoint(load.fed_by)
            and len(good.intersection(load.fed_by)) < load.needs_feeds
        ]  # fmt: skip

    def _spared(self) -> frozenset[str] | None:
        if not self.record.cancelled:
            return None
        before = self.record.memory.spared
        now = frozenset(name for name, feed in self.feeds.items() if feed.on_battery)
        return now if before is None else before & now

    def _need_s(self) -> dict[str, float]:
        """What the plan still takes for the loads of each UPS."""
        risk = self._at_risk()
        if not risk:
            return {}
        going = {load.name for load in risk}
        self._with_earlier(going)

        named, runs = self.plan.named, self.found.loads
        in_s = down_in_s(self.plan, {name: left_s(named[name], self.at[name], runs.get(name), self.now_s) for name in going})
        need: dict[str, float] = {}
        for load in risk:
            for ups in load.fed_by:
                if (seconds := in_s.get(load.name, 0.0)) >= need.get(ups, 0.0):
                    need[ups] = seconds
        return need

    def _with_earlier(self, going: set[str]) -> None:
        """Add what must be down before these."""
        stack = list(going)
        while stack:
            for name in self.plan.named[stack.pop()].after:
                if name not in going and self.plan.named[name].stop is not None and self.at[name] not in SETTLED:
                    going.add(name)
                    stack.append(name)

    def _must_go(self) -> dict[str, Must]:
        """Loads that must go and are not settled yet, with what must be down before them."""
        must: dict[str, Must] = {}
        fired, trigger_of = self._fired(), self.plan.trigger_of
        alike: dict[tuple[tuple[str, ...], int, int], Must | None] = {}
        for load in self.plan.loads if fired else ():
            if load.stop is None or self.at[load.name] in SETTLED:
                continue
            key = load.fed_by, load.needs_feeds, trigger_of[load.name]
            if key not in alike:
                alike[key] = self._must(load, fired, key[2])
            if (why := alike[key]) is not None:
                must[load.name] = why
        for name in self._wished():
            must.setdefault(name, Must(f"{self.record.ordered.actor if self.record.ordered else ''} ordered it", ()))
        self._close(must, list(must))
        host = self.plan.host
        if host is not None and host in must:
            last = Must(f"{host}, where the agent runs, must stop; nobody is left to stop this one later", must[host].due_to)
            more = [load.name for load in self._at_risk() if load.name not in must]
            must.update((name, last) for name in more)
            self._close(must, more)
        return must

    def _must(self, load: Load, fired: Mapping[str, tuple[str | None, ...]], trigger: int) -> Must | None:
        """Why a load must go, and all that are fed alike; None where enough feeds last."""
        reasons = {ups: why for ups in load.fed_by if ups in fired and (why := fired[ups][trigger]) is not None}
        if not reasons or self._lasting(load, reasons) >= load.needs_feeds:
            return None
        return Must(_sentence(reasons), tuple(reasons))

    def _close(self, must: dict[str, Must], stack: list[str]) -> None:
        while stack:
            name = stack.pop()
            for earlier in self.plan.named[name].after:
                if earlier not in must and self.plan.named[earlier].stop is not None and self.at[earlier] not in SETTLED:
                    must[earlier] = Must(f"{name} must stop and goes after it ({must[name].why})", must[name].due_to)
                    stack.append(earlier)

    def _lasting(self, load: Load, reasons: Iterable[str]) -> int:
        """Feeds that carry a load on: good ones, and batteries that outlast what stopping takes even with all of it on them."""
        leaving = [self.feeds[ups] for ups in reasons]
        return sum(
            self.good(ups) or self._outlasts(self.feeds[ups], leaving) for ups in load.fed_by if ups not in reasons
        )  # fmt: skip

    def _outlasts(self, feed: Feed, leaving: list[Feed]) -> bool:
        if not feed.on_battery or feed.name in self.told or feed.low_battery:
            return False
        alone_s = runtime_alone_s(feed, leaving)
        return alone_s is not None and alone_s > self.need_s.get(feed.name, 0.0) + self.plan.margin_s + self.plan.hold_s

    # -- an operator's wish

    def _wished(self) -> list[str]:
        """Loads that an operator wants stopped and that were not yet."""
        wish = self.record.ordered
        if wish is None or wish.released:
            return []
        return [name for name in sorted(wish.loads) if name in self.plan.named and not self._tried(name)]

    def _tried(self, name: str) -> bool:
        run = self.found.loads.get(name)
        if run is None:
            return self.at[name] in SETTLED or self.plan.named[name].stop is None
        return run.stop.result is not None and self.at[name] is not Standing.AGAIN

    @cached_property
    def stranded(self) -> tuple[Load, ...]:
        """Loads that were stopped, that nothing of ours starts, and whose power never went."""
        return tuple(
            load for load in self.plan.loads
            if load.start is None and self.at[load.name] is Standing.DOWN and load.name != self.plan.host
            and load.name not in self.held_down and not self.cycled(load) and not self.told.intersection(load.fed_by)
        )  # fmt: skip

    @cached_property
    def held_down(self) -> frozenset[str]:
        """Loads that stay down because an operator wants them down."""
        wish = self.record.ordered
        if wish is None or wish.released:
            return frozenset()
        over = all(self._tried(name) for name in wish.loads if name in self.plan.named)
        if wish.drill and over:
            return frozenset()
        names = {name for name in wish.loads if name in self.plan.named}
        stack = list(names)
        while stack:
            earlier = set(self.plan.named[stack.pop()].after) - names
            names |= earlier
            stack.extend(earlier)
        return frozenset(name for name in names if not (wish.cut and self.cycled(self.plan.named[name])))

    def cycled(self, load: Load) -> bool:
        """Its power was off and is back since it was stopped, so that a machine set to do so has started."""
        run = self.found.loads.get(load.name)
        if run is None:
            return False
        back = [ups for ups in load.fed_by if self._cycled(ups, run)]
        rest = [ups for ups in load.fed_by if ups not in back]
        return len(back) >= load.needs_feeds and all(self._off_since_before(ups, run, back) for ups in rest)

    def _off_since_before(self, ups: str, run: LoadRun, back: Iterable[str]) -> bool:
        """It was cut before these came back, and is off still: what hangs on them all was without power in between."""
        cut, seen = self.found.upses.get(ups), self.feeds[ups].seen
        if cut is None or cut.cut.begun_s < run.first.begun_s or (cut.cut.result is not None and ups not in self.kept_off):
            return False
        off_s = cut.cut.begun_s + cut.cut.step.offdelay_s
        if self.now_s < off_s or (seen.contact and seen.output_since_s is not None):
            return False
        return all((self.feeds[each].seen.output_since_s or 0.0) > off_s for each in back)

    def was_cut(self, ups: str, run: LoadRun) -> bool:
        """It was cut since the load was told to stop, and is not kept off."""
        cut = self.found.upses.get(ups)
        done = cut is not None and cut.cut.result is Result.DONE and cut.cut.begun_s >= run.first.begun_s
        return done and ups not in self.kept_off

    def _cycled(self, ups: str, run: LoadRun) -> bool:
        cut, seen = self.found.upses.get(ups), self.feeds[ups].seen
        if cut is not None and cut.cut.result is Result.DONE and cut.cut.begun_s >= run.first.begun_s:
            return ups not in self.kept_off
        ended_s = run.stop.ended_s
        return ended_s is not None and seen.output_since_s is not None and seen.output_since_s > ended_s


def _sentence(reasons: Mapping[str, str]) -> str:
    """``rack1-a, rack1-b: its battery is low``: UPSes of which the same is said are said together."""
    together: dict[str, list[str]] = {}
    for ups, why in reasons.items():
        together.setdefault(why, []).append(ups)
    return "; ".join(f"{', '.join(upses)}: {why}" for why, upses in together.items())


MOST_CUTS = {Result.FAILED: 3, Result.NO_EFFECT: 2}
"""How often a UPS is told to cut at most, by how the last time ended."""


def _never(cut: Taken) -> bool:
    """It was said that there is no such order."""
    return cut.answer is Answer.UNSUPPORTED


def _with_ends(record: Record, done: tuple[End, ...], now_s: float) -> Record:
    if not done:
        return record
    by_number = {end.number: end for end in done}
    taken = tuple(
        replace(each, result=end.result, ended_s=now_s) if (end := by_number.get(each.number)) is not None else each
        for each in record.taken
    )
    return replace(record, taken=taken)


def quiet(plan: Plan, record: Record, world: World) -> bool:
    """Nothing is under way and nothing threatens: most moments of most years."""
    if record.taken or record.memory.upses or (record.ordered is not None and not record.ordered.released):
        return False
    if any(seen.mains is Mains.OFF for seen in world.upses.values()):
        return False
    return not any(each.kind == "temperature-above" for trigger in plan.triggers for each in (*trigger.any, *trigger.all))
