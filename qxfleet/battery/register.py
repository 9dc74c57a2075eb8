"""Which battery is in which UPS since when, and what is known of it: the register, beside what the configuration says.

Every function works within the transaction of the connection it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, insert

from qxfleet.errors import StoreError
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.clock import from_us
from qxfleet.store import batteries
from qxfleet.store.batteries import BatteryRow, Placement
from qxfleet.store.tables import device_era

DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Replacement:
    """A change of battery as written down; ``before`` None: none was registered."""

    ups: str
    battery: str
    before: str | None
    since_us: int


def facts_of(row: BatteryRow, configured: BatteryFacts, placements: list[Placement]) -> BatteryFacts:
    """All that is known of a battery: the register's word first, then the configuration's.

    The date it was first put into a UPS stays unknown where only its first sight is.
    """
    first = min((place for place in placements if place.battery.id == row.id), key=lambda place: place.since_us)
    return replace(
        configured,
        type=row.type or configured.type,
        chemistry=row.chemistry if row.chemistry != BatteryFacts().chemistry else configured.chemistry,
        cells=row.cells or configured.cells,
        capacity_ah=row.capacity_ah or configured.capacity_ah,
        made_us=row.made_us or configured.made_us,
        installed_us=None if first.known == "first-seen" else first.since_us,
    )


def settle(connection: Connection, device_id: int, ups: str, facts: BatteryFacts, now_us: int) -> list[str]:
    """Make the register agree with the configuration; a sentence per change.

    A UPS without a battery gets one. A date of installation later than the battery's own means another battery; one that
    takes the place of a mere first sight is that of the battery that is there.
    """
    places = batteries.placements(connection, ups)
    current = next((place for place in reversed(places) if place.until_us is None), None)
    if current is None:
        since_us, known = (facts.installed_us, "configured") if facts.installed_us else (now_us, "first-seen")
        return [_new(connection, device_id, ups, len(places), since_us, known)]
    if facts.installed_us is None or abs(facts.installed_us - current.since_us) < DAY_US:
        return []
    if current.known == "first-seen":
        batteries.move_start(connection, current.battery.id, current.since_us, facts.installed_us, "configured")
        return [f"{ups}: {current.battery.name} is there since {_date(facts.installed_us)}, says the configuration"]
    if facts.installed_us > current.since_us:
        return [_new(connection, device_id, ups, len(places), facts.installed_us, "configured")]
    return []


def replaced(
    connection: Connection, device_id: int, ups: str, since_us: int, battery: str | None, facts: Mapping[str, Any]
) -> Replacement:
    """Write down that a UPS has another battery since then: ``battery``, known already or not, else a new one.

    ``facts`` are columns of the battery; those given change what is registered. :class:`StoreError` if the register has a
    later change, or the battery named is there already.
    """
    places = batteries.placements(connection, ups)
    before = next((place for place in reversed(places) if place.until_us is None), None)
    known = {place.battery.name: place.battery for place in batteries.placements(connection)}
    name = battery or _name(ups, len(places), known)
    if before is not None and name == before.battery.name:
        raise StoreError(f"{ups} has battery {name} already, since {_date(before.since_us)}")
    if name in known:
        number = known[name].id
        if facts:
            batteries.change_battery(connection, number, **facts)
    else:
        number = batteries.add_battery(connection, name, **facts)
    batteries.place_battery(connection, number, device_id, since_us, "told")
    text = f"{name} instead of {before.battery.name}" if before else name
    connection.execute(insert(device_era).values(device_id=device_id, at=since_us, kind="battery-replaced", text=text))
    return Replacement(ups, name, before.battery.name if before else None, since_us)


def _new(connection: Connection, device_id: int, ups: str, count: int, since_us: int, known: str) -> str:
    names = {place.battery.name for place in batteries.placements(connection)}
    name = _name(ups, count, names)
    number = batteries.add_battery(connection, name)
    batteries.place_battery(connection, number, device_id, since_us, known)
    how = "since" if known == "configured" else "first seen"
    return f"{ups}: battery {name} registered, {how} {_date(since_us)}"


def _name(ups: str, count: int, taken: Any) -> str:
    """The next free one of ``UPS/1``, ``UPS/2``, …"""
    number = count + 1
    while f"{ups}/{number}" in taken:
        number += 1
    return f"{ups}/{number}"


def _date(at_us: int) -> str:
    return from_us(at_us).date().isoformat()
