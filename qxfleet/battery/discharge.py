"""Discharges cut out of readings: where each began and ended, why, and what it measured. Pure functions.

They look only at readings that are always stored (changes of status, every poll on battery or under test, one a minute), so
the same readings give the same discharges however often they are cut.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from qxfleet.battery.resistance import Resistance, resistance
from qxfleet.model.discharge import Cause, Discharge, Sample
from qxfleet.model.electrical import GONE_BELOW, nominal_input_v
from qxfleet.model.status import Status

OB, OL, CAL, LB = int(Status.OB), int(Status.OL), int(Status.CAL), int(Status.LB)

RETURN_S = 10.0
"""Mains that are back for less than this do not end an outage; the same wait as that of the event "on-battery"."""

SILENCE_S = 1800.0
"""A discharge goes on over a silence shorter than this if the battery worked before and after."""

LEAD_S = 600.0
"""A reading at rest this long before is still what the battery was before."""

FULL_AGAIN_S = 12 * 3600.0
"""The usual time to charge an empty battery (the seeds' chargetime)."""

CHARGE_PER_DISCHARGE = 40.0
"""A short discharge is made good in this many times its own length, at least ten minutes."""

NO_DROP = 0.01
"""A test in which the voltage fell by less than this share put no load on the battery: no discharge."""

GOOD_INPUT = (0.85, 1.15)
"""Input voltage between these shares of the usual one throughout, and no test announced: the cause is not known."""

BACK_AT_FLOAT_V = 0.010
"""Per cell: this near the voltage before, a battery counts as recharged (landscape section 5.5)."""

RECHARGE_LIMIT_S = 72 * 3600.0
FALL_BACK_V = 110.0
"""Input voltage that is taken as usual where nothing tells, as for the events."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What a unit's figures are worth: watts at 100 % load, inverter efficiency, own draw, nominal voltages.

    Watts None: no energy is estimated. The other figures' sources: landscape section 5.2.
    """

    watts: float | None = None
    efficiency: float = 0.85
    idle_w: float = 10.0
    input_v: float | None = None
    battery_v: float | None = None

    def drawn_w(self, load_percent: float) -> float | None:
        """Power drawn from the battery at a load."""
        return None if self.watts is None else load_percent / 100 * self.watts / self.efficiency + self.idle_w


@dataclass(frozen=True, slots=True)
class Cut:
    """One discharge and its curve: the last reading before, those of the discharge, the first after."""

    discharge: Discharge
    curve: tuple[Sample, ...]


@dataclass(slots=True)
class _Run:
    """Readings ``start`` up to before ``stop`` of one cause."""

    start: int
    stop: int
    cause: Cause


def cut(
    ups: str, samples: Sequence[Sample], rating: Rating, previous: Discharge | None = None, until_us: int | None = None
) -> list[Cut]:
    """Every discharge in these readings, which are in order of time; the last may go on (``ended_us`` None).

    ``previous`` is the last discharge before them: whether the battery was full again depends on it. ``until_us``: up to then
    they hold all that is ever stored, which at rest is one a minute; None: up to the last of them.
    """
    known_us = max(until_us or 0, samples[-1].at_us) if samples else 0
    cuts: list[Cut] = []
    for run in _runs(samples, rating.input_v):
        made = _measured(ups, samples, run, rating, previous, known_us)
        if made is not None:
            cuts.append(made)
            previous = made.discharge
    return cuts


def _runs(samples: Sequence[Sample], nominal_v: float | None) -> list[_Run]:
    """Stretches of one cause; short returns of mains and short silences lie within them."""
    runs: list[_Run] = []
    usual_v = nominal_v
    for index, sample in enumerate(samples):
        before = samples[index - 1] if index else None
        going = runs[-1].cause if runs and runs[-1].stop == index else None
        why = _cause(sample, before, going, usual_v or FALL_BACK_V)
        if why is None:
            if nominal_v is None and sample.status & OL and sample.input_v:
                usual_v = sample.input_v
            continue
        last = runs[-1] if runs else None
        if last is not None and why is last.cause and _goes_on(samples, last, index):
            last.stop = index + 1
        else:
            runs.append(_Run(index, index + 1, why))
    return runs


def _cause(sample: Sample, before: Sample | None, going: Cause | None, usual_v: float) -> Cause | None:
    """Why the battery works in this reading; None: it does not.

    In a test the on-battery bit alone says nothing, some units raise it themselves: it counts with an input voltage that is
    plainly no mains, and where that is not known, if it rose within the test. ``going`` is the cause of the reading before.
    """
    if not sample.status & (OB | CAL):
        return None
    if not sample.status & CAL:
        return Cause.MAINS
    if not sample.status & OB:
        return Cause.TEST
    if sample.input_v is not None:
        usual_v = nominal_input_v(usual_v, sample.input_v)
        return Cause.MAINS if sample.input_v < GONE_BELOW * usual_v else Cause.TEST
    rose = before is not None and before.status & CAL and not before.status & OB
    return Cause.MAINS if rose or going is Cause.MAINS else Cause.TEST


def _goes_on(samples: Sequence[Sample], run: _Run, index: int) -> bool:
    """Whether the reading at ``index`` still belongs to ``run``."""
    if index > run.stop and _seconds(samples[run.stop], samples[index]) >= RETURN_S:
        return False
    return _seconds(samples[run.stop - 1], samples[index]) <= SILENCE_S


def _seconds(early: Sample, late: Sample) -> float:
    return (late.at_us - early.at_us) / 1e6


def _measured(
    ups: str, samples: Sequence[Sample], run: _Run, rating: Rating, previous: Discharge | None, known_us: int
) -> Cut | None:
    """The discharge of one run; None where the battery was not loaded at all."""
    body = samples[run.start : run.stop]
    before = samples[run.start - 1] if run.start else None
    at_rest = before is not None and not before.status & (OB | CAL) and _seconds(before, body[0]) <= LEAD_S
    lead = before if at_rest else None
    after = samples[run.stop] if run.stop < len(samples) else None
    working = [sample for sample in body if sample.status & (OB | CAL)]
    volts = [sample.battery_v for sample in working if sample.battery_v]
    float_v = lead.battery_v if lead is not None else None
    if run.cause is Cause.TEST and float_v and volts and min(volts) > float_v * (1 - NO_DROP):
        return None
    load, lowest_load, highest_load = _load(body, after)
    found = _resistance(working, rating)
    discharge = Discharge(
        ups=ups,
        began_us=body[0].at_us,
        ended_us=_end(samples, run, after, known_us),
        cause=_final_cause(run.cause, working, lead, rating),
        rested=_rested(body[0], lead, previous),
        points=len(working),
        gap_s=round(max((_seconds(*pair) for pair in pairwise(body)), default=0.0), 3),
        float_v=float_v,
        lowest_v=min(volts, default=None),
        end_v=volts[-1] if volts else None,
        load_percent=load,
        load_low_percent=lowest_load,
        load_high_percent=highest_load,
        temperature_c=_mean(sample.temperature_c for sample in working),
        depth_percent=_fall(lead, working),
        energy_wh=_energy_wh(body, after, rating),
        low_after_s=next((_seconds(body[0], each) for each in working if each.status & LB), None),
        loaded_v=_mean((each.battery_v for each in _loaded(body)), 4),
        loaded_percent=_mean(each.load_percent for each in _loaded(body)),
        recharge_s=_recharge_s(samples, run, lead, rating),
        resistance_ohm=found.ohm if found else None,
        resistance_error=found.error_ohm if found else None,
    )
    curve = (*((lead,) if lead else ()), *body, *((after,) if after else ()))
    return Cut(discharge, tuple(curve))


def _end(samples: Sequence[Sample], run: _Run, after: Sample | None, known_us: int) -> int | None:
    """When it ended; None while that can't be told: nothing came after, or mains are back for a moment only."""
    if after is None:
        return None
    last = samples[run.stop - 1]
    if _seconds(last, after) > SILENCE_S:
        return last.at_us
    settled = after.status & (OB | CAL) or (known_us - after.at_us) / 1e6 >= RETURN_S
    return after.at_us if settled else None


def _final_cause(cause: Cause, working: Sequence[Sample], lead: Sample | None, rating: Rating) -> Cause:
    """MAINS only if the input ever looked bad, or is not known."""
    usual_v = rating.input_v or (lead.input_v if lead else None)
    if cause is not Cause.MAINS or not usual_v:
        return cause
    low, high = GOOD_INPUT
    read = [each.input_v for each in working]
    good = all(volts is not None and low <= volts / nominal_input_v(usual_v, volts) <= high for volts in read)
    return Cause.UNKNOWN if good else cause


def _rested(first: Sample, lead: Sample | None, previous: Discharge | None) -> bool:
    """Whether the battery was full: on mains just before, and the discharge before long enough ago."""
    if lead is None:
        return False
    if previous is None:
        return True
    if previous.ended_us is None or previous.lasted_s is None:
        return False
    if previous.recharge_s is not None and previous.low_after_s is None:
        needed_s = min(FULL_AGAIN_S, 2 * previous.recharge_s + 600)
    else:
        needed_s = min(FULL_AGAIN_S, max(600.0, CHARGE_PER_DISCHARGE * previous.lasted_s))
    return (first.at_us - previous.ended_us) / 1e6 >= needed_s


def _load(body: Sequence[Sample], after: Sample | None) -> tuple[float | None, float | None, float | None]:
    """Mean over time, lowest and highest load."""
    loads = [each.load_percent for each in body if each.load_percent is not None and each.status & (OB | CAL)]
    if not loads:
        return None, None, None
    shares = [(each.load_percent, seconds) for each, seconds in _held(body, after) if each.load_percent is not None]
    weight = sum(seconds for _, seconds in shares)
    mean = sum(load * seconds for load, seconds in shares) / weight if weight else statistics.fmean(loads)
    return round(mean, 2), min(loads), max(loads)


def _held(body: Sequence[Sample], after: Sample | None) -> Iterator[tuple[Sample, float]]:
    """Each reading on battery, and for how long it stood: until the next, a minute at most."""
    for early, late in pairwise((*body, *((after,) if after else ()))):
        if early.status & (OB | CAL):
            yield early, min(_seconds(early, late), 60.0)


def _fall(lead: Sample | None, working: Sequence[Sample]) -> float | None:
    """By how many percent points the charge fell, as the UPS tells or implies it."""
    charges = [each.charge_percent for each in working if each.charge_percent is not None]
    if lead is None or lead.charge_percent is None or not charges:
        return None
    return round(max(0.0, lead.charge_percent - min(charges)), 1)


def _energy_wh(body: Sequence[Sample], after: Sample | None, rating: Rating) -> float | None:
    """Drawn from the battery: an estimate; None without a rating or a load."""
    drawn = [
        (watts, seconds)
        for each, seconds in _held(body, after)
        if each.load_percent is not None and (watts := rating.drawn_w(each.load_percent)) is not None
    ]
    return round(sum(watts * seconds for watts, seconds in drawn) / 3600, 2) if drawn else None


def _loaded(body: Sequence[Sample]) -> list[Sample]:
    """Readings 50 to 70 s after the transfer: past the first dip (landscape section 5.4)."""
    found = [each for each in body if 50 <= _seconds(body[0], each) <= 70 and each.status & (OB | CAL)]
    return found if len(found) >= 2 else []


def _recharge_s(samples: Sequence[Sample], run: _Run, lead: Sample | None, rating: Rating) -> float | None:
    """From the end until the voltage is back where it was; None while it is not, or if the next discharge came first."""
    if lead is None or not lead.battery_v or run.stop >= len(samples):
        return None
    cells = 1 if lead.battery_v < 3 else max(1, round((rating.battery_v or lead.battery_v / 1.135) / 2))
    enough_v = lead.battery_v - BACK_AT_FLOAT_V * cells
    ended = samples[run.stop]
    for sample in samples[run.stop :]:
        if sample.status & (OB | CAL) or _seconds(ended, sample) > RECHARGE_LIMIT_S:
            return None
        if sample.battery_v and sample.battery_v >= enough_v - 1e-9:
            return round(_seconds(ended, sample), 1)
    return None


def _resistance(working: Sequence[Sample], rating: Rating) -> Resistance | None:
    points = [
        (_seconds(working[0], each), each.battery_v, watts / each.battery_v)
        for each in working
        if each.battery_v and each.load_percent is not None and (watts := rating.drawn_w(each.load_percent)) is not None
    ]
    return resistance(points)


def _mean(values: Iterable[float | None], digits: int = 2) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), digits) if known else None
