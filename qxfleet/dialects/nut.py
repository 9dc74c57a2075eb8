"""nut: any UPS that a NUT server tells of, by the names of NUT's variable list (RFC 9271, its appendix of names).

A link to such a server brings this table with it (``nut://host:3493/name``); no device is ever asked whether it speaks it.
"""

from __future__ import annotations

from qxfleet.dialects.columns import told
from qxfleet.dialects.spec import (
    OFFERS,
    Claim,
    Convert,
    Dialect,
    Effect,
    Field,
    Form,
    Hazard,
    Holds,
    Lines,
    Listing,
    Meaning,
    Named,
    Order,
    Query,
    Reply,
    Tier,
    Topic,
    Word,
)  # fmt: skip
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status

_VARIABLES, _SOURCE = "RFC 9271, LIST VAR", "RFC 9271"
_PHASES = ("L1", "L2", "L3")

STATUS_WORDS: tuple[tuple[str, str, int], ...] = (
    ("bit.high_battery", "HB", Status.HB),
    ("bit.replace", "RB", Status.RB),
    ("bit.charging", "CHRG", Status.CHRG),
    ("bit.discharging", "DISCHRG", Status.DISCHRG),
    ("bit.bypass", "BYPASS", Status.BYPASS),
    ("bit.calibrating", "CAL", Status.CAL),
    ("bit.self_test", "TEST", Status.CAL),
    ("bit.off", "OFF", Status.OFF),
    ("bit.overload", "OVER", Status.OVER),
    ("bit.trim", "TRIM", Status.TRIM),
    ("bit.boost", "BOOST", Status.BOOST),
    ("bit.eco", "ECO", Status.ECO),
)
"""Words of ``ups.status`` that set a flag each; OL, OB, LB and FSD are bits that every dialect has."""

LIVE = Reply(
    b"",
    (
        Field("bit.utility_fail", Word("ups.status", ("OB",), other=("OL",)), critical=True),
        Field("bit.battery_low", Word("ups.status", ("LB",)), critical=True),
        Field("bit.shutdown", Word("ups.status", ("FSD",))),
        Field("bit.failed", Word("ups.alarm", ("SELFTEST",), silent=False)),
        Field("bit.test", Word("ups.test.result", ("PROGRESS", "INPROGRESS", "RUNNING"), silent=False)),
        *(Field(name, Word("ups.status", (word,))) for name, word, _ in STATUS_WORDS),
        Field("ups.load", Named("ups.load", highest=tuple(f"output.{phase}.power.percent" for phase in _PHASES))),
        *(
            Field(f"{side}.voltage", Named(f"{side}.voltage", lowest=tuple(f"{side}.{phase}-N.voltage" for phase in _PHASES)))
            for side in ("input", "output")
        ),
        Field("ups.alarm", Named("ups.alarm"), Convert.TEXT),
    ),
    lines=Lines.VARIABLES,
    hides=("driver.", "server.", "ups.status", "ups.alarm"),
)

FACTS = Reply(
    b"",
    (
        *(
            Field(f"device.{name}", Named(f"device.{name}", f"ups.{name}"), Convert.TEXT)
            for name in ("mfr", "model", "serial", "part")
        ),
        Field("device.type", Named("device.type"), Convert.TEXT),
        *(
            Field(f"ups.{name}", Named(f"ups.{name}"), Convert.TEXT)
            for name in ("mfr", "model", "serial", "firmware", "mfr.date")
        ),
        *(
            Field(name, Named(name))
            for name in (
                "ups.power.nominal", "ups.realpower.nominal", "input.voltage.nominal", "input.frequency.nominal",
                "output.voltage.nominal", "battery.voltage.nominal", "input.phases", "output.phases",
            )
        ),
    ),
    lines=Lines.VARIABLES,
    hides=("",),
)  # fmt: skip
"""What the device says of itself once and for all: its identity, by which another in its place is noticed."""

