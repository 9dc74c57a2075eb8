"""What every link owes whoever asks over it, shown on each kind: in process, pseudo-terminal, TCP, RFC 2217."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from qxfleet.errors import LinkError, LinkLost, LinkUnavailable, ReplyMalformed, ReplyTimeout
from qxfleet.model.wire import Ask
from qxfleet.testing.links import Echoing, Garbage, Lossy, NoEnd, Noisy, Silent, Slow, Wrong
from qxfleet.transports.line import LineTransport
from tests.transports.rigs import RATING, RIGS, STATUS, Rig

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial 3.5's RFC 2217 client

Q1, F, T, X = Ask(b"Q1\r"), Ask(b"F\r"), Ask(b"T\r"), Ask(b"X\r")


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


def by_starting(link: LineTransport) -> Callable[[Ask], Awaitable[bytes]]:
    """``exchange`` made of ``start``, which must end in the same; what it can't begin goes the usual way."""
    usual = link.exchange

    async def exchange(ask: Ask) -> bytes:
        ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def then(answer: bytes | BaseException) -> None:
            if isinstance(answer, bytes):
                ended.set_result(answer)
            elif not ended.cancelled():
                ended.set_exception(answer)

        return await (ended if link.start(ask, then) else usual(ask))

    return exchange


@pytest.fixture(params=[(rig, way) for rig in RIGS for way in ("exchange", "start")], ids=" by ".join)
async def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """An open link to the device, asked in either way; no task may outlive it."""
    kind, way = request.param
    rig = RIGS[kind](tmp_path)
    await rig.start()
    if way == "start":
        exchange = by_starting(rig.link)
        monkeypatch.setattr(type(rig.link), "exchange", lambda link, ask: exchange(ask))
    try:
        await rig.link.open()
        yield rig
    finally:
        await rig.stop()
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_one_reply_for_one_request(rig: Rig) -> None:
    for _ in range(3):
        assert await rig.link.exchange(Q1) == STATUS
        assert await rig.link.exchange(F) == RATING
    assert rig.link.unsolicited == 0


async def test_an_unknown_request_comes_back(rig: Rig) -> None:
    assert await rig.link.exchange(Ask(b"QPI\r")) == b"QPI"


async def test_silence_ends_at_the_deadline(rig: Rig) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(ReplyTimeout) as caught:
        await rig.link.exchange(Ask(b"T\r", deadline_s=0.2))
    assert 0.19 <= loop.time() - began < 2
    assert (caught.value.reason, caught.value.frame) == ("silence", b"")
    assert not rig.link.raw
    assert await rig.link.exchange(Q1) == STATUS


async def test_a_unit_that_never_sends_cr_is_found_out_once(rig: Rig) -> None:
    rig.line.faults.append(NoEnd())
    with pytest.raises(ReplyTimeout) as caught:
        await rig.link.exchange(Ask(b"Q1\r", deadline_s=0.5))
    assert caught.value.frame == STATUS
    assert rig.link.raw
    assert await rig.link.exchange(Q1) == STATUS
    assert await rig.link.exchange(F) == RATING
    await rig.link.close()
    await rig.link.open()
    assert rig.link.raw
    assert await rig.link.exchange(F) == RATING
    rig.line.faults.clear()
    assert await rig.link.exchange(Q1) == STATUS
    assert not rig.link.raw


async def test_one_lost_cr_does_not_make_a_unit_odd(rig: Rig) -> None:
    assert await rig.link.exchange(Q1) == STATUS
    rig.line.faults.append(NoEnd())
    with pytest.raises(ReplyTimeout) as caught:
        await rig.link.exchange(Ask(b"Q1\r", deadline_s=0.5))
    assert caught.value.frame == STATUS
    assert not rig.link.raw
    rig.line.faults.clear()
    assert await rig.link.exchange(F) == RATING


async def test_a_reply_longer_than_allowed(rig: Rig) -> None:
    with pytest.raises(ReplyMalformed) as caught:
        await rig.link.exchange(X)
    assert (caught.value.reason, caught.value.frame) == ("long", b"x" * 120)
    await rig.link.drain()
    assert await rig.link.exchange(Q1) == STATUS


async def test_a_late_reply_is_not_the_next_one(rig: Rig) -> None:
    rig.line.faults.append(Slow(delay_s=0.3))
    with pytest.raises(ReplyTimeout):
        await rig.link.exchange(Ask(b"Q1\r", deadline_s=0.1))
    await until(lambda: rig.link.unsolicited == 1)
    rig.line.faults.clear()
    assert await rig.link.exchange(F) == RATING


async def test_draining_takes_the_late_reply_away(rig: Rig) -> None:
    rig.line.faults.append(Slow(delay_s=0.25))
    with pytest.raises(ReplyTimeout):
        await rig.link.exchange(Ask(b"Q1\r", deadline_s=0.2))
    assert await rig.link.drain() == len(STATUS) + 1
    rig.line.faults.clear()
    assert await rig.link.exchange(F) == RATING


async def test_draining_counts_bytes_without_an_end_too(rig: Rig) -> None:
    assert await rig.link.exchange(Q1) == STATUS
    rig.say(b"half a li")
    assert await rig.link.drain() == 9
    assert await rig.link.drain() == 0
    assert await rig.link.exchange(Q1) == STATUS


