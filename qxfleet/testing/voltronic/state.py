"""What a simulated voltronic unit is at this moment: its mode, warnings, faults and figures, from machine and settings."""

from __future__ import annotations

import math
import re

from qxfleet.testing.machine import Machine, Source
from qxfleet.testing.voltronic.models import VOLTS_PER_BATTERY, Model
from qxfleet.testing.voltronic.settings import Settings

WARNING_BITS = 64

BATTERY_LOW, OVERLOAD, EPO, OUTLET_CUT_SOON = 8, 9, 11, 55
"""Warnings that follow from the unit's state (voltronic.md section 6)."""

FULL_LOAD_PERCENT = 100.0

CUT_SOON_S = 60.0
"""Programmable outlets are announced to be cut so long before."""


class State:
    """One unit's. :attr:`settings` are kept for the life of the unit, and so are the switches of its :attr:`outlets`.

    :attr:`raised` are warnings on command, 1 to 64, beside those that follow from its state; :attr:`fault_code` is the fault
    it stands in, two characters, empty if none; :attr:`fault_record` what QFS answers.
    """

    def __init__(self, model: Model, machine: Machine) -> None:
        self.model = model
        self.machine = machine
        self.settings = Settings(model)
        self.outlets = [True] * model.outlets
        self.raised: set[int] = set()
        self.fault_code = ""
        self.fault_record = "(OK"
        self.load_seen = (math.inf, 0.0)
        """Least and most load in percent since it was made."""

    # -- played on command -------------------------------------------------------------------------------------------

    def warn(self, bit: int) -> None:
        """Raise the warning of that number (voltronic.md section 6). ``ValueError`` if there is no such bit."""
        if not 1 <= bit <= WARNING_BITS:
            raise ValueError(f"expected a warning bit from 1 to {WARNING_BITS}, not {bit}")
        self.raised.add(bit)

    def break_down(self, code: str) -> None:
        """Stand in the fault of that code (voltronic.md section 7). ``ValueError`` if it is no code."""
        if not re.fullmatch(r"\d[\dABC]", code):
            raise ValueError(f"expected a fault code of two characters, like 43 or 1A, not {code!r}")
        machine = self.machine
        self.fault_code = code
        self.fault_record = (
            f"({code} {machine.input_v:05.1f} {machine.input_hertz:04.1f} {machine.output_v:05.1f} {machine.output_hertz:04.1f} "
            f"{machine.load_now:03.0f} {self.output_amps():05.1f} {self.bus()} ---.- {machine.battery.volts:05.1f} "
            f"{machine.temperature_c:05.1f} 01101100"
        )

    def repair(self) -> None:
        """Stand in no fault any more. The record of the last one stays (voltronic.md section 7)."""
        self.fault_code = ""

    # -- as it is ----------------------------------------------------------------------------------------------------

    def mode(self) -> str:
        """The letter that QMOD answers (voltronic.md section 5.1)."""
        machine = self.machine
        if self.fault_code:
            return "F"
        match machine.source:
            case Source.OFF if machine.returning:
                return "P"
            case Source.OFF:
                return "D" if machine.shutting_down else "S"
            case Source.BATTERY:
                return "T" if machine.testing else "B"
            case Source.BYPASS:
                return "Y"
            case Source.MAINS if machine.follows_input:
                return "E"
            case Source.MAINS:
                return "C" if machine.holds_frequency else "L"

    def warnings(self) -> set[int]:
        """Numbers of all warnings now."""
        machine = self.machine
        follow = {
            BATTERY_LOW: machine.battery_low,
            OVERLOAD: machine.load_now > FULL_LOAD_PERCENT,
            OUTLET_CUT_SOON: any(0 < self.cut_in_s(outlet) <= CUT_SOON_S for outlet in range(self.model.outlets)),
        }
        return self.raised | {bit for bit, holds in follow.items() if holds}

    def beeps(self) -> bool:
        """Whether it has a reason to beep (voltronic.md section 8)."""
        on_account = {"b": "BT", "p": "Y"}
        allowed = self.settings.flags.get("a", True)
        modes = "".join(modes for letter, modes in on_account.items() if self.settings.enabled(letter))
        return allowed and (self.mode() in "F" + modes or bool(self.warnings()))

    def keep_up(self) -> None:
        """Let the machine work as the settings say, and remember what only the unit remembers."""
        machine, settings = self.machine, self.settings
        limits = settings.limits
        machine.restarts = settings.enabled("r")
        machine.holds_frequency = settings.enabled("v")
        machine.follows_input = (
            settings.enabled("e")
            and not self.model.regulates
            and limits["HEL"] <= machine.input_v <= limits["HEH"]
            and limits["FREL"] <= machine.input_hertz <= limits["FREH"]
        )
        if machine.source is not Source.OFF:
            least, most = self.load_seen
            self.load_seen = min(least, machine.load_now), max(most, machine.load_now)

    def string_v(self) -> float:
        """Nominal volts of one string of the batteries it believes to have."""
        return float(self.settings.batteries * VOLTS_PER_BATTERY)

    def bus(self) -> str:
        """Volts of the positive DC bus, dashes where there is none."""
        return "---.-" if self.model.regulates else "369.1"

    def output_amps(self) -> float:
        """Of one phase."""
        ratings = self.machine.ratings
        return ratings.va * self.machine.load_now / 100 / self.model.phases_out / ratings.volts

    def input_amps(self) -> float:
        """Of one phase; nothing is drawn from mains that are missing or unfit."""
        machine = self.machine
        if machine.source not in (Source.MAINS, Source.BYPASS):
            return 0.0
        return machine.ratings.watts * machine.load_now / 100 / self.model.phases_in / machine.input_v

    def cut_in_s(self, outlet: int) -> float:
        """Seconds until a programmable outlet is cut; ``inf``: it won't be, as things stand; 0 or less: it is cut."""
        machine, delay_s = self.machine, 60.0 * self.settings.delays_min[outlet]
        cuts = self.settings.enabled("j") and machine.on_battery and delay_s and machine.source is Source.BATTERY
        return delay_s - machine.battery.discharging_s if cuts else math.inf

    def outlet_on(self, outlet: int) -> bool:
        """Whether a programmable outlet, 0 the first, is on."""
        return self.outlets[outlet] and self.cut_in_s(outlet) > 0
