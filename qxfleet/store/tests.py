"""Battery tests and their waves as they are stored: writes for :meth:`Store.commit`, queries for :meth:`Store.read`.

Times are UTC microseconds. Every write may run again where a commit failed, and then does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from qxfleet.model.reading import Reading
from qxfleet.model.selftest import Asked, Rules, Verdict
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store.batteries import name_test
from qxfleet.store.rows import clean, reading_row, within_columns
from qxfleet.store.tables import (
    battery_test,
    battery_test_point,
    device,
    device_era,
    meta,
    order_log,
    reading,
    test_wave,
    test_wave_member,
)  # fmt: skip

_COLUMNS = tuple((str(variable.column), variable.name, variable.scale) for variable in READING_COLUMNS)


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One reading of a test's curve, in the variables' units; what was not known is absent."""

    at_us: int
    status: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class StoredTest:
    """One battery test. ``verdict`` None: not over. ``sent`` is the outcome of the order that started it."""

    id: int
    ups: str
    asked: Asked
    actor: str
    started_us: int
    bound_us: int | None
    sent: str | None
    stop_reason: str | None
    ended_us: int | None
    verdict: Verdict | None
    text: str
    evidence: Mapping[str, Any]
    wave_id: int | None = None
    schedule: str = ""


@dataclass(frozen=True, slots=True)
class StoredMember:
    """One UPS of a wave; ``state`` is ``waiting``, ``testing``, ``tested`` or ``refused``."""

    ups: str
    state: str
    text: str = ""
    test_id: int | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class StoredWave:
    """One wave; ``ended_us`` None: open. ``schedule`` empty: by hand. ``patient``: waits for what is not so yet."""

    id: int
    schedule: str
    actor: str
    asked: Asked
    rules: Rules
    patient: bool
    started_us: int
    closes_us: int | None
    ended_us: int | None = None
    outcome: str | None = None
    text: str = ""
    members: tuple[StoredMember, ...] = field(default=())


# -- writes


def insert_wave(wave: StoredWave) -> Callable[..., int]:
    """Write down a wave and its members, given as ``ups`` of the commit in their order; its number."""
    plan = {
        "kind": wave.asked.kind, "for_s": wave.asked.for_s, "depth_percent": wave.asked.depth_percent,
        "rules": wave.rules.as_json(), "patient": wave.patient,
    }  # fmt: skip

    def write(connection: Connection, *device_ids: int) -> int:
        wave_id = _key(connection, insert(test_wave).values(
            schedule=wave.schedule, actor=clean(wave.actor), plan=plan, started=wave.started_us, closes=wave.closes_us,
        ))  # fmt: skip
        rows = [
            {"wave_id": wave_id, "device_id": device_id, "place": place, "state": "waiting", "text": ""}
            for place, device_id in enumerate(device_ids)
        ]
        if rows:
            connection.execute(insert(test_wave_member), rows)
        return wave_id

    return write


def begin_test(test: StoredTest) -> Callable[..., int]:
    """Write down a test before it is started, and that its UPS's turn in the wave has come; its number."""

    def write(connection: Connection, device_id: int) -> int:
        test_id = _key(connection, insert(battery_test).values(
            device_id=device_id, started=test.started_us, kind=test.asked.kind, actor=clean(test.actor), bound=test.bound_us,
            asked_s=None if test.asked.for_s is None else round(test.asked.for_s), depth=test.asked.depth_percent,
        ))  # fmt: skip
        if test.wave_id is not None:
            _set_member(connection, test.wave_id, device_id, state="testing", text="", test_id=test_id)
        return test_id

    return write


def sent_test(test_id: int, outcome: str, order_actor: str) -> Callable[..., None]:
    """Write down what became of the order that started a test."""

    def write(connection: Connection, device_id: int) -> None:
        given = (order_log.c.device_id == device_id, order_log.c.actor == clean(order_actor))
        order = select(func.max(order_log.c.id)).where(*given)
        connection.execute(
            update(battery_test).where(battery_test.c.id == test_id).values(sent=outcome, order_id=order.scalar_subquery())
        )

    return write


