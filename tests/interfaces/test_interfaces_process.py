"""Two processes: what becomes of the interfaces' own is told and mended, and nothing of the core waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from qxfleet.api import requests
from qxfleet.api.admission import admit
from qxfleet.api.requests import Request
from qxfleet.config.access import User
from qxfleet.config.load import load
from qxfleet.errors import Forbidden
from qxfleet.interfaces import supervisor
from qxfleet.interfaces.link import down
from tests.interfaces.conftest import wait_for
from tests.interfaces.nut_stage import free_port
from tests.interfaces.web_site import USERS, WebSite, web_site

NUT_USERS = """\
[[user]]
name = "upsmon"
password_file = "operator.secret"
upsmon = "primary"
allow = ["read", "set", "command", "fsd"]
"""
ANSWER_S = 2.0 if os.environ.get("QXFLEET_SOAK") != "1" else 0.5


class Caller:
    """A NUT client."""

    def __init__(self, port: int) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.lines = self.link.makefile("r")

    def ask(self, request: str) -> str:
        self.link.sendall(request.encode() + b"\n")
        return self.lines.readline().rstrip("\n")

    def close(self) -> None:
        self.lines.close()
        self.link.close()


@pytest.fixture(scope="module")
def nut_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def site(nut_port: int) -> Iterator[WebSite]:
    with web_site(f'{USERS}{NUT_USERS}[nut]\nlisten = ["127.0.0.1:{nut_port}"]\n') as site:
        yield site


def interfaces_of(site: WebSite) -> int:
    """The process of the interfaces that runs now."""
    assert site.process is not None
    pid, found = site.process.pid, []

    def looked() -> bool:
        for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"qxfleet.interfaces.process" in Path(f"/proc/{each}/cmdline").read_bytes():
                    found.append(int(each))
        return bool(found)

    wait_for(looked, "the interfaces' process")
    return found[0]


def state_of(pid: int) -> str:
    """A process's letter in ``ps``; one that ended may wait for whoever is to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def asked_s(site: WebSite) -> float:
    """How long ``status`` takes on the control socket."""
    began_s = time.monotonic()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(20)
        link.connect(str(site.socket))
        link.sendall(b'{"id": 1, "do": "status"}\n')
        with link.makefile() as answers:
            assert json.loads(answers.readline())["ok"]
    return time.monotonic() - began_s


def served(site: WebSite) -> bool:
    with contextlib.suppress(OSError):
        return site.api("/about").status == 200
    return False


def told(site: WebSite, name: str) -> list[str]:
    return [event["text"] for event in site.json("events")["events"] if event["name"] == name]


def test_what_was_set_is_there_when_it_is_answered(site: WebSite, nut_port: int) -> None:
    caller = Caller(nut_port)
    assert caller.ask("USERNAME upsmon") == "OK"
    assert caller.ask('PASSWORD "the operator\'s"') == "OK"
    for seconds in (240, 180, 300):
        assert caller.ask(f"SET VAR ups-03 ups.delay.start {seconds}") == "OK"
        assert caller.ask("GET VAR ups-03 ups.delay.start") == f'VAR ups-03 ups.delay.start "{seconds}"'
    assert caller.ask("INSTCMD ups-03 beeper.toggle") == "OK"
    assert caller.ask("INSTCMD ups-03 no.such") == "ERR CMD-NOT-SUPPORTED"
    caller.close()


def test_a_forced_shutdown_crosses_both_ways(site: WebSite, nut_port: int) -> None:
    caller = Caller(nut_port)
    for request, answer in (("USERNAME upsmon", "OK"), ('PASSWORD "the operator\'s"', "OK"), ("LOGIN ups-02", "OK"),
                            ("FSD ups-02", "OK FSD-SET")):  # fmt: skip
        assert caller.ask(request) == answer
    assert caller.ask("GET VAR ups-02 ups.status") == 'VAR ups-02 ups.status "FSD OL"'
    shown = {ups["name"]: ups["status"] for ups in site.json("status")["ups"]}
    assert (shown["ups-02"], shown["ups-01"]) == ("FSD OL", "OL")
    entries = [(entry["who"], entry["name"], entry["outcome"]) for entry in site.json("audit")["audit"]]
    assert ("upsmon", "fsd", "accepted") in entries
    caller.close()


