"""The control socket's protocol on an agent that watches nothing: bounds, bad requests, slow followers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qxfleet.agent.agent import Agent
from qxfleet.api import requests
from qxfleet.config.load import load
from qxfleet.interfaces.control import BACKLOG_EVENTS, LONGEST_REQUEST, MOST_CLIENTS, ControlServer
from qxfleet.model.events import Event, EventKind

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Served:
    """An agent behind its socket, and its clients."""

    def __init__(self, agent: Agent, server: ControlServer) -> None:
        self.agent = agent
        self.server = server
        self.clients: list[Pair] = []

    async def client(self) -> Pair:
        pair = await asyncio.open_unix_connection(self.server.path, limit=2**20)
        self.clients.append(pair)
        return pair

    def publish(self, number: int) -> None:
        self.agent.bus.publish(Event(number, None, EventKind.AGENT, "number", str(number), "x" * 200))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    file = tmp_path / "qxfleet.toml"
    file.write_text('[agent]\nname = "bare"\ndatabase = "sqlite:///fleet.db"\ncontrol = "agent.sock"\n')
    agent = Agent(load(file))
    agent.store.open()
    server = ControlServer(agent, tmp_path / "agent.sock")
    await server.claim()
    await server.start()
    served = Served(agent, server)
    yield served
    for _, writer in served.clients:
        writer.close()
    await server.close()
    await agent.store.close()


async def answer(client: Pair, line: bytes | dict[str, Any]) -> dict[str, Any]:
    reader, writer = client
    writer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
    async with asyncio.timeout(20):
        found: dict[str, Any] = json.loads(await reader.readline())
    return found


async def test_requests_keep_their_ids(served: Served) -> None:
    client = await served.client()
    for key in (1, "two", None):
        told = await answer(client, {"id": key, "do": "status"})
        assert (told["id"], told["ok"], told["result"]["agent"], told["result"]["ups"]) == (key, True, "bare", [])


@pytest.mark.parametrize(
    "line",
    [b"\n", b"status\n", b"[]\n", b'{"do": "dance"}\n', b'{"do": "status", "args": [1]}\n', b"\xff\xfe\n", b'{"do": []}\n'],
)
async def test_a_bad_request_is_told_and_the_next_one_answered(served: Served, line: bytes) -> None:
    client = await served.client()
    told = await answer(client, line)
    assert (told["ok"], told["error"]["code"]) == (False, "bad-request")
    assert (await answer(client, {"id": 2, "do": "about"}))["ok"]


async def test_a_missing_argument_is_told(served: Served) -> None:
    told = await answer(await served.client(), {"id": 1, "do": "vars"})
    assert (told["id"], told["error"]["code"]) == (1, "bad-request")
    assert "ups" in told["error"]["text"]


@pytest.mark.parametrize("digits", [400, 5000])
async def test_a_number_of_any_length_is_answered(served: Served, digits: int) -> None:
    client = await served.client()
    value = b"9" * digits
    line = b'{"id": 1, "do": "command", "args": {"ups": "x", "name": "test.battery.start", "value": ' + value + b"}}\n"
    assert not (await answer(client, line))["ok"]
    assert (await answer(client, {"id": 2, "do": "about"}))["ok"]
    assert not served.server.failures


@pytest.mark.parametrize("line", [
    b'{"id": NaN, "do": "about"}',
    b'{"id": 1e999, "do": "about"}',
    b'{"id": 1, "do": "about", "args": []}',
    b'{"id": 1, "do": "about", "args": null}',
])  # fmt: skip
async def test_what_is_no_request_is_refused(served: Served, line: bytes) -> None:
    reader, writer = await served.client()
    writer.write(line + b"\n")
    told = json.loads(await reader.readline(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["error"]["code"] == "bad-request"


async def test_a_line_without_end_is_cut_off(served: Served) -> None:
    client = await served.client()
    told = await answer(client, b"x" * (LONGEST_REQUEST + 1))
    assert told["error"]["code"] == "bad-request"
    assert await client[0].read() == b""


@pytest.mark.parametrize("said", [b'{"id": 1, "do"', b"", b'{"id": 1, "do": "about"}\n'])
async def test_clients_that_ask_nothing_keep_nobody_out(served: Served, said: bytes) -> None:
    """Silent at once, in the middle of a request, or after one: the oldest makes place."""
    for _ in range(MOST_CLIENTS):
        reader, writer = await served.client()
        writer.write(said)
        await writer.drain()
        if said.endswith(b"\n"):
            await reader.readline()
    for number in range(3):
        assert (await answer(await served.client(), {"id": 1, "do": "about"}))["ok"]
        async with asyncio.timeout(20):
            await served.clients[number][0].read()
    assert not served.clients[3][0].at_eof(), "one goes for one that comes"


async def test_a_follower_gets_every_event(served: Served) -> None:
    client = await served.client()
    assert (await answer(client, {"id": 5, "do": "follow"}))["item"] == {"following": "bare"}
    for number in range(50):
        served.publish(number)
    for number in range(50):
        item = json.loads(await client[0].readline())
        assert (item["id"], item["item"]["event"]["value"]) == (5, str(number))


async def test_a_slow_follower_is_dropped_and_the_agent_never_waits(served: Served) -> None:
    client = await served.client()
    await answer(client, {"id": 1, "do": "follow"})
    other = await served.client()
    total = 20 * BACKLOG_EVENTS
    for number in range(total):
        served.publish(number)
        if number % 100 == 0:
            await asyncio.sleep(0)
            assert (await answer(other, {"id": 1, "do": "about"}))["ok"]
    lines = (await asyncio.wait_for(client[0].read(), 20)).splitlines()
    last = json.loads(lines[-1])
    assert last["error"]["code"] == "too-slow"
    assert "events --since" in last["error"]["text"]
    assert 0 < len(lines) - 1 < total
    numbers = [int(json.loads(line)["item"]["event"]["value"]) for line in lines[:-1]]
    assert numbers == list(range(len(numbers)))
    assert served.agent.bus._sinks[Event] == ()


async def test_a_follower_that_hangs_up_is_forgotten(served: Served) -> None:
    client = await served.client()
    await answer(client, {"id": 1, "do": "follow"})
    assert len(served.agent.bus._sinks[Event]) == 1
    client[1].close()
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not served.agent.bus._sinks[Event]:
            return
    pytest.fail("still subscribed after 5 s")


async def test_watching_repeats_the_status(served: Served) -> None:
    client = await served.client()
    first = await answer(client, {"id": 1, "do": "watch", "args": {"every_s": 0.2}})
    second = json.loads(await client[0].readline())
    assert first["item"]["time"] < second["item"]["time"]


async def test_closing_ends_every_client(served: Served) -> None:
    idle, following = await served.client(), await served.client()
    await answer(idle, {"id": 1, "do": "about"})
    await answer(following, {"id": 1, "do": "follow"})
    await served.server.close()
    assert await idle[0].read() == b""
    assert await following[0].read() == b""
    assert not served.server.path.exists()


async def test_nothing_that_is_said_is_a_fault_of_the_agents(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Deep nesting, half surrogates, what is no object, numbers beyond all bounds."""
    for line in (
        b"[" * 60_000, b'{"a":' * 10_000, b'{"id": 1, "do": "vars", "args": {"ups": "\\ud800"}}', b"null", b"7",
        b'{"id": [], "do": "status"}', b'{"id": "\\udfff", "do": ["status"]}', b'{"id": 1, "do": "status", "args": 7}',
        b'{"id": 1, "do": "history", "args": {}}', b'{"id": 1, "do": "watch", "args": {"every_s": 1e999}}',
    ):  # fmt: skip
        client = await served.client()
        told = await answer(client, line + b"\n")
        assert (told["ok"], told["error"]["code"]) == (False, "bad-request"), line[:50]
        assert (await answer(client, {"id": 2, "do": "about"}))["ok"], line[:50]
    assert not caplog.records


