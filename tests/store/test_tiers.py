"""Roll-ups: what a plain reckoning gives, on both databases, however often and in whatever pieces they are made."""

from __future__ import annotations

import random
from collections.abc import Iterator
from statistics import fmean

import pytest
from sqlalchemy import Engine, select, text

from qxfleet.model.retention import DAY_S, Retention
from qxfleet.model.status import Status
from qxfleet.store import series as stored
from qxfleet.store import tiers
from qxfleet.store.bulk import Backfill, Row, bucket_row
from qxfleet.store.engine import open_engine
from qxfleet.store.minutes import unpack_hour
from qxfleet.store.partitions import make_weeks, partitions
from qxfleet.store.tables import packed_minutes, reading, reading_day, reading_minute, reading_quarter
from qxfleet.store.tiers import DAY, DAY_US, MINUTE, QUARTER, mark_late, marks, roll_up_step
from qxfleet.store.upkeep import keep_up_step, prune, prune_step

T0_US = 1_760_054_400_000_000
"""2025-10-10T00:00Z, a Friday."""
MINUTE_US = 60_000_000
COLUMNS = len(reading.columns)


@pytest.fixture
def engine(fleet_url: str) -> Iterator[Engine]:
    made = open_engine(fleet_url, writing=True)
    yield made
    made.dispose()


def row(device_id: int, at_us: int, volts: float | None, status: int = 1, extra: str | None = None) -> Row:
    """A reading with nothing but an input voltage (the fourth column)."""
    return (device_id, at_us, status, None if volts is None else round(volts * 10), *[None] * (COLUMNS - 5), extra)


def fill(url: str, rows: list[Row]) -> None:
    backfill = Backfill(url)
    backfill.device_ids(["a", "b"], T0_US)
    backfill.readings(rows)
    backfill._engine.dispose()


def roll_all(engine: Engine, now_us: int) -> int:
    steps = 0
    more = True
    while more:
        with engine.begin() as connection:
            more = roll_up_step(connection, now_us)
        steps += 1
    return steps


def tables(engine: Engine) -> list[list[tuple[object, ...]]]:
    with engine.begin() as connection:
        found = [
            [tuple(each) for each in connection.execute(select(table).order_by(table.c.device_id, table.c.at))]
            for table in (reading_minute, reading_quarter, reading_day)
        ]
        for number, at_us, *bodies in connection.execute(select(packed_minutes)):
            found[0] += unpack_hour(number, at_us, bodies)
    return [sorted(found[0], key=lambda each: each[:2]), *found[1:]]


def test_a_burst_of_readings_weighs_no_more_than_its_minutes(engine: Engine, fleet_url: str) -> None:
    """A quarter of an hour on mains at 230 V, a reading a minute, with one minute of sixty readings at 0 V in it."""
    rows = [row(1, T0_US + minute * MINUTE_US, 230.0) for minute in range(15) if minute != 7]
    rows += [row(1, T0_US + 7 * MINUTE_US + second * 1_000_000, 0.0, status=int(Status.OB)) for second in range(60)]
    fill(fleet_url, sorted(rows))
    roll_all(engine, T0_US + DAY_US + 3600_000_000)
    with engine.begin() as connection:
        view = 'SELECT readings, minutes, "ups.status", "ups.status.seen", "input.voltage", "input.voltage.min", ' \
               '"input.voltage.max", "input.voltage.last", "input.voltage.count" FROM reading_quarter_v'  # fmt: skip
        [found] = connection.execute(text(view)).all()
    # (14 × 230 + 0) / 15 = 214.67
    assert tuple(found)[:4] == (74, 15, "OL", "OL OB")
    assert [float(value) for value in tuple(found)[4:]] == [214.7, 0.0, 230.0, 230.0, 74]


def test_roll_ups_are_what_plain_reckoning_gives(engine: Engine, fleet_url: str) -> None:
    chance = random.Random(4)
    rows = []
    for device_id in (1, 2):
        at_us = T0_US + chance.randrange(MINUTE_US)
        while at_us < T0_US + 30 * 3600_000_000:
            volts = None if chance.random() < 0.1 else round(chance.uniform(-5, 250), 1)
            rows.append(row(device_id, at_us, volts, 1 << chance.randrange(16)))
            at_us += chance.choice([2, 20, 59, 61, 1000, 4000]) * 1_000_000
    fill(fleet_url, rows)
    roll_all(engine, T0_US + 31 * 3600_000_000)
    expected = {}
    for device_id, at, status, steps, *_ in rows:
        minute = expected.setdefault((device_id, at - at % MINUTE_US), ([], []))
        minute[0].append(status)
        minute[1].append(steps)
    minutes, quarters, _ = tables(engine)
    assert len(minutes) == len(expected)
    for device_id, at, count, one, seen, last, low, mean, high, final, known, *_ in minutes:
        statuses, volts = expected[device_id, at]  # type: ignore[index]
        values = [value for value in volts if value is not None]
        assert (count, one, last) == (len(statuses), 1, statuses[-1])
        together = 0
        for each in statuses:
            together |= each
        assert seen == together
        assert (known if known is not None else count) == len(values)
        if not values:
            assert mean is None
            continue
        assert abs(mean - fmean(values)) <= 0.5 + 1e-9  # type: ignore[operator]
        spelled = [mean if value is None else value for value in (low, high, final)]
        assert spelled == [min(values), max(values), values[-1]]
    for device_id, at, count, length, *_ in quarters:
        parts = [each for each in minutes if each[0] == device_id and at <= each[1] < at + 15 * MINUTE_US]  # type: ignore[operator]
        assert (count, length) == (sum(each[2] for each in parts), len(parts))  # type: ignore[misc]


