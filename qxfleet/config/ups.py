"""One ``[[ups]]`` block: its checks across keys, and the options a session gets from it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from qxfleet.config.delays import delay_cut, delay_problem
from qxfleet.config.device_values import belongs, device_setting_named, dialects_with
from qxfleet.config.durations import duration_text
from qxfleet.config.findings import Findings, Place, toml_text
from qxfleet.config.presets import Presets, take_presets
from qxfleet.config.schema import DEVICE_KEYS, USB_KEYS, AgentTable, UpsTable
from qxfleet.config.tables import read_table
from qxfleet.dialects.nut import NUT
from qxfleet.dialects.registry import DIALECTS, dialect_named
from qxfleet.dialects.spec import Dialect, Topic
from qxfleet.model.nut_port import SCHEME
from qxfleet.model.options import UpsOptions

LIMITS = ("battery.voltage.low", "battery.voltage.high")
LANGUAGE_BRIDGES = ("krauler", "hunnox", "snr")
LOW_MARKS = ("battery.charge.low", "battery.runtime.low")


def read_ups(table: Mapping[str, object], at: Place, agent: AgentTable, findings: Findings) -> UpsOptions | None:
    """The options of one block; None if it can't be told which UPS it means. Every mistake goes to ``findings``."""
    rest, presets = take_presets(table, at, findings)
    ups, broken = read_table(UpsTable, rest, at, findings)
    return _Block(ups, broken, presets, rest, at, findings).options(agent)


