"""Discharges, batteries, and months at rest: plain queries and writes. Times are UTC microseconds, rows are frozen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Select, case, delete, func, insert, select, update
from sqlalchemy.exc import NoResultFound

from qxfleet.errors import StoreError
from qxfleet.model.discharge import Cause, Discharge, Method, Sample, Score
from qxfleet.model.status import Status
from qxfleet.model.variables import VARIABLES
from qxfleet.store.tables import (
    battery,
    battery_in_ups,
    battery_month,
    device,
    discharge,
    discharge_point,
    event,
    reading,
    reading_day,
)

FIGURES = (
    "gap_s", "float_v", "lowest_v", "end_v", "load_percent", "load_low_percent", "load_high_percent", "temperature_c",
    "depth_percent", "energy_wh", "low_after_s", "loaded_v", "loaded_percent", "resistance_ohm", "resistance_error",
    "recharge_s",
)  # fmt: skip
SCORES = ("used_percent", "capacity_percent", "capacity_error", "index_v", "resistance_ratio")

WORKING = int(Status.OB | Status.CAL)

_SAMPLE = (
    ("battery_voltage", "battery_v", VARIABLES["battery.voltage"].scale),
    ("ups_load", "load_percent", VARIABLES["ups.load"].scale),
    ("battery_charge", "charge_percent", VARIABLES["battery.charge"].scale),
    ("input_voltage", "input_v", VARIABLES["input.voltage"].scale),
    ("ups_temperature", "temperature_c", VARIABLES["ups.temperature"].scale),
)
"""Column, field of a Sample, steps per unit."""
_METHODS = {method.value: method for method in Method}
_SCALES = tuple(scale for _, _, scale in _SAMPLE)


# Readings as samples


def samples(connection: Connection, ups: str, since_us: int | None = None, until_us: int | None = None) -> list[Sample]:
    """Stored readings of a UPS in ``[since, until]``, in order, as far as a discharge needs them."""
    query = select(reading.c.at, reading.c.status, *(reading.c[column] for column, _, _ in _SAMPLE)).join(device)
    query = query.where(device.c.name == ups).order_by(reading.c.at)
    if since_us is not None:
        query = query.where(reading.c.at >= since_us)
    if until_us is not None:
        query = query.where(reading.c.at <= until_us)
    return [_sample(row) for row in connection.execute(query)]


def device_id(connection: Connection, ups: str) -> int:
    """The number of a UPS that was recorded."""
    return int(connection.scalars(select(device.c.id).where(device.c.name == ups)).one())


def first_reading_us(connection: Connection, ups: str) -> int | None:
    """When the oldest stored reading of a UPS was taken."""
    query = select(func.min(reading.c.at)).join(device).where(device.c.name == ups)
    found: int | None = connection.scalar(query)
    return found


def last_rest_before_us(connection: Connection, ups: str, before_us: int) -> int | None:
    """The newest stored reading of a UPS before a moment in which its battery did not work."""
    at_rest = reading.c.status.bitwise_and(WORKING) == 0
    query = select(func.max(reading.c.at)).join(device).where(device.c.name == ups, reading.c.at < before_us, at_rest)
    found: int | None = connection.scalar(query)
    return found


def curve(connection: Connection, discharge_id: int) -> list[Sample]:
    """The kept curve of a discharge, in order."""
    point = discharge_point.c
    query = select(point.at, point.status, *(point[column] for column, _, _ in _SAMPLE))
    query = query.where(point.discharge_id == discharge_id).order_by(point.at)
    return [_sample(row) for row in connection.execute(query)]


def _sample(row: Sequence[Any]) -> Sample:
    at, status, *steps = row
    return Sample(at, status, *(None if step is None else step / scale for step, scale in zip(steps, _SCALES, strict=True)))


def point_row(discharge_id: int, sample: Sample) -> dict[str, Any]:
    """One point of a curve as a row of ``discharge_point``."""
    values = {
        column: None if (value := getattr(sample, name)) is None else round(value * scale) for column, name, scale in _SAMPLE
    }
    return {"discharge_id": discharge_id, "at": sample.at_us, "status": sample.status, **values}


# Discharges


def discharges(
    connection: Connection,
    ups: Collection[str] | None = None,
    since_us: int | None = None,
    until_us: int | None = None,
    causes: Collection[Cause] | None = None,
) -> list[Discharge]:
    """Discharges of these UPSes (None: of all) that began in ``[since, until)``, in order of time."""
    query = _discharges().order_by(discharge.c.began, discharge.c.id)
    if ups is not None:
        query = query.where(device.c.name.in_(ups))
    if since_us is not None:
        query = query.where(discharge.c.began >= since_us)
    if until_us is not None:
        query = query.where(discharge.c.began < until_us)
    if causes is not None:
        query = query.where(discharge.c.cause.in_([cause.value for cause in causes]))
    return [discharge_of(row) for row in connection.execute(query).mappings()]


def discharges_of_battery(connection: Connection, battery_id: int) -> list[Discharge]:
    """Every discharge of one battery, in whatever UPS it was, in order of time."""
    query = _discharges().where(discharge.c.battery_id == battery_id).order_by(discharge.c.began)
    return [discharge_of(row) for row in connection.execute(query).mappings()]


def last_discharge(connection: Connection, ups: str, before_us: int) -> Discharge | None:
    """The last discharge of a UPS that began before then."""
    query = _discharges().where(device.c.name == ups, discharge.c.began < before_us)
    row = connection.execute(query.order_by(discharge.c.began.desc()).limit(1)).mappings().first()
    return None if row is None else discharge_of(row)


def _discharges() -> Select[Any]:
    return select(discharge, device.c.name.label("ups")).join(device, device.c.id == discharge.c.device_id)


def discharge_of(row: Any) -> Discharge:
    """A row of ``discharge`` with the name of its UPS."""
    return Discharge(
        ups=row["ups"],
        began_us=row["began"],
        ended_us=row["ended"],
        cause=Cause(row["cause"]),
        rested=bool(row["rested"]),
        points=row["points"],
        **{name: row[name] for name in FIGURES},
        id=row["id"],
        battery_id=row["battery_id"],
        test_id=row["test_id"],
        score=Score(**{name: row[name] for name in SCORES}, method=None if row["method"] is None else Method(row["method"])),
    )


def discharge_row(item: Discharge) -> dict[str, Any]:
    """A discharge as a row of ``discharge``, without its number and its UPS."""
    return {**_measured(item), **_scored(item.score), "battery_id": item.battery_id, "test_id": item.test_id}


def _scored(score: Score) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(score, name) for name in SCORES}
    return {**values, "method": None if score.method is None else score.method.value}


def _measured(item: Discharge) -> dict[str, Any]:
    return {
        "began": item.began_us, "ended": item.ended_us, "cause": item.cause.value, "rested": int(item.rested),
        "points": item.points, **{name: getattr(item, name) for name in FIGURES},
    }  # fmt: skip


def put_discharge(connection: Connection, device_id: int, item: Discharge, points: Sequence[Sample] | None) -> int:
    """Write a discharge over the one that began at the same moment, if there is one; its id.

    ``points`` None leaves its curve as it is. What a test or a score added to an earlier version of the row stays.
    """
    mine = (discharge.c.device_id == device_id, discharge.c.began == item.began_us)
    number = connection.scalar(select(discharge.c.id).where(*mine))
    if number is None:
        row = {**_measured(item), "device_id": device_id, "battery_id": battery_at(connection, device_id, item.began_us)}
        key = connection.execute(insert(discharge).values(row)).inserted_primary_key
        assert key is not None
        number = int(key[0])
    else:
        connection.execute(update(discharge).where(discharge.c.id == number).values(_measured(item)))
    if points is not None:
        connection.execute(delete(discharge_point).where(discharge_point.c.discharge_id == number))
        if points:
            connection.execute(insert(discharge_point), [point_row(number, each) for each in points])
    return number


def drop_discharges(connection: Connection, device_id: int, since_us: int, until_us: int, keep: Collection[int]) -> int:
    """Delete discharges that began in ``[since, until]`` and are not in ``keep``; how many."""
    doomed = select(discharge.c.id).where(
        discharge.c.device_id == device_id, discharge.c.began >= since_us, discharge.c.began <= until_us
    )
    gone = [number for number in connection.scalars(doomed) if number not in keep]
    if gone:
        connection.execute(delete(discharge_point).where(discharge_point.c.discharge_id.in_(gone)))
        connection.execute(delete(discharge).where(discharge.c.id.in_(gone)))
    return len(gone)


def put_score(connection: Connection, discharge_id: int, score: Score) -> None:
    """Write what a discharge says of its battery."""
    connection.execute(update(discharge).where(discharge.c.id == discharge_id).values(_scored(score)))


def name_test(connection: Connection, device_id: int, began_us: int, ended_us: int, test_id: int) -> int:
    """Let the discharges of cause test within a span point to their row of ``battery_test``; how many there were."""
    within = discharge.c.began.between(began_us, ended_us)
    query = update(discharge).where(discharge.c.device_id == device_id, within, discharge.c.cause == Cause.TEST.value)
    return connection.execute(query.values(test_id=test_id)).rowcount


# The register


@dataclass(frozen=True, slots=True)
class BatteryRow:
    """One battery as registered; None is "not known"."""

    id: int
    name: str
    type: str
    chemistry: str
    cells: int | None
    capacity_ah: float | None
    made_us: int | None
    note: str


@dataclass(frozen=True, slots=True)
class Placement:
    """One battery's time in one UPS. ``known``: ``told``, ``configured`` or ``first-seen`` (then it may be older)."""

    battery: BatteryRow
    ups: str
    since_us: int
    until_us: int | None
    known: str


