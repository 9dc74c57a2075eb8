"""voltronic-axpert: off-grid inverters that speak PI30 (extra-dialects.md section 13). They are only read unless their settings,
which move loads and batteries, are allowed by ``inverter_settings``.

Every frame ends with a CRC. Widths vary by firmware, so replies are read by words.
"""

from __future__ import annotations

from qxfleet.dialects.columns import told
from qxfleet.dialects.spec import (
    Char,
    Claim,
    Convert,
    Derived,
    DeviceSetting,
    Dialect,
    Field,
    Flags,
    Holds,
    Letter,
    Limit,
    Meaning,
    Query,
    Reply,
    Sample,
    Span,
    Tier,
    Token,
    Topic,
    Want,
)  # fmt: skip
from qxfleet.model.notice import Notice
from qxfleet.model.reading import Value
from qxfleet.model.status import Status
from qxfleet.model.wire import crc_of, sealing

_SECTION = "extra-dialects.md section 13"


def _sample(text: bytes, values: dict[str, Value | bool]) -> Sample:
    return told(text + crc_of(text), values, "extra-dialects.md section 18")


def _asked(
    command: bytes, reply: Reply, sample: Sample, tier: Tier = Tier.ONCE, topic: Topic = Topic.DEVICE
) -> Query:
    return Query(sealing(command), (reply,), tier, topic, (sample,), _SECTION, crc=True)


def _words(*names: str, first: int = 0) -> tuple[Field, ...]:
    """Numbers in successive words; an empty name passes one over."""
    return tuple(Field(name, Token(first + index)) for index, name in enumerate(names) if name)


def _choice(name: str, word: int, *texts: str, width: int = 1) -> Field:
    """A word of digits that stands for a text."""
    return Field(name, Token(word), Convert.CODE, words=tuple((f"{n:0{width}d}", text) for n, text in enumerate(texts) if text))


BATTERIES = ("AGM", "Flooded", "User", "Pylontech", "Shinheung", "WECO", "Soltaro", "", "LIb", "Lithium")
INPUT_RANGES = ("appliance", "UPS")
OUTPUT_SOURCES = ("utility first", "solar first", "solar, battery, utility")
CHARGER_SOURCES = ("utility first", "solar first", "solar and utility", "solar only")

PROTOCOL = _asked(
    b"QPI", Reply(b"(", (Field("ups.firmware.aux", Span(1, 5), Convert.CODE, words=(("PI30", "P30"), ("PI41", "P41"))),),
                  length=(5, 5)),
    _sample(b"(PI30", {"ups.firmware.aux": "P30"}),
)  # fmt: skip
FIRMWARE = _asked(
    b"QVFW", Reply(b"(VERFW:", (Field("ups.firmware", Span(7, None), Convert.CODE),), length=(8, 24)),
    _sample(b"(VERFW:00072.70", {"ups.firmware": "00072.70"}),
)  # fmt: skip
CHARGER_FIRMWARE = _asked(
    b"QVFW2", Reply(b"(VERFW2:", (Field("qx.firmware.scc1", Span(8, None), Convert.CODE),), length=(9, 24)),
    _sample(b"(VERFW2:00000.31", {"qx.firmware.scc1": "00000.31"}),
)  # fmt: skip
SERIAL = _asked(
    b"QID", Reply(b"(", (Field("device.serial", Span(1, None), Convert.TEXT),), length=(2, 32)),
    _sample(b"(9293333010501", {"device.serial": "9293333010501"}),
)  # fmt: skip
MODEL = _asked(
    b"QMD", Reply(b"(", (
        Field("device.model", Span(1, 16), Convert.TEXT), Field("output.powerfactor.nominal", Span(25, 27), scale=0.01),
        Field("input.phases", Span(28, 29)), Field("output.phases", Span(30, 31)), Field("battery.number", Span(40, 42)),
    ), length=(46, 50), lenient=True),
    _sample(b"(#####INVERTEX5K ###5000 99 1/1 230 230 04 12.0",
            {"device.model": "INVERTEX5K", "output.powerfactor.nominal": 0.99, "battery.number": 4.0}),
)  # fmt: skip
FLAGS = _asked(
    b"QFLAG", Reply(b"(", (
        Field("ups.beeper.status", Letter("a"), choices=("disabled", "enabled")),
        Field("battery.energysave", Letter("j"), choices=("no", "yes")),
    ), length=(3, 40)),
    _sample(b"(EakxyDbjuvz", {"ups.beeper.status": "enabled", "battery.energysave": "no"}), Tier.AFTER_ORDER,
)  # fmt: skip
RATING = _asked(
    b"QPIRI",
    Reply(b"(", (
        *_words("input.voltage.nominal", "input.current.nominal", "output.voltage.nominal", "output.frequency.nominal",
                "output.current.nominal", "output.power.nominal", "output.realpower.nominal", "battery.voltage.nominal",
                "battery.voltage.recharge", "battery.voltage.under", "battery.voltage.bulk", "battery.voltage.float"),
        _choice("battery.type", 12, *BATTERIES),
        *_words("battery.charging.current.ac.high", "battery.charging.current.high", first=13),
        _choice("qx.input.range", 15, *INPUT_RANGES),
        _choice("qx.output.source", 16, *OUTPUT_SOURCES),
        _choice("qx.charger.source", 17, *CHARGER_SOURCES),
        Field("device.model.type", Token(19), Convert.CODE, words=(
            ("00", "Grid-tie"), ("01", "Off-grid"), ("10", "Hybrid"), ("11", "Off-grid, two trackers"),
            ("20", "Off-grid, three trackers"))),
        _choice("device.description", 20, "Transformerless", "With transformer"),
        Field("qx.battery.voltage.redischarge", Token(22)),
    ), tokens=(25, 30), length=(85, 140), lenient=True),
    _sample(b"(230.0 21.7 230.0 50.0 21.7 5000 5000 48.0 46.0 42.0 56.4 54.0 0 30 060 0 0 2 9 01 0 1 54.0 0 1 000",
            {"output.power.nominal": 5000.0, "battery.voltage.nominal": 48.0, "battery.type": "AGM",
             "battery.charging.current.high": 60.0, "device.model.type": "Off-grid"}),
    Tier.ONCE | Tier.AFTER_ORDER, Topic.RATING,
)  # fmt: skip
"""Section 13.3."""

