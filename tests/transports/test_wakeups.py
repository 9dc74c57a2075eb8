"""Replies that nobody is in a hurry for are taken together, and nobody who is in a hurry waits for them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from qxfleet.errors import LinkLost, ReplyTimeout
from qxfleet.model.wire import Ask
from qxfleet.testing.links import PtyLine
from qxfleet.transports.serial_port import SerialTransport
from tests.transports.rigs import STATUS, device
from tests.transports.test_links_alike import until

Q1 = Ask(b"Q1\r")

CALM_S = 1.0
"""Longer than the real one, so that being in a hurry is told from a slow machine."""


@pytest.fixture(autouse=True)
def long_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qxfleet.transports.line.CALM_S", CALM_S)


class Polled:
    """Serial links on pseudo-terminals that answer at once, and when what came over each was handed out."""

    def __init__(self) -> None:
        self.links: list[SerialTransport] = []
        self.lines: list[PtyLine] = []
        self.came: dict[int, tuple[float, bytes | BaseException]] = {}

    def ask(self, number: int, ask: Ask = Q1, *, calm: bool = True) -> None:
        def handed(answer: bytes | BaseException) -> None:
            self.came[number] = (time.monotonic() - began_s, answer)

        began_s = time.monotonic()
        assert self.links[number].start(ask, handed, calm=calm)


@contextlib.asynccontextmanager
async def polled(folder: Path, count: int) -> AsyncIterator[Polled]:
    told = Polled()
    with contextlib.ExitStack() as stack:
        for number in range(count):
            line = stack.enter_context(PtyLine(folder / f"ups{number}", device))
            told.lines.append(line)
            told.links.append(SerialTransport(line.path))
            await told.links[-1].open()
        try:
            yield told
        finally:
            for link in told.links:
                await link.close()


async def test_calm_replies_come_together_once_they_must_be_there(tmp_path: Path) -> None:
    async with polled(tmp_path, 3) as told:
        for number in range(3):
            told.ask(number)
        await until(lambda: len(told.came) == 3)
        assert {answer for _, answer in told.came.values()} == {STATUS}
        assert min(at_s for at_s, _ in told.came.values()) >= CALM_S - 0.005


async def test_one_in_a_hurry_is_not_kept_waiting_nor_are_the_others_then(tmp_path: Path) -> None:
    async with polled(tmp_path, 4) as told:
        for number in range(3):
            told.ask(number)
        told.ask(3, calm=False)
        await until(lambda: len(told.came) == 4)
        assert max(at_s for at_s, _ in told.came.values()) < CALM_S / 2


async def test_an_exchange_among_calm_polls_ends_when_its_reply_is_there(tmp_path: Path) -> None:
    async with polled(tmp_path, 3) as told:
        told.ask(0)
        told.ask(1)
        began_s = time.monotonic()
        assert await told.links[2].exchange(Q1) == STATUS
        assert time.monotonic() - began_s < CALM_S / 2
        await until(lambda: len(told.came) == 2)


async def test_calm_goes_on_from_slot_to_slot(tmp_path: Path) -> None:
    async with polled(tmp_path, 2) as told:
        for number in (0, 1, 0, 1):
            told.came.clear()
            told.ask(number)
            await until(lambda: number in told.came)  # noqa: B023
            assert told.came[number][0] >= CALM_S - 0.005


@pytest.mark.parametrize("silent_s", [0.1, 1.6])
async def test_a_calm_poll_without_a_reply_ends_at_its_deadline(tmp_path: Path, silent_s: float) -> None:
    async with polled(tmp_path, 2) as told:
        told.ask(0, Ask(b"T\r", silent_s))
        told.ask(1)
        await until(lambda: len(told.came) == 2)
        at_s, answer = told.came[0]
        assert isinstance(answer, ReplyTimeout)
        assert max(silent_s, CALM_S) - 0.005 <= at_s < max(silent_s, CALM_S) + 0.5
        assert told.came[1][1] == STATUS


async def test_replies_that_gathered_while_others_were_taken_wait_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qxfleet.transports.wakeups.COMPANY_S", 2.0)
    slow = Ask(b"Q1\r", 20.0)
    async with polled(tmp_path, 4) as told:
        for number in (2, 3):
            told.lines[number].device = lambda request: None
            told.lines[number].say(STATUS + b"\r", 3.0)
        began_s = time.monotonic()
        for number in (0, 2, 3):
            told.ask(number, slow, calm=False)
        assert told.links[1].start(slow, lambda answer: time.sleep(2.2), calm=False)
        await until(lambda: len(told.came) == 3)
        assert {answer for _, answer in told.came.values()} == {STATUS}
        assert told.came[0][0] >= 2.0, "waited for company"
        assert time.monotonic() - began_s < 6.0, "2.0 for company, 2.2 for the first ones, and not 2.0 again"


async def test_a_line_that_goes_in_the_calm_is_missed_when_it_is_looked_at(tmp_path: Path) -> None:
    async with polled(tmp_path, 2) as told:
        told.ask(0)
        told.ask(1)
        told.lines[0].unplug()
        await until(lambda: len(told.came) == 2)
        assert isinstance(told.came[0][1], LinkLost)
        assert told.came[1][1] == STATUS
