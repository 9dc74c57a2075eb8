"""What is wrong with a plan before it is needed: does it fit, what can't be stopped, what hangs on one UPS, what dies with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from qxfleet.model.loads import Command, Load, NutLoggedOut, Outlet, Plan
from qxfleet.shutdown.durations import critical_path, down_in_s, longest_s
from qxfleet.shutdown.rehearse import Battery, Rehearsal, rehearse
from qxfleet.shutdown.triggers import spell_s


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know. ``problem``: a load may lose its power while it runs; ``risk``: it depends; ``note``: only that."""

    severity: Literal["problem", "risk", "note"]
    subject: str
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Time:
    """How the loads of a UPS fit its battery: what stopping them takes in all, by which chain, and what the battery lasts.

    ``fits`` is None where the runtime is not known. ``spare_s``: pessimistic runtime beyond stopping and margin."""

    ups: str
    needs_s: float
    chain: tuple[str, ...]
    runtime_s: float | None
    runtime_low_s: float | None
    fits: bool | None
    spare_s: float | None


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that was found. ``dies``: for each UPS, loads that lose their power with it; ``stays``: those that other feeds keep."""

    findings: tuple[Finding, ...]
    times: tuple[Time, ...]
    dies: Mapping[str, tuple[str, ...]]
    stays: Mapping[str, tuple[str, ...]]
    together: Rehearsal | None
    """The rehearsal of all UPSes failing at once; None where not all runtimes are known."""

    @property
    def sound(self) -> bool:
        """No problem was found."""
        return not any(each.severity == "problem" for each in self.findings)


def inspect(
    plan: Plan, batteries: Mapping[str, Battery], *, armed: bool | None = None,
    able: Mapping[str, Collection[str]] = {}, unknown: Mapping[str, str] = {},
) -> Inspection:  # fmt: skip
    """Look at a plan. ``batteries``: what is known now of each UPS. ``armed``: what is in force, where that is known.

    ``able``: the orders that each UPS takes, where that is known; ``unknown``: why the runtime of a UPS is not.
    """
    found: list[Finding] = _orders(plan, able)
    found += _host(plan, batteries)
    for load in plan.loads:
        found += _load(load, plan)
    times = tuple(_time(ups, plan, batteries.get(ups)) for ups in plan.fed)
    found += [finding for time in times for finding in _time_findings(time, plan, unknown.get(time.ups))]
    together = None
    if plan.loads and all(ups in batteries for ups in plan.fed):
        together = rehearse(plan, batteries, plan.fed)
        lost = {name for name in together.lost if plan.named[name].stop is not None}
        if lost:
            found.append(Finding(
                "problem", ", ".join(sorted(lost)[:6]), "loses its power while it runs if all mains fail at once",
                "`qxfleet shutdown simulate` shows when: shorten what goes before it, or start sooner",
            ))  # fmt: skip
    if plan.loads and plan.host is None:
        found.append(Finding(
            "risk", "[shutdown]", "it is not said which load the agent's own host is: it may be stopped before the others",
            'write host = "…", the name of its [[load]]',
        ))  # fmt: skip
    if plan.ups_off.then == "return" and len(plan.fed) > 1:
        found.append(Finding(
            "note", "[shutdown]", "in an outage longer than their ondelay its UPSes come back together, at the moment mains do",
            'then = "stay-off" switches them on one by one, `stagger` apart',
        ))  # fmt: skip
    if armed is False or (armed is None and not plan.armed):
        text = "not armed: an outage is only told, nothing is stopped"
        found.append(Finding("note", "[shutdown]", text, "`qxfleet shutdown arm`"))
    dies = {ups: tuple(load.name for load in loads if not _spare_feed(load)) for ups, loads in plan.fed.items()}
    stays = {ups: tuple(load.name for load in loads if _spare_feed(load)) for ups, loads in plan.fed.items()}
    order = {"problem": 0, "risk": 1, "note": 2}
    return Inspection(tuple(sorted(found, key=lambda each: order[each.severity])), times, dies, stays, together)


def _spare_feed(load: Load) -> bool:
    return len(load.fed_by) > load.needs_feeds


def _load(load: Load, plan: Plan) -> list[Finding]:
    found = []
    if load.stop is None:
        upses = " and ".join(load.fed_by)
        found.append(Finding(
            "problem", load.name, f"has no stop: it runs until {upses} is empty, and {upses} can't be told to cut before",
            'write stop = { command = [ … ] }, or remove the load if it may lose its power',
        ))  # fmt: skip
    if len(load.fed_by) == 1:
        found.append(Finding("note", load.name, f"hangs on {load.fed_by[0]} alone", "a second feed, if it matters"))
    elif load.needs_feeds == len(load.fed_by):
        found.append(Finding("note", load.name, f"needs all its {len(load.fed_by)} feeds: one that fails is enough to stop it"))
    if load.stop is not None and load.down_when is None:
        assumed = f"nothing tells whether it is down: it is taken to be {spell_s(load.stop_time_s)} after its stop"
        if load.start is None and load.name != plan.host:
            assumed += ", and up again once its power came: both assumed, not known"
        found.append(Finding(
            "risk", load.name, assumed,
            'write down_when = { tcp_closed = "host:22" }',
        ))  # fmt: skip
    if isinstance(load.down_when, NutLoggedOut) and load.down_when.also is None:
        found.append(Finding(
            "note", load.name, "its NUT clients log out before their hosts stop: it counts as off once their addresses are "
            f"silent as well, or not seen off {spell_s(load.stop_time_s)} after its stop, and then its UPS may be cut",
            "give it a stop_time that its host surely stops in, or exit or ups_load_below beside nut_logged_out",
        ))  # fmt: skip
    if load.start is None and load.stop is not None and load.name != plan.host:
        found.append(Finding(
            "note", load.name, "has no start: it comes back only if it starts when its power comes, so the UPSes on it are cycled"
            if plan.ups_off.then == "return" else "has no start: somebody has to switch it on",
            'write start = { wake_on_lan = "…" }',
        ))  # fmt: skip
    if isinstance(load.stop, Command) and load.stop.argv[0].rpartition("/")[2] == "ssh" and not _batch(load.stop.argv):
        found.append(Finding(
            "risk", load.name, "ssh may stop and ask for a password, and nobody would answer",
            'write "-o", "BatchMode=yes" behind "ssh"',
        ))  # fmt: skip
    return found


def _batch(argv: tuple[str, ...]) -> bool:
    return any(word.replace(" ", "").lower() in ("batchmode=yes", "-obatchmode=yes") for word in argv)


def _time(ups: str, plan: Plan, battery: Battery | None) -> Time:
    """As if everything that hangs on this UPS had to go, with what goes before it."""
    going = {load.name for load in plan.fed[ups] if load.stop is not None}
    stack = list(going)
    while stack:
        for earlier in plan.named[stack.pop()].after:
            if earlier not in going and plan.named[earlier].stop is not None:
                going.add(earlier)
                stack.append(earlier)
    takes = {name: longest_s(plan.named[name]) for name in going}
    in_s = down_in_s(plan, takes)
    needs_s = max((in_s.get(load.name, 0.0) for load in plan.fed[ups] if load.name in going), default=0.0)
    last = {name: takes[name] for name in going if in_s.get(name, 0.0) <= needs_s}
    if battery is None:
        return Time(ups, needs_s, critical_path(plan, last), None, None, None, None)
    low_s = battery.runtime_low_s if battery.runtime_low_s is not None else battery.runtime_s
    spare_s = low_s - needs_s - plan.margin_s
    return Time(ups, needs_s, critical_path(plan, last), battery.runtime_s, battery.runtime_low_s, spare_s >= 0, spare_s)


def _orders(plan: Plan, able: Mapping[str, Collection[str]]) -> list[Finding]:
    """What the plan would order of a UPS that has no such order."""
    wanted: list[tuple[str, str, str, str]] = []
    for load in plan.loads:
        for way, word in ((load.stop, "off"), (load.start, "on")):
            if isinstance(way, Outlet):
                order = f"outlet.{way.number}.load.{word}"
                wanted.append((way.ups, order, load.name, f"is switched {word} by outlet {way.number} of {way.ups}"))
    if plan.ups_off.then != "leave":
        for ups in plan.fed:
            order = "shutdown.stayoff" if plan.ups_off.then == "stay-off" or ups in plan.stay_off else "shutdown.return"
            wanted.append((ups, order, ups, f"is to be cut by {order}"))
    return [
        Finding("problem", subject, f"{text}, and {ups} has no such order", f"`qxfleet commands {ups}` lists what it has")
        for ups, order, subject, text in wanted if ups in able and order not in able[ups]
    ]  # fmt: skip


def _host(plan: Plan, batteries: Mapping[str, Battery]) -> list[Finding]:
    """The agent's own host goes last, so everything that is at risk goes before it: it should last longest."""
    if plan.host is None or not all(ups in batteries for ups in plan.fed):
        return []

    def least_s(ups: str) -> float:
        low_s = batteries[ups].runtime_low_s
        return batteries[ups].runtime_s if low_s is None else low_s

    host = plan.named[plan.host]
    own_s = sorted((least_s(ups) for ups in host.fed_by), reverse=True)[host.needs_feeds - 1]
    longer = [ups for ups in plan.fed if ups not in host.fed_by and least_s(ups) > own_s + plan.margin_s]
    if not longer:
        return []
    most_s, others = max(least_s(ups) for ups in longer), "1 UPS" if len(longer) == 1 else f"{len(longer)} UPSes"
    return [Finding(
        "risk", host.name, f"is where the agent runs, and {' and '.join(host.fed_by)} last {spell_s(own_s)} at least: whatever "
        f"is on battery is stopped by then, on {others} that would last up to {spell_s(most_s)} as well",
        "feed the agent's host by the UPSes that last longest, or split its feeds",
    )]  # fmt: skip


def _time_findings(time: Time, plan: Plan, unknown: str | None) -> list[Finding]:
    conditions = [each.kind for trigger in plan.triggers for each in (*trigger.any, *trigger.all) if each.limit is None]
    if time.runtime_s is None:
        why = f", {unknown}" if unknown else ""
        if "runtime-below" not in conditions:
            return [Finding(
                "note", time.ups, f"its runtime is not known{why}: whether stopping fits its battery can't be told",
                "give it runtimecal, or let it learn from battery tests",
            )]  # fmt: skip
        return [Finding(
            "risk", time.ups, f"its runtime is not known{why}: \"auto\" can't tell when to begin, the other conditions decide",
            "give it runtimecal, or let it learn from battery tests",
        )]  # fmt: skip
    if time.fits:
        return []
    low_s = time.runtime_s if time.runtime_low_s is None else time.runtime_low_s
    return [Finding(
        "problem", time.ups, f"its battery lasts {spell_s(low_s)} at least, stopping takes {spell_s(time.needs_s)} and "
        f"{spell_s(plan.margin_s)} margin: it does not fit (longest: {' → '.join(time.chain)})",
        "shorten the stop_time of these, stop less important loads sooner by stop_when, or put in a bigger battery",
    )]  # fmt: skip
