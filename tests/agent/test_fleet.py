"""The fleet: one door for orders, devices that come, go and break, and the sweep when mains fail."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qxfleet.agent.bus import Bus
from qxfleet.agent.fleet import SWEEP_PAUSE_S
from qxfleet.errors import OrderNotSupported
from qxfleet.model.events import EventKind, Outcome, Severity
from qxfleet.model.options import UpsOptions
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.model.wire import Ask
from tests.agent.ground import Ground, options_of
from tests.session.script import Device, Link
from tests.session.test_session import GOING_DOWN, ON_BATTERY
from tests.virtual import run_virtual

STATUS = "Q1"


def virtual(story: Callable[..., Any]) -> Callable[..., None]:
    """A test on virtual time with the migrated database ``sqlite_path``."""

    @functools.wraps(story)
    def run(sqlite_path: Path, **fixtures: Any) -> None:
        run_virtual(story(sqlite_path, **fixtures))

    run.__signature__ = inspect.signature(story)  # type: ignore[attr-defined]
    return run


class Site(Ground):
    """A :class:`Ground` of scripted devices, ``a``, ``b`` and so on."""

    def __init__(self, database: Path, count: int = 3, **options: object) -> None:
        self.devices = {name: Device() for name in "abcdefghijklmnop"[:count]}
        super().__init__(database, options_of(list(self.devices), **options), self._link)

    def _link(self, options: UpsOptions) -> Link:
        return Link(self.devices[options.name])


# -- orders


@virtual
async def test_an_order_is_written_down_before_it_is_sent_and_ended_after(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        written: list[Any] = []

        def hook(text: str) -> str | None:
            if text != "S.5R0003":
                return None
            written.extend(site.store.open_orders())
            site.devices["a"].replies[STATUS] = GOING_DOWN
            return ""

        site.devices["a"].hook = hook
        result = await site.fleet.perform("a", "shutdown.return", None, actor="me")
        assert result.outcome is Outcome.ACCEPTED
        assert [(order.ups, order.name, order.sent, order.actor, order.outcome) for order in written] == [
            ("a", "shutdown.return", "S.5R0003\r", "me", None)
        ]
        (order,) = await site.orders()
        assert (order.id, order.outcome) == (written[0].id, Outcome.ACCEPTED)
        told = [event for event in site.events if event.kind is EventKind.COMMAND]
        assert [(event.ups, event.name, event.value) for event in told] == [("a", "shutdown.return", "accepted")]
        assert "by me" in told[0].text
        assert site.fleet.snapshot()["a"].shutdown_ordered


@virtual
async def test_what_cant_be_sent_is_audited_and_sends_nothing(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        before = [len(device.log) for device in site.devices.values()]
        clock_s = site.clock.monotonic()
        for name, value, outcome in (
            ("test.battery.start", "30", Outcome.REJECTED),
            ("test.battery.start", "soon", Outcome.REJECTED),
            ("beeper.toggle", "1", Outcome.REJECTED),
            ("no.such.thing", None, Outcome.UNSUPPORTED),
        ):
            result = await site.fleet.perform("a", name, value, actor="me")
            assert (result.outcome, result.sent) == (outcome, "")
            assert "nothing was sent" in result.text
        assert site.clock.monotonic() - clock_s < 0.1
        assert [len(device.log) for device in site.devices.values()] == before
        assert [(order.name, order.sent) for order in await site.orders()] == [
            ("test.battery.start", ""), ("test.battery.start", ""), ("beeper.toggle", ""), ("no.such.thing", ""),
        ]  # fmt: skip
        assert not site.store.open_orders()


@virtual
async def test_an_unknown_ups_has_no_door(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        with pytest.raises(OrderNotSupported, match="no UPS is named 'x'"):
            await site.fleet.perform("x", "beeper.toggle", None, actor="me")
        with pytest.raises(OrderNotSupported, match="no UPS is named 'x'"):
            await site.fleet.set("x", "ups.delay.start", "60", actor="me")
        assert await site.orders() == []


@virtual
async def test_settings_are_audited_and_change_the_next_order(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        for variable, value, outcome, kept in (
            ("ups.delay.start", "130", Outcome.ACCEPTED, "120"),
            ("ups.delay.shutdown", "5", Outcome.REJECTED, "5"),
            ("input.voltage", "230", Outcome.UNSUPPORTED, "230"),
        ):
            result = await site.fleet.set("a", variable, value, actor="me")
            assert (result.outcome, result.value) == (outcome, kept)
        assert [order.outcome for order in await site.orders()] == [
            Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNSUPPORTED,
        ]  # fmt: skip
        assert [event.value for event in site.events if event.kind is EventKind.SETTING] == [
            "accepted", "rejected", "unsupported",
        ]  # fmt: skip
        await site.fleet.perform("a", "shutdown.return", None, actor="me")
        assert site.devices["a"].asked("S.5R0002") == ["S.5R0002"]


@virtual
async def test_an_order_goes_to_its_end_without_whoever_gave_it(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        site.devices["a"].hook = lambda text: "" if text == "T" else None
        giving = asyncio.create_task(site.fleet.perform("a", "test.battery.start.quick", None, actor="me"))
        while not site.devices["a"].asked("T"):
            await asyncio.sleep(0.05)
        giving.cancel()
        await asyncio.sleep(20)
        assert giving.cancelled()
        (order,) = await site.orders()
        assert order.outcome is Outcome.UNCONFIRMED
        assert site.devices["a"].asked("T") == ["T"]


@virtual
async def test_orders_to_one_ups_go_out_one_after_the_other(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        results = await asyncio.gather(
            *(site.fleet.perform("a", name, None, actor="me") for name in ("test.battery.start.quick", "test.battery.stop"))
        )
        assert all(result.outcome is not Outcome.NO_ANSWER for result in results)
        sent = [what for what in site.devices["a"].asked() if what in ("T", "CT")]
        assert sent == ["T", "CT"]


# -- coming, going, breaking


@virtual
async def test_a_reload_touches_only_what_changed(sqlite_path: Path) -> None:
    async with Site(sqlite_path, 4) as site:
        await asyncio.sleep(10)
        kept = site.fleet.session("b")
        site.devices["e"] = Device()
        _, b, c, d = site.upses
        wanted = [d, replace(b), replace(c, poll_interval_s=1.0), *options_of(["e"])]
        assert site.fleet.apply(wanted, {}) == ["a: removed", "c: changed", "e: added"]
        assert list(site.fleet.snapshot()) == ["d", "b", "c", "e"]
        polls = {name: len(device.asked(STATUS)) for name, device in site.devices.items()}
        await asyncio.sleep(20)
        assert site.links() == dict.fromkeys("dbce", "online")
        assert site.fleet.session("b") is kept
        assert {name: device.opened for name, device in site.devices.items()} == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}
        asked = {name: len(device.asked(STATUS)) - polls[name] for name, device in site.devices.items()}
        assert asked["a"] == 0
        assert asked["b"] == asked["d"] == 10
        assert asked["c"] in (20, 21)
        with pytest.raises(OrderNotSupported):
            await site.fleet.perform("a", "beeper.toggle", None, actor="me")
        assert site.told("contact-lost") == []


@virtual
async def test_a_reload_in_an_outage_does_not_tell_it_twice(sqlite_path: Path) -> None:
    async with Site(sqlite_path, 2) as site:
        await asyncio.sleep(5)
        site.devices["a"].replies[STATUS] = ON_BATTERY
        await asyncio.sleep(5)
        a, b = site.upses
        site.fleet.apply([replace(a, poll_interval_s=1.0), b], {})
        assert site.fleet.snapshot()["a"].reading is not None, "what is known of it stays"
        await asyncio.sleep(5)
        assert site.told("on-battery") == [("a", "on-battery", "begin")]
        del site.devices["a"].replies[STATUS]
        site.devices["a"].replies[STATUS] = site.devices["b"].replies[STATUS]
        await asyncio.sleep(15)
        assert site.told("on-battery") == [("a", "on-battery", "begin"), ("a", "on-battery", "end")]


@virtual
async def test_a_port_is_free_before_it_is_opened_again(sqlite_path: Path) -> None:
    """A serial port has one owner: the next one waits until the last has let go, also where two UPSes change places."""
    owners: dict[str, Link] = {}
    devices = {"/dev/a": Device(), "/dev/b": Device()}

    class Exclusive(Link):
        async def open(self) -> Any:
            assert self.label_ not in owners, "another session holds it"
            owners[self.label_] = self
            return await super().open()

        async def close(self) -> None:
            if self.label_ in owners and owners[self.label_] is self:
                await asyncio.sleep(0.5)
                del owners[self.label_]
            await super().close()

    def link(options: UpsOptions) -> Exclusive:
        made = Exclusive(devices[options.port])
        made.label_ = options.port  # type: ignore[attr-defined]
        return made

    async with Ground(sqlite_path, options_of(["a", "b"]), link) as ground:
        await asyncio.sleep(5)
        a, b = ground.upses
        ground.fleet.apply([replace(a, port="/dev/b"), replace(b, port="/dev/a")], {})
        await asyncio.sleep(10)
        assert ground.links() == {"a": "online", "b": "online"}
        assert ground.told("contact-lost", "session-crashed") == []


class Broken(Link):
    """A link with a bug in it while ``broken``."""

    broken = False

    async def exchange(self, ask: Ask) -> bytes:
        if self.broken:
            raise ZeroDivisionError("a bug")
        return await super().exchange(ask)


@virtual
async def test_a_bug_in_one_session_leaves_the_others_alone_and_is_told(sqlite_path: Path) -> None:
    site = Site(sqlite_path)
    links: dict[str, Broken] = {}

    def link(options: UpsOptions) -> Broken:
        links[options.name] = Broken(site.devices[options.name])
        return links[options.name]

    site.fleet._transport_for = link
    async with site:
        await asyncio.sleep(6)
        polls = len(site.devices["b"].asked(STATUS))
        links["a"].broken = True
        giving = asyncio.create_task(site.fleet.perform("a", "beeper.toggle", None, actor="me"))
        await asyncio.sleep(600)
        result = await giving
        assert result.outcome in (Outcome.NO_ANSWER, Outcome.UNCONFIRMED)
        assert site.links() == {"a": "lost", "b": "online", "c": "online"}
        assert len(site.devices["b"].asked(STATUS)) == polls + 300
        crashes = [event for event in site.events if event.name == "session-crashed"]
        assert crashes[0].severity is Severity.CRITICAL
        assert (crashes[0].ups, crashes[0].value) == ("a", "ZeroDivisionError")
        assert 1 < len(crashes) <= 10, "tried again, and less and less often"
        assert site.told("contact-lost") == [("a", "contact-lost", "begin")]
        assert (await site.fleet.perform("a", "beeper.toggle", None, actor="me")).outcome is Outcome.NO_ANSWER
        links["a"].broken = False
        await asyncio.sleep(400)
        assert site.links()["a"] == "online"
        assert site.told("contact-lost") == [("a", "contact-lost", "begin"), ("a", "contact-lost", "end")]
        assert "Q" not in site.devices["a"].asked()


@virtual
async def test_a_bug_in_assessing_is_told_and_the_state_stands(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        before = site.fleet.snapshot()["a"]
        assert before.reading is not None
        site.fleet.report(Reading("a", before.reading.wall_us + 1, site.clock.monotonic(), int(Status.OL), {"ups.load": "much"}))
        assert site.fleet.snapshot()["a"] is before
        assert [(ups, value) for ups, _, value in site.told("assess-failed")] == [("a", "TypeError")]
        await asyncio.sleep(5)
        after = site.fleet.snapshot()["a"].reading
        assert after is not None and after is not before.reading


@virtual
async def test_nothing_is_left_behind(sqlite_path: Path) -> None:
    async with Site(sqlite_path) as site:
        await asyncio.sleep(5)
        site.fleet.apply(site.upses[:2], {})
        site.devices["b"].plugged = False
        giving = asyncio.create_task(site.fleet.perform("a", "shutdown.return", None, actor="me"))
        await asyncio.sleep(0.5)
    await giving
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- names and the bus


@virtual
async def test_targets(sqlite_path: Path) -> None:
    site = Site(sqlite_path, 4)
    a, b, c, d = site.upses
    site.upses = [replace(a, groups=("left", "top")), replace(b, groups=("left",)), replace(c, groups=("right",)), d]
    async with site:
        assert site.fleet.select("all") == ("a", "b", "c", "d")
        assert site.fleet.select("group:left") == ("a", "b")
        assert site.fleet.select("c") == ("c",)
        with pytest.raises(OrderNotSupported, match="groups are left, right, top"):
            site.fleet.select("group:bottom")
        with pytest.raises(OrderNotSupported, match="no UPS is named 'left'"):
            site.fleet.select("left")


async def test_a_slow_listener_loses_the_oldest_and_knows_how_many() -> None:
    bus = Bus()
    slow, quick = bus.subscribe(int, limit=3), bus.subscribe(int, str, limit=100)
    for number in range(10):
        bus.publish(number)
    bus.publish("ten")
    assert (slow.dropped, slow.take()) == (7, [7, 8, 9])
    assert (quick.dropped, quick.take()) == (0, [*range(10), "ten"])
    bus.unsubscribe(slow)
    bus.publish(11)
    assert slow.take() == []
    assert quick.take() == [11]


async def test_a_listener_is_woken_by_each_item() -> None:
    bus = Bus()
    subscription = bus.subscribe(int, limit=10)
    seen: list[int] = []

    async def listen() -> None:
        async for number in subscription:
            seen.append(number)

    listening = asyncio.create_task(listen())
    for number in range(3):
        bus.publish(number)
        await asyncio.sleep(0.01)
        assert seen == list(range(number + 1))
    listening.cancel()


# -- the sweep


@virtual
async def test_the_first_ups_without_mains_has_all_the_others_asked(sqlite_path: Path) -> None:
    async with Site(sqlite_path, 12, poll_interval_s=10.0) as site:
        await asyncio.sleep(35)
        for device in site.devices.values():
            device.replies[STATUS] = ON_BATTERY
        failed_s = site.clock.monotonic()
        await asyncio.sleep(12)
        first_seen_s = [
            next(at_s for at_s, what in device.log if what == STATUS and at_s > failed_s) for device in site.devices.values()
        ]
        assert max(first_seen_s) - min(first_seen_s) < 0.1, "asked in one go, not each at its own time within ten seconds"
        assert {ups for ups, _, _ in site.told("on-battery")} == set(site.devices)


@virtual
async def test_a_sweep_asks_once_and_only_whom_it_can(sqlite_path: Path) -> None:
    async with Site(sqlite_path, 6, poll_interval_s=30.0) as site:
        site.devices["f"].plugged = False
        await asyncio.sleep(65)
        assert site.links()["f"] == "lost"
        tried = site.devices["f"].opened
        for name, device in itertools.islice(site.devices.items(), 2):
            assert name in "ab"
            device.replies[STATUS] = ON_BATTERY
        began_s = site.clock.monotonic()
        while not site.told("on-battery"):
            await asyncio.sleep(0.05)
        swept_s = site.clock.monotonic()
        await asyncio.sleep(SWEEP_PAUSE_S - 0.5)
        for name in "cde":
            asked = [at_s for at_s, what in site.devices[name].log if what == STATUS and at_s > swept_s - 0.1]
            assert asked[0] - swept_s < 0.1
            assert len(asked) == 2, "by the sweep and at its own time; b's outage, seen in the sweep, starts no second one"
        assert {ups for ups, _, _ in site.told("on-battery")} == {"a", "b"}
        assert site.devices["f"].opened - tried <= (site.clock.monotonic() - began_s) / 20 + 1, "its back-off is its own"


@pytest.mark.parametrize("interval_s", [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 10.0])
def test_every_interval_is_kept(sqlite_path: Path, interval_s: float) -> None:
    """Ticks come once a second for each part of the fleet; a poll may not wait for the next of its part."""

    async def story() -> None:
        async with Site(sqlite_path, 5, poll_interval_s=interval_s) as site:
            await asyncio.sleep(10)
            began_s = site.clock.monotonic()
            missed = site.fleet.missed_polls()
            await asyncio.sleep(60)
            for device in site.devices.values():
                polls = [at_s for at_s, what in device.log if what == STATUS and at_s > began_s]
                assert len(polls) == pytest.approx(60 / interval_s, abs=1)
                assert max(b - a for a, b in itertools.pairwise(polls)) < interval_s + 0.1
            assert site.fleet.missed_polls() == missed
            assert site.fleet.pace.percentile_ms(0.99) < 50

    run_virtual(story())
