"""ablerex: megatec that tells its battery in bytes, and its charge by a table (extra-dialects.md section 8)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, ORDERS, order, status_query, vendor_query
from qxfleet.dialects.spec import (
    Claim,
    Convert,
    Derived,
    Field,
    Form,
    Holds,
    Meaning,
    Query,
    Reply,
    Span,
    Tier,
    Topic,
    Want,
)  # fmt: skip
from qxfleet.dialects.voltronic_qs import RATING
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status

_SECTION = "extra-dialects.md section 8.1"
_HAIR = 1e-6
"""A quotient that should be a row's voltage may be less than it by so much."""


def _table(first: float, step: float, percents: str) -> tuple[tuple[float, float], ...]:
    """Rows from ``first`` volts down, ``step`` apart; ``-``: no row of its own; below the last: empty."""
    rows = tuple(
        (round(first - step * index, 2) - _HAIR, float(percent))
        for index, percent in enumerate(percents.split()) if percent != "-"
    )  # fmt: skip
    return (*rows, (float("-inf"), 0.0))


CELL = _table(
    2.22, 0.01,
    "100 90 88 87 85 83 82 80 78 77 75 73 72 70 68 65 65 62 62 58 58 55 55 53 52 50 48 47 45 43 42 40 38 37 35 33 32 30 28 27 25 "
    "23 22 20 18 17 15 13 12 10 8 7 5 3 2",
)  # fmt: skip
BLOCK = _table(
    13.5, 0.1, "100 - 90 88 86 83 80 77 74 72 69 66 63 61 58 55 52 49 47 44 41 38 36 33 30 27 24 22 19 16 13 11 8 5 2",
)  # fmt: skip
"""Charge by the voltage of one cell, and of one 12 V block (section 8.3)."""


def _bytes(name: str, first: int, last: int, scale: float = 1.0) -> Field:
    return Field(name, Span(first, last + 1), Convert.UNSIGNED, scale)


Q5 = Query(
    b"Q5\r",
    (Reply(b"(", (
        _bytes("output.frequency", 1, 2, 0.1), _bytes("qx.battery.block.voltage", 7, 8, 0.01),
        _bytes("qx.battery.block.voltage.low", 9, 10, 0.01), _bytes("ups.realpower", 11, 12), _bytes("qx.error.code", 13, 14),
        _bytes("output.current", 15, 16, 0.1),
    ), length=(21, 21)),),
    Tier.FULL, Topic.DEVICE,
    (told(b"(\x01\xf4\0\0\0\0\x05F\x04\x1a\0\x10\0\0\0\x17\0\0\0\0",
          {"output.frequency": 50.0, "qx.battery.block.voltage": 13.5, "qx.battery.block.voltage.low": 10.5,
           "qx.error.code": 0.0, "output.current": 2.3}, "extra-dialects.md section 18"),),
    _SECTION,
)  # fmt: skip

AT = Query(
    b"At\r", (Reply(b"(", (_bytes("battery.runtime", 1, 4),), length=(5, 5)),), Tier.FULL, Topic.DEVICE,
    (told(b"(\0\0\x04\xb0", {"battery.runtime": 1200.0}, "section 18"),), _SECTION,
)  # fmt: skip

TR = Query(
    b"TR\r", (Reply(b"#", (Field("ups.test.result", Span(1, 5), Convert.CODE),), length=(5, 5)),), Tier.FULL, Topic.DEVICE,
    (told(b"#PASS", {"ups.test.result": "PASS"}, "section 18"),), _SECTION,
)  # fmt: skip

_VOLTS, _NOMINAL = "battery.voltage", "battery.voltage.nominal"
_ON_MAINS = (Holds("bit.utility_fail", (False,)), Holds("bit.test", (False,)))

DERIVED = (
    Derived("battery.charge", (_VOLTS,), table=CELL, given=((_VOLTS, 0.5, 3),)),
    Derived("battery.charge", (_VOLTS,), (_NOMINAL,), 12, table=BLOCK, given=((_VOLTS, 3, 1000),)),
    Derived(_VOLTS, ("qx.battery.block.voltage", _NOMINAL), scale=1 / 12, given=(("qx.battery.block.voltage", 0.01, 100),),
            when=_ON_MAINS, wins=True),
    Derived(_VOLTS, (_VOLTS, _NOMINAL), scale=0.5, given=((_VOLTS, 0.5, 3),), wins=True),
    Derived("battery.voltage.low", ("qx.battery.block.voltage.low", _NOMINAL), scale=1 / 12,
            given=(("qx.battery.block.voltage.low", 0.01, 100),), wins=True),
    Derived("battery.voltage.low", (_NOMINAL,), scale=0.8, wins=True),
    Derived("battery.voltage.high", (_NOMINAL,), scale=1365 / 1200, wins=True),
)  # fmt: skip
"""Section 8.3. Q5 is asked less often than the status, so on battery and in a test the status alone is followed."""

MEANINGS = (
    Meaning("bit.regulating", True, sets=Status.BYPASS, clears=Status.TRIM | Status.BOOST,
            when=(Holds("ups.type", ("online",)), Holds("bit.utility_fail", (False,)))),
    Meaning("bit.failed", True, sets=Status.RB),
    Meaning("output.voltage", None, sets=Status.OFF, high=50),
    Meaning("qx.error.code", None, notice=Notice("error.{:g}", "Error word {:g}", 2, "qx.error.code"), low=1),
)  # fmt: skip
"""Section 8.2."""

ABLEREX = MEGATEC.overlay(
    "ablerex",
    "Ablerex",
    queries=(status_query(b"Q1\r"), RATING, vendor_query(b"I\r"), Q5, AT, TR),
    orders=tuple(
        order("load.off", forms=(Form((b"S.2\r",)),), description="switch the load off after 12 s; it comes back with the mains")
        if each.name == "load.off" else replace(each)
        for each in ORDERS
    ),
    claim=Claim(b"Q1\r", ((Want(b"Q5\r"),), (Want(b"I\r", gives="device.mfr", values=("Ablerex",)),))),
    meanings=MEANINGS,
    derived=DERIVED,
    source="extra-dialects.md section 8",
)  # fmt: skip
