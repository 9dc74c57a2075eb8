"""``ups.conf``: each section of a driver that qxfleet stands in for becomes a ``[[ups]]`` block.

Facts: the manual pages of nutdrv_qx and blazer_usb with their notes for users of older drivers; megatec(8) and megatec_usb(8) of
NUT 2.4 for the drivers before those; ups.conf(5). What each option becomes stands in the tables below; whatever they give is put
before the same checks as a file of ours, and what does not pass is left out and told.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from qxfleet.config.findings import Place, Source
from qxfleet.config.nut.complaints import Complaints, Note
from qxfleet.config.nut.syntax import Entry, Section, sections
from qxfleet.config.profile import Block, read_profile
from qxfleet.config.schema import AgentTable
from qxfleet.config.ups import device_of, read_ups
from qxfleet.dialects.registry import dialect_named
from qxfleet.model.options import UpsOptions


@dataclass(slots=True)
class ImportedUps:
    """One UPS carried over: the keys of its ``[[ups]]`` block, and settings of the device for a ``[[profile]]``."""

    table: dict[str, object]
    live: dict[str, object] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    left_out: str = ""
    """Why the block is written as a comment; empty for one that is sound."""
    options: UpsOptions | None = None


@dataclass(frozen=True, slots=True)
class Driver:
    """What a driver's options mean: ``minutes`` are those it counts in minutes."""

    usb: bool | None
    dialect: str = ""
    minutes: frozenset[str] = frozenset()
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Its own defaults that differ from ours."""


BLAZER = frozenset({"ondelay"})
MEGATEC = frozenset({"ondelay", "offdelay"})
_MEGATEC = {"ondelay": "2m"}

DRIVERS: Mapping[str, Driver] = {
    "nutdrv_qx": Driver(None),
    "blazer_ser": Driver(False, minutes=BLAZER),
    "blazer_usb": Driver(True, minutes=BLAZER),
    "megatec": Driver(False, minutes=MEGATEC, defaults=_MEGATEC),
    "megatec_usb": Driver(True, minutes=MEGATEC, defaults=_MEGATEC),
    "voltronic_ser": Driver(False, "voltronic", BLAZER),
    "voltronic_usb": Driver(True, "voltronic", BLAZER),
}
"""The megatec drivers counted both delays in minutes and waited 2 minutes before the UPS came back (megatec(8)); blazer and the
voltronic drivers count ``ondelay`` in minutes, nutdrv_qx counts seconds (the manual page's notes for previous users)."""

USB_KEYS = ("vendorid", "productid", "vendor", "product", "serial", "bus", "subdriver", "langid_fix")
SECONDS = ("ondelay", "offdelay", "pollfreq", "pollinterval", "chargetime")
NUMBERS = ("idleload",)
FLAGS = ("stayoff", "norating", "novendor", "ignoresab", "ignorelb", "reset_to_default", "testing")
WORDS = (
    "cablepower", "alarm_control", "bypass_alarm", "battery_alarm", "bypass_when_off", "bypass_forbidding", "converter_mode",
    "eco_mode", "advanced_eco_mode", "battery_open_status_check", "site_fault_detection", "constant_phase_angle",
    "limited_runtime_on_battery", "work_range_type", "output_phase_angle",
)  # fmt: skip
WHOLE = ("max_bypass_volt", "min_bypass_volt", "max_bypass_freq", "min_bypass_freq", "battery_number")
RENAMED = {
    "protocol": "dialect", "desc": "description", "pollfreq": "full_interval", "pollinterval": "poll_interval",
    "battnumb": "battery_number", "costant_phase_angle": "constant_phase_angle",
}  # fmt: skip

LIVE = {
    "battpacks": "battery.packs", "battlow": "battery.voltage.low", "auto_reboot": "ups.start.auto",
    "battery_protection": "battery.protection", "energy_saving": "battery.energysave", "cold_start": "ups.start.battery",
    "outlet_control": "outlet.0.switchable", "max_eco_volt": "input.transfer.high", "min_eco_volt": "input.transfer.low",
    "max_eco_freq": "input.frequency.high", "min_eco_freq": "input.frequency.low", "batt_type": "battery.type",
    **{f"outlet{n}_delay": f"outlet.{n}.delay.shutdown" for n in range(1, 5)},
}  # fmt: skip
"""Options of the old voltronic drivers that are settings of the running device now (nutdrv_qx's notes)."""

_NEEDLESS = {
    "battery_voltage_reports_one_pack": "not needed, packs are counted by themselves; override.battery.packs corrects them",
    "device": "not carried over, the number changes whenever the UPS is plugged in",
    "busport": "not carried over: `qxfleet discover` shows usb_path, which names bus and port together",
    "allow_duplicates": "not carried over, it makes equal units change places: tell them apart by usb_path or serial",
    "explore": "not carried over: `qxfleet probe` shows what a UPS answers",
    "sdorder": "not carried over: the order in which UPSes are switched off follows from [[load]] and [shutdown]",
    "sdcommands": "not carried over: the commands follow from ondelay, offdelay and stayoff",
    "allow_killpower": "not carried over: rights are given by [[user]]",
    "lowbatt": "not carried over, the UPS's own low-battery signal is used: for a level instead, write ignorelb = true and "
               "override.battery.charge.low",
    "slave_addr": "not carried over, it belongs to a protocol that qxfleet does not speak",
    "nooutstats": "not carried over, it belongs to a protocol that qxfleet does not speak",
    "pins_shutdown_mode": "not carried over, it belongs to a protocol that qxfleet does not speak",
    **dict.fromkeys(
        ("user", "group", "chroot", "driverpath", "statepath", "debug_min", "usb_set_altinterface", "usb_config_index",
         "usb_hid_rep_index", "usb_hid_desc_index", "usb_hid_ep_in", "usb_hid_ep_out", "LIBUSB_DEBUG"),
        "not carried over, it is about NUT's own processes",
    ),
}  # fmt: skip

_QUIET = frozenset(
    {"driver", "port", "maxretry", "retrydelay", "maxstartdelay", "nolock", "ignoreoff", "synchronous", "noscanlangid"}
)
"""Not worth a note: nothing is lost."""


def import_ups_conf(text: str, name: str, *, members: bool = False) -> tuple[list[ImportedUps], list[Note]]:
    """The UPSes of a ``ups.conf``, and notes on what belongs to none of them; ``name`` is the file's for messages.

    ``members``: those of other drivers too, by the upsd of this machine.
    """
    above, found = sections(text)
    common, notes = _above(above, name)
    imported: list[ImportedUps] = []
    names: dict[str, int] = {}
    devices: dict[object, str] = {}
    for section in found:
        ups, problem = _import(section, common, name, members=members)
        if ups is None:
            notes.append(Note(f"{name}:{section.line}", section.name, problem))
            continue
        own = str(ups.table["name"])
        if names.setdefault(own, section.line) != section.line:
            ups.left_out = f"the name {own} is taken by the section at line {names[own]}"
        elif ups.options is not None and (other := devices.setdefault(device_of(ups.options), own)) != own:
            ups.left_out = f"nothing tells this UPS from {other}: `qxfleet discover` shows usb_path and serial"
        if ups.left_out:
            ups.notes.append(Note(f"{name}:{section.line}", section.name, f"written as a comment, {ups.left_out}"))
        imported.append(ups)
    if not found:
        notes.append(Note(name, "", "no [section] in it: is this a ups.conf?"))
    return imported, notes


def _above(entries: Iterable[Entry], name: str) -> tuple[list[Entry], list[Note]]:
    """Settings above all sections that hold for every UPS, and notes on the others."""
    common, notes = [], []
    for entry in entries:
        if entry.key == "pollinterval":
            common.append(entry)
        elif entry.key not in _QUIET:
            text = _NEEDLESS.get(entry.key, "not carried over, qxfleet has nothing like it")
            notes.append(Note(f"{name}:{entry.line}", "", f"{entry.key}: {text}"))
    return common, notes


def _import(section: Section, common: Iterable[Entry], name: str, *, members: bool) -> tuple[ImportedUps | None, str]:
    """One section; None and the reason for a driver that is not ours."""
    entries = {entry.key: entry for entry in (*common, *section.entries)}
    driver_name = entries["driver"].value if "driver" in entries else None
    if not driver_name:
        return None, "no driver is named: left out"
    driver = DRIVERS.get(driver_name)
    if driver is None and members:
        return _member(section, driver_name, name), ""
    if driver is None:
        return None, f"driver {driver_name} is not for the protocols that qxfleet speaks: left out, keep it with NUT"
    protocol = entries["protocol"].value if "protocol" in entries else None
    if protocol and dialect_named(protocol) is None:
        return None, f"protocol {protocol} is none that qxfleet speaks: left out; `qxfleet probe` tells what the UPS answers to"
    ups = ImportedUps({"name": _own_name(section.name)})
    spots = {key: f"{name}:{entry.line}" for key, entry in entries.items()}
    if ups.table["name"] != section.name:
        ups.notes.append(Note(f"{name}:{section.line}", section.name, f"renamed to {ups.table['name']}"))
    usb = bool(driver.usb) or (driver.usb is None and _means_usb(entries))
    ups.table["port"] = "auto" if usb else str(entries["port"].value or "") if "port" in entries else ""
    ups.table["dialect"] = driver.dialect or "auto"
    ups.table.update(driver.defaults)
    for entry in entries.values():
        carried = _carried(entry, driver, usb, ups.live)
        if isinstance(carried, str):
            ups.notes.append(Note(spots[entry.key], section.name, f"{entry.key}: {carried}"))
        else:
            ups.table.update(carried)
            spots.update(dict.fromkeys(carried, spots[entry.key]))
    _pins(entries, ups)
    _check(ups, section, name, spots)
    return ups, ""


def _member(section: Section, driver: str, name: str) -> ImportedUps:
    """A UPS that stays with its driver, read from the upsd of this machine."""
    ups = ImportedUps({"name": _own_name(section.name), "port": f"nut://localhost/{section.name}"})
    text = f"stays with NUT's {driver}, and is read from upsd: write a [[upsd]] with its user for orders and tests"
    ups.notes.append(Note(f"{name}:{section.line}", section.name, text))
    _check(ups, section, name, {})
    return ups


def _own_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:64] or "ups"


