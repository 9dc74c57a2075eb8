"""Which dialect a device speaks: every way of not knowing a question, and nothing that claims by accident."""

from __future__ import annotations

import asyncio

import pytest

from qxfleet.dialects.registry import STATUS_PROBES, claim_questions
from qxfleet.dialects.spec import Dialect, acts
from qxfleet.errors import DialectUnknown
from qxfleet.session.detect import Evidence, detect
from qxfleet.transports.inproc import InProcTransport
from tests.session.script import RATING, STATUS, VENDOR, Device
from tests.virtual import run_virtual

QGS = "(230.0 50.0 229.8 50.0 001.2 023 369.1 ---.- 026.5 ---.- 018.8 100000000001\r"

TABLES: dict[str, dict[str, str]] = {
    "megatec": {"Q1": STATUS, "F": RATING, "I": VENDOR},
    "megatec/old": {"D": STATUS, "F": RATING, "I": VENDOR},
    "mustek": {"QS": STATUS, "F": RATING, "I": VENDOR},
    "zinto": {"Q1": STATUS, "F": RATING, "FW?": VENDOR},
    "mecer": {"Q1": STATUS, "F": RATING, "I": VENDOR, "QPI": "(PI98\r"},
    "q1": {"Q1": STATUS},
    "voltronic": {"QGS": QGS, "QPI": "(PI01\r"},
}
UNKNOWN = {"echo": None, "(NAK": "(NAK\r", "NAK": "NAK\r", "N": "N\r", "silence": "", "UPS No Ack": "UPS No Ack\r"}


def device_of(table: dict[str, str], unknown: str = "echo") -> Device:
    device = Device()
    device.replies = dict(table)
    otherwise = UNKNOWN[unknown]
    device.hook = lambda text: None if text in device.replies else (text + "\r" if otherwise is None else otherwise)
    return device


async def found(device: Device, answer_s: float = 0.0) -> tuple[Dialect, Evidence, float]:
    loop = asyncio.get_running_loop()

    async def late(request: bytes) -> bytes | None:
        reply = device(request)
        await asyncio.sleep(answer_s)
        return reply

    link = InProcTransport("u", late if answer_s else device)
    await link.open()
    began_s = loop.time()
    try:
        dialect, evidence = await detect(link.exchange, "u")
    finally:
        await link.close()
    return dialect, evidence, loop.time() - began_s


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("name", TABLES)
def test_a_unit_that_takes_its_time_over_every_answer_is_told_too(name: str, unknown: str) -> None:
    """A quarter of a second is what the wire alone needs for a status; no answer may be taken for that of the next question."""
    dialect, _, took_s = run_virtual(found(device_of(TABLES[name], unknown), 0.25))
    assert dialect.name == ("mecer" if unknown == "(NAK" and "Q1" in TABLES[name] else name)
    assert took_s < 15


@pytest.mark.parametrize("unknown", UNKNOWN)
@pytest.mark.parametrize("name", TABLES)
def test_each_dialect_is_told_however_it_says_no(name: str, unknown: str) -> None:
    device = device_of(TABLES[name], unknown)
    dialect, _, took_s = run_virtual(found(device))
    # A unit that says (NAK to QPI is a mecer (megatec-family.md section 7), whatever else it answers.
    wanted = "mecer" if unknown == "(NAK" and "Q1" in TABLES[name] else name
    assert dialect.name == wanted
    assert took_s < 12


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_a_port_where_nothing_speaks_is_given_up_in_time(unknown: str) -> None:
    """The incumbent takes 36 s (2.8.0) or 79 s (development head) for an empty port (engine.md section 14)."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(DialectUnknown) as caught:
            await found(device_of({}, unknown))
        assert loop.time() - began_s < 18
        assert [request for request, _, _ in caught.value.evidence] == list(STATUS_PROBES)

    run_virtual(story())


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("unknown", ["echo", "silence"])
def test_probing_sends_questions_only(name: str, unknown: str) -> None:
    device = device_of(TABLES[name], unknown)
    run_virtual(found(device))
    sent = {text.encode() + b"\r" for text in device.asked()}
    assert not any(map(acts, sent))
    assert sent <= {*STATUS_PROBES, *claim_questions(), b"\r"}


@pytest.mark.parametrize(
    "reply",
    [
        "(000.0 000.0 000.0 000 00.0 0.00 00.0 00000000\r",
        "(230.0 230.0 230.0 0\r",
        RATING,
        "(00 230 00 112 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1\r",
        "(216.0 000.0 216.0 033 50.0 0100 35.0 00001000\r",
    ],
    ids=["zeros", "cut short", "ratings", "inverter's list", "percentage for a voltage"],
)
def test_what_must_not_claim(reply: str) -> None:
    with pytest.raises(DialectUnknown):
        run_virtual(found(device_of({"Q1": reply, "QS": reply, "D": reply})))


def test_one_lucky_frame_claims_nothing() -> None:
    device = device_of({})
    lucky = iter([STATUS])
    device.hook = lambda text: next(lucky, "") if text == "Q1" else ""
    with pytest.raises(DialectUnknown):
        run_virtual(found(device))


def test_a_slow_first_reply_is_waited_for() -> None:
    """NUT issue 3282: the first reply may take over a second."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        device = device_of(TABLES["megatec"], "silence")
        link = InProcTransport("u", device)
        first = True

        def hook(text: str) -> str | None:
            nonlocal first
            if first and text == "Q1":
                first = False
                loop.call_later(2.5, link.say, STATUS.encode())
                return ""
            return None if text in device.replies else ""

        device.hook = hook
        await link.open()
        dialect, _ = await detect(link.exchange, "u")
        assert dialect.name == "megatec"
        await link.close()

    run_virtual(story())


@pytest.mark.parametrize("vendor", ["#" + " " * 37 + "\r", "# V3.7\r", "# . . .\r", "#" + "2" * 27 + "R1.00.47  \r"])
def test_a_poor_vendor_text_never_costs_the_device(vendor: str) -> None:
    dialect, _, _ = run_virtual(found(device_of({"Q1": STATUS, "I": vendor})))
    assert dialect.name == ("innovatae" if "22222" in vendor else "megatec")


def test_evidence_is_kept_in_the_order_asked() -> None:
    _, evidence, _ = run_virtual(found(device_of(TABLES["zinto"], "echo")))
    assert [(request, kind) for request, kind, _ in evidence.rows()] == [
        ("Q1", "value"), ("QGS", "echo"), ("WH", "echo"), ("M", "echo"), ("ID", "echo"), ("Q6", "echo"), ("Q2", "echo"),
        ("Q4", "echo"), ("Q5", "echo"), ("I", "echo"), ("FWV", "echo"), ("FW?", "value"), ("BL", "echo"), ("QPI", "echo"),
    ]  # fmt: skip
