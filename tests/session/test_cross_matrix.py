"""Every simulated dialect among all: recognised for what it is, in time, and asked nothing that acts on any other."""

from __future__ import annotations

import asyncio
import re

import pytest

from qxfleet.dialects.registry import DIALECTS, STATUS_PROBES, claim_questions
from qxfleet.dialects.spec import Dialect, Tier, acts
from qxfleet.session.detect import detect
from qxfleet.testing.machine import Machine, Ratings
from qxfleet.testing.simulator import SimulatedUps, Unknown, order_patterns
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport
from tests.virtual import run_virtual

BYTE_S = 10 / 2400
THINKS_S = 0.03

ANSWERING_S, MUTE_S = 3.0, 8.0
"""Within these a unit is recognised at 2400 baud: one that says no to what it does not know, and one that says nothing."""

LIKE_MECER = {"megatec", "q1", "zinto"}
"""A unit that speaks no more than these and says ``(NAK`` to QPI is a mecer (megatec-family.md section 7)."""


def unit(dialect: Dialect, unknown: Unknown, ratings: Ratings) -> SimulatedUps | VoltronicUps:
    if dialect.name == "voltronic":
        return VoltronicUps(dialect, model("P01"), name="u")
    return SimulatedUps(dialect, name="u", machine=Machine(ratings), unknown=unknown)


async def met(ups: SimulatedUps | VoltronicUps) -> tuple[Dialect, float, list[bytes]]:
    """The dialect found over a line of 2400 baud, the seconds it took, and what was asked."""
    loop = asyncio.get_running_loop()
    asked: list[bytes] = []

    async def answer(request: bytes) -> bytes | None:
        asked.append(request)
        await asyncio.sleep(len(request) * BYTE_S + THINKS_S)
        reply = ups.answer(request, loop.time())
        await asyncio.sleep(len(reply or b"") * BYTE_S)
        return reply

    link = InProcTransport("u", answer)
    await link.open()
    began_s = loop.time()
    try:
        dialect, _ = await detect(link.exchange, "u")
    finally:
        await link.close()
    return dialect, loop.time() - began_s, asked


@pytest.mark.parametrize("unknown", Unknown, ids=lambda unknown: unknown.name.lower())
@pytest.mark.parametrize("ratings", [Ratings(), Ratings(battery_v=48, line_interactive=False)], ids=["small", "online"])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_each_is_recognised_among_all_in_time(dialect: Dialect, ratings: Ratings, unknown: Unknown) -> None:
    found, took_s, asked = run_virtual(met(unit(dialect, unknown, ratings)))
    wanted = "mecer" if unknown is Unknown.BRACKET_NAK and dialect.name in LIKE_MECER else dialect.name
    assert found.name == wanted
    assert took_s <= (MUTE_S if unknown is Unknown.SILENCE else ANSWERING_S), (took_s, asked)
    assert not any(map(acts, asked))


QUESTIONS = sorted({*STATUS_PROBES, *claim_questions(), *(query.command for each in DIALECTS for query in each.queries)})


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_no_question_is_an_order_in_another_dialect(dialect: Dialect) -> None:
    patterns = order_patterns(dialect)
    if dialect.name == "voltronic":
        patterns += [re.compile(pattern.encode() + b"\r") for pattern, _ in VoltronicUps._ORDERS]
    own = {query.command for query in dialect.queries}
    for setting in dialect.device_settings:
        patterns += [re.compile(re.escape(request)) for _, request in setting.choices]
        if setting.wire:
            template = re.sub(rb"\\\{[a-z.]+\\\}", b"[0-9]+", re.escape(setting.wire.encode()))
            patterns.append(re.compile(re.sub(rb"%(\\\([dhms]\\\))?[0-9.]*[df]", b"[0-9.]+", template)))
    assert patterns or not dialect.orders
    hits = [(question, pattern.pattern) for question in QUESTIONS for pattern in patterns if pattern.fullmatch(question)]
    assert hits == [], hits
    assert not any(map(acts, own))


def test_every_order_acts() -> None:
    """The other way round: what an order looks like is known to the check that keeps it from being asked."""
    quick = {query.command for each in DIALECTS for query in each.tier(Tier.QUICK)}
    assert not any(map(acts, quick))
    for request in (b"T\r", b"TL\r", b"T10\r", b"S.5R0003\r", b"S01\r", b"C\r", b"CT\r", b"Q\r", b"FOFF\r", b"FCLR,00\r", b"An\r",
                    b"PNV=240\r",
                    b"TUD,00\r", b"SS---1,00\r", b"BP3\r", b"SRC0001:01:01:01,00\r", b"SKOFF1\r", b"SOFF\r"):  # fmt: skip
        assert acts(request), request
