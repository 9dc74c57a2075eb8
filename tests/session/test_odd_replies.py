"""Replies that real devices give and no paper tells of: read for what they hold, on a session over a scripted line."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, status_query
from qxfleet.dialects.spec import Field, Query, Reply, Tier, Token, Topic
from qxfleet.errors import ReplyTimeout
from qxfleet.model.options import UpsOptions
from qxfleet.model.wire import Ask
from qxfleet.session.detect import detect
from qxfleet.session.plans import read
from qxfleet.session.readout import Readout
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.transports.inproc import InProcTransport
from tests.session.script import STATUS
from tests.virtual import run_virtual

STATUS_FRAME = STATUS.rstrip("\r").encode()


def test_a_rating_of_points_gives_the_number_that_is_there() -> None:
    """MEC0003 bridges: only the battery's nominal voltage is told."""
    assert read(RATING_QUERY, b"#   .   .  12.00   . ") == {"battery.voltage.nominal": 12.0}
    assert read(RATING_QUERY, b"#230.0 2.6 12.0 .") == {
        "input.voltage.nominal": 230.0, "input.current.nominal": 2.6, "battery.voltage.nominal": 12.0
    }  # fmt: skip


async def _found(answers: dict[bytes, bytes]) -> str:
    link = InProcTransport("u", lambda request: answers.get(request, b""))
    await link.open()
    try:
        dialect, evidence = await detect(link.exchange, "u")
    finally:
        await link.close()
    assert evidence.values
    return dialect.name


@pytest.mark.parametrize("rating", [b"#220.0 002 024.0 50.0\r", b"#   .   .  12.00   . \r"])
def test_a_device_that_answers_only_f_beside_its_status_is_recognised(rating: bytes) -> None:
    assert run_virtual(_found({b"Q1\r": STATUS.encode(), b"F\r": rating})) == "megatec"


@pytest.mark.parametrize("echoes", [1, 2])
def test_an_echo_with_an_end_of_its_own_is_passed_over(echoes: int) -> None:
    async def story() -> None:
        known = {b"Q1\r": STATUS.encode()}
        link = InProcTransport("u", lambda request: request + known.get(request, b""))
        await link.open()
        assert await link.exchange(Ask(b"Q1\r")) == STATUS_FRAME
        for _ in range(echoes):  # from here on it is known that the line echoes, and an echo alone is silence
            with pytest.raises(ReplyTimeout) as silence:
                await link.exchange(Ask(b"FW?\r"))
            assert silence.value.frame == b""
        await link.close()

    run_virtual(story())


def test_a_late_reply_after_an_echo_is_waited_for() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        link = InProcTransport("u", lambda request: request)
        await link.open()
        loop.call_later(0.25, link.say, STATUS.encode())
        assert await link.exchange(Ask(b"Q1\r")) == STATUS_FRAME
        await link.close()

    run_virtual(story())


def test_a_unit_that_echoes_what_it_does_not_know_is_believed_at_once() -> None:
    """Its status came without an echo: the line does not echo."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        link = InProcTransport("u", lambda request: STATUS.encode() if request == b"Q1\r" else request)
        await link.open()
        assert await link.exchange(Ask(b"FW?\r")) == b"FW?"
        assert await link.exchange(Ask(b"Q1\r")) == STATUS_FRAME
        began_s = loop.time()
        assert await link.exchange(Ask(b"FW?\r")) == b"FW?"
        assert loop.time() == began_s
        await link.close()

    run_virtual(story())


def test_a_field_that_wins_needs_no_meanings() -> None:
    """A table may let another reply's value stand above the status without saying anything else of status."""
    more = Query(
        b"BV\r", (Reply(b"(", (Field("battery.voltage", Token(0), wins=True),), tokens=(1, 1), length=(3, 9)),), Tier.FULL,
        Topic.DEVICE,
    )  # fmt: skip
    dialect = replace(MEGATEC, queries=(status_query(b"Q1\r"), more))
    readout = Readout(UpsOptions("u", "/dev/x"), dialect)
    readout.take(more, read(more, b"(26.93"))
    reading = readout.reading(read(dialect.queries[0], STATUS_FRAME), 0, 0.0)
    assert reading.values["battery.voltage"] == 26.93
    assert reading.texts()["ups.status"] == "OL"


def test_the_simulator_says_which_name_of_a_template_it_does_not_know() -> None:
    reply = Reply(b"(", (), length=(2, 20), render="(%(no.such.thing)s")
    odd = Query(b"X\r", (reply,), Tier.ONCE, Topic.DEVICE)
    ups = SimulatedUps(replace(MEGATEC, queries=(*MEGATEC.queries, odd)))
    with pytest.raises(ValueError, match=r"template of X asks for no\.such\.thing"):
        ups.answer(b"X\r", 0.0)
