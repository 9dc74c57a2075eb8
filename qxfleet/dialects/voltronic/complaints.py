"""The 64 warning bits of QWS and the fault codes of QFS (voltronic.md sections 6 and 7).

Texts of the warnings are the seeds' own (nutdrv_qx, table "UPS Warnings"): NUT clients know them; a unit's maker may mean
something else by some of them, so the number stands beside the text everywhere.
"""

from __future__ import annotations

from qxfleet.dialects.spec import Flags, Holds, Meaning
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status

WARNINGS_TABLE: tuple[tuple[int, str, str, int], ...] = (
    (1, "Battery disconnected", "battery", 2),
    (2, "Neutral not connected", "input", 2),
    (3, "Site fault", "input", 2),
    (4, "Phase sequence incorrect", "input", 2),
    (5, "Phase sequence incorrect in bypass", "bypass", 2),
    (6, "Input frequency unstable in bypass", "bypass", 2),
    (7, "Battery overcharged", "battery", 2),
    (8, "Low battery", "battery", 1),
    (9, "Overload alarm", "load", 2),
    (10, "Fan alarm", "internal", 2),
    (11, "EPO enabled", "internal", 2),
    (12, "Unable to turn on UPS", "internal", 2),
    (13, "Over temperature alarm", "internal", 2),
    (14, "Charger alarm", "internal", 2),
    (15, "Remote auto shutdown", "internal", 3),
    (16, "L1 input fuse not working", "internal", 2),
    (17, "L2 input fuse not working", "internal", 2),
    (18, "L3 input fuse not working", "internal", 2),
    (19, "Positive PFC abnormal in L1", "internal", 2),
    (20, "Negative PFC abnormal in L1", "internal", 2),
    (21, "Positive PFC abnormal in L2", "internal", 2),
    (22, "Negative PFC abnormal in L2", "internal", 2),
    (23, "Positive PFC abnormal in L3", "internal", 2),
    (24, "Negative PFC abnormal in L3", "internal", 2),
    (25, "Abnormal in CAN-bus communication", "parallel", 2),
    (26, "Abnormal in synchronous signal circuit", "parallel", 2),
    (27, "Abnormal in synchronous pulse signal circuit", "parallel", 2),
    (28, "Abnormal in host signal circuit", "parallel", 2),
    (29, "Male connector of parallel cable not connected well", "parallel", 2),
    (30, "Female connector of parallel cable not connected well", "parallel", 2),
    (31, "Parallel cable not connected well", "parallel", 2),
    (32, "Battery connection not consistent in parallel systems", "parallel", 2),
    (33, "AC connection not consistent in parallel systems", "parallel", 2),
    (34, "Bypass connection not consistent in parallel systems", "parallel", 2),
    (35, "UPS model types not consistent in parallel systems", "parallel", 2),
    (36, "Capacity of UPSs not consistent in parallel systems", "parallel", 2),
    (37, "Auto restart setting not consistent in parallel systems", "parallel", 2),
    (38, "Battery cell over charge", "parallel", 2),
    (39, "Battery protection setting not consistent in parallel systems", "parallel", 2),
    (40, "Battery detection setting not consistent in parallel systems", "parallel", 2),
    (41, "Bypass not allowed setting not consistent in parallel systems", "parallel", 2),
    (42, "Converter setting not consistent in parallel systems", "parallel", 2),
    (43, "High loss point for frequency in bypass mode not consistent in parallel systems", "parallel", 2),
    (44, "Low loss point for frequency in bypass mode not consistent in parallel systems", "parallel", 2),
    (45, "High loss point for voltage in bypass mode not consistent in parallel systems", "parallel", 2),
    (46, "Low loss point for voltage in bypass mode not consistent in parallel systems", "parallel", 2),
    (47, "High loss point for frequency in AC mode not consistent in parallel systems", "parallel", 2),
    (48, "Low loss point for frequency in AC mode not consistent in parallel systems", "parallel", 2),
    (49, "High loss point for voltage in AC mode not consistent in parallel systems", "parallel", 2),
    (50, "Low loss point for voltage in AC mode not consistent in parallel systems", "parallel", 2),
    (51, "Warning for locking in bypass mode after 3 consecutive overloads within 30 min", "parallel", 2),
    (52, "Warning for three-phase AC input current unbalance", "parallel", 2),
    (53, "Warning for a three-phase input current unbalance detected in battery mode", "parallel", 2),
    (54, "Warning for Inverter inter-current unbalance", "parallel", 2),
    (55, "Programmable outlets cut off pre-alarm", "internal", 1),
    (56, "Warning for Battery replace", "internal", 1),
    (57, "Abnormal warning on input phase angle", "internal", 2),
    (58, "Warning!! Cover of maintain switch is open", "internal", 2),
    (62, "EEPROM operation error", "internal", 2),
)
"""Bit, text, group, level. Bits 59 to 61, 63 and 64 are defined nowhere; they are reported by number."""

_TOLD = {number: (text, group, level) for number, text, group, level in WARNINGS_TABLE}

_FLAGS = {8: Status.LB, 9: Status.OVER, 56: Status.RB}
_LINKED = {8: "low-battery", 9: "overload", 56: "replace-battery"}


