"""Every request, as a type: its name on the wire, its arguments with their bounds, the right that it takes, and its answer.

``right`` is what a ``[[user]]`` of the network needs; ``self``: that it is about them, and that they came with their password;
None: only whoever may open the control socket. Imports nothing heavy: commands that must answer at once make these.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from qxfleet.api import responses
from qxfleet.api.reading import Between, Longest, OrNumber

Name = Annotated[str, Longest(64)]
Text = Annotated[str, Longest(1000)]
Value = Annotated[str, OrNumber(), Longest(1000)]
Targets = Annotated[tuple[str, ...], Longest(1000)]
"""UPS names, ``group:NAME``, ``all``."""
Every = Annotated[float, Between(0.2, 3600)]
Seconds = Annotated[float, Between(0, 10 * 365 * 86400)]
Moment = Annotated[int, Between(0, 1 << 62)]
"""Wall time, microseconds."""


R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Request(Generic[R_co]):
    """Anything that may be asked, and of what type its answer is, or each item of its stream."""

    do: ClassVar[str]
    right: ClassVar[str | None] = None
    stream: ClassVar[bool] = False
    """Answered by item after item, until either side hangs up or it ends by itself."""

    def arguments(self) -> dict[str, Any]:
        """What goes over the wire beside the name."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


# -- the fleet


@dataclass(frozen=True, slots=True)
class About(Request[responses.AgentAbout]):
    """Which agent this is, and who asks."""

    do = "about"
    right = "read"


@dataclass(frozen=True, slots=True)
class Status(Request[responses.FleetStatus]):
    """The fleet, or the UPSes meant; with what links did to mend themselves."""

    do = "status"
    right = "read"
    targets: Targets = ()
    remedies: bool = False


@dataclass(frozen=True, slots=True)
class Watch(Request[responses.FleetStatus]):
    """:class:`Status` again and again."""

    do = "watch"
    right = "read"
    stream = True
    targets: Targets = ()
    every_s: Every = 1.0


@dataclass(frozen=True, slots=True)
class Vars(Request[responses.UpsVars]):
    """Every variable of one UPS."""

    do = "vars"
    right = "read"
    ups: Name


@dataclass(frozen=True, slots=True)
class Commands(Request[responses.CommandsAndLoads]):
    """The instant commands of one UPS."""

    do = "commands"
    right = "read"
    ups: Name


@dataclass(frozen=True, slots=True)
class Settings(Request[responses.Settings]):
    """The writable variables of one UPS."""

    do = "settings"
    right = "read"
    ups: Name


@dataclass(frozen=True, slots=True)
class Command(Request[responses.OrderTold]):
    """Have a UPS do something; the answer is what came of it."""

    do = "command"
    right = "command"
    ups: Name
    name: Name
    value: Value | None = None


@dataclass(frozen=True, slots=True)
class Set(Request[responses.OrderTold]):
    """Change a setting; the answer is what came of it."""

    do = "set"
    right = "set"
    ups: Name
    name: Name
    value: Value


@dataclass(frozen=True, slots=True)
class Force(Request[responses.Forced]):
    """Tell every NUT client of a UPS to shut down."""

    do = "force"
    right = "fsd"
    ups: Name


@dataclass(frozen=True, slots=True)
class Follow(Request[responses.FollowItem]):
    """Events as they happen."""

    do = "follow"
    right = "read"
    stream = True
    targets: Targets = ()


@dataclass(frozen=True, slots=True)
class BatteryReplaced(Request[responses.Replaced]):
    """Another battery is in a UPS since a moment; ``battery`` names one that is known, else it is a new one."""

    do = "battery-replaced"
    ups: Name
    since_us: Moment
    battery: Name | None = None
    type: Name | None = None
    chemistry: Name | None = None
    cells: Annotated[int, Between(1, 10_000)] | None = None
    capacity_ah: Annotated[float, Between(0, 100_000)] | None = None
    made: Moment | None = None
    note: Text | None = None


# -- profiles


@dataclass(frozen=True, slots=True)
class ProfileCheck(Request[responses.Profiles]):
    """How far devices are from profiles; from all of them where none is named."""

    do = "profile-check"
    right = "read"
    names: Targets = ()


@dataclass(frozen=True, slots=True)
class ProfileApply(Request[responses.Applied]):
    """Bring devices to a profile: each setting as it ends."""

    do = "profile-apply"
    right = "set"
    stream = True
    name: Name
    go_on: bool = False


# -- battery tests, schedules, maintenance

Kind = Literal["quick", "deep", "timed"]
Percent = Annotated[int, Between(1, 100)]
Many = Annotated[int, Between(1, 10_000)]


@dataclass(frozen=True, slots=True)
class TestForesee(Request[responses.Foreseen]):
    """What :class:`TestStart` would test now, and what not, and why."""

    do = "test-foresee"
    right = "read"
    targets: Targets
    kind: Kind = "quick"
    for_s: Seconds | None = None
    depth_percent: Percent | None = None
    max_parallel: Many | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class TestStart(Request[responses.WaveItem]):
    """A wave of battery tests, member after member, to its end. Hanging up does not end it."""

    do = "test-start"
    right = "test"
    stream = True
    targets: Targets
    kind: Kind = "quick"
    for_s: Seconds | None = None
    depth_percent: Percent | None = None
    max_parallel: Many | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class TestStop(Request[responses.Stopped]):
    """End the tests of UPSes."""

    do = "test-stop"
    right = "test"
    targets: Targets


