"""The incumbent's defects in this dialect, none of them copied (voltronic.md section 18, by its numbers; sections 9.2 and 15).

Each row runs the exchanges that show it through whole sessions: what must come out does, and what NUT 2.8.0 made of it does
not (``oracle_observed`` of the vectors).
"""

from __future__ import annotations

import asyncio
import re
from fnmatch import fnmatch
from typing import Any

import pytest

from qxfleet.dialects.voltronic import VOLTRONIC
from qxfleet.errors import DialectUnknown, OrderInvalid, OrderNotSupported
from qxfleet.session.detect import detect
from qxfleet.transports.inproc import InProcTransport
from tests.session.script import Contact
from tests.session.voltronic_unit import OUTAGE, Unit, qgs
from tests.test_voltronic_vectors import NAMES, VECTORS, Device, Talk, same, told
from tests.virtual import run_virtual

SECTION_18 = [
    (1, "the fault bit is honoured and QFS is asked", ["qgs-fault-bit", "qfs-*"]),
    (2, "no TRIM and BOOST alarms", ["qgs-trim-alarm", "qgs-boost-alarm"]),
    (3, "ECO and converter are modes", ["qmod-eco-not-alarm", "qmod-converter-not-alarm"]),
    (4, "EPO and test-result bits are published", ["qgs-epo-bit", "qgs-test-*"]),
    (5, "QFLAG is parsed by section", ["qflag-all-off-needs-split-on-E-and-D"]),
    (6, "runtime is read to the end", ["qbv-runtime5"]),
    (7, "firmware is split at the colon", ["qvfw-space"]),
    (8, "power factor has two decimals", ["qmd-pf95"]),
    (9, "numbers are signed and strict", ["qgs-negative-temperature", "qgs-digit-soup"]),
    (10, "an implausible ratio does not kill the device", ["init-bypass-ratio-*"]),
    (11, "the phase angle is sent as an angle", ["cfg-phase-180", "cfg-phase-240"]),
    (12, "the value sent is the one checked", ["set-eco-fhigh-fraction-over"]),
    (13, "a reported low threshold survives", ["re0-clobbered"]),
    (14, "filler dashes in I are no names", ["i-dashes"]),
    (15, "blanks claim nothing, and QPI needs two digits", ["claim-qgs-vin-blank", "claim-pi-three-digits"]),
    (16, "a bad status character does not lose the device", ["init-bad-status-char"]),
]

CASES = [
    (f"{number} {text}: {vector['id']}", vector)
    for number, text, patterns in SECTION_18
    for vector in VECTORS
    if any(fnmatch(vector["id"], pattern) for pattern in patterns)
]


def test_every_deliberate_difference_is_among_them() -> None:
    """Section 18: 23 differences with the incumbent's own result, and 8 exchanges that it can't be brought to."""
    different = {vector["id"] for vector in VECTORS if "oracle_observed" in vector}
    unreached = {vector["id"] for vector in VECTORS if vector["id"].startswith("qfs-")}
    assert (len(different), len(unreached)) == (23, 8)
    assert different | unreached <= {vector["id"] for _, vector in CASES}


@pytest.mark.parametrize("vector", [pytest.param(vector, id=name) for name, vector in CASES])
def test_not_copied(vector: dict[str, Any]) -> None:
    observed = vector.get("oracle_observed", {})
    match vector["kind"]:
        case "claim":
            assert run_virtual(claims(vector)) is vector["expected"]["claimed"] is not observed["claimed"]
        case "config":
            assert run_virtual(sent(vector)) == vector["expected"]["sent"] != observed["sent"]
        case "set":
            run_virtual(refuses(vector))
        case _:
            values = run_virtual(published(vector))
            for name, value in {**vector["expected"], **vector.get("expected_extra", {})}.items():
                assert name == "initialised" or same(values.get(NAMES.get(name, name)), value), (name, value)
            for name, value in observed.items():
                if name == "initialised":
                    assert value is False and values
                else:
                    ours = values.get(NAMES.get(name, name))
                    assert str(ours) != str(value) and not (isinstance(ours, float) and value and same_number(ours, value))


