"""How each UPS stands for a battery test, by its readings: what the planner is told of it, and the points of a course."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from qxfleet.agent.maintenance import Maintenance
from qxfleet.dialects.battery_order import form
from qxfleet.errors import OrderError
from qxfleet.model.electrical import present_watts
from qxfleet.model.events import Link, LinkChange
from qxfleet.model.reading import Origin, Reading, Value
from qxfleet.model.selftest import Asked, Rules
from qxfleet.model.state import DeviceState
from qxfleet.model.status import SELFTEST_FAILED, Status
from qxfleet.selftest.course import Point
from qxfleet.selftest.plan import Unit
from qxfleet.selftest.watch import Watch, odd_volts

if TYPE_CHECKING:
    from qxfleet.agent.fleet import Fleet
    from qxfleet.model.clock import Clock

FAULTS = ((Status.OVER, "overload"), (Status.BYPASS, "it went to bypass"), (Status.FSD, "its shutdown began"))


class Standing:
    """Every UPS of a fleet. ``failed``: what the last test found wrong with a battery that is still in its UPS."""

    def __init__(self, fleet: Fleet, clock: Clock, maintenance: Maintenance, rules: Rules) -> None:
        self.rules = rules
        self.failed: dict[str, str] = {}
        self._fleet = fleet
        self._clock = clock
        self._maintenance = maintenance
        self._watches: dict[str, Watch] = {}

    # -- told

    def see(self, reading: Reading) -> None:
        """Take a reading in."""
        ups = reading.device
        (self._watches.get(ups) or self.watch(ups)).see(reading, self.rules.charge_percent)

    def link_changed(self, change: LinkChange) -> None:
        """Take a change of contact in."""
        if change.link is Link.LOST:
            self.watch(change.device).lose()

    def keep(self, upses: Collection[str]) -> None:
        """Forget every UPS but these."""
        for memory in (self._watches, self.failed):
            for ups in set(memory) - set(upses):
                del memory[ups]

    # -- asked

    def watch(self, ups: str) -> Watch:
        """Since when things hold for a UPS."""
        watch = self._watches.get(ups)
        if watch is None:
            watch = self._watches[ups] = Watch(self.rules.load_steady_s)
        return watch

    def state(self, ups: str) -> DeviceState | None:
        """The state of a UPS; None if it is not configured."""
        return self._fleet.snapshot().get(ups)

    def contact(self, ups: str) -> bool:
        """Whether a UPS answers."""
        state = self.state(ups)
        return state is not None and state.link is Link.ONLINE and state.reading is not None

    def outage(self, ups: str) -> bool:
        """Whether the mains of a UPS are gone, test or no test."""
        state = self.state(ups)
        outage = None if state is None else state.conditions.get("on-battery")
        return outage is not None and outage.open and outage.pending_since_s is None

    def number(self, ups: str, name: str) -> float | None:
        """A variable of the last reading."""
        state = self.state(ups)
        return None if state is None or state.reading is None else _float(state.reading.values.get(name))

    def tells_charge(self, ups: str) -> bool:
        """Whether a UPS tells its charge itself."""
        state = self.state(ups)
        reading = None if state is None else state.reading
        return reading is not None and isinstance(reading.values.get("battery.charge"), float) and (
            reading.origins.get("battery.charge") is not Origin.ESTIMATED
        )

    def unit(self, ups: str, asked: Asked, rules: Rules) -> Unit:
        """A UPS as the planner takes it."""
        state = self.state(ups)
        if state is None:
            return Unit(ups, contact=False, unable="it is no longer configured")
        now_s, watch, contact = self._clock.monotonic(), self.watch(ups), self.contact(ups)
        values: Mapping[str, Value] = state.reading.values if state.reading is not None else {}
        load, window = _float(values.get("ups.load")), self._maintenance.of(ups)
        return Unit(
            ups, contact=contact, status=state.status, alarms=state.alarms, eco=bool(state.status & Status.ECO),
            mains=odd_volts(values, state.status), stable_s=watch.stable_s(now_s), charged_s=watch.charged_s(now_s),
            load_percent=load, load_span_percent=watch.load_span(now_s), charge_percent=_float(values.get("battery.charge")),
            runtime_s=_float(values.get("battery.runtime")), watts=present_watts(values),
            maintenance="" if window is None else ", ".join(filter(None, (f"by {window.actor}", window.reason))),
            failed=self.failed.get(ups, ""), unable=self._unable(ups, asked, rules) if contact else "",
        )  # fmt: skip

    def _unable(self, ups: str, asked: Asked, rules: Rules) -> str:
        try:
            form(asked, rules, self._fleet.orders(ups))
        except OrderError as error:
            return str(error)
        return ""

    def point(self, reading: Reading) -> Point:
        """A reading as a course takes it; the state is that after it."""
        values = reading.values
        faults = [text for flag, text in FAULTS if reading.status & flag]
        result = values.get("ups.test.result")
        return Point(
            reading.mono_s, reading.status, _float(values.get("battery.voltage")), _float(values.get("battery.voltage.nominal")),
            _float(values.get("ups.load")), _float(values.get("battery.charge")), self.outage(reading.device),
            SELFTEST_FAILED in reading.alarms, ", ".join(faults), result if isinstance(result, str) else "",
        )  # fmt: skip


def _float(value: Value | None) -> float | None:
    return value if isinstance(value, float) else None