def _means_usb(entries: Mapping[str, Entry]) -> bool:
    """nutdrv_qx takes a UPS for a USB one if any USB option is there, or by the port ``auto``."""
    port = entries["port"].value if "port" in entries else None
    return (port or "").lower() == "auto" or any(key in entries for key in USB_KEYS)


def _carried(entry: Entry, driver: Driver, usb: bool, live: dict[str, object]) -> dict[str, object] | str:
    """The keys that one option becomes, or why it becomes none; a setting of the device goes to ``live``."""
    key, value = entry.key, entry.value
    ours = RENAMED.get(key, key)
    if key in FLAGS:
        return {ours: True}
    if key in _QUIET or key in ("dtr", "rts"):
        return {}
    if key in _NEEDLESS:
        return _NEEDLESS[key]
    if not value:
        return "not carried over, it has no value"
    number = _number(value)
    if key in LIVE:
        live[LIVE[key]] = _live(LIVE[key], value, number)
        return {}
    if key in USB_KEYS:
        return {ours: value} if usb else "not carried over, the port is a serial one"
    if key in SECONDS:
        if number is None or number < 0:
            return f"not carried over, expected a number, found {value}"
        return {ours: f"{number:g}{'m' if key in driver.minutes else 's'}"}
    if key in ("mfr", "model") and driver.minutes == MEGATEC:
        return {f"override.device.{key}": value}
    if key == "battvolts":
        low, high = sorted(_number(part.strip()) or 0 for part in (*value.split(":"), "", "")[:2])
        if low <= 0:
            return f"not carried over, expected two voltages as in 21.5:27.4, found {value}"
        return {"default.battery.voltage.low": low, "default.battery.voltage.high": high}
    if key == "runtimecal":
        return {ours: [_number(part.strip()) for part in value.split(",")]}
    if ours in NUMBERS or ours in WHOLE or key.startswith(("default.", "override.")):
        return {ours: value if number is None else number}
    if ours in WORDS or key in RENAMED:
        return {ours: value}
    return "not carried over, qxfleet has nothing like it"


