"""What the device keeps and can be told to keep: queries, limits, requests (voltronic.md sections 4.6, 9 and 10)."""

from __future__ import annotations

from qxfleet.dialects.columns import code, columns, number, protocols, told
from qxfleet.dialects.spec import Convert, DeviceSetting, Field, Holds, Limit, Query, Span, Tier, Topic
from qxfleet.dialects.voltronic.capabilities import RESET, SWITCHES
from qxfleet.dialects.voltronic.measures import QBV

GROUP_A = protocols("P01", "P09")
GROUP_B = protocols("P02", "P03", "P10", "P13", "P14", "P99")
GROUP_B_BUT_P99 = protocols("P02", "P03", "P10", "P13", "P14")
WITH_BYPASS_LIMITS = protocols("P01", "P02", "P03", "P09", "P10", "P13", "P14", "P99")
P01, P09, P31, P99 = protocols("P01"), protocols("P09"), protocols("P31"), protocols("P99")
OUTLETS = (1, 2, 3, 4)

_SECTION = "voltronic.md section 4.6"


def _pair(command: bytes, high: str, low: str, cut: int, frame: bytes, values: tuple[float, float], when: Holds) -> Query:
    """Two numbers, ``cut`` the column of the blank between them."""
    decimals = "05.1f" if cut == 6 else "04.1f" if cut == 5 else "03d"
    return Query(
        command,
        (columns(2 * cut - 1 + (cut == 4), number(high, 1, cut - 1), number(low, cut + 1, 2 * cut - 1), blanks=(cut,),
                 render=f"(%({high}){decimals} %({low}){decimals}"),),
        Tier.AFTER_ORDER, Topic.DEVICE,
        (told(frame, {high: values[0], low: values[1]}, _SECTION),),
        _SECTION, when=((when,),),
    )  # fmt: skip


QHE = _pair(b"QHE\r", "input.transfer.high", "input.transfer.low", 4, b"(242 218", (242.0, 218.0), Holds("eco_mode"))
QFRE = _pair(b"QFRE\r", "input.frequency.high", "input.frequency.low", 5, b"(53.0 47.0", (53.0, 47.0), Holds("eco_mode"))
QBYV = _pair(b"QBYV\r", "max_bypass_volt", "min_bypass_volt", 4, b"(264 170", (264.0, 170.0), WITH_BYPASS_LIMITS)
QBYF = _pair(b"QBYF\r", "max_bypass_freq", "min_bypass_freq", 5, b"(53.0 47.0", (53.0, 47.0), WITH_BYPASS_LIMITS)

QSK: tuple[Query, ...] = tuple(
    Query(
        b"QSK%d\r" % n,
        (
            columns(
                2,
                Field(f"outlet.{n}.switchable", Span(1, 2), Convert.BIT, choices=("yes", "yes")),
                Field(f"outlet.{n}.status", Span(1, 2), Convert.BIT, choices=("off", "on")),
                render=f"(%(outlet.{n}.bit)s",
            ),
        ),
        Tier.FULL | Tier.AFTER_ORDER, Topic.DEVICE,
        (told(b"(1", {f"outlet.{n}.switchable": "yes", f"outlet.{n}.status": "on"}, _SECTION),),
        _SECTION, when=((Holds("outlet.0.switchable", ("yes",)),),),
    )
    for n in OUTLETS
)  # fmt: skip

QSKT: tuple[Query, ...] = tuple(
    Query(
        b"QSKT%d\r" % n,
        (columns(4, number(f"outlet.{n}.delay.shutdown", 1, 3, 60), render=f"(%(outlet.{n}.minutes)03d"),),
        Tier.AFTER_ORDER, Topic.DEVICE,
        (told(b"(008", {f"outlet.{n}.delay.shutdown": 480.0}, _SECTION),),
        _SECTION, when=((Holds(f"outlet.{n}.switchable", ("yes",)),),),
    )
    for n in OUTLETS
)  # fmt: skip

BATTERY_TYPES = ("Li", "Flooded", "AGM")
WORK_RANGES = ("Appliance", "UPS")
ANGLES = ("000", "120", "180", "240")


def _listed(command: bytes, name: str, words: tuple[str, ...]) -> Query:
    listed = {f"_0{index}": word for index, word in enumerate(words)}
    return Query(
        command, (columns(3, code(name, 1, 2, **listed), render=f"(%({name})s"),), Tier.AFTER_ORDER, Topic.DEVICE,
        (told(b"(01", {name: words[1]}, _SECTION),), _SECTION, when=((P31,),),
    )  # fmt: skip


QBT = _listed(b"QBT\r", "battery.type", BATTERY_TYPES)
QGR = _listed(b"QGR\r", "work_range_type", WORK_RANGES)

