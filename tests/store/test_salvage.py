"""What a damaged state still holds comes back, and what is in the new one stays."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.store import history, shutdown
from qxfleet.store.salvage import salvage
from qxfleet.store.store import Store
from qxfleet.store.tables import reading
from tests.store.conftest import T0_US, a_reading, all_rows, an_event
from tests.store.test_side import a_store, in_state

ROWS = 3_000


@pytest.mark.parametrize("shell", [True, False], ids=["shell", "alone"])
@pytest.mark.parametrize("damage", ["truncated", "pages"])
async def test_what_can_be_read_comes_back(
    sqlite_path: Path, troubles: list[str], monkeypatch: pytest.MonkeyPatch, damage: str, shell: bool
) -> None:
    if not shell:
        monkeypatch.setattr("qxfleet.store.salvage.shutil.which", lambda _: None)
    store = a_store(sqlite_path, troubles)
    store.open()
    order = await store.order_intent("rack1-b", "load.off", None, "S\r", "cli")
    await store.commit(shutdown.arm(shutdown.Arming(T0_US, True, "ann", "real")))
    await store.record_now(*(an_event(number) for number in range(ROWS)))
    for number in range(ROWS):
        store.record(a_reading(at_us=T0_US + number, values={"battery.charge.low": float(number)}))
    await in_state(store)
    await store.close()
    content = sqlite_path.read_bytes()
    if damage == "truncated":
        sqlite_path.write_bytes(content[: len(content) * 3 // 4])
    else:
        middle = len(content) // 8192 * 4096
        sqlite_path.write_bytes(content[:middle] + b"\xff" * 12_288 + content[middle + 12_288 :])
    if damage == "pages":  # a start does not notice: put aside by hand
        sqlite_path.rename(sqlite_path.with_name("fleet.db.damaged-by-hand"))
    store = Store(f"sqlite:///{sqlite_path}", clock=Clock(), keep="all")
    store.open()
    try:
        await in_state(store, an_event(ROWS, "rack1-c"))
        [aside] = [path for path in sqlite_path.parent.glob("fleet.db.damaged-*") if path.suffix != ".db-wal"]
        damaged = aside.read_bytes()
        found = salvage(aside, f"sqlite:///{sqlite_path}")
        again = salvage(aside, f"sqlite:///{sqlite_path}")
        assert aside.read_bytes() == damaged
        rows = await store.read(all_rows(reading))
        events = [item.event for item in await store.read(history.events)]
        assert len(rows) == found.rows.get("reading", 0) and len(events) == found.rows.get("event", 0) + 1
        assert len(rows) + len(events) > ROWS / 2, found
        assert an_event(ROWS, "rack1-c") in events
        assert not any(again.rows.values()), again
        if damage == "pages":
            [kept] = await store.read(history.orders)
            assert (kept.id, kept.ups) == (order, "rack1-b")
            assert await store.read(shutdown.arming) == shutdown.Arming(T0_US, True, "ann", "real")
    finally:
        await store.close()
    with closing(sqlite3.connect(sqlite_path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert file.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_file_of_which_nothing_can_be_read(tmp_path: Path, sqlite_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x17" * 50_000)
    with pytest.raises(StoreError, match="nothing of it can be read"):
        salvage(garbage, f"sqlite:///{sqlite_path}")
    with pytest.raises(StoreError, match="is no file"):
        salvage(tmp_path / "none", f"sqlite:///{sqlite_path}")
