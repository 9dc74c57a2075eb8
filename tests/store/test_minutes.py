"""Packed minutes: bodies bit for bit, old databases, views, roll-up and packing in steps that may end anywhere."""

from __future__ import annotations

import csv
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, make_url, select, text

from qxfleet.interfaces.export import export
from qxfleet.model.reading import Reading
from qxfleet.model.retention import DAY_S, Retention
from qxfleet.model.status import Status
from qxfleet.model.variables import READING_COLUMNS
from qxfleet.store import minutes, tiers
from qxfleet.store.bulk import Backfill, Row, bucket_row
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import run_revisions, upgrade
from qxfleet.store.minutes import HOUR_US, MINUTE_US, pack, pack_hour, pack_step, unpack, unpack_hour
from qxfleet.store.policy import Kept
from qxfleet.store.rows import reading_row
from qxfleet.store.series import Series, series, status_spans
from qxfleet.store.tables import packed_minutes, reading_day, reading_minute, reading_quarter
from qxfleet.store.tiers import DAY_US, MINUTE, TIERS, mark_late, put, roll_up_step
from qxfleet.store.upkeep import prune_step
from tests.conftest import Postgres
from tests.parts import absent

T0_US = 1_760_054_400_000_000
"""2025-10-10T00:00Z."""
ONE = T0_US + HOUR_US
VARIABLES = len(READING_COLUMNS)


@pytest.fixture
def engine(fleet_url: str) -> Iterator[Engine]:
    made = open_engine(fleet_url, writing=True)
    yield made
    made.dispose()


# Bodies


def test_a_body_is_what_the_format_says() -> None:
    """By hand: a mean that alternates between -10 and +10 steps (20 from its least: 5 bits), and one minute 3 below it."""
    mean = [-10, 10] * 30
    low = [0] * 59 + [3]
    body = pack([mean, low, [0] * 60, [0] * 60, [0] * 60])
    assert body[:5] == bytes([5, 7, 7, 7, 7])  # ends: 5 bits of mean, then 2 of low, nothing of the others
    assert int.from_bytes(body[5:9]) == 2**31 - 10
    bits = "0000010100" * 30 + "00" * 59 + "11"
    assert body[9:].hex() == f"{int(bits + '0000', 2):0106x}"  # 420 bits, filled up to 53 bytes
    assert len(body) == 9 + 53
    assert pack([[2301] * 60, *[[0] * 60] * 4]) == bytes(5) + (2**31 + 2301).to_bytes(4)


numbers = st.sampled_from([1, 2, 30, 256, 257, 70_000, 2**31, 2**32 - 1])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_is_packed_comes_out_again(data: st.DataObject) -> None:
    top = data.draw(numbers)
    low = data.draw(st.integers(-(2**31), 2**31 - 1 - top) if top < 2**32 - 1 else st.just(-(2**31)))
    first = data.draw(st.lists(st.integers(low, low + top), min_size=60, max_size=60))
    sizes = data.draw(st.lists(numbers, max_size=4))
    others = [data.draw(st.lists(st.integers(0, size), min_size=60, max_size=60)) for size in sizes]
    base, parts = unpack(pack([first, *others]), 1 + len(others))
    assert [base + value for value in parts[0][:60]] == first
    assert [list(part[:60]) for part in parts[1:]] == others


