"""What happened: events with a begin and an end, and the things sessions report."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from qxfleet.model.clock import iso
from qxfleet.model.reading import Identity, Reading, Value


class EventKind(enum.Enum):
    """The drawer an event belongs in."""

    STATUS = "status"
    WARNING = "warning"
    LINK = "link"
    TEST = "test"
    COMMAND = "command"
    SETTING = "setting"
    AGENT = "agent"
    SHUTDOWN = "shutdown"
    MAINTENANCE = "maintenance"


class Severity(enum.IntEnum):
    """How loud an event is."""

    INFO = 0
    NOTICE = 1
    WARNING = 2
    CRITICAL = 3


class Phase(enum.Enum):
    """Whether an event opens a condition, closes it, or stands alone."""

    BEGIN = "begin"
    END = "end"
    POINT = "point"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a UPS (``ups`` is None: to the agent itself).

    ``name`` is the condition or action (``on-battery``, ``link-lost``, ``test.battery.start.quick``); ``value`` the phase, the
    outcome of an order, or a figure, as text.
    """

    wall_us: int
    ups: str | None
    kind: EventKind
    name: str
    value: str
    text: str
    severity: Severity = Severity.INFO
    phase: Phase = Phase.POINT

    def as_json(self) -> dict[str, str | None]:
        """The contract's shape of an event."""
        return {
            "time": iso(self.wall_us), "ups": self.ups, "kind": self.kind.value, "name": self.name, "value": self.value,
            "text": self.text,
        }  # fmt: skip


class Outcome(enum.Enum):
    """What became of an order; never "OK" without evidence."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNSUPPORTED = "unsupported"
    NO_ANSWER = "no-answer"
    UNCONFIRMED = "unconfirmed"


@dataclass(frozen=True, slots=True)
class OrderResult:
    """The end of one order or setting. ``sent`` is what went over the wire, empty if nothing did."""

    ups: str
    name: str
    value: str | None
    outcome: Outcome
    reply: str | None = None
    sent: str = ""
    text: str = ""

    def as_json(self) -> dict[str, str | None]:
        """The contract's shape of ``command --json`` and ``set --json``."""
        return {
            "ups": self.ups, "name": self.name, "value": self.value, "outcome": self.outcome.value, "reply": self.reply,
        }  # fmt: skip


class Link(enum.Enum):
    """How contact with a device stands."""

    DETECTING = "detecting"
    ONLINE = "online"
    STALE = "stale"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class LinkChange:
    """Contact with a device changed; ``reason`` is one sentence for people."""

    device: str
    wall_us: int
    mono_s: float
    link: Link
    reason: str = ""


@dataclass(frozen=True, slots=True)
class IdentityLearned:
    """A device was recognised, or more became known about it."""

    device: str
    wall_us: int
    mono_s: float
    identity: Identity
    port: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A poll went wrong without costing the link: ``reason`` is a ReplyError's class and reason, ``frame`` what came."""

    device: str
    wall_us: int
    mono_s: float
    reason: str
    frame: bytes = b""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something worth an entry in the event log that a session noticed or did by itself; ``name`` and ``value`` as in Event."""

    device: str
    wall_us: int
    mono_s: float
    name: str
    value: str
    text: str
    severity: Severity = Severity.INFO
    kind: EventKind = EventKind.SETTING


Observation = Reading | LinkChange | IdentityLearned | Trouble | Remark


@dataclass(frozen=True, slots=True)
class SettingInfo:
    """One writable variable as ``settings`` shows it. ``choices`` or ``low``/``high`` (in the variable's unit) bound it."""

    name: str
    value: Value | None
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = field(default=())
    description: str = ""