def _warning(number: int) -> tuple[int, Notice]:
    text, group, level = _TOLD.get(number, (f"Unknown warning #{number:02d}", "", 2))
    notice = Notice(
        f"warning.{number}", text, level, "qx.warnings", group, number=number, linked=_LINKED.get(number, "")
    )
    return int(_FLAGS.get(number, 0)), notice


WARNINGS = Flags("qx.warnings", tuple(_warning(number) for number in range(1, 65)))

FAULTS: tuple[tuple[str, str, str, int], ...] = (
    ("01", "DC bus voltage not at its set point", "internal", 1),
    ("02", "DC bus voltage too high", "internal", 1),
    ("03", "DC bus voltage too low", "internal", 1),
    ("04", "DC bus halves differ too much", "internal", 1),
    ("05", "DC bus voltage falling too fast", "internal", 1),
    ("06", "PFC input inductor over current", "internal", 1),
    ("11", "Inverter voltage not at its set point", "internal", 1),
    ("12", "Inverter voltage too high", "internal", 1),
    ("13", "Inverter voltage too low", "internal", 1),
    ("14", "Inverter output short-circuited", "internal", 1),
    ("15", "Inverter L2 short-circuited", "internal", 1),
    ("16", "Inverter L3 short-circuited", "internal", 1),
    ("17", "Inverter L1-L2 short-circuited", "internal", 1),
    ("18", "Inverter L2-L3 short-circuited", "internal", 1),
    ("19", "Inverter L3-L1 short-circuited", "internal", 1),
    ("1A", "Inverter L1 negative power out of range", "internal", 1),
    ("1B", "Inverter L2 negative power out of range", "internal", 1),
    ("1C", "Inverter L3 negative power out of range", "internal", 1),
    ("21", "Battery SCR short-circuited", "internal", 1),
    ("22", "Line SCR short-circuited", "internal", 1),
    ("23", "Inverter relay open", "internal", 1),
    ("24", "Inverter relay short-circuited", "internal", 1),
    ("25", "Input and output wiring swapped", "internal", 1),
    ("26", "Battery polarity reversed", "battery", 2),
    ("27", "Battery voltage too high", "battery", 2),
    ("28", "Battery voltage too low", "battery", 2),
    ("29", "Battery fuse open", "battery", 1),
    ("31", "CAN bus communication fault", "parallel", 2),
    ("32", "Host signal circuit fault", "parallel", 2),
    ("33", "Synchronisation signal circuit fault", "parallel", 2),
    ("34", "Synchronisation pulse circuit fault", "parallel", 2),
    ("35", "Parallel cable disconnected", "parallel", 2),
    ("36", "Load unbalanced", "load", 2),
    ("41", "Over temperature", "internal", 1),
    ("42", "Control board CPUs cannot talk to each other", "internal", 1),
    ("43", "Overload", "load", 1),
    ("44", "Fan failed", "internal", 1),
    ("45", "Charger failed", "internal", 1),
    ("46", "Model fault", "internal", 1),
    ("47", "MCU communication fault", "internal", 1),
)
"""Code, text, group, level."""

FAULTS_P31: tuple[tuple[str, str, str, int], ...] = (
    ("01", "Fan failed", "internal", 1),
    ("02", "Over temperature", "internal", 1),
    ("03", "Battery voltage too high", "battery", 1),
    ("04", "Battery voltage too low", "battery", 1),
    ("05", "Inverter relay short-circuited", "internal", 1),
    ("06", "Inverter voltage too high", "internal", 1),
    ("07", "Overload", "load", 1),
    ("08", "DC bus voltage too high", "internal", 1),
    ("09", "DC bus soft start failed", "internal", 1),
    ("10", "Undefined", "internal", 1),
    ("51", "Over current", "internal", 1),
    ("52", "DC bus voltage too low", "internal", 1),
    ("53", "Inverter soft start failed", "internal", 1),
    ("54", "Self test failed", "internal", 1),
    ("55", "DC component of the output too high", "internal", 1),
    ("56", "Battery circuit open", "battery", 1),
    ("57", "Current sensor fault", "internal", 1),
    ("58", "Battery short-circuited", "battery", 1),
    ("59", "Inverter voltage too low", "internal", 1),
)
"""The same for units that say they are P31."""

P31 = Holds("ups.firmware.aux", ("P31",))
NOT_P31 = Holds("ups.firmware.aux", ("P31",), negated=True)


def _fault(code: str, text: str, group: str, level: int, prefix: str, when: Holds, overload: str) -> Meaning:
    notice = Notice(f"{prefix}{code}", f"Fault {code}: {text}", level, "qx.fault.code", group)
    return Meaning("qx.fault.code", code, sets=Status.OVER if code == overload else 0, notice=notice, when=(when,))


FAULT_MEANINGS: tuple[Meaning, ...] = (
    *(_fault(*row, "fault.", NOT_P31, "43") for row in FAULTS),
    *(_fault(*row, "fault.p31.", P31, "07") for row in FAULTS_P31),
    Meaning(
        "qx.fault.code", None, notice=Notice("fault.{}", "Fault {}: unknown code", 1, "qx.fault.code"), when=(NOT_P31,)
    ),
    Meaning(
        "qx.fault.code", None, notice=Notice("fault.p31.{}", "Fault {}: unknown code", 1, "qx.fault.code"), when=(P31,)
    ),
)
