"""masterguard: A and E series; several units may share a line (extra-dialects.md section 6)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import number, told
from qxfleet.dialects.megatec import MEGATEC, OFF_DELAY, ON_DELAY, order
from qxfleet.dialects.spec import (
    Arg,
    Claim,
    Convert,
    Derived,
    DeviceSetting,
    Effect,
    Field,
    Form,
    Hazard,
    Holds,
    Limit,
    Meaning,
    Order,
    Query,
    Reply,
    Span,
    Style,
    Tier,
    Topic,
    Want,
)  # fmt: skip
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status

_POWERS = {
    "A  700": ("A700", 700), "A 1000": ("A1000", 1000), "A 2000": ("A2000", 2000), "A 3000": ("A3000", 3000),
    "E 60": ("E60", 6000), "E100": ("E100", 10000), "E200": ("E200", 20000),
}  # fmt: skip
"""Section 6.1: how the model text starts, the model, its VA."""


def code(name: str, first: int, last: int, words: tuple[tuple[str, str], ...] = ()) -> Field:
    """Characters at columns ``first`` to ``last``."""
    return Field(name, Span(first, last + 1), Convert.CODE, words=words)


def bit(name: str, column: int, *choices: str, critical: bool = False) -> Field:
    """A status bit at a column."""
    pair = (choices[0], choices[1]) if choices else None
    return Field(name, Span(column, column + 1), Convert.BIT, choices=pair, critical=critical)


_SECTION = "extra-dialects.md section 6.1"
_RACK = "Bat Pack-19"

WH = Query(
    b"WH\r",
    (Reply(b"(", (
        code("ups.id", 1, 2), code("ups.firmware", 4, 8), code("ups.firmware.aux", 10, 14),
        code("part.start", 16, 21), code("part.rack", 28, 38),
        number("input.voltage.nominal", 49, 51), number("input.frequency.nominal", 53, 57), number("qx.battery.cells", 59, 61),
        number("qx.battery.cell.voltage.nominal", 63, 67), number("ambient.0.temperature.low", 87, 88),
        number("ambient.0.temperature.high", 90, 91), number("input.voltage.low.critical", 93, 95),
        number("input.voltage.high.critical", 97, 99), number("input.frequency.low", 101, 105),
        number("input.frequency.high", 107, 111),
    ), length=(112, 112), blanks=(3, 9, 15, 48, 52, 58, 62, 68), derived=(
        *(Derived("device.model", table=((0, f"{model}-19"),), when=(Holds("part.start", (start,)), Holds("part.rack", (_RACK,))))
          for start, (model, _) in _POWERS.items()),
        *(Derived("device.model", table=((0, model),), when=(Holds("part.start", (start,)),))
          for start, (model, _) in _POWERS.items()),
        *(Derived("ups.power.nominal", scale=va, when=(Holds("part.start", (start,)),)) for start, (_, va) in _POWERS.items()),
        Derived("battery.voltage.nominal", ("qx.battery.cells", "qx.battery.cell.voltage.nominal")),
    )),),
    Tier.ONCE | Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b"(00 10.06 03.09 A  700  + 0 Bat Pack-19        0 230 50.00 012 02.30 006.00 012.00 018 10 40 160 276 47.00 53.00",
          {"ups.id": "00", "ups.firmware": "10.06", "device.model": "A700-19", "ups.power.nominal": 700.0,
           "input.voltage.nominal": 230.0, "qx.battery.cells": 12.0, "input.frequency.high": 53.0}, "section 18"),),
    _SECTION,
)  # fmt: skip

_TESTS = (
    ("000", "no test in progress"), ("001", "in progress"), ("010", "OK"), ("011", "failed"), ("100", "not possible"),
    ("101", "aborted"), ("110", "autonomy time calibration in progress"), ("111", "unknown"),
)  # fmt: skip

STATUS = Query(
    b"Q3\r",
    (Reply(b"(", (
        number("input.voltage", 4, 8), number("input.voltage.fault", 10, 14), number("output.voltage", 16, 20),
        number("ups.load", 22, 24), number("input.frequency", 26, 29), number("part.cell", 31, 35),
        number("ups.temperature", 37, 40), number("ambient.0.temperature", 37, 40),
        Field("battery.runtime", Span(42, 48), Convert.CLOCK), number("battery.charge", 49, 51),
        bit("bit.utility_fail", 53, critical=True), bit("bit.battery_low", 54, critical=True), bit("bit.bypass", 55),
        bit("bit.ups_failed", 56), bit("ups.type", 57, "online", "offline"), bit("bit.test", 58), bit("bit.shutdown", 59),
        bit("bit.parallel_failed", 63), bit("bit.replace", 65), bit("bit.battery_absent", 66),
        code("ups.test.result", 67, 69, _TESTS),
    ), length=(70, 70), blanks=(3, 9, 15, 21, 25, 30, 36, 41, 48, 52, 61), render=(
        "(%(ups.id)s %(input.voltage)05.1f %(input.voltage.fault)05.1f %(output.voltage)05.1f %(ups.load)03d "
        "%(input.frequency)04.1f %(battery.cell)05.2f %(ups.temperature)04.1f 017.03 %(battery.percent)03d %(bits.masterguard)s"
    )),),
    Tier.QUICK, Topic.STATUS,
    (told(b"(00 225.9 225.9 229.3 043 50.0 02.27 23.4 017.03 100 00000000 00000000",
          {"input.voltage": 225.9, "output.voltage": 229.3, "ups.load": 43.0, "battery.runtime": 1023.0, "battery.charge": 100.0,
           "bit.utility_fail": False, "ups.type": "online"}, "section 18"),),
    _SECTION,
)  # fmt: skip


def addressed(
    command: bytes, reply: Reply, tier: Tier, sample: bytes, values: dict[str, float | str | bool]
) -> Query:
    """A question to one unit of those on the line."""
    return Query(command + b",{ups.id}\r", (reply,), tier, Topic.DEVICE, (told(sample, values, "section 18"),), _SECTION)


GS = addressed(
    b"GS", Reply(b"(", (number("battery.packs", 7, 7), bit("ups.beeper.status", 9, "disabled", "enabled")), length=(10, 10),
                 blanks=(6, 8)),
    Tier.AFTER_ORDER, b"(00,00 0 1", {"battery.packs": 0.0, "ups.beeper.status": "enabled"},
)  # fmt: skip
GBS = addressed(
    b"GBS", Reply(b"(", (
        number("battery.charge", 4, 6, wins=True), number("qx.battery.hold", 8, 11, 60),
        number("qx.battery.recharge", 13, 16, 60),
        number("qx.battery.health", 18, 21, 0.1), number("qx.battery.health.time", 23, 26, 0.1),
        number("qx.battery.health.cycles", 28, 31, 0.1), number("qx.battery.calibration", 33, 35),
    ), length=(42, 42), blanks=(7, 12, 17, 22, 27, 32, 36)),
    Tier.FULL, b"(00,087 0017 0000 0708 0712 0994 115 02.28",
    {"battery.charge": 87.0, "qx.battery.hold": 1020.0, "qx.battery.health": 70.8, "qx.battery.health.cycles": 99.4},
)  # fmt: skip
GSN = addressed(
    b"GSN", Reply(b"(", (Field("device.part", Span(8, 19), Convert.TEXT), Field("device.serial", Span(20, 24), Convert.CODE)),
                  length=(24, 24)),
    Tier.ONCE, b"(00,SSN=6A1212      2782", {"device.part": "6A1212", "device.serial": "2782"},
)  # fmt: skip
DRC = addressed(
    b"DRC", Reply(b"(", (Field("device.uptime", Span(4, 17), Convert.CLOCK),), length=(17, 17)),
    Tier.AFTER_ORDER, b"(00,1869:19:06:37", {"device.uptime": 161550397.0},
)  # fmt: skip

FAULTS = {
    "1": "DC bus", "2": "inverter", "3": "over temperature", "4": "battery over voltage", "5": "overload on battery",
    "6": "overload on bypass", "7": "inverter output shorted", "8": "fan blocked", "9": "battery", "A": "charger",
    "B": "emergency power off", "C": "parallel operation", "D": "controller communication",
}  # fmt: skip
"""Section 6.1: fault id → what failed; 0 is an empty record."""

FLT = addressed(
    b"FLT", Reply(b"(", tuple(
        fld for n in range(5) for fld in (
            code(f"qx.fault.{n + 1}.code", 4 + 21 * n, 4 + 21 * n, tuple(FAULTS.items())),
            number(f"qx.fault.{n + 1}.value", 6 + 21 * n, 9 + 21 * n),
            Field(f"qx.fault.{n + 1}.uptime", Span(11 + 21 * n, 24 + 21 * n), Convert.CLOCK),
        )
    ), length=(108, 108), lenient=True),
    Tier.FULL,
    b"(01,9 0010 1780:14:57:19 7 0046 0000:21:14:41 0 0000 0000:00:00:00 0 0000 0000:00:00:00 0 0000 0000:00:00:00",
    {"qx.fault.1.code": "battery", "qx.fault.1.value": 10.0, "qx.fault.1.uptime": 153845839.0,
     "qx.fault.2.code": "inverter output shorted", "qx.fault.2.uptime": 76481.0},
)  # fmt: skip

PNV = Query(
    b"PNV\r", (Reply(b"(PNV=", (number("output.voltage.nominal", 5, 7),), length=(8, 8)),), Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b"(PNV=230", {"output.voltage.nominal": 230.0}, "section 18"),), _SECTION,
)  # fmt: skip

DERIVED = (
    Derived("battery.voltage", ("part.cell", "qx.battery.cells")),
    Derived("ups.power", ("ups.load", "ups.power.nominal"), scale=0.01),
    Derived("output.current", ("ups.load", "ups.power.nominal"), ("output.voltage",), 0.01),
    Derived("output.current.nominal", ("ups.power.nominal",), ("output.voltage.nominal",)),
)

MEANINGS = (
    Meaning("bit.bypass", True, sets=Status.BYPASS),
    Meaning("bit.replace", True, sets=Status.RB),
    Meaning("bit.ups_failed", True, notice=Notice("ups.failed", "UPS Failed", 1, "bit.ups_failed")),
    Meaning("bit.parallel_failed", True,
            notice=Notice("parallel.failed", "problems in parallel operation mode", 2, "bit.parallel_failed")),
    Meaning("bit.battery_absent", True, notice=Notice("battery.absent", "no battery connected", 1, "bit.battery_absent")),
)  # fmt: skip

_N = Arg("ups.delay.shutdown", Style.TENTHS_OR_MINUTES)
_TESTED = (Effect("bit.test", becomes=True),)


def _plain(name: str, command: bytes, description: str, **rest: object) -> Order:
    return Order(name, (Form((command,)),), description, source="extra-dialects.md section 6.2", **rest)  # type: ignore[arg-type]


ORDERS = (
    order("shutdown.return"),
    order("shutdown.stayoff", forms=(Form((b"S", _N, b"\r")),)),
    order("shutdown.stop"),
    order("test.battery.start", value=(10, 5940, 600), forms=(
        Form((b"T\r",), where=(("value", 10, 10),)),
        Form((b"T", Arg("value", Style.MINUTES_2), b"\r"), where=(("value", 60, 5940),)),
    )),
    order("test.battery.start.quick"),
    _plain("test.battery.start.low", b"TL\r", "test the battery until it is low", hazard=Hazard.BATTERY, effects=_TESTED,
           undo="test.battery.stop"),
    _plain("test.battery.start.deep", b"TUD,{ups.id}\r",
           "calibrate the run time; needs 30 to 100 % load and a battery of more than 99 %", hazard=Hazard.BATTERY,
           effects=_TESTED, undo="test.battery.stop"),
    order("test.battery.stop"),
    _plain("clear.fault.record", b"FCLR,{ups.id}\r", "clear the fault records", effects=(Effect("qx.fault.1.code"),)),
    _plain("bypass.start", b"FOFF\r", "inverter off: the load hangs on mains, unprotected", hazard=Hazard.LOAD,
           undo="bypass.stop", effects=(Effect("bit.bypass", becomes=True),)),
    _plain("bypass.stop", b"FON\r", "inverter on", effects=(Effect("bit.bypass", becomes=False),)),
    _plain("beeper.enable", b"SS---1,{ups.id}\r", "let the unit beep", effects=(Effect("ups.beeper.status", word="enabled"),)),
    _plain("beeper.disable", b"SS---0,{ups.id}\r", "keep the unit from beeping",
           effects=(Effect("ups.beeper.status", word="disabled"),)),
)  # fmt: skip
"""Section 6.2. The minutes of ``R`` are minutes: the incumbent writes seconds there."""

_SMALL, _LARGE = ("A1000", "A2000", "A3000"), ("A2000-19", "A3000-19")
DEVICE_SETTINGS = (
    DeviceSetting(
        "ups.id", "address of the unit on its line; later orders go to the new one", WH.command,
        choices=tuple((f"{n:02d}", b"SS%02d--,{ups.id}\r" % n) for n in range(100)), source="extra-dialects.md section 6.2",
    ),
    DeviceSetting(
        "battery.packs", "battery packs beside the unit's own", GS.command, wire="SS--%d-,{ups.id}\r",
        limits=(
            Limit(0, 2, when=(Holds("device.model", _SMALL),)), Limit(1, 5, when=(Holds("device.model", _LARGE),)),
            Limit(0, 5),
        ),
        source="extra-dialects.md section 6.2",
    ),
    DeviceSetting(
        "output.voltage.nominal", "nominal output voltage", PNV.command, wire="PNV=%03d\r", limits=(Limit(220, 240),), step=10,
        source="extra-dialects.md section 6.2",
    ),
    DeviceSetting(
        "device.uptime", "time since the last service", DRC.command, wire="SRC%(d)04d:%(h)02d:%(m)02d:%(s)02d,{ups.id}\r",
        limits=(Limit(0, 863999999),), source="extra-dialects.md section 6.2",
    ),
)  # fmt: skip

MASTERGUARD = MEGATEC.overlay(
    "masterguard",
    "Masterguard",
    queries=(STATUS, WH, GS, GBS, GSN, DRC, PNV, FLT),
    orders=ORDERS,
    settings=(
        replace(OFF_DELAY, low=0, high=5940, steps=((60, 6), (5941, 60))), ON_DELAY,
    ),
    device_settings=DEVICE_SETTINGS,
    claim=Claim(b"Q3\r", ((Want(b"WH\r", gives="device.model"),),), heard=(b"Q1\r", b"WH\r")),
    static={"device.type": "ups", "device.mfr": "Masterguard", "battery.type": "PbAc", "load.high": 140.0},
    meanings=MEANINGS,
    derived=DERIVED,
    source="extra-dialects.md section 6",
)  # fmt: skip
