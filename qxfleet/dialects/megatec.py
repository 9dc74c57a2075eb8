"""megatec: Q1, F, I; the head of the family, and the frames and orders its relatives share.

Every wire fact: megatec-family.md, by the section named beside it.
"""

from __future__ import annotations

from dataclasses import replace

from qxfleet.dialects.spec import (
    Arg,
    Char,
    Claim,
    Convert,
    Dialect,
    Effect,
    Field,
    Form,
    Hazard,
    Order,
    Query,
    Reply,
    Sample,
    Setting,
    Span,
    Style,
    Tier,
    Token,
    Topic,
    Want,
)  # fmt: skip

STATUS_REPLY = Reply(
    lead=b"(",
    tokens=(8, 9),
    length=(40, 64),
    bits=(7, 8),
    fields=(
        Field("input.voltage", Token(0), Convert.POINTED),
        Field("input.voltage.fault", Token(1), Convert.POINTED),
        Field("output.voltage", Token(2), Convert.POINTED),
        Field("ups.load", Token(3)),
        Field("input.frequency", Token(4)),
        Field("battery.voltage", Token(5), Convert.POINTED),
        Field("ups.temperature", Token(6)),
        Field("bit.utility_fail", Char(0), Convert.BIT, critical=True),
        Field("bit.battery_low", Char(1), Convert.BIT, critical=True),
        Field("bit.regulating", Char(2), Convert.BIT),
        Field("bit.failed", Char(3), Convert.BIT),
        Field("ups.type", Char(4), Convert.BIT, choices=("online", "offline / line interactive")),
        Field("bit.test", Char(5), Convert.BIT),
        Field("bit.shutdown", Char(6), Convert.BIT),
        Field("ups.beeper.status", Char(7), Convert.BIT, choices=("disabled", "enabled")),
    ),
    render=(
        "(%(input.voltage)05.1f %(input.voltage.fault)05.1f %(output.voltage)05.1f %(ups.load)03d "
        "%(input.frequency)04.1f %(battery.field)s %(ups.temperature)04.1f %(bits)s"
    ),
)
"""Section 4: seven numbers and eight status bits behind ``(``; read by words, because real units shift columns."""

RATING_REPLY = Reply(
    lead=b"#",
    tokens=(3, 4),
    length=(13, 32),
    lenient=True,
    fields=(
        Field("input.voltage.nominal", Token(0)),
        Field("input.current.nominal", Token(1)),
        Field("battery.voltage.nominal", Token(2), Convert.POINTED),
        Field("input.frequency.nominal", Token(3), Convert.POINTED),
    ),
    render=(
        "#%(input.voltage.nominal)05.1f %(input.current.nominal)03d %(battery.voltage.nominal)05.1f "
        "%(input.frequency.nominal)04.1f"
    ),
)
"""Section 5; quirks.md "F ratings": three or four numbers, each on its own merits."""

VENDOR_REPLY = Reply(
    lead=b"#",
    length=(38, 64),
    lenient=True,
    fields=(
        Field("device.mfr", Span(1, 16), Convert.TEXT),
        Field("device.model", Span(17, 27), Convert.TEXT),
        Field("ups.firmware", Span(28, 38), Convert.TEXT),
    ),
    render="#%(device.mfr)-15.15s %(device.model)-10.10s %(ups.firmware)-10.10s",
)
"""Section 6.1: maker, model, firmware at fixed columns."""

VENDOR_IC_REPLY = Reply(
    lead=b"#",
    length=(37, 37),
    digits=(22, 27),
    lenient=True,
    fields=(
        Field("device.mfr", Span(1, 8), Convert.TEXT),
        Field("ups.serial", Span(8, 16), Convert.TEXT),
        Field("device.model", Span(17, 22), Convert.TEXT),
        Field("battery.runtime", Span(22, 27), live=True),
        Field("ups.firmware", Span(28, None), Convert.TEXT),
    ),
)
"""Section 6.2: the "Megatec IC" layout, told apart by its length of 38 with CR and five digits at columns 22 to 26."""

