"""Who the device is and what it is built for: QPI, QRI, QMD, F, QMF, QVFW, QID, I, QPAR, QBDR (voltronic.md section 4.2)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import CRC, code, columns, number, sample, text, told
from qxfleet.dialects.spec import Convert, Field, Holds, Query, Reply, Span, Tier, Topic

PROTOCOLS = ("P00", "P01", "P02", "P03", "P08", "P09", "P10", "P13", "P14", "P31", "P99")
"""Section 2.2, those claimed here. PI98 is mecer's; 15, 16 and 30 are solar inverters."""

QPI = Query(
    b"QPI\r",
    (
        Reply(
            b"(",
            (
                Field(
                    "ups.firmware.aux", Span(1, None), Convert.CODE,
                    words=tuple((f"{prefix}{name[1:]}", name) for prefix in ("PI", "pi", "Pi", "pI") for name in PROTOCOLS),
                ),
            ),
            length=(5, 5),
            render="(PI%(protocol)s",
        ),
    ),
    Tier.ONCE, Topic.PROTOCOL,
    (sample(b"(PI01", "voltronic.md section 4.2; capture orion-dc3000rt/03", ups__firmware__aux="P01"),),
    "voltronic.md section 2",
)  # fmt: skip

QRI = Query(
    b"QRI\r",
    (
        columns(
            21,
            number("output.voltage.nominal", 1, 5),
            number("output.current.nominal", 7, 9),
            number("battery.voltage.nominal", 11, 15),
            number("output.frequency.nominal", 17, 20),
            blanks=(6, 10, 16),
            render="(%(output.voltage.nominal)05.1f %(output.current.nominal)03d %(battery.voltage.nominal)05.1f "
            "%(output.frequency.nominal)04.1f",
        ),
    ),
    Tier.AFTER_ORDER, Topic.DEVICE,
    (
        sample(
            b"(230.0 004 024.0 50.0", "voltronic.md section 4.2", output__voltage__nominal=230.0,
            output__current__nominal=4.0, battery__voltage__nominal=24.0, output__frequency__nominal=50.0,
        ),
    ),
    "voltronic.md section 4.2",
)  # fmt: skip

QMD = Query(
    b"QMD\r",
    (
        columns(
            47,
            text("device.model", 1, 15),
            number("ups.power.nominal", 17, 23),
            number("output.powerfactor", 25, 26, 0.01),
            number("input.phases", 28, 28),
            number("output.phases", 30, 30),
            number("input.voltage.nominal", 32, 34),
            number("output.voltage.nominal", 36, 38),
            number("qx.battery.count", 40, 41),
            number("battery.number", 40, 41),
            number("qx.battery.unit.voltage.nominal", 43, 46),
            blanks=(16, 24, 27, 31, 35, 39, 42),
            render="(%(device.model)s %(ups.power.nominal)s %(powerfactor)02d %(input.phases)d/%(output.phases)d "
            "%(input.voltage.nominal)03d %(output.voltage.nominal)03d %(battery.number)02d "
            "%(qx.battery.unit.voltage.nominal)04.1f",
        ),
    ),
    Tier.ONCE, Topic.DEVICE,
    (
        told(
            b"(#######OLHVT1K0 ###1000 80 1/1 230 230 02 12.0",
            {
                "device.model": "OLHVT1K0", "ups.power.nominal": 1000.0, "output.powerfactor": 0.8, "input.phases": 1.0,
                "output.phases": 1.0, "input.voltage.nominal": 230.0, "output.voltage.nominal": 230.0, "battery.number": 2.0,
                "qx.battery.unit.voltage.nominal": 12.0,
            },
            "voltronic.md section 4.2; capture olhvt1k0/05",
        ),
    ),
    "voltronic.md section 4.2",
)  # fmt: skip

