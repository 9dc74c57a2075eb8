"""A voltronic unit over time: status that does not flap, warnings, ages, the line's budget, orders and settings."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.errors import OrderInvalid, OrderNotSupported
from qxfleet.model.events import OrderResult, Outcome, Remark
from qxfleet.model.reading import Reading
from qxfleet.model.status import Status
from qxfleet.session.asking import Agenda
from tests.session.script import Contact
from tests.session.voltronic_unit import CLEAR, MAINS, OUTAGE, Unit, qgs
from tests.virtual import run_virtual

OL, OB, BYPASS, OFF, LB = (int(flag) for flag in (Status.OL, Status.OB, Status.BYPASS, Status.OFF, Status.LB))


def virtual(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(story)
    def run() -> None:
        run_virtual(story())

    return run


def talk(unit: Unit, **options: object) -> Contact:
    return Contact(unit, None, **{"dialect": "voltronic", **options})


def warned(*bits: int) -> str:
    return "(" + "".join("1" if n in bits else "0" for n in range(1, 65))


def codes(reading: Reading) -> list[str]:
    return [notice.code for notice in reading.notices]


@virtual
async def test_everything_is_asked_in_time_and_nothing_that_does_not_apply() -> None:
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        asked = set(unit.asked())
        assert asked >= {"QGS", "QPI", "QRI", "QMD", "F", "QMF", "QVFW", "QID", "QMOD", "QWS", "QBV", "QLDL", "QFLAG", "QHE"}
        assert asked >= {"QSK1", "QSKT4", "QBYV", "QBYF", "RE0", "QPD", "QPAR"}
        assert not asked & {"I", "QFS", "QBT", "QGR", "QBDR", "Q3PV", "Q3OV"}
        assert contact.readings()[-1].texts()["battery.runtime"] == "15300"


@virtual
async def test_an_outage_shows_in_the_first_reading_after_it_and_no_reading_contradicts() -> None:
    """The mode of the last full poll must not hold an outage back, nor make it flap (section 5.5)."""
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(20)
        seen = len(contact.readings())
        unit.replies |= {"QGS": OUTAGE, "QMOD": "(B"}
        await asyncio.sleep(40)
        unit.replies |= {"QGS": MAINS, "QMOD": "(L"}
        await asyncio.sleep(40)
        line = [reading.status & (OL | OB) for reading in contact.readings()[seen:]]
        assert [way for way, _ in itertools.groupby(line)] == [OB, OL]
        assert line[0] == OB


@virtual
async def test_bypass_and_off_do_not_come_and_go_between_full_polls() -> None:
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(20)
        for letter, bits, flag in (("(Y", "100010000001", BYPASS), ("(S", "100000000001", OFF)):
            seen = len(contact.readings())
            unit.replies |= {"QGS": qgs(bits), "QMOD": letter}
            await asyncio.sleep(100)
            flags = [bool(reading.status & flag) for reading in contact.readings()[seen:]]
            assert [way for way, _ in itertools.groupby(flags)] in ([True], [False, True])
            assert flags[-1]


@virtual
async def test_a_lasting_contradiction_is_decided_by_the_mode_and_told() -> None:
    """65 = 1 with mode L and an input voltage: OL after a full poll and OB after a quick one at the incumbent (section 5.5)."""
    unit = Unit(QGS=qgs("101000000001"))
    async with talk(unit) as contact:
        await asyncio.sleep(100)
        assert {reading.status & (OL | OB) for reading in contact.readings()} == {OL}
        assert all(any("conflict" in note for note in reading.notes) for reading in contact.readings())
        unit.replies["QMOD"] = "(B"
        await asyncio.sleep(4)
        assert contact.readings()[-1].status & OB, "while they contradict, the mode is asked beside every status"


@pytest.mark.parametrize(("volts", "lost"), [("022.9", True), ("023.0", False)])
def test_no_input_voltage_and_a_utility_fail_bit_are_an_outage_whatever_the_mode(volts: str, lost: bool) -> None:
    """Section 5.5, "65 = 1 but QMOD L": below a tenth of nominal, once two polls in a row show it."""
    run_virtual(_dead_input(volts, lost))


async def _dead_input(volts: str, lost: bool) -> None:
    unit = Unit(QGS=qgs("101000000001", volts_in=volts))
    async with talk(unit) as contact:
        await asyncio.sleep(60)
        line = [reading.status & (OL | OB) for reading in contact.readings()]
        assert [way for way, _ in itertools.groupby(line)] == ([OL, OB] if lost else [OL])
        assert not lost or 1 <= line.index(OB) <= 5  # what is nominal is asked behind the first status
        assert all(reading.values["qx.status.conflict"] for reading in contact.readings())
        unit.replies["QGS"] = MAINS
        await asyncio.sleep(10)
        assert contact.readings()[-1].status & OL and "qx.status.conflict" not in contact.readings()[-1].values


@virtual
async def test_no_input_voltage_without_the_bit_is_what_the_mode_says() -> None:
    unit = Unit(QGS=qgs("100000000001", volts_in="000.0"))
    async with talk(unit) as contact:
        await asyncio.sleep(60)
        assert {reading.status & (OL | OB) for reading in contact.readings()} == {OL}
        assert all(reading.values["qx.status.conflict"] == "no input voltage" for reading in contact.readings())


@virtual
async def test_low_battery_holds_while_either_says_so() -> None:
    unit = Unit(QWS=warned(8))
    async with talk(unit) as contact:
        await asyncio.sleep(60)
        assert all(reading.status & LB for reading in contact.readings() if codes(reading))
        seen = [bool(reading.status & LB) for reading in contact.readings()]
        assert [way for way, _ in itertools.groupby(seen)] in ([False, True], [True])


@virtual
async def test_a_warning_goes_after_two_answers_without_it() -> None:
    unit = Unit()
    async with talk(unit, full_interval_s=10.0) as contact:
        await asyncio.sleep(20)
        unit.replies["QWS"] = warned(10, 56)
        await asyncio.sleep(20)
        assert codes(contact.readings()[-1]) == ["warning.10", "warning.56"]
        asked = len(unit.asked("QWS"))
        unit.replies["QWS"] = "(" + CLEAR
        async with asyncio.timeout(60):
            while len(unit.asked("QWS")) == asked:
                await asyncio.sleep(0.1)
        unit.replies["QWS"] = warned(10, 56)
        await asyncio.sleep(1)
        assert codes(contact.readings()[-1]) == ["warning.10", "warning.56"], "one answer without is not enough"
        unit.replies["QWS"] = "(" + CLEAR
        await asyncio.sleep(30)
        assert codes(contact.readings()[-1]) == []


@virtual
async def test_values_of_a_query_that_fails_three_times_no_longer_count() -> None:
    unit = Unit()
    async with talk(unit, full_interval_s=10.0) as contact:
        await asyncio.sleep(20)
        assert "output.power.maximum.percent" in contact.readings()[-1].values
        unit.refuses.add("QLDL")
        await asyncio.sleep(18)
        assert "output.power.maximum.percent" in contact.readings()[-1].values
        await asyncio.sleep(30)
        assert "output.power.maximum.percent" not in contact.readings()[-1].values
        unit.refuses.clear()
        await asyncio.sleep(700)
        assert "output.power.maximum.percent" in contact.readings()[-1].values


@virtual
async def test_one_nak_marks_nothing_unsupported_two_do() -> None:
    unit = Unit()
    unit.refuses.add("QPD")
    async with talk(unit) as contact:
        await asyncio.sleep(5)
        assert contact.session.identity is not None and not contact.session.identity.refused
        await asyncio.sleep(1000)
        assert len(unit.asked("QPD")) == 2
        assert contact.session.identity.refused == {"QPD"}


def test_what_was_refused_twice_is_asked_again_the_next_day() -> None:
    (phases,) = [query for query in VOLTRONIC.queries if query.command == b"QPD\r"]
    agenda = Agenda(replace(VOLTRONIC, queries=(VOLTRONIC.queries[0], phases)), frozenset(), 30.0)
    assert not agenda.refuse(phases, 100.0)
    assert agenda.refuse(phases, 140.0)
    assert agenda.take(86000.0) is None
    assert agenda.take(86540.0) is phases
    agenda.answered(phases, {"output_phase_angle": "000"}, 86541.0)
    assert agenda.refused == set()


@virtual
async def test_a_fault_is_asked_for_and_forgotten_with_it() -> None:
    unit = Unit(QFS="(14 212.1 50.0 005.6 49.9 006 010.6 343.8 ---.- 026.2 021.8 01101100")
    async with talk(unit) as contact:
        await asyncio.sleep(60)
        assert "QFS" not in unit.asked()
        unit.replies["QGS"] = qgs("100001000001")
        await asyncio.sleep(8)
        assert codes(contact.readings()[-1]) == ["fault.present", "fault.14"]
        unit.replies["QGS"] = MAINS
        await asyncio.sleep(8)
        assert codes(contact.readings()[-1]) == []
        assert "qx.fault.code" not in contact.readings()[-1].values


@virtual
async def test_an_unknown_mode_is_told_and_alarms_nobody() -> None:
    unit = Unit(QMOD="(X")
    async with talk(unit) as contact:
        await asyncio.sleep(10)
        reading = contact.readings()[-1]
        assert codes(reading) == ["mode.unknown"]
        assert "ups.alarm" not in reading.texts() and reading.texts()["ups.status"] == "OL"


@virtual
async def test_replies_closed_with_a_crc_are_understood() -> None:
    from binascii import crc_hqx

    unit = Unit()
    plain = unit.answer

    def sealed(text: str) -> str:
        reply = plain(text)
        crc = crc_hqx(reply.encode("latin-1"), 0).to_bytes(2, "big")
        return reply + bytes(byte + (byte in b"\n\r(") for byte in crc).decode("latin-1")

    unit.answer = sealed  # type: ignore[method-assign]

    def as_bytes(request: bytes) -> bytes:
        text = request.decode("latin-1").rstrip("\r")
        return unit.answer(text).encode("latin-1") + b"\r"

    async with talk(unit) as contact:
        contact.session.transport._answer = as_bytes  # type: ignore[attr-defined]
        await asyncio.sleep(40)
        values = contact.readings()[-1].values
        assert (values["device.mfr"], values["device.serial"]) == ("BOH", "12345679012345")
        assert values["battery.runtime"] == 15300.0 and values["battery.energysave"] == "no"


@virtual
async def test_a_restart_asks_a_known_device_two_questions_first() -> None:
    unit = Unit()
    async with talk(unit, dialect="auto") as contact:
        await asyncio.sleep(25)
        identity = contact.session.identity
    assert identity is not None and identity.dialect == "voltronic" and identity.facts["ups.firmware.aux"] == "P01"
    again = Unit()
    async with Contact(again, identity, dialect="auto") as contact:
        await asyncio.sleep(30)
        assert again.asked()[:2] == ["QGS", "QID"]
        assert not {"QPI", "QMD", "QMF", "QVFW", "F"} & set(again.asked())
        assert contact.readings()[-1].values["device.model"] == "OLHVT1K0"


@virtual
async def test_the_first_reply_after_a_late_one_is_not_taken_for_another() -> None:
    """NUT issues 3276 and 3282: the second QGS reply was read as the answer to QPI, and every later one was off by one."""
    unit = Unit()
    late = iter([True])

    async def slow() -> bytes:
        await asyncio.sleep(3.3)
        return MAINS.encode() + b"\r"

    plain = unit.__call__

    def answer(request: bytes) -> Any:
        return asyncio.ensure_future(slow()) if request == b"QGS\r" and next(late, False) else plain(request)

    async with talk(unit, dialect="auto") as contact:
        contact.session.transport._answer = answer  # type: ignore[attr-defined]
        await asyncio.sleep(60)
        assert contact.session.dialect is not None and contact.session.dialect.name == "voltronic"
        assert contact.readings()[-1].values["ups.firmware.aux"] == "P01"


@virtual
async def test_on_battery_is_seen_in_time_while_everything_else_is_asked_at_2400_baud() -> None:
    """P03 with four outlets, full polls without a pause between them: seen within 3 s, a hundred times."""
    unit = Unit("03", paced=True)
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    async with talk(unit, full_interval_s=5.0) as contact:
        await asyncio.sleep(30)
        for n in range(100):
            await asyncio.sleep(7.3 + n % 13 * 0.31)
            unit.replies |= {"QGS": OUTAGE, "QMOD": "(B"}
            began_s = loop.time()
            async with asyncio.timeout(30):
                while not contact.readings()[-1].status & OB:
                    await asyncio.sleep(0.02)
            waits.append(loop.time() - began_s)
            unit.replies |= {"QGS": MAINS, "QMOD": "(L"}
            async with asyncio.timeout(30):
                while contact.readings()[-1].status & OB:
                    await asyncio.sleep(0.02)
        assert sorted(waits)[98] <= 3.0
        times = [at_s for at_s, what in unit.log if what == "QGS"]
        assert max(b - a for a, b in itertools.pairwise(times[20:])) <= 3.0


async def give(contact: Contact, name: str, value: str | None = None) -> OrderResult:
    return await contact.session.perform(contact.session.prepare(name, value))


@virtual
async def test_an_acknowledged_order_says_whether_it_was_seen_to_work() -> None:
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        result = await give(contact, "test.battery.start.quick")
        assert result.outcome is Outcome.ACCEPTED and "no effect seen" in result.text
        assert (await give(contact, "bypass.start")).sent == "PEE\r"
        await asyncio.sleep(10)
        assert contact.readings()[-1].values["eco_mode"] == "enabled"


@virtual
async def test_outlets_switched_on_at_run_time_bring_their_commands() -> None:
    """The incumbent announces them only after a restart (section 9.2)."""
    unit = Unit()
    unit.enabled.discard("j")
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        assert not any(order.name.startswith("outlet.") for order in contact.session.orders())
        result = await contact.session.set("outlet.0.switchable", "yes")
        assert result.outcome is Outcome.ACCEPTED
        await asyncio.sleep(20)
        names = {order.name for order in contact.session.orders()}
        assert {f"outlet.{n}.load.{way}" for n in range(1, 5) for way in ("on", "off")} <= names
        assert "outlet.3.delay.shutdown" in {info.name for info in contact.session.settings()}


CHANGES = [
    ("input.transfer.high", "250", "HEH250\r"), ("input.transfer.low", "210", "HEL210\r"),
    ("input.frequency.high", "55.5", "FREH55.5\r"), ("max_bypass_volt", "250", "PHV250\r"),
    ("output_phase_angle", "240", "PPD240\r"), ("outlet.2.delay.shutdown", "659", "PSK2010\r"),
    ("battery.voltage.low", "22", "W0E22\r"), ("battery.packs", "3", "BATGN03\r"), ("battery_number", "4", "BATN4\r"),
    ("ups.start.auto", "yes", "PER\r"), ("converter_mode", "Enabled", "PEV\r"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "sent"), CHANGES)
def test_a_setting_is_sent_once_read_back_and_not_sent_again(name: str, value: str, sent: str) -> None:
    @virtual
    async def story() -> None:
        unit = Unit()
        async with talk(unit) as contact:
            await asyncio.sleep(25)
            result = await contact.session.set(name, value)
            assert (result.outcome, result.sent, result.reply) == (Outcome.ACCEPTED, sent, "(ACK")
            again = await contact.session.set(name, value)
            assert (again.outcome, again.sent) == (Outcome.ACCEPTED, "") and "already" in again.text
            assert unit.asked(sent.strip()) == [sent.strip()]

    story()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("input.transfer.high", "240.7", "steps of 1"), ("battery.packs", "2.5", "steps of 1"),
        ("input.frequency.high", "60.9", "out of range"), ("output_phase_angle", "90", "not one of"),
        ("max_bypass_volt", "many", "not a number"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_as_it_is_is_refused(name: str, value: str, why: str) -> None:
    @virtual
    async def story() -> None:
        unit = Unit()
        async with talk(unit) as contact:
            await asyncio.sleep(25)
            before = len(unit.log)
            with pytest.raises(OrderInvalid, match=why):
                contact.session.prepare_setting(name, value)
            assert not [text for _, text in unit.log[before:] if not text.startswith("Q")]

    story()


@virtual
async def test_an_upper_limit_stays_above_the_lower_one() -> None:
    unit = Unit("09", QMD="(#######OLHVT1K0 ###1000 80 1/1 110 110 02 12.0", QBYV="(130 085")
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        with pytest.raises(OrderInvalid, match="above min_bypass_volt, which is 85"):
            contact.session.prepare_setting("max_bypass_volt", "80")
        with pytest.raises(OrderInvalid, match="below max_bypass_volt"):
            contact.session.prepare_setting("min_bypass_volt", "130")


@virtual
async def test_a_variable_the_unit_never_told_is_not_settable() -> None:
    """``battery.packs`` after QBV ``(NAK``: the incumbent crashes (section 9.2)."""
    unit = Unit()
    unit.refuses.add("QBV")
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        with pytest.raises(OrderNotSupported):
            contact.session.prepare_setting("battery.packs", "2")
        assert contact.links() == ["online"]


@virtual
async def test_a_refused_setting_is_told_with_its_reply() -> None:
    unit = Unit()
    unit.refuses.add("HEH250")
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        result = await contact.session.set("input.transfer.high", "250")
        assert (result.outcome, result.reply) == (Outcome.REJECTED, "(NAK")
        assert "242" in result.text


@virtual
async def test_a_silent_setting_that_took_effect_is_accepted() -> None:
    unit = Unit()
    plain = unit.answer
    async with talk(unit) as contact:
        await asyncio.sleep(25)

        def quiet(request: bytes) -> bytes | None:
            text = request.decode().rstrip("\r")
            reply = plain(text)
            return None if text == "HEH250" else reply.encode() + b"\r"

        contact.session.transport._answer = quiet  # type: ignore[attr-defined]
        result = await contact.session.set("input.transfer.high", "250")
        assert (result.outcome, result.reply) == (Outcome.ACCEPTED, None)


@virtual
async def test_what_the_configuration_asks_for_is_written_once_and_only_where_it_differs() -> None:
    unit = Unit()
    wishes = {"eco_mode": "enabled", "bypass_alarm": "enabled", "max_bypass_volt": "250", "converter_mode": "perhaps",
              "battery_type": "AGM", "limited_runtime_on_battery": "disabled"}  # fmt: skip
    async with talk(unit, device_settings=wishes) as contact:
        await asyncio.sleep(40)
        written = [text for _, text in unit.log if text.startswith(("PE", "PD", "PHV"))]
        assert written == ["PEE", "PHV250"], "bypass_alarm and limited_runtime_on_battery stand already"
        remarks = {item.name: item.value for item in contact.seen if isinstance(item, Remark)}
        assert remarks["eco_mode"] == remarks["max_bypass_volt"] == "accepted"
        assert remarks["converter_mode"] == "rejected" and remarks["battery_type"] == "unsupported"
        await asyncio.sleep(1300)
        assert [text for _, text in unit.log if text.startswith(("PE", "PD", "PHV"))] == written


@virtual
async def test_a_device_is_left_alone_and_says_what_it_can_do() -> None:
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(1300)
        assert not [text for _, text in unit.log if not text.startswith("Q") and text not in ("F", "RE0", "I", "")]
        (able,) = [item for item in contact.seen if isinstance(item, Remark) and item.name == "capabilities"]
        assert "eco_mode disabled (enabled/disabled)" in able.text
        assert "input.transfer.high 242 (237..254)" in able.text
        assert "without battery.type" in able.text


@virtual
async def test_a_reset_goes_first_and_only_in_standby() -> None:
    unit = Unit(QMOD="(S", PF="(ACK")
    async with talk(unit, device_settings={"eco_mode": "enabled", "reset_to_default": "yes"}) as contact:
        await asyncio.sleep(40)
        assert [text for _, text in unit.log if text in ("PF", "PEE")] == ["PF", "PEE"]
    unit = Unit()
    async with talk(unit, device_settings={"reset_to_default": "yes"}) as contact:
        await asyncio.sleep(40)
        assert "PF" not in unit.asked()
        told = [item.value for item in contact.seen if isinstance(item, Remark) and item.name == "reset_to_default"]
        assert told == ["rejected"]


@virtual
async def test_front_panel_changes_are_noticed_within_ten_minutes() -> None:
    unit = Unit()
    async with talk(unit) as contact:
        await asyncio.sleep(25)
        unit.enabled.add("e")
        unit.replies["QSK2"] = "(0"
        await asyncio.sleep(35)
        assert contact.readings()[-1].values["outlet.2.status"] == "off"
        await asyncio.sleep(600)
        assert contact.readings()[-1].values["eco_mode"] == "enabled"
