"""``shutdown check`` and ``shutdown simulate`` as they are typed, without an agent."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qxfleet.interfaces.cli.main import command_line, run_command

FILE = """
[agent]
control = "agent.sock"
[[ups]]
name = "rack1-a"
port = "/dev/ttyS0"
groups = ["rack1"]
[[ups]]
name = "rack1-b"
port = "/dev/ttyS1"
groups = ["rack1"]
[[ups]]
name = "spare"
port = "/dev/ttyS2"
[[load]]
name = "app-1"
fed_by = ["rack1-a", "rack1-b"]
stop = { command = ["poweroff"] }
down_when = { tcp_closed = "app-1:22" }
start = { wake_on_lan = "52:54:00:12:34:56" }
stop_time = "60s"
[[load]]
name = "db-1"
fed_by = ["rack1-a", "rack1-b"]
after = ["app-1"]
stop = { command = ["poweroff"] }
down_when = { tcp_closed = "db-1:22" }
start = { wake_on_lan = "52:54:00:12:34:57" }
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "qxfleet.toml"
    file.write_text(FILE)
    return str(file)


def run(config: str, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command_line(), ["--config", config, "shutdown", *words])
    return result.exit_code, result.stdout


def test_the_timeline_reads_from_above_and_says_whether_it_fits(config: str) -> None:
    code, text = run(config, "simulate", "--fail", "rack1-a,rack1-b", "--runtime", "12m")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].startswith("REHEARSAL. Nothing is touched")
    words = ("MAINS FAIL", "STOP         app-1", "STOP         db-1", "TELL UPS     rack1-a", "IT FITS")
    order = [text.index(word) for word in words]
    assert order == sorted(order)
    assert "not armed" in text


def test_simulate_as_json_and_as_a_picture(config: str, tmp_path: Path) -> None:
    picture = tmp_path / "outage.svg"
    words = [sys.executable, "-m", "qxfleet", "--config", config, "shutdown", "simulate", "--fail", "group:rack1",
             "--runtime", "12m", "--back", "30m", "--plot", str(picture), "--json"]  # fmt: skip
    ended = subprocess.run(words, capture_output=True, text=True, check=False)  # matplotlib keeps its fonts open
    document = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert document["failing"] == ["rack1-a", "rack1-b"]
    assert document["fits"] is True
    assert document["timeline"][0]["kind"] == "mains-off"
    assert {"load", "ups", "left_s"} == document["slack"].keys()
    assert document["loads"]["db-1"][-1]["state"] == "running"
    assert "db-1" in picture.read_text()


def test_what_does_not_fit_is_exit_code_1(config: str) -> None:
    code, text = run(config, "simulate", "--fail", "all", "--runtime", "90s")
    assert code == 1
    assert "IT DOES NOT FIT: db-1" in text
    code, text = run(config, "check", "--runtime", "90s", "--json")
    document = json.loads(text)
    assert code == 1
    assert document["problems"] >= 1
    assert [ups["fits"] for ups in document["ups"]] == [False, False]


def test_check_says_what_dies_with_which_ups(config: str) -> None:
    code, text = run(config, "check", "--runtime", "rack1-a=20m,rack1-b=15m")
    assert code == 0
    assert "IF THIS UPS DIES" in text
    assert "app-1 → db-1" in text


@pytest.mark.parametrize(("words", "said"), [
    (["simulate", "--fail", "rack1"], "no UPS is named rack1"),
    (["simulate", "--fail", "group:rock1"], 'did you mean "rack1"?'),
    (["simulate", "--fail", "spare", "--runtime", "5m"], "no load hangs on any of these"),
    (["simulate", "--fail", "all"], "give it by --runtime 12m"),
    (["simulate", "--fail", "all", "--runtime", "12"], 'write "12s"'),
    (["simulate", "--fail", "all", "--runtime", "x=12m"], "no UPS is named x"),
    (["simulate", "--fail", "all", "--runtime", "12m", "--plot", "x.pdf"], "ends in .png or .svg"),
])  # fmt: skip
def test_wrong_words_are_answered(config: str, words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--config", config, "shutdown", *words]) == 2
    assert said in capfd.readouterr().err


@pytest.mark.more
def test_without_an_agent_check_asks_the_upses_themselves_and_orders_nothing(tmp_path: Path) -> None:
    """One tells a runtime and has no outlets, one does not answer: each is said, and only questions were sent."""
    from qxfleet.dialects.registry import dialect_named
    from qxfleet.testing.links import PtyLine
    from qxfleet.testing.machine import Machine, Ratings
    from qxfleet.testing.simulator import SimulatedUps

    dialect = dialect_named("megatec")
    assert dialect is not None
    one = SimulatedUps(dialect, machine=Machine(Ratings(), noise=0.0))
    with (
        PtyLine(tmp_path / "a", lambda request: one.answer(request, time.monotonic())) as line,
        PtyLine(tmp_path / "b", lambda request: None),
    ):
        file = tmp_path / "qxfleet.toml"
        file.write_text(
            FILE.replace("/dev/ttyS0", str(tmp_path / "a")).replace("/dev/ttyS1", str(tmp_path / "b"))
            .replace('groups = ["rack1"]', 'groups = ["rack1"]\nruntimecal = [240, 100, 720, 50]', 1)
            .replace('stop = { command = ["poweroff"] }', 'stop = { ups = "rack1-a", outlet = 2 }', 1)
        )  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "qxfleet", "--config", str(file), "shutdown", "check", "--probe", "--json"],
            capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        asked = set(line.requests)
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    said = {(each["severity"], each["subject"], each["text"]) for each in document["findings"]}
    assert ("problem", "app-1", "is switched off by outlet 2 of rack1-a, and rack1-a has no such order") in said
    assert any(subject == "rack1-b" and "does not answer" in text for _, subject, text in said)
    times = {ups["ups"]: ups["runtime_s"] for ups in document["ups"]}
    assert times["rack1-b"] is None and times["rack1-a"] > 240
    assert asked and not any(request.startswith((b"S", b"T", b"C", b"Q\r")) for request in asked), asked