def same_number(ours: float, theirs: str) -> bool:
    return bool(re.fullmatch(r"-?[0-9.]+", str(theirs))) and ours == float(theirs)


async def claims(vector: dict[str, Any]) -> bool:
    transport = InProcTransport("u", Device(vector))
    await transport.open()
    try:
        await detect(transport.exchange, "u", dialects=(VOLTRONIC,))
    except DialectUnknown:
        return False
    finally:
        await transport.close()
    return True


async def sent(vector: dict[str, Any]) -> list[str]:
    async with Talk(vector) as talk:
        return talk.device.orders()


async def refuses(vector: dict[str, Any]) -> None:
    async with Talk(vector) as talk:
        with pytest.raises(OrderInvalid):
            await talk.session.set(vector["action"]["set"], vector["action"]["value"])
        assert talk.device.orders() == []


async def published(vector: dict[str, Any]) -> dict[str, Any]:
    async with Talk(vector) as talk:
        return told(talk)


def unit_story(unit: Unit) -> Contact:
    return Contact(unit, None, dialect="voltronic")


def test_one_question_per_poll_however_long_it_stays_unanswered() -> None:
    """Section 15, QGS silence: the incumbent asks nine times per full poll, 38 questions in 38 s until it says stale."""

    async def story() -> None:
        unit = Unit()
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            before = len(unit.log)
            unit.deaf = {"QGS"}
            await asyncio.sleep(12)
            assert "stale" in contact.links()
            asked = [text for _, text in unit.log[before:]]
            assert asked.count("QGS") <= 12
            assert contact.readings(), "the last good reading stays"

    run_virtual(story())


def test_bypass_ends_with_its_bit() -> None:
    """Section 5.5: at the incumbent BYPASS, TRIM and BOOST linger until the next full poll."""

    async def story() -> None:
        unit = Unit(QGS=qgs("100010000001"))
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            assert contact.readings()[-1].texts()["ups.status"] == "OL BYPASS"
            unit.replies["QGS"] = qgs()
            await asyncio.sleep(2.5)
            assert contact.readings()[-1].texts()["ups.status"] == "OL"

    run_virtual(story())


def test_a_field_of_dashes_is_absent_and_not_the_value_of_before() -> None:
    """Section 15: dashes leave the incumbent's variable as it was, or become its text."""

    async def story() -> None:
        unit = Unit()
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            assert contact.readings()[-1].values["ups.temperature"] == 18.8
            unit.replies["QGS"] = qgs().replace("018.8", "---.-")
            await asyncio.sleep(2.5)
            assert "ups.temperature" not in contact.readings()[-1].values
            assert "ups.temperature" in contact.readings()[-1].missing

    run_virtual(story())


def test_a_setting_the_unit_never_told_crashes_nothing() -> None:
    """Section 9.2: ``battery.packs`` after QBV ``(NAK`` ends the incumbent's process."""

    async def story() -> None:
        unit = Unit()
        unit.refuses.add("QBV")
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            with pytest.raises(OrderNotSupported):
                await contact.session.set("battery.packs", "2")
            assert contact.readings()

    run_virtual(story())


def test_an_acknowledged_setting_that_did_not_take_is_not_called_done() -> None:
    """Section 15, setting answered ``(ACK``: trusted by the incumbent."""

    async def story() -> None:
        unit = Unit(HEH250="(ACK")
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            result = await contact.session.set("input.transfer.high", "250")
            assert result.outcome.value == "unconfirmed" and "242" in result.text

    run_virtual(story())


def test_a_reply_to_another_question_is_not_taken() -> None:
    """Section 15: the incumbent takes any reply that is long enough and begins alike."""

    async def story() -> None:
        unit = Unit(QBV=OUTAGE, QLDL="(026.5 02 01 068 255")
        async with unit_story(unit) as contact:
            await asyncio.sleep(25)
            values = contact.readings()[-1].values
            assert "battery.charge.low" not in values and "battery.packs" not in values
            assert "output.power.maximum.percent" not in values

    run_virtual(story())
