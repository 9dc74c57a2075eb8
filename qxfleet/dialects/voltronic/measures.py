"""Battery, load extremes and phases: QBV, QLDL, Q3PV, Q3PC, Q3OV, Q3OC, Q3LD, Q3YV (voltronic.md sections 4.3 to 4.5)."""

from __future__ import annotations

from qxfleet.dialects.columns import CRC, columns, number, protocols, told
from qxfleet.dialects.spec import Holds, Query, Reply, Sample, Tier, Topic

QBV = Query(
    b"QBV\r",
    (
        Reply(
            b"(",
            (
                number("battery.voltage", 1, 5, wins=True),
                number("battery.number", 7, 8, wins=True),
                number("battery.packs", 10, 11),
                number("battery.charge", 13, 15),
                number("battery.runtime", 17, None, 60),
            ),
            length=(20, 22 + CRC),
            blanks=(6, 9, 12, 16),
            lenient=True,
            render="(%(battery.voltage)05.1f %(battery.number)02d %(battery.packs)02d %(battery.charge)03d %(minutes)03d",
        ),
    ),
    Tier.FULL | Tier.AFTER_ORDER, Topic.DEVICE,
    (
        told(
            b"(026.5 02 01 068 255",
            {
                "battery.voltage": 26.5, "battery.number": 2.0, "battery.packs": 1.0, "battery.charge": 68.0,
                "battery.runtime": 15300.0,
            },
            "voltronic.md section 4.4; capture olhvt1k0/04",
        ),
    ),
    "voltronic.md section 4.4: the runtime is read to the end, newer units give five digits",
)  # fmt: skip

QLDL = Query(
    b"QLDL\r",
    (
        columns(
            8, number("output.power.minimum.percent", 1, 3), number("output.power.maximum.percent", 5, 7), blanks=(4,),
            render="(%(output.power.minimum.percent)03d %(output.power.maximum.percent)03d",
        ),
    ),
    Tier.FULL, Topic.DEVICE,
    (
        told(
            b"(021 023", {"output.power.minimum.percent": 21.0, "output.power.maximum.percent": 23.0},
            "voltronic.md section 4.3",
        ),
    ),
    "voltronic.md section 4.3",
)  # fmt: skip

_VOLTS = ("L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L1-L3")


def _volts(command: bytes, side: str, names: tuple[str | None, ...], length: int, when: Holds, extra: int = 0) -> Query:
    """Voltages in columns of six; None: on the wire, but not used."""
    fields = tuple(
        number(f"{side}.{name}.voltage", 1 + 6 * index, 5 + 6 * index) for index, name in enumerate(names) if name is not None
    )
    width = (length + 1) // 6
    given = [230.1, 231.2, 232.3, 398.4, 399.5, 400.6][:width]
    frame = "(" + " ".join(f"{each:05.1f}" for each in given)
    values = {field.name: given[index] for field, index in zip(fields, _used(names), strict=True)}
    render = "(" + " ".join(f"%({side}.{_VOLTS[index]}.voltage)05.1f" for index in range(width))
    reply = Reply(
        b"(", fields, length=(length, length + extra + CRC), blanks=tuple(range(6, length, 6)), lenient=True, render=render,
    )  # fmt: skip
    sample = Sample(frame.encode(), values, "voltronic.md section 4.5")
    return Query(command, (reply,), Tier.FULL, Topic.DEVICE, (sample,), "voltronic.md section 4.5", when=((when,),))


def _used(names: tuple[str | None, ...]) -> list[int]:
    return [index for index, name in enumerate(names) if name is not None]


def _wholes(command: bytes, side: str, what: str, phases: int, when: Holds) -> Query:
    """Whole numbers in columns of four."""
    fields = tuple(number(f"{side}.L{n + 1}.{what}", 1 + 4 * n, 3 + 4 * n) for n in range(phases))
    sample = Sample(
        b"(010 011 012", {field.name: 10.0 + n for n, field in enumerate(fields)}, "voltronic.md section 4.5"
    )
    render = "(" + " ".join(f"%({side}.L{n + 1}.{what})03d" for n in range(3))
    reply = columns(12, *fields, blanks=(4, 8), render=render)
    return Query(command, (reply,), Tier.FULL, Topic.DEVICE, (sample,), "voltronic.md section 4.5", when=((when,),))


_THREE = ("L1-N", "L2-N", "L3-N", "L1-L2", "L2-L3", "L1-L3")
_TWO = ("L1-N", "L2-N", None, "L1-L2", None, None)
_P03_P10, _P09, _P10 = protocols("P03", "P10"), protocols("P09"), protocols("P10")

PHASES: tuple[Query, ...] = (
    _volts(b"Q3PV\r", "input", _THREE, 36, _P03_P10),
    _volts(b"Q3PV\r", "input", _TWO, 36, _P09),
    _wholes(b"Q3PC\r", "input", "current", 3, _P03_P10),
    _wholes(b"Q3PC\r", "input", "current", 2, _P09),
    _volts(b"Q3OV\r", "output", _THREE, 36, _P10),
    _volts(b"Q3OV\r", "output", _TWO, 36, _P09),
    _wholes(b"Q3OC\r", "output", "current", 3, _P10),
    _wholes(b"Q3OC\r", "output", "current", 2, _P09),
    _wholes(b"Q3LD\r", "output", "power.percent", 3, _P10),
    _wholes(b"Q3LD\r", "output", "power.percent", 2, _P09),
    _volts(b"Q3YV\r", "output.bypass", _THREE, 36, _P10),
    _volts(b"Q3YV\r", "output.bypass", ("L1-N", "L2-N", None), 18, _P09, extra=18),
)
"""One query may stand here twice, for two kinds of units: the conditions leave each device one of them."""
