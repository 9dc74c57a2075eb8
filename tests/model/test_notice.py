"""``ups.alarm``: what NUT clients read, whole however long it gets."""

from __future__ import annotations

import pytest

from qxfleet.dialects.voltronic.complaints import WARNINGS, WARNINGS_TABLE
from qxfleet.model.notice import ALARM_LIMIT, Notice, alarm_text, ranges

NOTICES = {number: WARNINGS.meanings[number - 1][1] for number in range(1, 65)}


def text(*numbers: int) -> str:
    return alarm_text((), [NOTICES[number] for number in numbers])


def test_the_seeds_texts_behind_their_prefix() -> None:
    assert text(10) == "UPS warnings: Fan alarm."
    assert text(1, 7) == "UPS warnings: Battery disconnected. Battery overcharged."


def test_gravest_first_then_by_number() -> None:
    """voltronic.md section 6, compatibility string: by level then bit."""
    assert text(1, 8, 15, 9) == "UPS warnings: Low battery. Battery disconnected. Overload alarm. Remote auto shutdown."


def test_alarms_of_the_status_stand_before_warnings() -> None:
    fault = Notice("fault.present", "UPS fault", 1, "bit.fault")
    assert alarm_text(("Shutdown imminent!",), [fault, NOTICES[10]]) == "Shutdown imminent! UPS fault. UPS warnings: Fan alarm."
    assert alarm_text((), [Notice("mode.unknown", "Unknown mode X", 3, "qx.mode.letter", alarm=False)]) == ""


def test_the_texts_that_the_incumbent_spells_out_and_the_first_it_does_not() -> None:
    """223 characters are spelled out by the incumbent, 224 not (vectors qws-len223-explicit, qws-len224-bits); we spell both."""
    assert len(text(39, 43, 44)) == len("UPS warnings: ") + 223
    assert len(text(48, 49, 50)) == len("UPS warnings: ") + 224
    assert "#" not in text(48, 49, 50)


def test_what_does_not_fit_is_given_by_number_and_nothing_is_lost() -> None:
    """The seeds: "they will be reported as bits"; the incumbent loses all after bit 35 when all 64 are set."""
    whole = text(*range(1, 65))
    assert len(whole) <= ALARM_LIMIT
    assert whole.startswith("UPS warnings: Low battery. Programmable outlets cut off pre-alarm. Warning for Battery replace.")
    assert whole.endswith("more: #5-7 #9-54 #57-64)") or "#9-54" in whole
    named, _, rest = whole.partition(" (")
    count = int(rest.split()[0])
    spelled = sum(1 for _, each, _, _ in WARNINGS_TABLE if f" {each}." in named)
    assert spelled + count == 64


@pytest.mark.parametrize("step", [2, 3, 5])
def test_every_pattern_fits_and_no_item_is_cut(step: int) -> None:
    for start in range(1, 65):
        numbers = list(range(start, 65, step))
        line = text(*numbers)
        assert len(line) <= ALARM_LIMIT
        body = line.removeprefix("UPS warnings: ").partition(" (")[0]
        known = {notice.text + "." for notice in NOTICES.values()}
        while body:
            item = next((each for each in known if body.startswith(each)), None)
            if item is None:
                assert body.startswith("("), body
                break
            body = body.removeprefix(item).lstrip()


def test_bits_without_a_text_are_told_by_number() -> None:
    assert text(59, 60) == "UPS warnings: Unknown warning #59. Unknown warning #60."


def test_many_long_alarms_of_the_status_never_pass_the_limit() -> None:
    assert len(alarm_text(["x" * 100 + "!"] * 4, [NOTICES[1]])) <= ALARM_LIMIT


def test_ranges() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == "#1-3 #7 #9-10"
    assert ranges([]) == ""
