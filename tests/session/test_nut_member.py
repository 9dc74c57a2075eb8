"""A UPS behind a NUT server as a session sees it: status, values, settings, orders with their five ends, lost contact."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from qxfleet import connect
from qxfleet.errors import LinkError, OrderInvalid, OrderNotSupported
from qxfleet.library import AsyncUps
from qxfleet.model.events import Link, Outcome, SettingInfo
from qxfleet.model.options import UpsdAccess
from qxfleet.model.status import Status, status_text
from qxfleet.session import errands
from qxfleet.transports import nut
from tests.nut_server import NutServer, Ups, running


@pytest.fixture
async def server() -> AsyncIterator[NutServer]:
    async with running(NutServer()) as found:
        yield found


@pytest.fixture
def member(server: NutServer, tmp_path: Path) -> connect:
    for name in ("user", "password"):
        (tmp_path / name).write_text(name)
    access = UpsdAccess("127.0.0.1", server.port, str(tmp_path / "user"), str(tmp_path / "password"))
    return connect(f"nut://127.0.0.1:{server.port}/a", upsd=access, poll_interval_s=0.1)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "CONFIRM_S", 0.6)
    monkeypatch.setattr(errands, "READ_BACK_S", 0.1)
    monkeypatch.setattr(nut, "TRACK_S", 0.3)
    monkeypatch.setattr(nut, "ASK_TRACKING_S", 0.02)


async def until(ups: AsyncUps, holds: Any, what: str = "") -> None:
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what or "it never came")


async def offered(ups: AsyncUps) -> None:
    await until(ups, lambda: "ups.id" in ups.settings() and ups.commands())


STATUS = {
    "OL": "OL", "OL CHRG": "OL CHRG", "OB DISCHRG": "OB DISCHRG", "OB LB": "OB LB", "FSD OB LB": "OB LB FSD",
    "OL TRIM": "OL TRIM", "OL BOOST": "OL BOOST", "OL BYPASS": "OL BYPASS",
    "OL RB": "OL RB", "OL OVER": "OL OVER", "OL OFF": "OL OFF", "OFF": "OFF",
    "OL CAL": "OL CAL", "OL TEST": "OL CAL", "OL HB ECO": "OL HB ECO", "OL SOMETHING NEW": "OL", "ol": "OL",
    "OL DISCHRG": "OL DISCHRG",
}  # fmt: skip
"""Words of ``ups.status`` as NUT's developers list them (docs of NUT, "Status data"), and the flags they are."""


@pytest.mark.parametrize("said", STATUS)
async def test_every_status_word(server: NutServer, member: connect, said: str) -> None:
    server.upses["a"].variables["ups.status"] = said
    async with member as ups:
        status = ups.latest.reading.status & ~Status.ALARM
        assert sorted(status_text(status).split()) == sorted(STATUS[said].split())


async def test_values_texts_and_phases(server: NutServer, member: connect) -> None:
    variables = server.upses["a"].variables
    del variables["ups.load"], variables["input.voltage"]
    variables |= {
        "input.L1-N.voltage": "229.0", "input.L2-N.voltage": "3.1", "input.L3-N.voltage": "231.5",
        "output.L1.power.percent": "12", "output.L2.power.percent": "44", "output.L3.power.percent": "31",
        "ups.temperature": "N/A", "battery.charge.low": "1e400",
        "ambient.1.humidity": "41.50", "driver.name": "usbhid-ups", "battery.runtime": "nan",
        "device.location": 'hall "2" \\ \x1b[31mred',
        "ups.alarm": "Replace battery! No battery installed!", "ups.status": "ALARM OL RB",
    }  # fmt: skip
    async with member as ups:
        values = ups.latest
        assert (values.number("ups.load"), values.number("input.voltage")) == (44.0, 3.1)
        assert values["input.L3-N.voltage"] == "231.5" and values["ambient.1.humidity"] == "41.50"
        assert values["device.location"] == 'hall "2" \\ [31mred'
        assert not {"ups.temperature", "battery.charge.low", "battery.runtime", "driver.name"} & set(values)
        assert values["ups.alarm"] == "Replace battery! Replace battery! No battery installed!"
        assert values["device.serial"] == "AS1" and ups.dialect == "nut"


