"""The page on what the two manual pages promise: nothing is missing on it, and every test it names exists."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

from qxfleet.config.schema import RENAMED, AgentTable, FleetTable, ProfileTable, UpsTable
from qxfleet.dialects.registry import DIALECTS
from tests.generated_docs import DOCS

TESTS = Path(__file__).parent

OPTIONS = (
    "ondelay", "offdelay", "stayoff", "protocol", "pollfreq", "default.battery.voltage.high", "default.battery.voltage.low",
    "default.battery.voltage.nominal", "override.battery.voltage.nominal", "override.battery.packs", "runtimecal", "chargetime",
    "idleload", "norating", "novendor", "battery_number", "output_phase_angle", "reset_to_default", "alarm_control",
    "bypass_alarm", "battery_alarm", "bypass_when_off", "bypass_forbidding", "converter_mode", "eco_mode", "advanced_eco_mode",
    "battery_open_status_check", "site_fault_detection", "costant_phase_angle", "limited_runtime_on_battery", "max_bypass_volt",
    "min_bypass_volt", "max_bypass_freq", "min_bypass_freq", "work_range_type", "testing", "cablepower", "port = auto",
    "vendorid", "productid", "vendor", "product", "serial", "bus", "subdriver", "langid_fix",
)  # fmt: skip
"""EXTRA ARGUMENTS of nutdrv_qx 2.7.1 and blazer_usb 2.7.4, in the pages' order."""

WORDS = (
    "protocol = mecer", "protocol = megatec", "protocol = megatec/old", "protocol = mustek", "protocol = voltronic",
    "protocol = zinto", "subdriver = phoenix", "subdriver = ippon", "subdriver = cypress", "subdriver = krauler",
)  # fmt: skip
"""Values that the pages list by name."""

COMMANDS = (
    "beeper.toggle", "load.on", "load.off", "shutdown.return", "shutdown.stayoff", "shutdown.stop", "test.battery.start.deep",
    "test.battery.start.quick", "test.battery.stop", "test.battery.start", "beeper.enable", "beeper.disable",
    *(f"outlet.{n}.load.{state}" for n in range(1, 5) for state in ("off", "on")), "bypass.start", "bypass.stop",
)  # fmt: skip
"""UPS COMMANDS."""

VARIABLES = (
    "ups.delay.start", "ups.delay.shutdown", "battery.packs", "battery.voltage.low", "ups.start.auto", "battery.protection",
    "battery.energysave", "ups.start.battery", "outlet.0.switchable", "input.transfer.high", "input.transfer.low",
    "input.frequency.high", "input.frequency.low", *(f"outlet.{n}.delay.shutdown" for n in range(1, 5)), "battery.type",
    "battery.charge", "battery.runtime", "battery.voltage", "battery.voltage.high", "battery.voltage.nominal", "ups.status",
    "ups.alarm",
)  # fmt: skip
"""Variables that the pages name: those to be set, and those they explain."""

OLD_NAMES = (
    "battvolts", "dtr", "rts", "ignoreoff", "battnumb", "battpacks", "battlow", "auto_reboot", "battery_protection",
    "energy_saving", "cold_start", "outlet_control", "max_eco_volt", "min_eco_volt", "max_eco_freq", "min_eco_freq",
    *(f"outlet{n}_delay" for n in range(1, 5)), "batt_type",
)  # fmt: skip
"""NOTES FOR THE PREVIOUS USER of the megatec and voltronic drivers."""

ROW = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<page>.*) \| (?P<tests>.*) \| (?P<state>.*) \|$")

LINES = [line for line in (DOCS / "seed-coverage.md").read_text().splitlines() if line.startswith("|")]
ROWS = [match for line in LINES if (match := ROW.match(line))]
NAMED = [(row["name"], test) for row in ROWS for test in re.findall(r"`([^`]+)`", row["tests"])]


def names() -> set[str]:
    return {row["name"] for row in ROWS}


def test_no_cell_is_empty_and_no_line_is_lost() -> None:
    headings = sum(line.startswith("| name | page |") for line in LINES)
    assert len(ROWS) == len(LINES) - 2 * headings
    assert [row["name"] for row in ROWS if not all(cell.strip() for cell in row.groups())] == []
    assert {row["name"] for row in ROWS} == {name for name, _ in NAMED}


@pytest.mark.parametrize("listed", [OPTIONS, WORDS, COMMANDS, VARIABLES, OLD_NAMES], ids=len)
def test_every_name_of_the_two_pages_is_there(listed: tuple[str, ...]) -> None:
    assert [name for name in listed if name not in names()] == []


@pytest.mark.parametrize("table", [UpsTable, AgentTable, FleetTable, ProfileTable])
def test_every_key_of_the_configuration_is_there(table: type[UpsTable | AgentTable | FleetTable | ProfileTable]) -> None:
    assert [key for key in table.model_fields if key not in names()] == []


def test_every_command_and_setting_of_every_dialect_is_there() -> None:
    for dialect in (each for each in DIALECTS if not each.source.startswith("extra")):  # the others: docs/more-dialects.md
        known = [each.name for each in (*dialect.orders, *dialect.settings)]
        known += [each.option or each.name for each in dialect.device_settings] + [each.name for each in dialect.device_settings]
        assert [name for name in known if name not in names()] == [], dialect.name


def test_what_is_told_to_users_of_old_drivers_is_known() -> None:
    assert [name for name in OLD_NAMES if name not in RENAMED] == []


def test_a_state_is_a_state() -> None:
    """Whoever waits for something says for which issue."""
    begins = ("works", "told", "in seconds", "read and checked")
    assert [row["state"] for row in ROWS if not row["state"].startswith(begins)] == []
    assert [row["name"] for row in ROWS if "not there yet" in row["state"] and "issue: " not in row["state"]] == []


@cache
def functions(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text())
    defined = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, defined) and node.name.startswith("test_"))


@cache
def cases(file: str) -> frozenset[str]:
    """Names of cases: vectors, wrong files, and texts of the test itself."""
    found = {node.value for node in ast.walk(ast.parse((TESTS / file).read_text())) if isinstance(node, ast.Constant)}
    if file == "test_voltronic_vectors.py":
        found |= {vector["id"] for vector in json.loads((TESTS / "data" / "voltronic-vectors.json").read_text())["vectors"]}
    if file == "test_vectors.py":
        found |= {vector["id"] for vector in json.loads((TESTS / "data" / "megatec-vectors.json").read_text())}
    if file == "config/test_bad_config.py":
        found |= {path.stem for path in (TESTS / "data" / "bad-config").iterdir()}
    return frozenset(found)


def test_every_test_that_is_named_exists() -> None:
    missing = []
    for name, test in NAMED:
        match = re.fullmatch(r"(?P<file>[\w/]+\.py)::(?P<function>\w+)(?:\[(?P<case>[^\]]+)\])?", test)
        assert match, test
        there = (TESTS / match["file"]).exists() and match["function"] in functions(match["file"])
        if not there or (match["case"] and match["case"] not in cases(match["file"])):
            missing.append((name, test))
    assert missing == []
