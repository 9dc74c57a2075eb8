"""A fleet's years (see qxfleet.testing.years) put into a database the way the agent would have, and judged against the truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, text

from qxfleet.battery import register
from qxfleet.battery.capacity import score
from qxfleet.battery.discharge import Rating, cut
from qxfleet.battery.health import Health, Verdict, fleet_health
from qxfleet.battery.survey import evidence, roll_months
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.clock import from_us
from qxfleet.model.discharge import Discharge, Sample
from qxfleet.model.status import Status
from qxfleet.store import batteries
from qxfleet.store.engine import open_engine
from qxfleet.store.tables import device, discharge, reading_day
from qxfleet.testing.years import DAY_US, END_US, Story

DAY_COLUMNS = tuple(column.name for column in reading_day.columns)


def facts_of(story: Story) -> BatteryFacts:
    """What the operator of a story wrote into the configuration."""
    return BatteryFacts(cells=story.cells, runtimes=story.table, rated_w=story.rated_w, type="12V 9Ah")


def load_story(connection: Connection, story: Story) -> int:
    """One UPS: its register, its days, its discharges cut and scored; how many readings of discharges there were."""
    facts_told = {
        "device.model": story.model, "battery.voltage.nominal": story.nominal_v, "input.voltage.nominal": 230.0,
        "ups.realpower.nominal": story.rated_w,
    }  # fmt: skip
    identity = {"dialect": "megatec", "facts": facts_told, "refused": [], "packs": None, "evidence": []}
    start_us = story.samples[0].at_us
    values = {"name": story.name, "created": start_us, "identity": identity, "identity_at": start_us}
    key = connection.execute(insert(device).values(values)).inserted_primary_key
    assert key is not None
    device_id = int(key[0])
    for number, life in enumerate(each for index, each in enumerate(story.lives) if _told(story, index)):
        battery_id = batteries.add_battery(connection, f"{story.name}/{number + 1}", type="12V 9Ah", cells=story.cells)
        known = "told" if number or story.date_known else "first-seen"
        since_us = life.installed_us if known == "told" else start_us
        batteries.place_battery(connection, battery_id, device_id, since_us, known)
    _load_days(connection, device_id, story)
    _load_discharges(connection, device_id, story)
    roll_months(connection, device_id, start_us - 60 * DAY_US, END_US, 9.0)
    return len(story.samples)


def _load_discharges(connection: Connection, device_id: int, story: Story) -> None:
    """Cut and scored by the agent's own functions; written a UPS at a time, which five years' worth of them need."""
    rating = Rating(story.rated_w, input_v=230.0, battery_v=story.nominal_v)
    places = batteries.placements(connection, story.name)
    first_id = 1 + (connection.scalar(select(func.max(discharge.c.id))) or 0)
    curves: dict[int | None, tuple[Sample, ...]] = {}
    earlier: dict[int | None, list[Discharge]] = {}
    rows: list[dict[str, Any]] = []
    points: list[tuple[Any, ...]] = []
    for number, each in enumerate(cut(story.name, story.samples, rating), first_id):
        there = [place for place in places if place.since_us <= each.discharge.began_us]
        battery = there[-1].battery if there else None
        item = replace(each.discharge, id=number, battery_id=battery.id if battery else None)
        curves[number] = each.curve
        if battery is not None:
            facts = register.facts_of(battery, facts_of(story), places)
            before = earlier.setdefault(battery.id, [])
            item = replace(item, score=score(item, each.curve, before, lambda run: curves[run.id], facts, story.cells))
            before.append(item)
        rows.append({"id": number, "device_id": device_id, **batteries.discharge_row(item)})
        points += [tuple(batteries.point_row(number, sample).values()) for sample in each.curve]
    connection.execute(insert(discharge), rows)
    names = list(batteries.point_row(0, story.samples[0]))
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(names))
        driver.executemany(f"INSERT INTO discharge_point ({', '.join(names)}) VALUES ({marks})", points)
    else:
        with driver.cursor() as cursor, cursor.copy(f"COPY discharge_point ({', '.join(names)}) FROM STDIN") as copy:
            for number, at_us, *rest in points:
                copy.write_row((number, from_us(at_us), *rest))


def _told(story: Story, index: int) -> bool:
    """Whether anybody wrote down that this battery came."""
    return index == 0 or (story.lives[index - 1].recorded and story.date_known)


def _load_days(connection: Connection, device_id: int, story: Story) -> None:
    rows = []
    for day in story.days:
        row = dict.fromkeys(DAY_COLUMNS)
        row |= {"device_id": device_id, "at": round(day["at_us"]), "rows": 1440, "minutes": 1440}
        row |= {"status_seen": int(Status.OL), "status_last": int(Status.OL)}
        row["input_voltage_mean"] = round(10 * day["input_v"])
        row["battery_voltage_mean"] = round(100 * day["battery_v"])
        for column, name in (("ups_load", "load"), ("ups_temperature", "temperature")):
            row[f"{column}_mean"] = round(10 * day[name])
            row[f"{column}_min"], row[f"{column}_max"] = round(10 * day[f"{name}_low"]), round(10 * day[f"{name}_high"])
        rows.append(row)
    connection.execute(insert(reading_day), rows)


def load_years(url: str, stories: Iterable[Story], progress: Callable[[int], None] = lambda _: None) -> int:
    """All stories, each in a transaction of its own; how many readings of discharges there were."""
    engine = open_engine(url, writing=True)
    count = 0
    try:
        for story in stories:
            with engine.begin() as connection:
                count += load_story(connection, story)
            progress(1)
        with engine.begin() as connection:
            connection.execute(text("ANALYZE"))
    finally:
        engine.dispose()
    return count


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgement beside the truth. ``known_battery``: the register knows the battery that is there."""

    story: Story
    health: Health

    @property
    def worn_us(self) -> int | None:
        """When the battery truly is worn out."""
        return self.story.lives[-1].worn_us

    @property
    def usable(self) -> float:
        """Percent of the runtime when new, at the end of the story."""
        return 100 * self.story.lives[-1].usable

    @property
    def dated(self) -> bool:
        """Whether a date was given at all."""
        return self.health.by_us is not None

    @property
    def within(self) -> bool:
        """Whether the truth lies between the bounds."""
        low, high, worn = self.health.low_us, self.health.high_us, self.worn_us
        return low is not None and high is not None and worn is not None and low <= worn <= high

    @property
    def healthy(self) -> bool:
        """Whether the battery still has 80 % of its runtime when new."""
        return self.usable >= 80

    @property
    def false_alarm(self) -> bool:
        """Whether a healthy battery is to be replaced now."""
        return self.healthy and self.health.verdict is Verdict.REPLACE_NOW

    @property
    def measurable(self) -> bool:
        """Whether the story gave anything a capacity could be measured by."""
        return self.story.policy not in ("none", "undated") and self.story.frozen_load is None


