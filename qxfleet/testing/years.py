"""Years of a fleet's batteries, with the truth beside what its UPSes would have told: for judging estimators.

Ageing follows the published lifetime model for lead-acid batteries of Schiffer, Sauer, Bindner, Cronin, Lundsager and Kaiser
(Journal of Power Sources 168 (2007) 66–78): corrosion takes a fifth of the capacity over the float life, linearly in time and
twice as fast per 15 K, and raises the resistance in step; cycling takes up to four fifths, exponentially in weighted cycles
over 1.6 times the rated ones. Terminal voltage follows the Shepherd form used there. No estimator of this package has either.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from qxfleet.model.discharge import Sample
from qxfleet.model.status import Status

DAY_S = 86_400
DAY_US = DAY_S * 1_000_000
YEAR_DAYS = 365.25
END_US = round(datetime(2026, 6, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""The day on which the story ends."""

FLOAT_V, OPEN_V, SLOPE_V, OHMIC_V, KNEE_V, KNEE_AT, LOW_V = 2.27, 2.12, 0.12, 0.11, 0.008, 1.04, 1.80
"""Per cell, at full load where the load matters: charger; start; fall with the charge drawn; loss in a new cell; knee; flag."""

CORROSION_LOSS, CORROSION_DOUBLES_K, CYCLE_LOSS, CYCLES_RATED, OHMIC_GROWTH = 0.20, 15.0, 0.80, 260.0, 0.8
END_OF_LIFE = 0.80
STEP_S = 2.0


@dataclass(slots=True)
class Life:
    """One battery: when it came, when it went, whether that was written down, and when it truly was worn out."""

    installed_us: int
    float_life_years: float
    removed_us: int | None = None
    recorded: bool = True
    worn_us: int | None = None
    usable: float = 1.0
    """Runtime to the low-battery flag against that when new, at the unit's usual load and 25 °C, at the end of the story."""


