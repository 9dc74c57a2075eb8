"""voltronic-qs-hex: voltronic-qs with a status in bytes (extra-dialects.md section 4)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import told
from qxfleet.dialects.spec import Bits, Claim, Convert, Derived, Field, Holds, Query, Reply, Tier, Token, Topic, Want
from qxfleet.dialects.voltronic_qs import ORDERS, VOLTRONIC_QS, variant


def _number(name: str, word: int) -> Field:
    return Field(name, Token(word), Convert.UNSIGNED)


def _bit(name: str, bit: int, *choices: str) -> Field:
    return Field(name, Bits(9, bit, bit), Convert.FLAG, choices=(choices[0], choices[1]) if choices else None)


WIDTHS = (2, 1, 2, 1, 1, 2, 3, 1, 1, 1)
"""Section 4.1: AB C DE F G HI JKL M N O; a unit of variant T has one byte of ratings more."""

STATUS_REPLY = Reply(
    b"#",
    (
        _number("part.input.ab", 0), _number("part.input.c", 1), _number("part.output.de", 2), _number("part.output.f", 3),
        _number("ups.load", 4), _number("part.hertz.hi", 5), _number("part.hertz.jkl", 6),
        _number("part.battery.m", 7), _number("part.battery.n", 8),
        _bit("bit.utility_fail", 7), _bit("bit.battery_low", 6), _bit("bit.regulating", 5), _bit("bit.failed", 4),
        _bit("ups.type", 3, "online", "offline / line interactive"), _bit("bit.test", 2), _bit("bit.shutdown", 1),
        _bit("ups.beeper.status", 0, "disabled", "enabled"),
    ),
    length=(25, 64),
    widths=WIDTHS,
    derived=(
        Derived("input.voltage", ("part.input.ab", "part.input.c"), step=51, scale=1 / 51 / 256),
        Derived("output.voltage", ("part.output.de", "part.output.f"), step=51, scale=1 / 51 / 256),
        Derived("output.frequency", ("part.hertz.jkl",), ("part.hertz.hi",), most=99.9),
        Derived("output.frequency", scale=0.0, given=(("part.hertz.hi", 0, 1),)),
        Derived("battery.voltage", ("part.battery.m", "part.battery.n"), scale=1 / 510),
    ),
)  # fmt: skip

RATING_REPLY = Reply(
    b"#",
    (
        Field("output.frequency.nominal", Bits(10, 7, 7), Convert.UNSIGNED, numbers=(50, 60)),
        Field("battery.voltage.nominal", Bits(10, 6, 5), Convert.UNSIGNED, numbers=(12, 24, 36, 48)),
        Field("output.voltage.nominal", Bits(10, 2, 0), Convert.UNSIGNED, numbers=(110, 120, 220, 230, 240)),
    ),
    length=(27, 66),
    widths=(*WIDTHS, 1),
)

P = b"#l\x01 5 l\x01 5 \x03 Q\x9a (\x02\x12\xd0 \xe6 \x1e \t"
T = b"#\x01\x02 e s\x01 e \x00 `\x00 \x12\xc0\x00 \xcc < \x89 #"

STATUS = Query(
    b"QS\r", (STATUS_REPLY, replace(STATUS_REPLY, widths=(*WIDTHS, 1), length=(27, 66))), Tier.QUICK, Topic.STATUS,
    (
        told(P, {"ups.load": 3.0, "bit.utility_fail": False, "ups.beeper.status": "enabled"}, "extra-dialects.md section 4.1"),
        told(T, {"output.frequency": 50.0, "battery.voltage": 24.0, "bit.utility_fail": True}, "section 4.1"),
    ),
    "extra-dialects.md section 4.1",
)  # fmt: skip

RATING = Query(
    b"QS\r", (RATING_REPLY,), Tier.ONCE, Topic.RATING,
    (told(T, {"output.frequency.nominal": 50.0, "battery.voltage.nominal": 24.0, "output.voltage.nominal": 230.0},
          "section 4.1"),),
    "extra-dialects.md section 4.1", when=((Holds("ups.firmware.aux", ("PM-T",)),),),
)  # fmt: skip

VOLTRONIC_QS_HEX = VOLTRONIC_QS.overlay(
    "voltronic-qs-hex",
    "Voltronic QS, binary",
    queries=(STATUS, variant("TP"), RATING),
    orders=tuple(
        replace(order, when=(Holds("ups.firmware.aux", ("PM-T",)),)) if order.name.startswith("test") else order
        for order in ORDERS
    ),
    claim=Claim(b"QS\r", ((Want(b"M\r", gives="ups.firmware.aux"),),), heard=(b"Q1\r", b"QS\r")),
    source="extra-dialects.md section 4",
)
