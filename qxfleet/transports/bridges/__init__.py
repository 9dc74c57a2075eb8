"""USB bridges, one module each: ``exchange(device, ask)`` carries one command over an opened device, blocking.

It returns the reply as it came, CR included where there is one (what follows a CR is padding and is cut off above), the
request itself where the bridge can't express it, and nothing where the UPS did not answer. What goes wrong on the bus it lets
through as pyusb's errors. Sources: usb.md sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Final, NamedTuple

from qxfleet.model.wire import Ask
from qxfleet.transports.bridges import (
    ablerex,
    armac,
    cypress,
    fabula,
    fuji,
    gtec,
    hunnox,
    ippon,
    krauler,
    omron,
    phoenix,
    phoenixtec,
    sgs,
    snr,
)
from qxfleet.transports.usb_device import UsbDevice


class Bridge(NamedTuple):
    """``queued``: replies wait on an interrupt endpoint, so an old one may lie in the way of the next."""

    name: str
    exchange: Callable[[UsbDevice, Ask], bytes]
    queued: bool


def _bridge(module: ModuleType, *, queued: bool) -> Bridge:
    return Bridge(module.__name__.rpartition(".")[2], module.exchange, queued)


_QUEUED = (cypress, phoenix, ippon, fuji, phoenixtec, sgs, gtec, omron, armac)
_DIRECT = (krauler, fabula, hunnox, snr, ablerex)

BRIDGES: Final = {
    bridge.name: bridge
    for bridge in (*(_bridge(each, queued=True) for each in _QUEUED), *(_bridge(each, queued=False) for each in _DIRECT))
}
