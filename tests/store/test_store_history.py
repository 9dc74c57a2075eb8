"""What comes out: readings, events, orders, identities."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.reading import Identity
from qxfleet.store import history
from qxfleet.store.engine import open_engine
from qxfleet.store.store import Store
from tests.store.conftest import T0_US, a_reading, an_event

SECOND_US = 1_000_000


async def test_readings_of_a_range_in_time_order(store: Store) -> None:
    for second in (3, 1, 0, 2):
        store.record(a_reading(at_us=T0_US + second * SECOND_US, values={"input.voltage": 230.0 + second}))
    store.record(a_reading(at_us=T0_US + 4 * SECOND_US, values={"input.voltage": None}))
    store.record(a_reading("rack1-b", at_us=T0_US, values={"input.voltage": 1.0}))
    await store.record_now()

    def seconds_of(since: int | None, until: int | None) -> list[float]:
        return [point.value - 230.0 for point in points(since, until)]

    def points(since: int | None, until: int | None) -> list[history.Point]:
        with store._state.reading.connect() as connection:
            return history.readings(connection, "rack1-a", "input.voltage", since, until)

    assert seconds_of(None, None) == [0, 1, 2, 3]
    assert seconds_of(T0_US + SECOND_US, T0_US + 3 * SECOND_US) == [1, 2]
    assert points(T0_US, T0_US + 1) == [history.Point(T0_US, 230.0)]


async def test_a_value_without_a_column_is_kept_where_it_changed(store: Store) -> None:
    for number, delay_s in enumerate((30.0, 30.0, 60.0)):
        store.record(a_reading(at_us=T0_US + number, values={"ups.delay.shutdown": delay_s}))
    await store.record_now()
    points = await store.read(lambda connection: history.readings(connection, "rack1-a", "ups.delay.shutdown"))
    assert points == [history.Point(T0_US, 30.0), history.Point(T0_US + 2, 60.0)]


@pytest.mark.parametrize("variable", ["input.voltge", "ups.beeper.status"])
async def test_a_variable_without_numbers_is_refused(store: Store, variable: str) -> None:
    with pytest.raises(StoreError, match=f"^{variable}: no numeric variable"):
        await store.read(lambda connection: history.readings(connection, "rack1-a", variable))


async def test_nothing_of_an_unknown_ups(store: Store) -> None:
    assert await store.read(lambda connection: history.readings(connection, "nobody", "input.voltage")) == []
    assert await store.read(lambda connection: history.last_reading(connection, "nobody")) is None
    assert await store.read(lambda connection: history.events(connection, ["nobody"])) == []


async def test_events_are_found_by_name_time_limit_and_number(store: Store) -> None:
    made = [an_event(0, None), an_event(1, "rack1-a"), an_event(2, "rack1-b"), an_event(3, "rack1-a")]
    await store.record_now(*made)
    everything = await store.read(history.events)
    assert [stored.event for stored in everything] == made
    numbers = [stored.id for stored in everything]
    assert numbers == sorted(set(numbers))

    async def found(**query: object) -> list[int]:
        kept = await store.read(lambda connection: history.events(connection, **query))  # type: ignore[arg-type]
        return [made.index(stored.event) for stored in kept]

    assert await found(ups=["rack1-a"]) == [1, 3]
    assert await found(ups=["rack1-b", "rack1-a"]) == [1, 2, 3]
    assert await found(since_us=T0_US + 2) == [2, 3]
    assert await found(limit=2) == [2, 3]
    assert await found(after_id=numbers[0]) == [1, 2, 3]
    assert await found(after_id=numbers[0], limit=1) == [1]
    assert await found(after_id=numbers[3]) == []
    assert await found(ups=[]) == []


async def test_following_is_by_number_even_when_the_clock_goes_back(store: Store) -> None:
    await store.record_now(an_event(1_000_000))
    [first] = await store.read(history.events)
    await store.record_now(an_event(1))
    followed = await store.read(lambda connection: history.events(connection, after_id=first.id))
    assert [stored.event for stored in followed] == [an_event(1)]


async def test_an_identity_comes_back_whole(store: Store, fleet_url: str) -> None:
    identity = Identity(
        dialect="megatec/old",
        facts={"input.voltage.nominal": 230.0, "device.model": "Überspannung 3000\0"},
        refused=frozenset({"I\r", "F\r"}),
        packs=6.5,
        evidence=(("Q1\r", "value", "(230.1 …"), ("F\r", "silence", "")),
    )
    bare = Identity(dialect="q1")
    store.save_identity("rack1-a", "/dev/ttyS0", bare)
    store.save_identity("rack1-a", "/dev/ttyS1", identity)
    store.save_identity("rack1-b", "usb:0665:5161", bare)
    await store.record_now(an_event(ups="never-recognised"))
    expected = {"rack1-a": ("/dev/ttyS1", identity), "rack1-b": ("usb:0665:5161", bare)}
    assert store.identities() == expected
    again = Store(fleet_url, clock=Clock())
    again.open()
    assert again.identities() == expected
    await again.close()


async def test_an_unreadable_identity_is_told_and_left_out(store: Store, fleet_url: str, troubles: list[str]) -> None:
    store.save_identity("rack1-a", "/dev/ttyS0", Identity(dialect="q1"))
    store.save_identity("rack1-b", "/dev/ttyS1", Identity(dialect="q1"))
    await store.record_now()
    engine = open_engine(fleet_url, writing=True)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE device SET identity = '{"dialect": "q1"}' WHERE name = 'rack1-a'"""))
    engine.dispose()
    assert store.identities() == {"rack1-b": ("/dev/ttyS1", Identity(dialect="q1"))}
    assert len(troubles) == 1
    assert troubles[0].startswith("rack1-a: the stored identity is unreadable")


async def test_only_news_is_stored_by_default(fleet_url: str) -> None:
    store = Store(fleet_url, clock=Clock())
    store.open()
    for poll in range(31):
        store.record(a_reading(at_us=T0_US + poll * 2 * SECOND_US, mono_s=poll * 2.0))
        store.record(a_reading("rack1-b", at_us=T0_US + poll * 2 * SECOND_US, mono_s=poll * 2.0))
    await store.record_now()
    points = await store.read(lambda connection: history.readings(connection, "rack1-a", "input.voltage"))
    assert [(point.at_us - T0_US) // SECOND_US for point in points] == [0, 60]
    assert store.health().written == 4
    await store.close()
