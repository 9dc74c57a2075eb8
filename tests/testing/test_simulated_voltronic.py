"""The simulated voltronic units against the protocol's published exchanges, not against our tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from qxfleet.dialects.registry import dialect_named
from qxfleet.model.clock import Clock
from qxfleet.model.options import UpsOptions
from qxfleet.session.probe import probe
from qxfleet.testing.control import Control
from qxfleet.testing.farm import Farm
from qxfleet.testing.machine import Machine
from qxfleet.testing.population import fleet
from qxfleet.testing.unit import Fault
from qxfleet.testing.voltronic.models import MODELS, Model, model
from qxfleet.testing.voltronic.ups import VoltronicUps
from qxfleet.transports.serial_port import SerialTransport

DOCUMENT = json.loads((Path(__file__).parents[1] / "data" / "voltronic-vectors.json").read_text())
VECTORS = DOCUMENT["vectors"]
BASELINE = DOCUMENT["baseline"]

ACK, NAK = b"(ACK\r", b"(NAK\r"

EVERYONE = ("QPI", "QGS", "QRI", "QMD", "F", "QMF", "QVFW", "QID", "I", "QMOD", "QFS", "QWS", "QBV", "QLDL", "QFLAG", "RE0")
"""What every unit answers: voltronic.md section 3.3, "base set", without what depends on the model."""


def unit(protocol: str = "P01", *, product: Model | None = None, **options: object) -> VoltronicUps:
    dialect = dialect_named("voltronic")
    assert dialect is not None
    made = product or model(protocol)
    return VoltronicUps(dialect, made, machine=Machine(made.ratings, noise=0, load_percent=23), **options)  # type: ignore[arg-type]


def ask(ups: VoltronicUps, text: str, now_s: float = 0.0) -> str:
    reply = ups.answer(text.encode() + b"\r", now_s)
    assert reply is not None, text
    assert reply.endswith(b"\r")
    return reply[:-1].decode("latin-1")


def shape(reply: str) -> str:
    """Digits and QFLAG's or a name's letters told by kind only."""
    return re.sub(r"\d", "9", reply)


every_model = pytest.mark.parametrize("protocol", [each.protocol for each in MODELS])


# -- what it says ----------------------------------------------------------------------------------------------------


def test_there_is_a_unit_of_every_protocol_number() -> None:
    assert {each.protocol for each in MODELS} == {
        "P00", "P01", "P02", "P03", "P08", "P09", "P10", "P13", "P14", "P31", "P99",
    }  # fmt: skip


def test_the_usual_unit_answers_the_published_frames() -> None:
    """OLHVT1K0 of the reference and the captures, to the letter."""
    ups = unit("P01")
    same = {query: ask(ups, query) for query in BASELINE if query not in ("QGS", "QBV", "QLDL", "QPD", "QFLAG", "I", "F")}
    assert same == {query: BASELINE[query] for query in same}
    assert ask(ups, "I") == "#BOH             OLHVT1K0   00322.02  "
    assert ask(ups, "QFLAG") == BASELINE["QFLAG"] + "j"


BAD = "short|garbage|invalid|wrong|74-digits"
"""Names of vectors whose reply no unit should give."""

GOOD: dict[str, set[str]] = {}
for exchange in VECTORS:
    if exchange["kind"] == "query" and exchange.get("reply") and not re.search(BAD, exchange["id"]):
        GOOD.setdefault(exchange["command"], set()).add(shape(exchange["reply"]))


@every_model
@pytest.mark.parametrize("state", ["mains", "outage", "brown-out", "test", "off", "overload", "fault"])
def test_replies_have_the_published_shapes(protocol: str, state: str) -> None:
    """Columns, separators, dashes and lengths as in the vectors, in whatever state."""
    ups = unit(protocol)
    ask(ups, "QGS")
    match state:
        case "outage":
            ups.machine.set_mains(0)
        case "brown-out":
            ups.machine.set_mains(0.85 * ups.machine.ratings.volts)
        case "test":
            assert ask(ups, "T") == "(ACK"
        case "off":
            assert ask(ups, "S.2") == "(ACK"
        case "overload":
            ups.machine.load_percent = 130.0
        case "fault":
            ups.state.break_down("43")
    for query in ("QPI", "QGS", "QRI", "F", "QMOD", "QWS", "QLDL", "RE0", "QFS"):
        reply = ask(ups, query, 30.0 if state == "off" else 5.0)
        if query == "QGS":
            bus = "---.-" if "---.- ---.-" in reply[33:44] else "999.9"
            volts = "99.99" if reply[47] == "." else "999.9"
            assert shape(reply) == f"(999.9 99.9 999.9 99.9 999.9 999 {bus} ---.- {volts} ---.- 999.9 999999999999"
        else:
            assert shape(reply.replace("---.- ---.-", "343.8 ---.-")) in GOOD[query], (query, reply)
    assert re.fullmatch(r"\([#\w-]{15} [#\d]{7} \d\d \d/\d \d{3} \d{3} \d\d 12\.0", ask(ups, "QMD"))
    assert re.fullmatch(r"\(\d{3}\.\d \d\d \d\d \d{3} (\d{3}|\d{5})", ask(ups, "QBV"))
    assert re.fullmatch(r"\(VERFW: ?\d{5}\.\d\d", ask(ups, "QVFW"))
    assert re.fullmatch(r"#.{15} .{10} .{10}", ask(ups, "I"))


@every_model
def test_a_unit_has_what_its_number_has_and_nothing_else(protocol: str) -> None:
    """voltronic.md section 3.3."""
    ups = unit(protocol)
    known = set(EVERYONE)
    if protocol not in ("P00", "P08"):
        known |= {"QPD", "QPAR"}
    if "e" in ask(ups, "QFLAG"):
        known |= {"QHE", "QFRE"}
    if protocol not in ("P00", "P08", "P31"):
        known |= {"QBYV", "QBYF"}
    if protocol in ("P03", "P09", "P10"):
        known |= {"Q3PV", "Q3PC"}
    if protocol in ("P09", "P10"):
        known |= {"Q3OV", "Q3OC", "Q3LD", "Q3YV"}
    if protocol == "P31":
        known |= {"QBT", "QGR"}
    outlets = {"P03": 4}.get(protocol, 0)
    known |= {f"QSK{kind}{number}" for kind in ("", "T") for number in range(1, outlets + 1)}
    others = ("QBDR", "QS", "M", "QSK5", "QPIGS", "qgs", "QGSX", "")
    asked = {vector["command"] for vector in VECTORS if vector["kind"] == "query"} | {*others} | {
        f"QSK{kind}{number}" for kind in ("", "T") for number in range(1, 5)
    }  # fmt: skip
    assert {query for query in asked if ask(ups, query) != "(NAK"} == known


@pytest.mark.parametrize(("protocol", "bytes_"), [("P10", 37), ("P09", 19)])
def test_bypass_phases_are_told_in_the_length_of_the_model(protocol: str, bytes_: int) -> None:
    """voltronic.md section 4.5."""
    assert len(unit(protocol).answer(b"Q3YV\r", 0.0) or b"") == bytes_


def test_phases_differ_and_their_pairs_belong_to_them() -> None:
    """Three phases 120° apart, two of them 180°."""
    three = [float(text) for text in ask(unit("P10"), "Q3PV")[1:].split()]
    assert len(set(three)) == 6
    assert three[3] == pytest.approx((three[0] ** 2 + three[1] ** 2 + three[0] * three[1]) ** 0.5, abs=0.1)
    two = ask(unit("P09"), "Q3OV")[1:].split()
    assert (two[2], two[4], two[5]) == ("---.-",) * 3
    assert float(two[3]) == pytest.approx(float(two[0]) + float(two[1]), abs=0.11)


@pytest.mark.parametrize(
    ("text", "crc"), [("(ACK", b"\x39\x20"), ("(NAK", b"ss"), ("123456789", b"\x31\xc3"), ("T47", b"\x0e\xeb")]
)
def test_a_unit_with_a_crc_closes_replies_as_published(text: str, crc: bytes) -> None:
    """voltronic.md section 1.5."""
    assert unit(crc=True)._sealed(text.encode() + b"\r") == text.encode() + crc + b"\r"


# -- modes, bits, warnings, faults -----------------------------------------------------------------------------------


def bit(ups: VoltronicUps, column: int, now_s: float = 0.0) -> str:
    return ask(ups, "QGS", now_s)[column]


def modes_of_a_life() -> Iterator[tuple[str, VoltronicUps, float, str]]:
    ups = unit("P02")
    yield "line", ups, 0.0, "L"
    ups.machine.set_mains(0)
    yield "outage", ups, 1.0, "B"
    ups.machine.set_mains(230)
    yield "mains again", ups, 2.0, "L"
    assert ask(ups, "T", 3.0) == "(ACK"
    yield "quick test", ups, 4.0, "T"
    yield "test over", ups, 20.0, "L"
    ups.machine.forced_bypass = True
    yield "bypass", ups, 21.0, "Y"
    ups.machine.forced_bypass = False
    assert ups.press("PEE")
    yield "eco", ups, 22.0, "E"
    ups.machine.set_mains(200)
    yield "outside the eco limits", ups, 23.0, "L"
    ups.machine.set_mains(230)
    assert ups.press("PDE")
    assert ups.press("PEV")
    yield "converter", ups, 24.0, "C"
    assert ups.press("PDV")
    ups.state.break_down("1A")
    yield "fault", ups, 25.0, "F"
    ups.state.repair()
    assert ask(ups, "SOFF", 26.0) == "(ACK"
    yield "off", ups, 60.0, "S"
    assert ask(ups, "SON", 60.0) == "(ACK"
    yield "on", ups, 75.0, "L"
    assert ask(ups, "S.2R0001", 80.0) == "(ACK"
    yield "counting", ups, 85.0, "L"
    yield "shut down", ups, 93.0, "D"
    yield "coming back", ups, 148.0, "P"
    yield "back", ups, 153.0, "L"


def test_every_mode_letter_comes_from_the_machine() -> None:
    """voltronic.md section 5.1: all ten."""
    seen = [(label, ask(ups, "QMOD", now_s), letter) for label, ups, now_s, letter in modes_of_a_life()]
    assert [(label, said) for label, said, _ in seen] == [(label, f"({letter}") for label, _, letter in seen]
    assert {letter for _, _, letter in seen} == set("PSYLBTFECD")


def test_status_bits_stand_where_they_are_published() -> None:
    """voltronic.md section 5.2."""
    ups = unit("P02")
    assert ask(ups, "QGS")[63:] == "100000000000"
    assert ask(unit("P00"), "QGS")[63:65] == "01"
    ups.machine.set_mains(0)
    assert bit(ups, 65) == "1"
    ups.machine.battery.set_charge(0.03)
    assert bit(ups, 66) == "1"
    assert ask(ups, "QWS")[8] == "1"
    ups.machine.battery.set_charge(1)
    ups.machine.set_mains(230)
    ups.machine.forced_bypass = True
    assert bit(ups, 67) == "1"
    ups.machine.forced_bypass = False
    ups.state.break_down("43")
    assert bit(ups, 68) == "1"
    ups.state.repair()
    ups.state.warn(11)
    assert bit(ups, 69) == "1"
    ups.state.raised.clear()
    ask(ups, "T", 2.0)
    assert ask(ups, "QGS", 3.0)[63:] == "100000010000"
    assert ask(ups, "QGS", 30.0)[63:] == "100000000001"
    ask(ups, "S03", 31.0)
    assert ask(ups, "QGS", 32.0)[63:] == "100000001001"
    assert ask(ups, "CS", 33.0) == "(ACK"
    assert ask(ups, "QGS", 33.0)[63:] == "100000000001"
    ups.machine.beeper = False
    assert bit(ups, 72, 34.0) == "1"


def test_a_test_that_finds_a_dead_battery_has_failed() -> None:
    ups = unit("P02")
    ask(ups, "QGS")
    ups.set_fault(Fault.DEAD_BATTERY, "2")
    ask(ups, "T", 1.0)
    assert ask(ups, "QGS", 20.0)[73:] == "10"


def test_a_deep_test_ends_well_when_the_battery_is_low() -> None:
    ups = unit("P02")
    assert ask(ups, "TL") == "(ACK"
    for now_s in range(60, 24000, 60):
        if ask(ups, "QMOD", now_s) != "(T":
            break
    assert now_s > 600
    assert ask(ups, "QGS", now_s)[73:] == "01"


@pytest.mark.parametrize("number", range(1, 65))
def test_every_warning_can_be_raised_and_taken_back(number: int) -> None:
    ups = unit("P01")
    ups.state.warn(number)
    assert ask(ups, "QWS") == "(" + "0" * (number - 1) + "1" + "0" * (64 - number)
    ups.state.raised.clear()
    assert ask(ups, "QWS") == "(" + "0" * 64


CODES = sorted({row["code"] for name in ("fault_codes", "fault_codes_p31") for row in DOCUMENT["tables"][name]})


@pytest.mark.parametrize("code", CODES)
def test_every_fault_can_be_raised_and_its_record_stays(code: str) -> None:
    """voltronic.md section 7: without a fault a unit tells the old record."""
    ups = unit("P31")
    assert ask(ups, "QFS") == "(OK"
    ups.state.break_down(code)
    record = ask(ups, "QFS")
    assert shape(record[3:]) == shape(" 212.1 50.0 005.6 49.9 006 010.6 343.8 ---.- 026.2 021.8 01101100")
    assert (record[1:3], ask(ups, "QMOD"), bit(ups, 68)) == (code, "(F", "1")
    ups.state.repair()
    assert (ask(ups, "QFS"), ask(ups, "QMOD"), bit(ups, 68)) == (record, "(L", "0")


def test_outlets_are_cut_after_their_delay_on_battery_and_warned_of() -> None:
    ups = unit("P03")
    assert ask(ups, "PSK2003") == "(ACK"
    ups.machine.set_mains(0)
    assert [ask(ups, f"QSK{n}", 100.0) for n in (1, 2)] == ["(1", "(1"]
    assert ask(ups, "QWS", 100.0)[55] == "0"
    assert ask(ups, "QWS", 130.0)[55] == "1"
    assert [ask(ups, f"QSK{n}", 190.0) for n in (1, 2)] == ["(1", "(0"]
    ups.machine.set_mains(230)
    assert ask(ups, "QSK2", 200.0) == "(1"


# -- orders and settings ---------------------------------------------------------------------------------------------


def _as_in(vector: dict[str, object]) -> VoltronicUps:
    """A unit in which the vector's order makes sense: all capabilities, four outlets, silenced if it is to beep again."""
    product = model(str(vector["protocol"]))
    ratings = product.ratings
    if "006 024.0" in str(vector.get("context")):
        ratings = replace(ratings, va=1400)
    letters = "pbroasvegdcfjlnqw"
    ups = unit(product=replace(product, enabled=letters, disabled="", outlets=4, ratings=ratings))
    if "(S" in str(vector.get("context")):
        ask(ups, "SOFF")
    if str(vector["command"]) == "BZOFF":
        ups.machine.set_mains(0)
    if str(vector["command"]) == "CS":
        ask(ups, "S.5")
    return ups


