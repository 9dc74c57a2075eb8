"""What a device's replies mean together: facts, options and one status reply become one Reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from qxfleet.dialects.spec import PART, Dialect, Query, Tier, Topic
from qxfleet.errors import ReplyMalformed
from qxfleet.model.battery import Calibration, Estimator, Limits, RuntimeTable, packs_for
from qxfleet.model.electrical import DEAD_POLLS, dead_below
from qxfleet.model.notice import Notice
from qxfleet.model.options import UpsOptions
from qxfleet.model.plausible import sift_listed, sift_other, sift_rating, sift_status
from qxfleet.model.reading import Origin, Reading, Value
from qxfleet.model.status import REPLACE_BATTERY, SELFTEST_FAILED, SHUTDOWN_IMMINENT, Status, derive_status
from qxfleet.session.limits import shown_limits
from qxfleet.session.lines import as_listed
from qxfleet.session.meanings import Said, Sayings
from qxfleet.session.plans import BIT_PREFIX, derivation, overlay_for, slot_names, without_parts

_OL, _OB, _LB = int(Status.OL), int(Status.OB), int(Status.LB)
_FSD, _RB, _ALARM = int(Status.FSD), int(Status.RB), int(Status.ALARM)
_LINE = _OL | _OB
_STEADY = int(Status.CAL | Status.OB)


def sift(query: Query, values: dict[str, Value | bool]) -> tuple[str, ...]:
    """Remove what can't be true from one reply's values; raises ReplyImplausible when nothing of it can."""
    if query.replies[0].lines is not None:
        if query.topic is Topic.STATUS and not any(value is True for value in values.values()) and _FAIL not in values:
            raise ReplyMalformed("bits")  # as before a driver has heard of its UPS: NUT's WAIT
        return sift_listed(values)
    if query.topic is Topic.STATUS:
        return sift_status(values)
    if query.topic is Topic.RATING:
        return sift_rating(values)
    return sift_other(values)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What follows from a status reply's bits alone, and from which of its values are there."""

    bits: dict[str, bool]
    status: int
    alarms: tuple[str, ...]
    absent: frozenset[str]
    regulating: bool


class _Patterns(dict[int, _Pattern | None]):
    """Patterns by their key, each found out when it is first wanted."""

    def __init__(self, find: Callable[[int], _Pattern | None]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: int) -> _Pattern | None:
        pattern = self[key] = self._find(key)
        return pattern


