"""``events``: what the database holds, and what comes."""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from queue import Empty, Queue
from typing import Any

import pytest

from qxfleet.model.clock import Clock, iso
from tests.interfaces.conftest import Site, start, wait_for

KEYS = ["time", "ups", "kind", "name", "value", "text"]


class Follower:
    """``events --follow`` as a process, its lines with the time they came."""

    def __init__(self, site: Site, *args: object) -> None:
        self.process = start(
            "--config", site.config, "events", "--follow", *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._lines: Queue[tuple[float, str]] = Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put((time.monotonic(), line))

    def line(self, within_s: float) -> tuple[float, str]:
        return self._lines.get(timeout=within_s)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; the exit code and what was said on stderr."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        self._reader.join(10)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        said = self.process.stderr.read()
        self.process.stderr.close()
        self.process.stdout.close()
        return code, said


@pytest.fixture
def mains(site: Site) -> Iterator[None]:
    """Mains are back when the test is over, and seen to be."""
    yield
    site.tell("mains on all")
    wait_for(
        lambda: all(ups["status"].split()[0] == "OL" for ups in site.json("status")["ups"]), "mains back everywhere", 20
    )


@pytest.mark.usefixtures("mains")
def test_an_outage_is_followed_within_three_seconds(site: Site) -> None:
    follower = Follower(site, "--json", "--since", "1d", "group:feed-a")
    try:
        follower.line(10)  # what was recorded is printed after new ones are listened for
        cut_s, cut_at = time.monotonic(), iso(Clock().wall_us())
        site.tell("mains off all")
        seen: dict[str, float] = {}
        while len(seen) < 3:
            at_s, line = follower.line(10)
            event = json.loads(line)
            assert list(event) == KEYS
            if event["name"] == "on-battery" and event["time"] > cut_at:
                assert (event["kind"], event["value"]) == ("status", "begin")
                seen[event["ups"]] = at_s - cut_s
        assert sorted(seen) == ["ups-01", "ups-03", "ups-05"]
        assert max(seen.values()) < 3.0
        with pytest.raises(Empty):
            while True:
                assert json.loads(follower.line(0.2)[1])["ups"] in seen
    finally:
        follower.end(signal.SIGTERM)


def test_ctrl_c_ends_a_follower_cleanly(site: Site) -> None:
    follower = Follower(site, "--since", "1d")
    follower.line(10)
    assert follower.end(signal.SIGINT) == (0, "")


def events(site: Site, *args: object) -> list[dict[str, Any]]:
    document = site.json("events", *args)
    assert list(document) == ["events"]
    found: list[dict[str, Any]] = document["events"]
    return found


def test_recorded_events_have_the_contracts_shape(site: Site) -> None:
    found = events(site)
    assert [list(event) for event in found] == [KEYS] * len(found)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"]) for event in found)
    assert (found[0]["ups"], found[0]["kind"], found[0]["name"]) == (None, "agent", "agent-started")
    assert {event["ups"] for event in found if event["name"] == "contact"} == {f"ups-0{n}" for n in range(1, 7)}
    lines = site.run("events").stdout.splitlines()
    assert len(lines) == len(found)
    assert lines[0].startswith(found[0]["time"])


def test_events_of_some(site: Site) -> None:
    assert {event["ups"] for event in events(site, "ups-02")} == {"ups-02"}
    assert {event["ups"] for event in events(site, "group:feed-b")} == {"ups-02", "ups-04", "ups-06"}
    assert events(site, "--since", "2099-01-01") == []
    recent = events(site, "--since", "30d")
    assert events(site, "all", "--since", "30d")[: len(recent)] == recent  # something may have happened in between


def test_an_order_is_in_the_trail_with_who_gave_it(site: Site) -> None:
    site.run("command", "ups-05", "no.such.command")
    last = [event for event in events(site, "ups-05") if event["kind"] == "command"][-1]
    assert (last["name"], last["value"]) == ("no.such.command", "unsupported")
    assert last["text"].startswith(f"by cli:{getpass.getuser()}(uid {os.getuid()})")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--since", "yesterday"], "30d, 12h, 5m"),
        (["ups-99"], "no UPS is named 'ups-99'"),
        (["group:feed-z"], "no UPS is in group 'feed-z'"),
        (["--follow", "ups-99"], "no UPS is named 'ups-99'"),
    ],
)
def test_wrong_arguments_are_exit_code_2(site: Site, args: list[str], words: str) -> None:
    done = site.run("events", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in re.sub(r"[│\s]+", " ", done.stderr)