STATUS = Query(
    b"LIST VAR\r", (LIVE,), Tier.QUICK, Topic.STATUS,
    (
        told(b'ups.status "OL CHRG"\nbattery.charge "90"\ninput.voltage "229.0"\nups.load "23"\nups.mfr "APC"',
             {"bit.utility_fail": False, "bit.battery_low": False, "bit.charging": True, "battery.charge": 90.0,
              "input.voltage": 229.0, "ups.load": 23.0, "ups.mfr": "APC"}, _VARIABLES),
        told(b'ups.status "ALARM OB DISCHRG LB RB"\nups.alarm "Replace battery!"\noutput.L1.power.percent "12"\n'
             b'output.L2.power.percent "40"\noutput.L3.power.percent "31"\nups.test.result "In progress"',
             {"bit.utility_fail": True, "bit.battery_low": True, "bit.discharging": True, "bit.replace": True, "ups.load": 40.0,
              "ups.alarm": "Replace battery!", "bit.test": True}, _VARIABLES),
    ),
    _VARIABLES,
)  # fmt: skip

IDENTITY = Query(
    b"LIST FACTS\r", (FACTS,), Tier.ONCE, Topic.DEVICE,
    (told(b'device.mfr "APC"\ndevice.serial "AS1"\nups.power.nominal "1500"\nups.load "3"',
          {"device.mfr": "APC", "device.serial": "AS1", "ups.power.nominal": 1500.0}, _VARIABLES),),
    _VARIABLES,
)  # fmt: skip

COMMANDS = Query(
    b"LIST CMD\r", (Reply(b"", (), lines=Lines.NAMES),), Tier.FULL, Topic.DEVICE,
    (told(b"load.off\ntest.panel.start", {f"{OFFERS}load.off": True, f"{OFFERS}test.panel.start": True},
          "RFC 9271, LIST CMD"),),
    "RFC 9271, LIST CMD",
)  # fmt: skip
"""Asked again and again: a server that has just begun does not know yet what its drivers offer."""

SETTINGS = Query(
    b"LIST RW\r", (Reply(b"", (), lines=Lines.VARIABLES, hides=("driver.", "server.")),), Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b'ups.delay.shutdown "20"\nups.id "hall \\"2\\""', {"ups.delay.shutdown": 20.0, "ups.id": 'hall "2"'},
          "RFC 9271, LIST RW"),),
    "RFC 9271, LIST RW",
)  # fmt: skip

FORMS = Query(
    b"LIST FORMS\r", (Reply(b"", (), lines=Lines.FORMS),), Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b'TYPE ups.id RW STRING:8\nTYPE ups.delay.start RW RANGE NUMBER\nRANGE ups.delay.start "0" "600"',
          {"part.takes.ups.id": "TYPE RW STRING:8", "part.takes.ups.delay.start": 'TYPE RW RANGE NUMBER\nRANGE "0" "600"'},
          "RFC 9271, GET TYPE, LIST ENUM, LIST RANGE"),),
    "RFC 9271, GET TYPE, LIST ENUM, LIST RANGE",
)  # fmt: skip

MEANINGS = (
    *(Meaning(name, True, sets=int(flag)) for name, _, flag in STATUS_WORDS),
    Meaning("bit.test", True, sets=int(Status.CAL)),
    Meaning("bit.utility_fail", False, sets=int(Status.OL)),
    Meaning("ups.alarm", None, notice=Notice("alarm", "{}", 1, "ups.alarm")),
)
"""The line is as the server says: what it calls on line is not overruled by a voltage that a driver leaves at zero."""

_TESTS = (Effect("bit.test", becomes=True), *(Effect(name, becomes=True) for name in ("bit.calibrating", "bit.self_test")))
_ENDS = tuple(Effect(effect.name, becomes=False) for effect in _TESTS)
_OFF = (Effect("bit.off", becomes=True), Effect("output.voltage", low=0, high=10), Effect("ups.load", low=0, high=0))
_ON = (Effect("bit.off", becomes=False), Effect("output.voltage", low=50, high=1000))
_COUNTS = (Effect("ups.timer.shutdown", low=0, high=1e9), Effect("bit.shutdown", becomes=True), *_OFF[:1])
_STOPS = (Effect("ups.timer.shutdown", low=-1e9, high=-0.5), Effect("bit.shutdown", becomes=False))


