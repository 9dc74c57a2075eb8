"""Readings of a battery, put together for tests; 24 V, 230 V mains, times in seconds from a fixed moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qxfleet.battery.discharge import Rating
from qxfleet.model.discharge import Sample
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status

T0_US = 1_760_000_000_000_000
"""2025-10-09T08:53:20Z."""

OL, OB, LB, CAL = int(Status.OL), int(Status.OB), int(Status.LB), int(Status.CAL)
RATING = Rating(600.0, input_v=230.0, battery_v=24.0)


def at(seconds: float) -> int:
    return T0_US + round(seconds * 1e6)


def sample(seconds: float, status: int = OL, volts: float = 27.2, load: float = 30.0, input_v: float | None = 230.0,
           charge: float | None = None, temperature: float | None = 25.0) -> Sample:  # fmt: skip
    return Sample(at(seconds), status, volts, load, charge, input_v, temperature)


def rest(first: float, last: float, step: float = 30.0, **more: float) -> list[Sample]:
    return [sample(second, **more) for second in _times(first, last, step)]


def outage(first: float, last: float, step: float = 2.0, volts: float = 25.0, fall: float = 0.0, **more: float) -> list[Sample]:
    """On battery, the voltage falling by ``fall`` a second."""
    times = _times(first, last, step)
    return [sample(each, OB, volts - fall * (each - first), input_v=0.0, **more) for each in times]


def test_run(first: float, last: float, step: float = 2.0, volts: float = 25.0, status: int = OL | CAL) -> list[Sample]:
    return [sample(each, status, volts) for each in _times(first, last, step)]


test_run.__test__ = False  # type: ignore[attr-defined]


def _times(first: float, last: float, step: float) -> list[float]:
    return [first + number * step for number in range(int((last - first) / step) + 1)]


def readings(ups: str, samples: Iterable[Sample]) -> list[Reading]:
    """Samples as readings of a UPS."""
    names = ("battery.voltage", "ups.load", "battery.charge", "input.voltage", "ups.temperature")
    found: list[Reading] = []
    for each in samples:
        values = (each.battery_v, each.load_percent, each.charge_percent, each.input_v, each.temperature_c)
        known = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        found.append(Reading(ups, each.at_us, (each.at_us - T0_US) / 1e6, each.status, known))
    return found


def seconds_of(discharges: Sequence[object]) -> list[tuple[float, float | None, str]]:
    """(begin, end, cause) in seconds from the fixed moment."""
    return [
        ((each.began_us - T0_US) / 1e6, None if each.ended_us is None else (each.ended_us - T0_US) / 1e6, each.cause.value)  # type: ignore[attr-defined]
        for each in discharges
    ]
