"""``test``, ``schedule`` and ``maintenance`` on a real agent and simulated UPSes in processes of their own."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.interfaces.conftest import PLAIN, Site, short_folder, simulator, start, wait_for

RULES = """
[tests]
mains_stable = "1s"
charged = "0s"
load_steady = "0s"
load_change = 60
recharge = "0s"
max_parallel = 3
"""

SCHEDULES = """
[[load]]
name = "db-1"
fed_by = ["ups-01", "ups-02"]
stop = { nut = true }

[[schedule]]
name = "weekly-quick"
do = "test"
targets = ["ups-01", "ups-02"]
cron = "0 3 * * sun"
timezone = "Europe/Berlin"

[[schedule]]
name = "never"
do = "test"
depth = 20
targets = ["ups-03"]
cron = "0 3 30 feb *"

[[schedule]]
name = "quiet"
do = "command"
command = "beeper.toggle"
targets = ["ups-03"]
cron = "0 3 * * *"

[[schedule]]
name = "monthly"
do = "report"
file = "tests.json"
cron = "0 6 1 * *"
"""


@pytest.fixture(scope="module")
def tested() -> Iterator[Site]:
    """Three UPSes, mecer, zinto and megatec, that live ten times as fast as the agent."""
    with short_folder() as folder, simulator(folder / "ups", 3) as ups:
        site = Site(folder, ups)
        blocks = [site.block(f"ups-0{number}", dialect) for number, dialect in ((1, "mecer"), (2, "zinto"), (3, "megatec"))]
        site.write("".join(blocks) + RULES + SCHEDULES)
        site.tell("speed 10")
        site.start()
        try:
            site.all_online()
            wait_for(lambda: not site.run("test", "start", "all", "--dry-run").returncode, "everybody may be tested", 20)
            yield site
        finally:
            if site.process is not None:
                assert site.stop() == 0


def test_schedules_are_listed_with_their_dates(tested: Site) -> None:
    document = tested.json("schedule", "list")
    found = {each["name"]: each for each in document["schedules"]}
    assert list(found) == ["weekly-quick", "never", "quiet", "monthly"]
    assert {date[10:16] for date in found["weekly-quick"]["next"]} <= {"T01:00", "T02:00"}  # 03:00 in Berlin
    assert (found["never"]["next"], found["never"]["last"]) == ([], None)
    assert (found["quiet"]["what"], found["quiet"]["ups"]) == ("beeper.toggle", ["ups-03"])
    text = tested.run("schedule", "list").stdout
    assert "test to 20 % depth" in text and "never" in text and "Europe/Berlin" in text


def test_a_dry_run_says_who_and_why_not_and_sends_nothing(tested: Site) -> None:
    done = tested.run("schedule", "run", "weekly-quick", "--dry-run")
    assert done.returncode == 0
    assert "once ups-01 is tested and recharged: both feed the same load" in done.stdout
    assert "weekly-quick: quick test: 2 of 2 UPSes would be tested now, 0 would not" in done.stdout
    assert "within the window of 4h" in done.stdout
    refused = tested.run("test", "start", "ups-03", "--for", "30s", "--dry-run")
    assert refused.returncode == 1
    assert "a test of 30 s is out of its range, 60 to 5940 s are possible" in refused.stdout
    assert all(not request.startswith(b"T") for name in ("ups-01", "ups-02", "ups-03") for request in tested.asked(name))


def test_a_schedule_runs_now_and_its_results_are_kept(tested: Site) -> None:
    done = tested.run("schedule", "run", "weekly-quick")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("quick test: 2 passed")
    assert "[1/2] ups-01 passed: carried" in done.stderr
    results = tested.json("test", "results", "ups-01", "--curve")["tests"]
    assert [(each["ups"], each["verdict"], each["schedule"]) for each in results] == [("ups-01", "passed", "weekly-quick")]
    (result,) = results
    since = [each for each in result["curve"] if each["time"] > result["started"]]
    # the reading of the moment in which it ends may be in the curve and not in the evidence yet
    assert 0 <= len(since) - result["evidence"]["readings"] <= 1
    assert len(result["curve"]) > len(since)  # some from before the test too
    assert "ups.test.result: Done and passed" in tested.run("vars", "ups-01").stdout
    assert "quick test" in tested.run("test", "results").stdout
    assert tested.json("schedule", "list")["schedules"][0]["last"] is not None


def test_ctrl_c_leaves_a_test_that_test_stop_ends(tested: Site) -> None:
    command = start("--config", tested.config, "test", "start", "ups-03", "--for", "10m", stderr=-1, stdout=-1, env=PLAIN)
    assert command.stderr is not None
    while "testing" not in command.stderr.readline():
        pass
    command.send_signal(signal.SIGINT)
    assert command.wait(20) == 130
    assert "goes on" in command.stderr.read()
    command.stderr.close()
    assert command.stdout is not None
    command.stdout.close()
    assert "is under way: 1 testing" in tested.run("test", "results").stdout
    done = tested.run("test", "stop", "all")
    assert (done.returncode, done.stderr) == (0, "stopped: ups-03\n")
    wait_for(lambda: not tested.json("test", "results")["waves"], "the end of the wave")
    (result,) = [each for each in tested.json("test", "results", "ups-03")["tests"] if each["kind"] == "timed"]
    assert result["verdict"] == "aborted" and result["text"].startswith("stopped by cli:")
    assert tested.run("test", "stop", "all").returncode == 1


def test_a_ups_under_maintenance_is_left_alone(tested: Site) -> None:
    done = tested.run("maintenance", "start", "ups-02", "--for", "2h", "--reason", "new fan")
    assert (done.returncode, done.stderr) == (0, "under maintenance: ups-02, for 2h\n")
    (window,) = tested.json("maintenance", "list")["maintenance"]
    assert (window["ups"], window["reason"]) == ("ups-02", "new fan")
    assert window["until"] is not None and "new fan" in tested.run("maintenance", "list").stdout
    done = tested.run("test", "start", "ups-01", "ups-02")
    assert done.returncode == 1
    assert "[2/2] ups-02 refused: under maintenance" in done.stderr
    assert "[1/2] ups-01 refused: ups-02 must carry its load, but it is under maintenance" in done.stderr
    assert tested.run("maintenance", "stop", "all").stderr == "no longer under maintenance: ups-02\n"
    assert tested.run("maintenance", "stop", "all").returncode == 1
    audit = tested.run("audit").stdout
    assert "maintenance-start" in audit and "test-start" in audit


def test_commands_and_reports_of_a_schedule_run_now(tested: Site) -> None:
    dry = tested.run("schedule", "run", "quiet", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "quiet: beeper.toggle on ups-03: nothing was done\n")
    before = tested.asked("ups-03").count(b"Q\r")
    assert tested.run("schedule", "run", "quiet").returncode == 0
    assert tested.asked("ups-03").count(b"Q\r") == before + 1
    assert tested.run("test", "start", "ups-03", "--quick").returncode == 0
    assert tested.run("schedule", "run", "monthly").returncode == 0
    assert '"verdict": "passed"' in (tested.folder / "tests.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("test", "start", "ups-09"), 2, "no UPS is named 'ups-09'"),
        (("test", "start", "ups-01", "--quick", "--deep"), 2, "choose one of"),
        (("test", "start", "ups-01", "--for", "10"), 2, "has no unit"),
        (("schedule", "run", "weekly"), 2, "no schedule is named 'weekly'; there are weekly-quick, never, quiet, monthly"),
        (("maintenance", "start", "ups-01", "--for", "soon"), 2, "expected a duration"),
    ],
)
def test_bad_usage_is_told(tested: Site, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = tested.run(*arguments)
    assert done.returncode == code
    assert words in done.stderr.replace("\n│ ", " ")