def _live(variable: str, value: str, number: float | int | None) -> object:
    """A setting of the device as a profile has it; delays of outlets were seconds (0..59940, nutdrv_qx's notes)."""
    if number is None:
        return {"enabled": "yes", "disabled": "no"}.get(value, value)
    return f"{number}s" if variable.endswith("delay.shutdown") else number


def _number(text: str) -> float | int | None:
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    return float(text) if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+)", text) else None


def _pins(entries: Mapping[str, Entry], ups: ImportedUps) -> None:
    """The megatec drivers' ``dtr`` and ``rts``, on and off by default, are one word here."""
    if not {"dtr", "rts"} & entries.keys():
        return
    dtr = "dtr" not in entries or entries["dtr"].value != "0"
    rts = "rts" in entries and entries["rts"].value != "0"
    ups.table["cablepower"] = {(True, False): "normal", (False, True): "reverse", (True, True): "both"}.get((dtr, rts), "none")


def _check(ups: ImportedUps, section: Section, name: str, spots: Mapping[str, str]) -> None:
    """Put the block before our own checks, and take out what does not pass until all of it does."""
    while True:
        complaints = Complaints()
        place = Place(Source(name, pathlib.Path(name), {"ups": [ups.table]}, {}), ("ups", 0))
        ups.options = read_ups(nested(ups.table), place, AgentTable(), complaints)
        wrong = [(key, text) for key, text in complaints.keys if key in ups.table and key not in ("name", "port")]
        for key, text in wrong:
            if key in ups.table:
                del ups.table[key]
                ups.notes.append(Note(spots.get(key, f"{name}:{section.line}"), section.name, f"{key}: not carried over, {text}"))
        if not wrong:
            break
    if complaints.keys:
        ups.left_out = "; ".join(f"{key}: {text}" for key, text in complaints.keys)
    elif ups.live:
        _check_profile(ups, section, name)