def test_made_twice_late_or_in_pieces_they_are_the_same(engine: Engine, fleet_url: str) -> None:
    rows = [row(device, T0_US + minute * MINUTE_US, 200 + minute % 50) for minute in range(600) for device in (1, 2)]
    early, late = rows[:400] + rows[900:], rows[400:900]
    fill(fleet_url, early)
    now_us = T0_US + 25 * 3600_000_000
    roll_all(engine, now_us)
    short = tables(engine)
    fill(fleet_url, late)  # four hours that were kept elsewhere while the database was away
    roll_all(engine, now_us)
    whole = tables(engine)
    assert [len(table) for table in short] == [700, 48, 2]
    assert [len(table) for table in whole] == [1200, 80, 2]
    with engine.begin() as connection:
        assert tiers.LATE not in marks(connection)
        mark_late(connection, T0_US)
    roll_all(engine, now_us)
    assert tables(engine) == whole
    with engine.begin() as connection:
        for table in (reading_minute, packed_minutes, reading_quarter, reading_day):
            connection.execute(table.delete())
        connection.execute(text("DELETE FROM meta"))
    rolled = 0
    while True:
        with engine.connect() as connection, connection.begin() as transaction:
            more = roll_up_step(connection, now_us)
            rolled += 1
            if rolled % 3 == 0:  # cut off in the midst of every third step
                transaction.rollback()
                continue
        if not more:
            break
    assert tables(engine) == whole


def test_rolling_up_again_without_the_readings_takes_nothing_away(engine: Engine, fleet_url: str) -> None:
    rows = [row(1, T0_US + second * 1_000_000, 230.0) for second in range(0, 7200, 10)]
    fill(fleet_url, rows)
    now_us = T0_US + 3 * DAY_US
    roll_all(engine, now_us)
    whole = tables(engine)
    assert prune(fleet_url, Retention(DAY_S, None, None, None), now_us) == len(rows)
    fill(fleet_url, [row(1, T0_US + 5_000_001, 10.0)])
    roll_all(engine, now_us)
    assert tables(engine) == whole


def test_each_tier_is_kept_as_long_as_the_rules_say_and_never_beyond_its_roll_up(engine: Engine, fleet_url: str) -> None:
    fill(fleet_url, [row(1, T0_US + hour * 3600_000_000, 230.0) for hour in range(0, 24 * 10, 6)])
    now_us = T0_US + 10 * DAY_US
    rules = Retention(2 * DAY_S, 4 * DAY_S, 6 * DAY_S, 8 * DAY_S)
    with engine.begin() as connection:
        assert prune_step(connection, rules, now_us) == 0  # nothing is rolled up yet, so nothing may go
    while True:
        with engine.begin() as connection:
            if not keep_up_step(connection, rules, now_us):
                break
    assert prune(fleet_url, rules, now_us) >= 0
    with engine.begin() as connection:
        counts = [
            connection.scalar(text(f"SELECT count(*) FROM {table}"))
            for table in ("reading", "reading_minute_v", "reading_quarter", "reading_day")
        ]
    assert counts == [8, 16, 24, 7]  # the last day is not over by the grace that late readings have


@pytest.mark.parametrize("backend", ["postgresql"])
def test_whole_weeks_are_dropped_and_what_waited_elsewhere_moves_in(engine: Engine, fleet_url: str) -> None:
    week_us = 7 * DAY_US
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO device (name, created) VALUES ('a', now())"))
        connection.execute(text("INSERT INTO reading (device_id, at, status) VALUES (1, '2025-10-10T12:00Z', 1)"))
        assert connection.scalars(text("SELECT tableoid::regclass::text FROM reading")).all() == ["reading_elsewhen"]
        make_weeks(connection, T0_US, T0_US + 2 * week_us)
        assert connection.scalars(text("SELECT tableoid::regclass::text FROM reading")).all() == ["reading_20251006"]
        make_weeks(connection, T0_US, T0_US + 2 * week_us)
    now_us = T0_US + 5 * week_us
    rules = Retention(14 * DAY_S, None, None, None)
    for _ in range(20):  # a week that autovacuum looks at for a moment is left for the next round
        more = True
        while more:
            with engine.begin() as connection:
                more = keep_up_step(connection, rules, now_us)
        with engine.begin() as connection:
            left = set(partitions(connection))
        if "reading_20251006" not in left:
            break
    with engine.begin() as connection:
        assert "reading_20251006" not in left
        assert {"reading_elsewhen", "reading_20251110", "reading_20251117"} <= left
        assert connection.scalar(text("SELECT count(*) FROM reading_minute_v")) == 1
        for name in left - {"reading_elsewhen"}:
            connection.execute(text(f"DROP TABLE {name}"))


