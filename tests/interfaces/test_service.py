"""``run`` as a service: signals, reload, the socket's ownership, what systemd is told."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.conftest import Site, asked, process, wait_for


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_five_seconds(own: Site, number: signal.Signals) -> None:
    own.write(own.block("ups-03", "megatec") + own.block("ups-04", "q1"))
    own.start()
    own.all_online()
    began_s = time.monotonic()
    assert own.stop(number) == 0
    assert time.monotonic() - began_s < 5.0
    assert not own.socket.exists()
    last = own.json("events")["events"][-1]
    assert (last["kind"], last["name"]) == ("agent", "agent-stopped")
    assert "Traceback" not in own.log


def test_a_reload_leaves_the_others_alone(own: Site) -> None:
    own.write(own.block("ups-03", "megatec") + own.block("ups-01", "mecer"))
    own.start()
    own.all_online()
    agent = own.process
    assert agent is not None
    wait_for(lambda: b"F\r" in asked(own.ups, "ups-03"), "everything asked of ups-03")
    settled = len(asked(own.ups, "ups-03"))
    own.write(own.block("ups-03", "megatec") + own.block("ups-04", "q1"))
    agent.send_signal(signal.SIGHUP)
    wait_for(lambda: own.states() == {"ups-03": "online", "ups-04": "online"}, "the new fleet", 15)
    names = [(event["ups"], event["name"]) for event in own.json("events")["events"]]
    assert (None, "configuration-reloaded") in names
    assert names.count(("ups-03", "contact")) == 1
    assert ("ups-03", "contact-lost") not in names
    assert b"QPI\r" not in asked(own.ups, "ups-03")[settled:]
    assert "reloaded: ups-01: removed" in own.log
    assert "reloaded: ups-04: added" in own.log

    own.config.write_text("[agent]\nnmae = 7\n")
    agent.send_signal(signal.SIGHUP)
    wait_for(lambda: "the old one stays in force" in own.log, "the complaint", 20)
    assert "nmae" in own.log
    own_again = Site(own.folder, own.ups, agent)
    own_again.write("")
    assert own_again.states() == {"ups-03": "online", "ups-04": "online"}
    assert own.stop() == 0


def test_one_socket_one_agent(own: Site) -> None:
    own.write(own.block("ups-03", "megatec"))
    own.start()
    second = process("--config", own.config, "run")
    assert second.returncode == 1
    assert f"another agent is running: {own.socket} answers" in second.stderr
    assert own.states().keys() == {"ups-03"}
    assert own.process is not None
    own.process.kill()
    own.process.wait(20)
    assert own.socket.exists()
    own.process = None
    stale = own.run("status")
    assert stale.returncode == 3
    own.start()
    wait_for(lambda: own.run("status").returncode == 0, "an answer")
    own.all_online()
    assert own.stop() == 0


def test_a_second_agent_on_one_state_is_refused_by_name(own: Site) -> None:
    own.write(own.block("ups-03", "megatec"))
    own.start()
    assert own.process is not None
    other = own.config.with_name("other.toml")
    other.write_text('[agent]\nname = "row-b"\ndatabase = "sqlite:///fleet.db"\ncontrol = "other.sock"\n')
    done = process("--config", other, "run")
    assert done.returncode == 1
    assert f"fleet.db is in use by agent test (pid {own.process.pid}): two agents can't share one" in done.stderr
    assert own.stop() == 0


def test_a_state_out_of_reach_stops_nobody(own: Site) -> None:
    own.write(own.block("ups-03", "megatec"))
    own.config.write_text(own.config.read_text().replace("sqlite:///fleet.db", "sqlite:///no/such/folder/fleet.db"))
    own.start()
    own.all_online()
    assert own.stop() == 0


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        yield listener


def test_systemd_is_told(own: Site, manager: socket.socket) -> None:
    """sd_notify(3): READY=1, WATCHDOG=1 in less than the asked time, RELOADING=1 with MONOTONIC_USEC, STOPPING=1."""
    own.write(own.block("ups-03", "megatec"))
    own.environment |= {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "2000000"}
    own.start()
    agent = own.process
    assert agent is not None

    def told(wanted: str) -> list[str]:
        while True:
            lines = manager.recv(4096).decode().split("\n")
            if wanted in lines:
                return lines

    assert told("READY=1")[1].startswith("STATUS=")
    began_s = time.monotonic()
    for _ in range(4):
        assert told("WATCHDOG=1")[1].endswith("of 1 UPSes online")
    assert time.monotonic() - began_s < 3 * 2.0
    agent.send_signal(signal.SIGHUP)
    sent_us = int(told("RELOADING=1")[1].removeprefix("MONOTONIC_USEC="))
    assert abs(sent_us - time.monotonic_ns() // 1000) < 5_000_000
    told("READY=1")
    agent.send_signal(signal.SIGTERM)
    told("STOPPING=1")
    assert agent.wait(20) == 0
    own.process = None


def test_a_socket_that_can_not_be_starts_nothing(own: Site) -> None:
    own.config.write_text('[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "/proc/qxfleet/agent.sock"\n')
    done = process("--config", own.config, "run")
    assert done.returncode == 2
    assert done.stderr.startswith("agent.control: /proc/qxfleet/agent.sock: ")
    assert "name another path" in done.stderr
    assert not (own.folder / "fleet.db").exists()


def test_others_can_not_read_the_record_whatever_the_umask(own: Site) -> None:
    own.write(own.block("ups-03", "megatec"))
    before = os.umask(0)
    try:
        own.start()
    finally:
        os.umask(before)
    wait_for(lambda: own.run("status").returncode == 0, "an answer")
    modes = {each.name: oct(each.stat().st_mode & 0o007) for each in own.folder.glob("fleet.db*")}
    assert "fleet.db" in modes and set(modes.values()) == {"0o0"}
    assert own.stop() == 0
    assert all(each.stat().st_mode & 0o007 == 0 for each in own.folder.glob("fleet.db*"))
