"""``qxfleet rehearse``: one command on a desk. Nothing real is touched, Ctrl-C leaves nothing, the exit code is the verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qxfleet.interfaces.rehearsal_page import MARK
from qxfleet.testing.links import PtyLine
from tests.interfaces.browser import browser
from tests.interfaces.web_site import program
from tests.testing.test_rehearsal import HOST, PLAN

REAL = """
[[load]]
name = "real"
fed_by = ["a", "b"]
stop = { command = ["touch", "%s"] }
down_when = { exit = ["touch", "%s"] }
start = { command = ["touch", "%s"] }
stop_time = "40s"
"""


def rehearse(config: Path, *options: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qxfleet", "--config", str(config), "rehearse", *options], capture_output=True, text=True,
        check=False, timeout=400, **more,
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


@pytest.mark.more
@pytest.mark.timeout(600)
def test_the_whole_of_it(tmp_path: Path) -> None:
    """A sound plan: exit code 0, one document, one page; nothing that is configured was asked or called."""
    asked: list[bytes] = []
    marker, page = tmp_path / "touched", tmp_path / "result.html"
    config = tmp_path / "qxfleet.toml"
    with PtyLine(tmp_path / "tty", lambda request: asked.append(request) or None):  # type: ignore[func-returns-value]
        config.write_text(PLAN.replace("/dev/never-there", str(tmp_path / "tty")) + HOST + REAL % (marker, marker, marker))
        done = rehearse(config, "--speed", "10000", "--runtime", "20m", "--json", "--page", str(page))
    assert done.returncode == 0, done.stderr + done.stdout
    assert asked == [] and not marker.exists()
    assert not {path.name for path in tmp_path.iterdir()} - {"qxfleet.toml", "result.html"}
    document = json.loads(done.stdout)
    assert document["holds"] and document["headline"].startswith("THE PLAN HOLDS. It took ")
    assert {step["target"] for step in document["steps"] if step["act"] == "stop"} == {
        "web", "app", "db", "lamp", "real", "mgmt"
    }  # fmt: skip
    with browser(program("chromium", "chromium")) as chromium:
        tab = chromium.page()
        tab.open(page.as_uri())
        shown = tab.run("document.body.innerText")
        rows = tab.run("document.querySelectorAll('svg rect').length")
        assert tab.complaints == []
    assert document["headline"] in shown and document["ended"][0] in shown
    for said in document["timeline"]:
        assert " ".join(said["text"].split()) in " ".join(shown.split())
    assert rows == sum(map(len, document["loads"].values())) + sum(map(len, document["ups"].values()))


@pytest.mark.more
@pytest.mark.timeout(600)
def test_a_plan_that_does_not_hold_is_exit_code_1(tmp_path: Path) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text(PLAN)
    done = rehearse(config, "--speed", "10000", "--runtime", "20m", "--refuse", "db", "--back", "5m")
    assert done.returncode == 1
    assert "PROBLEM  db: would not stop" in done.stdout
    assert "THE PLAN DOES NOT HOLD: " in done.stdout
    assert "is not armed" in done.stdout


@pytest.mark.more
def test_ctrl_c_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    config = tmp_path / "qxfleet.toml"
    config.write_text(PLAN)
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "qxfleet", "--config", str(config), "rehearse", "--runtime", "20m", "--speed", "20"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.lstrip()[:1].isdigit():  # the first thing that happens, behind the heading
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "broken off" in err and "BROKEN OFF after " in out and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["qxfleet.toml"]


@pytest.mark.parametrize(("options", "said"), [
    (("--fail", "nonsense"), "--fail nonsense: no UPS is named nonsense"),
    (("--fail", "a", "--back-on", "b"), "--back-on: mains of b do not fail"),
    (("--hang", "nobody"), "--hang nobody: no load has that name"),
    (("--back", "soon"), "--back: "),
    (("--page", "result.txt"), "--page result.txt: expected a name that ends in .html"),
    (("--page", "/never/there.html"), "--page /never/there.html: there is no folder /never"),
])  # fmt: skip
def test_what_can_not_be_rehearsed_is_exit_code_2(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    from typer.testing import CliRunner

    from qxfleet.errors import ConfigError
    from qxfleet.interfaces.cli.main import command_line

    config = tmp_path / "qxfleet.toml"
    config.write_text(PLAN)
    result = CliRunner().invoke(command_line(), ["--config", str(config), "rehearse", *options])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.problems[0].startswith(said)


def test_a_page_is_written_over_no_file_but_a_page(tmp_path: Path) -> None:
    from qxfleet.errors import ConfigError
    from qxfleet.interfaces import rehearsal_page

    page = tmp_path / "index.html"
    rehearsal_page.check(page)
    page.write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="no rehearsal wrote it"):
        rehearsal_page.check(page)
    page.write_text(f"<!doctype html>\n{MARK}\n")
    rehearsal_page.check(page)
