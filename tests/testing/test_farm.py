"""The farm over real pseudo-terminals, read by pyserial as any client would."""

from __future__ import annotations

import asyncio
import errno
import os
import time
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import serial

from qxfleet.errors import LinkUnavailable
from qxfleet.testing.farm import Farm, Pace
from qxfleet.testing.population import fleet
from qxfleet.testing.unit import Fault

BYTE_S = 10 / 2400
"""megatec-family.md section 2: ten bits at 2400 baud, 4.17 ms."""

STATUS = {"mustek": b"QS\r", "megatec/old": b"D\r"}


def farm_of(directory: Path, count: int = 6, pace: Pace | None = None) -> Farm:
    return Farm(directory, fleet(count), pace=pace)


def ask(path: Path, *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 10.0) -> tuple[bytes, float]:
    """Open, send the pieces, read up to CR, close; the reply and the seconds from the last piece on."""
    with serial.Serial(str(path), 2400, timeout=timeout_s) as port:
        port.reset_input_buffer()
        for piece in pieces:
            time.sleep(pause_s)
            began = time.monotonic()
            port.write(piece)
        return port.read_until(b"\r"), time.monotonic() - began


async def asked(path: Path, *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 10.0) -> tuple[bytes, float]:
    return await asyncio.to_thread(ask, path, *pieces, pause_s=pause_s, timeout_s=timeout_s)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def open_files() -> int:
    return len(files(Path("/proc/self/fd")))


async def until(holds: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)


async def test_every_unit_answers_its_status_query_through_its_link(tmp_path: Path) -> None:
    async with farm_of(tmp_path) as farm:
        for ups in farm.upses.values():
            reply, _ = await asked(farm.link(ups.name), STATUS.get(ups.dialect.name, b"Q1\r"))
            assert reply.startswith(b"(")
            assert len(reply) == 47


async def test_readers_may_come_and_go(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 1) as farm:
        for _ in range(5):
            reply, _ = await asked(farm.link("ups-01"), b"Q1\r")
            assert reply.startswith(b"(")


async def test_a_request_in_pieces_is_one_request_and_two_in_one_piece_are_two(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 1) as farm:
        reply, _ = await asked(farm.link("ups-01"), b"Q", b"1", b"\r", pause_s=0.03)
        assert reply.startswith(b"(")
        reply, _ = await asked(farm.link("ups-01"), b"F\rQ1\r")
        assert reply.startswith(b"#")
        await until(lambda: len(farm.logs["ups-01"]) == 3)
        assert [request for _, request in farm.logs["ups-01"]] == [b"Q1\r", b"F\r", b"Q1\r"]


async def test_endless_input_is_thrown_away(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 1) as farm:
        await asked(farm.link("ups-01"), b"x" * 300, timeout_s=0.05)
        await until(lambda: sum(len(piece) for _, piece in farm.logs["ups-01"]) == 300)
        reply, _ = await asked(farm.link("ups-01"), b"Q1\r")
        assert reply.startswith(b"(")


async def test_a_reader_that_never_reads_blocks_nobody(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 2) as farm:
        descriptor = os.open(farm.link("ups-01"), os.O_RDWR | os.O_NOCTTY)
        try:
            for _ in range(40):
                os.write(descriptor, b"Q1\r" * 50)
                await asyncio.sleep(0)
            await until(lambda: len(farm.logs["ups-01"]) == 2000)
            reply, _ = await asked(farm.link("ups-02"), b"Q1\r")
            assert reply.startswith(b"(")
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("pace", ["bytes", "frame"])
async def test_a_paced_exchange_takes_its_wire_time(tmp_path: Path, pace: Pace) -> None:
    """Section 2: Q1 out 13 ms, 47 bytes in 196 ms, together 209 ms."""
    async with farm_of(tmp_path, 1, pace) as farm:
        tries = [await asked(farm.link("ups-01"), b"Q1\r") for _ in range(5)]
        assert {len(reply) for reply, _ in tries} == {47}
        assert 50 * BYTE_S - 0.002 <= min(took_s for _, took_s in tries) <= 50 * BYTE_S + 0.1


async def test_bytes_leave_one_by_one_and_frames_at_once(tmp_path: Path) -> None:
    def chunks(path: Path) -> list[bytes]:
        with serial.Serial(str(path), 2400, timeout=2) as port:
            port.write(b"F\r")
            seen = []
            while not b"".join(seen).endswith(b"\r"):
                seen.append(os.read(port.fileno(), 100) if _readable(port) else b"")
            return [chunk for chunk in seen if chunk]

    def _readable(port: serial.Serial) -> bool:
        return bool(port.in_waiting) or bool(time.sleep(0.0005))

    pieces: dict[str, int] = {}
    for pace in ("bytes", "frame"):
        async with farm_of(tmp_path / pace, 1, pace) as farm:  # type: ignore[arg-type]
            pieces[pace] = len(await asyncio.to_thread(chunks, farm.link("ups-01")))
    assert pieces["frame"] == 1
    assert pieces["bytes"] > 2  # how many depends on how often a loaded machine lets us look


async def test_paced_replies_of_many_lines_overlap(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 12, "bytes") as farm:
        began = time.monotonic()
        answers = await asyncio.gather(
            *(asked(farm.link(ups.name), STATUS.get(ups.dialect.name, b"Q1\r")) for ups in farm.upses.values())
        )
        assert all(reply.startswith(b"(") and reply.endswith(b"\r") for reply, _ in answers)
        assert time.monotonic() - began < 12 * 0.2


