"""Battery tests as nouns: what is asked for, under which rules, and how one ended."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

Kind = Literal["quick", "deep", "timed"]

QUICK_S = 10.0
"""Length of the quick test; the device's own (megatec-family.md section 10.5)."""

GRACE_S = 50.0
"""What a device may take longer than it was asked to, before it is told to stop."""

LEAST_PLACES = 4
"""A wave has so many places at least, where nobody said how many; feeds of one load take turns whatever the number."""


class Verdict(enum.Enum):
    """How a battery test ended. ``no-effect``: the UPS took the order, and its battery never carried the load."""

    PASSED = "passed"
    FAILED = "failed"
    ABORTED = "aborted"
    NO_EFFECT = "no-effect"
    INCONCLUSIVE = "inconclusive"


RESULT_TEXTS: Mapping[Verdict, str] = {
    Verdict.PASSED: "Done and passed", Verdict.FAILED: "Done and error", Verdict.ABORTED: "Aborted",
    Verdict.NO_EFFECT: "No effect", Verdict.INCONCLUSIVE: "Inconclusive",
}  # fmt: skip
"""``ups.test.result``; the first three as NUT's drivers for other families word them, so that monitoring recognises them."""

IN_PROGRESS = "In progress"


@dataclass(frozen=True, slots=True)
class Asked:
    """A battery test as somebody wants it: ``timed`` for ``for_s``; ``deep`` until low, or until ``depth_percent`` of the
    battery's charge is taken out."""

    kind: Kind
    for_s: float | None = None
    depth_percent: int | None = None

    def __str__(self) -> str:
        if self.kind == "timed" and self.for_s is not None:
            return f"test of {self.for_s / 60:g} min" if self.for_s >= 60 else f"test of {self.for_s:g} s"
        if self.depth_percent is not None:
            return f"test to {self.depth_percent} % depth"
        return f"{self.kind} test"


@dataclass(frozen=True, slots=True)
class Rules:
    """What must hold for a test to begin, how many may run, and what ends one. Zero or False switches a rule off.

    ``max_parallel`` 0: a tenth of the wave, see :meth:`places`.
    """

    mains_stable_s: float = 600.0
    charged_s: float = 7200.0
    charge_percent: float = 99.0
    load_steady_s: float = 300.0
    load_change_percent: float = 10.0
    load_least_percent: float = 0.0
    no_alarm: bool = True
    partner_healthy: bool = True
    no_maintenance: bool = True
    runtime_factor: float = 1.5
    runtime_known: bool = False
    again_after_failure: bool = False
    max_parallel: int = 0
    max_watts: float = 0.0
    recharge_s: float = 600.0
    on_failure: Literal["group", "wave"] = "group"
    warning_cell_v: float = 1.75
    longest_s: float = 3600.0

    def places(self, upses: int) -> int:
        """How many UPSes of a wave of so many are under test or recharging at the same time."""
        return self.max_parallel or max(LEAST_PLACES, math.ceil(upses / 10))

    def as_json(self) -> dict[str, Any]:
        """For the record of a wave."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Self:
        """The rules of a recorded wave; what a later version added has its default."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


QUICK_TEST = Asked("quick")
DEFAULT_RULES = Rules()
