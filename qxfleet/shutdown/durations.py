"""How long stopping takes: one load's, and the longest way through loads that wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def down_in_s(plan: Plan, left_s: Callable[[Load], float]) -> dict[str, float]:
    """Seconds until each load is down if all that must go begin now, each as soon as those before it are down.

    ``left_s``: what a load's own stop still takes, 0 for one that need not go any more. The agent's own host goes behind all.
    """
    in_s: dict[str, float] = {}
    before, named = plan.before, plan.named
    for name in plan.order:
        earlier = before.get(name)
        start = max([in_s[each] for each in earlier], default=0.0) if earlier else 0.0
        load = named.get(name)
        in_s[name] = start + left_s(load) if load is not None else start
    if plan.host is not None and in_s.get(plan.host):
        others_s = max((seconds for name, seconds in in_s.items() if name != plan.host), default=0.0)
        in_s[plan.host] = others_s + left_s(named[plan.host])
    return in_s


def critical_path(plan: Plan, loads: Mapping[str, float]) -> tuple[str, ...]:
    """The chain of loads that takes longest, first to go first; ``loads`` is what each takes, and nothing else need go."""
    in_s = down_in_s(plan, lambda load: loads.get(load.name, 0.0))
    going = [name for name in loads if name in in_s]
    if not going:
        return ()
    chain: list[str] = []
    name: str | None = max(going, key=lambda each: in_s[each])
    while name is not None:
        if name in loads:
            chain.append(name)
        earlier = plan.before.get(name, frozenset()) if name != plan.host or len(chain) > 1 else set(in_s) - {name}
        name = max((each for each in earlier if in_s[each] > 0), key=lambda each: in_s[each], default=None)
    return tuple(reversed(chain))
