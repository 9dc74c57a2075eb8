"""What the state can't take goes to the side file, survives the agent, and is in the state once when that takes it again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, OrderResult, Outcome, Severity
from qxfleet.model.reading import Identity
from qxfleet.store import history, maintenance, shutdown
from qxfleet.store.audit import insert_act, trail
from qxfleet.store.lock import StateHeld
from qxfleet.store.rows import ReadingRow, reading_row
from qxfleet.store.side import Side
from qxfleet.store.state import State
from qxfleet.store.store import Store
from qxfleet.store.tables import event, meta, reading
from qxfleet.store.transactions import Batch
from tests.store.conftest import T0_US, a_reading, all_rows, an_event
from tests.store.test_store_writer import until


def whose(connection: Connection) -> dict[str, str]:
    """The rows that say whose state it is."""
    found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith("agent."))).all()
    return {str(key): str(value) for key, value in found}


def a_row(at_us: int) -> ReadingRow:
    return reading_row(a_reading(at_us=at_us), None)


def a_store(path: Path, troubles: list[str], agent: str = "") -> Store:
    side = path.with_name("side")
    return Store(
        f"sqlite:///{path}", clock=Clock(), keep="all", on_trouble=lambda text, _: troubles.append(text), side=side, agent=agent
    )


LOCK = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
if sys.argv[2] == "exclusive":
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
other.execute("BEGIN EXCLUSIVE")
other.execute("CREATE TABLE IF NOT EXISTS zz_other (a)")
print("locked", flush=True)
sys.stdin.read()
"""


async def in_state(store: Store, *events: Event) -> None:
    """Keep events, and wait until they can be read: a record may be in the side file first."""
    await store.record_now(*events)
    give_up = time.monotonic() + 20
    while not await store.settled(5.0):
        assert time.monotonic() < give_up
        await asyncio.sleep(0.05)


@contextmanager
def locked(path: Path, how: str = "immediate") -> Iterator[None]:
    """Another process holds the lock; ``exclusive``: nobody else can even read."""
    command = [sys.executable, "-c", LOCK, str(path), how]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            process.stdin.close()


@pytest.mark.parametrize("how", ["immediate", "exclusive"])
async def test_locked_by_another_process_orders_go_on_and_nothing_is_lost(
    sqlite_path: Path, troubles: list[str], how: str
) -> None:
    with locked(sqlite_path, how):
        store = a_store(sqlite_path, troubles)
        began = time.monotonic()
        store.open()
        assert time.monotonic() - began < 4.0
        store.record(a_reading())
        store.record_event(an_event(0))
        began = time.monotonic()
        order = await store.order_intent("rack1-a", "load.off", None, "S00R0000\r", "cli")
        assert time.monotonic() - began < 2.0, "a record on the side file is a record"
        await store.order_outcome(order, OrderResult("rack1-a", "load.off", None, Outcome.ACCEPTED, sent="S00R0000\r", reply=""))
        run = store.new_key("shutdown_run")
        await store.commit(shutdown.begin_run(run, True, "ann", {"is": "Plan"}, None, T0_US))
        await store.commit(shutdown.go_on(run, [], [shutdown.StoredStep(1, "stop", "db", {"why": "x", "due_to": ["a"]}, T0_US)]))
        await store.commit(shutdown.answer(run, 1, "accepted", T0_US + 1, "went well"))
        await store.commit(shutdown.go_on(run, [shutdown.Ended(1, "done", T0_US + 2, 3.5, "down")], []))
        await store.commit(shutdown.wish(run, {"loads": ["db"]}, True))
        await store.commit(shutdown.arm(shutdown.Arming(T0_US, True, "ann", "real")))
        window = maintenance.StoredWindow("rack1-a", T0_US, None, "ann", "fan")
        await store.commit(maintenance.begin_window(window), "rack1-a")
        await store.commit(insert_act(T0_US, "ann", "arm", "", "arm", None, "accepted", ""))
        assert "database is locked" in str(store.health().error)
        assert await store.settled(5.0) is False
        waiting = asyncio.ensure_future(store.commit(lambda connection: 42))
        await until(lambda: store.health().queued_readings == 0)  # in the file too
    try:
        assert await waiting == 42, "what is no record waited for the state"
        await in_state(store)
        [kept] = await store.read(history.orders)
        assert (kept.id, kept.outcome, kept.reply) == (order, Outcome.ACCEPTED, "")
        [found] = await store.read(lambda connection: shutdown.runs(connection, 5))
        step = shutdown.StoredStep(
            1, "stop", "db", {"why": "x", "due_to": ["a"]}, T0_US, "accepted", T0_US + 1, "done", T0_US + 2, 3.5, "down"
        )
        assert (found.id, found.armed, found.ordered, found.cancelled) == (run, True, {"loads": ["db"]}, True)
        assert found.steps == (step,)
        assert await store.read(shutdown.arming) == shutdown.Arming(T0_US, True, "ann", "real")
        assert await store.read(maintenance.open_windows) == [window]
        assert [entry.act for entry in await store.read(trail)].count("arm") == 1
        assert [item.event for item in await store.read(history.events)] == [an_event(0)]
        assert len(await store.read(all_rows(reading))) == 1
        assert (store.health().error, store.health().queued_events) == (None, 0)
        assert not sqlite_path.with_name("side").exists()
        assert ["locked" in text for text in troubles] == [True, False], troubles
        assert "takes records again" in troubles[1]
    finally:
        await store.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from qxfleet.model.clock import Clock