def judge(connection: Connection, stories: Iterable[Story]) -> list[Judged]:
    """The judgement of every battery at the end of its story."""
    by_name = {story.name: story for story in stories}
    configured = {name: facts_of(story) for name, story in by_name.items()}
    found = fleet_health(evidence(connection, configured, END_US), END_US)
    return [Judged(by_name[each.evidence.ups], each) for each in found]


def table(judged: Iterable[Judged]) -> str:
    """Predicted against true, a line per UPS."""
    lines = [f"{'UPS':<9}{'policy':<9}{'verdict':<14}{'grade':<6}{'basis':<7}{'measured':>9}{'true':>7}   "
             f"{'low':<11}{'likely':<11}{'high':<11}{'truly':<11}within"]  # fmt: skip
    for each in judged:
        health = each.health
        shown = "insuff." if health.percent is None else f"{health.percent:.0f} %"
        dates = [_date(at_us) for at_us in (health.low_us, health.by_us, health.high_us, each.worn_us)]
        lines.append(
            f"{each.story.name:<9}{each.story.policy:<9}{health.verdict.value:<14}{health.confidence or '-':<6}"
            f"{health.basis or '-':<7}{shown:>9}{each.usable:>6.0f} %   {''.join(f'{date:<11}' for date in dates)}"
            f"{'yes' if each.within else 'no' if each.dated else '-'}"
        )
    return "\n".join(lines)


def _date(at_us: int | None) -> str:
    return "-" if at_us is None else from_us(at_us).date().isoformat()


def figures(judged: list[Judged]) -> dict[str, float]:
    """The shares that the issue asks for, in percent."""
    dated = [each for each in judged if each.dated]
    healthy = [each for each in judged if each.healthy]
    return {
        "UPSes": len(judged),
        "dated": len(dated),
        "truth within bounds, % of dated": 100 * sum(each.within for each in dated) / max(1, len(dated)),
        "false replace-now, % of healthy": 100 * sum(each.false_alarm for each in healthy) / max(1, len(healthy)),
        "insufficient capacity": sum(each.health.percent is None for each in judged),
        "insufficient, of those nothing could measure, %": 100
        * sum(each.health.percent is None for each in judged if not each.measurable)
        / max(1, sum(not each.measurable for each in judged)),
    }


def as_text(found: dict[str, float]) -> str:
    """Figures, a line each."""
    return json.dumps({name: round(value, 1) for name, value in found.items()}, indent=1)
