"""A step of the loaded voltage in short runs, and what is none."""

from __future__ import annotations

import random

import pytest

from qxfleet.battery.steps import step_chance
from qxfleet.store.batteries import Short


def runs(
    levels: list[float], *, noise: float = 0.002, seed: int = 1, load: float = 40.0, spread: float = 0.0
) -> tuple[Short, ...]:
    chance = random.Random(seed)
    found: list[Short] = []
    for number, level in enumerate(levels):
        at = load + chance.gauss(0, spread)
        volts = level - 0.12 * (at - load) / 100 + chance.gauss(0, noise)
        found.append(Short(number * 30 * 86_400_000_000, round(volts / 0.0042) * 0.0042, at, 0.0042))
    return tuple(found)


@pytest.mark.parametrize(("step", "after"), [(-0.016, 6), (-0.025, 4), (-0.083, 2), (-0.5, 1), (-1.56, 1)])
def test_a_step_that_stays_is_told_the_sooner_the_larger_it_is(step: float, after: int) -> None:
    """The steps are those seen at blocks that failed: 16 to 1562 mV a cell."""
    told = 0
    for seed in range(20):
        seen = step_chance(runs([2.0] * 12 + [2.0 + step] * after, seed=seed))
        assert seen is not None
        told += seen.chance > 0.9
    assert told >= (18 if step < -0.02 else 14)


def test_scatter_age_and_load_are_no_step() -> None:
    false = 0
    for seed in range(100):
        chance = random.Random(seed)
        ageing = [2.0 - 0.0005 * month - 0.00002 * month**2 for month in range(40)]
        count = chance.randint(6, 40)
        seen = step_chance(runs(ageing[:count], seed=seed, noise=chance.uniform(0.001, 0.006), spread=chance.choice((0.0, 8.0))))
        assert seen is not None
        false += seen.chance > 0.9
    assert false <= 1


def test_one_low_run_is_no_step_once_the_next_is_as_before() -> None:
    seen = step_chance(runs([2.0] * 12 + [1.94] + [2.0] * 3))
    assert seen is not None and seen.chance < 0.3


def test_too_few_runs_say_nothing() -> None:
    assert step_chance(runs([2.0, 2.0, 2.0, 1.5])) is None