F = Query(
    b"F\r",
    (
        columns(
            21,
            number("input.voltage.nominal", 1, 5),
            number("input.current.nominal", 7, 9),
            number("battery.voltage.nominal", 11, 15),
            number("input.frequency.nominal", 17, 20),
            blanks=(6, 10, 16),
            lead=b"#",
            render="#%(input.voltage.nominal)05.1f %(input.current.nominal)03d %(battery.voltage.nominal)05.1f "
            "%(input.frequency.nominal)04.1f",
        ),
    ),
    Tier.ONCE, Topic.DEVICE,
    (
        sample(
            b"#220.0 000 024.0 50.0", "voltronic.md section 4.2", input__voltage__nominal=220.0,
            input__current__nominal=0.0, battery__voltage__nominal=24.0, input__frequency__nominal=50.0,
        ),
    ),
    "voltronic.md section 4.2",
)  # fmt: skip

QMF = Query(
    b"QMF\r",
    (Reply(b"(", (text("device.mfr", 1, None),), length=(1, 64), render="(%(device.mfr)s"),),
    Tier.ONCE, Topic.DEVICE,
    (sample(b"(#######BOH", "voltronic.md section 4.2", device__mfr="BOH"),),
    "voltronic.md section 4.2",
)  # fmt: skip

QVFW = Query(
    b"QVFW\r",
    (
        Reply(
            b"(", (replace(text("ups.firmware", 1, None), after=":"),), length=(15, 40), render="(VERFW:%(ups.firmware)s",
        ),
    ),
    Tier.ONCE, Topic.DEVICE,
    (
        sample(b"(VERFW:00322.02", "voltronic.md section 4.2; capture olhvt1k0/09", ups__firmware="00322.02"),
    ),
    "voltronic.md section 4.2",
)  # fmt: skip

QID = Query(
    b"QID\r",
    (Reply(b"(", (text("device.serial", 1, None),), length=(1, 64), render="(%(device.serial)s"),),
    Tier.ONCE, Topic.DEVICE,
    (sample(b"(12345679012345", "voltronic.md section 4.2", device__serial="12345679012345"),),
    "voltronic.md section 4.2; quirks.md Voltronic: all zero is no serial",
)  # fmt: skip

I = Query(  # noqa: E741
    b"I\r",
    (
        columns(
            38, text("device.mfr", 1, 15), text("device.model", 17, 26), text("ups.firmware", 28, 37), lead=b"#",
            render="#%(device.mfr)-15.15s %(device.model)-10.10s %(ups.firmware)-10.10s",
        ),
    ),
    Tier.ONCE, Topic.DEVICE,
    (sample(b"#-------------   ------     VT12046Q  ", "voltronic.md section 4.2", ups__firmware="VT12046Q"),),
    "voltronic.md section 4.2",
    when=tuple((Holds(name, negated=True),) for name in ("device.mfr", "device.model", "ups.firmware")),
)  # fmt: skip

QPAR = Query(
    b"QPAR\r",
    (columns(4, code("voltronic_parallel", 1, 3, _001="master", _002="slave", _003="slave"), render="(%(voltronic_parallel)s"),),
    Tier.ONCE, Topic.DEVICE,
    (sample(b"(001", "voltronic.md section 4.2", voltronic_parallel="master"),),
    "voltronic.md section 4.2",
)  # fmt: skip

QBDR = Query(
    b"QBDR\r",
    (Reply(b"(", (Field("unknown.7", Span(1, None), Convert.CODE),), length=(4, 20 + CRC), render="(1234"),),
    Tier.ONCE, Topic.TESTING,
    (told(b"(1234", {"unknown.7": "1234"}, "voltronic.md section 4.2"),),
    "voltronic.md section 4.2; asked only with the option testing",
)  # fmt: skip

IDENTITY = (QPI, QRI, QMD, F, QMF, QVFW, I, QPAR, QBDR, QID)
"""In the order asked; who comes first wins (section 3.1): QRI before QMD before F, QMF and QVFW before I."""
