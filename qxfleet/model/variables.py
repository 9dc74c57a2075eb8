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
    _text("ups.vendorid", "Vendor id of its USB interface"),
    _text("ups.productid", "Product id of its USB interface"),
    _text("ups.id", "UPS system identifier"),
    _text("ups.mfr", "UPS manufacturer"),
    _text("ups.model", "UPS model"),
    _text("ups.mfr.date", "UPS manufacturing date"),
    _text("device.serial", "Device serial number"),
    _text("device.location", "Device location"),
    _text("device.contact", "Who is responsible for the device"),
    _text("device.description", "Device description"),
    # voltronic.md section 4.
    _number("output.frequency", "Hz", 1, "Output frequency"),
    _number("output.current", "A", 1, "Output current"),
    _number("output.current.nominal", "A", 1, "Nominal output current"),
    _number("output.powerfactor", "", 2, "Output power factor"),
    _number("output.phases", "", 0, "Number of output phases"),
    _number("output.power.minimum.percent", "%", 0, "Lowest load seen"),
    _number("output.power.maximum.percent", "%", 0, "Highest load seen"),
    _number("input.phases", "", 0, "Number of input phases"),
    *(
        _number(f"{side}.{phases}.voltage", "V", 1, f"{what} voltage {phases}")
        for side, what in (("input", "Input"), ("output", "Output"), ("output.bypass", "Bypass"))
        for phases in ("L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L1-L3")
    ),
    *(
        _number(f"{side}.{phase}.current", "A", 0, f"{what} current of phase {phase}")
        for side, what in (("input", "Input"), ("output", "Output"))
        for phase in ("L1", "L2", "L3")
    ),
    *(_number(f"output.{phase}.power.percent", "%", 0, f"Load of phase {phase}") for phase in ("L1", "L2", "L3")),
    _number("input.transfer.high", "V", 0, "Highest input voltage for ECO mode"),
    _number("input.transfer.high.min", "V", 0, "Lowest value input.transfer.high may take"),
    _number("input.transfer.high.max", "V", 0, "Highest value input.transfer.high may take"),
    _number("input.transfer.low", "V", 0, "Lowest input voltage for ECO mode"),
    _number("input.transfer.low.min", "V", 0, "Lowest value input.transfer.low may take"),
    _number("input.transfer.low.max", "V", 0, "Highest value input.transfer.low may take"),
    _number("input.frequency.high", "Hz", 1, "Highest input frequency for ECO mode"),
    _number("input.frequency.low", "Hz", 1, "Lowest input frequency for ECO mode"),
    _number("max_bypass_volt", "V", 0, "Highest voltage for bypass mode"),
    _number("min_bypass_volt", "V", 0, "Lowest voltage for bypass mode"),
    _number("max_bypass_freq", "Hz", 1, "Highest frequency for bypass mode"),
    _number("min_bypass_freq", "Hz", 1, "Lowest frequency for bypass mode"),
    _number("battery.number", "", 0, "Number of batteries in a pack"),
    _text("battery.protection", "Deep discharge protection"),
    _text("battery.energysave", "Switch off without load"),
    _text("ups.start.auto", "Restart when mains return"),
    _text("ups.start.battery", "Start without mains"),
    _text("ups.test.result", "Result of the last battery test"),
    _text("ups.test.date", "Date of the last battery test"),
    _text("outlet.0.switchable", "Cut programmable outlets on battery"),
    *(_text(f"outlet.{n}.switchable", f"Outlet {n} can be switched") for n in range(1, 5)),
    *(_text(f"outlet.{n}.status", f"Outlet {n} is on or off") for n in range(1, 5)),
    *(_number(f"outlet.{n}.delay.shutdown", "s", 0, f"Time on battery until outlet {n} is cut") for n in range(1, 5)),
    *(
        _text(name, text)
        for name, text in (
            ("bypass_alarm", "Beep in bypass mode"),
            ("battery_alarm", "Beep in battery mode"),
            ("bypass_when_off", "Bypass while the UPS is off"),
            ("alarm_control", "Beeper"),
            ("converter_mode", "Converter mode: fixed output frequency"),
            ("eco_mode", "ECO mode"),
            ("battery_open_status_check", "Battery check at turn-on"),
            ("bypass_forbidding", "Never go to bypass"),
            ("site_fault_detection", "Detect reversed live and neutral"),
            ("advanced_eco_mode", "Advanced ECO mode: inverter off"),
            ("constant_phase_angle", "Output phase angle may differ from input"),
            ("limited_runtime_on_battery", "Limited runtime on battery"),
            ("reset_to_default", "Reset all capabilities and their limits"),
            ("factory_defaults", "Set an inverter back to how it left the factory"),
        )
    ),
    _text("input_phase_angle", "Input phase angle, degrees"),
    _text("output_phase_angle", "Output phase angle, degrees"),
    _text("work_range_type", "Grid working range"),
    _text("voltronic_parallel", "Role in a parallel system"),
    _text("unknown.7", "Reply to QBDR, meaning not known"),
    # Names of our own, where the dialect says more than the variable list has names for (voltronic.md sections 4, 5, 7).
    # extra-dialects.md, by section: 3, 5 (boost and trim), 6 (masterguard), 9, 11 (three phases), 12, 13 (inverters).
    _number("input.transfer.boost.low", "V", 0, "Input voltage below which the unit goes to battery instead of boosting"),
    _number("input.transfer.boost.high", "V", 0, "Input voltage below which the unit boosts"),
    _number("input.transfer.trim.low", "V", 0, "Input voltage above which the unit trims"),
    _number("input.transfer.trim.high", "V", 0, "Input voltage above which the unit goes to battery instead of trimming"),
    _number("input.voltage.low.critical", "V", 0, "Input voltage below which the unit goes to battery"),
    _number("input.voltage.high.critical", "V", 0, "Input voltage above which the unit goes to battery"),
    _number("ambient.0.temperature", "°C", 1, "Temperature around the unit"),
    _number("ambient.0.temperature.low", "°C", 0, "Lowest temperature around the unit"),
    _number("ambient.0.temperature.high", "°C", 0, "Highest temperature around the unit"),
    _number("load.high", "%", 0, "Load at which the unit is overloaded"),
    _number("device.uptime", "s", 0, "Time since the last service"),
    _text("device.part", "Part number"),
    _number("ups.power", "VA", 0, "Apparent power"),
    _number("ups.realpower", "W", 0, "Real power"),
    _text("battery.test.status", "What the unit says of its battery test"),
    _number("battery.temperature", "°C", 1, "Battery temperature"),
    _number("battery.current", "A", 1, "Battery current, charging above 0"),
    _number("input.bypass.voltage", "V", 1, "Bypass voltage"),
    _number("input.bypass.frequency", "Hz", 1, "Bypass frequency"),
    _number("input.bypass.phases", "", 0, "Number of bypass phases"),
    *(_number(f"input.bypass.L{n}-N.voltage", "V", 1, f"Bypass voltage L{n}-N") for n in (1, 2, 3)),
    *(
        _number(f"output.L{n}.{name}", unit, 0, f"{what} of phase L{n}")
        for n in (1, 2, 3)
        for name, unit, what in (("load", "%", "Load"), ("realpower", "W", "Real power"), ("power", "VA", "Apparent power"))
    ),
    _text("experimental.input.topology", "Input transformer: star or delta"),
    _text("experimental.output.topology", "Output transformer: star or delta"),
    _number("experimental.battery.voltage.negative", "V", 1, "Negative battery string"),
    _number("ups.timer.shutdown", "s", 0, "Time until the load is switched off, -1 while no shutdown is pending"),
    _number("ups.timer.start", "s", 0, "Time until the load is switched on, -1 while nothing is pending"),
    _number("ups.timer.reboot", "s", 0, "Time until the load is switched off and on, -1 while nothing is pending"),
    _number("ups.delay.reboot", "s", 0, "Interval to wait before switching the load off and on"),
    _number("battery.charge.warning", "%", 0, "Remaining charge at which the device warns"),
    _number("battery.charge.restart", "%", 0, "Charge from which the load is switched on again"),
    _text("input.sensitivity", "How sensitive the device is to its input"),
    _text("input.transfer.reason", "Why the device went to battery last"),
    _text("qx.nut.path", "Agents through which the values of a member behind a NUT server came"),
    _number("output.power", "VA", 0, "Apparent output power"),
    _number("output.power.nominal", "VA", 0, "Nominal apparent output power"),
    _number("output.realpower", "W", 0, "Real output power"),
    _number("output.realpower.nominal", "W", 0, "Nominal real output power"),
    _number("output.powerfactor.nominal", "", 2, "Nominal power factor"),
    _number("battery.voltage.recharge", "V", 1, "Battery voltage below which the unit goes back to mains"),
    _number("battery.voltage.under", "V", 1, "Battery voltage at which the unit switches off"),
    _number("battery.voltage.bulk", "V", 1, "Bulk charging voltage"),
    _number("battery.voltage.float", "V", 1, "Float charging voltage"),
    _number("battery.charging.current.high", "A", 0, "Highest charging current"),
    _number("battery.charging.current.ac.high", "A", 0, "Highest charging current from mains"),
    _text("device.model.type", "Kind of inverter"),
    _number("output.voltage.default", "V", 1, "Output voltage as the inverter left the factory"),
    _number("output.frequency.default", "Hz", 1, "Output frequency as the inverter left the factory"),
    *(
        _number(f"battery.voltage.{name}.default", "V", 1, f"battery.voltage.{name} as the inverter left the factory")
        for name in ("under", "float", "bulk", "recharge")
    ),
    _number("battery.charging.current.high.default", "A", 0, "Highest charging current as the inverter left the factory"),
    _number("battery.charging.current.ac.high.default", "A", 0, "Highest charging current from mains as it left the factory"),
    _text("battery.type.default", "Battery type as the inverter left the factory"),
    _number("experimental.input.pv1.voltage", "V", 1, "Voltage of the first solar input"),
    _number("experimental.input.pv1.current", "A", 1, "Current of the first solar input into the battery"),
    _number("experimental.input.pv2.voltage", "V", 1, "Voltage of the second solar input"),
    _number("experimental.input.pv2.current", "A", 1, "Current of the second solar input"),
    _number("experimental.battery.voltage.scc1", "V", 2, "Battery voltage at the solar charger"),
    _number("qx.pv1.power", "W", 0, "Power of the first solar input"),
    _number("qx.pv2.power", "W", 0, "Power of the second solar input"),
    _text("qx.output.source", "Where the inverter takes its power from first"),
    _text("qx.charger.source", "Where the inverter charges from first"),
    _text("qx.input.range", "Input range: appliance or UPS"),
    _number("qx.battery.voltage.redischarge", "V", 1, "Battery voltage above which the inverter goes back to battery"),
    _number("qx.battery.cells", "", 0, "Cells of the battery"),
    _number("qx.battery.cell.voltage.nominal", "V", 2, "Nominal voltage of one cell"),
    _number("qx.battery.block.voltage", "V", 2, "Voltage of one 12 V block"),
    _number("qx.battery.block.voltage.low", "V", 2, "Voltage of one 12 V block at which the battery is empty"),
    _number("qx.battery.hold", "s", 0, "Time the battery holds at the present load, as the unit reckons"),
    _number("qx.battery.recharge", "s", 0, "Time until the battery is charged to 90 %"),
    _number("qx.battery.health", "%", 1, "What is left of the battery's capacity, as the unit reckons"),
    _number("qx.battery.health.time", "%", 1, "What is left of it after its years"),
    _number("qx.battery.health.cycles", "%", 1, "What is left of it after its cycles"),
    _number("qx.battery.calibration", "%", 0, "Last run-time calibration"),
    _number("qx.error.code", "", 0, "Error word as sent"),
    _text("qx.firmware.scc1", "Firmware of the solar charger"),
    _text("qx.flags", "Flags without a public meaning, as sent"),
    *(_text(f"qx.fault.{n}.code", f"Fault record {n}") for n in range(1, 6)),
    *(_number(f"qx.fault.{n}.value", "", 0, f"Value of fault record {n}") for n in range(1, 6)),
    *(_number(f"qx.fault.{n}.uptime", "s", 0, f"Uptime at fault record {n}") for n in range(1, 6)),
    _number("qx.bus.positive.voltage", "V", 1, "Positive DC bus"),
    _number("qx.bus.negative.voltage", "V", 1, "Negative DC bus"),
    _number("qx.battery.negative.voltage", "V", 1, "Second battery string"),
    _number("qx.battery.count", "", 0, "Batteries in a pack, as built"),
    _number("qx.battery.unit.voltage.nominal", "V", 1, "Nominal voltage of one battery"),
    _text("qx.mode", "Operating mode"),
    _text("qx.mode.letter", "Operating mode as sent"),
    _text("qx.warnings", "Warning bits as sent"),
    _text("qx.status.conflict", "What the UPS says of itself that can't be true together"),
    _text("qx.epo", "Emergency power off is active"),
    _text("qx.fault.code", "Code of the present fault"),
    _number("qx.fault.input.voltage", "V", 1, "Input voltage when the fault came"),
    _number("qx.fault.input.frequency", "Hz", 1, "Input frequency when the fault came"),
    _number("qx.fault.output.voltage", "V", 1, "Inverter voltage when the fault came"),
    _number("qx.fault.output.frequency", "Hz", 1, "Inverter frequency when the fault came"),
    _number("qx.fault.load", "%", 0, "Load when the fault came"),
    _number("qx.fault.output.current", "A", 1, "Output current when the fault came"),
    _number("qx.fault.bus.positive.voltage", "V", 1, "Positive DC bus when the fault came"),
    _number("qx.fault.bus.negative.voltage", "V", 1, "Negative DC bus when the fault came"),
    _number("qx.fault.battery.voltage", "V", 1, "Battery voltage when the fault came"),
    _number("qx.fault.battery.negative.voltage", "V", 1, "Second battery string when the fault came"),
    _number("qx.fault.temperature", "°C", 1, "Temperature when the fault came"),
    _text("qx.fault.status.bits", "Internal status bits when the fault came"),
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
