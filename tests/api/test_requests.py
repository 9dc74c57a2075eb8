"""Requests as they come: what is whole becomes one, what is not is told with the argument and what was expected."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any, cast, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import get_original_bases

from qxfleet.api import requests
from qxfleet.api.door import NOUNS
from qxfleet.api.reading import read_request
from qxfleet.api.requests import REQUESTS, Request
from qxfleet.config.access import RIGHTS
from qxfleet.errors import BadRequest


@pytest.mark.parametrize(
    ("do", "args", "complaint"),
    [
        (None, {}, 'with "do" one of about, status'),
        (["status"], {}, 'with "do" one of'),
        ("status", [], 'status: expected "args" to be an object with targets, remedies'),
        ("status", {"target": []}, "status: there is no argument 'target'; it takes targets, remedies"),
        ("status", {"targets": "all"}, "status: targets: expected a list of at most 1000 texts, found 'all'"),
        ("status", {"targets": [1]}, "status: targets: expected a text of at most 200 characters, found 1"),
        ("status", {"remedies": 1}, "status: remedies: expected true or false, found 1"),
        ("vars", {}, "vars: ups is missing; it takes ups"),
        ("vars", {"ups": None}, "vars: ups: expected a text of at most 64 characters, found None"),
        ("vars", {"ups": "a" * 65}, "vars: ups: expected a text of at most 64 characters"),
        ("vars", {"ups": "\ud800"}, "half a surrogate pair"),
        ("watch", {"every_s": 0.1}, "watch: every_s: expected a number from 0.2 to 3600, found 0.1"),
        ("watch", {"every_s": float("nan")}, "watch: every_s: expected a number"),
        ("watch", {"every_s": True}, "watch: every_s: expected a number"),
        ("test-start", {"targets": ["all"], "kind": "long"}, "kind: expected one of quick, deep, timed, found 'long'"),
        ("test-start", {"targets": ["all"], "depth_percent": 2.5}, "depth_percent: expected a whole number"),
        ("shutdown-arm", {"armed": "yes"}, "shutdown-arm: armed: expected true or false, found 'yes'"),
        ("set", {"ups": "u", "name": "x", "value": {}}, "set: value: expected a text"),
    ],
)
def test_a_request_that_can_not_be_read_says_why(do: object, args: object, complaint: str) -> None:
    with pytest.raises(BadRequest) as told:
        read_request(do, args)
    assert complaint in str(told.value)
    assert str(told.value).isprintable()


def test_every_request_goes_over_the_wire_and_back() -> None:
    for kind in REQUESTS.values():
        sample = {"targets": ("all",), "armed": True, "since_us": 7, "run": 7, "value": "x"}
        needed = {each.name: sample.get(each.name, "u") for each in fields(kind) if each.default is MISSING}
        request = kind(**needed)  # type: ignore[arg-type]
        assert read_request(kind.do, json.loads(json.dumps(request.arguments()))) == request
        assert kind.right in (None, "self", *RIGHTS)


def test_every_request_is_carried_out_as_it_promises() -> None:
    """What a verb or stream returns is, by its annotation, the answer that the type of its request names."""
    carried: dict[type[Request[Any]], object] = {}
    for noun in NOUNS:
        for kind, verb in noun.verbs(cast(Any, None)).items():
            carried[kind] = get_type_hints(verb)["return"]
        for kind, stream in noun.streams(cast(Any, None)).items():
            (carried[kind],) = get_args(get_type_hints(stream)["say"])[0][:1]
    assert carried.keys() == set(REQUESTS.values())
    for kind, answer in carried.items():
        (promised,) = get_args(get_original_bases(kind)[0])
        assert answer == promised or promised in get_args(answer), kind


def test_numbers_are_taken_for_the_text_of_a_value() -> None:
    assert read_request("set", {"ups": "u", "name": "n", "value": 180}) == requests.Set("u", "n", "180")
    assert read_request("command", {"ups": "u", "name": "n", "value": 1.5}) == requests.Command("u", "n", "1.5")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=8,
)  # fmt: skip


@given(st.sampled_from(sorted(REQUESTS)), st.data())
def test_whatever_comes_is_a_request_or_a_complaint(do: str, data: st.DataObject) -> None:
    names = [each.name for each in fields(REQUESTS[do])]
    args = data.draw(st.dictionaries(st.sampled_from([*names, "other"]) if names else st.text(), JSON) | JSON)
    try:
        assert isinstance(read_request(do, args), Request)
    except BadRequest as error:
        assert str(error)