class _Block:
    """The sound part of a block while it is checked; a check that needs a broken key does not run."""

    def __init__(
        self, ups: UpsTable, broken: frozenset[str], presets: Presets, written: Mapping[str, object], at: Place,
        findings: Findings,
    ) -> None:  # fmt: skip
        self.ups = ups
        self.broken = broken
        self.presets = presets
        self.written = written
        self.at = at
        self.findings = findings
        self.given = ups.model_fields_set
        self.dialect = ups.dialect if "dialect" in self.given else ups.protocol or "auto"
        self.nut = ups.port.startswith(SCHEME)
        if self.nut and self.dialect == "auto":
            self.dialect = NUT.name
        self.spoken: tuple[Dialect, ...] = DIALECTS if self.dialect == "auto" else (dialect_named(self.dialect) or NUT,)

    def options(self, agent: AgentTable) -> UpsOptions | None:
        """Run every check and put the options together."""
        ups = self.ups
        for key in ("name", "port"):
            if key not in self.given and key not in self.broken:
                self.problem(key, f'missing: every [[ups]] needs one, as in {_EXAMPLES[key]}')
        self._aliases()
        self._dialect_flags()
        self._port_options()
        self._guarded()
        ondelay, offdelay = self._delay("ondelay"), self._delay("offdelay")
        self._start_delay(ondelay)
        self._limits()
        self._estimates()
        self._low_battery()
        device_settings = self._device_settings()
        poll_s = ups.poll_interval if ups.poll_interval is not None else agent.poll_interval
        own_full_s = ups.full_interval if ups.full_interval is not None else ups.pollfreq
        if "name" not in self.given or "port" not in self.given:
            return None
        return UpsOptions(
            name=ups.name,
            port=ups.port,
            dialect=self.dialect,
            groups=tuple(dict.fromkeys(ups.groups)),
            description=ups.description,
            poll_interval_s=poll_s,
            full_interval_s=own_full_s if own_full_s is not None else agent.full_interval,
            ondelay_s=ondelay,
            offdelay_s=offdelay,
            stayoff=ups.stayoff,
            norating=ups.norating,
            novendor=ups.novendor,
            ignoresab=ups.ignoresab,
            ignorelb=ups.ignorelb,
            cablepower=ups.cablepower,
            runtimecal=ups.runtimecal,
            chargetime_s=ups.chargetime,
            idleload_percent=ups.idleload,
            defaults=self.presets.defaults,
            overrides=self.presets.overrides,
            device_settings=device_settings,
            testing=ups.testing,
            inverter_settings=ups.inverter_settings,
            usb={key: getattr(ups, key) for key in USB_KEYS if getattr(ups, key) is not None},
        )

    def problem(self, key: str, text: str) -> None:
        """A mistake at a key of this block."""
        self.findings.problem(self.at.at(key), text)

    def warning(self, key: str, text: str) -> None:
        """A warning at a key of this block."""
        self.findings.warning(self.at.at(key), text)

    def _aliases(self) -> None:
        """A setting and its name in the seeds say the same or only one is there."""
        pairs = (("dialect", "protocol"), ("full_interval", "pollfreq"), ("constant_phase_angle", "costant_phase_angle"))
        for ours, theirs in pairs:
            if {ours, theirs} <= self.given and getattr(self.ups, ours) != getattr(self.ups, theirs):
                self.problem(theirs, f"says something else than {ours}, which is the same setting: keep {ours} only")
        if "costant_phase_angle" in self.given:
            self.warning("costant_phase_angle", MISSPELT)

    def _dialect_flags(self) -> None:
        """norating and novendor need a dialect that asks for ratings or vendor texts by questions of their own."""
        asked = {query.topic for dialect in self.spoken for query in dialect.queries}
        for flag, topic, what in (("norating", Topic.RATING, "ratings"), ("novendor", Topic.VENDOR, "vendor texts")):
            if not getattr(self.ups, flag) or topic in asked:
                continue
            if Topic.DEVICE in asked:
                self.warning(flag, f"has no effect on the {self.dialect} dialect, which is asked what it is in any case")
            else:
                self.problem(flag, f"does not apply to the {self.dialect} dialect, which asks for no {what}: remove it")

    def _guarded(self) -> None:
        if self.ups.inverter_settings and not any(dialect.guarded for dialect in self.spoken):
            able = belongs(tuple(dialect.name for dialect in DIALECTS if dialect.guarded))
            self.problem("inverter_settings", f'belongs to {able}, dialect is "{self.dialect}": remove it, or correct dialect')

    def _device_settings(self) -> dict[str, str]:
        """What the device is to keep, by option name; a dialect whose devices have it must be possible."""
        ups, wanted = self.ups, {"reset_to_default": "yes"} if self.ups.reset_to_default else {}
        wanted |= {key: value for key in DEVICE_KEYS if (value := getattr(ups, key)) is not None}
        if ups.costant_phase_angle is not None:
            wanted.setdefault("constant_phase_angle", ups.costant_phase_angle)
        for key in sorted(self.given & {*DEVICE_KEYS, "costant_phase_angle", "reset_to_default", "testing"}):
            able = self._able(key)
            if not set(able) & {dialect.name for dialect in self.spoken}:
                self.problem(key, f"belongs to {belongs(able)}, dialect is \"{self.dialect}\": remove it, or correct dialect")
        for high in wanted:
            setting = device_setting_named(high)
            other = device_setting_named(setting.above) if setting and setting.above else None
            low = (other.option or other.name) if other else ""
            if low in wanted and float(wanted[low]) >= float(wanted[high]):
                self.problem(low, f"{wanted[low]} must be below {high}, which is {wanted[high]}")
        return wanted

    @staticmethod
    def _able(key: str) -> tuple[str, ...]:
        """Names of the dialects that have an option."""
        if key == "testing":
            return tuple(d.name for d in DIALECTS if any(query.topic is Topic.TESTING for query in d.queries))
        name = "constant_phase_angle" if key == "costant_phase_angle" else key
        return tuple(dialect.name for dialect in dialects_with(name))

    def _port_options(self) -> None:
        """USB options go with ``auto``, cablepower with ports that have the two lines."""
        port = self.ups.port
        if not port:
            return
        if self.nut is not (self.dialect == NUT.name):
            what = "every UPS behind a NUT server has the dialect" if self.nut else f'belongs to ports "{SCHEME}…":'
            self.problem("dialect", f'{what} "{NUT.name}": remove it' if self.nut else f"{what} remove it")
        if port != "auto":
            for key in (key for key in USB_KEYS if key in self.given):
                self.problem(key, f'belongs to USB: write port = "auto", or remove it (port is {toml_text(port)})')
        if "cablepower" in self.given and (port == "auto" or port.startswith(("socket://", SCHEME))):
            self.problem("cablepower", f"belongs to serial ports, {toml_text(port)} has no DTR and RTS: remove it")
        if self.ups.subdriver is not None:
            missing = [key for key in ("vendorid", "productid") if key not in self.given and key not in self.broken]
            if missing:
                self.problem("subdriver", f"needs vendorid and productid as well: add {' and '.join(missing)}")
            if self.ups.subdriver not in LANGUAGE_BRIDGES and self.ups.langid_fix is not None:
                named = ", ".join(f'"{name}"' for name in LANGUAGE_BRIDGES)
                self.problem("langid_fix", f'belongs to the subdrivers {named}, not "{self.ups.subdriver}": remove it')

    def _delay(self, option: str) -> int:
        """A delay within the dialect's range, cut down to its step where all dialects in question agree on it."""
        seconds: int = getattr(self.ups, option)
        if problem := delay_problem(option, seconds, self.spoken):
            self.problem(option, problem)
            return seconds
        cut = delay_cut(option, seconds, self.spoken)
        if cut == seconds:
            return seconds
        hint = ""
        if option == "ondelay" and cut == 0 and isinstance(self.written.get(option), int):
            hint = f'; if these were minutes, as the blazer drivers count, write ondelay = "{seconds}m"'
        self.warning(option, f"{seconds} s is cut down to {cut} s, the devices know no finer step{hint}")
        return cut

    def _start_delay(self, ondelay: int) -> None:
        """Early firmware does not come back from short off times (megatec-family.md section 10.5)."""
        if "ondelay" not in self.given:
            return
        if 60 <= ondelay < 180:
            self.warning("ondelay", f'{ondelay} s: early firmware may switch off and never return, use "3m" or more '
                                    "unless this UPS was seen to return")  # fmt: skip
        elif self.ups.ondelay == 0:
            self.warning("ondelay", "0 s: no off time is sent, so whether the load is cycled when mains never went "
                                    "away depends on the firmware")  # fmt: skip

    def _limits(self) -> None:
        """Battery voltage limits make sense together (engine.md section 8.2); nothing is preset twice."""
        known = self.presets.known
        low, high = (known.get(name) for name in LIMITS)
        if isinstance(low, float) and isinstance(high, float):
            if low >= high:
                self.findings.problem(self.presets.place(LIMITS[0]), f"{low:g} V must be below {LIMITS[1]}, {high:g} V")
        elif self.presets.sound and (low is not None or high is not None):
            there, missing = LIMITS if low is not None else LIMITS[::-1]
            rest = (
                "leaves the charge to be reckoned by the nominal voltage as well"
                if self._nominal_can_be_known()
                else "and no nominal voltage, which this UPS is not asked for, give no charge"
            )
            self.findings.warning(self.presets.place(there), f"one limit alone {rest}: add default.{missing}")
        for name in sorted(self.presets.defaults.keys() & self.presets.overrides.keys()):
            self.findings.warning(self.presets.places["default", name], f"never used, override.{name} is set as well")

    def _estimates(self) -> None:
        """chargetime and idleload only serve the runtime estimate."""
        if self.ups.runtimecal is None and "runtimecal" not in self.broken:
            for key in ("chargetime", "idleload"):
                if key in self.given:
                    self.warning(key, "has no effect without runtimecal")
        if self.ups.full_interval is not None and self.ups.poll_interval is not None:
            full_s, poll_s = self.ups.full_interval, self.ups.poll_interval
            if full_s < poll_s:
                self.warning("full_interval", f"{duration_text(full_s)} is shorter than poll_interval, "
                                              f"{duration_text(poll_s)}: every poll will be a full one")  # fmt: skip

    def _low_battery(self) -> None:
        """ignorelb needs a mark that a known figure can fall below (engine.md section 7.2)."""
        marks = [name for name in LOW_MARKS if name in self.presets.known]
        if not self.ups.ignorelb:
            if "ignorelb" not in self.broken:
                for name in marks:
                    place = self.presets.place(name)
                    self.findings.warning(place, "is shown, but decides nothing unless ignorelb = true")
            return
        if not marks:
            if self.presets.sound:
                self.problem("ignorelb", "leaves nothing that could tell a low battery: add "
                                         "override.battery.charge.low = 20 "
                                         "or override.battery.runtime.low = 300, or remove it")  # fmt: skip
            return
        reckoned = self._nominal_can_be_known() or set(LIMITS) <= self.presets.known.keys()
        if self.presets.sound and not reckoned and not self._may_tell("battery.charge"):
            self.problem("ignorelb", "neither charge nor runtime of this UPS can be reckoned, a low battery "
                                     "would never be seen: add default.battery.voltage.nominal")  # fmt: skip
        told = self.dialect != "auto" and self._may_tell("battery.runtime")
        if marks == ["battery.runtime.low"] and self.ups.runtimecal is None and not told and "runtimecal" not in self.broken:
            self.warning("ignorelb", "without runtimecal battery.runtime is known only if the UPS tells it, which few "
                                     "do: a low battery may never be seen")  # fmt: skip

    def _nominal_can_be_known(self) -> bool:
        return "battery.voltage.nominal" in self.presets.known or self._may_tell("battery.voltage.nominal")

    def _may_tell(self, variable: str) -> bool:
        """Whether a question that will be asked gives the variable; who sets norating has a dialect that heeds it."""
        heeding = [dialect for dialect in self.spoken if any(query.topic is Topic.RATING for query in dialect.queries)]
        return any(
            field.name == variable
            for dialect in (heeding if self.ups.norating and heeding else self.spoken)
            for query in dialect.queries
            if not (query.topic is Topic.RATING and self.ups.norating)
            for reply in query.replies
            for field in reply.fields
        )


MISSPELT = "the manual page's misspelling, which NUT itself does not read: write constant_phase_angle"

_EXAMPLES = {"name": 'name = "rack1-a"', "port": 'port = "/dev/ttyS0"'}


def device_of(options: UpsOptions) -> object:
    """What two blocks share if they mean the same device."""
    if options.port == "auto":
        return tuple(sorted(options.usb.items()))
    if options.port.startswith("/"):
        return os.path.realpath(options.port)
    return options.port.partition("?")[0].rstrip("/").lower().partition("://")[2]
