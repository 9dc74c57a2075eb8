"""The reference of all keys says what the schema does and the seeds say."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from qxfleet.config.load import Config, load
from qxfleet.config.reference import TABLES, option_reference, rows
from qxfleet.config.schema import AgentTable, FleetTable, ProfileTable, UpsdTable, UpsTable
from qxfleet.config.schema_batteries import BatteryTable
from qxfleet.config.schema_faces import UserTable
from qxfleet.config.schema_shutdown import LoadTable
from qxfleet.config.schema_tests import ScheduleTable
from qxfleet.model.battery_facts import BatteryFacts
from qxfleet.model.loads import Load
from qxfleet.model.password import hash_password

OPTIONS = {
    # engine.md sections 10.1 to 10.3: option → default and range as they must be shown
    "ondelay": ('"3m"', "0 to 599940 s"),
    "offdelay": ('"30s"', "12 to 600 s; 0 to 5940 s (masterguard); 12 to 5940 s (voltronic, bestups)"),
    "stayoff": ("false", "true or false"),
    "protocol": ("that of dialect", '"megatec/old"'),
    "pollfreq": ("that of full_interval", "a number of seconds"),
    "norating": ("false", "true or false"),
    "novendor": ("false", "true or false"),
    "ignoresab": ("false", "true or false"),
    "runtimecal": ("none", "[seconds, load %, seconds, load %]"),
    "chargetime": ('"12h"', "a number of seconds"),
    "idleload": ("10", "number above 0 up to 100"),
    "default.*": ("none", "a value per variable"),
    "override.*": ("none", "a value per variable"),
    "cablepower": ('"normal"', '"normal", "reverse", "both" or "none"'),
    "vendorid": ("any", "4 hexadecimal digits"),
    "productid": ("any", "4 hexadecimal digits"),
    "vendor": ("any", "regular expression"),
    "product": ("any", "regular expression"),
    "serial": ("any", "regular expression"),
    "bus": ("any", "regular expression"),
    "subdriver": ("by the ids", '"phoenix", "ippon", "cypress", "krauler"'),
    "langid_fix": ("none", '"0x409" or "0x4095"'),
    # voltronic.md section 10; ranges of section 9.1 over all protocol numbers
    "reset_to_default": ("false", "true or false"),
    "testing": ("false", "true or false"),
    **dict.fromkeys(
        (
            "alarm_control", "bypass_alarm", "battery_alarm", "bypass_when_off", "bypass_forbidding", "converter_mode",
            "eco_mode", "advanced_eco_mode", "battery_open_status_check", "site_fault_detection", "constant_phase_angle",
            "limited_runtime_on_battery",
        ),
        ("as the device has it", '"enabled" or "disabled"'),
    ),
    "costant_phase_angle": ("that of constant_phase_angle", '"enabled" or "disabled"'),
    "max_bypass_volt": ("as the device has it", "60 to 140 or 230 to 276 V"),
    "min_bypass_volt": ("as the device has it", "50 to 220 V"),
    "max_bypass_freq": ("as the device has it", "51 to 60 or 61 to 70 Hz in steps of 0.1"),
    "min_bypass_freq": ("as the device has it", "40 to 49 or 50 to 59 Hz in steps of 0.1"),
    "work_range_type": ("as the device has it", '"Appliance" or "UPS"'),
    "output_phase_angle": ("as the device has it", '"000", "120", "180" or "240"'),
    "battery_number": ("as the device has it", "1 to 9"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_seeds(option: str) -> None:
    row = next(row for row in rows(UpsTable) if row.key == option)
    default, form = OPTIONS[option]
    assert row.default == default
    assert form in row.form


@pytest.mark.parametrize("text", [Config.defaults_text(), option_reference()], ids=["plain", "markdown"])
def test_every_key_is_there(text: str) -> None:
    for header, model in TABLES:
        assert header in text
        for row in rows(model):
            assert row.key in text
            assert row.meaning
            assert row.form
            assert row.default


def test_the_markdown_tables_are_whole() -> None:
    tables = [line for line in option_reference().splitlines() if line.startswith("|")]
    assert len(tables) == sum(len(model.model_fields) + 2 for _, model in TABLES)
    assert {line.replace("\\|", "").count("|") for line in tables} == {5}


def test_the_defaults_shown_are_those_that_hold(tmp_path: Path) -> None:
    """A file that spells every shown default out means the same as one that leaves them out."""
    lines = []
    for header, model in ((header, model) for header, model in TABLES):
        lines.append(header)
        if model is UpsTable:
            lines += ['name = "a"', 'port = "/dev/ttyS0"']
        elif model is UpsdTable:
            lines += ['server = "nas.example"']
        elif model is ProfileTable:
            lines += ['name = "p"', 'targets = ["a"]', 'settings = { eco_mode = "disabled" }']
        elif model is UserTable:
            lines += ['name = "u"', f'password_hash = "{hash_password("secret")}"']
        elif model is LoadTable:
            lines += ['name = "l"', 'fed_by = ["a"]']
        elif model is FleetTable:
            lines += ['database = "postgresql://db/fleet"']
        elif model is BatteryTable:
            lines += ['targets = ["a"]']
        elif model is ScheduleTable:
            lines += ['name = "s"', 'cron = "0 3 * * sun"', 'targets = ["a"]']
        elif model is LoadTable:
            lines += ['name = "l"', 'fed_by = ["a"]']
        for row in rows(model):
            try:
                tomllib.loads(f"x = {row.default}")
            except tomllib.TOMLDecodeError:
                continue
            lines.append(f"{row.key} = {row.default}")
    spelled = tmp_path / "spelled.toml"
    spelled.write_text("\n".join(lines))
    bare = tmp_path / "bare.toml"
    bare.write_text('[fleet]\ndatabase = "postgresql://db/fleet"\n[[ups]]\nname = "a"\nport = "/dev/ttyS0"\n'
                    '[[profile]]\nname = "p"\ntargets = ["a"]\nsettings = { eco_mode = "disabled" }')
    assert len(lines) > len(AgentTable.model_fields)
    assert load(spelled).agent == load(bare).agent
    assert load(spelled).fleet == load(bare).fleet
    assert load(spelled).ups == load(bare).ups
    assert load(spelled).profiles == load(bare).profiles
    assert load(spelled).shutdown.loads == (Load("l", ("a",)),)
    assert replace(load(spelled).shutdown, loads=()) == load(bare).shutdown
    assert load(spelled).tests == load(bare).tests
    assert load(spelled).batteries == {"a": BatteryFacts()}
