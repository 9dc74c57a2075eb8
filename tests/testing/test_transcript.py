"""Transcripts: what is recorded, how it reads, and that replaying gives the same again."""

from __future__ import annotations

import getpass
import io
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxfleet.errors import LinkLost, ReplyMalformed, ReplyTimeout
from qxfleet.model.clock import Clock
from qxfleet.model.wire import Ask
from qxfleet.testing.transcript import (
    HEAD,
    Exchange,
    RecordingTransport,
    ReplayTransport,
    escape,
    read_transcript,
    unescape,
)
from qxfleet.transports.base import LinkInfo

Q1 = Ask(b"Q1\r")
FRAME = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"


class StepClock(Clock):
    """A quarter of a second passes between any two looks."""

    def __init__(self) -> None:
        self.now_s = 5000.0

    def monotonic(self) -> float:
        self.now_s += 0.25
        return self.now_s


class Scripted:
    """A transport that says what it was told to say."""

    label = "/dev/serial/by-id/usb-secret-SN12345"

    def __init__(self, *outcomes: bytes | Exception) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[str] = []

    async def open(self) -> LinkInfo:
        self.calls.append("open")
        return LinkInfo(self.label)

    async def exchange(self, ask: Ask) -> bytes:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def drain(self, listen_s: float = 0.1) -> int:
        self.calls.append("drain")
        return 7

    async def close(self) -> None:
        self.calls.append("close")


async def outcome(link: RecordingTransport | ReplayTransport, ask: Ask) -> object:
    try:
        return await link.exchange(ask)
    except (ReplyTimeout, ReplyMalformed) as error:
        return type(error), error.reason, error.frame
    except LinkLost:
        return LinkLost


async def test_the_record_reads_as_documented() -> None:
    stream = io.StringIO()
    link = RecordingTransport(Scripted(FRAME, ReplyTimeout(), b"#ACME \\\x80\0 "), stream, StepClock())
    await link.exchange(Q1)
    with pytest.raises(ReplyTimeout):
        await link.exchange(Ask(b"QPI\r"))
    await link.exchange(Ask(b"I\r"))
    assert stream.getvalue().removeprefix(HEAD) == (
        "0.250 > Q1\\r\n"
        "0.500 < (226.0 195.0 226.0 014 49.0 27.5 30.0 00001000\\r\n"
        "0.750 > QPI\\r\n"
        "1.000 ! timeout\n"
        "1.250 > I\\r\n"
        "1.500 < #ACME \\\\\\x80\\x00 \\r\n"
    )


async def test_nothing_of_the_machine_stands_in_the_record() -> None:
    stream = io.StringIO()
    inner = Scripted(FRAME, LinkLost(Scripted.label, "gone"))
    link = RecordingTransport(inner, stream)
    await link.open()
    await link.exchange(Q1)
    with pytest.raises(LinkLost):
        await link.exchange(Q1)
    assert await link.drain() == 7
    await link.close()
    assert inner.calls == ["open", "drain", "close"]
    text = stream.getvalue()
    assert text.startswith(HEAD)
    for private in (Scripted.label, "SN12345", "/dev", socket.gethostname(), getpass.getuser(), str(Path.cwd())):
        assert private not in text.removeprefix(HEAD)


async def test_a_replay_gives_every_outcome_again_in_the_order_of_each_request() -> None:
    lost = LinkLost("x", "gone")
    script = (
        (b"Q1\r", FRAME), (b"I\r", b"#  "), (b"Q1\r", ReplyTimeout()), (b"Q1\r", ReplyTimeout(frame=b"(226.0 1")),
        (b"F\r", ReplyMalformed("long", b"x" * 50)), (b"Q1\r", FRAME[:-1] + b"1"), (b"I\r", lost),
    )  # fmt: skip
    stream = io.StringIO()
    recording = RecordingTransport(Scripted(*(what for _, what in script)), stream)
    recorded = [(request, await outcome(recording, Ask(request))) for request, _ in script]
    replay = ReplayTransport(read_transcript(stream.getvalue().splitlines()))
    await replay.open()
    for request in (b"I\r", b"Q1\r", b"F\r"):
        for asked, what in recorded:
            if asked == request:
                assert await outcome(replay, Ask(request)) == what
    assert await replay.drain() == 0
    await replay.close()


async def test_what_was_not_recorded_is_silence_and_the_last_answer_can_be_repeated() -> None:
    exchanges = [Exchange(0.0, b"Q1\r", 0.2, b"(1\r"), Exchange(1.0, b"Q1\r", 1.2, b"(2\r")]
    once, repeating = ReplayTransport(exchanges), ReplayTransport(exchanges, repeat=True)
    silence = (ReplyTimeout, "silence", b"")
    assert [await outcome(once, Q1) for _ in range(3)] == [b"(1", b"(2", silence]
    assert [await outcome(repeating, Q1) for _ in range(4)] == [b"(1", b"(2", b"(2", b"(2"]
    assert await outcome(repeating, Ask(b"F\r")) == silence


milliseconds = st.integers(0, 10**8).map(lambda count: count / 1000)
words = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12)


@st.composite
def exchanges(draw: st.DrawFn) -> Exchange:
    at_s = draw(milliseconds)
    reply, trouble = draw(st.binary(max_size=60)), draw(st.just("") | words)
    done_s = draw(milliseconds) if reply or trouble else at_s
    return Exchange(at_s, draw(st.binary(max_size=20)), done_s, reply, trouble)


@given(st.lists(exchanges(), max_size=8))
def test_reading_what_was_written_gives_it_back(written: list[Exchange]) -> None:
    text = HEAD + "".join(exchange.text() for exchange in written)
    assert text.isascii()
    assert all(line.isprintable() for line in text.split("\n"))
    assert read_transcript(io.StringIO(text)) == written
    mailed = "\r\n".join(line.rstrip() for line in text.split("\n"))
    assert read_transcript(mailed.split("\n")) == written


@given(st.binary(max_size=80))
def test_escaped_bytes_survive(data: bytes) -> None:
    assert unescape(escape(data)) == data
    assert escape(data) == escape(data).strip()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0.1 > Q1\\r\nnonsense", "line 2"), ("0.1 < (226\\r", "line 1: an answer without a request"),
        ("# c\n\n0.1 > Q\\q", "line 3: not an escaped line"), ("0.1 > Q\\x1", "line 1"), ("0.1 > caf\u00e9", "line 1"),
        ("0.1 > Q1\\r\n0.2 ! timeout\n0.3 < late\\r", "line 3"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        read_transcript(text.split("\n"))
