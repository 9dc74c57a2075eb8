"""The documents of the fleet store: how shipping goes, and one view of all agents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from qxfleet.api import responses
from qxfleet.api.shapes import audit_document, event_shape
from qxfleet.config.durations import duration_text
from qxfleet.model.clock import iso
from qxfleet.model.status import Status, status_text
from qxfleet.model.variables import value_text

if TYPE_CHECKING:
    from qxfleet.model.retention import Retention
    from qxfleet.store.audit import Entry
    from qxfleet.store.fleet_view import StoredAgent, StoredUps
    from qxfleet.store.history import StoredEvent
    from qxfleet.store.shipper import ShipperHealth

SILENT_S = 60.0
"""An agent that was not in touch for so long is shown as silent: it is every few seconds."""


def shipping_document(health: ShipperHealth, wall_us: int) -> responses.Shipping:
    """How shipping goes: ``state`` is ``ok``, ``away``, ``refused``, ``behind`` or ``starting``; what waits, and since when."""
    oldest_us = health.oldest_us
    return {
        "state": health.state, "trouble": health.trouble, "since": iso(health.since_us), "records": health.records,
        "readings": health.readings, "oldest_s": None if oldest_us is None else round(max(0, wall_us - oldest_us) / 1e6, 1),
        "shipped": health.shipped,
    }  # fmt: skip


def retention_document(kept: Retention) -> dict[str, Any]:
    """How long each tier is kept, as in ``[retention]``."""
    texts = ("forever" if seconds is None else duration_text(seconds) for seconds in astuple(kept))
    return dict(zip(("raw", "minutes", "quarter_hours", "days"), texts, strict=True))


def retention_line(kept: Retention) -> str:
    """The same as people read it."""
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in retention_document(kept).items())


def registry_document(wall_us: int, agents: Iterable[StoredAgent], kept: Retention | None) -> dict[str, Any]:
    """``fleet status --json``; ``retention`` null: the fleet store has no rules yet."""
    return {**agents_document(wall_us, agents), "retention": None if kept is None else retention_document(kept)}


def agents_document(wall_us: int, agents: Iterable[StoredAgent]) -> responses.Agents:
    """All agents."""
    return {
        "time": iso(wall_us),
        "agents": [
            {
                "name": each.name, "site": each.site, "version": each.version, "age_s": round(each.age_s, 1), "armed": each.armed,
                "ups": each.upses,
            }
            for each in agents
        ],
    }  # fmt: skip


def fleet_document(wall_us: int, agents: Iterable[StoredAgent], upses: Sequence[StoredUps]) -> responses.FleetView:
    """``status --fleet --json``: every UPS of every agent as the fleet store knows it; ``age_s`` null: it never read anything."""
    return {
        **agents_document(wall_us, agents),
        "ups": [
            {
                "name": each.name, "agent": each.agent, "site": each.site, "agent_age_s": round(each.agent_age_s, 1),
                "age_s": None if each.age_s is None else round(each.age_s, 1),
                "status": "" if each.age_s is None else status_text(Status(each.status)),
                "variables": {name: value_text(name, value) for name, value in each.values.items()},
            }
            for each in upses
        ],
    }  # fmt: skip


def fleet_events(found: Iterable[tuple[str, StoredEvent]]) -> list[responses.FleetEvent]:
    """Events of all agents: the shape of ``events --json`` and the agent."""
    return [{**event_shape(stored.event), "agent": name} for name, stored in found]


def fleet_audit(found: Iterable[tuple[str, Entry]]) -> list[responses.FleetAct]:
    """The audit of all agents: the shape of ``audit --json`` and the agent."""
    return [{**audit_document(entry), "agent": name} for name, entry in found]