async def test_what_can_not_be_true_is_not_told(server: NutServer, member: connect) -> None:
    server.upses["a"].variables |= {"battery.charge": "255", "input.voltage": "65535", "ups.load": "-5"}
    async with member as ups:
        values = ups.latest
        assert "battery.charge" not in values or values.reading.origins["battery.charge"].value == "estimated"
        assert not {"input.voltage", "ups.load"} & set(values)
        assert any("input.voltage implausible" in note for note in values.reading.notes)


async def test_a_driver_that_knows_nothing_yet(server: NutServer, member: connect) -> None:
    server.upses["a"].variables = {"ups.status": "WAIT", "driver.name": "usbhid-ups"}
    with pytest.raises(LinkError, match="driver has heard nothing of the UPS yet"):
        async with member:
            pass


async def test_a_test_by_its_result(server: NutServer, member: connect) -> None:
    server.upses["a"].variables |= {"ups.test.result": "In progress", "ups.status": "OL DISCHRG"}
    async with member as ups:
        assert ups.latest.reading.status & Status.CAL
        server.upses["a"].variables["ups.test.result"] = "Done and passed"
        await until(ups, lambda: not ups.latest.reading.status & Status.CAL)


async def test_what_is_offered_comes_from_its_lists(server: NutServer, member: connect) -> None:
    async with member as ups:
        await offered(ups)
        assert set(ups.commands()) == {*server.upses["a"].commands, "shutdown.default"}
        infos = {info.name: info for info in ups._session.settings()}
        start = infos["ups.delay.start"]
        assert start == SettingInfo("ups.delay.start", 30.0, 0.0, 600.0, (), start.description)
        assert infos["input.sensitivity"].choices == ("low", "high") and infos["ups.id"].value == "hall"
        unknown = next(order for order in ups._session.orders() if order.name == "odd.thing")
        assert unknown.hazard.value == "load"  # nobody knows what it may cost


async def test_settings_are_read_back(server: NutServer, member: connect) -> None:
    async with member as ups:
        await offered(ups)
        result = await ups.set("ups.delay.start", "60")
        assert (result.outcome, result.sent) == (Outcome.ACCEPTED, 'SET VAR ups.delay.start "60"\r')
        assert (await ups.set("input.sensitivity", "LOW")).outcome is Outcome.ACCEPTED
        assert (await ups.set("ups.id", 'h "1"')).outcome is Outcome.ACCEPTED
        assert server.upses["a"].variables["ups.id"] == 'h "1"'
        assert server.orders()[-1] == 'SET VAR a ups.id "h \\"1\\""'
        for name, value in (
            ("ups.delay.start", "601"), ("input.sensitivity", "odd"), ("ups.id", "much too long"), ("ups.id", "{x}"),
            ("ups.delay.shutdown", "soon"),
        ):  # fmt: skip
            with pytest.raises(OrderInvalid):
                await ups.set(name, value)
        with pytest.raises(OrderNotSupported):
            await ups.set("battery.charge.low", "20")
        assert len(server.orders()) == 3
        server.tracking = ("ERR FAILED",)
        assert (await ups.set("ups.delay.start", "90")).outcome is Outcome.ACCEPTED  # it reads 90 all the same
        server.acts = lambda here, order: None
        server.instead = lambda request: b"ERR FAILED\n" if request.startswith("SET VAR") else ""
        assert (await ups.set("ups.delay.start", "30")).outcome is Outcome.REJECTED


def starts_a_test(ups: Ups, order: str) -> None:
    if order == "test.battery.start.quick":
        ups.variables["ups.test.result"] = "In progress"
    elif order == "test.battery.stop":
        ups.variables["ups.test.result"] = "Aborted"


