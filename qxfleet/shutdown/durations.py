"""How long stopping takes: one load's, and the longest way through loads that wait for each other."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.model.loads import Load, Plan

LEARNED_SPREAD = 1.25
"""The slowest of the runs so far is not the slowest there will be."""

LEARNED_EXTRA_S = 5.0


def expected_s(load: Load) -> float:
    """What a stop will likely take: as learned, else its whole stop_time; nothing where there is nothing to stop it with."""
    if load.stop is None:
        return 0.0
    return load.stop_time_s if load.learned_s is None else min(load.learned_s, load.stop_time_s)


def longest_s(load: Load) -> float:
    """What a stop may take, for deciding when to begin: as learned and some more, never above its stop_time."""
    if load.stop is None:
        return 0.0
    if load.learned_s is None:
        return load.stop_time_s
    return min(load.learned_s * LEARNED_SPREAD + LEARNED_EXTRA_S, load.stop_time_s)


def down_in_s(plan: Plan, left_s: Mapping[str, float]) -> dict[str, float]:
    """Seconds until each load is down if all that must go begin now, each as soon as those before it are down.

    ``left_s``: what a load's own stop still takes, for those that must go. The agent's own host goes behind all. A load that
    neither goes nor waits for one that does is left out.
    """
    in_s: dict[str, float] = {}
    before = plan.before
    for name in plan.order:
        start_s = 0.0
        for earlier in before.get(name, ()):
            if (ends_s := in_s.get(earlier, 0.0)) > start_s:
                start_s = ends_s
        if ends_s := start_s + left_s.get(name, 0.0):
            in_s[name] = ends_s
    if plan.host is not None and in_s.get(plan.host):
        others_s = max((seconds for name, seconds in in_s.items() if name != plan.host), default=0.0)
        in_s[plan.host] = others_s + left_s.get(plan.host, 0.0)
    return in_s


def critical_path(plan: Plan, loads: Mapping[str, float]) -> tuple[str, ...]:
    """The chain of loads that takes longest, first to go first; ``loads`` is what each takes, and nothing else need go."""
    in_s = down_in_s(plan, loads)
    going = [name for name in loads if name in in_s]
    if not going:
        return ()
    chain: list[str] = []
    name: str | None = max(going, key=lambda each: in_s[each])
    while name is not None:
        if name in loads:
            chain.append(name)
        earlier = plan.before.get(name, frozenset()) if name != plan.host or len(chain) > 1 else set(in_s) - {name}
        name = max((each for each in earlier if each in in_s), key=lambda each: in_s[each], default=None)
    return tuple(reversed(chain))