def placements(connection: Connection, ups: str | None = None, *, now_only: bool = False) -> list[Placement]:
    """Which battery was in which UPS when, by UPS and time."""
    query = (
        select(battery, device.c.name.label("ups"), battery_in_ups.c.since, battery_in_ups.c.until, battery_in_ups.c.known)
        .join(battery_in_ups, battery_in_ups.c.battery_id == battery.c.id)
        .join(device, device.c.id == battery_in_ups.c.device_id)
        .order_by(device.c.name, battery_in_ups.c.since)
    )
    if ups is not None:
        query = query.where(device.c.name == ups)
    if now_only:
        query = query.where(battery_in_ups.c.until.is_(None))
    return [
        Placement(battery_of(row), row["ups"], row["since"], row["until"], row["known"])
        for row in connection.execute(query).mappings()
    ]


def battery_of(row: Any) -> BatteryRow:
    """A row of ``battery``."""
    return BatteryRow(
        row["id"], row["name"], row["type"], row["chemistry"], row["cells"], row["capacity_ah"], row["made"], row["note"]
    )  # fmt: skip


def battery_named(connection: Connection, name: str) -> BatteryRow:
    """The battery of that name. :class:`StoreError` if there is none."""
    try:
        return battery_of(connection.execute(select(battery).where(battery.c.name == name)).mappings().one())
    except NoResultFound:
        raise StoreError(f"no battery is named {name!r}; `qxfleet battery list` shows all there are") from None


