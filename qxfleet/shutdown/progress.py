"""What has become of each step so far: where loads and UPSes stand in a run, and which open steps have come to their end."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qxfleet.model.loads import Load, NutLoggedOut, Outlet, Plan
from qxfleet.shutdown.durations import expected_s, longest_s
from qxfleet.shutdown.feeds import UNSEEN
from qxfleet.shutdown.model import Act, Answer, End, Mains, Record, Result, Taken, UpsSeen, World
from qxfleet.shutdown.triggers import spell_s

RETRY_S = 10.0
"""Between two tries of what was refused."""

TRIES = 12
"""Of one stop, however short; its stop_time ends it sooner as a rule."""

CHECK_S = 10.0
"""How long an interrupted step's effect is looked for before the step is taken not to have happened."""

GRACE_S = 60.0
"""Beyond its offdelay: a UPS that is still on then does not cut. Real units round, and some have delays of their own."""

SETTLE_S = 5.0
"""What a called-back UPS is given to show that it counts no more."""


class Standing(enum.Enum):
    """Of a load. ABSENT: down, and not by this run. AGAIN: its stop was refused, and is to be tried again."""

    UP = "up"
    STOPPING = "stopping"
    AGAIN = "again"
    STUCK = "stuck"
    DOWN = "down"
    STARTING = "starting"
    ABSENT = "absent"


@dataclass(slots=True)
class LoadRun:
    """The steps of a load since its last stop began: its first try, its last one, and the last try to start it since.

    The try after one that the agent did not live to see answered is a first one again: it has the whole stop_time.
    """

    first: Taken
    stop: Taken
    start: Taken | None = None

    @property
    def interrupted(self) -> bool:
        """The agent ended before its stop was answered."""
        return self.stop.answer is Answer.INTERRUPTED


@dataclass(slots=True)
class UpsRun:
    """The last cut of a UPS, how often that was tried, and what came after."""

    cut: Taken
    tries: int = 1
    call_back: Taken | None = None
    switch_on: Taken | None = None

    @property
    def told(self) -> bool:
        """Told to cut, and not known to be back, or not to have done it."""
        return self.cut.result is None

    @property
    def kept_off(self) -> bool:
        """Cut to stay off, and not switched on again."""
        on = self.switch_on is not None and self.switch_on.result is Result.DONE
        return self.cut.step.stay_off and self.cut.result is Result.DONE and not on


@dataclass(slots=True)
class Progress:
    """What the record says, by load and by UPS; ``last_cut_s``: when the last UPS was told."""

    loads: dict[str, LoadRun]
    upses: dict[str, UpsRun]
    open: list[Taken]
    last_cut_s: float | None = None


def progress(record: Record) -> Progress:
    """The record, folded."""
    found = Progress({}, {}, [])
    for taken in record.taken:
        step, name = taken.step, taken.step.target
        if taken.result is None:
            found.open.append(taken)
        if step.act is Act.STOP:
            run = found.loads.get(name)
            anew = run is None or step.attempt == 1 or run.interrupted
            first = taken if run is None or anew else run.first
            found.loads[name] = LoadRun(first, taken)
        elif step.act is Act.START:
            if name in found.loads:
                found.loads[name].start = taken
        elif step.act is Act.CUT:
            was = found.upses.get(name)
            found.upses[name] = UpsRun(taken, was.tries + 1 if was is not None and step.attempt > 1 else 1)
            found.last_cut_s = taken.begun_s
        elif name in found.upses and step.act is Act.CALL_BACK:
            found.upses[name].call_back = taken
        elif name in found.upses:
            found.upses[name].switch_on = taken
    return found


def up_seen(plan: Plan, record: Record, world: World) -> dict[str, bool | None]:
    """Whether each load is seen to be up; None where nothing tells. Where nothing is touched, one that is up tells nothing of
    what would have become of it; and the host that this runs on is up."""
    up: dict[str, bool | None] = dict.fromkeys(plan.named)
    for name, seen in world.loads.items():
        load = plan.named.get(name)
        if load is not None and load.down_when is not None and not (seen.up and not record.armed):
            up[name] = seen.up
    if record.armed and plan.host is not None:
        up[plan.host] = True
    return up


