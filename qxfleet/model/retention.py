"""How long history is kept, tier by tier."""

from __future__ import annotations

from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds for which each tier is kept; None: for ever. Events, orders, tests and discharges with their curves always stay."""

    raw_s: float | None = 14 * DAY_S
    minutes_s: float | None = 730 * DAY_S
    quarter_hours_s: float | None = 3650 * DAY_S
    days_s: float | None = None


KEPT = Retention()
"""What is kept where nothing is said."""