DEFAULTS = _asked(
    b"QDI",
    Reply(b"(", (
        *_words("output.voltage.default", "output.frequency.default", "battery.charging.current.ac.high.default",
                "battery.voltage.under.default", "battery.voltage.float.default", "battery.voltage.bulk.default",
                "battery.voltage.recharge.default", "battery.charging.current.high.default"),
        _choice("battery.type.default", 11, *BATTERIES),
    ), tokens=(20, 32), length=(70, 120), lenient=True),
    _sample(b"(230.0 50.0 0030 42.0 54.0 56.4 46.0 60 0 0 2 0 0 0 0 0 1 1 0 0 1 0 54.0 0 1 000",
            {"output.voltage.default": 230.0, "battery.charging.current.ac.high.default": 30.0,
             "battery.voltage.under.default": 42.0, "battery.type.default": "AGM"}),
)  # fmt: skip
"""Section 13.3: what the inverter left the factory with."""

STATUS = _asked(
    b"QPIGS",
    Reply(b"(", (
        *_words("input.voltage", "input.frequency", "output.voltage", "output.frequency", "output.power", "output.realpower",
                "ups.load", "qx.bus.positive.voltage", "battery.voltage", "part.charging", "battery.charge", "ups.temperature",
                "experimental.input.pv1.current", "experimental.input.pv1.voltage", "experimental.battery.voltage.scc1",
                "part.discharging"),
        Field("bit.on", Char(3), Convert.BIT), Field("bit.charging", Char(5), Convert.BIT),
        Field("qx.pv1.power", Token(19)),
    ), tokens=(20, 32), length=(100, 140), bits=(16, 8), derived=(
        Derived("battery.current", ("part.discharging",), scale=-1.0, given=(("part.discharging", 0.5, 10000),)),
        Derived("battery.current", ("part.charging",)),
    ), render=(
        "(%(input.voltage)05.1f %(input.hertz)04.1f %(output.voltage)05.1f %(output.hertz)04.1f %(output.watts)04d "
        "%(output.watts)04d %(ups.load)03d 390 %(battery.volts)05.2f 000 %(battery.percent)03d 0034 0000 000.0 00.00 "
        "%(battery.amps)05d %(bits.axpert)s 00 00 00000 010"
    )),
    _sample(b"(235.2 50.1 235.2 50.1 0446 0382 008 440 54.00 000 100 0034 0000 000.0 00.00 00000 00010101 00 00 00000 110",
            {"input.voltage": 235.2, "output.power": 446.0, "battery.voltage": 54.0, "battery.charge": 100.0,
             "battery.current": 0.0, "bit.on": True, "bit.charging": True}),
    Tier.QUICK, Topic.STATUS,
)  # fmt: skip
"""Section 13.4."""

