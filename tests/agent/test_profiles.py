"""How far a device is from a profile, and the order in which what differs is set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qxfleet.agent.profiles import Drift, check, drift
from qxfleet.model.events import Outcome, SettingInfo
from tests.agent.voltronic_ground import VoltronicGround, told
from tests.virtual import run_virtual

SETTINGS = (
    SettingInfo("eco_mode", "disabled", choices=("enabled", "disabled")),
    SettingInfo("input.transfer.high", 242.0, 237, 254),
    SettingInfo("input.frequency.high", 53.0, 53, 60),
    SettingInfo("battery.type", None, choices=("Li", "Flooded", "AGM")),
)


def nothing(name: str, value: str) -> str:
    return ""


@pytest.mark.parametrize(("wanted", "stands"), [
    ({"eco_mode": "disabled"}, ()), ({"eco_mode": "Disabled"}, ()), ({"eco_mode": "enabled"}, ("disabled",)),
    ({"input.transfer.high": "242"}, ()), ({"input.transfer.high": "242.0"}, ()), ({"input.transfer.high": "243"}, ("242",)),
    ({"input.frequency.high": "53"}, ()), ({"input.frequency.high": "53.1"}, ("53.0",)),
    ({"battery.type": "AGM"}, (None,)), ({"outlet.1.delay.shutdown": "60"}, (None,)), ({}, ()),
])  # fmt: skip
def test_only_what_differs_is_drift(wanted: dict[str, str], stands: tuple[str | None, ...]) -> None:
    """Numbers by their value, words without regard to case; what is not known is not as it should be."""
    found = drift("a", wanted, SETTINGS, nothing)
    assert found == tuple(Drift("a", name, value, stood) for (name, value), stood in zip(wanted.items(), stands, strict=False))
    assert len(found) == len(stands)


def test_drift_keeps_the_profiles_order_and_tells_what_can_not_be_set() -> None:
    wanted = {"input.transfer.high": "300", "eco_mode": "enabled"}
    found = drift("a", wanted, SETTINGS, lambda name, value: "out of range" if value == "300" else "")
    assert found == (
        Drift("a", "input.transfer.high", "300", "242", "out of range"), Drift("a", "eco_mode", "enabled", "disabled"),
    )  # fmt: skip
    assert [each.settable for each in found] == [False, True]


def test_what_stands_is_not_written_and_what_differs_is_written_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01", "b": "P01"}) as site:
            site.press("b", "PEE")
            profile = site.profile({"eco_mode": "enabled", "bypass_alarm": "enabled", "battery.packs": "2"})
            steps = await site.apply(profile)
            assert told(steps) == [
                ("a", "eco_mode", "accepted"), ("a", "battery.packs", "accepted"), ("b", "battery.packs", "accepted"),
            ]  # fmt: skip
            assert (site.set_requests("a"), site.set_requests("b")) == (["PEE", "BATGN02"], ["BATGN02"])
            assert check(site.fleet, profile) == ()
            assert await site.apply(profile) == []
            assert (site.set_requests("a"), site.set_requests("b")) == (["PEE", "BATGN02"], ["BATGN02"])

    run_virtual(story())


def test_check_sends_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01"}) as site:
            await site.all_asked()
            heard = len(site.heard["a"])
            (found,) = check(site.fleet, site.profile({"eco_mode": "enabled", "bypass_alarm": "enabled"}))
            assert found == Drift("a", "eco_mode", "enabled", "disabled")
            assert len(site.heard["a"]) == heard

    run_virtual(story())


def test_it_stops_at_the_first_refusal_and_names_unit_and_reply(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01", "b": "P01", "c": "P01"}) as site:
            site.refuse("b", "PEE")
            profile = site.profile({"eco_mode": "enabled", "battery.packs": "2"})
            steps = await site.apply(profile)
            assert told(steps) == [
                ("a", "eco_mode", "accepted"), ("a", "battery.packs", "accepted"), ("b", "eco_mode", "rejected"),
            ]  # fmt: skip
            refusal = steps[-1].result
            assert (refusal.sent, refusal.reply) == ("PEE\r", "(NAK")
            assert site.set_requests("c") == []

            steps = await site.apply(profile, go_on=True)
            assert told(steps) == [
                ("b", "eco_mode", "rejected"), ("b", "battery.packs", "accepted"),
                ("c", "eco_mode", "accepted"), ("c", "battery.packs", "accepted"),
            ]  # fmt: skip
            assert check(site.fleet, profile) == (Drift("b", "eco_mode", "enabled", "disabled"),)

    run_virtual(story())


def test_a_setting_that_another_one_opens_comes_after_it(tmp_path: Path) -> None:
    """Outlets have delays only while programmable outlets are switched on (voltronic.md section 3.1)."""

    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P03"}) as site:
            site.press("a", "PDJ")
            profile = site.profile({"outlet.1.delay.shutdown": "600", "outlet.0.switchable": "yes"})
            await site.all_asked()
            first, second = check(site.fleet, profile)
            assert (first.name, first.settable, second.name, second.settable) == (
                "outlet.1.delay.shutdown", False, "outlet.0.switchable", True,
            )  # fmt: skip
            assert told(await site.apply(profile)) == [
                ("a", "outlet.0.switchable", "accepted"), ("a", "outlet.1.delay.shutdown", "accepted"),
            ]  # fmt: skip
            assert site.set_requests("a") == ["PEJ", "PSK1010"]
            assert check(site.fleet, profile) == ()

    run_virtual(story())


def test_two_limits_that_pass_each_other(tmp_path: Path) -> None:
    """P09's bypass limits share one range, 60 to 140 V, and low stays below high (voltronic.md section 9.1, 9.2)."""

    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P09"}) as site:
            for low, high in ((135, 140), (60, 70), (130, 132)):
                profile = site.profile({"min_bypass_volt": f"{low}", "max_bypass_volt": f"{high}"})
                steps = await site.apply(profile)
                assert {outcome for _, _, outcome in told(steps)} == {"accepted"}
                assert check(site.fleet, profile) == ()
            assert site.set_requests("a")[-2:] == ["PHV132", "PLV130"]

    run_virtual(story())


