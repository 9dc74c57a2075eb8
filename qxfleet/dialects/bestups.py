"""bestups: Best Power and Sola Australia (extra-dialects.md section 5)."""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, OFF_DELAY, ON_DELAY, ORDERS, STATUS_REPLY, order, renamed, status_query
from qxfleet.dialects.spec import (
    Arg,
    Claim,
    Convert,
    Derived,
    DeviceSetting,
    Field,
    Form,
    Holds,
    Limit,
    Query,
    Reply,
    Span,
    Style,
    Tier,
    Token,
    Topic,
    Want,
)  # fmt: skip

_BEST, _SOLA = "Best Power", "Sola Australia"
MODELS = {
    "AX1": (_BEST, "Axxium Rackmount"), "FOR": (_BEST, "Fortress"), "FTC": (_BEST, "Fortress Telecom"),
    "PR2": (_BEST, "Patriot Pro II"), "PRO": (_BEST, "Patriot Pro"), "320": (_SOLA, "Sola 320"), "325": (_SOLA, "Sola 325"),
    "520": (_SOLA, "Sola 520"), "525": (_SOLA, "Sola 525"), "620": (_SOLA, "Sola 620"),
}  # fmt: skip
"""Section 5.1: code → maker, model."""

ID = Query(
    b"ID\r",
    (Reply(b"", (
        Field("device.mfr", Token(0), Convert.CODE, words=tuple((code, maker) for code, (maker, _) in MODELS.items())),
        Field("device.model", Token(0), Convert.CODE, words=tuple((code, model) for code, (_, model) in MODELS.items())),
        Field("ups.power.nominal", Token(1)), Field("input.voltage.nominal", Token(2)),
        Field("output.voltage.nominal", Token(3)), Field("battery.voltage.low", Token(4), Convert.POINTED),
        Field("battery.voltage.high", Token(5), Convert.POINTED),
    ), tokens=(6, 6), length=(16, 32), separator=","),),
    Tier.ONCE, Topic.DEVICE,
    (told(b"FOR,750,120,120,20.0,27.6",
          {"device.mfr": "Best Power", "device.model": "Fortress", "ups.power.nominal": 750.0, "input.voltage.nominal": 120.0,
           "output.voltage.nominal": 120.0, "battery.voltage.low": 20.0, "battery.voltage.high": 27.6}, "section 5.1"),),
    "extra-dialects.md section 5.1",
)  # fmt: skip

RUNTIME = Query(
    b"RT\r", (Reply(b"", (Field("battery.runtime", Span(0, 3), scale=60),), length=(3, 3), digits=(0, 3)),),
    Tier.FULL, Topic.DEVICE, (told(b"025", {"battery.runtime": 1500.0}, "section 18"),), "extra-dialects.md section 5.1",
    when=((Holds("device.model", ("Patriot Pro", "Sola 320"), negated=True),),),
)  # fmt: skip

_HAS_PACKS = Holds("device.model", ("Axxium Rackmount", "Sola 620"))
PACKS = Query(
    b"BP?\r", (Reply(b"", (Field("battery.packs", Span(0, 2)),), length=(2, 2), digits=(0, 2)),),
    Tier.AFTER_ORDER, Topic.DEVICE, (told(b"02", {"battery.packs": 2.0}, "section 18"),), "extra-dialects.md section 5.1",
    when=((_HAS_PACKS,),),
)  # fmt: skip

LEVELS = Query(
    b"M\r", (Reply(b"", (Field("part.levels", Span(0, 1)),), length=(1, 1), digits=(0, 1)),), Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b"0", {"part.levels": 0.0}, "section 18"),), "extra-dialects.md section 5.2",
)  # fmt: skip

US = """\
96 109 120 130 146
96 109 120 138 156
90 104 120 130 146
90 104 120 138 156
90 104 110 120 130
90 104 110 130 146
90 96 110 120 130
90 96 110 130 146
96 109 128 146 156
90 104 128 146 156"""
EUROPE = """\
200 222 240 250 284
200 222 240 264 290
188 210 240 250 284
188 210 240 264 290
188 210 230 244 270
188 210 230 250 284
180 200 230 244 270
180 200 230 250 284
165 188 208 222 244
165 188 208 244 270"""
"""Section 5.2: low, boost, nominal, buck, high of levels 0 to 9."""

_COLUMNS = (
    ("input.transfer.low", 0), ("input.transfer.boost.low", 0), ("input.transfer.boost.high", 1), ("input.transfer.trim.low", 3),
    ("input.transfer.high", 4), ("input.transfer.trim.high", 4), ("output.voltage.nominal", 2), ("input.voltage.nominal", 2),
)  # fmt: skip
"""What stands in which column; the nominal voltage last, because it chooses the table."""


def _level(name: str, column: int, table: str, low: float, high: float) -> Derived:
    rows = [float(line.split()[column]) for line in table.splitlines()]
    steps = tuple((float(level), rows[level]) for level in range(9, -1, -1))
    return Derived(name, ("part.levels",), table=steps, given=(("input.voltage.nominal", low, high),), wins=True)


_BIT = "bit.regulating"
_INVERTED = Holds("device.model", ("Patriot Pro II", "Patriot Pro"))

DERIVED = (
    *(
        _level(name, column, table, low, high)
        for name, column in _COLUMNS for table, low, high in ((US, 0, 160.5), (EUROPE, 160.5, 1000))
    ),
    *(
        Derived(_BIT, table=((0, False),), when=(Holds(bit, (True,)),), wins=True)
        for bit in ("bit.utility_fail", "bit.test", "bit.shutdown")
    ),
    Derived(_BIT, table=((0, False),), when=(_INVERTED, Holds(_BIT, (True,))), wins=True),
    Derived(_BIT, table=((0, True),), when=(_INVERTED, Holds(_BIT, (False,))), wins=True),
)  # fmt: skip
"""Section 5.3: that bit means nothing on battery, in a test and before a shutdown; two models have it inverted."""

_N = Arg("ups.delay.shutdown", Style.TENTHS_OR_MINUTES)

BESTUPS = MEGATEC.overlay(
    "bestups",
    "Best Power",
    queries=(
        status_query(
            b"Q1\r", renamed(STATUS_REPLY, ups_beeper_status=None),
            (told(b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000",
                  {"input.voltage": 226.0, "battery.voltage": 27.5, "bit.utility_fail": False}, "section 18"),),
        ), ID, RUNTIME, PACKS, LEVELS),
    orders=tuple(
        order("shutdown.stayoff", forms=(Form((b"S", _N, b"\r")),)) if each.name == "shutdown.stayoff" else each
        for each in ORDERS if each.name != "beeper.toggle"
    ),
    settings=(replace(OFF_DELAY, high=5940, steps=((60, 6), (5941, 60))), replace(ON_DELAY, low=60)),
    device_settings=(
        DeviceSetting("battery.packs", "battery packs", b"BP?\r", wire="BP%d\r", limits=(Limit(0, 5),), when=(_HAS_PACKS,),
                      source="extra-dialects.md section 5.4"),
    ),
    claim=Claim(b"Q1\r", ((Want(b"ID\r"),),)),
    derived=DERIVED,
    source="extra-dialects.md section 5",
)  # fmt: skip