VENDOR_SHORT_REPLY = Reply(lead=b"#", length=(1, 37), lenient=True, fields=())
"""quirks.md "I vendor text": short forms say nothing for certain, but the device did answer."""

STATUS_SAMPLES = (
    Sample(
        b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000",
        {
            "input.voltage": 226.0, "input.voltage.fault": 195.0, "output.voltage": 226.0, "ups.load": 14.0,
            "input.frequency": 49.0, "battery.voltage": 27.5, "ups.temperature": 30.0, "bit.utility_fail": False,
            "ups.type": "offline / line interactive", "ups.beeper.status": "disabled",
        },
        "section 4",
    ),
    Sample(
        b"(208.4 140.0 208.4 034 59.9 2.05 35.0 00110000",
        {"battery.voltage": 2.05, "bit.regulating": True, "bit.failed": True, "ups.type": "online"},
        "section 4.3, worked example of the 1996 Megatec text",
    ),
    Sample(
        b"(236.3 215.4 221.0 004 50.0 109.4 25.0 00000001",
        {"battery.voltage": 109.4, "ups.temperature": 25.0, "bit.utility_fail": False, "ups.beeper.status": "enabled"},
        "section 8, five-character battery field",
    ),
)  # fmt: skip

RATING_SAMPLES = (
    Sample(
        b"#220.0 000 024.0 50.0",
        {"input.voltage.nominal": 220.0, "input.current.nominal": 0.0, "battery.voltage.nominal": 24.0,
         "input.frequency.nominal": 50.0},
        "section 5",
    ),
    Sample(b"#230.0 2.6 12.0 50.0", {"input.current.nominal": 2.6, "battery.voltage.nominal": 12.0}, "capture njoy/01"),
)  # fmt: skip

VENDOR_SAMPLES = (
    Sample(
        b"#ACME UPS CO     RT-3000    VT12046Q  ",
        {"device.mfr": "ACME UPS CO", "device.model": "RT-3000", "ups.firmware": "VT12046Q"},
        "section 12, default reply",
    ),
    Sample(
        b"#                MicroSinus V5.15C0503",
        {"device.model": "MicroSinus", "ups.firmware": "V5.15C0503"},
        "NUT issue 3103",
    ),
)

IC_SAMPLE = Sample(
    b"#MegaTecabcedfhi k130v12345 v3.400000",
    {"device.mfr": "MegaTec", "ups.serial": "abcedfhi", "device.model": "k130v", "battery.runtime": 12345.0,
     "ups.firmware": "v3.400000"},
    "section 6.2",
)  # fmt: skip


def status_query(command: bytes, reply: Reply = STATUS_REPLY, samples: tuple[Sample, ...] = STATUS_SAMPLES) -> Query:
    """The family's status query under the string a relative uses for it."""
    return Query(command, (reply,), Tier.QUICK, Topic.STATUS, samples, "megatec-family.md section 4")


def renamed(reply: Reply, **names: str | None) -> Reply:
    """A layout in which fields have other names, or (None) are left out; ``_`` in a keyword stands for a dot."""
    new = {name.replace("__", "~").replace("_", ".").replace("~", "_"): to for name, to in names.items()}
    fields = (replace(field, name=to) for field in reply.fields if (to := new.get(field.name, field.name)) is not None)
    return replace(reply, fields=tuple(fields))


def order(name: str, **changes: object) -> Order:
    """The family's order of that name, with changes."""
    found = next(each for each in ORDERS if each.name == name)
    return replace(found, **changes)  # type: ignore[arg-type]


def vendor_query(command: bytes) -> Query:
    """The family's vendor query under the string a relative uses for it."""
    return Query(
        command, (VENDOR_IC_REPLY, VENDOR_REPLY, VENDOR_SHORT_REPLY), Tier.ONCE, Topic.VENDOR,
        (*VENDOR_SAMPLES, IC_SAMPLE), "megatec-family.md section 6",
    )  # fmt: skip


