"""Replies of real devices: every frame of the serial family ends as its policy asks, with every value it is known to mean."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.errors import ReplyError
from qxfleet.model.events import Observation, Trouble
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.wire import Answer, crc_of, sealed, sealing, sort_answer
from qxfleet.session.plans import read
from qxfleet.session.session import Session
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import VirtualClock, run_virtual

DATA = Path(__file__).parent / "data" / "captures.jsonl"
FAMILY = {"megatec", "megatec/old", "mecer", "mustek", "zinto", "q1", "voltronic"}
BEYOND = {"innovart": "innovart33"}
"""The captures' names for dialects that are called otherwise here; those beyond the family are read by their tables alone."""
CAPTURES: list[dict[str, Any]] = [
    row for row in map(json.loads, DATA.read_text().splitlines()) if row["dialect"] in FAMILY
]
STATUS = {"Q1", "QS", "D", "QGS"}
VOLTRONIC_ASKS = {query.command.decode().strip() for query in VOLTRONIC.queries}
ASKED = STATUS | {"F", "I", "FW?", "QPI"} | VOLTRONIC_ASKS
GOOD_STATUS = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\r"
NEEDED = {
    "QGS": b"(234.9 50.0 229.8 50.0 001.2 023 369.1 ---.- 026.5 ---.- 018.8 100000000001\r",
    "QPI": b"(PI01\r",
    "QFLAG": b"(EejDb\r",
}
"""What a voltronic unit must say for the rest to be asked: itself, and ECO mode and outlets among its capabilities."""
FAULT = NEEDED["QGS"].replace(b"100000000001", b"100001000001")
"""The status beside which QFS is asked."""
OUR_NAMES = {
    ("QPI", "protocol.id"): "ups.firmware.aux",
    ("QMD", "battery.voltage.nominal"): "qx.battery.unit.voltage.nominal",
    ("QBYF", "input.frequency.high"): "max_bypass_freq",
    ("QBYF", "input.frequency.low"): "min_bypass_freq",
}
"""Where the captures name a value otherwise than voltronic.md does: QMD 43-46 is one battery's voltage, QBYF is about bypass."""
OUR_VALUES = {"PI01": "P01"}


def raw_of(capture: dict[str, Any]) -> bytes:
    raw: bytes = capture["raw"].encode("latin-1")
    return raw + b"\r" if capture["terminator"] == "lost-in-log" else raw


async def talk(capture: dict[str, Any]) -> list[Observation]:
    """A session whose device answers the captured command with the captured bytes, everything else by an echo."""
    command, raw = capture["command"], raw_of(capture)
    dialect = capture["dialect"]
    if (command in ("F", "I") and dialect == "q1") or (command == "Q1" and dialect == "voltronic"):
        dialect = "megatec"
    if command in STATUS:
        dialect = {"Q1": dialect, "QS": "mustek", "D": "megatec/old", "QGS": "voltronic"}[command]
    seen: list[Observation] = []
    clock = VirtualClock(asyncio.get_running_loop())

    def answer(request: bytes) -> bytes:
        text = request.rstrip(b"\r").decode("latin-1")
        if text == command:
            return raw
        if dialect == "voltronic":
            return FAULT if (text, command) == ("QGS", "QFS") else NEEDED.get(text, b"(NAK\r")
        reply = GOOD_STATUS if text in STATUS else request
        return reply.rstrip(b"\r") if capture["terminator"] == "absent" else reply

    options = UpsOptions("u", "/dev/ttyS0", dialect=dialect)
    session = Session(options, InProcTransport("u", answer), seen.append, clock)
    running = asyncio.create_task(session.run())
    for _ in range(80):
        session.wake(clock.monotonic())
        await asyncio.sleep(0.25)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return seen