def battery_at(connection: Connection, device_id: int, at_us: int) -> int | None:
    """Which battery was in a UPS at a moment."""
    place = battery_in_ups.c
    query = select(place.battery_id).where(place.device_id == device_id, place.since <= at_us)
    query = query.where((place.until.is_(None)) | (place.until > at_us))
    return connection.scalar(query.order_by(place.since.desc()).limit(1))


def add_battery(connection: Connection, name: str, **facts: Any) -> int:
    """A new battery; its id."""
    key = connection.execute(insert(battery).values(name=name, **facts)).inserted_primary_key
    assert key is not None
    return int(key[0])


def change_battery(connection: Connection, battery_id: int, **facts: Any) -> None:
    """Facts that became known later."""
    connection.execute(update(battery).where(battery.c.id == battery_id).values(facts))


def place_battery(connection: Connection, battery_id: int, device_id: int, since_us: int, known: str) -> None:
    """A battery is in a UPS from a moment on; the one before it there, and its place before, end then.

    :class:`StoreError` if either changed place after that moment already.
    """
    place = battery_in_ups.c
    either = (place.device_id == device_id) | (place.battery_id == battery_id)
    later = select(func.count()).select_from(battery_in_ups).where(either, place.since >= since_us)
    if connection.scalar(later):
        raise StoreError("the register has a later change of this UPS or battery: give a date behind that")
    still = update(battery_in_ups).where(either, place.until.is_(None) | (place.until > since_us))
    connection.execute(still.values(until=since_us))
    row = {"battery_id": battery_id, "device_id": device_id, "since": since_us, "known": known}
    connection.execute(insert(battery_in_ups).values(row))
    gone = (discharge.c.battery_id == battery_id, discharge.c.began >= since_us)
    connection.execute(update(discharge).where(*gone).values(battery_id=None))
    connection.execute(
        update(discharge).where(discharge.c.device_id == device_id, discharge.c.began >= since_us).values(battery_id=battery_id)
    )


def move_start(connection: Connection, battery_id: int, old_us: int, since_us: int, known: str) -> None:
    """A battery is in its UPS since another moment than was thought."""
    mine = (battery_in_ups.c.battery_id == battery_id, battery_in_ups.c.since == old_us)
    connection.execute(update(battery_in_ups).where(*mine).values(since=since_us, known=known))
    device_id = connection.scalar(
        select(battery_in_ups.c.device_id).where(battery_in_ups.c.battery_id == battery_id, battery_in_ups.c.since == since_us)
    )
    orphan = (discharge.c.device_id == device_id, discharge.c.battery_id.is_(None), discharge.c.began >= since_us)
    connection.execute(update(discharge).where(*orphan).values(battery_id=battery_id))