def test_killed_it_comes_back_and_the_core_does_not_notice(site: WebSite) -> None:
    before = interfaces_of(site)
    stored = {ups["name"]: ups["state"] for ups in site.json("status")["ups"]}
    os.kill(before, signal.SIGKILL)
    assert asked_s(site) < ANSWER_S
    wait_for(lambda: served(site), "the page again", 60)
    assert interfaces_of(site) != before
    assert {ups["name"]: ups["state"] for ups in site.json("status")["ups"]} == stored
    ends = [text for text in told(site, "interfaces-ended") if "was ended by signal 9 (SIGKILL, " in text]
    assert ends and all(text.endswith("; it starts again in 1 s") for text in ends)
    assert "WARNING qxfleet.events: agent: interfaces-ended" in site.log  # the core says so by itself, to the journal
    assert "Traceback" not in site.log


def test_stopped_it_is_ended_and_started_again(site: WebSite) -> None:
    before = interfaces_of(site)
    os.kill(before, signal.SIGSTOP)
    while not any("said nothing for 10 s" in text for text in told(site, "interfaces-ended")):
        assert asked_s(site) < ANSWER_S
        time.sleep(0.5)
    wait_for(lambda: served(site), "the page again", 60)
    assert not Path(f"/proc/{before}").exists()


def test_a_core_that_hangs_is_shown_to_nobody_as_fresh(site: WebSite, nut_port: int) -> None:
    """The safety net of every upsmon is that old values are refused; and when the core speaks again all is as before."""
    before, caller = interfaces_of(site), Caller(nut_port)
    assert caller.ask("GET VAR ups-01 ups.status").endswith('"OL"')
    assert site.process is not None
    site.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: caller.ask("GET VAR ups-01 ups.status") == "ERR DATA-STALE", "stale values", 60)
        assert caller.ask("GET VAR ups-02 battery.voltage") == "ERR DATA-STALE"
        (ups,) = (each for each in site.api("/fleet").json["ups"] if each["name"] == "ups-01")
        assert ups["state"] == "stale"
    finally:
        site.process.send_signal(signal.SIGCONT)
    wait_for(lambda: caller.ask("GET VAR ups-01 ups.status").endswith('"OL"'), "fresh values again", 60)
    caller.close()
    assert interfaces_of(site) == before, "the core's own pause is no silence of theirs"


def test_stopped_it_holds_up_no_end() -> None:
    with web_site(count=1) as site:
        os.kill(interfaces_of(site), signal.SIGSTOP)
        began_s = time.monotonic()
        assert site.stop() == 0
        assert time.monotonic() - began_s < 5.0  # what the outside face promises


def test_it_ends_with_the_core() -> None:
    with web_site(count=1) as site:
        pid = interfaces_of(site)
        assert site.process is not None
        site.process.kill()
        site.process.wait(20)
        site.process = None
        wait_for(lambda: state_of(pid) in ("gone", "Z"), "its end", 20)


@pytest.mark.parametrize("told", [False, True])
def test_it_ends_if_the_core_goes_while_it_starts(tmp_path: Path, told: bool) -> None:
    """Before it hears anything, and between the configuration and the first states."""
    (tmp_path / "q.toml").write_text('[agent]\nstate = "s.db"\n[[ups]]\nname = "u"\nport = "/dev/null"\n')
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "qxfleet.interfaces.process", str(theirs.fileno()), "INFO"]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True)
        if told:
            ours.sendall(down(load(tmp_path / "q.toml")))
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 0
    assert "Traceback" not in said


def test_without_a_table_there_is_no_second_process() -> None:
    from tests.interfaces.conftest import Site, short_folder, simulator

    with short_folder() as folder, simulator(folder / "ups", 1) as ups:
        site = Site(folder, ups)
        site.write(site.block("ups-01", "mecer"))
        site.start()
        site.all_online()
        assert site.process is not None
        assert Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text() == ""
        assert site.stop() == 0


# -- what the core lets pass, whatever the interfaces say


def core(*users: User) -> Any:
    return SimpleNamespace(config=SimpleNamespace(faces=SimpleNamespace(users=users)), store=None, clock=None)


