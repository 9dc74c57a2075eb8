"""What the fleet's states mean to a shutdown: one value for each UPS, made from its readings as they come."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from qxfleet.model.electrical import output_on, present_watts, rated_watts
from qxfleet.model.events import Link
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status
from qxfleet.shutdown.model import Mains, UpsSeen

LINE, LB, FSD, CAL = int(Status.OL | Status.OB), int(Status.LB), int(Status.FSD), int(Status.CAL)

Predict = Callable[[str, float | None, float | None], tuple[float | None, float | None]]
"""(UPS, load in percent, charge) → seconds that its battery will last: likely, and at worst; None where nothing is known."""


Rated = Callable[[str], float | None]
"""UPS → the watts it may carry, as configured; None where it says so itself."""


class Observer:
    """Keeps :class:`UpsSeen` of every UPS up to date. Hand it each UPS's state after every change."""

    def __init__(self, predict: Predict, rated: Rated = lambda ups: None) -> None:
        self._seen: dict[str, UpsSeen] = {}
        self._met: set[str] = set()
        self._predict, self._rated = predict, rated

    @property
    def upses(self) -> Mapping[str, UpsSeen]:
        """Every UPS that was looked at."""
        return MappingProxyType(self._seen)

    def remember(self, ups: str, since_s: float, seen_s: float) -> None:
        """An earlier agent saw this UPS on battery ``since_s``, last at ``seen_s``: so it stands until it is in contact."""
        self._seen[ups] = UpsSeen(Mains.OFF, since_s, seen_s, contact=False)

    def knows(self, names: Collection[str]) -> bool:
        """Whether every one of these was in contact since the start."""
        return all(name in self._met for name in names)

    def keep(self, names: frozenset[str]) -> None:
        """Forget the UPSes that are not among these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}

    def look(self, state: DeviceState, now_s: float, *, maintenance: bool = False) -> bool:
        """Take a state in; True if a shutdown should think about it at once."""
        was = self._seen.get(state.name, UpsSeen(since_s=now_s, seen_s=now_s, contact=False))
        seen = replace(was, contact=state.link is Link.ONLINE, maintenance=maintenance)
        if not seen.contact:
            seen = replace(seen, output_since_s=None)
        elif state.reading is not None:
            self._met.add(state.name)
            seen = self._read(seen, state, state.reading)
        self._seen[state.name] = seen
        return (was.mains, was.low_battery, was.contact, was.counting_down, was.output_since_s is None) != (
            seen.mains, seen.low_battery, seen.contact, seen.counting_down, seen.output_since_s is None
        )  # fmt: skip

    def _read(self, was: UpsSeen, state: DeviceState, reading: Reading) -> UpsSeen:
        mains, since_s = _mains(was, state, reading)
        output = output_on(reading.status, reading.values)
        load_percent, charge = _number(reading, "ups.load"), _number(reading, "battery.charge")
        rated_w = self._rated(state.name)
        likely_s, low_s = self._predict(state.name, load_percent, charge) if mains is Mains.OFF else (None, None)
        return replace(
            was, mains=mains, since_s=since_s, seen_s=reading.mono_s,
            output_since_s=(reading.mono_s if was.output_since_s is None else was.output_since_s) if output else None,
            counting_down=output and bool(state.status & FSD),
            low_battery=bool(reading.status & LB), charge=charge,
            runtime_s=_number(reading, "battery.runtime") if likely_s is None else likely_s, runtime_low_s=low_s,
            load_percent=load_percent, load_w=present_watts(reading.values, rated_w),
            rated_w=rated_watts(reading.values, rated_w),
            temperature_c=_number(reading, "ups.temperature"), testing=bool(reading.status & CAL),
        )  # fmt: skip


def _mains(was: UpsSeen, state: DeviceState, reading: Reading) -> tuple[Mains, float]:
    """What assessing made of it: a test is no outage, an outage in a test is one. What can't tell changes nothing."""
    outage = state.conditions.get("on-battery")
    if outage is not None and outage.open and outage.pending_since_s is None:
        mains, since_s = Mains.OFF, outage.since_s if was.mains is Mains.UNKNOWN else reading.mono_s
    elif reading.status & LINE:
        mains, since_s = Mains.ON, reading.mono_s
    else:
        return was.mains, was.since_s
    return mains, was.since_s if mains is was.mains else since_s


def _number(reading: Reading, name: str) -> float | None:
    value = reading.values.get(name)
    return value if isinstance(value, float) else None
