"""``probe`` and ``discover``: what they print, what they send, and what they say when nothing fits."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
import tty
from pathlib import Path

import pytest

from qxfleet.dialects.registry import DIALECTS
from qxfleet.testing.transcript import read_transcript
from tests.interfaces.conftest import Site, asked, qxfleet, start

SPOKEN = {
    "ups-01": "mecer", "ups-02": "zinto", "ups-03": "megatec", "ups-04": "q1", "ups-05": "mustek", "ups-06": "megatec/old",
}  # fmt: skip

QUERIES = {query.command for dialect in DIALECTS for query in dialect.queries} | {b"\r"}
"""What may be sent: the tables' questions, which the compliance suite knows to be harmless, and a bare end byte."""
"""What megatec-family.md section 9.4 allows, and the bare CR that ends a line; everything else may act (section 9.5)."""


@pytest.fixture(scope="module")
def probed(loose: Path) -> dict[str, tuple[str, list[bytes]]]:
    """Every UPS probed by a process of its own, at the same time; what was printed, and what it was asked."""
    before = {name: len(asked(loose, name)) for name in SPOKEN}
    running = {name: start("probe", loose / name, "--json", stdout=subprocess.PIPE) for name in SPOKEN}
    said = {name: process.communicate(timeout=40)[0] for name, process in running.items()}
    assert [process.returncode for process in running.values()] == [0] * 6
    return {name: (text, asked(loose, name)[before[name] :]) for name, text in said.items()}


@pytest.mark.parametrize("name", SPOKEN)
def test_probe_reads_everything(loose: Path, probed: dict[str, tuple[str, list[bytes]]], name: str) -> None:
    document = json.loads(probed[name][0])
    assert list(document) == ["port", "dialect", "variables", "commands", "settings"]
    assert (document["port"], document["dialect"]) == (str(loose / name), SPOKEN[name])
    variables = document["variables"]
    assert variables["ups.status"].split()[0] == "OL"
    assert {"input.voltage", "output.voltage", "ups.load", "battery.voltage", "input.frequency"} <= variables.keys()
    assert list(variables) == sorted(variables)
    assert "beeper.toggle" in document["commands"]
    assert document["settings"]["ups.delay.shutdown"]["value"] == "30"


@pytest.mark.parametrize("name", SPOKEN)
def test_probe_sends_queries_only(probed: dict[str, tuple[str, list[bytes]]], name: str) -> None:
    requests = probed[name][1]
    assert requests
    assert set(requests) <= QUERIES


def test_probe_prints_as_upsc_does(loose: Path) -> None:
    done = qxfleet("probe", loose / "ups-03", "--dialect", "megatec")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    names = [line.partition(": ")[0] for line in lines]
    assert names == sorted(names)
    assert "ups.status: OL" in lines
    assert "dialect megatec" in done.stderr


def test_norating_and_novendor_are_kept_to(loose: Path) -> None:
    before = len(asked(loose, "ups-03"))
    done = qxfleet("probe", loose / "ups-03", "--dialect", "megatec", "--norating", "--novendor")
    assert "device.mfr: " not in done.stdout
    assert set(asked(loose, "ups-03")[before:]) == {b"Q1\r"}


def test_a_transcript_can_be_shared(loose: Path, tmp_path: Path) -> None:
    file = tmp_path / "exchange.txt"
    done = qxfleet("probe", loose / "ups-03", "--transcript", file)
    assert done.returncode == 0, done.stderr
    exchanges = read_transcript(file.read_text().splitlines())
    assert exchanges[0].request == b"Q1\r"
    assert {exchange.request for exchange in exchanges} >= {b"Q1\r", b"I\r", b"F\r"}
    assert str(loose) not in file.read_text()
    again = qxfleet("probe", loose / "ups-03", "--transcript", file)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_port_that_an_agent_holds_is_said_to_be_busy(site: Site) -> None:
    done = qxfleet("probe", site.ups / "ups-01")
    assert (done.returncode, done.stdout) == (1, "")
    assert "another program holds it" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["/dev/no-such-port"], 1, "no such port"),
        (["ttyS0"], 2, "/dev/ttyS0"),
        (["tcp://host:1"], 2, "socket://host:1"),
        (["/dev/ttyS0", "--dialect", "megatek"], 2, "megatec/old"),
        (["/dev/ttyS0", "--cablepower", "much"], 2, "reverse"),
        ([], 2, "PORT"),
    ],
)
def test_wrong_arguments(args: list[str], code: int, words: str) -> None:
    done = qxfleet("probe", *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_dialect_the_unit_does_not_speak(loose: Path) -> None:
    done = qxfleet("probe", loose / "ups-05", "--dialect", "megatec")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no dialect fits what was answered" in done.stderr


def test_discover_sorts_a_machines_ports(loose: Path, site: Site) -> None:
    """A UPS, a port in use, and one where nobody answers; looked at together."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        silent = os.ttyname(slave)
        before = len(asked(loose, "ups-03"))
        done = qxfleet("discover", loose / "ups-03", site.ups / "ups-02", silent)
        assert done.returncode == 0, done.stderr
        (block,) = tomllib.loads(done.stdout)["ups"]
        assert (block["name"], block["port"], block["dialect"]) == ("ups-03", str(loose / "ups-03"), "megatec")
        assert block["description"]
        assert f"{site.ups}/ups-02: another program holds it" in done.stderr
        assert f"{silent}: no dialect fits" in done.stderr
        assert "Q1: silence" in done.stderr
        assert "try --cablepower" in done.stderr
        assert set(asked(loose, "ups-03")[before:]) <= QUERIES
        sent = os.read(master, 65536)
        assert {part + b"\r" for part in sent.split(b"\r")[:-1]} <= QUERIES
    finally:
        os.close(master)
        os.close(slave)


def test_discover_json(loose: Path) -> None:
    done = qxfleet("discover", loose / "ups-03", "/dev/no-such-port", "--json")
    assert done.returncode == 0
    found, missing = json.loads(done.stdout)["ports"]
    assert (found["dialect"], found["problem"]) == ("megatec", None)
    assert (missing["dialect"], missing["answers"]) == (None, [])
    assert "no such port" in missing["problem"]
    assert qxfleet("discover", "/dev/no-such-port").returncode == 1
