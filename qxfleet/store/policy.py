"""Which readings are worth a row: every change and every minute (architecture section 8).

A reading is stored when its status or alarms changed, when a value left its band since the row before, when a value
became known or unknown, on every poll on battery or under test, and a minute after the last row at the latest. Before a sudden
change the reading just before it is stored too, so that the change is a step in every picture and not a ramp of a minute.
"""

from __future__ import annotations

from math import inf

from qxfleet.model.notice import Notice
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.store.rows import Extra

EVERY_POLL = int(Status.OB | Status.CAL)
"""Under these the battery is being used up, and its curve is what is wanted later."""

MINUTE_S = 59.0
"""A poll this long after the last row is stored: with the usual intervals the next one would come after the minute."""

BANDS: dict[str, tuple[float, float]] = {
    "input.voltage": (2.0, 0.0),
    "input.voltage.fault": (2.0, 0.0),
    "input.frequency": (0.2, 0.0),
    "output.voltage": (2.0, 0.0),
    "ups.load": (3.0, 0.0),
    "ups.temperature": (1.0, 0.0),
    "battery.voltage": (0.015, 0.0075),
    "battery.charge": (1.0, 0.0),
    "battery.runtime": (30.0, 0.05),
}
"""How far a value may move before it counts as changed: in its own unit, or as a share of itself, whichever is more.

Mains noise is a volt or two; Megatec units report 0.1 V of a 24 V battery and 0.01 V of a cell (megatec-family.md
section 4), so the battery's band is one step of either.
"""

UNKNOWN = (inf, -inf)
"""Bounds that every value leaves."""


class Kept:
    """What the rows of one device say so far, as bounds within which a reading is no news."""

    __slots__ = ("alarms", "bounds", "extra", "mono_s", "notices", "passed", "status")

    def __init__(self) -> None:
        self.status = -1
        self.alarms: tuple[str, ...] = ()
        self.notices: tuple[Notice, ...] = ()
        self.mono_s = -inf
        self.bounds = dict.fromkeys(BANDS, UNKNOWN)
        self.extra = Extra()
        self.passed: Reading | None = None
        """The latest reading, where it got no row."""

    def outdated_by(self, reading: Reading) -> bool:
        """Whether this reading deserves a row. Costs under 2 µs: it runs for every poll."""
        status = reading.status
        if status != self.status or status & EVERY_POLL or reading.mono_s - self.mono_s >= MINUTE_S:
            return True
        if reading.alarms != self.alarms or reading.notices != self.notices:
            return True
        get = reading.values.get
        missing = reading.missing
        try:
            for name, (low, high) in self.bounds.items():
                value = get(name)
                if value is None:
                    if missing and low <= high and name in missing:
                        return True
                elif not low <= value <= high:  # type: ignore[operator]
                    return True
        except TypeError:
            return True
        return False

    def before(self, reading: Reading) -> Reading | None:
        """The reading that got no row just before this one, which gets one, if this one is a sudden change from it."""
        passed, self.passed = self.passed, None
        if passed is None:
            return None
        if reading.status != passed.status or reading.alarms != passed.alarms:
            return passed
        for name, (step, share) in BANDS.items():
            now, then = reading.values.get(name), passed.values.get(name)
            if isinstance(now, float) and isinstance(then, float) and abs(now - then) > max(step, abs(then) * share):
                return passed
        return None

    def keep(self, reading: Reading) -> None:
        """Take this reading as the newest row. A value that was not asked for this time keeps its band."""
        self.status = reading.status
        self.alarms, self.notices = reading.alarms, reading.notices
        self.mono_s = reading.mono_s
        if self.status & EVERY_POLL:
            return  # the first reading after this has another status, whatever its values are
        values, missing, bounds = reading.values, reading.missing, self.bounds
        for name, (step, share) in BANDS.items():
            value = values.get(name)
            if isinstance(value, float):
                band = max(step, abs(value) * share) if share else step
                bounds[name] = (value - band, value + band)
            elif name in missing:
                bounds[name] = UNKNOWN