async def test_a_late_reply_is_late(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 1) as farm:
        farm.upses["ups-01"].set_fault(Fault.LATE, "0.3")
        reply, took_s = await asked(farm.link("ups-01"), b"F\r")
        assert reply.startswith(b"#")
        assert took_s >= 0.3
        assert (await asked(farm.link("ups-01"), b"Q1\r", timeout_s=0.1))[0] == b""


async def test_unplugged_is_a_hang_up_and_a_missing_link_and_replugged_a_new_terminal(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 2) as farm:
        descriptor = os.open(farm.link("ups-01"), os.O_RDWR | os.O_NOCTTY)
        try:
            farm.unplug("ups-01")
            assert not farm.link("ups-01").is_symlink()
            with pytest.raises(OSError, match="error") as hang_up:
                os.write(descriptor, b"Q1\r")
            assert hang_up.value.errno == errno.EIO
            assert os.read(descriptor, 10) == b""
        finally:
            os.close(descriptor)
        reply, _ = await asked(farm.link("ups-02"), b"Q1\r")
        assert reply.startswith(b"(")
        farm.plug("ups-01")
        reply, _ = await asked(farm.link("ups-01"), b"Q1\r")
        assert reply.startswith(b"(")


async def test_unplugging_in_the_middle_of_a_reply_disturbs_nobody(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 2, "bytes") as farm:
        pending = asyncio.gather(
            asked(farm.link("ups-02"), b"Q1\r"), asked(farm.link("ups-01"), b"Q1\r"), return_exceptions=True
        )
        await until(lambda: all(farm.logs.values()))
        farm.unplug("ups-01")
        whole, cut = await pending
        assert isinstance(whole, tuple)
        assert len(whole[0]) == 47
        assert isinstance(cut, serial.SerialException) or len(cut[0]) < 47


async def test_speed_hurries_the_physics_and_not_the_wire(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 1, "frame") as farm:
        (ups,) = farm.select("ups-01")
        ups.machine.set_mains(0.0)
        farm.speed = 600.0
        before = ups.machine.battery.charge
        _, took_s = await asked(farm.link("ups-01"), b"Q1\r")
        assert took_s > 50 * BYTE_S - 0.002
        await asyncio.sleep(0.3)
        farm.select("all")
        assert ups.machine.battery.charge < before - 0.02


async def test_targets(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 5) as farm:
        assert [ups.name for ups in farm.select("group:feed-a")] == ["ups-01", "ups-03", "ups-05"]
        assert [ups.name for ups in farm.select("group:rack2")] == ["ups-03", "ups-04"]
        assert len(farm.select("all")) == 5
        for wrong in ("ups-99", "group:feed-z", ""):
            with pytest.raises(LookupError, match="expected one of ups-01"):
                farm.select(wrong)


async def test_the_fleet_file_is_a_configuration_s_ups_blocks(tmp_path: Path) -> None:
    async with farm_of(tmp_path, 3) as farm:
        blocks = tomllib.loads((tmp_path / "fleet.toml").read_text())["ups"]
        assert [set(block) for block in blocks] == [{"name", "port", "groups", "description"}] * 3
        assert [block["name"] for block in blocks] == list(farm.upses)
        for block in blocks:
            assert Path(block["port"]).is_absolute()
            assert str(farm.link(block["name"]).readlink()).startswith("/dev/pts/")
        assert blocks[1]["groups"] == ["feed-b", "rack1"]


async def test_links_and_descriptors_are_gone_afterwards(tmp_path: Path) -> None:
    before = open_files()
    async with farm_of(tmp_path, 4, "bytes") as farm:
        await asked(farm.link("ups-01"), b"Q1\r")
    assert files(tmp_path) == ["fleet.toml"]
    assert open_files() == before


async def test_stale_links_are_replaced_and_other_people_s_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "ups-01").symlink_to("/dev/pts/99999")
    async with farm_of(tmp_path, 1) as farm:
        assert (await asked(farm.link("ups-01"), b"Q1\r"))[0]
    (tmp_path / "ups-02").write_text("mine")
    with pytest.raises(LinkUnavailable, match="ups-02"):
        async with farm_of(tmp_path, 2):
            raise AssertionError("must not open")
    assert not (tmp_path / "ups-01").is_symlink()
    (tmp_path / "ups-02").unlink()
    (tmp_path / "fleet.toml").write_text("# mine\n")
    with pytest.raises(LinkUnavailable, match=r"fleet\.toml"):
        async with farm_of(tmp_path, 2):
            raise AssertionError("must not open")
    assert (tmp_path / "fleet.toml").read_text() == "# mine\n"


async def test_a_waiting_coroutine_is_served_while_lines_are_paced(tmp_path: Path) -> None:
    """The farm shares its loop: pacing must not hold it for longer than a few bytes' time."""
    async with farm_of(tmp_path, 24, "bytes") as farm:
        readers: list[Awaitable[tuple[bytes, float]]] = [
            asked(farm.link(ups.name), STATUS.get(ups.dialect.name, b"Q1\r")) for ups in farm.upses.values()
        ]
        replies = asyncio.gather(*readers)
        gaps = []
        while not replies.done():
            at = time.monotonic()
            await asyncio.sleep(0.001)
            gaps.append(time.monotonic() - at)
        assert all(reply.endswith(b"\r") for reply, _ in await replies)
        assert sorted(gaps)[len(gaps) // 2] < 0.02
