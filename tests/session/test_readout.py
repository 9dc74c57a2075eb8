"""A status reply read in one step means what it means read the long way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import Dialect, Tier
from qxfleet.errors import ReplyError
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.session.plans import read
from qxfleet.session.readout import Readout
from tests.fuzz_fastparse import captured, mutated

OL, OB = int(Status.OL), int(Status.OB)
LINE = OL | OB
FRAMES = tuple(frame for frames in captured().values() for frame in frames)
IN_ONE_STEP = ("megatec", "megatec/old", "mecer", "mustek", "zinto", "q1")
KNOWN: dict[str, float | str] = {"battery.voltage.nominal": 24.0, "input.voltage.nominal": 230.0, "device.model": "RT-1000"}
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"runtimecal": (240.0, 100.0, 720.0, 50.0)},
    {"overrides": {"battery.voltage.low": 20.0, "battery.voltage.high": 27.0, "ups.load": 40.0}, "ignoresab": True},
    {"defaults": {"ups.temperature": 25.0, "battery.packs": 2.0, "battery.charge.low": 30.0}, "ignorelb": True},
)


def status_frames(dialect: Dialect) -> tuple[bytes, ...]:
    """Sample and captured answers to the status query."""
    query = dialect.tier(Tier.QUICK)[0]
    own = captured().get(query.command.decode("latin-1").rstrip("\r"), [])
    return (*(sample.frame for sample in query.samples), *own)


def the_long_way(readout: Readout, frame: bytes, mono_s: float) -> Reading | str:
    try:
        return readout.reading(read(readout.dialect.tier(Tier.QUICK)[0], frame), 0, mono_s)
    except ReplyError as error:
        return f"{type(error).__name__} {error.reason}"


def exactly(seen: Reading | str) -> str:
    """All of it, one kind of number told from another; a set in the order of its names, else it has that of its making."""
    return seen if isinstance(seen, str) else f"{replace(seen, missing=frozenset())!r} without {sorted(seen.missing)}"


@given(
    st.sampled_from([dialect.name for dialect in DIALECTS]), st.sampled_from(OPTIONS),
    st.lists(st.integers(0), min_size=1, max_size=6),
)  # fmt: skip
def test_one_step_and_the_long_way_agree(name: str, options: dict[str, Any], seeds: list[int]) -> None:
    dialect = next(each for each in DIALECTS if each.name == name)
    quick, plain = (Readout(UpsOptions("a", "/dev/a", **options), dialect) for _ in range(2))
    for readout in (quick, plain):
        readout.learn(KNOWN)
    own = status_frames(dialect)
    for number, seed in enumerate(seeds):
        rng = random.Random(seed)
        frame = rng.choice(own) if rng.random() < 0.4 else mutated(rng, own, FRAMES)
        expected = the_long_way(plain, frame, 2.0 * number)
        seen = quick.quick(frame, 0, 2.0 * number) or the_long_way(quick, frame, 2.0 * number)
        assert exactly(seen) == exactly(expected)
        assert (quick.status, quick.bits, quick.packs) == (plain.status, plain.bits, plain.packs)
        assert quick.known == plain.known


@pytest.mark.parametrize("name", IN_ONE_STEP)
def test_the_ordinary_reply_takes_one_step(name: str) -> None:
    dialect = next(each for each in DIALECTS if each.name == name)
    query = dialect.tier(Tier.QUICK)[0]
    readout = Readout(UpsOptions("a", "/dev/a"), dialect)
    reading = readout.quick(query.samples[0].frame, 0, 0.0)
    assert reading is not None
    assert {name: reading.values[name] for name in ("input.voltage", "battery.voltage", "ups.load")} == {
        name: query.samples[0].values[name] for name in ("input.voltage", "battery.voltage", "ups.load")
    }


def megatec(volts: str, bits: str = "00001001", nominal: float | None = 230.0) -> Callable[[], Reading]:
    readout = Readout(UpsOptions("a", "/dev/a"), next(each for each in DIALECTS if each.name == "megatec"))
    readout.learn({} if nominal is None else {"input.voltage.nominal": nominal, "battery.voltage.nominal": 24.0})
    frame, clock = f"({volts} {volts} 229.8 023 50.0 25.1 28.0 {bits}\r".encode(), itertools.count(1)

    def poll() -> Reading:
        seen = readout.quick(frame, 0, float(next(clock)))
        return seen if seen is not None else the_long_way(readout, frame, float(next(clock)))  # type: ignore[return-value]

    return poll


@pytest.mark.parametrize(
    ("volts", "nominal", "lost"),
    [("000.0", 230.0, True), ("022.9", 230.0, True), ("023.0", 230.0, False), ("010.9", None, True), ("011.0", None, False)],
)
def test_an_input_below_a_tenth_of_nominal_is_an_outage_at_the_second_poll(volts: str, nominal: float | None, lost: bool) -> None:
    poll = megatec(volts, nominal=nominal)
    first, second, third = poll(), poll(), poll()
    assert first.status & LINE == OL
    assert second.status & LINE == third.status & LINE == (OB if lost else OL)
    assert ("qx.status.conflict" in second.values) is lost
    assert any(note.startswith("status conflict: no input voltage") for note in second.notes) is lost


def test_an_input_that_is_dead_for_one_poll_is_no_outage() -> None:
    readout = Readout(UpsOptions("a", "/dev/a"), next(each for each in DIALECTS if each.name == "megatec"))
    readout.learn(KNOWN)
    for number, volts in enumerate(("000.0", "230.0", "000.0", "230.0")):
        seen = the_long_way(readout, f"({volts} {volts} 229.8 023 50.0 25.1 28.0 00001001\r".encode(), float(number))
        assert isinstance(seen, Reading) and seen.status & LINE == OL


def test_an_outage_that_the_ups_tells_is_no_contradiction() -> None:
    poll = megatec("000.0", "10001001")
    assert [seen.status & LINE for seen in (poll(), poll())] == [OB, OB]
    assert not poll().notes
