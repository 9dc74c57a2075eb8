"""The compiled parser: its rules by example, then against the plain one."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qxfleet._fastparse import (
    BIT,
    CLOCK,
    CODE,
    FLAG,
    MARK,
    NUMBER,
    POINTED,
    TEXT,
    UNSIGNED,
    Corridor,
    Derivation,
    Framer,
    Overlay,
    Plan,
    Rule,
    named,
    steps,
)
from qxfleet.dialects.megatec import MEGATEC, STATUS_REPLY, VENDOR_IC_REPLY, VENDOR_REPLY
from qxfleet.dialects.spec import Reply
from qxfleet.errors import ReplyImplausible, ReplyMalformed
from qxfleet.session.plans import plan_for
from tests.fuzz_fastparse import Pair, captured, fuzz, mutated, pairs, shortest
from tests.oracle import Oracle, arguments, cut, derived, in_corridor, in_steps, laid

STATUS_QUERY, RATING_QUERY, VENDOR_QUERY = MEGATEC.queries
GOOD = b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000"
GOOD_VALUES = [
    226.0, 195.0, 226.0, 14.0, 49.0, 27.5, 30.0, False, False, False, False, "offline / line interactive", False, False,
    "disabled",
]  # fmt: skip
BITS_AT = 7


def outcome(plan: Plan, frame: bytes) -> list[Any] | str:
    """What ``parse`` gives or the reason it raises; ``parse_many`` must say the same."""
    try:
        result: list[Any] | str = plan.parse(frame)
    except (ReplyMalformed, ReplyImplausible) as error:
        assert error.frame == frame[:120]
        assert isinstance(error, ReplyImplausible) == (error.reason == "point")
        result = error.reason
    assert repr(plan.parse_many([frame])) == repr([result])
    return result


def status(frame: bytes) -> list[Any] | str:
    return outcome(plan_for(STATUS_REPLY), frame)


def rating(frame: bytes) -> list[Any] | str:
    return outcome(plan_for(RATING_QUERY.replies[0]), frame)


def vendor(frame: bytes, reply: Reply = VENDOR_REPLY) -> list[Any] | str:
    return outcome(plan_for(reply), frame)


def changed(place: int, value: object, values: list[Any] = GOOD_VALUES) -> list[Any]:
    return [*values[:place], value, *values[place + 1 :]]


# ---- the status frame: megatec-family.md sections 4, 8 and 13, quirks.md


@pytest.mark.parametrize(
    "frame",
    [
        GOOD,
        GOOD + b"1",  # section 8: 48 bytes, trailing byte
        GOOD + b"xy",
        GOOD + b" 273",  # a ninth word says nothing
        GOOD.replace(b" 00001000", b"  00001000"),  # section 8: two blanks before the bits
        GOOD.replace(b"014", b" 14"),  # quirks.md: load padded with blanks
        GOOD.replace(b"014", b"#14"),  # section 8: Voltronic's left padding
        GOOD + b"\r\0",  # quirks.md: CR, then NUL padding
        GOOD + b"\r 273",  # quirks.md: CR, then the tail of an older report
        GOOD + b"\r\n",
        b" " + GOOD,  # quirks.md: leading blank
        b"\n\0  " + GOOD,
        b"Q1" + GOOD,  # quirks.md: echo before the lead
        b"F" + GOOD,  # quirks.md: stray letter before the lead
        b"  Q1" + GOOD,
        b"QS" + GOOD,  # the echo of a question before
        b"xx" + GOOD,
        b"\xff\xff" + GOOD,
        b"\x11\x13" + GOOD,  # XON, XOFF
        b"\xff\0\0\x11xx \n" + GOOD,  # eight bytes of noise
    ],
)
def test_variations_that_mean_the_same(frame: bytes) -> None:
    assert status(frame) == GOOD_VALUES


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "short"),
        (b"\0\0\0", "lead"),
        (b"(", "short"),
        (b"(NAK", "short"),  # section 8
        (b"(\0\0\0\0\0", "short"),  # quirks.md: lead followed by NULs
        (b"(226.0 195.0 226.0 014 49.0 27.1 25.0 0000100", "short"),  # vector status-short-46
        (b"(234.0 000.0 233.0 014 50.0 27.0 20.8 00001", "short"),  # capture vultech-v2000-r2/02
        (b"(226.0 195.0 226.0 014 49.0 27.1 25.00001000", "short"),  # seven words
        (b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000 1 2", "tokens"),
        (b"(233.0 000.0 232.0 015 49.0 27.0 20.8 00001\0\0\0", "bits"),  # vector status-nul-bits
        (GOOD + b"\0\0", "bits"),
        (GOOD + b"000", "bits"),
        (b"#226.0 195.0 226.0 014 49.0 27.5 30.0 00001000", "lead"),  # vector status-wrong-leader
        (b"Q1", "lead"),  # echo
        (b"NAK", "lead"),
        (b"V", "lead"),  # capture viewpower-micro-3000/03, a stale answer
        (b"UPS No Ack", "lead"),
        (GOOD[1:], "lead"),
        (b"         " + GOOD, "lead"),  # nine bytes before the lead are another talker
        (b"xxxxxxxxx" + GOOD, "lead"),
        (b"(00000 00000 01 01 00 059 045 053 068 00 00 000 0040 0580 0000 50.00 139\xb9", "long"),  # capture mpp-pi30/01
        (GOOD + b" " * 19, "long"),
        (b" " * 2000, "long"),
        (GOOD.replace(b"014", b"0l4"), "number"),
        (GOOD.replace(b"49.0", b"4-.0"), "number"),
        (GOOD.replace(b"49.0", b"49.0-"), "number"),
        (GOOD.replace(b"49.0", b"4.9.0"), "number"),
        (GOOD.replace(b"49.0", b".49"), "number"),
        (GOOD.replace(b"49.0", b"49."), "number"),
        (GOOD.replace(b"49.0", b"+-9"), "number"),
        (GOOD.replace(b"49.0", b"1e2"), "number"),
        (GOOD.replace(b"49.0", b"inf"), "number"),
        (GOOD.replace(b"49.0", b"4,90"), "number"),
        (GOOD.replace(b"49.0", b"\xb2"), "text"),
        (GOOD.replace(b"195.0", b"1\x0095.0"), "text"),  # quirks.md: NUL anywhere else
        (GOOD.replace(b"195.0", b"19\t.0"), "text"),
        (GOOD.replace(b"195.0", b"19\x7f.0"), "text"),
        (GOOD.replace(b"27.5", b"0100"), "point"),  # quirks.md: a percentage
        (GOOD.replace(b"226.0", b"226"), "point"),
        (GOOD.replace(b"27.5", b"0100").replace(b"30.0", b"3o.0"), "number"),  # malformed beats implausible
    ],
)
def test_what_is_refused_and_why(frame: bytes, reason: str) -> None:
    assert status(frame) == reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"-5.0", -5.0),  # vector status-temperature-negative
        (b"+22.5", 22.5),  # quirks.md: signed values exist
        (b"--.-", None),
        (b"@@@@", None),
        (b"****", None),
        (b"....", None),
        (b"##", None),
        (b"#7.5", 7.5),
        (b"30", 30.0),
        (b"-0.0", 0.0),
    ],
)
def test_a_field(field: bytes, value: float | None) -> None:
    read = status(GOOD.replace(b"30.0", field))
    assert repr(read) == repr(changed(6, value))


def test_five_character_battery_moves_nothing() -> None:
    values = status(b"(236.3 215.4 221.0 004 50.0 109.4 25.0 00000001")  # vector status-wide-battery-field
    assert values[5:8] == [109.4, 25.0, False]
    assert values[-1] == "enabled"


@pytest.mark.parametrize("place", range(8))
@pytest.mark.parametrize("byte", [b"@", b"2", b"\x1f", b"\x80", b"O"])
def test_a_strange_bit_is_unknown(place: int, byte: bytes) -> None:
    bits = b"00001000"
    values = status(GOOD[:-8] + bits[:place] + byte + bits[place + 1 :])
    assert values == changed(BITS_AT + place, None)


@pytest.mark.parametrize("place", range(8))
def test_one_nul_among_the_bits(place: int) -> None:
    """quirks.md: read as 0, except where a load depends on it."""
    bits = bytearray(b"00000000")
    zeros = changed(11, "online")
    assert status(GOOD[:-8] + bytes(bits)) == zeros
    bits[place] = 0
    assert status(GOOD[:-8] + bytes(bits)) == (changed(BITS_AT + place, None, zeros) if place < 2 else zeros)


def test_every_truncation_of_a_status_is_refused() -> None:
    for length in range(len(GOOD)):
        assert status(GOOD[:length]) == "short", GOOD[:length]


# ---- ratings: section 5, quirks.md "F ratings"


@pytest.mark.parametrize(
    ("frame", "values"),
    [
        (b"#220.0 000 024.0 50.0", [220.0, 0.0, 24.0, 50.0]),
        (b"#230.0 010 48.00 50.0", [230.0, 10.0, 48.0, 50.0]),
        (b"#220.0 @@@ 024.0 50.0", [220.0, None, 24.0, 50.0]),
        (b"#230.0 2.6 12.0 50.0", [230.0, 2.6, 12.0, 50.0]),
        (b"#220.0 005 24.00", [220.0, 5.0, 24.0, None]),  # frequency missing
        (b"#220.0 0o5 24.00 50.0", [220.0, None, 24.0, 50.0]),  # skip what fails
        (b"#220.0 005 0024 50.0", [220.0, 5.0, None, 50.0]),
        (b"#---.- --- --.-- --.-", [None, None, None, None]),
        (b"F#220.0 000 024.0 50.0", [220.0, 0.0, 24.0, 50.0]),
        (b"#220.0 000 024.0 50.", "short"),  # vector rating-short-21
        (b"#220.0 000 024.", "short"),
        (b"#ACME UPS COMPANY RT3", "number"),
        (b"#220.0 000 024.0 50.0 1", "tokens"),
        (b"#220.0 000 02\x004.0 50.0", "text"),
        (b"F", "lead"),
    ],
)
def test_rating(frame: bytes, values: list[Any] | str) -> None:
    assert rating(frame) == values


# ---- vendor text: section 6, quirks.md "I vendor text"


@pytest.mark.parametrize(
    ("frame", "values"),
    [
        (b"#ACME UPS CO     RT-3000    VT12046Q  ", ["ACME UPS CO", "RT-3000", "VT12046Q"]),
        (b"#########ACME    #RT-3000## ####V1.02 ", ["ACME", "RT-3000", "V1.02"]),
        (b"#                           V3.65     ", [None, None, "V3.65"]),
        (b"#222222222222222222222222222R1.00.47  ", [None, None, "R1.00.47"]),
        (b"#. . .           --         @@@       ", [None, None, None]),
        (b"#AC\x00ME           RT-\x803000   VT12046Q  ", [None, None, "VT12046Q"]),
        (b"#ACME UPS CO     RT-3000    22        ", ["ACME UPS CO", "RT-3000", "22"]),
        (b"#ACME UPS CO     RT-3000    222       ", ["ACME UPS CO", "RT-3000", None]),
        (b"# V3.7", "short"),
        (b"                                      ", "lead"),
    ],
)
def test_vendor(frame: bytes, values: list[Any] | str) -> None:
    assert vendor(frame) == values


def test_the_ic_layout_is_told_by_length_and_digits() -> None:
    frame = b"#MegaTecabcedfhi k130v12345 v3.400000"
    assert vendor(frame, VENDOR_IC_REPLY) == ["MegaTec", "abcedfhi", "k130v", 12345.0, "v3.400000"]
    assert vendor(frame.replace(b"12345", b"1234 "), VENDOR_IC_REPLY) == "text"
    assert vendor(b"#                MicroSinus V5.15C0503", VENDOR_IC_REPLY) == "long"


# ---- what no table uses yet


def test_a_column_past_the_end_is_absent() -> None:
    plan = Plan(b"#", 1, 40, [(TEXT, -1, 1, 5, 1.0, 0, 1, False), (NUMBER, -1, 8, -1, 1.0, 0, 1, False)])
    assert outcome(plan, b"#abc") == ["abc", None]
    assert outcome(plan, b"#abcdefg  42") == ["abcd", 42.0]


def test_strict_text_refuses_what_can_not_be_printed() -> None:
    plan = Plan(b"#", 1, 40, [(TEXT, -1, 1, -1, 1.0, 0, 1, False)])
    assert outcome(plan, b"#ab\x7f") == "text"


def test_a_layout_without_lead_cleans_nothing_up() -> None:
    plan = Plan(b"", 1, 40, [(TEXT, -1, 0, 4, 1.0, 0, 1, False), (NUMBER, -1, 4, 6, 1.0, 0, 1, False)])
    assert outcome(plan, b"   A12") == ["A", 12.0]
    assert outcome(plan, b"") == "short"


def test_bits_by_column() -> None:
    plan = Plan(b"(", 1, 40, [(BIT, -1, place, -1, 1.0, "off", "on", False) for place in range(1, 5)])
    assert outcome(plan, b"(01\0") == ["off", "on", None, None]


def test_a_bit_past_the_end_of_its_word_is_unknown() -> None:
    plan = Plan(b"(", 1, 40, [(BIT, 1, place, -1, 1.0, False, True, False) for place in (0, 2)], tokens=(1, 2))
    assert [outcome(plan, frame) for frame in (b"(x 101", b"(x 10", b"(x")] == [[True, True], [True, None], [None, None]]


def test_a_long_lead_cut_in_the_middle() -> None:
    plan = Plan(b"(AC", 1, 40, [])
    assert [outcome(plan, frame) for frame in (b"(AC1", b"(A", b"(AK", b"")] == [[], "short", "lead", "short"]


@pytest.mark.parametrize(
    ("frame", "scale", "value"), [(b"2301", 0.1, 230.1), (b"1.7", 60.0, 102.0), (b"333", 0.001, 0.333), (b"7", 2.5, 17.5)]
)
def test_scale_is_taken_as_the_decimal_it_is_written_as(frame: bytes, scale: float, value: float) -> None:
    assert outcome(Plan(b"", 1, 40, [(NUMBER, -1, 0, -1, scale, 0, 1, False)]), frame) == [value]


def slot(
    kind: int = NUMBER, token: int = -1, start: int = 1, stop: int = 5, scale: float = 1.0
) -> tuple[int, int, int, int, float, object, object, bool]:
    return kind, token, start, stop, scale, 0, 1, False


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((b"(" * 17, 1, 40, []), {}),
        ((b"(", 1, 40, []), {"separator": ""}),
        ((b"(", 1, 40, []), {"separator": "\r"}),
        ((b"(", 1, 40, []), {"widths": (1, 7)}),
        ((b"(", 1, 40, []), {"widths": (0,)}),
        ((b"(", 1, 40, []), {"widths": (1,) * 65}),
        ((b"(", 1, 40, []), {"widths": (1,), "tokens": (1, 1)}),
        ((b"(", 1, 40, [slot()]), {"widths": (1,)}),
        ((b"(", 1, 40, [slot(kind=NUMBER, token=0)]), {"widths": (1,)}),
        ((b"(", 1, 40, [slot(kind=UNSIGNED, token=1, stop=-1)]), {"widths": (1,)}),
        ((b"(", 1, 40, [slot(kind=FLAG, token=0, start=3, stop=2)]), {"widths": (1,)}),
        ((b"(", 1, 40, [slot(kind=FLAG, token=0, start=0, stop=48)]), {"widths": (1,)}),
        ((b"(", 1, 40, [slot(kind=UNSIGNED, token=0)]), {"tokens": (1, 2)}),
        ((b"(", 1, 40, [slot(kind=MARK, token=0)]), {"tokens": (1, 2)}),
        ((b"(", 41, 40, []), {}),
        ((b"(", -1, 40, []), {}),
        ((b"(", 1, 1025, []), {}),
        ((b"(", 1, 40, []), {"tokens": (3, 2)}),
        ((b"(", 1, 40, []), {"tokens": (1, 65)}),
        ((b"(", 1, 40, []), {"bits": (0, 8)}),
        ((b"(", 1, 40, []), {"tokens": (2, 3), "bits": (2, 8)}),
        ((b"(", 1, 40, []), {"tokens": (2, 3), "bits": (1, 0)}),
        ((b"(", 1, 40, []), {"digits": (5, 4)}),
        ((b"(", 1, 40, []), {"blanks": (2, 1024)}),
        ((b"(", 1, 40, []), {"blanks": tuple(range(33))}),
        ((b"(", 1, 40, [slot()] * 65), {}),
        ((b"(", 1, 40, [slot(kind=9)]), {}),
        ((b"(", 1, 40, [slot(token=0)]), {}),
        ((b"(", 1, 40, [slot(token=-2)]), {}),
        ((b"(", 1, 40, [slot(start=-1)]), {}),
        ((b"(", 1, 40, [slot(start=1024)]), {}),
        ((b"(", 1, 40, [slot(stop=1)]), {}),
        ((b"(", 1, 40, [slot(stop=1025)]), {}),
        ((b"(", 1, 40, [slot(kind=BIT, token=0, start=-1)]), {"tokens": (1, 2)}),
        ((b"(", 1, 40, [slot(scale=0.0)]), {}),
        ((b"(", 1, 40, [slot(scale=-1.0)]), {}),
        ((b"(", 1, 40, [slot(scale=1e7)]), {}),
        ((b"(", 1, 40, [slot(scale=1e-9)]), {}),
        ((b"(", 1, 40, [slot(scale=float("nan"))]), {}),
    ],
)
def test_layouts_that_make_no_sense(arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Plan(*arguments, **options)


@pytest.mark.parametrize("wrong", [None, "(1", 7, bytearray(b"(")])
def test_only_bytes_are_frames(wrong: Any) -> None:
    plan = plan_for(STATUS_REPLY)
    with pytest.raises(TypeError):
        plan.parse(wrong)
    with pytest.raises(TypeError):
        plan.parse_many([wrong])
    with pytest.raises(TypeError):
        Framer().feed(wrong)


def test_named() -> None:
    assert named(("a", "b", "c"), [1.0, None, False]) == {"a": 1.0, "c": False}
    with pytest.raises(ValueError):
        named(("a",), [1.0, 2.0])


# ---- the framer

STREAM = b"\0\n" + GOOD + b"\r\n\0\0(NAK\r\r#220.0 000 024.0 50.0\r" + b"x" * 61 + b"\r\nQ1\r(22"
FRAMES = [GOOD, b"(NAK", b"#220.0 000 024.0 50.0", b"Q1"]
THROWN = 2 + 3 + 1 + 62 + 1
"""NULs and LFs between frames, the empty frame's end byte, the overlong frame with its own."""