def with_ids(items: Iterable[Discharge], ids: Iterable[int], battery_id: int | None) -> list[Discharge]:
    """Discharges as they stand in the database now."""
    return [replace(item, id=number, battery_id=battery_id) for item, number in zip(items, ids, strict=True)]


# What health is judged by


@dataclass(frozen=True, slots=True)
class Capacity:
    """A capacity that a discharge measured."""

    battery_id: int
    at_us: int
    percent: float
    error: float
    method: Method
    discharge_id: int


def capacities(connection: Connection) -> dict[int, list[Capacity]]:
    """Every measured capacity of the batteries that are in a UPS now, by battery and in order of time."""
    col = discharge.c
    query = select(col.battery_id, col.began, col.capacity_percent, col.capacity_error, col.method, col.id)
    query = query.join(battery_in_ups, battery_in_ups.c.battery_id == col.battery_id).where(
        battery_in_ups.c.until.is_(None), col.capacity_percent.is_not(None)
    )
    found: dict[int, list[Capacity]] = {}
    for battery_id, began, percent, error, method, number in connection.execute(query.order_by(col.battery_id, col.began)).all():
        found.setdefault(battery_id, []).append(Capacity(battery_id, began, percent, error, _METHODS[method], number))
    return found


@dataclass(frozen=True, slots=True)
class Recent:
    """What one of a battery's latest discharges showed, as far as health looks at it."""

    began_us: int
    cause: Cause
    index_v: float | None
    recharge_per_depth_s: float | None
    resistance_ratio: float | None


@dataclass(frozen=True, slots=True)
class Short:
    """A run of some ten seconds from a full battery: its lowest volts and the step in which they are told, both per cell."""

    began_us: int
    cell_v: float
    load_percent: float
    step_v: float


SHORT_S = (5.0, 45.0)
"""How long a short run lasts; the lowest voltage of a longer one says more of its length."""


def shorts(connection: Connection, battery_ids: Collection[int]) -> dict[int, list[tuple[int, float, float | None, float]]]:
    """(begin, lowest volts, volts before, load) of the short runs of each battery, as told, oldest first."""
    col = discharge.c
    query = select(col.battery_id, col.began, col.ended, col.lowest_v, col.float_v, col.load_percent)
    query = query.order_by(col.battery_id, col.began).where(
        col.battery_id.is_not(None), col.rested == 1, col.lowest_v > 0, col.load_percent > 0, col.ended.is_not(None)
    )
    found: dict[int, list[tuple[int, float, float | None, float]]] = {}
    wanted = set(battery_ids)
    for battery_id, began, ended, volts, before, load in connection.execute(query):
        if battery_id in wanted and SHORT_S[0] <= (ended - began) / 1e6 <= SHORT_S[1]:
            found.setdefault(battery_id, []).append((began, volts, before, load))
    return found


EARLY_LOW_S, EARLY_LOW_PERCENT = 30.0, 10.0
"""A full battery that is low so soon, or after so little of what a new one gives, has failed."""


def early_low(connection: Connection) -> dict[int, tuple[int, float]]:
    """The latest discharge of each battery in which it was low far too early: when it began, seconds to the flag."""
    col = discharge.c
    early = (col.low_after_s < EARLY_LOW_S) | (col.capacity_percent < EARLY_LOW_PERCENT)
    query = select(col.battery_id, col.began, col.low_after_s).order_by(col.began)
    query = query.where(col.battery_id.is_not(None), col.low_after_s.is_not(None), col.rested == 1, early)
    return {battery_id: (began_us, seconds) for battery_id, began_us, seconds in connection.execute(query)}


def wants_replacing(connection: Connection) -> dict[str, int]:
    """UPSes that say that their battery wants replacing, with since when."""
    newest = select(func.max(event.c.id)).where(event.c.name == "replace-battery").group_by(event.c.device_id)
    query = select(device.c.name, event.c.at).join(device, device.c.id == event.c.device_id)
    return dict(connection.execute(query.where(event.c.id.in_(newest), event.c.value == "begin")).all())


