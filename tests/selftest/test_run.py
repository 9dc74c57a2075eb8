"""Waves carried out on simulated units: verdicts, pairs, refusals, ends before their time."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from qxfleet.api.shapes import variable_texts
from qxfleet.battery import register
from qxfleet.model.discharge import Cause, Discharge
from qxfleet.model.selftest import Asked
from qxfleet.selftest.run import BatteryTests
from qxfleet.store import batteries
from qxfleet.store import tests as stored
from qxfleet.testing.simulator import Unknown
from qxfleet.testing.unit import Fault
from tests.selftest.ground import SOON, TestGround, a_unit, verdicts
from tests.virtual import run_virtual


def virtual(story: Callable[[Path], Any]) -> Callable[[Path], None]:
    """A test on virtual time with the migrated database ``sqlite_path``."""

    @functools.wraps(story)
    def run(sqlite_path: Path) -> None:
        run_virtual(story(sqlite_path))

    return run


@virtual
async def test_a_healthy_battery_passes_and_its_curve_is_kept(sqlite_path: Path) -> None:
    async with TestGround(sqlite_path, [a_unit("a")]) as site:
        await site.settled()
        wave = await site.wave("a")
        assert verdicts(wave) == {"a": "passed"}
        assert site.starts("a") == [b"T\r"]
        test = (await site.results())["a"]
        assert test.evidence["test_bit"] and test.evidence["discharge"]
        assert 8 <= test.evidence["lasted_s"] <= 11
        points = await site.store.read(functools.partial(stored.points, test_id=test.id))
        assert len(points) > 20
        texts = variable_texts(site.fleet.snapshot()["a"])
        assert (texts["ups.test.result"], texts["ups.test.date"]) == ("Done and passed", "2026-09-21")
        assert site.told("on-battery") == []
        assert site.told("battery-test-result") == [("a", "battery-test-result", "passed")]


@virtual
async def test_bad_units_are_told_from_each_other(sqlite_path: Path) -> None:
    names = ("good", "dead", "lazy", "naks", "echo", "mecer-lazy")
    units = [a_unit(name, dialect="mecer" if "mecer" in name else "megatec") for name in names]
    by_name = {unit.name: unit for unit in units}
    by_name["dead"].set_fault(Fault.DEAD_BATTERY, "4")
    by_name["lazy"].set_fault(Fault.ACK_BUT_IGNORE)
    by_name["mecer-lazy"].set_fault(Fault.ACK_BUT_IGNORE)
    by_name["naks"].set_fault(Fault.REFUSE, "T*")
    by_name["naks"].unknown = Unknown.NAK
    by_name["echo"].set_fault(Fault.REFUSE, "T*")
    async with TestGround(sqlite_path, units, rules=replace(SOON, max_parallel=6)) as site:
        await site.settled()
        wave = await site.wave()
        assert verdicts(wave) == {
            "good": "passed", "dead": "failed", "lazy": "no-effect", "naks": "aborted", "echo": "aborted",
            "mecer-lazy": "no-effect",
        }  # fmt: skip
        assert wave.stored.outcome == "failed"
        assert all(len(site.starts(name)) == 1 for name in names)
        results = await site.results()
        assert "NAK" in results["naks"].text and "refused" in results["echo"].text
        assert results["lazy"].evidence["discharge"] is False
        assert site.told("on-battery") == []
        # a battery that failed is not put under load again before it was replaced
        again = await site.wave("dead")
        assert "failed its last test and was not replaced" in verdicts(again)["dead"]
        assert len(site.starts("dead")) == 1


@virtual
async def test_feeds_of_one_load_are_tested_one_after_the_other(sqlite_path: Path) -> None:
    pairs = [("a1", "b1"), ("a2", "b2"), ("a3", "b3")]
    names = [name for pair in pairs for name in pair]
    together: set[str] = set()
    async with TestGround(sqlite_path, map(a_unit, names), pairs=pairs, rules=replace(SOON, max_parallel=6)) as site:
        await site.settled()
        wave = await site.begin(schedule="weekly")
        most = 0
        while not wave.done.is_set():
            site.advance()
            testing = {name for name in names if site.units[name].machine.testing}
            most = max(most, len(testing))
            together.update(f"{a}+{b}" for a, b in pairs if {a, b} <= testing)
            await asyncio.sleep(0.25)
        assert not together
        assert most == 3
        assert set(verdicts(wave).values()) == {"passed"}


@virtual
async def test_the_partner_of_a_failed_battery_is_left_alone(sqlite_path: Path) -> None:
    pairs = [("a1", "b1"), ("a2", "b2")]
    names = [name for pair in pairs for name in pair]
    units = [a_unit(name) for name in names]
    units[0].set_fault(Fault.DEAD_BATTERY, "4")
    async with TestGround(sqlite_path, units, pairs=pairs) as site:
        await site.settled()
        wave = await site.wave(schedule="weekly")
        told = verdicts(wave)
        assert told["a1"] == "failed"
        assert told["b1"] == "refused: the battery of a1 failed in this wave, and b1 must carry its load"
        assert (told["a2"], told["b2"]) == ("passed", "passed")
        assert site.starts("b1") == []
        # nor is it tested in later waves, as long as its partner can't carry the load
        later = await site.wave("b1")
        assert "a1 must carry its load, but its battery failed" in verdicts(later)["b1"]


@virtual
async def test_a_wave_may_end_with_its_first_failure(sqlite_path: Path) -> None:
    units = [a_unit(name) for name in "abc"]
    units[0].set_fault(Fault.DEAD_BATTERY, "4")
    async with TestGround(sqlite_path, units, rules=replace(SOON, on_failure="wave", max_parallel=1)) as site:
        await site.settled()
        wave = await site.wave(schedule="weekly")
        assert verdicts(wave)["b"] == verdicts(wave)["c"] == "refused: the wave was ended: the battery of a failed"


@virtual
async def test_mains_that_fail_in_a_test_end_it_and_are_an_outage_at_once(sqlite_path: Path) -> None:
    async with TestGround(sqlite_path, [a_unit("a")]) as site:
        await site.settled()
        wave = await site.begin("a", asked=Asked("timed", 120))
        await asyncio.sleep(20)
        site.mains(0, "a")
        failed_s = site.clock.monotonic()
        while not site.told("on-battery"):
            await asyncio.sleep(0.25)
        assert site.clock.monotonic() - failed_s <= 1.0
        await wave.done.wait()
        assert verdicts(wave) == {"a": "aborted"}
        assert "mains failed" in (await site.results())["a"].text
        site.mains(230, "a")
        await asyncio.sleep(30)
        assert [value for _, _, value in site.told("on-battery")] == ["begin", "end"]
        assert not site.units["a"].machine.testing


@virtual
async def test_a_unit_that_tests_as_if_mains_were_gone_makes_no_outage(sqlite_path: Path) -> None:
    unit = a_unit("a")
    unit.set_fault(Fault.TEST_RAISES_UTILITY_FAIL)
    async with TestGround(sqlite_path, [unit]) as site:
        await site.settled()
        assert verdicts(await site.wave("a", asked=Asked("timed", 60))) == {"a": "passed"}
        assert site.told("on-battery") == []


@virtual
async def test_a_test_is_ended_by_hand_by_maintenance_by_load_and_by_silence(sqlite_path: Path) -> None:
    names = ("hand", "work", "load", "mute")
    async with TestGround(sqlite_path, map(a_unit, names), rules=replace(SOON, max_parallel=4)) as site:
        await site.settled()
        wave = await site.begin(asked=Asked("timed", 300))
        await asyncio.sleep(30)
        assert await site.tests.stop_tests(["hand"], "cli:me") == ("hand",)
        await site.maintenance.begin(["work"], None, "new fan", "cli:me")
        site.advance("load")
        site.units["load"].machine.load_percent = 75
        site.dead.add("mute")
        await asyncio.sleep(60)
        site.dead.clear()
        await wave.done.wait()
        assert set(verdicts(wave).values()) == {"aborted"}
        texts = {ups: test.text for ups, test in (await site.results()).items()}
        assert texts["hand"] == "stopped by cli:me"
        assert texts["work"] == "maintenance began, by cli:me"
        assert texts["load"].startswith("the load moved from 40 to 7")
        assert texts["mute"].startswith("contact was lost after")
        assert all(len(site.stops(name)) == 1 for name in ("hand", "work", "load"))
        assert not any(unit.machine.testing for unit in site.units.values())
        assert site.told("on-battery") == []


@virtual
async def test_a_deep_test_is_ordered_with_its_end_and_passes_when_the_battery_was_low_late(sqlite_path: Path) -> None:
    async with TestGround(sqlite_path, [a_unit("a", load=80)], rules=replace(SOON, warning_cell_v=0.0)) as site:
        await site.settled()
        wave = await site.wave("a", asked=Asked("deep"))
        assert site.starts("a") == [b"T60\r"]
        assert verdicts(wave) == {"a": "passed"}
        test = (await site.results())["a"]
        assert test.evidence["low_after_s"] > 120
        assert "until the battery was low" in test.text


@virtual
async def test_an_endless_form_is_bounded_by_the_runner(sqlite_path: Path) -> None:
    """Where a dialect has nothing but TL."""
    unit = a_unit("a", load=10)
    async with TestGround(sqlite_path, [unit], rules=replace(SOON, longest_s=120.0)) as site:
        await site.settled()
        orders = tuple(order for order in site.fleet.orders("a") if order.name != "test.battery.start")
        site.fleet.orders = lambda ups: orders  # type: ignore[method-assign]
        wave = await site.wave("a", asked=Asked("deep"))
        assert site.starts("a") == [b"TL\r"]
        assert len(site.stops("a")) == 1
        assert verdicts(wave) == {"a": "passed"}
        assert 115 <= (await site.results())["a"].evidence["lasted_s"] <= 125


@virtual
async def test_a_test_to_a_depth_ends_there(sqlite_path: Path) -> None:
    unit = a_unit("a", dialect="voltronic", load=60)
    async with TestGround(sqlite_path, [unit]) as site:
        await site.settled(90)
        wave = await site.wave("a", asked=Asked("deep", depth_percent=20))
        test = (await site.results())["a"]
        assert verdicts(wave) == {"a": "passed"}, test.text
        assert 19 <= test.evidence["charge_before"] - test.evidence["charge_after"] <= 30
        assert len(site.stops("a")) == 1


@virtual
async def test_what_a_voltronic_unit_says_of_its_test_is_kept(sqlite_path: Path) -> None:
    units = [a_unit(name, dialect="voltronic") for name in ("good", "dead")]
    units[1].set_fault(Fault.DEAD_BATTERY, "4")
    async with TestGround(sqlite_path, units) as site:
        await site.settled(90)
        assert verdicts(await site.wave()) == {"good": "passed", "dead": "failed"}
        results = await site.results()
        assert results["good"].evidence["device_result"] == "passed"
        assert results["dead"].evidence["device_result"] == "failed"


@virtual
async def test_preconditions_refuse_at_once_by_hand_and_wait_on_a_calendar(sqlite_path: Path) -> None:
    async with TestGround(sqlite_path, map(a_unit, "ab")) as site:
        await site.settled()
        site.mains(190, "a")  # a brown-out: the unit boosts
        await asyncio.sleep(10)
        by_hand = await site.wave("a")
        assert "mains stable for 10 s (BOOST); needs 60 min" in verdicts(by_hand)["a"]
        on_calendar = await site.begin("a", schedule="weekly", closes_us=site.clock.wall_us() + 600_000_000)
        await asyncio.sleep(30)
        assert "mains stable for" in on_calendar.reasons["a"]
        site.mains(230, "a")
        await on_calendar.done.wait()
        assert verdicts(on_calendar) == {"a": "passed"}
        site.mains(190, "b")
        await asyncio.sleep(10)
        too_late = await site.wave("b", schedule="weekly", closes_us=site.clock.wall_us() + 60_000_000)
        assert verdicts(too_late)["b"].startswith("refused: mains stable for")
        assert site.starts("b") == []
        refused = [event for event in site.events if event.name == "battery-test-refused"]
        assert [event.ups for event in refused] == ["a", "b"]


@virtual
async def test_mains_that_fail_for_a_moment_while_the_order_is_awaited_are_not_overlooked(sqlite_path: Path) -> None:
    unit = a_unit("a")
    async with TestGround(sqlite_path, [unit]) as site:
        await site.settled()
        start = unit.machine.start_test

        def start_and_fail(seconds: float) -> bool:
            started = start(seconds)
            asyncio.get_running_loop().call_later(0.05, site.mains, 0, "a")
            asyncio.get_running_loop().call_later(3.0, site.mains, 230, "a")
            return started

        unit.machine.start_test = start_and_fail  # type: ignore[method-assign]
        assert verdicts(await site.wave("a")) == {"a": "aborted"}
        assert [value for _, _, value in site.told("on-battery")][:1] == ["begin"]


@virtual
async def test_a_replaced_battery_is_a_new_one(sqlite_path: Path) -> None:
    unit = a_unit("a", dialect="mecer")
    unit.set_fault(Fault.DEAD_BATTERY, "4")
    async with TestGround(sqlite_path, [unit]) as site:
        await site.settled()
        assert verdicts(await site.wave("a")) == {"a": "failed"}
        unit.clear_fault()
        unit.machine.failed = False
        unit.machine.battery.set_charge(1.0)
        now_us = site.clock.wall_us()
        await site.store.commit(lambda connection, number: register.replaced(connection, number, "a", now_us, None, {}), "a")
    async with TestGround(sqlite_path, [unit], rules=replace(SOON, charged_s=0.0, no_alarm=False), clock=site.clock) as again:
        await again.settled(400)
        assert verdicts(await again.wave("a")) == {"a": "passed"}, (await again.results())["a"]


@virtual
async def test_a_test_names_the_discharge_it_made(sqlite_path: Path) -> None:
    """The discharge is cut out of the readings by others; a test says which is its own."""
    async with TestGround(sqlite_path, [a_unit("a")]) as site:
        await site.settled()
        began_us = site.clock.wall_us() + 2_000_000
        cut = Discharge("a", began_us, None, Cause.TEST)
        await site.store.commit(lambda connection, number: batteries.put_discharge(connection, number, cut, None), "a")
        await site.wave("a")
        (found,) = await site.store.read(lambda connection: batteries.discharges(connection, ["a"], 0, began_us * 2))
        assert found.test_id == (await site.results())["a"].id


@virtual
async def test_a_stop_that_somebody_else_orders_is_no_failure_of_the_battery(sqlite_path: Path) -> None:
    async with TestGround(sqlite_path, [a_unit("a")]) as site:
        await site.settled()
        wave = await site.begin("a", asked=Asked("timed", 300))
        await asyncio.sleep(20)
        await site.fleet.perform("a", "test.battery.stop", None, actor="nut:operator@::1")
        await wave.done.wait()
        assert verdicts(wave) == {"a": "aborted"}
        assert (await site.results())["a"].text == "it was told to stop by nut:operator@::1"


@virtual
async def test_a_restarted_agent_knows_since_when_it_was_calm(sqlite_path: Path) -> None:
    """A wave that goes on after a restart does not wait for hours of calm anew, and takes no drained battery for a full one."""
    rules = replace(SOON, mains_stable_s=600.0, charged_s=600.0)
    units = [a_unit("calm"), a_unit("drained")]
    async with TestGround(sqlite_path, units, rules=rules) as site:
        await site.settled(700)
        site.mains(0, "drained")
        await asyncio.sleep(60)
        site.mains(230, "drained")
        await site.settled(700)
    async with TestGround(sqlite_path, units, rules=rules, clock=site.clock) as again:
        await again.settled(30)
        told = verdicts(await again.wave())
        assert told["calm"] == "passed"
        assert told["drained"] == "refused: not fully charged, by the time since it worked"  # and nothing of its mains


async def test_tests_are_stopped_while_other_waves_come_and_go() -> None:
    """Found by the hunt at the control socket: a wave that began meanwhile was an error of our own."""
    tests = BatteryTests.__new__(BatteryTests)
    refused: list[str] = []

    async def refuse(wave: Any, ups: str, why: str) -> None:
        refused.append(ups)
        tests._waves[len(tests._waves) + 1] = waves(0)

    def waves(count: int) -> Any:
        members = {f"u{number}": SimpleNamespace(state="waiting") for number in range(count)}
        return SimpleNamespace(members=members, news=asyncio.Event())

    tests._waves, tests._running = {1: waves(2), 2: waves(1)}, {}
    tests._refuse = refuse  # type: ignore[method-assign]
    assert await tests.stop_tests(("u0", "u1"), "cli:op") == ("u0", "u1")
    assert refused == ["u0", "u1", "u0"]
