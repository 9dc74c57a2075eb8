"""omron: BN75T and BN150T; orders in two steps, each with a word of its own (extra-dialects.md section 12)."""

from __future__ import annotations

from qxfleet.dialects.columns import number, told
from qxfleet.dialects.megatec import MEGATEC, OFF_DELAY, ON_DELAY, STATUS_REPLY, order, renamed, status_query
from qxfleet.dialects.spec import (
    AnswerStyle,
    Arg,
    Claim,
    Convert,
    Field,
    Form,
    Query,
    Reply,
    Span,
    Style,
    Tier,
    Topic,
    Want,
)  # fmt: skip
from qxfleet.model.reading import Value

_SECTION = "extra-dialects.md section 12"


def _asked(command: bytes, reply: Reply, sample: bytes, tier: Tier = Tier.FULL, **values: Value) -> Query:
    known = {name.replace("_", "."): value for name, value in values.items()}
    return Query(command, (reply,), tier, Topic.DEVICE, (told(sample, known, "extra-dialects.md section 18"),), _SECTION)


def _whole(name: str, length: tuple[int, int], *, scale: float = 1.0, digits: tuple[int, int] | None = None) -> Reply:
    return Reply(b"", (Field(name, Span(0, None), scale=scale),), length=length, digits=digits)


CHARGE = _asked(b"Bl ?\r", _whole("battery.charge", (3, 3), digits=(0, 3)), b"087", battery_charge=87.0)
RUNTIME = _asked(b"RTS\r", _whole("battery.runtime", (4, 4), scale=60, digits=(0, 4)), b"0699", battery_runtime=41940.0)
TEMPERATURE = _asked(b"TPb\r", _whole("battery.temperature", (5, 5)), b"+22.5", battery_temperature=22.5)
FREQUENCY = _asked(b"Lf ?\r", _whole("output.frequency", (4, 4)), b"49.9", output_frequency=49.9)
SERIAL = _asked(
    b"PSNR\r", Reply(b"", (Field("ups.serial", Span(0, None), Convert.TEXT),), length=(12, 32)), b"A0Z25110005109G ",
    Tier.ONCE, ups_serial="A0Z25110005109G",
)  # fmt: skip
FIRMWARE = _asked(
    b"FWV\r",
    Reply(b"M:", (Field("ups.firmware", Span(2, 6), Convert.CODE), Field("ups.firmware.aux", Span(9, 13), Convert.CODE)),
          length=(14, 14), alphabet="0123456789.(S:)"),
    b"M:0.17(S:2.00)", Tier.ONCE, ups_firmware="0.17", ups_firmware_aux="2.00",
)  # fmt: skip
BATTERY_DATE = _asked(
    b"BRR\r", Reply(b"", (Field("battery.date", Span(0, 8), Convert.DATE),), length=(8, 8), digits=(0, 8)), b"20260730",
    Tier.ONCE, battery_date="2026-07-30",
)  # fmt: skip
RATING = _asked(
    b"UN\r",
    Reply(b"", (
        number("ups.realpower.nominal", 0, 3), number("ups.power.nominal", 6, 9), number("battery.voltage.nominal", 13, 15),
    ), length=(27, 27), digits=(0, 4)),
    b"1125W/1125VA/048V/160W/020W", Tier.ONCE, ups_realpower_nominal=1125.0, ups_power_nominal=1125.0,
    battery_voltage_nominal=48.0,
)  # fmt: skip

_N = Arg("ups.delay.shutdown", Style.TENTHS_OR_MINUTES)

OMRON = MEGATEC.overlay(
    "omron",
    "Omron",
    queries=(
        status_query(
            b"Q1\r", renamed(STATUS_REPLY, bit_regulating=None, ups_beeper_status=None),
            (told(b"(102.5 000.0 102.4 000 49.9 54.5 22.7 00101000",
                  {"input.voltage": 102.5, "battery.voltage": 54.5, "bit.utility_fail": False}, "extra-dialects.md section 18"),),
        ),
        CHARGE, RUNTIME, TEMPERATURE, FREQUENCY, SERIAL, FIRMWARE, BATTERY_DATE, RATING,
    ),
    orders=(
        order("shutdown.return", forms=(Form((b"S", _N, b"\r"), first=b"An\r"),)),
        order("shutdown.stayoff", forms=(Form((b"Sf", _N, b"\r"), first=b"Af\r"),)),
        order("shutdown.stop"),
    ),
    settings=(OFF_DELAY, ON_DELAY),
    claim=Claim(b"Q1\r", ((Want(b"FWV\r"),),), links=("0590",)),
    answer=AnswerStyle.WORD,
    accepts=(b"OK",),
    source=_SECTION,
)  # fmt: skip
"""Bit 5 is always set and bit 0 is not the beeper: both say nothing here."""
