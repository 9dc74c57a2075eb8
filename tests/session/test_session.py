"""The life of a link: what a session does when the device, the line or the port misbehaves."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from qxfleet.model.events import IdentityLearned, OrderResult, Outcome
from qxfleet.model.reading import Identity
from qxfleet.model.wire import Ask
from tests.session.script import RATING, STATUS, VENDOR, Contact, Device
from tests.virtual import run_virtual

ON_BATTERY = "(000.0 000.0 230.0 040 50.0 25.1 25.0 10001001\r"
GOING_DOWN = "(230.0 230.0 230.0 040 50.0 27.1 25.0 00001010\r"


def virtual(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(story)
    def run() -> None:
        run_virtual(story())

    return run


@virtual
async def test_polls_on_its_grid() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(60)
        asked = [at_s for at_s, what in device.log if what == "Q1"][2:]
        assert len(contact.readings()) in (30, 31)
        assert all(abs((b - a) - 2.0) < 0.3 for a, b in itertools.pairwise(asked))
        assert contact.session.missed_polls == 0


@virtual
async def test_an_order_given_during_a_poll_is_sent_after_it() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(20)
        quiet = len(device.log)
        device.hook = lambda text: "" if text == "Q1" and len(device.log) == quiet + 1 else None  # this poll stays open
        while len(device.log) == quiet:
            await asyncio.sleep(0.01)
        ordered = asyncio.create_task(contact.session.perform(contact.session.prepare("beeper.toggle", None)))
        await asyncio.sleep(0.5)
        assert device.log[-1][1] == "Q1"
        await asyncio.sleep(10)
        assert device.asked("Q") == ["Q"]
        assert ordered.done()


@virtual
async def test_a_mistake_of_ours_while_reporting_a_poll_ends_the_session() -> None:
    """Its guard starts it again; nothing else may notice."""
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(20)
        contact.session._report = lambda seen: 1 / 0  # type: ignore[assignment, return-value]
        await asyncio.wait([contact.tasks[0]], timeout=5)
        assert isinstance(contact.tasks[0].exception(), ZeroDivisionError)


@virtual
async def test_urgent_pace_on_battery() -> None:
    device = Device(Q1=ON_BATTERY)
    async with Contact(device) as contact:
        await asyncio.sleep(30)
        assert len(contact.readings()) in range(28, 32)


@virtual
async def test_status_is_never_starved_by_other_questions() -> None:
    device = Device()
    device.hook = lambda text: "" if text in ("I", "F") else None
    async with Contact(device):
        await asyncio.sleep(60)
        asked = [at_s for at_s, what in device.log if what == "Q1"]
        assert max(b - a for a, b in itertools.pairwise(asked[1:])) <= 3.2


@virtual
async def test_one_bad_reply_is_drained_and_the_question_repeated_once() -> None:
    device = Device()
    bad = iter(["(230.0 23\r"])
    async with Contact(device) as contact:
        await asyncio.sleep(10)
        before = len(device.asked("Q1"))
        device.hook = lambda text: next(bad, None) if text == "Q1" else None
        await asyncio.sleep(2)
        assert len(device.asked("Q1")) == before + 2
        assert contact.links() == ["online"]
        assert contact.troubles()[-1] == "ReplyMalformed: short"


@pytest.mark.parametrize("fault", ["silence", "garbage", "another query's reply", "echo", "zeros"])
def test_a_device_that_answers_badly_goes_stale_then_lost_and_comes_back(fault: str) -> None:
    @virtual
    async def story() -> None:
        device = Device()
        reply = {"silence": "", "garbage": "\x80\x81!!\r", "another query's reply": RATING, "echo": "Q1\r",
                 "zeros": "(000.0 000.0 000.0 000 00.0 0.00 00.0 00000000\r"}[fault]  # fmt: skip
        async with Contact(device) as contact:
            await asyncio.sleep(10)
            device.hook = lambda text: reply if text == "Q1" else None
            began = len(contact.readings())
            await asyncio.sleep(10)
            assert contact.links() == ["online", "stale"]
            assert len(contact.readings()) == began
            await asyncio.sleep(60)
            assert contact.links()[2] == "lost"
            device.hook = lambda text: None
            await asyncio.sleep(40)
            assert contact.links()[-1] == "online"

    story()


@virtual
async def test_a_late_reply_is_never_taken_for_the_next_one() -> None:
    """Each reply comes 1.2 s after its question: the session waits longer from then on, and mistakes none for another."""
    device = Device()
    loop = asyncio.get_running_loop()
    async with Contact(device) as contact:
        await asyncio.sleep(10)
        link = contact.session.transport

        def late(text: str) -> str:
            loop.call_later(1.2, link.say, device.replies[text].encode())  # type: ignore[attr-defined]
            return ""

        good = len(contact.readings())
        device.hook = lambda text: late(text) if text in device.replies else None
        device.replies["Q1"] = ON_BATTERY
        began_s = loop.time()
        await asyncio.sleep(20)
        late_ones = [reading for reading in contact.readings()[good:] if reading.mono_s > began_s + 4]
        asked = [at_s for at_s, what in device.log if what == "Q1"]
        assert len(late_ones) >= 7
        assert all(reading.status & 2 for reading in late_ones)
        assert all(min(abs(reading.mono_s - 1.2 - at_s) for at_s in asked) < 0.01 for reading in late_ones), "each its own answer"
        assert contact.links() == ["online"]


@virtual
async def test_the_port_goes_and_comes_back() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(10)
        device.plugged = False
        await asyncio.sleep(100)
        assert contact.links() == ["online", "lost", "lost"], "once lost, then once why it can't be opened"
        tries = device.opened
        assert 4 <= tries <= 12, "back-off, not haste"
        device.plugged = True
        await asyncio.sleep(40)
        assert contact.links()[-1] == "online"
        assert device.asked("F") == ["F"], "the device is known: its ratings are not asked again"


@virtual
async def test_restart_asks_a_known_device_two_questions() -> None:
    device = Device()
    async with Contact(device, dialect="auto") as contact:
        await asyncio.sleep(20)
        identity = [item.identity for item in contact.seen if isinstance(item, IdentityLearned)][-1]
    assert identity.dialect == "megatec"
    assert identity.facts["ups.firmware"] == "VT12046Q"
    again = Device()
    async with Contact(again, identity, dialect="auto") as contact:
        await asyncio.sleep(1)
        assert again.asked()[:2] == ["Q1", "I"]
        assert contact.readings()
        await asyncio.sleep(60)
        assert set(again.asked()[2:]) == {"Q1"}
        assert contact.readings()[-1].values["battery.voltage.nominal"] == 24.0


@virtual
async def test_another_device_on_a_known_port_is_noticed() -> None:
    known = Identity("megatec", {"device.model": "OLD", "ups.firmware": "V1", "battery.voltage.nominal": 48.0})
    device = Device()
    async with Contact(device, known, dialect="auto") as contact:
        await asyncio.sleep(20)
        values = contact.readings()[-1].values
        assert values["device.model"] == "RT-3000"
        assert values["battery.voltage.nominal"] == 24.0


@virtual
async def test_a_refusal_is_asked_again_before_it_is_believed() -> None:
    device = Device()
    refused = iter(["(NAK\r"])
    device.hook = lambda text: next(refused, None) if text == "F" else None
    async with Contact(device) as contact:
        await asyncio.sleep(60)
        assert device.asked("F") == ["F", "F"]
        assert contact.readings()[-1].values["battery.voltage.nominal"] == 24.0


@virtual
async def test_a_second_refusal_is_believed_and_remembered() -> None:
    device = Device(F="(NAK\r", I="I\r")
    async with Contact(device) as contact:
        await asyncio.sleep(300)
        assert device.asked("F") == ["F", "F"]
        identity = [item.identity for item in contact.seen if isinstance(item, IdentityLearned)][-1]
        assert identity.refused == {"F", "I"}


@virtual
async def test_a_question_that_locks_the_unit_up_is_never_asked_again() -> None:
    """The seeds: "some UPSes will lock up if you attempt to read vendor information from them"."""
    device = Device()
    locked_until = 0.0

    def hook(text: str) -> str | None:
        nonlocal locked_until
        now_s = asyncio.get_running_loop().time()
        if text == "I":
            locked_until = now_s + 15
        return "" if now_s < locked_until else None

    device.hook = hook
    async with Contact(device) as contact:
        await asyncio.sleep(4000)
        assert device.asked("I") == ["I"]
        identity = [item.identity for item in contact.seen if isinstance(item, IdentityLearned)][-1]
        assert "I" in identity.refused
        assert contact.links()[-1] == "online"


@virtual
async def test_norating_and_novendor_are_never_asked() -> None:
    for dialect in ("megatec", "auto"):
        device = Device()
        async with Contact(device, dialect=dialect, norating=True, novendor=True) as contact:
            await asyncio.sleep(40)
            assert not {"F", "I", "FW?"} & set(device.asked())
            assert contact.readings()


async def give(contact: Contact, name: str, value: str | None = None) -> OrderResult:
    return await contact.session.perform(contact.session.prepare(name, value))


@virtual
async def test_a_silent_order_is_confirmed_by_what_the_readings_show() -> None:
    device = Device()

    def hook(text: str) -> str | None:
        if text.startswith("S"):
            device.replies["Q1"] = GOING_DOWN
            return ""
        return None

    device.hook = hook
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        result = await give(contact, "shutdown.return")
        assert (result.outcome, result.reply, result.sent) == (Outcome.ACCEPTED, None, "S.5R0003\r")
        assert "bit.shutdown" in result.text


@virtual
async def test_an_order_without_a_sign_is_unconfirmed_and_not_repeated() -> None:
    device = Device()
    device.hook = lambda text: "" if text.startswith("S") else None
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        result = await give(contact, "shutdown.return")
        assert result.outcome is Outcome.UNCONFIRMED
        await asyncio.sleep(60)
        assert device.asked("S.5R0003") == ["S.5R0003"]


@virtual
async def test_mecer_must_answer() -> None:
    device = Device()
    device.hook = lambda text: "" if text == "T" else None
    async with Contact(device, dialect="mecer") as contact:
        await asyncio.sleep(5)
        assert (await give(contact, "test.battery.start.quick")).outcome is Outcome.NO_ANSWER


@virtual
async def test_a_bit_that_was_set_before_confirms_nothing() -> None:
    device = Device(Q1=GOING_DOWN)
    device.hook = lambda text: "" if text.startswith("S") else None
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        result = await give(contact, "shutdown.return")
        assert result.outcome is Outcome.UNCONFIRMED
        assert "already" in result.text


@virtual
async def test_the_link_lost_in_the_middle_of_an_order_ends_it_unconfirmed() -> None:
    device = Device()

    def hook(text: str) -> str | None:
        if text.startswith("S"):
            device.plugged = False
            return ""
        return None

    device.hook = hook
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        result = await give(contact, "shutdown.return")
        assert result.outcome is Outcome.UNCONFIRMED
        device.plugged = True
        await asyncio.sleep(60)
        assert contact.links()[-1] == "online"
        assert device.asked("S.5R0003") == ["S.5R0003"]


@virtual
async def test_no_order_goes_out_without_contact() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        device.plugged = False
        await asyncio.sleep(5)
        result = await give(contact, "load.off")
        assert (result.outcome, result.sent) == (Outcome.NO_ANSWER, "")


@virtual
async def test_a_late_status_is_not_taken_for_the_word_of_an_order() -> None:
    device = Device()
    device.hook = lambda text: STATUS if text == "Q" else None
    async with Contact(device) as contact:
        await asyncio.sleep(5)
        assert (await give(contact, "beeper.toggle")).outcome is Outcome.UNCONFIRMED


@virtual
async def test_an_echo_in_front_of_another_querys_reply_costs_nothing() -> None:
    """quirks.md: ``F(204.0 …``: the unit answers F with its status; it has no ratings, and is kept."""
    device = Device(F="F" + STATUS)
    async with Contact(device) as contact:
        await asyncio.sleep(30)
        assert contact.links() == ["online"]
        assert "battery.voltage.nominal" not in contact.readings()[-1].values


@virtual
async def test_settings_are_kept_here_and_used_by_the_next_order() -> None:
    device = Device()
    async with Contact(device, ondelay_s=200, offdelay_s=95) as contact:
        await asyncio.sleep(5)
        session = contact.session
        assert {info.name: info.value for info in session.settings()} == {"ups.delay.shutdown": 60, "ups.delay.start": 180}
        result = await session.set("ups.delay.start", "130")
        assert (result.outcome, result.value) == (Outcome.ACCEPTED, "120")
        assert session.prepare("shutdown.return", None).request == b"S01R0002\r"
        await asyncio.sleep(4)
        assert contact.readings()[-1].texts()["ups.delay.start"] == "120"


@virtual
async def test_vendor_text_of_a_device_is_published() -> None:
    device = Device(I=VENDOR)
    async with Contact(device) as contact:
        await asyncio.sleep(10)
        assert contact.readings()[-1].texts()["device.model"] == "RT-3000"


async def told_to_hurry(contact: Contact, device: Device, sent: str) -> float:
    """Seconds from the end of an exchange, in the midst of which it was told to hurry, to the next status query."""
    while device.log[-1][1] != sent:
        await asyncio.sleep(0.01)
    before = len(device.asked("Q1"))
    await asyncio.sleep(0.3)
    contact.session.hurry(contact.clock.monotonic())
    assert len(device.asked("Q1")) == before, "one exchange at a time"
    device.hook = lambda text: None
    contact.session.transport.say(STATUS.encode())  # type: ignore[attr-defined]
    ended_s = contact.clock.monotonic()
    while len(device.asked("Q1")) == before:
        await asyncio.sleep(0.01)
    return contact.clock.monotonic() - ended_s


@virtual
async def test_told_to_hurry_in_the_midst_of_a_poll_it_asks_again_right_after() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(20.1)
        quiet = len(device.log)
        device.hook = lambda text: "" if len(device.log) == quiet + 1 else None
        while len(device.log) == quiet:
            await asyncio.sleep(0.01)
        assert await told_to_hurry(contact, device, "Q1") < 0.05
        asked = len(device.log)
        await asyncio.sleep(1.0)
        assert len(device.log) == asked, "once"


@virtual
async def test_told_to_hurry_in_the_midst_of_an_order_it_asks_right_after() -> None:
    device = Device()
    async with Contact(device) as contact:
        await asyncio.sleep(20.1)
        device.hook = lambda text: "" if text == "Q" else None
        ordered = asyncio.create_task(contact.session.perform(contact.session.prepare("beeper.toggle", None)))
        assert await told_to_hurry(contact, device, "Q") < 0.05
        await ordered


@virtual
async def test_nobody_is_calm_on_battery_nor_when_told_to_hurry() -> None:
    device = Device()
    async with Contact(device) as contact:
        link: Any = contact.session.transport
        begin, calm = link.start, list[bool]()

        def start(ask: Ask, then: Callable[[bytes | BaseException], None], *, calm: bool) -> bool:
            was_calm.append(calm)
            return bool(begin(ask, then, calm=calm))

        was_calm, link.start = calm, start
        await asyncio.sleep(20.1)
        assert calm and calm[-1]
        contact.session.hurry(contact.clock.monotonic())
        assert calm[-1] is False
        await asyncio.sleep(4.0)
        assert calm[-1] is True
        device.replies["Q1"] = ON_BATTERY
        await asyncio.sleep(4.0)
        del calm[:]
        await asyncio.sleep(4.0)
        assert calm and not any(calm)
        device.replies["Q1"] = STATUS
        await asyncio.sleep(30.0)
        assert calm[-1] is True
        contact.session.race(contact.clock.monotonic() + 10)
        await asyncio.sleep(4.0)
        assert calm[-1] is False


@virtual
async def test_steady_orders_silence_neither_the_status_nor_anything_else() -> None:
    device = Device()
    device.hook = lambda text: "" if text in ("Q", "F", "I") else None
    async with Contact(device) as contact:
        await asyncio.sleep(3)
        device.hook = lambda text: "" if text == "Q" else None

        async def give() -> None:
            while True:
                await contact.session.perform(contact.session.prepare("beeper.toggle", None))

        giving = [asyncio.create_task(give()) for _ in range(3)]
        before = len(device.log)
        await asyncio.sleep(30)
        for task in giving:
            task.cancel()
        log = [what for _, what in device.log[before:]]
        assert log.count("Q") > 15
        assert "F" in log and "I" in log, "its ratings and its maker are asked for all the same"
        between = [len(list(turns)) for orders, turns in itertools.groupby(log, lambda what: what == "Q") if not orders]
        assert max(between) <= 3, "and no order waits for long"
        polls = [at_s for at_s, what in device.log if what == "Q1"]
        assert max(b - a for a, b in itertools.pairwise(polls)) < 4.0
