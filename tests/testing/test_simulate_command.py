"""``qxfleet simulate`` as a process, and the instructions it takes while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import serial
import typer
from typer.testing import CliRunner

from qxfleet.errors import AgentUnreachable, LinkUnavailable
from qxfleet.interfaces.cli.simulate import simulate
from qxfleet.testing.control import INSTRUCTIONS, Control, control_path, tell
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Source
from qxfleet.testing.population import fleet
from qxfleet.testing.unit import Fault

APP = typer.Typer()
APP.command()(simulate)

PROGRAM = "import typer; from qxfleet.interfaces.cli.simulate import simulate; typer.run(simulate)"


def start(directory: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "--dir", str(directory), *options], stderr=subprocess.PIPE, text=True
    )


def ready(process: subprocess.Popen[str]) -> str:
    """What it says of itself up to its last line."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("running"):
            return said
    raise AssertionError(f"ended with {process.wait()}: {said}")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    process = start(tmp_path, "--ups", "6")
    try:
        ready(process)
        yield tmp_path
    finally:
        process.terminate()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def q1(path: Path) -> bytes:
    with serial.Serial(str(path), 2400, timeout=2) as port:
        port.reset_input_buffer()
        port.write(b"Q1\r")
        return port.read_until(b"\r")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "--ups", "3", "--dialect", "megatec")
    said = ready(process)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control", "fleet.toml", "ups-01", "ups-02", "ups-03"]
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o600
    assert q1(tmp_path / "ups-02").startswith(b"(")
    for word in ("ups-03", "fleet.toml", "mains off group:feed-a", str(tmp_path)):
        assert word in said
    process.send_signal(number)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(20) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["fleet.toml"]


def test_a_killed_one_s_remains_are_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path, "--ups", "2")
        ready(process)
        assert q1(tmp_path / "ups-01").startswith(b"(")
        process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()
        assert (tmp_path / "ups-01").is_symlink()


def test_an_outage_is_played_from_outside(running: Path) -> None:
    assert tell(running, "mains off group:feed-a") == ["ok mains off: ups-01, ups-03, ups-05"]
    assert q1(running / "ups-03").split()[7].startswith(b"1")
    assert q1(running / "ups-02").split()[7].startswith(b"0")
    assert tell(running, "mains on all")[-1].startswith("ok mains on: ups-01, ups-02")
    assert q1(running / "ups-03").split()[7].startswith(b"0")


