"""A profile with eight settings over forty voltronic units: drift shown, applied, none left; and one unit that refuses."""

from __future__ import annotations

from pathlib import Path

from qxfleet.agent.profiles import Drift, check
from qxfleet.config.load import load
from qxfleet.model.events import Outcome
from qxfleet.testing.unit import Fault
from tests.agent.voltronic_ground import VoltronicGround, told
from tests.scenarios.play import measured
from tests.virtual import run_virtual

PROTOCOLS = ("P01", "P02", "P03", "P10")
"""Protocol numbers whose units have all eight settings of the profile."""

NAMES = {f"ups-{number:02d}": PROTOCOLS[number % len(PROTOCOLS)] for number in range(1, 41)}

CONFIGURATION = "".join(
    f'[[ups]]\nname = "{name}"\nport = "/dev/{name}"\ndialect = "voltronic"\ngroups = ["row-a"]\n' for name in NAMES
) + """
[[profile]]
name = "row"
targets = ["group:row-a"]

[profile.settings]
ups.start.auto = "yes"
alarm_control = "disabled"
bypass_forbidding = "enabled"
eco_mode = "enabled"
battery.packs = 2
input.transfer.high = 245
input.transfer.low = 215
min_bypass_volt = 175
"""

WIRE = {
    "ups.start.auto": "PER", "alarm_control": "PDA", "bypass_forbidding": "PEF", "eco_mode": "PEE", "battery.packs": "BATGN02",
    "input.transfer.high": "HEH245", "input.transfer.low": "HEL215", "min_bypass_volt": "PLV175",
}  # fmt: skip
"""voltronic.md sections 8 to 10."""

CHANGED_AT_PANEL = {"ups-03": ("PER", "PDA", "PEF", "PEE", "BATGN02", "HEH245", "HEL215", "PLV175"), "ups-07": ("HEL216",)}
"""One unit that stands as it should from the first, one that stands as no other does."""

REFUSING, REFUSED = "ups-20", "HEH245"


def test_drift_is_shown_applied_and_gone(tmp_path: Path) -> None:
    file = tmp_path / "qxfleet.toml"
    file.write_text(CONFIGURATION)
    (profile,) = load(file).profiles
    assert (len(profile.upses), len(profile.settings)) == (40, 8)

    async def story() -> None:
        async with VoltronicGround(tmp_path, NAMES) as site:
            for name, pressed in CHANGED_AT_PANEL.items():
                for setting in pressed:
                    site.press(name, setting)
            site.refuse(REFUSING, REFUSED)
            await site.all_asked()
            before = check(site.fleet, profile)
            assert all(each.settable for each in before)
            assert {each.ups for each in before} == set(NAMES) - {"ups-03"}
            assert Drift("ups-07", "input.transfer.low", "215", "216") in before
            assert all(site.set_requests(name) == [] for name in NAMES)

            stopped = await site.apply(profile)
            assert told(stopped)[-1] == (REFUSING, "input.transfer.high", "rejected")
            assert all(outcome == "accepted" for _, _, outcome in told(stopped)[:-1])
            refusal = stopped[-1].result
            assert (refusal.ups, refusal.sent, refusal.reply) == (REFUSING, f"{REFUSED}\r", "(NAK")
            assert {each.ups for each in check(site.fleet, profile)} == {name for name in NAMES if name >= REFUSING}

            went_on = await site.apply(profile, go_on=True)
            assert [step for step in told(went_on) if step[2] != "accepted"] == [(REFUSING, "input.transfer.high", "rejected")]
            (left,) = check(site.fleet, profile)
            assert (left.ups, left.name) == (REFUSING, "input.transfer.high")

            site.units[REFUSING].clear_fault()
            assert told(await site.apply(profile)) == [(REFUSING, "input.transfer.high", "accepted")]
            assert check(site.fleet, profile) == ()
            assert await site.apply(profile) == []

            wanted = {(each.ups, WIRE[each.name]) for each in before}
            sent = [(name, request) for name in NAMES for request in site.set_requests(name)]
            assert set(sent) == wanted
            assert len(sent) == len(wanted) + 2  # the refused one was sent three times, every other setting once
            assert all(unit.state.settings.limits["HEH"] == 245 for unit in site.units.values())

            orders = await site.orders()
            assert len(orders) == len(sent)
            assert {order.actor for order in orders} == {"test"}
            outcomes = [order.outcome for order in orders]
            assert outcomes.count(Outcome.REJECTED) == 2
            assert outcomes.count(Outcome.ACCEPTED) == len(wanted)
            differed = len({each.ups for each in before})
            measured(
                f"profile of 8 settings on 40 units: {len(before)} settings differed on {differed} units, {len(wanted)} set, "
                f"1 refused by {REFUSING} with {refusal.reply}, none differs afterwards"
            )

    run_virtual(story())


def test_a_unit_told_to_acknowledge_and_not_to_obey_is_a_refusal(tmp_path: Path) -> None:
    """An acknowledgement is not believed: the setting is read back (voltronic.md section 15)."""
    async def story() -> None:
        async with VoltronicGround(tmp_path, {"a": "P01"}) as site:
            site.units["a"].set_fault(Fault.ACK_BUT_IGNORE)
            (step,) = await site.apply(site.profile({"eco_mode": "enabled"}))
            assert (step.result.outcome, step.result.reply) == (Outcome.UNCONFIRMED, "(ACK")
            assert "still says disabled" in step.result.text
            assert [each.name for each in check(site.fleet, site.profile({"eco_mode": "enabled"}))] == ["eco_mode"]

    run_virtual(story())
