"""The simulated UPS on the wire: it must say what the documents' units say, in every dialect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qxfleet.dialects.registry import DIALECTS, dialect_named
from qxfleet.dialects.spec import Dialect, Tier, Topic
from qxfleet.session.orders import prepare
from qxfleet.session.plans import derivation, filled, read
from qxfleet.testing.machine import Machine, Ratings, Returns, Source
from qxfleet.testing.population import fleet
from qxfleet.testing.simulator import SimulatedUps, Unknown
from qxfleet.testing.unit import Fault

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "megatec-vectors.json").read_text())

STATUS_BYTES, RATING_BYTES, VENDOR_BYTES = 47, 22, 39
"""Lengths with CR: megatec-family.md sections 4, 5 and 6.1."""


def dialect(name: str = "megatec") -> Dialect:
    found = dialect_named(name)
    assert found is not None
    return found


def simulated(name: str = "megatec", *, load: float = 40.0, online: bool = False, **options: object) -> SimulatedUps:
    unit = Machine(Ratings(line_interactive=not online), load_percent=load, noise=0.0)
    ups = SimulatedUps(dialect(name), machine=unit, **options)  # type: ignore[arg-type]
    unit.advance(0.0)
    return ups


def status_request(ups: SimulatedUps) -> bytes:
    return ups.dialect.tier(Tier.QUICK)[0].command


def status(ups: SimulatedUps, now_s: float) -> dict[str, float | str | bool]:
    frame = ups.answer(status_request(ups), now_s)
    assert frame is not None
    return read(ups.dialect.tier(Tier.QUICK)[0], frame[:-1])


every_dialect = pytest.mark.parametrize("name", ["megatec", "megatec/old", "mecer", "mustek", "zinto", "q1"])
"""The Megatec family. Voltronic units write their own replies: test_simulated_voltronic.py; the others are below."""

others = pytest.mark.parametrize(
    "other", [each for each in DIALECTS if each.source.startswith("extra")], ids=lambda dialect: dialect.name
)


@others
def test_a_unit_of_any_dialect_says_its_own_state(other: Dialect) -> None:
    """On mains, in an outage, in a test and before a shutdown, every question of its table is answered, and truly."""
    machine = Machine(Ratings(battery_v=12), load_percent=40.0, noise=0.0)
    ups = SimulatedUps(other, machine=machine)
    machine.advance(0.0)
    assert said(ups, 1.0).items() >= {"bit.utility_fail": False}.items()
    machine.set_mains(0.0)
    outage = said(ups, 2.0)
    assert outage["bit.utility_fail"] is True
    assert outage.get("input.voltage", 0.0) == 0.0
    machine.set_mains(230.0)
    if other.order("test.battery.start.quick"):
        machine.start_test(10)
        assert said(ups, 3.0).get("bit.test", True) is True
    machine.shut_down(60, Returns.NEVER)
    assert said(ups, 4.0).get("bit.shutdown", True) is True


def said(ups: SimulatedUps, now_s: float) -> dict[str, float | str | bool]:
    """What all its answers say together, its status last."""
    told: dict[str, float | str | bool] = {}
    for query in reversed(ups.dialect.queries):
        frame = ups.answer(filled(query.command, {"ups.id": "00"}) or b"", now_s)
        assert frame, query.command
        told.update(read(query, frame[:-1]))
    if rules := derivation(ups.dialect.derived):
        rules.into(told)
    return told


@others
def test_every_order_of_any_dialect_is_understood(other: Dialect) -> None:
    known: dict[str, float | str | bool] = {"ups.id": "00", "ups.firmware.aux": "PM-T", "ups.beeper.status": "enabled"}
    settings = {setting.name: setting.default for setting in other.settings}
    for order in other.orders:
        for form in order.forms:
            known |= {holds.name: holds.values[0] for holds in (*order.when, *form.needs) if holds.values}
        prepared = prepare(other, order.name, None, settings, known)
        ups = SimulatedUps(other, machine=Machine(Ratings(), noise=0.0), unknown=Unknown.NAK)
        for request in filter(None, (*prepared.first, prepared.request)):
            assert ups.answer(request, 0.0) != b"NAK\r", (order.name, request)


# -- compliance ------------------------------------------------------------------------------------------------------


@every_dialect
def test_templates_write_the_documents_own_frames(name: str) -> None:
    """megatec-family.md sections 5, 6.1, 7 and 12: the values of a published frame give that frame again."""
    published = {
        Topic.STATUS: (b"(226.0 195.0 226.0 014 49.0 27.5 30.0 00001000", {
            "input.voltage": 226.0, "input.voltage.fault": 195.0, "output.voltage": 226.0, "ups.load": 14.0,
            "input.frequency": 49.0, "battery.field": "27.5", "ups.temperature": 30.0, "bits": "00001000"}),
        Topic.RATING: (b"#220.0 000 024.0 50.0", {
            "input.voltage.nominal": 220.0, "input.current.nominal": 0, "battery.voltage.nominal": 24.0,
            "input.frequency.nominal": 50.0}),
        Topic.VENDOR: (b"#ACME UPS CO     RT-3000    VT12046Q  ", {
            "device.mfr": "ACME UPS CO", "device.model": "RT-3000", "ups.firmware": "VT12046Q"}),
        Topic.PROTOCOL: (b"(PI98", {"protocol": "PI98"}),
    }  # fmt: skip
    for query in dialect(name).queries:
        frame, values = published[query.topic]
        template = next(reply.render for reply in query.replies if reply.render)
        assert (template % values).encode() == frame


@every_dialect
@pytest.mark.parametrize("online", [False, True])
def test_what_a_unit_says_reads_back_as_what_it_is(name: str, online: bool) -> None:
    ups = simulated(name, online=online, maker="Kestrel Power", model="K1500", firmware="03.21")
    ups.machine.set_mains(221.0)
    expected: dict[Topic, dict[str, float | str | bool]] = {
        Topic.STATUS: {
            "input.voltage": 221.0, "output.voltage": 230.0 if online else 221.0, "ups.load": 40.0,
            "input.frequency": 50.0, "battery.voltage": 2.27 if online else 27.2, "bit.utility_fail": False,
            "bit.battery_low": False, "bit.regulating": False, "bit.failed": False, "bit.test": False,
            "bit.shutdown": False, "ups.type": "online" if online else "offline / line interactive",
            "ups.beeper.status": "enabled",
        },
        Topic.RATING: {
            "input.voltage.nominal": 230.0, "input.current.nominal": 4.0, "battery.voltage.nominal": 24.0,
            "input.frequency.nominal": 50.0,
        },
        Topic.VENDOR: {"device.mfr": "Kestrel Power", "device.model": "K1500", "ups.firmware": "03.21"},
        Topic.PROTOCOL: {"ups.firmware.aux": "Voltronic Power P98"},
    }  # fmt: skip
    for query in ups.dialect.queries:
        frame = ups.answer(query.command, 1.0)
        assert frame is not None
        assert frame.endswith(b"\r")
        values = read(query, frame[:-1])
        assert values.items() >= expected[query.topic].items()


@every_dialect
def test_frames_have_the_family_s_lengths_whatever_happens(name: str) -> None:
    ups = simulated(name)
    ups.machine.set_mains(0.0)
    lengths = set()
    for second in range(0, 4000, 10):
        frame = ups.answer(status_request(ups), float(second))
        if frame is None:  # battery empty, mains off: nothing is left to answer with
            break
        lengths.add(len(frame))
    assert lengths == {STATUS_BYTES}
    assert second > 100


def test_ratings_and_vendor_text_have_the_family_s_lengths() -> None:
    ups = simulated("megatec")
    assert len(ups.answer(b"F\r", 0.0) or b"") == RATING_BYTES
    assert len(ups.answer(b"I\r", 0.0) or b"") == VENDOR_BYTES


def test_a_battery_above_99_9_volts_shifts_the_frame_by_one() -> None:
    """Section 8: a five-character battery field."""
    ups = SimulatedUps(dialect(), machine=Machine(Ratings(battery_v=192), noise=0.0), per_cell=False)
    frame = ups.answer(b"Q1\r", 0.0) or b""
    assert len(frame) == STATUS_BYTES + 1
    assert frame.split()[5] == b"217.9"


@every_dialect
def test_every_published_order_of_the_dialect_is_understood(name: str) -> None:
    """The instant commands of the vectors: each is carried out, none is taken for an unknown string."""
    commands = {
        vector["command"].encode()
        for vector in VECTORS
        if vector["kind"] == "instcmd" and vector["dialect"] == name and vector["command"]
    }
    assert len(commands) >= 9
    accepted = b"(ACK\r" if name == "mecer" else None
    for command in commands:
        assert simulated(name).answer(command, 0.0) == accepted, command


@every_dialect
@pytest.mark.parametrize(
    "request_", [b"S.1\r", b"S11\r", b"S00R0003\r", b"S.5R003\r", b"T00\r", b"T100\r", b"S\r", b"q1\r", b"QX\r", b"CTT\r"]
)
def test_what_is_no_order_is_refused_in_the_unit_s_style(name: str, request_: bytes) -> None:
    """Sections 8 and 10.2: out of the unit's limits, or not known: echo, or (NAK from a mecer."""
    ups = simulated(name)
    assert ups.answer(request_, 0.0) == (b"(NAK\r" if name == "mecer" else request_)
    assert (ups.machine.shutting_down, ups.machine.testing) == (False, False)


