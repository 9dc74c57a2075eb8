"""What is stored about the batteries of a fleet, put together for judging: a handful of queries, whatever the fleet's size."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from sqlalchemy import Connection, select

from qxfleet.battery import register
from qxfleet.battery.capacity import cells_of, per_cell
from qxfleet.battery.chronicle import rating_of
from qxfleet.battery.health import Evidence
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.clock import from_us
from qxfleet.model.status import Status
from qxfleet.model.variables import VARIABLES
from qxfleet.store import batteries, tests
from qxfleet.store.batteries import Rest, Short
from qxfleet.store.rows import identity_of
from qxfleet.store.tables import device

RECENT = 3
DAY_US = 86_400_000_000
YEAR_US, LATELY_US = 366 * DAY_US, 92 * DAY_US
"""Ageing is that of the last year; charger and load are judged by the last months."""

WORKED = int(Status.OB | Status.CAL)

NOBODY = BatteryFacts()


def evidence(
    connection: Connection, configured: Mapping[str, BatteryFacts], now_us: int, ups: Collection[str] | None = None
) -> list[Evidence]:
    """What is known of the battery that is in each UPS now (None: of all that have one), in order of their names."""
    places = batteries.placements(connection)
    now = [place for place in places if place.until_us is None and (ups is None or place.ups in ups)]
    ids = [place.battery.id for place in now]
    capacities = batteries.capacities(connection)
    recents, shorts = batteries.recents(connection, ids, RECENT), batteries.shorts(connection, ids)
    rests, lately = batteries.rests(connection, now_us - YEAR_US), batteries.rests(connection, now_us - LATELY_US)
    failures = _Failures(connection)
    names = {place.ups for place in now}
    identities = {
        name: identity_of(name, stored) if stored is not None else None
        for name, stored in connection.execute(select(device.c.name, device.c.identity))
        if name in names
    }
    by_battery: dict[int, list[batteries.Placement]] = {}
    for place in places:
        by_battery.setdefault(place.battery.id, []).append(place)
    found = []
    for place in now:
        number = place.battery.id
        facts = register.facts_of(place.battery, configured.get(place.ups, NOBODY), by_battery[number])
        identity = identities.get(place.ups)
        rating = rating_of(facts, identity)
        found.append(
            Evidence(
                place.ups,
                place.battery.name,
                number,
                place.since_us,
                facts,
                cells_of(facts, rating.battery_v),
                str(identity.facts.get("device.model", "")).strip() if identity else "",
                tuple(capacities.get(number, ())),
                tuple(recents.get(number, ())),
                short_runs(shorts.get(number, ()), cells_of(facts, rating.battery_v)),
                rests.get(place.ups),
                lately.get(place.ups),
                failures.of(place),
            )
        )
    return found


def short_runs(told: Iterable[tuple[int, float, float | None, float]], cells: int | None) -> tuple[Short, ...]:
    """Short runs in volts per cell, from (begin, lowest volts, volts before, load).

    How many cells a unit tells the volts of shows in the voltage before: under load that of a failed string may look like any.
    """
    found = []
    for began_us, volts, before, load in told:
        rest_v = per_cell(before or volts, cells)
        if rest_v is not None and cells:
            scale = rest_v / (before or volts)
            found.append(Short(began_us, volts * scale, load, 0.01 if scale == 1 else 0.1 * scale))
    return tuple(found)


class _Failures:
    """What shows that a battery failed, and was neither replaced since nor passed a test."""

    def __init__(self, connection: Connection) -> None:
        self._tests, self._passed = tests.failed_tests(connection), tests.last_passed(connection)
        self._low, self._flags = batteries.early_low(connection), batteries.wants_replacing(connection)

    def of(self, place: batteries.Placement) -> tuple[str, ...]:
        found = []
        if place.ups in self._tests:
            at_us, text = self._tests[place.ups]
            if at_us >= place.since_us:
                found.append(f"failed its test on {_day(at_us)}: {text}")
        if place.battery.id in self._low:
            at_us, seconds = self._low[place.battery.id]
            if self._passed.get(place.ups, 0) <= at_us:
                found.append(f"low {seconds:.0f} s after the mains failed on {_day(at_us)}, though it was charged")
        if self._flags.get(place.ups, 0) >= place.since_us and place.ups in self._flags:
            found.append(f"the UPS says since {_day(self._flags[place.ups])} that it wants replacing")
        return tuple(found)


def _day(at_us: int) -> str:
    return from_us(at_us).date().isoformat()


def roll_months(connection: Connection, device_id: int, since_us: int, now_us: int, doubles_k: float) -> int:
    """Bring the months at rest of a UPS up to date from the roll-ups by day, from the month of ``since`` on; how many."""
    month = from_us(since_us).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = from_us(now_us)
    count = 0
    while month <= end:
        following = (month + timedelta(days=32)).replace(day=1)
        rows = batteries.days_at_rest(connection, device_id, _us(month), _us(following))
        if rows:
            batteries.put_month(connection, device_id, _us(month), month_of(rows, doubles_k))
            count += 1
        month = following
    return count


def month_of(rows: list[Any], doubles_k: float) -> dict[str, float | None]:
    """One month out of its days: means, extremes, and how much faster than at 25 °C the battery aged."""
    warm = [row.ups_temperature_mean for row in rows if row.ups_temperature_mean is not None]
    degrees = [value / VARIABLES["ups.temperature"].scale for value in warm]
    quiet = [row for row in rows if not row.status_seen & WORKED]
    scale_v, scale_load = VARIABLES["battery.voltage"].scale, VARIABLES["ups.load"].scale
    volts = [row.battery_voltage_mean / scale_v for row in quiet if row.battery_voltage_mean is not None]
    loads = [row.ups_load_mean / scale_load for row in rows if row.ups_load_mean is not None]

    def extreme(choose: Any, name: str, scale: int) -> float | None:
        told = [_either(row, name, "min" if choose is min else "max") for row in rows]
        known = [value for value in told if value is not None]
        return choose(known) / scale if known else None

    scale_t = VARIABLES["ups.temperature"].scale
    return {
        "days": float(len(rows)),
        "ageing": round(fmean(2 ** ((value - 25) / doubles_k) for value in degrees), 4) if degrees else None,
        "temperature_c": round(fmean(degrees), 2) if degrees else None,
        "temperature_low_c": extreme(min, "ups_temperature", scale_t),
        "temperature_high_c": extreme(max, "ups_temperature", scale_t),
        "float_v": round(fmean(volts), 4) if volts else None,
        "load_percent": round(fmean(loads), 2) if loads else None,
        "load_low_percent": extreme(min, "ups_load", scale_load),
        "load_high_percent": extreme(max, "ups_load", scale_load),
    }


def _either(row: Any, name: str, part: str) -> int | None:
    """An extreme of a day; absent where it is the mean."""
    value: int | None = getattr(row, f"{name}_{part}")
    mean: int | None = getattr(row, f"{name}_mean")
    return mean if value is None else value


def _us(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp()) * 1_000_000


def rests_of(rest: Rest | None) -> dict[str, float | None]:
    """Months at rest as the evidence of a judgement shows them."""
    if rest is None:
        return {}
    return {
        "days": rest.days, "ageing": rest.ageing, "temperature_c": rest.temperature_c, "float_v": rest.float_v,
        "load_percent": rest.load_percent,
    }  # fmt: skip
