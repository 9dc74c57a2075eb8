"""Store on change and on the minute (architecture section 8)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from qxfleet.model.clock import Clock
from qxfleet.model.reading import Reading
from qxfleet.model.status import SELFTEST_FAILED, Status
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import history
from qxfleet.store.policy import BANDS, Kept
from qxfleet.store.store import Store
from tests.store.conftest import T0_US, VALUES, a_reading


@pytest.fixture
def kept() -> Kept:
    """What is known after one row of an ordinary reading at 0 s."""
    kept = Kept()
    assert kept.outdated_by(a_reading())
    kept.keep(a_reading())
    return kept


def test_every_column_has_its_band() -> None:
    assert BANDS.keys() == {variable.name for variable in READING_COLUMNS}


def test_nothing_new_is_no_row(kept: Kept) -> None:
    assert not kept.outdated_by(a_reading(mono_s=2.0))


@pytest.mark.parametrize(
    "change",
    [
        {"status": Status.OB},
        {"status": Status.OL | Status.CHRG},
        {"alarms": (SELFTEST_FAILED,)},
        {"values": {"input.voltage": 233.0}},
        {"values": {"input.voltage": 227.0}},
        {"values": {"battery.voltage": 27.0}},
        {"values": {"ups.load": 19.0}},
        {"values": {"battery.charge": 98.5}},
        {"values": {"ups.temperature": None}, "missing": frozenset({"ups.temperature"})},
        {"values": {"ups.load": "text"}},
    ],
    ids=str,
)
def test_a_change_is_a_row(kept: Kept, change: dict[str, Any]) -> None:
    assert kept.outdated_by(a_reading(mono_s=2.0, **change))


@pytest.mark.parametrize(
    "noise",
    [
        {"input.voltage": 231.5, "output.voltage": 228.9},
        {"battery.voltage": 27.53},
        {"battery.runtime": 1250.0},
        {"ups.load": None},
        {"ups.beeper.status": "disabled"},
    ],
    ids=str,
)
def test_noise_and_what_was_not_asked_for_are_no_row(kept: Kept, noise: dict[str, Any]) -> None:
    assert not kept.outdated_by(a_reading(mono_s=2.0, values=noise))


def test_a_slow_drift_is_seen(kept: Kept) -> None:
    volts = 230.1
    rows = []
    for poll in range(1, 20):
        volts += 0.5
        now = a_reading(mono_s=poll, values={"input.voltage": volts})
        if kept.outdated_by(now):
            kept.keep(now)
            rows.append(volts)
    assert rows == pytest.approx([232.6, 235.1, 237.6])


@pytest.mark.parametrize("interval_s", [1.0, 2.0, 5.0, 10.0, 30.0])
def test_there_is_a_row_every_minute(kept: Kept, interval_s: float) -> None:
    rows = [0.0]
    for poll in range(1, int(600 / interval_s) + 1):
        late_s = 0.004 if poll % 2 else -0.004
        now = a_reading(mono_s=poll * interval_s + late_s)
        if kept.outdated_by(now):
            kept.keep(now)
            rows.append(now.mono_s)
    gaps = [after - before for before, after in pairwise(rows)]
    assert max(gaps) <= 60.01
    assert len(rows) <= 12


@pytest.mark.parametrize("status", [Status.OB | Status.DISCHRG, Status.OL | Status.CAL])
def test_every_poll_is_a_row_on_battery_and_under_test(kept: Kept, status: Status) -> None:
    for poll in range(1, 5):
        now = a_reading(mono_s=poll, status=status)
        assert kept.outdated_by(now)
        kept.keep(now)
    back = a_reading(mono_s=6.0)
    assert kept.outdated_by(back)
    kept.keep(back)
    assert not kept.outdated_by(a_reading(mono_s=7.0))


def test_a_value_that_comes_every_fourth_poll_makes_no_rows_by_itself() -> None:
    kept = Kept()
    rows = 0
    for poll in range(20):
        values: dict[str, Any] = {name: None for name in VALUES if name.startswith("battery.")} if poll % 4 else {}
        now: Reading = a_reading(mono_s=poll * 2.0, values=values)
        if kept.outdated_by(now):
            kept.keep(now)
            rows += 1
    assert rows == 1


def test_a_value_known_again_is_a_row(kept: Kept) -> None:
    kept.keep(a_reading(mono_s=2.0, values={"ups.load": None}, missing=frozenset({"ups.load"})))
    assert not kept.outdated_by(a_reading(mono_s=4.0, values={"ups.load": None}, missing=frozenset({"ups.load"})))
    assert kept.outdated_by(a_reading(mono_s=6.0))


@pytest.mark.parametrize(
    ("change", "sudden"),
    [
        ({"status": Status.OB | Status.DISCHRG}, True),
        ({"alarms": (SELFTEST_FAILED,)}, True),
        ({"values": {"input.voltage": 231.0 + 2.01}}, True),
        ({"values": {"input.voltage": 231.0 + 1.99}}, False),
        ({"values": {"input.voltage": 0.0}}, True),
        ({"values": {"battery.runtime": 1234.0 - 61.8}}, True),
        ({"values": {"battery.runtime": 1234.0 - 61.6}}, False),
        ({"values": {"input.voltage": None}, "missing": frozenset({"input.voltage"})}, False),
        ({}, False),
    ],
    ids=str,
)
def test_the_reading_before_a_sudden_change_is_a_row_too(kept: Kept, change: dict[str, Any], sudden: bool) -> None:
    passed = a_reading(mono_s=2.0, values={"input.voltage": 231.0})
    assert not kept.outdated_by(passed)
    kept.passed = passed
    now = a_reading(mono_s=4.0, **{"values": {"input.voltage": 231.0}, **change})
    assert kept.before(now) is (passed if sudden else None)
    assert kept.before(now) is None, "once"


async def test_an_outage_is_a_step_in_the_history(sqlite_path: Path) -> None:
    store = Store(f"sqlite:///{sqlite_path}", clock=Clock())
    store.open()
    for second in range(0, 50, 2):
        store.record(a_reading(at_us=T0_US + second * 1_000_000, mono_s=float(second)))
    gone = {"input.voltage": 0.0}
    for second in range(50, 54, 2):
        store.record(a_reading(at_us=T0_US + second * 1_000_000, mono_s=float(second), status=Status.OB, values=gone))
    await store.record_now()
    found = await store.read(lambda connection: history.readings(connection, "rack1-a", "input.voltage"))
    await store.close()
    drawn = [((point.at_us - T0_US) // 1_000_000, point.value) for point in found]
    assert drawn == [(0, 230.1), (48, 230.1), (50, 0.0), (52, 0.0)]
