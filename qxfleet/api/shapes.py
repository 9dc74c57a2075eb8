"""What an agent knows, made into answers: see ``responses``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from qxfleet.agent.profiles import Drift, Step
from qxfleet.api import responses
from qxfleet.config.profile import Profile
from qxfleet.dialects.spec import Order
from qxfleet.model.clock import iso
from qxfleet.model.events import Event, OrderResult, SettingInfo
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Origin
from qxfleet.model.state import DeviceState
from qxfleet.model.status import Status, status_text
from qxfleet.model.variables import value_text

if TYPE_CHECKING:
    from qxfleet.agent.agent import Agent
    from qxfleet.store.audit import Entry
    from qxfleet.store.tokens import StoredToken

def fleet_document(agent: str, wall_us: int, upses: Iterable[responses.UpsStatus]) -> responses.FleetStatus:
    """``status --json``."""
    return {"agent": agent, "time": iso(wall_us), "ups": list(upses)}


def state_told(agent: Agent) -> responses.StateTold:
    """``state_trouble``, one sentence while the state takes no records: since when, why, and where they are meanwhile."""
    health, side = agent.store.health(), agent.config.agent.spool
    if health.error is None:
        return {}
    since = "" if health.since_us is None else f" since {iso(health.since_us)}"
    kept = "in memory only, and a restart loses it" if health.in_memory else f"in {side} until it does"
    return {"state_trouble": f"the state takes no records{since}: {health.error}; what happens is kept {kept}"}


def ups_document(options: UpsOptions, state: DeviceState, mono_s: float, *, forced: bool = False) -> responses.UpsStatus:
    """One UPS of ``status --json``."""
    return {**ups_facts(options, state, mono_s, forced=forced), "variables": variable_texts(state, forced=forced)}


def ups_facts(options: UpsOptions, state: DeviceState, mono_s: float, *, forced: bool = False) -> responses.UpsFacts:
    """One UPS, its variables apart; ``age_s`` is null before the first reading. ``forced``: its clients are to shut down."""
    reading, identity = state.reading, state.identity
    return {
        "name": options.name,
        "description": options.description,
        "groups": list(options.groups),
        "port": options.port,
        "dialect": identity.dialect if identity else options.dialect,
        "state": state.link.value,
        "status": shown_status(state, forced) if reading else "",
        "alarms": list(state.alarms),
        "age_s": round(max(0.0, mono_s - reading.mono_s), 3) if reading else None,
    }


def shown_status(state: DeviceState, forced: bool) -> str:
    """``ups.status``; ``FSD`` stands in front, as upsd has it, where clients are told to shut down."""
    return f"FSD {status_text(state.status & ~Status.FSD)}" if forced else status_text(state.status)


def variable_texts(state: DeviceState, *, forced: bool = False) -> dict[str, str]:
    """Every variable in NUT's text format, sorted; status and alarms are the published ones, not one frame's."""
    if state.reading is None:
        return dict(state.told)
    texts = state.reading.texts()
    texts["ups.status"] = shown_status(state, forced)
    texts.update(state.told)
    texts.pop("ups.alarm", None)
    if state.alarms:
        texts["ups.alarm"] = state.alarm
    return dict(sorted(texts.items()))


def vars_document(state: DeviceState, *, forced: bool = False) -> responses.Vars:
    """``vars --json``: variables with where each comes from."""
    variables = variable_texts(state, forced=forced)
    origins = state.reading.origins if state.reading else {}
    return {
        "ups": state.name,
        "variables": variables,
        "origins": {name: _origin(state, origins, name).value for name in variables},
    }


def _origin(state: DeviceState, origins: Mapping[str, Origin], name: str) -> Origin:
    return Origin.AGENT if name in state.told else origins.get(name, Origin.MEASURED)


def orders_document(ups: str, orders: Sequence[Order]) -> responses.Commands:
    """``commands --json``; ``value`` is null for a command that takes none, else its bounds in seconds."""
    return {
        "ups": ups,
        "commands": [
            {
                "name": order.name,
                "description": order.description,
                "hazard": order.hazard.value,
                "value": None if order.value is None else _bounds(*order.value),
            }
            for order in sorted(orders, key=lambda order: order.name)
        ],
    }


def _bounds(low: float, high: float, default: float | None) -> responses.Bounds:
    return {"min": low, "max": high, "default": default}


def settings_document(ups: str, settings: Sequence[SettingInfo]) -> responses.Settings:
    """``settings --json``."""
    return {"ups": ups, "settings": settings_shape(settings)}


def settings_shape(settings: Sequence[SettingInfo]) -> dict[str, responses.Setting]:
    """Writable variables by name: value in NUT's text format, bounds in the variable's unit, choices."""
    return {
        setting.name: {
            "value": None if setting.value is None else value_text(setting.name, setting.value),
            "min": setting.low,
            "max": setting.high,
            "choices": list(setting.choices),
            "description": setting.description,
        }
        for setting in sorted(settings, key=lambda setting: setting.name)
    }


def profile_document(profile: Profile, drift: Iterable[Drift]) -> responses.Profile:
    """One profile of ``profile check --json``."""
    return {
        "profile": profile.name,
        "ups": list(profile.upses),
        "settings": dict(profile.settings),
        "drift": [
            {
                "ups": each.ups, "setting": each.name, "wanted": each.wanted, "is": each.stands, "settable": each.settable,
                "why": each.why_not,
            }
            for each in drift
        ],
    }  # fmt: skip


def step_document(step: Step) -> responses.ProfileStep:
    """One setting of ``profile apply --json``."""
    drift, result = step.drift, step.result
    return {
        "ups": drift.ups, "setting": drift.name, "wanted": drift.wanted, "was": drift.stands, "outcome": result.outcome.value,
        "reply": result.reply, "sent": result.sent, "text": result.text,
    }  # fmt: skip


def event_shape(event: Event) -> responses.EventShape:
    """One line of ``events --json``."""
    return cast(responses.EventShape, event.as_json())


def event_item(event: Event, *, stored: bool = True) -> responses.EventFollowed:
    """One event of a stream: its contract shape, and beside it how loud it is and whether the database has it for good."""
    return {"event": event_shape(event), "severity": int(event.severity), "stored": stored}


def order_told(result: OrderResult) -> responses.OrderTold:
    """The end of an order, and all that is known of it."""
    return cast(responses.OrderTold, {**result.as_json(), "sent": result.sent, "text": result.text})


def audit_document(entry: Entry) -> responses.Act:
    """One entry of ``audit --json``; ``outcome`` is null for an order whose end is not known."""
    who, where = parties(entry.actor)
    return {
        "time": iso(entry.at_us), "who": who, "where": where, "act": entry.act, "target": entry.target, "name": entry.name,
        "value": entry.value, "outcome": entry.outcome, "text": entry.text,
    }  # fmt: skip


def parties(actor: str) -> tuple[str, str]:
    """Who and from where, of an actor's one text ``face:who@where``: ``("operator", "http 192.0.2.7")``."""
    face, _, rest = actor.partition(":")
    who, at, address = rest.rpartition("@")
    return (who, f"{face} {address}") if at else (rest or face, face)


def token_document(token: StoredToken) -> responses.Token:
    """One token of ``token list --json``: never its secret. ``allow`` is null for every right of its user."""
    return {
        "name": token.name, "user": token.user, "allow": None if token.allow is None else list(token.allow),
        "created": iso(token.created_us), "expires": None if token.expires_us is None else iso(token.expires_us),
        "used": None if token.used_us is None else iso(token.used_us),
    }  # fmt: skip