MODES = {
    "P": "power_on", "S": "standby", "L": "line", "B": "battery", "F": "fault", "H": "power_saving", "D": "shutdown",
}  # fmt: skip
MODE = _asked(
    b"QMOD", Reply(b"(", (Field("qx.mode", Span(1, 2), Convert.CODE, words=tuple(MODES.items())),), length=(2, 2),
                   render="(%(mode.axpert)s"),
    _sample(b"(L", {"qx.mode": "line"}), Tier.QUICK,
)  # fmt: skip
WARNINGS = _asked(
    b"QPIWS", Reply(b"(", (Field("qx.warnings", Span(1, None), Convert.CODE),), length=(33, 40), alphabet="01",
                    render="(%(warnings.axpert)s"),
    _sample(b"(" + b"0" * 32, {"qx.warnings": "0" * 32}), Tier.QUICK,
)  # fmt: skip
SECOND_TRACKER = _asked(
    b"QPIGS2",
    Reply(b"(", _words("experimental.input.pv2.current", "experimental.input.pv2.voltage", "qx.pv2.power"), tokens=(3, 3),
          length=(16, 24), lenient=True),
    _sample(b"(03.1 327.3 01026 ", {"experimental.input.pv2.current": 3.1, "qx.pv2.power": 1026.0}), Tier.FULL,
)  # fmt: skip

_OB, _LB, _OVER, _RB = Status.OB, Status.LB, Status.OVER, Status.RB
_TEXTS: tuple[tuple[str, int, int], ...] = (
    ("Solar input lost", 0, 3), ("Inverter fault", 0, 1), ("Bus voltage high", 0, 1), ("Bus voltage low", 0, 1),
    ("Bus soft start failed", 0, 1), ("LINE_FAIL: mains failed", _OB, 2), ("Output shorted", 0, 1),
    ("Inverter voltage low", 0, 1), ("Inverter voltage high", 0, 1), ("Over temperature", 0, 1), ("Fan blocked", 0, 1),
    ("Battery voltage high", 0, 1), ("Battery low", _LB, 1), ("", 0, 3), ("Battery under cut-off voltage", _LB, 1),
    ("Battery derating", 0, 2), ("Overload", _OVER, 1), ("EEPROM fault", 0, 1), ("Inverter over-current", 0, 1),
    ("Inverter soft start failed", 0, 1), ("Self test failed", 0, 1), ("DC in output", 0, 1), ("Battery open", 0, 1),
    ("Current sensor failed", 0, 1), ("Battery short", 0, 1), ("Power limit", 0, 3), ("Solar voltage high", 0, 1),
    ("Solar charger overload fault", 0, 1), ("Solar charger overload", 0, 3), ("Battery too low to charge", 0, 3), ("", 0, 3),
    ("Battery weak", _RB, 2), ("", 0, 3), ("", 0, 3), ("", 0, 3), ("Equalising", 0, 3),
)  # fmt: skip
"""Section 13.6: text, status flag, level of each flag; without a text: reserved."""

ALL_WARNINGS = Flags("qx.warnings", tuple(
    (int(flag), Notice(f"warning.{n}", text or f"Reserved flag {n}", level, "qx.warnings", "inverter", number=n, alarm=level < 3))
    for n, (text, flag, level) in enumerate(_TEXTS)
))  # fmt: skip

MEANINGS = (
    Meaning("bit.on", False, sets=Status.OFF),
    Meaning("bit.charging", True, sets=Status.CHRG),
    Meaning("battery.current", None, sets=Status.DISCHRG, high=-0.5),
    Meaning("qx.mode", "standby", sets=Status.OFF),
    Meaning("qx.mode", "shutdown", sets=Status.OFF),
    Meaning("qx.mode", "fault", notice=Notice("mode.fault", "Fault reported by device", 1, "qx.mode", "inverter")),
    Meaning("qx.mode", "power_on", notice=Notice("mode.power_on", "Device is going ON", 3, "qx.mode")),
)
"""Section 13.5. On battery by choice, with mains there, is ``OL DISCHRG``: nobody's hosts are to stop at sunset."""

