"""gtec: one status reply whose state is letters (extra-dialects.md section 9)."""

from __future__ import annotations

from qxfleet.dialects.columns import told
from qxfleet.dialects.megatec import MEGATEC, RATING_QUERY, vendor_query
from qxfleet.dialects.spec import Among, Claim, Convert, Field, Meaning, Query, Reply, Span, Tier, Topic
from qxfleet.model.notice import Notice
from qxfleet.model.status import Status

LETTERS = 63
"""The column where the letters begin."""

TESTS = {
    "E": "Test in progress", "I": "Test passed - Result: OK", "J": "Test passed - Result: Failed", "K": "Battery disconnected",
    "L": "Unknown",
}  # fmt: skip


def _letter(name: str, letters: str) -> Field:
    return Field(name, Among(LETTERS, letters), Convert.MARK)


STATUS_REPLY = Reply(
    b"(",
    (
        Field("input.voltage", Span(1, 6), Convert.POINTED), Field("input.voltage.fault", Span(19, 24), Convert.POINTED),
        Field("output.voltage", Span(25, 30), Convert.POINTED), Field("ups.load", Span(35, 38)),
        Field("input.frequency", Span(39, 43)), Field("battery.voltage", Span(52, 57), Convert.POINTED),
        Field("ups.temperature", Span(58, 62)),
        _letter("bit.utility_fail", "A"), _letter("bit.battery_low", "B"), _letter("bit.bypass", "C"),
        _letter("bit.ups_failed", "D"), _letter("bit.test", "E"), _letter("bit.shutdown", "F"), _letter("bit.site_fault", "G"),
        _letter("bit.eprom_failed", "H"), _letter("bit.battery_failed", "J"), _letter("bit.overload", "N"),
        _letter("bit.battery_absent", "P"), _letter("bit.on", "ACM"),
        *(
            Field("battery.test.status", Among(LETTERS, letter), Convert.MARK, choices=(None, text))
            for letter, text in TESTS.items()
        ),
    ),
    length=(63, 80),
    blanks=(6, 12, 18, 24, 30, 34, 38, 43, 47, 51, 57, 62),
    render=(
        "(%(input.voltage)05.1f 243.2 212.1 %(input.voltage.fault)05.1f %(output.voltage)05.1f 002 %(ups.load)03d "
        "%(input.frequency)04.1f 371 372 %(battery.volts)05.1f %(ups.temperature)04.1f %(letters)s"
    ),
)  # fmt: skip

STATUS = Query(
    b"Q4\r", (STATUS_REPLY,), Tier.QUICK, Topic.STATUS,
    (
        told(b"(236.7 243.2 212.1 220.1 230.4 002 001 50.0 371 372 041.3 22.9 IM",
             {"input.voltage": 236.7, "input.voltage.fault": 220.1, "output.voltage": 230.4, "ups.load": 1.0,
              "input.frequency": 50.0, "battery.voltage": 41.3, "ups.temperature": 22.9, "bit.utility_fail": False,
              "bit.on": True, "battery.test.status": "Test passed - Result: OK"}, "extra-dialects.md section 9"),
    ),
    "extra-dialects.md section 9",
)  # fmt: skip


def _complaint(bit: str, code: str, text: str, level: int = 2) -> Meaning:
    return Meaning(bit, True, notice=Notice(code, text, level, bit))


MEANINGS = (
    Meaning("bit.bypass", True, sets=Status.BYPASS),
    Meaning("bit.overload", True, sets=Status.OVER),
    Meaning("bit.battery_failed", True, sets=Status.RB),
    Meaning("bit.on", False, sets=Status.OFF),
    _complaint("bit.ups_failed", "ups.failed", "UPS failed", 1),
    _complaint("bit.site_fault", "site.fault", "Site fault"),
    _complaint("bit.eprom_failed", "eprom.failed", "EPROM fail"),
    _complaint("bit.battery_absent", "battery.absent", "Battery disconnected", 1),
)

GTEC = MEGATEC.overlay(
    "gtec",
    "Gtec",
    queries=(STATUS, RATING_QUERY, vendor_query(b"I\r")),
    claim=Claim(b"Q4\r", heard=(b"Q1\r", b"Q4\r")),
    meanings=MEANINGS,
    source="extra-dialects.md section 9",
)
