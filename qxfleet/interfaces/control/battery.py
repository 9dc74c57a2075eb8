"""The battery register: what only the running agent may write."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.agent.agent import Agent
from qxfleet.battery.keeper import Batteries
from qxfleet.errors import QxfleetError
from qxfleet.interfaces.control.asking import Stream, Verb, one
from qxfleet.interfaces.shapes import Document
from qxfleet.model.clock import iso

FACTS = ("type", "chemistry", "cells", "capacity_ah", "made", "note")


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``battery-replaced``."""

    async def replaced(args: Document, actor: str) -> Document:
        """Another battery is in a UPS since ``since_us``; ``battery`` names one, else it is a new one."""
        part = agent.part(Batteries)
        if part is None:
            raise QxfleetError("this agent keeps no battery register")
        name = one(agent, args["ups"])
        since_us = int(args["since_us"])
        if since_us > agent.clock.wall_us():
            raise QxfleetError(f"{iso(since_us)} is in the future: give the day on which it was done")
        facts = {key: args[key] for key in FACTS if args.get(key) is not None}
        made = await part.replaced(name, since_us, args.get("battery"), facts, actor=actor)
        return {"ups": made.ups, "battery": made.battery, "before": made.before, "since": iso(made.since_us)}

    return {"battery-replaced": replaced}


def streams(agent: Agent) -> Mapping[str, Stream]:
    """None."""
    return {}
