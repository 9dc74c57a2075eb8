"""Durations: the contract's forms, the remedies for others, and the way there and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qxfleet.config.durations import LONGEST_S, UNITS, duration_text, parse_duration


@pytest.mark.parametrize(("text", "seconds"), [
    ("30s", 30), ("5m", 300), ("5min", 300), ("12h", 43200), ("90d", 7776000), ("0s", 0), ("0.5s", 0.5), ("1.5m", 90),
    (" 2 s ", 2), ("007s", 7),
])  # fmt: skip
def test_forms(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "part"), [
    ("30", 'has no unit: write "30s"'),
    ("", 'found ""'),
    ("s", 'found "s"'),
    ("-5s", 'found "-5s"'),
    ("1e3s", 'found "1e3s"'),
    ("1,5s", 'found "1,5s"'),
    ("inf s", "expected a duration"),
    ("٣s", "expected a duration"),
    ("3w", 'unknown unit "w"'),
    ("3S", 'write "3s"'),
    ("3 minutes", 'write "3m"'),
    ("2Hours", 'write "2h"'),
    ("250ms", 'write "0.25s"'),
    ("1h30m", 'write "90m"'),
    ("1h 30m 5s", 'write "5405s"'),
    ("1h30", "expected a duration"),
    ("40000d", "longer than 100 years"),
    ("9" * 400 + "s", "longer than 100 years"),
])  # fmt: skip
def test_remedies(text: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0s"), (0.5, "0.5s"), (0.2, "0.2s"), (59, "59s"), (60, "1m"), (90, "90s"), (180, "3m"), (43200, "12h"),
    (86400, "1d"), (7776000, "90d"), (599940, "9999m"),
])  # fmt: skip
def test_text(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.integers(0, LONGEST_S))
def test_there_and_back(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_every_unit(number: int, unit: str) -> None:
    seconds = number * UNITS[unit]
    if seconds <= LONGEST_S:
        assert parse_duration(f"{number}{unit}") == seconds
    else:
        with pytest.raises(ValueError, match="100 years"):
            parse_duration(f"{number}{unit}")


@given(st.text(st.sampled_from("0123456789. smhdin-+e_x\n"), max_size=12) | st.text(max_size=12))
@example("1..5s")
@example("s5")
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        assert str(error)
    else:
        assert 0 <= seconds <= LONGEST_S
        assert text.strip()[0].isdigit()
        assert text.strip()[-1] in "smnhd"
