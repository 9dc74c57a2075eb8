"""Warnings, faults and modes of a unit as events with a begin and an end."""

from __future__ import annotations

import pytest

from qxfleet.agent.assess import assess
from qxfleet.api.shapes import variable_texts
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.dialects.voltronic.complaints import FAULTS, WARNINGS_TABLE
from qxfleet.model.events import Event, EventKind, Phase, Remark, Severity
from qxfleet.model.options import UpsOptions
from qxfleet.model.state import DeviceState
from qxfleet.session.plans import read
from qxfleet.session.readout import Readout

QUERIES = {query.command.decode().strip(): query for query in VOLTRONIC.queries}
FAULT = "100001000001"


class Story:
    """A unit's answers told one after the other."""

    def __init__(self, protocol: str = "01") -> None:
        self.readout = Readout(UpsOptions("u", "/dev/x"), VOLTRONIC)
        self.state = DeviceState("u")
        self.now_s = 100.0
        self.events: list[Event] = []
        self.bits = "100000000001"
        self.say("QPI", f"(PI{protocol}")
        self.say("QMOD", "(L").warn().poll(2)

    def say(self, question: str, answer: str) -> Story:
        query = QUERIES[question]
        self.readout.take(query, read(query, answer.encode()), self.status())
        return self

    def status(self) -> dict[str, float | str | bool]:
        frame = f"(230.0 50.0 230.0 50.0 001.2 023 369.1 ---.- 026.5 ---.- 018.8 {self.bits}"
        return read(QUERIES["QGS"], frame.encode())

    def warn(self, *bits: int) -> Story:
        return self.say("QWS", "(" + "".join("1" if n in bits else "0" for n in range(1, 65)))

    def poll(self, times: int = 1) -> Story:
        for _ in range(times):
            self.now_s += 2
            reading = self.readout.reading(self.status(), int(self.now_s * 1e6), self.now_s)
            self.state, events = assess(self.state, reading)
            self.events.extend(events)
        return self

    def told(self, name: str) -> list[tuple[str, Severity]]:
        return [(event.value, event.severity) for event in self.events if event.name == name]


LEVELS = {1: Severity.CRITICAL, 2: Severity.WARNING, 3: Severity.NOTICE}


@pytest.mark.parametrize("number", range(1, 65))
def test_each_warning_begins_and_ends(number: int) -> None:
    story = Story().warn(number).poll(3)
    (begin,) = [event for event in story.events if event.name == f"warning.{number}"]
    assert (begin.kind, begin.value, begin.phase) == (EventKind.WARNING, "begin", Phase.BEGIN)
    assert f"(warning {number})" in begin.text
    story.warn().poll(3)
    assert [value for value, _ in story.told(f"warning.{number}")] == ["begin"], "one answer without it is not enough"
    story.warn().poll(3)
    assert [value for value, _ in story.told(f"warning.{number}")] == ["begin", "end"]
    assert not story.state.alarm and story.state.alarms == ()


@pytest.mark.parametrize(("number", "text", "level"), [(n, text, level) for n, text, _, level in WARNINGS_TABLE])
def test_a_warning_is_as_loud_as_its_level(number: int, text: str, level: int) -> None:
    story = Story().warn(number).poll()
    ((_, severity),) = story.told(f"warning.{number}")
    linked = number in (8, 9, 56)
    assert severity is (Severity.INFO if linked else LEVELS[level])
    assert f"{text}." in story.state.alarm


@pytest.mark.parametrize(("number", "rule"), [(8, "low-battery"), (9, "overload"), (56, "replace-battery")])
def test_one_cause_is_told_loudly_once(number: int, rule: str) -> None:
    story = Story().warn(number).poll(4)
    loud = [event.name for event in story.events if event.severity >= Severity.WARNING]
    assert loud == [rule]
    (quiet,) = [event for event in story.events if event.name == f"warning.{number}"]
    assert f"see {rule}" in quiet.text


def test_what_stands_at_the_start_is_raised_without_an_edge() -> None:
    story = Story.__new__(Story)
    story.readout = Readout(UpsOptions("u", "/dev/x"), VOLTRONIC)
    story.state, story.now_s, story.events, story.bits = DeviceState("u"), 100.0, [], "100000000001"
    story.warn(14).poll()
    assert story.told("warning.14") == [("begin", Severity.WARNING)]


def test_no_answer_says_nothing_about_a_warning() -> None:
    story = Story().warn(14).poll(2)
    story.readout.forget(QUERIES["QWS"])
    story.poll(10)
    assert [value for value, _ in story.told("warning.14")] == ["begin"]
    story.warn().poll().warn().poll(3)
    assert [value for value, _ in story.told("warning.14")] == ["begin", "end"]


@pytest.mark.parametrize("code", [code for code, _, _, _ in FAULTS] + ["99"])
def test_each_fault_begins_and_ends(code: str) -> None:
    story = Story()
    story.bits = FAULT
    story.say("QMOD", "(F").say("QFS", f"({code} 212.1 50.0 005.6 49.9 006 010.6 343.8 ---.- 026.2 021.8 01101100").poll(2)
    for name in ("fault.present", "mode.fault", f"fault.{code}"):
        assert [value for value, _ in story.told(name)] == ["begin"], name
    assert "UPS fault." in story.state.alarm and f"Fault {code}" in story.state.alarm
    story.bits = "100000000001"
    story.readout.forget(QUERIES["QFS"])
    story.say("QMOD", "(L").poll(3)
    for name in ("fault.present", "mode.fault", f"fault.{code}"):
        assert [value for value, _ in story.told(name)] == ["begin", "end"], name


@pytest.mark.parametrize(
    ("letter", "name", "severity"),
    [("F", "mode.fault", Severity.CRITICAL), ("P", "mode.power_on", Severity.NOTICE), ("X", "mode.unknown", Severity.NOTICE)],
)
def test_modes_are_events(letter: str, name: str, severity: Severity) -> None:
    story = Story().say("QMOD", f"({letter}").poll(2)
    assert story.told(name) == [("begin", severity)]
    story.say("QMOD", "(L").poll(2)
    assert [value for value, _ in story.told(name)] == ["begin", "end"]


@pytest.mark.parametrize("letter", "EC")
def test_eco_and_converter_are_no_events(letter: str) -> None:
    story = Story().say("QMOD", f"({letter}").poll(3)
    assert not [event for event in story.events if event.kind is EventKind.WARNING]
    assert not story.state.alarm


def test_a_warning_that_comes_and_goes_is_one_event() -> None:
    story = Story()
    for _ in range(5):
        story.warn(10).poll(2).warn().poll()
    story.warn().poll(3)
    begin, end = [event for event in story.events if event.name == "warning.10"]
    assert (begin.value, end.value) == ("begin", "end")


def test_the_line_of_alarms_and_the_list_of_all() -> None:
    story = Story().warn(*range(1, 65)).poll(2)
    texts = variable_texts(story.state)
    assert len(texts["ups.alarm"]) <= 255 and texts["ups.alarm"].endswith(")")
    assert len(story.state.alarms) >= 64
    assert {"OL", "LB", "OVER", "RB", "ALARM"} <= set(texts["ups.status"].split())


def test_a_remark_is_an_event() -> None:
    _, events = assess(DeviceState("u"), Remark("u", 1, 1.0, "capabilities", "", "eco_mode disabled", Severity.INFO))
    (event,) = events
    assert (event.kind, event.name, event.text) == (EventKind.SETTING, "capabilities", "eco_mode disabled")
