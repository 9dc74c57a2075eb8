"""``demo`` from its start to Ctrl-C, and what is left of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interfaces.conftest import PLAIN, process, qxfleet, short_folder


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """A runtime folder for the demo alone."""
    with short_folder() as folder:
        yield folder


def alive_in_session(session: int) -> list[int]:
    """Processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_demo_end_to_end(runtime: Path) -> None:
    """All UPSes online, an outage played by the command it printed, seen within 3 s, Ctrl-C, and nothing left."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "qxfleet", "demo", "--ups", "6"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**PLAIN, "XDG_RUNTIME_DIR": str(runtime)},
    )  # fmt: skip
    assert demo.stdout is not None
    assert demo.stderr is not None
    with demo.stdout, demo.stderr:
        said: list[str] = []
        for line in demo.stdout:
            said.append(line)
            if line.startswith("Events as they happen"):
                break
        text = "".join(said)
        assert len(re.findall(r"^ups-0[1-6] +online +OL", text, re.MULTILINE)) == 6
        assert "6 UPSes of 6 dialects online" in text
        page = re.search(r"^Web page: +(http://\S+)", text, re.MULTILINE)
        assert page is not None
        for path in ("", "api/v1/fleet", "metrics"):
            with urllib.request.urlopen(page[1] + path, timeout=10) as answer:
                assert b"ups-06" in answer.read()
        (outage,) = re.findall(r'simulate --dir (\S+) --tell "(mains off group:feed-a)"', text)
        (config,) = set(re.findall(r"--config (\S+) status", text))
        assert qxfleet("--config", config, "status", "ups-01").returncode == 0
        assert qxfleet("simulate", "--dir", outage[0], "--tell", outage[1]).returncode == 0
        cut_s = time.monotonic()
        seen: set[str] = set()
        while len(seen) < 3:
            match = re.search(r"(ups-0\d) +on-battery +begin", demo.stdout.readline())
            seen |= {match[1]} if match else set()
        assert time.monotonic() - cut_s < 3.0
        assert seen == {"ups-01", "ups-03", "ups-05"}
        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 0
        assert "Traceback" not in demo.stderr.read()
    assert alive_in_session(demo.pid) == []
    assert list(runtime.iterdir()) == []


def test_demo_ends_by_itself(runtime: Path) -> None:
    done = process("demo", "--ups", "3", "--seconds", "0.2", env={**PLAIN, "XDG_RUNTIME_DIR": str(runtime)})
    assert done.returncode == 0, done.stderr
    assert "3 UPSes of 3 dialects online" in done.stdout
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_while_it_starts(runtime: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "qxfleet", "demo", "--ups", "6"], text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**PLAIN, "XDG_RUNTIME_DIR": str(runtime)},
    )  # fmt: skip
    assert demo.stderr is not None
    assert demo.stdout is not None
    with demo.stdout, demo.stderr:
        assert demo.stderr.readline().startswith("starting 6 simulated UPSes")
        demo.send_signal(number)
        assert demo.wait(20) == 0
        assert "Traceback" not in demo.stderr.read()
    assert list(runtime.iterdir()) == []