def stop_intent(test_id: int, reason: str) -> Callable[..., None]:
    """Write down why a test is ended, before its UPS is told to stop; the first reason stands."""

    def write(connection: Connection) -> None:
        this = (battery_test.c.id == test_id, battery_test.c.stop_reason.is_(None))
        connection.execute(update(battery_test).where(*this).values(stop_reason=clean(reason)))

    return write


def add_points(test_id: int, readings: Sequence[Reading]) -> Callable[..., None]:
    """Keep readings of a test; one that is there already stays."""
    rows = []
    for each in readings:
        _, at_us, status, *steps, _ = within_columns(reading_row(each, None))
        rows.append({"test_id": test_id, "at": at_us, "status": status,
                     **{column: step for (column, _, _), step in zip(_COLUMNS, steps, strict=True)}})  # fmt: skip

    def write(connection: Connection) -> None:
        this = (battery_test_point.c.test_id == test_id, battery_test_point.c.at >= min(row["at"] for row in rows))
        known = set(connection.scalars(select(battery_test_point.c.at).where(*this)))
        fresh = {row["at"]: row for row in rows if row["at"] not in known}
        if fresh:
            connection.execute(insert(battery_test_point), list(fresh.values()))

    return write


def end_test(
    test_id: int, ended_us: int, verdict: Verdict, text: str, evidence: Mapping[str, Any], *, wave_id: int | None,
    again: bool = False,
) -> Callable[..., None]:
    """Write down how a test ended, once; ``again``: it was never sent, so its UPS has its turn in the wave still to come."""

    def write(connection: Connection, device_id: int) -> None:
        this = (battery_test.c.id == test_id, battery_test.c.verdict.is_(None))
        row = {"ended": ended_us, "verdict": verdict.value, "text": clean(text), "evidence": dict(evidence)}
        connection.execute(update(battery_test).where(*this).values(row))
        started_us = connection.scalar(select(battery_test.c.started).where(battery_test.c.id == test_id))
        name_test(connection, device_id, started_us or ended_us, ended_us, test_id)
        if wave_id is not None and again:
            _set_member(connection, wave_id, device_id, state="waiting", text=clean(text), test_id=None)
        elif wave_id is not None:
            _set_member(connection, wave_id, device_id, state="tested", text=clean(text), test_id=test_id)

    return write


def refuse_member(wave_id: int, text: str) -> Callable[..., None]:
    """Write down that a UPS is not tested in a wave, and why."""

    def write(connection: Connection, device_id: int) -> None:
        _set_member(connection, wave_id, device_id, state="refused", text=clean(text))

    return write


def end_wave(wave_id: int, ended_us: int, outcome: str, text: str) -> Callable[..., None]:
    """Close a wave."""

    def write(connection: Connection) -> None:
        row = {"ended": ended_us, "outcome": outcome, "text": clean(text)}
        connection.execute(update(test_wave).where(test_wave.c.id == wave_id).values(row))

    return write


DEALT, KNOWN = "schedule", "schedule-since"
"""Two dates kept of each schedule: the one dealt with last, and that of which it is known first."""


def note_date(schedule: str, date_us: int, what: str = DEALT) -> Callable[..., None]:
    """Write down the date of a schedule that was dealt with last, or since when it is :data:`KNOWN`."""

    def write(connection: Connection) -> None:
        key, value = f"{what}/{schedule}", str(date_us)
        if not connection.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount:
            connection.execute(insert(meta).values(key=key, value=value))

    return write


# -- queries


def noted_dates(connection: Connection, what: str = DEALT) -> dict[str, int]:
    """The date dealt with last, or since when it is :data:`KNOWN`, by schedule."""
    prefix = f"{what}/"
    rows = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(prefix)))
    return {key.removeprefix(prefix): int(value) for key, value in rows}


