"""The last word to the agent's own UPS: when it is owed, how it is left, and that it arrives."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest

from qxfleet.model.loads import Command, Load, Plan, UpsOff
from qxfleet.shutdown.late import LateCut, owed, read_note
from qxfleet.shutdown.model import Act, Answer, End, LoadSeen, Record, Result, Step, World
from tests.interfaces.conftest import asked, process, simulator, wait_for

HOOK = Path(__file__).parents[2] / "contrib" / "systemd" / "qxfleet-late"

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


def test_a_note_is_good_for_ten_minutes(tmp_path: Path) -> None:
    note = tmp_path / "late-cut.json"
    assert read_note(note, 1000.0) == []
    note.write_text(json.dumps([{"ups": "a", "request": "S.5R0003\r", "written_s": 1000.0}]))
    assert read_note(note, 1599.0) == [LateCut("a", "S.5R0003\r", 1000.0)]
    assert read_note(note, 1601.0) == []
    assert read_note(note, 10.0) == []  # another boot
    note.write_text('{"ups": 1}')
    with pytest.raises(ValueError, match="not a note of the agent"):
        read_note(note, 1000.0)


def test_the_last_word_arrives(tmp_path: Path) -> None:
    with simulator(tmp_path / "ups", 3) as ups:
        config = tmp_path / "qxfleet.toml"
        config.write_text(f'[[ups]]\nname = "own"\nport = "{ups / "ups-03"}"\n')
        note = tmp_path / "late-cut.json"
        cuts = [{"ups": name, "request": "S.5R0003\r", "written_s": time.monotonic()} for name in ("own", "gone")]
        note.write_text(json.dumps(cuts))
        done = process("--config", config, "late-cut", note)
        assert done.returncode == 1
        assert "own: sent; it said nothing" in done.stderr
        assert "gone: not in the configuration" in done.stderr
        wait_for(lambda: b"S.5R0003\r" in asked(ups, "ups-03"), "the order on the wire", 5)
        assert process("--config", config, "late-cut", tmp_path / "none").returncode == 0


def test_the_hook_does_nothing_on_a_restart() -> None:
    for word in ("reboot", "kexec", ""):
        assert subprocess.run(["/bin/sh", str(HOOK), word], check=False, capture_output=True).returncode == 0
