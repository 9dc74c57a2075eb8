"""The documents of the JSON API, with an example of each."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[str, Field(description="UTC, ISO 8601 with Z.", examples=["2026-05-01T12:00:00.000Z"])]
UpsName = Annotated[str, Field(description="Name of a UPS.", examples=["rack1-a"])]
Value = float | str
"""Numbers in the variable's unit; text where the variable is text."""


class About(BaseModel):
    """Which agent this is, and who you are to it."""

    agent: str = Field(examples=["row-a"])
    version: str = Field(examples=["0.1.0"])
    time: Time
    you: str = Field(description="Your user, and your token behind a slash.", examples=["operator/grafana"])
    rights: list[str] = Field(description="What you may do.", examples=[["read", "command"]])


class Ups(BaseModel):
    """One UPS now."""

    name: UpsName
    description: str = Field(examples=["Rack 1, feed A"])
    groups: list[str] = Field(examples=[["rack1", "feed-a"]])
    port: str = Field(examples=["/dev/ttyS0"])
    dialect: str = Field(examples=["voltronic"])
    state: Literal["detecting", "online", "stale", "lost"] = Field(description="How contact stands.")
    reason: str = Field(description="Why, where contact is not good.", examples=[""])
    since: Time | None = Field(description="Since when contact stands so.")
    status: str = Field(description="NUT's ups.status.", examples=["OL CHRG"])
    alarms: list[str] = Field(examples=[[]])
    age_s: float | None = Field(description="Age of its last good reading; null before the first.", examples=[0.8])
    variables: dict[str, Value] = Field(
        description="What it last told, in NUT's names.", examples=[{"input.voltage": 230.1, "battery.charge": 100.0}]
    )


class Fleet(BaseModel):
    """Every UPS now."""

    agent: str = Field(examples=["row-a"])
    time: Time
    ups: list[Ups]


class Variable(BaseModel):
    """One variable of one UPS."""

    value: Value = Field(examples=[230.1])
    text: str = Field(description="As NUT's clients see it.", examples=["230.1"])
    unit: str = Field(examples=["V"])
    origin: Literal["measured", "scaled", "estimated", "configured"] = Field(description="Where the value comes from.")
    description: str = Field(examples=["Input voltage"])


class Variables(BaseModel):
    """What one UPS last told."""

    ups: UpsName
    state: Literal["detecting", "online", "stale", "lost"]
    age_s: float | None = Field(examples=[0.8])
    variables: dict[str, Variable]


class Bounds(BaseModel):
    """Seconds that a command takes."""

    min: float = Field(examples=[12.0])
    max: float = Field(examples=[600.0])
    default: float | None = Field(examples=[30.0])


class Command(BaseModel):
    """One instant command."""

    name: str = Field(examples=["test.battery.start.quick"])
    description: str = Field(examples=["Start a quick battery test"])
    hazard: str = Field(description="What it may cost: none, battery or load.", examples=["battery"])
    value: Bounds | None = Field(description="Its bounds, if it takes a value.")


class Commands(BaseModel):
    """The instant commands of one UPS."""

    ups: UpsName
    commands: list[Command]


class Setting(BaseModel):
    """One writable variable; bounded by ``min`` and ``max``, or by ``choices``."""

    value: str | None = Field(description="As NUT's clients see it; null: not known.", examples=["180"])
    min: float | None = Field(examples=[0.0])
    max: float | None = Field(examples=[5940.0])
    choices: list[str] = Field(examples=[[]])
    description: str = Field(examples=["Interval to wait before restarting the load"])


class Settings(BaseModel):
    """The writable variables of one UPS."""

    ups: UpsName
    settings: dict[str, Setting]


class Order(BaseModel):
    """The value of a command; seconds, where it takes one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: float | Annotated[str, Field(max_length=64)] | None = Field(None, examples=[600])


class Change(BaseModel):
    """The new value of a setting."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    value: float | Annotated[str, Field(max_length=64)] = Field(examples=[240])


