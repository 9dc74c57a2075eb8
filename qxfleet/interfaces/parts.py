"""Everything that lives as long as the agent, in the order in which it starts: runners of plans first, faces last."""

from __future__ import annotations

from qxfleet.agent.part import MakePart
from qxfleet.agent.upkeep import Upkeep
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.metrics import MetricsServer
from qxfleet.interfaces.tokens import Tokens
from qxfleet.interfaces.upsd import NutServer
from qxfleet.interfaces.web import Web
from qxfleet.shutdown.run import StagedShutdown

PARTS: tuple[MakePart, ...] = (StagedShutdown, Upkeep, Accounts, Tokens, MetricsServer, NutServer, Web)
"""A part whose table is absent does nothing and loads nothing."""