WIRE = [
    vector for vector in VECTORS
    if vector["kind"] in ("instcmd", "set", "config") and vector["command"] and vector["reply"] == "(ACK"
]  # fmt: skip


@pytest.mark.parametrize("vector", WIRE, ids=[vector["id"] for vector in WIRE])
def test_every_published_order_is_carried_out(vector: dict[str, object]) -> None:
    assert ask(_as_in(vector), str(vector["command"])) == "(ACK"


def test_there_are_as_many_orders_as_published() -> None:
    assert len(WIRE) > 110


OUT_OF_PLACE = [
    "S.1", "S00", "S100", "S.5R003", "S00R0003", "S.5R", "T00", "T.1", "T100", "SK", "SKON5", "SKON0", "SKOFF", "BZ",
    "CSS", "SO", "PEX", "PEe", "PE", "BATN0", "BATN10", "BATGN00", "BATGN1", "W0E19", "W0E25", "W0E", "PSK5001", "PSK1",
    "PSK11000", "HEH", "HEHabc", "PPD002", "PPD090", "PBT00", "PGR00", "PF", "FREH60.9", "FREH53", "HEH236", "HEL224",
    "PHV265", "PLV169", "PGF50.9", "PSF49.1",
]  # fmt: skip


@pytest.mark.parametrize("order", OUT_OF_PLACE)
def test_what_is_out_of_its_limits_or_not_there_is_refused(order: str) -> None:
    ups = unit("P01")
    before = {query: ask(ups, query) for query in BASELINE}
    assert ask(ups, order) == "(NAK"
    assert {query: ask(ups, query) for query in BASELINE} == before


