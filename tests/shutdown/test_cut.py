"""The last word to the agent's own UPS: when it is owed, how it is left, and that it arrives."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qxfleet.model.loads import Command, Load, Plan, UpsOff
from qxfleet.shutdown import mark
from qxfleet.shutdown.mark import Mark, leave, owed, read_mark
from qxfleet.shutdown.model import Act, Answer, End, LoadSeen, Record, Result, Step, World
from tests.compat.incumbent import missing
from tests.compat.upsmon import alone
from tests.interfaces.conftest import PLAIN, asked, process, simulator, start
from tests.parts import absent

HOOK = Path(__file__).parents[2] / "contrib" / "systemd" / "qxfleet-shutdown"

STOP = Command(("true",))
PLAN = Plan(
    loads=(Load("app", ("a",), stop=STOP), Load("me", ("a", "b"), stop=STOP)), ups_off=UpsOff(), host="me", armed=True
)


def record(*steps: tuple[Act, str, Answer | None, Result | None], armed: bool = True) -> Record:
    """One armed run with these steps."""
    found = Record(armed=armed)
    for number, (act, target, answer, result) in enumerate(steps, 1):
        found = found.begun(Step(act, target, "because"), float(number))
        if answer is not None:
            found = found.answered(number, answer, number + 0.1)
        if result is not None:
            found = found.ended(End(number, result), number + 0.2)
    return found


APP_DOWN = (Act.STOP, "app", Answer.ACCEPTED, Result.DONE)
HOST_GOES = (Act.STOP, "me", Answer.ACCEPTED, None)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], ()),
        ([APP_DOWN], ()),
        ([APP_DOWN, HOST_GOES], ("a", "b")),
        ([APP_DOWN, (Act.CUT, "a", Answer.ACCEPTED, None), HOST_GOES], ("b",)),
        ([APP_DOWN, (Act.CUT, "a", Answer.UNCONFIRMED, None), HOST_GOES], ("b",)),
        ([APP_DOWN, (Act.CUT, "a", Answer.FAILED, Result.FAILED), (Act.CUT, "b", Answer.ACCEPTED, None), HOST_GOES], ("a",)),
        ([(Act.STOP, "app", Answer.ACCEPTED, Result.FAILED), HOST_GOES], ("b",)),
    ],
    ids=["nothing", "host-stays", "never-told", "one-told", "one-unconfirmed", "one-refused", "something-is-up"],
)
def test_what_is_owed(steps: list[tuple[Act, str, Answer | None, Result | None]], expected: tuple[str, ...]) -> None:
    assert owed(PLAN, record(*steps), World()) == expected


def test_nothing_is_owed_unarmed_or_where_upses_are_left_alone() -> None:
    steps = [APP_DOWN, HOST_GOES]
    assert owed(PLAN, record(*steps, armed=False), World()) == ()
    left = Plan(loads=PLAN.loads, ups_off=UpsOff(then="leave"), host="me", armed=True)
    assert owed(left, record(*steps), World()) == ()
    assert owed(Plan(loads=PLAN.loads, armed=True), record(*steps), World()) == ()


def test_what_is_seen_counts_more_than_what_was_done() -> None:
    steps = [APP_DOWN, HOST_GOES]
    assert owed(PLAN, record(*steps), World(loads={"app": LoadSeen(up=True)})) == ("b",)


def test_a_mark_is_of_this_boot_and_good_for_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, now_s = tmp_path / "to-cut.json", time.monotonic()
    assert read_mark(file) is None
    leave(file, Mark(("a",), True))
    assert read_mark(file) == Mark(("a",), True)
    for later_s, known in ((599.0, True), (601.0, False), (-10.0, False)):
        monkeypatch.setattr(mark.time, "monotonic", lambda later_s=later_s: now_s + later_s)
        assert (read_mark(file) is not None) is known
    monkeypatch.undo()
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(mark, "BOOT", tmp_path / "boot")
    assert read_mark(file) is None
    file.write_text('{"ups": 1}')
    with pytest.raises(ValueError, match="not a mark of the agent"):
        read_mark(file)


OPTIONS = {"a": 'offdelay = 60\nondelay = 120', "b": "offdelay = 12\nstayoff = true", "c": ""}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Three units without an agent: a megatec, a zinto, another; the configuration, and where they are."""
    folder = tmp_path_factory.mktemp("desk")
    with simulator(folder / "ups", 3) as ups:
        blocks = [
            f'[[ups]]\nname = "{name}"\nport = "{ups}/ups-0{number}"\n{OPTIONS[name]}\n' for number, name in enumerate("abc", 1)
        ]
        config = folder / "qxfleet.toml"
        config.write_text(
            '[agent]\ncontrol = "agent.sock"\n' + "".join(blocks) + '[[load]]\nname = "web"\nfed_by = ["a"]\n'
            'stop = { command = ["true"] }\n'
        )
        yield config, ups


