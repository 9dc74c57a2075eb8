"""The tables of the file and their keys: defaults, forms, ranges, and what each key is for.

Sources: the outside face's configuration section; engine.md section 10 for the options of the seeds, which keep their
names, units and defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qxfleet.config import forms
from qxfleet.config.forms import Duration, Name, Regex
from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import Dialect, Setting

POLL = Duration(0.2, 3600)
"""One status exchange takes 0.21 s at 2400 baud (engine.md section 14)."""

FULL = Duration(1, 86400)

NEEDED = "(needed)"


def settings_of(option: str, dialects: tuple[Dialect, ...] = DIALECTS) -> tuple[Setting, ...]:
    """The settings that ``option`` gives the first value of, one per dialect that has it."""
    return tuple(setting for dialect in dialects for setting in dialect.settings if setting.option == option)


DELAY = Duration(bare=True, whole=True)
"""Its range is that of the dialect, see :mod:`qxfleet.config.ups`."""


def _delay_form(option: str) -> str:
    """The ranges of a delay, each with the dialects that have it."""
    ranges: dict[tuple[float, float], list[str]] = {}
    for dialect in DIALECTS:
        for setting in settings_of(option, (dialect,)):
            ranges.setdefault((setting.low, setting.high), []).append(dialect.name)
    texts = [f"{low:g} to {high:g} s" + (f" ({', '.join(who)})" if len(ranges) > 1 else "")
             for (low, high), who in ranges.items()]  # fmt: skip
    return f"duration, or a number of seconds, {'; '.join(texts)}"


def _key(default: object, meaning: str, *, shown: str = "", form: str = "") -> Any:
    """A key with its default and meaning; ``shown`` and ``form`` replace what default and type give."""
    return Field(default, description=meaning, json_schema_extra={"shown": shown, "form": form})


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is converted on the quiet, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AgentTable(Table):
    """The agent itself; once, in the main file."""

    name: Annotated[str, Name()] = _key("", "this agent in the fleet", shown="the host's name")
    database: Annotated[str, forms.Database()] = _key(
        "sqlite:////var/lib/qxfleet/fleet.db",
        "where readings and events are kept; a relative SQLite path counts from this file's folder",
    )
    control: Annotated[str, forms.SocketPath()] = _key(
        "/run/qxfleet/agent.sock", "unix socket of the command line; a relative path counts from this file's folder"
    )
    poll_interval: Annotated[float, POLL] = _key(2.0, "status poll of every UPS")
    full_interval: Annotated[float, FULL] = _key(30.0, "everything else that changes while running")
    record: Literal["changes", "all"] = _key(
        "changes", "which readings are stored: those that changed and one a minute, or every one"
    )
    include: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "further files, counted from this file's folder, for every table but [agent]",
        shown="[]", form='list of file names or patterns, as in ["conf.d/*.toml"]',
    )  # fmt: skip


class UpsTable(Table):
    """One UPS; as often as there are UPSes, in any file."""

    name: Annotated[str, Name(reserved=("all",))] = _key("", "unique in the fleet", shown=NEEDED)
    port: Annotated[str, forms.Port()] = _key("", "where it is", shown=NEEDED)
    dialect: Annotated[str, forms.DialectName()] = _key("auto", "what it speaks; auto finds out by asking")
    protocol: Annotated[str | None, forms.DialectName()] = _key(
        None, "NUT's name for dialect", shown="that of dialect"
    )
    groups: Annotated[tuple[Annotated[str, Name()], ...], Field(strict=False)] = _key(
        (), "groups it belongs to", shown="[]", form="list of names"
    )
    description: str = _key("", "for people")
    poll_interval: Annotated[float | None, POLL] = _key(None, "its status poll", shown="that of [agent]")
    full_interval: Annotated[float | None, FULL] = _key(None, "its poll of everything else", shown="that of [agent]")
    pollfreq: Annotated[float | None, Duration(FULL.low, FULL.high, bare=True)] = _key(
        None, "NUT's name for full_interval", shown="that of full_interval"
    )
    ondelay: Annotated[int, DELAY] = _key(
        180, "ups.delay.start: how long the load stays off after shutdown.return, at least; cut to whole minutes",
        form=_delay_form("ondelay"),
    )
    offdelay: Annotated[int, DELAY] = _key(
        30, "ups.delay.shutdown: from the order until the load goes off; cut to 6 s below a minute, else to minutes",
        form=_delay_form("offdelay"),
    )
    stayoff: bool = _key(False, "the shutdown sequence leaves the load off (shutdown.stayoff)")
    norating: bool = _key(False, "never ask for ratings; for UPSes that lock up when asked")
    novendor: bool = _key(False, "never ask for vendor texts; for UPSes that lock up when asked")
    ignoresab: bool = _key(False, "ignore the shutdown-active bit; for firmware that always sets it")
    ignorelb: bool = _key(False, "ignore the low-battery bit, decide by battery.charge.low or battery.runtime.low")
    cablepower: Literal["normal", "reverse", "both", "none"] = _key(
        "normal", "serial ports: DTR and RTS as on/off, off/on, on/on, off/off"
    )
    runtimecal: Annotated[tuple[float, float, float, float] | None, forms.RuntimeCal()] = _key(
        None, "two known runtimes; makes the runtime estimate possible", shown="none"
    )
    chargetime: Annotated[float, Duration(1, 90 * 86400, bare=True)] = _key(
        43200.0, "from empty to full; used with runtimecal"
    )
    idleload: Annotated[float, Field(gt=0, le=100)] = _key(
        10.0, "least load, in percent, that the runtime estimate reckons with; used with runtimecal"
    )
    default: dict[str, float | str] = _key(
        {}, "values for what the UPS does not tell", shown="none",
        form="a value per variable, as in default.battery.voltage.high = 27.2",
    )  # fmt: skip
    override: dict[str, float | str] = _key(
        {}, "values that hold whatever the UPS tells", shown="none",
        form="a value per variable, as in override.battery.packs = 2",
    )  # fmt: skip
    vendorid: Annotated[str | None, Regex(hexadecimal=True)] = _key(None, "USB: vendor id", shown="any")
    productid: Annotated[str | None, Regex(hexadecimal=True)] = _key(None, "USB: product id", shown="any")
    vendor: Annotated[str | None, Regex()] = _key(None, "USB: vendor text", shown="any")
    product: Annotated[str | None, Regex()] = _key(None, "USB: product text", shown="any")
    serial: Annotated[str | None, Regex()] = _key(None, "USB: serial number", shown="any")
    bus: Annotated[str | None, Regex()] = _key(None, "USB: bus name", shown="any")
    subdriver: Literal["phoenix", "ippon", "cypress", "krauler"] | None = _key(
        None, "USB: bridge; needs vendorid and productid", shown="by the ids"
    )
    langid_fix: Annotated[str | None, forms.LanguageId()] = _key(
        None, "USB: language id for the krauler bridge", shown="none"
    )


USB_KEYS = ("vendorid", "productid", "vendor", "product", "serial", "bus", "subdriver", "langid_fix")

LATER_TABLES = {
    "http": "web page or HTTP API",
    "nut": "NUT-protocol server",
    "metrics": "metrics endpoint",
    "user": "network face that users could log in to",
    "schedule": "scheduled tests, commands or reports",
    "load": "staged shutdown",
    "shutdown": "staged shutdown",
    "profile": "profiles",
    "notify": "notifications",
    "battery": "battery register",
    "retention": "retention rules",
}
"""Tables that later versions bring, and what this one has not got; a row goes when its feature comes."""

VOLTRONIC_OPTIONS = frozenset({
    "battery_number", "battnumb", "output_phase_angle", "reset_to_default", "alarm_control", "bypass_alarm",
    "battery_alarm", "bypass_when_off", "bypass_forbidding", "converter_mode", "eco_mode", "advanced_eco_mode",
    "battery_open_status_check", "site_fault_detection", "costant_phase_angle", "constant_phase_angle",
    "limited_runtime_on_battery", "max_bypass_volt", "min_bypass_volt", "max_bypass_freq", "min_bypass_freq",
    "work_range_type", "testing",
})  # fmt: skip
"""Options of the seeds for the voltronic dialect only (engine.md section 10.4)."""

RENAMED = {
    "battvolts": "write default.battery.voltage.low and default.battery.voltage.high instead",
    "battlow": "write default.battery.voltage.low and default.battery.voltage.high instead",
    "battpacks": "write override.battery.packs instead",
    "dtr": 'write cablepower = "normal", "reverse", "both" or "none" instead',
    "rts": 'write cablepower = "normal", "reverse", "both" or "none" instead',
    "ignoreoff": "remove it, it rested on a misunderstanding of the specification",
    "pollinterval": 'write poll_interval = "2s" instead',
    "desc": "write description instead",
    "driver": "remove it, port and dialect say all that is needed",
    "nolock": "remove it, a port is always locked",
    "battery_voltage_reports_one_pack": "remove it, packs are counted by themselves or set by override.battery.packs",
}
"""Options of NUT that have another name here, or none: what to do (engine.md sections 10.4 and 10.5, seeds' notes)."""
