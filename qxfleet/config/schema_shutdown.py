"""The tables of the staged shutdown and their keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from qxfleet.config.forms import Duration, Name
from qxfleet.config.forms_shutdown import Argv, Count, Limit, Mac, Span, TcpAddress, Url
from qxfleet.config.schema import NEEDED, Table, _key
from qxfleet.model.loads import ComingBack, Load, Plan, UpsOff

DAY = 86400
_LOAD, _PLAN, _OFF, _BACK = Load("", ()), Plan(), UpsOff(), ComingBack()

_WHEN = (
    'conditions, each enough: on_battery_for = "20m", charge_below = 30, runtime_below = "auto" (or a duration), '
    "low_battery = true, temperature_above = 45, all = { conditions that must hold together }"
)
_STOP = (
    '{ command = ["…"] }, { webhook = "https://…" } with token_file = "…" if needed, { nut = true } with user or address if '
    'needed, or { outlet = 1, ups = "…" }'
)
_START = (
    '{ wake_on_lan = "52:54:…" } with broadcast = "…" if needed, { command = ["…"] }, { webhook = "https://…" }, or '
    '{ outlet = 1, ups = "…" }'
)
_DOWN = (
    '{ tcp_closed = "host:port" } or { nut_logged_out = true }, alone or with exit or ups_load_below as the second sign; '
    '{ exit = ["…"] } (0: down, 1: up), or { ups_load_below = 5 }'
)


class WhenTable(Table):
    """Conditions of ``start_when`` and ``stop_when``."""

    on_battery_for: Annotated[float | Literal[False] | None, Span(0, 30 * DAY)] = None
    charge_below: Annotated[float | Literal[False] | None, Limit(1, 99, "%")] = None
    runtime_below: Annotated[float | Literal["auto", False] | None, Span(1, 30 * DAY, auto=True)] = None
    low_battery: bool | None = None
    temperature_above: Annotated[float | Literal[False] | None, Limit(-20, 150, "°C")] = None
    all: dict[str, Any] | None = None


class StopTable(Table):
    """What stops a load: one of command, webhook, nut and outlet."""

    command: Annotated[tuple[str, ...] | None, Argv()] = None
    webhook: Annotated[str | None, Url()] = None
    token_file: str = ""
    nut: bool | None = None
    user: str = ""
    address: str = ""
    outlet: Annotated[int | None, Count(1, 9)] = None
    ups: str = ""


class StartTable(Table):
    """What starts a load again: one of wake_on_lan, command, webhook and outlet."""

    wake_on_lan: Annotated[str | None, Mac()] = None
    broadcast: str = "255.255.255.255"
    command: Annotated[tuple[str, ...] | None, Argv()] = None
    webhook: Annotated[str | None, Url()] = None
    token_file: str = ""
    outlet: Annotated[int | None, Count(1, 9)] = None
    ups: str = ""


class DownTable(Table):
    """How a load is known to be down: one of these."""

    tcp_closed: Annotated[tuple[str, int] | None, TcpAddress()] = None
    exit: Annotated[tuple[str, ...] | None, Argv()] = None
    ups_load_below: Annotated[float | None, Field(gt=0, le=100)] = None
    nut_logged_out: bool | None = None


class UpsOffTable(Table):
    """What becomes of a UPS on battery once everything it feeds is down."""

    then: Literal["return", "stay-off", "leave"] = _OFF.then
    offdelay: Annotated[float, Duration(12, 5940)] = _OFF.offdelay_s
    ondelay: Annotated[float, Duration(0, 599940)] = _OFF.ondelay_s
    stagger: Annotated[float, Duration(0, 3600)] = _OFF.stagger_s


class ReturnTable(Table):
    """When power counts as good enough to start on."""

    charge_above: Annotated[float, Field(ge=0, le=100)] = _BACK.charge_above
    mains_stable_for: Annotated[float, Duration(1, DAY)] = _BACK.mains_stable_s
    unknown_charge_for: Annotated[float, Duration(0, 7 * DAY)] = _BACK.unknown_charge_s


class LoadTable(Table):
    """What must be stopped before its power goes; as often as there are loads, in any file."""

    name: Annotated[str, Name(reserved=("all",))] = _key("", "what steps, events and status call it", shown=NEEDED)
    fed_by: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "the UPSes that feed it", shown=NEEDED, form="list of UPS names"
    )
    needs_feeds: Annotated[int, Count(1, 16)] = _key(
        _LOAD.needs_feeds, "feeds that must stay good; fewer: the load is at risk", form=Count(1, 16).words
    )
    after: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "stopped only when these loads are down; they come back after it", shown="[]", form="list of load names"
    )
    stage: Annotated[int, Count(-99, 99)] = _key(
        _LOAD.stage, "of the loads on a UPS, lower stages go first and come back last", form=Count(-99, 99).words
    )
    stop: dict[str, Any] | None = _key(None, "what stops it; without, it is only watched", shown="none", form=_STOP)
    down_when: dict[str, Any] | None = _key(
        None, "how it is known to be down", shown="after stop_time; with nut, nut_logged_out", form=_DOWN
    )
    start: dict[str, Any] | None = _key(
        None, "what starts it again", shown="nothing: it starts when its power returns", form=_START
    )
    stop_time: Annotated[float, Duration(1, DAY)] = _key(_LOAD.stop_time_s, "longest its stop may take, tries and all")
    start_time: Annotated[float, Duration(1, DAY)] = _key(
        _LOAD.start_time_s, "longest it takes to be up again; then it is started once more"
    )
    stop_when: dict[str, Any] | None = _key(
        None, "its own conditions in place of those of the same name in start_when: sooner sheds it to stretch runtime, later "
        "keeps it longer", shown="as start_when", form=_WHEN + "; false: not this one",
    )  # fmt: skip
    watts: Annotated[float | None, Field(gt=0, le=1e6)] = _key(
        None, "what it draws, for the runtime that stopping it gains", shown="an equal share"
    )


class ShutdownTable(Table):
    """The staged shutdown; once, in any file."""

    armed: bool = _key(
        _PLAN.armed, "whether runs touch anything; unarmed, they run in full and only say what they would do. "
        "`qxfleet shutdown arm` and `disarm` go before this",
    )  # fmt: skip
    start_when: dict[str, Any] = _key(
        {}, "when a load whose good feeds are too few is stopped", shown='{ runtime_below = "auto", low_battery = true }',
        form=_WHEN,
    )  # fmt: skip
    hold: Annotated[float, Duration(0, 3600)] = _key(_PLAN.hold_s, "how long a condition must hold before it counts")
    margin: Annotated[float, Duration(0, DAY)] = _key(
        _PLAN.margin_s, 'what runtime_below = "auto" adds to the time the plan needs'
    )
    on_power_return: Literal["cancel", "finish"] = _key(
        _PLAN.on_power_return, "mains are back: cancel until the first UPS was told to cut, or finish what was begun"
    )
    on_lost_on_battery: Literal["run-on", "stop", "ignore"] = _key(
        _PLAN.lost_on_battery, "a UPS last seen on battery, then lost: its battery drains on as predicted, or its loads are "
        "stopped at once, or nothing",
    )  # fmt: skip
    unseen_feeds: Literal["do-not-count", "count"] = _key(
        "do-not-count", "whether a UPS without contact, last seen on mains, counts as good when another feed is going"
    )
    host: Annotated[str, Name()] = _key("", "the load the agent runs on; it goes last of all", shown="none")
    ups_off: dict[str, Any] = _key(
        {}, "what becomes of a UPS on battery when everything it feeds is down",
        shown='{ then = "return", offdelay = "1m", ondelay = "3m", stagger = "10s" }',
        form='then = "return", "stay-off" or "leave"; offdelay: until it cuts; ondelay: how long it stays off, at least; '
        "stagger: between two UPSes",
    )  # fmt: skip
    return_: dict[str, Any] = Field(
        {}, alias="return", description="when power counts as good enough to start loads on",
        json_schema_extra={
            "shown": '{ charge_above = 50, mains_stable_for = "2m", unknown_charge_for = "30m" }',
            "form": "charge_above: percent, mains_stable_for: duration; unknown_charge_for: where a UPS tells no charge",
        },
    )  # fmt: skip