@pytest.mark.parametrize(
    ("style", "reply"),
    [
        (Unknown.ECHO, b"M\r"), (Unknown.SILENCE, None), (Unknown.N, b"N\r"), (Unknown.NAK, b"NAK\r"),
        (Unknown.BRACKET_NAK, b"(NAK\r"),
    ],
)  # fmt: skip
def test_units_differ_in_what_they_say_to_unknown_strings(style: Unknown, reply: bytes | None) -> None:
    assert simulated(unknown=style).answer(b"M\r", 0.0) == reply


@every_dialect
def test_a_unit_answers_its_own_queries_only(name: str) -> None:
    """Section 3, the dialects at a glance."""
    known = {
        "megatec": {b"Q1", b"F", b"I"}, "megatec/old": {b"D", b"F", b"I"}, "mecer": {b"Q1", b"F", b"I", b"QPI"},
        "mustek": {b"QS", b"F", b"I"}, "zinto": {b"Q1", b"F", b"FW?"}, "q1": {b"Q1"},
    }[name]  # fmt: skip
    ups = simulated(name, unknown=Unknown.SILENCE)
    asked = (b"Q1", b"QS", b"D", b"F", b"I", b"FW?", b"QPI", b"M")
    assert {query for query in asked if ups.answer(query + b"\r", 0.0)} == known