def ends(
    plan: Plan, record: Record, world: World, found: Progress, seen_up: Mapping[str, bool | None], now_s: float
) -> list[End]:
    """Open steps whose end is seen, or whose time is over. ``seen_up``: of :func:`up_seen`."""
    done: list[End] = []
    for taken in found.open:
        name = taken.step.target
        end: End | None
        if taken.step.act in (Act.STOP, Act.START):
            load = plan.named[name]
            up = seen_up[name]
            if taken.step.act is Act.STOP and name == plan.host and taken.begun_s < world.booted_s:
                end = End(taken.number, Result.DONE, "it was off, and is up again")
            elif taken.step.act is Act.STOP:
                closed = (seen := world.loads.get(name)) is not None and seen.closed
                end = _stop_end(taken, found.loads[name].first, load, up, closed, name in world.looking, record, now_s)
            else:
                end = _start_end(taken, load, up, name in world.looking, record, now_s)
        else:
            end = _ups_end(taken, world.upses.get(name, UNSEEN), record, now_s)
        if end is None:
            continue
        done.append(end)
        run = found.upses.get(name)
        if taken.step.act is Act.CALL_BACK and end.result is Result.DONE and run is not None and run.told:
            done.append(End(run.cut.number, Result.UNDONE, "called back before it cut"))
    return done


def _stop_end(
    taken: Taken, first: Taken, load: Load, up: bool | None, closed: bool, looking: bool, record: Record, now_s: float
) -> End | None:
    """``looking``: an agent that has just taken the step up has not had its look yet, whatever the time is."""

    def end(result: Result, text: str) -> End:
        return End(taken.number, result, text)

    spent_s, answer = now_s - first.begun_s, taken.answer
    if up is False:
        return end(Result.DONE, f"down after {spell_s(spent_s)}")
    if not record.armed:
        would_s = expected_s(load)
        over = answer is not None and now_s - taken.begun_s >= would_s
        return end(Result.DONE, f"would be down after {spell_s(would_s)}") if over else None
    if answer in (Answer.FAILED, Answer.UNSUPPORTED):
        return end(Result.FAILED, taken.text or "refused")
    if looking and up is None:
        return None
    watched = load.down_when is not None or up is not None
    said = f": {taken.text}" if taken.text else ""
    if answer is Answer.INTERRUPTED and not isinstance(load.stop, Outlet):
        looked_s = now_s - (taken.begun_s if taken.answered_s is None else taken.answered_s)
        if watched and up is None and looked_s < CHECK_S:
            return None
        return end(Result.FAILED, "the agent ended before it was answered" + (", and it is up" if up else ""))
    if not watched and now_s - taken.begun_s >= load.stop_time_s:
        if answer is None:
            return end(Result.FAILED, f"no answer within {spell_s(load.stop_time_s)}")
        return end(Result.NOT_SEEN, f"not seen off: nothing tells, its {spell_s(load.stop_time_s)} are over")
    if watched and spent_s >= load.stop_time_s:
        if closed and up is None and answer in (Answer.ACCEPTED, Answer.UNCONFIRMED):
            sign = "NUT clients are logged out" if isinstance(load.down_when, NutLoggedOut) else "port is closed"
            why = f"not seen off after {spell_s(spent_s)}: its {sign}, and nothing else agrees{said}"
            return end(Result.NOT_SEEN, why)
        return end(Result.FAILED, f"not {'down' if up else 'seen off'} after {spell_s(spent_s)}{said}")
    return None


def _start_end(taken: Taken, load: Load, up: bool | None, looking: bool, record: Record, now_s: float) -> End | None:
    spent_s, answer = now_s - taken.begun_s, taken.answer
    if up:
        return End(taken.number, Result.DONE, f"up after {spell_s(spent_s)}")
    if not record.armed:
        return None if answer is None else End(taken.number, Result.DONE, "would be started")
    if answer in (Answer.FAILED, Answer.UNSUPPORTED):
        return End(taken.number, Result.FAILED, taken.text or "refused")
    if looking and up is None:
        return None
    if answer is Answer.INTERRUPTED and now_s - (taken.answered_s or taken.begun_s) >= CHECK_S:
        return End(taken.number, Result.FAILED, "the agent ended before it was answered")
    if load.down_when is None and answer in (Answer.ACCEPTED, Answer.UNCONFIRMED):
        return End(taken.number, Result.DONE, "started; nothing tells whether it is up")
    if spent_s >= load.start_time_s:
        return End(taken.number, Result.FAILED, f"not up after {spell_s(spent_s)}")
    return None


