"""What only a serial port has: a kernel that frames, a lock, lines for power, and many ways not to be there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from qxfleet.errors import LinkLost, LinkUnavailable, ReplyTimeout
from qxfleet.model.wire import Ask
from qxfleet.testing.links import Device, PtyLine
from qxfleet.transports.serial_port import LINES, SerialTransport
from tests.transports.rigs import END, RATING, STATUS, device

Q1, F = Ask(b"Q1\r"), Ask(b"F\r")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[PtyLine]:
    with PtyLine(tmp_path / "ups0", device) as line:
        yield line


def descriptors() -> list[int]:
    return [int(fd) for fd in os.listdir("/proc/self/fd")]  # noqa: PTH208


def real(path: str) -> str:
    return os.path.realpath(path)


@contextlib.asynccontextmanager
async def opened(path: str) -> AsyncIterator[SerialTransport]:
    link = SerialTransport(path)
    await link.open()
    try:
        yield link
    finally:
        await link.close()


def test_cablepower_is_the_table_of_the_incumbent() -> None:
    """engine.md section 3: (DTR, RTS)."""
    assert LINES == {
        "normal": (True, False), "reverse": (False, True), "both": (True, True), "none": (False, False),
    }  # fmt: skip
    with pytest.raises(ValueError, match="'dtr' is none of normal, reverse, both, none"):
        SerialTransport("/dev/ttyS0", "dtr")


@pytest.mark.parametrize("cablepower", LINES)
async def test_a_terminal_without_modem_lines_will_do(line: PtyLine, cablepower: str) -> None:
    link = SerialTransport(line.path, cablepower)
    info = await link.open()
    assert info.path == real(line.path) != line.path
    assert info.detail == f"serial 2400 8N1, cablepower {cablepower}"
    assert await link.exchange(Q1) == STATUS
    await link.close()


async def test_the_port_is_set_as_the_papers_ask(line: PtyLine) -> None:
    async with opened(line.path) as link:
        iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(link._fd)
        assert ispeed == ospeed == termios.B2400
        assert cflag & termios.CSIZE == termios.CS8
        assert not cflag & (termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
        assert cflag & termios.CLOCAL and cflag & termios.CREAD
        wanted = termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP
        assert not iflag & wanted and not oflag & termios.OPOST
        assert lflag & termios.ICANON and not lflag & (termios.ECHO | termios.ISIG | termios.IEXTEN)


async def test_no_byte_but_the_end_is_special_to_the_kernel(tmp_path: Path) -> None:
    every = bytes(byte for byte in range(1, 256) if byte != 13)
    body = every[:9] + b"\0" + every[9:]

    def binary(request: bytes) -> bytes:
        return b"(" + body + END

    with PtyLine(tmp_path / "ups0", binary) as line:
        async with opened(line.path) as link:
            for _ in range(2):
                assert await link.exchange(Q1) == b"(" + body


async def test_line_feeds_and_padding_between_replies_belong_to_none(tmp_path: Path) -> None:
    """quirks.md, Framing: CR then NUL padding to a multiple of 8; CRLF from some device servers."""

    def padded(request: bytes) -> bytes:
        return STATUS + b"\r\n\0\0\0"

    with PtyLine(tmp_path / "ups0", padded) as line:
        async with opened(line.path) as link:
            for _ in range(3):
                assert await link.exchange(Q1) == STATUS


async def test_a_whole_reply_wakes_the_loop_once(tmp_path: Path) -> None:
    reads = []
    with PtyLine(tmp_path / "ups0", lambda request: None) as line:
        async with opened(line.path) as link:
            look = link.look

            def counting() -> None:
                reads.append(1)
                look()

            link._wakeups._readers[link._fd] = counting
            for at, byte in enumerate(STATUS + END):
                line.say(bytes((byte,)), 0.05 + at / 240)
            assert await link.exchange(Q1) == STATUS
    assert len(reads) == 1


async def test_the_deadline_starts_when_the_request_has_left(line: PtyLine) -> None:
    """24 characters at 2400 baud 8N1 are 0.1 s."""
    loop = asyncio.get_running_loop()
    async with opened(line.path) as link:
        line.device = lambda request: None
        began = loop.time()
        with pytest.raises(ReplyTimeout):
            await link.exchange(Ask(b"T" * 47 + b"\r", deadline_s=0.1))
        assert 0.295 <= loop.time() - began < 2


async def test_what_hangs_in_the_kernel_is_told_and_gone(tmp_path: Path) -> None:
    replies = iter((STATUS + END, b"(208.4 140.0", RATING + END))
    with PtyLine(tmp_path / "ups0", lambda request: next(replies)) as line:
        async with opened(line.path) as link:
            assert await link.exchange(Q1) == STATUS
            with pytest.raises(ReplyTimeout) as caught:
                await link.exchange(Ask(b"Q1\r", deadline_s=0.2))
            assert (caught.value.reason, caught.value.frame) == ("no end byte", b"(208.4 140.0")
            assert await link.exchange(F) == RATING


async def test_another_end_byte(tmp_path: Path) -> None:
    replies = iter((b"one\rtwo!", STATUS + END))
    with PtyLine(tmp_path / "ups0", lambda request: next(replies)) as line:
        async with opened(line.path) as link:
            assert await link.exchange(Ask(b"Q1\r", end=ord("!"))) == b"one\rtwo"
            assert await link.exchange(Q1) == STATUS


async def test_one_descriptor_per_port(line: PtyLine) -> None:
    before = len(descriptors())
    async with opened(line.path) as link:
        assert await link.exchange(Q1) == STATUS
        shared = 2  # the loop's two epolls, whatever the number of ports
        assert len(descriptors()) == before + 1 + shared


async def test_a_second_open_is_told_who_may_hold_it(line: PtyLine) -> None:
    async with opened(line.path) as link:
        other = SerialTransport(real(line.path))
        with pytest.raises(LinkUnavailable) as caught:
            await other.open()
        assert "another program holds it" in str(caught.value)
        assert f"fuser {other.label}" in caught.value.remedy
        assert not caught.value.hopeless
        assert await link.exchange(Q1) == STATUS
    async with opened(line.path) as link:
        assert await link.exchange(Q1) == STATUS


async def test_a_lock_of_another_program_is_respected(line: PtyLine) -> None:
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX); print(1, flush=True); input()"
    command = [sys.executable, "-c", hold, line.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline()
        with pytest.raises(LinkUnavailable, match="another program holds it"):
            await SerialTransport(line.path).open()
        holder.communicate(b"\n")
    async with opened(line.path) as link:
        assert await link.exchange(Q1) == STATUS


@contextlib.contextmanager
def closed_to_us(terminal: Path) -> Iterator[str]:
    """Nobody but the terminal's group may write; yields that group."""
    group = terminal.group()
    terminal.chmod(0o020)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield group
    finally:
        if root:
            os.seteuid(0)