def test_only_a_p98_takes_tests_in_tenths_of_a_minute() -> None:
    """Sections 7 and 10.3."""
    p98, other = simulated("mecer"), simulated("mecer", protocol=None)
    assert (p98.answer(b"QPI\r", 0.0), other.answer(b"QPI\r", 0.0)) == (b"(PI98\r", b"(NAK\r")
    assert (p98.answer(b"T.2\r", 0.0), other.answer(b"T.2\r", 0.0)) == (b"(ACK\r", b"(NAK\r")
    p98.machine.advance(11.9)
    assert p98.machine.testing
    p98.machine.advance(12.1)
    assert not p98.machine.testing


# -- orders, megatec-family.md sections 10.4 and 10.5 ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "off_at", "back_at"),
    [
        (b"S.5R0003", 30, 210), (b"S.2R0003", 12, 192), (b"S.9R0003", 54, 234), (b"S01R0003", 60, 240),
        (b"S10R0003", 600, 780), (b"S.5R0001", 30, 90), (b"S.5", 30, 40), (b"S10", 600, 610),
        (b"S01R0000", 60, None), (b"S00R0000", 0, None),
    ],
)  # fmt: skip
def test_shutdown_orders_switch_off_and_on_at_their_times(order: bytes, off_at: int, back_at: int | None) -> None:
    ups = simulated()
    assert ups.answer(order + b"\r", 0.0) is None
    if off_at:
        assert status(ups, off_at - 0.1).items() >= {"bit.shutdown": True, "output.voltage": 230.0}.items()
    assert status(ups, off_at + 0.1).items() >= {"output.voltage": 0.0, "ups.load": 0.0}.items()
    if back_at is None:
        assert status(ups, off_at + 90000.0)["output.voltage"] == 0.0
    else:
        assert status(ups, back_at - 0.1)["output.voltage"] == 0.0
        assert status(ups, back_at + 0.1).items() >= {"bit.shutdown": False, "output.voltage": 230.0}.items()


