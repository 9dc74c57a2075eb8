"""Every answer, as a type: what the control socket, the JSON API and the command line's ``--json`` have in common.

An answer is a plain dict all the way; these say what is in it, to mypy and to whoever reads the API's OpenAPI document. Imports
nothing heavy: commands that must answer at once read by these. What only one of the interfaces tells stands in a type of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict  # typing's own says too little to pydantic before Python 3.12

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Told:
    """What a member means, in a sentence, and an example: for the OpenAPI document, which asks by this method."""

    text: str = ""
    example: object = _NOTHING
    bounds: tuple[int, int] | None = None

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        schema = {**handler(core_schema)}
        if self.text:
            schema["description"] = self.text
        if self.example is not _NOTHING:
            schema["examples"] = [self.example]
        if self.bounds is not None:
            schema["minimum"], schema["maximum"] = self.bounds
        return schema


Time = Annotated[str, Told("UTC, ISO 8601 with Z.", "2026-05-01T12:00:00.000Z")]
UpsName = Annotated[str, Told("Name of a UPS.", "rack1-a")]
AgentName = Annotated[str, Told(example="row-a")]
Value = float | str
"""Numbers in the variable's unit; text where the variable is text."""

LinkState = Literal["detecting", "online", "stale", "lost"]
OriginName = Literal["measured", "scaled", "estimated", "configured"]
MemberState = Literal["waiting", "testing", "tested", "refused"]
Verdict = Literal["passed", "failed", "aborted", "no-effect", "inconclusive"]


class StateTold(TypedDict):
    """What the agent adds to its answers while its state takes no records."""

    state_trouble: NotRequired[Annotated[
        str, Told("Since when the state takes no records, and why.", "the state takes no records: disk full; …")
    ]]


# -- the agent


class AgentAbout(StateTold):
    """Which agent this is, and who asks, as the control socket says it."""

    agent: AgentName
    version: str
    pid: int
    you: str


class About(TypedDict):
    """Which agent this is, and who you are to it."""

    agent: AgentName
    version: Annotated[str, Told(example="0.1.0")]
    time: Time
    you: Annotated[str, Told("Your user, and your token behind a slash.", "operator/grafana")]
    rights: Annotated[list[str], Told("What you may do.", ["read", "command"])]


# -- the fleet


class UpsFacts(TypedDict):
    """One UPS now, its variables apart."""

    name: UpsName
    description: Annotated[str, Told(example="Rack 1, feed A")]
    groups: Annotated[list[str], Told(example=["rack1", "feed-a"])]
    port: Annotated[str, Told(example="/dev/ttyS0")]
    dialect: Annotated[str, Told(example="voltronic")]
    state: Annotated[LinkState, Told("How contact stands.")]
    status: Annotated[str, Told("NUT's ups.status.", "OL CHRG")]
    alarms: Annotated[list[str], Told(example=[])]
    age_s: Annotated[float | None, Told("Age of its last good reading; null before the first.", 0.8)]


class UpsStatus(UpsFacts):
    """One UPS of ``status --json``: variables in NUT's text format."""

    variables: dict[str, str]


class Ups(UpsFacts):
    """One UPS now."""

    reason: Annotated[str, Told("Why, where contact is not good.", "")]
    since: Annotated[Time | None, Told("Since when contact stands so.")]
    variables: Annotated[
        dict[str, Value], Told("What it last told, in NUT's names.", {"input.voltage": 230.1, "battery.charge": 100.0})
    ]


class Shipping(TypedDict):
    """How shipping to the fleet store goes: what waits, and since when."""

    state: Annotated[str, Told("ok, away, refused, behind or starting.", "ok")]
    trouble: str | None
    since: Time
    records: int | None
    readings: int | None
    oldest_s: float | None
    shipped: int


class FleetStatus(StateTold):
    """``status --json``."""

    agent: AgentName
    time: Time
    ups: list[UpsStatus]
    fleet_store: NotRequired[Shipping]
    remedies: NotRequired[dict[str, dict[str, int]]]


class Fleet(TypedDict):
    """Every UPS now."""

    agent: AgentName
    time: Time
    ups: list[Ups]


class Vars(TypedDict):
    """``vars --json``: variables in NUT's text format, and where each comes from."""

    ups: UpsName
    variables: dict[str, str]
    origins: dict[str, str]


class UpsVars(Vars):
    """The same with how contact stands."""

    state: LinkState
    reason: str
    age_s: float | None