def test_tell_by_command_line(running: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(APP, ["--dir", str(running), "--tell", "mains off ups-01"])
    assert (good.exit_code, good.stdout) == (0, "ok mains off: ups-01\n")
    bad = runner.invoke(APP, ["--dir", str(running), "--tell", "mains of ups-01"])
    assert (bad.exit_code, bad.stdout) == (1, "error expected volts, on or off from 0 to 400, not 'of'\n")


def test_a_second_simulator_leaves_the_first_alone(running: Path) -> None:
    before = (running / "ups-01").readlink()
    second = CliRunner().invoke(APP, ["--dir", str(running)])
    assert second.exit_code == 1
    assert "another simulator serves this directory" in second.stderr
    assert (running / "ups-01").readlink() == before
    assert tell(running, "show ups-01")[-1] == "ok 1 shown"


def test_nobody_to_tell_is_exit_code_3(tmp_path: Path) -> None:
    result = CliRunner().invoke(APP, ["--dir", str(tmp_path), "--tell", "show"])
    assert result.exit_code == 3
    assert str(control_path(tmp_path)) in result.stderr


def test_an_unknown_dialect_is_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(
        APP, ["--dir", str(tmp_path), "--dialect", "megatek"]
    )
    assert result.exit_code == 2
    assert "megatec/old" in result.stderr
    assert not list(tmp_path.iterdir())


def test_pacing_by_baud(tmp_path: Path) -> None:
    """megatec-family.md section 2: 50 bytes at 2400 baud are 209 ms."""
    process = start(tmp_path, "--ups", "1", "--baud", "2400")
    try:
        ready(process)
        began = time.monotonic()
        assert len(q1(tmp_path / "ups-01")) == 47
        assert time.monotonic() - began > 0.2
        assert tell(tmp_path, "quit") == ["ok ending"]
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


# -- instructions, in process ----------------------------------------------------------------------------------------


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[tuple[Control, Farm]]:
    farm = Farm(tmp_path, fleet(4, noise=0.0))
    made = Control(farm)
    async with made, farm:
        yield made, farm


async def test_each_instruction_does_what_it_says(control: tuple[Control, Farm]) -> None:
    made, farm = control
    ups = farm.upses["ups-01"]
    assert made.perform("mains 198 ups-01") == ["ok mains 198: ups-01"]
    assert ups.machine.input_v == 198.0
    assert made.perform("load 80 ups-01") == ["ok load 80 %: ups-01"]
    assert ups.machine.load_now == 80.0
    assert made.perform("battery 30 ups-01") == ["ok battery 30 %: ups-01"]
    assert ups.machine.battery.charge == pytest.approx(0.3, abs=0.001)
    assert made.perform("age 6 ups-01") == ["ok battery 6 years old: ups-01"]
    assert ups.machine.battery.age_years == 6.0
    assert made.perform("mains on ups-01") == ["ok mains on: ups-01"]
    assert made.perform("bypass on ups-01") == ["ok bypass on: ups-01"]
    assert ups.machine.source is Source.BYPASS
    assert made.perform("bypass off ups-01") == ["ok bypass off: ups-01"]
    assert made.perform("speed 60") == ["ok 60 seconds pass for the UPSes in one"]
    assert farm.speed == 60.0


async def test_faults_come_and_go(control: tuple[Control, Farm]) -> None:
    made, farm = control
    ups = farm.upses["ups-02"]
    assert made.perform("fault silent ups-02") == ["ok fault silent: ups-02"]
    assert made.perform("fault late 3 group:feed-b") == ["ok fault late 3: ups-02, ups-04"]
    assert made.perform("fault refuse S* ups-02") == ["ok fault refuse S*: ups-02"]
    assert ups.faults == {Fault.SILENT: "", Fault.LATE: "3", Fault.REFUSE: "S*"}
    assert made.perform("fault clear silent ups-02") == ["ok fault silent cleared: ups-02"]
    assert set(ups.faults) == {Fault.LATE, Fault.REFUSE}
    assert made.perform("fault clear all") == ["ok faults cleared: ups-01, ups-02, ups-03, ups-04"]
    assert not ups.faults


@pytest.mark.parametrize("fault", list(Fault))
async def test_every_fault_can_be_set_by_its_name(control: tuple[Control, Farm], fault: Fault) -> None:
    made, farm = control
    value = " T" if fault in (Fault.REFUSE, Fault.REFUSE_ONCE) else ""
    (answer,) = made.perform(f"fault {fault.value}{value} ups-01")
    assert answer.startswith(f"ok fault {fault.value}")
    assert set(farm.upses["ups-01"].faults) == {fault}


@pytest.mark.parametrize(
    ("instruction", "expectation"),
    [
        ("", "expected one of mains, load"),
        ("dance", "no instruction 'dance'"),
        ("mains off", "expected: mains off|on|VOLTS TARGET"),
        ("mains maybe ups-01", "from 0 to 400, not 'maybe'"),
        ("mains off ups-99", "no UPS is called 'ups-99'; expected one of ups-01"),
        ("mains off group:nobody", "feed-a"),
        ("load 500 ups-01", "percent from 0 to 200"),
        ("battery nan ups-01", "percent from 0 to 100, not 'nan'"),
        ("age old ups-01", "years from 0 to 20"),
        ("bypass perhaps ups-01", "expected on or off"),
        ("fault ups-01", "expected: fault KIND"),
        ("fault sulking ups-01", "no fault 'sulking'; expected one of silent"),
        ("fault late x ups-01", "late takes seconds"),
        ("fault refuse ups-01", "refuse needs the request"),
        ("fault clear sulking ups-01", "no fault 'sulking'"),
        ("speed -1", "a factor from 0 to 3600"),
        ("speed", "expected: speed FACTOR"),
        ("log group:nobody", "no UPS is called"),
        ("quit now", "expected: quit"),
    ],
)
async def test_a_wrong_instruction_says_what_was_expected(
    control: tuple[Control, Farm], instruction: str, expectation: str
) -> None:
    made, farm = control
    (answer,) = made.perform(instruction)
    assert answer.startswith("error ")
    assert expectation in answer
    assert not made.quit.is_set()
    assert not any(ups.faults for ups in farm.upses.values())


async def test_show_tells_how_a_unit_is(control: tuple[Control, Farm]) -> None:
    made, farm = control
    made.perform("mains off ups-01")
    made.perform("fault late 2 ups-01")
    made.perform("unplug ups-01")
    line, done = made.perform("show ups-01")
    assert done == "ok 1 shown"
    for word in ("ups-01 mecer", "source=battery", "input=0.0V", "plugged=no", "faults=late:2", "bits=1"):
        assert word in line
    assert len(made.perform("show")) == 5
    assert not farm.link("ups-01").is_symlink()
    made.perform("replug ups-01")
    assert farm.link("ups-01").is_symlink()


async def test_log_counts_what_was_on_the_wire(control: tuple[Control, Farm]) -> None:
    made, farm = control
    descriptor = os.open(farm.link("ups-01"), os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(descriptor, b"Q1\rT\r")
        async with asyncio.timeout(20):
            while len(lines := made.perform("log ups-01")) < 3:
                await asyncio.sleep(0.005)
    finally:
        os.close(descriptor)
    assert [line.split(maxsplit=1)[1] for line in lines[:-1]] == ["b'Q1\\r'", "b'T\\r'"]
    assert lines[-1] == "ok 2 requests, 5 bytes"


async def test_the_socket_takes_many_instructions_and_survives_rude_clients(control: tuple[Control, Farm]) -> None:
    made, _ = control
    reader, writer = await asyncio.open_unix_connection(made.path)
    writer.write(b"speed 2\nnonsense\xff\nspeed 3\n")
    answers = [await reader.readline() for _ in range(3)]
    assert [answer.split()[0] for answer in answers] == [b"ok", b"error", b"ok"]
    writer.close()
    _, rude = await asyncio.open_unix_connection(made.path)
    rude.write(b"x" * 200_000)
    rude.close()
    assert (await asyncio.to_thread(tell, made.path.parent, "show ups-01"))[-1] == "ok 1 shown"


async def test_a_control_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    farm = Farm(tmp_path / ("x" * 120), fleet(1))
    with pytest.raises(LinkUnavailable, match="shorter path"):
        async with Control(farm):
            raise AssertionError("must not open")


def test_tell_without_simulator(tmp_path: Path) -> None:
    with pytest.raises(AgentUnreachable, match="no simulator answers"):
        tell(tmp_path, "show")


def test_instructions_name_every_verb_and_every_fault() -> None:
    text = " ".join(usage + " " + meaning for usage, meaning in INSTRUCTIONS)
    for verb in ("mains", "load", "battery", "age", "bypass", "fault", "unplug", "replug", "speed", "show", "log", "quit"):
        assert verb in text
    for fault in Fault:
        assert fault.value in text


def test_the_fleet_file_names_the_links(running: Path) -> None:
    blocks = tomllib.loads((running / "fleet.toml").read_text())["ups"]
    assert [Path(block["port"]) for block in blocks] == [running / f"ups-{number:02d}" for number in range(1, 7)]