@dataclass(slots=True)
class Story:
    """One UPS over the years. ``samples`` are its readings around every discharge, ``days`` its roll-ups by day."""

    name: str
    model: str
    cells: int
    rated_w: float
    policy: str
    load_percent: float
    room_c: float
    thermometer: bool
    full_load_s: float
    exponent: float
    date_known: bool
    frozen_load: float | None = None
    table: tuple[tuple[float, float], ...] = ()
    lives: list[Life] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    days: list[dict[str, float]] = field(default_factory=list)
    per_cell: bool = False

    @property
    def nominal_v(self) -> float:
        """Nominal voltage of the battery."""
        return 2.0 * self.cells

    def empty_s(self, load: float | np.ndarray) -> float | np.ndarray:
        """Seconds in which a new battery at 25 °C is drained at a load (1: full)."""
        steep, flat = 1.5 * self.exponent, 1.28 * self.exponent
        return np.where(
            np.asarray(load) > 0.5, self.full_load_s * np.power(load, -steep),
            self.full_load_s * 0.5**-steep * np.power(np.asarray(load) / 0.5, -flat),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wear:
    """How worn a battery is: capacity against new, resistance against new."""

    capacity: float
    resistance: float


def wear(corrosion: float, cycles: float) -> Wear:
    """After this share of the float life, and so many full cycles."""
    cycling = CYCLE_LOSS * math.exp(-5 * (1 - min(cycles / (1.6 * CYCLES_RATED), 1.5)))
    capacity = max(0.05, 1 - CORROSION_LOSS * corrosion - cycling + CYCLE_LOSS * math.exp(-5))
    return Wear(capacity, 1 + OHMIC_GROWTH * corrosion)


def cell_v(drawn: np.ndarray, load: np.ndarray, resistance: float, seconds: np.ndarray) -> np.ndarray:
    """Volts of one cell with a share of its charge drawn, under a load."""
    knee = KNEE_V * drawn / np.maximum(KNEE_AT - drawn, 0.01)
    dip = 0.03 * load * np.exp(-seconds / 12)
    return OPEN_V - SLOPE_V * drawn - OHMIC_V * resistance * load - knee - dip


def run(
    story: Story, worn: Wear, load: float, celsius: float, *, seconds: float | None = None, rng: random.Random | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """Seconds, volts per cell and loads of a discharge from full; whether it came to the flag (``seconds`` None: it does)."""
    factor = 1 + 0.007 * (min(celsius, 30.0) - 25)
    whole_s = float(story.empty_s(load)) * worn.capacity * factor
    steps = int(min(seconds or whole_s, whole_s) / STEP_S) + 1
    times = np.arange(steps) * STEP_S
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 0.01, steps) if rng is not None else np.zeros(steps)
    loads = load * (1 + noise)
    drawn = np.concatenate(([0.0], np.cumsum(STEP_S / (story.empty_s(loads) * worn.capacity * factor))[:-1]))
    volts = cell_v(drawn, loads, worn.resistance, times)
    under = np.nonzero((volts < LOW_V) & (times > 30))[0]
    if len(under):
        stop = under[0] + 1
        return times[:stop], volts[:stop], loads[:stop], True
    return times, volts, loads, False


def usable(story: Story, worn: Wear) -> float:
    """Runtime to the flag against that of the new battery, at the usual load and 25 °C."""
    new, now = (run(story, each, story.load_percent / 100, 25.0)[0][-1] for each in (Wear(1, 1), worn))
    return float(now / new)


POLICIES = (("deep", 0.55), ("partial", 0.15), ("table", 0.10), ("none", 0.12), ("undated", 0.08))
"""``deep``: a commissioning test, a run to the flag every year, a partial one between; ``partial``: a commissioning test and
partial ones; ``table``: as ``deep`` without commissioning, but with the maker's table; ``none``: quick tests and outages only;
``undated``: as ``none``, and nobody knows how old the battery is."""


def fleet(count: int, years: float, seed: int = 5) -> Iterator[Story]:
    """The stories of so many UPSes, the same for the same seed; the second, third and fourth have a frozen load reading."""
    for number in range(count):
        yield _story(number, count, years, random.Random(seed * 100_003 + number))


def _story(number: int, count: int, years: float, rng: random.Random) -> Story:
    policy, share = POLICIES[0][0], (number * 0.6180339887) % 1.0
    for name, weight in POLICIES:
        policy = name
        if share < weight:
            break
        share -= weight
    frozen = 1 <= number <= 3
    cells = (6, 12, 12, 18, 36, 48, 48)[number % 7]
    rated_w = 60.0 * cells + 300
    model = f"Q{2 * cells}-{round(rated_w)}"
    story = Story(
        name=f"ups-{number + 1:03}", model=model, cells=cells, rated_w=rated_w, policy="deep" if frozen else policy,
        load_percent=rng.uniform(25, 70), room_c=rng.uniform(22, 30), thermometer=rng.random() > 0.25,
        full_load_s=rng.uniform(300, 540), exponent=rng.uniform(0.92, 1.08), date_known=policy != "undated" or frozen,
        per_cell=cells >= 36 and rng.random() < 0.4,
    )  # fmt: skip
    if frozen:
        story.frozen_load = float(round(story.load_percent))
    if story.policy == "table":
        story.table = tuple(
            (load, round(run(story, Wear(1, 1), load / 100, 25.0)[0][-1] * rng.uniform(0.98, 1.02), 0))
            for load in (25.0, 40.0, 60.0, 80.0, 100.0)
        )
    _live(story, years, rng)
    return story


def _live(story: Story, years: float, rng: random.Random) -> None:
    """Day after day: temperature, wear, tests, outages, gaps, replacements."""
    days = round(years * YEAR_DAYS)
    start_us = END_US - days * DAY_US
    gaps = _gaps(days, rng)
    replaces = rng.random() > 0.1
    slow = rng.uniform(0, 2 * math.pi)
    older_days = rng.randrange(1100) if rng.random() < 0.5 and story.frozen_load is None else 0
    life = _battery(start_us - older_days * DAY_US, rng)
    story.lives.append(life)
    warmth = 2 ** ((story.room_c + 2 - 25) / CORROSION_DOUBLES_K)
    corrosion, cycles = warmth * older_days / YEAR_DAYS / life.float_life_years, 0.0
    due_day: int | None = None
    drift = 1.0
    for day in range(days):
        at_us = start_us + day * DAY_US
        room_c = story.room_c + 3 * math.sin(2 * math.pi * day / YEAR_DAYS + slow) + rng.gauss(0, 0.8)
        inside_c = room_c + 2
        corrosion += 2 ** ((inside_c - 25) / CORROSION_DOUBLES_K) / YEAR_DAYS / life.float_life_years
        drift += 0.02 * (1 - drift) + rng.gauss(0, 0.008)
        load = min(1.0, max(0.1, story.load_percent / 100 * drift))
        worn = wear(corrosion, cycles)
        age = round((at_us - life.installed_us) / DAY_US)
        if day % 15 == 0:
            life.usable = usable(story, worn)
            if life.usable < END_OF_LIFE and life.worn_us is None:
                life.worn_us = at_us
            if life.usable < END_OF_LIFE - 0.02 and due_day is None and replaces:
                due_day = day + rng.randint(20, 200)
        if due_day == day:
            life.removed_us, life.recorded = at_us + 10 * 3600 * 1_000_000, rng.random() > 0.04
            life = _battery(life.removed_us, rng)
            story.lives.append(life)
            corrosion = cycles = 0.0
            due_day, age, worn = None, -1, wear(0, 0)
        missing = any(first <= day < last for first, last in gaps)
        for hour, kind, seconds in _happenings(story, age, rng):
            times, volts, loads, low = run(story, worn, load, inside_c, seconds=seconds, rng=rng)
            cycles += float(times[-1] / max(float(story.empty_s(load)), 1.0))
            if not missing:
                _tell(story, at_us + round(hour * 3600e6), kind, times, volts, loads, low, inside_c, rng)
        if not missing:
            story.days.append(_day(story, at_us, load, inside_c, rng))
    _look_ahead(story, life, corrosion, cycles, days, start_us)
    story.samples.sort(key=lambda sample: sample.at_us)


def _battery(at_us: int, rng: random.Random) -> Life:
    return Life(at_us, min(8.0, max(2.4, rng.lognormvariate(math.log(4.6), 0.2))))


def _gaps(days: int, rng: random.Random) -> list[tuple[int, int]]:
    """Spans of days of which nothing is known."""
    gaps = [(first, first + rng.randint(2, 20)) for first in (rng.randrange(days) for _ in range(3))]
    if rng.random() < 0.1 and days > 400:
        first = rng.randrange(days - 200)
        gaps.append((first, first + 180))
    return gaps


def _happenings(story: Story, age: int, rng: random.Random) -> Iterator[tuple[float, str, float | None]]:
    """(hour, cause, seconds or None for a run to the flag) of a day, at most one test and one outage, twelve hours apart."""
    deep = story.policy in ("deep", "table")
    if (age == 10 and story.policy in ("deep", "partial")) or (deep and age > 300 and age % 365 == 10):
        yield 2.0, "test", None
    elif story.policy in ("deep", "partial") and age > 100 and age % 182 == 101:
        lasting_s = run(story, Wear(1, 1), story.load_percent / 100, 25.0)[0][-1]
        yield 2.0, "test", 0.45 * lasting_s
    elif age > 0 and age % 30 == 5:
        yield 2.0, "test", 10.0
    if rng.random() < 5 / YEAR_DAYS:
        yield 14.0 + rng.uniform(0, 4), "mains", max(4.0, rng.lognormvariate(math.log(70), 1.5))


def _tell(
    story: Story, at_us: int, kind: str, times: np.ndarray, volts: np.ndarray, loads: np.ndarray, low: bool, celsius: float,
    rng: random.Random,
) -> None:  # fmt: skip
    """The readings of one discharge: before, every 2 s, after, and while it charges again."""
    status = int(Status.OL | Status.CAL) if kind == "test" else int(Status.OB)
    rest = int(Status.OL)
    warm = round(celsius, 1) if story.thermometer else 25.0
    input_v = 230.0 if kind == "test" else 0.0

    def told(cell: float) -> float:
        noisy = cell + rng.gauss(0, 0.0015)
        return round(noisy, 2) if story.per_cell else round(noisy * story.cells, 1)

    def load_of(load: float) -> float:
        return story.frozen_load if story.frozen_load is not None else float(round(100 * load))

    def add(seconds: float, flags: int, cell: float, load: float, volts_in: float) -> None:
        story.samples.append(Sample(at_us + round(seconds * 1e6), flags, told(cell), load_of(load), None, volts_in, warm))

    base = float(loads[0])
    add(-60, rest, FLOAT_V, base, 230.0)
    add(-5, rest, FLOAT_V, base, 230.0)
    for second, cell, load in zip(times.tolist(), volts.tolist(), loads.tolist(), strict=True):
        add(second, status, cell, load, input_v)
    last_s = float(times[-1])
    if low:
        story.samples[-1] = _flagged(story.samples[-1])
    end_s = last_s + STEP_S if not low or kind == "test" else last_s + 2700
    depth = min(1.0, last_s / max(float(story.empty_s(base)), 1.0))
    whole_s = max(300.0, 10 * 3600 * depth)
    add(end_s, rest, FLOAT_V - 0.2 * depth**0.5 - 0.03, base, 230.0)
    add(end_s + 12, rest, FLOAT_V - 0.2 * depth**0.5 - 0.02, base, 230.0)
    for share in (0.25, 0.5, 0.75, 0.95, 1.02):
        add(end_s + whole_s * share, rest, FLOAT_V - 0.2 * depth**0.5 * max(0.0, 1 - share), base, 230.0)


def _flagged(sample: Sample) -> Sample:
    return Sample(
        sample.at_us, sample.status | int(Status.LB), sample.battery_v, sample.load_percent, sample.charge_percent,
        sample.input_v, sample.temperature_c,
    )  # fmt: skip


def _day(story: Story, at_us: int, load: float, celsius: float, rng: random.Random) -> dict[str, float]:
    """Means, and how far they went, of one day at rest."""
    warm = round(celsius, 1) if story.thermometer else 25.0
    mean = story.frozen_load if story.frozen_load is not None else round(100 * load, 1)
    spread = 0.0 if story.frozen_load is not None else max(1.0, 0.15 * mean)
    float_v = FLOAT_V if story.per_cell else FLOAT_V * story.cells
    sway = 1.5 if story.thermometer else 0.0
    return {
        "at_us": at_us, "load": mean, "load_low": max(0.0, round(mean - spread)), "load_high": min(100.0, round(mean + spread)),
        "temperature": warm, "temperature_low": warm - sway, "temperature_high": warm + sway,
        "battery_v": round(float_v + rng.gauss(0, 0.02), 2), "input_v": 230.0,
    }  # fmt: skip


def _look_ahead(story: Story, life: Life, corrosion: float, cycles: float, days: int, start_us: int) -> None:
    """When the last battery will be worn out if it goes on as before."""
    age_days = max(30.0, (END_US - life.installed_us) / DAY_US)
    per_day = 2 ** ((story.room_c + 2 - 25) / CORROSION_DOUBLES_K) / YEAR_DAYS / life.float_life_years
    cycles_per_day = cycles / age_days
    life.usable = usable(story, wear(corrosion, cycles))
    ahead = 0
    while life.worn_us is None and ahead < 12 * 366:
        ahead += 5
        if usable(story, wear(corrosion + per_day * ahead, cycles + cycles_per_day * ahead)) < END_OF_LIFE:
            life.worn_us = END_US + ahead * DAY_US