async def test_a_fault_of_our_own_is_told_as_such(
    served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KeyError and TypeError in what carries a request out are no mistake of whoever asked."""
    def broken(*_: object) -> None:
        raise KeyError("ups")

    monkeypatch.setattr(served.agent.fleet, "snapshot", broken)
    client = await served.client()
    told = await answer(client, {"id": 1, "do": "status"})
    assert (told["id"], told["error"]["code"]) == (1, "internal")
    assert "an error of qxfleet's own (KeyError)" in told["error"]["text"]
    assert caplog.records[-1].exc_info, "with its traceback in the log"
    assert served.server.failures == {"status": 1}
    monkeypatch.undo()
    assert (await answer(client, {"id": 2, "do": "status"}))["ok"]


async def test_who_hung_up_takes_no_place_from_others(served: Served) -> None:
    """What a stream began may have to come to its end first, as a setting under way does."""
    over = asyncio.Event()

    async def stubborn(request: object, actor: str, say: object) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await over.wait()

    served.server._door._streams[requests.ProfileApply] = stubborn
    for _ in range(MOST_CLIENTS):
        _, writer = await served.client()
        writer.write(b'{"id": 1, "do": "profile-apply", "args": {"name": "x"}}\n')
        await writer.drain()
    assert (await answer(await served.client(), {"id": 2, "do": "about"}))["error"]["code"] == "busy"
    for _, writer in served.clients:
        writer.close()
    async with asyncio.timeout(20):
        while not (told := await answer(await served.client(), {"id": 3, "do": "about"}))["ok"]:
            assert told["error"]["code"] == "busy"
            await asyncio.sleep(0.02)
    over.set()
