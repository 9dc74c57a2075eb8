"""Schedules and the rules of tests as they are read from a file; who is meant by a target."""

from __future__ import annotations

import pathlib
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qxfleet.agent.dates import Dates
from qxfleet.config.cron import MONTHS, Cron
from qxfleet.config.load import Config, load
from qxfleet.config.targets import Member, select
from qxfleet.errors import ConfigError
from qxfleet.model.selftest import Asked, Rules

FLEET = "".join(
    f'[[ups]]\nname = "rack{rack}-{feed}"\nport = "/dev/r{rack}{feed}"\ndialect = "megatec"\n'
    f'groups = ["rack{rack}", "feed-{feed}"]\n'
    for rack in (1, 2) for feed in "ab"
)  # fmt: skip


def read(tmp_path: pathlib.Path, text: str) -> Config:
    file = tmp_path / "qxfleet.toml"
    file.write_text(FLEET + text)
    return load(file)


def test_the_schedule_of_the_outside_face_is_read(tmp_path: pathlib.Path) -> None:
    config = read(tmp_path, """
[[schedule]]
name = "weekly-quick"
do = "test"
test = "quick"
targets = ["group:feed-a"]
cron = "0 3 * * sun"
max_parallel = 1
""")
    (schedule,) = config.schedules
    assert (schedule.name, schedule.do, schedule.test) == ("weekly-quick", "test", Asked("quick"))
    assert (schedule.upses, schedule.cron, schedule.timezone) == (("rack1-a", "rack2-a"), "0 3 * * sun", "UTC")
    assert (schedule.missed, schedule.window_s, schedule.rules) == ("skip", 14400.0, Rules(max_parallel=1))


def test_tests_are_named_timed_or_of_a_depth(tmp_path: pathlib.Path) -> None:
    lines = ('test = "deep"', 'test = "10m"', "depth = 20")
    config = read(tmp_path, "".join(
        f'[[schedule]]\nname = "s{n}"\ncron = "0 3 1 * *"\ntargets = ["all"]\n{line}\n' for n, line in enumerate(lines)
    ))  # fmt: skip
    assert [each.test for each in config.schedules] == [Asked("deep"), Asked("timed", 600.0), Asked("deep", depth_percent=20)]
    assert [str(each.test) for each in config.schedules] == ["deep test", "test of 10 min", "test to 20 % depth"]


def test_rules_of_the_fleet_hold_in_every_schedule_but_for_its_own_number(tmp_path: pathlib.Path) -> None:
    config = read(tmp_path, """
[tests]
mains_stable = "1m"
charged = "1h"
max_parallel = 2
[[schedule]]
name = "s"
cron = "0 3 1 * *"
targets = ["all"]
max_parallel = 4
""")
    assert config.tests == Rules(mains_stable_s=60, charged_s=3600, max_parallel=2)
    assert config.schedules[0].rules == Rules(mains_stable_s=60, charged_s=3600, max_parallel=4)


@pytest.mark.parametrize(
    ("test", "dialect", "words"),
    [("30s", "megatec", "out of its range, 60 to 5940 s are possible with megatec (rack1-a and 3 more)"),
     ("30s", "voltronic", ""), ("60s", "megatec", ""), ("59s", "megatec", "out of its range"), ("30s", "auto", ""),
     ("quick", "megatec", "")],
)  # fmt: skip
def test_a_test_that_its_upses_cant_take_is_an_error_here_not_at_the_date(
    tmp_path: pathlib.Path, test: str, dialect: str, words: str
) -> None:
    file = tmp_path / "qxfleet.toml"
    text = f'[[schedule]]\nname = "s"\ncron = "0 3 1 * *"\ntargets = ["all"]\ntest = "{test}"\n'
    file.write_text(FLEET.replace("megatec", dialect) + text)
    if not words:
        assert load(file).schedules[0].name == "s"
        return
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert words in problem and "schedule" in problem


def test_rules_survive_being_written_down() -> None:
    rules = Rules(charged_s=1.0, on_failure="wave")
    assert Rules.of_json({**rules.as_json(), "unknown": 1}) == rules


MEMBERS = [
    Member("rack1-a", ("rack1", "feed-a"), "megatec"), Member("rack1-b", ("rack1", "feed-b"), "voltronic"),
    Member("rack2-a", ("rack2", "feed-a", "spare")), Member("lab", ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "meant"),
    [
        ("all", "rack1-a rack1-b rack2-a lab"), ("lab", "lab"), ("group:feed-a", "rack1-a rack2-a"),
        ("rack1-*", "rack1-a rack1-b"),
        ("group:feed-a & !group:spare", "rack1-a"), ("all&!rack*", "lab"), ("dialect:voltronic", "rack1-b"),
        ("!group:rack1", "rack2-a lab"), ("group:rack1 & group:feed-b", "rack1-b"), ("rack1-a & !rack1-a", ""),
    ],
)  # fmt: skip
def test_a_target_means_what_its_parts_have_in_common(target: str, meant: str) -> None:
    assert select(target, MEMBERS) == meant.split()


@pytest.mark.parametrize("target", ["", "all &", "group:", "rack9", "dialect:auto", "!"])
def test_a_target_that_means_nobody_by_mistake_is_one(target: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no UPS"):
        select(target, MEMBERS)


@pytest.mark.parametrize(
    "good", ["0 3 * * sun", "*/15 * * * *", "0 3 1-7 jan,apr,7 *", "0 0 1 1 mon-fri", "5,35 22-23/1 * * sat,sun", "0 3 * * SUN",
             "0 3 29 feb *", "0 3 */30 * *", "58/1 */23 * * *"]
)  # fmt: skip
def test_what_the_calendar_takes_is_taken_here(good: str) -> None:
    Dates.read(str(Cron().read(good)), ZoneInfo("UTC"))


@pytest.mark.parametrize(
    "bad", ["", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *", "0 3 * * 1", "0 3 * * sunday", "5-1 * * * *",
            "*/0 * * * *", "0 3 * * fri-mon", "0 3 ? * *", "0 3 */31 * *",
            "59/1 3 * * *", "*/60 * * * *", 7]
)  # fmt: skip
def test_what_it_does_not_take_is_refused_here(bad: object) -> None:
    with pytest.raises(ValueError, match=r"expected|weekday|backwards|never comes"):
        Cron().read(bad)


NUMBERS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12)}


@st.composite
def fields(draw: st.DrawFn, low: int, high: int, words: tuple[str, ...]) -> str:
    """One field: *, numbers, names, ranges and steps as people write them, often a little beyond what there is."""
    number = st.integers(low, high).map(str) | (st.sampled_from(words) if words else st.nothing())
    once = st.just("*") | number | st.tuples(number, number).map("-".join)
    stepped = st.tuples(once, st.integers(1, high + 1)).map(lambda both: f"{both[0]}/{both[1]}")
    return ",".join(draw(st.lists(once | stepped, min_size=1, max_size=2)))


@given(st.tuples(*(fields(low, high, MONTHS if name == "month" else ()) for name, (low, high) in NUMBERS.items())))
@example(("0", "3", "*/31", "*"))
@example(("59/1", "3", "*", "*"))
@example(("0", "3", "*", "jan-mar/2"))
@settings(max_examples=400)
def test_what_is_taken_here_the_calendar_takes_too(parts: tuple[str, ...]) -> None:
    try:
        read = str(Cron().read(" ".join([*parts, "*"])))
    except ValueError:
        return
    Dates.read(read, ZoneInfo("UTC"))