class Readout:
    """Turns one device's replies into readings; owns what must be remembered between them.

    ``facts`` is what the device said of itself once and for all; ``told`` everything it said besides its status, as far as it
    still counts; ``known`` that and the latest reading.
    """

    def __init__(self, options: UpsOptions, dialect: Dialect, packs: float | None = None) -> None:
        self.options = options
        self.recognised = dialect
        """The table as it stands; ``dialect`` is that of this device, by what it lists and what its options allow."""
        if dialect.guarded and not options.inverter_settings:
            dialect = replace(dialect, device_settings=())
        self.dialect = self._table = dialect
        self._status = dialect.tier(Tier.QUICK)[0]
        self.facts: dict[str, Value] = {}
        self.told: dict[str, Value | bool] = {}
        self._known_before: dict[str, Value] = {}
        self._answers: dict[int, Mapping[str, Value | bool]] = {}
        self._watched: dict[int, tuple[Value | bool | None, ...]] = {}
        self._sayings = Sayings(dialect)
        self._derivation = derivation(dialect.derived)
        self._tells_line = any(meaning.sets & _LINE for meaning in dialect.meanings)
        self._said = self._said_aside = Said()
        self._live: dict[str, Value | bool] = {}
        self._watching = tuple(query for query in dialect.queries if query.watch)
        self.settings: dict[str, float] = {
            setting.name: setting.kept(
                {"offdelay": options.offdelay_s, "ondelay": options.ondelay_s}.get(setting.option, setting.default)
            )
            for setting in dialect.settings
        }
        cal = Calibration.from_points(*options.runtimecal) if options.runtimecal else None
        self._estimator = Estimator(cal, options.chargetime_s, options.idleload_percent)
        self.packs = packs
        self.bits: dict[str, bool] = {}
        self.status = 0
        self._dead_polls = 0
        self._expected = frozenset(
            field.name
            for query in dialect.queries
            if query.topic is Topic.STATUS
            for field in query.replies[0].fields
            if not field.name.startswith(PART)
        ) | {each.name for each in dialect.derived if each.name.startswith(BIT_PREFIX)}
        self._bit_names = tuple(name for name in _order(self._expected) if name.startswith(BIT_PREFIX))
        quick = dialect.tier(Tier.QUICK)
        self._overlay = overlay_for(quick[0]) if len(quick) == 1 else None
        self._slot_names = slot_names(quick[0])
        self._patterns = _Patterns(self._pattern)
        self._rebuild()

    def learn(self, values: Mapping[str, Value | bool]) -> None:
        """Take in facts known from before: ratings, vendor text, protocol. What the device says now stands above them."""
        self._known_before.update((name, value) for name, value in values.items() if not isinstance(value, bool))
        self._rebuild()

    def take(
        self, query: Query, values: Mapping[str, Value | bool], beside: Mapping[str, Value | bool] | None = None
    ) -> bool:
        """Take in the answer to a query other than the status; it counts until the next one, or :meth:`forget`.

        ``beside``: the status bits it belongs to, where they are newer than the last reading's. True: its flags changed.
        """
        if query.watch:
            bits: Mapping[str, Value | bool] = self.bits if beside is None else beside
            self._watched[id(query)] = tuple(bits.get(name) for name in query.watch)
        changed = self._sayings.heard(values)
        self._answers[id(query)] = values
        if self._table.listing is not None:  # the same names as in a status, and newer
            self._live = {**self._live, **{name: value for name, value in values.items() if name in self._live}}
        self._rebuild()
        return changed

    def forget(self, query: Query) -> bool:
        """Let go of a query's values: they are too old, or no longer asked for. True if there were any."""
        if self._answers.pop(id(query), None) is None:
            return False
        self._watched.pop(id(query), None)
        self._rebuild()
        return True

    @property
    def watching(self) -> bool:
        """Whether any answer of this dialect belongs to status bits."""
        return bool(self._watching)

    def changed(self, bits: Mapping[str, Value | bool]) -> bool:
        """Whether watched status bits differ from those of the last reading."""
        return any(bits.get(name) != self.bits.get(name) for query in self._watching for name in query.watch)

    @property
    def known(self) -> Mapping[str, Value | bool]:
        """What the device said, its latest status included, without estimates and configured values."""
        return {**self.told, **self._live, **self.bits, **self._wins}

    def shown(self, name: str) -> Value | None:
        """A value as it is published, that of the configuration included; the latest status included."""
        value = self._overrides.get(name, self._live.get(name, self._base.get(name)))
        return None if isinstance(value, bool) else value

    def outdated(self, bits: Mapping[str, Value | bool]) -> tuple[Query, ...]:
        """Queries whose answer does not belong to these status bits, or contradicts them: to be asked before the reading."""
        return tuple(
            query for query in self._watching
            if self._watched.get(id(query)) != tuple(bits.get(name) for name in query.watch)
            or self._contradicts(self._said, bits.get("bit.utility_fail"))
        )  # fmt: skip

    @staticmethod
    def _contradicts(said: Said, fail: Value | bool | None) -> bool:
        return bool(said.sets & _OL and fail is True) or bool(said.sets & _OB and fail is False)

    def keep_setting(self, name: str, value: float) -> None:
        """Keep the value of a writable variable that lives here and not in the device."""
        self.settings[name] = value
        self._rebuild()

    def learn_runtimes(self, table: RuntimeTable | None) -> None:
        """Estimate ``battery.runtime`` by a table, where the device tells none and no ``runtimecal`` is given."""
        if self.options.runtimecal is None:
            self._estimator.learn(table)

    def _rebuild(self) -> None:
        self._merge()
        self.dialect = as_listed(self._table, self.told)
        options = self.options
        origins: dict[str, Origin] = {}
        base: dict[str, Value] = {**self.dialect.static, **options.defaults}
        origins.update(dict.fromkeys(options.defaults, Origin.CONFIGURED))
        # a device that lists its variables tells each of them with every status: what it told elsewhere may be older
        for name, value in (self.told if self._table.listing is None else self.facts).items():
            if not isinstance(value, bool) and not name.startswith(PART):
                base[name] = value
                origins.pop(name, None)
        base.update(shown_limits(self.dialect, self.told))
        base.update(self.settings)
        origins.update(dict.fromkeys(self.settings, Origin.CONFIGURED))
        base.update(options.overrides)
        origins.update(dict.fromkeys(options.overrides, Origin.CONFIGURED))
        self._overrides = dict(options.overrides)
        nominal_v = base.get("battery.voltage.nominal")
        self._nominal_v = nominal_v if isinstance(nominal_v, float) and nominal_v > 0 else None
        derived = Limits.from_nominal(self._nominal_v) if self._nominal_v else None
        if derived is not None and "battery.charge" not in self.told:
            for name, volts in (("battery.voltage.low", derived.low_v), ("battery.voltage.high", derived.high_v)):
                if name not in base:
                    base[name] = volts
                    origins[name] = Origin.ESTIMATED
        nominal_input_v = base.get("input.voltage.nominal")
        self._dead_below_v = dead_below(nominal_input_v if isinstance(nominal_input_v, float) else None)
        low_v, high_v = base.get("battery.voltage.low"), base.get("battery.voltage.high")
        self._limits: Limits | None = None
        if isinstance(low_v, float) and isinstance(high_v, float) and 0 < low_v < high_v:
            self._limits = Limits(low_v, high_v)
        packs = base.get("battery.packs")
        self._given_packs = packs if isinstance(packs, float) else None
        if "battery.packs" in self.told:
            self._given_packs = 1.0  # packs the device counts are parallel, and its voltage is whole (voltronic.md section 13)
        self._reported_runtime = "battery.runtime" in self.told
        self._base, self._base_origins = base, origins
        self._origins: dict[int, Mapping[str, Origin]] = {0: origins}
        dialect = self.dialect
        self._plain = not (dialect.meanings or dialect.flags or dialect.derived or self._wins)
        self._laying = self._overlay if self._plain else None
        watched = {f.name for query in self._watching for reply in query.replies for f in reply.fields}
        self._aside = frozenset(watched)
        self._said = self._sayings.of(self.told)
        self._said_aside = self._sayings.of({name: v for name, v in self.told.items() if name not in watched})
        self._nuances = {
            nuance.name: dict(nuance.says) for nuance in dialect.nuances if all(holds.of(self.told) for holds in nuance.when)
        }
        self._avr = bool(dialect.avr) and all(holds.of(self.told) for holds in dialect.avr)

    def _merge(self) -> None:
        """What the device said, from all its answers: of two for the same name the first query's in the table counts."""
        told: dict[str, Value | bool] = dict(self._known_before)
        facts: dict[str, Value] = dict(self._known_before)
        wins: dict[str, Value] = {}
        for query in reversed(self.dialect.queries):
            values = self._answers.get(id(query))
            if values is None:
                continue
            told.update(values)
            if query.tier & Tier.ONCE:
                facts.update((name, value) for name, value in values.items()
                             if not isinstance(value, bool) and not name.startswith(PART))
            for reply in query.replies:
                for field in reply.fields:
                    value = values.get(field.name) if field.wins else None
                    if value is not None and not isinstance(value, bool):
                        wins[field.name] = value
        told.update(wins)
        self.told, self.facts, self._wins = told, facts, wins

    def quick(self, frame: bytes, wall_us: int, mono_s: float) -> Reading | None:
        """What :meth:`reading` makes of the values of this status reply, in one step; None, and nothing done, where a reply or
        a device wants more than that."""
        overlay = self._laying
        if overlay is None:
            return None
        values = self._base.copy()
        pattern = self._patterns[overlay.lay(frame, values)]
        if pattern is None or not values["battery.voltage"]:
            return None
        if self._overrides:
            values.update(self._overrides)
        status, alarms = pattern.status, pattern.alarms
        if pattern.regulating:
            status, alarms = derive_status(pattern.bits, values, ignore_shutdown=self.options.ignoresab)
        return self._complete(wall_us, mono_s, status, pattern.bits, values, alarms, pattern.absent, (), ())

    def _pattern(self, key: int) -> _Pattern | None:
        """What a key of :meth:`Overlay.lay` says; None where a status bit or the battery's voltage is not known."""
        there = {name: key >> 2 * slot & 3 for slot, name in enumerate(self._slot_names)}
        if key < 0 or not there.get("battery.voltage") or not all(there.get(name) for name in self._bit_names):
            return None
        bits = {name: there[name] == 2 for name in self._bit_names}
        status, alarms = derive_status(bits, {}, ignore_shutdown=self.options.ignoresab)
        absent = self._expected - {name for name, told in there.items() if told}
        return _Pattern(bits, status, alarms, absent, bits.get("bit.regulating", False))

    def derived(self, live: dict[str, Value | bool]) -> dict[str, Value | bool]:
        """The values of a status reply with all that follows from them, and from what else is known, by the dialect's rules."""
        if self._derivation is None:
            return live
        scope: dict[str, Value | bool] = {**self._base, **self.told, **live, **self._overrides}
        found = self._derivation.into(scope)
        return {**live, **{name: scope[name] for name in found}}

    def reading(self, live: dict[str, Value | bool], wall_us: int, mono_s: float) -> Reading:
        """One reading from the values of one status reply (with those of other live queries merged in).

        Takes ``live`` over. Raises ReplyImplausible where the reply can't be true as a whole.
        """
        notes = sift(self._status, live)
        parts: dict[str, Value] = {}
        if not self._plain:
            live = self.derived(live)
            parts = {name.removeprefix(PART): value for name, value in live.items()
                     if name.startswith(PART) and not isinstance(value, bool)}
            live = without_parts(live) if parts else live
        names = self._bit_names
        bits: dict[str, bool] = {name: live.pop(name) for name in names if name in live}  # type: ignore[misc]
        if len(bits) < len(names) and self._table.listing is None:
            notes = (*notes, *(f"{name} unreadable" for name in names if name not in bits))
        values: dict[str, Value] = self._base.copy()
        values.update(live)
        if not self._plain:
            self._live = live
            values.update(self._wins)
        if self._overrides:
            values.update(self._overrides)
        status, alarms = derive_status(
            bits, {**values, **parts} if parts else values, self.status, ignore_shutdown=self.options.ignoresab
        )
        notices: tuple[Notice, ...] = ()
        if not self._plain:
            status, alarms, notices, more = self._interpret(status, alarms, bits, values)
            notes = (*notes, *more)
        absent = self._expected - bits.keys() if len(live) + len(bits) < len(self._expected) else _NONE
        return self._complete(wall_us, mono_s, status, bits, values, alarms, absent, notes, notices)

    def _complete(
        self, wall_us: int, mono_s: float, status: int, bits: dict[str, bool], values: dict[str, Value],
        alarms: tuple[str, ...], absent: frozenset[str], notes: tuple[str, ...], notices: tuple[Notice, ...],
    ) -> Reading:  # fmt: skip
        """Add what is scaled and estimated; the values are taken over. ``absent``: what the reply did not tell."""
        input_v = values.get("input.voltage")
        if isinstance(input_v, float) and input_v < self._dead_below_v:
            status, notes = self._dead_input(status, bits, values, notes)
        else:
            self._dead_polls = 0
        self.status, self.bits = status, bits
        added = 0
        battery_v = values.get("battery.voltage")
        if isinstance(battery_v, float) and battery_v > 0:
            packs = self._given_packs or self.packs
            if packs is None:
                packs = self._weigh(battery_v, status, alarms)
            if packs is None:
                if self._nominal_v and not 0.6 <= battery_v / self._nominal_v <= 1.3:
                    battery_v = None  # a part of the battery, and not known which: no estimate rather than a wrong one
            elif packs != 1:
                battery_v *= packs
                if self.dialect.scales_battery:
                    values["battery.voltage"] = battery_v
                    added = _SCALED
        else:
            battery_v = None
        if self._estimator.counts:
            load = values.get("ups.load")
            charge, runtime_s = self._estimator.estimate(
                mono_s, bool(status & _OL), battery_v, self._limits, load if isinstance(load, float) else None
            )
            if runtime_s is not None and not self._reported_runtime and "battery.runtime" not in values:
                values["battery.runtime"] = runtime_s
                added |= _RUNTIME
        else:
            limits = self._limits
            charge = None if battery_v is None or limits is None else 100 * limits.fraction(battery_v)
        if charge is not None and "battery.charge" not in values:
            values["battery.charge"] = charge
            added |= _CHARGE
        options = self.options
        if options.ignorelb:
            status = self.status = status & ~_LB | self._low_battery(values)
        origins = self._origins.get(added)
        if origins is None:
            more = {name: origin for bit, name, origin in _ADDED if added & bit}
            origins = self._origins[added] = {**self._base_origins, **more}
        missing = absent - values.keys() if absent else _NONE
        return Reading(options.name, wall_us, mono_s, status, values, alarms, missing, origins, notes, notices)

    def _dead_input(
        self, status: int, bits: Mapping[str, bool], values: dict[str, Value], notes: tuple[str, ...]
    ) -> tuple[int, tuple[str, ...]]:
        """No input voltage at all. A UPS that calls this on line is not believed once two polls in a row show it; where it tells
        its mode too, only if its own utility-fail bit agrees (voltronic.md section 5.5, "65 = 1 but QMOD L")."""
        self._dead_polls += 1
        if status & _OB:
            return status, notes
        values["qx.status.conflict"] = "no input voltage"
        if not any(note.startswith("status conflict") for note in notes):
            notes = (*notes, "status conflict: no input voltage, and the UPS says that it is on line")
        if self._dead_polls >= DEAD_POLLS and (not self._tells_line or bits.get("bit.utility_fail")):
            status = status & ~_OL | _OB
        return status, notes

    def _weigh(self, battery_v: float, status: int, alarms: tuple[str, ...]) -> float | None:
        """Packs are decided on mains, without a test or a reported failure: once decided, they stay (engine.md 8.3)."""
        if self._nominal_v is not None and status & _OL and not status & _STEADY and SELFTEST_FAILED not in alarms:
            self.packs = packs_for(battery_v, self._nominal_v)
        return self.packs

    def _interpret(
        self, status: int, alarms: tuple[str, ...], bits: dict[str, bool], values: dict[str, Value]
    ) -> tuple[int, tuple[str, ...], tuple[Notice, ...], tuple[str, ...]]:
        """What mode, warnings and faults add to a status and take from it: a pure function of the latest answers.

        An answer that watches status bits counts only beside the bits it was given with (voltronic.md section 5.5).
        """
        notes: tuple[str, ...] = ()
        said = self._said
        if any(self._watched.get(id(q)) != tuple(bits.get(name) for name in q.watch) for q in self._watching):
            said = self._said_aside
            for name in self._aside:
                values.pop(name, None)
        for name, words in self._nuances.items():
            value = values.get(name)
            if isinstance(value, str):
                values[name] = self._live[name] = words.get(value, value)
        self._sayings.heard(self._live)
        fresh = self._sayings.at_once(dict(bits), self._live, self.told)
        if self._contradicts(said, bits.get("bit.utility_fail")):
            notes = ("status conflict: the mode says otherwise than the utility-fail bit",)
            values["qx.status.conflict"] = "mode against utility-fail bit"
        status = (status & ~(said.clears | fresh.clears)) | said.sets | fresh.sets
        notices = (*fresh.notices, *said.notices)
        if bits.get("bit.regulating") and not bits.get("bit.utility_fail"):
            if not status & _REGULATES and _impossible(values):
                notes = (*notes, "status implausible: output voltage does not fit input voltage and the bypass bit")
            elif self._avr and status & _BYPASS:
                if not said.sets & _BYPASS:
                    status &= ~_BYPASS
                if self.dialect.avr_notice is not None:
                    notices = (self.dialect.avr_notice, *notices)
        if status & _FSD and SHUTDOWN_IMMINENT not in alarms:
            alarms = (*alarms, SHUTDOWN_IMMINENT)
        if status & _RB:
            alarms = (*alarms, REPLACE_BATTERY)
        if alarms or any(notice.alarm for notice in notices):
            status |= _ALARM
        return status, alarms, notices, notes

    @staticmethod
    def _low_battery(values: Mapping[str, Value]) -> int:
        """LB from charge and runtime against their limits, as whole numbers (``ignorelb``, engine.md section 7.2)."""
        for name in ("battery.charge", "battery.runtime"):
            value, limit = values.get(name), values.get(name + ".low")
            if isinstance(value, float) and isinstance(limit, float) and round(value) < limit:
                return _LB
        return 0


_NONE: frozenset[str] = frozenset()
_FAIL = "bit.utility_fail"
_SCALED, _CHARGE, _RUNTIME = 1, 2, 4
_ADDED = (
    (_SCALED, "battery.voltage", Origin.SCALED),
    (_CHARGE, "battery.charge", Origin.ESTIMATED),
    (_RUNTIME, "battery.runtime", Origin.ESTIMATED),
)
_ORDER = ("bit.utility_fail", "bit.battery_low", "bit.regulating", "bit.failed", "bit.fault", "bit.test", "bit.shutdown")
_BYPASS = int(Status.BYPASS)
_REGULATES = int(Status.BYPASS | Status.TRIM | Status.BOOST)


def _order(names: frozenset[str]) -> tuple[str, ...]:
    """Status bits in a fixed order, the one that matters most first."""
    return tuple(sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)))


def _impossible(values: Mapping[str, Value]) -> bool:
    """Whether both voltages are told and no regulation can make one of the other."""
    return isinstance(values.get("input.voltage"), float) and isinstance(values.get("output.voltage"), float)
