"""Who may be tested and who is next: properties over random fleets, and each precondition by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from qxfleet.model.selftest import Asked, Rules, Verdict
from qxfleet.model.status import Status
from qxfleet.selftest.plan import Begin, Close, Member, Refuse, Unit, Wait, Wave, next_step, objections, partners

QUICK = Asked("quick")
RULES = Rules()
GOOD = Unit("a", load_percent=30.0, charge_percent=100.0, runtime_s=900.0, watts=300.0)

BOOSTS, TRIMS = int(Status.OL | Status.BOOST), int(Status.OL | Status.TRIM)

OBJECTIONS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    # the words of the reason, what the unit is like, what switches the rule off (landscape section 5.6)
    ("no contact", {"contact": False}, {}),
    ("not on line (OB)", {"status": int(Status.OB)}, {}),
    ("that is not of this wave", {"status": int(Status.OL | Status.CAL)}, {}),
    ("mains are not normal (OL BYPASS)", {"status": int(Status.OL | Status.BYPASS), "stable_s": None}, {"mains_stable_s": 0.0}),
    ("mains stable for 60 min (BOOST); needs 60 min", {"status": BOOSTS, "stable_s": 3599.0}, {"mains_stable_s": 0.0}),
    ("mains stable for 10 min; needs 10 min", {"stable_s": 599.0}, {"mains_stable_s": 0.0}),
    ("mains are not normal (OL; 190 V)", {"stable_s": None, "mains": "190 V"}, {"mains_stable_s": 0.0}),
    ("not fully charged, 80 %", {"charged_s": None, "charge_percent": 80.0}, {"charged_s": 0.0}),
    ("charged for 15 min; needs 15 min", {"charged_s": 899.0}, {"charged_s": 0.0}),
    ("its load moved by 11 %", {"load_span_percent": 11.0}, {"load_steady_s": 0.0}),
    ("its load was not watched", {"load_span_percent": None}, {"load_steady_s": 0.0}),
    ("its load is not known", {"load_percent": None}, {"load_steady_s": 0.0}),
    ("alarm: Replace battery!", {"alarms": ("Replace battery!",)}, {"no_alarm": False}),
    ("ECO mode", {"eco": True}, {"no_alarm": False}),
    ("under maintenance (by me)", {"maintenance": "by me"}, {"no_maintenance": False}),
    ("its battery failed its last test", {"failed": "low after 4 s"}, {"again_after_failure": True}),
    ("it has no quick test", {"unable": "it has no quick test"}, {}),
    ("its runtime of 14 s is less than 1.5 times", {"runtime_s": 14.0}, {"runtime_factor": 0.0}),
)


@pytest.mark.parametrize(("words", "like", "off"), OBJECTIONS, ids=[words for words, _, _ in OBJECTIONS])
def test_each_precondition_objects_and_can_be_switched_off(words: str, like: dict[str, Any], off: dict[str, Any]) -> None:
    unit = replace(GOOD, **like)
    assert [each.text for each in objections(GOOD, [], QUICK, RULES)] == []
    texts = [each.text for each in objections(unit, [], QUICK, RULES)]
    assert any(words in text for text in texts), texts
    if off:
        assert objections(unit, [], QUICK, replace(RULES, **off)) == ()


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"contact": False}, "there is no contact with it"), ({"status": int(Status.OB)}, "it is not on line"),
        ({"charged_s": None}, "it is not fully charged"),
        ({"mains": "190 V, 230 V nominal"}, "its mains are not normal (OL; 190 V, 230 V nominal)"),
        ({"failed": "low"}, "its battery failed its last test"),
        ({"alarms": ("UPS selftest failed!",)}, "it has an alarm"), ({"maintenance": "by me"}, "under maintenance"),
        ({"status": int(Status.OL | Status.BYPASS)}, "its mains are not normal (OL BYPASS)"),
    ],
)  # fmt: skip
def test_a_partner_that_could_not_carry_the_load_objects(like: dict[str, Any], words: str) -> None:
    other = replace(GOOD, name="b", **like)
    (objection,) = objections(GOOD, [other], QUICK, RULES)
    assert objection.text.startswith("b must carry its load, but") and words in objection.text
    assert objections(GOOD, [other], QUICK, replace(RULES, partner_healthy=False, no_maintenance=False)) == ()


@pytest.mark.parametrize("status", [BOOSTS, TRIMS])
def test_a_site_on_permanent_regulation_is_tested_and_so_are_its_partners(status: int) -> None:
    settled, sagging = (replace(GOOD, status=status, stable_s=seconds) for seconds in (3600.0, 3599.0))
    assert objections(settled, [], QUICK, RULES) == ()
    assert objections(GOOD, [replace(settled, name="b")], QUICK, RULES) == ()
    assert "needs 60 min" in objections(sagging, [], QUICK, RULES)[0].text
    (objection,) = objections(GOOD, [replace(sagging, name="b")], QUICK, RULES)
    assert "its mains are not normal" in objection.text and not objection.lasting


@pytest.mark.parametrize(
    ("asked", "charged_s", "words"),
    [(QUICK, 900.0, ""), (QUICK, 840.0, "charged for 14 min; needs 15 min"), (Asked("deep"), 7200.0, ""),
     (Asked("deep"), 7140.0, "charged for 119 min; needs 2.0 h"),
     (Asked("timed", 600.0), 900.0, "charged for 15 min; needs 2.0 h")],
)  # fmt: skip
def test_a_quick_test_asks_less_of_the_charge_than_a_longer_one(asked: Asked, charged_s: float, words: str) -> None:
    texts = [each.text for each in objections(replace(GOOD, charged_s=charged_s), [], asked, RULES)]
    assert texts == ([words] if words else [])


def test_who_waits_is_told_for_how_long() -> None:
    members = tuple(map(Member, ("a", "b", "c")))
    units = {name: replace(GOOD, name=name) for name in "abc"} | {"c": replace(GOOD, name="c", charged_s=600.0)}
    wave = Wave(QUICK, replace(RULES, max_parallel=2), members)
    mates = partners([("b", "x")])
    found = next_step(wave, units, mates, {"a": 700.0, "x": 760.0}, (), 100.0)
    assert isinstance(found, Wait)
    assert found.reasons == {
        "a": "it is recharging after a test", "b": "x, which feeds the same load, is under test or recharging for another 11 min",
        "c": "charged for 10 min; needs 15 min, 5 min to go",
    }  # fmt: skip
    ready = next_step(wave, {**units, "c": replace(GOOD, name="c")}, mates, {"a": 700.0, "x": 760.0}, (), 100.0)
    assert isinstance(ready, Wait)
    assert ready.reasons["c"] == "2 under test or recharging already; the next place is free in 10 min"


def test_a_depth_needs_a_charge_and_so_much_runtime() -> None:
    depth = Asked("deep", depth_percent=50)
    assert objections(GOOD, [], depth, replace(RULES, runtime_factor=1.5)) == ()
    (objection,) = objections(replace(GOOD, charge_percent=None), [], depth, RULES)
    assert objection.lasting and "it tells no charge" in objection.text
    (objection,) = objections(GOOD, [], depth, replace(RULES, runtime_factor=2.5))
    assert "less than 2.5 times the test's 8 min" in objection.text  # half of 900 s


def test_a_long_test_may_be_refused_where_no_runtime_is_known() -> None:
    unknown, careful = replace(GOOD, runtime_s=None), replace(RULES, runtime_known=True)
    long = Asked("timed", 600.0)
    assert objections(unknown, [], long, RULES) == objections(unknown, [], QUICK, careful) == ()
    assert [each.text for each in objections(unknown, [], long, careful)] == ["its runtime is not known"]


def test_partners_are_the_other_feeds_of_all_loads() -> None:
    found = partners([("a", "b"), ("a", "c", "d"), ("e",)])
    assert found == {
        "a": {"b", "c", "d"}, "b": {"a"}, "c": {"a", "d"}, "d": {"a", "c"}, "e": frozenset(),
    }  # fmt: skip


def test_the_load_under_test_is_bounded() -> None:
    loads = {"a": 600.0, "b": 500.0, "c": 300.0, "d": None}
    units = {name: replace(GOOD, name=name, watts=watts) for name, watts in loads.items()}
    rules = replace(RULES, max_watts=1000.0, max_parallel=9)
    wave = Wave(QUICK, rules, (Member("a", "testing"), Member("b"), Member("c"), Member("d")))
    step = next_step(wave, units, {}, {"a": 1e9}, ["a"], 0.0)
    assert step == Begin("c")
    after = replace(wave, members=(Member("a", "testing"), Member("b"), Member("c", "testing"), Member("d")))
    waiting = next_step(after, units, {}, {"a": 1e9, "c": 1e9}, ["a", "c"], 0.0)
    assert isinstance(waiting, Wait)
    assert waiting.reasons == {"b": "more than 1000 W would be under test", "d": "its load in watts is not known"}


VERDICTS = (Verdict.PASSED, Verdict.FAILED, Verdict.ABORTED, Verdict.NO_EFFECT, Verdict.INCONCLUSIVE)


@some.composite
def rooms(draw: Any) -> tuple[Wave, dict[str, Unit], list[tuple[str, ...]]]:
    """A wave over some UPSes with loads on them at random, some of them not fit for a test."""
    names = [f"u{number}" for number in range(draw(some.integers(1, 8)))]
    loads = draw(some.lists(some.lists(some.sampled_from(names), min_size=1, max_size=3, unique=True).map(tuple), max_size=6))
    units = {
        name: replace(
            GOOD, name=name, contact=draw(some.sampled_from((True, True, True, False))),
            stable_s=draw(some.sampled_from((1e6, 1e6, 1e6, 10.0, None))), unable=draw(some.sampled_from(("", "", "", "unable"))),
        )
        for name in names
    }  # fmt: skip
    rules = replace(
        RULES, max_parallel=draw(some.integers(1, 4)), on_failure=draw(some.sampled_from(("group", "wave"))),
        recharge_s=draw(some.sampled_from((0.0, 50.0))),
    )  # fmt: skip
    wave = Wave(QUICK, rules, tuple(map(Member, names)), closes_s=500.0, patient=draw(some.booleans()))
    return wave, units, loads


@given(rooms(), some.data())
@settings(max_examples=150)
def test_a_wave_ends_with_everybody_dealt_with_once_and_no_two_feeds_of_a_load_together(
    room: tuple[Wave, dict[str, Unit], list[tuple[str, ...]]], data: Any
) -> None:
    wave, units, loads = room
    mates = partners(loads)
    busy: dict[str, float] = {}
    ends: dict[str, float] = {}
    begun: list[str] = []
    failed: set[str] = set()
    now_s = 0.0
    members = {member.ups: member for member in wave.members}
    for _ in range(2000):
        for ups in [ups for ups, end_s in ends.items() if end_s <= now_s]:
            del ends[ups]
            verdict = data.draw(some.sampled_from(VERDICTS))
            members[ups] = Member(ups, "tested", verdict)
            failed |= {ups} if verdict is Verdict.FAILED else set()
            busy[ups] = now_s + wave.rules.recharge_s
        wave = replace(wave, members=tuple(members.values()))
        match next_step(wave, units, mates, busy, list(ends), now_s):
            case Begin(ups):
                assert members[ups].state == "waiting" and ups not in begun
                assert now_s < 500.0
                assert not units[ups].unable and units[ups].contact and (units[ups].stable_s or 0) >= RULES.mains_stable_s
                taken = {each for each, free_s in busy.items() if free_s > now_s}
                assert len(taken) < wave.rules.max_parallel
                assert not any({ups, other} <= set(load) for load in loads for other in taken if other != ups)
                assert not (failed if wave.rules.on_failure == "wave" else failed & mates.get(ups, frozenset()))
                begun.append(ups)
                members[ups] = Member(ups, "testing")
                busy[ups] = float("inf")
                ends[ups] = now_s + data.draw(some.sampled_from((10.0, 60.0)))
            case Refuse(ups, text):
                assert members[ups].state == "waiting" and text
                members[ups] = Member(ups, "refused")
            case Wait(reasons):
                assert ends or set(reasons) == {each.ups for each in members.values() if each.state == "waiting"}
                now_s += 10.0
            case Close():
                assert all(each.state in ("tested", "refused") for each in members.values())
                return
    pytest.fail("the wave never ended")
