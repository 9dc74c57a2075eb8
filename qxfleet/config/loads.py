"""``[[load]]`` and ``[shutdown]``: what hangs on the fleet, and when and how it is stopped and started again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError
from typing import Any, TypeVar

from qxfleet.config.blocks import blocks, single
from qxfleet.config.delays import delay_problem, settings_of
from qxfleet.config.findings import Findings, Place, Source, did_you_mean, toml_text
from qxfleet.config.schema import Table
from qxfleet.config.schema_shutdown import (
    DownTable,
    LoadTable,
    ReturnTable,
    ShutdownTable,
    StartTable,
    StopTable,
    UpsOffTable,
    WhenTable,
)  # fmt: skip
from qxfleet.config.tables import read_table
from qxfleet.dialects.registry import DIALECTS, dialect_named
from qxfleet.dialects.spec import Dialect
from qxfleet.model.loads import (
    ComingBack,
    Command,
    CommandSays,
    Condition,
    DownWhen,
    Load,
    NutClients,
    NutLoggedOut,
    Outlet,
    Plan,
    Start,
    Stop,
    TcpClosed,
    Trigger,
    UpsLoadBelow,
    UpsOff,
    WakeOnLan,
    Webhook,
)  # fmt: skip
from qxfleet.model.options import UpsOptions

T = TypeVar("T", bound=Table)
When = dict[str, object]

KINDS = {
    "on_battery_for": "on-battery-for", "charge_below": "charge-below", "runtime_below": "runtime-below",
    "low_battery": "low-battery", "temperature_above": "temperature-above",
}  # fmt: skip
_DEFAULT_WHEN: When = {"runtime_below": "auto", "low_battery": True}


@dataclass(frozen=True, slots=True)
class _Found:
    """A load as read, where it stands, and what it says about when to stop it."""

    load: Load
    place: Place


def read_shutdown(sources: Sequence[Source], upses: Sequence[UpsOptions], findings: Findings) -> Plan:
    """The plan of all files; mistakes go to ``findings``. Without any ``[[load]]`` it has no loads, and does nothing."""
    table = single(sources, "shutdown", findings)
    place = table[0] if table else Place(sources[0], ("shutdown",))
    settings = _part(ShutdownTable, table[1] if table else {}, place, findings)
    when = _when(settings.start_when, place.at("start_when"), findings) if settings.start_when else _DEFAULT_WHEN
    off = _part(UpsOffTable, settings.ups_off, place.at("ups_off"), findings)
    back = _part(ReturnTable, settings.return_, place.at("return"), findings)
    known = {ups.name: ups for ups in upses}
    found = [
        _Found(load, at)
        for source in sources
        for at, block in blocks(source, "load", "load", findings)
        if (load := _load(block, at, when, known, findings)) is not None
    ]
    sound = len(findings.problems)
    _names(found, known, findings)
    named = len(findings.problems) == sound
    plan = Plan(
        loads=tuple(each.load for each in found),
        trigger=_trigger(when),
        ups_off=UpsOff(off.then, off.offdelay, off.ondelay, off.stagger),
        coming_back=ComingBack(back.charge_above, back.mains_stable_for, back.unknown_charge_for),
        on_power_return=settings.on_power_return,
        lost_on_battery=settings.on_lost_on_battery,
        count_unseen=settings.unseen_feeds == "count",
        host=settings.host or None,
        margin_s=settings.margin,
        hold_s=settings.hold,
        armed=settings.armed,
        stay_off=tuple(ups.name for ups in upses if ups.stayoff),
    )
    if named:
        _order(found, plan, findings)
    _host(plan, found, place, known, findings)
    _delays(plan, place, known, findings)
    _sense(plan, when, place, findings, written=table is not None)
    return plan


# -- one load


def _load(block: Mapping[str, object], at: Place, when: When, upses: Mapping[str, UpsOptions], findings: Findings) -> Load | None:
    read, broken = read_table(LoadTable, block, at, findings)
    for key, example in (("name", 'one, as in name = "db-1"'), ("fed_by", 'some, as in fed_by = ["rack1-a", "rack1-b"]')):
        if key not in broken and not getattr(read, key):
            findings.problem(at.at(key), f"missing: every [[load]] needs {example}")
    for index, ups in enumerate(read.fed_by):
        if ups not in upses:
            findings.problem(at.at("fed_by", index), f"no UPS is named {toml_text(ups)}{did_you_mean(ups, upses)}")
        elif ups in read.fed_by[:index]:
            findings.problem(at.at("fed_by", index), f'"{ups}" stands there twice: keep one, or name the other feed')
    if read.fed_by and read.needs_feeds > len(read.fed_by):
        feeds = f"{len(read.fed_by)} feed{'s' if len(read.fed_by) > 1 else ''}"
        findings.problem(at.at("needs_feeds"), f"needs {read.needs_feeds} of {feeds}: write {len(read.fed_by)} or less")
    stop = _stop(read, at.at("stop"), upses, findings)
    own = _when(read.stop_when, at.at("stop_when"), findings, false_only=True) if read.stop_when is not None else None
    if not read.name:
        return None
    return Load(
        name=read.name,
        fed_by=read.fed_by,
        needs_feeds=read.needs_feeds,
        after=read.after,
        stage=read.stage,
        stop=stop,
        down_when=_down_when(read, stop, at.at("down_when"), findings),
        start=_start(read, at.at("start"), upses, findings),
        stop_time_s=read.stop_time,
        start_time_s=read.start_time,
        trigger=None if own is None else _trigger({**when, **own}),
        watts=read.watts,
    )


def _stop(read: LoadTable, at: Place, upses: Mapping[str, UpsOptions], findings: Findings) -> Stop | None:
    if read.stop is None:
        return None
    how = _part(StopTable, read.stop, at, findings)
    kind = _one_of(StopTable, ("command", "webhook", "nut", "outlet"), read.stop, at, findings)
    _only_with(read.stop, {"token_file": "webhook", "user": "nut", "address": "nut", "ups": "outlet"}, at, findings)
    if kind == "command" and how.command:
        return Command(how.command)
    if kind == "webhook" and how.webhook:
        return Webhook(how.webhook, how.token_file)
    if kind == "nut" and how.nut is not None:
        if not how.nut:
            findings.problem(at.at("nut"), "false stops nothing: write true, or remove it")
        return NutClients(how.user, how.address)
    return _outlet(how.outlet, how.ups, read, at, upses, findings) if kind == "outlet" else None


def _start(read: LoadTable, at: Place, upses: Mapping[str, UpsOptions], findings: Findings) -> Start | None:
    if read.start is None:
        return None
    how = _part(StartTable, read.start, at, findings)
    kind = _one_of(StartTable, ("wake_on_lan", "command", "webhook", "outlet"), read.start, at, findings)
    _only_with(read.start, {"token_file": "webhook", "broadcast": "wake_on_lan", "ups": "outlet"}, at, findings)
    if kind == "wake_on_lan" and how.wake_on_lan:
        return WakeOnLan(how.wake_on_lan, how.broadcast)
    if kind == "command" and how.command:
        return Command(how.command)
    if kind == "webhook" and how.webhook:
        return Webhook(how.webhook, how.token_file)
    return _outlet(how.outlet, how.ups, read, at, upses, findings) if kind == "outlet" else None


def _outlet(
    number: int | None, ups: str, read: LoadTable, at: Place, upses: Mapping[str, UpsOptions], findings: Findings
) -> Outlet | None:
    if number is None:
        return None
    if not ups and len(read.fed_by) == 1:
        ups = read.fed_by[0]
    if not ups:
        findings.problem(at, f'which UPS has the outlet? Write ups = "{next(iter(read.fed_by), "…")}"')
    elif ups not in upses:
        findings.problem(at.at("ups"), f"no UPS is named {toml_text(ups)}{did_you_mean(ups, upses)}")
    return Outlet(ups, number)


def _down_when(read: LoadTable, stop: Stop | None, at: Place, findings: Findings) -> DownWhen | None:
    nut = isinstance(stop, NutClients)
    if read.down_when is None:
        return NutLoggedOut() if nut else None
    how = _part(DownTable, read.down_when, at, findings)
    if (how.tcp_closed or (how.nut_logged_out and nut)) and (how.exit or how.ups_load_below):
        first = "tcp_closed" if how.tcp_closed else "nut_logged_out"
        if (how.exit and how.ups_load_below) or (how.tcp_closed and how.nut_logged_out):
            findings.problem(at, f"{first} goes with one of exit and ups_load_below as its second sign, found more: keep one")
        also = CommandSays(how.exit) if how.exit else UpsLoadBelow(how.ups_load_below or 0.0)
        return TcpClosed(*how.tcp_closed, also) if how.tcp_closed else NutLoggedOut(also)
    kind = _one_of(DownTable, ("tcp_closed", "exit", "ups_load_below", "nut_logged_out"), read.down_when, at, findings)
    if kind == "tcp_closed" and how.tcp_closed:
        return TcpClosed(*how.tcp_closed)
    if kind == "exit" and how.exit:
        return CommandSays(how.exit)
    if kind == "ups_load_below" and how.ups_load_below:
        return UpsLoadBelow(how.ups_load_below)
    if kind == "nut_logged_out" and not nut:
        findings.problem(at, 'only a load with stop = { nut = true } logs out: name another, as in { tcp_closed = "db-1:22" }')
    return NutLoggedOut() if kind == "nut_logged_out" else None


def _part(model: type[T], table: Mapping[str, object], at: Place, findings: Findings) -> T:
    return read_table(model, table, at, findings)[0]


def _one_of(model: type[Table], kinds: Sequence[str], table: Mapping[str, object], at: Place, findings: Findings) -> str | None:
    """The kind that is there; a problem where there is more than one, or none and no misspelt one either."""
    there = [kind for kind in kinds if kind in table]
    choice = f"expected one of {', '.join(kinds[:-1])} and {kinds[-1]}"
    if len(there) > 1:
        findings.problem(at, f"{choice}, found {' and '.join(there)}: keep one")
    elif not there and table.keys() <= model.model_fields.keys():
        findings.problem(at, f"{choice}, found none of them")
    return there[0] if len(there) == 1 else None


def _only_with(table: Mapping[str, object], partners: Mapping[str, str], at: Place, findings: Findings) -> None:
    for key, partner in partners.items():
        if key in table and partner not in table:
            findings.problem(at.at(key), f"goes only with {partner}: remove it")


# -- conditions


def _when(table: Mapping[str, object], at: Place, findings: Findings, *, false_only: bool = False) -> When:
    """The conditions that are written, by name; ``all`` as a mapping of its own. ``false_only``: no condition that is on need be
    there, since others stand behind it."""
    read = _part(WhenTable, table, at, findings)
    when: When = {key: value for key in KINDS if (value := getattr(read, key)) is not None}
    if read.all is not None:
        together = _part(WhenTable, read.all, at.at("all"), findings)
        held = {key: value for key in KINDS if (value := getattr(together, key)) not in (None, False)}
        if together.all is not None:
            findings.problem(at.at("all", "all"), "all can't stand within all: write its conditions side by side")
        elif len(held) < 2 and len(read.all) < 2:
            findings.problem(at.at("all"), "holds conditions that must hold together, at least two: write this one outside of it")
        when["all"] = held
    if not false_only and not any(when.values()):
        findings.problem(at, "no condition that is ever true: nothing would be stopped; name one, as in { low_battery = true }")
    return when


def _trigger(when: When) -> Trigger:
    together = when.get("all")
    return Trigger(_conditions(when), _conditions(together) if isinstance(together, dict) else ())


def _conditions(when: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(
        Condition(kind, None if when[key] == "auto" or when[key] is True else float(when[key]))  # type: ignore[arg-type]
        for key, kind in KINDS.items()
        if when.get(key) not in (None, False)
    )


# -- all of them together


def _names(found: Iterable[_Found], upses: Mapping[str, UpsOptions], findings: Findings) -> None:
    """Every load has a name of its own, and ``after`` names loads."""
    places: dict[str, Place] = {}
    for each in found:
        before = places.setdefault(each.load.name, each.place)
        if before is not each.place:
            findings.problem(each.place.at("name"), f'"{each.load.name}" is the name of the load at {before.at("name").spot} '
                                                    "already: every load needs its own")  # fmt: skip
        if each.load.name in upses:
            findings.problem(each.place.at("name"), f'"{each.load.name}" is the name of a UPS: choose another')
    for each in found:
        for index, name in enumerate(each.load.after):
            at = each.place.at("after", index)
            if name == each.load.name:
                findings.problem(at, "a load can't go after itself: remove it")
            elif name not in places:
                remedy = ": it is a UPS, name the load it feeds" if name in upses else did_you_mean(name, places)
                findings.problem(at, f"no load is named {toml_text(name)}{remedy}")


def _order(found: Sequence[_Found], plan: Plan, findings: Findings) -> None:
    """No load goes, by ``after`` and ``stage``, before itself."""
    try:
        _ = plan.order
    except CycleError as error:
        _cycle(error.args[1], {each.load.name: each.place for each in found}, findings)


def _cycle(way: Sequence[str], places: Mapping[str, Place], findings: Findings) -> None:
    """``way``: each goes before the next; stages stand between loads."""
    loads = [name for name in reversed(way) if name in places]
    loads = loads if loads[0] == loads[-1] else [*loads, loads[0]]
    place = min((places[name] for name in loads), key=lambda place: (place.source.name, place.line))
    chain = ", which goes after ".join(f'"{name}"' for name in loads)
    stages = "" if all(name in places for name in way) else " (by their stages)"
    findings.problem(place.at("after"), f"goes in a circle{stages}: {chain}: take one of them out")


def _host(plan: Plan, found: Sequence[_Found], at: Place, upses: Mapping[str, UpsOptions], findings: Findings) -> None:
    if plan.host is None:
        return
    host = next((load for load in plan.loads if load.name == plan.host), None)
    if host is None:
        guess = did_you_mean(plan.host, [load.name for load in plan.loads]) or ": write a [[load]] for the agent's own host"
        findings.problem(at.at("host"), f"no load is named {toml_text(plan.host)}{guess}")
        return
    for each in found:
        if plan.host in each.load.after:
            findings.problem(
                each.place.at("after"), f'"{plan.host}" is the agent\'s own host and goes last: nothing can go after it'
            )
    most = min((high for name in host.fed_by if name in upses for high in _longest(upses[name])), default=None)
    if plan.ups_off.then != "leave" and most is not None and host.stop_time_s > most:
        findings.problem(at.at("host"), f'"{plan.host}" may take {host.stop_time_s:g} s to stop, and its own UPS can be told at '
                                        f"most {most:g} s before it cuts: shorten its stop_time")  # fmt: skip


def _longest(ups: UpsOptions) -> list[float]:
    return [setting.high for setting in settings_of("offdelay", _spoken(ups))]


def _spoken(ups: UpsOptions) -> tuple[Dialect, ...]:
    """What a UPS may turn out to speak."""
    dialect = None if ups.dialect == "auto" else dialect_named(ups.dialect)
    return DIALECTS if dialect is None else (dialect,)


def _delays(plan: Plan, at: Place, upses: Mapping[str, UpsOptions], findings: Findings) -> None:
    """The delays are within what every UPS that may be told them can be told."""
    feeding = dict.fromkeys(name for load in plan.loads for name in load.fed_by if name in upses)
    spoken = tuple({dialect.name: dialect for name in feeding for dialect in _spoken(upses[name])}.values())
    if plan.ups_off.then == "leave" or not spoken:
        return
    for key, seconds in (("offdelay", plan.ups_off.offdelay_s), ("ondelay", plan.ups_off.ondelay_s)):
        if problem := delay_problem(key, int(seconds), spoken):
            findings.problem(at.at("ups_off", key), problem)


def _sense(plan: Plan, when: When, at: Place, findings: Findings, *, written: bool) -> None:
    """What is allowed and hardly meant."""
    if written and not plan.loads:
        findings.warning(at, "no [[load]] is configured: nothing will ever be stopped")
    limits = [
        condition.limit
        for trigger in (plan.trigger, *(load.trigger for load in plan.loads if load.trigger))
        for condition in trigger.any
        if condition.kind == "charge-below" and condition.limit is not None
    ]
    most = max(limits, default=0.0)
    if plan.loads and most >= plan.coming_back.charge_above:
        findings.problem(
            at.at("return", "charge_above"),
            f"loads would come back at {plan.coming_back.charge_above:g} % charge and be stopped below {most:g} %: "
            "write a value well above that",
        )
    if plan.loads and not when.get("low_battery"):
        findings.warning(at.at("start_when"), "low_battery is off: a battery that gives out early stops nothing")