RE0 = Query(
    b"RE0\r",
    (columns(3, number("battery.voltage.low", 1, 2), lead=b"#", render="#%(battery.voltage.low)02d"),),
    Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b"#20", {"battery.voltage.low": 20.0}, _SECTION),), _SECTION,
)  # fmt: skip

QPD = Query(
    b"QPD\r",
    (
        columns(
            8, code("input_phase_angle", 1, 3), code("output_phase_angle", 5, 7), blanks=(4,),
            render="(%(input_phase_angle)s %(output_phase_angle)s",
        ),
    ),
    Tier.AFTER_ORDER, Topic.DEVICE,
    (told(b"(000 120", {"input_phase_angle": "000", "output_phase_angle": "120"}, _SECTION),), _SECTION,
)  # fmt: skip

QUERIES: tuple[Query, ...] = (
    *QSK, *QSKT, QHE, QFRE, QBYV, QBYF, QBT, QGR, RE0, QPD,
)  # fmt: skip


def _volts_of(base: str, low: float, high: float, *, wide: bool, when: Holds) -> Limit:
    """Section 9.1: distances from the nominal voltage, for mains of 200 V and more, or less."""
    at_least, below = (200.0, float("inf")) if wide else (0.0, 200.0)
    return Limit(low, high, base, (base,), at_least, below, (when,))


def _volts(low: float, high: float, *, wide: bool, when: Holds) -> Limit:
    """Section 9.1: bounds in volts, chosen by the nominal input voltage."""
    at_least, below = (200.0, float("inf")) if wide else (0.0, 200.0)
    return Limit(low, high, "", ("input.voltage.nominal",), at_least, below, (when,))


def _hertz(low: float, high: float, nominal: int, when: Holds) -> Limit:
    """Section 9.1: bounds in hertz, chosen by the nominal output frequency."""
    return Limit(low, high, "", ("output.frequency.nominal",), nominal, nominal + 1, (when,))


_ECO_V = "output.voltage.nominal"
_LIMITS_UNKNOWN = "its limits follow from the nominal output voltage (QRI or QMD), which the device has not told"
_ESTIMATES = "changes the charge and the runtime that the unit itself estimates"

ECO: tuple[DeviceSetting, ...] = (
    DeviceSetting(
        "input.transfer.high", "highest input voltage for ECO mode", QHE.command, wire="HEH%03d\r", when=(Holds("eco_mode"),),
        limits=(
            _volts_of(_ECO_V, 7, 24, wide=True, when=GROUP_A), _volts_of(_ECO_V, 3, 12, wide=False, when=GROUP_A),
            _volts_of(_ECO_V, 11, 24, wide=True, when=GROUP_B), _volts_of(_ECO_V, 5, 12, wide=False, when=GROUP_B),
        ),
        above="input.transfer.low", shows_limits=True, source="voltronic.md section 9",
    ),
    DeviceSetting(
        "input.transfer.low", "lowest input voltage for ECO mode", QHE.command, wire="HEL%03d\r", when=(Holds("eco_mode"),),
        limits=(
            _volts_of(_ECO_V, -24, -7, wide=True, when=GROUP_A), _volts_of(_ECO_V, -12, -3, wide=False, when=GROUP_A),
            _volts_of(_ECO_V, -24, -11, wide=True, when=GROUP_B), _volts_of(_ECO_V, -12, -5, wide=False, when=GROUP_B),
        ),
        below="input.transfer.high", shows_limits=True, source="voltronic.md section 9",
    ),
    DeviceSetting(
        "input.frequency.high", "highest input frequency for ECO mode", QFRE.command, wire="FREH%04.1f\r", step=0.1,
        when=(Holds("eco_mode"),),
        limits=(
            _hertz(53, 60, 50, GROUP_A), _hertz(63, 70, 60, GROUP_A), _hertz(52, 54, 50, GROUP_B), _hertz(62, 64, 60, GROUP_B),
        ),
        above="input.frequency.low", source="voltronic.md section 9",
    ),
    DeviceSetting(
        "input.frequency.low", "lowest input frequency for ECO mode", QFRE.command, wire="FREL%04.1f\r", step=0.1,
        when=(Holds("eco_mode"),),
        limits=(
            _hertz(40, 47, 50, GROUP_A), _hertz(50, 57, 60, GROUP_A), _hertz(46, 48, 50, GROUP_B), _hertz(56, 58, 60, GROUP_B),
        ),
        below="input.frequency.high", source="voltronic.md section 9",
    ),
)  # fmt: skip

