"""What a simulated voltronic unit says of itself, reply by reply (voltronic.md section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from qxfleet.testing.machine import IDLE_FRACTION
from qxfleet.testing.voltronic.models import VOLTS_PER_BATTERY
from qxfleet.testing.voltronic.state import WARNING_BITS, State

REFUSED = "(NAK"

IMBALANCE = (1.0, 1.004, 0.997)
LOAD_IMBALANCE = (1.0, 1.25, 0.75)
"""Each phase's share of the mean voltage and load, so that phases can be told apart."""

Said = Callable[[], str]


def queries(state: State, maker: str, bits: Callable[[], str]) -> dict[str, Said]:
    """Every query the unit knows and its reply, without CR (voltronic.md section 3.3). ``bits`` are those of its status."""
    model, settings, machine, ratings = state.model, state.settings, state.machine, state.machine.ratings
    known: dict[str, Said] = {
        "QPI": lambda: f"(PI{model.protocol[1:]}",
        "QGS": lambda: _status(state, bits()),
        "QRI": lambda: f"({ratings.volts:05.1f} {model.amps:03d} {state.string_v():05.1f} {ratings.hertz:04.1f}",
        "QMD": lambda: _name_plate(state),
        "F": lambda: f"#{model.input_v:05.1f} {model.amps:03d} {state.string_v():05.1f} {ratings.hertz:04.1f}",
        "QMF": lambda: f"({maker:#>10}",
        "QVFW": lambda: f"(VERFW:{model.firmware}",
        "QID": lambda: f"({model.serial}",
        "I": lambda: f"#{maker:15.15} {model.name:10.10} {model.firmware.strip():10.10}",
        "QMOD": lambda: f"({state.mode()}",
        "QFS": lambda: state.fault_record,
        "QWS": lambda: _warnings(state),
        "QBV": lambda: _battery(state),
        "QLDL": lambda: _load_seen(state),
        "QFLAG": lambda: _flags(state),
        "RE0": lambda: f"#{settings.battery_low_v:02d}",
    }
    if not model.regulates:
        known["QPD"] = lambda: f"(000 {settings.output_angle:03d}"
        known["QPAR"] = lambda: "(001"
    if "e" in settings.flags:
        known["QHE"] = lambda: "({HEH:03.0f} {HEL:03.0f}".format_map(settings.limits)
        known["QFRE"] = lambda: "({FREH:04.1f} {FREL:04.1f}".format_map(settings.limits)
    if model.has_bypass_limits:
        known["QBYV"] = lambda: "({PHV:03.0f} {PLV:03.0f}".format_map(settings.limits)
        known["QBYF"] = lambda: "({PGF:04.1f} {PSF:04.1f}".format_map(settings.limits)
    if model.has_grid_range:
        known["QBT"] = lambda: f"({settings.battery_type:02d}"
        known["QGR"] = lambda: f"({settings.grid_range:02d}"
    if model.phased_input:
        known["Q3PV"] = lambda: _phase_volts(machine.input_v, model.phases_in)
        known["Q3PC"] = lambda: _per_phase(state.input_amps(), model.phases_in)
    if model.phased_output:
        known["Q3OV"] = lambda: _phase_volts(machine.output_v, model.phases_out)
        known["Q3OC"] = lambda: _per_phase(state.output_amps(), model.phases_out)
        known["Q3LD"] = lambda: _per_phase(machine.load_now, model.phases_out)
        known["Q3YV"] = lambda: _bypass_volts(machine.input_v, model.phases_out)
    if model.answers_q1:
        known["Q1"] = lambda: _old_status(state, bits())
    for outlet in range(model.outlets):
        known[f"QSK{outlet + 1}"] = partial(_outlet, state, outlet)
        known[f"QSKT{outlet + 1}"] = partial(_delay, state, outlet)
    return known


def _status(state: State, bits: str) -> str:
    machine, battery = state.machine, state.machine.battery
    volts = f"{battery.cell_v:05.2f}" if state.model.per_cell else f"{battery.volts:05.1f}"
    return (
        f"({machine.input_v:05.1f} {machine.input_hertz:04.1f} {machine.output_v:05.1f} {machine.output_hertz:04.1f} "
        f"{state.output_amps():05.1f} {machine.load_now:03.0f} {state.bus()} ---.- {volts} ---.- "
        f"{machine.temperature_c:05.1f} {bits}"
    )


