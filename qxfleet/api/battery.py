"""The battery register: what only the running agent may write."""

from __future__ import annotations

from qxfleet.agent.agent import Agent
from qxfleet.api import requests, responses
from qxfleet.api.asking import Streams, Verbs, one
from qxfleet.battery.keeper import Batteries
from qxfleet.errors import QxfleetError
from qxfleet.model.clock import iso

FACTS = ("type", "chemistry", "cells", "capacity_ah", "made", "note")


def verbs(agent: Agent) -> Verbs:
    """``battery-replaced``."""

    async def replaced(request: requests.BatteryReplaced, actor: str) -> responses.Replaced:
        """Another battery is in a UPS since ``since_us``; ``battery`` names one, else it is a new one."""
        part = agent.part(Batteries)
        if part is None:
            raise QxfleetError("this agent keeps no battery register")
        name = one(agent, request.ups)
        since_us = request.since_us
        if since_us > agent.clock.wall_us():
            raise QxfleetError(f"{iso(since_us)} is in the future: give the day on which it was done")
        facts = {key: value for key in FACTS if (value := getattr(request, key)) is not None}
        made = await part.replaced(name, since_us, request.battery, facts, actor=actor)
        return {"ups": made.ups, "battery": made.battery, "before": made.before, "since": iso(made.since_us)}

    return {requests.BatteryReplaced: replaced}


def streams(agent: Agent) -> Streams:
    """None."""
    return {}