# Reading back


def test_tiers_and_readings_join_without_a_seam(engine: Engine, fleet_url: str) -> None:
    """Half a day is rolled up, the rest is not: by any width, every reading counts once."""
    rows = [row(1, T0_US + second * 1_000_000, 220 + second % 7) for second in range(0, 36 * 3600, 30)]
    fill(fleet_url, rows)
    roll_all(engine, T0_US + 25 * 3600_000_000 + 7 * MINUTE_US)
    until_us = T0_US + 48 * 3600_000_000
    with engine.connect() as connection:
        for every_s in (0, 10, 60, 300, 900, 3600, 7 * 3600, 86_400, 2 * 86_400):
            found = stored.series(connection, "a", "input.voltage", T0_US, until_us, every_s)
            assert sum(point.readings for point in found.points) == len(rows), every_s
            assert (min(p.min for p in found.points), max(p.max for p in found.points)) == (220.0, 226.0)
            assert all(point.at_us % (every_s * 1_000_000 or 1) == 0 for point in found.points)
            assert len({point.at_us for point in found.points}) == len(found.points)
        widths = {
            days: stored.series(connection, "a", "input.voltage", until_us - round(days * DAY_US), until_us).every_s
            for days in (0.1, 1, 2, 20, 400)
        }
    assert widths == {0.1: 0, 1: 60, 2: 60, 20: 60, 400: 60}  # what there is decides, not what was asked for


def test_a_gap_is_a_gap(engine: Engine, fleet_url: str) -> None:
    hours = (0, 1, 5)
    fill(fleet_url, [row(1, T0_US + hour * 3600_000_000 + m * MINUTE_US, 230.0) for hour in hours for m in range(60)])
    roll_all(engine, T0_US + DAY_US)
    with engine.connect() as connection:
        for every_s in (0, 60, 900, 3600):
            points = stored.series(connection, "a", "input.voltage", T0_US, T0_US + DAY_US, every_s).points
            assert {(point.at_us - T0_US) // 3600_000_000 for point in points} == set(hours)
        spans = stored.status_spans(connection, "a", T0_US, T0_US + DAY_US)
    assert [(span.at_us - T0_US) // 3600_000_000 for span in spans] == [0, 5]


def test_a_value_kept_on_change_stands_until_the_next(engine: Engine, fleet_url: str) -> None:
    changes = {0: '{"output.current": 2.0}', 100: '{"output.current": 4.0, "qx.bus.positive.voltage": 380.0}'}
    fill(fleet_url, [row(1, T0_US + m * MINUTE_US, 230.0, extra=changes.get(m)) for m in range(200)])
    with engine.connect() as connection:
        before = {
            every_s: stored.series(connection, "a", "output.current", T0_US, T0_US + DAY_US, every_s).points
            for every_s in (0, 60, 900, 3600)
        }
    roll_all(engine, T0_US + DAY_US)
    with engine.connect() as connection:
        for every_s, points in before.items():
            again = stored.series(connection, "a", "output.current", T0_US, T0_US + DAY_US, every_s).points
            assert [(p.at_us, p.max, p.last, p.readings) for p in again] == [
                (p.at_us, p.max, p.last, p.readings) for p in points
            ]
            assert {p.min for p in again} == {2.0, 4.0}
        late = stored.series(connection, "a", "output.current", T0_US + 150 * MINUTE_US, T0_US + DAY_US, 0).points
    assert [point.last for point in before[0]] == [2.0] * 100 + [4.0] * 100
    assert {point.last for point in late} == {4.0}


def test_loaded_buckets_are_read_as_they_were_given(engine: Engine, fleet_url: str) -> None:
    with Backfill(fleet_url) as backfill:
        number = backfill.device_ids(["a"], T0_US)["a"]
        values = {"battery.voltage": (26.5, 27.4, 27.6, 27.4), "ups.load": (30.0, 30.0, 30.0, 30.0)}
        backfill.buckets(DAY, [bucket_row(number, T0_US + day * DAY_US, 2880, 1440, 1, values) for day in range(400)])
        backfill.write(lambda connection: tiers.put(connection, DAY.mark, T0_US + 400 * DAY_US))
    with engine.connect() as connection:
        found = stored.series(connection, "a", "battery.voltage", None, T0_US + 400 * DAY_US)
        assert (found.every_s, len(found.points)) == (86_400, 400)
        assert found.points[7] == (T0_US + 7 * DAY_US, 26.5, 27.4, 27.6, 27.4, 2880, 1440)
        assert stored.series(connection, "a", "ups.temperature", None, T0_US + 400 * DAY_US).points == []


def test_the_tiers_stand_on_each_other() -> None:
    assert (MINUTE.below, QUARTER.below, DAY.below) == (None, MINUTE, QUARTER)
    assert QUARTER.seconds % MINUTE.seconds == DAY.seconds % QUARTER.seconds == 0
