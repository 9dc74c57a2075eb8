"""``status``, ``vars``, ``commands``, ``settings``, ``command``, ``set``: text, JSON shapes, exit codes."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.conftest import PLAIN, Site, process, wait_for

NAMES = [f"ups-{number:02d}" for number in range(1, 7)]
DIALECTS = ["mecer", "zinto", "megatec", "q1", "mustek", "megatec/old"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_status_json_has_the_contracts_shape(site: Site) -> None:
    document = site.json("status")
    assert list(document) == ["agent", "time", "ups"]
    assert document["agent"] == "test"
    assert TIME.fullmatch(document["time"])
    assert [ups["name"] for ups in document["ups"]] == NAMES
    assert [ups["dialect"] for ups in document["ups"]] == DIALECTS
    for ups in document["ups"]:
        assert list(ups) == [
            "name", "description", "groups", "port", "dialect", "state", "status", "alarms", "age_s", "variables",
        ]  # fmt: skip
        assert ups["state"] == "online"
        assert ups["status"].split()[0] == "OL"
        assert ups["alarms"] == []
        assert 0 <= ups["age_s"] < 5
        assert ups["port"] == str(site.ups / ups["name"])
        assert all(isinstance(value, str) for value in ups["variables"].values())
        assert ups["variables"]["ups.status"] == ups["status"]
        assert re.fullmatch(r"2[0-4]\d\.\d", ups["variables"]["input.voltage"])
    assert document["ups"][0]["groups"] == ["feed-a", "rack1"]


def test_status_takes_names_and_groups(site: Site) -> None:
    def names(*targets: str) -> list[str]:
        return [ups["name"] for ups in site.json("status", *targets)["ups"]]

    assert names("ups-02") == ["ups-02"]
    assert names("group:feed-a") == ["ups-01", "ups-03", "ups-05"]
    assert names("ups-06", "group:rack1", "ups-01") == ["ups-01", "ups-02", "ups-06"]
    assert names("all") == NAMES


def test_status_in_a_pipe_is_a_plain_table(site: Site) -> None:
    done = process("--config", site.config, "status", env={"PATH": "/usr/bin", "COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading.split() == ["NAME", "STATE", "STATUS", "INPUT", "V", "LOAD", "%", "BATT", "V", "CHARGE", "%", "RUNTIME", "AGE"]
    assert [row.split()[:3] for row in rows] == [[name, "online", "OL"] for name in NAMES]
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 and line == line.rstrip() for line in (heading, *rows))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["status", "ups-99"], "no UPS is named 'ups-99'"),
        (["status", "group:feed-z"], "groups are feed-a, feed-b, rack1, rack2, rack3"),
        (["vars", "ups-99"], "no UPS is named 'ups-99'"),
        (["commands", "ups-99"], "no UPS is named 'ups-99'"),
        (["command", "ups-99", "beeper.toggle"], "no UPS is named 'ups-99'"),
        (["set", "ups-99", "ups.delay.start", "60"], "no UPS is named 'ups-99'"),
        (["settings", "group:feed-a"], "one UPS"),
        (["status", "--no-such-option"], "--no-such-option"),
        (["vars"], "NAME"),
        (["no-such-command"], "no-such-command"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(site: Site, args: list[str], words: str) -> None:
    done = site.run(*args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_vars_is_upscs_text(site: Site) -> None:
    done = site.run("vars", "ups-03")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert all(re.fullmatch(r"[a-z.]+: .*", line) for line in lines)
    known = dict(line.split(": ", 1) for line in lines)
    assert list(known) == sorted(known)
    assert {"input.voltage", "output.voltage", "ups.load", "battery.voltage", "ups.status", "device.mfr"} <= known.keys()
    assert known["ups.delay.shutdown"] == "30"


def test_vars_of_one_variable_is_its_value(site: Site) -> None:
    done = site.run("vars", "ups-03", "ups.delay.start")
    assert (done.returncode, done.stdout) == (0, "180\n")
    unknown = site.run("vars", "ups-03", "no.such.variable")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "qxfleet vars ups-03" in unknown.stderr


def test_vars_tells_origins(site: Site) -> None:
    assert "ups.delay.start: 180 (configured)\n" in site.run("vars", "ups-03", "--origins").stdout
    document = site.json("vars", "ups-03")
    assert list(document) == ["ups", "variables", "origins"]
    assert document["ups"] == "ups-03"
    assert document["origins"].keys() == document["variables"].keys()
    assert document["origins"]["input.voltage"] == "measured"
    assert document["origins"]["ups.delay.start"] == "configured"
    assert site.json("vars", "ups-03", "ups.delay.start")["variables"] == {"ups.delay.start": "180"}


def test_commands_are_listed(site: Site) -> None:
    document = site.json("commands", "ups-03")
    commands = {command["name"]: command for command in document["commands"]}
    assert document["ups"] == "ups-03"
    assert set(commands) >= {
        "beeper.toggle", "load.off", "load.on", "shutdown.return", "shutdown.stayoff", "shutdown.stop", "test.battery.start",
        "test.battery.start.deep", "test.battery.start.quick", "test.battery.stop",
    }  # fmt: skip
    assert commands["beeper.toggle"]["value"] is None
    assert commands["test.battery.start"]["value"].keys() == {"min", "max", "default"}
    text = site.run("commands", "ups-03").stdout
    assert re.search(r"^beeper\.toggle +- ", text, re.MULTILINE)
    assert re.search(r"^load\.off .*\(cuts the load\)$", text, re.MULTILINE)


def test_settings_have_their_ranges(site: Site) -> None:
    document = site.json("settings", "ups-03")
    assert document["ups"] == "ups-03"
    assert set(document["settings"]) == {"ups.delay.shutdown", "ups.delay.start"}
    shutdown = document["settings"]["ups.delay.shutdown"]
    assert (shutdown["value"], shutdown["min"], shutdown["max"], shutdown["choices"]) == ("30", 12, 600, [])
    assert re.search(r"^ups\.delay\.shutdown +30  12-600 ", site.run("settings", "ups-03").stdout, re.MULTILINE)


def test_a_confirmed_command_is_exit_code_0(site: Site) -> None:
    """Beeper: bit b0 of the status shows it, so silence on the wire is no obstacle (megatec-family.md section 10.6)."""
    done = site.run("command", "ups-03", "beeper.toggle")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("ups-03 beeper.toggle: accepted (done; ")
    assert b"Q\r" in site.asked("ups-03")
    document = site.json("command", "ups-03", "beeper.toggle")
    assert document == {"ups": "ups-03", "name": "beeper.toggle", "value": None, "outcome": "accepted", "reply": None}


def test_a_word_from_the_device_is_shown(site: Site) -> None:
    """mecer units answer (ACK (megatec-family.md section 10.6)."""
    document = site.json("command", "ups-01", "beeper.toggle")
    assert (document["outcome"], document["reply"]) == ("accepted", "(ACK")


def test_an_order_that_has_nothing_to_do_is_confirmed_by_the_next_reading(site: Site) -> None:
    """Nothing is pending and no test runs: scripts that cancel whatever there is go on."""
    for order, sign in (("shutdown.stop", "bit.shutdown"), ("test.battery.stop", "bit.test"), ("load.on", "output.voltage")):
        done = site.run("command", "ups-04", order)
        assert done.returncode == 0, done.stdout
        assert done.stdout.startswith(f"ups-04 {order}: accepted (done; {sign} was so before and is so still)")


def test_an_order_that_cuts_power_names_what_hangs_on_it_and_asks(site: Site) -> None:
    for order in ("load.off", "shutdown.return", "shutdown.stayoff", "shutdown.default"):
        before = len(site.asked("ups-04"))
        refused = site.run("command", "ups-04", order)
        assert refused.returncode == 2
        assert f"{order} cuts the power of ups-04. No [[load]] says what hangs on it." in refused.stderr
        assert "--yes" in refused.stderr
        sent = [request for request in site.asked("ups-04")[before:] if request.startswith((b"S", b"C"))]
        assert sent == []


@pytest.mark.parametrize(
    ("args", "outcome", "words"),
    [
        (["ups-03", "no.such.command"], "unsupported", "no such command"),
        (["ups-03", "test.battery.start", "-5"], "rejected", "out of range"),
        (["ups-03", "test.battery.start", "soon"], "rejected", "not a number"),
        (["ups-03", "beeper.toggle", "5"], "rejected", "takes no value"),
    ],
)
def test_what_can_not_be_sent_is_not_sent(site: Site, args: list[str], outcome: str, words: str) -> None:
    before = [request for request in site.asked("ups-03") if request != b"Q1\r"]
    done = site.run("command", *args)
    assert done.returncode == 1
    assert outcome in done.stdout
    assert words in done.stdout
    assert "(refused" not in done.stdout and "this UPS has no" not in done.stdout, "the UPS was never asked"
    assert site.json("command", *args, code=1)["outcome"] == outcome
    after = [request for request in site.asked("ups-03") if request != b"Q1\r"]
    assert [request for request in after if request not in (b"I\r", b"F\r")] == [
        request for request in before if request not in (b"I\r", b"F\r")
    ]


def test_set_keeps_the_value(site: Site) -> None:
    try:
        document = site.json("set", "ups-02", "ups.delay.shutdown", "120")
        assert document == {
            "ups": "ups-02", "name": "ups.delay.shutdown", "value": "120", "outcome": "accepted", "reply": None,
        }  # fmt: skip
        wait_for(lambda: site.run("vars", "ups-02", "ups.delay.shutdown").stdout == "120\n", "the new value", 20)
        assert site.json("settings", "ups-02")["settings"]["ups.delay.shutdown"]["value"] == "120"
    finally:
        site.run("set", "ups-02", "ups.delay.shutdown", "30")


@pytest.mark.parametrize(
    ("variable", "value", "outcome", "words"),
    [
        ("ups.delay.shutdown", "601", "rejected", "12 to 600"),
        ("ups.delay.shutdown", "-1", "rejected", "12 to 600"),
        ("ups.delay.shutdown", "soon", "rejected", "not a number"),
        ("input.voltage", "230", "unsupported", "not writable"),
    ],
)
def test_set_refuses_what_can_not_be(site: Site, variable: str, value: str, outcome: str, words: str) -> None:
    done = site.run("set", "ups-03", variable, value)
    assert done.returncode == 1
    assert f"{variable} {value}: {outcome}" in done.stdout
    assert words in done.stdout


@pytest.fixture
def unplugged(site: Site) -> Iterator[str]:
    site.tell("unplug ups-06")
    try:
        wait_for(lambda: site.states()["ups-06"] == "lost", "the loss of ups-06", 15)
        yield "ups-06"
    finally:
        site.tell("replug ups-06")
        wait_for(lambda: site.states()["ups-06"] == "online", "ups-06 back online", 30)


def test_without_contact(site: Site, unplugged: str) -> None:
    """What is known is shown as what it is: old; an order does not get through; the others are not disturbed."""
    done = site.run("vars", unplugged)
    assert done.returncode == 1
    assert "input.voltage: " in done.stdout
    assert "ups-06 is lost: last known values" in done.stderr
    order = site.json("command", unplugged, "beeper.toggle", code=1)
    assert order["outcome"] == "no-answer"
    (ups,) = site.json("status", unplugged)["ups"]
    assert (ups["state"], ups["dialect"]) == ("lost", "megatec/old")
    assert [state for name, state in site.states().items() if name != unplugged] == ["online"] * 5
    assert site.json("events", unplugged)["events"][-2]["name"] == "contact-lost"


def test_the_socket_is_the_groups_alone(site: Site) -> None:
    assert stat.S_IMODE(site.socket.stat().st_mode) == 0o660


def test_no_agent_is_exit_code_3(tmp_path: Path, site: Site) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text('[agent]\ncontrol = "nobody.sock"\n')
    for args in (["status"], ["vars", "x"], ["command", "x", "y"], ["events", "--follow"], ["top"]):
        done = site.run("--config", config, *args)
        assert (done.returncode, done.stdout) == (3, ""), done.stderr
        assert done.stderr == f"no agent answers on {tmp_path}/nobody.sock: start it with `qxfleet run`\n"


def test_a_broken_pipe_is_quiet(site: Site) -> None:
    line = f"{sys.executable} -m qxfleet --config {site.config} status --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=PLAIN, check=True)
    assert done.stderr == ""
    assert done.stdout in ("0\n", "1\n")


def test_a_duration_may_be_typed_for_a_number_of_seconds() -> None:
    from qxfleet.interfaces.cli.orders import seconds

    assert [seconds(text) for text in ("3m", "180", "30s", "Li", None)] == ["180", "180", "30", "Li", None]
