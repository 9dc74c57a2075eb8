"""What the fleet knows of one device at this moment: one immutable value per device, replaced, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qxfleet.model.events import Link
from qxfleet.model.reading import Identity, Reading
from qxfleet.model.record import record


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that began and has not ended: on battery, overload, …

    ``pending_since_s`` (monotonic) is set while the opposite is being waited for; ``flips`` counts returns hidden by that
    wait, so that nothing is lost from the event's text.
    """

    name: str
    open: bool
    began_us: int
    since_s: float
    pending_since_s: float | None = None
    pending_us: int = 0
    flips: int = 0
    source: str = ""
    """The variable that says so; empty for a condition that follows from several."""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Counters:
    """What went well and what did not since the agent started."""

    silent: int = 0
    malformed: int = 0
    implausible: int = 0
    refused: int = 0
    links_lost: int = 0


@record
class DeviceState:
    """One device as every face shows it. ``status`` and ``alarms`` are what is published, which may hold back a bit that is
    not trusted yet; ``alarm`` is all of that in NUT's one line. ``reading`` is the last good one and keeps its own time."""

    name: str
    link: Link = Link.DETECTING
    link_since_us: int = 0
    link_reason: str = ""
    identity: Identity | None = None
    reading: Reading | None = None
    status: int = 0
    alarms: tuple[str, ...] = ()
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    counters: Counters = Counters()
    shutdown_bit_trusted: bool = False
    shutdown_ordered: bool = False
    charging_since_s: float | None = None
    remedies: Mapping[str, int] = field(default_factory=dict)
    """What its link did to mend itself, how often since the agent started; only links that can, do."""
    alarm: str = ""
    told: Mapping[str, str] = field(default_factory=dict)
    """Variables that the agent itself knows of it: the result and the date of its last battery test."""
    test_until_s: float | None = None
    """Until then (monotonic) a battery test may run, by whoever started it; beyond it CAL excuses nothing any more."""