async def test_the_five_ends_of_an_order(server: NutServer, member: connect) -> None:
    server.acts = starts_a_test
    async with member as ups:
        await offered(ups)
        server.tracking = ("PENDING", "SUCCESS")
        result = await ups.command("test.battery.start.quick")
        assert (result.outcome, result.reply) == (Outcome.ACCEPTED, "SUCCESS")
        server.tracking = ("PENDING",)  # no last word, and an effect
        result = await ups.command("test.battery.stop")
        assert result.outcome is Outcome.ACCEPTED and "bit.test" in result.text
        result = await ups.command("load.off")  # no last word, and no effect: never OK
        assert (result.outcome, result.text) == (Outcome.UNCONFIRMED, "no effect seen within 1 s")
        server.tracking = ("ERR FAILED",)
        assert (await ups.command("load.off")).outcome is Outcome.REJECTED
        server.tracking = ("ERR UNKNOWN",)
        assert (await ups.command("load.off")).outcome is Outcome.UNSUPPORTED
        server.instead = lambda request: b"ERR ACCESS-DENIED\n" if request.startswith("INSTCMD") else ""
        result = await ups.command("load.off")
        assert (result.outcome, result.reply) == (Outcome.REJECTED, "ERR ACCESS-DENIED")
        server.upses["a"].gone = "DRIVER-NOT-CONNECTED"
        server.instead = lambda request: ""
        await until(ups, lambda: ups.link is Link.LOST)
        result = await ups.command("load.off")
        assert (result.outcome, result.sent) == (Outcome.NO_ANSWER, "")
        assert [order.split()[-1] for order in server.orders()].count("load.off") == 4  # each once


async def test_a_server_that_tracks_nothing(server: NutServer, member: connect) -> None:
    server.tracking, server.acts = None, starts_a_test
    async with member as ups:
        await offered(ups)
        result = await ups.command("test.battery.start.quick")
        assert result.outcome is Outcome.ACCEPTED and result.text.startswith("seen in")
        assert (await ups.command("odd.thing")).outcome is Outcome.UNCONFIRMED


async def test_delays_of_one_order_are_set_before_it(server: NutServer, member: connect) -> None:
    async with member as ups:
        await offered(ups)
        prepared = ups._session.prepare("shutdown.return", None, {"ups.delay.shutdown": 60.0, "ups.delay.start": 30.0})
        result = await ups._session.perform(prepared)
        assert result.outcome is Outcome.ACCEPTED
        assert server.orders() == ['SET VAR a ups.delay.shutdown "60"', "INSTCMD a shutdown.return"]  # the other stood so
        server.heard.clear()
        server.instead = lambda request: b"ERR SET-FAILED\n" if request.startswith("SET VAR") else ""
        prepared = ups._session.prepare("shutdown.return", None, {"ups.delay.shutdown": 90.0})
        result = await ups._session.perform(prepared)
        assert result.outcome is Outcome.REJECTED and "step 1 of 2: nothing else was sent" in result.text
        assert [order.split()[0] for order in server.orders()] == ["SET"]


@pytest.mark.parametrize(("own", "fits"), [("59", False), ("60", True), ("120", True), ("121", False), (None, False)])
async def test_a_delay_that_can_not_be_set_must_do(server: NutServer, member: connect, own: str | None, fits: bool) -> None:
    del server.upses["a"].writable["ups.delay.shutdown"]
    if own is None:
        del server.upses["a"].variables["ups.delay.shutdown"]
    else:
        server.upses["a"].variables["ups.delay.shutdown"] = own
    async with member as ups:
        await offered(ups)
        if fits:
            prepared = ups._session.prepare("shutdown.return", None, {"ups.delay.shutdown": 60.0})
            assert (prepared.first, prepared.request) == ((), b"INSTCMD shutdown.return\r")
        else:
            with pytest.raises(OrderNotSupported, match=r"can't be set and is .*, 60 s are wanted"):
                ups._session.prepare("shutdown.return", None, {"ups.delay.shutdown": 60.0})


async def test_lost_and_found_again(server: NutServer, member: connect) -> None:
    async with member as ups:
        for code, sentence in nut.GONE.items():
            server.upses["a"].gone = code
            await until(ups, lambda: ups.link is Link.LOST)
            assert sentence in ups.reason
            server.upses["a"].gone = ""
            await until(ups, lambda: ups.link is Link.ONLINE)
        await server.hang_up()
        await until(ups, lambda: ups.link is Link.LOST)
        assert "the NUT server hung up" in ups.reason
        await until(ups, lambda: ups.link is Link.ONLINE)


async def test_another_device_in_its_place(server: NutServer, member: connect) -> None:
    async with member as ups:
        await offered(ups)
        await server.hang_up()
        server.upses["a"].variables |= {"device.serial": "ZZ9", "device.model": "Back-UPS"}
        server.upses["a"].commands = ("load.on",)
        await until(ups, lambda: ups.latest["device.serial"] == "ZZ9")
        await until(ups, lambda: set(ups.commands()) == {"load.on"})
        identity = ups._session.identity
        assert identity is not None and identity.facts["device.serial"] == "ZZ9"
