"""What the interfaces know of the fleet, as the core sends it: everything once, then what is other than before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from qxfleet.agent.agent import Agent, Health
from qxfleet.agent.fleet import Pace
from qxfleet.agent.forced import Flag, Forced
from qxfleet.dialects.spec import Order
from qxfleet.errors import OrderNotSupported
from qxfleet.model.events import SettingInfo
from qxfleet.model.reading import Reading
from qxfleet.model.state import DeviceState
from qxfleet.shutdown.model import LoadPhase
from qxfleet.shutdown.run import StagedShutdown
from qxfleet.store.shipper import ShipperHealth
from qxfleet.store.writer import StoreHealth

Quick = tuple[str, int, float, tuple[Any, ...]]
"""A reading that differs from the one before in nothing but its time and its values: UPS, wall time, monotonic time, values."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What a UPS can do: its commands, its settings; or why that can't be said."""

    orders: tuple[Order, ...] = ()
    settings: tuple[SettingInfo, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """What is other than before. ``order`` is there when UPSes came or went: the names of all."""

    states: tuple[DeviceState, ...] = ()
    quick: tuple[Quick, ...] = ()
    order: tuple[str, ...] | None = None
    abilities: Mapping[str, Ability] | None = None
    forced: Mapping[Flag, Forced] | None = None


@dataclass(frozen=True, slots=True)
class Pulse:
    """Figures of the core itself, once a second; ``polls``: by UPS, good and missed ones."""

    number: int
    health: Health
    store: StoreHealth
    pace: Pace
    polls: Mapping[str, tuple[int, int]]
    plan: tuple[bool, bool, Mapping[str, int]]
    shipping: ShipperHealth | None


_REST = tuple(each.name for each in fields(DeviceState) if each.name != "reading")
_READING = tuple(each.name for each in fields(Reading) if each.name not in ("wall_us", "mono_s", "values"))


def quick(before: DeviceState | None, state: DeviceState) -> Quick | None:
    """The short form of a state, where nothing but values and their time is new."""
    if before is None or before.reading is None or state.reading is None:
        return None
    old, new = before.reading, state.reading
    for name in _REST:
        was, now = getattr(before, name), getattr(state, name)
        if was is not now and was != now:
            return None
    for name in _READING:
        was, now = getattr(old, name), getattr(new, name)
        if was is not now and was != now:
            return None
    if old.values.keys() != new.values.keys() or list(old.values) != list(new.values):
        return None
    return state.name, new.wall_us, new.mono_s, tuple(new.values.values())


def with_quick(state: DeviceState, news: Quick) -> DeviceState:
    """The state that a short form stands for."""
    assert state.reading is not None
    _, wall_us, mono_s, values = news
    told = dict(zip(state.reading.values, values, strict=True))
    return replace(state, reading=replace(state.reading, wall_us=wall_us, mono_s=mono_s, values=told))


class Changes:
    """Finds what is other than it was when it was asked last."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._states: dict[str, DeviceState] = {}
        self._abilities: dict[str, Ability] = {}
        self._forced: dict[Flag, Forced] = {}

    def news(self, *, abilities: bool = True) -> News | None:
        """What is new; None if nothing is. Without ``abilities`` those are looked at where something else is new but values."""
        states, before = self._agent.fleet.snapshot(), self._states
        order = tuple(states) if states.keys() != before.keys() or list(states) != list(before) else None
        full: list[DeviceState] = []
        short: list[Quick] = []
        for name, state in states.items():
            was = before.get(name)
            if was is state:
                continue
            brief = quick(was, state)
            if brief is None:
                full.append(state)
            else:
                short.append(brief)
        self._states = dict(states)
        able = self._new_abilities(states if abilities or order is not None else [state.name for state in full])
        forced = dict(self._agent.forced.all())
        changed = forced if forced != self._forced else None
        self._forced = forced
        if not (full or short or able or order is not None or changed is not None):
            return None
        return News(tuple(full), tuple(short), order, able, changed)

    def _new_abilities(self, names: Iterable[str]) -> dict[str, Ability] | None:
        found: dict[str, Ability] = {}
        for name in names:
            ability = self._ability(name)
            if ability != self._abilities.get(name):
                found[name] = self._abilities[name] = ability
        return found or None

    def _ability(self, name: str) -> Ability:
        fleet = self._agent.fleet
        try:
            orders, settings = fleet.orders(name), fleet.settings(name)
        except OrderNotSupported as error:
            return Ability(unknown=str(error))
        return Ability(orders, settings)


def plan_figures(agent: Agent) -> tuple[bool, bool, Mapping[str, int]]:
    """Whether the shutdown plan is armed, whether a run is under way, and its loads by phase."""
    part = agent.part(StagedShutdown)
    if part is None:
        return False, False, {}
    phases = Counter(phase.value for phase in part.decision.loads.values())
    return part.armed, part.running, {phase.value: phases[phase.value] for phase in LoadPhase}