def _old_status(state: State, bits: str) -> str:
    """As Q1 tells it (megatec-family.md section 4)."""
    machine = state.machine
    return (
        f"({machine.input_v:05.1f} {machine.read_fault_v():05.1f} {machine.output_v:05.1f} {machine.load_now:03.0f} "
        f"{machine.hertz:04.1f} {machine.battery.cell_v:.2f} {machine.temperature_c:04.1f} {bits[2:6]}{bits[1]}{bits[7:9]}1"
    )


def _name_plate(state: State) -> str:
    model, ratings = state.model, state.machine.ratings
    factor = 100 * ratings.watts / ratings.va
    return (
        f"({model.name:#>15} {ratings.va:#>7.0f} {factor:02.0f} {model.phases_in}/{model.phases_out} {model.input_v:03d} "
        f"{ratings.volts:03.0f} {state.settings.batteries:02d} {VOLTS_PER_BATTERY:04.1f}"
    )


def _warnings(state: State) -> str:
    warnings = state.warnings()
    return "(" + "".join("1" if bit in warnings else "0" for bit in range(1, WARNING_BITS + 1))


def _battery(state: State) -> str:
    """Minutes left as the unit thinks, from the batteries it believes to have (voltronic.md section 13)."""
    model, settings, machine = state.model, state.settings, state.machine
    believed = settings.batteries * settings.packs / (model.batteries * machine.ratings.battery_strings)
    watts = machine.ratings.watts * (machine.load_now / 100 + IDLE_FRACTION)
    width = 5 if model.long_runtime else 3
    minutes = min(int(machine.battery.runtime_s(watts) * believed / 60), 10**width - 1)
    charge = f"{int(100 * machine.battery.charge):03d}"
    return f"({machine.battery.volts:05.1f} {settings.batteries:02d} {settings.packs:02d} {charge} {minutes:0{width}d}"


def _load_seen(state: State) -> str:
    least, most = state.load_seen
    return f"({min(least, most):03.0f} {most:03.0f}"


def _flags(state: State) -> str:
    flags = state.settings.flags
    enabled, disabled = ("".join(letter for letter, on in flags.items() if on is wanted) for wanted in (True, False))
    return f"(E{enabled}D{disabled}"


def _phase_volts(volts: float, phases: int) -> str:
    """Each phase to neutral, then L1-L2, L2-L3, L1-L3; dashes for a phase it has not (voltronic.md section 4.5)."""
    each = [volts * share for share in IMBALANCE[:phases]]
    angle = math.radians(180 if phases == 2 else 120)
    pairs = [(one, other) for one, other in ((0, 1), (1, 2), (0, 2)) if other < phases]
    between = [math.sqrt(each[a] ** 2 + each[b] ** 2 - 2 * each[a] * each[b] * math.cos(angle)) for a, b in pairs]
    return "(" + " ".join([*_fields(each, "05.1f", "---.-"), *_fields(between, "05.1f", "---.-")])


def _per_phase(mean: float, phases: int) -> str:
    return "(" + " ".join(_fields([mean * share for share in LOAD_IMBALANCE[:phases]], "03.0f", "---"))


def _bypass_volts(volts: float, phases: int) -> str:
    """A unit of two phases stops behind the phases (voltronic.md section 4.5)."""
    text = _phase_volts(volts, phases)
    return text if phases == len(IMBALANCE) else text[: len("(229.1 229.2 229.3")]


def _fields(values: list[float], form: str, absent: str) -> list[str]:
    return [f"{value:{form}}" for value in values] + [absent] * (len(IMBALANCE) - len(values))


def _outlet(state: State, outlet: int) -> str:
    return f"({state.outlet_on(outlet):d}" if state.settings.enabled("j") else REFUSED


def _delay(state: State, outlet: int) -> str:
    return f"({state.settings.delays_min[outlet]:03d}" if state.settings.enabled("j") else REFUSED
