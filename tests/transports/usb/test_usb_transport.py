"""One UPS on USB: which device is meant, opening it, asking it, and what becomes of everything that can go wrong."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from qxfleet.errors import LinkLost, LinkUnavailable, ReplyMalformed, ReplyRefused, ReplyTimeout
from qxfleet.model.wire import Ask
from qxfleet.transports.usb import UsbTransport
from qxfleet.transports.usb_bus import Selection
from qxfleet.transports.usb_ids import udev_rule
from tests.transports.usb.emulated import Q1, Cypress, Emulated, Fabula, Hunnox, Ippon, Krauler, TextUps
from tests.transports.usb.fake_usb import FakeUsb, failure

STATUS, FRAME = Ask(b"Q1\r"), Q1.rstrip(b"\r")


@pytest.fixture
def host(tmp_path: Path) -> FakeUsb:
    return FakeUsb(tmp_path)


def link(host: FakeUsb, **options: str) -> UsbTransport:
    return UsbTransport("auto", Selection.of(options), buses=host.buses)


@asynccontextmanager
async def opened(host: FakeUsb, **options: str) -> AsyncIterator[UsbTransport]:
    transport = link(host, **options)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()
        assert host.handles == 0


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


# -- which device


def rack(host: FakeUsb) -> None:
    """Two equal units, one with a serial number, one behind another bridge, an adapter and a mouse."""
    host.plug("1-1", Cypress(TextUps("A")))
    host.plug("1-2", Cypress(TextUps("B")))
    named = Cypress(TextUps("C"))
    named.serial = " C1\t"
    host.plug("2-1.4", named)
    host.plug("3-1", Ippon(TextUps("D")))
    for path, ids in (("1-3", (0x1A86, 0x7523)), ("1-4", (0x046D, 0xC077))):
        other = Emulated(TextUps())
        other.vendor_id, other.product_id = ids
        host.plug(path, other)


@pytest.mark.parametrize(("options", "paths"), [
    ({}, ["1-1", "1-2", "2-1.4", "3-1"]),
    ({"vendorid": "0665"}, ["1-1", "1-2", "2-1.4"]),
    ({"vendorid": "066.", "productid": "5161|0000"}, ["1-1", "1-2", "2-1.4"]),
    ({"vendorid": "06DA"}, ["3-1"]),
    ({"vendorid": "66"}, []),
    ({"vendorid": "06*"}, []),
    ({"serial": "c1"}, ["2-1.4"]),
    ({"serial": "C"}, []),
    ({"bus": "00[23]"}, ["2-1.4", "3-1"]),
    ({"bus": "1"}, []),
    ({"product": ".*serial", "vendor": "ACME"}, ["1-1", "1-2", "2-1.4", "3-1"]),
    ({"usb_path": "1-2"}, ["1-2"]),
    ({"usb_path": "1-."}, []),
    ({"usb_path": "1-3"}, []),
    ({"vendorid": "046d", "productid": "c077", "subdriver": "sgs"}, ["1-4"]),
])  # fmt: skip
def test_expressions_match_whole_texts_without_blanks_around(host: FakeUsb, options: dict[str, str], paths: list[str]) -> None:
    rack(host)
    assert [device.path for device in Selection.of(options).among(host.buses.devices())] == paths


async def test_an_ambiguous_selection_lists_the_candidates(host: FakeUsb) -> None:
    rack(host)
    with pytest.raises(LinkUnavailable) as caught:
        await link(host, vendorid="0665").open()
    said = str(caught.value)
    assert "3 USB devices fit: 1-1 (0665:5161 ACME USB to Serial); 1-2" in said
    assert "2-1.4 (0665:5161 ACME USB to Serial serial C1)" in said
    assert 'usb_path = "1-1"' in said
    with pytest.raises(LinkUnavailable, match=r"usb_path = 9-9\): no such USB device"):
        await link(host, usb_path="9-9").open()


async def test_looking_opens_nothing_and_reads_no_string(host: FakeUsb) -> None:
    rack(host)
    krauler = Krauler(TextUps())
    host.plug("4-1", krauler)
    host.buses.devices(fresh=True)
    assert host.handles == 0
    transport = link(host, usb_path="4-1")
    info = await transport.open()
    assert (info.path, info.detail) == ("usb:4-1", "0001:0000 krauler")
    assert krauler.log == [], "a string's number is a command here"
    await transport.close()
    assert krauler.log == []
    assert all(not entry.device.log for entry in host.plugged.values())


async def test_a_second_equal_unit_does_not_take_over(host: FakeUsb) -> None:
    """Both without serial numbers: the place decides, whatever the addresses are after a replug."""
    host.plug("1-1", Cypress(TextUps("A")))
    host.plug("1-2", Cypress(TextUps("B")))
    first, second = link(host, usb_path="1-1"), link(host, usb_path="1-2")
    for turn in range(2):
        for transport, name in ((first, b"A"), (second, b"B")):
            await transport.open()
            assert (await transport.exchange(Ask(b"I\r"))).split()[1] == name
        for path in ("1-1", "1-2") if turn else ("1-2", "1-1"):
            host.plug(path, host.unplug(path))
        await first.close()
        await second.close()


async def test_one_that_was_opened_stays_the_one_meant(host: FakeUsb) -> None:
    host.plug("1-2", Cypress(TextUps("B")))
    async with opened(host, vendorid="0665") as transport:
        host.plug("1-1", Cypress(TextUps("A")))
        await transport.close()
        await transport.open()
        assert b"B" in await transport.exchange(Ask(b"I\r"))


# -- opening


async def test_no_permission_prints_the_rule(host: FakeUsb) -> None:
    host.plug("1-1", Cypress(TextUps())).denied = True
    with pytest.raises(LinkUnavailable) as caught:
        await link(host).open()
    assert caught.value.hopeless
    assert "no permission for /dev/bus/usb/001/002" in str(caught.value)
    assert udev_rule(0x0665, 0x5161) in str(caught.value)
    assert "/etc/udev/rules.d/70-qxfleet-usb.rules" in str(caught.value)


async def test_a_device_that_is_held_says_so(host: FakeUsb) -> None:
    host.plug("1-1", Cypress(TextUps())).claimed_by = object()
    with pytest.raises(LinkUnavailable, match=r"1-1 \(0665:5161.*\) is held by another program") as caught:
        await link(host).open()
    assert caught.value.hopeless
    assert host.handles == 0


async def test_the_kernels_driver_is_put_aside(host: FakeUsb) -> None:
    plugged = host.plug("1-1", Cypress(TextUps()))
    assert plugged.kernel_driver
    async with opened(host):
        assert not plugged.kernel_driver
    assert plugged.claimed_by is None


# -- asking


async def test_replies_and_what_is_none(host: FakeUsb) -> None:
    ups = TextUps()
    host.plug("1-1", Cypress(ups))
    async with opened(host) as transport:
        assert await transport.exchange(STATUS) == FRAME
        assert await transport.exchange(Ask(b"QGS\r")) == b"QGS", "an echo, as the UPS gives it"
        with pytest.raises(ReplyTimeout, match="silence"):
            await transport.exchange(Ask(b"T\r"))
        with pytest.raises(ReplyMalformed, match="long"):
            await transport.exchange(Ask(b"Q1\r", max_len=20))
        ups.zeros = True
        assert await transport.exchange(STATUS) == b"(000.0 000.0 000.0 000 00.0 0.00 00.0 00000000"
    with pytest.raises(LinkLost, match="not open"):
        await transport.exchange(STATUS)


async def test_a_late_reply_is_not_the_next_ones(host: FakeUsb) -> None:
    ups = TextUps()
    device = Cypress(ups)
    host.plug("1-1", device)
    async with opened(host) as transport:
        ups.mute = True
        with pytest.raises(ReplyTimeout):
            await transport.exchange(Ask(b"F\r"))
        ups.mute = False
        device.packets.extend(device.packed(b"#230.0 004 12.00 50.0\r"))
        assert await transport.exchange(STATUS) == FRAME
        assert transport.care.counts["drains"] == 1


@pytest.mark.parametrize("kind", [Fabula, Hunnox])
async def test_these_bridges_never_answer_an_order(host: FakeUsb, kind: type[Fabula]) -> None:
    device = kind(TextUps())
    device.strings = {1: "MEC0003", 3: "MEC"}
    host.plug("1-1", device)
    options = {"vendorid": "0001", "productid": "0000", "subdriver": kind.__name__.lower()}
    async with opened(host, **options) as transport:
        with pytest.raises(ReplyTimeout):
            await transport.exchange(Ask(b"Q\r"))
        assert await transport.exchange(STATUS) == FRAME.replace(b"1001", b"1000")


async def test_krauler_says_taken(host: FakeUsb) -> None:
    ups = TextUps()
    host.plug("1-1", Krauler(ups))
    async with opened(host, langid_fix="0x409") as transport:
        assert await transport.exchange(Ask(b"Q\r")) == b"ACK"
        assert not ups.beeper
        assert await transport.exchange(Ask(b"S01\r")) == b"S01", "an echo: this bridge has no such order"
        assert b"S01" not in ups.heard


# -- the ladder


async def heal(transport: UsbTransport) -> list[tuple[str, int]]:
    told: list[tuple[str, int]] = []
    transport.on_healed = lambda remedy, count, text: told.append((remedy, count))
    return told


async def test_a_stalled_endpoint_is_cleared(host: FakeUsb) -> None:
    device = Cypress(TextUps())
    host.plug("1-1", device)
    async with opened(host) as transport:
        told = await heal(transport)
        device.stalled = True
        with pytest.raises(ReplyTimeout, match="stall"):
            await transport.exchange(STATUS)
        assert await transport.exchange(STATUS) == FRAME
        await until(lambda: len(told) >= 2)
        assert told[:2] == [("halts-cleared", 1), ("repeats", 1)]
        assert device.halts_cleared == 1


async def test_a_refused_request_is_no_fault_of_the_link(host: FakeUsb) -> None:
    device = Cypress(TextUps())
    host.plug("1-1", device)
    async with opened(host) as transport:
        device.refuses = True
        for _ in range(5):
            with pytest.raises(ReplyRefused, match="stall"):
                await transport.exchange(STATUS)
        device.refuses = False
        assert await transport.exchange(STATUS) == FRAME
        assert device.resets == device.halts_cleared == 0


async def test_the_overflow_wedge_is_ended_by_a_reset_and_resets_are_rationed(host: FakeUsb) -> None:
    device = Cypress(TextUps())
    host.plug("1-1", device)
    transport = link(host)
    for turn in range(6):
        await transport.open()
        device.wedged = True
        for _ in range(2):
            with pytest.raises(ReplyTimeout, match="overflow"):
                await transport.exchange(STATUS)
        with pytest.raises(LinkLost) as caught:
            await transport.exchange(STATUS)
        assert ("the device was reset" in str(caught.value)) is (turn < 4)
        await transport.close()
    assert device.resets == 4
    assert transport.care.counts["resets"] == 4
    assert transport.care.counts["reopens"] == 5
    assert "4 resets" in str(transport.care)


async def test_input_errors_reopen_and_then_reset(host: FakeUsb) -> None:
    device = Cypress(TextUps())
    host.plug("1-1", device)
    transport = link(host)
    error = failure(-1, errno.EIO, "Input/Output Error")
    await transport.open()
    for resets in (0, 1):
        host.fail_next["1-1"] = [error, error, error, error]
        with pytest.raises(ReplyTimeout, match=r"input/output error \(libusb -1\)"):
            await transport.exchange(STATUS)
        with pytest.raises(LinkLost, match=r"twice in a row|opened anew"):
            await transport.exchange(STATUS)
        host.fail_next.clear()
        assert device.resets == resets
        await transport.close()
        await transport.open()
    assert await transport.exchange(STATUS) == FRAME
    await transport.close()
    assert host.handles == 0


async def test_silence_that_opening_does_not_end_is_answered_by_a_reset(host: FakeUsb) -> None:
    ups = TextUps()
    device = Cypress(ups)
    host.plug("1-1", device)
    transport = link(host)
    await transport.open()
    assert await transport.exchange(STATUS) == FRAME
    ups.mute = True
    for _ in range(2):
        with pytest.raises(ReplyTimeout):
            await transport.exchange(STATUS)
        await transport.close()
        if transport.care.openings_in_vain == 0:
            await transport.open()
    assert (transport.care.counts["reopens"], device.resets) == (1, 0)
    with pytest.raises(LinkUnavailable, match="was reset"):
        await transport.open()
    await transport.close()
    assert device.resets == transport.care.counts["resets"] == 1
    await transport.open()
    assert device.resets == 1, "after a reset, opening is tried first again"
    await transport.close()


# -- pulled plugs


async def test_an_unplug_is_told_at_once_between_polls(host: FakeUsb) -> None:
    host.plug("1-1", Cypress(TextUps()))
    async with opened(host) as transport:
        lost: list[LinkLost] = []
        transport.on_lost = lost.append
        host.unplug("1-1")
        await until(lambda: bool(lost))
        assert "unplugged" in str(lost[0])
        with pytest.raises(LinkLost, match="unplugged"):
            await transport.exchange(STATUS)


async def test_an_unplug_ends_a_read_under_way(tmp_path: Path) -> None:
    host = FakeUsb(tmp_path, real_time=True)
    ups = TextUps()
    host.plug("1-1", Cypress(ups))
    async with opened(host) as transport:
        ups.mute = True
        asking = asyncio.create_task(transport.exchange(Ask(b"Q1\r", deadline_s=30)))
        await until(lambda: b"Q1" in ups.heard)
        host.unplug("1-1")
        async with asyncio.timeout(15):
            with pytest.raises(LinkLost, match="unplugged"):
                await asking


async def test_closing_during_a_read_leaves_nothing(tmp_path: Path) -> None:
    host = FakeUsb(tmp_path, real_time=True)
    ups = TextUps()
    ups.mute = True
    host.plug("1-1", Cypress(ups))
    transport = link(host)
    await transport.open()
    asking = asyncio.create_task(transport.exchange(STATUS))
    await until(lambda: b"Q1" in ups.heard)
    asking.cancel()
    await transport.close()
    assert host.handles == 0
    await transport.open()
    await transport.close()


async def test_a_missing_device_ends_the_wait_by_coming_back(host: FakeUsb) -> None:
    host.plug("1-1", Cypress(TextUps()))
    transport = link(host)
    waiting = asyncio.create_task(transport.wait_back(0.3))
    await waiting
    device = host.unplug("1-1")
    await asyncio.sleep(0.6)
    waiting = asyncio.create_task(transport.wait_back(30))
    await asyncio.sleep(0.1)
    host.plug("1-1", device)
    async with asyncio.timeout(15):
        await waiting