@dataclass(frozen=True, slots=True)
class TestResults(Request[responses.Tests]):
    """Tests that were, and waves that are under way."""

    do = "test-results"
    right = "read"
    targets: Targets = ()
    since_us: Moment | None = None
    limit: Many | None = None
    curve: bool = False


@dataclass(frozen=True, slots=True)
class Schedules(Request[responses.Schedules]):
    """What the calendar does, and when next."""

    do = "schedules"
    right = "read"


@dataclass(frozen=True, slots=True)
class ScheduleForesee(Request[responses.Foreseen | responses.ScheduledAct]):
    """What a schedule would do now."""

    do = "schedule-foresee"
    right = "read"
    name: Name


@dataclass(frozen=True, slots=True)
class ScheduleAct(Request[responses.ScheduledAct]):
    """Do now what a schedule of commands or reports does."""

    do = "schedule-act"
    name: Name


@dataclass(frozen=True, slots=True)
class ScheduleRun(Request[responses.WaveItem]):
    """Run a schedule of tests now, to its end."""

    do = "schedule-run"
    stream = True
    name: Name


@dataclass(frozen=True, slots=True)
class Maintenance(Request[responses.Maintenance]):
    """UPSes in maintenance."""

    do = "maintenance"
    right = "read"


@dataclass(frozen=True, slots=True)
class MaintenanceStart(Request[responses.Begun]):
    """Put UPSes into maintenance."""

    do = "maintenance-start"
    right = "set"
    targets: Targets
    for_s: Seconds | None = None
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class MaintenanceStop(Request[responses.Stopped]):
    """End the maintenance of UPSes."""

    do = "maintenance-stop"
    right = "set"
    targets: Targets


# -- the staged shutdown


@dataclass(frozen=True, slots=True)
class ShutdownStatus(Request[responses.Shutdown]):
    """How it stands."""

    do = "shutdown-status"
    right = "read"


@dataclass(frozen=True, slots=True)
class ShutdownFollow(Request[responses.Shutdown]):
    """How it stands, again and again."""

    do = "shutdown-follow"
    right = "read"
    stream = True
    every_s: Every = 1.0


@dataclass(frozen=True, slots=True)
class ShutdownPreview(Request[responses.Preview]):
    """What a start with these targets would stop."""

    do = "shutdown-preview"
    right = "read"
    targets: Targets


@dataclass(frozen=True, slots=True)
class ShutdownStart(Request[responses.ShutdownStarted]):
    """Begin a staged shutdown, or a drill of one."""

    do = "shutdown-start"
    right = "shutdown"
    targets: Targets
    cut: bool = False
    drill: bool = False


@dataclass(frozen=True, slots=True)
class ShutdownCancel(Request[responses.Cancelled]):
    """Stop nothing more, and bring back what was stopped."""

    do = "shutdown-cancel"
    right = "shutdown"


@dataclass(frozen=True, slots=True)
class ShutdownEnd(Request[responses.ShutdownEnded]):
    """End a run that people settled by hand."""

    do = "shutdown-end"
    right = "shutdown"
    run: Annotated[int, Between(1, 1 << 62)]
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class ShutdownArm(Request[responses.Armed]):
    """Arm or disarm."""

    do = "shutdown-arm"
    right = "shutdown"
    armed: bool
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class ShutdownHistory(Request[responses.Runs]):
    """Runs that were: one, or the last so many."""

    do = "shutdown-history"
    right = "read"
    run: Annotated[int, Between(1, 1 << 62)] | None = None
    most: Annotated[int, Between(1, 1000)] = 20


@dataclass(frozen=True, slots=True)
class ShutdownOutlook(Request[responses.Outlook]):
    """What a rehearsal wants to know: how long batteries last, how long stops took, whether the plan is armed."""

    do = "shutdown-outlook"
    right = "read"


# -- tokens


@dataclass(frozen=True, slots=True)
class TokenCreate(Request[responses.NewToken]):
    """Make a token; the answer is the only place where its secret ever stands."""

    do = "token-create"
    right = "self"
    name: Name
    user: Name
    allow: Targets | None = None
    expires_s: Seconds | None = None


@dataclass(frozen=True, slots=True)
class TokenList(Request[responses.Tokens]):
    """Every token, or those of one user."""

    do = "token-list"
    right = "self"
    user: Name | None = None


@dataclass(frozen=True, slots=True)
class TokenRevoke(Request[responses.Revoked]):
    """End a token, if it is that user's where one is named."""

    do = "token-revoke"
    right = "self"
    name: Name
    user: Name | None = None


REQUESTS: dict[str, type[Request[Any]]] = {each.do: each for each in Request.__subclasses__()}
"""By their names on the wire."""