LIMITED = {
    "input.transfer.high": ("HEH", 1, "03.0f"), "input.transfer.low": ("HEL", 1, "03.0f"),
    "input.frequency.high": ("FREH", 0.1, "04.1f"), "input.frequency.low": ("FREL", 0.1, "04.1f"),
    "max_bypass_volt": ("PHV", 1, "03.0f"), "min_bypass_volt": ("PLV", 1, "03.0f"),
    "max_bypass_freq": ("PGF", 0.1, "04.1f"), "min_bypass_freq": ("PSF", 0.1, "04.1f"),
}  # fmt: skip
"""Setting → order, its step, its spelling."""


def published_limits(setting: str, protocol: str, volts: int, hertz: int) -> tuple[float, float] | None:
    """From the table of the vectors, which was confirmed on the incumbent."""
    def number(bound: str | float) -> float:
        return float(eval(bound, {"N": volts})) if isinstance(bound, str) else float(bound)

    for rule in DOCUMENT["tables"]["settable_ranges"][setting]["rules"]:
        if protocol in rule["protocols"]:
            key = next(k for k in (str(hertz), "N>=200" if volts >= 200 else "N<200", "any") if k in rule)
            low, high = rule[key]
            return number(low), number(high)
    return None


@every_model
@pytest.mark.parametrize("volts", [230, 120])
@pytest.mark.parametrize("hertz", [50, 60])
@pytest.mark.parametrize("setting", LIMITED)
def test_limits_are_the_published_ones(protocol: str, volts: int, hertz: int, setting: str) -> None:
    """voltronic.md section 9.1, both ends and just beyond, for each of the 44 combinations."""
    product = model(protocol)
    ups = unit(product=replace(product, ratings=replace(product.ratings, volts=volts, hertz=hertz), input_v=volts))
    lead, step, form = LIMITED[setting]
    limits = published_limits(setting, protocol, volts, hertz)
    if limits is None:
        assert ask(ups, f"{lead}{volts if step == 1 else hertz + 0.5:{form}}") == "(NAK"
        return
    for value, accepted in ((limits[0], "(ACK"), (limits[1], "(ACK"), (limits[0] - step, "(NAK"), (limits[1] + step, "(NAK")):
        assert ask(ups, f"{lead}{value:{form}}") == accepted, value