def _check_profile(ups: ImportedUps, section: Section, name: str) -> None:
    """The same for settings of the device."""
    while ups.live:
        complaints = Complaints()
        table = profile(ups)
        place = Place(Source(name, pathlib.Path(name), {"profile": [table]}, {}), ("profile", 0))
        if read_profile(table, place, [Block(ups.table, ups.options)], complaints) is not None:
            return
        wrong = {key.removeprefix("settings."): text for key, text in complaints.keys}
        known = {key: text for key, text in wrong.items() if key in ups.live}
        for key, text in (known or dict.fromkeys(ups.live, "; ".join(wrong.values()))).items():
            del ups.live[key]
            ups.notes.append(Note(f"{name}:{section.line}", section.name, f"{key}: not carried over, {text}"))


def profile(ups: ImportedUps) -> dict[str, object]:
    """The ``[[profile]]`` block of a UPS's settings."""
    return {"name": f"{ups.table['name']}-as-in-nut"[:64], "targets": [ups.table["name"]], "settings": ups.live}


def nested(table: Mapping[str, object]) -> dict[str, object]:
    """The table as TOML reads it: dots nest."""
    whole: dict[str, object] = {}
    for key, value in table.items():
        *outer, last = key.split(".")
        inner = whole
        for part in outer:
            step = inner.setdefault(part, {})
            assert isinstance(step, dict)
            inner = step
        inner[last] = value
    return whole
