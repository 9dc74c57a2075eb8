"""q6, q2, innovart33, innovart31: units with up to three phases (extra-dialects.md section 11).

Phases are values, not dialects: what a unit does not have it says with dashes, and that is absent. A unit that has one output
phase says so by a name of its own, because zeros are what a lost phase shows too.
"""

from __future__ import annotations

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, ORDERS, RATING_QUERY, STATUS_REPLY, renamed, status_query, vendor_query
from qxfleet.dialects.spec import (
    Claim,
    Convert,
    Derived,
    Field,
    Holds,
    Query,
    Reply,
    Span,
    Tier,
    Token,
    Topic,
    Want,
)  # fmt: skip

_PHASES = (1, 2, 3)
_STAR = (("1", "star"), ("0", "delta"))


def _three(name: str, first: int, scale: float = 1.0) -> tuple[Field, ...]:
    """Three words from ``first`` on; ``{}`` in the name is the phase."""
    return tuple(Field(name.format(n), Token(first + n - 1), scale=scale) for n in _PHASES)


def _status() -> Query:
    reply = renamed(
        STATUS_REPLY, input_voltage="part.input.voltage", input_voltage_fault=None, output_voltage="part.output.voltage",
        ups_load=None, input_frequency=None, battery_voltage="part.battery.voltage", ups_temperature=None,
    )  # fmt: skip
    return status_query(
        b"Q1\r", reply,
        (told(b"(222.1 000.0 219.9 012 49.9 2.25 31.0 00000001", {"bit.utility_fail": False, "ups.beeper.status": "enabled"},
              "extra-dialects.md section 18"),),
    )  # fmt: skip


STATUS = _status()
"""Only its bits count; its voltages, of the first phase, tell bypass, boost and trim apart (section 1.6)."""

Q6_REPLY = Reply(
    b"(",
    (
        *_three("input.L{}-N.voltage", 0), Field("input.frequency", Token(3)),
        *_three("output.L{}-N.voltage", 4), Field("output.frequency", Token(7)),
        *_three("output.L{}.load", 8), Field("battery.voltage", Token(11), Convert.POINTED),
        Field("experimental.battery.voltage.negative", Token(12)), Field("ups.temperature", Token(13)),
        Field("battery.runtime", Token(14)), Field("battery.charge", Token(15)), Field("qx.flags", Token(16), Convert.CODE),
        Field("experimental.input.topology", Span(107, 108), Convert.CODE, words=_STAR),
        Field("experimental.output.topology", Span(108, 109), Convert.CODE, words=_STAR),
    ),
    tokens=(20, 20), length=(109, 109), lenient=True,
)  # fmt: skip
"""Section 11.1."""

Q6_33 = b"(227.0 225.6 230.0 50.0 229.9 230.1 229.8 49.9 007 006 008 327.8 000.0 23.0 06932 100 32 00000000 00000000 11"
Q6_31 = b"(227.0 225.6 230.0 50.0 229.9 000.0 000.0 49.9 007 000 000 327.8 000.0 23.0 06932 100 32 00000000 00000000 11"
Q6_ONE = b"(222.1 ---.- ---.- 50.0 219.9 ---.- ---.- 50.0 012 --- --- 027.1 ---.- 31.0 02880 100 32 00000000 00000000 00"


def _q6(sample: bytes, **values: float) -> Query:
    known = {"battery.runtime": 6932.0, "battery.charge": 100.0, "battery.voltage": 327.8, "ups.temperature": 23.0}
    known = known if sample is not Q6_ONE else {"battery.runtime": 2880.0, "battery.voltage": 27.1}
    named = {name.replace("__", "-").replace("_", "."): value for name, value in values.items()}
    samples = (told(sample, {**known, **named}, "extra-dialects.md section 18"),)
    return Query(b"Q6\r", (Q6_REPLY,), Tier.FULL, Topic.DEVICE, samples, "extra-dialects.md section 11.1")


Q6_QUERY = _q6(Q6_ONE, input_L1__N_voltage=222.1, output_L1__N_voltage=219.9, output_L1_load=12.0)

Q2_QUERY = Query(
    b"Q2\r",
    (Reply(b"(", (
        *_three("input.L{}-N.voltage", 0), Field("input.voltage.fault", Token(3)), *_three("output.L{}-N.voltage", 4),
        *_three("output.L{}.load", 7), Field("input.frequency", Token(10)),
        Field("battery.voltage", Token(11), Convert.POINTED), Field("ups.temperature", Token(12)),
        Field("battery.runtime", Token(14), scale=60), Field("battery.charge", Token(15)),
        Field("qx.flags", Token(16), Convert.CODE),
        Field("experimental.input.topology", Span(115, 116), Convert.CODE, words=_STAR),
        Field("experimental.output.topology", Span(116, 117), Convert.CODE, words=_STAR),
    ), tokens=(23, 23), length=(117, 117), lenient=True),),
    Tier.FULL, Topic.DEVICE,
    (told(b"(226.6 224.3 228.0 226.6 229.9 000.0 000.0 000 000 000 49.9 327.6 18.0 00000000 999.24 100 02 00 00 00 00 00000000 "
          b"11",
          {"input.L2-N.voltage": 224.3, "output.L1-N.voltage": 229.9, "battery.voltage": 327.6, "battery.charge": 100.0,
           "experimental.input.topology": "star"}, "section 18"),),
    "extra-dialects.md section 11.2",
)  # fmt: skip