RATING_QUERY = Query(b"F\r", (RATING_REPLY,), Tier.ONCE, Topic.RATING, RATING_SAMPLES, "megatec-family.md section 5")

OFF_DELAY = Setting(
    "ups.delay.shutdown", "offdelay", 12, 600, 30, ((60, 6), (601, 60)),
    "seconds until the load is switched off", "section 10.3",
)  # fmt: skip
ON_DELAY = Setting(
    "ups.delay.start", "ondelay", 0, 599940, 180, ((599941, 60),),
    "seconds until the load is switched on again", "section 10.3",
)  # fmt: skip

_N = Arg("ups.delay.shutdown", Style.TENTHS_OR_MINUTES)
_GOES_DOWN = (Effect("bit.shutdown", becomes=True),)

TEST_START = Order(
    "test.battery.start",
    (Form((b"T", Arg("value", Style.MINUTES_2), b"\r"), where=(("value", 60, 5940),)),),
    "test the battery for the given seconds",
    value=(60, 5940, 600),
    hazard=Hazard.BATTERY,
    effects=(Effect("bit.test", becomes=True),),
    undo="test.battery.stop",
    source="section 10",
)

ORDERS: tuple[Order, ...] = (
    Order(
        "beeper.toggle", (Form((b"Q\r",)),), "toggle the beeper",
        effects=(Effect("ups.beeper.status"),), source="section 10",
    ),
    Order(
        "load.off", (Form((b"S00R0000\r",)),), "switch the load off at once; some units come back when mains return",
        hazard=Hazard.LOAD, effects=(Effect("output.voltage", low=0, high=10), *_GOES_DOWN), undo="load.on",
        source="section 10",
    ),
    Order(
        "load.on", (Form((b"C\r",)),), "switch the load on at once",
        effects=(Effect("output.voltage", low=50, high=400),), source="section 10",
    ),
    Order(
        "shutdown.return",
        (
            Form((b"S", _N, b"\r"), where=(("ups.delay.start", 0, 59),)),
            Form((b"S", _N, b"R", Arg("ups.delay.start", Style.MINUTES_4), b"\r")),
        ),
        "switch the load off after ups.delay.shutdown, on again after ups.delay.start once mains are there",
        hazard=Hazard.LOAD, effects=_GOES_DOWN, undo="shutdown.stop", source="section 10.4",
    ),
    Order(
        "shutdown.stayoff", (Form((b"S", _N, b"R0000\r")),),
        "switch the load off after ups.delay.shutdown and leave it off; some units come back when mains return",
        hazard=Hazard.LOAD, effects=_GOES_DOWN, undo="shutdown.stop", source="section 10.4",
    ),
    Order(
        "shutdown.stop", (Form((b"C\r",)),), "stop a shutdown in progress",
        effects=(Effect("bit.shutdown", becomes=False),), source="section 10",
    ),
    TEST_START,
    Order(
        "test.battery.start.deep", (Form((b"TL\r",)),), "test the battery until it is low",
        hazard=Hazard.BATTERY, effects=(Effect("bit.test", becomes=True),), undo="test.battery.stop", source="section 10",
    ),
    Order(
        "test.battery.start.quick", (Form((b"T\r",)),), "test the battery for ten seconds",
        hazard=Hazard.BATTERY, effects=(Effect("bit.test", becomes=True),), undo="test.battery.stop", source="section 10",
    ),
    Order(
        "test.battery.stop", (Form((b"CT\r",)),), "stop a battery test",
        effects=(Effect("bit.test", becomes=False),), source="section 10",
    ),
)  # fmt: skip

MEGATEC = Dialect(
    name="megatec",
    title="Megatec Q1",
    queries=(status_query(b"Q1\r"), RATING_QUERY, vendor_query(b"I\r")),
    orders=ORDERS,
    settings=(OFF_DELAY, ON_DELAY),
    claim=Claim(b"Q1\r", ((Want(b"I\r"),), (Want(b"F\r"),))),
    static={"device.type": "ups"},
    source="megatec-family.md",
)
