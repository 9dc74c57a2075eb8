"""What is next in a shutdown or a return: a pure function of the plan, what was done, and what is seen."""

from __future__ import annotations

from qxfleet.model.loads import Plan
from qxfleet.shutdown.model import Decision, Record, World


def next_steps(plan: Plan, record: Record, world: World, now_s: float) -> Decision:
    """What is to happen now. Called again after every change, and by ``look_s`` at the latest."""
    return Decision(memory=record.memory)