WA = Query(
    b"WA\r",
    (Reply(b"(", (
        *_three("output.L{}.realpower", 0, 1000), *_three("output.L{}.power", 3, 1000),
        Field("ups.realpower", Token(6), scale=1000), Field("ups.power", Token(7), scale=1000),
        *_three("output.L{}.current", 8), Field("ups.load", Token(11)),
    ), tokens=(13, 13), length=(79, 80), lenient=True),),
    Tier.FULL, Topic.DEVICE,
    (told(b"(001.4 001.2 001.3 001.5 001.3 001.4 003.9 004.2 006.5 005.6 006.1 014 00000000",
          {"output.L1.realpower": 1400.0, "ups.power": 4200.0, "output.L3.current": 6.1, "ups.load": 14.0}, "section 18"),),
    "extra-dialects.md section 11.3",
)  # fmt: skip

BYPASS = Query(
    b"BPS\r",
    (Reply(b"(", (*_three("input.bypass.L{}-N.voltage", 0), Field("input.bypass.frequency", Token(3))),
           tokens=(4, 4), length=(23, 24), lenient=True),),
    Tier.FULL, Topic.DEVICE,
    (told(b"(230.4 229.0 231.2 49.9", {"input.bypass.L2-N.voltage": 229.0, "input.bypass.frequency": 49.9}, "section 18"),),
    "extra-dialects.md section 11.4",
)  # fmt: skip

FIRMWARE = Query(
    b"FW?\r", (Reply(b"", (Field("ups.firmware", Span(0, None), Convert.TEXT),), length=(4, 40)),), Tier.ONCE, Topic.VENDOR,
    (told(b"05516-1100", {"ups.firmware": "05516-1100"}, "section 18"),), "extra-dialects.md section 11.4",
)  # fmt: skip

SERIAL = Query(
    b"SASV07?\r", (Reply(b"GASV07D", (Field("ups.serial", Span(7, None), Convert.TEXT),), length=(8, 40)),),
    Tier.ONCE, Topic.VENDOR,
    (told(b"GASV07DN05K10KB100004      ", {"ups.serial": "N05K10KB100004"}, "section 18"),), "extra-dialects.md section 11.4",
)  # fmt: skip


def _count(side: str) -> tuple[Derived, ...]:
    """How many phases a side has: as many as there are voltages."""
    return tuple(
        Derived(f"{side}.phases", scale=n, when=(Holds(f"{side}.L{n}-N.voltage"),)) for n in (3, 2, 1)
    )  # fmt: skip


_ONE_IN, _ONE_OUT = Holds("input.phases", (1.0,)), Holds("output.phases", (1.0,))
PHASES = (
    *_count("input"), *_count("output"),
    Derived("input.voltage", ("part.input.voltage",), when=(_ONE_IN,)),
    Derived("output.voltage", ("part.output.voltage",), when=(_ONE_OUT,)),
    Derived("ups.load", ("output.L1.load",), when=(_ONE_OUT,)),
)  # fmt: skip

_Q6 = Want(b"Q6\r")
_SMART = (_Q6, Want(b"SASV07?\r"))

Q6 = MEGATEC.overlay(
    "q6",
    "Three phases, Q6",
    queries=(STATUS, Q6_QUERY, WA, RATING_QUERY, vendor_query(b"I\r")),
    claim=Claim(b"Q1\r", ((_Q6,),)),
    derived=PHASES,
    source="extra-dialects.md section 11",
)

Q2 = Q6.overlay(
    "q2", "Three phases, Q2", queries=(STATUS, Q2_QUERY, WA, RATING_QUERY, vendor_query(b"I\r")),
    claim=Claim(b"Q1\r", ((Want(b"Q2\r"),),)),
)  # fmt: skip

INNOVART33 = Q6.overlay(
    "innovart33",
    "Innova RT, three phases out",
    queries=(
        STATUS, _q6(Q6_33, input_L2__N_voltage=225.6, output_L2__N_voltage=230.1, output_L3_load=8.0), WA, BYPASS, RATING_QUERY,
        FIRMWARE, SERIAL,
    ),
    orders=tuple(order for order in ORDERS if order.name != "beeper.toggle"),
    claim=Claim(b"Q1\r", ((*_SMART, Want(b"Q6\r", gives="output.L2-N.voltage", least=1)),)),
    static={"device.type": "ups", "input.phases": 3.0, "output.phases": 3.0, "input.bypass.phases": 3.0},
)  # fmt: skip

INNOVART31 = INNOVART33.overlay(
    "innovart31",
    "Innova RT, one phase out",
    queries=(
        STATUS, _q6(Q6_31, input_L2__N_voltage=225.6, output_L1__N_voltage=229.9), WA, BYPASS, RATING_QUERY, FIRMWARE, SERIAL,
    ),
    claim=Claim(b"Q1\r", ((*_SMART, Want(b"Q6\r", gives="output.L1-N.voltage", least=1)),)),
    static={"device.type": "ups", "input.phases": 3.0, "output.phases": 1.0, "input.bypass.phases": 1.0},
    derived=(
        Derived("output.voltage", ("part.output.voltage",)),
        Derived("output.current", ("output.L1.current",)),
        Derived("input.bypass.voltage", ("input.bypass.L1-N.voltage",)),
        Derived("ups.load", ("output.L1.load",)),
    ),
)  # fmt: skip
"""Told from innovart33 by an output of which the first phase alone has voltage."""