@pytest.mark.parametrize("size", [*range(1, 20), 60, 61, 62, len(STREAM)])
def test_chunks_make_no_difference(size: int) -> None:
    framer = Framer(13, 60)
    frames = [frame for at in range(0, len(STREAM), size) for frame in framer.feed(STREAM[at : at + size])]
    assert frames == FRAMES
    assert framer.pending() == b"(22"
    assert framer.reset() == THROWN + 3


@pytest.mark.parametrize("at", range(len(STREAM) + 1))
def test_one_cut_anywhere_makes_no_difference(at: int) -> None:
    framer = Framer(max_len=60)
    assert framer.feed(STREAM[:at]) + framer.feed(STREAM[at:]) == FRAMES


def test_a_frame_of_just_the_greatest_length() -> None:
    framer = Framer(max_len=4)
    assert framer.feed(b"abcd\rabcde\rab") == [b"abcd"]
    assert framer.feed(b"cd\r") == [b"abcd"]


def test_noise_without_end_is_bounded_and_forgotten_at_the_next_end() -> None:
    framer = Framer(max_len=50)
    for _ in range(1000):
        assert framer.feed(b"\xff" * 999) == []
        assert len(framer.pending()) <= 50
    assert framer.feed(b"\r" + GOOD + b"\r") == [GOOD]
    assert framer.reset() == 999_001


