"""What is known of a battery without measuring: what somebody wrote down about it, and about the unit it is in."""

from __future__ import annotations

from dataclasses import dataclass

LEAD_ACID = "lead-acid"
YEAR_S = 365.25 * 86400.0


@dataclass(frozen=True, slots=True)
class BatteryFacts:
    """Facts from the configuration, the register and the name plate; None is "not known".

    ``runtimes`` are (load in percent, seconds to the low-battery flag) of a new battery. ``assumed_load_percent`` stands in
    for a load reading that is frozen. ``sensor_offset_c`` is added to the temperature told. An ``ageing_doubles_k`` rise makes
    the battery age twice as fast. Sources of the defaults: landscape sections 5.2 and 5.5.
    """

    type: str = ""
    chemistry: str = LEAD_ACID
    cells: int | None = None
    capacity_ah: float | None = None
    made_us: int | None = None
    installed_us: int | None = None
    design_life_years: float = 5.0
    runtimes: tuple[tuple[float, float], ...] = ()
    assumed_load_percent: float | None = None
    sensor_offset_c: float = 0.0
    ageing_doubles_k: float = 9.0
    learned_runtime: bool = True
    rated_w: float | None = None
    efficiency: float = 0.85
    idle_w: float = 10.0

    @property
    def lead(self) -> bool:
        """Whether the methods that read a voltage apply at all."""
        return self.chemistry == LEAD_ACID