@every_model
def test_what_a_unit_stands_at_lies_within_its_own_limits(protocol: str) -> None:
    settings = unit(protocol).state.settings
    for lead, (low, high) in settings.bounds.items():
        stands = settings.battery_low_v if lead == "W0E" else settings.limits[lead]
        assert low <= stands <= high, lead


def test_settings_show_in_their_queries_and_survive_a_pulled_plug() -> None:
    ups = unit("P03")
    for order in ("PEE", "PDJ", "PEJ", "HEH250", "HEL210", "FREH53.5", "FREL46.5", "PHV260", "PLV150", "PGF54.0", "PSF46.0",
                  "BATN8", "BATGN03", "W0E23", "PSK4999", "PPD240"):  # fmt: skip
        assert ask(ups, order) == "(ACK", order
    ups.plugged_in()
    shown = {query: ask(ups, query) for query in ("QHE", "QFRE", "QBYV", "QBYF", "RE0", "QSKT4", "QPD")}
    assert shown == {
        "QHE": "(250 210", "QFRE": "(53.5 46.5", "QBYV": "(260 150", "QBYF": "(54.0 46.0", "RE0": "#23", "QSKT4": "(999",
        "QPD": "(000 240",
    }  # fmt: skip
    assert ask(ups, "QBV")[7:12] == "08 03"
    assert ask(ups, "QRI").split()[2] == "096.0"
    assert "e" in ask(ups, "QFLAG").partition("D")[0]
    grid = unit("P31")
    assert (ask(grid, "PBT00"), ask(grid, "PGR00"), ask(grid, "QBT"), ask(grid, "QGR")) == ("(ACK", "(ACK", "(00", "(00")