def _ups_end(taken: Taken, seen: UpsSeen, record: Record, now_s: float) -> End | None:
    answer, on = taken.answer, seen.contact and seen.output_since_s is not None
    if answer in (Answer.FAILED, Answer.UNSUPPORTED):
        return End(taken.number, Result.FAILED, taken.text or "refused")
    if taken.step.act is Act.CUT:
        return _cut_end(taken, seen, record, on, now_s)
    if answer is None:
        return None
    if not record.armed:
        return End(taken.number, Result.DONE, "would be done")
    spent_s = now_s - (taken.begun_s if taken.answered_s is None else taken.answered_s)
    if taken.step.act is Act.CALL_BACK:
        if spent_s >= SETTLE_S and on and not seen.counting_down:
            return End(taken.number, Result.DONE, "counts down no more")
        return End(taken.number, Result.FAILED, "it did not take it") if spent_s >= 6 * SETTLE_S else None
    if on:
        return End(taken.number, Result.DONE, "its output is on")
    return End(taken.number, Result.FAILED, "its output stays off") if spent_s >= GRACE_S else None


def _cut_end(taken: Taken, seen: UpsSeen, record: Record, on: bool, now_s: float) -> End | None:
    """A cut is over when the UPS is back, or is shown never to have gone: on after its time though mains have been away since,
    which nothing but a battery that was never cut can do, or on all the while. Whatever can't be shown is taken to have
    happened."""
    step, off_s = taken.step, taken.begun_s + taken.step.offdelay_s
    if not record.armed:
        back_s = off_s + (0.0 if step.stay_off else step.ondelay_s)
        over = taken.answer is not None and now_s >= back_s and (step.stay_off or seen.mains is Mains.ON)
        return End(taken.number, Result.DONE, "would have been off" + ("" if step.stay_off else " and back")) if over else None
    came = not step.stay_off and seen.since_s > off_s  # mains were there for a moment
    returned = on and not step.stay_off and (seen.output_since_s or 0.0) > off_s and seen.mains is Mains.ON
    if now_s < off_s + GRACE_S and not (returned and not seen.counting_down):
        return None
    if on and ((seen.mains is Mains.OFF and not came) or (seen.output_since_s or 0.0) <= taken.begun_s):
        return End(taken.number, Result.NO_EFFECT, f"still on {spell_s(now_s - off_s)} after it was to be off")
    if on and (seen.mains is Mains.ON or came):
        return End(taken.number, Result.DONE, "was off and is back")
    if step.stay_off and not on:
        return End(taken.number, Result.DONE, "off")
    return None


def standing(
    load: Load, run: LoadRun, up: bool | None, trouble_since: Callable[[Load], float | None], now_s: float
) -> Standing:
    """Where a load with steps stands. ``trouble_since``: since when it must go for the present reason; a stop that failed before
    that counts no more. None: it need not go. One that was told to start, nobody knows with what
    success, is up when it must go."""
    if run.start is not None:
        match run.start.result:
            case None:
                return Standing.STARTING
            case Result.DONE:
                return Standing.ABSENT if up is False else Standing.UP
            case _:
                unknown = up is None and run.start.answer in (Answer.INTERRUPTED, Answer.UNCONFIRMED)
                return Standing.UP if up or (unknown and trouble_since(load) is not None) else Standing.DOWN
    stop = run.stop
    if stop.result is None:
        return Standing.STOPPING
    if stop.down:
        return Standing.UP if up else Standing.DOWN
    if up is False:
        return Standing.DOWN
    trouble_since_s = trouble_since(load)
    if trouble_since_s is None or (stop.ended_s or now_s) < trouble_since_s:
        return Standing.UP
    in_time = stop.answer is Answer.FAILED and now_s - run.first.begun_s < load.stop_time_s
    again = stop.step.attempt < TRIES and (in_time or run.interrupted)
    return Standing.AGAIN if again else Standing.STUCK


def left_s(load: Load, at: Standing, run: LoadRun | None, now_s: float) -> float:
    """How long the stop of a load that must go may still take."""
    if at in (Standing.DOWN, Standing.ABSENT, Standing.STUCK) or load.stop is None:
        return 0.0
    if at in (Standing.STOPPING, Standing.AGAIN) and run is not None and not (at is Standing.AGAIN and run.interrupted):
        begun_s = run.first.begun_s if load.down_when is not None else run.stop.begun_s
        return max(longest_s(load) - (now_s - begun_s), 1.0)
    return longest_s(load)


def waits(record: Mapping[str, LoadRun], name: str) -> float | None:
    """When the last step of a load ended; None if it has none, or one is open."""
    run = record.get(name)
    last = None if run is None else run.start or run.stop
    return None if last is None else last.ended_s
