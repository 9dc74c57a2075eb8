"""Discharges between the readings and their tables: cut from a stretch of history, scored, and all made anew.

Every function works within the transaction of the connection it is given, and does the same however often it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection, select

from qxfleet.battery import register
from qxfleet.battery.capacity import cells_of, score
from qxfleet.battery.discharge import Cut, Rating, cut
from qxfleet.errors import StoreError
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.discharge import Discharge, Sample
from qxfleet.model.electrical import number, rated_watts
from qxfleet.model.reading import Identity
from qxfleet.store import batteries
from qxfleet.store.rows import identity_of
from qxfleet.store.tables import device


def rating_of(facts: BatteryFacts, identity: Identity | None) -> Rating:
    """What the unit's figures are worth, from the configuration, else from what it said of itself."""
    told = identity.facts if identity is not None else {}
    watts = rated_watts(told, facts.rated_w)
    volts, battery_v = number(told, "input.voltage.nominal"), number(told, "battery.voltage.nominal")
    return Rating(watts, facts.efficiency, facts.idle_w, volts or None, battery_v or None)


def identity(connection: Connection, ups: str) -> Identity | None:
    """Who a UPS is, as stored; None if it was never recognised, or what is stored can't be read."""
    stored = connection.scalar(select(device.c.identity).where(device.c.name == ups))
    try:
        return None if stored is None else identity_of(ups, stored)
    except StoreError:
        return None


def update_span(
    connection: Connection, device_id: int, ups: str, since_us: int, until_us: int, rating: Rating, facts: BatteryFacts
) -> list[Discharge]:
    """Cut the readings of ``[since, until]`` and bring the discharges that began there up to date; returned in order.

    ``since`` must not lie within a discharge. Those of the span that the readings do not show are removed.
    """
    samples = batteries.samples(connection, ups, since_us, until_us)
    previous = batteries.last_discharge(connection, ups, since_us)
    cuts = cut(ups, samples, rating, previous, until_us)
    ids = [batteries.put_discharge(connection, device_id, each.discharge, each.curve) for each in cuts]
    batteries.drop_discharges(connection, device_id, since_us, until_us, ids)
    rescore(connection, {batteries.battery_at(connection, device_id, each.discharge.began_us) for each in cuts}, facts,
            rating, since_us)  # fmt: skip
    return batteries.discharges(connection, [ups], since_us, until_us + 1)


def rescore(
    connection: Connection, battery_ids: set[int | None], configured: BatteryFacts, rating: Rating, since_us: int = 0
) -> None:
    """Score the discharges of batteries anew, those that began since a moment; earlier scores stay as they are."""
    places = batteries.placements(connection)
    rows = {place.battery.id: place.battery for place in places}
    for battery_id in sorted(each for each in battery_ids if each is not None):
        facts = register.facts_of(rows[battery_id], configured, places)
        cells = cells_of(facts, rating.battery_v)
        earlier: list[Discharge] = []
        for each in batteries.discharges_of_battery(connection, battery_id):
            if each.began_us >= since_us:
                assert each.id is not None
                points = batteries.curve(connection, each.id)
                found = score(each, points, earlier, _curves(connection), facts, cells)
                if found != each.score:
                    batteries.put_score(connection, each.id, found)
                each = replace(each, score=found)
            earlier.append(each)


def _curves(connection: Connection) -> Callable[[Discharge], Sequence[Sample]]:
    kept: dict[int, list[Sample]] = {}

    def of(discharge: Discharge) -> list[Sample]:
        assert discharge.id is not None
        if discharge.id not in kept:
            kept[discharge.id] = batteries.curve(connection, discharge.id)
        return kept[discharge.id]

    return of


def rebuild(connection: Connection, ups: str, rating: Rating, facts: BatteryFacts, now_us: int | None = None) -> tuple[int, int]:
    """Make every discharge of a UPS anew; how many there are now, and how many of them differ from before.

    What the stored readings still show is cut from them; what is older is measured again on its kept curve, and keeps its
    time of recharge and whether the battery was full, which its curve does not show.
    """
    device_id = batteries.device_id(connection, ups)
    before = batteries.discharges(connection, [ups])
    raw_us = batteries.first_reading_us(connection, ups)
    for old in before:
        if raw_us is not None and old.began_us > raw_us:
            break
        assert old.id is not None
        points = batteries.curve(connection, old.id)
        made = next((each for each in cut(ups, points, rating) if each.discharge.began_us == old.began_us), None)
        if made is not None:
            kept = replace(
                made.discharge, recharge_s=old.recharge_s, rested=old.rested, ended_us=made.discharge.ended_us or old.ended_us
            )
            batteries.put_discharge(connection, device_id, kept, None)
    if raw_us is not None:
        last = max((old.ended_us or old.began_us for old in before if old.began_us <= raw_us), default=raw_us)
        samples = batteries.samples(connection, ups, max(raw_us, last))
        until_us = samples[-1].at_us if samples else raw_us
        cuts: list[Cut] = cut(ups, samples, rating, batteries.last_discharge(connection, ups, raw_us + 1), now_us)
        ids = [batteries.put_discharge(connection, device_id, each.discharge, each.curve) for each in cuts]
        batteries.drop_discharges(connection, device_id, raw_us + 1, until_us, ids)
    owners = {place.battery.id for place in batteries.placements(connection, ups)}
    rescore(connection, set(owners), facts, rating)
    after = batteries.discharges(connection, [ups])
    known = {old.began_us: old for old in before}
    changed = sum(1 for new in after if known.get(new.began_us) != new) + len(known.keys() - {new.began_us for new in after})
    return len(after), changed