def test_c_cancels_a_countdown_and_switches_an_output_on_again() -> None:
    ups = simulated()
    ups.answer(b"S.5R0003\r", 0.0)
    ups.answer(b"C\r", 5.0)
    assert status(ups, 60.0).items() >= {"bit.shutdown": False, "output.voltage": 230.0}.items()
    ups.answer(b"S00R0000\r", 60.0)
    ups.answer(b"C\r", 65.0)
    assert status(ups, 69.9)["output.voltage"] == 0.0
    assert status(ups, 70.1)["output.voltage"] == 230.0


@pytest.mark.parametrize(("order", "lasts_s"), [(b"T", 10), (b"T01", 60), (b"T10", 600)])
def test_battery_tests_last_as_long_as_ordered(order: bytes, lasts_s: int) -> None:
    ups = simulated(load=20.0)
    resting = status(ups, 0.0)["battery.voltage"]
    ups.answer(order + b"\r", 0.0)
    during = status(ups, lasts_s - 0.1)
    assert during.items() >= {"bit.test": True, "bit.utility_fail": False, "output.voltage": 230.0}.items()
    assert isinstance(during["battery.voltage"], float)
    assert isinstance(resting, float)
    assert during["battery.voltage"] < resting - 1
    assert status(ups, lasts_s + 0.1)["bit.test"] is False


def test_ct_ends_a_test_and_tl_runs_until_low() -> None:
    ups = simulated(load=80.0)
    ups.answer(b"T10\r", 0.0)
    ups.answer(b"CT\r", 3.0)
    assert status(ups, 3.1)["bit.test"] is False
    ups.answer(b"TL\r", 10.0)
    lows = [second for second in range(11, 7200) if not status(ups, float(second))["bit.test"]]
    assert 60 < lows[0] < 7000


def test_q_toggles_the_beeper() -> None:
    ups = simulated()
    states = []
    for second in range(3):
        states.append(status(ups, float(second))["ups.beeper.status"])
        ups.answer(b"Q\r", float(second))
    assert states == ["enabled", "disabled", "enabled"]


def test_mecer_says_no_to_a_test_during_an_outage_and_others_say_nothing() -> None:
    mecer, megatec = simulated("mecer"), simulated()
    for ups in (mecer, megatec):
        ups.machine.set_mains(0.0)
    assert (mecer.answer(b"T\r", 0.0), megatec.answer(b"T\r", 0.0)) == (b"(NAK\r", None)
    assert not mecer.machine.testing


def test_an_outage_shows_in_the_frame() -> None:
    ups = simulated()
    ups.machine.set_mains(0.0)
    seen = status(ups, 1.0)
    assert seen.items() >= {
        "bit.utility_fail": True, "input.voltage": 0.0, "input.voltage.fault": 0.0, "output.voltage": 230.0,
    }.items()  # fmt: skip
    ups.machine.set_mains(230.0)
    assert status(ups, 2.0).items() >= {"bit.utility_fail": False, "input.voltage.fault": 0.0}.items()
    assert status(ups, 3.0)["input.voltage.fault"] == 230.0


def test_a_unit_with_neither_battery_nor_mains_is_silent_until_mains_return() -> None:
    ups = simulated()
    ups.machine.battery.set_charge(0.02)
    ups.machine.set_mains(0.0)
    assert ups.answer(b"Q1\r", 3600.0) is None
    ups.machine.set_mains(230.0)
    assert status(ups, 3601.0)["output.voltage"] == 0.0
    assert status(ups, 3611.0)["output.voltage"] == 230.0


# -- faults ----------------------------------------------------------------------------------------------------------


def test_silent_neither_answers_nor_acts() -> None:
    ups = simulated()
    ups.set_fault(Fault.SILENT)
    assert (ups.answer(b"Q1\r", 0.0), ups.answer(b"T\r", 0.0), ups.machine.testing) == (None, None, False)
    ups.clear_fault()
    assert ups.answer(b"Q1\r", 0.0)


def test_garbage_is_never_a_frame() -> None:
    ups = simulated()
    ups.set_fault(Fault.GARBAGE)
    for second in range(50):
        reply = ups.answer(b"Q1\r", float(second))
        assert reply is not None
        assert reply.endswith(b"\r")
        assert all(byte >= 0x80 for byte in reply[:-1])