def test_more_batteries_believed_in_are_a_longer_runtime() -> None:
    """voltronic.md section 13: BATN and BATGN change the unit's own estimates."""
    ups = unit("P01")
    before = int(ask(ups, "QBV").split()[-1])
    ask(ups, "BATGN03")
    assert int(ask(ups, "QBV").split()[-1]) == pytest.approx(3 * before, abs=3)


def test_reset_is_for_standby_and_forgets_capabilities_and_limits_only() -> None:
    """voltronic.md section 10."""
    ups = unit("P02")
    for order in ("PEE", "PDR", "HEH250", "BATGN05"):
        ask(ups, order)
    assert ask(ups, "PF") == "(NAK"
    ask(ups, "SOFF")
    assert ask(ups, "PF", 60.0) == "(ACK"
    assert (ask(ups, "QFLAG"), ask(ups, "QHE")) == ("(EpbrasDovegdcfjlnqw", "(242 218")
    assert ask(ups, "QBV")[10:12] == "05"


def test_outlets_are_there_while_they_may_be_cut() -> None:
    """voltronic.md section 8, letter j."""
    ups = unit("P01")
    assert (ask(ups, "QSK1"), ask(ups, "SKOFF1"), ask(ups, "PSK1005")) == ("(NAK",) * 3
    assert ask(ups, "PEJ") == "(ACK"
    assert (ask(ups, "QSK1"), ask(ups, "SKOFF1"), ask(ups, "QSK1"), ask(ups, "QSK3")) == ("(1", "(ACK", "(0", "(NAK")


