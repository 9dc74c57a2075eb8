"""From a frame to named values: which layout is taken, what is left out, whose error is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qxfleet.dialects.mecer import P98
from qxfleet.dialects.registry import DIALECTS, dialect_named
from qxfleet.dialects.spec import Char, Convert, Field, Query, Reply, Tier, Topic
from qxfleet.errors import ReplyImplausible, ReplyMalformed
from qxfleet.session.plans import QueryPlan, plan_for, read


def query(dialect: str, command: bytes) -> Query:
    found = dialect_named(dialect)
    assert found is not None
    return next(query for query in found.queries if query.command == command)


SAMPLES = [
    pytest.param(query, sample, id=f"{dialect.name} {query.command!r} {sample.frame!r}")
    for dialect in DIALECTS
    for query in dialect.queries
    for sample in query.samples
]


@pytest.mark.parametrize(("asked", "sample"), SAMPLES)
def test_every_sample_reads_as_its_source_says(asked, sample) -> None:
    values = read(asked, sample.frame)
    assert {name: values.get(name) for name in sample.values} == sample.values


def test_what_is_not_available_is_left_out() -> None:
    values = read(query("megatec", b"Q1\r"), b"(226.0 195.0 ---.- 014 49.0 27.5 --.- 0000@000")
    assert {"output.voltage", "ups.temperature", "ups.type"}.isdisjoint(values)
    assert values["bit.utility_fail"] is False
    assert len(values) == 12


def test_words_listed_are_published_others_are_not() -> None:
    asked = query("mecer", b"QPI\r")
    assert read(asked, b"(PI98") == {"ups.firmware.aux": P98}
    assert read(asked, b"(PI30") == {}


@pytest.mark.parametrize(
    ("frame", "values"),
    [
        (b"#ACME UPS CO     RT-3000    VT12046Q  ",
         {"device.mfr": "ACME UPS CO", "device.model": "RT-3000", "ups.firmware": "VT12046Q"}),
        (b"#MegaTecabcedfhi k130v12345 v3.400000",
         {"device.mfr": "MegaTec", "ups.serial": "abcedfhi", "device.model": "k130v", "battery.runtime": 12345.0,
          "ups.firmware": "v3.400000"}),
        (b"# V3.7", {}),
        (b"#                           V3.65    ", {}),  # a blank lost: no column can be trusted
    ],
)  # fmt: skip
def test_the_first_layout_that_fits(frame: bytes, values: dict[str, float | str]) -> None:
    assert read(query("megatec", b"I\r"), frame) == values


@pytest.mark.parametrize(
    ("command", "frame", "kind", "reason"),
    [
        (b"Q1\r", b"(NAK", ReplyMalformed, "short"),
        (b"Q1\r", b"(216.0 000.0 216.0 033 50.0 0100 35.0 00001000", ReplyImplausible, "point"),
        (b"I\r", b"I", ReplyMalformed, "short"),
        (b"I\r", b"#" + b"x" * 64, ReplyMalformed, "long"),
        (b"F\r", b"#220.0 000 024.0 50.", ReplyMalformed, "short"),
    ],
)
def test_no_layout_fits(command: bytes, frame: bytes, kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind) as caught:
        read(query("megatec", command), frame)
    assert caught.value.reason == reason
    assert caught.value.frame == frame


def test_the_error_told_is_of_the_last_layout_whose_lead_and_length_fit() -> None:
    """One of exactly 5 characters without digits, one of another lead: the first one's ``text`` says more."""
    layouts = (
        Reply(b"(", (), length=(9, 9)),
        Reply(b"(", (), length=(5, 5), digits=(1, 5)),
        Reply(b"#", (), length=(5, 5)),
    )
    asked = Query(b"X\r", layouts, Tier.ONCE, Topic.VENDOR)
    with pytest.raises(ReplyMalformed) as caught:
        read(asked, b"(12x4")
    assert caught.value.reason == "text"
    with pytest.raises(ReplyMalformed) as caught:
        read(asked, b"(1234567")
    assert caught.value.reason == "short"


def test_plans_are_made_once_for_each_layout() -> None:
    reply = query("megatec", b"Q1\r").replies[0]
    assert plan_for(reply) is plan_for(replace(reply))
    assert plan_for(reply) is plan_for(query("mustek", b"QS\r").replies[0])
    assert plan_for(reply) is not plan_for(replace(reply, lead=b"#"))


def test_equal_queries_with_other_replies_are_not_mixed_up() -> None:
    """Queries are told apart by identity, so a query that is gone must not lend its plan to a new one."""
    for width in range(2, 40):
        asked = Query(b"X\r", (Reply(b"(", (), length=(width, width)),), Tier.ONCE, Topic.VENDOR)
        assert read(asked, b"(" * width) == {}


def test_a_status_bit_needs_a_word_of_bits() -> None:
    reply = Reply(b"(", (Field("bit.test", Char(1), Convert.BIT),), tokens=(1, 2))
    with pytest.raises(ValueError, match=r"bit\.test"):
        QueryPlan(Query(b"X\r", (reply,), Tier.ONCE, Topic.STATUS))