def test_late_and_slow_first_say_how_late() -> None:
    ups = simulated(think_s=0.05)
    ups.set_fault(Fault.SLOW_FIRST, "2")
    delays = []
    for _ in range(2):
        ups.answer(b"Q1\r", 0.0)
        delays.append(ups.delay_s)
    ups.set_fault(Fault.LATE, "3")
    ups.plugged_in()
    ups.answer(b"Q1\r", 0.0)
    assert [*delays, ups.delay_s] == pytest.approx([2.05, 0.05, 5.05])


def test_wrong_answers_the_query_before() -> None:
    ups = simulated()
    ups.answer(b"F\r", 0.0)
    ups.set_fault(Fault.WRONG)
    answers = [ups.answer(request, 0.0) or b"" for request in (b"I\r", b"Q1\r", b"F\r")]
    assert [reply[:4] for reply in answers] == [b"#230", b"#ACM", b"(230"]


def test_echo_returns_everything_and_does_nothing() -> None:
    ups = simulated()
    ups.set_fault(Fault.ECHO)
    assert (ups.answer(b"Q1\r", 0.0), ups.answer(b"T\r", 0.0)) == (b"Q1\r", b"T\r")
    assert not ups.machine.testing


def test_lost_cr_costs_exactly_the_cr() -> None:
    ups = simulated()
    whole = ups.answer(b"F\r", 0.0) or b""
    ups.set_fault(Fault.LOST_CR)
    assert ups.answer(b"F\r", 0.0) == whole[:-1]


@pytest.mark.parametrize(("bit", "column"), [("0", 38), ("3", 41), ("6", 44)])
def test_nul_bit_replaces_a_zero_and_only_a_zero(bit: str, column: int) -> None:
    """Columns by megatec-family.md section 4.1."""
    ups = simulated()
    ups.set_fault(Fault.NUL_BIT, bit)
    frame = ups.answer(b"Q1\r", 0.0) or b""
    assert [index for index, byte in enumerate(frame) if byte == 0] == [column]
    ups.set_fault(Fault.NUL_BIT, "4")  # line-interactive: a 1
    assert b"\0" not in (ups.answer(b"Q1\r", 0.0) or b"\0")


def test_frozen_repeats_the_frame_until_it_is_cleared() -> None:
    ups = SimulatedUps(dialect(), seed=3)
    ups.set_fault(Fault.FROZEN)
    frames = {ups.answer(b"Q1\r", float(second)) for second in range(0, 600, 2)}
    assert len(frames) == 1
    ups.machine.set_mains(0.0)
    assert ups.answer(b"Q1\r", 601.0) in frames
    ups.clear_fault(Fault.FROZEN)
    assert ups.answer(b"Q1\r", 602.0) not in frames


def test_zero_is_the_uninitialised_bridge_s_frame() -> None:
    """quirks.md: all zero, still 47 bytes."""
    ups = simulated()
    ups.set_fault(Fault.ZERO)
    assert ups.answer(b"Q1\r", 0.0) == b"(000.0 000.0 000.0 000 00.0 00.0 00.0 00000000\r"


def test_stuck_bits() -> None:
    ups = simulated()
    ups.set_fault(Fault.STUCK_SHUTDOWN_BIT)
    ups.set_fault(Fault.STUCK_BEEPER)
    ups.answer(b"Q\r", 0.0)
    assert status(ups, 1.0).items() >= {"bit.shutdown": True, "ups.beeper.status": "enabled"}.items()


def test_a_dead_battery_fails_its_test_and_drops_the_load_in_an_outage() -> None:
    ups = simulated()
    ups.set_fault(Fault.DEAD_BATTERY, "4")
    ups.answer(b"T\r", 0.0)
    assert status(ups, 20.0).items() >= {"bit.failed": True, "bit.test": False, "output.voltage": 230.0}.items()
    ups.machine.battery.set_charge(1.0)
    ups.machine.set_mains(0.0)
    ups.machine.advance(30.0)
    assert ups.machine.source is Source.OFF