def test_the_beeper_is_silenced_only_while_it_beeps() -> None:
    """voltronic.md section 11."""
    ups = unit("P01")
    assert ask(ups, "BZOFF") == "(NAK"
    ups.state.warn(10)
    assert ask(ups, "BZOFF") == "(ACK"
    assert ask(ups, "BZOFF") == "(NAK"
    assert ask(ups, "BZON") == "(ACK"
    ask(ups, "PDA")
    assert ask(ups, "BZOFF") == "(NAK"


def test_tests_need_the_line() -> None:
    """voltronic.md section 11."""
    ups = unit("P01")
    ask(ups, "QGS")
    ups.machine.forced_bypass = True
    assert ask(ups, "T") == "(NAK"
    ups.machine.forced_bypass = False
    ups.machine.set_mains(0)
    assert ask(ups, "T10") == "(NAK"


def test_nothing_pending_can_not_be_cancelled() -> None:
    """voltronic.md section 12."""
    assert ask(unit("P01"), "CS") == "(NAK"


@pytest.mark.parametrize("restart", [True, False])
def test_an_empty_unit_comes_back_with_the_mains_if_it_is_to(restart: bool) -> None:
    """voltronic.md section 8, letter r."""
    ups = unit("P02")
    if not restart:
        ask(ups, "PDR")
    ask(ups, "QGS")
    ups.machine.set_mains(0)
    assert ups.answer(b"QGS\r", 30000.0) is None
    ups.machine.set_mains(230)
    assert ask(ups, "QMOD", 30060.0) == ("(L" if restart else "(S")


# -- faults of the wire, and the fleet -------------------------------------------------------------------------------


