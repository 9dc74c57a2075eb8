"""voltronic-qs: small line-interactive units by Voltronic Power (extra-dialects.md section 3)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import (
    MEGATEC,
    OFF_DELAY,
    ON_DELAY,
    RATING_REPLY,
    STATUS_REPLY,
    order,
    renamed,
    status_query,
)
from qxfleet.dialects.spec import Claim, Convert, Field, Query, Reply, Sample, Span, Tier, Token, Topic, Want

STATUS = status_query(
    b"QS\r", renamed(STATUS_REPLY, input_frequency="output.frequency"),
    (Sample(b"(232.8 232.8 230.7 006 50.0 13.7 --.- 00001000",
            {"input.voltage": 232.8, "output.frequency": 50.0, "battery.voltage": 13.7, "bit.utility_fail": False},
            "extra-dialects.md section 18"),),
)  # fmt: skip

RATING = Query(
    b"F\r",
    (renamed(RATING_REPLY, input_voltage_nominal="output.voltage.nominal", input_current_nominal="output.current.nominal",
             input_frequency_nominal="output.frequency.nominal"),),
    Tier.ONCE, Topic.RATING,
    (Sample(b"#220.0 002 12.00 50.0", {"output.voltage.nominal": 220.0, "output.current.nominal": 2.0,
                                       "battery.voltage.nominal": 12.0, "output.frequency.nominal": 50.0}, "section 18"),),
    "extra-dialects.md section 3.1",
)  # fmt: skip


def variant(letters: str) -> Query:
    """Which of its variants a unit is: one letter, nothing before it."""
    words = tuple((letter, f"PM-{letter}") for letter in letters)
    field = Field("ups.firmware.aux", Span(0, 1), Convert.CODE, words=words)
    samples = tuple(told(letter.encode(), {"ups.firmware.aux": name}, "extra-dialects.md section 3.1") for letter, name in words)
    return Query(b"M\r", (Reply(b"", (field,), length=(1, 1)),), Tier.ONCE, Topic.DEVICE, samples, "sections 3.1 and 4.1")


QI = Query(
    b"QI\r",
    (Reply(b"(", (
        Field("battery.charge", Token(0)), Field("battery.runtime", Token(1)), Field("input.frequency", Token(2)),
        Field("output.current", Token(3)), Field("input.transfer.low", Token(4)), Field("input.transfer.high", Token(5)),
    ), tokens=(8, 8), length=(48, 56)),),
    Tier.FULL, Topic.DEVICE,
    (told(b"(100 00979 50.0 000.3 177 290 0 0000010000112000",
          {"battery.charge": 100.0, "battery.runtime": 979.0, "input.frequency": 50.0, "output.current": 0.3,
           "input.transfer.low": 177.0, "input.transfer.high": 290.0}, "NUT issue 3521, PowerShield PSDR800"),),
    "extra-dialects.md section 3.1",
)  # fmt: skip
"""Some variants have it; those that have not echo it."""

SETTINGS = (replace(OFF_DELAY, high=540), replace(ON_DELAY, low=60))

ORDERS = tuple(
    order(name, undo=None) if name.startswith("test") else order(name)
    for name in (
        "beeper.toggle", "load.off", "load.on", "shutdown.return", "shutdown.stayoff", "shutdown.stop",
        "test.battery.start.quick",
    )
)  # fmt: skip

VOLTRONIC_QS = MEGATEC.overlay(
    "voltronic-qs",
    "Voltronic QS",
    queries=(STATUS, variant("VH"), RATING, QI),
    orders=ORDERS,
    settings=SETTINGS,
    claim=Claim(b"QS\r", ((Want(b"M\r", gives="ups.firmware.aux"),),), heard=(b"Q1\r", b"QS\r")),
    source="extra-dialects.md section 3",
)  # fmt: skip
