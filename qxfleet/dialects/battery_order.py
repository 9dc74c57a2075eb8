"""Which order a battery test is in a UPS's dialect, and when it must be over."""

from __future__ import annotations

from dataclasses import dataclass

from qxfleet.dialects.spec import Order
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.selftest import GRACE_S, QUICK_S, Asked, Rules

TIMED, QUICK, DEEP, STOP = (
    "test.battery.start", "test.battery.start.quick", "test.battery.start.deep", "test.battery.stop",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """``name`` and ``value`` as :meth:`Fleet.perform` takes them; ``bound_s`` seconds from the order to the latest end.

    ``by_itself``: the device ends it, also if nobody watches any more. Times are cut to what can be written (section 10.2).
    """

    name: str
    value: str | None
    bound_s: float
    by_itself: bool = True


def form(asked: Asked, rules: Rules, orders: tuple[Order, ...]) -> Form:
    """The bounded form of a test among the orders a device has; its own end wherever it has one.

    A deep test is ordered for its longest time: a device ends it earlier by itself when the battery is low (megatec-family.md
    section 10.5). Raises OrderNotSupported or OrderInvalid, with the reason for people.
    """
    known = {order.name: order for order in orders}
    if asked.kind == "quick":
        if QUICK not in known:
            raise OrderNotSupported("it has no quick test")
        return Form(QUICK, None, QUICK_S + GRACE_S)
    timed = known.get(TIMED)
    low, high = timed.value[:2] if timed is not None and timed.value is not None else (0.0, 0.0)
    if asked.kind == "timed":
        wanted_s = asked.for_s or 0.0
        if timed is None:
            raise OrderNotSupported("it has no test of a given length")
        if not low <= wanted_s <= high:
            raise OrderInvalid(f"a test of {wanted_s:g} s is out of its range, {low:g} to {high:g} s are possible")
        step_s = 60 if wanted_s >= 60 else 6
        lasts_s = wanted_s // step_s * step_s
        return Form(TIMED, f"{lasts_s:g}", lasts_s + GRACE_S)
    if timed is not None and low <= rules.longest_s <= high:
        return Form(TIMED, f"{rules.longest_s:g}", rules.longest_s + GRACE_S)
    if DEEP in known and STOP in known:
        return Form(DEEP, None, rules.longest_s, by_itself=False)
    raise OrderNotSupported("it has no deep test that can be ended")