def test_reset_forgets_half_a_frame_and_what_was_overlong() -> None:
    framer = Framer(max_len=5)
    assert framer.feed(b"abc") == []
    assert framer.reset() == 3
    assert framer.feed(b"overlong") == []
    assert framer.reset() == 8
    assert framer.feed(b"(1\r") == [b"(1"]
    assert framer.reset() == 0


def test_another_end_byte() -> None:
    assert Framer(end=10).feed(b"\0(1\r\n\n(2\n") == [b"(1\r", b"(2"]
    assert Framer(end=0).feed(b"\n(1\0(2\n\0") == [b"(1", b"(2\n"]


@pytest.mark.parametrize("options", [{"max_len": 0}, {"max_len": -5}, {"end": 256}, {"end": -1}])
def test_framers_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises((ValueError, OverflowError)):
        Framer(**options)


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r", b"\n", b"\0", b"(1\r"])), st.sampled_from([13, 10, 0]))
def test_framer_against_the_plain_one(chunks: list[bytes], end: int) -> None:
    framer = Framer(end, 30)
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
    assert (frames, framer.pending(), framer.reset() - len(cut(b"".join(chunks), end, 30)[1])) == cut(b"".join(chunks), end, 30)


chunk_st = st.lists(st.binary(max_size=12) | st.sampled_from([b"\r", b"\n", b"\0", b"(1\r", b"(22\r"]), max_size=3).map(b"".join)


@given(chunk_st, chunk_st, st.sampled_from([13, 10, 0]), st.integers(0, 20))
def test_a_chunk_that_is_one_frame(before: bytes, chunk: bytes, end: int, max_len: int) -> None:
    framer, plain = Framer(end, 15), Framer(end, 15)
    framer.feed(before), plain.feed(before)
    frame = framer.only(chunk, max_len)
    held, thrown = plain.pending(), plain.reset()
    alone = Framer(end, 15)
    frames = alone.feed(chunk)
    if frame is not None:
        assert frames == [frame] and len(frame) <= max_len and alone.reset() == 0 and not held
    assert framer.pending() == held
    assert framer.reset() == thrown


def test_the_usual_chunk_is_one_frame() -> None:
    framer = Framer(13, 60)
    assert framer.only(b"(1 2\r", 60) == framer.only(b"(1 2\r", 4) == b"(1 2"
    assert framer.only(b"(1 2\r", 3) is None
    assert [framer.only(chunk, 60) for chunk in (b"(1\r(2\r", b"\n(1\r", b"(1", b"\r", b"")] == [None] * 5
    framer.feed(b"(")
    assert framer.only(b"1 2\r", 60) is None
    assert framer.feed(b"1 2\r") == [b"(1 2"]


# ---- against the plain parser

PAIRS = pairs()
CAPTURED = tuple(frame for frames in captured().values() for frame in frames)

frames_st = (
    st.binary(max_size=80)
    | st.text(alphabet="(#0123456789.-+@* \0\n\rQF1", max_size=70).map(str.encode)
    | st.builds(lambda seed: mutated(random.Random(seed), CAPTURED, CAPTURED), st.integers(0))
)
slots_st = st.lists(
    st.builds(
        lambda kind, token, start, width, scale, critical: (
            kind, token, start, -1 if width == 0 else start + width, scale, "no", "yes", critical,
        ),
        st.sampled_from([NUMBER, POINTED, TEXT, BIT, CODE, CLOCK]), st.integers(-1, 9), st.integers(0, 50), st.integers(0, 12),
        st.sampled_from([1.0, 0.1, 60.0, 0.25]), st.booleans(),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=500)
@given(st.sampled_from(PAIRS), frames_st)
def test_tables_against_the_plain_parser(pair: Any, frame: bytes) -> None:
    assert repr(outcome(pair.plan, frame)) == repr(pair.oracle.parse(frame))


@settings(max_examples=500)
@given(
    st.sampled_from([b"", b"(", b"#", b"(2", b"Q"]),
    st.sampled_from([" ", ",", "."]),
    slots_st,
    st.none() | st.tuples(st.integers(0, 5), st.integers(1, 9)),
    st.none() | st.tuples(st.integers(0, 9), st.integers(0, 4)).map(lambda pair: (pair[0], sum(pair))),
    st.lists(st.integers(0, 12), max_size=2),
    st.booleans(),
    frames_st,
)
def test_any_layout_against_the_plain_parser(
    lead: bytes,
    separator: str,
    slots: list[Any],
    bits: tuple[int, int] | None,
    digits: tuple[int, int] | None,
    blanks: list[int],
    lenient: bool,
    frame: bytes,
) -> None:
    options: dict[str, Any] = {
        "separator": separator, "tokens": (6 if bits else 0, 10), "bits": bits, "digits": digits, "blanks": blanks,
        "lenient": lenient,
    }  # fmt: skip
    assert repr(outcome(Plan(lead, 0, 70, slots, **options), frame)) == repr(Oracle(lead, 0, 70, slots, **options).parse(frame))
    columns = [(kind, -1, *rest) for kind, _, *rest in slots]
    options |= {"tokens": None, "bits": None}
    assert repr(outcome(Plan(lead, 0, 70, columns, **options), frame)) == repr(
        Oracle(lead, 0, 70, columns, **options).parse(frame)
    )


@settings(max_examples=1000)
# ---- a frame laid over what was known, and numbers as steps


def overlay(**ranges: tuple[float, float]) -> Overlay:
    """The megatec status; what is named ``bit.`` shows in the key alone."""
    names = [field.name for field in STATUS_REPLY.fields]
    shown = tuple(None if name.startswith("bit.") else name for name in names)
    return Overlay(plan_for(STATUS_REPLY), shown, [ranges.get(name, (-1e9, 1e9)) for name in names])


def test_a_frame_is_laid_over_what_was_known() -> None:
    known = {"device.model": "RT-1000", "ups.load": 99.0}
    key = overlay().lay(GOOD, known)
    assert known == {
        "device.model": "RT-1000", "input.voltage": 226.0, "input.voltage.fault": 195.0, "output.voltage": 226.0,
        "ups.load": 14.0, "input.frequency": 49.0, "battery.voltage": 27.5, "ups.temperature": 30.0,
        "ups.type": "offline / line interactive", "ups.beeper.status": "disabled",
    }  # fmt: skip
    bits = [key >> 2 * slot & 3 for slot in range(7, 15)]
    assert bits == [2 if bit == ord("1") else 1 for bit in GOOD[-8:]]


def test_what_is_not_told_leaves_what_was_known() -> None:
    known: dict[str, float | str] = {"ups.temperature": 21.0}
    key = overlay().lay(GOOD.replace(b"30.0", b"--.-"), known)
    assert known["ups.temperature"] == 21.0
    assert key >> 2 * 6 & 3 == 0


@pytest.mark.parametrize("frame", [b"", b"NAK", GOOD[:-1], GOOD.replace(b"27.5", b"2x.5"), GOOD.replace(b"226.0", b"408.0", 1)])
def test_what_is_out_of_the_ordinary_is_left_to_others(frame: bytes) -> None:
    known: dict[str, float | str] = {"ups.load": 99.0}
    assert overlay(**{"input.voltage": (0.0, 400.0)}).lay(frame, known) == -1
    assert known == {"ups.load": 99.0}


def test_overlays_that_make_no_sense() -> None:
    plan = plan_for(STATUS_REPLY)
    with pytest.raises(ValueError, match="14 names and 15 ranges for 15 slots"):
        Overlay(plan, (None,) * 14, [(0.0, 1.0)] * 15)
    wide = Plan(b"(", 0, 80, [(NUMBER, -1, n, n + 1, 1.0, None, None, False) for n in range(1, 33)])
    with pytest.raises(ValueError, match="32 slots, 31"):
        Overlay(wide, (None,) * 32, [(0.0, 1.0)] * 32)
    with pytest.raises(ValueError, match="2 names for 1 scales"):
        steps(("a", "b"), (1,), {})


@given(st.sampled_from([pair for pair in PAIRS if len(pair.oracle.readers) <= 31 and pair.oracle.telling]), st.data())
def test_laying_against_the_plain_parser(pair: Any, data: st.DataObject) -> None:
    near_st = st.sampled_from(pair.frames or (b"",))
    frame = data.draw(near_st | st.builds(lambda seed: mutated(random.Random(seed), pair.frames, CAPTURED), st.integers(0)))
    count = len(pair.oracle.readers)
    names = tuple(data.draw(st.lists(st.sampled_from([None, "a", "b", "c", "d"]), min_size=count, max_size=count)))
    bounds = st.tuples(st.floats(-10, 300), st.floats(-10, 300))
    ranges = data.draw(st.lists(st.just((-1e18, 1e18)) | bounds, min_size=count, max_size=count))
    over: dict[str, float | str] = {"a": 1.0, "e": "kept"}
    expected = laid(pair.oracle, names, ranges, frame, dict(over))
    assert repr((Overlay(pair.plan, names, ranges).lay(frame, over), over)) == repr(expected)


number_st = st.floats() | st.floats(-1000, 1000).map(lambda value: round(value * 20) / 20) | st.integers() | st.text(max_size=3)


@given(st.dictionaries(st.sampled_from("abcde"), number_st), st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 1000))))
def test_steps_against_the_plain_ones(values: dict[str, float | str], columns: list[tuple[str, int]]) -> None:
    names, scales = tuple(name for name, _ in columns), tuple(scale for _, scale in columns)
    row = in_steps(names, scales, values)
    assert steps(names, scales, values) == row
    assert steps(names, scales, values, ("a", 1), (None,)) == (None if row is None else ("a", 1, *row, None))