def outcome(capture: dict[str, Any]) -> str:
    """What became of the frame, in the words of ``policy``; raises AssertionError where a known value is wrong."""
    command = capture["command"]
    if command not in ASKED:
        kind = sort_answer(command.encode() + b"\r", raw_of(capture).partition(b"\r")[0])
        return "reject" if kind in (Answer.REFUSED, Answer.ECHO, Answer.SILENCE) else "not asked"
    seen = run_virtual(talk(capture))
    readings = [item for item in seen if isinstance(item, Reading)]
    online = next((n for n, item in enumerate(seen) if isinstance(item, Reading)), 0) if command not in STATUS else 0
    troubles = [item.reason for item in seen[online:] if isinstance(item, Trouble) and item.frame != b"(NAK"]
    implausible = any(reason.startswith("ReplyImplausible") for reason in troubles)
    if command in STATUS:
        if not readings:
            return "flag-implausible" if implausible else "reject"
        texts = readings[-1].texts()
        for name, wanted in (capture["expected"] or {}).items():
            if isinstance(wanted, str):
                # ALARM says that ups.alarm is not empty: NUT adds it (vector status-shutdown-active), the captures leave it out.
                assert set(texts[name].split()) - {"ALARM"} == set(wanted.split()), (name, texts[name], wanted)
            else:
                assert float(texts[name]) == wanted, (name, texts[name], wanted)
        return "accept"
    assert readings, "the device must be kept whatever it answers to an optional query"
    values = readings[-1].values
    for name, wanted in (capture["expected"] or {}).items():
        ours = values[OUR_NAMES.get((command, name), name)]
        assert ours == OUR_VALUES.get(wanted, wanted), (name, ours, wanted)
    if implausible:
        return "flag-implausible"
    malformed = any(reason.startswith(("ReplyMalformed", "ReplyTimeout")) for reason in troubles)
    return "reject" if malformed else "accept"


def fits(policy: str, got: str) -> bool:
    if policy == "log-artefact":
        return True
    if policy.startswith("accept"):
        return got in ("accept", "not asked")
    if policy in ("reject", "no-answer-expected"):
        return got in ("reject", "not asked")
    return got == policy


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda capture: capture["id"])
def test_capture(capture: dict[str, Any]) -> None:
    got = outcome(capture)
    assert fits(capture["policy"], got), (capture["policy"], got)


OTHERS: list[dict[str, Any]] = [
    row for row in map(json.loads, DATA.read_text().splitlines()) if row["dialect"] not in FAMILY
]


ANOTHER_PROTOCOL = {"mpp-pi16"}
"""PI16 is a protocol of its own, with other frames (extra-dialects.md section 13.2): it is not recognised, and so not read."""

SEALED_STATUS = {"QPIGS", "QPI"}
"""What decides who is recognised."""

BORROWED_CRC = {"mpp-pi30/05"}
"""A copy whose CRC is another frame's: on the wire it is turned away."""


def read_by_table(capture: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What became of a frame read by its dialect's table, in the words of ``policy``, and its values."""
    dialect = dialect_named(BEYOND.get(capture["dialect"], capture["dialect"]))
    assert dialect is not None
    raw = capture["raw"].encode("latin-1")
    frame = raw.partition(b"\r")[0] if dialect.name != "voltronic-qs-hex" else raw.rstrip(b"\r")
    command = capture["command"].encode("latin-1")
    requests = (command + b"\r", sealing(command))
    queries = [query for query in dialect.queries if query.command in requests]
    if not queries:
        kind = sort_answer(requests[0], frame)
        return ("reject" if kind in (Answer.REFUSED, Answer.ECHO, Answer.SILENCE) else "not asked"), {}
    values: dict[str, Any] = {}
    for query in queries:
        try:
            values.update(read(query, frame if not query.crc or sealed(frame) else frame + crc_of(frame)))
        except ReplyError:
            continue
    return ("accept" if values else "reject"), values


@pytest.mark.parametrize("capture", OTHERS, ids=lambda capture: capture["id"])
def test_a_capture_beyond_the_family(capture: dict[str, Any]) -> None:
    got, values = read_by_table(capture)
    if capture["device"] in ANOTHER_PROTOCOL or capture["id"] in BORROWED_CRC:
        assert capture["command"] not in SEALED_STATUS or not values
        return
    assert fits(capture["policy"], got), (capture["policy"], got)
    for name, wanted in (capture["expected"] or {}).items():
        if name in values and not isinstance(wanted, str):
            assert abs(values[name] - wanted) < 0.06, (name, values[name], wanted)


def table() -> str:
    """Counts by policy, ours beside the incumbent's; ``python -m tests.test_captures`` prints it."""
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    all_: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for capture in CAPTURES:
        policy = capture["policy"]
        all_[policy] += 1
        ours[policy] += fits(policy, outcome(capture))
        if capture["nut280_accepts"] is not None:
            tried[policy] += 1
            theirs[policy] += capture["nut280_accepts"] is policy.startswith("accept")
    lines = [f"{'policy':24} {'frames':>6} {'as asked':>9} {'NUT 2.8.0 as asked (of tried)':>31}"]
    for policy, count in sorted(all_.items()):
        lines.append(f"{policy:24} {count:6} {ours[policy]:9} {theirs[policy]:24} of {tried[policy]:3}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())  # noqa: T201
