"""What hangs on the fleet and how it is stopped and started again, as configured. All values are frozen; durations in seconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter
from typing import Literal, TypeAlias

# -- what may be done


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments; no shell. Exit code 0 is "accepted"."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Webhook:
    """A POST with a JSON body that names load, act and reason; an answer of 2xx is "accepted". ``token_file``: a bearer token."""

    url: str
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class NutClients:
    """Clients of the NUT server that look after one of the load's feeds are shown FSD: those that logged in as ``user``, or from
    ``address``; all of the feeds' secondaries where neither is given."""

    user: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Outlet:
    """A switchable outlet of a UPS in the fleet: ``outlet.N.load.off`` and ``outlet.N.load.on``."""

    ups: str
    number: int


@dataclass(frozen=True, slots=True)
class WakeOnLan:
    """A magic packet to a broadcast address; ``mac`` as six pairs of hexadecimal digits with colons."""

    mac: str
    broadcast: str = "255.255.255.255"


Stop: TypeAlias = Command | Webhook | NutClients | Outlet
Start: TypeAlias = WakeOnLan | Command | Webhook | Outlet


# -- how a load is known to be down


@dataclass(frozen=True, slots=True)
class CommandSays:
    """Down when this program exits with 0; up when it exits with 1; anything else tells nothing."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpsLoadBelow:
    """Down when ``ups.load`` of every UPS that feeds it is below this many percent."""

    percent: float


@dataclass(frozen=True, slots=True)
class TcpClosed:
    """Up when something accepts connections there. Down when nothing does and a second sign agrees.

    A closed port alone is no host that is off: services stop long before their host does. The second sign is ``also``, or else
    that the address has answered nothing at all for a while.
    """

    host: str
    port: int
    also: CommandSays | UpsLoadBelow | None = None


@dataclass(frozen=True, slots=True)
class NutLoggedOut:
    """Up while one of its NUT clients is logged in. Down when none is any more, they were told, and a second sign agrees.

    upsmon logs out before it stops its host. The second sign is ``also``, or else that the addresses which answered while the
    clients were logged in have answered nothing for a while.
    """

    also: CommandSays | UpsLoadBelow | None = None


DownWhen: TypeAlias = TcpClosed | CommandSays | UpsLoadBelow | NutLoggedOut


# -- triggers


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that may hold on a UPS. ``limit`` is seconds, percent or degrees by ``kind``; for runtime None means "auto": the
    latest safe moment. All but temperature hold only on battery."""

    kind: Literal["on-battery-for", "charge-below", "runtime-below", "low-battery", "temperature-above"]
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Trigger:
    """Holds on a UPS when one condition of ``any`` does, or every one of ``all`` (which may be empty: never by that)."""

    any: tuple[Condition, ...] = ()
    all: tuple[Condition, ...] = ()


# -- the plan


@dataclass(frozen=True, slots=True)
class Load:
    """Something that must be stopped before its power goes.

    ``after``: loads that must be down before this one is stopped, and that come back after it. ``stage``: of the loads on a UPS,
    those of lower stages go first and come back last. ``stop_time_s``: longest its stop may take, tries and all.
    ``learned_s``: what its stop took at worst in earlier runs and drills, None before the third. ``watts``: what it draws.
    """

    name: str
    fed_by: tuple[str, ...]
    needs_feeds: int = 1
    after: tuple[str, ...] = ()
    stage: int = 1
    stop: Stop | None = None
    down_when: DownWhen | None = None
    start: Start | None = None
    stop_time_s: float = 120.0
    start_time_s: float = 300.0
    trigger: Trigger | None = None
    watts: float | None = None
    learned_s: float | None = None


@dataclass(frozen=True, slots=True)
class UpsOff:
    """What becomes of a UPS on battery when everything it feeds is down: told to cut and return, to stay off, or left alone.

    ``stagger_s`` lies between two orders, and is added to ``ondelay_s`` for each UPS told before.
    """

    then: Literal["return", "stay-off", "leave"] = "return"
    offdelay_s: float = 60.0
    ondelay_s: float = 180.0
    stagger_s: float = 10.0


@dataclass(frozen=True, slots=True)
class ComingBack:
    """When power counts as good enough to start on: mains for ``mains_stable_s`` and charge at or above ``charge_above``;
    where the charge is not known, mains for ``unknown_charge_s``."""

    charge_above: float = 50.0
    mains_stable_s: float = 120.0
    unknown_charge_s: float = 1800.0