class Variable(TypedDict):
    """One variable of one UPS."""

    value: Annotated[Value, Told(example=230.1)]
    text: Annotated[str, Told("As NUT's clients see it.", "230.1")]
    unit: Annotated[str, Told(example="V")]
    origin: Annotated[OriginName, Told("Where the value comes from.")]
    description: Annotated[str, Told(example="Input voltage")]


class Variables(TypedDict):
    """What one UPS last told."""

    ups: UpsName
    state: LinkState
    age_s: Annotated[float | None, Told(example=0.8)]
    variables: dict[str, Variable]


class Bounds(TypedDict):
    """Seconds that a command takes."""

    min: Annotated[float, Told(example=12.0)]
    max: Annotated[float, Told(example=600.0)]
    default: Annotated[float | None, Told(example=30.0)]


class Command(TypedDict):
    """One instant command."""

    name: Annotated[str, Told(example="test.battery.start.quick")]
    description: Annotated[str, Told(example="Start a quick battery test")]
    hazard: Annotated[str, Told("What it may cost: none, battery or load.", "battery")]
    value: Annotated[Bounds | None, Told("Its bounds, if it takes a value.")]


class Commands(TypedDict):
    """The instant commands of one UPS."""

    ups: UpsName
    commands: list[Command]


class CommandsAndLoads(Commands):
    """The same with the loads that hang on the UPS."""

    feeds: list[str]


class Setting(TypedDict):
    """One writable variable; bounded by ``min`` and ``max``, or by ``choices``."""

    value: Annotated[str | None, Told("As NUT's clients see it; null: not known.", "180")]
    min: Annotated[float | None, Told(example=0.0)]
    max: Annotated[float | None, Told(example=5940.0)]
    choices: Annotated[list[str], Told(example=[])]
    description: Annotated[str, Told(example="Interval to wait before restarting the load")]


class Settings(TypedDict):
    """The writable variables of one UPS."""

    ups: UpsName
    settings: dict[str, Setting]


class OrderOutcome(TypedDict):
    """``command --json`` and ``set --json``."""

    ups: UpsName
    name: str
    value: str | None
    outcome: Literal["accepted", "rejected", "unsupported", "no-answer", "unconfirmed"]
    reply: str | None


class OrderTold(OrderOutcome):
    """The same in whole: ``sent`` is what went over the wire, empty if nothing did."""

    sent: str
    text: str


class Outcome(TypedDict):
    """What became of a command or setting. Status 200: accepted; 202: sent, but nothing shows that the UPS acted."""

    ups: UpsName
    name: Annotated[str, Told(example="test.battery.start.quick")]
    value: Annotated[str | None, Told(example=None)]
    outcome: Literal["accepted", "unconfirmed"]
    reply: Annotated[str | None, Told("What the UPS answered, as it came.", None)]
    text: Annotated[str, Told(example="a later reading shows the test running")]


class Forced(TypedDict):
    """A UPS whose NUT clients are told to shut down."""

    ups: UpsName


class FleetUps(TypedDict):
    """One UPS of ``status --fleet --json`` as the fleet store knows it; ``age_s`` null: it never read anything."""

    name: UpsName
    agent: AgentName
    site: str
    agent_age_s: float
    age_s: float | None
    status: str
    variables: dict[str, str]


class AgentItem(TypedDict):
    """One agent of ``fleet status --json``."""

    name: AgentName
    site: str
    version: str
    age_s: float
    armed: bool | None
    ups: int


class Agents(TypedDict):
    """``fleet status --json``."""

    time: Time
    agents: list[AgentItem]


class FleetView(Agents):
    """``status --fleet --json``."""

    ups: list[FleetUps]


# -- what was


class Point(TypedDict):
    """One interval of a history."""

    time: Time
    min: Annotated[float, Told(example=229.4)]
    mean: Annotated[float, Told(example=230.02)]
    max: Annotated[float, Told(example=230.9)]
    count: Annotated[int, Told("Readings behind it.", 30)]


class History(TypedDict):
    """What one variable was. Intervals without a reading are absent."""

    ups: UpsName
    variable: Annotated[str, Told(example="input.voltage")]
    unit: Annotated[str, Told(example="V")]
    every_s: Annotated[float, Told("Length of an interval.", 60.0)]
    points: list[Point]


