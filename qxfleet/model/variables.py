"""The variable list: every NUT variable name we publish, with its unit, text format and place in the store."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What sort of value a variable holds."""

    NUMBER = "number"
    TEXT = "text"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable: NUT's name, its unit, decimals of its text form, and its column of table ``reading``.

    ``scale`` is how many stored integer steps make one unit (10 keeps tenths); variables without a ``column`` are kept in
    the reading's ``extra`` JSON if they change while running, else in the device's identity.
    """

    name: str
    kind: Kind
    unit: str = ""
    decimals: int = 0
    column: str | None = None
    scale: int = 1
    description: str = ""


def _number(name: str, unit: str, decimals: int, description: str, column: str | None = None, scale: int = 1) -> Variable:
    return Variable(name, Kind.NUMBER, unit, decimals, column, scale, description)


def _text(name: str, description: str) -> Variable:
    return Variable(name, Kind.TEXT, description=description)


# Text formats: megatec-family.md sections 4 to 6 (the incumbent's published formats), engine.md section 8.
_ALL = (
    _number("input.voltage", "V", 1, "Input voltage", "input_voltage", 10),
    _number("input.voltage.fault", "V", 1, "Worst input voltage since the last query", "input_voltage_fault", 10),
    _number("input.voltage.nominal", "V", 0, "Nominal input voltage"),
    _number("input.current.nominal", "A", 1, "Nominal input current"),
    _number("input.frequency", "Hz", 1, "Input line frequency", "input_frequency", 10),
    _number("input.frequency.nominal", "Hz", 0, "Nominal input line frequency"),
    _number("output.voltage", "V", 1, "Output voltage", "output_voltage", 10),
    _number("ups.load", "%", 0, "Load on UPS", "ups_load", 10),
    _number("ups.temperature", "°C", 1, "UPS temperature", "ups_temperature", 10),
    _number("battery.voltage", "V", 2, "Battery voltage", "battery_voltage", 100),
    _number("battery.voltage.nominal", "V", 1, "Nominal battery voltage"),
    _number("battery.voltage.low", "V", 2, "Battery voltage at which the battery counts as empty"),
    _number("battery.voltage.high", "V", 2, "Battery voltage at which the battery counts as full"),
    _number("battery.packs", "", 0, "Number by which the reported battery voltage is multiplied"),
    _number("battery.charge", "%", 0, "Battery charge", "battery_charge", 10),
    _number("battery.charge.low", "%", 0, "Remaining charge at which the battery counts as low"),
    _number("battery.runtime", "s", 0, "Battery runtime", "battery_runtime", 1),
    _number("battery.runtime.low", "s", 0, "Remaining runtime at which the battery counts as low"),
    _number("ups.delay.start", "s", 0, "Interval to wait before restarting the load"),
    _number("ups.delay.shutdown", "s", 0, "Interval to wait before switching the load off"),
    _text("ups.status", "UPS status"),
    _text("ups.alarm", "UPS alarms"),
    _text("ups.type", "UPS type"),
    _text("ups.beeper.status", "UPS beeper status"),
    _text("ups.firmware", "UPS firmware"),
    _text("ups.firmware.aux", "Auxiliary device firmware"),
    _text("ups.serial", "UPS serial number"),
    _text("device.mfr", "Device manufacturer"),
    _text("device.model", "Device model"),
    _text("device.type", "Device type"),
    # Never told by these devices, but worth writing down for one (default.*, override.*); names of NUT's variable list.
    _number("output.voltage.nominal", "V", 0, "Nominal output voltage"),
    _number("output.frequency.nominal", "Hz", 0, "Nominal output frequency"),
    _number("ups.power.nominal", "VA", 0, "Nominal apparent power"),
    _number("ups.realpower.nominal", "W", 0, "Nominal real power"),
    _number("battery.capacity", "Ah", 2, "Battery capacity"),
    _text("battery.type", "Battery chemistry"),
    _text("battery.date", "Battery installation date"),
    _text("battery.mfr.date", "Battery manufacturing date"),
    _text("ups.id", "UPS system identifier"),
    _text("ups.mfr", "UPS manufacturer"),
    _text("ups.model", "UPS model"),
    _text("ups.mfr.date", "UPS manufacturing date"),
    _text("device.serial", "Device serial number"),
    _text("device.location", "Device location"),
    _text("device.contact", "Who is responsible for the device"),
    _text("device.description", "Device description"),
)

VARIABLES: dict[str, Variable] = {variable.name: variable for variable in _ALL}

READING_COLUMNS: tuple[Variable, ...] = tuple(variable for variable in _ALL if variable.column)
"""Variables with a column of their own in table ``reading``, in column order."""


def value_text(name: str, value: float | str) -> str:
    """A value in NUT's text format, e.g. ``input.voltage`` 230.14 → ``230.1``; an unlisted number keeps its own digits."""
    if isinstance(value, str):
        return value
    variable = VARIABLES.get(name)
    if variable is None or variable.kind is not Kind.NUMBER:
        return f"{value:g}"
    if name == "battery.packs":
        return f"{value:g}"
    return f"{value:.{variable.decimals}f}"
