"""Requests come apart into words and answers stay within a line, whatever is in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qxfleet.interfaces.upsd.protocol import LONGEST_REPLY, Code, Refused, line, quoted, words


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        # RFC 9271 section 4.1.1: words, quotes, escapes; what Debian's upsd 2.8.0 does with the same lines
        (b"GET VAR su700 ups.status", ["GET", "VAR", "su700", "ups.status"]),
        (b"  VER\t", ["VER"]),
        (b"VER\r", ["VER"]),
        (b"", []),
        (b" \t ", []),
        (b'SET VAR su700 ups.id "My UPS"', ["SET", "VAR", "su700", "ups.id", "My UPS"]),
        (b'SET VAR u ups.id "a \\"b\\" \\\\ c"', ["SET", "VAR", "u", "ups.id", 'a "b" \\ c']),
        (b'GET VAR "" ""', ["GET", "VAR", "", ""]),
        (b"GET VAR u ups.sta\\tus", ["GET", "VAR", "u", "ups.status"]),
        (b"VE\x01R\x00", ["VER"]),
        (b"\xff\xfe", ["\ufffd\ufffd"]),
        (b'GET "a"b', ["GET", "a", "b"]),
    ],
)
def test_words(request_line: bytes, expected: list[str]) -> None:
    assert words(request_line) == expected


@pytest.mark.parametrize("bad", [b'GET VAR u "ups.status', b'GET "a\\"', b"GET \\", b"a " * 33])
def test_what_has_no_words_is_refused(bad: bytes) -> None:
    with pytest.raises(Refused) as caught:
        words(bad)
    assert caught.value.code is Code.INVALID_ARGUMENT


@given(st.lists(st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Cf", "Co", "Cn", "Zs"))), max_size=20))
def test_what_is_quoted_comes_back(texts: list[str]) -> None:
    assert words(" ".join(quoted(text) for text in texts).encode()) == texts


@given(st.binary(max_size=300))
def test_nothing_that_comes_is_an_error_of_ours(request_line: bytes) -> None:
    try:
        found = words(request_line.replace(b"\n", b""))
    except Refused as refused:
        assert refused.code is Code.INVALID_ARGUMENT
    else:
        assert all("\n" not in word for word in found)


@given(st.text(max_size=2000))
def test_an_answer_is_one_line_that_clients_can_keep(value: str) -> None:
    answer = line("VAR ups-01 ups.alarm", value.encode("utf-8", "replace").decode()).encode()
    assert len(answer) <= LONGEST_REPLY + 1
    assert answer.count(b"\n") == 1
    assert len(words(answer[:-1])) == 4
