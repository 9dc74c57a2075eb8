"""What one poll of one UPS gave."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from qxfleet.model.notice import Notice, alarm_text
from qxfleet.model.record import record
from qxfleet.model.status import status_text
from qxfleet.model.variables import value_text

Value = float | str


class Origin(enum.Enum):
    """Where a value comes from; whatever is not named is measured by the device."""

    MEASURED = "measured"
    SCALED = "scaled"
    ESTIMATED = "estimated"
    CONFIGURED = "configured"
    AGENT = "agent"


@record
class Reading:
    """All values of one poll cycle, with the time they belong to.

    ``wall_us`` labels (UTC, microseconds); ``mono_s`` is for every decision about time. ``values`` holds what came, in
    the variable list's units; ``missing`` names what was asked for and is not known. ``origins`` names the values that the
    device did not measure itself. ``status`` is made of :class:`~qxfleet.model.status.Status` flags. ``notes`` names
    oddities of the frame ("bit.battery_low unreadable", "input.voltage implausible: 408.0"). ``alarms`` are texts that
    belong to the status itself, ``notices`` what else the device complains about, in its own order.
    """

    device: str
    wall_us: int
    mono_s: float
    status: int
    values: Mapping[str, Value]
    alarms: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()

    def texts(self) -> dict[str, str]:
        """Every variable in NUT's text format, sorted by name, ``ups.status`` and ``ups.alarm`` included."""
        texts = {name: value_text(name, value) for name, value in self.values.items()}
        texts["ups.status"] = status_text(self.status)
        if (self.alarms or self.notices) and (text := alarm_text(self.alarms, self.notices)):
            texts["ups.alarm"] = text
        return dict(sorted(texts.items()))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a device is: its dialect, what it said of itself, and what it will not answer.

    Kept in the store, so that a restart asks two questions instead of twenty. ``facts`` are the values of the ONCE queries
    (ratings, vendor text); ``refused`` the requests the device was asked at least twice and does not know;
    ``packs`` the factor between the reported and the real battery voltage, decided once, on mains.
    """

    dialect: str
    facts: Mapping[str, Value] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    packs: float | None = None
    evidence: tuple[tuple[str, str, str], ...] = ()