async def test_lines_nobody_asked_for_are_dropped_and_counted(rig: Rig) -> None:
    assert await rig.link.exchange(Q1) == STATUS
    rig.say(b"#hello\r#world\r")
    await until(lambda: rig.link.unsolicited == 2)
    assert await rig.link.exchange(F) == RATING


async def test_half_a_line_from_before_is_not_part_of_the_reply(rig: Rig) -> None:
    assert await rig.link.exchange(Q1) == STATUS
    rig.say(b"(999.9 ")
    await asyncio.sleep(0.15)
    assert await rig.link.exchange(F) == RATING


async def test_unplugged_while_idle_is_seen_at_once(rig: Rig) -> None:
    lost: list[LinkLost] = []
    rig.link.on_lost = lost.append
    assert await rig.link.exchange(Q1) == STATUS
    await rig.unplug()
    await until(lambda: bool(lost), 1.0)
    with pytest.raises(LinkLost):
        await rig.link.exchange(Q1)
    with pytest.raises(LinkLost):
        await rig.link.drain()
    await asyncio.sleep(0.05)
    assert len(lost) == 1
    assert lost[0].port == rig.link.label


async def test_unplugged_in_the_middle_of_an_exchange(rig: Rig) -> None:
    lost: list[LinkLost] = []
    rig.link.on_lost = lost.append
    asking = asyncio.create_task(rig.link.exchange(Ask(b"T\r", deadline_s=30)))
    await asyncio.sleep(0.05)
    await rig.unplug()
    async with asyncio.timeout(15):
        with pytest.raises(LinkLost):
            await asking
    assert lost == []


async def test_opens_again_after_it_was_plugged_in_again(rig: Rig) -> None:
    for _ in range(2):
        assert await rig.link.exchange(Q1) == STATUS
        await rig.unplug()
        with pytest.raises(LinkLost):
            while True:
                await rig.link.drain()
        await rig.link.close()
        await rig.replug()
        await rig.link.open()
    assert await rig.link.exchange(F) == RATING


@pytest.mark.parametrize("rig", [(rig, "exchange") for rig in RIGS], ids=" by ".join, indirect=True)
async def test_cancelling_leaves_the_link_usable(rig: Rig) -> None:
    rig.line.faults.append(Slow(delay_s=0.05))
    for _ in range(3):
        asking = asyncio.create_task(rig.link.exchange(Q1))
        await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await rig.link.exchange(F) == RATING


async def test_closed_is_closed(rig: Rig) -> None:
    asking = asyncio.create_task(rig.link.exchange(T))
    await asyncio.sleep(0.05)
    await rig.link.close()
    with pytest.raises(LinkLost):
        await asking
    await rig.link.close()
    with pytest.raises(LinkLost):
        await rig.link.exchange(Q1)
    await rig.link.open()
    assert await rig.link.exchange(Q1) == STATUS


async def test_one_exchange_at_a_time(rig: Rig) -> None:
    asking = asyncio.create_task(rig.link.exchange(Ask(b"T\r", deadline_s=0.2)))
    await asyncio.sleep(0.02)
    with pytest.raises(RuntimeError):
        await rig.link.exchange(Q1)
    with pytest.raises(ReplyTimeout):
        await asking


async def test_open_twice_is_a_mistake(rig: Rig) -> None:
    with pytest.raises(RuntimeError):
        await rig.link.open()
    assert await rig.link.exchange(Q1) == STATUS


async def test_bad_lines_give_what_their_names_say(rig: Rig) -> None:
    quick = Ask(b"Q1\r", deadline_s=0.25)

    async def answer(ask: Ask) -> bytes | None:
        try:
            return await rig.link.exchange(ask)
        except (ReplyTimeout, ReplyMalformed):
            await rig.link.drain()
            return None

    assert await answer(Q1) == STATUS
    rig.line.faults[:] = [Echoing()]
    assert await answer(Q1) == b"Q1"
    rig.line.faults[:] = [Silent()]
    assert await answer(quick) is None
    rig.line.faults[:] = [Garbage(seed=3)]
    garbage = await answer(Q1)
    assert garbage not in (None, STATUS)
    rig.line.faults[:] = [Noisy(seed=3)]
    noisy = await answer(Q1)
    assert noisy is not None and noisy.endswith(STATUS) and 1 <= len(noisy) - len(STATUS) <= 8
    rig.line.faults[:] = [Wrong()]
    assert await answer(quick) is None
    assert await answer(F) == STATUS
    assert await answer(Q1) == RATING
    rig.line.faults[:] = [Lossy(replies=0.5, seed=3)]
    answers = [await answer(quick) for _ in range(8)]
    assert set(answers) == {STATUS, None}
    rig.line.faults.clear()
    assert await answer(Q1) == STATUS


@pytest.mark.parametrize("kind", RIGS)
async def test_a_port_that_is_not_there(kind: str, tmp_path: Path) -> None:
    rig = RIGS[kind](tmp_path)
    await rig.start()
    link = rig.link
    if kind == "rfc2217":
        await rig.stop()
    else:
        await rig.unplug()
    with pytest.raises(LinkUnavailable) as caught:
        await link.open()
    assert isinstance(caught.value, LinkError)
    assert caught.value.port == link.label and caught.value.remedy and not caught.value.hopeless
    await link.close()
