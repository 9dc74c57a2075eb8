"""The audit trail on both databases: acts and orders as one list, tokens as digests."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.agent.audit import ACCEPTED, FORBIDDEN, Act, actor, record
from qxfleet.api.shapes import audit_document, parties
from qxfleet.config.load import load
from qxfleet.errors import StoreError
from qxfleet.model.clock import Clock
from qxfleet.model.events import OrderResult, Outcome
from qxfleet.store.audit import LONGEST_TEXT, insert_act, trail
from qxfleet.store.store import Store
from qxfleet.store.tokens import StoredToken, delete_token, insert_token, token_of, token_used, tokens


class Ticking(Clock):
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self) -> None:
        self._us = 1_760_000_000_000_000

    def wall_us(self) -> int:
        self._us += 1_000_000
        return self._us


async def test_acts_and_orders_are_one_list_in_order(fleet_url: str) -> None:
    clock = Ticking()
    store = Store(fleet_url, clock=clock)
    store.open()
    try:
        await store.commit(insert_act(clock.wall_us(), "http:eve@192.0.2.9", "login", "eve", "login", None, "forbidden", "wrong"))
        first = await store.order_intent("u", "beeper.mute", None, "BZOFF\r", "cli:root(uid 0)")
        await store.commit(insert_act(clock.wall_us(), "cli:root(uid 0)", "arm", "", "shutdown.arm", None, "accepted", ""))
        await store.order_outcome(first, OrderResult("u", "beeper.mute", None, Outcome.ACCEPTED, reply="ACK"))
        await store.order_intent("u", "load.off", "30", "S.5\r", "nut:admin@::1")
        entries = [audit_document(each) for each in await store.read(trail)]
        assert [(each["who"], each["where"], each["name"], each["value"], each["outcome"]) for each in entries] == [
            ("eve", "http 192.0.2.9", "login", None, "forbidden"),
            ("root(uid 0)", "cli", "beeper.mute", None, "accepted"),
            ("root(uid 0)", "cli", "shutdown.arm", None, "accepted"),
            ("admin", "nut ::1", "load.off", "30", None),
        ]
        assert entries[1]["text"] == "sent 'BZOFF\\r'; answered 'ACK'"
        last = await store.read(lambda connection: trail(connection, limit=2))
        assert [each.name for each in last] == ["shutdown.arm", "load.off"]
        since_us = (await store.read(trail))[2].at_us
        assert len(await store.read(lambda connection: trail(connection, since_us))) == 2
    finally:
        await store.close()


async def test_what_a_stranger_chose_is_kept_short_and_harmless(fleet_url: str) -> None:
    store = Store(fleet_url, clock=Clock())
    store.open()
    try:
        name = "\0\udcff" + "x" * 10_000
        await store.commit(insert_act(1, actor("http", name, "192.0.2.9"), "login", name, "login", None, "forbidden", ""))
        (entry,) = await store.read(trail)
        assert len(entry.target) == LONGEST_TEXT and entry.target.startswith("\\x00\\udcff")
    finally:
        await store.close()


async def test_tokens_are_found_by_their_digest_until_they_end(fleet_url: str) -> None:
    store = Store(fleet_url, clock=Clock())
    store.open()
    try:
        made = StoredToken("grafana", "viewer", ("read",), 1_000_000, 9_000_000, None)
        await store.commit(insert_token(made, "ab" * 32))
        with pytest.raises(StoreError, match="named 'grafana' already"):
            await store.commit(insert_token(made, "cd" * 32))
        await store.commit(token_used("grafana", 5_000_000))
        found = await store.read(lambda connection: token_of(connection, "ab" * 32))
        assert found is not None and (found.allow, found.used_us) == (("read",), 5_000_000)
        assert found.valid(8_999_999) and not found.valid(9_000_000)
        assert await store.read(lambda connection: tokens(connection, "somebody")) == []
        assert not await store.commit(delete_token("grafana", "somebody"))
        assert await store.commit(delete_token("grafana", "viewer"))
        assert await store.read(lambda connection: token_of(connection, "ab" * 32)) is None
    finally:
        await store.close()


async def test_a_database_that_is_away_does_not_hold_up_who_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the entry, the database gets it when it can."""
    config = tmp_path / "qxfleet.toml"
    config.write_text('[agent]\ndatabase = "sqlite:///fleet.db"\ncontrol = "a.sock"\n')
    agent = Agent(load(config))
    monkeypatch.setattr("qxfleet.agent.audit.RECORD_S", 0.1)
    assert not await record(agent, "http:eve@192.0.2.9", Act.LOGIN, "eve", "login", FORBIDDEN, text="wrong name or password")
    assert "forbidden: http:eve@192.0.2.9 login eve: wrong name or password" in caplog.text
    agent.store.open()  # until now nobody wrote
    try:
        assert await record(agent, "cli:root(uid 0)", Act.ARM, "", "shutdown.arm", ACCEPTED)
        await asyncio.sleep(0)
        assert [each.name for each in await agent.store.read(trail)] == ["login", "shutdown.arm"]
    finally:
        await agent.store.close()


@pytest.mark.parametrize(
    ("text", "who", "where"),
    [
        ("http:operator/grafana@2001:db8::7", "operator/grafana", "http 2001:db8::7"),
        ("nut:we@ird@10.0.0.1", "we@ird", "nut 10.0.0.1"),
        ("schedule:weekly-quick", "weekly-quick", "schedule"),
        ("shutdown", "shutdown", "shutdown"),
    ],
)
def test_an_actor_tells_who_and_from_where(text: str, who: str, where: str) -> None:
    assert parties(text) == (who, where)