range_st = st.none() | st.tuples(st.floats(-10, 10), st.floats(-10, 10))


@given(
    st.dictionaries(st.sampled_from("abcd"), range_st),
    st.dictionaries(st.sampled_from("abcde"), st.floats(-10, 10) | st.just(math.nan) | st.integers(-5, 5) | st.just("x")),
)
def test_a_corridor_against_the_plain_one(
    ranges: dict[str, tuple[float, float] | None], values: dict[str, float | str]
) -> None:
    assert Corridor(ranges).holds(values) is in_corridor(ranges, values)


def test_a_corridor_has_its_bounds() -> None:
    corridor = Corridor({"input.voltage": (195.5, 264.5), "battery.charge": None})
    assert corridor.holds({"input.voltage": 195.5, "ups.load": 3.0})
    assert not corridor.holds({"input.voltage": 195.4})
    assert not corridor.holds({"input.voltage": 230.0, "battery.charge": 100.0})
    assert not corridor.holds({})
    with pytest.raises(ValueError, match="32 numbers, 31"):
        Corridor({str(number): None for number in range(32)})


@given(st.from_regex(r"[+-]?[0-9]{1,8}(\.[0-9]{1,7})?", fullmatch=True))
def test_numbers_equal_python_s(figures: str) -> None:
    assert Plan(b"", 1, 40, [(NUMBER, -1, 0, -1, 1.0, 0, 1, False)]).parse(figures.encode()) == [float(figures)]