def _choices(command: str, texts: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    return tuple((text, f"{command}{number:02d}\r".encode()) for number, text in enumerate(texts) if text)


def _of_battery(v24: tuple[float, float, float], v48: tuple[float, float, float]) -> tuple[Limit, ...]:
    """Bounds and step in volts, by the battery's nominal voltage; of others none are known."""
    volts = "battery.voltage.nominal"
    return tuple(Limit(*bounds[:2], "", (volts,), at, at + 1, step=bounds[2]) for at, bounds in ((24, v24), (48, v48)))


_RATED, _LETTERS = RATING.command, FLAGS.command

SETTINGS = (
    DeviceSetting("qx.output.source", "where the load is fed from first", _RATED, _choices("POP", OUTPUT_SOURCES)),
    DeviceSetting("qx.charger.source", "where the battery is charged from first", _RATED, _choices("PCP", CHARGER_SOURCES)),
    DeviceSetting("qx.input.range", "mains it takes: appliance is the wider range", _RATED, _choices("PGR", INPUT_RANGES)),
    DeviceSetting("battery.type", "battery type, which sets its voltages", _RATED, _choices("PBT", BATTERIES)),
    DeviceSetting("battery.voltage.recharge", "battery voltage below which it goes back to mains", _RATED, wire="PBCV%04.1f\r",
                  limits=_of_battery((22.0, 25.5, 0.5), (44.0, 51.0, 1.0)), above="battery.voltage.under"),
    DeviceSetting("qx.battery.voltage.redischarge", "battery voltage above which it goes back to the battery", _RATED,
                  wire="PBDV%04.1f\r", limits=_of_battery((24.0, 29.0, 0.1), (48.0, 58.0, 0.1))),
    DeviceSetting("battery.voltage.under", "battery voltage at which it switches off", _RATED, wire="PSDV%04.1f\r",
                  limits=_of_battery((20.0, 24.0, 0.1), (40.0, 48.0, 0.1)), below="battery.voltage.recharge"),
    DeviceSetting("battery.voltage.bulk", "bulk charging voltage", _RATED, wire="PCVV%04.1f\r",
                  limits=_of_battery((24.0, 29.2, 0.1), (48.0, 58.4, 0.1))),
    DeviceSetting("battery.voltage.float", "float charging voltage", _RATED, wire="PBFT%04.1f\r",
                  limits=_of_battery((24.0, 29.2, 0.1), (48.0, 58.4, 0.1))),
    DeviceSetting("battery.charging.current.high", "highest charging current; the inverter takes some steps only", _RATED,
                  wire="MNCHGC0%03.0f\r", limits=(Limit(1, 200),)),
    DeviceSetting("battery.charging.current.ac.high", "highest charging current from mains; some steps only", _RATED,
                  wire="MUCHGC0%02.0f\r", limits=(Limit(1, 99),)),
    DeviceSetting("output.frequency.nominal", "output frequency", _RATED, wire="F%02.0f\r", limits=(Limit(50, 60),), step=10),
    DeviceSetting("output.voltage.nominal", "output voltage", _RATED, wire="V%03.0f\r",
                  limits=(Limit(220, 240, "", ("output.voltage.nominal",), 200),), step=10),
    DeviceSetting("ups.beeper.status", "beeper", _LETTERS, (("enabled", b"PEa\r"), ("disabled", b"PDa\r"))),
    DeviceSetting("battery.energysave", "switch off without load", _LETTERS, (("yes", b"PEj\r"), ("no", b"PDj\r"))),
    DeviceSetting("factory_defaults", "all settings back to what they were when new", None, (("yes", b"PF\r"),),
                  now=(Holds("qx.mode", ("standby",)),), why_not="only in standby", upsets="resets all settings"),
)  # fmt: skip
"""Section 13.8; ranges by the battery's nominal voltage."""

_GRID, _FAIL = "input.voltage", "bit.utility_fail"
_DARK = (float("-inf"), True)

AXPERT = Dialect(
    name="voltronic-axpert",
    title="Axpert inverter (PI30)",
    queries=(
        STATUS, MODE, WARNINGS, PROTOCOL, FIRMWARE, CHARGER_FIRMWARE, SERIAL, MODEL, FLAGS, RATING, DEFAULTS, SECOND_TRACKER,
    ),
    orders=(),
    claim=Claim(sealing(b"QPIGS"), ((Want(sealing(b"QPI"), gives="ups.firmware.aux"),),)),
    static={"device.type": "ups"},
    meanings=MEANINGS,
    flags=(ALL_WARNINGS,),
    derived=(
        Derived(_FAIL, (_GRID,), ("input.voltage.nominal",), table=((0.5, False), _DARK)),
        Derived(_FAIL, (_GRID,), table=((60, False), _DARK)),
    ),
    scales_battery=False,
    seals=True,
    device_settings=SETTINGS,
    guarded=True,
    source=_SECTION,
)
"""Mains are there above half their nominal voltage, unless LINE_FAIL is set."""
