"""What a rehearsal wants to know of the running agent: how long batteries last, how long stops took, if it is armed."""

from __future__ import annotations

from qxfleet.agent.agent import Agent
from qxfleet.api import requests, responses
from qxfleet.api.asking import Streams, Verbs
from qxfleet.errors import OrderNotSupported
from qxfleet.shutdown.run import StagedShutdown


def verbs(agent: Agent) -> Verbs:
    """``shutdown-outlook``."""

    async def outlook(request: requests.ShutdownOutlook, actor: str) -> responses.Outlook:
        """What is known now of each UPS, and of each load what its stop took at worst."""
        part = agent.part(StagedShutdown)
        if part is None:
            return {"armed": None, "ups": {}, "learned_s": {}}
        upses = {name: _ups(agent, part, name) for name in part.plan.fed}
        learned = {load.name: load.learned_s for load in part.plan.loads if load.learned_s is not None}
        return {"armed": part.armed, "ups": upses, "learned_s": learned}

    return {requests.ShutdownOutlook: outlook}


def _ups(agent: Agent, part: StagedShutdown, name: str) -> responses.UpsOutlook:
    """What is known of one UPS: how long it lasts or why that is not known, what it carries, and which orders it takes."""
    seen = part.world.upses.get(name)
    runtime_s, low_s = part.forecast(name)
    try:
        orders = sorted(order.name for order in agent.fleet.orders(name))
    except OrderNotSupported:
        orders = None
    return {
        "runtime_s": runtime_s, "runtime_low_s": low_s, "charge": seen.charge if seen else None,
        "load_w": seen.load_w if seen else None, "rated_w": seen.rated_w if seen else None, "orders": orders,
        "unknown": None if runtime_s is not None else unknown_runtime(contact=seen is not None and seen.contact,
                                                                     load=seen is not None and seen.load_percent is not None),
    }  # fmt: skip


def unknown_runtime(*, contact: bool, load: bool) -> str:
    """Why the runtime of a UPS is not known."""
    if not contact:
        return "there is no contact"
    if not load:
        return "it tells no load"
    return "it tells none, no full discharge of it was seen yet, and no runtimecal is configured"


def streams(agent: Agent) -> Streams:
    """None."""
    return {}
