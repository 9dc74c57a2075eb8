"""The documents of batteries, battery tests, schedules, maintenance and the staged shutdown, with an example of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qxfleet.interfaces.web.models import Time, UpsName

Target = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^(group:)?[A-Za-z0-9._-]+$")]
Targets = Annotated[
    list[Target], Field(min_length=1, max_length=1000, description="UPS names, `group:NAME`, `all`.", examples=[["group:feed-a"]])
]


class Battery(BaseModel):
    """What one battery is worth; null where the data can't carry a figure."""

    ups: UpsName
    health_percent: float | None = Field(description="Capacity now, of that when new.", examples=[87.5])
    trend_percent_per_year: float | None = Field(examples=[-4.2])
    replace_by: Time | None
    replace_by_low: Time | None = Field(description="The earliest date within the error.")
    replace_by_high: Time | None
    confidence: str | None = Field(
        description="A measured capacity, B partial discharge, C indicators only, D age only.", examples=["B"]
    )
    evidence: dict[str, Any] = Field(
        description="Verdict, reasons, the cheapest next step, and what they rest on.",
        examples=[{"verdict": "good", "reasons": ["capacity 88 % in May"], "next_step": "test again within a year"}],
    )


class Batteries(BaseModel):
    """Every battery that is in a UPS."""

    batteries: list[Battery]


class Test(BaseModel):
    """One battery test, or one that is under way."""

    model_config = ConfigDict(extra="allow")

    id: int = Field(examples=[12])
    ups: UpsName
    test: str = Field(examples=["quick test"])
    started: Time
    ended: Time | None = Field(description="Null: not over.")
    verdict: Literal["passed", "failed", "aborted", "no-effect", "inconclusive"] | None
    text: str = Field(examples=["the battery carried the load"])
    actor: str = Field(examples=["schedule:weekly-quick"])
    evidence: dict[str, Any] = Field(examples=[{"lowest_voltage": 25.1}])


class WaveMember(BaseModel):
    """One UPS of a wave."""

    ups: UpsName
    state: Literal["waiting", "testing", "tested", "refused"]
    verdict: str | None = Field(examples=[None])
    text: str = Field(examples=["after rack1-a"])
    test: int | None = Field(description="Number of its test.", examples=[12])


class Wave(BaseModel):
    """Tests of many UPSes, never more at once than may be."""

    model_config = ConfigDict(extra="allow")

    id: int = Field(examples=[3])
    schedule: str | None = Field(examples=["weekly-quick"])
    test: str = Field(examples=["quick test"])
    actor: str = Field(examples=["http:operator@192.0.2.7"])
    started: Time
    closes: Time | None
    outcome: str | None = Field(description="Null: under way.", examples=[None])
    text: str = Field(examples=[""])
    ups: list[WaveMember]


class Tests(BaseModel):
    """Results of battery tests, oldest first, and the waves that are under way."""

    tests: list[Test]
    waves: list[Wave]


class WantedTests(BaseModel):
    """Battery tests to begin: one wave."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    targets: Targets
    kind: Literal["quick", "deep", "timed"] = "quick"
    for_s: float | None = Field(None, ge=1, le=86400, description="Length of a timed test.", examples=[600])
    depth_percent: int | None = Field(None, ge=1, le=90, description="A deep test ends at this depth.", examples=[40])
    max_parallel: int | None = Field(None, ge=1, le=1000, description="UPSes at the same time.", examples=[2])


class WantedTargets(BaseModel):
    """Which UPSes are meant."""

    model_config = ConfigDict(extra="forbid")

    targets: Targets


class Started(BaseModel):
    """A wave that has begun; `/tests` shows how it goes on."""

    wave: Wave


class Stopped(BaseModel):
    """UPSes for which something was ended."""

    stopped: list[str] = Field(examples=[["rack1-a"]])


class ScheduleItem(BaseModel):
    """One schedule of the configuration and when it comes next."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["weekly-quick"])
    do: str = Field(examples=["test"])
    cron: str = Field(examples=["0 3 * * sun"])
    ups: list[str] = Field(examples=[["rack1-a"]])
    next: list[str] = Field(examples=[["2026-05-03T03:00:00.000Z"]])
    last: str | None = Field(examples=[None])


class Schedules(BaseModel):
    """What is done by the calendar."""

    schedules: list[ScheduleItem]


class Window(BaseModel):
    """Maintenance of one UPS: its alarms are quiet and it is not tested."""

    ups: UpsName
    since: Time
    until: Time | None = Field(description="Null: until somebody ends it.")
    actor: str = Field(examples=["http:operator@192.0.2.7"])
    reason: str = Field(examples=["new batteries"])


class Maintenance(BaseModel):
    """Every window that is open or to come."""

    maintenance: list[Window]


class WantedMaintenance(BaseModel):
    """Maintenance to begin now."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    targets: Targets
    for_s: float | None = Field(None, ge=60, le=366 * 86400, description="Null: until somebody ends it.", examples=[7200])
    reason: str = Field("", max_length=200, examples=["new batteries"])


class Begun(BaseModel):
    """UPSes for which maintenance has begun."""

    started: list[str] = Field(examples=[["rack1-a"]])


class Shutdown(BaseModel):
    """How the staged shutdown stands."""

    model_config = ConfigDict(extra="allow")

    agent: str = Field(examples=["row-a"])
    time: Time
    headline: str = Field(examples=["no shutdown is under way (armed); mains are good everywhere"])
    armed: bool = Field(description="Unarmed it writes what it would do, and touches nothing.", examples=[True])
    run: dict[str, Any] | None = Field(description="The run under way.", examples=[None])
    loads: list[dict[str, Any]] = Field(examples=[[]])
    upses: list[dict[str, Any]] = Field(examples=[[]])
    by_hand: dict[str, str] = Field(description="What only a person can do.", examples=[{}])


class Runs(BaseModel):
    """Runs of the staged shutdown, the last first, with every step."""

    runs: list[dict[str, Any]] = Field(examples=[[]])


class Preview(BaseModel):
    """What a start with these targets would stop."""

    model_config = ConfigDict(extra="allow")

    loads: list[str] = Field(examples=[["app-1", "db-1"]])
    armed: bool
    running: bool


class WantedShutdown(BaseModel):
    """A shutdown to begin now: loads, UPSes whose loads are meant, `group:NAME`, `all`."""

    model_config = ConfigDict(extra="forbid")

    targets: Targets
    cut: bool = Field(False, description="Cut the UPSes behind what was stopped, too.")
    drill: bool = Field(False, description="A rehearsal.")


class ShutdownStarted(BaseModel):
    """A shutdown that has begun."""

    run: int | None = Field(examples=[7])
    loads: list[str] = Field(examples=[["app-1", "db-1"]])
    armed: bool


class Cancelled(BaseModel):
    """What cancelling means now."""

    text: str = Field(examples=["nothing more is stopped; what was stopped is started again as soon as its power is good"])


class WantedArming(BaseModel):
    """Arming or disarming."""

    model_config = ConfigDict(extra="forbid")

    armed: bool
    reason: str = Field("", max_length=200, examples=["drill of May passed"])


class Arming(BaseModel):
    """How arming stands."""

    model_config = ConfigDict(extra="allow")

    armed: bool
    armed_by: str = Field(examples=["http:operator@192.0.2.7"])
    armed_since: Time | None
    armed_reason: str = Field(examples=["drill of May passed"])
