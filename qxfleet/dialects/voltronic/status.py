"""Status, mode, warnings and faults: QGS, QMOD, QWS, QFS (voltronic.md sections 4.1, 4.3, 5, 6 and 7)."""

from __future__ import annotations

from qxfleet.dialects.columns import CRC, code, columns, number, sample, told
from qxfleet.dialects.spec import Convert, Field, Holds, Meaning, Nuance, Query, Reply, Span, Tier, Token, Topic
from qxfleet.dialects.voltronic.complaints import FAULT_MEANINGS
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status


def _bit(name: str, column: int, *choices: str) -> Field:
    pair = (choices[0], choices[1]) if choices else None
    return Field(name, Span(column, column + 1), Convert.BIT, choices=pair, critical=True)


STATUS_REPLY = columns(
    75,
    number("input.voltage", 1, 5),
    number("input.frequency", 7, 10),
    number("output.voltage", 12, 16),
    number("output.frequency", 18, 21),
    number("output.current", 23, 27),
    number("ups.load", 29, 31),
    number("qx.bus.positive.voltage", 33, 37),
    number("qx.bus.negative.voltage", 39, 43),
    number("battery.voltage", 45, 49),
    number("qx.battery.negative.voltage", 51, 55),
    number("ups.temperature", 57, 61),
    code("ups.type", 63, 64, _00="offline", _01="line-interactive", _10="online"),
    _bit("bit.utility_fail", 65),
    _bit("bit.battery_low", 66),
    _bit("bit.regulating", 67),
    _bit("bit.fault", 68),
    _bit("qx.epo", 69, "no", "yes"),
    _bit("bit.test", 70),
    _bit("bit.shutdown", 71),
    _bit("ups.beeper.status", 72, "enabled", "disabled"),
    code("ups.test.result", 73, 74, _10="failed", _01="passed", _00="unknown"),
    blanks=(6, 11, 17, 22, 28, 32, 38, 44, 50, 56, 62),
    render=(
        "(%(input.voltage)05.1f %(input.frequency)04.1f %(output.voltage)05.1f %(output.frequency)04.1f "
        "%(output.current)05.1f %(ups.load)03d %(qx.bus.positive.voltage)05.1f ---.- %(battery.field)s ---.- "
        "%(ups.temperature)05.1f %(bits)s"
    ),
)

QGS = Query(
    b"QGS\r", (STATUS_REPLY,), Tier.QUICK, Topic.STATUS,
    (
        told(
            b"(234.9 50.0 229.8 50.0 000.0 000 369.1 ---.- 026.5 ---.- 018.8 100000000001",
            {
                "input.voltage": 234.9, "input.frequency": 50.0, "output.voltage": 229.8, "output.frequency": 50.0,
                "output.current": 0.0, "ups.load": 0.0, "qx.bus.positive.voltage": 369.1, "battery.voltage": 26.5,
                "ups.temperature": 18.8, "ups.type": "online", "bit.utility_fail": False, "ups.beeper.status": "enabled",
                "ups.test.result": "passed",
            },
            "voltronic.md section 4.1; capture olhvt1k0/01",
        ),
        told(
            b"(122.4 60.0 122.2 60.0 000.0 000 169.0 169.2 082.1 ---.- 016.5 100010000001",
            {"qx.bus.negative.voltage": 169.2, "bit.regulating": True, "battery.voltage": 82.1},
            "capture orion-dc3000rt/01",
        ),
    ),
    "voltronic.md sections 4.1 and 5.2",
    sealed=True,
)  # fmt: skip

MODES = {
    "P": "power_on", "S": "standby", "Y": "bypass", "L": "line", "B": "battery", "T": "battery_test", "F": "fault",
    "E": "eco", "C": "converter", "D": "shutdown",
}  # fmt: skip
"""Section 5.1: letter → mode."""

QMOD = Query(
    b"QMOD\r",
    (Reply(b"(", (code("qx.mode", 1, 1, **MODES), code("qx.mode.letter", 1, 1)), length=(2, 8)),),
    Tier.FULL, Topic.DEVICE,
    (sample(b"(S", "voltronic.md section 4.3", qx__mode="standby", qx__mode__letter="S"),),
    "voltronic.md section 5.1",
    watch=("bit.utility_fail", "bit.regulating", "bit.fault", "bit.test", "bit.shutdown"),
)  # fmt: skip

QWS = Query(
    b"QWS\r",
    (Reply(b"(", (code("qx.warnings", 1, 64),), length=(65, 80), alphabet="01"),),
    Tier.FULL, Topic.DEVICE,
    (sample(b"(" + b"0" * 64, "voltronic.md section 4.3", qx__warnings="0" * 64),),
    "voltronic.md section 6; quirks.md Voltronic: one copy shows 74 digits",
)  # fmt: skip