def sent(ups: Path, name: str) -> list[bytes]:
    return [request for request in asked(ups, name) if request.startswith((b"S", b"C"))]


def test_it_names_the_loads_and_needs_a_yes(desk: tuple[Path, Path]) -> None:
    config, ups = desk
    refused = process("--config", config, "cut", "a", stdin=subprocess.DEVNULL)
    assert refused.returncode == 2
    assert "This cuts the power of a. Behind it: web." in refused.stderr and "--yes" in refused.stderr
    assert sent(ups, "ups-01") == []
    unknown = process("--config", config, "cut", "x", "--yes")
    assert unknown.returncode == 2 and 'no UPS is named "x"' in unknown.stderr
    assert process("--config", config, "cut").returncode == 2


def test_each_is_cut_by_its_own_options(desk: tuple[Path, Path]) -> None:
    config, ups = desk
    done = process("--config", config, "cut", "all", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    results = {each["ups"]: each for each in json.loads(done.stdout)["cut"]}
    assert {name: (each["name"], each["outcome"]) for name, each in results.items()} == {
        "a": ("shutdown.return", "accepted"), "b": ("shutdown.stayoff", "accepted"), "c": ("shutdown.return", "accepted"),
    }  # fmt: skip
    assert [sent(ups, f"ups-0{number}")[-1] for number in (1, 2, 3)] == [b"S01R0002\r", b"S.2R0000\r", b"S.5R0003\r"]
    assert all(sent(ups, f"ups-0{number}")[0] == b"C\r" for number in (1, 2, 3)), "what was pending is cancelled first"


def test_the_hook_cuts_what_the_mark_names_and_nothing_without_one(desk: tuple[Path, Path]) -> None:
    config, ups = desk
    before = len(sent(ups, "ups-03"))
    quiet = process("--config", config, "cut", "--hook")
    assert (quiet.returncode, quiet.stderr.strip()) == (0, "no forced shutdown is under way: nothing is cut")
    assert len(sent(ups, "ups-03")) == before
    leave(config.parent / "to-cut.json", Mark(("c", "gone"), stay_off=True))
    done = process("--config", config, "cut", "--hook")
    (config.parent / "to-cut.json").unlink()
    assert "gone: the agent's mark names it, the configuration does not" in done.stderr
    assert done.stdout.startswith("c shutdown.stayoff: ")
    assert sent(ups, "ups-03")[-1] == b"S.5R0000\r"


def test_the_hook_cuts_where_upsmon_has_set_its_flag(desk: tuple[Path, Path], tmp_path: Path) -> None:
    """Debian's `upsmon -K`, by the flag that upsmon itself writes."""
    if complaint := missing():
        absent(complaint)
    config, ups = desk
    conf, flag = tmp_path / "upsmon.conf", tmp_path / "killpower"
    conf.write_text(
        "RUN_AS_USER root\nMONITOR c@localhost 1 u p primary\nMONITOR a@elsewhere 1 u p primary\nMINSUPPLIES 1\n"
        f'SHUTDOWNCMD "true"\nPOWERDOWNFLAG {flag}\n'
    )
    conf.chmod(0o600)
    environment = {**PLAIN, "NUT_CONFPATH": str(tmp_path)}

    def hook() -> subprocess.CompletedProcess[str]:
        """Where no other upsmon runs, as at the end of a machine."""
        command = [*alone(), sys.executable, "-m", "qxfleet", "--config", str(config), "cut", "--hook"]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    assert hook().stdout == ""
    flag.write_text("upsmon-shutdown-file")
    before = len(sent(ups, "ups-01"))
    done = hook()
    assert done.stdout.startswith("c shutdown.return: "), done.stderr
    assert len(sent(ups, "ups-01")) == before


def test_a_port_that_somebody_holds_is_waited_for(desk: tuple[Path, Path]) -> None:
    import serial

    config, ups = desk
    before = len(sent(ups, "ups-03"))
    holder = serial.Serial(str(ups / "ups-03"), exclusive=True)
    try:
        cutting = start("--config", config, "cut", "c", "--yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(4)
        assert cutting.poll() is None and len(sent(ups, "ups-03")) == before
    finally:
        holder.close()
    out, _ = cutting.communicate(timeout=40)
    assert out.startswith("c shutdown.return: ")


def test_the_hook_does_nothing_on_a_restart() -> None:
    for word in ("reboot", "kexec", ""):
        assert subprocess.run(["/bin/sh", str(HOOK), word], check=False, capture_output=True).returncode == 0