@st.composite
def minute(draw: st.DrawFn) -> list[int | None]:
    rows = draw(st.integers(1, 900))
    seen = draw(st.integers(0, 65_535))
    made: list[int | None] = [rows, 1, seen, seen & draw(st.integers(0, 65_535))]
    for _ in range(VARIABLES):
        count = draw(st.sampled_from([rows, rows, 0, max(1, rows // 2)]))
        if not count:
            made += [None, None, None, None, 0]
            continue
        low, mean, high = sorted(draw(st.tuples(*[st.integers(-2_000, 70_000)] * 3)))
        last = draw(st.integers(low, high))
        made += [*(None if value == mean else value for value in (low,)), mean]
        made += [*(None if value == mean else value for value in (high, last)), None if count == rows else count]
    return made


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.integers(0, 59), minute(), min_size=1))
def test_an_hour_of_minutes_comes_out_as_it_was(hour: dict[int, list[int | None]]) -> None:
    rows = {place: (7, ONE + place * MINUTE_US, *values) for place, values in sorted(hour.items())}
    assert unpack_hour(7, ONE, pack_hour(rows)) == list(rows.values())


# On old databases

def minute_rows(device: int, begin_us: int, count: int, chance: random.Random) -> Iterator[Row]:
    """Minutes with gaps, an outage, values that are not known now and then, and one that never is."""
    for place in range(count):
        if chance.random() < 0.05:
            continue
        values = {}
        for variable in READING_COLUMNS[:-1]:
            if chance.random() < 0.9:
                low, mean, high = sorted(round(chance.gauss(200, 3), 1) for _ in range(3))
                values[variable.name] = (low, mean, high, chance.choice([low, mean, high]))
        row = list(bucket_row(device, begin_us + place * MINUTE_US, chance.randrange(1, 40), 1, 1, values))
        if place % 97 == 5:
            row[4:6] = [int(Status.OL | Status.OB), int(Status.OB)]
        yield tuple(row)


def shown(connection: Connection) -> list[tuple[Any, ...]]:
    """All of the view of minutes, as far as it is as it was."""
    rows = connection.execute(text("SELECT * FROM reading_minute_v ORDER BY ups, at_us")).mappings()
    new = ("hour", "hour_us")
    return [
        tuple(float(value) if isinstance(value, Decimal) else value for name, value in row.items() if name not in new)
        for row in rows
    ]


def told(connection: Connection, until_us: int) -> list[Any]:
    """What history tells: a column that is packed, by three widths, and the status."""
    found: list[Any] = [series(connection, "a", "input.voltage", T0_US, until_us, width_s) for width_s in (60, 300, 3600)]
    return [*found, status_spans(connection, "a", T0_US, until_us)]


def pack_all(engine: Engine, until_us: int) -> int:
    steps, more = 0, True
    while more:
        with engine.begin() as connection:
            more = pack_step(connection, until_us)
        steps += 1
    return steps


@pytest.mark.parametrize(
    "revision", [*(pytest.param(each, marks=pytest.mark.more) for each in ("0002", "0003", "0004", "0005")), "0006 / fleet_0001"]
)
def test_minutes_of_every_earlier_schema_are_packed_in_steps_and_read_as_before(
    empty_url: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minutes, "BUDGET_S", 0.0)
    monkeypatch.setattr(minutes, "ROWS", 100)
    sqlite = empty_url.startswith("sqlite")
    target = revision.split(" / ")[0 if sqlite else -1]
    chance = random.Random(revision)
    rows = [row for number in (1, 2) for row in minute_rows(number, T0_US, 200, chance)]
    until_us = T0_US + 4 * HOUR_US
    engine = open_engine(empty_url, writing=True, migrating=True)
    with engine.begin() as connection:
        run_revisions(connection, target)
        now = "0" if sqlite else "now()"
        connection.execute(text(f"INSERT INTO device (name, created) VALUES ('a', {now}), ('b', {now})"))
        columns = ", ".join(column.name for column in reading_minute.columns)
        moment = ":at" if sqlite else "to_timestamp(0) + :at * interval '1 microsecond'"
        values = ", ".join([":device_id", moment, *(f":{column.name}" for column in list(reading_minute.columns)[2:])])
        connection.execute(
            text(f"INSERT INTO reading_minute ({columns}) VALUES ({values})"),
            [dict(zip(columns.split(", "), row, strict=True)) for row in rows],
        )
        for tier in TIERS:
            put(connection, tier.mark, until_us)
        before = shown(connection)
    assert len(before) == len(rows) > 350
    upgrade(empty_url)
    with engine.connect() as connection:
        assert shown(connection) == before  # nothing is packed yet
        history = told(connection, until_us)
    assert pack_all(engine, until_us) > 3
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM reading_minute")) == 0
        assert connection.scalar(text("SELECT count(*) FROM packed_minutes")) == 8
        assert shown(connection) == before
        assert told(connection, until_us) == history
    engine.dispose()


@pytest.mark.parametrize("backend", ["sqlite"])
def test_plain_sqlite_reads_the_minutes(engine: Engine, fleet_url: str) -> None:
    shell = shutil.which("sqlite3")
    if shell is None:
        absent("apt-get install -y sqlite3")
    volts = {"input.voltage": (229.9, 230.1, 230.4, 230.0)}
    with Backfill(fleet_url) as backfill:
        backfill.device_ids(["a"], T0_US)
        backfill.buckets(MINUTE, [bucket_row(1, T0_US + at * MINUTE_US, 2, 1, 3, volts) for at in range(60)])
    pack_all(engine, T0_US + 2 * HOUR_US)
    query = (
        'SELECT time, "ups.status", "input.voltage.min", "input.voltage", "input.voltage.max", "input.voltage.last", readings, '
        "\"ups.load\" FROM reading_minute_v WHERE ups = 'a' ORDER BY at_us DESC LIMIT 1"
    )
    file = fleet_url.removeprefix("sqlite:///")
    done = subprocess.run([shell, "-readonly", file, query], capture_output=True, text=True, check=True)
    assert done.stdout == "2025-10-10T00:59:00.000Z|OL OB|229.9|230.1|230.4|230.0|2|\n"


@pytest.mark.parametrize("backend", ["sqlite"])
def test_exported_minutes_are_those_of_the_view(engine: Engine, fleet_url: str, tmp_path: Path) -> None:
    """The export unpacks by itself, hour by hour; packed and open hours, and a span that begins and ends within one."""
    chance = random.Random(9)
    with Backfill(fleet_url) as backfill:
        backfill.device_ids(["a"], T0_US)
        backfill.buckets(MINUTE, minute_rows(1, T0_US, 150, chance))
    pack_all(engine, T0_US + 2 * HOUR_US)
    span = (T0_US + 20 * MINUTE_US, T0_US + 140 * MINUTE_US)
    with engine.connect() as connection:
        [(file, count)] = export(connection, tmp_path, "csv", ["reading_minute"], *span, lambda *_: None)
        within = "WHERE at_us >= :since AND at_us < :until ORDER BY at_us"
        query = text(f"SELECT * FROM reading_minute_v {within}")
        rows = connection.execute(query, {"since": span[0], "until": span[1]}).all()
        expected = [["" if value is None else str(value) for value in row] for row in rows]
    with file.open() as lines:
        head, *found = list(csv.reader(lines))
    assert (head[1], len(found)) == ("time", count)
    assert found == expected


# From readings


def polls(ups: str, hours: int, seed: int) -> Iterator[Reading]:
    """A poll every 2 s with the noise of real ones, and an outage of two minutes in the second hour."""
    chance = random.Random(seed)
    for second in range(0, hours * 3600, 2):
        out = 5400 <= second < 5520
        yield Reading(
            ups, T0_US + second * 1_000_000 + seed, float(second), Status.OB if out else Status.OL,
            {
                "input.voltage": 0.0 if out else round(chance.gauss(230, 0.6), 1), "input.voltage.fault": 228.0,
                "output.voltage": round(chance.gauss(230, 0.6), 1), "ups.load": float(round(chance.gauss(35, 1))),
                "input.frequency": round(chance.gauss(50, 0.05), 1), "battery.voltage": round(chance.gauss(27.4, 0.03), 1),
                "ups.temperature": 25.0, "battery.charge": 100.0, "battery.runtime": float(round(chance.gauss(1800, 5))),
            },
        )  # fmt: skip


def stored(ups: str, number: int, hours: int) -> list[Row]:
    """The readings that the agent would store of these polls."""
    kept, rows = Kept(), []
    for item in polls(ups, hours, number):
        if kept.outdated_by(item):
            before = kept.before(item)
            rows += [reading_row(each, None) for each in (before, item) if each is not None]
            kept.keep(item)
        else:
            kept.passed = item
    return [(number, *row[1:]) for row in rows]


def fill(url: str, rows: list[Row], names: tuple[str, ...]) -> None:
    backfill = Backfill(url)
    backfill.device_ids(names, T0_US)
    backfill.readings(rows)
    backfill._engine.dispose()


def roll_all(engine: Engine, now_us: int) -> int:
    steps, more = 0, True
    while more:
        with engine.begin() as connection:
            more = roll_up_step(connection, now_us)
        steps += 1
    return steps


def everything(engine: Engine) -> list[list[tuple[Any, ...]]]:
    with engine.begin() as connection:
        return [
            [tuple(row) for row in connection.execute(select(table).order_by(table.c.device_id, table.c.at))]
            for table in (packed_minutes, reading_minute, reading_quarter, reading_day)
        ]


def plain(rows: list[Row], place: int, scale: int, width_us: int) -> dict[int, tuple[float, float, float, float, int]]:
    """Min, mean, max, last, count of a column by bucket, reckoned with nothing but the rows; the mean weighs minutes alike."""
    found: dict[int, dict[int, list[float]]] = {}
    for row in rows:
        if row[place] is not None:
            bucket = found.setdefault(row[1] - row[1] % width_us, {})
            bucket.setdefault(row[1] - row[1] % MINUTE_US, []).append(row[place] / scale)
    return {
        at: (
            min(map(min, each.values())), fmean(fmean(values) for values in each.values()), max(map(max, each.values())),
            each[max(each)][-1], sum(map(len, each.values())),
        )
        for at, each in found.items()
    }  # fmt: skip


def test_history_out_of_packed_minutes_is_what_plain_reckoning_gives(engine: Engine, fleet_url: str) -> None:
    rows = stored("a", 1, 5)
    fill(fleet_url, rows, ("a",))
    now_us = T0_US + 4 * HOUR_US + 40 * MINUTE_US  # three tiers and the readings themselves have part in what is told
    roll_all(engine, now_us)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM packed_minutes")) == 4
        assert connection.scalar(text("SELECT count(*) FROM reading_minute")) == 30
        for place, variable in enumerate(READING_COLUMNS, start=3):
            for width_s in (60, 300, 900, 3600):
                found = series(connection, "a", variable.name, T0_US, T0_US + 5 * HOUR_US, width_s)
                expected = plain(rows, place, variable.scale, width_s * 1_000_000)
                assert [point.at_us for point in found.points] == sorted(expected)
                for point in found.points:
                    low, mean, high, last, count = expected[point.at_us]
                    assert (point.min, point.max, point.last, point.readings) == (low, high, last, count)
                    assert abs(point.mean - mean) <= 1.0 / variable.scale  # means are kept in steps, of minutes and of quarters
        spans = [span for span in status_spans(connection, "a", T0_US, T0_US + 5 * HOUR_US) if span.status & Status.OB]
    assert [(span.at_us - T0_US) // 1_000_000 for span in spans] == [5400]


def test_what_a_minute_takes(engine: Engine, fleet_url: str, backend: str, request: pytest.FixtureRequest) -> None:
    """Index and what a row takes besides included; hours come again and again: the last page of a tree counts little."""
    fill(fleet_url, [row for number in (1, 2) for row in stored("ab"[number - 1], number, 4)], ("a", "b"))
    roll_all(engine, T0_US + 4 * HOUR_US + 5 * MINUTE_US)
    with engine.begin() as connection:
        made = [row._asdict() for row in connection.execute(select(packed_minutes).order_by(packed_minutes.c.at))]
        assert len(made) == 8
        for again in range(1, 50):
            later = [{**row, "at": row["at"] + again * 4 * HOUR_US} for row in made]
            connection.execute(packed_minutes.insert(), later)
    hours = 8 * 50
    if backend == "sqlite":
        with closing(sqlite3.connect(fleet_url.removeprefix("sqlite:///"))) as file:
            size = file.execute("SELECT sum(pgsize) FROM dbstat WHERE name LIKE '%packed_minutes%'").fetchone()[0]
        assert size / (hours * 60) <= 20
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.sql("VACUUM FULL packed_minutes", make_url(fleet_url).database)  # a page for each index is much for so few rows
    with engine.connect() as connection:
        size = connection.scalar(text("SELECT pg_relation_size('packed_minutes') + count(*) * 40 FROM packed_minutes"))
    assert size is not None
    assert size / (hours * 60) <= 25


# In steps


def test_a_step_is_some_upses_and_may_be_cut_off_anywhere(
    engine: Engine, fleet_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("a", "b", "c")
    rows = sorted((row for number in range(1, 4) for row in stored(names[number - 1], number, 2)), key=lambda row: row[1])
    now_us = T0_US + 25 * HOUR_US
    fill(fleet_url, rows, names)
    roll_all(engine, now_us)
    whole = everything(engine)
    assert [len(table) for table in whole] == [6, 0, 24, 3]
    with engine.begin() as connection:
        for table in (packed_minutes, reading_quarter, reading_day):
            connection.execute(table.delete())
        connection.execute(text("DELETE FROM meta WHERE key <> 'retention'"))
    monkeypatch.setattr(minutes, "BUDGET_S", 0.0)
    monkeypatch.setattr(minutes, "ROWS", 100)
    monkeypatch.setattr(tiers, "DEVICES", 2)
    chance, more, steps, cut = random.Random(13), True, 0, 0
    while more:
        with engine.connect() as connection, connection.begin() as transaction:
            before = connection.scalar(text("SELECT count(*) FROM reading_quarter")) or 0
            found = roll_up_step(connection, now_us)
            assert (connection.scalar(text("SELECT count(*) FROM reading_quarter")) or 0) - before <= 2  # never all UPSes at once
            steps += 1
            if chance.random() < 0.3:
                transaction.rollback()
                cut += 1
                continue
        more = found
    assert cut > 3
    assert steps - cut > 8 * 2
    assert everything(engine) == whole


def test_readings_that_come_late_while_a_step_is_under_way_are_in_it(
    engine: Engine, fleet_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minutes, "BUDGET_S", 0.0)
    monkeypatch.setattr(tiers, "DEVICES", 1)
    rows = {number: stored("ab"[number - 1], number, 2) for number in (1, 2)}
    late = rows[1][40]
    fill(fleet_url, [row for number in (1, 2) for row in rows[number] if row is not late], ("a", "b"))
    now_us = T0_US + 2 * HOUR_US + 5 * MINUTE_US
    with engine.begin() as connection:
        assert roll_up_step(connection, now_us)  # of UPS a the first quarter is done, of b it is not
        mark_late(connection, late[1])
    fill(fleet_url, [late], ("a", "b"))
    roll_all(engine, now_us)
    with engine.connect() as connection:
        found = series(connection, "a", "input.voltage", T0_US, T0_US + HOUR_US, 900)
        of_minutes = series(connection, "a", "input.voltage", T0_US, T0_US + HOUR_US, 60)
    expected = sum(T0_US <= row[1] < T0_US + HOUR_US for row in rows[1])
    assert sum(point.readings for point in found.points) == sum(point.readings for point in of_minutes.points) == expected


def test_late_readings_open_their_hour_and_join_what_is_packed(engine: Engine, fleet_url: str) -> None:
    """Also where the readings around them were deleted long ago: the quarter keeps what it had."""
    rows = stored("a", 1, 3)
    late = [row for row in rows if ONE <= row[1] < ONE + 20 * MINUTE_US]
    early = [row for row in rows if row not in late]
    fill(fleet_url, early, ("a",))
    now_us = T0_US + 30 * HOUR_US
    roll_all(engine, now_us)
    with engine.begin() as connection:
        while prune_step(connection, Retention(0.0, None, None, None), now_us):
            pass
        assert connection.scalar(text("SELECT count(*) FROM reading WHERE device_id = 1")) == 0
    fill(fleet_url, late, ("a",))
    roll_all(engine, now_us)
    expected = plain(rows, 3, 10, MINUTE_US)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM reading_minute")) == 0
        found: Series = series(connection, "a", "input.voltage", T0_US, T0_US + 3 * HOUR_US, 60)
    assert [(point.at_us, point.min, point.max, point.readings) for point in found.points] == [
        (at, each[0], each[2], each[4]) for at, each in sorted(expected.items())
    ]


def test_an_hour_that_is_packed_and_open_is_merged(engine: Engine, fleet_url: str) -> None:
    """As it is after `db salvage`: the bucket of more readings stands, and no minute is lost."""
    load = {"ups.load": (30.0, 30.0, 30.0, 30.0)}
    with Backfill(fleet_url) as backfill:
        backfill.device_ids(["a"], T0_US)
        backfill.buckets(MINUTE, [bucket_row(1, T0_US + at * MINUTE_US, 5, 1, 1, load) for at in range(40)])
    pack_all(engine, T0_US + HOUR_US)
    more = {"ups.load": (40.0, 40.0, 40.0, 40.0)}
    with engine.begin() as connection:
        names = [column.name for column in reading_minute.columns]
        rows = [bucket_row(1, T0_US + at * MINUTE_US, rows, 1, 1, more) for at, rows in ((10, 4), (20, 6), (50, 1))]
        connection.execute(reading_minute.insert(), [dict(zip(names, row, strict=True)) for row in rows])
    pack_all(engine, T0_US + 2 * HOUR_US)
    with engine.connect() as connection:
        found = connection.execute(text('SELECT readings, "ups.load" FROM reading_minute_v ORDER BY at_us')).all()
    values = [(row[0], float(row[1])) for row in found]
    assert len(values) == 41
    assert (values[10], values[20], values[40], values[0]) == ((5, 30.0), (6, 40.0), (1, 40.0), (5, 30.0))


def test_packed_minutes_go_when_their_time_is_over(engine: Engine, fleet_url: str) -> None:
    fill(fleet_url, stored("a", 1, 5), ("a",))
    now_us = T0_US + 3 * DAY_US
    roll_all(engine, now_us)
    rules = Retention(None, 3 * DAY_S - 2.5 * 3600, None, None)
    with engine.begin() as connection:
        while prune_step(connection, rules, now_us):
            pass
        first = connection.scalar(text("SELECT min(at_us) FROM reading_minute_v"))
    assert first == T0_US + 2 * HOUR_US  # an hour stays until all of it is old