OPERATOR = User("op", "x", frozenset({"read", "command", "set", "shutdown"}))
TESTER = User("tester", "x", frozenset({"read", "test"}))
BEEPER = User("beep", "x", frozenset({"read", "command"}), ("beeper.toggle",))
PRIMARY = User("mon", "x", frozenset({"read"}), upsmon="primary")
LONGER = User("op/er@tor", "x", frozenset({"read"}))


@pytest.mark.parametrize(
    ("actor", "request_", "allowed"),
    [
        ("http:op@192.0.2.7", requests.Command("u", "load.off"), True),
        ("nut:op@::1", requests.Set("u", "x", "1"), True),
        ("http:op@192.0.2.7", requests.ShutdownArm(True), True),
        ("http:op@192.0.2.7", requests.Force("u"), False),
        ("nut:mon@192.0.2.7", requests.Force("u"), True),
        ("nut:mon@192.0.2.7", requests.Command("u", "load.off"), False),
        ("http:tester@192.0.2.7", requests.TestStart(("all",)), True),
        ("http:tester@192.0.2.7", requests.Command("u", "test.battery.start.quick"), True),
        ("http:tester@192.0.2.7", requests.Command("u", "load.off"), False),
        ("http:tester@192.0.2.7", requests.ShutdownStart(("all",)), False),
        ("http:beep@192.0.2.7", requests.Command("u", "beeper.toggle"), True),
        ("http:beep@192.0.2.7", requests.Command("u", "shutdown.return"), False),
        ("http:op@192.0.2.7", requests.TokenCreate("t", "op"), True),
        ("http:op@192.0.2.7", requests.TokenCreate("t", "tester"), False),
        ("http:op@192.0.2.7", requests.TokenList(), False),
        ("http:op@192.0.2.7", requests.BatteryReplaced("u", 1), False),
        ("http:op/er@tor@192.0.2.7", requests.Command("u", "load.off"), False),
        ("http:nobody@192.0.2.7", requests.Status(), False),
        ("http:anonymous@192.0.2.7", requests.Status(), False),
        ("cli:root(uid 0)", requests.ShutdownStart(("all",)), False),
        ("", requests.Command("u", "load.off"), False),
    ],
)
async def test_the_core_decides_who_may_what(actor: str, request_: Request, allowed: bool) -> None:
    agent = core(LONGER, OPERATOR, TESTER, BEEPER, PRIMARY)
    if allowed:
        await admit(agent, request_, actor)
    else:
        with pytest.raises(Forbidden):
            await admit(agent, request_, actor)


async def test_without_users_everybody_reads_and_nobody_does_more() -> None:
    await admit(core(), requests.ShutdownStatus(), "http:anonymous@192.0.2.7")
    orders = (requests.Command("u", "load.off"), requests.ShutdownArm(False), requests.TokenList(), requests.ScheduleRun("s"))
    for request in orders:
        with pytest.raises(Forbidden):
            await admit(core(), request, "http:anonymous@192.0.2.7")


@pytest.mark.parametrize(
    ("ends", "told"),
    [("raise SystemExit(3)", "ended with exit code 3"), ("raise SystemExit(0)", "ended with exit code 0"),
     ("import os; os.kill(os.getpid(), 15)", "was ended by signal 15 (SIGTERM)")],
)  # fmt: skip
async def test_how_it_ended_is_told(ends: str, told: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ends]) as process:
        process.wait()
        end = await supervisor._how_it_ended(process)
    assert end.how + end.more == told


def test_a_start_that_failed_names_the_file_and_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (program := tmp_path / "python").write_text("no program")
    monkeypatch.setattr(sys, "executable", str(program))
    user = SimpleNamespace(pw_name="nobody", pw_uid=os.geteuid(), pw_gid=os.getegid())
    config: Any = SimpleNamespace(agent=SimpleNamespace(interfaces_user="nobody"))
    monkeypatch.setattr(supervisor, "_other_user", lambda _: user)
    with pytest.raises(OSError) as refused:
        subprocess.Popen([sys.executable])
    end = supervisor._not_started(refused.value, config)
    assert end.how + end.more == f"could not be started as user nobody: {program}: Permission denied"
    assert end.then == "the next try is"
