"""What each UPS is worth as a feed at this moment, from what was last seen of it."""

from __future__ import annotations

from dataclasses import dataclass

from qxfleet.model.electrical import runtime_at
from qxfleet.model.loads import Plan
from qxfleet.shutdown.model import Mains, UpsSeen, World

UNSEEN = UpsSeen(contact=False)

LOW_S = 120.0
"""A battery whose contact is lost counts as low when its predicted runtime has run down to this (NUT's usual runtime.low)."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One UPS. ``good``: on mains, seen, with its output on; ``on_battery``: as far as is known, which may be remembered.

    ``runtime_low_s``, ``runtime_s``: predicted from now. ``given_up``: lost on battery, with nothing left to count down by, or
    the plan says that this is as bad as it gets.
    """

    name: str
    seen: UpsSeen
    good: bool
    on_battery: bool
    runtime_s: float | None
    runtime_low_s: float | None
    charge: float | None
    low_battery: bool
    given_up: bool


def feeds_of(plan: Plan, world: World, now_s: float) -> dict[str, Feed]:
    """Every UPS that feeds a load."""
    return {name: _feed(name, plan, world.upses.get(name, UNSEEN), now_s) for name in plan.fed}


def _feed(name: str, plan: Plan, seen: UpsSeen, now_s: float) -> Feed:
    if seen.mains is Mains.ON:
        good = seen.output_since_s is not None and not seen.counting_down if seen.contact else plan.count_unseen
        return Feed(name, seen, good, False, seen.runtime_s, seen.runtime_low_s, seen.charge, False, False)
    lost = not seen.contact
    on_battery = seen.mains is Mains.OFF and not seen.maintenance and not (lost and plan.lost_on_battery == "ignore")
    if not on_battery:
        return Feed(name, seen, False, False, None, None, seen.charge, False, False)
    gone_s = max(now_s - seen.seen_s, 0.0)
    likely, least = _after(seen.runtime_s, gone_s), _after(seen.runtime_low_s, gone_s)
    if least is None:
        least = likely
    charge = seen.charge
    if lost and charge is not None and seen.runtime_low_s:
        charge *= max(1.0 - gone_s / seen.runtime_low_s, 0.0)
    low = seen.low_battery or (lost and least is not None and least <= LOW_S)
    given_up = lost and (plan.lost_on_battery == "stop" or least is None)
    return Feed(name, seen, False, True, likely, least, charge, low, given_up)


def _after(runtime_s: float | None, gone_s: float) -> float | None:
    return None if runtime_s is None else max(runtime_s - gone_s, 0.0)


def runtime_alone_s(feed: Feed, others: list[Feed]) -> float | None:
    """Pessimistic runtime of a feed on battery once it carries what these others carry now; None where it is not known.

    Watts are compared, never percent: these are of each UPS's own size. One that can't carry it all lasts no time.
    """
    own_w = feed.seen.load_w
    more_w = [other.seen.load_w for other in others]
    if feed.runtime_low_s is None:
        return None
    if not others:
        return feed.runtime_low_s
    if not own_w or None in more_w:
        return None
    total_w = own_w + sum(watts or 0.0 for watts in more_w)
    if feed.seen.rated_w is not None and total_w > feed.seen.rated_w:
        return 0.0
    return runtime_at(feed.runtime_low_s, total_w / own_w, at_least=True)