def recents(connection: Connection, battery_ids: Collection[int], count: int) -> dict[int, list[Recent]]:
    """The latest discharges of each battery that were long enough to show its loaded voltage, oldest first."""
    col = discharge.c
    place = func.row_number().over(partition_by=col.battery_id, order_by=col.began.desc()).label("place")
    ranked = (
        select(col.battery_id, col.began, col.cause, col.index_v, col.recharge_s, col.used_percent, col.resistance_ratio, place)
        .where(col.index_v.is_not(None), col.battery_id.is_not(None))
        .subquery()
    )
    query = select(*list(ranked.c)[:-1]).where(ranked.c.place <= count).order_by(ranked.c.battery_id, ranked.c.began)
    found: dict[int, list[Recent]] = {}
    wanted = set(battery_ids)
    for battery_id, began, cause, index_v, recharge_s, used, ratio in connection.execute(query):
        if battery_id not in wanted:
            continue
        per_depth = recharge_s / used if recharge_s is not None and used else None
        found.setdefault(battery_id, []).append(Recent(began, Cause(cause), index_v, per_depth, ratio))
    return found


@dataclass(frozen=True, slots=True)
class Rest:
    """What the months at rest of a UPS were like, over as many ``days``; None is "not known"."""

    days: float
    ageing: float | None
    temperature_c: float | None
    temperature_low_c: float | None
    temperature_high_c: float | None
    float_v: float | None
    load_percent: float | None
    load_low_percent: float | None
    load_high_percent: float | None
    first_us: int
    last_us: int


def rests(connection: Connection, since_us: int) -> dict[str, Rest]:
    """Months at rest of every UPS taken together, from the month on that a moment lies in."""
    col = battery_month.c
    query = select(
        device.c.name, func.sum(col.days), _by_days(col.ageing), _by_days(col.temperature_c), func.min(col.temperature_low_c),
        func.max(col.temperature_high_c), _by_days(col.float_v), _by_days(col.load_percent), func.min(col.load_low_percent),
        func.max(col.load_high_percent), func.min(col.at), func.max(col.at),
    ).join(device, device.c.id == col.device_id).where(col.at >= since_us).group_by(device.c.name)  # fmt: skip
    return {name: Rest(*row) for name, *row in connection.execute(query)}


def _by_days(column: Any) -> Any:
    """The mean of a column of months by their days, those left out in which it is not known."""
    days = battery_month.c.days
    return func.sum(column * days) / func.sum(case((column.is_not(None), days)))


def put_month(connection: Connection, device_id: int, at_us: int, figures: Mapping[str, float | None]) -> None:
    """Write what a month was like, over what was known of it before."""
    connection.execute(delete(battery_month).where(battery_month.c.device_id == device_id, battery_month.c.at == at_us))
    connection.execute(insert(battery_month).values(device_id=device_id, at=at_us, **figures))


def days_at_rest(connection: Connection, device_id: int, since_us: int, until_us: int) -> list[Any]:
    """Roll-ups by day of a UPS in ``[since, until)``: ``at``, ``status_seen``, and the means and extremes a month is made of."""
    col = reading_day.c
    query = select(
        col.at, col.status_seen, col.ups_temperature_mean, col.ups_temperature_min, col.ups_temperature_max,
        col.battery_voltage_mean, col.ups_load_mean, col.ups_load_min, col.ups_load_max,
    ).where(col.device_id == device_id, col.at >= since_us, col.at < until_us).order_by(col.at)  # fmt: skip
    return list(connection.execute(query))


# What the agent asks now and then


def open_since_us(connection: Connection, device_id: int) -> int | None:
    """When the discharge of a UPS began that is not known to have ended."""
    query = select(func.min(discharge.c.began)).where(discharge.c.device_id == device_id, discharge.c.ended.is_(None))
    found: int | None = connection.scalar(query)
    return found


def recharging_since_us(connection: Connection, device_id: int, since_us: int) -> int | None:
    """When the oldest discharge began that ended since a moment and whose recharge has not shown yet."""
    col = discharge.c
    query = select(func.min(col.began)).where(
        col.device_id == device_id, col.ended >= since_us, col.recharge_s.is_(None), col.float_v.is_not(None)
    )
    found: int | None = connection.scalar(query)
    return found


def told(connection: Connection, ups: str, name: str, beginning: str) -> list[str]:
    """The values of a UPS's events of this name whose text begins so, the oldest first."""
    query = select(event.c.value, event.c.text).join(device).where(device.c.name == ups, event.c.name == name)
    return [row.value for row in connection.execute(query.order_by(event.c.id)) if row.text.startswith(beginning)]


def of_current_battery(connection: Connection, ups: str) -> list[Discharge]:
    """The discharges of the battery that is in a UPS now, in order of time."""
    places = placements(connection, ups, now_only=True)
    return discharges_of_battery(connection, places[-1].battery.id) if places else []
