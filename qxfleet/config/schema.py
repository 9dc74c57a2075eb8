"""The tables of the file and their keys: defaults, forms, ranges, and what each key is for.

Sources: the outside face's configuration section; engine.md section 10 for the options of the seeds, which keep their
names, units and defaults.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qxfleet.config import forms
from qxfleet.config.delays import DELAY, delay_form
from qxfleet.config.device_values import DeviceValue
from qxfleet.config.forms import Duration, Name, Regex

POLL = Duration(0.2, 3600)
"""One status exchange takes 0.21 s at 2400 baud (engine.md section 14)."""

FULL = Duration(1, 86400)

DAY_S = 86_400.0

NEEDED = "(needed)"


def _key(default: object, meaning: str, *, shown: str = "", form: str = "") -> Any:
    """A key with its default and meaning; ``shown`` and ``form`` replace what default and type give."""
    return Field(default, description=meaning, json_schema_extra={"shown": shown, "form": form})


def _device_key(option: str) -> Any:
    """A setting that the device keeps; its meaning stands in the dialect's table."""
    return _key(None, DeviceValue.of(option).setting.description, shown="as the device has it")


class Table(BaseModel):
    """A table of the file: unknown keys are errors, nothing is converted on the quiet, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AgentTable(Table):
    """The agent itself; once, in the main file."""

    name: Annotated[str, Name()] = _key("", "this agent in the fleet", shown="the host's name")
    state: Annotated[str | None, forms.StatePath()] = _key(
        None, "the agent's own record, a SQLite file, and its history; a relative path counts from this file's folder",
        shown="/var/lib/qxfleet/state.db, or fleet.db there from before",
    )  # fmt: skip
    database: Annotated[str | None, forms.Database()] = _key(
        None, "the older key: sqlite:///… is `state`; postgresql+psycopg://… is a [fleet] of this agent alone", shown="none"
    )
    control: Annotated[str, forms.SocketPath()] = _key(
        "/run/qxfleet/agent.sock", "unix socket of the command line; a relative path counts from this file's folder"
    )
    poll_interval: Annotated[float, POLL] = _key(2.0, "status poll of every UPS")
    full_interval: Annotated[float, FULL] = _key(30.0, "everything else that changes while running")
    record: Literal["changes", "all"] = _key(
        "changes", "which readings are stored: those that changed and one a minute, or every one"
    )
    spool: str = _key(
        "", "side file for what the state can't take at the moment; a relative path counts from this file's folder",
        shown="the state's name and .spool", form="path of a file",
    )  # fmt: skip
    interfaces_user: Annotated[str, forms.UserName()] = _key(
        "", "who the process of [nut], [http] and [metrics] runs as where the agent starts as root: one without access to serial "
        "ports; is given the state to read, and must be able to reach it, the certificates and their keys",
        shown="the agent's own",
    )  # fmt: skip
    include: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "further files, counted from this file's folder, for every table but [agent]",
        shown="[]", form='list of file names or patterns, as in ["conf.d/*.toml"]',
    )  # fmt: skip


class FleetTable(Table):
    """The history of several agents in one PostgreSQL database; once. Without it the agent stands alone."""

    database: Annotated[str, forms.FleetDatabase()] = _key("", "history of all agents, and who they are", shown=NEEDED)
    site: Annotated[str, Name()] = _key("", "where this agent stands, for people", shown="none")


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
        form=delay_form("ondelay"),
    )
    offdelay: Annotated[int, DELAY] = _key(
        30, "ups.delay.shutdown: from the order until the load goes off; cut to 6 s below a minute, else to minutes",
        form=delay_form("offdelay"),
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
    usb_path: Annotated[str | None, forms.UsbPath()] = _key(
        None, "USB: the place it is plugged into; tells equal units without serial numbers apart", shown="any"
    )
    subdriver: Annotated[str | None, forms.UsbBridge()] = _key(
        None, "USB: bridge; needs vendorid and productid", shown="by the ids"
    )
    langid_fix: Annotated[str | None, forms.LanguageId()] = _key(
        None, "USB: language id for the bridges krauler, hunnox and snr", shown="none"
    )
    reset_to_default: bool = _key(
        False, "voltronic: set all capabilities and their limits back once, before the settings below; only in standby mode"
    )
    alarm_control: Annotated[str | None, DeviceValue.of("alarm_control")] = _device_key("alarm_control")
    bypass_alarm: Annotated[str | None, DeviceValue.of("bypass_alarm")] = _device_key("bypass_alarm")
    battery_alarm: Annotated[str | None, DeviceValue.of("battery_alarm")] = _device_key("battery_alarm")
    bypass_when_off: Annotated[str | None, DeviceValue.of("bypass_when_off")] = _device_key("bypass_when_off")
    bypass_forbidding: Annotated[str | None, DeviceValue.of("bypass_forbidding")] = _device_key("bypass_forbidding")
    converter_mode: Annotated[str | None, DeviceValue.of("converter_mode")] = _device_key("converter_mode")
    eco_mode: Annotated[str | None, DeviceValue.of("eco_mode")] = _device_key("eco_mode")
    advanced_eco_mode: Annotated[str | None, DeviceValue.of("advanced_eco_mode")] = _device_key("advanced_eco_mode")
    battery_open_status_check: Annotated[str | None, DeviceValue.of("battery_open_status_check")] = _device_key(
        "battery_open_status_check"
    )
    site_fault_detection: Annotated[str | None, DeviceValue.of("site_fault_detection")] = _device_key("site_fault_detection")
    constant_phase_angle: Annotated[str | None, DeviceValue.of("constant_phase_angle")] = _device_key("constant_phase_angle")
    costant_phase_angle: Annotated[str | None, DeviceValue.of("constant_phase_angle")] = _key(
        None, "the manual page's spelling of constant_phase_angle", shown="that of constant_phase_angle"
    )
    limited_runtime_on_battery: Annotated[str | None, DeviceValue.of("limited_runtime_on_battery")] = _device_key(
        "limited_runtime_on_battery"
    )
    max_bypass_volt: Annotated[str | None, DeviceValue.of("max_bypass_volt")] = _device_key("max_bypass_volt")
    min_bypass_volt: Annotated[str | None, DeviceValue.of("min_bypass_volt")] = _device_key("min_bypass_volt")
    max_bypass_freq: Annotated[str | None, DeviceValue.of("max_bypass_freq")] = _device_key("max_bypass_freq")
    min_bypass_freq: Annotated[str | None, DeviceValue.of("min_bypass_freq")] = _device_key("min_bypass_freq")
    work_range_type: Annotated[str | None, DeviceValue.of("work_range_type")] = _device_key("work_range_type")
    output_phase_angle: Annotated[str | None, DeviceValue.of("output_phase_angle")] = _device_key("output_phase_angle")
    battery_number: Annotated[str | None, DeviceValue.of("battery_number")] = _device_key("battery_number")
    inverter_settings: bool = _key(
        False, "voltronic-axpert: let its sources, thresholds and charging currents be set; they move loads and batteries"
    )
    testing: bool = _key(False, "voltronic: ask questions whose meaning nobody knows as well")


class UpsdTable(Table):
    """A NUT server whose UPSes are members; for TLS, and for the user that gives orders. Once for each, in any file."""

    server: Annotated[str, forms.NutServer()] = _key("", "which one, as in the ports of its UPSes", shown=NEEDED)
    user_file: str = _key(
        "", "file whose only line is the user's name in upsd.users; without it nothing is ordered there", shown="none",
        form="path, counted from the main file's folder",
    )  # fmt: skip
    password_file: str = _key(
        "", "file whose only line is that user's password; $CREDENTIALS_DIRECTORY in it is the service manager's", shown="none",
        form="path, counted from the main file's folder",
    )  # fmt: skip
    tls: bool = _key(False, "STARTTLS; without ca_file and pin trusted by what this machine trusts")
    ca_file: str = _key(
        "", "TLS: who signed the server's certificate (PEM)", shown="none", form="path, counted from the main file's folder"
    )
    pin: Annotated[str, forms.Pin()] = _key("", "TLS: the certificate itself, whoever signed it", shown="none")


class ProfileTable(Table):
    """A named set of settings for a group of UPSes; as often as there are profiles, in any file."""

    name: Annotated[str, Name()] = _key("", "what profile check and profile apply call it", shown=NEEDED)
    targets: Annotated[tuple[str, ...], Field(strict=False)] = _key(
        (), "the UPSes that are to have these settings", shown=NEEDED, form='list of UPS names, "group:NAME" or "all"'
    )
    settings: dict[str, Any] = _key(
        {}, "the settings, under the names that qxfleet settings shows, or their option names", shown=NEEDED,
        form="a value per setting, as in eco_mode = \"disabled\"",
    )  # fmt: skip
    on_refusal: Literal["stop", "go-on"] = _key(
        "stop", "whether profile apply goes on with the next setting when a UPS refused one"
    )


class RetentionTable(Table):
    """How long history is kept; events, orders, tests and discharges with their curves stay for ever."""

    raw: Annotated[float | None, forms.Keep()] = _key(14 * DAY_S, "readings as they were stored")
    minutes: Annotated[float | None, forms.Keep()] = _key(730 * DAY_S, "readings rolled up by the minute")
    quarter_hours: Annotated[float | None, forms.Keep()] = _key(3650 * DAY_S, "rolled up by the quarter of an hour")
    days: Annotated[float | None, forms.Keep()] = _key(None, "rolled up by the day")


DEVICE_KEYS = tuple(
    key for key, info in UpsTable.model_fields.items()
    if key != "costant_phase_angle" and any(isinstance(item, DeviceValue) for item in info.metadata)
)  # fmt: skip
"""Options that are settings the device keeps, with a value."""

USB_KEYS = ("vendorid", "productid", "vendor", "product", "serial", "bus", "usb_path", "subdriver", "langid_fix")

LATER_TABLES = {
    "notify": "notifications",
}
"""Tables that later versions bring, and what this one has not got; a row goes when its feature comes."""

_LIVE = "remove it, it is set on the running device: write it into a [[profile]], or use `qxfleet set NAME {}`"

RENAMED = {
    "battvolts": "write default.battery.voltage.low and default.battery.voltage.high instead",
    "battlow": "for voltronic " + _LIVE.format("battery.voltage.low VOLTS")
    + "; for other dialects write default.battery.voltage.low and default.battery.voltage.high instead",
    "battpacks": "for voltronic " + _LIVE.format("battery.packs NUMBER")
    + "; for other dialects write override.battery.packs instead",
    "battnumb": "write battery_number instead",
    "auto_reboot": _LIVE.format("ups.start.auto yes|no"),
    "battery_protection": _LIVE.format("battery.protection yes|no"),
    "energy_saving": _LIVE.format("battery.energysave yes|no"),
    "cold_start": _LIVE.format("ups.start.battery yes|no"),
    "outlet_control": _LIVE.format("outlet.0.switchable yes|no"),
    "max_eco_volt": _LIVE.format("input.transfer.high VOLTS"),
    "min_eco_volt": _LIVE.format("input.transfer.low VOLTS"),
    "max_eco_freq": _LIVE.format("input.frequency.high HERTZ"),
    "min_eco_freq": _LIVE.format("input.frequency.low HERTZ"),
    **{f"outlet{n}_delay": _LIVE.format(f"outlet.{n}.delay.shutdown SECONDS") for n in range(1, 5)},
    "batt_type": _LIVE.format("battery.type Li|Flooded|AGM"),
    "dtr": 'write cablepower = "normal", "reverse", "both" or "none" instead',
    "rts": 'write cablepower = "normal", "reverse", "both" or "none" instead',
    "ignoreoff": "remove it, it rested on a misunderstanding of the specification",
    "pollinterval": 'write poll_interval = "2s" instead',
    "desc": "write description instead",
    "driver": "remove it, port and dialect say all that is needed",
    "nolock": "remove it, a port is always locked",
    "battery_voltage_reports_one_pack": "remove it, packs are counted by themselves or set by override.battery.packs",
}
"""Options of NUT that have another name here, or none: what to do (engine.md sections 10.4 and 10.5,
voltronic.md section 14, seeds' notes)."""
