"""A device report: everything a unit says, its serial number masked, and enough to recognise it again."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from qxfleet.dialects.registry import DIALECTS
from qxfleet.dialects.spec import Dialect, acts
from qxfleet.interfaces.cli.report_device import HEAD
from qxfleet.model.wire import sealed, sealing
from qxfleet.session.detect import detect
from qxfleet.session.report import ask_everything, masked
from qxfleet.testing.farm import Farm
from qxfleet.testing.simulator import SimulatedUps
from qxfleet.testing.transcript import Exchange, RecordingTransport, ReplayTransport, read_transcript
from qxfleet.testing.voltronic.models import model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.inproc import InProcTransport
from tests.interfaces.conftest import start
from tests.virtual import run_virtual


def unit(dialect: Dialect) -> SimulatedUps | VoltronicUps:
    return VoltronicUps(dialect, model("P01"), name="u") if dialect.name == "voltronic" else SimulatedUps(dialect, name="u")


def shareable(exchange: Exchange) -> bytes:
    frame, end, rest = exchange.reply.partition(b"\r")
    return masked(exchange.request, frame) + end + rest


async def reported(dialect: Dialect) -> list[Exchange]:
    loop = asyncio.get_running_loop()
    ups = unit(dialect)
    said = io.StringIO()
    link = InProcTransport("u", lambda request: ups.answer(request, loop.time()))
    report = await ask_everything(RecordingTransport(link, said), "u")
    assert report.dialect is dialect
    return read_transcript(said.getvalue().splitlines())


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_a_report_is_recognised_for_what_it_was_made_of(dialect: Dialect) -> None:
    exchanges = run_virtual(reported(dialect))
    assert not any(acts(exchange.request) for exchange in exchanges)
    shared = [replace(each, reply=shareable(each)) for each in exchanges]

    async def again() -> str:
        link = ReplayTransport(shared, repeat=True)
        return (await detect(link.exchange, "u"))[0].name

    assert run_virtual(again()) == dialect.name


@pytest.mark.parametrize(
    ("request_", "frame", "wanted"),
    [
        (b"SASV07?\r", b"GASV07DN05K10KB100004      ", b"GASV07DX00X00XX000000      "),
        (b"GSN,00\r", b"(00,SSN=6A1212      2782", b"(00,SSN=0X0000      0000"),
        (b"PSNR\r", b"A0Z25110005109G ", b"X0X00000000000X "),
        (b"SN?\r", b"#SN0401Z00017", b"#XX0000X00000"),  # of no table: by its looks
        (b"Q1\r", b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000", b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"),
        (b"F\r", b"#220.0 000 024.0 50.0", b"#220.0 000 024.0 50.0"),
    ],
)
def test_what_names_one_unit_is_masked_and_nothing_else(request_: bytes, frame: bytes, wanted: bytes) -> None:
    assert masked(request_, frame) == wanted


def test_a_masked_frame_keeps_a_true_crc() -> None:
    request, frame = sealing(b"QID"), sealing(b"(9293333010501")[:-1]
    assert masked(request, frame) == sealing(b"(0000000000000")[:-1]
    assert sealed(masked(request, frame))


async def test_the_command_writes_a_file_that_replays(tmp_path: Path) -> None:
    dialect = next(each for each in DIALECTS if each.name == "masterguard")
    file = tmp_path / "unit.txt"
    async with Farm(tmp_path / "farm", [SimulatedUps(dialect, name="u")]) as farm:
        running = start("report-device", farm.link("u"), "--out", file, "--json", stdout=-1)
        said, _ = await asyncio.to_thread(running.communicate)
    document = json.loads(said)
    assert running.returncode == 0
    assert (document["file"], document["dialect"]) == (str(file), "masterguard")
    text = file.read_text()
    assert text.startswith(HEAD) and "2782" not in text and str(tmp_path) not in text
    link = ReplayTransport(read_transcript(text.splitlines()), repeat=True)
    assert (await detect(link.exchange, "u"))[0].name == "masterguard"