async def test_no_permission_names_the_group_and_the_way(line: PtyLine) -> None:
    terminal = Path(real(line.path))
    link = SerialTransport(str(terminal))
    with closed_to_us(terminal) as group, pytest.raises(LinkUnavailable) as caught:
        await link.open()
    assert caught.value.reason == "no permission"
    assert f"usermod -aG {group if group != 'root' else 'dialout'} USER" in caught.value.remedy
    assert caught.value.hopeless


@pytest.mark.parametrize("kind", ["missing", "dangling", "file", "folder", "null"])
async def test_what_is_not_a_port(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "ups0"
    match kind:
        case "dangling":
            path.symlink_to(tmp_path / "unplugged")
        case "file":
            path.write_text("(208.4")
        case "folder":
            path.mkdir()
        case "null":
            path.symlink_to("/dev/null")
    with pytest.raises(LinkUnavailable) as caught:
        await SerialTransport(str(path)).open()
    expected = "no such port" if kind in ("missing", "dangling") else "is not a serial port"
    assert caught.value.reason == expected
    assert caught.value.remedy


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 2, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


async def test_no_descriptor_left(line: PtyLine) -> None:
    link = SerialTransport(line.path)
    with no_descriptor_left(), pytest.raises(LinkUnavailable, match="too many open files"):
        await link.open()


async def test_a_request_the_line_does_not_take_is_a_lost_link() -> None:
    master, slave = os.openpty()  # nobody reads the master
    try:
        link = SerialTransport(os.ttyname(slave))
        await link.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(LinkLost, match="takes no data"):
            await link.exchange(Ask(b"x" * 200_000))
        assert 0.9 <= loop.time() - began < 10
        await link.close()
    finally:
        os.close(master)
        os.close(slave)


async def test_a_long_request_goes_out_in_pieces(tmp_path: Path) -> None:
    got: list[bytes] = []

    def keep(request: bytes) -> bytes:
        got.append(request)
        return b"ACK\r"

    request = bytes(65 + n % 26 for n in range(100_000)) + END
    with PtyLine(tmp_path / "ups0", keep) as line:
        async with opened(line.path) as link:
            assert await link.exchange(Ask(request)) == b"ACK"
    assert got == [request]


async def test_opening_given_up_leaves_the_port_free(line: PtyLine) -> None:
    for _ in range(10):
        opening = asyncio.create_task(SerialTransport(line.path).open())
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(LinkUnavailable):
                async with opened(line.path) as link:
                    assert await link.exchange(Q1) == STATUS
                    return
            await asyncio.sleep(0.01)


async def test_many_ports_answer_in_company(tmp_path: Path) -> None:
    """More replies outstanding than one wake-up waits for: each still gets its own, and silence still ends in time."""

    def numbered(number: int) -> Device:
        return lambda request: None if number % 10 == 9 else b"#%02d\r" % number

    with contextlib.ExitStack() as lines:
        for number in range(30):
            lines.enter_context(PtyLine(tmp_path / f"ups{number}", numbered(number)))
        async with contextlib.AsyncExitStack() as links:
            every = [await links.enter_async_context(opened(str(tmp_path / f"ups{n}"))) for n in range(30)]
            for _ in range(3):
                asking = (link.exchange(Ask(b"I\r", deadline_s=0.4)) for link in every)
                answers = await asyncio.gather(*asking, return_exceptions=True)
                for number, answer in enumerate(answers):
                    if number % 10 == 9:
                        assert isinstance(answer, ReplyTimeout)
                    else:
                        assert answer == b"#%02d" % number