def test_the_line_s_faults_work_on_it_as_on_any_unit() -> None:
    ups = unit("P01")
    ups.set_fault(Fault.REFUSE, "HEH*")
    assert (ask(ups, "HEH240"), ask(ups, "HEL220")) == ("(NAK", "(ACK")
    ups.clear_fault()
    ups.set_fault(Fault.ACK_BUT_IGNORE)
    assert (ask(ups, "HEH250"), ask(ups, "QHE"), ask(ups, "SOFF"), ask(ups, "QMOD"), ask(ups, "XX")) == (
        "(ACK", "(242 220", "(ACK", "(L", "(NAK",
    )  # fmt: skip
    ups.clear_fault()
    ups.set_fault(Fault.NUL_BIT, "11")
    assert ask(ups, "QGS")[74] == "\0"
    ups.clear_fault()
    ups.set_fault(Fault.ZERO)
    assert set(ask(ups, "QGS")[1:]) <= set("0. -")
    ups.clear_fault()
    ups.set_fault(Fault.NO_RATING)
    assert (ask(ups, "QRI"), ask(ups, "QMF")) == ("(NAK", "(#######BOH")
    ups.clear_fault()
    ups.set_fault(Fault.STUCK_SHUTDOWN_BIT)
    assert bit(ups, 71) == "1"
    with pytest.raises(ValueError, match=r"from 0 \(the first\) to 11"):
        ups.set_fault(Fault.NUL_BIT, "12")


def test_a_voltronic_fleet_takes_turns_in_its_protocol_numbers() -> None:
    voltronic = dialect_named("voltronic")
    upses = fleet(11, voltronic)
    assert {ups.answer(b"QPI\r", 0.0) for ups in upses} == {f"(PI{each.protocol[1:]}\r".encode() for each in MODELS}
    mixed = [ups for ups in fleet(24) if ups.dialect is voltronic]
    assert len(mixed) == 3
    assert len({ups.answer(b"QPI\r", 0.0) for ups in mixed}) == 3


async def test_control_raises_warnings_and_faults_and_turns_knobs(tmp_path: Path) -> None:
    upses = [unit("P01", name="one"), unit("P31", name="two"), *fleet(1, dialect_named("megatec"))]
    async with Farm(tmp_path, upses) as farm:
        control = Control(farm)
        one = upses[0]
        assert isinstance(one, VoltronicUps)
        assert control.perform("warning 56 one") == ["ok warning 56: one"]
        assert control.perform("warning 10 one") == ["ok warning 10: one"]
        assert one.state.raised == {10, 56}
        assert control.perform("show one")[0].endswith(" protocol=P01 mode=L warnings=10,56 fault-code=none")
        assert control.perform("warning clear 56 one") == ["ok warning clear 56: one"]
        assert one.state.raised == {10}
        assert control.perform("warning clear one") == ["ok warning clear: one"]
        assert one.state.raised == set()
        assert control.perform("fault-code 43 one") == ["ok fault-code 43: one"]
        assert one.state.fault_code == "43"
        assert control.perform("fault-code clear one") == ["ok fault-code clear: one"]
        assert one.state.fault_code == ""
        assert control.perform("panel PEE one") == ["ok panel PEE: one"]
        assert one.state.settings.enabled("e")
        assert control.perform("panel HEH100 one") == ["error one refuses HEH100"]
        assert control.perform("panel T one") == ["error 'T' is no setting of a voltronic unit"]
        assert control.perform("warning 65 one")[0].startswith("error expected a warning bit from 1 to 64")
        assert control.perform("fault-code ZZ one")[0].startswith("error expected a fault code")
        assert control.perform("warning 1 all") == ["error ups-01 speaks megatec; only voltronic units can do that"]


async def test_the_product_finds_and_reads_every_one_with_and_without_a_crc(tmp_path: Path) -> None:
    """voltronic.md sections 1.5 and 2.4: those that answer the old Q1 too, and a seal that changes nothing."""
    upses = [unit(each.protocol, name=f"{each.protocol}-{crc:d}", crc=crc) for each in MODELS for crc in (False, True)]

    async def read(farm: Farm, name: str) -> tuple[str, dict[str, str]]:
        found = await probe(UpsOptions(name, str(farm.link(name))), SerialTransport(str(farm.link(name))), Clock())
        return found.identity.dialect, found.reading.texts()

    async with Farm(tmp_path, upses) as farm:
        farm.speed = 0
        seen = {ups.name: await read(farm, ups.name) for ups in upses}
    assert {dialect for dialect, _ in seen.values()} == {"voltronic"}
    for each in MODELS:
        plain, sealed = seen[f"{each.protocol}-0"], seen[f"{each.protocol}-1"]
        assert plain == sealed
        assert plain[1]["ups.firmware.aux"] == each.protocol
    assert seen["P13-0"][1]["battery.voltage"] == "272.40"