BYPASS: tuple[DeviceSetting, ...] = (
    DeviceSetting(
        "max_bypass_volt", "highest voltage for bypass mode", QBYV.command, wire="PHV%03d\r",
        limits=(
            _volts(230, 264, wide=True, when=P01), _volts(120, 140, wide=False, when=P01), Limit(60, 140, when=(P09,)),
            _volts(231, 276, wide=True, when=GROUP_B_BUT_P99), _volts(115, 138, wide=False, when=GROUP_B_BUT_P99),
            _volts(231, 261, wide=True, when=P99), _volts(115, 132, wide=False, when=P99),
        ),
        above="min_bypass_volt", source="voltronic.md section 10",
    ),
    DeviceSetting(
        "min_bypass_volt", "lowest voltage for bypass mode", QBYV.command, wire="PLV%03d\r",
        limits=(
            _volts(170, 220, wide=True, when=P01), _volts(85, 115, wide=False, when=P01), Limit(60, 140, when=(P09,)),
            _volts(110, 209, wide=True, when=GROUP_B_BUT_P99), _volts(55, 104, wide=False, when=GROUP_B_BUT_P99),
            _volts(149, 209, wide=True, when=P99), _volts(50, 85, wide=False, when=P99),
        ),
        below="max_bypass_volt", source="voltronic.md section 10",
    ),
    DeviceSetting(
        "max_bypass_freq", "highest frequency for bypass mode", QBYF.command, wire="PGF%04.1f\r", step=0.1,
        limits=(
            _hertz(51, 60, 50, GROUP_A), _hertz(61, 70, 60, GROUP_A), _hertz(51, 54, 50, GROUP_B), _hertz(61, 64, 60, GROUP_B),
        ),
        above="min_bypass_freq", source="voltronic.md section 10",
    ),
    DeviceSetting(
        "min_bypass_freq", "lowest frequency for bypass mode", QBYF.command, wire="PSF%04.1f\r", step=0.1,
        limits=(
            _hertz(40, 49, 50, GROUP_A), _hertz(50, 59, 60, GROUP_A), _hertz(46, 49, 50, GROUP_B), _hertz(56, 59, 60, GROUP_B),
        ),
        below="max_bypass_freq", source="voltronic.md section 10",
    ),
)  # fmt: skip

_POWER = ("output.voltage.nominal", "output.current.nominal")

BATTERY: tuple[DeviceSetting, ...] = (
    DeviceSetting(
        "battery.packs", "battery packs in parallel", QBV.command, wire="BATGN%02d\r", limits=(Limit(1, 99),),
        upsets=_ESTIMATES, source="voltronic.md section 9",
    ),
    DeviceSetting(
        "battery.number", "batteries that make a pack", QBV.command, wire="BATN%d\r", limits=(Limit(1, 9),),
        option="battery_number", upsets=f"{_ESTIMATES}, and battery.voltage.nominal", source="voltronic.md section 10",
    ),
    DeviceSetting(
        "battery.voltage.low", "battery voltage at which the UPS switches off", RE0.command, wire="W0E%02d\r",
        limits=(Limit(20, 24, gauge=_POWER, below=1000), Limit(20, 28, gauge=_POWER, at_least=1000)),
        upsets=_ESTIMATES, source="voltronic.md section 9",
    ),
    DeviceSetting(
        "battery.type", "battery chemistry", QBT.command,
        choices=tuple((word, b"PBT%02d\r" % index) for index, word in enumerate(BATTERY_TYPES)), when=(P31,),
        source="voltronic.md section 9",
    ),
)  # fmt: skip

OUTLET_DELAYS: tuple[DeviceSetting, ...] = tuple(
    DeviceSetting(
        f"outlet.{n}.delay.shutdown", f"time on battery until outlet {n} is cut, whole minutes", b"QSKT%d\r" % n,
        wire=f"PSK{n}%03d\r", limits=(Limit(0, 59940),), unit=60, step=60, cuts=True,
        when=(Holds(f"outlet.{n}.delay.shutdown"),), source="voltronic.md section 9",
    )
    for n in OUTLETS
)  # fmt: skip

OTHERS: tuple[DeviceSetting, ...] = (
    DeviceSetting(
        "output_phase_angle", "output phase angle, degrees", QPD.command,
        choices=tuple((angle, f"PPD{angle}\r".encode()) for angle in ANGLES), source="voltronic.md section 10",
    ),
    DeviceSetting(
        "work_range_type", "grid working range", QGR.command,
        choices=tuple((word, b"PGR%02d\r" % index) for index, word in enumerate(WORK_RANGES)), when=(P31,),
        source="voltronic.md section 10",
    ),
)  # fmt: skip

SETTINGS: tuple[DeviceSetting, ...] = (RESET, *SWITCHES, *BATTERY, *OUTLET_DELAYS, *ECO, *BYPASS, *OTHERS)
"""In the order they are applied at contact: the reset first, because it undoes the others."""