_FAULT = tuple(
    Field(f"qx.fault.{name}", Token(index), Convert.CODE if name in ("code", "status.bits") else Convert.NUMBER)
    for index, name in enumerate((
        "code", "input.voltage", "input.frequency", "output.voltage", "output.frequency", "load", "output.current",
        "bus.positive.voltage", "bus.negative.voltage", "battery.voltage", "temperature", "status.bits",
    ))
)  # fmt: skip

_FAULT_13 = tuple(
    Field(f"qx.fault.{name}", Token(index), Convert.CODE if name in ("code", "status.bits") else Convert.NUMBER)
    for index, name in enumerate((
        "code", "input.voltage", "input.frequency", "output.voltage", "output.frequency", "output.current", "load",
        "bus.positive.voltage", "bus.negative.voltage", "battery.voltage", "battery.negative.voltage", "temperature",
        "status.bits",
    ))
)  # fmt: skip

QFS = Query(
    b"QFS\r",
    (
        Reply(b"(OK", (), length=(3, 3 + CRC)),
        Reply(
            b"(", _FAULT, tokens=(12, 12), length=(60, 80), lenient=True,
            render="(%(qx.fault.code)s 212.1 50.0 005.6 49.9 006 010.6 343.8 ---.- 026.2 021.8 01101100",
        ),
        Reply(b"(", _FAULT_13, tokens=(13, 13), length=(60, 90), lenient=True),
        Reply(b"(", (_FAULT[0],), tokens=(1, 1), length=(3, 3 + CRC)),
    ),
    Tier.FULL, Topic.DEVICE,
    (
        told(
            b"(14 212.1 50.0 005.6 49.9 006 010.6 343.8 ---.- 026.2 021.8 01101100",
            {
                "qx.fault.code": "14", "qx.fault.input.voltage": 212.1, "qx.fault.output.voltage": 5.6, "qx.fault.load": 6.0,
                "qx.fault.output.current": 10.6, "qx.fault.bus.positive.voltage": 343.8, "qx.fault.battery.voltage": 26.2,
                "qx.fault.temperature": 21.8, "qx.fault.status.bits": "01101100",
            },
            "voltronic.md section 7",
        ),
        told(b"(OK", {}, "voltronic.md section 7"),
    ),
    "voltronic.md section 7",
    when=((Holds("bit.fault", (True,)),), (Holds("qx.mode", ("fault",)),)),
)  # fmt: skip
"""Asked only while there is a fault: units keep an old or invented record otherwise."""

OL, OB = int(Status.OL), int(Status.OB)

MEANINGS: tuple[Meaning, ...] = (
    Meaning("bit.fault", True, notice=Notice("fault.present", "UPS fault", 1, "bit.fault", "internal")),
    Meaning(
        "qx.epo", "yes",
        notice=Notice("epo.active", "Emergency power off is active", 2, "qx.epo", "internal", alarm=False),
    ),
    Meaning(
        "qx.mode", "power_on", notice=Notice("mode.power_on", "UPS is going on", 3, "qx.mode"),
    ),
    Meaning("qx.mode", "standby", sets=Status.OFF),
    Meaning("qx.mode", "bypass", sets=Status.BYPASS),
    Meaning("qx.mode", "line", sets=OL, clears=OB),
    Meaning("qx.mode", "battery", sets=OB, clears=OL),
    Meaning("qx.mode", "battery_test", sets=Status.CAL),
    Meaning("qx.mode", "fault", notice=Notice("mode.fault", "UPS is in fault mode", 1, "qx.mode", "internal")),
    Meaning(
        "qx.mode", "shutdown", sets=Status.FSD,
        notice=Notice("mode.shutdown", "UPS is shutting down", 1, "qx.mode", linked="shutdown-pending"),
    ),
    *(Meaning("qx.mode.letter", letter) for letter in MODES),
    Meaning(
        "qx.mode.letter", None,
        notice=Notice("mode.unknown", "Unknown mode {}", 3, "qx.mode.letter", alarm=False),
    ),
    *FAULT_MEANINGS,
)  # fmt: skip
"""Section 5.1, column "Product": ECO and converter are modes and no alarms; nothing is said of a mode by 65 alone."""

AVR = Notice("avr.active", "AVR is active", 3, "bit.regulating")

BEEPER: tuple[Nuance, ...] = (
    Nuance("ups.beeper.status", (Holds("alarm_control", ("enabled",)),), (("disabled", "muted"),)),
    Nuance("ups.beeper.status", (Holds("alarm_control", ("disabled",)),), (("enabled", "disabled"),)),
)
"""Section 5.4."""
