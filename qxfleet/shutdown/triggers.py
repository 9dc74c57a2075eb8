"""Which triggers hold on which UPS: conditions with their minimum duration, and no second thoughts while mains are off."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from qxfleet.config.durations import duration_text
from qxfleet.model.loads import Condition, Plan, Trigger
from qxfleet.shutdown.feeds import Feed
from qxfleet.shutdown.model import Mains, Memory, UpsMemory

COOLER_BY = 3.0
"""Degrees below its limit at which a hot UPS counts as cool again."""

NOTHING = UpsMemory()


def remember(
    plan: Plan, memory: Memory, feeds: Mapping[str, Feed], need_s: Mapping[str, float], now_s: float, *, finish: bool = False
) -> Memory:
    """The triggers' memory, one look further.

    ``need_s``: what the plan still needs for the loads of a UPS, for ``runtime_below = "auto"``; a UPS that is not in it has
    nothing on it that must go. A trigger that has fired on battery holds until mains are back; how long a condition has held is
    forgotten only once mains are stable, so that flapping mains can't drain a battery between two holds. ``finish``: what has
    fired holds on although mains are back.
    """
    passed_s = 0.0 if memory.at_s is None else max(now_s - memory.at_s, 0.0)
    after = {
        name: _advance(plan, memory.upses.get(name, NOTHING), feed, need_s.get(name), passed_s, now_s, finish)
        for name, feed in feeds.items()
    }
    return Memory(now_s, {name: each for name, each in after.items() if each != NOTHING})


def _advance(
    plan: Plan, was: UpsMemory, feed: Feed, need_s: float | None, passed_s: float, now_s: float, finish: bool
) -> UpsMemory:
    hot = any(condition.kind == "temperature-above" and _is_hot(condition, feed, was) for condition in plan.conditions)
    if not feed.on_battery:
        stable = feed.seen.mains is Mains.ON and now_s - feed.seen.since_s >= plan.coming_back.mains_stable_s
        kept = was.fired if finish else {}
        was = UpsMemory(fired=kept) if stable else UpsMemory(was.on_battery_s, was.holds_since_s, kept)
        if not hot:
            return was
    else:
        spent_s = max(was.on_battery_s + passed_s if was.on_battery_s else 0.0, now_s - feed.seen.since_s)
        was = replace(was, on_battery_s=max(spent_s, 1e-9))
    holds: dict[Condition, float] = {} if feed.on_battery else dict(was.holds_since_s)
    ripe: set[Condition] = set()
    for condition in plan.conditions:
        if not _holds(condition, feed, was, plan, need_s):
            continue
        since_s = holds[condition] = was.holds_since_s.get(condition, now_s)
        if condition.kind == "on-battery-for" or now_s - since_s >= plan.hold_s:
            ripe.add(condition)
    fired: dict[Trigger, str] = {}
    for trigger in plan.triggers:
        because = _fires(trigger, ripe) if ripe else ()
        why = " and ".join(_why(condition, feed, was, need_s) for condition in because) or None
        if why is None and (feed.on_battery or finish):
            why = was.fired.get(trigger)
        if feed.given_up and feed.on_battery:
            why = why or "contact was lost while it was on battery"
        if why is not None:
            fired[trigger] = why
    return UpsMemory(was.on_battery_s, holds, fired)


def _fires(trigger: Trigger, ripe: Collection[Condition]) -> tuple[Condition, ...]:
    """The conditions by which it fires; none where it does not."""
    for condition in trigger.any:
        if condition in ripe:
            return (condition,)
    return trigger.all if all(condition in ripe for condition in trigger.all) else ()


def _is_hot(condition: Condition, feed: Feed, was: UpsMemory) -> bool:
    if condition.kind != "temperature-above" or feed.seen.temperature_c is None or not feed.seen.contact:
        return False
    limit = condition.limit or 0.0
    return feed.seen.temperature_c > (limit - COOLER_BY if condition in was.holds_since_s else limit)


def _holds(condition: Condition, feed: Feed, was: UpsMemory, plan: Plan, need_s: float | None) -> bool:
    """Whether it holds, as far as can be told."""
    limit = condition.limit
    if condition.kind == "temperature-above":
        return _is_hot(condition, feed, was)
    if not feed.on_battery or feed.seen.maintenance:
        return False
    match condition.kind:
        case "on-battery-for":
            return limit is not None and was.on_battery_s >= limit
        case "charge-below":
            return limit is not None and feed.charge is not None and feed.charge < limit
        case "low-battery":
            return feed.low_battery
        case "runtime-below":
            if limit is None:
                limit = None if need_s is None else need_s + plan.margin_s + plan.hold_s
            return limit is not None and feed.runtime_low_s is not None and feed.runtime_low_s < limit


def _why(condition: Condition, feed: Feed, was: UpsMemory, need_s: float | None) -> str:
    """What holds, as half a sentence."""
    limit = condition.limit
    match condition.kind:
        case "temperature-above":
            return f"it is {feed.seen.temperature_c:g} °C hot, above {limit:g}"
        case "on-battery-for":
            return f"it has been on battery for {spell_s(was.on_battery_s)}"
        case "charge-below":
            return f"its charge is {feed.charge:.0f} %, below {limit:g}"
        case "low-battery":
            return "its battery is low"
        case "runtime-below":
            runtime = f"its runtime is {spell_s(feed.runtime_low_s or 0.0)}"
            if limit is not None:
                return f"{runtime}, below {duration_text(limit)}"
            return f"{runtime} and stopping takes {spell_s(need_s or 0.0)}: no later than now"


def spell_s(seconds: float) -> str:
    """A time for people: ``45 s``, ``6 min 40 s``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")