def waves(
    connection: Connection, *, open_only: bool = False, wave_id: int | None = None, limit: int | None = None
) -> list[StoredWave]:
    """Waves with their members, oldest first; of ``limit`` the newest."""
    query = select(test_wave).order_by(test_wave.c.id.desc()).limit(limit)
    if open_only:
        query = query.where(test_wave.c.ended.is_(None))
    if wave_id is not None:
        query = query.where(test_wave.c.id == wave_id)
    rows = list(connection.execute(query).mappings())[::-1]
    members: dict[int, list[StoredMember]] = {row["id"]: [] for row in rows}
    found = connection.execute(
        select(test_wave_member, device.c.name, battery_test.c.verdict)
        .join(device, device.c.id == test_wave_member.c.device_id)
        .outerjoin(battery_test, battery_test.c.id == test_wave_member.c.test_id)
        .where(test_wave_member.c.wave_id.in_(members))
        .order_by(test_wave_member.c.wave_id, test_wave_member.c.place)
    ).mappings()
    for row in found:
        verdict = None if row["verdict"] is None else Verdict(row["verdict"])
        members[row["wave_id"]].append(StoredMember(row["name"], row["state"], row["text"], row["test_id"], verdict))
    return [
        StoredWave(
            id=row["id"], schedule=row["schedule"], actor=row["actor"],
            asked=Asked(row["plan"]["kind"], row["plan"]["for_s"], row["plan"]["depth_percent"]),
            rules=Rules.of_json(row["plan"]["rules"]), patient=row["plan"]["patient"], started_us=row["started"],
            closes_us=row["closes"], ended_us=row["ended"], outcome=row["outcome"], text=row["text"],
            members=tuple(members[row["id"]]),
        )
        for row in rows
    ]  # fmt: skip


def tests(
    connection: Connection, ups: Collection[str] | None = None, since_us: int | None = None, limit: int | None = None, *,
    open_only: bool = False,
) -> list[StoredTest]:
    """Battery tests of these UPSes (None: of all), oldest first; of ``limit`` the newest."""
    query = _tests().order_by(battery_test.c.id.desc()).limit(limit)
    if ups is not None:
        query = query.where(device.c.name.in_(ups))
    if since_us is not None:
        query = query.where(battery_test.c.started >= since_us)
    if open_only:
        query = query.where(battery_test.c.verdict.is_(None))
    return [_test(row) for row in list(connection.execute(query).mappings())[::-1]]


def latest_tests(connection: Connection) -> dict[str, StoredTest]:
    """The last test of each UPS that came to a verdict on its battery, by UPS."""
    newest = (
        select(func.max(battery_test.c.id))
        .where(battery_test.c.verdict.is_not(None), battery_test.c.kind != "outage")
        .group_by(battery_test.c.device_id)
    )
    return {row["ups"]: _test(row) for row in connection.execute(_tests().where(battery_test.c.id.in_(newest))).mappings()}


def failed_batteries(connection: Connection) -> dict[str, str]:
    """UPSes whose last test that passed or failed was a failure, with its text; a battery replaced since is a new one."""
    return {ups: text for ups, (_, text) in failed_tests(connection).items()}


def last_passed(connection: Connection) -> dict[str, int]:
    """When the last test of each UPS began that its battery passed."""
    query = select(device.c.name, func.max(battery_test.c.started)).join(device, device.c.id == battery_test.c.device_id)
    query = query.where(battery_test.c.verdict == Verdict.PASSED.value).group_by(device.c.name)
    return dict(connection.execute(query).all())


