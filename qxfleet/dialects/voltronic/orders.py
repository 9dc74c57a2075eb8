"""Instant commands and the delays they use (voltronic.md sections 9 and 11)."""

from __future__ import annotations

from qxfleet.dialects.megatec import ON_DELAY
from qxfleet.dialects.spec import Arg, Effect, Form, Hazard, Holds, Order, Setting, Style

OFF_DELAY = Setting(
    "ups.delay.shutdown", "offdelay", 12, 5940, 30, ((60, 6), (5941, 60)), "seconds until the load is switched off",
    "voltronic.md section 9",
)  # fmt: skip

SETTINGS = (OFF_DELAY, ON_DELAY)

_N = Arg("ups.delay.shutdown", Style.TENTHS_OR_MINUTES)
_GOES_DOWN = (Effect("bit.shutdown", becomes=True),)
_TESTS = (Effect("bit.test", becomes=True),)
_SECTION = "voltronic.md section 11"
_ENABLED, _MUTED, _DISABLED = (
    Holds("ups.beeper.status", (status,)) for status in ("enabled", "muted", "disabled")
)  # fmt: skip


def _plain(name: str, command: bytes, description: str, **rest: object) -> Order:
    return Order(name, (Form((command,)),), description, source=_SECTION, **rest)  # type: ignore[arg-type]


def _outlet(n: int) -> tuple[Order, Order]:
    offered = (Holds(f"outlet.{n}.switchable", ("yes",)),)
    status = f"outlet.{n}.status"
    return (
        _plain(f"outlet.{n}.load.off", b"SKOFF%d\r" % n, f"switch outlet {n} off at once", hazard=Hazard.LOAD, when=offered,
               undo=f"outlet.{n}.load.on", effects=(Effect(status, word="off"),)),
        _plain(f"outlet.{n}.load.on", b"SKON%d\r" % n, f"switch outlet {n} on at once", when=offered,
               effects=(Effect(status, word="on"),)),
    )  # fmt: skip


ORDERS: tuple[Order, ...] = (
    Order(
        "beeper.toggle",
        (
            Form((b"BZOFF\r",), needs=(_ENABLED,)),
            Form((b"BZON\r",), needs=(_MUTED,)),
            Form((b"BZON\r",), needs=(_DISABLED, Holds("alarm_control", negated=True))),
        ),
        "silence or sound the beeper; a unit takes this only while it beeps", effects=(Effect("ups.beeper.status"),),
        source=_SECTION,
    ),
    _plain("beeper.enable", b"PEA\r", "let the unit beep", when=(Holds("alarm_control"),),
           effects=(Effect("alarm_control", word="enabled"),)),
    _plain("beeper.disable", b"PDA\r", "keep the unit from beeping", when=(Holds("alarm_control"),),
           effects=(Effect("alarm_control", word="disabled"),)),
    _plain("bypass.start", b"PEE\r", "ECO mode on: the load runs on mains through the bypass while they are good",
           when=(Holds("eco_mode"),), undo="bypass.stop", effects=(Effect("eco_mode", word="enabled"),)),
    _plain("bypass.stop", b"PDE\r", "ECO mode off", when=(Holds("eco_mode"),), effects=(Effect("eco_mode", word="disabled"),)),
    _plain("load.off", b"SOFF\r", "switch the load off at once", hazard=Hazard.LOAD, undo="load.on",
           effects=(Effect("output.voltage", low=0, high=10), *_GOES_DOWN)),
    _plain("load.on", b"SON\r", "switch the load on at once", effects=(Effect("output.voltage", low=50, high=400),)),
    Order(
        "shutdown.return",
        (
            Form((b"S", _N, b"\r"), where=(("ups.delay.start", 0, 59),)),
            Form((b"S", _N, b"R", Arg("ups.delay.start", Style.MINUTES_4), b"\r")),
        ),
        "switch the load off after ups.delay.shutdown, on again after ups.delay.start once mains are there",
        hazard=Hazard.LOAD, effects=_GOES_DOWN, undo="shutdown.stop", source=_SECTION,
    ),
    Order(
        "shutdown.stayoff", (Form((b"S", _N, b"R0000\r")),), "switch the load off after ups.delay.shutdown and leave it off",
        hazard=Hazard.LOAD, effects=_GOES_DOWN, undo="shutdown.stop", source=_SECTION,
    ),
    _plain("shutdown.stop", b"CS\r", "stop a shutdown in progress", effects=(Effect("bit.shutdown", becomes=False),)),
    Order(
        "test.battery.start", (Form((b"T", Arg("value", Style.TENTHS_OR_MINUTES), b"\r"), where=(("value", 12, 5940),)),),
        "test the battery for the given seconds", value=(12, 5940, 600), hazard=Hazard.BATTERY, effects=_TESTS,
        undo="test.battery.stop", source=_SECTION,
    ),
    _plain("test.battery.start.deep", b"TL\r", "test the battery until it is low", hazard=Hazard.BATTERY, effects=_TESTS,
           undo="test.battery.stop"),
    _plain("test.battery.start.quick", b"T\r", "test the battery for about ten seconds", hazard=Hazard.BATTERY,
           effects=_TESTS, undo="test.battery.stop"),
    _plain("test.battery.stop", b"CT\r", "stop a battery test", effects=(Effect("bit.test", becomes=False),)),
    *(order for n in (1, 2, 3, 4) for order in _outlet(n)),
)  # fmt: skip