class EventShape(TypedDict):
    """One line of ``events --json``; ``ups`` null: it happened to the agent itself."""

    time: Time
    ups: Annotated[str | None, Told(example="rack1-a")]
    kind: Annotated[str, Told(example="status")]
    name: Annotated[str, Told(example="on-battery")]
    value: Annotated[str, Told(example="begin")]
    text: Annotated[str, Told(example="mains failed")]


class FleetEvent(EventShape):
    """The same with its agent."""

    agent: AgentName


class EventFollowed(TypedDict):
    """One item of ``follow``: an event, how loud it is, and whether the database has it for good."""

    event: EventShape
    severity: int
    stored: bool


class FollowItem(TypedDict, total=False):
    """One item of ``follow``: first whom it is ``following``, then each event as :class:`EventFollowed` has it."""

    following: AgentName
    event: EventShape
    severity: int
    stored: bool


class EventItem(TypedDict):
    """One thing that happened; ``ups`` null: to the agent itself."""

    id: Annotated[int | None, Told("Grows; null while the database has not got it.", 4711)]
    time: Time
    ups: Annotated[str | None, Told(example="rack1-a")]
    kind: Annotated[str, Told(example="status")]
    name: Annotated[str, Told(example="on-battery")]
    value: Annotated[str, Told(example="begin")]
    text: Annotated[str, Told(example="mains failed")]
    severity: Annotated[int, Told("0 information, 1 notice, 2 warning, 3 critical.", 2, (0, 3))]
    phase: Literal["begin", "end", "point"]


class Events(TypedDict):
    """What happened, oldest first."""

    events: list[EventItem]


class Act(TypedDict):
    """One entry of the audit trail."""

    time: Time
    who: Annotated[str, Told(example="operator")]
    where: Annotated[str, Told(example="http 192.0.2.7")]
    act: Annotated[str, Told("order, login, token, test, arm, shutdown, maintenance, …", "order")]
    target: Annotated[str, Told(example="rack1-a")]
    name: Annotated[str, Told(example="beeper.mute")]
    value: Annotated[str | None, Told(example=None)]
    outcome: Annotated[str | None, Told("Null: under way, or its end was never known.", "accepted")]
    text: Annotated[str, Told(example="")]


class FleetAct(Act):
    """The same with its agent."""

    agent: AgentName


class Audit(TypedDict):
    """Who did what, oldest first."""

    audit: list[Act]


# -- batteries


class CapacityShape(TypedDict):
    """One measured capacity, in percent of that when new."""

    time: Time
    percent: float
    error: float
    method: Annotated[str, Told(example="full")]


class Rest(TypedDict):
    """How a battery was kept between its discharges."""

    days: float | None
    ageing: float | None
    temperature: float | None
    float_voltage: float | None
    load: float | None


class Evidence(TypedDict):
    """What a judgement rests on."""

    verdict: Annotated[str, Told(example="good")]
    reasons: Annotated[list[str], Told(example=["capacity 88 % in May"])]
    next_step: Annotated[str, Told("The cheapest thing that would tell more.", "test again within a year")]
    data_problems: list[str]
    health_error: float | None
    replace_by_basis: str | None
    battery: Annotated[str, Told("Its name in the register.", "rack1-a-1")]
    type: str | None
    chemistry: Annotated[str, Told(example="vrla")]
    cells: int | None
    capacity_ah: float | None
    installed: Time | None
    capacities: list[CapacityShape]
    loaded_voltage_per_cell: list[float | None]
    resistance_ratio: float | None
    rest: Rest | None


class Battery(TypedDict):
    """What one battery is worth; null where the data can't carry a figure."""

    ups: UpsName
    health_percent: Annotated[float | None, Told("Capacity now, of that when new.", 87.5)]
    trend_percent_per_year: Annotated[float | None, Told(example=-4.2)]
    replace_by: Time | None
    replace_by_low: Annotated[Time | None, Told("The earliest date within the error.")]
    replace_by_high: Time | None
    confidence: Annotated[
        str | None, Told("A measured capacity, B partial discharge, C indicators only, D age only.", "B")
    ]
    evidence: Annotated[Evidence, Told("Verdict, reasons, the cheapest next step, and what they rest on.")]


class Batteries(TypedDict):
    """Every battery that is in a UPS."""

    batteries: list[Battery]


class Placement(TypedDict):
    """One line of ``battery list --json``."""

    battery: str
    ups: UpsName
    since: Time
    until: Time | None
    known: str
    type: str | None
    chemistry: str
    cells: int | None
    capacity_ah: float | None
    made: Time | None
    note: str | None