def test_what_a_device_has_not_or_can_not_take_is_told_and_not_sent(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P31", "b": "P01"}) as site:
            profile = site.profile({"max_bypass_volt": "264", "battery.type": "Li"})
            steps = await site.apply(profile, go_on=True)
            assert told(steps) == [
                ("a", "battery.type", "accepted"), ("a", "max_bypass_volt", "unsupported"), ("b", "battery.type", "unsupported"),
            ]  # fmt: skip
            assert site.set_requests("b") == []
            (narrow,) = await site.apply(site.profile({"max_bypass_volt": "270"}, "b"))
            assert narrow.result.outcome is Outcome.REJECTED
            assert "230 to 264 are possible on this device" in narrow.result.text
            assert site.set_requests("b") == []

    run_virtual(story())


def test_a_device_without_contact_is_a_refusal_of_its_own_kind(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01", "b": "P01"}) as site:
            await site.all_asked()
            site.dead.add("a")
            await asyncio.sleep(60)
            profile = site.profile({"eco_mode": "enabled"})
            absent, differs = check(site.fleet, profile)
            assert (absent.stands, absent.settable, absent.why_not.startswith("no contact (")) == (None, False, True)
            assert differs == Drift("b", "eco_mode", "enabled", "disabled")
            (step,) = await site.apply(profile)
            assert (step.result.outcome, step.result.sent) == (Outcome.NO_ANSWER, "")
            assert "nothing was sent" in step.result.text
            assert told(await site.apply(profile, go_on=True)) == [
                ("a", "eco_mode", "no-answer"), ("b", "eco_mode", "accepted"),
            ]  # fmt: skip

    run_virtual(story())


def test_it_waits_for_a_device_that_is_still_recognised(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01"}) as site:
            (absent,) = check(site.fleet, site.profile({"eco_mode": "enabled"}))
            assert absent.why_not == "no contact (detecting)"
            assert told(await site.apply(site.profile({"eco_mode": "enabled"}))) == [("a", "eco_mode", "accepted")]

    run_virtual(story())


def test_told_to_stop_it_ends_behind_the_setting_under_way(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01", "b": "P01"}) as site:
            profile = site.profile({"eco_mode": "enabled", "battery.packs": "2"})
            steps = await site.apply(profile, stop_after=1)
            assert told(steps) == [("a", "eco_mode", "accepted")]
            assert (site.set_requests("a"), site.set_requests("b")) == (["PEE"], [])

    run_virtual(story())


def test_a_ups_taken_out_of_the_configuration_meanwhile(tmp_path: Path) -> None:
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01", "b": "P01"}) as site:
            await site.all_asked()
            profile = site.profile({"eco_mode": "enabled"})
            site.fleet.apply([site.options("b")], {})
            steps = await site.apply(profile, go_on=True)
            assert told(steps) == [("a", "eco_mode", "no-answer"), ("b", "eco_mode", "accepted")]
            assert "no longer configured" in steps[0].result.text

    run_virtual(story())
