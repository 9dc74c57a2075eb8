"""qxfleet watches and steers fleets of UPSes that speak the Q*/Megatec/Voltronic protocols.

``from qxfleet import connect`` gives one UPS to a script, without an agent: see :mod:`qxfleet.library`.
"""

from __future__ import annotations

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``connect`` when it is first wanted: most of the program has no use for it."""
    if name == "connect":
        from importlib import import_module

        return import_module("qxfleet.library").connect
    raise AttributeError(f"module 'qxfleet' has no attribute {name!r}")
