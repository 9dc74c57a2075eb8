"""``profile check`` and ``profile apply`` on real processes: voltronic units on pseudo-terminals, an agent, the command."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from qxfleet.interfaces.cli.main import run_command
from tests.interfaces.conftest import PLAIN, Site, process, short_folder, start, wait_for

# `simulate --dialect voltronic` makes P01, P03 and P31 in turn: one has bypass limits, one has battery types.
PROFILES = """
[[profile]]
name = "quiet"
targets = ["all"]
settings = { battery_alarm = "disabled", "ups.start.auto" = "no" }

[[profile]]
name = "chemistry"
targets = ["ups-03", "ups-01"]
settings = { "battery.type" = "Flooded" }

[[profile]]
name = "as-made"
targets = ["ups-02"]
settings = { eco_mode = "disabled" }
"""


@pytest.fixture(scope="module")
def voltronic() -> Iterator[Site]:
    """Three voltronic units of protocol P01, P03 and P31 below an agent with profiles."""
    with short_folder() as folder:
        ups = folder / "ups"
        with (folder / "simulator.log").open("w") as log:
            simulator = start("simulate", "--dir", ups, "--ups", 3, "--dialect", "voltronic", stderr=log)
        try:
            wait_for((ups / "ups-03").is_symlink, "a simulator", 15)
            site = Site(folder, ups)
            site.write("".join(site.block(f"ups-0{n}", "voltronic") for n in (1, 2, 3)) + PROFILES)
            site.start()
            try:
                site.all_online()
                wait_for(lambda: "still" not in site.run("profile", "check").stdout, "all settings are known")
                yield site
            finally:
                if site.process is not None:
                    assert site.stop() == 0
        finally:
            simulator.terminate()
            assert simulator.wait(20) == 0


def sent(site: Site, name: str) -> list[str]:
    """Capability orders that a unit received."""
    return [request.decode().rstrip("\r") for request in site.asked(name) if request[:2] in (b"PE", b"PD", b"PB")]


def test_nothing_to_do(voltronic: Site) -> None:
    done = voltronic.run("profile", "check", "as-made")
    assert (done.returncode, done.stdout) == (0, "as-made: 1 setting on 1 UPS, none differs\n")
    assert voltronic.json("profile", "apply", "as-made") == {"profile": "as-made", "ended": "complete", "refused": 0, "steps": []}


def test_drift_is_shown_applied_and_gone(voltronic: Site) -> None:
    assert voltronic.json("profile", "check", "quiet", code=1) == {
        "profiles": [
            {
                "profile": "quiet",
                "ups": ["ups-01", "ups-02", "ups-03"],
                "settings": {"battery_alarm": "disabled", "ups.start.auto": "no"},
                "drift": [
                    {"ups": ups, "setting": setting, "wanted": wanted, "is": stands, "settable": True, "why": ""}
                    for ups in ("ups-02", "ups-03")
                    for setting, wanted, stands in (("battery_alarm", "disabled", "enabled"), ("ups.start.auto", "no", "yes"))
                ],
            }
        ]
    }
    table = voltronic.run("profile", "check", "quiet")
    assert table.returncode == 1
    assert "quiet    ups-02  battery_alarm   disabled  enabled  yes" in table.stdout
    assert table.stdout.endswith("quiet: 2 settings on 3 UPSes, 2 differ, in 4 settings\n")

    rehearsed = voltronic.json("profile", "apply", "quiet", "--dry-run")
    assert (rehearsed["ended"], [step["outcome"] for step in rehearsed["steps"]]) == ("dry-run", [None] * 4)
    assert sent(voltronic, "ups-02") == []

    done = voltronic.run("profile", "apply", "quiet", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "profile": "quiet", "ended": "complete", "refused": 0,
        "steps": [
            {"ups": ups, "setting": setting, "wanted": wanted, "was": stands, "outcome": "accepted", "reply": "(ACK",
             "sent": f"{order}\r", "text": f"reads {wanted}"}
            for ups in ("ups-02", "ups-03")
            for setting, wanted, stands, order in (
                ("battery_alarm", "disabled", "enabled", "PDB"), ("ups.start.auto", "no", "yes", "PDR"),
            )
        ],
    }  # fmt: skip
    progress = done.stderr.splitlines()
    assert progress[0] == (
        "[2/3] ups-02 battery_alarm enabled → disabled: accepted (done; the UPS answered '(ACK'; reads disabled)"
    )
    assert len(progress) == 4

    assert voltronic.run("profile", "check", "quiet").returncode == 0
    assert voltronic.json("profile", "apply", "quiet")["steps"] == []
    assert (sent(voltronic, "ups-01"), sent(voltronic, "ups-02")) == ([], ["PDB", "PDR"])
    events = voltronic.json("events", "ups-02")["events"]
    kept = [event for event in events if event["kind"] == "setting" and event["name"] == "battery_alarm"]
    assert [event["value"] for event in kept] == ["accepted"]
    assert kept[0]["text"].startswith("by cli:")
    for name in ("ups-02", "ups-03"):
        for variable, value in (("ups.start.auto", "yes"), ("battery_alarm", "enabled")):
            assert voltronic.run("set", name, variable, value).returncode == 0


def test_a_refusal_stops_it_and_is_named(voltronic: Site) -> None:
    voltronic.tell("fault refuse PDB ups-02")
    try:
        stopped = voltronic.run("profile", "apply", "quiet")
        assert stopped.returncode == 1
        assert "[2/3] ups-02 battery_alarm enabled → disabled: rejected (refused; the UPS answered '(NAK'; " in stopped.stderr
        assert stopped.stdout == (
            "quiet: no settings changed on 3 UPSes; 1 setting refused by ups-02; stopped there, --go-on goes on\n"
        )
        assert [each["ups"] for each in voltronic.json("profile", "check", "quiet", code=1)["profiles"][0]["drift"]] == [
            "ups-02", "ups-02", "ups-03", "ups-03",
        ]  # fmt: skip
        went_on = voltronic.json("profile", "apply", "quiet", "--go-on", code=1)
        assert (went_on["ended"], went_on["refused"]) == ("complete", 1)
        assert [(step["ups"], step["setting"], step["outcome"], step["reply"]) for step in went_on["steps"]] == [
            ("ups-02", "battery_alarm", "rejected", "(NAK"), ("ups-02", "ups.start.auto", "accepted", "(ACK"),
            ("ups-03", "battery_alarm", "accepted", "(ACK"), ("ups-03", "ups.start.auto", "accepted", "(ACK"),
        ]  # fmt: skip
    finally:
        voltronic.tell("fault clear ups-02")
    for name, variable, value in (
        ("ups-02", "ups.start.auto", "yes"), ("ups-03", "battery_alarm", "enabled"), ("ups-03", "ups.start.auto", "yes"),
    ):  # fmt: skip
        assert voltronic.run("set", name, variable, value).returncode == 0


def test_what_a_ups_has_not_is_told(voltronic: Site) -> None:
    """Only P31 units tell their battery's chemistry (voltronic.md section 3.3)."""
    (found,) = voltronic.json("profile", "check", "chemistry", code=1)["profiles"]
    assert [(each["ups"], each["is"], each["settable"]) for each in found["drift"]] == [
        ("ups-01", None, False), ("ups-03", "AGM", True),
    ]  # fmt: skip
    assert "no such setting" in found["drift"][0]["why"]
    rehearsed = voltronic.json("profile", "apply", "chemistry", "--dry-run", code=1)
    assert rehearsed["refused"] == 1
    first = voltronic.json("profile", "apply", "chemistry", code=1)
    assert [(step["ups"], step["outcome"], step["sent"]) for step in first["steps"]] == [("ups-01", "unsupported", "")]