class Outcome(BaseModel):
    """What became of a command or setting. Status 200: accepted; 202: sent, but nothing shows that the UPS acted."""

    ups: UpsName
    name: str = Field(examples=["test.battery.start.quick"])
    value: str | None = Field(examples=[None])
    outcome: Literal["accepted", "unconfirmed"]
    reply: str | None = Field(description="What the UPS answered, as it came.", examples=[None])
    text: str = Field(examples=["a later reading shows the test running"])


class Point(BaseModel):
    """One interval of a history."""

    time: Time
    min: float = Field(examples=[229.4])
    mean: float = Field(examples=[230.02])
    max: float = Field(examples=[230.9])
    count: int = Field(description="Readings behind it.", examples=[30])


class History(BaseModel):
    """What one variable was. Intervals without a reading are absent."""

    ups: UpsName
    variable: str = Field(examples=["input.voltage"])
    unit: str = Field(examples=["V"])
    every_s: float = Field(description="Length of an interval.", examples=[60.0])
    points: list[Point]


class EventItem(BaseModel):
    """One thing that happened; ``ups`` null: to the agent itself."""

    id: int | None = Field(description="Grows; null while the database has not got it.", examples=[4711])
    time: Time
    ups: str | None = Field(examples=["rack1-a"])
    kind: str = Field(examples=["status"])
    name: str = Field(examples=["on-battery"])
    value: str = Field(examples=["begin"])
    text: str = Field(examples=["mains failed"])
    severity: int = Field(description="0 information, 1 notice, 2 warning, 3 critical.", ge=0, le=3, examples=[2])
    phase: Literal["begin", "end", "point"]


class Events(BaseModel):
    """What happened, oldest first."""

    events: list[EventItem]


class Act(BaseModel):
    """One entry of the audit trail."""

    time: Time
    who: str = Field(examples=["operator"])
    where: str = Field(examples=["http 192.0.2.7"])
    act: str = Field(description="order, login, token, test, arm, shutdown, maintenance, …", examples=["order"])
    target: str = Field(examples=["rack1-a"])
    name: str = Field(examples=["beeper.mute"])
    value: str | None = Field(examples=[None])
    outcome: str | None = Field(description="Null: under way, or its end was never known.", examples=["accepted"])
    text: str = Field(examples=[""])


class Audit(BaseModel):
    """Who did what, oldest first."""

    audit: list[Act]


class Token(BaseModel):
    """One token, without its secret."""

    name: str = Field(examples=["grafana"])
    user: str = Field(examples=["operator"])
    allow: list[str] | None = Field(description="Its rights; null: all of its user's.", examples=[["read"]])
    created: Time
    expires: Time | None = Field(description="Null: never.")
    used: Time | None = Field(description="When it was used last, to the minute; null: not yet.")


class NewToken(Token):
    """A token that was just made: the only time its secret is shown."""

    token: str = Field(examples=["qxf_3mVb0y5Xk2rJwQn8TzL1hPcD6sFgA9uEoI4tYxR7KbM"])


class Tokens(BaseModel):
    """Your tokens."""

    tokens: list[Token]


class WantedToken(BaseModel):
    """A token you want. It acts as you."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["grafana"])
    allow: list[Literal["read", "command", "set", "fsd", "test", "shutdown"]] | None = Field(
        None, description="Rights; null: all of yours.", examples=[["read"]]
    )
    expires_s: float | None = Field(None, gt=0, le=10 * 366 * 86400, description="Null: never.", examples=[7776000])


class UserItem(BaseModel):
    """One user of the configuration."""

    name: str = Field(examples=["operator"])
    rights: list[str] = Field(examples=[["command", "read"]])
    instcmds: list[str] = Field(description="The only commands they may give; empty: every one, if any.", examples=[[]])


class Users(BaseModel):
    """Who may log in."""

    users: list[UserItem]


Anything = dict[str, Any]
"""A document whose members depend on what it describes."""
