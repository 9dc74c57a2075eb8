"""Deadlines and quiet on a clock advanced by hand: to the millisecond, whatever else is waiting."""

from __future__ import annotations

import asyncio

import pytest

from qxfleet.errors import LinkLost, ReplyTimeout
from qxfleet.model.wire import QUIET_S, Ask
from qxfleet.testing.links import FaultyTransport, Silent, Slow
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import run_virtual


def test_each_exchange_ends_at_its_own_deadline() -> None:
    ended: dict[float, float] = {}

    async def ask(deadline_s: float) -> None:
        link = InProcTransport("u", lambda request: None)
        await link.open()
        with pytest.raises(ReplyTimeout):
            await link.exchange(Ask(b"Q1\r", deadline_s))
        ended[deadline_s] = asyncio.get_running_loop().time() - 1000.0
        await link.close()

    async def main() -> None:
        await asyncio.gather(*(ask(deadline_s) for deadline_s in (3.0, 0.5, 1.0, 0.1, 1.0)))

    run_virtual(main())
    assert set(ended) == {3.0, 0.5, 1.0, 0.1}
    for deadline_s, ended_s in ended.items():
        assert ended_s == pytest.approx(deadline_s, abs=0.002)


def test_answered_exchanges_move_no_deadline() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        link = FaultyTransport(InProcTransport("u", lambda request: b"#1\r"), Slow(delay_s=0.9))
        await link.open()
        for _ in range(100):
            began = loop.time()
            assert await link.exchange(Ask(b"I\r")) == b"#1"
            assert loop.time() - began == pytest.approx(0.9)
        link.faults[:] = [Silent()]
        began = loop.time()
        with pytest.raises(ReplyTimeout):
            await link.exchange(Ask(b"I\r"))
        assert loop.time() - began == pytest.approx(1.0, abs=0.002)
        await link.close()

    run_virtual(main())


def test_a_raw_reply_ends_when_the_line_was_quiet() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def trickle(request: bytes) -> None:
            for at in range(5):
                loop.call_later(0.2 + at * 0.09, link.say, b"%d" % at)

        link = InProcTransport("u", trickle, raw=True)
        await link.open()
        began = loop.time()
        assert await link.exchange(Ask(b"Q1\r")) == b"01234"
        assert loop.time() - began == pytest.approx(0.2 + 4 * 0.09 + QUIET_S)
        await link.close()

    run_virtual(main())


def test_a_line_that_never_is_quiet_is_not_waited_for() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        link = InProcTransport("u", lambda request: None)
        await link.open()

        async def chatter() -> None:
            while True:
                link.say(b"x")
                await asyncio.sleep(0.05)

        chatting = asyncio.create_task(chatter())
        began = loop.time()
        assert await link.drain() > 30
        assert loop.time() - began == pytest.approx(2.0)
        chatting.cancel()
        await link.close()

    run_virtual(main())


async def test_what_the_device_raises_comes_out_of_the_exchange() -> None:
    async def broken(request: bytes) -> bytes:
        raise LinkLost("u", "gone")

    def broken_at_once(request: bytes) -> bytes:
        raise LinkLost("u", "gone")

    for answer in (broken, broken_at_once):
        link = InProcTransport("u", answer)
        await link.open()
        with pytest.raises(LinkLost):
            await link.exchange(Ask(b"Q1\r"))
        await link.close()
