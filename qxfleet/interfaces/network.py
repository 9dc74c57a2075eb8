"""The network interfaces, in the order in which they start. They find in a mirror what they use of an agent."""

from __future__ import annotations

from qxfleet.agent.part import MakePart
from qxfleet.api.tokens import Tokens
from qxfleet.interfaces.accounts import Accounts
from qxfleet.interfaces.metrics import MetricsServer
from qxfleet.interfaces.upsd import NutServer
from qxfleet.interfaces.web import Web

PARTS: tuple[MakePart, ...] = (Accounts, Tokens, MetricsServer, NutServer, Web)
"""One whose table is absent does nothing and loads nothing."""
