"""The small form of ``bench_battery``: batteries of which the truth is known, judged at the end of their years."""

from __future__ import annotations

from pathlib import Path

import pytest

from qxfleet.battery.health import Verdict
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import upgrade
from qxfleet.testing.years import Wear, fleet, run, usable, wear
from tests.battery.years import Judged, figures, judge, load_years, table

UPSES, YEARS = 30, 2.0


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[Judged]:
    file: Path = tmp_path_factory.mktemp("years") / "fleet.db"
    url = f"sqlite:///{file}"
    upgrade(url)
    stories = list(fleet(UPSES, YEARS))
    load_years(url, stories)
    engine = open_engine(url, writing=False)
    with engine.connect() as connection:
        found = judge(connection, stories)
    engine.dispose()
    return found


def test_dates_hold_and_nothing_healthy_is_thrown_away(judged: list[Judged]) -> None:
    found = figures(judged)
    assert found["UPSes"] == UPSES
    assert found["truth within bounds, % of dated"] >= 90, table(judged)
    assert found["false replace-now, % of healthy"] == 0, table(judged)


def test_insufficient_where_nothing_could_measure(judged: list[Judged]) -> None:
    for each in judged:
        if not each.measurable:
            assert each.health.percent is None, each.story.name
            assert "insufficient" in " ".join(each.health.reasons), each.story.name
    assert {each.story.policy for each in judged if not each.dated} == {"undated"}


def test_measured_capacity_is_near_the_truth(judged: list[Judged]) -> None:
    off = [abs(each.health.percent - each.usable) for each in judged if each.health.percent is not None]
    assert len(off) >= 10
    assert sorted(off)[len(off) // 2] < 3 and max(off) < 15, table(judged)


def test_frozen_loads_are_found(judged: list[Judged]) -> None:
    frozen = {each.story.name for each in judged if each.story.frozen_load is not None}
    told = {each.story.name for each in judged if any("frozen" in text for text in each.health.data)}
    assert told == frozen and len(frozen) == 3


def test_worn_batteries_that_were_measured_are_named(judged: list[Judged]) -> None:
    worn = [each for each in judged if each.health.percent is not None and each.usable < 75]
    assert all(each.health.verdict in (Verdict.REPLACE_NOW, Verdict.REPLACE_SOON) for each in worn), table(judged)


def test_the_model_ages_as_its_paper_says() -> None:
    """A fifth lost at the end of the float life; with cycles alone, 80 % more at 1.6 times the rated number (Schiffer et al.)."""
    assert wear(0.0, 0.0) == Wear(1.0, 1.0)
    assert wear(1.0, 0.0).capacity == pytest.approx(0.80)
    assert wear(0.0, 1.6 * 260).capacity == pytest.approx(0.20, abs=0.01)
    story = next(fleet(1, 0.1))
    assert usable(story, Wear(1, 1)) == 1
    assert usable(story, wear(0.5, 0)) > usable(story, wear(1.0, 0))
    assert run(story, Wear(1, 1), 0.4, 25.0)[3]