class Replaced(TypedDict):
    """Another battery is in a UPS."""

    ups: UpsName
    battery: str
    before: str | None
    since: Time


class DischargeShape(TypedDict):
    """One discharge of ``outages --json``."""

    ups: UpsName
    begin: Time
    end: Time | None
    seconds: float | None
    cause: str
    depth_percent: float | None
    used_percent: float | None
    voltage_before: float | None
    voltage_lowest: float | None
    load_percent: float | None
    energy_wh: float | None
    low_battery_after_s: float | None
    recharge_s: float | None
    capacity_percent: float | None
    test: int | None
    id: int | None


class SampleShape(TypedDict):
    """One point of a discharge's curve."""

    time: Time
    battery_voltage: float | None
    load_percent: float | None
    charge_percent: float | None
    input_voltage: float | None
    temperature: float | None


# -- profiles

Drift = TypedDict("Drift", {"ups": str, "setting": str, "wanted": str, "is": str | None, "settable": bool, "why": str})
"""One setting of a device that differs from its profile."""


class Profile(TypedDict):
    """One profile of ``profile check --json``."""

    profile: str
    ups: list[str]
    settings: dict[str, str]
    drift: list[Drift]


class Profiles(TypedDict):
    """``profile check --json``."""

    profiles: list[Profile]


class ProfileStep(TypedDict):
    """One setting of ``profile apply --json``."""

    ups: UpsName
    setting: str
    wanted: str
    was: str | None
    outcome: Literal["accepted", "rejected", "unsupported", "no-answer", "unconfirmed"]
    reply: str | None
    sent: str
    text: str


class Applied(TypedDict, total=False):
    """One item of a profile's application: first what it is about, then each ``step``, at last how it ``ended``."""

    profile: str
    ups: list[str]
    settings: dict[str, str]
    step: ProfileStep
    ended: Literal["complete", "refused", "stopped"]
    refused: int


# -- battery tests, schedules, maintenance


class Test(TypedDict):
    """One battery test, or one that is under way."""

    id: Annotated[int, Told(example=12)]
    ups: UpsName
    test: Annotated[str, Told(example="quick test")]
    kind: Annotated[str, Told("quick, deep or timed.", "quick")]
    for_s: float | None
    depth_percent: int | None
    started: Time
    ended: Annotated[Time | None, Told("Null: not over.")]
    verdict: Verdict | None
    text: Annotated[str, Told(example="the battery carried the load")]
    actor: Annotated[str, Told(example="schedule:weekly-quick")]
    schedule: str | None
    wave: int | None
    evidence: Annotated[dict[str, Any], Told(example={"lowest_voltage": 25.1})]
    curve: NotRequired[Annotated[list[dict[str, Any]], Told("Where it was asked for: time, status, and what was read.")]]


class WaveMember(TypedDict):
    """One UPS of a wave."""

    ups: UpsName
    state: MemberState
    verdict: Annotated[str | None, Told(example=None)]
    text: Annotated[str, Told(example="after rack1-a")]
    test: Annotated[int | None, Told("Number of its test.", 12)]


class Wave(TypedDict):
    """Tests of many UPSes, never more at once than may be."""

    id: Annotated[int, Told(example=3)]
    schedule: Annotated[str | None, Told(example="weekly-quick")]
    test: Annotated[str, Told(example="quick test")]
    actor: Annotated[str, Told(example="http:operator@192.0.2.7")]
    started: Time
    closes: Time | None
    outcome: Annotated[str | None, Told("Null: under way.", None)]
    text: Annotated[str, Told(example="")]
    ups: list[WaveMember]


class Tests(TypedDict):
    """Results of battery tests, oldest first, and the waves that are under way."""

    tests: list[Test]
    waves: list[Wave]


class Started(TypedDict):
    """A wave that has begun; `/tests` shows how it goes on."""

    wave: Wave


class WaveItem(TypedDict, total=False):
    """One item of a wave: first the ``wave``, then each ``member`` that changed, at last how it ``ended``."""

    wave: Wave
    member: WaveMember
    waiting: dict[str, str]
    ended: str | None
    text: str


class Stopped(TypedDict):
    """UPSes for which something was ended."""

    stopped: Annotated[list[str], Told(example=["rack1-a"])]


