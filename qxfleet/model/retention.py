"""How long history is kept, tier by tier."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import pairwise
from math import inf

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds for which each tier is kept; None: for ever. Events, orders, tests and discharges with their curves always stay."""

    raw_s: float | None = 14 * DAY_S
    minutes_s: float | None = 730 * DAY_S
    quarter_hours_s: float | None = 3650 * DAY_S
    days_s: float | None = None

    def upside_down(self) -> str | None:
        """A tier that is not kept as long as the finer one before it; None: there is none."""
        pairs = pairwise(zip(("raw", "minutes", "quarter-hours", "days"), astuple(self), strict=True))
        return next((name for (_, fine_s), (name, coarse_s) in pairs if (fine_s or inf) > (coarse_s or inf)), None)

    def at_most(self, other: Retention) -> Retention:
        """Each tier for the shorter of the two times."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Retention(*(min((each for each in pair if each is not None), default=None) for pair in pairs))


KEPT = Retention()
"""What is kept where nothing is said."""

BESIDE_FLEET = Retention(14 * DAY_S, 93 * DAY_S, 730 * DAY_S, None)
"""What a state keeps at most while a fleet store has the years: a season of minutes for its own judgement and its own page."""