@settings(max_examples=500)
@given(
    st.from_regex(r"-?[0-9]{1,8}(\.[0-9]{1,7})?", fullmatch=True), st.sampled_from([0.1, 0.01, 0.001, 0.06, 2.5, 60.0, 1000.0])
)
def test_scaled_numbers_equal_the_plain_reader_s(figures: str, scale: float) -> None:
    slots = [(NUMBER, -1, 0, -1, scale, 0, 1, False)]
    assert outcome(Plan(b"", 1, 40, slots), figures.encode()) == Oracle(b"", 1, 40, slots).parse(figures.encode())


def test_sixteen_digits_are_no_number() -> None:
    plan = Plan(b"", 1, 40, [(NUMBER, -1, 0, -1, 1.0, 0, 1, False)])
    assert outcome(plan, b"12345678901234.5") == [12345678901234.5]
    assert outcome(plan, b"123456789012345.6") == "number"
    thousands = Plan(b"", 1, 40, [(NUMBER, -1, 0, -1, 1000.0, 0, 1, False)])
    assert outcome(thousands, b"9007199254740") == [9007199254740000.0]
    assert outcome(thousands, b"9007199254741") == "number"


bytes_st = st.lists(
    st.tuples(
        st.sampled_from([UNSIGNED, FLAG]), st.integers(0, 3), st.integers(0, 7), st.integers(-1, 9),
        st.sampled_from([1.0, 0.1, 0.01, 60.0]),
    ).map(lambda made: (*made[:3], -1 if made[3] < 0 else made[2] + made[3], made[4], "no", "yes", False)),
    max_size=8,
)  # fmt: skip