class ForeseenUps(TypedDict):
    """Whether a UPS would be tested now, and why not."""

    ups: UpsName
    tested: bool
    after: str | None
    reasons: list[str]
    begins_in_s: float | None


class Foreseen(TypedDict):
    """What a wave would do now."""

    do: NotRequired[Literal["test"]]
    schedule: str | None
    test: str
    ups: list[ForeseenUps]
    tested: int
    not_tested: int
    max_parallel: int
    recharge_s: float
    needs_s: float
    window_s: float | None


class ScheduledAct(TypedDict):
    """What a schedule of commands or reports does."""

    schedule: str
    do: Literal["command", "report"]
    what: str
    ups: list[str]


class ScheduleItem(TypedDict):
    """One schedule of the configuration and when it comes next."""

    name: Annotated[str, Told(example="weekly-quick")]
    do: Annotated[str, Told(example="test")]
    what: Annotated[str, Told(example="quick test")]
    cron: Annotated[str, Told(example="0 3 * * sun")]
    timezone: Annotated[str, Told(example="Europe/Berlin")]
    ups: Annotated[list[str], Told(example=["rack1-a"])]
    window_s: float | None
    missed: Annotated[str, Told("What becomes of a date at which the agent did not run.", "skip")]
    next: Annotated[list[str], Told(example=["2026-05-03T03:00:00.000Z"])]
    last: Annotated[str | None, Told(example=None)]


class Schedules(TypedDict):
    """What is done by the calendar."""

    schedules: list[ScheduleItem]


class Window(TypedDict):
    """Maintenance of one UPS: its alarms are quiet and it is not tested."""

    ups: UpsName
    since: Time
    until: Annotated[Time | None, Told("Null: until somebody ends it.")]
    actor: Annotated[str, Told(example="http:operator@192.0.2.7")]
    reason: Annotated[str, Told(example="new batteries")]


class Maintenance(TypedDict):
    """Every window that is open or to come."""

    maintenance: list[Window]


class Begun(TypedDict):
    """UPSes for which maintenance has begun."""

    started: Annotated[list[str], Told(example=["rack1-a"])]


# -- the staged shutdown

Taken = TypedDict(
    "Taken",
    {"since": str | None, "for_s": float | None, "why": str | None, "try": int | None, "answer": str | None, "text": str | None},
)
"""The last step that was taken with a load or a UPS; null where there was none."""


class LoadNow(Taken):
    """One load that is concerned."""

    load: Annotated[str, Told(example="db-1")]
    phase: Annotated[str, Told(example="stopping")]
    stands: Annotated[str, Told("The phase in words.", "stopping")]
    up: bool | None
    fed_by: list[str]
    after: list[str]
    limit_s: float
    by_hand: str | None
    waits_for: list[str]
    says: Annotated[str, Told("What there is to say beside the phase.", "for 32 s of at most 2 min")]


class UpsNow(Taken):
    """One UPS that is concerned."""

    ups: UpsName
    phase: Annotated[str, Told(example="told")]
    stands: Annotated[str, Told("The phase in words.", "counts down to its cut")]
    mains: str | None
    contact: bool
    charge: float | None
    runtime_s: float | None
    left: Annotated[str, Told("The runtime in words; empty where it is not known.", "12 min")]
    low_battery: bool


class RunNow(TypedDict):
    """The run that is under way."""

    run: int | None
    began: Time | None
    for_s: float | None
    steps: int
    armed: bool
    cancelled: bool
    ordered_by: str | None
    drill: bool
    says: Annotated[str, Told("All of that in one line.", "run 2, begun by the plan 3 min ago, 14 steps so far")]


class Arming(TypedDict):
    """How arming stands."""

    armed: Annotated[bool, Told("Unarmed it writes what it would do, and touches nothing.", True)]
    armed_by: Annotated[str, Told(example="http:operator@192.0.2.7")]
    armed_since: Time | None
    armed_reason: Annotated[str, Told(example="drill of May passed")]


class Armed(Arming):
    """The same, whether a run that acts goes on, and whether a restart would know of it."""

    running_armed: bool
    kept: Annotated[bool, Told("Whether it is on record; if not, an agent that starts again before is as it was.", True)]


