"""Debian's nutdrv_qx with ``protocol=voltronic`` and ours read the same simulated units: what both publish is the same.

Mains, batteries and clocks of the units stand still meanwhile. The differences are those that voltronic.md lists as the
incumbent's defects (sections 5, 6, 16 to 18); each is written down beside its case, anything else fails.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.model.clock import Clock
from qxfleet.model.options import UpsOptions
from qxfleet.session.probe import probe
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine, Returns
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.serial_port import SerialTransport
from tests.compat.incumbent import Incumbent

FULL_POLLS = 4
"""Full polls after which the incumbent has replaced everything it read before it knew better."""

ABOUT_THE_PROGRAM = "driver."
"""Variables that speak of the driver, not of the unit."""

Differs = tuple[str | None, str | None]
"""What the incumbent publishes and what we do; None: nothing."""

FIVE_DIGITS: Mapping[str, Differs] = {"battery.runtime": ("0", "1500")}
"""Section 17: up to 2.8.2 the incumbent reads three of the five digits of minutes (decision 6)."""

BLANK_IN_FIRMWARE: Mapping[str, Differs] = {"ups.firmware": (" 00123.0", "00123.01")}
"""Section 4.2: it cuts columns where the text begins behind a blank (decision 7)."""

OF_THE_MODEL: dict[str, Mapping[str, Differs]] = {"P99": FIVE_DIGITS, "P02": BLANK_IN_FIRMWARE}


@dataclass(frozen=True)
class Case:
    """One unit, what is done to it before anybody looks, its status, and what differs why.

    ``process``: ours is the real ``qxfleet probe``, finding out the dialect by itself.
    """

    protocol: str
    prepare: Callable[[VoltronicUps], object] = lambda ups: None
    status: str = "OL"
    differs: Mapping[str, Differs] = field(default_factory=dict)
    why: str = ""
    process: bool = False

    def ups(self, name: str) -> VoltronicUps:
        dialect = dialect_named("voltronic")
        assert dialect is not None
        product = model(self.protocol)
        return VoltronicUps(dialect, product, name=name, machine=Machine(product.ratings, noise=0))

    @property
    def expected(self) -> dict[str, Differs]:
        return {**OF_THE_MODEL.get(self.protocol, {}), **self.differs}


def _outage(fraction: float) -> Callable[[VoltronicUps], object]:
    def prepare(ups: VoltronicUps) -> None:
        ups.machine.set_mains(0)
        ups.machine.battery.set_charge(fraction)

    return prepare


def _warn(*bits: int) -> Callable[[VoltronicUps], object]:
    return lambda ups: [ups.state.warn(bit) for bit in bits]


def _press(*settings: str) -> Callable[[VoltronicUps], object]:
    return lambda ups: [ups.press(setting) for setting in settings]


def _machine(name: str, value: object) -> Callable[[VoltronicUps], object]:
    return lambda ups: setattr(ups.machine, name, value)


ORDER = "2.8.0 lists by bit and adds the bare causes at the end; ours by level, then bit (section 6)"
MODE = "ECO and converter are modes, never alarms (section 5.1, decision 3)"
SLIP = "the bare words TRIM and BOOST in ups.alarm are a slip (section 5.3, decision 2)"
NO_FAULT = "2.8.0 never asks QFS: it sees that there is a fault, not which (section 7, decision 1)"
NUMBER_SIGN = "2.8.0 writes bits as #59, which its own upsd takes for a broken line: it loses what stands beside it"
FLAPS = "2.8.0 sets LB with each full poll and takes it away with the next quick one (section 5.5)"

NOT_COMPARED: Mapping[str, frozenset[str]] = {
    NUMBER_SIGN: frozenset({"ups.alarm", "ups.status"}), FLAPS: frozenset({"ups.status"}),
}  # fmt: skip
"""Why → what the incumbent says one moment and not the next."""

ALL_ENABLED: Mapping[str, Differs] = {
    "battery.energysave": ("yes", "no"), "battery.protection": ("yes", "no"), "outlet.0.switchable": ("yes", "no"),
    "ups.start.auto": ("yes", "no"), "ups.start.battery": ("yes", "no"), "ups.beeper.status": ("enabled", "disabled"),
}  # fmt: skip

CASES: dict[str, Case] = {
    **{protocol: Case(protocol, process=True) for protocol in ("P00", "P01", "P02", "P03", "P09", "P10", "P31", "P99")},
    "P08": Case("P08"),
    "P13": Case("P13"),
    "on battery": Case("P01", _outage(0.6), "OB"),
    "on battery, three phases": Case("P10", _outage(0.6), "OB"),
    "low battery": Case("P10", _outage(0.04), "ALARM OB LB"),
    "half charged": Case("P09", lambda ups: ups.machine.battery.set_charge(0.5)),
    "in test": Case("P02", lambda ups: ups.machine.start_test(600), "OL CAL"),
    "test failed": Case("P02", _machine("test_passed", False)),
    "boost": Case(
        "P00", lambda ups: ups.machine.set_mains(200), "OL BOOST",
        {"ups.alarm": ("BOOST", None), "ups.status": ("ALARM OL BOOST", "OL BOOST")}, SLIP,
    ),
    "trim": Case(
        "P00", lambda ups: ups.machine.set_mains(255), "OL TRIM",
        {"ups.alarm": ("TRIM", None), "ups.status": ("ALARM OL TRIM", "OL TRIM")}, SLIP,
    ),
    "avr": Case(
        "P00", _machine("forced_bypass", True), "ALARM OL BYPASS",
        {"ups.alarm": ("UPS is in AVR Mode.", "AVR is active.")}, "our own words",
    ),
    "bypass": Case("P02", _machine("forced_bypass", True), "OL BYPASS"),
    "eco": Case(
        "P03", _press("PEE"), "OL", {"ups.alarm": ("UPS is in ECO Mode.", None), "ups.status": ("ALARM OL", "OL")}, MODE,
    ),
    "converter": Case(
        "P10", _press("PEV"), "OL",
        {"ups.alarm": ("UPS is in Converter Mode.", None), "ups.status": ("ALARM OL", "OL")}, MODE,
    ),
    "overload": Case("P03", _machine("load_percent", 104), "ALARM OL OVER"),
    "replace battery": Case(
        "P01", _warn(56), "ALARM OL RB",
        {"ups.alarm": ("UPS warnings: Warning for Battery replace. Replace battery!",
                       "Replace battery! UPS warnings: Warning for Battery replace.")}, ORDER,
    ),
    "warned of a low battery": Case("P01", _warn(8), "ALARM OL LB", why=FLAPS),
    "warned of overload": Case("P99", _warn(9), "ALARM OL OVER"),
    "emergency power off": Case("P02", _warn(11), "ALARM OL"),
    "some warnings": Case("P01", _warn(1, 7, 9), "ALARM OL OVER"),
    "warnings of two levels": Case(
        "P01", _warn(1, 55, 62), "ALARM OL",
        {"ups.alarm": ("UPS warnings: Battery disconnected. Programmable outlets cut off pre-alarm. EEPROM operation error.",
                       "UPS warnings: Programmable outlets cut off pre-alarm. Battery disconnected. EEPROM operation error.")},
        ORDER,
    ),
    "all warnings": Case("P02", _warn(*range(1, 65)), "ALARM OL LB OVER RB", why=NUMBER_SIGN),
    "an unknown warning": Case("P01", _warn(59), "ALARM OL", why=NUMBER_SIGN),
    "fault": Case(
        "P02", lambda ups: ups.state.break_down("14"), "ALARM OL",
        {"ups.alarm": ("Fault reported by UPS.",
                       "UPS fault. UPS is in fault mode. Fault 14: Inverter output short-circuited.")}, NO_FAULT,
    ),
    "fault by overload": Case(
        "P02", lambda ups: ups.state.break_down("43"), "ALARM OL OVER",
        {"ups.alarm": ("Fault reported by UPS.", "UPS fault. UPS is in fault mode. Fault 43: Overload."),
         "ups.status": ("ALARM OL", "ALARM OL OVER")}, NO_FAULT,
    ),
    "fault of a P31": Case(
        "P31", lambda ups: ups.state.break_down("07"), "ALARM OL OVER",
        {"ups.alarm": ("Fault reported by UPS.", "UPS fault. UPS is in fault mode. Fault 07: Overload."),
         "ups.status": ("ALARM OL", "ALARM OL OVER")}, NO_FAULT,
    ),
    "shutdown pending": Case("P01", lambda ups: ups.machine.shut_down(600, Returns.NEVER), "ALARM OL FSD"),
    "shut down": Case(
        "P01", lambda ups: ups.machine.shut_down(0, Returns.NEVER), "ALARM OL FSD",
        {"ups.alarm": ("UPS is shutting down! Shutdown imminent!", "Shutdown imminent! UPS is shutting down.")}, ORDER,
    ),
    "standby": Case("P01", lambda ups: ups.machine.switch_off(), "OL OFF"),
    "silenced": Case("P01", _machine("beeper", False)),
    "silenced, no alarm control": Case("P99", _machine("beeper", False)),
    "alarm control off": Case("P02", _press("PDA")),
    "nothing enabled": Case(
        "P01", _press(*(f"PD{letter}" for letter in "PASHC")), "OL", ALL_ENABLED,
        "2.8.0 reads a QFLAG with nothing enabled as all enabled (section 8, decision 5)",
    ),
    "outlets fixed": Case("P03", _press("PDJ")),
    "other settings": Case(
        "P03", _press("HEH250", "HEL210", "FREH53.5", "FREL46.5", "BATN8", "BATGN03", "W0E23", "PSK4999", "PER", "PEG"),
    ),
    "li": Case("P31", _press("PBT00", "PDC")),
}  # fmt: skip


@dataclass(frozen=True)
class Both:
    """What the two sides published of one unit."""

    theirs: Mapping[str, str]
    ours: Mapping[str, str]


@pytest.fixture(scope="module")
def published(incumbent_installed: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Both]:
    """Every case read by both, the incumbent first: a port has one master."""
    return asyncio.run(_read_all(tmp_path_factory.mktemp("farm")))


async def _read_all(folder: Path) -> dict[str, Both]:
    called = {case: f"ups{number}" for number, case in enumerate(CASES)}
    async with Farm(folder, [case.ups(called[label]) for label, case in CASES.items()]) as farm:
        farm.speed = 0
        farm.select("all")  # brings their clocks to where they stop
        for label, case in CASES.items():
            case.prepare(farm.upses[called[label]])  # type: ignore[arg-type]
        settings = {"protocol": "voltronic", "pollinterval": 1, "pollfreq": 1}
        async with Incumbent({name: {"port": farm.link(name), **settings} for name in called.values()}) as incumbent:

            async def theirs(label: str) -> dict[str, str]:
                await _polled(farm, incumbent, called[label])
                return await incumbent.variables(called[label])

            read_by_theirs = await asyncio.gather(*(theirs(label) for label in CASES))
        read_by_ours = [await _ours(farm.link(called[label]), case) for label, case in CASES.items()]
    return {label: Both(*sides) for label, *sides in zip(CASES, read_by_theirs, read_by_ours, strict=True)}  # type: ignore[arg-type]


async def _polled(farm: Farm, incumbent: Incumbent, name: str) -> None:
    """Wait until a unit was asked for its mode, as each full poll does, so many more times."""
    log = farm.logs[name]

    def asked() -> int:
        return sum(request == b"QMOD\r" for _, request in log)

    wanted = asked() + FULL_POLLS
    async with asyncio.timeout(40):
        while asked() < wanted and incumbent.running(name):
            await asyncio.sleep(0.1)
    assert incumbent.running(name), f"{name}: {incumbent.log(name)}"


async def _ours(port: Path, case: Case) -> dict[str, str]:
    if not case.process:
        options = UpsOptions(port.name, str(port), dialect="voltronic")
        return (await probe(options, SerialTransport(str(port)), Clock())).reading.texts()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qxfleet", "probe", str(port), "--json", stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    document = json.loads(said)
    assert document["dialect"] == "voltronic"
    variables: dict[str, str] = document["variables"]
    return variables


def _same(name: str, theirs: str | None, ours: str | None) -> bool:
    if theirs is None or ours is None:
        return theirs is ours
    if name == "ups.status":
        return set(theirs.split()) == set(ours.split())
    try:
        return float(theirs) == float(ours)
    except ValueError:
        return theirs == ours


@pytest.mark.parametrize("label", CASES)
def test_what_both_publish_is_the_same(published: dict[str, Both], label: str) -> None:
    """All that the incumbent says of a unit we say too, and the same; what we say besides it never says."""
    case, both = CASES[label], published[label]
    lost = NOT_COMPARED.get(case.why, frozenset())
    theirs = {name: value for name, value in both.theirs.items() if not name.startswith(ABOUT_THE_PROGRAM) and name not in lost}
    names = (theirs.keys() | (case.expected.keys() & both.ours.keys()) | {"ups.alarm", "ups.status"}) - lost
    different = {
        name: (theirs.get(name), both.ours.get(name))
        for name in sorted(names)
        if not _same(name, theirs.get(name), both.ours.get(name))
    }
    assert different == case.expected, case.why
    assert set(both.ours["ups.status"].split()) == set(case.status.split())


def test_alarms_that_the_incumbent_loses_are_told(published: dict[str, Both]) -> None:
    """Section 6: never cut in the middle, and those left out are counted."""
    assert published["an unknown warning"].ours["ups.alarm"].endswith("#59.")
    everything = published["all warnings"].ours["ups.alarm"]
    assert len(everything) <= 255
    assert re.search(r"\. \(\d+ more: #[\d #-]+\)$", everything)


MEASURED = {
    "input.voltage", "input.frequency", "output.voltage", "output.frequency", "output.current", "ups.load", "ups.temperature",
    "battery.voltage", "battery.charge", "battery.runtime", "battery.packs", "battery.voltage.low", "battery.voltage.nominal",
    "device.mfr", "device.model", "device.type", "ups.firmware", "ups.firmware.aux", "ups.type", "ups.status",
    "ups.beeper.status", "ups.power.nominal", "ups.delay.start", "ups.delay.shutdown", "input.phases", "output.phases",
    "input.voltage.nominal", "input.current.nominal", "input.frequency.nominal", "output.voltage.nominal",
    "output.current.nominal", "output.frequency.nominal", "output.powerfactor", "output.power.minimum.percent",
    "output.power.maximum.percent", "ups.start.auto", "battery.protection", "battery.energysave", "ups.start.battery",
}  # fmt: skip
"""What nearly every unit tells (voltronic.md section 3.3): less than this was no comparison."""


def _phases(lead: str, phases: int, *kinds: str) -> set[str]:
    lines = ["L1-N", "L2-N", "L3-N"][:phases] + (["L1-L2", "L2-L3", "L1-L3"] if phases == 3 else ["L1-L2"])
    found = {f"{lead}.{line}.voltage" for line in lines}
    return found | {f"{lead}.L{phase}.{kind}" for phase in range(1, phases + 1) for kind in kinds}


OUTLETS = {f"outlet.{n}.{what}" for n in range(1, 5) for what in ("switchable", "status", "delay.shutdown")}

MORE: dict[str, set[str]] = {
    "P03": _phases("input", 3, "current") | OUTLETS,
    "P09": _phases("input", 2, "current") | _phases("output", 2, "current", "power.percent")
    | {"output.bypass.L1-N.voltage", "output.bypass.L2-N.voltage"},
    "P10": _phases("input", 3, "current") | _phases("output", 3, "current", "power.percent") | _phases("output.bypass", 3),
    "P31": {"battery.type"},
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["P00", "P01", "P02", "P03", "P09", "P10", "P31", "P99"])
def test_the_comparison_had_enough_to_compare(published: dict[str, Both], protocol: str) -> None:
    theirs = published[protocol].theirs
    assert theirs["driver.version.data"].startswith("Voltronic")
    assert theirs.keys() >= MEASURED | MORE.get(protocol, set())


NOMINAL = {"input.voltage.nominal", "input.frequency.nominal", "output.voltage.nominal", "output.frequency.nominal"}


def test_texts_are_the_same_to_the_letter(published: dict[str, Both]) -> None:
    """But for whole nominal values, of which it prints a zero behind the point, for two decimals where it has one, and for the
    nominal current, which inverters give in tenths."""
    other = {
        name
        for label, both in published.items()
        for name, theirs in both.theirs.items()
        if name in both.ours and theirs != both.ours[name] and name not in CASES[label].expected
        and name != "ups.status"
    }
    assert other == NOMINAL | {"battery.voltage.low", "output.powerfactor", "output.current.nominal"}