def _order(
    name: str, description: str, *effects: Effect, hazard: Hazard = Hazard.NONE, undo: str | None = None
) -> Order:
    form = Form((f"INSTCMD {name}\r".encode(),))
    return Order(name, (form,), description, None, hazard, effects, undo, _SOURCE, (Holds(f"{OFFERS}{name}"),))


_BATTERY, _LOAD = Hazard.BATTERY, Hazard.LOAD

ORDERS = (
    _order("beeper.enable", "enable the beeper", Effect("ups.beeper.status", word="enabled")),
    _order("beeper.disable", "disable the beeper", Effect("ups.beeper.status", word="disabled")),
    _order("beeper.mute", "silence the beeper for this alarm", Effect("ups.beeper.status", word="muted")),
    _order("beeper.toggle", "toggle the beeper", Effect("ups.beeper.status")),
    _order("load.off", "switch the load off at once", *_OFF, hazard=_LOAD, undo="load.on"),
    _order("load.on", "switch the load on at once", *_ON),
    _order("load.off.delay", "switch the load off after a delay", *_COUNTS, hazard=_LOAD),
    _order("load.on.delay", "switch the load on after a delay", *_ON),
    _order("shutdown.return", "switch the load off after ups.delay.shutdown, on again once mains are there", *_COUNTS,
           hazard=_LOAD, undo="shutdown.stop"),
    _order("shutdown.stayoff", "switch the load off after ups.delay.shutdown and leave it off", *_COUNTS, hazard=_LOAD,
           undo="shutdown.stop"),
    _order("shutdown.reboot", "switch the load off and on again", *_COUNTS, hazard=_LOAD, undo="shutdown.stop"),
    _order("shutdown.reboot.graceful", "switch the load off and on again after a delay", *_COUNTS, hazard=_LOAD,
           undo="shutdown.stop"),
    _order("shutdown.stop", "stop a shutdown in progress", *_STOPS),
    _order("test.battery.start", "test the battery", *_TESTS, hazard=_BATTERY, undo="test.battery.stop"),
    _order("test.battery.start.quick", "test the battery for some seconds", *_TESTS, hazard=_BATTERY, undo="test.battery.stop"),
    _order("test.battery.start.deep", "test the battery until it is low", *_TESTS, hazard=_BATTERY, undo="test.battery.stop"),
    _order("test.battery.stop", "stop a battery test", *_ENDS),
    _order("test.panel.start", "test the lamps and the beeper"),
    _order("test.panel.stop", "stop the test of lamps and beeper"),
    _order("calibrate.start", "calibrate the runtime: runs on battery", *_TESTS, hazard=_BATTERY, undo="calibrate.stop"),
    _order("calibrate.stop", "stop a calibration", *_ENDS),
    _order("bypass.start", "go to bypass: the load is not protected", Effect("bit.bypass", becomes=True), hazard=_LOAD,
           undo="bypass.stop"),
    _order("bypass.stop", "leave bypass", Effect("bit.bypass", becomes=False), hazard=_LOAD),
    _order("reset.input.minmax", "forget the lowest and the highest input voltage"),
    *(
        _order(f"outlet.{n}.load.{word}", f"switch outlet {n} {word}", Effect(f"outlet.{n}.status", word=word), hazard=hazard)
        for n in range(1, 9) for word, hazard in (("off", _LOAD), ("on", Hazard.NONE))
    ),
)  # fmt: skip

NUT = Dialect(
    name="nut",
    title="a NUT server",
    queries=(STATUS, IDENTITY, COMMANDS, FORMS, SETTINGS),
    orders=ORDERS,
    claim=Claim(b"LIST VAR\r"),
    meanings=MEANINGS,
    accepts=(b"SUCCESS",),
    unknown=(b"ERR CMD-NOT-SUPPORTED", b"ERR VAR-NOT-SUPPORTED", b"ERR UNKNOWN"),
    listing=Listing("INSTCMD %s\r", 'SET VAR %s "%s"\r', SETTINGS.command),
    scales_battery=False,
    source=_SOURCE,
)