class ShutdownDocument(Arming):
    """How the staged shutdown stands, without whose it is."""

    advice: Annotated[str, Told("What an operator can do now.", "")]
    headline: Annotated[str, Told(example="no shutdown is under way (armed); mains are good everywhere")]
    forced: Annotated[dict[str, str], Told("UPSes whose NUT clients are told to shut down, and by whom.", {})]
    run: Annotated[RunNow | None, Told("The run under way.", None)]
    loads: Annotated[list[LoadNow], Told(example=[])]
    upses: Annotated[list[UpsNow], Told(example=[])]
    by_hand: Annotated[dict[str, str], Told("What only a person can do.", {})]
    counts: Annotated[dict[str, int], Told("Loads by phase.", {})]
    loads_configured: int
    cut_told: Annotated[bool, Told("Whether a UPS was told to cut.", False)]


class Shutdown(ShutdownDocument, StateTold):
    """How the staged shutdown stands."""

    agent: AgentName
    time: Time


RunStep = TypedDict(
    "RunStep",
    {"number": int, "act": Annotated[str, Told(example="stop")], "target": Annotated[str, Told(example="db-1")], "try": int,
     "why": Annotated[str, Told(example="feed-a is on battery")], "begun": Time, "answer": str | None, "result": str | None,
     "ended": Time | None, "took_s": float | None, "for_s": float | None, "limit_s": float | None, "text": str | None,
     "watched": Annotated[bool, Told("Whether the configuration says by what the load is seen to be down.")]},
)  # fmt: skip
"""One step of a run: what it took, and what it was given."""


class Run(TypedDict):
    """One run of the staged shutdown."""

    run: int
    kind: Literal["drill", "ordered", "outage"]
    armed: bool
    actor: Annotated[str, Told(example="shutdown")]
    started: Time
    ended: Time | None
    outcome: str | None
    text: Annotated[str, Told("How it ended.", "all are back")]
    steps: list[RunStep]


class Runs(TypedDict):
    """Runs of the staged shutdown, the last first, with every step."""

    runs: Annotated[list[Run], Told(example=[])]


class Preview(TypedDict):
    """What a start with these targets would stop."""

    loads: Annotated[list[str], Told(example=["app-1", "db-1"])]
    armed: bool
    running: bool
    agent: AgentName


class ShutdownStarted(TypedDict):
    """A shutdown that has begun."""

    run: Annotated[int | None, Told(example=7)]
    loads: Annotated[list[str], Told(example=["app-1", "db-1"])]
    armed: bool


class Cancelled(TypedDict):
    """What cancelling means now."""

    text: Annotated[
        str, Told(example="nothing more is stopped; what was stopped is started again as soon as its power is good")
    ]


class ShutdownEnded(TypedDict):
    """A run that people settled by hand."""

    run: int
    text: Annotated[str, Told("How it ended.", "ended by cli:ann; 3 loads stopped; no UPSes cut; all are back; it took 9 min")]


class UpsOutlook(TypedDict):
    """What is known of one UPS: how long it lasts or why that is not known, what it carries, and which orders it takes."""

    runtime_s: float | None
    runtime_low_s: float | None
    charge: float | None
    load_w: float | None
    rated_w: float | None
    orders: list[str] | None
    unknown: str | None


class Outlook(TypedDict):
    """What a rehearsal wants to know."""

    armed: bool | None
    ups: dict[str, UpsOutlook]
    learned_s: dict[str, float]


# -- who may


class Token(TypedDict):
    """One token, without its secret."""

    name: Annotated[str, Told(example="grafana")]
    user: Annotated[str, Told(example="operator")]
    allow: Annotated[list[str] | None, Told("Its rights; null: all of its user's.", ["read"])]
    created: Time
    expires: Annotated[Time | None, Told("Null: never.")]
    used: Annotated[Time | None, Told("When it was used last, to the minute; null: not yet.")]


class NewToken(Token):
    """A token that was just made: the only time its secret is shown."""

    token: Annotated[str, Told(example="qxf_3mVb0y5Xk2rJwQn8TzL1hPcD6sFgA9uEoI4tYxR7KbM")]


class Tokens(TypedDict):
    """Your tokens."""

    tokens: list[Token]


class Revoked(TypedDict):
    """A token that is no longer."""

    name: str
    revoked: bool


class UserItem(TypedDict):
    """One user of the configuration."""

    name: Annotated[str, Told(example="operator")]
    rights: Annotated[list[str], Told(example=["command", "read"])]
    instcmds: Annotated[list[str], Told("The only commands they may give; empty: every one, if any.", [])]


class Users(TypedDict):
    """Who may log in."""

    users: list[UserItem]
