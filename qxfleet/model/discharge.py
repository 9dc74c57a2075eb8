"""A discharge: one time a battery carried the load, as an object with its figures and its curve."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Cause(enum.Enum):
    """Why a battery carried the load. ``unknown``: the UPS said so while its input looked good and no test was announced."""

    MAINS = "mains"
    TEST = "test"
    UNKNOWN = "unknown"


class Method(enum.Enum):
    """How a capacity was found: by a run to low battery, or by how far a partial run's curve is stretched."""

    FULL = "full"
    CURVE = "curve"


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading as far as a discharge needs it; what is not known is None. ``status`` is made of Status flags."""

    at_us: int
    status: int
    battery_v: float | None = None
    load_percent: float | None = None
    charge_percent: float | None = None
    input_v: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """What a discharge says of the battery it drained, in comparison with that battery when it was new.

    ``used_percent``: share of a new battery's charge that was drawn. ``capacity_percent`` with its standard error:
    relative capacity; None where this discharge can't tell. ``index_v``: loaded voltage per cell against the battery's
    own first discharges. ``resistance_ratio``: apparent resistance against the battery's own first.
    """

    used_percent: float | None = None
    capacity_percent: float | None = None
    capacity_error: float | None = None
    method: Method | None = None
    index_v: float | None = None
    resistance_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Discharge:
    """One discharge. ``ended_us`` None: it goes on. Voltages are those of the whole battery; None is "not known".

    ``rested``: it began from a battery that had been on mains long enough to be full. ``low_after_s``: seconds until the
    low-battery flag. ``depth_percent``: fall of the charge as the UPS told or implied it. ``energy_wh``: an estimate from
    load and rating. ``loaded_v`` and ``loaded_percent``: mean voltage and load 50 to 70 s after the transfer.
    ``resistance_ohm``: from two load levels within it, with its standard error. ``gap_s``: the longest silence in it.
    """

    ups: str
    began_us: int
    ended_us: int | None
    cause: Cause
    rested: bool = False
    points: int = 0
    gap_s: float = 0.0
    float_v: float | None = None
    lowest_v: float | None = None
    end_v: float | None = None
    load_percent: float | None = None
    load_low_percent: float | None = None
    load_high_percent: float | None = None
    temperature_c: float | None = None
    depth_percent: float | None = None
    energy_wh: float | None = None
    low_after_s: float | None = None
    loaded_v: float | None = None
    loaded_percent: float | None = None
    resistance_ohm: float | None = None
    resistance_error: float | None = None
    recharge_s: float | None = None
    id: int | None = None
    battery_id: int | None = None
    test_id: int | None = None
    score: Score = Score()

    @property
    def lasted_s(self) -> float | None:
        """Seconds from begin to end; None while it goes on."""
        return None if self.ended_us is None else (self.ended_us - self.began_us) / 1e6