@settings(max_examples=500)
@given(
    st.lists(st.integers(1, 6), min_size=4, max_size=4),
    bytes_st,
    st.lists(st.binary(max_size=7) | st.text(alphabet="(\0\1\2\3\4 #", max_size=7).map(str.encode), max_size=6),
)
def test_words_of_bytes_against_the_plain_parser(widths: list[int], slots: list[Any], words: list[bytes]) -> None:
    frame = b"#" + b" ".join(words)
    options: dict[str, Any] = {"widths": tuple(widths)}
    assert repr(outcome(Plan(b"#", 0, 70, slots, **options), frame)) == repr(
        Oracle(b"#", 0, 70, slots, **options).parse(frame)
    )


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.booleans()), max_size=6), st.binary(max_size=40))
def test_bytes_and_letters_in_columns_against_the_plain_parser(places: list[tuple[int, int, bool]], frame: bytes) -> None:
    slots: list[Any] = [
        (MARK, -1, start, -1, 1.0, None, "there", False, b"ACM") if marks
        else (UNSIGNED, -1, start, start + width, 1.0, None, None, False)
        for start, width, marks in places
    ]  # fmt: skip
    frame = b"(" + frame
    assert repr(outcome(Plan(b"(", 0, 70, slots), frame)) == repr(Oracle(b"(", 0, 70, slots).parse(frame))


