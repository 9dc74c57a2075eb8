"""The founding schema with rows inside, as the founding version left it, upgraded on both databases: every row is there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from qxfleet.model.clock import Clock
from qxfleet.model.events import Outcome
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.migrate import Standing, state, upgrade
from qxfleet.store.partitions import partitions
from qxfleet.store.series import series
from qxfleet.store.store import Store
from qxfleet.store.upkeep import check
from tests.conftest import Postgres
from tests.store.conftest import a_reading

STORED = Path(__file__).parents[1] / "schemas"
T0_US = 1_760_000_000_000_000


@pytest.fixture
def founding_url(empty_url: str, backend: str, request: pytest.FixtureRequest) -> str:
    """The stored database of schema 0001: two UPSes, four hours, an outage of half an hour, orders, a test, a plan."""
    script = (STORED / f"0001-{backend}.sql").read_bytes().decode()
    if backend == "sqlite":
        with closing(sqlite3.connect(empty_url.removeprefix("sqlite:///"))) as file:
            file.executescript(script)
    else:
        server: Postgres = request.getfixturevalue("postgres")
        at = {"host": str(server.folder), "user": "postgres", "dbname": str(make_url(empty_url).database)}
        with psycopg.connect(**at, autocommit=True) as connection:
            connection.execute(script.encode())
    return empty_url


async def test_every_row_of_the_founding_schema_is_there_after_the_upgrade(founding_url: str, backend: str) -> None:
    assert (state(founding_url).standing, state(founding_url).revision) == (Standing.OLDER, "0001")
    upgrade(founding_url)
    report = check(founding_url)
    assert report.problems == ()
    assert {name: report.rows[name] for name in ("device", "reading", "event", "order_log", "device_era", "battery_test")} == {
        "device": 2, "reading": 480, "event": 3, "order_log": 2, "device_era": 1, "battery_test": 1,
    }  # fmt: skip
    assert {name: report.rows[name] for name in ("battery_test_point", "meta")} == {"battery_test_point": 1, "meta": 1}
    engine = open_engine(founding_url, writing=False)
    try:
        with engine.connect() as connection:
            [outage] = [stored.event for stored in history.events(connection, ["rack1-a"]) if stored.event.value == "end"]
            assert outage.text == "mains are back"
            done, open_ = history.orders(connection)
            assert (done.outcome, open_.outcome, open_.sent) == (Outcome.ACCEPTED, None, "S.5R0003\r")
            volts = series(connection, "rack1-a", "input.voltage", None, T0_US + 5 * 3_600_000_000, 0)
            assert [point.last for point in volts.points[98:102]] == [230.0, 230.1, 0.0, 0.0]
            shown = connection.execute(text('SELECT ups, "battery.voltage" FROM reading_v ORDER BY at_us, ups')).first()
            assert shown is not None
            assert (shown[0], float(shown[1])) == ("rack1-a", 27.4)
            if backend == "postgresql":
                assert set(partitions(connection)) == {"reading_before_0002", "reading_elsewhen"}
    finally:
        engine.dispose()


async def test_what_comes_after_the_upgrade_goes_on_from_there(founding_url: str) -> None:
    store = Store(founding_url, clock=Clock(), keep="all")
    store.open()
    try:
        now_us = Clock().wall_us()
        store.record(a_reading("rack1-a", at_us=now_us))
        store.record(a_reading("rack1-a", at_us=now_us + 400 * 86_400_000_000))
        store.save_identity("rack1-b", "/dev/ttyS1", store.identities()["rack1-a"][1])
        await store.record_now()
        assert store.identities()["rack1-b"][1].facts["ups.mfr"] == "Überspannung & Söhne"
        rows = await store.read(lambda connection: connection.scalar(text("SELECT count(*) FROM reading")))
        assert rows == 482
    finally:
        await store.close()