@dataclass(frozen=True)
class Plan:
    """Everything that is configured about shutting down and coming back; a run keeps the plan it began with.

    ``host`` is the load the agent runs on, stopped last of all; ``margin_s`` is added to the critical path for "auto";
    ``hold_s``: how long a condition must hold before it counts; ``lost_on_battery``: what a UPS last seen on battery and then
    lost is taken for: ``run-on`` (its battery drains as predicted), ``stop`` (its trigger holds at once), ``ignore``;
    ``count_unseen``: whether a UPS without contact, last seen on mains, counts as a feed that lasts; ``stay_off``: UPSes whose
    own options say that they stay off once cut.
    """

    loads: tuple[Load, ...] = ()
    trigger: Trigger = Trigger()
    ups_off: UpsOff = UpsOff()
    coming_back: ComingBack = ComingBack()
    on_power_return: Literal["cancel", "finish"] = "cancel"
    lost_on_battery: Literal["run-on", "stop", "ignore"] = "run-on"
    count_unseen: bool = False
    host: str | None = None
    margin_s: float = 60.0
    hold_s: float = 5.0
    armed: bool = False
    stay_off: tuple[str, ...] = ()

    @cached_property
    def named(self) -> Mapping[str, Load]:
        """Loads by name."""
        return {load.name: load for load in self.loads}

    @cached_property
    def fed(self) -> Mapping[str, tuple[Load, ...]]:
        """Loads by each UPS that feeds them."""
        fed: dict[str, list[Load]] = {}
        for load in self.loads:
            for ups in load.fed_by:
                fed.setdefault(ups, []).append(load)
        return {ups: tuple(loads) for ups, loads in fed.items()}

    @cached_property
    def triggers(self) -> tuple[Trigger, ...]:
        """The plan's own trigger first, then those that loads have instead."""
        return tuple(dict.fromkeys((self.trigger, *(load.trigger for load in self.loads if load.trigger is not None))))

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """Every condition of any trigger, once."""
        return tuple(dict.fromkeys(each for trigger in self.triggers for each in (*trigger.any, *trigger.all)))

    @cached_property
    def trigger_of(self) -> Mapping[str, int]:
        """For each load, the place in :attr:`triggers` of the one that counts for it."""
        place = {trigger: number for number, trigger in enumerate(self.triggers)}
        return {load.name: place[load.trigger or self.trigger] for load in self.loads}

    @cached_property
    def staged(self) -> frozenset[str]:
        """UPSes whose loads are of several stages, the agent's own host aside."""
        return frozenset(
            ups for ups, loads in self.fed.items() if len({load.stage for load in loads if load.name != self.host}) > 1
        )

    @cached_property
    def before(self) -> Mapping[str, frozenset[str]]:
        """For each load, and for each stage of each UPS, what must have gone before it.

        A stage stands as ``UPS/number`` between the loads of the stages below and its own, so that a UPS with many loads needs no
        line from each to each. The agent's own host is not in it: it goes behind everything that goes at all.
        """
        stages: dict[str, dict[int, list[str]]] = {}
        for load in self.loads:
            for ups in load.fed_by if load.name != self.host else ():
                stages.setdefault(ups, {}).setdefault(load.stage, []).append(load.name)
        before: dict[str, set[str]] = {load.name: set(load.after) for load in self.loads}
        for ups, by_stage in stages.items():
            for earlier, later in itertools.pairwise(sorted(by_stage)):
                gate = f"{ups}/{later}"
                before[gate] = {*by_stage[earlier], *({f"{ups}/{earlier}"} & before.keys())}
                for name in by_stage[later]:
                    before[name].add(gate)
        return {name: frozenset(earlier) for name, earlier in before.items()}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Loads and stages so that whatever goes before something stands before it; needs a plan without circles."""
        return tuple(TopologicalSorter(self.before).static_order())

    @cached_property
    def behind(self) -> Mapping[str, tuple[str, ...]]:
        """For each load, those that name it in ``after``: they go later, and come back sooner."""
        behind: dict[str, list[str]] = {}
        for load in self.loads:
            for name in load.after:
                behind.setdefault(name, []).append(load.name)
        return {name: tuple(later) for name, later in behind.items()}

    @cached_property
    def later(self) -> Mapping[str, frozenset[str]]:
        """For each load, all that must wait until it is down: those that name it in ``after``, and those behind them."""
        found: dict[str, frozenset[str]] = {}
        for name in reversed(self.order):
            if name in self.named:
                direct = self.behind.get(name, ())
                found[name] = frozenset(direct).union(*(found[each] for each in direct))
        return found
