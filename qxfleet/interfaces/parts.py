"""Everything that lives as long as the agent, in the order in which it starts: what acts first, what listens last."""

from __future__ import annotations

from qxfleet.agent.agent import Agent
from qxfleet.agent.maintenance import maintenance
from qxfleet.agent.part import MakePart
from qxfleet.agent.shipping import Shipping
from qxfleet.agent.upkeep import Upkeep
from qxfleet.api.tokens import Tokens
from qxfleet.battery.keeper import Batteries
from qxfleet.interfaces.supervisor import Interfaces
from qxfleet.selftest.calendar import Calendar
from qxfleet.selftest.run import battery_tests
from qxfleet.shutdown.mark import LeaveMark
from qxfleet.shutdown.run import StagedShutdown


def shipping(agent: Agent) -> Shipping:
    """What ships to the fleet store, and says there whether the plan of this agent is armed."""
    made, plan = Shipping(agent), agent.part(StagedShutdown)
    if plan is not None:
        made.armed = lambda: plan.armed if plan.plan.named else None
    return made


PARTS: tuple[MakePart, ...] = (
    StagedShutdown, maintenance, LeaveMark, battery_tests, Calendar, Upkeep, shipping, Batteries, Tokens, Interfaces,
)  # fmt: skip
"""A part whose table is absent does nothing and loads nothing."""
