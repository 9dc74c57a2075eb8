"""The local control socket: the command line's way to a running agent."""

from qxfleet.api.events import BACKLOG_EVENTS, STORED_WITHIN_S
from qxfleet.interfaces.control.server import LONGEST_REQUEST, MOST_CLIENTS, ControlServer

__all__ = ["BACKLOG_EVENTS", "LONGEST_REQUEST", "MOST_CLIENTS", "STORED_WITHIN_S", "ControlServer"]