def test_a_word_of_bytes_is_unescaped() -> None:
    plan = Plan(b"#", 1, 40, [(UNSIGNED, 0, 0, -1, 1.0, 0, 1, False), (FLAG, 1, 3, 3, 1.0, "no", "yes", False)], widths=(2, 1))
    assert outcome(plan, b"#(\0(\3 \x08") == [0x0D0A * 1.0, "yes"]
    assert outcome(plan, b"#(\4(\2 \xf7") == [0x2013 * 1.0, "no"]
    assert outcome(plan, b"#(\5 \x00") == [0x2805 * 1.0, "no"]
    assert outcome(plan, b"#(\1 \x00") == [0x2801 * 1.0, "no"]  # extra-dialects.md section 4.2: one byte short, taken as it is
    assert outcome(plan, b"#(\1( (") == [0x1128 * 1.0, "yes"]
    for frame, reason in ((b"#a b", "short"), (b"#abc d", "long"), (b"#ab", "short"), (b"#ab c d", "long"), (b"#ab cd", "long")):
        assert outcome(plan, frame) == reason


def test_bytes_in_columns_may_be_the_end_byte() -> None:
    plan = Plan(b"(", 3, 3, [(UNSIGNED, -1, 1, 3, 0.01, 0, 1, False)])
    assert outcome(plan, b"(\x0d\x0d") == [33.41]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1869:19:06:37", 161550397.0), (b"017.03", 1023.0), (b"000.00", 0.0), (b"---.--", None), (b"0001:01:01:01", 90061.0)],
)
def test_a_clock_is_seconds(text: bytes, seconds: float | None) -> None:
    assert outcome(Plan(b"(", 1, 40, [(CLOCK, -1, 1, -1, 1.0, 0, 1, False)]), b"(" + text) == [seconds]


