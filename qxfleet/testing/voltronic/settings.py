"""What a voltronic unit can be told and keeps: capability letters, limits, batteries, outlets (voltronic.md sections 8 to 10)."""

from __future__ import annotations

import re

from qxfleet.testing.voltronic.models import Family, Model

Bounds = tuple[float, float]

ANGLES = (0, 120, 180, 240)

LONGEST_DELAY_MIN = 999


class Settings:
    """The settings of one unit; :meth:`apply` takes an order as it stands on the wire, without CR.

    ``flags`` is letter → enabled, in the order in which QFLAG tells them. ``limits`` is the order's lead → value in V or Hz,
    ``bounds`` what the unit accepts there; a lead it has no bounds for is refused. ``delays_min`` is per outlet.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self.flags: dict[str, bool] = {}
        self.limits: dict[str, float] = {}
        self.bounds = bounds(model)
        self.batteries, self.packs = model.batteries, model.ratings.battery_strings
        self.battery_low_v = 20
        self.battery_type = 2
        self.grid_range = 1
        self.output_angle = {1: 0, 2: 180, 3: 120}[model.phases_out]
        self.delays_min = [8 + 4 * outlet for outlet in range(model.outlets)]
        self.reset()

    def reset(self) -> None:
        """Every capability and its limits as the unit was made (voltronic.md section 10)."""
        model = self._model
        self.flags = dict.fromkeys(model.enabled, True) | dict.fromkeys(model.disabled, False)
        volts, hertz = model.ratings.volts, model.ratings.hertz
        margin = 12 if volts >= 200 else 10
        widest, lowest = {("P99", False): (130, 85), ("P99", True): (255, 170)}.get(
            (model.protocol, volts >= 200), (264, 170) if volts >= 200 else (130, 85)
        )
        self.limits = {
            "HEH": volts + margin, "HEL": volts - margin, "FREH": hertz + 3, "FREL": hertz - 3,
            "PHV": widest, "PLV": lowest, "PGF": hertz + 3, "PSF": hertz - 3,
        }  # fmt: skip

    def enabled(self, letter: str) -> bool:
        """Whether the unit has this capability, and has it switched on."""
        return self.flags.get(letter, False)

    def apply(self, order: str, *, standby: bool) -> bool | None:
        """Do as ordered: True if done, False if refused, None if this is no order about settings.

        ``standby``: the unit is in standby mode, the only one in which it forgets what it was set to.
        """
        for pattern, act in self._ACTS:
            if match := re.fullmatch(pattern, order):
                return act(self, *match.groups())
        if order == "PF":
            if standby:
                self.reset()
            return standby
        return None

    # -- one kind of order each: False if refused --------------------------------------------------------------------

    def _switch(self, state: str, letter: str) -> bool:
        if letter.lower() not in self.flags:
            return False
        self.flags[letter.lower()] = state == "E"
        return True

    def _limit(self, lead: str, digits: str) -> bool:
        low, high = self.bounds.get(lead, (1, 0))
        if not low <= float(digits) <= high:
            return False
        self.limits[lead] = float(digits)
        return True

    def _set_batteries(self, digit: str) -> bool:
        self.batteries = int(digit) or self.batteries
        return digit != "0"

    def _set_packs(self, digits: str) -> bool:
        self.packs = int(digits) or self.packs
        return digits != "00"

    def _set_battery_low(self, digits: str) -> bool:
        low, high = self.bounds["W0E"]
        if not low <= int(digits) <= high:
            return False
        self.battery_low_v = int(digits)
        return True

    def _set_delay(self, outlet: str, minutes: str) -> bool:
        if not self.enabled("j") or not 1 <= int(outlet) <= len(self.delays_min):
            return False
        self.delays_min[int(outlet) - 1] = int(minutes)
        return True

    def _set_battery_type(self, digits: str) -> bool:
        if not self._model.has_grid_range or int(digits) > 2:
            return False
        self.battery_type = int(digits)
        return True

    def _set_grid_range(self, digits: str) -> bool:
        if not self._model.has_grid_range or int(digits) > 1:
            return False
        self.grid_range = int(digits)
        return True

    def _set_angle(self, digits: str) -> bool:
        if int(digits) not in ANGLES or self._model.regulates:
            return False
        self.output_angle = int(digits)
        return True

    _ACTS = (
        (r"P([ED])([A-Z])", _switch),
        (r"(HEH|HEL|PHV|PLV)(\d{3})", _limit),
        (r"(FREH|FREL|PGF|PSF)(\d\d\.\d)", _limit),
        (r"BATN(\d)", _set_batteries),
        (r"BATGN(\d\d)", _set_packs),
        (r"W0E(\d\d)", _set_battery_low),
        (r"PSK(\d)(\d{3})", _set_delay),
        (r"PBT(\d\d)", _set_battery_type),
        (r"PGR(\d\d)", _set_grid_range),
        (r"PPD(\d{3})", _set_angle),
    )


def bounds(model: Model) -> dict[str, Bounds]:
    """The order's lead → lowest and highest value the unit takes (voltronic.md sections 9 and 9.1)."""
    ratings = model.ratings
    small = int(ratings.volts) * model.amps < 1000
    found: dict[str, Bounds] = {"W0E": (20, 24) if small else (20, 28)}
    if model.family is Family.NONE:
        return found
    volts, hertz, high_line = ratings.volts, ratings.hertz, model.input_v >= 200
    if model.family is Family.A:
        near, far = (7, 24) if volts >= 200 else (3, 12)
        found |= {"FREH": (hertz + 3, hertz + 10), "FREL": (hertz - 10, hertz - 3)}
        found |= {"PGF": (hertz + 1, hertz + 10), "PSF": (hertz - 10, hertz - 1)}
    else:
        near, far = (11, 24) if volts >= 200 else (5, 12)
        found |= {"FREH": (hertz + 2, hertz + 4), "FREL": (hertz - 4, hertz - 2)}
        found |= {"PGF": (hertz + 1, hertz + 4), "PSF": (hertz - 4, hertz - 1)}
    found |= {"HEH": (volts + near, volts + far), "HEL": (volts - far, volts - near)}
    match model.protocol:
        case "P09":
            found |= {"PHV": (60, 140), "PLV": (60, 140)}
        case "P01":
            found |= {"PHV": (230, 264), "PLV": (170, 220)} if high_line else {"PHV": (120, 140), "PLV": (85, 115)}
        case "P99":
            found |= {"PHV": (231, 261), "PLV": (149, 209)} if high_line else {"PHV": (115, 132), "PLV": (50, 85)}
        case _:
            found |= {"PHV": (231, 276), "PLV": (110, 209)} if high_line else {"PHV": (115, 138), "PLV": (55, 104)}
    return found
