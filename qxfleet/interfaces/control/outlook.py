"""What a rehearsal wants to know of the running agent: how long batteries last, how long stops took, if it is armed."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.agent.agent import Agent
from qxfleet.interfaces.control.asking import Stream, Verb
from qxfleet.interfaces.shapes import Document
from qxfleet.shutdown.run import StagedShutdown


def verbs(agent: Agent) -> Mapping[str, Verb]:
    """``shutdown-outlook``."""

    async def outlook(args: Document, actor: str) -> Document:
        """What is known now of each UPS, and of each load what its stop took at worst."""
        part = agent.part(StagedShutdown)
        if part is None:
            return {"armed": None, "ups": {}, "learned_s": {}}
        upses = {
            name: {"runtime_s": seen.runtime_s, "runtime_low_s": seen.runtime_low_s, "charge": seen.charge}
            for name, seen in part.world.upses.items()
        }
        learned = {load.name: load.learned_s for load in part.plan.loads if load.learned_s is not None}
        return {"armed": part.armed, "ups": upses, "learned_s": learned}

    return {"shutdown-outlook": outlook}


def streams(agent: Agent) -> Mapping[str, Stream]:
    """None."""
    return {}