@pytest.mark.parametrize("text", [b"1:", b":1", b"1:2:3:4:5", b"1-2", b"123456", b"1 2"])
def test_what_is_no_clock(text: bytes) -> None:
    assert outcome(Plan(b"(", 1, 40, [(CLOCK, -1, 1, -1, 1.0, 0, 1, False)]), b"(" + text) == "number"


_names = st.sampled_from(["a", "b", "c", "d"])
_rules = st.lists(
    st.tuples(
        _names, st.lists(_names, max_size=2).map(tuple), st.lists(_names, max_size=2).map(tuple),
        st.sampled_from([0.0, 1.0, 0.1, 60.0, -2.0]), st.sampled_from([0.0, 1.0, 0.25]), st.sampled_from([math.inf, 99.9, 0.0]),
        st.sampled_from([(), ((5.0, "high"), (0.0, False)), ((0.5, 3.0),)]),
        st.lists(st.tuples(_names, st.just(0.0), st.sampled_from([1.0, 300.0])), max_size=2).map(tuple),
        st.lists(st.tuples(_names, st.sampled_from([(), (2.0,), ("high", True)]), st.booleans()), max_size=2).map(tuple),
        st.booleans(),
    ),
    max_size=6,
)  # fmt: skip
_known = st.dictionaries(
    _names, st.sampled_from([0.0, 1.0, 2.0, 230.0, -3.5, 1e308, True, False, "high"]) | st.floats(0, 500), max_size=4
)


@settings(max_examples=1000)
@given(_rules, _known)
def test_what_follows_from_values_against_the_plain_rules(rules: list[Rule], values: dict[str, Any]) -> None:
    got = dict(values)
    added = Derivation(rules).into(got)
    assert (repr(dict(sorted(got.items()))), added) == (
        repr(dict(sorted(derived(rules, values)[0].items()))), derived(rules, values)[1]
    )  # fmt: skip


def test_rules_that_make_no_sense() -> None:
    for step, scale, rows in ((-1.0, 1.0, ()), (0.0, math.inf, ()), (0.0, 1.0, ((1.0, "a"), (1.0, "b")))):
        with pytest.raises(ValueError):
            Derivation([("x", (), (), scale, step, math.inf, rows, (), (), False)])


def test_a_short_fuzz() -> None:
    assert fuzz(100_000, "suite") == ""


def test_a_parser_that_errs_is_caught() -> None:
    """The comparison itself: two columns exchanged must show, and be brought down to the frame's bare minimum."""
    positional, options = arguments(STATUS_QUERY, STATUS_REPLY)
    slots = list(positional[3])
    slots[0], slots[1] = slots[1], slots[0]
    wrong = Pair("wrong", Plan(*positional[:3], slots, **options), Oracle(*positional, **options), (GOOD,))
    found = fuzz(1000, "suite", layouts=[wrong])
    assert found.startswith("wrong\n")
    assert len(shortest(wrong, GOOD + b"xy")) < len(GOOD)


def test_stub_is_true(tmp_path: Path) -> None:
    """The .pyi and the build say the same; Cython's two pickling functions are its own affair."""
    allowed = tmp_path / "allowed"
    allowed.write_text("qxfleet._fastparse.__(reduce|setstate)_cython__\n")
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy.stubtest", "qxfleet._fastparse", "--allowlist", str(allowed), "--ignore-unused-allowlist",
            "--mypy-config-file", "pyproject.toml",
        ],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr

