"""Orders that clients follow by an id: what became of each, for an hour."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from dataclasses import dataclass

from qxfleet.interfaces.upsd.protocol import Code

KEPT_S = 3600.0
"""As long as upsd keeps them."""

MOST = 10_000
"""Orders remembered; beyond it the oldest are forgotten early."""

PENDING, SUCCESS = b"PENDING\n", b"SUCCESS\n"


@dataclass(slots=True)
class Tracked:
    """One order; ``since_s`` is when it was given."""

    since_s: float
    status: bytes = PENDING


class Tracking:
    """The orders of all clients that asked for tracking. An id can't be guessed, so it is the right to ask."""

    def __init__(self) -> None:
        self._orders: OrderedDict[str, Tracked] = OrderedDict()

    def begin(self, now_s: float) -> str:
        """The id of a new order."""
        while self._orders and (
            len(self._orders) >= MOST or now_s - next(iter(self._orders.values())).since_s > KEPT_S
        ):
            self._orders.popitem(last=False)
        key = str(uuid.uuid4()).upper()
        self._orders[key] = Tracked(now_s)
        return key

    def end(self, key: str, refused: Code | None) -> None:
        """An order came to its end; ``refused`` None: it was seen to work."""
        if key in self._orders:
            self._orders[key].status = SUCCESS if refused is None else _ENDS.get(refused, b"ERR FAILED\n")

    def status(self, key: str, now_s: float) -> bytes:
        """The answer to GET TRACKING with an id."""
        order = self._orders.get(key)
        if order is None or now_s - order.since_s > KEPT_S:
            return Code.UNKNOWN.line
        return order.status


_ENDS = {
    Code.CMD_NOT_SUPPORTED: Code.UNKNOWN.line,
    Code.VAR_NOT_SUPPORTED: Code.UNKNOWN.line,
    Code.INVALID_ARGUMENT: Code.INVALID_ARGUMENT.line,
    Code.INVALID_VALUE: Code.INVALID_ARGUMENT.line,
}