def failed_tests(connection: Connection) -> dict[str, tuple[int, str]]:
    """As :func:`failed_batteries`, each with when the test began."""
    newest = (
        select(func.max(battery_test.c.id))
        .where(battery_test.c.verdict.in_((Verdict.PASSED.value, Verdict.FAILED.value)))
        .group_by(battery_test.c.device_id)
    )
    replaced = (
        select(device_era.c.id)
        .where(device_era.c.device_id == battery_test.c.device_id, device_era.c.at >= battery_test.c.started,
               device_era.c.kind.in_(("battery-replaced", "unit-replaced")))
        .exists()
    )  # fmt: skip
    query = (
        select(device.c.name, battery_test.c.started, battery_test.c.text)
        .join(device, device.c.id == battery_test.c.device_id)
        .where(battery_test.c.id.in_(newest), battery_test.c.verdict == Verdict.FAILED.value, ~replaced)
    )
    return {row.name: (row.started, row.text) for row in connection.execute(query)}


def points(connection: Connection, test_id: int) -> list[StoredPoint]:
    """The curve of a test, in time order."""
    rows = connection.execute(
        select(battery_test_point).where(battery_test_point.c.test_id == test_id).order_by(battery_test_point.c.at)
    ).mappings()
    return [StoredPoint(row["at"], row["status"], _values(row)) for row in rows]


def _values(row: Any) -> dict[str, float]:
    return {name: row[column] / scale for column, name, scale in _COLUMNS if row[column] is not None}


def order_of(connection: Connection, ups: str, order_actor: str) -> str | None:
    """What became of the order that was to start a test: its outcome, empty if that is not known, None if there was no order."""
    query = (
        select(order_log.c.outcome)
        .join(device, device.c.id == order_log.c.device_id)
        .where(device.c.name == ups, order_log.c.actor == clean(order_actor), order_log.c.name.startswith("test.battery.start"))
        .order_by(order_log.c.id.desc())
    )
    row = connection.execute(query).first()
    return None if row is None else row[0] or ""


@dataclass(frozen=True, slots=True)
class Calm:
    """Readings of a UPS since a moment: the first and the last, the last one with a flag that does not go with normal mains, and
    the first and the last in which its battery carried the load. None: there was none."""

    first_us: int
    last_us: int
    disturbed_us: int | None
    carried_from_us: int | None
    carried_to_us: int | None


def calm_since(connection: Connection, since_us: int, disturbed: int, carried: int) -> dict[str, Calm]:
    """How calm it was since a moment, by UPS with readings since then; the flags are given as bits."""
    at = reading.c.at
    upset = reading.c.status.bitwise_and(disturbed) != 0
    worked = reading.c.status.bitwise_and(carried) != 0
    query = (
        select(
            device.c.name, func.min(at), func.max(at), func.max(at).filter(upset), func.min(at).filter(worked),
            func.max(at).filter(worked),
        )
        .join(device, device.c.id == reading.c.device_id)
        .where(at >= since_us)
        .group_by(device.c.name)
    )  # fmt: skip
    return {name: Calm(*figures) for name, *figures in connection.execute(query)}


def _tests() -> Select[Any]:
    return (
        select(battery_test, device.c.name.label("ups"), test_wave.c.id.label("wave_id"), test_wave.c.schedule)
        .join(device, device.c.id == battery_test.c.device_id)
        .outerjoin(test_wave_member, test_wave_member.c.test_id == battery_test.c.id)
        .outerjoin(test_wave, test_wave.c.id == test_wave_member.c.wave_id)
    )


def _test(row: Any) -> StoredTest:
    return StoredTest(
        id=row["id"], ups=row["ups"], asked=Asked(row["kind"], row["asked_s"], row["depth"]), actor=row["actor"],
        started_us=row["started"], bound_us=row["bound"], sent=row["sent"], stop_reason=row["stop_reason"], ended_us=row["ended"],
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]), text=row["text"], evidence=row["evidence"] or {},
        wave_id=row["wave_id"], schedule=row["schedule"] or "",
    )  # fmt: skip


def _set_member(connection: Connection, wave_id: int, device_id: int, **values: Any) -> None:
    this = (test_wave_member.c.wave_id == wave_id, test_wave_member.c.device_id == device_id)
    connection.execute(update(test_wave_member).where(*this).values(values))


def _key(connection: Connection, statement: Any) -> int:
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])

