"""What a voltronic unit of each protocol number is: its name plate, and what it has (voltronic.md sections 2.2, 3.3, 8)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from qxfleet.testing.machine import Ratings

VOLTS_PER_BATTERY = 12


class Family(Enum):
    """Whose limits hold (voltronic.md section 9.1)."""

    A = "A"
    B = "B"
    NONE = "none"
    """None are known: its limits are told and can't be set."""


@dataclass(frozen=True, slots=True)
class Model:
    """One product. ``enabled`` and ``disabled`` are its capability letters as it was made, in the order of its QFLAG.

    ``phases_in`` of ``input_v`` as the name plate has it; ``ratings.va`` over all ``phases_out``. ``outlets`` are
    programmable. ``parallel``: it tells its role beside others. ``long_runtime``: minutes in five digits (section 4.4).
    ``firmware`` stands behind ``VERFW:``, with a blank before it where manuals print one (section 4.2). ``per_cell``: QGS
    tells the volts of a cell (section 4.1). ``answers_q1``: it knows the old status query as well (section 2.4).
    """

    protocol: str
    name: str
    ratings: Ratings
    firmware: str
    enabled: str
    disabled: str
    family: Family
    phases_in: int = 1
    phases_out: int = 1
    input_v: int = 230
    outlets: int = 0
    parallel: bool = False
    long_runtime: bool = False
    per_cell: bool = False
    answers_q1: bool = False
    serial: str = "00000000000000"

    @property
    def regulates(self) -> bool:
        """Whether its bit "bypass, boost or buck" speaks of regulation (voltronic.md section 3.3)."""
        return self.ratings.line_interactive

    @property
    def has_bypass_limits(self) -> bool:
        """QBYV and QBYF (voltronic.md section 3.3)."""
        return self.family is not Family.NONE

    @property
    def has_grid_range(self) -> bool:
        """QBT and QGR (voltronic.md section 3.3)."""
        return self.protocol == "P31"

    @property
    def phased_input(self) -> bool:
        """Q3PV and Q3PC (voltronic.md section 3.3)."""
        return self.phases_in > 1

    @property
    def phased_output(self) -> bool:
        """Q3OV, Q3OC, Q3LD and Q3YV (voltronic.md section 3.3)."""
        return self.phases_out > 1

    @property
    def amps(self) -> int:
        """Rated current of one output phase, as QRI tells it: whole amperes."""
        return int(self.ratings.va / self.phases_out / self.ratings.volts)

    @property
    def batteries(self) -> int:
        """Batteries in one string."""
        return round(self.ratings.battery_v / VOLTS_PER_BATTERY)


def _online(va: float, battery_v: float, *, volts: float = 230, hertz: float = 50, ah: float = 9) -> Ratings:
    return Ratings(
        volts=volts, hertz=hertz, va=va, watts=0.8 * va, battery_v=battery_v, battery_ah=ah, line_interactive=False
    )


MODELS: tuple[Model, ...] = (
    Model("P01", "OLHVT1K0", _online(1000, 24), "00322.02", "pashc", "broegflj", Family.A, outlets=2, answers_q1=True,
          serial="12345679012345"),
    Model("P03", "XL10K31", _online(10000, 240), "01210.05", "pbrascj", "ovegdflnqw", Family.B,
          phases_in=3, input_v=400, outlets=4, parallel=True, serial="99031304101122"),
    Model("P31", "GT3K", _online(3000, 72), "00408.11", "pbrasc", "ovegdf", Family.NONE, serial="83310906100007"),
    Model("P10", "XL20K33", _online(20000, 240, ah=18), "01210.33", "pbrasc", "ovegdflnqw", Family.B,
          phases_in=3, phases_out=3, input_v=400, parallel=True, serial="99101304100410"),
    Model("P00", "LI1000", Ratings(va=1000, watts=600, battery_v=24, battery_ah=7), "00011.04", "brac", "sgd", Family.NONE),
    Model("P09", "XL6K22", _online(6000, 192, volts=120, hertz=60), "01106.01", "pbrasc", "ovegdflnqw", Family.A,
          phases_in=2, phases_out=2, input_v=120, outlets=1, parallel=True, serial="99091211100902"),
    Model("P02", "XL6K", _online(6000, 192), " 00123.01", "pbras", "ovegdcfjlnqw", Family.B, outlets=3, parallel=True,
          serial="99021107100619"),
    Model("P99", "OL3K-LV", _online(3000, 72, volts=120, hertz=60), "01213.00", "pbrshclnz", "ovegfjm", Family.B,
          input_v=120, outlets=2, long_runtime=True),
    Model("P08", "LI2000E", Ratings(va=2000, watts=1200, battery_v=48, battery_ah=7), "00011.08", "brae", "sgdc",
          Family.NONE, answers_q1=True),
    Model("P13", "XL10K", _online(10000, 240), "01301.02", "pbrasc", "ovegdflnw", Family.B, parallel=True,
          per_cell=True, serial="99131502100033"),
    Model("P14", "XL6K-S", _online(6000, 240), "01401.00", "pbrasce", "ovgdfln", Family.B, parallel=True,
          serial="99141502100034"),
)  # fmt: skip
"""One of every protocol number this dialect claims; products of nobody."""


def model(protocol: str) -> Model:
    """The product of that protocol number, ``P01``. ``LookupError`` if there is none."""
    for each in MODELS:
        if each.protocol == protocol:
            return each
    raise LookupError(f"no voltronic unit says {protocol!r}; expected one of {', '.join(sorted(m.protocol for m in MODELS))}")
