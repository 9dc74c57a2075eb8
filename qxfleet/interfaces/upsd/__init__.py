"""The NUT network protocol 1.3 (RFC 9271), server side."""

from qxfleet.interfaces.upsd.server import NutServer

__all__ = ["NutServer"]