from qxfleet.model.events import Event, EventKind
from qxfleet.model.reading import Reading
from qxfleet.store.state import State
from qxfleet.store.store import Store

async def main(url, side):
    store = Store(url, clock=Clock(), keep="all", on_trouble=lambda *_: None, side=Path(side))
    store.open()
    for number in range(40):
        values = {"input.voltage": 230.1, "output.current": 1.0 * number}
        store.record(Reading("ups0", 1_760_000_000_000_000 + number, 0.0, 1, values))
        store.record_event(Event(1_760_000_000_000_000 + number, "ups0", EventKind.STATUS, "x", "", f"event {number}"))
    number = await store.order_intent("ups0", "load.off", None, "S\\r", "cli")
    while store.health().queued_readings:
        await asyncio.sleep(0.01)
    print(number, flush=True)
    await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_killed_while_it_was_locked_nothing_is_lost(sqlite_path: Path, troubles: list[str]) -> None:
    side = sqlite_path.with_name("side")
    with locked(sqlite_path):
        command = [sys.executable, "-c", KILLED, f"sqlite:///{sqlite_path}", str(side)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            order = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
    with side.open("ab") as file:
        file.write(b'["e",1760000000000041,"ups0","status","x","","cut off')  # never acknowledged
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        await in_state(store, an_event(99))
        texts = [item.event.text for item in await store.read(history.events)]
        assert texts == [*(f"event {number}" for number in range(40)), "event 99"]
        assert [item.id for item in await store.read(history.orders)] == [order]
        rows = await store.read(all_rows(reading))
        assert sum(row["extra"]["output.current"] for row in rows) == sum(range(40))
        assert await store.order_intent("ups0", "load.on", None, "C\r", "cli") == order + 1
    finally:
        await store.close()


async def test_joined_twice_is_joined_once(sqlite_path: Path, troubles: list[str]) -> None:
    """Killed behind the commit and before the file went."""
    side = Side(sqlite_path.with_name("side"))
    side.append(Batch([a_row(T0_US)], [an_event(0), an_event(0, ups=None)]).lines())
    side.close()
    kept = side.path.read_bytes()
    for _ in range(2):
        side.path.write_bytes(kept)
        store = a_store(sqlite_path, troubles)
        store.open()
        await until(lambda store=store: store.health().written == 1)
        await store.close()
        assert not side.path.exists()
    with closing(sqlite3.connect(sqlite_path)) as file:
        assert file.execute("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM reading)").fetchall() == [(2, 1)]
    assert troubles == []


async def test_a_line_that_can_not_be_read_costs_only_itself(sqlite_path: Path, troubles: list[str]) -> None:
    side = Side(sqlite_path.with_name("side"))
    side.append(Batch(events=[an_event(0)]).lines())
    side.append([["w", 1, [], "of_a_later_version", []], ["z"]])
    side.append(Batch([a_row(T0_US), ("rack1-a", T0_US + 1, None, *a_row(0)[3:])], [an_event(1)]).lines())
    side.close()
    with side.path.open("ab") as file:
        file.write(b"\xff not json\n")
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        await in_state(store)
        assert [item.event.text for item in await store.read(history.events)] == ["event 0", "event 1"]
        assert len(await store.read(all_rows(reading))) == 1
        assert len(troubles) == 4 and store.health().given_up == 4
        assert sum("which this version does not know" in text for text in troubles) == 1
        assert sum(text.startswith("a reading of rack1-a was not stored") for text in troubles) == 1
    finally:
        await store.close()


def test_beyond_its_limit_readings_go_and_no_event(tmp_path: Path) -> None:
    side = Side(tmp_path / "side", limit=1_000)
    for number in range(20):
        side.append(Batch([a_row(number)], [an_event(number)]).lines())
    assert side.dropped > 0
    lines, _ = side.lines(1_000)
    assert [line[0] for line in lines].count("e") == 20
    assert [line[0] for line in lines].count("r") == 20 - side.dropped
    side.close()


async def test_the_spool_of_a_former_version_is_joined(sqlite_path: Path, troubles: list[str]) -> None:
    """The tables as the version before made them; numbers up to `passed` were in the database already."""
    former = sqlite_path.with_name("side")
    with closing(sqlite3.connect(former)) as file:
        file.executescript("""
            CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
            CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, txid INTEGER, body TEXT NOT NULL);
            CREATE TABLE readings (id INTEGER PRIMARY KEY AUTOINCREMENT, txid INTEGER, ups, at, status, input_voltage, extra);
            INSERT INTO about VALUES ('name', 'abc'), ('passed.events', '1');
            """)
        for number in range(3):
            body = [T0_US + number, "rack1-a", "status", "on-battery", "begin", f"event {number}", int(Severity.WARNING), "begin"]
            file.execute("INSERT INTO events (body) VALUES (?)", [json.dumps(body)])
            file.execute(f"INSERT INTO readings (ups, at, status, input_voltage) VALUES ('rack1-a', {T0_US + number}, 1, 2301)")
        file.commit()
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        await in_state(store)
        assert [item.event for item in await store.read(history.events)] == [an_event(1), an_event(2)]
        assert [row["input_voltage"] for row in await store.read(all_rows(reading))] == [2301] * 3
        assert not former.exists() and not former.with_name("side.former").exists()
    finally:
        await store.close()


async def test_neither_takes_a_record_and_both_are_tried_again(sqlite_path: Path, troubles: list[str]) -> None:
    side = sqlite_path.with_name("side")
    side.mkdir()  # no file can be made there
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        with locked(sqlite_path):
            order = asyncio.ensure_future(store.order_intent("rack1-a", "load.off", None, "S\r", "cli"))
            await until(lambda: any("neither the state nor the side file takes a record" in text for text in troubles))
            assert not order.done()
        assert await order > 0
        assert [item.id for item in await store.read(history.orders)] == [order.result()]
    finally:
        await store.close()


async def test_an_order_given_up_in_time_is_not_in_the_log(sqlite_path: Path, troubles: list[str]) -> None:
    sqlite_path.with_name("side").mkdir()
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        with locked(sqlite_path):
            store.record_event(an_event(0))
            await until(lambda: store.health().error)
            order = asyncio.ensure_future(store.order_intent("rack1-a", "load.off", None, "S\r", "cli"))
            await asyncio.sleep(0.4)
            order.cancel()
            await asyncio.wait({order})
        await in_state(store)
        assert [item.outcome for item in await store.read(history.orders)] in ([], [Outcome.REJECTED])
    finally:
        await store.close()


@pytest.mark.parametrize("content", ["", "garbage", "truncated", "header"])
async def test_damaged_it_is_put_aside_and_a_new_one_is_begun(
    sqlite_path: Path, troubles: list[str], content: str
) -> None:
    store = a_store(sqlite_path, troubles)
    store.open()
    await store.record_now(*(an_event(number) for number in range(300)))
    number = await store.order_intent("rack1-a", "load.off", None, "S\r", "cli")
    await store.close()
    whole = sqlite_path.read_bytes()
    found = {
        "": b"", "garbage": b"garbage" * 1000, "truncated": whole[: len(whole) // 2], "header": b"\0" * 4096 + whole[4096:]
    }[content]  # fmt: skip
    sqlite_path.write_bytes(found)
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        await in_state(store, an_event(1))
        assert [item.event.text for item in await store.read(history.events)] == ["event 1"]
        if not content:
            return
        [aside] = sqlite_path.parent.glob("fleet.db.damaged-*")
        assert aside.read_bytes() == found
        assert any(str(aside) in text and "db salvage" in text for text in troubles)
        assert await store.order_intent("rack1-a", "load.off", None, "S\r", "cli") > 1_000_000_000 > number
    finally:
        await store.close()


async def test_damaged_under_the_agent(sqlite_path: Path, troubles: list[str]) -> None:
    store = a_store(sqlite_path, troubles)
    told: list[None] = []
    store.on_anew.append(lambda: told.append(None))
    store.open()
    try:
        await in_state(store, an_event(0))
        with sqlite_path.open("r+b") as file:
            file.write(b"\xff" * 200_000)
        sqlite_path.with_name("fleet.db-wal").write_bytes(b"\xff" * 200_000)
        store._state.dispose()  # what SQLite has in its cache it does not read again
        await in_state(store, an_event(1))
        assert told == [None]
        assert [item.event.text for item in await store.read(history.events)] == ["event 1"]
    finally:
        await store.close()


@pytest.mark.parametrize("what", ["renamed", "deleted", "deleted with all beside it", "replaced", "replaced by another's"])
async def test_taken_away_under_the_agent_it_is_told_and_the_agent_goes_on(
    sqlite_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch, what: str, tmp_path: Path
) -> None:
    monkeypatch.setattr("qxfleet.store.writer.LOOK_S", 0.2)
    other = tmp_path / "other.db"
    other.write_bytes(sqlite_path.read_bytes())
    if what.endswith("another's"):
        with closing(sqlite3.connect(other)) as file, file:
            file.execute("INSERT INTO meta (key, value) VALUES ('agent.uuid', ?), ('agent.name', 'row-b')", [str(uuid.uuid4())])
    store = a_store(sqlite_path, troubles, "row-a")
    anew: list[None] = []
    store.on_anew.append(lambda: anew.append(None))
    store.open()
    try:
        who = await store.read(whose)
        await store.record_now(an_event(0))
        if what == "renamed":
            sqlite_path.rename(tmp_path / "moved.db")
        elif what == "deleted":
            sqlite_path.unlink()
        elif what.startswith("deleted"):
            for file_name in sqlite_path.parent.glob("fleet.db*"):
                file_name.unlink()
        else:
            other.rename(sqlite_path)
        await until(lambda: any("under the agent" in text for text in troubles), 15)
        await in_state(store, an_event(1))
        assert [item.event.text for item in await store.read(history.events)] == ["event 1"]
        assert anew == [None]
        assert await store.read(whose) == who, "the same agent for the fleet store"
        if what == "renamed":
            with closing(sqlite3.connect(tmp_path / "moved.db")) as moved:
                assert moved.execute("SELECT text FROM event").fetchall() == [("event 0",)]
    finally:
        await store.close()


async def test_a_folder_stops_nobody(tmp_path: Path, troubles: list[str]) -> None:
    (tmp_path / "state.db").mkdir()
    store = a_store(tmp_path / "state.db", troubles)
    store.open()
    try:
        await store.record_now(an_event(0))
        assert "this is a folder" in str(store.health().error)
        with pytest.raises(StoreError):
            await store.read(history.events)
        (tmp_path / "state.db").rmdir()
        await until(lambda: store.health().error is None)
        assert [item.event.text for item in await store.read(history.events)] == ["event 0"]
    finally:
        await store.close()


async def test_a_query_waits_for_a_state_that_is_being_made(
    tmp_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow machine the first start makes its tables while the agent asks already."""
    made, asked = State.open, threading.Event()

    def slowly(state: State) -> None:
        assert asked.wait(4.0)
        time.sleep(0.3)
        made(state)

    monkeypatch.setattr(State, "open", slowly)
    store = a_store(tmp_path / "state.db", troubles)
    try:
        opening = asyncio.get_running_loop().run_in_executor(None, store.open)
        await asyncio.sleep(0.1)
        reading = asyncio.ensure_future(store.read(shutdown.arming))
        asked.set()
        assert await reading is None
        await opening
        assert store.new_key("shutdown_run") == 1
        assert troubles == []
    finally:
        await store.close()


async def test_a_query_waits_for_no_state_that_hangs(
    tmp_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does closing wait for it."""
    made, free = State.open, threading.Event()

    def hanging(state: State) -> None:
        free.wait(60)
        made(state)

    monkeypatch.setattr(State, "open", hanging)
    monkeypatch.setattr("qxfleet.store.store.OPEN_S", 0.3)
    store = a_store(tmp_path / "state.db", troubles)
    try:
        await asyncio.get_running_loop().run_in_executor(None, store.open)
        with pytest.raises(StoreError):
            await store.read(shutdown.arming)
    finally:
        free.set()
        await store.close()


async def test_a_second_agent_is_refused_by_name(sqlite_path: Path, troubles: list[str]) -> None:
    first, second = a_store(sqlite_path, troubles, "row-a"), a_store(sqlite_path, troubles, "row-b")
    first.open()
    try:
        with pytest.raises(StateHeld, match=rf"in use by agent row-a \(pid {os.getpid()}\)"):
            second.open()
    finally:
        await second.close()
        await first.close()
    third = a_store(sqlite_path, troubles, "row-c")
    third.open()
    await third.close()


@pytest.mark.parametrize(
    ("link", "holder"), [(os.symlink, r"agent row-a \(pid \d+\)"), (os.link, "another qxfleet agent.*hard link")]
)
async def test_a_second_agent_on_another_name_of_the_state_is_refused(
    link: Callable[[Path, Path], None], holder: str, sqlite_path: Path, troubles: list[str]
) -> None:
    first = a_store(sqlite_path, troubles, "row-a")
    first.open()
    (other := sqlite_path.with_name("folder")).mkdir()
    second_name = other / "other.db"
    try:
        await in_state(first, an_event(0))
        link(sqlite_path, second_name)
        second = a_store(second_name, troubles, "row-b")
        with pytest.raises(StateHeld, match=f"{second_name} is in use by {holder}"):
            second.open()
        await second.close()
        assert not second_name.with_name("other.db-wal").exists(), "not even opened"
    finally:
        await first.close()
    third = a_store(second_name, troubles, "row-c")
    third.open()
    await third.close()


async def test_the_lock_goes_along_when_the_state_is_put_aside(sqlite_path: Path, troubles: list[str]) -> None:
    first = a_store(sqlite_path, troubles, "row-a")
    first.open()
    try:
        await in_state(first, an_event(0))
        former = sqlite_path.with_name("former.db")
        sqlite_path.rename(former)
        await until(lambda: any("was moved away" in text for text in troubles))
        await in_state(first, an_event(1))
        os.link(sqlite_path, sqlite_path.with_name("hard.db"))
        with pytest.raises(StateHeld, match="hard link"):
            a_store(sqlite_path.with_name("hard.db"), troubles, "row-b").open()
        other = a_store(former, troubles, "row-b")  # nobody's any more
        other.open()
        await other.close()
    finally:
        await first.close()


async def test_where_the_folder_comes_later_the_lock_is_taken_then(tmp_path: Path, troubles: list[str]) -> None:
    path = tmp_path / "disk" / "state.db"
    one = a_store(path, troubles, agent="row-a")
    one.open()
    try:
        assert "no lock can be kept at" in troubles[0]
        path.parent.mkdir()
        await until(lambda: one.health().error is None and path.exists())
        with pytest.raises(StateHeld, match="in use by agent row-a"):
            a_store(path, troubles, agent="row-b").open()
    finally:
        await one.close()


async def test_closed_while_another_process_holds_the_state_it_waits_for_nothing_that_is_kept(
    sqlite_path: Path, troubles: list[str]
) -> None:
    """The service has 4.8 s from the signal to its end."""
    with locked(sqlite_path, "exclusive"):
        store = a_store(sqlite_path, troubles)
        store.open()
        store.record(a_reading())
        await store.record_now(an_event(0))
        undone = asyncio.ensure_future(store.commit(lambda connection: 42))
        await until(lambda: store.health().error is not None)
        await asyncio.sleep(2.0)  # the writer has it in hand
        store.record_event(an_event(1))
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 3.0
        with pytest.raises(StoreError, match="the store was closed before this was written"):
            await undone
    assert not [text for text in troubles if "events and orders" in text], troubles
    await until(lambda: not store._writer._thread.is_alive())
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        await in_state(store)
        assert [item.event for item in await store.read(history.events)] == [an_event(0), an_event(1)]
        assert len(await store.read(all_rows(reading))) == 1
    finally:
        await store.close()


async def test_an_agent_keeps_its_uuid_in_a_state_begun_anew(sqlite_path: Path, troubles: list[str]) -> None:
    found = []
    for name, damage in (("row-a", False), ("row-a", True), ("row-b", False)):
        if damage:
            sqlite_path.write_bytes(b"garbage" * 1000)
        store = a_store(sqlite_path, troubles, name)
        store.open()
        rows = await store.read(all_rows(meta))
        found.append({row["key"]: row["value"] for row in rows if row["key"].startswith("agent.")})
        await store.close()
    assert len({str(uuid.UUID(each["agent.uuid"])) for each in found}) == 1
    assert [each["agent.name"] for each in found] == ["row-a", "row-a", "row-b"]


async def test_who_the_upses_are_outlives_the_state(
    sqlite_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxfleet.store.writer.LOOK_S", 0.2)
    units = [Identity("megatec", {"battery.voltage.nominal": 96.0}, packs=packs) for packs in (48.0, 40.0)]
    first = a_store(sqlite_path, troubles, "row-a")
    first.open()
    assert first.remembered(["a", "b"]) == {}
    first.save_identity("a", "/dev/ttyS0", Identity("megatec"))
    first.save_identity("a", "/dev/ttyS0", units[0])
    first.save_identity("b", "/dev/ttyS1", units[1])
    await in_state(first)
    for file in sqlite_path.parent.iterdir():
        file.unlink()
    await until(lambda: any("under the agent" in text for text in troubles), 15)
    await in_state(first)
    assert first.identities() == {"a": ("/dev/ttyS0", units[0]), "b": ("/dev/ttyS1", units[1])}, "in the one begun anew"
    await first.close()

    sqlite_path.write_bytes(b"garbage" * 1000)
    with sqlite_path.with_name("side.ups").open("ab") as beside:
        beside.write(b'\n["i","a",')  # cut off
    second = a_store(sqlite_path, troubles, "row-a")
    assert second.remembered(["a", "c"]) == {"a": units[0]}, "before the state is open"
    second.open()
    assert second.recall(["a", "c"]) == {"a": units[0]}
    second.save_identity("c", "/dev/ttyS2", units[1])
    await in_state(second)
    assert second.identities() == {"a": ("/dev/ttyS0", units[0]), "c": ("/dev/ttyS2", units[1])}
    await second.close()

    sqlite_path.with_name("side.ups").unlink()
    third = a_store(sqlite_path, troubles, "row-a")
    third.open()
    assert third.remembered(["a"]) == {}
    assert third.recall(["a"]) == {"a": units[0]}, "a state of before comes into the file"
    await third.close()
    fourth = a_store(sqlite_path, troubles, "row-a")
    assert fourth.remembered(["a", "c"]) == {"a": units[0]}
    await fourth.close()


async def test_an_outcome_and_its_event_are_one_record(sqlite_path: Path, troubles: list[str]) -> None:
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        order = await store.order_intent("rack1-a", "load.off", None, "S\r", "cli")
        told = an_event(1)
        await store.order_outcome(order, OrderResult("rack1-a", "load.off", None, Outcome.ACCEPTED), told)
        assert [item.event for item in await store.read(history.events)] == [told]
        store.record_event(told)
        store.record_event(an_event(1))  # equal, but another one
        await in_state(store)
        assert [item.event for item in await store.read(history.events)] == [told, told]
    finally:
        await store.close()


async def test_what_goes_aside_just_before_it_would_be_written_is_stored_when_it_is_joined(
    sqlite_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine stops the writer between joining the side file and taking what is queued, until that is in the file too."""
    store = a_store(sqlite_path, troubles)
    store.open()
    writer = store._writer
    take = writer._next

    def late() -> Batch | None:
        give_up = time.monotonic() + 20
        while writer._events and time.monotonic() < give_up:
            time.sleep(0.01)
        return take()

    monkeypatch.setattr(writer, "_next", late)
    try:
        store.record_event(an_event(0))
        assert await store.settled(30.0)
        assert [item.event for item in await store.read(history.events)] == [an_event(0)]
    finally:
        await store.close()


@pytest.mark.more
async def test_events_joined_while_they_are_still_queued_are_there_once(
    sqlite_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine stops the side file's thread between its write and taking what it wrote from the queue."""
    store = a_store(sqlite_path, troubles)
    store.open()
    writer, side = store._writer, store._writer._side
    assert side is not None
    take, append = writer._next, side.append

    def late() -> Batch | None:
        give_up = time.monotonic() + 20
        while writer._events and not writer._spilling and time.monotonic() < give_up:
            time.sleep(0.01)
        time.sleep(0.5)
        return take()

    def slow(lines: Any) -> None:
        append(lines)
        time.sleep(4.0)

    monkeypatch.setattr(side, "append", slow)
    monkeypatch.setattr(writer, "_next", late)
    try:
        store.record_event(an_event(0))
        await asyncio.sleep(6.0)
        await in_state(store)
        assert [item.event for item in await store.read(history.events)] == [an_event(0)]
    finally:
        await store.close()


async def test_events_written_with_a_lock_that_comes_and_goes_are_there_once(sqlite_path: Path, troubles: list[str]) -> None:
    store = a_store(sqlite_path, troubles)
    store.open()
    try:
        number = 0
        for _ in range(4):
            with locked(sqlite_path):
                for _ in range(100):
                    store.record_event(an_event(number))
                    number += 1
                    if number % 10 == 0:
                        await asyncio.sleep(0.05)
            for _ in range(100):
                store.record_event(an_event(number))
                number += 1
                if number % 10 == 0:
                    await asyncio.sleep(0.02)
        await until(lambda: store.health().queued_events == 0)
        rows = await store.read(all_rows(event))
        assert sorted(row["at"] - T0_US for row in rows) == list(range(number))
    finally:
        await store.close()
