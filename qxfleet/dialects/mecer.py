"""mecer: megatec that acknowledges orders, some of them Voltronic P98 (megatec-family.md sections 3, 7 and 10)."""

from dataclasses import replace

from qxfleet.dialects.megatec import MEGATEC, ORDERS, RATING_QUERY, TEST_START, status_query, vendor_query
from qxfleet.dialects.spec import (
    AnswerStyle,
    Arg,
    Claim,
    Convert,
    Field,
    Form,
    Holds,
    Query,
    Reply,
    Sample,
    Span,
    Style,
    Tier,
    Topic,
    Want,
)  # fmt: skip

P98 = "Voltronic Power P98"

PROTOCOL_REPLY = Reply(
    lead=b"(",
    length=(5, 6),
    lenient=True,
    fields=(Field("ups.firmware.aux", Span(1, 5), Convert.TEXT, words=(("PI98", P98),)),),
    render="(%(protocol)s",
)
"""Section 7: the protocol's name at columns 1 to 4."""

TEST_START_P98 = replace(
    TEST_START,
    forms=(
        Form(
            (b"T", Arg("value", Style.TENTHS), b"\r"), where=(("value", 12, 59),), needs=(Holds("ups.firmware.aux", (P98,)),),
        ),
        *TEST_START.forms,
    ),
    value=(12, 5940, 600),
)  # fmt: skip
"""Section 10.3: a P98 tests from 12 s, any other mecer from 60 s."""

MECER = MEGATEC.overlay(
    "mecer",
    "Mecer",
    queries=(
        status_query(b"Q1\r"),
        RATING_QUERY,
        vendor_query(b"I\r"),
        Query(
            b"QPI\r", (PROTOCOL_REPLY,), Tier.ONCE, Topic.PROTOCOL,
            (Sample(b"(PI98", {"ups.firmware.aux": P98}, "section 7"),), "megatec-family.md section 7",
        ),
    ),
    orders=tuple(TEST_START_P98 if order is TEST_START else order for order in ORDERS),
    claim=Claim(b"Q1\r", ((Want(b"QPI\r", replies=(b"(PI98", b"(NAK")),),)),
    answer=AnswerStyle.WORD,
)  # fmt: skip
