"""The log: what is said from outside stays on its line, and a flood is told by a count."""

from __future__ import annotations

import io
import logging

from qxfleet.interfaces.cli.events import event_line
from qxfleet.interfaces.logs import ONCE_IN_S, Log


class Wound:
    """A clock that is wound by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def logged(clock: Wound) -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    log = logging.Logger("test")
    log.addHandler(Log(stream, clock))
    return log, stream


def test_what_comes_from_outside_stays_on_its_line() -> None:
    log, stream = logged(Wound())
    log.warning("forbidden: %s", "op\r\n2026-01-01T00:00:00.000Z INFO qxfleet: forged\x1b[2J\x9b31m")
    try:
        raise ValueError("of ours")
    except ValueError:
        log.exception("an error of ours")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith(r"forbidden: op\r\n2026-01-01T00:00:00.000Z INFO qxfleet: forged\x1b[2J\x9b31m")
    assert lines[1].endswith("an error of ours")
    assert lines[2].startswith("Traceback"), "a traceback keeps its lines"


def test_a_flood_is_one_line_and_a_count() -> None:
    clock = Wound()
    log, stream = logged(clock)
    for number in range(500):
        log.warning("refused: %s", number)
        log.error("something else %s", number)
    assert [line.partition("test: ")[2] for line in stream.getvalue().splitlines()] == ["refused: 0", "something else 0"]
    clock.now_s = ONCE_IN_S - 0.1
    log.warning("refused: %s", 500)
    assert len(stream.getvalue().splitlines()) == 2
    clock.now_s = ONCE_IN_S
    log.info("a third thing")
    said = [line.partition("test: ")[2] for line in stream.getvalue().splitlines()][2:]
    assert said == ["refused: 500 (and 499 more like this)", "something else 499 (and 498 more like this)", "a third thing"]


def test_what_ups_es_do_is_never_left_out() -> None:
    stream = io.StringIO()
    log = logging.Logger("qxfleet.events")
    log.addHandler(Log(stream, Wound()))
    for number in range(300):
        log.error("%s: on-battery", number)
    assert len(stream.getvalue().splitlines()) == 300


def test_a_value_forges_no_line_of_events() -> None:
    at = "2026-01-01T00:00:00.000Z"
    event = {"time": at, "ups": "u", "name": "x\ny\u202e", "value": "1\n2026 forged", "text": "\x1b]0;x\x07"}
    line = event_line({"event": event, "severity": 0, "stored": True})
    assert "\n" not in line and "\x1b" not in line and "\x07" not in line
    assert r"1\n2026 forged" in line
    assert r"x\ny\u202e" in line