def test_names_that_do_not_exist(voltronic: Site) -> None:
    for arguments in (("check", "loud"), ("apply", "loud"), ("apply", "loud", "--dry-run")):
        done = voltronic.run("profile", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "no profile is named 'loud'; there are quiet, chemistry, as-made" in done.stderr


def test_without_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text('[agent]\ncontrol = "agent.sock"\n')
    for arguments in (["check"], ["apply", "p"], ["apply", "p", "--dry-run"]):
        assert run_command(["--config", str(config), "profile", *arguments]) == 3
    assert "start it with `qxfleet run`" in capsys.readouterr().err


def test_ctrl_c_ends_it_behind_the_setting_under_way(voltronic: Site) -> None:
    """The first setting is held up by a unit that answers late; Ctrl-C comes while its answer is on the way."""
    voltronic.tell("fault late 0.8 ups-02")
    try:
        before = len(sent(voltronic, "ups-02"))
        applying = start(
            "--config", voltronic.config, "profile", "apply", "quiet", "--json", stdout=-1, stderr=-1, env=PLAIN
        )
        wait_for(lambda: len(sent(voltronic, "ups-02")) > before, "the first order", 20)
        applying.send_signal(signal.SIGINT)
        out, err = applying.communicate(timeout=30)
        assert applying.returncode == 130, err
        told = json.loads(out)
        assert (told["ended"], [(step["ups"], step["setting"], step["outcome"]) for step in told["steps"]]) == (
            "stopped", [("ups-02", "battery_alarm", "accepted")],
        )  # fmt: skip
        assert sent(voltronic, "ups-02")[before:] == ["PDB"]
    finally:
        voltronic.tell("fault clear ups-02")
    assert voltronic.run("set", "ups-02", "battery_alarm", "enabled").returncode == 0


def test_check_names_the_profiles(voltronic: Site) -> None:
    assert "profile quiet: 2 settings on 3 UPSes\nprofile chemistry: 1 setting on 2 UPSes\n" in voltronic.run("check").stdout
    assert voltronic.json("check")["profiles"][1] == {
        "name": "chemistry", "ups": ["ups-01", "ups-03"], "settings": {"battery.type": "Flooded"}, "go_on": False,
    }  # fmt: skip


def test_profiles_are_checked_before_anything_starts(tmp_path: Path) -> None:
    config = tmp_path / "qxfleet.toml"
    profile = '[[profile]]\nname = "p"\ntargets = ["b"]\nsettings.eco_mode = "on"\n'
    config.write_text(f'[[ups]]\nname = "a"\nport = "/dev/a"\n{profile}')
    done = process("--config", config, "check")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
