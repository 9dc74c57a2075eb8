"""What a device's replies mean together: facts, options and one status reply become one Reading."""

from __future__ import annotations

from collections.abc import Mapping

from qxfleet.dialects.spec import Dialect, Query, Topic
from qxfleet.model.battery import Calibration, Estimator, Limits, packs_for
from qxfleet.model.options import UpsOptions
from qxfleet.model.plausible import sift_rating, sift_status
from qxfleet.model.reading import Origin, Reading, Value
from qxfleet.model.status import SELFTEST_FAILED, Status, derive_status

_OL, _LB = int(Status.OL), int(Status.LB)
_STEADY = int(Status.CAL | Status.OB)


def sift(query: Query, values: dict[str, Value | bool]) -> tuple[str, ...]:
    """Remove what can't be true from one reply's values; raises ReplyImplausible when nothing of it can."""
    if query.topic is Topic.STATUS:
        return sift_status(values)
    if query.topic is Topic.RATING:
        return sift_rating(values)
    return ()


class Readout:
    """Turns one device's replies into readings; owns what must be remembered between them."""

    def __init__(self, options: UpsOptions, dialect: Dialect, packs: float | None = None) -> None:
        self.options = options
        self.dialect = dialect
        self.facts: dict[str, Value] = {}
        self.settings: dict[str, float] = {
            setting.name: setting.truncate(
                {"offdelay": options.offdelay_s, "ondelay": options.ondelay_s}.get(setting.option, setting.default)
            )
            for setting in dialect.settings
        }
        cal = Calibration.from_points(*options.runtimecal) if options.runtimecal else None
        self._estimator = Estimator(cal, options.chargetime_s, options.idleload_percent)
        self.packs = packs
        self.bits: dict[str, bool] = {}
        self.status = 0
        self._expected = frozenset(
            field.name
            for query in dialect.queries
            if query.topic is Topic.STATUS
            for field in query.replies[0].fields
        )
        self._rebuild()

    def learn(self, values: Mapping[str, Value | bool]) -> None:
        """Take in facts that stay: ratings, vendor text, protocol."""
        self.facts.update((name, value) for name, value in values.items() if not isinstance(value, bool))
        self._rebuild()

    def keep_setting(self, name: str, value: float) -> None:
        """Keep the value of a writable variable that lives here and not in the device."""
        self.settings[name] = value
        self._rebuild()

    def _rebuild(self) -> None:
        options = self.options
        origins: dict[str, Origin] = {}
        base: dict[str, Value] = {**self.dialect.static, **options.defaults}
        origins.update(dict.fromkeys(options.defaults, Origin.CONFIGURED))
        for name, value in self.facts.items():
            base[name] = value
            origins.pop(name, None)
        base.update(self.settings)
        origins.update(dict.fromkeys(self.settings, Origin.CONFIGURED))
        base.update(options.overrides)
        origins.update(dict.fromkeys(options.overrides, Origin.CONFIGURED))
        self._overrides = dict(options.overrides)
        nominal_v = base.get("battery.voltage.nominal")
        self._nominal_v = nominal_v if isinstance(nominal_v, float) and nominal_v > 0 else None
        derived = Limits.from_nominal(self._nominal_v) if self._nominal_v else None
        for name, volts in (("battery.voltage.low", derived and derived.low_v), ("battery.voltage.high", derived and derived.high_v)):
            if name not in base and volts is not None:
                base[name] = volts
                origins[name] = Origin.ESTIMATED
        low_v, high_v = base.get("battery.voltage.low"), base.get("battery.voltage.high")
        self._limits: Limits | None = None
        if isinstance(low_v, float) and isinstance(high_v, float) and 0 < low_v < high_v:
            self._limits = Limits(low_v, high_v)
        packs = base.get("battery.packs")
        self._given_packs = packs if isinstance(packs, float) else None
        self._reported_runtime = "battery.runtime" in self.facts
        self._base, self._base_origins = base, origins

    def reading(self, live: dict[str, Value | bool], wall_us: int, mono_s: float) -> Reading:
        """One reading from the values of one status reply (with those of other live queries merged in).

        Takes ``live`` over. Raises ReplyImplausible where the reply can't be true as a whole.
        """
        notes = sift_status(live)
        options = self.options
        bits: dict[str, bool] = {name: live.pop(name) for name in _BITS if name in live}  # type: ignore[misc]
        if len(bits) < len(_BITS):
            notes = (*notes, *(f"{name} unreadable" for name in _BITS if name not in bits))
        values: dict[str, Value] = self._base.copy()
        values.update(live)
        if self._overrides:
            values.update(self._overrides)
        status, alarms = derive_status(bits, values, self.status, ignore_shutdown=options.ignoresab)
        self.status, self.bits = status, bits
        origins: Mapping[str, Origin] = self._base_origins
        battery_v = values.get("battery.voltage")
        if isinstance(battery_v, float) and battery_v > 0:
            packs = self._given_packs
            if packs is None:
                packs = self.packs
                if packs is None and self._nominal_v is not None and self._sane(status, alarms):
                    packs = self.packs = packs_for(battery_v, self._nominal_v)
            if packs is not None and packs != 1:
                battery_v *= packs
                values["battery.voltage"] = battery_v
                origins = {**origins, "battery.voltage": Origin.SCALED}
            elif packs is None and self._nominal_v and not 0.6 <= battery_v / self._nominal_v <= 1.3:
                battery_v = None  # a part of the battery, and not known which: no estimate rather than a wrong one
        else:
            battery_v = None
        load = values.get("ups.load")
        charge, runtime_s = self._estimator.estimate(
            mono_s, bool(status & _OL), battery_v, self._limits, load if isinstance(load, float) else None
        )
        if charge is not None and "battery.charge" not in values:
            values["battery.charge"] = charge
            origins = {**origins, "battery.charge": Origin.ESTIMATED}
        if runtime_s is not None and not self._reported_runtime and "battery.runtime" not in values:
            values["battery.runtime"] = runtime_s
            origins = {**origins, "battery.runtime": Origin.ESTIMATED}
        if options.ignorelb:
            status = self.status = status & ~_LB | self._low_battery(values)
        missing = self._expected - values.keys() - bits.keys() if len(live) + len(bits) < len(self._expected) else _NONE
        return Reading(options.name, wall_us, mono_s, status, values, alarms, missing, origins, notes)

    @staticmethod
    def _sane(status: int, alarms: tuple[str, ...]) -> bool:
        """Packs are decided on mains, without a test or a reported failure: once decided, they stay (engine.md 8.3)."""
        return bool(status & _OL) and not status & _STEADY and SELFTEST_FAILED not in alarms

    @staticmethod
    def _low_battery(values: Mapping[str, Value]) -> int:
        """LB from charge and runtime against their limits, as whole numbers (``ignorelb``, engine.md section 7.2)."""
        for name in ("battery.charge", "battery.runtime"):
            value, limit = values.get(name), values.get(name + ".low")
            if isinstance(value, float) and isinstance(limit, float) and round(value) < limit:
                return _LB
        return 0


_NONE: frozenset[str] = frozenset()
_BITS = ("bit.utility_fail", "bit.battery_low", "bit.regulating", "bit.failed", "bit.test", "bit.shutdown")