@pytest.mark.parametrize(("name", "reply"), [("megatec", None), ("mecer", b"(ACK\r")])
def test_ack_but_ignore(name: str, reply: bytes | None) -> None:
    ups = simulated(name)
    ups.set_fault(Fault.ACK_BUT_IGNORE)
    assert ups.answer(b"T\r", 0.0) == reply
    assert status(ups, 1.0)["bit.test"] is False


def test_refuse_matches_a_pattern_and_refuse_once_only_once() -> None:
    ups = simulated("mecer")
    ups.set_fault(Fault.REFUSE, "T*")
    assert (ups.answer(b"T10\r", 0.0), ups.answer(b"TL\r", 0.0), ups.answer(b"Q\r", 0.0)) == (
        b"(NAK\r", b"(NAK\r", b"(ACK\r",
    )  # fmt: skip
    assert not ups.machine.testing
    ups.set_fault(Fault.REFUSE_ONCE, "F")
    assert (ups.answer(b"Q1\r", 0.0) or b"")[:1] == b"("
    assert ups.answer(b"F\r", 0.0) == b"(NAK\r"
    assert (ups.answer(b"F\r", 0.0) or b"")[:1] == b"#"


def test_a_silent_sort_of_unit_refuses_with_a_word() -> None:
    """Silence would mean success for an order."""
    ups = simulated(unknown=Unknown.SILENCE)
    ups.set_fault(Fault.REFUSE, "T")
    assert ups.answer(b"T\r", 0.0) == b"NAK\r"


@pytest.mark.parametrize(("fault", "request_"), [(Fault.NO_RATING, b"F\r"), (Fault.NO_VENDOR, b"I\r")])
def test_a_query_can_be_unknown_to_a_unit(fault: Fault, request_: bytes) -> None:
    ups = simulated()
    ups.set_fault(fault)
    assert ups.answer(request_, 0.0) == request_


def test_a_test_may_raise_utility_fail() -> None:
    """Section 4.3: 10001101, a test running on battery, not an outage."""
    ups = simulated()
    ups.set_fault(Fault.TEST_RAISES_UTILITY_FAIL)
    ups.answer(b"T\r", 0.0)
    assert (ups.answer(b"Q1\r", 1.0) or b"").endswith(b" 10001101\r")
    assert (ups.answer(b"Q1\r", 11.0) or b"").endswith(b" 00001001\r")


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        (Fault.LATE, "soon"), (Fault.LATE, "-1"), (Fault.LATE, "nan"), (Fault.NUL_BIT, "8"), (Fault.REFUSE, ""),
        (Fault.REFUSE_ONCE, ""), (Fault.SILENT, "3"), (Fault.DEAD_BATTERY, "1e9"),
    ],
)  # fmt: skip
def test_a_fault_s_value_is_checked(fault: Fault, value: str) -> None:
    ups = simulated()
    with pytest.raises(ValueError, match=fault.value):
        ups.set_fault(fault, value)
    assert not ups.faults


# -- fleets ----------------------------------------------------------------------------------------------------------


def test_a_fleet_speaks_the_commonest_dialects_in_turn_and_differs() -> None:
    upses = fleet(24)
    assert [ups.name for ups in upses[:3]] == ["ups-01", "ups-02", "ups-03"]
    usual = {"mecer", "zinto", "megatec", "q1", "mustek", "megatec/old", "voltronic"}
    assert {ups.dialect.name for ups in upses[: len(usual)]} == usual
    assert [ups.groups for ups in upses[:3]] == [("feed-a", "rack1"), ("feed-b", "rack1"), ("feed-a", "rack2")]
    assert len({ups.machine.battery.age_years for ups in upses}) > 12
    assert len({ups.machine.load_percent for ups in upses}) > 12
    assert len({ups.machine.ratings for ups in upses}) > 4


def test_a_fleet_is_the_same_for_the_same_seed() -> None:
    def frames(seed: int) -> list[bytes | None]:
        return [ups.answer(status_request(ups), 0.0) for ups in fleet(12, seed=seed)]

    assert frames(1) == frames(1) != frames(2)


def test_a_fleet_of_one_dialect_has_names_that_sort() -> None:
    upses = fleet(250, dialect("zinto"))
    names = [ups.name for ups in upses]
    assert names == sorted(names)
    assert {ups.dialect.name for ups in upses} == {"zinto"}
